from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_tune.errors import JournalError, ResultsError, StorageError
from cifar_tune.record.journal import FILE_NAME, Journal, is_running, read_journal


def write_three(folder: Path) -> bytes:
    with Journal(folder) as journal:
        for number in range(3):
            journal.append("result", number=number, text='a ","crc":"00000000"} trap')
    return (folder / FILE_NAME).read_bytes()


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    write_three(tmp_path)
    records = read_journal(tmp_path)
    assert [event["number"] for event in records.of("result")] == [0, 1, 2]
    assert [event["seq"] for event in records.events] == [1, 2, 3]
    assert records.torn_lines == 0


def test_a_writer_hands_over_what_it_has_read_and_keeps_nothing_from_then_on(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path) as journal:
        journal.append("search", version=1)
    with Journal(tmp_path) as journal:
        journal.append("result", number=1)
        assert [event["seq"] for event in journal.let_go()] == [1, 2]
        journal.append("result", number=2)
        assert journal.records.events == []
        assert [event["seq"] for event in journal.let_go()] == [1, 2, 3]


def test_every_line_is_json(tmp_path: Path) -> None:
    lines = write_three(tmp_path).splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize("cut", [*range(1, 41), 60])
def test_a_torn_last_line_is_dropped_counted_and_written_over(tmp_path: Path, cut: int) -> None:
    content = write_three(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(content[:-cut])
    records = read_journal(tmp_path)
    assert (len(records.events), records.torn_lines) == (2, 1)
    with Journal(tmp_path) as journal:
        journal.append("result", number=9)
    assert [event.get("number") for event in read_journal(tmp_path).events] == [0, 1, 9]


def test_a_last_line_of_zeros_is_torn_too(tmp_path: Path) -> None:
    content = write_three(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(content + b"\0" * 100 + b"\n")
    assert read_journal(tmp_path).torn_lines == 1


@settings(max_examples=100, deadline=None)
@given(place=st.floats(0, 0.6), bit=st.integers(0, 7))
def test_a_flipped_bit_before_the_last_line_is_refused(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    content = bytearray(write_three(folder))
    content[int(place * len(content))] ^= 1 << bit
    (folder / FILE_NAME).write_bytes(content)
    with pytest.raises(JournalError, match=r"this line is damaged"):
        read_journal(folder)


def test_a_line_that_is_missing_is_refused(tmp_path: Path) -> None:
    lines = write_three(tmp_path).splitlines(keepends=True)
    (tmp_path / FILE_NAME).write_bytes(lines[0] + lines[2] + lines[2])
    with pytest.raises(JournalError, match=r"jsonl:2: this line is damaged"):
        read_journal(tmp_path)


def test_a_folder_without_a_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"holds no search that can be read"):
        read_journal(tmp_path)


def test_values_that_are_not_finite_are_refused_and_leave_no_line(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        with pytest.raises(ValueError, match=r"Out of range float"):
            journal.append("result", loss=float("nan"))
        journal.append("result", loss=1.0)
    assert len(read_journal(tmp_path).events) == 1


def _hold(folder: str, ready: object, done: object) -> None:
    with Journal(Path(folder)):
        ready.set()  # type: ignore[attr-defined]
        done.wait(30)  # type: ignore[attr-defined]


def test_a_second_writer_is_refused_until_the_first_is_gone_even_by_sigkill(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(tmp_path), ready, done))
    process.start()
    assert ready.wait(30)
    assert is_running(tmp_path)
    with pytest.raises(ResultsError, match=rf"in use by process {process.pid}; .*--name"):
        Journal(tmp_path)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not is_running(tmp_path)
    with Journal(tmp_path) as journal:
        journal.append("start")


def test_a_full_disk_is_a_storage_error_and_leaves_whole_lines(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path) as journal:
        journal.append("result", number=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
        try:
            with pytest.raises(StorageError, match=r"can't be written: .*cifar_tune\.tune resume"):
                journal.append("result", text="x" * 1000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert (tmp_path / FILE_NAME).read_bytes().count(b"\n") == 1
        journal.append("result", number=1)
    assert [event["number"] for event in read_journal(tmp_path).events] == [0, 1]
