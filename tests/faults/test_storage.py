"""A disk that is full, and a storage that vanishes, under a search that runs; both real."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import command, run, wait_for_results

from cifar_tune.errors import StorageError
from cifar_tune.record.journal import FILE_NAME, Journal, read_journal
from cifar_tune.record.results import Results

TRIALS, EPOCHS = 4, 4


@pytest.fixture
def arguments(image_folder: Path) -> list[str]:
    given = [
        f"data.path={image_folder}", "data.val_size=100", "data.confirm_size=50", "model.width=16",
        "search.space.data.batch_size={choice: [8, 16]}", f"search.num_samples={TRIALS}",
        f"train.max_epochs={EPOCHS}", "finals.seeds=0", "search.scheduler=none",
    ]  # fmt: skip
    return ["--name", "one", "--resume", "auto", *(w for value in given for w in ("--set", value))]


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Something mounted on a folder, which only root may do."""
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    folder.mkdir()
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def ends_with_5(arguments: list[str], folder: Path, fault: Callable[[], object]) -> bytes:
    """Strike a running search with a fault; what was acknowledged before."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command(*arguments), text=True, **pipes)
    wait_for_results(folder, 3, process)
    content = (folder / FILE_NAME).read_bytes()
    fault()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 5, output
    assert "Traceback" not in output
    assert "resume" in output.splitlines()[-1]
    return content[: content.rfind(b"\n") + 1]


def check_that_it_goes_on(arguments: list[str], folder: Path, acknowledged: bytes) -> None:
    """The same command ends the search, with all that was acknowledged and no trial failed."""
    assert (folder / FILE_NAME).read_bytes().startswith(acknowledged)
    done = run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Results.read(folder).counts()["completed"] == TRIALS
    assert (folder / "best" / "model.ckpt").is_file()


@pytest.mark.faults
@pytest.mark.parametrize("left_bytes", [0, 300_000], ids=["to the last byte", "for checkpoints"])
def test_row_21_a_full_disk_ends_with_5_and_the_last_good_state(
    arguments: list[str], tmp_path: Path, left_bytes: int
) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64m", "tmpfs") as disk:
        folder, ballast = disk / "one", disk / "ballast"

        def fill() -> None:
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free - left_bytes)

        given = [*arguments, "--out", str(disk)]
        acknowledged = ends_with_5(given, folder, fill)
        created = len(read_journal(folder).of("trial_created"))
        assert created <= 3, "a new trial began on a full disk"
        assert Results.read(folder).counts()["failed"] == 0
        ballast.unlink()
        check_that_it_goes_on(given, folder, acknowledged)


@pytest.mark.faults
def test_row_22_a_storage_that_is_unmounted_ends_with_5_and_goes_on_when_it_is_back(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    options = ("--bind", str(tmp_path / "real"))
    given = [*arguments, "--out", str(tmp_path / "mount")]
    folder = tmp_path / "mount" / "one"
    with mounted(tmp_path / "mount", *options) as mount:
        acknowledged = ends_with_5(
            given, folder, lambda: subprocess.run(["umount", "-l", mount], check=True)
        )
        subprocess.run(["mount", *options, mount], check=True)
        check_that_it_goes_on(given, folder, acknowledged)


@pytest.mark.faults
def test_row_22_a_folder_that_is_removed_ends_with_5(arguments: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "one"
    given = [*arguments, "--out", str(tmp_path)]
    acknowledged = ends_with_5(given, folder, lambda: folder.rename(tmp_path / "away"))
    assert (tmp_path / "away" / FILE_NAME).read_bytes().startswith(acknowledged)


def test_row_22_a_journal_that_is_back_within_seconds_costs_nothing(tmp_path: Path) -> None:
    folder, away = tmp_path / "one", tmp_path / "away"
    folder.mkdir()
    with Journal(folder) as journal:
        journal.append("result", number=0)
        folder.rename(away)
        threading.Timer(0.2, lambda: away.rename(folder)).start()
        journal.append("result", number=1)
    assert [event["number"] for event in read_journal(folder).events] == [0, 1]


def test_row_22_a_journal_that_stays_away_is_a_storage_error(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    with Journal(folder) as journal:
        (folder / FILE_NAME).unlink()
        began = time.monotonic()
        with pytest.raises(
            StorageError, match=r"can't be written: No such file.*cifar_tune\.tune resume"
        ):
            journal.append("result", number=0)
        assert time.monotonic() - began < 10
