"""Headless Chromium, controlled with the DevTools protocol over a pipe, without a driver or a library."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self

import servers

_SECONDS = 30.0
_FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]


class _Navigated(RuntimeError):
    """The page was replaced by another one during a call."""


class Chromium:
    """A browser with one page, as a context manager."""

    def __init__(self) -> None:
        found = servers.program("chromium", "chromium-browser", "google-chrome")
        if found is None:
            servers.leave_out("chromium", "not installed: install the system's package chromium")
        self._folder = Path(tempfile.mkdtemp(prefix="turnlog-chromium-"))
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        # The browser reads from descriptor 3 and writes to 4.  Duplicate to high numbers first: the pipe may use 3 or 4
        # itself.
        shell = f'exec 13<&{theirs_in} 14>&{theirs_out}; exec 3<&13 4>&14 13<&- 14>&-; exec "$@"'
        options = [*_FLAGS, f"--user-data-dir={self._folder}", "about:blank"]
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", shell, "bash", found, *options],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._answers: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._number = 0
        self._session = ""
        self._events: list[dict[str, Any]] | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        try:
            target = self._ask("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._ask("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        os.close(self._write)
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, url: str) -> None:
        """Load a page from the server, also if the browser shows it already."""
        self._ask("Page.navigate", session=self._session, url="about:blank")
        self._ask("Page.navigate", session=self._session, url=url)

    def run(self, script: str) -> Any:
        """Evaluate an expression on the page and return its value."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self._ask("Runtime.evaluate", session=self._session, **asked)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def show(self, *, width: int, height: int, dark: bool = False) -> None:
        """Set the size of the window and the colour scheme."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            session=self._session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", session=self._session, features=[scheme])

    def picture(self) -> bytes:
        """Return the visible part of the page as PNG."""
        return base64.b64decode(self._ask("Page.captureScreenshot", session=self._session, format="png")["data"])

    def forget(self) -> None:
        """Remove all cookies."""
        self._ask("Network.clearBrowserCookies", session=self._session)

    def press(self, key: str) -> None:
        """Press and release a key, such as `j`."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if kind == "keyDown" and len(key) == 1 else {}
            self._ask("Input.dispatchKeyEvent", session=self._session, type=kind, key=key, **text)

    def until(self, script: str) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            try:
                if value := self.run(script):
                    return value
            except _Navigated:
                pass  # the page is being replaced by another one
            time.sleep(0.05)
        raise AssertionError(f"{script}: the page shows {self.run('document.body?.innerText')!r}")

    @contextlib.contextmanager
    def watch(self, methods: Collection[str]) -> Iterator[list[dict[str, Any]]]:
        """Yield a list, which holds the page's events of these DevTools methods at the end of the block."""
        for domain in sorted({method.partition(".")[0] for method in methods}):
            self._ask(f"{domain}.enable", session=self._session)
        seen: list[dict[str, Any]] = []
        self._events = []
        try:
            yield seen
        finally:
            self.run("0")  # the browser has sent all earlier events when it answers
            seen += [event for event in self._events if event["method"] in methods]
            self._events = None

    def _ask(self, method: str, *, session: str | None = None, **parameters: object) -> dict[str, Any]:
        self._number += 1
        question: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            question["sessionId"] = session
        os.write(self._write, json.dumps(question).encode() + b"\0")
        try:
            while (answer := self._answers.get(timeout=_SECONDS)).get("id") != self._number:
                if self._events is not None and answer.get("sessionId") == self._session:
                    self._events.append(answer)
        except Empty:
            raise RuntimeError(f"no answer to {method}") from None
        if "navigated or closed" in answer.get("error", {}).get("message", ""):
            raise _Navigated(method)
        if "result" not in answer:
            raise RuntimeError(f"{method}: {answer}")
        result: dict[str, Any] = answer["result"]
        return result

    def _listen(self) -> None:
        with os.fdopen(self._read, "rb") as pipe:
            rest = b""
            while part := os.read(pipe.fileno(), 1 << 16):
                *lines, rest = (rest + part).split(b"\0")
                for line in lines:
                    self._answers.put(json.loads(line))
