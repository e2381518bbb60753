"""The maintenance commands and their options.  Each command imports its implementation when it runs."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from ._options import AsJSON, Everywhere, Namespace, StoreURL


def doctor(*, store: StoreURL = None, json: AsJSON = False) -> int:
    """Check the store: print its layers and settings, the durations of operations, and each problem with its remedy.

    The command writes temporary sessions in the namespace turnlog-doctor, and removes them.  The exit code is 1 if a
    problem is found, and 3 if the store cannot be opened.
    """
    from ._doctor import doctor

    return doctor(store, json=json)


def edit(
    session: Annotated[str, Parameter(help="The session id.")],
    /,
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    owner: Annotated[str | None, Parameter(help="The new owner; an empty text removes it.")] = None,
    title: Annotated[str | None, Parameter(help="The new title; an empty text removes it.")] = None,
    metadata: Annotated[
        tuple[str, ...], Parameter(help="NAME=JSON; null removes the name.  The option may be repeated.")
    ] = (),
    ttl: Annotated[
        str | None,
        Parameter(help="The time from the last use to the expiry, such as 24h or 30d; 0: it never expires."),
    ] = None,
) -> int:
    """Set the owner, the title, metadata or the time to live of a session."""
    from ._edit import edit

    return edit(session, store, namespace=namespace, owner=owner, title=title, metadata=metadata, ttl=ttl)


def erase(
    session: Annotated[str | None, Parameter(help="The session id, unless --owner is given.")] = None,
    /,
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    owner: Annotated[str | None, Parameter(help="Remove all sessions of this owner.")] = None,
    all_namespaces: Everywhere = False,
    yes: Annotated[bool, Parameter(help="Do not ask for confirmation.")] = False,
    json: AsJSON = False,
) -> int:
    """Remove a session, or all sessions of an owner, permanently; print the data that remains, and until when.

    An SQLite file is rewritten without the erased sessions.  A server keeps parts of erased sessions for a while.  All
    expired sessions of the store are also removed.  The exit code is 1 if a damaged session was not removed, or if
    another command of turnlog can remove more data now; the receipt names this command.
    """
    from ._erase import erase

    return erase(session, store, namespace=namespace, owner=owner, everywhere=all_namespaces, yes=yes, json=json)


def namespaces(*, store: StoreURL = None, json: AsJSON = False) -> int:
    """List the namespaces that have sessions."""
    from ._namespaces import list_namespaces

    return list_namespaces(store, json=json)


def search(
    text: Annotated[str, Parameter(help="The text to search for.")],
    /,
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    all_namespaces: Everywhere = False,
    owner: Annotated[str | None, Parameter(help="Search only in the sessions of this owner.")] = None,
    limit: Annotated[int, Parameter(help="The largest number of messages; 0: all.")] = 20,
    json: AsJSON = False,
) -> int:
    """List the messages that contain a text, ignoring case.  Every session is read; no time to live is restarted."""
    from ._search import search

    return search(text, store, namespace=namespace, everywhere=all_namespaces, owner=owner, limit=limit, json=json)


def sweep(
    *,
    store: StoreURL = None,
    now: Annotated[
        bool, Parameter(help="Remove all expired sessions, and rewrite an SQLite file without deleted sessions.")
    ] = False,
) -> int:
    """Remove expired sessions in all namespaces; on SQL databases, running applications also do this.

    On SQLite, sessions that expired within the last hour are kept, because the clocks of processes may differ.  The
    command prints their number, and until when they are kept.  With --now they are also removed: the clock of this
    machine must be right.
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
    """Read every turn, and check an SQLite database; print each damaged part, and change nothing.

    The exit code is 1 if damage is found.
    """
    from ._verify import verify

    return verify(store, namespace=namespace, everywhere=all_namespaces, json=json)


def verify_backend(
    url: Annotated[str, Parameter(help="The URL of a store without sessions: the tests delete all sessions.")],
    /,
    *,
    quiet: Annotated[bool, Parameter(help="Do not show each test before it runs.")] = False,
) -> int:
    """Test a backend against the whole contract, and report which parts of it the backend keeps.

    The backend may come from any installed plugin, and the URL may name layers.  The exit code is 1 if the backend
    breaks a sentence of the contract.
    """
    from ._verify_backend import verify_backend

    return verify_backend(url, quiet=quiet)


def add_upkeep(app: App) -> None:
    """Register the maintenance commands."""
    for command in (doctor, edit, erase, namespaces, search, sweep, verify):
        app.command(command, name=command.__name__)
    app.command(verify_backend, name="verify-backend")
