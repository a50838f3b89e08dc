"""Builds the site: stages the pages, writes `llms.txt`, lets zensical build, checks every link.

The pages of the site are those of docs, and what they link to elsewhere in the repository: results,
the changelog. All of them are copied into build/docs, where a link to a file outside of docs leads
to its copy. Beside each page of the site stands its Markdown, which `llms.txt` lists.

zensical refuses a link in Markdown that leads nowhere. It does not see links that docstrings make,
so every link and anchor of the HTML is checked too, and that no page loads anything from elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "zensical.toml"

LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(?=\))")
"""A link or an image of Markdown to a file: the bracket, the path, the anchor."""

LOADING = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
"""What a browser loads by itself, by its tag."""


def place(path: Path) -> Path:
    """Return where a file of the repository stands in the site."""
    docs = ROOT / "docs"
    return path.relative_to(docs if path.is_relative_to(docs) else ROOT)


def links(text: str) -> Iterator[re.Match[str]]:
    """Yield the links of a page to files, without those in blocks of code."""
    fences = [match.span() for match in re.finditer(r"^```.*?^```", text, re.DOTALL | re.MULTILINE)]
    for match in LINK.finditer(text):
        if not any(start < match.start() < end for start, end in fences):
            yield match


def moved(text: str, page: Path) -> tuple[str, list[Path]]:
    """Return a page as it stands in the site, and the files that it links to."""
    pieces, found, end = [], [], 0
    for match in links(text):
        target = (page.parent / match[2]).resolve()
        if not target.is_relative_to(ROOT):
            raise SystemExit(f"site: {page}: {match[2]} leads out of the repository")
        found.append(target)
        path = os.path.relpath(place(target), place(page).parent)
        pieces += [text[end : match.start(2)], Path(path).as_posix()]
        end = match.end(2)
    return "".join([*pieces, text[end:]]), found


def stage(folder: Path, pages: list[str]) -> None:
    """Copy the pages of docs, those of the navigation, and all that they link to."""
    shutil.rmtree(folder, ignore_errors=True)
    waiting = [path for path in sorted((ROOT / "docs").rglob("*")) if path.is_file()]
    waiting += [ROOT / page for page in pages if not (ROOT / "docs" / page).exists()]
    done: set[Path] = set()
    while waiting:
        path = waiting.pop(0)
        if path in done or not path.is_file():
            continue
        done.add(path)
        copy = folder / place(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            text, found = moved(path.read_text(), path)
            copy.write_text(text)
            waiting += found
        else:
            shutil.copyfile(path, copy)


def entries(nav: list[Any], section: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield section, title and path of each page of the navigation; a title may be empty."""
    for each in nav:
        if isinstance(each, str):
            yield section, "", each
            continue
        for title, inside in each.items():
            if isinstance(inside, str):
                yield section, title, inside
            else:
                yield from entries(inside, title)


def summary(text: str) -> str:
    """Return the first sentence of a page, without its markup."""
    blocks = (each.strip() for each in text.split("\n\n")[1:])
    first = next((each for each in blocks if not re.match(r"#|\||```|!|:::|<|$", each)), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(first.split()))
    return re.split(r"(?<=[.?!:]) (?=[A-Z`])", plain)[0]


def llms(folder: Path, project: dict[str, Any]) -> str:
    """Return `llms.txt`: every page of the navigation with its first sentence."""
    lines = [f"# {project['site_name']}", "", f"> {project['site_description']}."]
    last = None
    for section, title, path in entries(project["nav"]):
        if section != last:
            lines += ["", f"## {section or 'Start'}", ""]
            last = section
        text = (folder / path).read_text()
        name = title or text.split("\n", 1)[0].removeprefix("# ")
        lines.append(f"- [{name}]({path}): {summary(text)}")
    return "\n".join(lines) + "\n"


class Page(HTMLParser):
    """What a page of the site has: its anchors, its links, and what it loads."""

    def __init__(self, text: str) -> None:
        """Read a page."""
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one tag has."""
        found = {name: value or "" for name, value in attrs}
        self.anchors.update(found[name] for name in ("id", "name") if name in found)
        if tag == "a" and "href" in found:
            self.targets.append(found["href"])
        if value := found.get(LOADING.get(tag, "")):
            self.loaded.append(value)


def faults(folder: Path) -> Iterator[str]:
    """Yield each link that leads nowhere, and each thing that a page loads from elsewhere."""
    pages = {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(folder)
        for link in [*page.targets, *page.loaded]:
            if re.match(r"[a-z]+:|//", link):
                if link in page.loaded and not link.startswith("data:"):
                    yield f"{name} loads {link}"
                continue
            file, _, anchor = unquote(link).partition("#")
            base = folder if path.name == "404.html" else path.parent
            target = (base / file.lstrip("/")).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{name}: {link} leads nowhere"
            elif anchor and target in pages and anchor not in pages[target].anchors:
                yield f"{name}: {link} leads to no heading"


def orphans(folder: Path, pages: list[str]) -> Iterator[str]:
    """Yield each page that only links lead to; decisions are listed on a page of their own."""
    for path in sorted(folder.rglob("*.md")):
        name = path.relative_to(folder).as_posix()
        if name not in pages and not name.startswith(("adr/", "benchmarks/")):
            yield f"{name} is not in the navigation of zensical.toml"


def main() -> int:
    """Build the site, and return 1 if anything is wrong with it."""
    project = tomllib.loads(CONFIG.read_text())["project"]
    docs, site = ROOT / project["docs_dir"], ROOT / project["site_dir"]
    pages = [path for _, _, path in entries(project["nav"])]
    stage(docs, pages)
    listing = llms(docs, project)
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        return 1
    (site / "llms.txt").write_text(listing)
    for path in docs.rglob("*.md"):
        shutil.copyfile(path, site / path.relative_to(docs))
    found = list(faults(site))
    print(*orphans(docs, pages), *found, sep="\n")
    number = len(list(site.rglob("*.html")))
    print(f"{number} pages in {site.relative_to(ROOT)}, {len(found)} faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
