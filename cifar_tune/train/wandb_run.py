"""Weights & Biases, from inside a trial's process; the only importer of wandb."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from cifar_tune.files import is_of_finals
from cifar_tune.plan.config import Plan, RunConfig
from cifar_tune.plan.space import Value
from cifar_tune.plan.task import task_of

log = logging.getLogger(__name__)

LONGEST_NAME, LONGEST_TAG = 128, 64  # characters, wandb's
INIT_SECONDS = 5  # for the server to answer; nobody loses more than 10 s to it
OFFLINE_INIT_SECONDS = 60  # for wandb's own process to start, on a busy machine
FINISH_SECONDS = 5  # for what is not sent yet; Ray gives a trial that it ends 30 s


def trial_trackers(
    plan: Plan,
    folder: Path,
    trial_id: str,
    values: Mapping[str, Value],
    run: RunConfig,
) -> list[Callback]:
    """The callbacks that track one trial from inside its process; the list may be empty.

    What is tracked names the search, also of a trial of its finals (`<search>/finals/confirm-1`).
    The config is the whole run without what may tell whose machine it is, such as a path.
    """
    if plan.tracking.wandb is None:
        return []
    config = run.as_values()
    for field in task_of(run).private:
        section, _, key = field.partition(".")
        del config[section][key]
    config |= {"trial_id": trial_id, "searched": dict(values)}
    search, group, name, job = folder, folder.name, trial_id, "trial"
    if is_of_finals(folder):
        search, name = folder.parent.parent, f"{folder.name}-{trial_id}"
        group, job = f"{search.name}-finals", folder.name.rpartition("-")[0] or folder.name
    tags = [plan.search.searcher, plan.search.scheduler, *task_of(run).tags(run)]
    arguments = {
        "project": plan.tracking.wandb,
        "id": plain_name(f"{search.name}-{name}"),
        "name": plain_name(name),
        "group": plain_name(group),
        "job_type": job,
        "tags": sorted({tag[:LONGEST_TAG] for tag in tags}),
        "config": config,
        "dir": str(search),
    }
    return [WandbRun(trial_id, arguments, watch=plan.tracking.watch)]


def plain_name(name: str) -> str:
    """A name that wandb takes, and no other's: it refuses some characters and what is long."""
    plain = re.sub(r"[/\\#?%:]|^\s+|\s+$", "-", name)
    if plain == name and len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    # A name ends in what tells trials apart.
    return f"{digest}-{plain[-(LONGEST_NAME - len(digest) - 1) :]}"


class WandbRun(Callback):
    """One Weights & Biases run for a trial, which never costs a result.

    It works offline where there is no key or no server (`wandb sync` sends the files later). The
    key is read from the environment or wandb's login by wandb itself; it is never in the plan or a
    file of ours. Every epoch logs all final figures, because the report after it may end the trial.
    """

    def __init__(self, trial_id: str, arguments: dict[str, Any], *, watch: bool) -> None:
        """Track a trial; `arguments` are those of `wandb.init`."""
        self._trial_id = trial_id
        self._arguments = arguments
        self._watch = watch
        self._run: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the run; where that fails, say so once and go on without."""
        try:
            self._run = self._open()
            if self._watch:
                # Counted from 0 for each trial: wandb counts on in a process that is used again,
                # and would name the second trial's gradients otherwise than the first's.
                self._run.watch(pl_module, log="gradients", log_freq=100, idx=0)
        except Exception as error:  # a tracker must not cost a result, whatever it raises
            self._give_up(error)

    def _open(self) -> Any:
        import wandb

        Path(self._arguments["dir"], "wandb").mkdir(parents=True, exist_ok=True)
        wandb.setup(wandb.Settings(silent=True))  # else login() asks the server who we are
        if "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False):
            _use_offline_mode()
        try:
            return self._init()
        except wandb.errors.CommError as error:
            _go_offline(error)
            return self._init()

    def _init(self) -> Any:
        import wandb

        offline = os.environ.get("WANDB_MODE") == "offline"
        settings = wandb.Settings(
            silent=True,
            init_timeout=OFFLINE_INIT_SECONDS if offline else INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
            console="off",
        )
        run = wandb.init(
            **self._arguments, resume="allow", reinit="finish_previous", settings=settings
        )
        # A run that goes on has its first config: a population may have changed it since.
        run.config.update(self._arguments["config"], allow_val_change=True)
        return run

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's figures, and which epoch is best so far."""
        if trainer.sanity_checking:
            return
        metrics: Mapping[str, float] = pl_module.epoch_metrics  # type: ignore[assignment]
        best = {"best_epoch": pl_module.best_epoch}
        self._safely(lambda run: run.log(dict(metrics), step=int(metrics["epoch"])))
        self._safely(lambda run: run.summary.update(best))

    def on_fit_end(self, *_: Any) -> None:
        """Close the run."""
        if self._watch:
            self._safely(lambda run: run.unwatch())
        self._safely(_finish)
        self._run = None

    def on_exception(self, *_: Any) -> None:
        """Ray ends a trial by an exception in the last report."""
        self.on_fit_end()

    def _safely(self, act: Callable[[Any], object]) -> None:
        if self._run is None:
            return
        try:
            act(self._run)
        except Exception as error:  # as above
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.warning("wandb is off for trial %s: %s", self._trial_id, error)
        self._run = None


def _finish(run: Any) -> None:
    try:
        run.finish()
    except TimeoutError as error:
        _go_offline(error)


def _go_offline(error: Exception) -> None:
    """Else each further trial of this process would wait as long for the server."""
    told = " ".join(str(error).split())
    log.warning(
        "wandb's server does not answer, so what is tracked stays here for `wandb sync`: %s", told
    )
    _use_offline_mode()


def _use_offline_mode() -> None:
    """For this process from now on.

    The argument `mode` of init() does not skip wandb's check for a key; this does, once wandb reads
    its settings anew.
    """
    import wandb

    os.environ["WANDB_MODE"] = "offline"
    wandb.teardown()
