"""The pages of the inspector over HTTP: their contents, their protection, and the changes that they make."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.types import ASGIApp

from inspected import TOKEN, Place, Visitor, inspected, shown
from turnlog import SessionNotFound, Store, assistant, tool, user
from turnlog.testing import Clock
from turnlog_cli import main
from turnlog_inspect import inspector

CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
ATTACK = '<script>window.attacked = 1</script><img src=x onerror="window.attacked = 1">'
ODD = f"a/../b?c=d&e#f%2F \"'{ATTACK}"


async def fill(store: Store) -> None:
    for number in range(120):
        owner = "ann" if number % 2 else "bob"
        await store.append(f"s-{number:03}", [user(f"question {number}"), assistant("answer")], owner=owner)
    await store.append(
        "calls",
        [
            user("What is the weather?"),
            assistant(None, tool_calls=[CALL]),
            tool("Error: no such city", tool_call_id="call-1"),
            assistant("I do not know."),
        ],
        metadata={"title": "A tool that fails"},
    )
    await store.append(ODD, [user(f"{ATTACK} \x1b[31m\u202e")], metadata={"title": ATTACK}, owner=ATTACK)
    for number in range(100):
        await store.append("long", [user(f"question {number}"), assistant(f"answer {number}")])
    await store.fork("long", "fork", at=60)
    await store.append("fork", [user("question 60"), assistant("another answer")])
    await store.within("shop").append("basket", [user("a needle in another namespace")])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Serve a store without permission to write."""
    url = f"sqlite:///{tmp_path_factory.mktemp('inspect')}/chat.db?synchronous=NORMAL"
    with inspected(url) as place:
        place.change(fill)
        yield place


@pytest.fixture
def visitor(place: Place) -> Visitor:
    return Visitor(place)


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[Visitor]:
    """Serve a small store with permission to write."""

    async def few(store: Store) -> None:
        for number in range(3):
            await store.append("s", [user(f"question {number}"), assistant("answer")])

    with inspected(f"sqlite:///{tmp_path}/chat.db?synchronous=NORMAL", write=True) as place:
        place.change(few)
        yield Visitor(place)


def session_path(session_id: str, **more: object) -> str:
    return f"/session?{urlencode({'id': session_id, **more})}"


def turns_of(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="turn-(\d+)"', page)]


# ------------------------------------------------------------------------------------------------------------ the list


def test_every_session_is_on_one_page_of_the_list(visitor: Visitor) -> None:
    path, found = "/", []
    for _ in range(3):
        page = visitor.page(path)
        found += re.findall(r'href="/session\?id=([^"]*)"', page)
        path = unescape(page.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0])
    assert sorted(found) == sorted(
        [f"s-{number:03}" for number in range(120)] + ["calls", "long", "fork", quote_id(ODD)]
    )
    assert 'rel="next"' not in page


def quote_id(session_id: str) -> str:
    return urlencode({"id": session_id}).removeprefix("id=").replace("&", "&amp;")


def test_the_list_is_filtered_by_owner_prefix_and_namespace(visitor: Visitor) -> None:
    anns = visitor.page("/?owner=ann")
    assert "s-119" in anns
    assert "s-118" not in anns
    assert set(re.findall(r"id=(s-\d+)", visitor.page("/?prefix=s-11"))) == {f"s-11{number}" for number in range(10)}
    assert "There are no sessions here whose id begins with s-11x" in shown(visitor.page("/?prefix=s-11x"))
    shop = visitor.page("/?namespace=shop")
    assert 'href="/session?namespace=shop&amp;id=basket"' in shop
    assert "s-119" not in shop
    assert 'value="shop"' in visitor.page("/")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/?cursor=x", 400, "cursor does not come from a page"),
        ("/session", 400, "the address has no id"),
        ("/session?id=nobody", 404, "nobody"),
        ("/session?id=long&turn=-1", 400, "turn must be a whole number"),
        ("/session?id=long&before=²", 400, "before must be a whole number"),
        ("/session/raw?id=long&turn=100", 404, "has no turn 100"),
        ("/session/events?id=long&version=x", 400, "is not the text of a version"),
        ("/compare?id=long", 400, "the address has no with"),
        (f"/?namespace={'n' * 300}", 400, "namespace"),
        ("/nothing", 404, "Not Found"),
    ],
)
def test_a_wrong_address_is_explained(visitor: Visitor, path: str, status: int, text: str) -> None:
    answer = visitor.get(quote(path, safe="/?=&"))
    assert answer.status == status
    assert text in shown(answer.text)


# ---------------------------------------------------------------------------------------------------- a conversation


def test_the_newest_turns_are_shown_and_all_others_can_be_reached(visitor: Visitor) -> None:
    page = visitor.page(session_path("long"))
    found = turns_of(page)
    assert found == list(range(70, 100))
    while earlier := re.search(r'data-earlier="([^"]*)"', page):
        page = visitor.page(unescape(earlier[1]))
        found = turns_of(page) + found
    assert found == list(range(100))


def test_a_link_to_a_turn_begins_with_it(visitor: Visitor) -> None:
    page = visitor.page(session_path("long", turn=12))
    assert turns_of(page) == list(range(12, 32))
    assert f'href="{session_path("long", turn=32).replace("&", "&amp;")}"' in page
    missing = visitor.page(session_path("long", turn=500))
    assert "There is no turn 500" in shown(missing)
    assert turns_of(missing) == []


def test_a_failed_call_is_a_problem_with_a_link_to_its_turn(visitor: Visitor) -> None:
    page = visitor.page(session_path("calls"))
    problems = page.partition('class="problems"')[2].partition("</section>")[0]
    assert 'href="#turn-0"' in problems
    assert "weather failed Error: no such city" in shown(f"<main>{problems}")
    assert page.count('<details class="call failed">') == 1
    assert "<h3>Tool</h3>" not in page  # the result is in its call


def test_problems_in_all_turns_are_found(visitor: Visitor) -> None:
    async def write(store: Store) -> None:
        early, call = ({"id": id, "function": {"name": "look_up", "arguments": "{}"}} for id in ("call-1", "late"))
        await store.append("faulty", [user("one"), assistant(None, tool_calls=[early])])
        await store.append("faulty", [tool("sunny", tool_call_id="call-1"), assistant(None, tool_calls=[call])])
        for number in range(100):
            await store.append("faulty", [user(f"question {number}"), assistant("answer")])

    visitor.place.change(write)
    page = visitor.page(session_path("faulty"))
    assert "data-problem-panel hidden" in page
    path = re.search(r'href="([^"]*)">Find problems in all turns', page)
    assert path
    problems = visitor.page(unescape(path[1]))
    assert "1 problem in 102 turns." in shown(problems)
    assert 'href="/session?id=faulty&amp;turn=1#turn-1"' in problems
    assert "Find problems" not in visitor.page(session_path("calls"))
    assert "There are no signs of a fault in 100 turns." in shown(visitor.page("/session/problems?id=long"))


def test_a_problem_in_a_message_that_a_page_leaves_out_is_found(visitor: Visitor) -> None:
    async def write(store: Store) -> None:
        call = {"id": "c", "function": {"name": "look_up", "arguments": "{}"}}
        failed = [assistant(None, tool_calls=[call]), tool("Error: no", tool_call_id="c")]
        await store.append("hidden", [*[user("x")] * 100, *failed, *[user("x")] * 400])

    visitor.place.change(write)
    problems = visitor.page("/session/problems?id=hidden")
    assert 'href="/session?id=hidden&amp;turn=0&amp;whole=1#turn-0"' in problems


def test_odd_text_breaks_no_page(visitor: Visitor) -> None:
    async def write(store: Store) -> None:
        url = "http://example.com/\ud800"
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "<b>\ud800\x1b</b>", "value": 1}]
        metadata = {"title": "\ud800\u202e"}
        await store.append("odd-text", [{"role": "\ud800", "name": "\ud800", "content": parts}], metadata=metadata)
        await store.append("blank", [user("x")], metadata={"title": " \u3000"})

    visitor.place.change(write)
    query = "id=odd-text&turn=0"
    for path in ("/session", "/session/turns", "/session/raw", "/session/problems", "/session/export"):
        page = visitor.page(f"{path}?{query}")
        assert "<b>" not in page or path == "/session/raw"
    assert visitor.get("/compare?id=odd-text&with=calls").status == 200
    assert "<bdi>blank</bdi>" in visitor.page("/")  # a link with a text


def test_a_very_large_session_is_not_read_whole(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnlog_inspect._reading._LARGEST", 1_000)
    for path in ("/session/problems?id=long", "/session/export?id=long", "/compare?id=calls&with=long"):
        answer = visitor.get(path)
        assert answer.status == 400
        assert "the limit of a page with all turns is 1,000" in shown(answer.text)
    assert visitor.get(session_path("long")).status == 200


def test_the_raw_view_is_the_stored_turn(visitor: Visitor) -> None:
    answer = visitor.get("/session/raw?id=calls&turn=0")
    assert answer.headers["Content-Type"] == "application/json"
    messages = json.loads(answer.text)["messages"]
    assert messages[1]["tool_calls"] == [CALL]


def test_a_turn_of_many_messages_is_cut_until_the_visitor_asks_for_it(visitor: Visitor) -> None:
    async def many(store: Store) -> None:
        await store.append("many", [user(f"message {number}.") for number in range(1_000)])

    visitor.place.change(many)
    page = visitor.page(session_path("many"))
    assert "800 messages not shown." in shown(page)
    assert "message 19." in page
    assert "message 20." not in page
    assert "message 820." in page
    assert "Find problems in all turns" in page
    hit = dict(events(visitor, "/search/events?q=message+500.", until="end"))["hits"]
    assert "id=many&amp;turn=0&amp;whole=1#turn-0" in hit
    whole = visitor.page(session_path("many", turn=0, whole=1))
    assert "Find problems in all turns" not in whole
    assert all(f"message {number}." in whole for number in range(1_000))


def test_open_and_interrupted_turns_are_marked(visitor: Visitor) -> None:
    async def write(store: Store) -> None:
        await store.append("open", [user("one")], turn_id="one", open=True)
        await store.append("open", [user("two")], turn_id="two", open=True)

    visitor.place.change(write)
    page = visitor.page(session_path("open"))
    assert re.findall(r'<article class="turn (\w*)"', page) == ["interrupted", "open"]


def test_a_damaged_turn_is_reported_between_the_others(tmp_path: Path) -> None:
    import sqlite3

    async def write(store: Store) -> None:
        for text in ("one", "two", "three"):
            await store.append("s", [user(text)])

    with inspected(f"sqlite:///{tmp_path}/chat.db") as place:
        place.change(write)
        with closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as connection:
            connection.execute("UPDATE turnlog_records SET payload = zeroblob(40) WHERE number = 1")
        visitor = Visitor(place)
        page = visitor.page(session_path("s"))
        earlier = re.search(r'data-earlier="([^"]*)"', page)
        assert earlier
        assert turns_of(visitor.page(unescape(earlier[1]))) == [0]
        answer = visitor.get("/session/export?id=s")
        assert answer.status == 500
        assert "turn 1: a stored record is damaged" in shown(answer.text)
    assert re.findall(r'<article class="turn (\w*)"', page) == ["damaged", ""]
    assert "three" in shown(page)
    assert "damaged" in page.partition('class="problems"')[2].partition("</section>")[0]


def test_the_panel_shows_size_seal_codec_expiry_and_version(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chat.db?layers=zstd&ttl=7d"

    async def write(store: Store) -> None:
        for number in range(10):
            await store.append("s", [user(f"{number} " + "all happy families are alike " * 50)])

    with inspected(url) as place:
        place.change(write)
        assert main(["recompress", "--store", url, "--idle", "0s"]) == 0
        page = shown(Visitor(place).page(session_path("s")))
    assert "Codec zstd" in page
    assert re.search(r"Sealed 0 to \d", page)
    assert re.search(r"Stored \d+ B of \d+\.\d kB|Stored [\d.]+ kB of [\d.]+ kB", page)
    assert "Expires in 6 days if unused" in page or "Expires in 7 days if unused" in page


def test_reading_restarts_no_time_to_live() -> None:
    clock = Clock()

    async def look() -> None:
        from turnlog_inspect._reading import beginning_at, newest
        from turnlog_memory import MemoryBackend

        store = Store(MemoryBackend(ttl=80, clock=clock))
        await store.append("s", [user("one")])
        clock.advance(79)
        await newest(store, "s")
        await beginning_at(store, "s", 0)
        clock.advance(2)
        with pytest.raises(SessionNotFound):
            await store.load("s")

    asyncio.run(look())


def test_markup_in_stored_texts_and_ids_is_shown_as_text(visitor: Visitor) -> None:
    for path in (
        "/",
        session_path(ODD),
        f"/compare?{urlencode({'id': ODD, 'with': 'calls'})}",
        f"/?owner={quote(ATTACK)}",
    ):
        page = visitor.page(path)
        assert "<script>window" not in page
        assert 'onerror="' not in page
        assert ATTACK in unescape(page)
        assert "\u202e" not in page
    assert r"\x1b" in visitor.page(session_path(ODD))
    assert (
        'filename="a-..-b-c-d-e-f-2F'
        in visitor.get(session_path(ODD).replace("?", "/export?")).headers["Content-Disposition"]
    )


def test_an_export_is_one_file_with_all_turns(visitor: Visitor) -> None:
    answer = visitor.get("/session/export?id=long")
    assert turns_of(answer.text) == list(range(100))
    assert "attachment" in answer.headers["Content-Disposition"]
    assert not re.search(r"<script|<link|src=\"[^d]|url\(|@import", answer.text)
    assert "default-src &#39;none&#39;" in answer.text or "default-src 'none'" in answer.text


def test_two_sessions_are_compared_from_the_turn_where_they_part(visitor: Visitor) -> None:
    page = visitor.page("/compare?id=long&with=fork")
    assert "The first 60 turns are the same. In the next turn, the first message is the same." in shown(page)
    left, right = page.split("<section aria-label=")[1:]
    assert turns_of(left) == list(range(60, 80))
    assert turns_of(right) == [60]
    assert "another answer" in right
    later = visitor.page("/compare?id=long&with=fork&from=80")
    assert turns_of(later) == list(range(80, 100))
    assert "The sessions are equal." in visitor.page("/compare?id=long&with=long")
    assert "differ from their first turn on" in visitor.page("/compare?id=long&with=calls")


# ------------------------------------------------------------------------------------------------- streams of events


def events(visitor: Visitor, path: str, *, until: str) -> list[tuple[str, Any]]:
    """Return the events of a stream, up to one of a name."""
    found = []
    with closing(visitor.open("GET", path)) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        name = ""
        for raw in answer:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                found.append((name, json.loads(line[6:])))
                if name == until:
                    break
    return found


def test_a_search_finds_texts_calls_and_results(visitor: Visitor) -> None:
    for text, sessions in (("NO SUCH CITY", 1), ("weather(", 1), ("another answer", 1), ("nothing like this", 0)):
        found = events(visitor, f"/search/events?q={quote(text)}", until="end")
        assert [name for name, _ in found].count("hits") == sessions, text
    hits = dict(found)
    assert hits["end"].startswith("0 messages found in 1")
    (shop,) = (
        data for name, data in events(visitor, "/search/events?q=needle&namespace=shop", until="end") if name == "hits"
    )
    assert "<mark>needle</mark>" in shop
    assert 'href="/session?namespace=shop&amp;id=basket&amp;turn=0#turn-0"' in shop


def test_a_search_shows_its_progress_and_ends_after_200_messages(visitor: Visitor) -> None:
    found = events(visitor, "/search/events?q=answer&owner=ann", until="end")
    assert ("progress", "50 sessions read, 50 messages found …") in found
    assert found[-1] == ("end", "60 messages found in 60 sessions.")
    found = events(visitor, "/search/events?q=question", until="end")
    assert sum(data.count("<mark>") for name, data in found if name == "hits") == 200
    assert found[-1] == ("end", "200 messages shown, and there may be more: narrow the search.")


def test_the_search_treats_its_text_as_text(visitor: Visitor) -> None:
    assert visitor.get("/search/events?q=%20").status == 400
    found = events(visitor, "/search/events?q=.%2A(", until="end")
    assert [name for name, _ in found if name == "hits"] == []


def test_new_rounds_are_sent_once_with_their_whole_turn(visitor: Visitor) -> None:
    async def begin(store: Store) -> None:
        await store.append("live", [user("zero")])

    async def more(store: Store) -> None:
        await store.append("live", [user("question")], turn_id="t", open=True)

    async def most(store: Store) -> None:
        await store.append("live", [assistant("reply")], turn_id="t", part=1)

    async def undo(store: Store) -> None:
        await store.rewind("live", turns=1)

    visitor.place.change(begin)
    version = re.search(r"version=([\w-]+)", visitor.page(session_path("live")))
    assert version
    path = f"/session/events?id=live&version={version[1]}"
    visitor.place.change(more)
    ((_, first),) = events(visitor, path, until="changed")
    assert [number for number, _ in first["turns"]] == [1]
    assert not first["replace"]
    assert first["facts"]["turns"] == "2"
    visitor.place.change(most)
    ((_, second),) = events(visitor, path, until="changed")
    assert [number for number, _ in second["turns"]] == [1]
    assert "question" in second["turns"][0][1]
    assert "reply" in second["turns"][0][1]
    visitor.place.change(undo)
    ((_, third),) = events(visitor, path, until="changed")
    assert third["replace"]
    assert [number for number, _ in third["turns"]] == [0]


def test_a_stream_ends_when_the_session_is_erased(visitor: Visitor) -> None:
    async def begin(store: Store) -> None:
        await store.append("gone", [user("zero")])

    async def erase(store: Store) -> None:
        await store.erase("gone")

    visitor.place.change(begin)
    version = re.search(r"version=([\w-]+)", visitor.page(session_path("gone")))
    assert version
    visitor.place.change(erase)
    found = events(visitor, f"/session/events?id=gone&version={version[1]}", until="gone")
    assert found == [("gone", "The session was erased, or has expired.")]


def test_metrics_are_measured_per_namespace(visitor: Visitor) -> None:
    page = shown(visitor.page("/metrics?namespace=shop&wait=1"))
    assert "Sessions 1 not expired" in page
    assert "of the namespace shop" in page
    ((_, charts),) = events(visitor, "/metrics/events?namespace=shop", until="measured")
    assert charts.count("<svg") == 4


def test_a_long_measurement_arrives_after_the_page(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnlog_inspect._metrics._PATIENCE", 0)
    page = shown(visitor.page("/metrics"))
    assert "Measuring …" in page
    assert "Messages of a session" in page  # of the newest sessions


# -------------------------------------------------------------------------------------------------------- protection


def test_a_token_opens_the_pages_and_leaves_the_address(place: Place) -> None:
    visitor = Visitor(place, token="")
    answer = visitor.get(f"/?token={TOKEN}&owner=ann")
    assert (answer.status, answer.headers["Location"]) == (303, "/?owner=ann")
    assert "httponly" in answer.headers["Set-Cookie"].lower()
    assert "samesite=strict" in answer.headers["Set-Cookie"].lower()
    assert TOKEN not in visitor.page("/")
    assert visitor.get(f"//example.com/?token={TOKEN}").headers["Location"].startswith("/example.com/")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/?token=", {}),
        ("/?token=wrong", {}),
        (f"/?token={quote('ü')}", {}),
        ("/static/inspect.css", {}),
        ("/session/events?id=long&version=x", {}),
    ],
)
def test_without_the_token_nothing_is_shown(place: Place, path: str, headers: dict[str, str]) -> None:
    answer = Visitor(place, token="").get(path, **headers)
    assert answer.status == 403
    assert "s-119" not in answer.text


@pytest.mark.parametrize(
    "host", ["attacker.example:{port}", "127.0.0.1:1", "127.0.0.1", "localhost.attacker.example:{port}"]
)
def test_a_name_that_resolves_to_loopback_is_refused(visitor: Visitor, host: str) -> None:
    answer = visitor.get("/", Host=host.format(port=visitor.place.port))
    assert answer.status == 403
    assert "host name" in answer.text


def test_localhost_is_accepted(visitor: Visitor) -> None:
    assert visitor.get("/", Host=f"localhost:{visitor.place.port}").status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_of_other_sites_are_refused(visitor: Visitor, site: str) -> None:
    assert visitor.get("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image").status == 403
    assert visitor.get("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe").status == 403
    assert visitor.get("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document").status == 200
    assert visitor.get("/", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors").status == 200


def test_every_response_forbids_everything_from_elsewhere(visitor: Visitor) -> None:
    for path in ("/", "/static/inspect.js", "/nothing", "/session/raw?id=long&turn=0", "/session/export?id=long"):
        headers = visitor.get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self';")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
    page = visitor.page(session_path("calls"))
    assert not re.search(r"<script>|style=|\son\w+=|(?:src|href)=\"https?:", page)


def test_no_page_shows_the_password_of_the_store() -> None:
    async def look() -> str:
        from turnlog_inspect._app import _refuse

        error = __import__("turnlog").Unavailable("postgresql://me:secret@db:5432/chat cannot be reached")
        answer = await _refuse(Request({"type": "http", "path": "/", "headers": [], "root_path": ""}), error)
        return bytes(answer.body).decode()

    page = asyncio.run(look())
    assert "Unavailable" in page
    assert "secret" not in page


# ------------------------------------------------------------------------------------------------------------ changes


def test_the_inspector_is_read_only_by_default(visitor: Visitor) -> None:
    assert "/change/" not in visitor.page(session_path("long"))
    for action in ("fork", "rewind", "title", "erase"):
        answer = visitor.get(f"/change/{action}?id=long")
        assert answer.status == 403
        assert "read-only" in answer.text
        answer = visitor.post(f"/change/{action}", {"id": "long"})
        assert answer.status == 403
        assert "read-only" in answer.text
    assert turns_of(visitor.page(session_path("long")))[-1] == 99


def test_fork_rewind_title_and_erase(editor: Visitor) -> None:
    assert editor.page(session_path("s")).count("/change/") == 9
    form = editor.form("/change/fork?id=s&turn=2")
    assert form["text"] == "s-fork"
    answer = editor.post("/change/fork", {**form, "text": "copy"})
    assert (answer.status, answer.headers["Location"]) == (303, "/session?id=copy")
    assert turns_of(editor.page(session_path("copy"))) == [0, 1]
    assert "This removes 2 turns: turn 1 to turn 2." in shown(editor.page("/change/rewind?id=s&turn=1"))
    assert editor.post("/change/rewind", editor.form("/change/rewind?id=s&turn=1")).status == 303
    assert turns_of(editor.page(session_path("s"))) == [0]
    assert editor.post("/change/title", {**editor.form("/change/title?id=s"), "text": "A title"}).status == 303
    assert "<h1><bdi>A title</bdi></h1>" in editor.page(session_path("s"))
    assert editor.post("/change/title", {**editor.form("/change/title?id=s"), "text": " "}).status == 303
    assert "<h1><bdi>s</bdi></h1>" in editor.page(session_path("s"))
    assert editor.post("/change/erase", editor.form("/change/erase?id=copy")).headers["Location"] == "/"
    assert editor.get(session_path("copy")).status == 404


def test_a_change_of_a_session_that_has_changed_is_refused(editor: Visitor) -> None:
    form = editor.form("/change/erase?id=s")

    async def more(store: Store) -> None:
        await store.append("s", [user("a new turn")])

    editor.place.change(more)
    answer = editor.post("/change/erase", form)
    assert answer.status == 409
    assert turns_of(editor.page(session_path("s"))) == [0, 1, 2, 3]


def test_a_title_is_edited_while_turns_are_added_but_not_twice(editor: Visitor) -> None:
    async def more(store: Store) -> None:
        await store.append("s", [user("a new turn")])

    forms = [editor.form("/change/title?id=s") for _ in range(2)]
    editor.place.change(more)
    statuses = [editor.post("/change/title", {**form, "text": form["token"][:5]}).status for form in forms]
    assert statuses == [303, 409]


@pytest.mark.parametrize("path", ["/change/rewind?id=s&turn=3", "/change/fork?id=s&turn=4"])
def test_a_change_at_a_turn_that_does_not_exist_is_refused(editor: Visitor, path: str) -> None:
    answer = editor.get(path)
    assert answer.status == 400
    assert "has no turn" in shown(answer.text)


def test_a_cookie_with_odd_text_is_replaced(editor: Visitor) -> None:
    editor.cookies["turnlog-inspect-form"] = '"a\\012Set-Cookie: b"'
    form = editor.form("/change/title?id=s")
    assert re.fullmatch(r"[\w-]{32}", form["token"])
    assert editor.post("/change/title", {**form, "text": "A title"}).status == 303


def test_a_form_of_another_site_is_refused(editor: Visitor) -> None:
    form = editor.form("/change/erase?id=s")
    for headers in (
        {"Origin": "http://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": f"//127.0.0.1:{editor.place.port}"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert editor.post("/change/erase", form, **headers).status == 403
    for token in ("", "wrong", "ü"):
        assert editor.post("/change/erase", {**form, "token": token}).status == 403
    stranger = Visitor(editor.place)
    assert stranger.post("/change/erase", {**form, "token": ""}).status == 403
    assert editor.post("/change/erase", {**form, "more": "x" * 70_000}).status == 413
    assert turns_of(editor.page(session_path("s"))) == [0, 1, 2]


def test_a_form_with_wrong_values_is_refused(editor: Visitor) -> None:
    form = editor.form("/change/fork?id=s&turn=2")
    for wrong in ({"text": ""}, {"text": "s"}, {"turn": "x"}, {"version": "x"}, {"id": ""}):
        assert editor.post("/change/fork", {**form, **wrong}).status == 400, wrong
    assert editor.post("/change/nothing", form).status == 404
    assert editor.get("/change/nothing?id=s").status == 404


# ------------------------------------------------------------------------------------------- in another application


def outer(store: Store) -> ASGIApp:
    """Return an application in which each user sees their own sessions, and an administrator sees all."""

    async def authorize(request: Request) -> Store | None:
        name = request.headers.get("x-user")
        if name == "admin":
            return store
        if name == "shop":
            return store.within("shop")
        return store.for_owner(name) if name else None

    return Starlette(routes=[Mount("/admin/sessions", inspector(authorize=authorize))])


def test_a_mounted_inspector_shows_each_visitor_their_own_sessions(place: Place) -> None:
    with inspected(place.store, app=outer) as mounted:
        visitor = Visitor(mounted, token="")
        base = "/admin/sessions"
        assert visitor.get(f"{base}/").status == 403
        admin = visitor.get(f"{base}/", X_User="admin").text
        assert f'href="{base}/session?id=calls"' in admin
        assert f'src="{base}/static/inspect.js"' in admin
        anns = visitor.get(f"{base}/", X_User="ann").text
        assert "s-119" in anns
        assert "s-118" not in anns
        assert "calls" not in anns
        for path in (
            "/session?id=s-000",
            "/session/raw?id=s-000&turn=0",
            "/session/export?id=s-000",
            "/compare?id=s-001&with=s-000",
            "/session/turns?id=s-000",
            "/session/problems?id=s-000",
        ):
            assert visitor.get(f"{base}{path}", X_User="ann").status == 404, path
        assert visitor.get(f"{base}/session?id=s-001", X_User="ann").status == 200
        assert "s-118" not in visitor.get(f"{base}/?owner=bob", X_User="ann").text
        for path in ("/?namespace=shop", "/session?namespace=shop&id=basket"):
            assert visitor.get(f"{base}{path}", X_User="ann").status == 400
        assert visitor.get(f"{base}/metrics", X_User="ann").status == 403
        assert visitor.get(f"{base}/metrics/events", X_User="ann").status == 403
        version = re.search(r"version=([\w-]+)", visitor.get(f"{base}/session?id=s-000", X_User="bob").text)
        assert version
        live = f"{base}/session/events?id=s-000&version={version[1]}"
        assert "event: gone" in visitor.get(live, X_User="ann").text
        found = visitor.get(f"{base}/search/events?q=question&owner=bob", X_User="ann").text
        assert '"0 messages found in 0 sessions."' in found
        shop = visitor.get(f"{base}/", X_User="shop").text
        assert "basket" in shop
        assert "s-119" not in shop
        assert "s-119" not in visitor.get(f"{base}/?namespace=default", X_User="shop").text


@pytest.mark.parametrize("path", ["/session/events?id=long&version={version}", "/metrics/events"])
def test_a_stream_ends_when_its_visitor_may_see_nothing_any_more(
    place: Place, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnlog_inspect._metrics._SECONDS", 0)
    left = 3

    def app(store: Store) -> ASGIApp:
        def authorize(_: Request) -> Store | None:
            nonlocal left
            left -= 1
            return store if left >= 0 else None

        return inspector(authorize=authorize)

    with inspected(place.store, app=app) as mounted:
        visitor = Visitor(mounted, token="")
        version = re.search(r"version=([\w-]+)", visitor.page(session_path("long")))
        assert version
        found = events(visitor, path.format(version=version[1]), until="gone")
        assert found[-1] == ("gone", "You may not see these sessions.")


def test_a_visitor_changes_only_their_own_sessions(place: Place) -> None:
    def app(store: Store) -> ASGIApp:
        return inspector(authorize=lambda request: store.for_owner(request.headers["x-user"]), write=True)

    with inspected(place.store, app=app) as mounted:
        ann, bob = Visitor(mounted, token=""), Visitor(mounted, token="")
        page = bob.get("/change/erase?id=s-000", X_User="bob").text.partition('class="confirm"')[2]
        form = {unescape(name): unescape(value) for name, value in re.findall(r'name="([^"]*)" value="([^"]*)"', page)}
        own = ann.get("/change/erase?id=s-001", X_User="ann").text
        token = re.search(r'name="token" value="([^"]*)"', own)
        assert token
        for action in ("fork", "rewind", "title", "erase"):
            assert ann.get(f"/change/{action}?id=s-000", X_User="ann").status == 404
            sent = {**form, "token": token[1], "text": "copy", "turn": "0"}
            answer = ann.post(f"/change/{action}", sent, X_User="ann")
            assert answer.status in (404, 409), action  # as if the session were missing
        assert bob.get("/session?id=s-000", X_User="bob").status == 200


# --------------------------------------------------------------------------------------------------------- the command


def test_the_command_prints_a_url_and_ends_at_once_with_an_open_stream(place: Place) -> None:
    program = "import sys, turnlog_cli; sys.exit(turnlog_cli.main())"
    command = [sys.executable, "-W", "error", "-c", program, "inspect", "--store", place.store]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stderr
            first = process.stdout.readline()
            found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{32})\n", first)
            assert found, first
            visitor = Visitor(Place(int(found[1]), place.store), token=found[2])
            version = re.search(r"version=([\w-]+)", visitor.page(session_path("long")))
            assert version
            with closing(visitor.open("GET", f"/session/events?id=long&version={version[1]}")) as stream:
                stream.readline()
                before = time.monotonic()
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 130
                assert time.monotonic() - before < 10  # a server that waits for the stream does not end
            note = process.stderr.read()
            assert note.startswith("turnlog: pages to read the sessions of sqlite:///")
            assert note.count("\n") == 1, note
        finally:
            process.kill()


def test_wrong_ports_are_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--store", place.store, "--port", "65536"]) == 2
    assert "--port must be a number from 0 to 65535, not 65536" in capsys.readouterr().err
    assert main(["inspect", "--store", place.store, "--port", str(place.port)]) == 2
    assert f"cannot listen on 127.0.0.1:{place.port}" in capsys.readouterr().err
