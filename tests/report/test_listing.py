"""`cifar-tune list`: a line a search, also of one that can't be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from report.searches import WrittenSearch, usual

from cifar_tune.tune import main


def test_each_search_has_a_line_with_its_state_best_and_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual(tmp_path / "first").finish()
    tested = usual(tmp_path / "tested", "search.searcher=tpe")
    about = {"trial_id": "t0004", "epoch": 3, "number": 0}
    tested.write("test_opened", **about, fingerprint="f")
    more = {"mean": 0.7, "std": None, "ci95": None, "test_images": 60, "flip_averaging": False}
    tested.write("test_scored", **about, seeds=[3], test_accuracy=[0.7], **more)
    tested.leave()
    running = WrittenSearch(tmp_path / "running")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "journal.jsonl").write_text('{"event": "search"}\n')
    (tmp_path / "no search").mkdir()
    assert main(["list", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    told = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    assert told["search"] == "state method trials best test epochs time"
    assert told["first"].startswith(
        "finished random with asha 8 of 16 validation accuracy 0.750 (t0004) - 17 "
    )
    assert told["tested"].startswith("killed tpe with asha")
    assert "accuracy 0.700" in told["tested"]
    assert told["running"].startswith("running random with asha 0 of 16 - - 0 ")
    assert told["broken"].startswith("can't be read: ")
    running.leave()
    assert main(["list", str(tmp_path / "first")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_folder_without_searches_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / 'results'} holds no search; give the folder that --out named" in told
