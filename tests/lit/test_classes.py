"""Every mistake that a person makes with a module of their own has one message."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from lit.plans import HERE, check, make_plan

from cifar_tune import load_plan
from cifar_tune.errors import PlanError
from cifar_tune.lit.task import LIGHTNING

MISTAKES = [
    # module, data, more, what is said
    ("Classifer", "Blobs", (), r"model\.class_path is '.*:Classifer'; .* has no Classifer; did you mean Classifier"),
    ("NotAModule", "Blobs", (), r"NotAModule; --module names a subclass of lightning\.pytorch\.LightningModule"),
    ("a_function", "Blobs", (), r"which is function; --module names a subclass"),
    ("Classifier", "Classifier", (), r"data\.class_path is .*; --datamodule names a subclass"),
    ("Classifier", "Blobs", ("model.hiden=3",), r"model\.hiden is 3, and there is no such argument: Classifier\.__init__ takes model\.lr, .*; did you mean hidden"),
    ("Classifier", "Blobs", ("model.hidden=abc",), r"model\.hidden is 'abc'; expected a <class 'int'>"),
    ("Classifier", "Blobs", ("search.space.model.hidden={choice: [8, 8.5]}",), r"model\.hidden is 8\.5; expected a <class 'int'>"),
    ("Classifier", "Blobs", ("search.space.model.drop={uniform: [0, 1]}",), r"model\.drop is .*no such argument.*did you mean dropout"),
    ("Classifier", "Blobs", ("data.batchsize=3",), r"data\.batchsize is 3, .* Blobs\.__init__ takes data\.batch_size.*did you mean batch_size"),
    ("Unsaved", "Blobs", ("search.space.model.lr=null", "search.space.data.batch_size={choice: [8, 16]}"), r"model\.lr has no default and no value; give --set model\.lr=VALUE"),
    ("Unsaved", "Blobs", ("model.activation={class_path: torch.nn.GELU, init_args: {aproximate: none}}",), r"model\.activation is .*aproximate"),
    ("Unsaved", "Blobs", ("model.activation={class_path: torch.nn.Gelu}",), r"model\.activation is .*Gelu"),
    ("Hparams", "Blobs", (), r"model\.lr is .*Hparams\.__init__ takes model\.hparams; inside of it, give model\.hparams\.lr"),
    ("Classifier", "Blobs", ("trainer.devices=2",), r"trainer\.devices is 2; leave it out: give --gpus-per-trial"),
    ("Classifier", "Blobs", ("trainer.max_epochs=2",), r"trainer\.max_epochs is 2; leave it out: .*--max-epochs"),
    ("Classifier", "Blobs", ("trainer.gradient_clip=2",), r"trainer\.gradient_clip is 2, .*did you mean gradient_clip_val"),
    ("Classifier", "Blobs", ("trainer.precision=half",), r"trainer\.precision is 'half'"),
    ("Classifier", "Blobs", ("search.metric=val_f2",), r"search\.metric is 'val_f2', which no validation of .* logs; it logs .*; did you mean val_f1"),
    ("Classifier", "Blobs", ("search.metric=train_loss",), r"train_loss is logged in training, after it"),
    ("Classifier", "TwoLoaders", (), r"it logs val_f1/dataloader_idx_0, .*; did you mean val_f1/dataloader_idx_0"),
    ("Classifier", "Blobs", ("search.metrics=[val_auc]",), r"search\.metrics has 'val_auc', which no validation logs"),
    ("Classifier", "NoValidation", (), r"NoValidation has no val_dataloader"),
    ("Raising", "Blobs", (), r"trying it on two batches raised RuntimeError: the shapes do not go together at .*own_modules\.py:\d+"),
    ("Classifier", "Blobs", ("optimizer.class_path=torch.optim.Addam",), r"optimizer.* is .*Addam"),
    ("Odd", "Blobs", (), r"checkpoint holds values that only code could load"),
    ("Classifier", "Blobs", ("search.space.optimizer.lr={uniform: [0, 1]}",), r"optimizer\.lr is given, and optimizer\.class_path names no class"),
    ("Classifier", "Blobs", ("lr_scheduler.class_path=torch.optim.lr_scheduler.StepLR",), r"lr_scheduler\.class_path is given, and optimizer\.class_path names no class"),
    ("Classifier", "Blobs", ("trainer.limit_val_batches=0",), r"trainer\.limit_val_batches is 0; trials are judged by a validation"),
    ("Classifier", "Blobs", ("trainer.check_val_every_n_epoch=5",), r"check_val_every_n_epoch is 5, above train\.max_epochs, which is 4"),
    ("Classifier", "Blobs", ("trainer.check_val_every_n_epoch=2", "search.scheduler=pbt", "search.perturbation_interval=1"), r"perturbation_interval is 1, .* give a multiple of 2"),
    ("WithoutLog", "Blobs", (), r"it logs nothing \(self\.log in validation_step\)"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "data", "more", "message"), MISTAKES)
def test_a_mistake_is_told_before_anything_starts(
    module: str, data: str, more: tuple[str, ...], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        check(make_plan(*more, module=module, data=data))


def test_a_module_must_be_named() -> None:
    plan = load_plan(None, ["task=lightning", "search.space.model.lr={uniform: [0.1, 0.2]}"])
    with pytest.raises(PlanError, match=r"model\.class_path is not given; .*--module"):
        LIGHTNING.check(plan, workers=1)
    plan = load_plan(None, ["task=lightning", "model.class_path=nowhere.at_all:Lit",
                            "search.space.model.lr={uniform: [0.1, 0.2]}"])  # fmt: skip
    with pytest.raises(PlanError, match=r"there is no module nowhere\.at_all that can be imported"):
        LIGHTNING.check(plan, workers=1)


def test_two_batches_tell_what_is_logged_and_how_much_data_there_is() -> None:
    found = check(make_plan("finals.seeds=0"))
    assert found.sentences[0] == f"{HERE}:Blobs: 144 training and 48 validation examples"
    assert "logs val_f1, val_acc, val_loss" in found.sentences[1]
    assert found.plan.search.metrics == ["val_f1", "val_acc", "val_loss"]
    assert LIGHTNING.columns(found.plan) == ["val_f1", "val_acc", "val_loss"]


def test_what_a_user_should_know_is_noted() -> None:
    plan = make_plan("trainer.check_val_every_n_epoch=2", "trainer.val_check_interval=0.5")
    notes = " ".join(check(plan).sentences)
    assert "a report, every 2 epochs" in notes
    assert "of several validations in an epoch the last is reported" in notes
    assert "a confirm_dataloader in the data module would give them data of their own" in notes
    assert "confirm_dataloader" not in " ".join(check(make_plan(data="WithConfirm")).sentences)


OLDER = """
import sys
{first}
sys.path.insert(0, {tests!r})
from cifar_tune.errors import PlanError
from lit.plans import check, make_plan
try:
    plan = make_plan("model.class_path=lit.older_modules:Older")
    print(check(plan).sentences[1])
except PlanError as error:
    print(error)
import lightning.pytorch
assert lightning.pytorch.__spec__.name == "lightning.pytorch"
"""


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("", r"logs val_f1$"),
        (
            "import pytorch_lightning",
            r"it is a pytorch_lightning\.LightningModule, and that package was",
        ),
    ],
)
def test_a_module_of_the_packages_older_name_is_one_of_ours(first: str, told: str) -> None:
    code = OLDER.format(first=first, tests=str(Path(__file__).parent.parent))
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.search(told, done.stdout, re.M), done.stdout + done.stderr


def test_an_ensemble_of_ones_own_modules_is_refused_at_once() -> None:
    from cifar_tune.plan import preflight
    from cifar_tune.plan.machine import read_machine

    with pytest.raises(PlanError, match=r"finals\.ensemble is true, and the task lightning can't"):
        preflight.check(make_plan("finals.ensemble=true"), [read_machine()])
