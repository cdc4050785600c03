"""cifar_tune: one command tunes a LightningModule with Ray Tune; image classifiers are built in.

From Python: `tune_module`; `load_plan`, `run_search`, `Results`, `frame`; `load_model` and
`read_image`. Each is imported when it is first asked for, so that this module itself imports
nothing.
"""

__version__ = "0.1.0"

__all__ = [
    "tune_module",
    "load_plan",
    "run_search",
    "Results",
    "frame",
    "load_model",
    "read_image",
]

_HOMES = {
    "tune_module": "session.api",
    "load_plan": "plan.load",
    "run_search": "session.api",
    "Results": "record.results",
    "frame": "session.api",
    "load_model": "vision.predict",
    "read_image": "vision.predict",
}

TYPE_CHECKING = False  # what type checkers take for True, without importing typing
if TYPE_CHECKING:
    from cifar_tune.plan.load import load_plan
    from cifar_tune.record.results import Results
    from cifar_tune.session.api import frame, run_search, tune_module
    from cifar_tune.vision.predict import load_model, read_image


def __getattr__(name: str) -> object:
    """Import what is asked for from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """All names, those to come as well."""
    return sorted({*globals(), *__all__})
