"""What the site needs beyond docs/: the README as its first page, the pages beside it, files that pages link to."""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
#: Pages of the checkout's top, by their place on the site.
BESIDE = {
    "index.md": "README.md",
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
}
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Take in what is linked to: files as they are, folders not."""
    for place, source in BESIDE.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text()))
    for target in sorted(_linked(files)):
        files.append(File.generated(config, f"files/{target}", abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links that leave docs/ lead to the copies; those to folders are text."""
    place = page.file.src_uri

    def led(found: re.Match[str]) -> str:
        target = _target(place, found[2])
        if target is None:
            return found[0]
        there = _on_the_site(target)
        if there is None:
            return f"]({_home(place)})" if found[2] else found[0]
        return f"{found[1]}{os.path.relpath(there, os.path.dirname(place) or '.')}{found[3] or ''}{found[4]}"

    return _LINK.sub(led, markdown)


def _home(place: str) -> str:
    return os.path.relpath("index.md", os.path.dirname(place) or ".")


def _target(place: str, link: str) -> str | None:
    """The path in the checkout that a link of a page leads to; None for what is no path there."""
    source = BESIDE.get(place, f"docs/{place}")
    target = os.path.normpath(os.path.join(os.path.dirname(source), link))
    return target if not target.startswith("..") and (ROOT / target).exists() else None


def _on_the_site(target: str) -> str | None:
    places = {source: place for place, source in BESIDE.items()}
    if target in places:
        return places[target]
    if (ROOT / target).is_dir():
        return None
    return target.removeprefix("docs/") if target.startswith("docs/") else f"files/{target}"


def _linked(files: Files) -> set[str]:
    pages = [(each.src_uri, each.content_string) for each in files if each.src_uri.endswith(".md")]
    found = {_target(place, link[1]) for place, text in pages for link in _LINK.findall(text)}
    wanted = {target for target in found if target and not target.startswith("docs/") and target not in BESIDE.values()}
    return {target for target in wanted if (ROOT / target).is_file() and not target.endswith(".md")}
