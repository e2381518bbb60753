"""Run the snippets of one page, in order, in the working directory: python run_page.py PAGE.

- The script executes the `python` blocks of a page in one namespace.  The page must show their output: in a comment on
  the line of the `print`, in a comment on the last line of the statement that printed it, or in a `text` block directly
  after the `python` block.
- A `console` block has commands after `$ `, each followed by its output.  `...` matches any text.
- The script runs a `sh` block, which must succeed.
- `<!-- file: NAME -->` before a block: the script writes the block to a file and does not run it.
- `<!-- not run: REASON -->` before a block, or a word of `ELSEWHERE`: the script skips the block.
"""

from __future__ import annotations

import ast
import builtins
import io
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(
    r"^(?:<!-- (?P<remark>.*?) -->\n+)?^```(?P<kind>[\w-]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
RUN = {"python", "console", "sh"}
ELSEWHERE = {
    "tests": "the command that runs all tests",
    "excerpt": "a piece of the example store, compared with it",
    "contract test": "the example store's own test, compared with it",
}
SHOWN = {"text", "toml", "json", "jsonl", "markdown"}


class Block(NamedTuple):
    """A fenced block of a page: its language, its text, its first line, and the comment before it."""

    kind: str
    body: str
    line: int
    remark: str


class Wrong(Exception):
    """A block behaves differently from the page."""


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("body")) + 1
        yield Block(found["kind"], found["body"], line, found["remark"] or "")


def run(text: str, name: str) -> int:
    """Run the blocks of a page; return their number.

    Raises:
        Wrong: A block behaves differently from the page.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    count, found = 0, [*blocks(text)]
    for place, block in enumerate(found):
        where = f"{name}:{block.line}"
        if block.remark.startswith("not run:") or block.remark in ELSEWHERE:
            continue
        if block.remark.startswith("file: "):
            path = Path(block.remark.removeprefix("file: "))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, encoding="utf-8")
        elif block.kind == "python":
            after = found[place + 1] if place + 1 < len(found) else None
            between = text.split("\n")[block.line + block.body.count("\n") : after.line - 2] if after else ["-"]
            follows = after is not None and after.kind == "text" and not any(between)
            Python(block, name, namespace).run(after.body if after and follows else None)
        elif block.kind == "console":
            _console(block, where)
        elif block.kind == "sh":
            done = _shell(block.body)
            if done.returncode:
                raise Wrong(f"{where}: exit code {done.returncode}:\n{done.stdout}")
        elif block.kind in SHOWN:
            continue
        else:
            raise Wrong(f"{where}: the block has the language {block.kind!r}: name one of {sorted(RUN | SHOWN)}")
        count += 1
    return count


class Python:
    """A block of Python with the expected output of each line."""

    def __init__(self, block: Block, name: str, namespace: dict[str, object]) -> None:
        self.source = "\n" * (block.line - 1) + block.body
        self.name = name
        self.namespace = namespace
        self.tree = ast.parse(self.source, name)
        self.comments = {
            token.start[0]: token.string.removeprefix("#").strip()
            for token in tokenize.generate_tokens(io.StringIO(self.source).readline)
            if token.type == tokenize.COMMENT and token.line.split("#")[0].strip()
        }
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        prints = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
        self.ends = {node.lineno: node.end_lineno or node.lineno for node in prints}
        self.unseen = {end for end in self.ends.values() if end in self.comments}
        self.loose: list[str] = []

    def run(self, shown: str | None) -> None:
        """Run the block and compare its output.

        Args:
            shown: The contents of the `text` block directly after it; None: the page has none.
        """
        self.namespace["print"] = self.print
        unclaimed: list[str] = []
        for statement in self.tree.body:
            self.loose = []
            code = compile(ast.Module([statement], []), self.name, "exec")
            exec(code, self.namespace)  # noqa: S102 - the snippets of our own pages
            comment = self.comments.get(statement.end_lineno or 0)
            if self.loose and comment is not None:
                self._compare("\n".join(self.loose), comment, statement.end_lineno or 0)
            else:
                unclaimed += self.loose
        if self.unseen:
            raise Wrong(f"{self.name}:{min(self.unseen)}: the output in this comment is never printed")
        line = self.tree.body[0].lineno
        if shown is not None:
            self._compare("\n".join(unclaimed), shown.strip("\n"), line)
        elif unclaimed:
            raise Wrong(f"{self.name}:{line}: the page does not show this output:\n" + "\n".join(unclaimed))

    def print(self, *values: object, **options: object) -> None:
        """Replace `print` in a block: compare the output with the comment on the line."""
        stream = io.StringIO()
        builtins.print(*values, **{**options, "file": stream, "flush": False})  # type: ignore[call-overload]
        text = stream.getvalue().removesuffix("\n")
        frame = sys._getframe(1)
        end = self.ends.get(frame.f_lineno) if frame.f_code.co_filename == self.name else None
        if end in self.comments:
            self.unseen.discard(end)
            self._compare(text, self.comments[end], end)
        else:
            self.loose.append(text)

    def _compare(self, printed: str, shown: str, line: int) -> None:
        if not fits(printed, shown):
            raise Wrong(f"{self.name}:{line}: the page shows\n{shown}\nbut this is printed:\n{printed}")


def _console(block: Block, where: str) -> None:
    commands = re.split(r"^\$ ", block.body, flags=re.MULTILINE)
    if commands[0].strip() or len(commands) == 1:
        raise Wrong(f"{where}: a console block must begin with a command: write '$ ' before each command")
    for command in commands[1:]:
        typed, _, shown = command.partition("\n")
        done = _shell(typed)
        if not fits(done.stdout.strip("\n"), shown.strip("\n")):
            raise Wrong(f"{where}: $ {typed}\nthe page shows\n{shown}\nbut this is printed:\n{done.stdout}")


def fits(printed: str, shown: str) -> bool:
    """Return whether the printed text matches the shown text, in which `...` matches any text."""
    return re.fullmatch(".*?".join(map(re.escape, shown.split("..."))), printed, re.DOTALL) is not None


def _shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", f"set -e\n{command}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    from contextlib import nullcontext
    from tempfile import TemporaryDirectory

    from quick_turnlog import commands_in

    page = Path(sys.argv[1])
    sys.path.insert(0, "")  # as in an interactive session: pages import the files that they write
    text = page.read_text(encoding="utf-8")
    with TemporaryDirectory() as folder, commands_in(Path(folder)) if "turnlog " in text else nullcontext():
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
        try:
            number = run(text, page.name)
        except Wrong as wrong:
            sys.exit(f"{wrong}")
    sys.stdout.write(f"{number} blocks\n")
