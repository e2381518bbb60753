"""The chat example works for its visitors: a real server, real HTTP, and a real browser."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import servers
from chromium import Chromium

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = count()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start a server with an empty store; yield its port."""
    folder, port = tmp_path_factory.mktemp("chat"), servers.free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TURNLOG_", "CHAT_"))}
    command = [sys.executable, "-W", "error", "-m", "uvicorn", "webchat.app:app", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--app-dir", str(ROOT / "docs" / "examples" / "chat"), "--log-level", "warning"],
        cwd=ROOT,
        env={**kept, "TURNLOG_STORE_URL": f"sqlite:///{folder}/chat.db", "CHAT_SECRET": "of the tests"},
    )
    try:
        servers.until(lambda: servers.answers(port), process, "the chat")
        yield port
    finally:
        servers.stop(process, signal.SIGTERM)


class Visitor:
    """An HTTP client with the cookie of a browser."""

    def __init__(self, port: int, name: str = "") -> None:
        self.port = port
        self.cookie = ""
        self.ask("GET", "/")
        if name:
            assert self.ask("POST", "/api/user", {"name": name})[0] == 200

    def open(self, method: str, path: str, data: object = None, **headers: str) -> http.client.HTTPResponse:
        """Send a request, and return the response when its headers have arrived."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        if data is not None:
            headers = {"Content-Type": "application/json", **headers}
        body = None if data is None else json.dumps(data)
        connection.request(method, path, body, {"Cookie": self.cookie, "Connection": "close", **headers})
        answer = connection.getresponse()
        if set_cookie := answer.headers.get("Set-Cookie"):
            assert "httponly; samesite=lax" in set_cookie
            self.cookie = set_cookie.partition(";")[0]
        return answer

    def ask(self, method: str, path: str, data: object = None, **headers: str) -> tuple[int, Any]:
        """Send a request, and return the status and the JSON of the response."""
        with closing(self.open(method, path, data, **headers)) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if "json" in answer.headers.get("Content-Type", "") else None

    def begin(self) -> str:
        """Create a session, and return its id."""
        return str(self.ask("POST", "/api/sessions", {})[1]["id"])

    def say(self, session: str, text: str, turn_id: str = "") -> http.client.HTTPResponse:
        """Send a question, and return the stream."""
        data = {"text": text, "turn_id": turn_id or f"turn-{next(NUMBERS)}"}
        return self.open("POST", f"/api/sessions/{session}/turns", data)

    def said(self, session: str, text: str, turn_id: str = "") -> str:
        """Send a question, and return the whole answer."""
        with closing(self.say(session, text, turn_id)) as answer:
            lines = [json.loads(line) for line in answer.read().splitlines()]
        assert "turn" in lines[-1], lines
        return "".join(line.get("text", "") for line in lines)

    def turns(self, session: str) -> list[dict[str, Any]]:
        """Return the last turns."""
        found: list[dict[str, Any]] = self.ask("GET", f"/api/sessions/{session}")[1]["turns"]
        return found

    def questions(self, session: str) -> list[str]:
        """Return the questions of the last turns."""
        return [turn["messages"][0]["content"] for turn in self.turns(session)]


def test_users_see_their_own_sessions_alone(port: int) -> None:
    ann, bob, guest = Visitor(port, "Ann"), Visitor(port, "Bob"), Visitor(port)
    session = ann.begin()
    assert "Hello, Ann!" in ann.said(session, "My name is Ann", "the-turn")
    for other in (bob, guest):
        question = {"text": "My name is Ann", "turn_id": "the-turn"}
        assert other.ask("GET", f"/api/sessions/{session}")[0] == 404
        assert other.ask("GET", f"/api/sessions/{session}?before=1")[0] == 404
        assert other.ask("POST", f"/api/sessions/{session}/turns", question)[0] == 404
        assert other.ask("POST", f"/api/sessions/{session}/forks", {"at": 1})[0] == 404
        assert other.ask("GET", "/api/user")[1]["sessions"] == []
    assert ann.ask("GET", "/api/user")[1] == {"name": "Ann", "sessions": [{"id": session, "title": "My name is Ann"}]}
    forged = Visitor(port)
    forged.cookie = forged.cookie[:-4] + "AAAA"
    assert forged.ask("GET", "/api/user")[1]["name"] == ""


def test_a_guest_who_signs_in_keeps_the_sessions(port: int) -> None:
    guest = Visitor(port)
    session = guest.begin()
    guest.said(session, "My name is Gil")
    before = guest.cookie
    guest.ask("POST", "/api/user", {"name": "Gil"})
    assert guest.said(session, "What is my name?") == "Your name is Gil."
    guest.cookie = before
    assert guest.ask("GET", f"/api/sessions/{session}")[0] == 404


def test_requests_that_another_site_could_send_are_refused(port: int) -> None:
    visitor = Visitor(port, "Cas")
    session = visitor.begin()
    for path in ("/api/user", "/api/sessions", f"/api/sessions/{session}/turns", f"/api/sessions/{session}/forks"):
        assert visitor.ask("POST", path, {}, **{"Content-Type": "text/plain"})[0] == 415
        assert visitor.ask("POST", path, [])[0] == 400
    bad = [{"text": "", "turn_id": "t"}, {"text": "Hello", "turn_id": ""}, {"text": 1, "turn_id": "t"}]
    for data in bad:
        assert visitor.ask("POST", f"/api/sessions/{session}/turns", data)[0] == 400
    long = {"text": "x" * 100_000, "turn_id": "t"}
    assert visitor.ask("POST", f"/api/sessions/{session}/turns", long)[0] == 413


def test_an_answer_arrives_in_pieces_while_it_is_written(port: int) -> None:
    visitor = Visitor(port)
    session = visitor.begin()
    with closing(visitor.say(session, "Hello there")) as answer:
        first = json.loads(answer.readline())
        assert visitor.turns(session) == []  # the model still writes
        lines = [first, *map(json.loads, answer.read().splitlines())]
    assert len(lines) > 10
    whole = "".join(line["text"] for line in lines[:-1])
    assert [message["content"] for message in visitor.turns(session)[lines[-1]["turn"]]["messages"]][1] == whole


def test_what_was_said_is_kept_if_the_browser_goes_away(port: int) -> None:
    visitor = Visitor(port)
    session = visitor.begin()
    with closing(visitor.say(session, "Hello there")) as answer:
        first = json.loads(answer.readline())["text"]
    end = time.monotonic() + 10
    while not (turns := visitor.turns(session)):
        assert time.monotonic() < end
    (turn,) = turns
    question, cut = turn["messages"]
    assert (question["content"], turn["open"]) == ("Hello there", True)
    assert cut["content"].startswith(first)
    begun = time.monotonic()
    assert visitor.said(session, "What did I say first?") == "You said first: Hello there"
    assert time.monotonic() - begun < 10  # shutdown does not wait for a request that was cut off
    assert [turn["interrupted"] for turn in visitor.turns(session)] == [True, False]


def test_tool_calls_and_their_results_are_visible(port: int) -> None:
    visitor = Visitor(port)
    session = visitor.begin()
    text = visitor.said(session, "Please roll a 2-sided die.")
    assert text in [f"Here goes. The tool's answer is: {number}." for number in (1, 2)]
    _, call, result, answer = visitor.turns(session)[0]["messages"]
    assert call["tool_calls"][0]["function"] == {"name": "roll", "arguments": '{"sides": 2}'}
    assert result["tool_call_id"] == call["tool_calls"][0]["id"]
    assert answer["content"].endswith(f"{result['content']}.")
    assert "UTC" in visitor.said(session, "What time is it?")


def test_older_messages_come_page_by_page(port: int) -> None:
    visitor = Visitor(port)
    session = visitor.begin()
    asked = [f"My number is {number}" for number in range(21)]
    for text in asked:
        visitor.said(session, text)
    pages, query = [], ""
    while True:
        page = visitor.ask("GET", f"/api/sessions/{session}{query}")[1]
        pages.append([turn["messages"][0]["content"] for turn in page["turns"]])
        if not page["older"]:
            break
        query = f"?before={page['turns'][0]['number']}"
    assert [len(page) for page in pages] == [10, 10, 1]
    assert [text for page in reversed(pages) for text in page] == asked


def test_asking_again_and_editing_leave_the_conversation_alone(port: int) -> None:
    visitor = Visitor(port)
    session = visitor.begin()
    for text in ("My name is Dora", "Please roll a die", "What is my name?"):
        visitor.said(session, text)
    before = visitor.turns(session)
    again = visitor.ask("POST", f"/api/sessions/{session}/forks", {"at": 2})[1]["id"]
    assert visitor.said(again, "What is my name?") == "Your name is Dora."
    edited = visitor.ask("POST", f"/api/sessions/{session}/forks", {"at": 0})[1]["id"]
    visitor.said(edited, "My name is Dorothy")
    assert visitor.said(edited, "What is my name?") == "Your name is Dorothy."
    assert visitor.turns(session) == before
    assert visitor.questions(again) == [turn["messages"][0]["content"] for turn in before]
    assert visitor.questions(edited) == ["My name is Dorothy", "What is my name?"]
    assert visitor.ask("POST", f"/api/sessions/{session}/forks", {"at": -1})[0] == 400


def test_a_user_is_erased_in_all_browsers_and_nobody_else_is(port: int) -> None:
    here, there, other = Visitor(port, "Eve"), Visitor(port, "Eve"), Visitor(port, "Finn")
    sessions = [here.begin(), there.begin()]
    for visitor, session in zip((here, there), sessions, strict=True):
        visitor.said(session, "My name is Eve")
    kept = other.begin()
    with closing(there.say(sessions[1], "Hello there")) as answer:
        answer.readline()
        assert here.ask("DELETE", "/api/user") == (200, {"erased": 2})
        assert json.loads(answer.read().splitlines()[-1]) == {"error": "Conflict"}
    for visitor in (here, there):
        assert [visitor.ask("GET", f"/api/sessions/{session}")[0] for session in sessions] == [404, 404]
    assert there.ask("GET", "/api/user")[1] == {"name": "Eve", "sessions": []}
    assert here.ask("GET", "/api/user")[1]["name"] == ""
    assert other.turns(kept) == []


def test_two_browsers_at_once_lose_nothing_and_see_each_other(port: int) -> None:
    one, two = Visitor(port, "Hal"), Visitor(port, "Hal")
    session = one.begin()
    one.said(session, "My name is Hal")
    with closing(two.open("GET", f"/api/sessions/{session}")) as answer:
        seen = answer.headers["ETag"]
    assert two.ask("GET", f"/api/sessions/{session}", **{"If-None-Match": seen})[0] == 304
    asked = [f"My favourite number is {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: (one, two)[number % 2].said(session, asked[number]), range(8)))
    assert all("Noted" in answer for answer in answers)
    status, page = two.ask("GET", f"/api/sessions/{session}", **{"If-None-Match": seen})
    assert (status, len(page["turns"])) == (200, 9)
    assert sorted(one.questions(session)[1:]) == asked
    assert one.said(session, "How many messages are there?").startswith("I was given 18 messages")


def test_a_request_that_is_sent_twice_is_stored_once(port: int) -> None:
    visitor = Visitor(port)
    session = visitor.begin()
    with ThreadPoolExecutor(3) as pool:
        rolled = set(pool.map(lambda _: visitor.said(session, "Roll a 100-sided die", "one")[-4:], range(3)))
    rolled.add(visitor.said(session, "Roll a 100-sided die", "one")[-4:])
    assert len(rolled) == 1  # the die was not rolled again
    assert visitor.questions(session) == ["Roll a 100-sided die"]


def test_a_browser_remembers_and_shows_text_as_text(port: int) -> None:
    ready = "document.body?.dataset.ready && !document.querySelector('#send').disabled"

    def say(text: str, answer: str) -> None:
        chromium.until(ready)
        chromium.run(f"document.querySelector('#text').value = {json.dumps(text)}")
        chromium.run("document.querySelector('#send').click()")
        chromium.until(f"document.querySelector('#turns').textContent.includes({json.dumps(answer)})")

    with Chromium() as chromium:
        chromium.open(f"http://127.0.0.1:{port}/")
        say("My name is Alice", "Hello, Alice!")
        chromium.open(f"http://127.0.0.1:{port}/")
        say("What is my name?", "Your name is Alice.")
        attack = '<img src="/nothing" onerror="window.attacked = true">'
        say(attack, attack)
        say("What did I say last?", f"You said last: {attack}")
        assert chromium.run("document.querySelectorAll('#turns img').length") == 0
        assert chromium.run("window.attacked === undefined")
        say("Please roll a die", "calls roll({})")
        chromium.until(ready)
        questions = "[...document.querySelectorAll('#turns .user')].map((one) => one.textContent)"
        asked = chromium.run(questions)
        original = chromium.run("location.hash")
        chromium.run("document.querySelectorAll('#turns li')[1].querySelector('button').click()")
        chromium.until(f"{questions}.length === 2 && {ready}")
        assert chromium.run(questions) == asked[:2]
        assert chromium.run("location.hash") != original
