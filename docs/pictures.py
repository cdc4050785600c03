"""Draws the two pictures of README.md: the page of a search, and its live table half-way.

    python docs/pictures.py                # runs a small search on the drawn set first, 3 minutes
    python docs/pictures.py results/mine   # takes this search

It needs Chromium, and writes `page.png` and `live.svg` beside itself.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Results
from cifar_tune.report.page import write_report
from cifar_tune.report.picture import picture

PAGE, LIVE = "page.png", "live.svg"
PAGE_WIDTH, PAGE_HEIGHT = 1280, 1500  # pixels: the answer, its models and the first plots
TABLE_WIDTH, TABLE_HEIGHT = 112, 30  # characters
DRAWING_MILLISECONDS = 20_000  # that the page's plots may take
TOLD = 0.6  # of the trials have begun when the table is drawn
NOWHERE = "http://127.0.0.1:9"  # a proxy that is not there, so that the search draws its images
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="a results folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to (docs)")
    arguments = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"error: none of {', '.join(BROWSERS)} is installed; install one of them")
    with tempfile.TemporaryDirectory() as place:
        folder = (arguments.folder or search(Path(place))).absolute()
        (arguments.out / LIVE).write_text(live_table(folder), encoding="utf-8")
        take_picture(browser, page(folder, Path(place)), arguments.out / PAGE)


def search(place: Path) -> Path:
    """Run the first search of `make tune` on the drawn set; its results folder."""
    words = ["--config", "quickstart", "--out", str(place), "--name", "first-search"]
    away = {"CIFAR_TUNE_CACHE": str(place / "cache"), "https_proxy": NOWHERE, "no_proxy": ""}
    subprocess.run(
        [sys.executable, "-m", "cifar_tune.tune", *words], env={**os.environ, **away}, check=True
    )
    return place / "first-search"


def live_table(folder: Path) -> str:
    """The live table as an SVG, as it stood when the search was about half done."""
    results, elapsed = half_way(folder)
    console = Console(record=True, width=TABLE_WIDTH, file=io.StringIO())
    console.print(picture(results, elapsed, width=TABLE_WIDTH, height=TABLE_HEIGHT))
    drawn = console.export_svg(title="cifar-tune tune", unique_id="live")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)  # they lie on a server


def half_way(folder: Path) -> tuple[Results, float]:
    """The search after its first report with every slot at work and enough trials begun.

    Returns:
        What the journal tells up to there, and the seconds since its last start.
    """
    results, began = Results(folder=folder), 0.0
    for event in read_journal(folder).events:
        results.apply(event)
        if event["event"] == "start":
            began = event["time"]
        running = [trial for trial in results.trials.values() if trial.status == "running"]
        enough = len(results.trials) >= TOLD * results.plan.search.num_samples
        if enough and len(running) == results.starts[-1].slots and all(t.epochs for t in running):
            return results, event["time"] - began
    sys.exit(f"error: all slots of {folder} were never at work at once; name another search")


def page(folder: Path, place: Path) -> Path:
    """The page in a file of its own, with commands as they are given from the folder above."""
    text = write_report(folder).read_text(encoding="utf-8")
    shown = place / "report.html"
    shown.write_text(text.replace(str(folder), f"results/{folder.name}"), encoding="utf-8")
    return shown


def take_picture(browser: str, page: Path, to: Path) -> None:
    """The top of a page, once its plots are drawn."""
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        f"--user-data-dir={page.parent / 'profile'}", f"--window-size={PAGE_WIDTH},{PAGE_HEIGHT}",
        f"--virtual-time-budget={DRAWING_MILLISECONDS}", f"--screenshot={to.absolute()}",
    ]  # fmt: skip
    subprocess.run([browser, *flags, page.as_uri()], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
