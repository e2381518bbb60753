"""Graphs with models that need no network, and savers that put checkpoints without a graph."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointMetadata, empty_checkpoint
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

Graph = CompiledStateGraph[Any, Any, Any, Any]


def thread(id: str | int, **further: Any) -> RunnableConfig:
    """Return the configuration of a run."""
    return {"configurable": {"thread_id": id, "checkpoint_ns": "", **further}}


def chat(saver: BaseCheckpointSaver[Any]) -> Graph:
    """Return a graph whose model calls a tool for each question, and answers with its result."""

    def model(state: MessagesState) -> dict[str, list[AnyMessage]]:
        last = state["messages"][-1]
        if isinstance(last, ToolMessage):
            return {"messages": [AIMessage(f"It is {last.content}.")]}
        call = {"name": "weather", "args": {"city": str(last.content)}, "id": f"call-{last.content}"}
        return {"messages": [AIMessage("", tool_calls=[call])]}

    def tool(state: MessagesState) -> dict[str, list[AnyMessage]]:
        (call,) = state["messages"][-1].tool_calls  # type: ignore[union-attr]
        return {"messages": [ToolMessage("sunny", tool_call_id=call["id"])]}

    def after_model(state: MessagesState) -> str:
        return "tool" if state["messages"][-1].tool_calls else END  # type: ignore[union-attr]

    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_node("tool", tool)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", after_model)
    builder.add_edge("tool", "model")
    return builder.compile(checkpointer=saver)


def ask(graph: Graph, config: RunnableConfig, text: str, **options: Any) -> str:
    """Run a graph with a question, and return the text of the answer."""
    result: dict[str, Any] = graph.invoke({"messages": [("user", text)]}, config, **options)
    return str(result["messages"][-1].content)


def texts(graph: Graph, config: RunnableConfig) -> list[str]:
    """Return the texts of the messages of a thread."""
    return [str(message.content) for message in graph.get_state(config).values.get("messages", ())]


def put(
    saver: BaseCheckpointSaver[Any], config: RunnableConfig, values: dict[str, Any], **metadata: Any
) -> RunnableConfig:
    """Put a checkpoint in which all channels of `values` have changed, and return its configuration."""
    before = saver.get_tuple(config)
    versions = dict(before.checkpoint["channel_versions"]) if before else {}
    new = {name: saver.get_next_version(versions.get(name), None) for name in values}
    kept = before.checkpoint["channel_values"] if before else {}
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {**kept, **values}
    checkpoint["channel_versions"] = {**versions, **new}
    about: CheckpointMetadata = {"source": "loop", "step": 1, **metadata}  # type: ignore[typeddict-item]
    parent = before.config if before else config
    return saver.put(parent, checkpoint, about, new)


def values(saver: BaseCheckpointSaver[Any], config: RunnableConfig) -> dict[str, Any]:
    """Return the values of the channels of a checkpoint."""
    found = saver.get_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]
