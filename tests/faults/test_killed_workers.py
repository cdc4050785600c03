"""A trial's process that is killed in the middle of the copy of a checkpoint."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import ray.cloudpickle
from search import objectives
from search.searching import Search, events, searching

EPOCHS = 4


def dying_in_a_copy(run: Any, data: Any, reporter: Any, resume_from: Path | None) -> None:
    """Seed 0 is killed when its second checkpoint is copied by half; it notes where it came from."""
    import os
    import signal

    import pyarrow.fs

    before = pyarrow.fs.copy_files

    def copy_half(source: str, destination: str, **more: Any) -> None:
        if not destination.endswith("checkpoint_000001"):
            before(source, destination, **more)
            return
        content = Path(source, "model.ckpt").read_bytes()
        Path(destination, "model.ckpt").write_bytes(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    if run.seed == 0 and resume_from is None:
        pyarrow.fs.copy_files = copy_half
    objectives.with_file(run, data, reporter, resume_from)


@pytest.mark.usefixtures("ray_session")
def test_row_13_a_checkpoint_that_is_copied_by_half_is_never_loaded(tmp_path: Path) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import it
    search: Search = searching(tmp_path / "results")
    given = ("search.scheduler=none", f"train.max_epochs={EPOCHS}", "search.num_samples=2")
    results, _ = search(*given, objective=dying_in_a_copy)
    torn = [path for path in (tmp_path / "results" / "ray").rglob("*.ckpt") if not _whole(path)]
    assert [path.parent.name for path in torn] == ["checkpoint_000001"]
    kinds = [(e["trial_id"], e["kind"]) for e in events(results, "trial_retried")]
    assert kinds == [("t0001", "lost process")]
    reports = [e["metrics"]["epoch"] for e in events(results, "result") if e["trial_id"] == "t0001"]
    assert reports == [1, 2, 3, 4]
    assert results.counts()["completed"] == 2


def _whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False
