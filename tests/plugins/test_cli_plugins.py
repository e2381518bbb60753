"""The entry-point group `turnlog.commands`: commands of installed distributions, both working and broken."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT
from distributions import install
from turnlog import open_store, user
from turnlog_cli import main

GREET = """
import sys
from cyclopts import App
from turnlog import SessionNotFound
from turnlog.config import open_existing
from turnlog.layers import stack_of

def greet(app: App) -> None:
    app.command(_greet, name="greet")

async def _greet(name: str, /, *, store: str | None = None, times: int = 1, loud: bool = False) -> int | None:
    '''Greet somebody.

    Args:
        name: The name.
        store: The URL of the store.
        times: The number of greetings.
    '''
    async with open_existing(store) as opened:
        print([type(one).__name__ for one in stack_of(opened.backend)], f"hello {name} " * times)
    print("a note", file=sys.stderr)
    if name == "nobody":
        raise SessionNotFound("nobody at redis://u:hunter2@h/ to greet")
    return 7 if loud else None
"""

Put = Callable[..., None]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Put:
    """Return a function that installs a distribution with commands."""
    monkeypatch.chdir(tmp_path)

    def put(name: str, commands: dict[str, str], **modules: str) -> None:
        install(monkeypatch, tmp_path, name, {"turnlog.commands": commands}, **modules)

    return put


def broken(put: Put) -> None:
    """Install commands that cannot be loaded or registered."""
    put(
        "turnlog-broken",
        {
            "absent": "acme_absent:command",
            "failing": "acme_failing:command",
            "half": "acme_half:command",
            "idle": "acme_idle:command",
            "number": "acme_number:command",
            "taken": "acme_taken:command",
        },
        acme_failing="import no_such_driver",
        acme_half="def command(app):\n    app.command(print, name='half')\n    raise ValueError('half\\x1b __x__ <a>')",
        acme_idle="def command(app): pass",
        acme_number="command = 5",
        acme_taken="def command(app): app.command(print, name='list')",
    )


SAID = {
    "absent": "acme_absent:command of turnlog-broken 1.0, cannot be loaded: ModuleNotFoundError",
    "failing": "cannot be loaded: ModuleNotFoundError: No module named 'no_such_driver'",
    "half": "command 'half' cannot be registered: ValueError: half\\x1b __x__ <a>",
    "idle": "command 'idle' cannot be registered: its entry point registers no command of this name",
    "number": "is a int; it must be a function that takes a cyclopts.App",
    "taken": "command 'taken' cannot be registered: ",
}


def test_an_installed_command_runs_and_is_part_of_the_help(put: Put, capsys: Any) -> None:
    put("turnlog-greet", {"greet": "acme_greet:greet"}, acme_greet=GREET)
    assert main(["greet", "Zoë", "--store=memory://?layers=gzip", "--times", "2"]) == 0
    assert capsys.readouterr() == ("['GzipLayer', 'MemoryBackend'] hello Zoë hello Zoë \n", "a note\n")
    assert main(["greet", "Zoë", "--store=memory://", "--loud"]) == 7
    capsys.readouterr()
    assert main(["greet", "nobody", "--store=memory://"]) == 1
    assert capsys.readouterr().err == "a note\nturnlog: nobody at redis://***@h/ to greet\n"
    assert main(["--help"]) == 0
    assert "Greet somebody." in capsys.readouterr().out
    assert main(["greet", "--help"]) == 0
    assert "The number of greetings." in capsys.readouterr().out
    assert main(["greet"]) == 2
    assert "NAME" in capsys.readouterr().err
    assert main(["gret"]) == 2
    assert "did you mean 'greet'?" in capsys.readouterr().err


def test_the_command_of_the_page_works(put: Put, tmp_path: Path, capsys: Any) -> None:
    page = (ROOT / "docs/how-to/command-line.md").read_text(encoding="utf-8")
    source = page.partition("<!-- file: turnlog_owners.py -->\n```python\n")[2].partition("```")[0]
    put("turnlog-owners", {"owners": "turnlog_owners:owners"}, turnlog_owners=source)

    async def fill() -> None:
        async with open_store("sqlite:///turnlog.db") as store:
            for session, owner in (("a", "alice"), ("b", "alice"), ("c", "bob")):
                await store.append(session, [user("hello")], owner=owner)

    asyncio.run(fill())
    assert main(["owners", "--least", "2"]) == 0
    assert capsys.readouterr() == ("'alice'\t2\n", "")
    assert main(["owners", "--help"]) == 0
    assert "The minimum number of sessions." in capsys.readouterr().out


def test_an_installed_command_creates_no_store(put: Put, tmp_path: Path, capsys: Any) -> None:
    put("turnlog-greet", {"greet": "acme_greet:greet"}, acme_greet=GREET)
    assert main(["greet", "Zoë"]) == 3
    assert not (tmp_path / "turnlog.db").exists()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("arguments", [[], ["--help"], ["--store=memory://", "more", "-x"]], ids=str)
def test_a_broken_command_says_why(name: str, arguments: list[str], put: Put, monkeypatch: Any, capsys: Any) -> None:
    broken(put)
    monkeypatch.setenv("COLUMNS", "400")
    code = main([name, *arguments])
    out, err = capsys.readouterr()
    if arguments == ["--help"]:
        assert code == 0
        assert SAID[name] in out
    else:
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert SAID[name] in err


def test_a_broken_command_hides_no_other(put: Put, capsys: Any) -> None:
    broken(put)
    put("turnlog-greet", {"greet": "acme_greet:greet"}, acme_greet=GREET)
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in ("list", "migrate", "recompress", "greet", *SAID):
        assert name in out
    assert main(["greet", "Zoë", "--store=memory://"]) == 0
    assert main(["list", "--store=memory://"]) == 0
    assert main(["migrate", "--store=memory://"]) == 0
    assert main(["shw"]) == 2
    assert "did you mean 'show'?" in capsys.readouterr().err


def test_a_missing_driver_of_ours_names_the_extra(put: Put, monkeypatch: Any, capsys: Any) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] in ("sqlalchemy", "turnlog_sql")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    assert main(["migrate", "--store=sqlite:///t.db"]) == 2
    said = "backend 'sqlite' needs sqlalchemy, which is not installed: pip install 'turnlog[sql]'"
    assert capsys.readouterr() == ("", f"turnlog: {said}\n")
    assert main(["migrate", "--store=memory://"]) == 0
    capsys.readouterr()
    assert main(["--help"]) == 0
    assert "train-dictionary" in capsys.readouterr().out
    assert main(["list", "--store=memory://"]) == 0


def test_two_distributions_with_one_command_are_both_named(put: Put, capsys: Any) -> None:
    put("turnlog-greet", {"greet": "acme_greet:greet"}, acme_greet=GREET)
    put("turnlog-other", {"greet": "acme_other:greet"}, acme_other="raise SystemExit")
    assert main(["greet", "Zoë"]) == 2
    err = capsys.readouterr().err
    assert "acme_greet:greet of turnlog-greet 1.0 and acme_other:greet of turnlog-other 1.0" in err
    assert main(["--help"]) == 0


def test_a_built_in_command_cannot_be_replaced(put: Put, capsys: Any) -> None:
    put("turnlog-evil", {"list": "acme_evil:command"}, acme_evil="raise SystemExit")
    assert main(["list", "--store=memory://"]) == 0
    assert main(["--help"]) == 0
    assert "List sessions" in capsys.readouterr().out


def test_plugins_lists_commands(put: Put, capsys: Any) -> None:
    broken(put)
    assert main(["plugins", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = {plugin["name"] for plugin in found if plugin["group"] == "turnlog.commands"}
    assert names == {
        *(
            "alerts",
            "check",
            "copy",
            "export",
            "import",
            "inspect",
            "migrate",
            "new-backend",
            "new-layer",
            "recompress",
            "remove-dictionary",
            "stats",
            "train-dictionary",
        ),
        *SAID,
    }
