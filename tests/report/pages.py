"""The page as a program reads it: its elements, its text, the plots that it has."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from plotly.offline import get_plotlyjs

from cifar_tune.report.page import FILE_NAME, write_report


def written(folder: Path) -> str:
    path = write_report(folder)
    assert path == folder / FILE_NAME
    return path.read_text()


def without_plotly(page: str) -> str:
    source = get_plotlyjs()
    assert page.count(source) == 1, "plotly's source is there once"
    return page.replace(source, "")


class Elements(HTMLParser):
    """The page's elements with their attributes, its scripts, and its text without scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(without_plotly(page))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        self.words.append(" " if tag in ("td", "th", "dt", "dd") else "")

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def plots_of(page: str) -> list[str]:
    return re.findall(r'data-plot="([\w-]+)-plot"', page)
