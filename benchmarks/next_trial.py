"""From a trial's end to the next one's first step, against Ray's Lightning example ported.

    python benchmarks/next_trial.py --data-dir DIR

One trial runs at a time, so what lies between two of them is what a trial costs beside
training: Ray's example starts a process for each, which imports torch and Lightning anew.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import listed
import quiet
import sides

KEY = "between_seconds"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", metavar="DIR", required=True, help="images")
    parser.add_argument("--samples", type=int, default=5, help="configurations (5)")
    sides.add_options(parser, rounds=3)
    arguments = parser.parse_args()
    quiet.begin(arguments)
    small = [
        f"data.path={arguments.data_dir}", "data.train_size=2000", "data.val_size=500",
        f"search.num_samples={arguments.samples}", "train.max_epochs=1", "finals.seeds=0",
        "search.scheduler=none", "resources.max_concurrent=1",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        job = listed.write_job(Path(place), None, small)
        table = sides.alternate(
            {
                "ours": lambda _: sides.program("whole_search.py", "--job", job),
                "ported": lambda _: sides.program("peers/ported_example.py", job),
            },
            arguments.rounds,
        )
    sides.show(table, (KEY,))
    sides.save(arguments, {"sides": table})


if __name__ == "__main__":
    main()
