"""The lint of prose reports each fault with its file and line, and passes the usual English of documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

import prose

FAULTS = """\
What is stored stays readable.
The first one. Whatever is wrong is an error.
Who changes a sentence changes its test.
Which one counts
Whose session is older is refused.
Those who ask share one read.
How many sessions a page holds.
Where the session is: pass it to `read`.
Whether the session exists decides the result.
**What it costs**: one round trip.
**A backend**: what it stores.
`since`: what follows this version.
That is true at all times.
The payload is at hand.
The session was ended at the hand of a router.
The task cancels again and again.
PostgreSQL believes its indexes.
The session is behind the version.
The thread rings a bell.
The file is beside the database.
Retention is no business of a backend.
The cache, by the way, is bounded.
The seal comes to nothing.
The public door has a lock.
The server sends its farewell.
One flight serves all callers.
The session ends for good.
The store hears of a failure.
A long write holds up the event loop.
An old seal loses quietly.
The folder is not there yet.
The answer is on its way.
A session of so many turns.
The store keeps that many turns.
A writer stands in a line.
A stranger writes a backend.
The reader is told the error.
This is what the store told.
The damage went unnoticed.
The lock belongs to whoever waits.
A request begins with the whole of another.
Nobody knows what became of a change.
Replace what is there.
The peer is gone without a word.
"""

USUAL = """\
What is my name?
Why turns are whole
However often it is sent, it is stored once.
How to write a backend
How-to guides
Where possible, reuse a connection.
Whether the table exists or not, the migration succeeds.
When the store closes, all tasks end.
`What is stored` is code, and so is `a door behind the whole of it`.
The server runs behind a load balancer, and the pool behind a transaction-mode pgbouncer.
A process whose clock is behind ends no session.
Deletions leave rows behind.
It fails for good reason.
There are so many turns that a page is needed.
Wait as long as the lease, or so long as the lock is held.
A change that many tasks send at once.
The flight to Rome is late; book a flight.
The TLS handshake takes a round trip, e.g. What is measured.
Besides, the table is next to the index.
"""


def report(path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> list[tuple[int, str]]:
    """The line and the rest of each finding in a file of this text; the exit code agrees."""
    path.write_text(text, encoding="utf-8")
    code = prose.main([str(path)])
    *findings, total = capsys.readouterr().out.splitlines()
    assert code == bool(findings)
    assert total.startswith(f"{len(findings)} findings" if findings else "no findings")
    found = []
    for finding in findings:
        file, line, rest = finding.split(":", 2)
        assert file == str(path)
        found.append((int(line), rest.strip()))
    return found


@pytest.mark.parametrize("sentence", FAULTS.splitlines())
def test_a_fault_is_one_finding(sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [(line, rest)] = report(tmp_path / "page.md", f"# Title\n\n- {sentence}\n", capsys)
    assert line == 3
    assert rest.startswith('opens with "' if sentence in FAULTS.splitlines()[:12] else '"')


def test_each_phrase_has_a_fault() -> None:
    assert not {phrase.pattern for phrase, _ in prose._PHRASES if not phrase.search(FAULTS)}


@pytest.mark.parametrize("sentence", USUAL.splitlines())
def test_usual_english_passes(sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not report(tmp_path / "page.md", f"- {sentence}\n", capsys)


def test_the_prose_of_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = """\
# What it promises

A sentence over
two lines. What follows is
one. [Who](https://example.org) is a link. <!-- It is beside the page. -->

| option | what it does |
|---|---|
| `ttl` | how long a session lives |
| `max` | Where it is |
| `open` | Whether it is open |

```text
What is in a block of code passes.
```

<!-- What is in a comment passes. -->
"""
    found = report(tmp_path / "page.md", page, capsys)
    assert [line for line, _ in found] == [1, 4, 5, 7, 9, 10]
    assert found[1][1].endswith(": What follows is one.")


def test_the_prose_of_a_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = '''\
"""What a module does.

Second paragraph, of two lines.  Whose
second sentence is wrong.
"""

import ast

WAIT = 1.0
"""When it ends."""

NAME = "What is a value, is no prose."


class Session:
    """A session.

    When it was made is prose.

    - Which item
    - An item

    Attributes:
        id: How many bytes
            it takes.
        open: Whether it is open.
        made: When it was made.
        ended: The end.  When it is set, the session has ended.

    Whether the section ends is known from the indent.
    """

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return True  # what nobody reads

    def close(self, wait: float) -> bool:
        """Whether it was open.

        Args:
            wait: Seconds; None: whatever it takes.
            *args: Who closes.

        Returns:
            Whether it closed.

        Raises:
            Closed: When it closes: an end.
            Wrong: What was passed breaks a rule.
        """
        # a comment of
        # two lines.  What is
        # third
        #
        # which paragraph
        # - which item

        # --- which section
        return WAIT > wait  # fine
'''
    found = report(tmp_path / "module.py", module, capsys)
    assert [line for line, _ in found] == [1, 3, 10, 20, 24, 27, 30, 36, 39, 43, 50, 53, 56, 57, 59]
    assert found[4][1].endswith(": How many bytes it takes.")


def test_a_folder_without_hidden_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/one.md", "a/two.py", "a/.venv/three.md", "a/four.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# Whose\n", encoding="utf-8")
    assert prose.main([str(tmp_path)]) == 1
    first, second, total = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'a' / 'one.md'}:1: ")
    assert second.startswith(f"{tmp_path / 'a' / 'two.py'}:1: ")
    assert total.startswith("2 findings")


def test_a_path_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prose.main([str(tmp_path / "none.md")]) == 2
    assert "none.md does not exist: " in capsys.readouterr().err
