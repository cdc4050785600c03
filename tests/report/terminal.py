"""A real pseudo-terminal with a screen that can be read: enough of one for a table that is redrawn."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
import threading
from types import TracebackType
from typing import TextIO

PART = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\x1b\]8;[^\x1b]*\x1b\\|([\r\n])|([^\x1b\r\n]+)")


class Terminal:
    """`stream` is the program's side; what it wrote is kept as `raw` and drawn on a screen."""

    def __init__(self, columns: int = 100, rows: int = 40) -> None:
        self._reading, writing = os.openpty()
        self.stream: TextIO = os.fdopen(writing, "w", encoding="utf-8")
        self.raw = ""
        self._columns = columns
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.resize(columns, rows)

    def __enter__(self) -> Terminal:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.hang_up()
        self._thread.join()

    def resize(self, columns: int, rows: int) -> None:
        """As when its window is dragged."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._reading, termios.TIOCSWINSZ, size)

    def echo(self, text: str) -> None:
        """What the terminal itself shows where the cursor stands, such as ^C."""
        self.raw += text

    def hang_up(self) -> None:
        """The program's side is closed."""
        if not self.stream.closed:
            self.stream.close()

    def _read(self) -> None:
        while True:
            try:
                content = os.read(self._reading, 65536)
            except OSError:  # the other side is closed
                return
            self.raw += content.decode(errors="replace")

    def screen(self) -> list[str]:
        """The lines as they stand; what is too long for the first window goes on in the next."""
        lines, row, column = [""], 0, 0
        for code, letter, move, text in PART.findall(self.raw):
            if letter == "A":
                row = max(0, row - int(code or 1))
            elif letter == "K":
                lines[row] = ""
            elif move == "\r":
                column = 0
            elif move == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            for sign in text:
                if column == self._columns:
                    row, column = row + 1, 0
                    lines += [""] * (row + 1 - len(lines))
                lines[row] = lines[row][:column].ljust(column) + sign + lines[row][column + 1 :]
                column += 1
        return lines

    @property
    def text(self) -> str:
        """The screen's lines in one piece."""
        return "\n".join(self.screen())
