"""Optuna with Lightning and a pruning callback, in two processes; a peer, no model to copy.

    python benchmarks/peers/optuna_side.py JOB [--stopping]

The training is that of `ported_example.py`. What starts the processes imports neither torch nor
Lightning, which would come before their own imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

PROCESSES = 2
NAME = "ported"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--stopping", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    job = json.loads(arguments.job.read_text())
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend("optuna.log")),
        study_name=NAME,
        direction="maximize",
        pruner=_pruner(job) if arguments.stopping else optuna.pruners.NopPruner(),
        load_if_exists=arguments.worker,
    )
    if arguments.worker:
        from ported_example import work_for_optuna

        work_for_optuna({**job, "marks": str(Path.cwd() / "marks")}, study)
        return
    for number in range(len(job["points"])):
        study.enqueue_trial({"number": number})
    # As from a shell: children of multiprocessing would start their loaders' workers in its way.
    command = [sys.executable, *sys.argv, "--worker"]
    workers = [subprocess.Popen(command) for _ in range(PROCESSES)]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise SystemExit("a process of Optuna's side failed")
    trials = study.get_trials(deepcopy=False)
    if len(trials) != len(job["points"]):
        raise SystemExit("both processes took the last configuration for theirs; once more")
    values = [value for trial in trials for value in trial.intermediate_values.values()]
    outcome = {"best_accuracy": max(values), "epochs": float(len(values))}
    Path("outcome.json").write_text(json.dumps(outcome))


def _pruner(job: dict[str, Any]) -> optuna.pruners.BasePruner:
    search = job["plan"]["search"]
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=search["grace_period"], reduction_factor=search["reduction_factor"]
    )


if __name__ == "__main__":
    main()
