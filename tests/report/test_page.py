from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report.pages import Elements, plots_of, without_plotly, written
from report.searches import WrittenSearch, mixed, usual, write_predictions

from cifar_tune.errors import ResultsError
from cifar_tune.plan.task import task_of
from cifar_tune.report.page import FILE_NAME, write_report

HOSTILE = "</script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>"
PLOTS = ("best", "compute", "curves", "parallel", "importances", "timeline", "task-confusion")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search with all there is, and a user's text that wants to break out."""
    folder = tmp_path_factory.mktemp("pages") / "a <b> & search"
    classes = ["cat", HOSTILE, "<a href='http://evil.example'>frog</a>"]
    search = usual(
        folder,
        "search.space.optim.name={choice: [sgd, adamw]}",
        classes=classes,
        source=HOSTILE,
        notes=[HOSTILE],
    )
    name = search.create()
    search.end(name, "failed", HOSTILE, kind="out of memory")
    score = {"trial_id": "t0004", "epoch": 3, "number": 0, "seeds": [3], "test_accuracy": [0.7]}
    search.write("test_opened", trial_id="t0004", epoch=3, number=0, fingerprint="f")
    more = {"mean": 0.7, "std": None, "ci95": None, "test_images": 60, "flip_averaging": False}
    search.write("test_scored", **score, **more)
    search.finish()
    write_predictions(folder, np.arange(60) % 3, [0, 3, 1])
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return written(folder)


def test_the_answer_comes_first(page: str) -> None:
    text = Elements(page).text
    text = text[text.index("The answer") :]
    places = [text.index(words) for words in (
        "The answer", "0.700", "test accuracy", "0.750", "Winner t0004", "cifar-tune predict",
        "Best so far", "Learning curves", "Parallel coordinates", "Importance of each field",
        "One field at a time", "Two fields together", "Trials over slots", "Compute ledger",
        "Confusion matrix", "Most confident mistakes", "Failures", "All trials", "Environment",
    )]  # fmt: skip
    assert places == sorted(places)
    assert "This search" not in Elements(page).text  # no banner: it is finished
    assert "has no interval yet" in text


def test_every_plot_is_there_with_its_sentence(page: str) -> None:
    assert [name for name in plots_of(page) if not name.startswith("slice")] == list(PLOTS)
    pictures = [attrs for _, attrs in Elements(page).found if attrs.get("role") == "img"]
    assert len(pictures) == len(plots_of(page))
    assert all(re.search(r"\d", attrs["aria-label"] or "") for attrs in pictures)


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    rest = without_plotly(page)
    assert not re.findall(r"url\(\s*['\"]?(?!data:)", rest)
    assert not re.findall(r"@import|//cdn", rest)
    for tag, attrs in Elements(page).found:
        address = attrs.get("src") or attrs.get("href") or "#"
        assert address.startswith(("#", "data:")), (tag, address)
    policy = next(a["content"] for _, a in Elements(page).found if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_no_text_of_a_user_breaks_out(page: str) -> None:
    elements = Elements(page)
    nonces = {attrs.get("nonce") for tag, attrs in elements.found if tag == "script"}
    assert len(nonces) == 1
    assert None not in nonces
    assert not [a for _, a in elements.found if any(key.startswith("on") for key in a)]
    assert not [
        a for tag, a in elements.found if tag == "img" and not (a["src"] or "").startswith("data:")
    ]
    assert HOSTILE in elements.text
    assert "a <b> & search" in elements.text
    assert "alert(1)" not in "".join(s for s in elements.scripts if not s.startswith("{"))


def test_a_class_named_as_a_link_is_no_link_in_a_plot(page: str) -> None:
    scripts = [json.loads(text) for text in Elements(page).scripts if text.startswith("{")]
    names = next(s for s in scripts if s["data"][0]["type"] == "heatmap")["data"][0]["x"]
    assert names[2] == "&lt;a href='http://evil.example'>frog&lt;/a>"


def test_the_page_is_rewritten_whole(folder: Path, page: str) -> None:
    assert not list(folder.glob(".report*"))
    assert (folder / FILE_NAME).stat().st_size < 6e6
    for words in ("<html lang=", "<title>a &lt;b&gt; &amp; search: test accuracy", "viewport"):
        assert words in page


def test_drawn_data_are_said_to_be_drawn(tmp_path: Path) -> None:
    usual(tmp_path, kind="drawn").finish()
    text = Elements(written(tmp_path)).text
    assert "All figures are on the DRAWN set, not CIFAR-10." in text[: text.index("The answer")]


def test_a_running_a_stopped_and_a_killed_search_say_so_at_the_top(tmp_path: Path) -> None:
    search = usual(tmp_path)
    name = search.create()
    search.report(name, 1, 0.3)
    text = Elements(written(tmp_path)).text
    assert text.index("This search is still running") < text.index("The answer")
    assert "cifar_tune.tune resume" not in text[: text.index("The answer")]
    search.leave()
    text = Elements(written(tmp_path)).text
    assert text.index("This search was killed") < text.index("The answer")
    assert f"cifar_tune.tune resume {tmp_path}" in text[: text.index("The answer")]
    assert "1 interrupted" in text


def test_a_search_that_was_stopped_says_so_while_its_process_still_lives(tmp_path: Path) -> None:
    search = usual(tmp_path)
    search.write("stopped", reason="time budget")
    assert "This search was stopped" in Elements(written(tmp_path)).text
    search.start()
    assert "still running" in Elements(written(tmp_path)).text


def test_a_search_by_the_bohb_of_earlier_versions_can_be_read(tmp_path: Path) -> None:
    usual(tmp_path, "search.searcher=bohb", "search.scheduler=bohb").leave()
    assert "bohb + bohb" in Elements(written(tmp_path)).text


@pytest.mark.parametrize(
    ("overrides", "trials"),
    [
        ((), 0),
        ((), 1),
        (("search.space={optim.lr: {loguniform: [0.001, 1.0]}}",), 5),
        (("search.scheduler=pbt", "search.space={optim.lr: {loguniform: [0.001, 1.0]}}"), 4),
        (("search.winner_by=last", "search.metric=val_loss"), 5),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", ["completed", "diverged", "failed"])
def test_every_search_gets_a_page(
    tmp_path: Path, overrides: tuple[str, ...], trials: int, status: str
) -> None:
    search = WrittenSearch(tmp_path, *overrides)
    for number in range(trials):
        values = {
            name: 0.1 / (number + 1) for name in search.plan.search.space if name == "optim.lr"
        }
        search.write(
            "trial_created", trial_id=f"t{number + 1:04}", index=number, seed=0, values=values
        )
        if status == "completed" or number % 2:
            diverged = status == "diverged"
            accuracy = None if diverged else 0.2 + 0.1 * number
            search.report(f"t{number + 1:04}", 1, accuracy, diverged=diverged)
        search.end(f"t{number + 1:04}", status, "why")
    search.leave()
    page = written(tmp_path)
    text = Elements(page).text
    missing = set(PLOTS) - set(plots_of(page))
    captions = re.findall(r"<figcaption>(.+?)</figcaption>", page)
    assert len(captions) >= len(PLOTS)  # a missing plot has its reason there
    assert "task-confusion" in missing
    if status != "completed" and trials:
        assert "No trial has an epoch that it can be judged by" in text
        assert {"best", "importances", "parallel"} <= missing


def test_a_population_shows_the_values_of_the_epoch_that_counts(tmp_path: Path) -> None:
    search = WrittenSearch(
        tmp_path, "search.scheduler=pbt", "search.num_samples=2",
        "search.space={optim.lr: {uniform: [0.01, 1.0]}}",
    )  # fmt: skip
    for rate, accuracy in ((0.25, 0.9), (0.5, 0.1)):
        name = search.create(**{"optim.lr": rate})
        for epoch in (1, 2):
            search.report(name, epoch, accuracy)
    clone = {
        "trial_id": "t0002",
        "source": "t0001",
        "values": {"optim.lr": 0.75},
        "checkpoint": "x",
    }
    search.write("exchanged", epoch=2, clones=[clone])
    search.report("t0002", 3, 0.95)
    search.report("t0001", 3, 0.8)
    search.finish()
    rows = re.findall(r'<tr[^>]*><th scope="row">(t\d+)</th>(.*?)</tr>', written(tmp_path))
    assert [(name, re.findall(r"<td>([^<]*)</td>", cells)[-1]) for name, cells in rows] == [
        ("t0001", "0.25"), ("t0002", "0.75"),
    ]  # fmt: skip


def test_finals_are_shown_with_their_interval_and_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual(tmp_path).finish()
    candidate = {
        "trial_id": "t0004", "epoch": 3, "val_accuracy": 0.75, "seeds": [1, 2], "mean": 0.71,
        "accuracies": [0.7, 0.72], "std": 0.01, "cost": {"multiply_adds": 12345678, "parameters": 4321},
    }  # fmt: skip
    finals: dict[str, Any] = {
        "trial_id": "t0004", "seeds": [2000000000, 2000000001, 2000000002], "test_accuracy": [0.7, 0.71, 0.72], "mean": 0.71,
        "std": 0.01, "ci95": [0.69, 0.73], "config": {"optim.lr": 0.08}, "openings": 2,
        "optimism": 0.04, "confirm": {"statement": "A tie: <the cheaper one> is taken.",
                                      "chosen": "t0004", "candidates": [candidate]},
    }  # fmt: skip
    monkeypatch.setattr("cifar_tune.report.headline.finals_of", lambda _: finals)
    text = Elements(written(tmp_path)).text
    assert "95 % interval 0.690 to 0.730" in text
    assert "Test accuracy of each seed seed 1 2 3 test accuracy 0.700 0.710 0.720" in text
    # mean, spread, seeds, what the search saw, and its cost
    assert "t0004 0.710 0.0100 2 0.750 12,345,678 4,321" in text
    assert "A tie: <the cheaper one> is taken." in text
    assert "+0.0400" in text
    assert "opened 2 times" in text
    assert "cifar-tune confirm" not in text[: text.index("Best so far")]


def test_finals_that_are_under_way_say_how_far_they_are(tmp_path: Path) -> None:
    usual(tmp_path).finish()
    nested = WrittenSearch(tmp_path / "finals" / "confirm-1", "search.num_samples=2")
    nested.run([0.5, 0.6, 0.7])
    assert "confirm-1: 1 of 2 trainings done" in Elements(written(tmp_path)).text
    nested.run([0.5, 0.6, 0.7])
    assert "Finals under way" not in Elements(written(tmp_path)).text


def test_a_folder_says_which_model_its_best_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions left the winner of the search there in spite of finals."""
    usual(tmp_path).finish()
    write_predictions(tmp_path, np.arange(60) % 3, [0])
    finals = {"trial_id": "t0004", "seeds": [1, 2], "test_accuracy": [0.7, 0.72], "mean": 0.71}
    for module in ("headline", "commands"):
        monkeypatch.setattr(f"cifar_tune.report.{module}.finals_of", lambda _: finals)
    text = Elements(written(tmp_path)).text
    assert f"cifar-tune predict --model {tmp_path}/finals/seed-1" in text
    (tmp_path / "search-winner").mkdir()
    text = Elements(written(tmp_path)).text
    assert f"cifar-tune predict --model {tmp_path} FILE..." in text
    assert "finals/seed-1" not in text


def test_every_start_of_a_search_is_told(tmp_path: Path) -> None:
    search = usual(tmp_path)
    assert "started as cifar-tune tune" in Elements(written(tmp_path)).text
    for words in (["cifar-tune", "resume", "a b"], ["cifar-tune", "resume", "a b"], ["x", "y"]):
        search.write("environment", environment={"command": words})
        search.start()
    text = Elements(written(tmp_path)).text
    for words in (
        "start 1 cifar-tune tune",
        "starts 2 to 3 cifar-tune resume 'a b'",
        "start 4 x y",
    ):
        assert words in text


def test_no_figure_has_more_than_three_digits(tmp_path: Path) -> None:
    mixed(tmp_path).finish()
    elements = Elements(written(tmp_path))
    fractions = re.findall(r"(?<![\d.])0\.(\d+)", elements.text)
    assert {len(digits.lstrip("0")) for digits in fractions} <= {1, 2, 3}


def test_a_task_that_can_not_show_its_part_costs_the_page_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = usual(tmp_path)

    def fail(_: object) -> None:
        raise RuntimeError("no bolts")

    monkeypatch.setattr(type(task_of(search.plan)), "panels", lambda *_: fail(_))
    text = Elements(written(tmp_path)).text
    assert "The task vision could not show its part: RuntimeError('no bolts')" in text
    assert "All trials" in text


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"holds no search that can be read"):
        write_report(tmp_path)


def test_two_hundred_trials_of_many_epochs_stay_small(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # thousands of lines
    search = WrittenSearch(tmp_path, "train.max_epochs=27", "search.num_samples=200")
    for number in range(200):
        values = {
            "optim.lr": 0.01 + 0.0047 * number, "optim.weight_decay": 1e-5 + 1e-5 * (number * 7 % 200),
            "optim.label_smoothing": 0.001 * (number * 11 % 200), "data.batch_size": 64,
        }  # fmt: skip
        search.run([0.5 + 0.01 * epoch + 0.0001 * number for epoch in range(27)], **values)
    search.finish()
    assert len(written(tmp_path).encode()) < 8e6


def test_writing_needs_neither_torch_nor_ray_nor_pandas(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cifar_tune.report.page import write_report;"
        " write_report(Path(sys.argv[1])); print(*sys.modules)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "ray", "pandas", "lightning"} & set(loaded)
    assert "cifar_tune.vision.data.held_out" not in loaded
