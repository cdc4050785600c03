"""Names of files and classes: which are hidden, which are no text, and how one is shown."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence

NAMED = 10  # of what is wrong, in an error; the rest are counted

# What file managers, network drives and editors leave among pictures, besides names with a dot.
HIDDEN = frozenset(
    name.casefold()
    for name in (
        "__MACOSX", "__pycache__", "@eaDir", "@Recently-Snapshot", "@Recycle", "@tmp", "#recycle",
        "#snapshot", "$RECYCLE.BIN", "desktop.ini", "lost+found", "System Volume Information",
        "Thumbs.db",
    )
)  # fmt: skip


def is_hidden(part: str) -> bool:
    """Whether a file or folder of this name is none that its owner put there."""
    return part.startswith(".") or part.casefold() in HIDDEN


def is_text(name: str) -> bool:
    """Whether the name was UTF-8 on the disk; its other bytes are surrogates from 0xDC80."""
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


def on_disk(name: str) -> str:
    """The same name wherever it is read: as UTF-8, whatever the locale took its bytes for."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def one_form(name: str) -> str:
    """The name in one Unicode form (NFC): macOS writes an accent apart from its letter."""
    return unicodedata.normalize("NFC", name)


def spelt(name: str) -> str:
    r"""The name as it can be printed anywhere: what a terminal would obey, and bytes that are no
    text, as `\x1b` and `\xe4`."""
    return "".join(c if c.isprintable() else _escaped(c) for c in name)


def named_below(head: str, lines: Sequence[str]) -> list[str]:
    """The lines of an error: its head, at most NAMED of what is wrong, and how many more there
    are."""
    more = [f"  and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [head, *(f"  {line}" for line in lines[:NAMED]), *more]


def _escaped(letter: str) -> str:
    return ascii(letter)[1:-1] if is_text(letter) else f"\\x{ord(letter) - 0xDC00:02x}"
