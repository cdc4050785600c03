"""The command `cifar-tune data`: where the cache of decoded datasets is, what it holds."""

from __future__ import annotations

from collections.abc import Sequence

from cifar_tune.plan.parser import Parser
from cifar_tune.process import check_shown, say
from cifar_tune.vision.data import cache_root, download, empty_cache, list_entries


def main(words: Sequence[str]) -> int:
    """Show, fill or empty the cache; returns the exit code."""
    parser = Parser(
        prog="cifar-tune data", description="Show, fill or empty the cache of decoded datasets."
    )
    parser.add_argument("--download", action="store_true", help="download the official CIFAR-10")
    parser.add_argument("--empty", action="store_true", help="delete everything in the cache")
    arguments = parser.parse_args(words)
    if arguments.empty:
        say(f"freed {empty_cache() / 1e6:.1f} MB in {cache_root()}")
        return 0
    if arguments.download:
        say(f"CIFAR-10 is in {download(_show_progress, say)}")
        return 0
    say(f"cache   {cache_root()}")
    for entry in list_entries():
        say(f"{entry.kind:15}  {entry.size_bytes / 1e6:8.1f} MB  {entry.source}")
    check_shown()
    return 0


def _show_progress(done_bytes: int, total_bytes: int) -> None:
    say(f"\r{done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB", end="")
