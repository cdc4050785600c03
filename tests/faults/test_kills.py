"""One search broken off 20 times at random moments, by SIGKILL or SIGTERM, and gone on with."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from command_line import command

from cifar_tune.errors import CifarTuneError
from cifar_tune.plan.load import load_plan
from cifar_tune.record.journal import FILE_NAME, Event, read_journal
from cifar_tune.record.results import Results
from cifar_tune.search.configurations import Configurations

pytestmark = pytest.mark.faults
TIMES = 20
TRIALS, EPOCHS = 60, 9  # enough for twenty breaks of some reports each
REAL = os.environ.get("CIFAR_TUNE_TEST_DATA", "")


@dataclass
class Broken:
    """A search that is broken off again and again: what each time found and left."""

    out: Path
    given: list[str]
    number: signal.Signals
    lost: int = 0
    moments: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.out / "one"

    @property
    def arguments(self) -> list[str]:
        sets = [word for value in self.given for word in ("--set", value)]
        return ["--out", str(self.out), "--name", "one", "--resume", "auto", *sets]

    def break_off(self, rng: random.Random) -> None:
        """Start it, and send the signal at a random moment."""
        with (self.out / "log").open("w+b") as log:
            process = subprocess.Popen(command(*self.arguments), stdout=log, stderr=log)
            self.moments.append(_wait(self.folder, rng, process))
            if process.poll() is not None:
                log.seek(0)
                pytest.fail(f"it ended before the last signal came: {log.read().decode()}")
            acknowledged, sent = _whole_lines(self.folder), time.monotonic()
            process.send_signal(self.number)
            self.codes.append(process.wait(timeout=60))
            self.seconds.append(time.monotonic() - sent)
            log.seek(0)
            self.outputs.append(log.read().decode())
        self.lost += not _content(self.folder).startswith(acknowledged)


@pytest.fixture
def given(image_folder: Path) -> list[str]:
    """Real data where they lie beside the checkout; an epoch takes a second or so."""
    real = [f"data.path={REAL}", "data.train_size=800", "data.val_size=500", "model.width=4"]
    toy = [f"data.path={image_folder}", "data.val_size=100", "data.confirm_size=50"]
    return [
        *(real if REAL else [*toy, "model.width=16"]),
        "search.space.data.batch_size={choice: [8, 16]}", f"search.num_samples={TRIALS}",
        f"train.max_epochs={EPOCHS}", "finals.seeds=0",
    ]  # fmt: skip


def broken(out: Path, given: list[str], number: signal.Signals) -> Broken:
    """A search that was broken off `TIMES` times, and then ended by the same command."""
    search = Broken(out, given, number)
    rng = random.Random(int(os.environ.get("CIFAR_TUNE_TEST_SEED", "0")))
    for _ in range(TIMES):
        search.break_off(rng)
        print(  # noqa: T201  # what `make faults` is run for: its figures
            f"{number.name} after {search.moments[-1]} reports: exit code {search.codes[-1]}"
            f" after {search.seconds[-1]:.1f} s, {search.lost} lost so far",
            flush=True,
        )
    ended = subprocess.run(
        command(*search.arguments), capture_output=True, text=True, timeout=900, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return search


def test_row_01_and_02_twenty_kills_lose_no_result_and_run_no_trial_twice(
    given: list[str], tmp_path: Path
) -> None:
    search = broken(tmp_path, given, signal.SIGKILL)
    assert search.codes == [-signal.SIGKILL] * TIMES
    check_what_is_kept(search)


def test_row_03_twenty_sigterms_are_saved_within_ten_seconds_with_143(
    given: list[str], tmp_path: Path
) -> None:
    search = broken(tmp_path, given, signal.SIGTERM)
    # One that comes while Python still imports ends the process itself, as a shell tells by 143.
    early = [code for code in search.codes if code < 0]
    print(  # noqa: T201  # what `make faults` is run for: its figures
        f"\nseconds to the exit: {' '.join(f'{taken:.1f}' for taken in search.seconds)};"
        f" largest {max(search.seconds):.1f}; {len(early)} before the search began"
    )
    assert {128 - code if code < 0 else code for code in search.codes} == {143}
    assert max(search.seconds) < 10
    for code, output in zip(search.codes, search.outputs, strict=True):
        if code == 143:
            assert output.splitlines()[-1].startswith("python -m cifar_tune.tune resume"), output
    assert check_what_is_kept(search) == 0


def check_what_is_kept(search: Broken) -> int:
    """Nothing lost, no trial twice, at most an epoch repeated a trial and signal; how many were."""
    records = read_journal(search.folder)
    results = Results.from_records(search.folder, records)
    ended = Counter(e["trial_id"] for e in records.of("trial_ended") if e["status"] in FINAL)
    repeated = [count for start in _starts(records.events) for count in start.values()]
    print(  # noqa: T201  # what `make faults` is run for: its figures
        f"\n{TIMES} {search.number.name}s after {search.moments} reports;"
        f" {len(records.of('result'))} reports of {len(results.trials)} trials, {search.lost} times"
        f" a report lost, {sum(count > 1 for count in ended.values())} trials run twice,"
        f" {sum(repeated)} epochs repeated, {len(records.of('search')) - 1} new searches"
    )
    assert search.lost == 0
    assert len(records.of("search")) == 1, "a new search began in silence"
    # A signal may come between a trial's last report, which says so, and the event of its end.
    told_by_report = {event["trial_id"] for event in records.of("result") if event["done"]}
    assert set(ended) | told_by_report == set(results.trials)
    assert set(ended.values()) == {1}, "a trial ended twice"
    assert all(count <= 1 for count in repeated), "a trial lost more than an epoch"
    plan = load_plan(None, search.given)
    assert [trial.values for trial in results.trials.values()] == list(Configurations(plan))
    return sum(repeated)


FINAL = ("completed", "stopped", "diverged", "failed")


def _starts(events: list[Event]) -> Iterator[Counter[str]]:
    """For each start after the first, how many epochs each trial repeated in it."""
    newest: Counter[str] = Counter()
    repeated: Counter[str] = Counter()
    for event in events:
        if event["event"] == "start":
            yield repeated
            repeated = Counter()
        if event["event"] == "result":
            name, epoch = event["trial_id"], event["metrics"]["epoch"]
            repeated[name] += epoch <= newest[name]
            newest[name] = max(newest[name], epoch)
    yield repeated


def _wait(folder: Path, rng: random.Random, process: subprocess.Popen[bytes]) -> int:
    """Wait for a few more reports, mostly, and then for a part of an epoch; reports so far."""
    before, more = len(_reports(folder)), rng.randint(0, 6)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if len(_reports(folder)) >= before + more:
            break
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 12 if more == 0 else 1.5))
    return len(_reports(folder))


def _reports(folder: Path) -> list[Event]:
    try:
        return read_journal(folder).of("result")
    except CifarTuneError:
        return []  # not begun yet


def _content(folder: Path) -> bytes:
    path = folder / FILE_NAME
    return path.read_bytes() if path.exists() else b""


def _whole_lines(folder: Path) -> bytes:
    content = _content(folder)
    return content[: content.rfind(b"\n") + 1]
