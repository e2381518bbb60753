"""`TurnlogChatStore`: the chat histories of LlamaIndex in a turnlog store.

    import turnlog.sync
    from llama_index.core.memory import ChatMemoryBuffer
    from turnlog_llama_index import TurnlogChatStore

    with turnlog.sync.open_store("sqlite:///chat.db") as store:
        memory = ChatMemoryBuffer.from_defaults(chat_store=TurnlogChatStore(store), chat_store_key="case-7")

To install it, run `pip install 'turnlog[llama-index]'`.
"""

from __future__ import annotations

try:
    from ._chat_store import TurnlogChatStore
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"turnlog_llama_index needs llama-index-core 0.14 or later, but {error.name} is not installed: "
        "pip install 'turnlog[llama-index]'",
        name=error.name,
    ) from error

__all__ = ["TurnlogChatStore"]
