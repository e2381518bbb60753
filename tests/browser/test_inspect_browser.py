"""The inspector in a real Chromium: what a person does with the keyboard and the mouse, and what data cannot do."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from chromium import Chromium
from inspected import Place, Visitor, inspected
from turnlog import Store, assistant, tool, user

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one pixel
ATTACK = '<script>window.attacked = 1</script><img src=x onerror="window.attacked = 1">'


def call(name: str, arguments: str, id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


async def fill(store: Store) -> None:
    for number in range(60):
        await store.append(f"s-{number:02}", [user(f"question {number}")], owner="ann")
    for number in range(50):
        await store.append("long", [user(f"question {number}"), assistant(f"answer {number}")])
    await store.append(
        "agent",
        [
            user("Book a flight to Rome."),
            assistant(None, tool_calls=[call("search", '{"to": "Rome", "days": [1, 2]}', "c1")]),
            tool('{"flights": [{"id": "F1"}, {"id": "F2"}]}', tool_call_id="c1"),
            assistant("I book F1."),
        ],
        metadata={"title": "A booking that fails"},
    )
    await store.append(
        "agent",
        [
            user("Yes, please."),
            assistant(None, tool_calls=[call("book", '{"flight": "F1"}', "c2")]),
            tool("Error: the card has expired", tool_call_id="c2"),
            assistant("Your flight is booked."),
        ],
    )
    await store.fork("agent", "agent-fork", at=1)
    await store.append("agent-fork", [user("No, thanks.")])
    await store.append(
        "odd",
        [
            user(ATTACK),
            user("\x00\x1b[31m \u202eright to left\u202c \u2066"),
            user("שלום עולם"),
            user("x" * 1_000_000),
            assistant(
                None, tool_calls=[call("deep", "[" * 100_000, "d1"), call("nested", "[" * 900 + "]" * 900, "d2")]
            ),
            tool("[" * 99 + "]" * 99, tool_call_id="d1"),
            user(
                [
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG[:12]}AAAA"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,not base64"}},
                    {"type": "image_url", "image_url": {"url": "javascript:window.attacked = 1"}},
                    {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/remote.png"}},
                    {
                        "type": "image",
                        "source": {
                            "type": "base64",
                            "media_type": "image/svg+xml",
                            "data": base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg' onload='x'/>").decode(),
                        },
                    },
                ]
            ),
        ],
        metadata={"title": ATTACK, "link": "javascript:window.attacked = 1"},
    )


async def fill_everywhere(store: Store) -> None:
    """Put markup into each field that a page shows."""
    hostile = {
        "id": ATTACK,
        "type": "function",
        "function": {"name": ATTACK, "arguments": json.dumps({ATTACK: ATTACK})},
    }
    for view in (store, store.within(ATTACK)):
        await view.append(
            ATTACK,
            [
                {"role": "system", "content": ATTACK * 10},
                {"role": ATTACK, "name": ATTACK, "content": ATTACK},
                {"role": "user", "content": [{"type": ATTACK, ATTACK: [{ATTACK: ATTACK}]}]},
                {"role": "assistant", "content": ATTACK, "reasoning_content": ATTACK, "refusal": ATTACK},
                {"role": "assistant", "content": None, "tool_calls": [hostile, {**hostile, "id": "other"}]},
                {"role": "tool", "tool_call_id": ATTACK, "content": f"Error: {ATTACK}"},
                {"role": "tool", "tool_call_id": "nothing", "content": json.dumps({"error": ATTACK, ATTACK: 1})},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"https://x/{ATTACK}"}}]},
                {"role": "user", "content": [{"type": "image", "mime_type": ATTACK, "data": "AAAA"}]},
            ],
            owner=ATTACK,
            metadata={"title": ATTACK, ATTACK: {ATTACK: ATTACK}},
        )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as chromium:
        chromium.show(width=1280, height=900)
        yield chromium


@pytest.fixture(scope="module")
def place(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Serve a store with permission to write, and let the browser use the first URL."""
    url = f"sqlite:///{tmp_path_factory.mktemp('inspect')}/chat.db?synchronous=NORMAL"
    with inspected(url, write=True) as place:
        place.change(fill_everywhere)
        place.change(fill)
        chromium.open(place.first)
        chromium.until("document.querySelectorAll('.sessions tbody tr').length === 50")
        yield place


class Page:
    """The page in the browser."""

    def __init__(self, chromium: Chromium, place: Place) -> None:
        self.chromium = chromium
        self.place = place

    def open(self, path: str) -> None:
        self.chromium.open(self.place.base + path)
        self.chromium.until("document.readyState === 'complete' && !!document.querySelector('main')")

    def run(self, script: str) -> Any:
        return self.chromium.run(script)

    def until(self, script: str) -> Any:
        return self.chromium.until(script)

    def click(self, selector: str) -> None:
        """Click an element, which may load another page."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def turns(self) -> list[int]:
        found: list[int] = self.run("[...document.querySelectorAll('.turn')].map((turn) => Number(turn.dataset.turn))")
        return found


@pytest.fixture
def page(chromium: Chromium, place: Place) -> Page:
    return Page(chromium, place)


def test_the_first_url_leaves_no_token_in_the_address(page: Page) -> None:
    page.open("/")
    page.chromium.open(page.place.first)
    page.until("location.search === '' && document.querySelectorAll('.sessions tbody tr').length === 50")


def test_a_person_pages_opens_and_goes_back(page: Page) -> None:
    page.open("/")
    first = page.text(".sessions tbody")
    page.click("[rel=next]")
    page.until("location.search.includes('cursor') && !!document.querySelector('.sessions tbody')")
    assert not set(page.text(".sessions tbody").split()) & {"odd", "agent-fork"} & set(first.split())
    page.run("[...document.querySelectorAll('.sessions tbody a')].find((link) => link.innerText === 's-00').click()")
    page.until("document.querySelector('h1')?.innerText === 's-00'")
    assert page.turns() == [0]


def test_the_keyboard_moves_opens_folds_and_finds_problems(page: Page) -> None:
    page.open("/")
    page.chromium.press("j")
    page.chromium.press("j")
    second = page.run("document.activeElement.innerText")
    assert page.run("document.querySelector('tr.here a') === document.activeElement")
    page.run("document.activeElement.click()")
    page.until(f"document.querySelector('h1')?.innerText === {json.dumps(second)}")
    page.open("/session?id=agent")
    page.chromium.press("j")
    page.chromium.press("o")
    assert page.run("document.querySelector('#turn-0 .call').open")
    page.chromium.press("o")
    assert not page.run("document.querySelector('#turn-0 .call').open")
    page.chromium.press("e")
    assert page.run(
        "document.querySelector('#turn-1 .call').open && document.querySelector('#turn-1').matches('.here')"
    )
    assert "the card has expired" in page.text("#turn-1 .call .io")
    page.chromium.press("?")
    assert page.run("document.querySelector('#help').open")
    page.run("document.querySelector('#help').close()")
    page.chromium.press("/")
    assert page.run("document.activeElement.name") == "q"
    page.chromium.press("j")
    assert page.run("document.activeElement.value") == "j"


def test_a_call_is_folded_with_its_result_and_json_can_be_folded(page: Page) -> None:
    page.open("/session?id=agent")
    assert page.run("document.querySelectorAll('.call').length") == 2
    assert "Rome" in page.text("#turn-0 .call summary")
    page.run("document.querySelector('#turn-0 .call > summary').click()")
    assert "flights" in page.text("#turn-0 .call .io")
    folded = "document.querySelector('#turn-0 .io details')"
    before = page.run(f"{folded}.offsetHeight")
    page.run(f"{folded}.open = false")
    assert page.run(f"{folded}.offsetHeight") < before


def test_earlier_turns_are_loaded_in_place(page: Page) -> None:
    page.open("/session?id=long")
    assert page.turns() == list(range(20, 50))
    page.click("[data-earlier]")
    page.until("document.querySelectorAll('.turn').length === 50")
    assert page.turns() == list(range(50))
    assert page.run("document.querySelector('[data-earlier]') === null")


def test_a_link_to_a_turn_shows_it_at_the_top(page: Page) -> None:
    page.open("/session?id=long&turn=12#turn-12")
    assert 0 <= page.run("document.querySelector('#turn-12').getBoundingClientRect().top") < 200
    assert page.run("document.querySelector('#turn-12 .number').href").endswith("/session?id=long&turn=12#turn-12")


def test_a_search_shows_results_with_links(page: Page) -> None:
    page.open("/")
    page.run("document.querySelector('.find input').value = 'EXPIRED'")
    page.run("document.querySelector('.find').requestSubmit()")
    page.until("document.querySelector('[data-progress]')?.innerText.includes('message found in')")
    assert page.text("[data-progress]").startswith("1 message found in 6")
    assert page.text("[data-hits] mark") == "expired"
    page.click("[data-hits] li a")
    page.until("location.hash === '#turn-1' && !!document.querySelector('#turn-1')")


def test_two_sessions_are_compared(page: Page) -> None:
    page.open("/session?id=agent")
    page.run("document.querySelector('.compare input[name=with]').value = 'agent-fork'")
    page.run("document.querySelector('.compare').requestSubmit()")
    page.until("document.querySelectorAll('.sides section').length > 1")
    assert page.text(".head .sub").startswith("The first turn is the same.")
    assert page.turns() == [1, 1]


def test_a_page_follows_a_session_and_can_be_paused(page: Page) -> None:
    async def begin(store: Store) -> None:
        await store.append("live", [user("zero")])

    async def ask(store: Store) -> None:
        reply = assistant(None, tool_calls=[call("search", "{}", "c1")])
        await store.append("live", [user("one"), reply], turn_id="t", open=True)

    async def answer(store: Store) -> None:
        await store.append("live", [tool("Error: no", tool_call_id="c1"), assistant("the answer")], turn_id="t", part=1)

    page.place.change(begin)
    page.open("/session?id=live")
    page.until("document.querySelector('[data-live-text]').innerText === 'Following'")
    page.place.change(ask)
    page.until("document.querySelectorAll('.turn').length === 2")
    assert "open" in page.text("#turn-1 header")
    assert page.text("[data-fact=turns]") == "2"
    assert "no result" in page.text("#turn-1 .call")
    page.run("document.querySelector('#turn-1 .call').open = true")
    page.chromium.press("p")
    assert page.text("[data-live-text]") == "Paused"
    page.place.change(answer)
    page.chromium.press("p")
    page.until("document.querySelector('#turn-1').innerText.includes('the answer')")
    assert page.turns() == [0, 1]
    assert "open" not in page.text("#turn-1 header")
    assert page.run("document.querySelector('#turn-1 .call').open")  # as the person has left it
    assert "Error: no" in page.text("#turn-1 .call .io")
    assert page.text("[data-problem-panel] li") == "1\nsearch failed\nError: no"


def test_a_hidden_page_keeps_no_connection(page: Page) -> None:
    hide = "Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}})"
    event = "document.dispatchEvent(new Event('visibilitychange'))"
    page.open("/session?id=agent")
    page.until("document.querySelector('[data-live-text]').innerText === 'Following'")
    page.run(f"{hide.format('true')}; {event}")
    assert page.text("[data-live-text]") == "Waiting"
    page.run(f"{hide.format('false')}; {event}")
    page.until("document.querySelector('[data-live-text]').innerText === 'Following'")


def test_an_export_needs_nothing_else(page: Page, tmp_path: Path) -> None:
    text = Visitor(page.place).page("/session/export?id=odd")
    (tmp_path / "export.html").write_text(text, encoding="utf-8")
    page.chromium.open((tmp_path / "export.html").as_uri())
    page.until("!!document.querySelector('.turn')")
    assert page.run("getComputedStyle(document.querySelector('.message.user .parts')).borderRadius") == "10px"
    assert (
        page.run("performance.getEntriesByType('resource').filter((one) => !one.name.startsWith('data:')).length") == 0
    )
    assert page.run("window.attacked === undefined")
    page.run("document.querySelector('.call summary').click()")
    assert page.run("document.querySelector('.call').open")


def test_odd_data_are_data(page: Page) -> None:
    page.open("/session?id=odd")
    assert page.text("h1") == ATTACK
    assert page.run("document.querySelectorAll('main script, main img[onerror], main [onload]').length") == 0
    assert page.run("[...document.querySelectorAll('a')].every((link) => /^https?:/.test(link.href))")
    images = "[...document.querySelectorAll('figure img')]"
    page.until(f"{images}.every((image) => image.complete)")
    assert page.run(f"{images}.map((image) => image.naturalWidth)") == [1, 0]  # the second is broken
    assert page.run("document.querySelectorAll('.attached').length") == 4
    whole = page.text("article")
    assert r"\x00" in whole
    assert r"\u202e" in whole
    assert "\u202e" not in page.run("document.body.textContent")
    right = "[...document.querySelectorAll('.text')].find((text) => text.innerText.includes('שלום'))"
    assert page.run(f"getComputedStyle({right}).direction") == "rtl"
    page.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.run("document.documentElement.scrollWidth") <= 1280
    assert page.run("window.attacked === undefined")
    page.chromium.show(width=390, height=844)
    try:
        assert page.run("document.documentElement.scrollWidth") == 390
    finally:
        page.chromium.show(width=1280, height=900)


def test_markup_in_any_field_is_text(page: Page, tmp_path: Path) -> None:
    query = urlencode({"namespace": ATTACK, "id": ATTACK})
    export = tmp_path / "export.html"
    export.write_text(Visitor(page.place).page(f"/session/export?{query}"), encoding="utf-8")
    paths = [
        f"/?{urlencode({'namespace': ATTACK, 'owner': ATTACK, 'prefix': ATTACK})}",
        f"/session?{query}",
        f"/session/problems?{query}",
        f"/compare?{query}&{urlencode({'with': ATTACK})}",
        f"/search?{urlencode({'namespace': ATTACK, 'q': ATTACK, 'owner': ATTACK})}",
        f"/change/title?{query}",
        f"/change/fork?{query}",
        f"/metrics?{urlencode({'namespace': ATTACK})}",
    ]
    for address in [*(page.place.base + path for path in paths), export.as_uri()]:
        page.chromium.open(address)
        page.until("document.readyState === 'complete' && !!document.querySelector('main')")
        if "/search" in address:
            page.until("!!document.querySelector('[data-hits] li')")
        assert "<script>" in page.run("document.querySelector('main').textContent + document.title"), address
        assert page.run("document.querySelectorAll('script:not([src]), img:not(figure img), [onerror]').length") == 0
        assert page.run("window.attacked === undefined"), address


def test_a_refused_stream_is_reported(page: Page) -> None:
    page.open("/session?id=agent")
    page.until("document.querySelector('[data-live-text]').innerText === 'Following'")
    page.chromium.press("p")
    page.chromium.forget()
    page.chromium.press("p")
    page.until("document.querySelector('[data-live-text]').innerText === 'Not connected. Reload the page.'")
    page.chromium.open(page.place.first)
    page.until("location.search === '' && !!document.querySelector('.sessions')")


def test_the_policy_blocks_what_markup_would_load(page: Page) -> None:
    page.open("/")
    blocked = page.run(
        "new Promise((done) => {"
        " document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective));"
        " const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image); })"
    )
    assert blocked == "img-src"


def test_changes_are_confirmed(page: Page) -> None:
    page.open("/session?id=agent")
    page.click("#turn-0 a[href*='/change/fork']")
    page.until("document.querySelector('.confirm p')?.innerText.includes('the turns before turn 1')")
    page.run("document.querySelector('.confirm input[name=text]').value = 'a copy'")
    page.click(".confirm button")
    page.until("location.search === '?id=a+copy' && !!document.querySelector('.turn')")
    assert page.turns() == [0]
    page.click("a[href*='/change/title']")
    page.until("!!document.querySelector('.confirm input[name=text]')")
    page.run("document.querySelector('.confirm input[name=text]').value = 'Another title'")
    page.click(".confirm button")
    page.until("document.querySelector('h1')?.innerText === 'Another title'")
    page.click("a[href*='/change/erase']")
    page.until("document.querySelector('.confirm')?.innerText.includes('cannot be restored')")
    page.click(".confirm .quiet")
    page.until("document.querySelector('h1')?.innerText === 'Another title'")
    page.click("a[href*='/change/erase']")
    page.until("!!document.querySelector('.confirm')")
    page.click(".confirm button")
    page.until("location.pathname === '/' && !!document.querySelector('.sessions')")
    assert "Another title" not in page.text(".sessions")


def test_without_write_there_is_nothing_to_change(page: Page) -> None:
    with inspected(page.place.store) as reading:
        page.chromium.open(reading.first)
        page.until("!!document.querySelector('.sessions')")
        page.chromium.open(f"{reading.base}/session?id=agent")
        page.until("!!document.querySelector('.turn')")
        assert page.run("document.querySelectorAll('a[href*=change]').length") == 0
        page.chromium.open(f"{reading.base}/change/erase?id=agent")
        page.until("document.querySelector('.note')?.innerText.startsWith('This inspector is read-only.')")


def test_every_page_fits_a_phone_and_has_enough_contrast(page: Page) -> None:
    paths = ["/", "/session?id=agent", "/compare?id=agent&with=agent-fork", "/search?q=flight", "/metrics"]
    paths += ["/change/erase?id=agent", f"/session?{urlencode({'id': 'nobody'})}"]
    try:
        for dark in (False, True):
            page.chromium.show(width=390, height=844, dark=dark)
            for path in paths:
                page.open(path)
                assert page.run("document.documentElement.scrollWidth") == 390, path
                assert page.run(CONTRAST) == [], (path, dark)
    finally:
        page.chromium.show(width=1280, height=900)


CONTRAST = """
[...document.querySelectorAll('main *, .top *')].flatMap((one) => {
  const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !one.checkVisibility()) return [];
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = one, back = [0, 0, 0, 0];
  while (behind && (back = rgb(getComputedStyle(behind).backgroundColor))[3] === 0) behind = behind.parentElement;
  const [a, b] = [light(rgb(getComputedStyle(one).color)), light(back.slice(0, 3))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  return ratio < 4.5 ? [`${one.className} ${one.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`] : [];
})
"""
"""The texts whose contrast is below 4.5 (WCAG 2.2, 1.4.3, level AA)."""
