"""Which searchers and schedulers go together, and what each asks of the rest of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cifar_tune.errors import PlanError
from cifar_tune.plan.abilities import Times
from cifar_tune.plan.config import Plan, SearchConfig
from cifar_tune.plan.methods import STARTUP_TRIALS
from cifar_tune.plan.objectives import LATENCY
from cifar_tune.plan.own_code import OwnCode
from cifar_tune.plan.points import priors_of
from cifar_tune.plan.rungs import exchange_epochs, first_rung
from cifar_tune.plan.task import task_of

OWN = "package.module:factory"  # stands for every searcher of the user's own
PBT_POPULATION = 4  # the least whose quarter is a trial
CMAES_KINDS = ("uniform", "loguniform", "int", "logint", "pow2")
CMAES_FIELDS = 2


_EARLY = ("asha", "promote", "halving", "hyperband", "median")
SCHEDULERS = ("none", *_EARLY, "pbt")
_CHANGES = (
    "pbt changes values on the way, so that results do not belong to the values that {searcher}"
    " suggested"
)
# Optuna 5's GPSampler and CmaEsSampler read COMPLETE trials, and no pruned ones.
_UNFINISHED = (
    "{searcher} learns only from trials that ran to their end, and {scheduler} ends most of them"
    " early"
)
_NO_RUNGS = "bohb learns at the rungs where trials are judged, and {scheduler} has none"
# Where the first epochs mislead, 100 trials of up to 27 epochs (20 seeds, a formula) had a median
# regret of 0.023 with hyperband (random search 0.026), and of 0.035 with asha (0.026).
_FIRST_RUNG = (
    "bohb learns at the last rung that enough trials come to, and under {scheduler}, which judges"
    " all of them from the first rung on, few come to a late one"
)
_LISTED = "pbt changes values on the way, so that the points of the grid are not what is run"

_COMPLETE_ONLY = {**dict.fromkeys(_EARLY, _UNFINISHED), "pbt": _CHANGES}
# Why a searcher does not go with a scheduler; it goes with all others.
REFUSED: dict[str, Mapping[str, str]] = {
    "grid": {"pbt": _LISTED},
    "random": {},
    "sobol": {},
    "priorband": {"pbt": _CHANGES},
    "tpe": {"pbt": _CHANGES},
    "gp": _COMPLETE_ONLY,
    "cmaes": _COMPLETE_ONLY,
    "bohb": {
        **dict.fromkeys(("none", "median"), _NO_RUNGS),
        **dict.fromkeys(("asha", "promote", "halving"), _FIRST_RUNG),
        "pbt": _CHANGES,
    },
    OWN: {"pbt": _CHANGES},
}
_INSTEAD = ("tpe", "random")  # searchers to propose, the first that fits


def is_model_based(searcher: str) -> bool:
    """Whether a searcher learns from results and suggests no configuration twice."""
    return searcher in ("tpe", "gp", "cmaes", "bohb") or ":" in searcher


def reports_to_learn(search: SearchConfig) -> int:
    """The reports that bohb wants at a budget before it learns there: the paper's N_min + 2."""
    return len(search.space) + 3


def load_factory(name: str) -> Callable[[Plan], Any]:
    """The user's own `package.module:factory`; a PlanError if it can't be called with a plan."""
    return own_searcher(name).load()


def guarded_searcher(
    name: str, doing: str, *passing: type[Exception]
) -> AbstractContextManager[None]:
    """Where a searcher is called, ours or the user's own: as `OwnCode.guarded`."""
    return own_searcher(name).guarded(doing, *passing) if ":" in name else nullcontext()


def own_searcher(name: str) -> OwnCode:
    """What `search.searcher` names, if it is the user's own."""
    field, parameters = "search.searcher", ("plan",)
    return OwnCode(
        kind="searcher", field=field, name=name, function="factory", parameters=parameters
    )


def check_pair(plan: Plan) -> list[str]:
    """Notes on what searcher and scheduler will do; a PlanError if they do not fit."""
    _check_pairing(plan.search)
    return [*_check_searcher(plan), *_check_scheduler(plan), *_check_objectives(plan)]


def _check_pairing(search: SearchConfig) -> None:
    searcher, scheduler = search.searcher, search.scheduler
    if scheduler == "bohb":
        raise PlanError(
            "search.scheduler is 'bohb', which is gone with hpbandster, and with it what its paused"
            " trials waited for: such a search can be read, but can't go on; start a new one with"
            " --searcher bohb --scheduler hyperband, whose search.start_from may name its folder"
        )
    refused = REFUSED[OWN if ":" in searcher else searcher]
    if scheduler not in refused:
        return
    reason = refused[scheduler].format(searcher=searcher, scheduler=scheduler)
    sensible = [name for name in SCHEDULERS if name not in refused]
    instead = next(name for name in _INSTEAD if scheduler not in REFUSED[name])
    raise PlanError(
        f"search.searcher is {searcher!r} with search.scheduler {scheduler!r}: {reason}; give"
        f" --scheduler {_listed(sensible)}, or --searcher {instead}"
    )


def _check_searcher(plan: Plan) -> list[str]:
    search, searcher = plan.search, plan.search.searcher
    if ":" in searcher:
        load_factory(searcher)
    if searcher == "grid" and search.start_from is not None:
        raise PlanError(
            "search.start_from is given and search.searcher is 'grid', which runs its points in"
            " their order; leave start_from out, or give --searcher random"
        )
    notes = [*_check_fields(search), *_check_priors(plan)]
    knows_nothing = not isinstance(search.start_from, str)
    startup = reports_to_learn(search) if searcher == "bohb" else STARTUP_TRIALS
    if searcher in ("tpe", "gp", "bohb") and search.num_samples <= startup and knows_nothing:
        notes.append(
            f"{searcher} draws its first {startup} trials at random, and search.num_samples"
            f" is {search.num_samples}: it learns nothing"
        )
    elif searcher == "bohb":
        notes.append(
            f"bohb draws at random until {startup} trials have reported at one rung, and learns"
            " from the last rung where as many have"
        )
    return notes


def _check_objectives(plan: Plan) -> list[str]:
    search = plan.search
    if not search.objectives:
        return []
    first, *others = [goal.metric for goal in search.goals]
    if search.searcher in ("cmaes", "bohb"):
        raise PlanError(
            f"search.objectives has {len(search.goals)} figures, and {search.searcher} can learn"
            " from one alone; give --searcher tpe, or random"
        )
    if LATENCY in others and not isinstance(task_of(plan), Times):
        raise PlanError(
            f"search.objectives has {LATENCY}, and the task {plan.task} can't time its models; log"
            " a figure of your own in each validation and name that, or leave it out"
        )
    notes = [f"the best by {first} is the winner; the page shows what else is worth having"]
    if search.scheduler in _EARLY:
        notes.append(
            f"{search.scheduler} stops trials by {first} alone, however good they are in"
            f" {_listed(others)}; --scheduler none lets all of them run to their end"
        )
    if search.searcher == "priorband":
        notes.append(f"priorband learns from {first} alone")
    if LATENCY in others and is_model_based(search.searcher):
        notes.append(f"{LATENCY} is measured after the search: {search.searcher} learns without it")
    return notes


def _check_priors(plan: Plan) -> list[str]:
    """What priorband takes for good, and priors that no one looks at."""
    space, searcher = plan.search.parsed_space, plan.search.searcher
    if searcher != "priorband":
        given = [dimension.field for dimension in space if dimension.prior]
        if given:
            return [f"{searcher} takes no notice of priors ({', '.join(given)}); priorband does"]
        return []
    known = [f"{field} {prior.value}" for field, prior in priors_of(plan).items()]
    if not known:
        raise PlanError(
            "search.searcher is 'priorband', and no field has a prior, nor the plan a value of its"
            " own in their ranges; give one, as {loguniform: [0.01, 1.0], prior: 0.1}, or"
            " --searcher random"
        )
    return [f"priorband looks near {', '.join(known)}: half of the draws are random all the same"]


def _check_fields(search: SearchConfig) -> list[str]:
    """Optuna's gp and cmaes only model what every trial has, cmaes moreover only numbers."""
    space, searcher = search.parsed_space, search.searcher
    if searcher not in ("gp", "cmaes"):
        return []
    modelled = [
        dimension.field
        for dimension in space
        if not dimension.when and (searcher == "gp" or dimension.kind in CMAES_KINDS)
    ]
    if searcher == "cmaes" and len(modelled) < CMAES_FIELDS:
        raise PlanError(
            f"search.searcher is 'cmaes', which needs at least {CMAES_FIELDS} fields that are"
            f" {_listed(CMAES_KINDS)} and have no `when`; search.space has"
            f" {', '.join(modelled) or 'none'}: search more of them, or give --searcher tpe"
        )
    others = [dimension.field for dimension in space if dimension.field not in modelled]
    reason = "has a condition" if searcher == "gp" else "is a list or has a condition"
    return [f"{searcher} draws at random what {reason}: {', '.join(others)}"] if others else []


def _check_scheduler(plan: Plan) -> list[str]:
    scheduler, grace, epochs = (
        plan.search.scheduler,
        first_rung(plan),
        plan.train.max_epochs,
    )
    if scheduler == "pbt":
        return _check_population(plan)
    if scheduler in _EARLY and grace > epochs:
        raise PlanError(
            f"search.grace_period is {grace}, above train.max_epochs, which is {epochs}; lower it,"
            " train longer, or use --scheduler none"
        )
    if scheduler != "median":
        return []
    if grace == epochs:
        return [
            f"median judges from epoch {grace} on, which is the last: no trial is stopped early"
        ]
    return [
        f"median: from epoch {grace} on, a trial that is worse than the median of the others is"
        " stopped"
    ]


def _check_population(plan: Plan) -> list[str]:
    search, epochs = plan.search, plan.train.max_epochs
    if search.num_samples < PBT_POPULATION:
        raise PlanError(
            f"search.num_samples is {search.num_samples}, and pbt needs a population of at least"
            f" {PBT_POPULATION}; raise it, or give --scheduler asha"
        )
    if search.perturbation_interval >= epochs:
        raise PlanError(
            f"search.perturbation_interval is {search.perturbation_interval} and train.max_epochs"
            f" {epochs}: pbt would never exchange anything; lower the interval, or train longer"
        )
    mutable = task_of(plan).mutable
    kept = [field for field in search.space if field not in mutable]
    for dimension in search.parsed_space:
        changing = [name for name, _ in dimension.when if name in mutable]
        if changing and dimension.field in kept:
            raise PlanError(
                f"search.space.{dimension.field} has when: {changing[0]}, which pbt changes on the"
                " way, so that a trial could get a network that its weights do not fit; search it"
                " without the condition, or give --scheduler asha"
            )
    if len(kept) == len(search.space):
        raise PlanError(
            f"search.scheduler is 'pbt', which changes {_listed(mutable)}, and search.space"
            f" has none of them, only {', '.join(kept)}; search one of them, or give --scheduler"
            " asha"
        )
    notes = [
        f"pbt: after epochs {_shortened(exchange_epochs(plan))} the worst quarter takes weights and"
        " changed values of the best quarter"
    ]
    if kept:
        notes.append(f"pbt leaves these as each trial was born with them: {', '.join(kept)}")
    return notes


def _shortened(epochs: range) -> str:
    shown = [str(epoch) for epoch in epochs[:3]]
    if len(epochs) > 4:
        shown.append("...")
    return ", ".join([*shown, *(str(epoch) for epoch in epochs[3:][-1:])])


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
