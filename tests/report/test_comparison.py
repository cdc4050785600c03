"""`cifar-tune compare`: one page of several searches, its verdict, and what it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from report.browser import CHROMIUM, open_page
from report.searches import WrittenSearch, usual

from cifar_tune.report.comparison import differences, figure_of, read_all, verdict
from cifar_tune.tune import main


def scored(folder: Path, mean: float, half: float, *overrides: str) -> WrittenSearch:
    """A search whose final models have this mean score, and an interval of twice `half`."""
    search = usual(folder, *overrides)
    about = {"trial_id": "t0004", "epoch": 3, "number": 1}
    search.write("test_opened", **about, fingerprint="f")
    interval = [mean - half, mean + half]
    more = {"mean": mean, "std": 0.01, "ci95": interval, "test_images": 60, "flip_averaging": False}
    scores = [mean - 0.01, mean, mean + 0.01]
    search.write("test_scored", **about, seeds=[3, 4, 5], test_accuracy=scores, **more)
    search.finish()
    return search


def test_the_verdict_has_an_interval_by_which_searches_can_be_told_apart_or_not(
    tmp_path: Path,
) -> None:
    scored(tmp_path / "a", 0.70, 0.03)
    scored(tmp_path / "b", 0.75, 0.04)
    scored(tmp_path / "c", 0.60, 0.03)
    usual(tmp_path / "d").finish()
    told = verdict(read_all([tmp_path / name for name in "abcd"]))
    assert told[0].endswith("(cifar-tune confirm DIR) there is no interval for d.")
    assert told[1] == (
        "b is ahead of a by 0.0500 in test accuracy, 95 % interval 0 to 0.100: they can't be told"
        " apart."
    )
    assert "b is ahead of c by 0.150" in told[2]
    assert told[2].endswith("interval 0.100 to 0.200: it is better.")
    assert "a 0.750, b 0.750" in told[3]


def test_compute_is_compared_at_what_all_came_to(tmp_path: Path) -> None:
    quick = WrittenSearch(tmp_path / "quick")
    quick.run([0.5, 0.6, 0.7])
    slow = WrittenSearch(tmp_path / "slow")
    for best in (0.3, 0.6):
        slow.run([0.1, 0.2, best])
    for search in (quick, slow):
        search.finish()
    compared = read_all([tmp_path / "quick", tmp_path / "slow"])
    assert verdict(compared)[-1] == (
        "0.600, which all came to, was reached in CPU seconds of training: quick after 4.00, slow"
        " after 12.0."
    )
    assert not isinstance(figure_of(compared), str)


def test_only_what_differs_is_listed(tmp_path: Path) -> None:
    usual(tmp_path / "x" / "a").finish()
    usual(
        tmp_path / "y" / "a",
        "search.searcher=tpe",
        "search.space.optim.lr={loguniform: [0.1, 1]}",
        fingerprint="1" * 64,
    ).finish()
    compared = read_all([tmp_path / "x" / "a", tmp_path / "y" / "a"])
    assert [one.name for one in compared] == ["x/a", "y/a"]
    assert differences(compared) == {
        "search.searcher": ["random", "tpe"],
        "search.space.optim.lr": ['{"loguniform": [0.01, 1.0]}', '{"loguniform": [0.1, 1]}'],
        "found fingerprint": ["0" * 64, "1" * 64],
    }
    assert verdict(compared)[0].startswith("The data differs in its fingerprint: it was prepared")


def test_on_different_data_there_is_no_verdict(tmp_path: Path) -> None:
    usual(tmp_path / "a").finish()
    usual(tmp_path / "b", source="/elsewhere", train=7, fingerprint="1" * 64).finish()
    (told,) = verdict(read_all([tmp_path / "a", tmp_path / "b"]))
    assert told.startswith("The searches ran on different data: no verdict")


def test_searches_on_gpus_and_on_cpus_have_no_common_axis(tmp_path: Path) -> None:
    usual(tmp_path / "a").finish()
    usual(tmp_path / "b", "resources.gpus_per_trial=1").finish()
    compared = read_all([tmp_path / "a", tmp_path / "b"])
    assert figure_of(compared) == (
        "Some count CPU seconds and some GPU seconds, which have no common axis."
    )


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["a"], "to compare takes two different searches"),
        (["a", "a"], "to compare takes two different searches"),
        (["a", "loss"], "a goes by val_accuracy (max) and loss goes by val_loss (min); searches"),
        (["a", "nowhere"], "nowhere holds no search"),
        (["a", "b", "--out", "/proc/x.html"], "/proc/x.html can't be written"),
    ],
)
def test_what_can_not_be_compared_is_refused(
    folders: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    usual(tmp_path / "a").finish()
    usual(tmp_path / "b").finish()
    usual(tmp_path / "loss", "search.metric=val_loss").finish()
    assert main(["compare", *folders]) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "comparison.html").exists()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_is_drawn_without_network_and_fits_a_telephone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = tmp_path / "<script>alert(1)"
    usual(tmp_path / "a").finish()
    usual(hostile).finish()
    assert main(["compare", "a", hostile.name, "--out", "both.html"]) == 0
    assert str(tmp_path / "both.html") in capsys.readouterr().out

    async def looked_at() -> None:
        async with open_page(tmp_path / "both.html", tmp_path / "profile") as tab:
            assert await tab.run("document.querySelectorAll('.js-plotly-plot').length") == 1
            assert await tab.run("document.title") == "a, <script>alert(1) · cifar_tune"
            await tab.media(dark=True, width=390)
            assert await tab.run("document.documentElement.scrollWidth") <= 390
            assert tab.trouble == []
            assert [url for url in tab.requests if url.startswith("http")] == []

    asyncio.run(looked_at())
