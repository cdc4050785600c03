"""Nodes of a real cluster that die and join in the middle of a search; the loss of its head."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import command
from ray_nodes import RayNodes, ray_nodes

from cifar_tune.errors import CifarTuneError
from cifar_tune.plan.load import load_plan
from cifar_tune.record.journal import FILE_NAME, Event, read_journal
from cifar_tune.record.results import Results
from cifar_tune.search.configurations import Configurations

TRIALS, EPOCHS = 8, 4
END_SECONDS = 420
REAL = os.environ.get("CIFAR_TUNE_TEST_DATA", "")


@pytest.fixture
def given(image_folder: Path) -> list[str]:
    """Real data where they lie beside the checkout; an epoch takes some seconds, a node to join more."""
    real = [f"data.path={REAL}", "data.train_size=5000", "data.val_size=1000", "model.width=6"]
    toy = [
        f"data.path={image_folder}", "data.val_size=100", "data.confirm_size=50", "model.width=16",
        "search.space.data.batch_size={choice: [16, 32]}",
    ]  # fmt: skip
    return [
        *(real if REAL else toy), f"search.num_samples={TRIALS}", f"train.max_epochs={EPOCHS}",
        "search.scheduler=none", "finals.seeds=0",
    ]  # fmt: skip


@pytest.mark.faults
def test_a_node_that_dies_and_one_that_joins_cost_an_epoch_at_most(
    given: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("n")
    with ray_nodes(folder / "c", 1, 1) as nodes:
        _kill_one_and_let_one_join(nodes, lambda: nodes.add(1), folder, given)


@pytest.mark.faults
def test_the_same_with_nodes_that_have_addresses_of_their_own(
    given: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    folder = tmp_path_factory.mktemp("n")
    with _namespaces("head", "one", "two", "three") as (addresses, prefixes):
        nodes = RayNodes(folder / "c", addresses[0], prefixes[0])
        try:
            for number in (1, 2):
                nodes.add(1, addresses[number], prefixes[number])
            _kill_one_and_let_one_join(
                nodes, lambda: nodes.add(1, addresses[3], prefixes[3]), folder, given, prefixes[0]
            )
        finally:
            nodes.stop()


def _kill_one_and_let_one_join(
    nodes: RayNodes,
    join: Callable[[], object],
    folder: Path,
    given: list[str],
    prefix: Sequence[str] = (),
) -> None:
    with _search(nodes, folder, given, prefix) as process:
        _wait_for(folder, "result", 4, process)
        acknowledged = (folder / "one" / FILE_NAME).read_bytes().rpartition(b"\n")[0]
        nodes.kill(1)
        killed = time.monotonic()
        _wait_for(folder, "trial_retried", 1, process)
        noticed = time.monotonic() - killed
        _wait_for(folder, "slots_changed", 1, process)
        gone = time.monotonic() - killed
        join()
        assert process.wait(END_SECONDS) == 0
    records = read_journal(folder / "one")
    results = Results.from_records(folder / "one", records)
    assert (folder / "one" / FILE_NAME).read_bytes().startswith(acknowledged), "a result is lost"
    _check_trials(records.events, results, given, kills=1)
    assert [event["slots"] for event in records.of("slots_changed")] == [1, 2]
    kinds = [event["kind"] for event in records.of("trial_retried")]
    reports = len(records.of("result"))
    print(  # noqa: T201  # what `make faults` is run for: its figures
        f"\n{reports} reports of {TRIALS * EPOCHS} epochs; crash noticed after {noticed:.1f} s"
        f" ({kinds}), node known to be gone after {gone:.1f} s"
    )


@pytest.mark.faults
def test_a_node_that_dies_before_its_trials_first_report_is_the_one_to_blame(
    given: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Ray calls it a lost process, whose tries are few, and does not yet know of the node."""
    folder = tmp_path_factory.mktemp("n")
    with ray_nodes(folder / "c", 1, 1) as nodes, _search(nodes, folder, given) as process:
        until = time.monotonic() + END_SECONDS
        while not any(title.startswith("ray::ImplicitFunc") for title in nodes.titles(1)):
            assert time.monotonic() < until
            time.sleep(0.05)
        nodes.kill(1)
        _wait_for(folder, "trial_retried", 1, process)
        nodes.add(1)
        assert process.wait(END_SECONDS) == 0
    records = read_journal(folder / "one")
    _check_trials(records.events, Results.from_records(folder / "one", records), given, kills=0)
    assert [event["kind"] for event in records.of("trial_retried")] == ["lost node"]


@pytest.mark.faults
def test_after_the_loss_of_the_head_the_same_command_goes_on(
    given: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("n")
    with ray_nodes(folder / "c", 2) as nodes, _search(nodes, folder, given) as process:
        _wait_for(folder, "result", 4, process)
        acknowledged = (folder / "one" / FILE_NAME).read_bytes().rpartition(b"\n")[0]
        nodes.kill(0)
        assert process.wait(END_SECONDS) != 0
    with ray_nodes(folder / "d", 2) as nodes, _search(nodes, folder, given) as process:
        assert process.wait(END_SECONDS) == 0
    assert (folder / "one" / FILE_NAME).read_bytes().startswith(acknowledged), "a result is lost"
    records = read_journal(folder / "one")
    _check_trials(records.events, Results.from_records(folder / "one", records), given, kills=1)


def _check_trials(events: list[Event], results: Results, given: list[str], kills: int) -> None:
    reports = Counter(
        (event["trial_id"], event["metrics"]["epoch"])
        for event in events
        if event["event"] == "result"
    )
    assert results.counts()["completed"] == TRIALS
    assert set(reports) == {(name, e + 1) for name in results.trials for e in range(EPOCHS)}
    assert all(count <= 1 + kills for count in reports.values())
    again = Counter(name for (name, _), count in reports.items() if count > 1)
    assert all(count <= kills for count in again.values()), "more than an epoch was repeated"
    configurations = list(Configurations(load_plan(None, given)))
    assert [trial.values for trial in results.trials.values()] == configurations


@contextmanager
def _search(
    nodes: RayNodes, folder: Path, given: list[str], prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    sets = [word for value in given for word in ("--set", value)]
    place = ["--out", str(folder), "--name", "one", "--resume", "auto"]
    words = [*prefix, *command("--address", nodes.address, *place, *sets)]
    with (folder / "search.log").open("ab") as log:
        process = subprocess.Popen(
            words, env={**os.environ, **nodes.environment}, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        print((folder / "search.log").read_text())  # noqa: T201  # shown where a test fails


def _wait_for(folder: Path, kind: str, count: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + END_SECONDS
    while len(_events(folder, kind)) < count:
        assert process.poll() is None, (folder / "search.log").read_text()
        assert time.monotonic() < until
        time.sleep(0.1)


def _events(folder: Path, kind: str) -> list[Event]:
    try:
        return read_journal(folder / "one").of(kind)
    except CifarTuneError:
        return []


@contextmanager
def _namespaces(*names: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """A network namespace for each name, on one bridge: addresses, and words before a command."""
    bridge, spaces = "cifar-tune", [f"cifar-tune-{name}" for name in names]
    addresses = [f"10.213.77.{number + 1}" for number in range(len(names))]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
        for number, (space, address) in enumerate(zip(spaces, addresses, strict=True)):
            ip("netns", "add", space)
            ip("link", "add", f"ct{number}", "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", f"ct{number}", "master", bridge, "up")
            ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "lo", "up")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "route", "add", "default", "dev", "eth0")  # Ray asks for the way out
        yield addresses, [["ip", "netns", "exec", space] for space in spaces]
    finally:
        for words in (*(["netns", "del", space] for space in spaces), ["link", "del", bridge]):
            subprocess.run(["ip", *words], check=False, capture_output=True)
