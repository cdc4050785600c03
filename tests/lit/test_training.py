"""One training of one's own module: all that Lightning's users have in them, and exact resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lit.plans import HERE, NOTHING, make_plan

from cifar_tune.lit import models
from cifar_tune.lit.config import LitRun
from cifar_tune.train.apart import apart
from cifar_tune.train.figures import figures_of, is_last_of_epoch
from cifar_tune.train.fit import fit
from cifar_tune.train.validate import validate

FORMS = ("MadeInSetup", "Sequential", "Classifier", "ListForm", "DictForm", "Plateau", "TupleForm")


class Keep(Callback):
    """Notes each epoch's figures and rates, and keeps a checkpoint of it."""

    def __init__(self, folder: Path, stop_after: int = 0) -> None:
        self.folder, self.stop_after = folder, stop_after
        self.figures: list[dict[str, float]] = []
        self.rates: list[list[float]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not is_last_of_epoch(trainer):
            return
        self.figures.append(figures_of(trainer, pl_module))
        self.rates.append([g["lr"] for one in trainer.optimizers for g in one.param_groups])
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch + 1}.ckpt")
        if trainer.current_epoch + 1 == self.stop_after:
            raise SystemExit("enough")


def run_of(*sets: str, module: str = "Classifier", data: str = "Blobs", lr: float = 0.1) -> LitRun:
    run: LitRun = make_plan(*sets, module=module, data=data).with_values({"model.lr": lr}, seed=3)
    return run


def train(run: LitRun, folder: Path, resume_from: Path | None = None) -> tuple[Any, Keep]:
    keep = Keep(folder)
    result = fit(run, NOTHING, callbacks=[keep], resume_from=resume_from, folder=folder)
    return result, keep


def weights_of(result: Any) -> list[torch.Tensor]:
    return [value.clone() for value in result.module.state_dict().values()]


@pytest.mark.parametrize("module", FORMS)
def test_a_training_that_is_resumed_gives_what_an_unbroken_one_gives(
    module: str, tmp_path: Path
) -> None:
    more = () if module == "MadeInSetup" else ("model.dropout=0.2",)
    run = run_of(*more, module=module, data="Jittered")
    unbroken, figures = train(run, tmp_path)
    (tmp_path / "more").mkdir()
    resumed, after = train(run, tmp_path / "more", tmp_path / "2.ckpt")
    assert after.figures == figures.figures[2:]
    assert after.rates == figures.rates[2:]
    assert all(map(torch.equal, weights_of(unbroken), weights_of(resumed)))


def test_it_is_resumed_exactly_with_loaders_in_processes_of_their_own(tmp_path: Path) -> None:
    run = run_of("data.workers=2", data="Jittered")
    unbroken, _ = train(run, tmp_path)
    (tmp_path / "more").mkdir()
    resumed, _ = train(run, tmp_path / "more", tmp_path / "2.ckpt")
    assert all(map(torch.equal, weights_of(unbroken), weights_of(resumed)))


def test_a_training_depends_on_its_seed_and_all_trials_have_one_split(tmp_path: Path) -> None:
    run = run_of()
    first, one = train(run, tmp_path)
    again, two = train(run, tmp_path)
    other, three = train(run.model_copy(update={"seed": 4}), tmp_path)
    assert one.figures == two.figures != three.figures
    split = [result.module.trainer.datamodule.val.indices for result in (first, again, other)]
    assert split[0] == split[1] == split[2]


def test_a_schedule_sees_the_plans_epochs_and_not_where_it_is_stopped(tmp_path: Path) -> None:
    run, keep = run_of(module="ListForm"), Keep(tmp_path, stop_after=2)
    with pytest.raises(SystemExit, match="enough"):
        fit(run, NOTHING, callbacks=[keep], folder=tmp_path)
    # Half a cosine over four epochs.
    assert [rates[0] for rates in keep.rates] == pytest.approx([0.0854, 0.05], abs=1e-4)


def test_layers_made_late_differ_by_seed_and_nothing_need_be_saved(tmp_path: Path) -> None:
    sets = ("search.metric=val_loss", "search.mode=min",
            "model.activation={class_path: torch.nn.GELU}")  # fmt: skip
    run = run_of(*sets, module="Unsaved")
    one, _ = train(run, tmp_path)
    assert isinstance(one.module.activation, torch.nn.GELU)
    two, _ = train(run.model_copy(update={"seed": 4}), tmp_path)
    assert not torch.equal(weights_of(one)[0], weights_of(two)[0])


@pytest.mark.parametrize(
    ("module", "sets"),
    [
        ("Bag", ("model.anything=3",)),
        ("Hparams", ("search.space.model.lr=null", "model.hparams={optim: {lr: 0.1}}",
                     "search.space.model.hparams.optim.lr={uniform: [0.1, 0.2]}")),
    ],
)  # fmt: skip
def test_arguments_may_be_any_or_a_dict(module: str, sets: tuple[str, ...], tmp_path: Path) -> None:
    plan = make_plan("search.metric=val_loss", "search.mode=min", *sets, module=module)
    values = dict.fromkeys(plan.search.space, 0.15)
    result, _ = train(plan.with_values(values, seed=0), tmp_path)
    assert result.module.lr == 0.15
    if module == "Bag":
        assert result.module.kept == {"lr": 0.15, "anything": 3}


def test_own_early_stopping_ends_a_training_before_its_last_epoch(tmp_path: Path) -> None:
    _, keep = train(run_of(module="WithCallbacks"), tmp_path)
    assert [figures["epoch"] for figures in keep.figures] == [1.0, 2.0]


def test_of_several_validations_in_an_epoch_the_last_is_reported(tmp_path: Path) -> None:
    _, keep = train(run_of("trainer.val_check_interval=0.3"), tmp_path)
    assert [figures["epoch"] for figures in keep.figures] == [1.0, 2.0, 3.0, 4.0]
    _, keep = train(run_of("trainer.check_val_every_n_epoch=2"), tmp_path)
    assert [figures["epoch"] for figures in keep.figures] == [2.0, 4.0]


CALLBACKS = """trainer.callbacks=[
    {class_path: lightning.pytorch.callbacks.ModelCheckpoint,
     init_args: {dirpath: /kept/elsewhere, monitor: val_f1, mode: max}},
    {class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {monitor: val_loss}},
    {class_path: lightning.pytorch.callbacks.LearningRateMonitor}]"""


def test_own_loggers_and_checkpoints_write_into_the_trials_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trial").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    logger = "{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: logs}}"
    run = run_of(
        CALLBACKS.replace("\n", " "), f"trainer.logger={logger}", "trainer.log_every_n_steps=1"
    )
    train(run, tmp_path / "trial")
    assert not list((tmp_path / "here").iterdir())
    assert len(list((tmp_path / "trial").rglob("*.ckpt"))) == 4 + 2
    (metrics,) = (tmp_path / "trial" / "logs").rglob("metrics.csv")
    assert "lr-SGD" in metrics.read_text()


def test_what_the_trainer_is_given_reaches_it(tmp_path: Path) -> None:
    sets = ("trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.1",
            "trainer.precision=bf16-mixed", "trainer.limit_train_batches=3")  # fmt: skip
    result, _ = train(run_of(*sets), tmp_path)
    trainer = result.module.trainer
    assert (trainer.accumulate_grad_batches, trainer.gradient_clip_val) == (2, 0.1)
    assert (trainer.precision, trainer.num_training_batches) == ("bf16-mixed", 3)


def test_an_optimizer_of_the_plan_takes_the_place_of_the_modules(tmp_path: Path) -> None:
    sets = ("optimizer.class_path=torch.optim.Adam", "optimizer.lr=0.02",
            "lr_scheduler.class_path=torch.optim.lr_scheduler.ExponentialLR",
            "lr_scheduler.gamma=0.5")  # fmt: skip
    result, keep = train(run_of(*sets), tmp_path)
    assert type(result.module.trainer.optimizers[0]) is torch.optim.Adam
    assert keep.rates == [[pytest.approx(0.02 * 0.5**epoch)] for epoch in range(1, 5)]


@pytest.mark.parametrize(
    "module", ["Classifier", "ListForm", "DictForm", "TupleForm", "Sequential"]
)
def test_a_population_changes_all_learning_rates_on_the_way(module: str, tmp_path: Path) -> None:
    _, before = train(run_of(module=module), tmp_path)
    (tmp_path / "more").mkdir()
    changed = run_of(module=module, lr=0.05)
    _, after = train(changed, tmp_path / "more", tmp_path / "2.ckpt")
    halves = [[rate / 2 for rate in rates] for rates in before.rates[2:]]
    assert after.rates == [pytest.approx(rates) for rates in halves]


def test_only_the_metric_decides_whether_a_trial_diverged(tmp_path: Path) -> None:
    from cifar_tune.train.figures import is_diverged

    result, keep = train(run_of(module="Nan"), tmp_path)
    assert not is_diverged(result.module, keep.figures[-1], "val_f1")
    result, keep = train(run_of(module="Nan", lr=0.9), tmp_path)
    assert is_diverged(result.module, keep.figures[-1], "val_f1")


def test_a_checkpoint_holds_plain_values_and_loads_in_lightnings_own_way(tmp_path: Path) -> None:
    from lit.own_modules import Classifier

    train(run_of("model.hidden=4"), tmp_path)
    loaded = Classifier.load_from_checkpoint(tmp_path / "4.ckpt", weights_only=True)
    assert loaded.hparams["hidden"] == 4
    content = torch.load(tmp_path / "4.ckpt", weights_only=True)
    assert content["cifar_tune"]["run"]["model"]["class_path"] == f"{HERE}:Classifier"


def test_a_module_gets_what_makes_its_optimizer_and_its_network(tmp_path: Path) -> None:
    plan = make_plan(
        "search.metric=val_loss", "search.mode=min", "search.space.model.lr=null",
        "model.net={class_path: torch.nn.Linear, init_args: {in_features: 10, out_features: 3}}",
        "model.optimizer.class_path=torch.optim.Adam",
        "model.scheduler={class_path: torch.optim.lr_scheduler.ExponentialLR, init_args: {gamma: 0.5}}",
        "search.space.model.optimizer.init_args.lr={uniform: [0.01, 0.02]}", module="Injected",
    )  # fmt: skip
    _, keep = train(plan.with_values({"model.optimizer.init_args.lr": 0.02}, seed=0), tmp_path)
    assert [rates[0] for rates in keep.rates] == pytest.approx([0.01, 0.005, 0.0025, 0.00125])


@pytest.mark.parametrize("data", ["Splits", "Staged", "Keeping"])
def test_what_is_scored_was_not_trained_on_and_is_scored_as_it_was_validated(
    data: str, tmp_path: Path
) -> None:
    stopping = "[{class_path: EarlyStopping, init_args: {monitor: val_f1, patience: 9}}]"
    run = run_of(
        "trainer.limit_val_batches=1",
        f"trainer.callbacks={stopping}",
        module="MadeInSetup",
        data=data,
    )
    result, keep = train(run, tmp_path)
    trained_on, validated = (
        getattr(result.module.trainer.datamodule, name) for name in ("train", "val")
    )
    seen: dict[str, Any] = {}

    def look(trainer: Any, module: Any, loaders: Any) -> None:
        seen["loader"] = loaders.dataset

    for loader in ("val_dataloader", "test_dataloader"):
        figures, _ = validate(run, NOTHING, tmp_path / "4.ckpt", loader, look)
        assert not set(seen["loader"].indices) & set(trained_on.indices)
        if loader == "val_dataloader":
            assert seen["loader"].indices == validated.indices
            assert figures["val_f1"] == pytest.approx(keep.figures[-1]["val_f1"])


def test_where_there_is_a_gpu_a_model_is_scored_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(run_of(), tmp_path)
    asked, scored = (tmp_path / "4.ckpt", "val_dataloader", NOTHING, "val_f1"), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # not in the other process
    monkeypatch.setattr(models, "apart", lambda *call: scored.append(apart(*call)) or scored[-1])
    there = models.score(*asked, gpu=True)
    assert scored == [there]
    monkeypatch.undo()
    assert np.array_equal(models.score(*asked, gpu=False), there)
    assert len(scored) == 1


def test_all_trials_have_the_split_that_their_data_module_draws(tmp_path: Path) -> None:
    splits = [
        train(run_of(data="Splits").model_copy(update={"seed": seed}), tmp_path)[
            0
        ].module.trainer.datamodule.val.indices
        for seed in (1, 2)
    ]
    assert splits[0] == splits[1]


@pytest.mark.parametrize("word", ["off", "null", "1e-3"])
def test_a_word_stays_a_word_where_nothing_says_that_it_is_another_value(
    word: str, tmp_path: Path
) -> None:
    run = run_of(f"model.untyped='{word}'", "train.max_epochs=1", module="MadeInSetup")
    result, _ = train(run, tmp_path)
    assert result.module.untyped == word
