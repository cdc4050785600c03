"""The lecture's search against the published tutorial, on the same configurations and images.

    python benchmarks/lecture_search.py --data-dir DIR

Ours is `--config lecture` from the start of the process to its exit, test split opened at the end;
"one CPU" is the same plan with a CPU for each trial instead of the lecture's two. The peer is
`train_cifar` of Ray's installed examples (`peers/tutorial.py`).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import listed
import quiet
import sides


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", metavar="DIR", required=True, help="images")
    parser.add_argument("--samples", type=int, default=8, help="configurations (8)")
    parser.add_argument("--epochs", type=int, default=2, help="of each training (2)")
    parser.add_argument("--images", type=int, default=8000, help="to train on (8000)")
    sides.add_options(parser, rounds=3)
    arguments = parser.parse_args()
    quiet.begin(arguments)
    given = [
        f"data.path={arguments.data_dir}", f"data.train_size={arguments.images}",
        f"data.val_size={arguments.images // 4}", f"search.num_samples={arguments.samples}",
        f"train.max_epochs={arguments.epochs}",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        jobs = {}
        for name, more in (("ours", []), ("one CPU", ["resources.cpus_per_trial=1"])):
            (folder := Path(place) / name).mkdir()
            jobs[name] = listed.write_job(folder, "lecture", [*given, *more])
        table = sides.alternate(
            {
                "ours": lambda _: sides.program("whole_search.py", "--job", jobs["ours"]),
                "one CPU": lambda _: sides.program("whole_search.py", "--job", jobs["one CPU"]),
                "tutorial": lambda _: sides.program("peers/tutorial.py", jobs["ours"]),
            },
            arguments.rounds,
        )
    sides.show(table, ("wall_seconds", "best_accuracy", "epochs"))
    ratios = sides.ratios(table, "wall_seconds", "tutorial", "one CPU")
    print(f"tutorial / one CPU: wall_seconds {sides.spread(ratios)}")
    quiet.save(arguments, {"sides": table})


if __name__ == "__main__":
    main()
