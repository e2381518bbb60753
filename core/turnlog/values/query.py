"""`Query`: a request for a page of sessions, and the cursors of pages."""

from __future__ import annotations

import base64
from typing import Final, TypeAlias

import msgspec

from ..errors import InvalidInput, Unsupported
from ..limits import MAX_ID_BYTES, MAX_PAGE
from .checks import shown
from .ids import check_id, check_prefix
from .session import SessionInfo
from .stored import UNREADABLE, Moment

_Cursor: TypeAlias = tuple[str | None, str | None, str | None, str, Moment, str]
"""The namespace, the owner and the prefix of the query; the namespace, the time and the id of the last session."""

_MAX_CURSOR: Final = 4 * -(-(1 + 5 * (2 + MAX_ID_BYTES) + 9) // 3)
"""Maximum length of a cursor in characters: base64 of a MessagePack array of five strings and a float."""

_encode_cursor = msgspec.msgpack.Encoder().encode
_decode_cursor = msgspec.msgpack.Decoder(_Cursor).decode


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a page of sessions.

    The sessions of a namespace are ordered by `updated`, the latest first, and by the bytes of their ids for equal
    times.  A query of all namespaces orders the namespaces by the bytes of their names, and the sessions within each.
    It omits the namespaces of internal data.

    Attributes:
        namespace: The namespace; None: all namespaces.
        owner: Only sessions of this owner; the empty string: sessions without an owner; None: all sessions.
        prefix: Only sessions whose ids begin with this text, compared as bytes of UTF-8: at most 255 bytes.  No
            character is a wildcard.  The empty string or None: all sessions.
        limit: Maximum number of sessions, 1 to 1,000.
        cursor: `Page.cursor` of the previous page; None: the first page.

    Raises:
        InvalidInput: A part breaks a rule, or the cursor belongs to another query.
    """

    namespace: str | None
    owner: str | None = None
    prefix: str | None = None
    limit: int = 100
    cursor: str | None = None

    def __post_init__(self) -> None:
        if self.namespace is not None:
            check_id(self.namespace, "namespace")
        if self.owner is not None and self.owner != "":
            check_id(self.owner, "owner")
        if self.prefix is not None:
            check_prefix(self.prefix)
        check_limit(self.limit)
        if self.cursor is not None:
            _ = self.position

    @property
    def one_namespace(self) -> str:
        """The namespace, for code that lists one namespace.

        Raises:
            Unsupported: The query is of all namespaces.
        """
        if self.namespace is None:
            raise Unsupported("this backend lists the sessions of one namespace only: name it in Query(namespace=)")
        return self.namespace

    @property
    def after(self) -> tuple[float, str] | None:
        """The update time and the session id after which a page of one namespace begins; None: at the beginning."""
        position = self.position
        return None if position is None else position[1:]

    @property
    def position(self) -> tuple[str, float, str] | None:
        """The namespace, the update time and the session id after which the page begins; None: at the beginning.

        If the session id is empty, which only happens in a query of all namespaces, the page begins with the next
        namespace.
        """
        if self.cursor is None:
            return None
        try:
            if type(self.cursor) is not str or len(self.cursor) > _MAX_CURSOR:
                raise ValueError
            data = base64.b64decode(self.cursor, altchars=b"-_", validate=True)
            namespace, owner, prefix, place, updated, session = _decode_cursor(data)
            if namespace not in (None, place):
                raise ValueError
            check_id(place, "namespace")
            if session or namespace is not None:
                check_id(session, "session id")
            # refuse every encoding that `cursor_after` does not make; `abs` of -0.0 is 0.0
            if _cursor_of(namespace, owner, prefix, place, abs(updated), session) != self.cursor:
                raise ValueError
        except UNREADABLE:  # InvalidInput and binascii.Error are ValueErrors
            raise InvalidInput("cursor does not come from a page: begin again without a cursor") from None
        if (namespace, owner, prefix) != (self.namespace, self.owner, self.prefix):
            raise InvalidInput(
                "cursor comes from a query with another namespace, owner or prefix: begin again without a cursor"
            )
        return place, updated, session

    def cursor_after(self, info: SessionInfo) -> str:
        """Return the cursor of the page after this session."""
        return _cursor_of(*self._filter, info.key.namespace, info.updated, info.key.session)

    def cursor_after_namespace(self, namespace: str) -> str:
        """Return the cursor of the page that begins after a namespace, for a query of all namespaces."""
        return _cursor_of(*self._filter, namespace, 0.0, "")

    def within(self, namespace: str, limit: int) -> Query:
        """Return the part of a query of all namespaces that is in one namespace, from the query's position on."""
        cursor = None
        if self.position is not None:
            place, updated, session = self.position
            if place == namespace:
                cursor = _cursor_of(namespace, self.owner, self.prefix, namespace, updated, session)
        return Query(namespace=namespace, owner=self.owner, prefix=self.prefix, limit=limit, cursor=cursor)

    def matches(self, info: SessionInfo) -> bool:
        """Return whether a session is in the namespace, belongs to the owner, and has the prefix of the query."""
        key = info.key
        if key.is_internal if self.namespace is None else key.namespace != self.namespace:
            return False
        return self.owner in (None, info.owner) and key.session.startswith(self.prefix or "")

    @property
    def _filter(self) -> tuple[str | None, str | None, str | None]:
        return self.namespace, self.owner, self.prefix


def check_limit(limit: object) -> None:
    """Refuse an invalid largest number of sessions or namespaces.

    Raises:
        InvalidInput: It is not an int from 1 to 1,000.
    """
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"limit must be a whole number from 1 to {MAX_PAGE}, not {shown(limit)}")


def check_listing(after: object, limit: object) -> None:
    """Check the arguments of `Backend.namespaces`.

    Raises:
        InvalidInput: `after` is not a valid namespace, or `limit` is not an int from 1 to 1,000.
    """
    if after is not None:
        check_id(after, "after")
    check_limit(limit)


def _cursor_of(
    namespace: str | None, owner: str | None, prefix: str | None, place: str, updated: float, session: str
) -> str:
    data = _encode_cursor((namespace, owner, prefix, place, float(updated), session))
    return base64.urlsafe_b64encode(data).decode()
