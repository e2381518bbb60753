"""Hooks of the documentation site: the navigation from docs/index.md, and pages from other folders."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PROJECT = {name: f"project/{name.lower()}" for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")}
PROJECT["benchmarks/README.md"] = "project/benchmarks.md"
"""The pages from other folders: the path in the checkout, and the path on the site."""

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
_BLOCK = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the navigation of the headings and the links of docs/index.md."""
    _, *sections = navigation("index.md")
    config.nav = [{"Overview": "index.md"}, *sections]
    return config


def navigation(index: str) -> list[Any]:
    """Return the navigation of an index: a section for each heading, with the pages that its list items link to.

    A link to another index becomes a section with the pages of that index.

    Args:
        index: The path of the index below docs/.
    """
    folder = posixpath.dirname(index)
    pages: list[Any] = [index]
    sections = {1: pages}
    for line in (ROOT / "docs" / index).read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"(##+) (.*)", line):
            level = len(heading[1])
            pages = sections[level] = []
            sections[level - 1].append({heading[2]: pages})
        elif re.match(r"(?:-|\d+\.) ", line):
            for text, path in re.findall(r"\[([^\]]*)\]\(([^)#:]+\.md)\)", line):
                page = posixpath.normpath(posixpath.join("docs", folder, path))
                page = PROJECT.get(page) or page.removeprefix("docs/")
                is_index = posixpath.basename(page) == "index.md"
                pages.append({text.replace("`", ""): navigation(page) if is_index else page})
    return sections[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from other folders."""
    for source, target in PROJECT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Redirect links to the pages from other folders, and replace links to files that the site lacks by their text."""
    del config
    here = page.file.src_uri
    sources = {target: source for source, target in PROJECT.items()}
    origin = posixpath.dirname(sources.get(here, f"docs/{here}"))

    def resolve(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(origin, link["path"]))
        target = PROJECT.get(path) or path.removeprefix("docs/")
        if (path in PROJECT or path.startswith("docs/")) and files.get_file_from_path(target):
            relative = posixpath.relpath(target, posixpath.dirname(here))
            return f"[{link['text']}]({relative}{link['anchor'] or ''})"
        return link["text"]

    parts = _BLOCK.split(markdown)
    return "".join(part if number % 2 else _LINK.sub(resolve, part) for number, part in enumerate(parts))
