"""The documentation site works offline: no page asks another host, reports an error, or has a dead link or image."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from chromium import Chromium

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(500)  # a build and some 80 pages
WATCHED = {"Network.requestWillBeSent", "Network.loadingFailed", "Runtime.exceptionThrown", "Log.entryAdded"}
LINKS = "[...document.querySelectorAll('a[href]')].map(link => link.href)"
ANCHORS = "[...document.querySelectorAll('[id]')].map(item => '#' + item.id)"
IMAGES = "[...document.images].filter(image => !image.naturalWidth).map(image => image.src)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, and return its folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


def faults(browser: Chromium, url: str) -> list[str]:
    """Open a page, and return its requests to other places, its failed requests, and its errors."""
    with browser.watch(WATCHED) as events:
        browser.open(url)
        browser.until("document.readyState === 'complete'")
    found = []
    for event in events:
        parameters = event["params"]
        if event["method"] == "Network.requestWillBeSent":
            address = str(parameters["request"]["url"])
            if not address.startswith(("file:", "data:", "blob:", "about:")):
                found.append(f"asks {address}")
        elif event["method"] == "Network.loadingFailed":
            if not parameters.get("canceled"):
                found.append(f"cannot load {parameters['type']}: {parameters['errorText']}")
        elif event["method"] == "Runtime.exceptionThrown":
            found.append(str(parameters["exceptionDetails"]))
        elif parameters["entry"]["level"] == "error":
            found.append(str(parameters["entry"]["text"]))
    return found + [f"shows no {image}" for image in browser.run(IMAGES)]


def test_every_page_works_in_a_browser_without_a_network(folder: Path, browser: Chromium) -> None:
    pages = [
        page.as_uri()
        for page in sorted(folder.rglob("*.html"))
        if page.name != "404.html" and "static" not in page.parts  # both need a server
    ]
    assert len(pages) > 60
    wrong: list[str] = []
    links: dict[str, list[str]] = {}
    anchors: dict[str, set[str]] = {}
    for url in pages:
        wrong += [f"{url}: {fault}" for fault in faults(browser, url)]
        links[url], anchors[url] = browser.run(LINKS), set(browser.run(ANCHORS))
    for url, targets in links.items():
        for target in targets:
            page, _, anchor = target.partition("#")
            if page.startswith("file:") and not Path(unquote(page.removeprefix("file://"))).is_file():
                wrong.append(f"{url}: the link {target} leads nowhere")
            elif anchor and page in anchors and f"#{unquote(anchor)}" not in anchors[page]:
                wrong.append(f"{url}: {target} has no such heading")
    assert not wrong, "\n".join(wrong)


def test_the_search_works_in_pages_that_are_opened_as_files(folder: Path, browser: Chromium) -> None:
    browser.open((folder / "index.html").as_uri())
    browser.until("document.readyState === 'complete'")
    browser.run("document.querySelector('[for=__search]').click()")
    browser.run(
        "(() => { const field = document.querySelector('.md-search__input'); field.focus();"
        " field.value = 'HistoryRegressed'; field.dispatchEvent(new Event('input', {bubbles: true}));"
        " field.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true})) })()"
    )
    assert "HistoryRegressed" in browser.until("document.querySelector('.md-search-result__item')?.innerText")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<script>throw new Error('broken')</script>", "broken"),
        ("<img src='missing.png'>", "missing.png"),
        ("<img src='http://127.0.0.1:9/a.png'>", "asks http"),  # the port "discard" (RFC 863): nothing listens there
        ("<script src='missing.js'></script>", "cannot load Script"),
    ],
)
def test_a_fault_of_a_page_is_found(body: str, fault: str, tmp_path: Path, browser: Chromium) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><body>{body}", encoding="utf-8")
    assert any(fault in one for one in faults(browser, page.as_uri()))
