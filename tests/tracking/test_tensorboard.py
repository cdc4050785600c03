from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter  # noqa: F401  the format that is read below

from cifar_tune.tracking.tensorboard import TensorBoardFiles


def events(folder: Path) -> list[Any]:
    """All events of a run, read from its file: length (8), its checksum (4), event, checksum (4)."""
    read = []
    for file in sorted(folder.glob("events.*")):
        content = file.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            event = Event()
            event.ParseFromString(content[12 : 12 + length])
            read.append(event)
            content = content[16 + length :]
    return read


def search(epochs: int) -> Any:
    results = {
        epoch: {"epoch": epoch, "val_accuracy": 0.1 * epoch, "val_loss": 1.0, "reported_at": 5.0}
        for epoch in range(1, epochs + 1)
    }
    values = {"optim.lr": 0.1, "optim.name": "sgd"}
    trial = SimpleNamespace(trial_id="t0001", results=results, epochs=epochs, values=values)
    return SimpleNamespace(trials={"t0001": trial})


def test_scalars_and_hyperparameters_are_in_the_trials_file(tmp_path: Path) -> None:
    files, results = TensorBoardFiles(tmp_path), search(3)
    for metrics in results.trials["t0001"].results.values():
        files({"event": "result", "trial_id": "t0001", "metrics": metrics}, results)
    files({"event": "trial_ended", "trial_id": "t0001"}, results)
    files.close()
    values = [
        (e.step, v.tag, v.simple_value) for e in events(tmp_path / "t0001") for v in e.summary.value
    ]
    accuracies = [round(value, 3) for _, tag, value in values if tag == "val_accuracy"]
    assert accuracies == [0.1, 0.2, 0.3]
    tags = {tag for _, tag, _ in values}
    assert {"final/val_accuracy", "_hparams_/session_start_info"} <= tags
    assert not any(tag.endswith("_at") for tag in tags)


def test_a_folder_that_can_not_be_written_is_told_once_and_costs_nothing(
    tmp_path: Path, caplog: Any
) -> None:
    (tmp_path / "file").touch()
    files, results = TensorBoardFiles(tmp_path / "file"), search(2)
    for metrics in results.trials["t0001"].results.values():
        files({"event": "result", "trial_id": "t0001", "metrics": metrics}, results)
    files.close()
    assert caplog.text.count("TensorBoard files can't be written") == 1
