"""What only a GPU can tell, settled in one call of at most nine minutes: no Ray, no network.

    python benchmarks/gpu.py [--out gpu.json] [--only smoke step ...] [--small]

Each section is a process with a limit of its own, the most important first, and each item is in the
file as soon as it is known. At the end stand the claims with pass or fail, and what stayed open.
Without a GPU the same runs on the CPU, which with `--small` only shows that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LIMITS = {  # seconds; nine minutes in all
    "smoke": 130, "step": 100, "flags": 40, "speed94": 100, "fixed": 30, "packing": 80,
    "memory": 30, "nccl": 30,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.section:
        import gpu_sections

        gpu_sections.run(arguments.section, small=arguments.small)
        return 0
    items: list[dict[str, Any]] = []
    for section in arguments.only or LIMITS:
        items += _section(section, arguments, items)
    claims = [item for item in items if "claim" in item]
    for item in claims:
        _say(f"{'pass' if item['passed'] else 'FAIL'}  {item['claim']}: {item['told']}")
    for item in items:
        if "open" in item:
            _say(f"open  {item['section']}: {item['open']}")
    return int(not all(item["passed"] for item in claims))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="gets a line an item")
    parser.add_argument("--only", nargs="+", choices=LIMITS, help="these sections")
    parser.add_argument("--small", action="store_true", help="tiny networks and few steps")
    parser.add_argument("--slack", type=float, default=1.0, help="times each section's limit")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    return parser


def _section(
    section: str, arguments: argparse.Namespace, before: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The items of one section, also of one that failed or ran into its limit."""
    words = [sys.executable, __file__, "--section", section, *["--small"] * arguments.small]
    items: list[dict[str, Any]] = []
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    timer = threading.Timer(LIMITS[section] * arguments.slack, _end, [child.pid])
    timer.start()
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("{"):
            items.append({"section": section, **json.loads(line)})
            _save(arguments.out, [*before, *items])
            _say(line.rstrip())
    code = child.wait()
    timer.cancel()
    if code:
        why = f"it ended with {code}" + (", at its limit" if code == -signal.SIGKILL else "")
        items.append({"section": section, "open": why})
        _save(arguments.out, [*before, *items])
    return items


def _end(process: int) -> None:
    os.killpg(process, signal.SIGKILL)


def _save(path: Path, items: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
