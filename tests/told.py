"""Tells a search's story to observers through a real journal and recorder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar_tune.plan.load import load_plan
from cifar_tune.record.journal import Journal
from cifar_tune.record.recorder import Observer, Recorder

FIRST_STEP = 1000.0  # Unix seconds
EPOCH_SECONDS = 2.0


class Story:
    """Writes the events of a search as the driver does."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._began: dict[str, float] = {}

    def begin(self, *overrides: str, slots: int = 2) -> None:
        """The search and its first start, under `--set` values."""
        plan = load_plan(None, overrides).model_dump(mode="json")
        self.recorder.write("search", version=1, plan=plan, data={}, environment={})
        self.start(slots=slots)

    def start(self, *, slots: int = 2) -> None:
        """One more start under the same plan."""
        plan = self.recorder.results.plan.model_dump(mode="json")
        number = len(self.recorder.results.starts) + 1
        self.recorder.write("start", number=number, slots=slots, process=1, plan=plan)

    def create(self, values: Mapping[str, Any]) -> str:
        """A new trial that runs; gives its id."""
        index = len(self.recorder.results.trials)
        name = f"t{index + 1:04d}"
        self.recorder.write(
            "trial_created", trial_id=name, index=index, seed=index, values=dict(values)
        )
        self.recorder.write("trial_started", trial_id=name, start=1)
        return name

    def report(self, name: str, epoch: int, val_accuracy: float, **more: Any) -> None:
        """One epoch of a trial."""
        best = max(
            [val_accuracy]
            + [row["val_accuracy"] for row in self.recorder.results.trials[name].results.values()]
        )
        metrics = {
            "epoch": epoch, "val_accuracy": val_accuracy, "val_loss": 1 - val_accuracy,
            "best_val_accuracy": best, "first_step_at": FIRST_STEP,
            "reported_at": FIRST_STEP + EPOCH_SECONDS * epoch,
        }  # fmt: skip
        told = {"checkpoint": None, "done": False, "diverged": False, **more}
        self.recorder.write("result", trial_id=name, metrics=metrics, **told)

    def end(self, name: str, status: str, reason: str = "", **more: Any) -> None:
        """The end of a trial in this start."""
        self.recorder.write("trial_ended", trial_id=name, status=status, reason=reason, **more)


@contextmanager
def story(folder: Path, observers: Sequence[Observer] = ()) -> Iterator[Story]:
    """The story of the search in `folder`, new or going on."""
    folder.mkdir(parents=True, exist_ok=True)
    with Journal(folder) as journal:
        yield Story(Recorder(journal, observers))
