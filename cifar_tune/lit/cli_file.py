"""Reads a config file of LightningCLI as sections of a plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import yaml

from cifar_tune.files import as_path

# What else LightningCLI writes there, and nothing of a search depends on.
UNUSED = ("ckpt_path", "verbose", "return_predictions", "datamodule", "dataloaders", "config")


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
    plan: dict[str, Any] = {key: flat(content[key]) for key in sections if content.get(key)}
    trainer = plan.get("trainer", {})
    epochs = trainer.pop("max_epochs", None)
    if isinstance(epochs, int) and epochs > 0:
        plan["train"] = {"max_epochs": epochs}
    # A dump lists every argument, those that say nothing as well.
    plan["trainer"] = {key: value for key, value in trainer.items() if _says_something(key, value)}
    seed = content.get("seed_everything")
    if isinstance(seed, int) and not isinstance(seed, bool):
        plan["seed"] = seed
    return plan


def flat(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section with the arguments of its class beside `class_path`."""
    values = dict(section)
    if "class_path" in values:
        values |= values.pop("init_args", None) or {}
    return values


def _says_something(key: str, value: Any) -> bool:
    defaults = {
        "accelerator": "auto", "strategy": "auto", "devices": "auto", "num_nodes": 1,
        "fast_dev_run": False, "use_distributed_sampler": True, "barebones": False,
    }  # fmt: skip
    return value is not None and (key not in defaults or value != defaults[key])


def _read(name: str) -> dict[str, Any]:
    try:
        with as_path(name).open(encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except OSError as error:
        raise ValueError(f"is {name!r}, which can't be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"is {name!r}, which is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"is {name!r}, which holds {type(content).__name__}, not sections")
    return content
