"""What both sides of a whole search are given: the same configurations, and the same images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sides
import yaml

from cifar_tune.plan.load import load_plan
from cifar_tune.plan.rungs import first_rung
from cifar_tune.record.journal import read_journal
from cifar_tune.record.results import Results
from cifar_tune.search.configurations import Configurations
from cifar_tune.vision.data import prepare, search_data

ARRAYS = ("train_images", "train_labels", "val_images", "val_labels")


def write_job(folder: Path, config: str | None, overrides: Sequence[str]) -> Path:
    """What a peer is given, as `job.json` in a folder of its own.

    Args:
        folder: gets the job, `plan.yaml` for our command, and the arrays as .npy files: uint8
            images [n, 32, 32, 3] and int64 labels [n], split as our search splits them.
        config: the plan to start from; its searcher is random.
        overrides: `key=value`, as for `--set`.
    """
    plan: Any = load_plan(config, ["search.searcher=random", *overrides])
    rung = {"grace_period": first_rung(plan)}  # peers know no auto
    plan = plan.model_copy(update={"search": plan.search.model_copy(update=rung)})
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan.model_dump(mode="json")))
    data = search_data(prepare(plan.data, print), plan.data)
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(data, name))
    job: dict[str, Any] = {
        "arrays": str(folder),
        "points": list(Configurations(plan)),
        "plan": plan.model_dump(mode="json"),
        "mean": list(map(float, data.mean)),
        "std": list(map(float, data.std)),
    }
    (folder / "job.json").write_text(json.dumps(job))
    return folder / "job.json"


def our_outcome(folder: Path, job: Path) -> dict[str, float]:
    """What a search of ours came to, in a peer's words; its points must be those of the job.

    Raises:
        SystemExit: it tried other configurations than the peers.
    """
    records = read_journal(folder)
    results = Results.from_records(folder, records)
    tried = [dict(trial.values) for trial in results.trials.values()]
    if by_value(tried) != by_value(json.loads(job.read_text())["points"]):
        raise SystemExit(f"{folder} tried other configurations than the job has")
    reports = [event["metrics"] for event in records.of("result")]
    accuracies = [metrics["val_accuracy"] for metrics in reports]
    spans = [trial.spans for trial in results.trials.values()]
    first, last = [min(span) for span in spans], [max(span.values()) for span in spans]
    outcome = {
        "best_accuracy": max(accuracies),
        "epochs": float(len(reports)),
        "first_step_at": min(first),
    }
    if results.plan.resources.max_concurrent == 1:
        outcome["between_seconds"] = sides.between(first, last)
    return outcome


def by_value(points: Iterable[dict[str, Any]]) -> list[str]:
    """Points in an order of their own, to compare two lists of them."""
    return sorted(json.dumps(point, sort_keys=True) for point in points)
