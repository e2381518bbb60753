"""Generate the classes of `turnlog.sync` from the asynchronous classes: python tests/generate_sync.py

Run the script and `ruff format` after a change to a public method of `Store`, `TurnWriter`, `Result` or `Pipeline`, or
to `open_store`.  `test_sync_classes.py` fails until the files are current.  A method gets the same signature and
docstring.  Its body passes the call on, by the kind of the method: coroutines with `call`, async generators with
`iterate`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

CORE = Path(__file__).resolve().parents[1] / "core" / "turnlog"

WRAPPED = {"Store", "TurnWriter", "Stream", "Result"}
"""Results of methods that have a synchronous class of their own."""

WORDS = {
    r"async (with|for)\b": r"\1",
    r"await ": "",
    re.escape("The model, an async function or an async generator (`Model`)."): (
        "A function or a generator, plain or async (`turnlog.sync.Model`).  Plain ones run in the caller's thread."
    ),
    re.escape("Any number of tasks and processes"): "Any number of threads and processes",
}
"""Replacements in docstrings."""

IMPORTS = {
    "store": """
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Self, TypeVar

from ..backend import Backend
from ..errors import OutcomeUnknown
from ..layers import Layer
from ..resend import DELAYS
from ..rules.history import TurnRule
from ..store import Store as AsyncStore
from ..turn_writer import TurnWriter as AsyncTurnWriter
from ..values.change import Expect, Mark, Receipt
from ..values.json_value import JSON
from ..values.message import Message, MessageLike
from ..values.session import Erased, Page, Session, SessionInfo
from ..values.turn import Turn
from ..values.version import Version
from .iteration import iterate
from .loop_thread import call
from .wrapper import Wrapper

_L = TypeVar("_L", bound=Layer)
""",
    "configuration": """
import os
from collections.abc import Mapping, Sequence

from ..config import open_store as open_async_store
from .store import Store
""",
    "result": """
from ..errors import TurnlogError
from ..pipeline import Result as AsyncResult
from ..pipeline import Usage
from ..values.change import Receipt
from ..values.message import Message
from .loop_thread import call
from .wrapper import Wrapper
""",
    "pipeline": """
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import msgspec

from ..errors import InvalidInput
from ..pipeline import Concurrency, Summaries, Summary, TokenCounter, Tool, Window, estimate
from ..pipeline import Pipeline as AsyncPipeline
from ..values.json_value import JSON
from ..values.message import Message
from .loop_thread import call
from .models import Model, as_async
from .result import Result
from .store import Store
from .stream import Stream
from .wrapper import Wrapper
""",
}

DEFINITIONS = {
    "store": [("turn_writer.py", "TurnWriter"), ("store.py", "Store")],
    "configuration": [("config/configuration.py", "open_store")],
    "result": [("pipeline/result.py", "Result")],
    "pipeline": [("pipeline/pipeline.py", "Pipeline")],
}
"""The classes and functions of each file, and the modules of their asynchronous counterparts."""

ATTRIBUTES = {
    "Store": {
        "backend": ("Backend", "The backend, with its layers."),
        "namespace": ("str", "The name of the tenant."),
        "retain": ("int | None", "The number of turns that a session keeps; None: all."),
        "max_session_bytes": ("int | None", "The largest size of a session; None: no limit."),
        "owner": ("str | None", "The owner whose sessions this view shows; None: all."),
    },
    "TurnWriter": {
        "turn_id": ("str", "The turn's id."),
        "rounds": ("tuple[tuple[Message, ...], ...]", "The messages of each stored round."),
        "finished": ("bool", "Whether the turn is closed, so that no round can be added."),
        "receipt": ("Receipt | None", "The receipt of the last stored round; None if no round is stored."),
    },
    "Result": {
        "response": ("Message", "The model's answer."),
        "messages": ("tuple[Message, ...]", "The messages of the last request to the model."),
        "usage": ("Usage | None", "The tokens of all requests, as far as the model reports them."),
        "error": ("TurnlogError | None", "The error that prevented the write of the turn; None if it is stored."),
    },
    "Pipeline": {
        "window": ("Window", "The part of the history that the model receives."),
        "options": ("dict[str, object]", "Passed to the model by keyword."),
    },
}
"""The attributes of instances, which are read-only here."""

CONSTRUCTORS = {
    "Store": "self.wrapped: AsyncStore = AsyncStore(backend, namespace=namespace, retain=retain, "
    "max_session_bytes=max_session_bytes)",
    "Pipeline": """
        if not isinstance(store, Store):
            kind = f"{type(store).__module__}.{type(store).__name__}"
            raise InvalidInput(f"store must be a turnlog.sync.Store such as turnlog.sync.open_store(...), not {kind}")
        self.store = store
        self.model = model
        self.summaries = summaries
        if isinstance(summaries, Summaries):
            summaries = msgspec.structs.replace(summaries, model=as_async(summaries.model))
        self.wrapped: AsyncPipeline = AsyncPipeline(store.wrapped, as_async(model), ARGUMENTS)

    @classmethod
    def over(cls, wrapped: AsyncPipeline) -> Self:
        self = super().over(wrapped)
        self.store, self.model, self.summaries = Store.over(wrapped.store), wrapped.model, wrapped.summaries
        return self
    """,
}
"""The bodies of constructors.  Other objects are made by methods, and are never made by the application."""

ASYNC = {"__aenter__": "__enter__", "__aexit__": "__exit__"}


def generate(file: str) -> str:
    """Return the text of a file, not formatted."""
    lines = [f'"""{names(file)}: generated by tests/generate_sync.py; do not edit."""']
    lines += ["from __future__ import annotations", IMPORTS[file]]
    for module, name in DEFINITIONS[file]:
        tree = ast.parse((CORE / module).read_text(encoding="utf-8"))
        (found,) = (
            node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
        )
        lines += class_of(found) if isinstance(found, ast.ClassDef) else passed_on(found, "open_async_store", "")
    return "\n".join(lines) + "\n"


def names(file: str) -> str:
    """Return the names of the classes of a file, for its docstring."""
    return " and ".join(f"`{name}`" for _, name in DEFINITIONS[file])


def class_of(found: ast.ClassDef) -> Iterator[str]:
    """Yield the lines of a synchronous class."""
    name = found.name
    yield f"class {name}(Wrapper[Async{name}]):"
    text = ast.get_docstring(found) or ""
    if name not in CONSTRUCTORS:  # methods make the object: its docstring has no arguments
        text = re.sub(r"\n\n(Args|Attributes):\n.*?(?=\n\n|\Z)", "", text, flags=re.DOTALL)
    yield indent(docstring(text), "    ")
    if name == "Pipeline":
        yield '    __slots__ = ("model", "store", "summaries")\n'
        yield "    store: Store\n    model: Model\n    summaries: Summaries | None\n"
    else:
        yield "    __slots__ = ()\n"
    for method in found.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__" and name in CONSTRUCTORS:
            yield from constructor(name, method)
            yield from attributes(name)
    if name not in CONSTRUCTORS:
        yield from attributes(name)
    for method in found.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and (
            not method.name.startswith("_") or method.name in ASYNC
        ):
            yield from passed_on(method, f"self.wrapped.{method.name}", "    ")


def attributes(name: str) -> Iterator[str]:
    """Yield a property for each attribute of the instances."""
    for attribute, (kind, text) in ATTRIBUTES[name].items():
        yield f"    @property\n    def {attribute}(self) -> {kind}:"
        yield f'        """{text}"""\n        return self.wrapped.{attribute}\n'


def constructor(name: str, method: ast.FunctionDef) -> Iterator[str]:
    """Yield the constructor."""
    optional = ", ".join(f"{one.arg}={one.arg}" for one in method.args.kwonlyargs)
    yield f"    def __init__({ast.unparse(method.args)}) -> None:"
    yield f"        {CONSTRUCTORS[name].strip()}\n".replace("ARGUMENTS", optional)


def passed_on(function: ast.FunctionDef | ast.AsyncFunctionDef, target: str, margin: str) -> Iterator[str]:
    """Yield a function, or a method, that passes the call on to its target."""
    name, given, returns = function.name, function.args, ast.unparse(function.returns or ast.Constant(None))
    decorators = [ast.unparse(one) for one in function.decorator_list]
    yield from (f"{margin}@{one}" for one in decorators)
    shown = returns.replace("AsyncIterator", "Iterator")
    yield f"{margin}def {ASYNC.get(name, name)}({ast.unparse(given)}) -> {shown}:"
    if text := ast.get_docstring(function):
        yield indent(docstring(text), margin + "    ")
    arguments = [one.arg for one in given.args if one.arg != "self"]
    arguments += [f"*{given.vararg.arg}"] if given.vararg else []
    arguments += [f"{one.arg}={one.arg}" for one in given.kwonlyargs]
    if "staticmethod" in decorators:
        value = f"AsyncStore.{name}({', '.join(arguments)})"
    elif "property" in decorators:
        value = target
    elif returns.startswith("AsyncIterator"):
        value = f"iterate({', '.join([target, *arguments])})"
    elif isinstance(function, ast.AsyncFunctionDef):
        value = f"call({', '.join([target, *arguments])})"
    else:
        value = f"{target}({', '.join(arguments)})"
    statements = {"Self": f"{value}; return self", "None": value}
    wrapped = f"return {returns}.over({value})" if returns in WRAPPED else f"return {value}"
    yield f"{margin}    {statements.get(returns, wrapped)}\n"


def docstring(text: str) -> str:
    """Return a docstring for the synchronous class, as source."""
    for pattern, word in WORDS.items():
        text = re.sub(pattern, word, text)
    return f'"""{text}"""' if "\n" not in text else f'"""{text}\n"""'


if __name__ == "__main__":
    for file in DEFINITIONS:
        (CORE / "sync" / f"{file}.py").write_text(generate(file), encoding="utf-8")
