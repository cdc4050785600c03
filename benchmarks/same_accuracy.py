"""Whether what is faster is as good: one configuration over seeds, ours and a peer's.

    python benchmarks/same_accuracy.py --data-dir DIR             # the ported Lightning example
    python benchmarks/same_accuracy.py --data-dir DIR --lecture   # the published tutorial

A ratio of times counts only where the 95 % interval of the paired difference in validation accuracy
(Student's t over at least five seeds) excludes a loss of more than 1 point.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import listed
import numpy as np
import quiet
import sides
from scipy.stats import t as student

LEAST_SEEDS = 5
TUTORIAL_EPOCHS = 10  # it has no other end

# The lecture's space is wide: most of its points learn next to nothing in a few epochs.
LECTURE_POINT = {"model.l1": 64, "model.l2": 64, "optim.lr": 0.003, "data.batch_size": 8}


def main() -> None:
    arguments = _arguments()
    if arguments.job is not None:
        _train(arguments.job, arguments.seed)
        return
    if arguments.data_dir is None or arguments.rounds < LEAST_SEEDS:
        raise SystemExit(f"give --data-dir, and {LEAST_SEEDS} --rounds or more")
    if arguments.lecture and arguments.epochs > TUTORIAL_EPOCHS:
        raise SystemExit(f"the tutorial trains {TUTORIAL_EPOCHS} epochs at most; lower --epochs")
    quiet.begin(arguments)
    config, name = ("lecture", "tutorial") if arguments.lecture else (None, "ported_example")
    given = [
        f"data.path={arguments.data_dir}", f"data.train_size={arguments.images}",
        f"train.max_epochs={arguments.epochs}", "search.num_samples=1",
    ]  # fmt: skip
    pairs = []
    with tempfile.TemporaryDirectory() as place:
        job = listed.write_job(Path(place), config, given)
        if arguments.lecture:
            job.write_text(json.dumps({**json.loads(job.read_text()), "points": [LECTURE_POINT]}))
        for seed in range(arguments.rounds):
            ours = sides.program("same_accuracy.py", "--job", job, "--seed", seed)
            peer = sides.program(f"peers/{name}.py", job, "--alone", seed)
            table = sides.alternate({"ours": lambda _: ours, name: lambda _: peer}, 1)  # noqa: B023
            pairs.append([outcomes[0]["accuracy"] for outcomes in table.values()])
    quiet.save(arguments, {f"ours and {name}": pairs, **_show(pairs, name)})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", metavar="DIR", help="images")
    parser.add_argument("--epochs", type=int, default=4, help="of each training (4)")
    parser.add_argument("--images", type=int, default=10_000, help="to train on (10000)")
    parser.add_argument("--lecture", action="store_true", help="its plan, against the tutorial")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    sides.add_options(parser, rounds=8)
    return parser.parse_args()


def _train(job: Path, seed: int) -> None:
    """One training of ours by the first point, in a process of its own as the peer's."""
    from cifar_tune.plan.load import load_plan
    from cifar_tune.train.fit import fit
    from cifar_tune.vision.data import SearchData

    given = json.loads(job.read_text())
    plan = load_plan(str(job.with_name("plan.yaml")))
    images, labels, val_images, val_labels = (
        np.load(job.with_name(f"{name}.npy")) for name in listed.ARRAYS
    )
    classes = tuple(map(str, range(10)))
    mean, std = tuple(given["mean"]), tuple(given["std"])
    data = SearchData(images, labels, val_images, val_labels, classes, mean, std)
    result = fit(plan.with_values(given["points"][0], seed=seed), data)
    Path("outcome.json").write_text(json.dumps({"accuracy": result.metrics["val_accuracy"]}))


def _show(pairs: list[list[float]], peer: str) -> dict[str, float]:
    """Print both sides and the interval of ours minus the peer's, in points, and return it."""
    differences = [100 * (ours - peer) for ours, peer in pairs]
    mean, n = statistics.mean(differences), len(differences)
    half = float(student.ppf(0.975, n - 1)) * statistics.stdev(differences) / n**0.5
    for name, accuracies in zip(("ours", peer), zip(*pairs, strict=True), strict=True):
        print(f"{name:14} {sides.spread(accuracies)}")
    verdict = "excludes" if mean - half > -1 else "does not exclude"
    print(
        f"ours - {peer}: {mean:+.2f} points, 95 % interval {mean - half:+.2f} to"
        f" {mean + half:+.2f}, n = {n}: {verdict} a loss of more than 1 point"
    )
    return {"difference": mean, "half_width": half}


if __name__ == "__main__":
    main()
