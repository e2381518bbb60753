"""The example backends: short distributions of their own; the one of files, with the documented guarantees."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path

import pytest

from example_store import EXAMPLE, environment

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def python(site: Path, tmp_path: Path) -> Run:
    """Return a function that runs Python in the test's folder, with the distribution installed."""

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment(site), capture_output=True, text=True, check=False)

    return python


# ------------------------------------------------------------------------------------------- the code of a third party


def code_lines(source: str) -> int:
    """Return the number of lines of code, without blank lines, comments and docstrings."""
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in quiet
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                lines -= set(range(first.lineno, (first.end_lineno or 0) + 1))
    return len(lines)


def test_lines_are_counted_rightly() -> None:
    source = '''
"""Doc."""

# why
x = [
    1,  # one
]

def f():
    """Doc

    more."""
    return """a
        b"""
'''
    assert code_lines(source) == 3 + 1 + 2


EXAMPLES = {"jsonl": 80, "lmdb": 250, "rows": 250}
"""The example backends, and the number of lines of code that each of them stays below."""


def sources(name: str) -> list[str]:
    """Return the modules of an example."""
    folder = EXAMPLE.with_name(f"turnlog-{name}") / "src" / f"turnlog_{name}"
    return [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short(name: str) -> None:
    found = sources(name)
    assert len(found) == (3 if name == "lmdb" else 1)
    assert sum(code_lines(source) for source in found) < EXAMPLES[name]
    assert max(len(line) for source in found for line in source.splitlines()) <= 120


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_uses_public_names_alone(name: str) -> None:
    """It uses only private names that it defines, and imports only names that are in an `__all__` of turnlog."""
    for source in sources(name):
        nodes = list(ast.walk(ast.parse(source)))
        own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
        own |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store) and is_name(node.value, "self")}
        private = {node.attr for node in attributes if re.match(r"_[^_]", node.attr)}
        assert private - {"_fields"} <= own  # `_fields` of a named tuple is public
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and re.match(r"turnlog(\.|$)", node.module or ""):
                assert "._" not in (node.module or "")
                module = __import__(node.module or "", fromlist=["__all__"])
                assert {alias.name for alias in node.names} - {"rules"} <= set(module.__all__)


def is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


FIND = """
import asyncio, sys
from turnlog import open_store, user
from turnlog.config import installed

async def main():
    async with open_store("jsonl:///chats?ttl=24h") as store:
        await store.append("alice", [user("hello")])
        backend = store.backend
        print([message.text for message in await store.load("alice")], type(backend).__module__, backend.ttl)

asyncio.run(main())
print(sys.modules["turnlog_jsonl"].__file__)
print([(p.name, p.target, p.distribution, p.version) for p in installed() if p.name == "jsonl"])
"""


def test_it_is_found_by_the_scheme_of_a_url(python: Run, site: Path, tmp_path: Path) -> None:
    done = python("-c", FIND)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "['hello'] turnlog_jsonl 86400.0",
        str(site / "turnlog_jsonl" / "__init__.py"),
        "[('jsonl', 'turnlog_jsonl:JsonlBackend', 'turnlog-jsonl', '0.1.0')]",
    ]
    assert (tmp_path / "chats").is_dir()


# ----------------------------------------------------------------------------------------------------- access of others

MODES = """
import asyncio, os, pathlib, sys
from turnlog import open_store, user

os.umask(int(sys.argv[1], 8))

async def main():
    async with open_store("jsonl:///chats") as store:
        for name in ("alice", "alice", "bob"):
            await store.append(name, [user("hello")])

asyncio.run(main())
chats = pathlib.Path("chats")
print(*sorted({oct(path.stat().st_mode & 0o777) for path in (chats, *chats.iterdir())}))
"""


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_files_are_readable_by_their_owner_alone(python: Run, umask: str) -> None:
    done = python("-c", MODES, umask)
    assert (done.stdout, done.stderr) == ("0o600 0o700\n", "")


def test_a_commit_makes_a_file_unreadable_for_others(python: Run, tmp_path: Path) -> None:
    python("-c", MODES, "022")
    for path in (tmp_path / "chats").iterdir():
        path.chmod(0o644)
    (tmp_path / "chats" / "new").write_text("a crash has left it")
    (tmp_path / "chats").chmod(0o755)
    done = python("-c", MODES, "022")
    assert (done.stdout, done.stderr) == ("0o600 0o755\n", "")  # the mode of the folder is up to its owner


PLANTED = """
import asyncio, os, pathlib, sys
from turnlog import Unavailable, open_store, user

victim, chats = pathlib.Path("victim"), pathlib.Path("chats")

async def main():
    async with open_store("jsonl:///chats") as store:
        await store.append("alice", [user("hello")])
        (session,) = chats.iterdir()
        contents = session.read_bytes()
        victim.write_bytes(contents)
        (chats / "new").symlink_to(victim.absolute())
        await store.append("alice", [user("and on")])
        print(len(await store.load("alice")), victim.read_bytes() == contents, (chats / "new").is_symlink())
        session.unlink()
        session.symlink_to(victim.absolute())
        for ask in (store.load, store.info, lambda name: anext(store.sessions())):
            try:
                print("followed", await ask("alice"))
            except Unavailable as error:
                print(type(error).__name__, str(session) in str(error))
        try:
            await store.append("alice", [user("third")])
        except Exception as error:
            print(type(error).__name__, victim.read_bytes() == contents)

asyncio.run(main())
"""


def test_a_planted_link_is_not_followed(python: Run) -> None:
    """A commit does not write to the target of the link, and a read does not read it."""
    done = python("-c", PLANTED)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["2 True False", *["Unavailable True"] * 3, "OutcomeUnknown True"]


THREADS = """
import asyncio, threading
from turnlog import open_store, user

store = open_store("jsonl:///chats")
asyncio.run(store.open())

async def append(name):
    await asyncio.gather(*[store.append("shared", [user(f"{name} {place}")]) for place in range(20)])

loops = [threading.Thread(target=lambda name=name: asyncio.run(append(name))) for name in "abcd"]
for loop in loops:
    loop.start()
for loop in loops:
    loop.join()
print(len(set(message.text for message in asyncio.run(store.load("shared")))))
"""


def test_several_event_loops_share_one_store(python: Run) -> None:
    done = python("-c", THREADS)
    assert (done.stdout, done.stderr) == ("80\n", "")
