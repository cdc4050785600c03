"""A whole search against what people would pick instead, on the same configurations and images.

    python benchmarks/whole_search.py --data-dir DIR             # nothing is stopped early
    python benchmarks/whole_search.py --data-dir DIR --stopping  # ASHA; Optuna: successive halving

Ours is the command line, from the start of the process to its exit, test split opened at the end.
The peers are Ray's Lightning example ported to CIFAR-10, and Optuna with Lightning in two
processes (`peers/ported_example.py`). All have the same configurations, split, epochs and network.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import listed
import quiet
import sides

PEERS = ("ported", "optuna")


def main() -> None:
    arguments = _arguments()
    if arguments.job is not None:
        _run_ours(arguments.job)
        return
    quiet.begin(arguments)
    with tempfile.TemporaryDirectory() as place:
        job = listed.write_job(Path(place), None, _overrides(arguments))
        peer = sides.program("peers/ported_example.py", job)
        stopping = ["--stopping"] if arguments.stopping else []
        peers: dict[str, sides.Command] = {
            "ported": lambda _: [*peer, *stopping],
            "optuna": lambda _: sides.program("peers/optuna_side.py", job, *stopping),
        }
        table = sides.alternate(
            {
                "ours": lambda _: sides.program("whole_search.py", "--job", job),
                **{name: peers[name] for name in arguments.peers},
            },
            arguments.rounds,
        )
    sides.show(table, ("wall_seconds", "best_accuracy", "epochs"))
    quiet.save(arguments, {"sides": table})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", metavar="DIR", help="images, as for the search")
    parser.add_argument("--samples", type=int, default=12, help="configurations (12)")
    parser.add_argument("--epochs", type=int, default=4, help="of each training (4)")
    parser.add_argument("--images", type=int, default=10_000, help="to train on (10000)")
    parser.add_argument("--stopping", action="store_true", help="ASHA on both sides")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, help="(both)")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    sides.add_options(parser, rounds=3)
    return parser.parse_args()


def _overrides(arguments: argparse.Namespace) -> list[str]:
    if arguments.data_dir is None:
        raise SystemExit("--data-dir is missing: the folder or archive of the images")
    return [
        f"data.path={arguments.data_dir}", f"data.train_size={arguments.images}",
        f"search.num_samples={arguments.samples}", f"train.max_epochs={arguments.epochs}",
        f"search.scheduler={'asha' if arguments.stopping else 'none'}",
        "search.reduction_factor=2", "finals.seeds=0",
    ]  # fmt: skip


def _run_ours(job: Path) -> None:
    """The command as a user types it, timed; then what its journal says."""
    plan, out = job.with_name("plan.yaml"), Path.cwd() / "out"
    words = ["--config", str(plan), "--out", str(out), "--name", "ours"]
    began, started_at = time.monotonic(), time.time()
    subprocess.run([sys.executable, "-m", "cifar_tune.tune", *words], check=True)
    times = {"wall_seconds": time.monotonic() - began, "started_at": started_at}
    outcome = {**times, **listed.our_outcome(out / "ours", job)}
    Path("outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main()
