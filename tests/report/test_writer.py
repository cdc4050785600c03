from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from report.searches import WrittenSearch, usual

from cifar_tune.report import writer
from cifar_tune.report.writer import ReportWriter, Writing, write_in_process

RESULT = {"event": "result"}


def program(folder: Path, text: str) -> tuple[str, ...]:
    """A command that takes the place of the page's; it gets the folder as its last word."""
    path = folder / "program.py"
    path.write_text(text)
    return (sys.executable, "-S", str(path))


@pytest.fixture
def search(tmp_path: Path) -> WrittenSearch:
    return usual(tmp_path / "search")


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def test_two_pages_are_never_written_at_once(tmp_path: Path, search: WrittenSearch) -> None:
    command = program(
        tmp_path,
        "import pathlib, sys, time, os\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "(folder / f'began-{os.getpid()}').touch()\n"
        "while not (folder / 'go-on').exists(): time.sleep(0.01)\n",
    )
    observer = ReportWriter(command, seconds_between=0)
    for _ in range(5):
        observer(RESULT, search.results)
    folder = search.results.folder
    while not list(folder.glob("began-*")):
        time.sleep(0.01)
    (folder / "go-on").touch()
    observer.close()
    assert len(list(folder.glob("began-*"))) == 1
    observer(RESULT, search.results)
    observer.close()
    assert len(list(folder.glob("began-*"))) == 2


def test_a_page_is_not_written_again_before_its_time(tmp_path: Path, search: WrittenSearch) -> None:
    command = program(tmp_path, "import sys, os\nopen(sys.argv[1] + f'/ran-{os.getpid()}', 'w')\n")
    observer = ReportWriter(command, seconds_between=3600)
    observer({"event": "trial_created"}, search.results)
    for _ in range(3):
        observer(RESULT, search.results)
        observer.close()
    assert len(list(search.results.folder.glob("ran-*"))) == 1


def test_a_failure_is_told_once_in_one_line_and_costs_nothing(
    tmp_path: Path, search: WrittenSearch, caplog: Any
) -> None:
    command = program(tmp_path, "raise SystemExit('first line\\nno space left')")
    search.recorder.observers.append(ReportWriter(command, seconds_between=0))
    for _ in range(3):
        search.run([0.5])
        search.recorder.observers[0].close()
    assert caplog.messages == ["report.html is not up to date: no space left"]
    assert len(search.recorder.observers) == 1
    assert write_in_process(search.results.folder, command) == "no space left"


def test_a_program_that_can_not_be_started_is_told(search: WrittenSearch, caplog: Any) -> None:
    observer = ReportWriter(["/nowhere/python"], seconds_between=0)
    for _ in range(2):
        observer(RESULT, search.results)
    assert len(caplog.messages) == 1
    assert "/nowhere/python" in caplog.text
    assert "/nowhere/python" in str(write_in_process(search.results.folder, ["/nowhere/python"]))


def test_a_page_that_takes_too_long_is_ended_and_leaves_no_draft(tmp_path: Path) -> None:
    command = program(
        tmp_path,
        "import os, sys, time\n"
        "open(f'{sys.argv[1]}/.report.html.{os.getpid()}', 'w').close()\n"
        "while True: time.sleep(1)\n",
    )
    writing = Writing(tmp_path, command)
    while not list(tmp_path.glob(".report.html.*")):
        time.sleep(0.01)
    assert "took longer than" in str(writing.outcome(0.01))
    assert list(tmp_path.glob(".report.html.*")) == []
    assert writing.is_done()


def test_a_signal_does_not_wait_for_a_page(
    tmp_path: Path, search: WrittenSearch, caplog: Any
) -> None:
    command = program(
        tmp_path,
        "import os, sys, time\n"
        "open(f'{sys.argv[1]}/.report.html.{os.getpid()}', 'w').close()\n"
        "while True: time.sleep(1)\n",
    )
    observer, folder = ReportWriter(command, seconds_between=0), search.results.folder
    observer(RESULT, search.results)
    while not (drafts := list(folder.glob(".report.html.*"))):
        time.sleep(0.01)
    observer.close(wait=False)
    assert not Path("/proc", drafts[0].suffix[1:]).exists()
    assert list(folder.glob(".report.html.*")) == []
    assert caplog.messages == []
    observer.close(wait=False)  # there is none any more


def test_the_process_is_polite_and_knows_nothing_of_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:1")
    command = program(
        tmp_path,
        "import os, sys, time\n"
        "folder = sys.argv[1]\n"
        "while not os.path.exists(folder + '/go-on'): time.sleep(0.01)\n"
        "told = [os.nice(0), os.getsid(0) == os.getpid(), 'RAY_ADDRESS' in os.environ]\n"
        "open(folder + '/told', 'w').write(str(told))\n",
    )
    writing = Writing(tmp_path, command, priority=writer.LOWEST_PRIORITY)
    (tmp_path / "go-on").touch()
    assert writing.outcome(30) is None
    assert (tmp_path / "told").read_text() == f"[{max(19, os.nice(0))}, True, False]"


def test_the_driver_needs_no_library_of_plots_for_it() -> None:
    code = "import sys, cifar_tune.report.writer; print(*sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"plotly", "optuna", "pandas", "jinja2", "torch", "ray"} & set(loaded)
