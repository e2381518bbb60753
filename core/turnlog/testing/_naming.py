"""Contract: namespaces and ids."""

from __future__ import annotations

import pytest

from .._key import Key
from .._session import Query
from ..errors import InvalidInput
from ..store import Store
from ._chapter import Chapter
from ._material import ID, history, key, picture, say, texts

HOSTILE = [
    *[
        "Ab",
        "ab",
        "AB",
        "ab ",
        " ab",
        "a b",
        "ab.",
        "ab\u200b",
        "\u00e1b",
        "a\u0301b",
        "áb",
        "aa",
        "å",
        "\u212b",
        "ﬁ",
        "fi",
    ],
    *["a:b", "a", "b", ":", "::", "a::b", "a:b:c", "{x}", "{x}}", "{}", "}", "{", "x:meta", "x:turns", "x"],
    *["*", "?", "[a]", "a[b-z]", "%", "_", "a%", "a_", "ac%", "\\", "\\%", "^", "$", "."],
    *[
        "'",
        '"',
        "`",
        "';--",
        "x') OR '1'='1",
        "; DROP TABLE sessions",
        "%s",
        ":name",
        "$1",
        "?1",
        "{0}",
        "${HOME}",
        "%00",
    ],
    *[
        "..",
        "../../x",
        "..\\..\\x",
        "/",
        "/etc/passwd",
        "C:\\x",
        "CON",
        "nul.txt",
        "~",
        "-",
        "--help",
        "x/",
        "x//",
        "./x",
    ],
    *[
        "0",
        "00",
        "0.0",
        "1e3",
        "1000",
        "-1",
        "None",
        "null",
        "true",
        "NaN",
        "default",
        "#",
        "&",
        "=",
        "a=b&c",
        "+",
        "a+b",
        "a%20b",
    ],
    *[
        "\U0001f600",
        "\U0001f468\u200d\U0001f469",
        "你好",
        "日本",
        "\u0df4",
        "ß",
        "ss",
        "İ",
        "i",
        "I",
        "ı",
        "Σ",
        "σ",
        "ς",
    ],
    *["x" * 255, "x" * 254 + "y", "x" * 254, "é" * 127, "é" * 126 + "è", "\U0001f600" * 63 + "abc", "X" * 255],
]
HOSTILE = list(dict.fromkeys(HOSTILE))
"""Ids that some place folds, cuts, splits, escapes, expands or takes for a command."""

BAD = [
    None,
    7,
    b"bytes",
    "",
    " ",
    "\t",
    "\u2003",
    "x" * 256,
    "é" * 128,
    "a\0b",
    "a\nb",
    "\x7f",
    "\x85",
    "\u202eab",
    "\u2028",
    "\ud800",
]
"""What is no id."""

PAIRS = [
    *[("a:b", "c"), ("a", "b:c"), ("a", "b"), ("a:b:c", "d"), ("a::b", "c"), ("a", ":b:c")],
    *[
        ("a/b", "c"),
        ("a", "b/c"),
        ("a-b", "c"),
        ("a", "b-c"),
        ("a.b", "c"),
        ("a", "b.c"),
        ("ab", "c"),
        ("a", "bc"),
        ("1:a", "b"),
    ],
    *[
        ("A", "b"),
        ("a", "B"),
        ("a ", "b"),
        ("a", " b"),
        ("b", "a"),
        ("a%", "b"),
        ("a", "%b"),
        ("{a}", "b"),
        ("a", "{b}"),
    ],
    *[("x" * 255, "y"), ("x" * 255, "x"), ("x", "x" * 255), ("acme", "s"), ("acme-corp", "s"), ("default", "s")],
]
"""Namespaces and session ids that run into each other where they are glued together."""


class Naming(Chapter):
    async def test_no_two_ids_share_a_place(self, store: Store) -> None:
        """Key: compared as bytes: no case, accent or normal form is folded, and a trailing space counts; no two sessions
        ever share a place, whatever characters their ids hold."""
        for number, name in enumerate(HOSTILE):
            receipt = await store.append(name, say(f"{number}"), metadata={"number": number})
            assert receipt.previous is None, f"{name!r} is taken for another session"
        for number, name in enumerate(HOSTILE):
            session = await store.session(name)
            assert (session.info.key, texts(session.messages)) == (key(store, name), [f"{number}"])
            assert dict(session.info.metadata) == {"number": number}
        shown = [info.key.session async for info in store.sessions()]
        assert sorted(shown) == sorted(HOSTILE)

    async def test_an_id_is_no_pattern(self, store: Store) -> None:
        """delete: remove a session: the one that is named, and never what its id would match, expand to or lead to."""
        for name in HOSTILE:
            await store.append(name, say("a"), owner=name)
        left = set(HOSTILE)
        for name in HOSTILE[::2]:
            assert await store.erase(name) is True, f"{name!r} went with another"
            assert await store.erase(name) is False
            left.remove(name)
        assert {info.key.session async for info in store.sessions()} == left
        for name in HOSTILE:
            assert [i.key.session async for i in store.sessions(owner=name)] == ([name] if name in left else [])
            assert await history(store, name) == (["a"] if name in left else []), f"{name!r}"

    async def test_namespace_and_id_do_not_run_together(self, store: Store) -> None:
        """Key: no two keys ever share a place, whatever characters they hold."""
        for number, (namespace, name) in enumerate(PAIRS):
            receipt = await store.within(namespace).append(name, say(f"{number}"))
            assert receipt.previous is None, f"{namespace!r}, {name!r} is taken for another session"
        for number, (namespace, name) in enumerate(PAIRS):
            session = await store.within(namespace).session(name)
            assert (session.info.key, texts(session.messages)) == (Key(namespace, name), [f"{number}"])
        for namespace, name in PAIRS:
            assert await store.within(namespace).erase(name) is True
        for namespace, _ in PAIRS:
            assert (await store.page(Query(namespace=namespace))).infos == ()

    async def test_a_namespace_is_a_tenants_own(self, store: Store) -> None:
        """Store: namespace: the tenant: what is done in one is never seen in another, by whichever method."""
        other = store.within("other")
        await store.append(ID, say("mine"), owner="u1", metadata={"title": "x"})
        before = await picture(store)
        assert await picture(other) is None
        await other.append(ID, say("theirs"), owner="u1", turn_id="t")
        await other.append(ID, say("more"))
        await other.merge_metadata(ID, {"title": "y"}, ttl=600.0)
        await other.rewind(ID, turns=1)
        await other.fork(ID, "bob")
        await other.save(ID, say("theirs", "saved"))
        await other.pop(ID)
        assert await history(other) == ["theirs"]
        assert [session.info.key async for session in store.export_owner("u1")] == [key(store)]
        assert await other.erase_owner("u1") == 2
        assert await picture(store) == before
        assert await picture(store, "bob") is None

    async def test_within(self, store: Store) -> None:
        """within: the same store under another tenant."""
        other = store.within("other")
        assert other.namespace == "other"
        await other.append(ID, say("a"))
        assert (await other.info(ID)).key == Key("other", ID)
        assert await history(store.within("other")) == ["a"]
        assert await history(other.within(store.namespace)) == []
        assert (await store.read(Key("other", ID))).messages == await other.load(ID)
        with pytest.raises(InvalidInput):
            store.within("")

    async def test_the_namespace_of_a_store(self) -> None:
        """Store: namespace: the tenant that the application's methods work in; `default` unless it is named."""
        store = await self.opened()
        assert store.namespace == "default"
        named = await self.opened(namespace="shop")
        assert named.namespace == "shop"
        await named.append(ID, say("a"))
        assert (await named.info(ID)).key == Key("shop", ID)
        with pytest.raises(InvalidInput):
            self.make(namespace=" ")

    async def test_what_is_no_id(self, store: Store) -> None:
        """Key: InvalidInput: an id is 1 to 255 bytes of UTF-8 without control characters; there is no default session."""
        await store.append(ID, say("a"))
        before = await picture(store)
        for bad in BAD:
            for call in (
                store.load(bad),  # type: ignore[arg-type]
                store.append(bad, say("x")),  # type: ignore[arg-type]
                store.save(bad, say("x")),  # type: ignore[arg-type]
                store.fork(bad, "y"),  # type: ignore[arg-type]
                store.fork(ID, bad),  # type: ignore[arg-type]
                store.rewind(bad, turns=1),  # type: ignore[arg-type]
                store.pop(bad),  # type: ignore[arg-type]
                store.merge_metadata(bad, {"x": 1}),  # type: ignore[arg-type]
                store.info(bad),  # type: ignore[arg-type]
                store.touch(bad),  # type: ignore[arg-type]
                store.erase(bad),  # type: ignore[arg-type]
            ):
                with pytest.raises(InvalidInput):
                    await call
            with pytest.raises(InvalidInput):
                store.within(bad)  # type: ignore[arg-type]
        assert await picture(store) == before
        assert [info.key.session async for info in store.sessions()] == [ID]

    async def test_new_session_ids(self, store: Store) -> None:
        """new_session_id: an id for an anonymous session, not to be guessed."""
        ids = {store.new_session_id() for _ in range(100)}
        assert len(ids) == 100
        for session_id in sorted(ids)[:3]:
            assert (await store.append(session_id, say("a"))).previous is None
