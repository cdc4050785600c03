"""The live table in a real pseudo-terminal, fed by a real recorder."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report.terminal import Terminal
from rich.console import Console
from told import Story, story

from cifar_tune.plan.finals_config import FinalsConfig
from cifar_tune.record.results import Results
from cifar_tune.report.lines import ProgressLines
from cifar_tune.report.live import LiveTable
from cifar_tune.report.picture import picture
from cifar_tune.report.progress import progress_for
from cifar_tune.report.time_left import time_left

CONFIG = {"optim.lr": 0.0627, "data.batch_size": 64}


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"{what} was not shown"
        time.sleep(0.02)


def half_done(tell: Story) -> None:
    """Two ended, one runs, and one is to come."""
    tell.begin("search.num_samples=4", "search.scheduler=none", "train.max_epochs=4")
    tell.create(CONFIG)
    for epoch in range(1, 5):
        tell.report("t0001", epoch, 0.2 * epoch)
    tell.end("t0001", "completed")
    tell.create(CONFIG)
    tell.report("t0002", 1, 0.1)
    tell.end("t0002", "failed", "RuntimeError: the third bolt [bold] is loose", kind="code")
    tell.create({"optim.lr": 0.5, "data.batch_size": 256})
    tell.report("t0003", 1, 0.3)


def drawn(results: Results, width: int, height: int = 40, title: str = "") -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(picture(results, 75.0, title=title, width=width, height=height))
    return console.export_text()


@pytest.fixture
def results(tmp_path: Path) -> Results:
    with story(tmp_path / "asha-1") as tell:
        half_done(tell)
        return tell.recorder.results


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_picture_says_who_leads_what_runs_and_how_long_it_takes(
    results: Results, width: int
) -> None:
    text = drawn(results, width)
    for words in (
        "asha-1", "best  validation accuracy 0.800  validation loss 0.200", "lr=0.0627  batch_size=64",
        "1/4  ", "0.300", "2 of 4 trials ended", "1 completed", "1 failed", "1 running",
        "1 min 15 s elapsed", "of about 12 epochs", "busy",
    ):  # fmt: skip
        if width > 60 or "loss" not in words:
            assert words in text
    assert max(map(len, text.splitlines())) <= width


def test_at_eighty_columns_the_values_that_differ_are_told(tmp_path: Path) -> None:
    with story(tmp_path) as tell:
        tell.begin("search.num_samples=4", slots=2)
        for rate, size in ((0.0627, 64), (0.000451, 256)):
            values = {
                "optim.lr": rate, "optim.weight_decay": 0.000123 * size, "optim.name": "sgd",
                "optim.label_smoothing": 0.1 * rate, "data.batch_size": size,
            }  # fmt: skip
            tell.report(tell.create(values), 1, 0.3)
        text = drawn(tell.recorder.results, 80)
        single = drawn(tell.recorder.results, 60)
    for words in (
        "0.0627",
        "0.000451",
        "0.00787",
        "0.0315",
        "0.00627",
        "4.51e-05",
        " 64 ",
        " 256 ",
    ):
        assert words in text
    assert "smoothing" in text
    assert text.count("sgd") == 1  # of the best; of those that run it tells nothing
    assert "0.0627" in single
    assert "4.51e-05" not in single  # there is no room for it


def test_fields_of_one_name_keep_their_sections(tmp_path: Path) -> None:
    with story(tmp_path) as tell:
        tell.begin()
        for network in ("net", "resnet9"):
            name = tell.create({"model.name": network, "optim.name": network[:3]})
        tell.report(name, 1, 0.3)
        text = drawn(tell.recorder.results, 80)
    assert "model.name=resnet9  optim.name=res" in text


def test_trainings_of_the_finals_have_the_names_of_the_search(results: Results) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    names = ["t0030 seed 1", "t0004 seed 1", "t0030 seed 2"]
    console.print(picture(results, 75.0, title="final-1", names=names, width=80, height=40))
    text = console.export_text()
    assert "t0030 seed 2" in text
    assert "t0003" not in text
    assert "best" not in text  # nobody is chosen


def test_a_title_takes_the_place_of_the_name(results: Results) -> None:
    text = drawn(results, 100, title="confirming 3 candidates x 5 seeds")
    assert "confirming 3 candidates x 5 seeds" in text
    assert "asha-1" not in text


def test_two_hundred_running_trials_fit_into_the_window(tmp_path: Path) -> None:
    with story(tmp_path) as tell:
        tell.begin("search.num_samples=300", slots=200)
        for _ in range(200):
            tell.create(CONFIG)
        text = drawn(tell.recorder.results, 60, height=24)
    assert len(text.splitlines()) <= 24
    assert "more running" in text
    assert "no result yet" in text


def test_time_left_is_that_of_the_epochs_ahead(results: Results) -> None:
    # Each epoch took 2 s. A trial is expected to take (2 x 4 + 4 + 1) / 4 = 3.25 epochs: 2.25 more
    # of the one that runs, and 3.25 of the one to come, over two slots.
    results.plan = results.plan.model_copy(update={"finals": FinalsConfig(seeds=0)})
    ahead = time_left(results, elapsed=75.0)
    assert ahead.seconds == pytest.approx((2.25 + 3.25) * 2.0 / 2)
    assert ahead.epochs == round(6 + 5.5)
    assert "about 6 s left" in drawn(results, 80)


def test_time_left_includes_the_finals(results: Results) -> None:
    results.data = {"train": 100, "val": 30, "confirm": 20}
    search = (2.25 + 3.25) * 2.0 / 2
    # 3 candidates x 5 seeds over two slots are 8 trainings of 4 epochs that follow each other; of
    # the 5 final ones, each on half as much again, 3 do.
    finals = (8 + 3 * 1.5) * 4 * 2.0
    assert time_left(results, elapsed=75.0).seconds == pytest.approx(search + finals)
    assert "about 1 min 46 s left, finals included" in drawn(results, 80)
    alone = results.plan.finals.model_copy(update={"candidates": 1})
    results.plan = results.plan.model_copy(update={"finals": alone})
    assert time_left(results, elapsed=75.0).seconds == pytest.approx(search + 3 * 1.5 * 4 * 2.0)


def test_time_left_is_at_most_what_the_budget_leaves(tmp_path: Path) -> None:
    with story(tmp_path) as tell:
        tell.begin("search.time_budget=80s")
        tell.create(CONFIG)
        tell.report("t0001", 1, 0.2)
        assert time_left(tell.recorder.results, elapsed=75.0).seconds == pytest.approx(5.0)
        assert time_left(tell.recorder.results, elapsed=90.0).seconds == 0.0


def test_nothing_is_known_of_the_time_before_the_first_report(tmp_path: Path) -> None:
    with story(tmp_path) as tell:
        tell.begin()
        assert time_left(tell.recorder.results, elapsed=1.0).seconds is None
        assert "time left unknown" in drawn(tell.recorder.results, 60)


def test_a_terminal_shows_the_table_and_what_ended_above_it(tmp_path: Path) -> None:
    with Terminal() as terminal:
        table = LiveTable(terminal.stream)
        with story(tmp_path / "asha-1", [table]) as tell:
            half_done(tell)
            wait_for(lambda: "0.300" in terminal.text, "the running trial")
            screen = terminal.text
            assert screen.count("asha-1") == 1
            ended = "t0002  failed (code): RuntimeError: the third bolt [bold] is loose"
            assert screen.index(ended) < screen.index("asha-1")
            tell.report("t0003", 2, 0.9)
            wait_for(lambda: "0.900" in terminal.text, "the new leader")
            assert terminal.text.count("trials ended") == 1
            table.close()
            wait_for(lambda: "trials ended" not in terminal.text, "an empty place")
            assert ended in terminal.text  # and what ended stays


def whole_tables(lines: list[str]) -> int:
    """How many tables stand on a screen; each that begins must end, at the same width."""
    tops = [line for line in lines if line.startswith("╭")]
    ends = [line for line in lines if line.startswith("╰")]
    assert len(tops) == len(ends)
    assert {len(line) for line in lines if line[:1] in "╭│╰" and line} <= {len(tops[0])}
    assert all(line.endswith(("╮", "│", "╯")) for line in lines if line[:1] in ("╭", "│", "╰"))
    return len(tops)


def test_control_c_leaves_a_whole_table(tmp_path: Path) -> None:
    """The terminal echoes ^C where the cursor stands, and the table is drawn again over that."""
    with Terminal(columns=80) as terminal:
        table = LiveTable(terminal.stream)
        with story(tmp_path / "asha-1", [table]) as tell:
            half_done(tell)
            wait_for(lambda: "0.300" in terminal.text, "the table")
            terminal.echo("^C")
            tell.report("t0003", 2, 0.4)
            wait_for(lambda: "0.400" in terminal.text, "the table again")
            assert whole_tables(terminal.screen()) == 1
            assert "^C" not in terminal.text
            terminal.echo("^C")  # if a second one ends the process at once, this is what stays
            assert whole_tables(terminal.screen()) == 1
            tell.end("t0003", "interrupted", "SIGINT")
            tell.recorder.write("stopped", reason="SIGINT")
            table.close()
            wait_for(lambda: "1 waiting" in terminal.text, "the last state")
            assert whole_tables(terminal.screen()) == 1
            assert terminal.screen()[-1] == ""  # the outcome goes on in a line of its own


def test_the_cursor_is_visible_while_the_table_is_shown(tmp_path: Path) -> None:
    """So that a program that leaves at once leaves a sane terminal."""
    with Terminal() as terminal:
        table = LiveTable(terminal.stream)
        with story(tmp_path, [table]) as tell:
            half_done(tell)
            wait_for(lambda: "trials ended" in terminal.text, "the table")
            assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
            assert "\x1b[?1049h" not in terminal.raw  # no second screen
            table.close()


def test_what_others_print_appears_above_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Terminal() as terminal:
        monkeypatch.setattr(sys, "stdout", terminal.stream)
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        table = LiveTable(terminal.stream)
        with story(tmp_path / "asha-1", [table]) as tell:
            half_done(tell)
            wait_for(lambda: "0.300" in terminal.text, "the table")
            print("a line of say")  # noqa: T201  as the command's `say` does
            logging.lastResort.emit(logging.makeLogRecord({"msg": "a warning", "levelno": 30}))  # type: ignore[union-attr]
            wait_for(lambda: "a warning" in terminal.text, "the warning")
            screen = terminal.text
            assert (
                screen.index("a line of say") < screen.index("a warning") < screen.index("asha-1")
            )
            table.close()
        assert sys.stdout is terminal.stream
        assert sys.stderr is terminal.stream


def test_a_resized_window_gets_a_table_of_its_width(tmp_path: Path) -> None:
    with Terminal(columns=100) as terminal:
        table = LiveTable(terminal.stream)
        with story(tmp_path, [table]) as tell:
            half_done(tell)
            wait_for(lambda: "0.300" in terminal.text, "the table")
            terminal.resize(60, 20)
            before = len(terminal.raw)
            tell.report("t0003", 2, 0.4)
            wait_for(lambda: "0.400" in terminal.raw[before:], "the table again")
            assert f"╰{'─' * 58}╯" in terminal.raw[before:]
            assert "─" * 59 not in terminal.raw[before:]
            table.close()


def test_a_terminal_that_goes_away_costs_no_result(tmp_path: Path, caplog: Any) -> None:
    with Terminal() as terminal:
        table = LiveTable(terminal.stream)
        with story(tmp_path, [table]) as tell:
            half_done(tell)
            wait_for(lambda: "0.300" in terminal.text, "the table")
            terminal.hang_up()
            tell.report("t0003", 2, 0.4)
            wait_for(lambda: "the live table is off" in caplog.text, "the warning")
            tell.report("t0003", 3, 0.5)
            assert tell.recorder.results.trials["t0003"].epochs == 3
            assert table in tell.recorder.observers
            table.close()


def test_it_depends_on_the_stream_and_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with Terminal() as terminal:
        assert isinstance(progress_for(print, terminal.stream), LiveTable)
        assert isinstance(progress_for(print, terminal.stream, quiet=True), ProgressLines)
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(progress_for(print, terminal.stream), ProgressLines)
    assert isinstance(progress_for(print, io.StringIO()), ProgressLines)


def test_rich_is_loaded_only_where_there_is_a_table() -> None:
    code = "import sys, cifar_tune.report.progress; print('rich' in sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
