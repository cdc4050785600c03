"""Downloads the official CIFAR-10 archive: with progress, resumed after a cut, and checked."""

from __future__ import annotations

import hashlib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cifar_tune.errors import DataError
from cifar_tune.plan.task import Say
from cifar_tune.vision.data.cache import DOWNLOADS, cache_root, locked

CONNECT_SECONDS = 5.0  # for name, connection and first answer together
FRUITLESS_ATTEMPTS = 3  # in a row, each without a single new byte, before an address is given up
CHUNK_BYTES = 1 << 18

Progress = Callable[[int, int], None]  # bytes there, bytes in all
NETWORK_ERRORS = (OSError, http.client.HTTPException)


class Archive(NamedTuple):
    """A file to download: its name, where it can be had, and what it must hash to."""

    name: str
    urls: tuple[str, ...]
    sha256: str


CIFAR10_PYTHON = Archive(
    name="cifar-10-python.tar.gz",
    urls=(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "https://cave.cs.toronto.edu/kriz/cifar-10-python.tar.gz",
    ),
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)


def downloaded_path(archive: Archive = CIFAR10_PYTHON, root: Path | None = None) -> Path:
    """Returns where the archive lies, or would lie, in the user's cache."""
    return (root or cache_root()) / DOWNLOADS / archive.name


def download(
    on_progress: Progress, on_note: Say, archive: Archive = CIFAR10_PYTHON, root: Path | None = None
) -> Path:
    """Downloads the archive into the user's cache, unless it is there, and returns its path.

    What an earlier try left is resumed. Raises DataError, naming the other ways to get the data,
    where no address answers within 5 seconds, and with both checksums where the file is wrong.
    """
    target = downloaded_path(archive, root)
    try:
        with locked(target, on_note):
            if not target.exists():
                _fetch(archive, target, on_progress, on_note)
    except NETWORK_ERRORS as error:  # those of the network are handled below: this is the disk
        raise DataError(f"{target} can't be written ({error}); free 200 MB there.") from error
    return target


def _fetch(archive: Archive, target: Path, on_progress: Progress, on_note: Say) -> None:
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    while True:
        _fetch_part(archive.urls, part, on_progress)
        with part.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got == archive.sha256:
            part.rename(target)
            return
        part.unlink()
        if not resumed:
            raise DataError(
                f"{archive.name} from {archive.urls[0]} has sha256 {got}, expected"
                f" {archive.sha256}; it was deleted. Does a proxy answer in its place?"
            )
        # Its first half may be of another file.
        on_note(f"{part.name}, resumed, does not have its checksum; it is downloaded anew.")
        resumed = False


def _fetch_part(urls: Sequence[str], part: Path, on_progress: Progress) -> None:
    """Fills `part` from the first address that gives all of it. Raises DataError if none does."""
    reasons = []
    for url in urls:
        fruitless = 0
        while fruitless < FRUITLESS_ATTEMPTS:
            before = _size(part)
            try:
                _fetch_once(url, part, on_progress)
                return
            except _RefusedError as error:
                reason = f"{url}: {error}"
                break
            except _CutError as error:
                reason = f"{url}: {error}"
            fruitless = 0 if _size(part) > before else fruitless + 1
        reasons.append(reason)
    raise DataError(
        f"CIFAR-10 could not be downloaded ({'; '.join(reasons)}). Give a copy of it with "
        "--data-dir PATH, run `cifar-tune data --download` on a machine with network, or use "
        "`--config quickstart`, which falls back to the built-in drawn set."
    )


class _RefusedError(Exception):
    """The address does not answer or has no such file; trying again would not help."""


class _CutError(Exception):
    """The transfer stopped in the middle; what has come is kept."""


def _fetch_once(url: str, part: Path, on_progress: Progress) -> None:
    start = _size(part)
    with _open(url, start) as response:
        if response.status != 206:
            start = 0  # the server does not resume: it sends all of it
        total = start + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if start else "wb") as file:
            while chunk := _read(response):
                file.write(chunk)
                on_progress(file.tell(), total)
    if _size(part) < total:
        raise _CutError(f"cut after {_size(part)} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK_BYTES)
    except NETWORK_ERRORS as error:
        raise _CutError(f"cut: {error or type(error).__name__}") from error


def _open(url: str, start: int) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "cifar-tune"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return open_in_time(request)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # nothing lies behind what is there: it is judged as it is
            return _open(url, 0)
        raise _RefusedError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _RefusedError(str(error.reason)) from error
    except NETWORK_ERRORS as error:
        raise _RefusedError(str(error) or type(error).__name__) from error


def open_in_time(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Opens an address within CONNECT_SECONDS; a socket's own limit leaves out the name."""
    answer: list[Any] = []

    def connect() -> None:
        try:
            answer.append(urllib.request.urlopen(request, timeout=CONNECT_SECONDS))
        except BaseException as error:
            answer.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if not answer:
        raise TimeoutError(f"no answer within {CONNECT_SECONDS:g} seconds")
    response: http.client.HTTPResponse | BaseException = answer[0]
    if isinstance(response, BaseException):
        raise response
    return response


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
