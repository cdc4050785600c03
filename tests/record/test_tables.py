"""The tables tell what the finals came to, of which model the score is, and what they don't know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report.searches import WrittenSearch

from cifar_tune.record.results import Results
from cifar_tune.record.tables import finals_of, model_in_words
from cifar_tune.session.outcome import finals_lines

MODEL = {
    "kind": "final", "file": "finals/seed-1/model.ckpt", "sha256": "0", "seed": 7, "score": 0.74,
    "ci95": [0.7, 0.78],
}  # fmt: skip


@pytest.fixture
def search(tmp_path: Path) -> WrittenSearch:
    """Three trials; finals of the best two chose the second best and scored three models of it."""
    search = WrittenSearch(tmp_path)
    for accuracy in (0.5, 0.7, 0.6):
        search.run([0.1, 0.2, accuracy])
    begin(search, 1, "t0002", "t0003")
    confirm(search, 1, "t0003")
    search.write("test_opened", number=1, trial_id="t0003", epoch=3, models=[MODEL], lost={})
    search.write(
        "test_scored", number=1, trial_id="t0003", epoch=3, seeds=[7, 8, 9],
        test_accuracy=[0.74, 0.72, 0.73], mean=0.73, std=0.01, ci95=[0.71, 0.75], model=MODEL,
        lost={"failed": 0, "diverged": 1},
    )  # fmt: skip
    return search


def begin(search: WrittenSearch, number: int, *names: str) -> None:
    candidates = [
        {"trial_id": name, "epoch": 3, "val_accuracy": 0.7, "values": {}} for name in names
    ]
    asked = search.plan.finals.model_dump()
    search.write("finals_began", number=number, asked=asked, candidates=candidates, seeds=3)


def confirm(search: WrittenSearch, number: int, chosen: str) -> None:
    told = {"statement": f"Taken: {chosen}.", "chosen": chosen}
    search.write("confirmed", number=number, trial_id=chosen, epoch=3, optimism=0.02, confirm=told)


def hand_over(search: WrittenSearch) -> None:
    search.write("handed_over", number=1, model=MODEL)


def of(search: WrittenSearch) -> dict[str, Any]:
    finals = finals_of(search.results)
    assert finals is not None
    return finals


def test_the_score_is_that_of_the_model_in_best_once_it_lies_there(search: WrittenSearch) -> None:
    assert of(search)["model"] is None
    before = finals_lines(search.results)
    assert before[-1].startswith("test accuracy 0.7300, mean of 3 seeds of t0003's configuration")
    hand_over(search)
    assert of(search)["model"]["score"] == 0.74
    assert finals_lines(search.results)[-2:] == [
        "test accuracy 0.7400 by the model in best/, the first of 3 final models of t0003's"
        " configuration; 95 % interval for it on new data: 0.7000 to 0.7800",
        "mean of all 3 final models 0.7300 (1 diverged and left out), standard deviation 0.0100;"
        " 95 % interval for a new training on new data: 0.7100 to 0.7500",
    ]


def test_scores_of_another_look_are_not_those_of_the_model_that_was_handed_over_before(
    search: WrittenSearch,
) -> None:
    hand_over(search)
    scored = search.results.test_scored
    assert scored is not None
    kept = {key: scored[key] for key in scored if key not in ("seq", "time", "crc", "event")}
    search.write("test_scored", **{**kept, "test_accuracy": [0.5, 0.5, 0.5], "mean": 0.5})
    assert of(search)["model"] is None


def test_optimism_is_explained_where_it_stands(search: WrittenSearch) -> None:
    (line,) = [line for line in finals_lines(search.results) if line.startswith("optimism")]
    assert line == (
        "optimism of the search: +0.0200, by which the winner's validation accuracy is better"
        " than the mean of its new trainings on fresh data: the best of many looks better than it is"
    )


def test_finals_that_know_all_trials_have_nothing_to_note(search: WrittenSearch) -> None:
    assert of(search)["note"] == ""


def test_finals_say_what_came_after_them_and_offer_to_compare_anew(search: WrittenSearch) -> None:
    search.run([0.1, 0.2, 0.9])
    folder = search.results.folder
    assert (
        of(search)["note"]
        == finals_lines(search.results)[-1]
        == (
            "The finals know nothing of 1 trial that came after them; t0004 leads the search now. To"
            f" compare anew: cifar-tune confirm {folder} --open-test-again (which is recorded)"
        )
    )
    search.leave()
    assert finals_of(Results.read(folder)) == of(search)


def test_a_trial_that_goes_on_is_news_to_the_finals_too(search: WrittenSearch) -> None:
    search.report("t0001", 4, 0.8)
    assert "know nothing of 1 epoch that came after them; t0001 leads" in of(search)["note"]


def test_a_later_comparison_that_chose_another_says_whose_score_it_is(
    search: WrittenSearch,
) -> None:
    begin(search, 2, "t0002", "t0003")
    confirm(search, 2, "t0002")
    finals = of(search)
    assert (finals["trial_id"], finals["confirm"]["chosen"]) == ("t0003", "t0002")
    assert "The test score is that of t0003; since then t0002 was found better" in finals["note"]


@pytest.mark.parametrize(
    ("kind", "seeds", "words"),
    [
        ("final", [1], "the final model of t0001's configuration"),
        ("final", [1, 2], "the first of 2 final models of t0001's configuration"),
        ("ensemble", [1, 2], "the mean of 2 final models of t0001's configuration"),
        ("winner", [1], "the winner of the search, t0001"),
    ],
)
def test_it_is_said_which_model_is_handed_over(kind: str, seeds: list[int], words: str) -> None:
    assert model_in_words({"kind": kind}, {"seeds": seeds, "trial_id": "t0001"}) == words
