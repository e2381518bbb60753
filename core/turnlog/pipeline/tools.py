"""Tools: functions that a model may call."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, get_type_hints

import msgspec

from ..errors import InvalidInput
from ..rules.dialects import Call
from ..values.checks import shown
from ..values.json_value import JSON
from .surrogates import paired
from .tool_results import ToolResult

_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that a model may call, sync or async; `Tool.of(function)` makes a tool.

    Attributes:
        name: The name by which the model calls it.
        description: The description for the model.
        schema: The JSON Schema of the arguments, an object.
        function: The function.
    """

    name: str
    description: str
    schema: dict[str, JSON]
    function: Callable[..., Any]
    _arguments: Any

    @classmethod
    def of(cls, function: Callable[..., Any] | Tool) -> Tool:
        """Make a tool of a function; its name, docstring and annotations become the name, description and schema.

        `Annotated[str, msgspec.Meta(description="...")]` describes an argument.

        Raises:
            InvalidInput: `function` is not a function with named arguments, or an annotation has no JSON Schema.
        """
        if isinstance(function, Tool):
            return function
        name = getattr(function, "__name__", "")
        if not isinstance(name, str) or not name.isidentifier():
            what = "a lambda: define it with def" if name == "<lambda>" else shown(function)
            raise InvalidInput(f"a tool must be a function with a name that the model can call, not {what}")
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"tool {name!r} has no readable signature: {error}") from None
        if unnamed := [one.name for one in parameters if one.kind not in _NAMED]:
            raise InvalidInput(
                f"tool {name!r} takes {unnamed[0]!r} by position only or as a rest argument: name each argument"
            )
        try:
            hints = get_type_hints(function, include_extras=True)
            fields = [
                (one.name, hints.get(one.name, Any), *([] if one.default is one.empty else [one.default]))
                for one in parameters
            ]
            # the dot prevents a clash with the name of an argument's type
            arguments = msgspec.defstruct(f"{name}.arguments", fields, kw_only=True, forbid_unknown_fields=True)
            schema = msgspec.json.schema(arguments)
        except (TypeError, NameError, RuntimeError) as error:
            raise InvalidInput(f"tool {name!r} has no JSON Schema: {error}") from None
        definitions = schema.pop("$defs")
        own = definitions.pop(f"{name}.arguments")
        own.pop("title", None)
        if definitions:
            own["$defs"] = definitions
        description = inspect.getdoc(function) or ""
        return cls(name=name, description=description, schema=own, function=function, _arguments=arguments)

    async def run(self, arguments: object) -> str:
        """Call the function, in a thread if it is sync, and return its result: a string as it is, other values as JSON.

        Args:
            arguments: JSON text, or a dictionary.

        Raises:
            Exception: The arguments do not fit, or the function raised.
        """
        if isinstance(arguments, str | bytes):
            given = msgspec.json.decode(arguments or "{}", type=self._arguments)
        else:
            given = msgspec.convert(arguments or {}, self._arguments)
        values = {name: getattr(given, name) for name in self._arguments.__struct_fields__}
        if inspect.iscoroutinefunction(self.function):
            result = await self.function(**values)
        else:
            from asyncio import to_thread

            result = await to_thread(_called, self.function, values)
            if isinstance(result, Awaitable):
                result = await result
        return result if isinstance(result, str) else msgspec.json.encode(result).decode()


def _called(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any result
    """Call a function; raise `RuntimeError` in place of `StopIteration` and `SystemExit`.

    In Python 3.11, a task that waits for a thread waits forever if the thread raises `StopIteration`.  `SystemExit`
    would end the event loop.
    """
    try:
        return function(**values)
    except (StopIteration, SystemExit) as error:
        raise RuntimeError(f"the function raised {error!r}") from error


def tools_by_name(tools: Sequence[Callable[..., Any] | Tool]) -> dict[str, Tool]:
    """Return tools by their names.

    Raises:
        InvalidInput: `tools` is not a list or tuple, an item is not a tool, or two tools have the same name.
    """
    if not isinstance(tools, (list, tuple)):
        raise InvalidInput(f"tools must be a list of functions, not {type(tools).__name__}")
    found: dict[str, Tool] = {}
    for tool in map(Tool.of, tools):
        if tool.name in found:
            raise InvalidInput(f"two tools are named {tool.name!r}: rename one")
        found[tool.name] = tool
    return found


async def run_calls(calls: Sequence[Call], tools: Mapping[str, Tool]) -> list[ToolResult]:
    """Run the calls of one answer concurrently, and return their results; an error becomes the result of its call."""
    from asyncio import gather  # imported late, to keep `import turnlog` fast

    return await gather(*[_run(call, tools) for call in calls])


async def _run(call: Call, tools: Mapping[str, Tool]) -> ToolResult:
    tool = tools.get(call.name)
    if tool is None:
        return ToolResult(call, f"There is no tool {call.name!r}. Use one of: {', '.join(tools)}.", failed=True)
    from asyncio import CancelledError, current_task

    try:
        return ToolResult(call, paired(await tool.run(call.arguments)), failed=False)
    except Exception as error:  # noqa: BLE001 - the model receives the error, and may try something else
        return ToolResult(call, paired(f"{type(error).__name__}: {error}"), failed=True)
    except CancelledError:
        task = current_task()
        if task is None or task.cancelling():
            raise
        # this request was not cancelled: the tool awaited a task that was cancelled
        return ToolResult(call, "CancelledError: the tool was cancelled", failed=True)
