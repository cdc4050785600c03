"""The results folder of a start: names, what is refused, and that nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cifar_tune.errors import ResultsError
from cifar_tune.plan.load import load_plan
from cifar_tune.plan.place import ROOM_BELOW
from cifar_tune.record.journal import Journal
from cifar_tune.session.folder import (
    check_folder,
    holds_search,
    results_folder,
    unfinished_folder,
)


def test_an_existing_search_is_refused_with_the_command_to_go_on(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append("start")
        with pytest.raises(ResultsError, match=r"in use by a search that is running"):
            check_folder(tmp_path)
    with pytest.raises(ResultsError, match=r"holds a search already; .* resume "):
        check_folder(tmp_path)


def test_a_folder_in_which_a_start_died_before_its_first_event_is_used(tmp_path: Path) -> None:
    with Journal(tmp_path):
        pass
    assert not holds_search(tmp_path)
    check_folder(tmp_path)


def test_without_a_name_the_newest_search_of_the_config_goes_on_if_it_did_not_end(
    tmp_path: Path,
) -> None:
    plan = load_plan(None, [f"out={tmp_path}"])
    assert unfinished_folder(plan, None) is None
    for number, events in ((1, ["search", "finished"]), (2, ["search"])):
        folder = tmp_path / f"asha-{number}"
        folder.mkdir()
        with Journal(folder) as journal:
            for event in events:
                values = {"version": 1, "plan": {}, "data": {}, "environment": {}}
                journal.append(event, **(values if event == "search" else {}))
        expected = folder if "finished" not in events else None
        assert unfinished_folder(plan, None) == expected


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ResultsError, match=r"exists and is not a search"):
        check_folder(tmp_path)


@pytest.mark.parametrize("place", ["file/a/b", "/proc/nope/a"])
def test_a_place_that_can_not_be_written_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"choose another --out"):
        check_folder(tmp_path / place)


def test_a_good_place_is_left_as_it_was(tmp_path: Path) -> None:
    check_folder(tmp_path / "a b" / "ü#%?")
    assert not any(tmp_path.iterdir())


def test_names_are_numbered_on_from_the_highest(tmp_path: Path) -> None:
    for name in ("asha-1", "asha-7", "asha-x", "grid-9"):
        (tmp_path / name).mkdir()
    plan = load_plan(None, [f"out={tmp_path}"])
    assert results_folder(plan, None).name == "asha-8"
    assert results_folder(plan, "configs/grid.yaml").name == "grid-10"
    named = load_plan(None, [f"out={tmp_path}", "name=mine"])
    assert results_folder(named, "grid") == tmp_path / "mine"


def test_a_folder_that_lies_too_deep_is_refused_before_a_trial_finds_out(tmp_path: Path) -> None:
    """A search makes folders and files below it, whose paths are longer by a good deal."""
    longest = os.pathconf("/", "PC_PATH_MAX") - ROOM_BELOW
    folder = tmp_path
    while len(str(folder)) < longest - 110:
        folder /= "d" * 100
    fits = folder / ("e" * (longest - len(str(folder)) - 1))
    assert len(str(fits)) == longest
    check_folder(fits)
    with pytest.raises(ResultsError, match=rf"too deep: its path has {longest + 1} bytes"):
        check_folder(fits.with_name(fits.name + "e"))


def test_the_paths_of_a_search_are_shorter_than_the_room_that_is_left_for_them() -> None:
    stage = "finals/confirm-1000/"
    checkpoint = f"{stage}ray/1000/t10000000-1000/checkpoint_{10**6}/.model.ckpt.{2**22}"
    events = f"tensorboard/finals-confirm-1000/t10000000/events.out.tfevents.{10**10}.{'h' * 64}"
    assert max(len(checkpoint), len(events)) < ROOM_BELOW
