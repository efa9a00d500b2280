"""Look whether every link of the site that leads to the site arrives.

python docs/links.py FOLDER
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page of HTML links to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what a tag has of them."""
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.add(value or "")
            elif name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value or "")


def dead_links(site: Path) -> list[str]:
    """Return the links that lead nowhere, each behind the page that has it."""
    site = site.resolve()
    pages = {
        path: Page(path.read_text())
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts  # the theme keeps a template there
    }
    dead = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = goal.is_file() and goal.is_relative_to(site)
            anchor = unquote(parts.fragment)
            if there and anchor and goal in pages:
                there = anchor in pages[goal].anchors
            if not there:
                dead.append(f"{path.relative_to(site)}: {link}")
    return dead


if __name__ == "__main__":
    sys.exit("\n".join(dead_links(Path(sys.argv[1]))) or None)
