"""Events and states in turnlog: an event is a message in the form of Gemini, and a state is metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from google.adk.events import Event, EventActions
from google.adk.sessions.state import State

from turnlog import InvalidInput, Message, Metadata, SessionInfo

_EVENT: Final = "google_adk"
"""The item of a message that holds the fields of its event, without the role and the parts of its content."""

_VALUE: Final = "state:"
"""The prefix of the metadata names that hold a state.  A value is a list of one, because None removes a name."""


class Deltas(NamedTuple):
    """New values of a state, by name without prefix, for the app, its user and the session."""

    app: dict[str, Any]
    user: dict[str, Any]
    session: dict[str, Any]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Deltas:
        """Return the values by scope, without those of the scope `temp:`."""
        deltas = cls({}, {}, {})
        for name, value in state.items():
            if name.startswith(State.APP_PREFIX):
                deltas.app[name.removeprefix(State.APP_PREFIX)] = value
            elif name.startswith(State.USER_PREFIX):
                deltas.user[name.removeprefix(State.USER_PREFIX)] = value
            elif not name.startswith(State.TEMP_PREFIX):
                deltas.session[name] = value
        return deltas


def as_json(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as JSON values, as ADK writes the state of an event."""
    actions = EventActions(state_delta=dict(state)).model_dump(mode="json")
    stored: dict[str, Any] = actions["state_delta"]
    return stored


def message_of(event: Event) -> tuple[Message, Deltas]:
    """Return the message that stores an event, and the state that the event sets."""
    data = event.model_dump(mode="json", exclude_none=True)
    delta = data["actions"]["state_delta"]
    data["actions"]["state_delta"] = {
        name: value for name, value in delta.items() if not name.startswith(State.TEMP_PREFIX)
    }
    content = data.get("content", {})
    shown = {name: content.pop(name) for name in ("role", "parts") if name in content}
    return Message.from_dict({**shown, _EVENT: data}), Deltas.of(delta)


def event_of(message: Message, info: SessionInfo) -> Event:
    """Return the event of a message.

    Raises:
        InvalidInput: Another program has stored the message.
    """
    shown = message.to_dict()
    data = shown.pop(_EVENT, None)
    if not isinstance(data, dict):
        raise InvalidInput(
            f"session {info.key} holds a message that is no event of ADK: keep the sessions of other programs in "
            "another namespace, and choose another session_id"
        )
    if isinstance(content := data.get("content"), dict):
        content.update(shown)
    return Event.model_validate(data)


def metadata_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that store a state."""
    return {_VALUE + name: [value] for name, value in state.items()}


def state_of(metadata: Metadata, prefix: str = "") -> dict[str, Any]:
    """Return the state in metadata, with a prefix before each name."""
    names = [name for name in metadata if name.startswith(_VALUE)]
    return {prefix + name.removeprefix(_VALUE): cast("list[Any]", metadata[name])[0] for name in names}
