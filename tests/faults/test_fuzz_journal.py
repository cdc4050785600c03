"""Journals from anywhere: a search of which all is told, or one line; nothing is guessed."""

from __future__ import annotations

import json
import shutil
import zlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from fuzzing import damaged_bytes, damaged_trees, fuzz, limited, on_cases
from hypothesis import strategies as st
from report.searches import WrittenSearch

from cifar_tune.errors import CifarTuneError, JournalError
from cifar_tune.plan.load import load_plan
from cifar_tune.record.journal import FILE_NAME, read_journal
from cifar_tune.record.ranking import ranked
from cifar_tune.record.results import Results
from cifar_tune.record.tables import write_tables
from cifar_tune.record.warm_start import read_start_from
from cifar_tune.report.page import trial_rows
from cifar_tune.session.outcome import failure_table, finals_lines
from cifar_tune.session.resume import standing
from cifar_tune.train.reproduce import read_trial


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a search with every kind of event."""
    search = WrittenSearch(tmp_path_factory.mktemp("search"))
    search.write("started_from", source="x", points=[{"optim.lr": 0.1}], trials=[{"values": {}, "status": "stopped", "results": [[1, 0.5]]}])  # fmt: skip
    best = search.run([0.3, 0.5, 0.6])
    search.run([0.2], "failed")
    search.write("trial_retried", trial_id="t0002", kind="code", reason="again", by_user=True)
    search.end("t0002", "failed", "once more", kind="code")
    search.run([0.1, 0.2], "stopped")
    search.write("checkpoints_dropped", trial_id=best, epochs=[1])
    search.write("checkpoints_lost", trial_id=best, epochs=[2])
    search.write("slots_changed", slots=3, nodes=2)
    search.write("environment", environment={"versions": {"torch": "2.15"}})
    search.write("exchanged", epoch=2, clones=[{"trial_id": best, "source": "t0003", "values": {"optim.lr": 0.2}, "checkpoint": "ray/1/x/model.ckpt"}])  # fmt: skip
    search.write("extended", plan=search.plan.model_dump(mode="json"))
    told = {"trial_id": best, "epoch": 3, "number": 1}
    asked = {"candidates": 2, "seeds": 1, "flip_averaging": False}
    search.write("finals_began", number=1, asked=asked, candidates=[{**told, "values": {}, "val_accuracy": 0.6}], seeds=1)  # fmt: skip
    search.write("confirmed", **told, optimism=0.1, confirm={"statement": "it is better"})
    search.write("test_opened", **told, fingerprint="f", models=[{"file": "finals/final/1.ckpt"}], lost={}, flip_averaging=False, again=False)  # fmt: skip
    search.write("test_scored", **told, seeds=[0], test_accuracy=[0.5], mean=0.5, std=None, ci95=None, lost={}, test_images=60, flip_averaging=False)  # fmt: skip
    search.write("stopped", reason="a signal")
    search.write("finished")
    return (search.journal.folder / FILE_NAME).read_bytes()


def signed(event: Any) -> bytes:
    """A line whose checksum is right."""
    body = json.dumps(event, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body)


def use_all(folder: Path) -> None:
    """All that is told of a search by its folder alone, but the page."""
    results = Results.read(folder)
    write_tables(results)
    assert json.loads((folder / "summary.json").read_text())["trials"] == results.counts()
    assert standing(results)
    assert len(trial_rows(results)) == len(results.trials)
    ranked(results.trials.values(), results.plan)
    failure_table(results), finals_lines(results), results.known_point(0)
    for trial_id in results.trials:
        try:
            read_trial(folder, trial_id)
        except CifarTuneError:
            continue
    read_start_from(load_plan(None, [f"search.start_from={json.dumps(str(folder))}"]))


@on_cases
def test_the_bytes_of_a_journal(cases: str, tmp_path: Path, whole: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(whole)
    events = read_journal(tmp_path).events
    use_all(tmp_path)

    def check(content: bytes) -> None:
        (tmp_path / FILE_NAME).write_bytes(content)
        records = read_journal(tmp_path)
        assert records.events == events[: len(records.events)]
        assert records.torn_lines == (records.good_bytes < len(content))
        assert content[: records.good_bytes] == whole[: records.good_bytes]
        Results.from_records(tmp_path, records)

    damaged = damaged_bytes(whole) | st.binary(max_size=200)
    fuzz(cases, damaged, check, whole[:-1], whole + b"\0" * 100 + b"\n")


@on_cases
def test_the_events_of_a_journal_whose_checksums_are_right(
    cases: str, tmp_path: Path, whole: bytes
) -> None:
    folder = tmp_path / "search"
    folder.mkdir()
    events = [json.loads(line) for line in whole.splitlines()]

    def check(tree: Any) -> None:
        lines = []
        for number, event in enumerate(tree, 1):
            if isinstance(event, dict):
                event.pop("crc", None)
                event["seq"] = number
            lines.append(signed(event) if event not in ({}, []) else b"{}\n")
        (folder / FILE_NAME).write_bytes(b"".join(lines))
        use_all(folder)
        assert {path.name for path in folder.iterdir()} <= {FILE_NAME, "trials.csv", "summary.json"}

    without = [{**event, "plan": {}} if event["event"] == "start" else event for event in events]
    fuzz(cases, damaged_trees(events), check, deepcopy(without))
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "body",
    [
        '{"seq":1,"event":"search","x":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"seq":1,"event":"search","x":' + "9" * 100_000 + "}",
        '{"seq":1,"event":[],"time":1}',
        '{"seq":1e999,"event":"search"}',
        '{"seq":1,"event":"search","x":"\udcff"}',
        '{"seq":1,"event":"search","x":}',
    ],
    ids=["deep", "many digits", "no word", "infinite", "no text", "no json"],
)
def test_a_hostile_line_is_refused_within_its_seconds_and_bytes(body: str, tmp_path: Path) -> None:
    line = body.encode("utf-8", "surrogateescape")
    line = line[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(line)
    (tmp_path / FILE_NAME).write_bytes(line * 2)
    with limited(), pytest.raises(JournalError, match=r"jsonl:1: "):
        Results.read(tmp_path)
