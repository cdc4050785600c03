"""Reads train.csv, val.csv and test.csv: which image is of which class, a line each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cifar_tune.errors import DataError
from cifar_tune.vision.data.layout import Place, has_image_suffix
from cifar_tune.vision.data.pictures import SUFFIXES
from cifar_tune.vision.names import named_below, one_form, spelt

SPLIT_FILES = {"train": "train.csv", "val": "val.csv", "test": "test.csv"}
COLUMNS = ("path", "label")


def has_split_files(folder: Path) -> bool:
    """Whether they say what is what: a table beside folders of classes is something else."""
    train = folder / "train"
    classes = train.is_dir() and any(inner.is_dir() for inner in train.iterdir())
    return (folder / SPLIT_FILES["train"]).is_file() and not classes


def listed_files(folder: Path) -> Iterator[Path]:
    """The split files themselves, then what they name. Raises DataError as `read_split_files`."""
    yield from (folder / name for name in SPLIT_FILES.values() if (folder / name).is_file())
    yield from (folder / name for name in read_split_files(folder))


def read_split_files(folder: Path) -> dict[str, Place]:
    """The place of each image, by its path below the folder.

    Raises:
        DataError: a file is no table with a path and a label, or has wrong lines; they are named.
    """
    places: dict[str, Place] = {}
    wrong: list[str] = []
    for split, name in SPLIT_FILES.items():
        if (folder / name).is_file():
            for line, row in _rows(folder / name):
                place = _place(split, row)
                if isinstance(place, str):
                    wrong.append(f"{name}, line {line}: {place}")
                elif (before := places.setdefault(place.file, place)) is not place:
                    of = SPLIT_FILES[before.split]
                    wrong.append(f"{name}, line {line}: {spelt(place.file)} stands in {of} already")
    if wrong:
        head = f"{folder}: {len(wrong)} lines can't be used; mend them:"
        raise DataError("\n".join(named_below(head, wrong)))
    return places


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} can't be read ({error}); save it as CSV in UTF-8.") from error
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise DataError(
                f"{file} has the columns {', '.join(reader.fieldnames or ()) or 'none'}; it must"
                " have path and label, named in its first line."
            )
        for row in reader:
            yield reader.line_num, {name: row[name] or "" for name in COLUMNS}
    except csv.Error as error:
        raise DataError(
            f"{file}, line {reader.line_num}: {error}; save it as CSV with commas."
        ) from error


def _place(split: str, row: dict[str, str]) -> Place | str:
    """Where an image belongs, or what is wrong with its line."""
    path, label = (row[name].strip() for name in COLUMNS)
    if not path or not label:
        return f"path is {path!r} and label {label!r}; both are needed"
    parts = PurePosixPath(path).parts
    if parts[0] == "/" or ".." in parts:
        return f"path is {spelt(path)}; it must lie below the folder of the file"
    if not has_image_suffix(path):
        return f"path is {spelt(path)}; an image ends in {', '.join(SUFFIXES)}"
    return Place(split, one_form(label), str(PurePosixPath(path)), label)
