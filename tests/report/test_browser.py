"""The page in a real browser, without a network."""

from __future__ import annotations

import asyncio
import base64
import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report.browser import CHROMIUM, FLAGS, Tab, open_page
from report.searches import mixed, write_predictions

from cifar_tune.report.page import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
needs_poppler = pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="poppler-utils (pdftotext) is not installed"
)

DRAWN = [
    "best-plot", "compute-plot", "curves-plot", "parallel-plot", "importances-plot",
    *(f"slice-{number}-plot" for number in range(1, 7)), "contour-plot", "timeline-plot",
    "task-confusion-plot",
]  # fmt: skip
# Where a point of the first trace is in the window, after scrolling it into view.
POINT = """(() => {
    const plot = document.getElementById(%r);
    plot.scrollIntoView({block: "center", behavior: "instant"});
    const place = plot.getBoundingClientRect(), layout = plot._fullLayout, trace = plot._fullData[0], n = %d;
    const x = layout.xaxis, y = layout.yaxis;
    return [place.x + x._offset + x.d2p(trace.x[n]), place.y + y._offset + y.d2p(trace.y[n])];
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "search"
    search = mixed(folder, classes=["cat", "</script><script>alert(1)</script>", "frog"])
    search.run([], "diverged")  # it has no figure at all
    search.finish()
    write_predictions(folder, np.arange(60) % 3, [0, 3, 1])
    return write_report(folder)


def browse(page: Path, profile: Path, look: Callable[[Tab], Coroutine[Any, Any, None]]) -> None:
    """Open the page, look at it, and see that it neither complained nor asked for anything."""

    async def session() -> None:
        async with open_page(page, profile) as tab:
            await look(tab)
            assert tab.trouble == []
            assert [url for url in tab.requests if not url.startswith(("data:", "blob:"))] == [
                page.as_uri()
            ]

    asyncio.run(asyncio.wait_for(session(), 180))


def test_each_plot_is_drawn_and_answers_to_hover_zoom_and_legend(
    page: Path, tmp_path: Path
) -> None:
    async def look(tab: Tab) -> None:
        names = "[...document.querySelectorAll('.js-plotly-plot')].map((plot) => plot.id)"
        assert await tab.run(names) == DRAWN
        shown = "[...document.querySelectorAll('.js-plotly-plot')].every((plot) => plot.querySelector('.main-svg').getBoundingClientRect().width > 200)"
        assert await tab.run(shown)
        await hover(tab)
        await zoom(tab)
        await hide(tab)
        await sort(tab)

    browse(page, tmp_path, look)


async def hover(tab: Tab) -> None:
    """A point under the mouse tells its trial."""
    await tab.run(
        "document.getElementById('best-plot').on('plotly_hover', (event) => { window.told = event.points[0].customdata; })"
    )
    x, y = await tab.run(POINT % ("best-plot", 4))
    await tab.mouse("mouseMoved", x - 30, y + 40)
    await tab.mouse("mouseMoved", x, y)
    await tab.until("window.told === 't0005'")
    await tab.until(
        "document.querySelector('#best-plot .hoverlayer')?.textContent.includes('t0005')"
    )


async def zoom(tab: Tab) -> None:
    """A drag over a part of a plot shows that part."""
    x, y = await tab.run(POINT % ("compute-plot", 0))
    before = await tab.run("document.getElementById('compute-plot')._fullLayout.xaxis.range")
    await tab.mouse("mouseMoved", x + 20, y - 150)
    await tab.mouse("mousePressed", x + 20, y - 150, button="left", buttons=1, clickCount=1)
    for step in range(1, 6):
        await tab.mouse(
            "mouseMoved", x + 20 + 20 * step, y - 150 + 20 * step, button="left", buttons=1
        )
    await tab.mouse("mouseReleased", x + 120, y - 50, button="left", clickCount=1)
    await tab.until(
        f"document.getElementById('compute-plot')._fullLayout.xaxis.range[1] < {before[1]}"
    )


async def hide(tab: Tab) -> None:
    """A click on the legend hides the trials of a status."""
    place = await tab.run("""(() => {
        document.getElementById("curves-plot").scrollIntoView({block: "center", behavior: "instant"});
        const entry = [...document.querySelectorAll("#curves-plot .traces")].find((one) => one.textContent.includes("stopped"));
        const box = entry.querySelector(".legendtoggle").getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    })()""")
    await tab.click(*place)
    hidden = "document.getElementById('curves-plot').data.filter((one) => one.visible === 'legendonly').map((one) => one.name)"
    await tab.until(f"{hidden}.length")
    assert await tab.run(hidden) == ["stopped", "end of stopped"]


async def sort(tab: Tab) -> None:
    """A click on a heading sorts by numbers; what is empty comes last both ways."""
    order = "[...document.querySelectorAll('.sortable tbody tr')].map((row) => row.cells[0].textContent)"
    click = "document.querySelectorAll('.sortable th button')[4].click()"
    await tab.run(click)
    up = await tab.run(order)
    await tab.run(click)
    down = await tab.run(order)
    figures = "[...document.querySelectorAll('.sortable tbody tr')].map((row) => row.cells[4].textContent)"
    shown = [float(text) for text in await tab.run(figures) if text]
    assert shown == sorted(shown, reverse=True)
    assert up[len(shown) :] == down[len(shown) :] == ["t0041"]


def test_light_dark_phone_and_print_fit_and_can_be_read(page: Path, tmp_path: Path) -> None:
    async def look(tab: Tab) -> None:
        colour = "document.getElementById('best-plot')._fullLayout.font.color"
        light = await tab.run(colour)
        await tab.media(dark=True)
        await tab.until(f"{colour} !== {light!r}")
        assert (await darkness(tab)) < 60
        await tab.media(width=390)
        await tab.until(f"{colour} === {light!r}")
        assert (await darkness(tab)) > 200
        assert await tab.run("document.documentElement.scrollWidth") <= 390
        assert await tab.run(
            "[...document.querySelectorAll('section, section > p, h1, h2, h3')].every((one) => one.getBoundingClientRect().right <= 390)"
        )
        await tab.media(kind="print", width=760)
        assert await tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"

    browse(page, tmp_path, look)


def test_the_toolbar_is_seen_under_the_mouse_only(page: Path, tmp_path: Path) -> None:
    async def look(tab: Tab) -> None:
        bars = (
            "[...document.querySelectorAll('.modebar')].map((bar) => getComputedStyle(bar).opacity)"
        )
        assert set(await tab.run(bars)) == {"0"}
        x, y = await tab.run(POINT % ("best-plot", 4))
        await tab.mouse("mouseMoved", x, y)
        await tab.until(f"({bars}).filter((one) => one === '1').length === 1")

    browse(page, tmp_path, look)


def test_paper_is_white_and_narrow_and_leaves_no_trace(page: Path, tmp_path: Path) -> None:
    """Also where the reader's theme is dark, and where nobody has scrolled to the plots."""

    async def look(tab: Tab) -> None:
        colour = "document.getElementById('best-plot')._fullLayout.font.color"
        widths = "[...document.querySelectorAll('.js-plotly-plot')].map((plot) => plot._fullLayout.width)"
        light, wide = await tab.run(colour), await tab.run(widths)
        await tab.media(dark=True)
        await tab.until(f"{colour} !== {light!r}")
        dark = await tab.run(colour)
        await tab.run("window.dispatchEvent(new Event('beforeprint'))")
        assert await tab.run(colour) == light
        assert max(await tab.run(widths)) <= 680
        await tab.run("window.dispatchEvent(new Event('afterprint'))")
        await tab.until(f"{colour} === {dark!r}")
        await tab.until(f"JSON.stringify({widths}) === JSON.stringify({wide})")

    browse(page, tmp_path, look)


def plots_of(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Of each plot on the page its caption and the titles of its axes."""
    figure = r"<figcaption>([^<]*)</figcaption>\s*<div[^{]*<script[^>]*>(\{.*?\})</script>"
    for caption, content in re.findall(figure, page.read_text()):
        layout = json.loads(content)["layout"]
        axes = [axis for name, axis in layout.items() if re.fullmatch(r"[xy]axis\d*", name)]
        titles = [axis["title"]["text"] for axis in axes if axis.get("title", {}).get("text")]
        if not titles:  # parallel coordinates have the names of their axes as ticks
            ticks = [name for axis in axes for name in axis.get("ticktext", [])]
            titles = [part for name in ticks for part in name.split("<br>")]
        yield html.unescape(caption), titles


def words_of(pdf: bytes) -> list[str]:
    """The words of each page, without their spaces: a narrow title may go on in another line."""
    told = subprocess.run(["pdftotext", "-", "-"], input=pdf, capture_output=True, check=True)
    return ["".join(text.split()) for text in told.stdout.decode().split("\f")]


def check_print(page: Path, pdf: bytes) -> None:
    """Each plot is drawn, and stands on one sheet together with its sentence."""
    sheets, count = words_of(pdf), 0
    for caption, titles in plots_of(page):
        count += 1
        start = "".join(caption.split())[:30]
        places = [sheet for sheet in sheets if start in sheet]
        assert places, caption
        wanted = ["".join(title.split()) for title in titles]
        assert wanted, caption
        assert any(all(title in sheet for title in wanted) for sheet in places), (caption, titles)
    assert count == len(DRAWN)


@needs_poppler
@pytest.mark.parametrize("paper", [(8.27, 11.69), (8.5, 11.0)], ids=["A4", "letter"])
def test_each_plot_is_printed_whole(page: Path, tmp_path: Path, paper: tuple[float, float]) -> None:
    async def look(tab: Tab) -> None:
        printed = await tab.call("Page.printToPDF", paperWidth=paper[0], paperHeight=paper[1])
        check_print(page, base64.b64decode(printed["data"]))

    browse(page, tmp_path, look)


@needs_poppler
def test_a_browser_that_only_prints_prints_each_plot(page: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    pdf = tmp_path / "page.pdf"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", f"--print-to-pdf={pdf}"]
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=120)
    check_print(page, pdf.read_bytes())


async def darkness(tab: Tab) -> float:
    """The middle grey of what is seen, 0 to 255."""
    picture = await tab.call("Page.captureScreenshot", format="png")
    return float(
        np.median(
            np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["data"]))).convert("L"))
        )
    )
