"""Load the application's rule for the beginning of turns, which is named on the command line."""

from __future__ import annotations

import os
import sys
from pkgutil import resolve_name

from turnlog import InvalidInput, Message
from turnlog.rules import TurnRule, check_rule


def load_turn_rule(name: str) -> TurnRule:
    """Return the function of a module; the module may be in the working directory.

    An exception of the function becomes an `InvalidInput`, an error of the line with the message.

    Args:
        name: `module:function`.

    Raises:
        InvalidInput: The name has another form, the module cannot be imported, or it has no such function.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise InvalidInput(f"--begins-turn takes module:function, such as my_rules:begins_turn, not {name!r}")
    sys.path.append(os.getcwd())  # last, so that its files do not replace installed modules
    try:
        rule = check_rule(resolve_name(name))
    except InvalidInput as error:
        raise InvalidInput(f"--begins-turn {name}: {error}") from None
    except Exception as error:
        text = f"--begins-turn {name} cannot be imported: {type(error).__name__}: {error}"
        raise InvalidInput(f"{text}; the module must be installed or in the working directory") from error

    def begins_turn(message: Message) -> bool:
        try:
            return rule(message)
        except Exception as error:
            raise InvalidInput(f"--begins-turn {name} failed: {type(error).__name__}: {error}") from error

    return begins_turn
