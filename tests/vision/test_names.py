"""Names are shown so that any terminal takes them, and equal names are equal on every disk."""

from __future__ import annotations

import pytest

from cifar_tune.vision.names import is_hidden, is_text, on_disk, one_form, spelt


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Kätzchen/猫.png", "Kätzchen/猫.png"),
        ("K\udce4tzchen", r"K\xe4tzchen"),
        ("\x1b[31m\n", r"\x1b[31m\n"),
        ("\u202eevil", r"\u202eevil"),
    ],
)
def test_what_is_not_printable_is_spelt_out(name: str, shown: str) -> None:
    assert spelt(name) == shown
    spelt(name).encode("utf-8")


@pytest.mark.parametrize(
    "name",
    [
        ".git",
        "._1.png",
        ".DS_Store",
        "@eaDir",
        "__MACOSX",
        "Thumbs.db",
        "THUMBS.DB",
        "$RECYCLE.BIN",
    ],
)
def test_what_file_managers_leave_is_hidden(name: str) -> None:
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["cat", "_background", "@home", "#1", "thumbs", "1.png"])
def test_what_a_user_names_is_not_hidden(name: str) -> None:
    assert not is_hidden(name)


def test_two_forms_of_a_name_become_one() -> None:
    assert one_form("cafe\u0301") == one_form("café") == "café"


def test_bytes_that_are_no_text_are_told_from_text() -> None:
    assert is_text("Kätzchen")
    assert not is_text(on_disk("K\udce4tzchen"))
