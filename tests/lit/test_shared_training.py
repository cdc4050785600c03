"""Several workers share a training of one's own module, by Lightning's DDP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from lit.plans import NOTHING, make_plan

from cifar_tune.train.figures import figures_of
from cifar_tune.train.workers import fit_with_workers


def train(
    module: str, folder: Path, workers: int, resume_from: Path | None = None
) -> tuple[list[dict[str, float]], list[torch.Tensor]]:
    """Each epoch's figures, and the weights at the end; it leaves `<epoch>.ckpt` in `folder`."""
    epochs: list[dict[str, float]] = []

    def note(trainer: Any, pl_module: Any) -> None:
        epochs.append(figures_of(trainer, pl_module))
        trainer.save_checkpoint(folder / f"{trainer.current_epoch + 1}.ckpt")

    folder.mkdir()
    run = make_plan("data.batch_size=16", "train.max_epochs=3", module=module).with_values(
        {"model.lr": 0.1}, seed=3
    )
    result = fit_with_workers(
        run, NOTHING, workers=workers, resume_from=resume_from, folder=folder,
        callbacks=[LambdaCallback(on_validation_end=note)],
    )  # fmt: skip
    return epochs, list(result.module.state_dict().values())


@pytest.mark.parametrize("module", ["Shared", "Turns"])
def test_two_workers_resume_as_if_never_broken(module: str, tmp_path: Path) -> None:
    unbroken, weights = train(module, tmp_path / "unbroken", 2)
    resumed, again = train(module, tmp_path / "resumed", 2, tmp_path / "unbroken" / "1.ckpt")
    assert [epoch["epoch"] for epoch in unbroken] == [1.0, 2.0, 3.0]
    # A sum over processes is not the same to the bit, not even of two unbroken trainings.
    assert resumed == [pytest.approx(epoch, abs=1e-4) for epoch in unbroken[1:]]
    assert all(
        torch.allclose(one, other, atol=1e-5) for one, other in zip(weights, again, strict=True)
    )
    _, alone = train(module, tmp_path / "alone", 1)
    assert not torch.equal(alone[0], weights[0])  # each worker had its own half of the examples
