"""Token counters that use the vocabulary of a model.

Each library has a module, which imports it: `turnlog_tokens.tiktoken.TiktokenCounter` and
`turnlog_tokens.tokenizers.TokenizersCounter`.
"""

__all__: list[str] = []
