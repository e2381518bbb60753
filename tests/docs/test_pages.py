"""README and docs: the snippets print the shown output, links have targets, and the index leads to every page."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import indent

import pytest

from example_store import EXAMPLE, environment
from run_page import Wrong, blocks, fits, run

ROOT = Path(__file__).resolve().parents[2]
DOCS = [page for page in (ROOT / "docs").rglob("*.md") if "/." not in str(page.relative_to(ROOT))]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
RUN_HERE = [
    name
    for name, page in zip(NAMES, PAGES, strict=True)
    if "```" in page.read_text(encoding="utf-8") and page.parent.name != "frameworks"  # nox -s adapters runs these
]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("name", RUN_HERE)
def test_what_a_page_shows_is_what_happens(name: str, site: Path, tmp_path: Path) -> None:
    variables = environment(site)
    variables["PATH"] = f"{Path(sys.executable).parent}:{variables['PATH']}"
    variables.pop("PYTHONUNBUFFERED", None)  # unbuffered output would hide results that are printed too late
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "tests" / "docs" / "run_page.py"), str(ROOT / name)],
        cwd=tmp_path,
        env={**variables, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_configuration_are_toml(name: str) -> None:
    for block in blocks((ROOT / name).read_text(encoding="utf-8")):
        if block.kind == "toml":
            assert tomllib.loads(block.body)


def without_blanks(text: str) -> str:
    """Return text without empty lines, because the formatter adds and removes them."""
    return re.sub(r"\n\n+", "\n", text)


def test_pieces_of_the_example_stores_are_what_it_says() -> None:
    modules = [
        path for name in ("jsonl", "lmdb", "rows") for path in EXAMPLE.with_name(f"turnlog-{name}").glob("src/*/*.py")
    ]
    source = "".join([without_blanks(path.read_text(encoding="utf-8")) for path in sorted(modules)])
    test = (EXAMPLE / "tests" / "test_contract.py").read_text(encoding="utf-8")
    found = [*blocks((ROOT / "docs" / "how-to" / "write-a-backend.md").read_text(encoding="utf-8"))]
    excerpts = [block.body for block in found if block.remark == "excerpt"]
    assert len(excerpts) > 4
    for excerpt in excerpts:
        depths = [indent(without_blanks(excerpt), " " * depth) for depth in range(0, 13, 4)]
        assert any(text in source for text in depths), excerpt
    shown = [without_blanks(block.body) for block in found if block.remark == "contract test"]
    assert shown == [without_blanks(test.partition("\n\n")[2])]
    entry = next(block.body for block in found if block.kind == "toml")
    assert entry in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------- the runner itself finds faults

FAULTS = {
    "an output that differs": ("```python\nprint(1 + 1)  # 3\n```", "but this is printed:\n2"),
    "one inside a function": ("```python\ndef f():\n    print(2)  # 3\n\nf()\n```", "the page shows\n3"),
    "one behind a call": ("```python\ndef f():\n    print(2)\n\nf()  # 3\n```", "the page shows\n3"),
    "an output that is not shown": ("```python\nprint(2)\n```", "does not show"),
    "one shown behind": ("```python\nprint(2)\n```\n\n```text\n3\n```", "the page shows\n3"),
    "a print that is not reached": ("```python\nif False:\n    print(2)  # 2\n```", "never printed"),
    "a name of another block": ("```python\nx = 1\n```\n\n```python\nprint(x)  # 2\n```", "page.md:6"),
    "a command's output": ("```console\n$ echo one\ntwo\n```", "but this is printed:\none"),
    "a command that fails": ("```sh\nfalse\n```", "exit code 1"),
    "a block that is not named": ("```\nprint(2)\n```", "name one of"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_page_that_says_what_is_not_so_is_wrong(name: str) -> None:
    page, why = FAULTS[name]
    with pytest.raises(Wrong) as caught:
        run(page, "page.md")
    assert why in str(caught.value)


def test_a_page_that_says_what_is_so_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = """
```python
def f():
    print("one")  # one
    print("two")

f()  # two
```

<!-- file: two.py -->
```python
raise SystemExit
```

<!-- not run: it would fail -->
```sh
false
```

```console
$ ls
two...py
```

```python
for number in range(2):
    print(number)
```

```text
0
1
```
"""
    assert run(page, "page.md") == 4
    assert fits("a b c", "a ... c")
    assert not fits("a b d", "a ... c")


# --------------------------------------------------------------------------------------------------------------- links


def links(page: Path) -> list[tuple[str, Path, str]]:
    """Return the links of a page to other files: the link, the file, the heading."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = []
    for link in LINK.findall(text):
        if not re.match(r"[a-z]+:", link):
            path, _, heading = link.partition("#")
            found.append((link, (page.parent / path).resolve() if path else page, heading))
    return found


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for link, target, heading in links(ROOT / name):
        assert target.exists(), f"{name}: {link}"
        if heading:
            assert heading in headings(target), f"{name}: {link}"


def test_every_page_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    seen, left = set(), [index]
    while left:
        page = left.pop()
        if page not in seen and page.suffix == ".md" and page.is_relative_to(ROOT / "docs"):
            seen.add(page)
            left += [target for _, target, _ in links(page)]
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} == seen
    assert index in [target for _, target, _ in links(ROOT / "README.md")]


def test_the_tests_that_hold_a_promise_are_there() -> None:
    text = (ROOT / "docs" / "explanation" / "promises.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:core|tests|docs/examples)/[\w/-]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 10
    threats = re.findall(r"^\| (\d+) \| [^|]+ \| (.+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in threats] == list(range(1, len(threats) + 1))
    assert len(threats) >= 55
    assert all("`" in tests or tests.startswith(("No test: ", "Not prevented: ")) for _, tests in threats)
    for path, name in named:
        assert (ROOT / path).exists(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_the_readme_is_short_and_names_its_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    tests = [block for block in blocks(text) if block.remark == "tests"]
    assert len(tests) == 1
    assert tests[0].body.count("\n") == 1
