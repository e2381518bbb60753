"""The warning about a long history that is one turn."""

from __future__ import annotations

from typing import Final

from ..values.change import Receipt
from ..values.key import Key

MOST_MESSAGES: Final = 50
"""Maximum number of messages without a warning: a longer history in one turn mostly has an unknown dialect."""


def is_one_turn(receipt: Receipt, messages: int) -> bool:
    """Return whether a history of more than 50 messages is one turn.

    Args:
        receipt: The receipt of the change that stored it.
        messages: Number of messages in the history; the session has fewer if it has dropped older turns.
    """
    return receipt.messages == messages > MOST_MESSAGES and receipt.turns == receipt.first + 1


def one_turn_text(key: Key, messages: int, remedy: str) -> str:
    """Return the text of the warning.

    Args:
        key: The session.
        messages: Number of messages in its history.
        remedy: The text of the next step.
    """
    return (
        f"session {key} has {messages} messages in one turn, because none after the first is known to begin a turn: "
        f"load, windows and retention cannot divide it; {remedy}"
    )


def warn_of_one_turn(key: Key, receipt: Receipt, messages: int) -> None:
    """Log a warning if `Store.save` has stored a history of more than 50 messages as one turn.

    Args:
        key: The session.
        receipt: As in `is_one_turn`.
        messages: As in `is_one_turn`.
    """
    if is_one_turn(receipt, messages):
        import logging  # imported late, to keep `import turnlog` fast

        remedy = "to divide it, erase it and save it with begins_turn=, a function of a message"
        logging.getLogger("turnlog").warning("%s", one_turn_text(key, messages, remedy))
