"""Check the rules of prose that a program can check: python tests/docs/prose.py [PATH ...].

Prose is the docstrings and comments of Python files and the text of Markdown files, without code.  Each finding is
printed as `file:line: rule: sentence`, and the exit code is 1 if there is one.  No sentence can be exempted.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

OPENINGS = re.compile(
    r"(?:what|whatever|whichever|who|whom|whose|which|that which|those who|he who|how(?![ -]to\b))\b", re.IGNORECASE
)
"""Relative clauses and clauses in place of a noun."""

ADVERBS = re.compile(r"(?:where|whether)\b[^,]*$", re.IGNORECASE)
"""Clauses in place of a noun, unless a comma ends them: `Where possible, reuse it.` is good English."""

ADVERBS_OF_VALUES = re.compile(r"(?:when|where)\b[^,]*$", re.IGNORECASE)
"""The same in the description of a value.  `Whether the turn is open.` is the usual form for a bool, and passes."""

PHRASES = {
    r"at all times": "always",
    r"at hand": "available",
    r"at the hands? of": "by",
    r"again and again": "repeatedly",
    r"believe[sd]?|believing": "trusts, accepts",
    r"behind": "after, below, older than, decoded from",
    r"bells?": "the name of the mechanism, such as a pipe or an event",
    r"beside": "next to, in addition to, at the same time as",
    r"business of|(?:no|none of \w+|own) business": "the responsibility of",
    r"by the way": "also, or nothing",
    r"comes? to nothing|came to nothing|in vain": "fails, has no effect",
    r"doors?": "the name of the interface",
    r"farewells?": "the name of the message, such as a close frame",
    r"flights?": "running, a shared request",
    r"for good": "permanently",
    r"hears?|heard": "receives, detects, learns",
    r"h(?:old|olds|eld|olding) up": "blocks, delays",
    r"los(?:es?|t|ing) quietly|quietly": "is ignored, without an error",
    r"not there": "missing, does not exist",
    r"on (?:its|the|their) way": "in transit, pending, while it is sent",
    r"so (?:many|much|long|few|often)(?! (?:as|that)\b)": "the number or duration itself",
    r"(?:at least|at most|for|keeps?|holds?|than|then|after|by) that (?:many|much|long|few|far)": "the number itself",
    r"stands? in (?:a|the) line": "waits in a queue",
    r"strangers?": "third party, unknown",
    r"(?:be|been|being|is|are|was|were)(?: just)? told": "receives, knows, is distinguished; an error is raised",
    r"(?:store|backend|server|database|nobody|somebody)(?: has)? told": "returned, reported",
    r"unnoticed": "undetected",
    r"whoever": "the actor, such as the caller or a process",
    r"(?:the )?whole of": "all of, the whole",
    r"what (?:becomes?|became) of": "the outcome of",
    r"what (?:is|are|was|were)(?: still)? there": "the existing, followed by a noun",
    r"without a word": "without notice",
}
"""Metaphors and idioms that stood for mechanisms, as regular expressions of words, and words to use instead."""

USUAL = re.compile(
    r"behind (?:\S+ ){0,3}?(?:balancer|firewall|gateway|NAT|pgbouncer|proxy|router)s?\b"
    r"|\bclocks?\b[^.;:]* behind\b"
    r"|\b(?:leave|leaves|leaving|left)\b[^.;:]*? behind\b"
    r"|\bfor good reasons?\b"
    r"|\bso (?:many|much|long|few|often)\b[^.;:]*? that\b"
    r"|\b(?:book|books|booked|change|cancel) (?:a|my|the|your) flights?\b|\bflights? (?:from|number|to)\b",
    re.IGNORECASE,
)
"""Uses in which these words are the standard terms."""

_PHRASES = [(re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE), instead) for phrase, instead in PHRASES.items()]
_CODE = re.compile(r"`[^`]*`")
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
_ENTRY = re.compile(r"\*{0,2}[\w.]+(?: \([^)]*\))?: +")
_ITEM = re.compile(r"(?:[-*]|\d+\.) +|-{2,} *")
_TERM = re.compile(r"(?:\*\*[^*]+\*\*|`x*`(?:, `x*`)*|\w[\w.-]*):\s+")
_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bcf)(?<!\bvs)(?<!\.\.)[.!?][\"')*”]*\s+(?=[\"'(*“]*[A-Z0-9`])")


class Block(NamedTuple):
    """A paragraph, list item, table cell, entry of a docstring, or comment.

    Attributes:
        line: The number of its first line, from 1.
        text: Its text, with the line breaks of the file and with inline code in backticks.
        value: Whether it describes a value: an argument, an attribute, a result, a property, a table cell.
    """

    line: int
    text: str
    value: bool


def blocks(path: Path) -> Iterator[Block]:
    """Yield the blocks of a Python or Markdown file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from _markdown(source)
    else:
        yield from _docstrings(ast.parse(source, str(path)))
        yield from _comments(source)


def _markdown(source: str) -> Iterator[Block]:
    line, cell = 1, False
    marks = {"softbreak": "\n", "hardbreak": "\n", "strong_open": "**", "strong_close": "**"}
    for token in MarkdownIt().enable("table").parse(source):
        line = token.map[0] + 1 if token.map else line
        if token.type == "inline":
            parts = [part for part in token.children or () if part.type != "html_inline"]
            texts = (
                f"`{it.content}`" if it.type == "code_inline" else it.content or marks.get(it.type, "") for it in parts
            )
            yield Block(line, "".join(texts), cell)
        cell = token.type in {"td_open", "th_open"}


def _docstrings(tree: ast.Module) -> Iterator[Block]:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for number, statement in enumerate(body):
            if isinstance(statement, ast.Expr) and isinstance(text := getattr(statement.value, "value", None), str):
                value = isinstance(body[number - 1], ast.Assign | ast.AnnAssign) if number else _is_property(node)
                yield from _paragraphs(text.split("\n"), statement.lineno, value=value)


def _is_property(node: ast.AST) -> bool:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return any(ast.unparse(decorator).endswith("property") for decorator in decorators)


def _paragraphs(lines: list[str], first: int, *, value: bool) -> Iterator[Block]:
    """Yield the paragraphs, list items and entries of a docstring, whose first line has the number `first`."""
    block: list[str] = []
    start, section, level, entries = first, "", -1, -1
    for number, line in enumerate([*lines, ""], first):
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if text and indent <= level:
            section, level = "", -1
        elif text and section and entries < 0:
            entries = indent
        head = _SECTION.match(text)
        opens = _ITEM.match(text) or (section and indent == entries and _ENTRY.match(text))
        if block and (not text or head or opens):
            yield Block(start, "\n".join(block), value or section not in {"", "Raises"})
            block = []
        if head:
            section, level, entries = head[1], indent, -1
        elif text:
            start = start if block else number
            block.append(text[opens.end() :] if opens else text)


def _comments(source: str) -> Iterator[Block]:
    """Yield the comments, with those on consecutive lines of one column as one."""
    block: list[str] = []
    start = end = (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = token.string.lstrip("#").strip()
        item = _ITEM.match(text)
        follows = token.start == (end[0] + 1, end[1]) and token.line.lstrip().startswith("#")
        if block and (item or not text or not follows):
            yield Block(start[0], "\n".join(block), value=False)
            block = []
        end = token.start
        if text:
            start = start if block else end
            block.append(text[item.end() :] if item else text)
    if block:
        yield Block(start[0], "\n".join(block), value=False)


def sentences(block: Block) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each sentence.  The term before a colon, as in `name: text`, is one by itself."""
    masked = _CODE.sub(lambda code: f"`{'x' * (len(code[0]) - 2)}`", block.text)
    begin = 0
    while begin < len(masked):
        ends = [found.end() for found in (_TERM.match(masked, begin), _END.search(masked, begin)) if found]
        end = min(ends, default=len(masked))
        yield block.line + block.text.count("\n", 0, begin), " ".join(block.text[begin:end].split())
        begin = end


def broken_rules(sentence: str, *, value: bool) -> Iterator[str]:
    """Yield the rules that a sentence breaks, each with a remedy."""
    text = _CODE.sub("`x`", sentence)
    opening = text.lstrip("(*_“")
    clause = OPENINGS.match(opening) or (ADVERBS_OF_VALUES if value else ADVERBS).match(opening)
    if clause and not opening.rstrip("*_)”").endswith("?"):
        yield f'opens with "{opening.split()[0]}": begin with the subject, a noun or an imperative'
    text = USUAL.sub("", text)
    for phrase, instead in _PHRASES:
        if found := phrase.search(text):
            yield f'"{found[0]}": write {instead}'


def findings(file: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the rule and the sentence of each finding in a file."""
    for block in blocks(file):
        for line, sentence in sentences(block):
            for rule in broken_rules(sentence, value=block.value):
                yield line, rule, sentence


def files(path: Path) -> list[Path]:
    """Return the Python and Markdown files in a folder, without hidden ones, or the file itself."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    hidden = (any(part.startswith(".") for part in file.relative_to(path).parts) for file in found)
    return [file for file, skip in zip(found, hidden, strict=True) if file.suffix in {".md", ".py"} and not skip]


def main(arguments: list[str]) -> int:
    """Print the findings in these files and folders, or in the working directory, and return the exit code."""
    count = 0
    for path in map(Path, arguments or ["."]):
        if not path.exists():
            print(f"{path} does not exist: name a Python or Markdown file, or a folder", file=sys.stderr)
            return 2
        for file in files(path):
            for line, rule, sentence in sorted(findings(file)):
                count += 1
                print(f"{file}:{line}: {rule}: {sentence}")
    print(f"{count} findings; CONTRIBUTING.md has the rules of prose" if count else "no findings")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
