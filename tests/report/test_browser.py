"""The page in a real browser, without a network."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report.browser import CHROMIUM, Tab, open_page
from report.searches import usual, write_predictions

from cifar_tune.report.page import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

DRAWN = [
    "best-plot", "compute-plot", "curves-plot", "parallel-plot", "importances-plot", "slice-1-plot",
    "slice-2-plot", "slice-3-plot", "slice-4-plot", "contour-plot", "timeline-plot",
    "confusion-plot",
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
    usual(folder, classes=["cat", "</script><script>alert(1)</script>", "frog"]).finish()
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

    asyncio.run(asyncio.wait_for(session(), 60))


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
    assert await tab.until("window.told") == "t0005"
    assert "t0005" in await tab.until(
        "document.querySelector('#best-plot .hoverlayer')?.textContent"
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
    assert (await tab.run(order))[:3] == ["t0005", "t0006", "t0007"]
    await tab.run(click)
    assert (await tab.run(order))[0] == "t0004"


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
        await tab.media(kind="print", width=760)
        assert await tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"
        printed = await tab.call("Page.printToPDF")
        assert base64.b64decode(printed["data"]).startswith(b"%PDF")

    browse(page, tmp_path, look)


async def darkness(tab: Tab) -> float:
    """The middle grey of what is seen, 0 to 255."""
    picture = await tab.call("Page.captureScreenshot", format="png")
    return float(
        np.median(
            np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["data"]))).convert("L"))
        )
    )
