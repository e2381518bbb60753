"""The commands that look after data, and their options.  Each imports the module that does its work when it runs."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from ._options import AsJSON, Everywhere, Namespace, StoreURL


def doctor(*, store: StoreURL = None, json: AsJSON = False) -> int:
    """Say what the store is made of, how fast it is, and what is wrong with it, with the command that mends it.

    It writes to sessions of its own, in the namespace turnlog-doctor, and removes them again.  The exit code is 1 if
    anything is wrong, 3 if the store cannot be opened.
    """
    from ._doctor import doctor

    return doctor(store, json=json)


def edit(
    session: Annotated[str, Parameter(help="Which session.")],
    /,
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    owner: Annotated[str | None, Parameter(help="The new owner; an empty text removes it.")] = None,
    title: Annotated[str | None, Parameter(help="The new title; an empty text removes it.")] = None,
    metadata: Annotated[
        tuple[str, ...], Parameter(help="NAME=JSON, several times if need be; null removes the name.")
    ] = (),
    ttl: Annotated[
        str | None, Parameter(help="How long it lives after its last use, such as 24h or 30d; 0: for ever.")
    ] = None,
) -> int:
    """Set the owner, the title, metadata or the time to live of a session."""
    from ._edit import edit

    return edit(session, store, namespace=namespace, owner=owner, title=title, metadata=metadata, ttl=ttl)


def erase(
    session: Annotated[str | None, Parameter(help="Which session; or --owner.")] = None,
    /,
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    owner: Annotated[str | None, Parameter(help="All sessions of this owner.")] = None,
    all_namespaces: Everywhere = False,
    yes: Annotated[bool, Parameter(help="Do not ask.")] = False,
    json: AsJSON = False,
) -> int:
    """Remove a session, or all sessions of an owner, for good; print what remains where, and until when.

    An SQLite file is written anew, so that nothing of them is left in it.  A server keeps parts of them for a while.
    All expired sessions of the store are removed, too.  The exit code is 1 if a damaged session was left, or if a
    further command of turnlog could remove more now: the receipt names it.
    """
    from ._erase import erase

    return erase(session, store, namespace=namespace, owner=owner, everywhere=all_namespaces, yes=yes, json=json)


def namespaces(*, store: StoreURL = None, json: AsJSON = False) -> int:
    """List the namespaces that have sessions."""
    from ._namespaces import list_namespaces

    return list_namespaces(store, json=json)


def search(
    text: Annotated[str, Parameter(help="What to look for.")],
    /,
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    all_namespaces: Everywhere = False,
    owner: Annotated[str | None, Parameter(help="Only in the sessions of this owner.")] = None,
    limit: Annotated[int, Parameter(help="How many messages at most; 0: all.")] = 20,
    json: AsJSON = False,
) -> int:
    """List the messages that hold a text, in any case of its letters.  Every session is read, and none is used."""
    from ._search import search

    return search(text, store, namespace=namespace, everywhere=all_namespaces, owner=owner, limit=limit, json=json)


def sweep(
    *,
    store: StoreURL = None,
    now: Annotated[
        bool, Parameter(help="Leave none, and write an SQLite file anew, so that nothing of them is left in it.")
    ] = False,
) -> int:
    """Remove expired sessions, in all namespaces; on SQL an application that runs does this by itself.

    SQLite keeps those that expired within the last hour, because the clock of another process may be behind; the
    command says how many are left, and until when.  With --now it removes them, too: so the clock must be right.
    """
    from ._sweep import sweep

    return sweep(store, now=now)


def verify(
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    all_namespaces: Everywhere = False,
    json: AsJSON = False,
) -> int:
    """Read every turn, and have an SQLite database check itself; print what is damaged, and change nothing.

    The exit code is 1 if something is damaged.
    """
    from ._verify import verify

    return verify(store, namespace=namespace, everywhere=all_namespaces, json=json)


def add_upkeep(app: App) -> None:
    """Register them."""
    for command in (doctor, edit, erase, namespaces, search, sweep, verify):
        app.command(command, name=command.__name__)
