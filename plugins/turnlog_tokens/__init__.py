"""Token counters that use the vocabulary of a model.

Each library is imported by a module of its own: `turnlog_tokens.tiktoken.TiktokenCounter` and
`turnlog_tokens.tokenizers.TokenizersCounter`.
"""

__all__: list[str] = []
