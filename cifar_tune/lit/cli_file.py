"""Reads a config file of LightningCLI as sections of a plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cifar_tune.errors import PlanError
from cifar_tune.files import as_path
from cifar_tune.plan.strict_yaml import parse_yaml

# What else LightningCLI writes there, and nothing of a search depends on.
UNUSED = ("ckpt_path", "verbose", "return_predictions", "datamodule", "dataloaders", "config")
# Arguments of the Trainer that are not the user's, each with what stands in their place; those of a
# file are left out.
SETTLED = {
    "max_epochs": "a search has its own: give --max-epochs (train.max_epochs)",
    "devices": "give --gpus-per-trial or --workers-per-trial",
    "accelerator": "give --gpus-per-trial; 0 is a CPU",
    "num_nodes": "a trial runs on one node",
    "strategy": "workers of a trial are trained by Lightning's DDP: give --workers-per-trial",
    "default_root_dir": "each trial has a folder of its own in the results folder",
    "fast_dev_run": "give --dry-run, which runs two batches",
    "use_distributed_sampler": "Lightning shares the batches among the workers of a trial",
    "barebones": "a barebones Trainer logs nothing, so that nothing could be judged",
    "enable_progress_bar": "the search shows what its trials do",
    "enable_model_summary": "the search shows what its trials do",
    "num_sanity_val_steps": "each start tries a validation before the search",
}


def read_cli_file(name: str, sections: Collection[str]) -> dict[str, Any]:
    """The file's sections in a plan's words: `max_epochs` and the seed stand elsewhere there.

    A section with `class_path` and `init_args` has the arguments beside the class.

    Raises:
        ValueError: it can't be read, or has a section that is not known.
    """
    content = _read(name)
    for command in ("fit", "validate"):  # a file for all subcommands has a section of each
        if isinstance(content.get(command), Mapping):
            content = dict(content[command])
            break
    unknown = sorted(content.keys() - {*sections, *UNUSED, "seed_everything"})
    if unknown:
        raise ValueError(
            f"is {name!r}, whose section {unknown[0]} is not known; a file of LightningCLI has"
            f" {', '.join(sections)}: pass what {unknown[0]} says as model.NAME or data.NAME"
        )
    plan: dict[str, Any] = {
        key: flat(name, key, content[key]) for key in sections if content.get(key)
    }
    trainer = plan.get("trainer", {})
    epochs = trainer.pop("max_epochs", None)
    if epochs == -1:
        raise ValueError(f"is {name!r}, where trainer.max_epochs is -1; give --max-epochs N")
    if epochs is not None:
        plan["train"] = {"max_epochs": epochs}
    # A dump lists every argument, those that say nothing, and those that a search settles.
    plan["trainer"] = {k: v for k, v in trainer.items() if v is not None and k not in SETTLED}
    seed = content.get("seed_everything")
    if isinstance(seed, int) and not isinstance(seed, bool):
        plan["seed"] = seed
    return plan


def flat(file: str, key: str, section: Any) -> dict[str, Any]:
    """A section with the arguments of its class beside `class_path`."""
    if isinstance(section, str) and key != "trainer":
        return {"class_path": section}
    if not isinstance(section, Mapping):
        raise ValueError(
            f"is {file!r}, where {key} is {section!r}; it must be a section, or a class"
        )
    values = dict(section)
    if "class_path" in values:
        values |= {
            **(values.pop("init_args", None) or {}),
            **(values.pop("dict_kwargs", None) or {}),
        }
    return values


def _read(name: str) -> dict[str, Any]:
    try:
        content, _ = parse_yaml(as_path(name).read_text(encoding="utf-8"), "")
    except OSError as error:
        raise ValueError(f"is {name!r}, which can't be read: {error.strerror}") from None
    except (PlanError, UnicodeDecodeError) as error:
        raise ValueError(f"is {name!r}, which is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"is {name!r}, which holds {type(content).__name__}, not sections")
    return content
