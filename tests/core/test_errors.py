"""The error tree: complete, documented, and possible to pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

import turnlog
from turnlog import Change, Key, Version, errors, user
from turnlog.errors import TurnlogError

CLASSES = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, TurnlogError)
}
KEY, VERSION, OTHER = Key("shop", "alice"), Version(b"e", 0, 1, b"t", b"s"), Version(b"e", 0, 2, b"u", b"s")
FIELDS: dict[str, dict[str, Any]] = {
    "SessionNotFound": {"key": KEY},
    "Conflict": {"expected": VERSION, "actual": OTHER},
    "SchemaError": {"missing": True},
    "SplitsSealed": {"boundary": 7},
    "HistoryRegressed": {"seen": OTHER, "actual": VERSION},
    "OutcomeUnknown": {"key": KEY, "change": Change(id="c", owner="ann", metadata={"a": [1]})},
    "CorruptRecord": {"key": KEY, "turn": 3},
    "FormatTooNew": {"key": KEY, "turn": 3},
    "LayerMissing": {"key": KEY, "turn": 3},
}


def drawn() -> dict[str, tuple[str, list[str]]]:
    """Return the tree in the module's docstring: each name with its parent and its other base."""
    tree: dict[str, tuple[str, list[str]]] = {}
    parents = {0: "TurnlogError"}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ([│ ]*)[├└]── (\w+)(?: \((\w+)\))?", line)
        if found:
            depth = len(found[1]) // 4
            tree[found[2]] = parents[depth], [found[3]] if found[3] else []
            parents[depth + 1] = found[2]
    return tree


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    real = {
        name: (kind.__bases__[0].__name__, [base.__name__ for base in kind.__bases__[1:]])
        for name, kind in CLASSES.items()
    }
    assert real.pop("TurnlogError") == ("Exception", [])
    assert drawn() == real


def test_all_errors_are_named_in_all() -> None:
    assert errors.__all__ == sorted(CLASSES)


@pytest.mark.parametrize("name", turnlog.__all__)
def test_what_turnlog_names_is_there(name: str) -> None:
    assert getattr(turnlog, name) is not None


def test_turnlog_names_every_error_and_nothing_twice() -> None:
    assert set(CLASSES) <= set(turnlog.__all__)
    assert sorted(set(turnlog.__all__)) == sorted(turnlog.__all__)


def test_turnlog_hides_nothing_public() -> None:
    public = {name for name, value in vars(turnlog).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public == set(turnlog.__all__)


@pytest.mark.parametrize("name", sorted(CLASSES))
@pytest.mark.parametrize(
    "travel",
    [
        *(
            lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
        ),
        copy.copy,
        copy.deepcopy,
    ],
)
def test_an_error_travels_whole(name: str, travel: Any) -> None:
    fields = FIELDS.get(name, {})
    error = CLASSES[name]("what happened", **fields)
    error.add_note("where")
    arrived = travel(error)
    assert type(arrived) is type(error)
    assert (str(arrived), arrived.args, vars(arrived)) == (str(error), error.args, vars(error))
    for field, value in fields.items():
        assert getattr(arrived, field) == value


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_an_error_needs_only_its_message(name: str) -> None:
    error = CLASSES[name]("what happened")
    assert str(error) == "what happened"
    documented = inspect.getdoc(CLASSES[name]) or ""
    for field in re.findall(r"^    (\w+): ", documented.partition("Attributes:")[2], re.MULTILINE):
        assert hasattr(error, field)


def test_every_field_of_an_error_is_tried_here() -> None:
    taking = {name for name, kind in CLASSES.items() if kind.__init__ is not TurnlogError.__init__}
    taking -= {"Unavailable", "InvalidInput", "TooLarge", "ConfigError"}  # builtins define their __init__
    assert taking == set(FIELDS)


def test_an_outcome_that_is_unknown_carries_what_must_be_sent_again() -> None:
    change = Change(append=(turnlog.Record.of((user("hello"),), id="t", time=0.0),))
    arrived = pickle.loads(pickle.dumps(errors.OutcomeUnknown("lost", key=KEY, change=change)))
    assert (arrived.key, arrived.change.id, arrived.change.digest) == (KEY, change.id, change.digest)


def test_builtin_bases_catch_ours() -> None:
    for name, base in (
        ("InvalidInput", ValueError),
        ("TooLarge", ValueError),
        ("ConfigError", ValueError),
        ("SessionNotFound", LookupError),
        ("Unavailable", ConnectionError),
    ):
        assert issubclass(CLASSES[name], base)
    assert not issubclass(errors.OutcomeUnknown, OSError)  # a retry on a lost connection must not catch it
