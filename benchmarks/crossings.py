"""Count the turnlog functions and files that one warm turn uses: python benchmarks/crossings.py [--checkout PATH] [--functions]

The script executes 10 turns of `Pipeline.execute`, then counts 5 more and prints the mean of one turn, on SQLite, on Redis,
and on Redis with the layers cache and zstd.  It starts a private Redis server on loopback.

It counts calls of the functions defined in `core/` and `plugins/` of the checkout, in all threads, from the start of
`execute` until 50 ms after its end, because a store may finish work after it has answered.  A call of a coroutine or a
generator counts once.  Comprehensions and generator expressions do not count: CPython 3.11 calls each of
them, CPython 3.12 inlines most of them.

The script runs on every commit from 2ff1f43.  Plugins are found by the entry points of the installed distribution, and these
differ between commits.  Install another checkout in a separate virtual environment, and run this script there:

    python3 -m venv PATH/.venv && PATH/.venv/bin/pip install -e 'PATH[all]'
    PATH/.venv/bin/python benchmarks/crossings.py --checkout PATH
"""

from __future__ import annotations

import argparse
import asyncio
import dis
import inspect
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from statistics import mean
from types import CodeType, FrameType

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import servers

WARM, COUNTED = 10, 5  # turns; 10 turns of two messages fill the pipeline's window of 20
SETTLE = 0.05  # seconds after a turn in which its calls are still counted
Function = tuple[str, CodeType]  # with the file: equal code objects may come from two files
EXPRESSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


@cache
def first_resume(code: CodeType) -> int:
    """Return the offset at which a call starts; a coroutine or a generator continues at a later one."""
    return next(i.offset for i in dis.get_instructions(code) if i.opname == "RESUME")


class Calls:
    """A profile function that lists the calls of functions in some folders while it is on."""

    def __init__(self, folders: tuple[str, ...]) -> None:
        self.folders = folders
        self.on = False
        self.made: list[Function] = []

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if (
            self.on
            and event == "call"
            and code.co_filename.startswith(self.folders)
            and code.co_flags & inspect.CO_OPTIMIZED  # a function, not the body of a module or a class
            and code.co_name not in EXPRESSIONS
            and frame.f_lasti <= first_resume(code)
        ):
            self.made.append((code.co_filename, code))  # atomic: several threads call this

    def install(self) -> None:
        """Profile this thread and all that start from now on, so install this before a store opens."""
        threading.setprofile(self)
        sys.setprofile(self)

    def remove(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    @contextmanager
    def counting(self) -> Iterator[list[Function]]:
        """Count within a `with` block, in a new list."""
        made = self.made = []
        self.on = True
        try:
            yield made
        finally:
            self.on = False


async def answer(_messages: list, **_options: object) -> dict:
    return {"role": "assistant", "content": "It is on its way and arrives on Thursday."}


async def turns(url: str, calls: Calls) -> list[list[Function]]:
    """Return the calls of each counted turn."""
    from turnlog import Pipeline, open_store

    counted = []
    async with open_store(url) as store:
        pipeline = Pipeline(store, answer)
        for _ in range(WARM):
            await pipeline.execute("alice", "user", "Where is my order?")
        await asyncio.sleep(SETTLE)
        for _ in range(COUNTED):
            with calls.counting() as made:
                await pipeline.execute("alice", "user", "Where is my order?")
                await asyncio.sleep(SETTLE)
            counted.append(made)
    return counted


def check_origin(checkout: str, folders: tuple[str, ...]) -> None:
    """Exit if turnlog, or one of its plugins, was imported from elsewhere."""
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name.partition(".")[0].startswith("turnlog") and path and not path.startswith(folders):
            sys.exit(f"{name} was imported from {path}, not from {checkout}")


def show_functions(name: str, counted: list[list[Function]], checkout: str) -> None:
    """Print each function with its mean number of calls in a turn, file by file."""
    print(f"\n{name}\n")
    times = Counter(function for made in counted for function in made)
    for (path, code), count in sorted(times.items(), key=lambda item: (item[0][0], item[0][1].co_firstlineno)):
        place = f"{os.path.relpath(path, checkout)}:{code.co_firstlineno}"
        print(f"{count / len(counted):6.1f}  {place}  {code.co_qualname}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", default=os.path.dirname(HERE), metavar="PATH", help="default: this one")
    parser.add_argument("--functions", action="store_true", help="also print each function")
    args = parser.parse_args()
    checkout = os.path.realpath(args.checkout)
    paths = [os.path.join(checkout, part) for part in ("core", "plugins")]
    folders = tuple(path + os.sep for path in paths)
    sys.path[:0] = paths

    calls, folder, counted = Calls(folders), tempfile.mkdtemp(prefix="bench-crossings-"), {}
    calls.install()
    try:
        with servers.Redis() as server:
            redis = f"redis://127.0.0.1:{server.port}"
            for name, url in {
                "SQLite": f"sqlite:///{folder}/crossings.db",
                "Redis": f"{redis}/0",
                "Redis, layers=cache,zstd": f"{redis}/1?layers=cache,zstd",
            }.items():
                counted[name] = asyncio.run(turns(url, calls))
    finally:
        calls.remove()
        shutil.rmtree(folder, ignore_errors=True)
    check_origin(checkout, folders)

    print(f"CPython {platform.python_version()}, {checkout}, the mean of {COUNTED} turns\n")
    print("| one turn on | calls | functions | files |\n|---|--:|--:|--:|")
    for name, each in counted.items():
        figures = (
            mean(len(made) for made in each),
            mean(len(set(made)) for made in each),
            mean(len({path for path, _ in made}) for made in each),
        )
        print(f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")
    if args.functions:
        for name, each in counted.items():
            show_functions(name, each, checkout)


if __name__ == "__main__":
    main()
