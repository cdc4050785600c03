"""From the command to the first training step, against Ray's Lightning example ported to CIFAR-10.

    python benchmarks/first_step.py --data-dir DIR
    python benchmarks/first_step.py --data-dir DIR --next

Each side is the whole command, in processes that were never used before, with the dataset decoded
beforehand; the time runs from the start of the command to the begin of its first training step.
With `--next` one trial runs at a time, and the time is what lies between one's end and the next
one's first step: Ray's example starts a process for each, which imports torch and Lightning anew.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import listed
import quiet
import sides

FIRST, BETWEEN = "first_step_seconds", "between_seconds"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", metavar="DIR", required=True, help="images")
    parser.add_argument("--samples", type=int, default=2, help="configurations (2)")
    parser.add_argument("--next", action="store_true", help="the next trial's; give --samples 5")
    sides.add_options(parser, rounds=5)
    arguments = parser.parse_args()
    quiet.begin(arguments)
    small = [
        f"data.path={arguments.data_dir}", "data.train_size=2000", "data.val_size=500",
        f"search.num_samples={arguments.samples}", "train.max_epochs=1", "finals.seeds=0",
        "search.scheduler=none", f"resources.max_concurrent={1 if arguments.next else 'auto'}",
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
    for outcomes in table.values():
        for outcome in outcomes:
            outcome[FIRST] = outcome["first_step_at"] - outcome["started_at"]
    key = BETWEEN if arguments.next else FIRST
    sides.show(table, (key,))
    print(f"ours / ported: {key} {sides.spread(sides.ratios(table, key, 'ours', 'ported'))}")
    quiet.save(arguments, {"sides": table})


if __name__ == "__main__":
    main()
