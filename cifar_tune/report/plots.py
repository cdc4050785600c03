"""Optuna's plots of a search, in our words and looks: each a figure, or why there is none.

They take a `Results` and nothing else, so that a notebook can show them too.
"""

from __future__ import annotations

import math
import warnings
from itertools import combinations

import optuna
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial
from optuna.visualization import (
    plot_contour,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_slice,
)
from plotly.colors import sample_colorscale

from cifar_tune.record.optuna_trials import Parameter
from cifar_tune.record.ranking import best_epoch, pick_best
from cifar_tune.record.results import Results
from cifar_tune.record.trials import Trial
from cifar_tune.report.judged import judged_trials, study_of, value_of, varied
from cifar_tune.report.style import (
    BEST,
    COLOURS,
    EARLY_TO_LATE,
    NEUTRAL,
    WORSE_TO_BETTER,
    finish,
    metric_name,
)

NOTHING_JUDGED = "No trial has reported an epoch that it can be judged by yet."
NOTHING_SEARCHED = "No field is searched, so there is nothing to compare."
NOTHING_VARIED = "All trials that can be judged have the same values of the searched fields so far."
FEWEST_FOR_IMPORTANCE = 4  # below it the best tenth is a trial, and the rest hardly a distribution


def best_so_far(results: Results) -> go.Figure | str:
    """Each trial's value in the order of suggestion, and the best until then."""
    trials, search = judged_trials(results), results.plan.search
    if not trials:
        return NOTHING_JUDGED
    name = metric_name(search.metric)
    figure = plot_optimization_history(study_of(results), target_name=f"a trial's {name}")
    figure.data = figure.data[:2]  # the third is for trials that break constraints: we have none
    points, line = figure.data
    ids, x = [trial.trial_id for trial in trials], [trial.index + 1 for trial in trials]
    points.update(
        x=x, customdata=ids, marker={"color": COLOURS["completed"], "size": 8, "opacity": 0.75},
        name="trial", hovertemplate="%{customdata}: %{y:.4f}<extra></extra>",
    )  # fmt: skip
    line.update(
        x=x, line={"color": BEST, "width": 2.5, "shape": "hv"}, name="best so far",
        hovertemplate="best so far: %{y:.4f}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(xaxis_title="trial, in the order of suggestion", yaxis_title=name)
    if len(trials) == 1:
        figure.update_xaxes(tickvals=x)
    values = [value_of(trial, results) for trial in trials]
    best = results.best()
    assert best is not None, "a trial is judged, so one is best"
    return finish(
        figure,
        f"The best {name} rose from {values[0]:.4f} (first trial) to {value_of(best, results):.4f}"
        f" ({best.trial_id}) over {len(trials)} trials that can be judged."
        if search.mode == "max"
        else f"The best {name} fell from {values[0]:.4f} (first trial) to"
        f" {value_of(best, results):.4f} ({best.trial_id}) over {len(trials)} trials.",
    )


def parallel_coordinates(results: Results) -> go.Figure | str:
    """A line a trial, through its value and all its searched fields."""
    study, trials = study_of(results), judged_trials(results)
    if not results.plan.search.parsed_space:
        return NOTHING_SEARCHED
    if not trials:
        return NOTHING_JUDGED
    name = metric_name(results.plan.search.metric)
    figure = plot_parallel_coordinate(study, target_name=name)
    _colour_lines(figure, results)
    figure.data[-1].marker.update(
        colorscale=WORSE_TO_BETTER, colorbar={"title": {"text": ""}, "thickness": 12, "len": 0.9}
    )
    names = [
        label.replace(".", ".<br>").replace(" ", "<br>") for label in (name, *_sorted_names(study))
    ]
    figure.update_xaxes(showgrid=False, ticktext=names)
    figure.update_annotations(font={"size": 10, "color": "#8791a1"})
    figure = finish(
        figure,
        f"{len(trials)} trials as lines through {name} and {_count_fields(results)}; orange lines"
        " are the best, grey ones the worst.",
        430,
    )
    return figure.update_layout(margin={"l": 40, "r": 10, "t": 42, "b": 56})


def _sorted_names(study: optuna.Study) -> list[str]:
    """The parameters in Optuna's order of the axes; it shortens their names."""
    return sorted({name for trial in study.get_trials(deepcopy=False) for name in trial.params})


def _count_fields(results: Results) -> str:
    count = len(results.plan.search.parsed_space)
    return f"{count} searched field" + ("s" if count > 1 else "")


def _colour_lines(figure: go.Figure, results: Results) -> None:
    """Colours that show on light and on dark ground, the best on top of the others."""
    trials = judged_trials(results)
    values = [value_of(trial, results) for trial in trials]
    low, high = min(values), max(values)
    parts = [(value - low) / (high - low) if high > low else 1.0 for value in values]
    if results.plan.search.mode == "min":
        parts = [1 - part for part in parts] if high > low else parts
    lines = list(figure.data[: len(trials)])
    colours = sample_colorscale(WORSE_TO_BETTER, parts)
    for line, trial, colour, part in zip(lines, trials, colours, parts, strict=True):
        line.update(line={"color": colour, "width": 1 + 1.6 * part**2}, opacity=0.3 + 0.65 * part)
        line.update(name=trial.trial_id, hovertemplate=f"{trial.trial_id}, {line.hovertemplate}")
    order = sorted(range(len(lines)), key=parts.__getitem__)
    figure.data = [*(lines[place] for place in order), figure.data[-1]]


def importances(results: Results) -> go.Figure | str:
    """How much each searched field decides whether a trial is among the best (PED-ANOVA)."""
    study = study_of(results)
    reason = _too_little(study, results, FEWEST_FOR_IMPORTANCE)
    if reason:
        return reason
    names = [parameter.name for parameter in varied(study, results)]
    with warnings.catch_warnings():
        # It warns where the best tenth is a single trial; the caption says how many there are.
        warnings.simplefilter("ignore")
        evaluator = PedAnovaImportanceEvaluator()
        figure = plot_param_importances(study, evaluator, names)
    if not figure.data:
        return "No field sets the best trials apart from the others so far."
    figure.update_traces(marker_color=COLOURS["completed"], name="importance")
    bars = figure.data[0]
    figure.update_layout(xaxis_title="importance (sums to 1)", yaxis_title=None, bargap=0.35)
    figure.update_xaxes(range=[0, max(0.1, 1.18 * max(bars.x))])
    ranked = sorted(zip(bars.y, bars.x, strict=True), key=lambda pair: -pair[1])
    told = ", ".join(f"{name} {value:.2f}" for name, value in ranked)
    count = len(study.get_trials(deepcopy=False))
    rough = "; with fewer than 30 trials this is rough" if count < 30 else ""
    return finish(
        figure,
        f"Importance for being among the best tenth, by PED-ANOVA over {count} trials{rough}:"
        f" {told}.",
        120 + 40 * len(ranked),
    ).update_yaxes(automargin=True)


def ranked_parameters(results: Results) -> list[Parameter]:
    """The parameters that vary, the most important first; in the space's order if that is open."""
    study = study_of(results)
    parameters = varied(study, results)
    if len(study.get_trials(deepcopy=False)) < FEWEST_FOR_IMPORTANCE or len(parameters) < 2:
        return parameters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `importances`
        weights = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), params=[one.name for one in parameters]
        )
    return sorted(parameters, key=lambda one: -weights.get(one.name, 0.0))


def slices(results: Results) -> dict[str, go.Figure] | str:
    """The metric against each searched field that varies, the most important first."""
    study = study_of(results)
    reason = _too_little(study, results, 2)
    if reason:
        return reason
    name = metric_name(results.plan.search.metric)
    return {
        parameter.dimension.field: _slice(study, parameter, results, name)
        for parameter in ranked_parameters(results)
    }


def _slice(study: optuna.Study, parameter: Parameter, results: Results, name: str) -> go.Figure:
    figure = plot_slice(study, [parameter.name], target_name=name)
    ids = [trial.trial_id for trial in judged_trials(results)]
    figure.data = figure.data[:1]  # as in `best_so_far`
    points = figure.data[0]
    points.update(
        customdata=[ids[number] for number in points.marker.color],
        hovertemplate="%{customdata}: %{x}, %{y:.4f}<extra></extra>",
        marker={"size": 8, "showscale": False, "colorscale": EARLY_TO_LATE,
                "line": {"width": 0.5, "color": NEUTRAL}},
    )  # fmt: skip
    figure.update_xaxes(title_text=parameter.dimension.field)
    _show_ticks(figure, parameter, "x")
    best = _best_with(parameter.dimension.field, results)
    value = best.values_at(best_epoch(best, results.plan.search))[parameter.dimension.field]
    return finish(
        figure,
        f"{name} against {parameter.dimension.field} of {len(points.x)} trials; the best,"
        f" {value_of(best, results):.4f}, has {_short(value)}. Darker points came later.",
        290,
    )


def _best_with(field: str, results: Results) -> Trial:
    """The best of the trials that have a field."""
    search = results.plan.search
    having = [t for t in judged_trials(results) if field in t.values_at(best_epoch(t, search))]
    best = pick_best(having, results.plan)
    assert best is not None, "the field varies, so trials have it"
    return best


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _show_ticks(figure: go.Figure, parameter: Parameter, axis: str) -> None:
    """Ticks in a field's own words: the study holds the exponents of powers of two."""
    dimension = parameter.dimension
    update = figure.update_xaxes if axis == "x" else figure.update_yaxes
    if dimension.kind == "pow2":
        exponents = [parameter.encode(power) for power in dimension.values]
        update(tickvals=exponents, ticktext=[str(power) for power in dimension.values])
    elif dimension.kind in ("loguniform", "logint"):
        # Plotly's own ticks are 2 3 4 5 without the decade, or 10\u00b5.
        update(tickvals=_round_values(dimension.low, dimension.high), tickformat=".1~g")


def _round_values(low: float, high: float) -> list[float]:
    """Round values of a logarithmic range; also 2 and 5 times a decade where there are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) <= 2 else (1,)
    values = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return [value for value in values if low <= value <= high] or [low, high]


def contour(results: Results) -> go.Figure | str:
    """The metric over the two most important searched fields that trials have together."""
    study = study_of(results)
    reason = _too_little(study, results, 2)
    if reason:
        return reason
    ranked = ranked_parameters(results)
    if len(ranked) < 2:
        return f"Only {ranked[0].dimension.field} varies; a contour needs two fields."
    met = next((pair for pair in combinations(ranked, 2) if _meet(study, pair)), None)
    if met is None:
        return "No two fields vary among the trials that have both."
    pair = sorted(met, key=lambda one: one.name)  # Optuna's order of the axes
    names = [one.name for one in pair]
    fields = " and ".join(one.dimension.field for one in pair)
    count = len(_having(study, names))
    name = metric_name(results.plan.search.metric)
    figure = plot_contour(study, names, target_name=name)
    figure.data = figure.data[:2]
    area, points = figure.data
    area.update(
        colorscale=WORSE_TO_BETTER, reversescale=results.plan.search.mode == "min",
        colorbar={"title": {"text": ""}, "thickness": 12}, opacity=0.85,
        line={"width": 0},  # between 200 trials they hide the surface
    )  # fmt: skip
    points.update(
        marker={"color": "#ffffff", "size": 6, "line": {"width": 1, "color": "#20242c"}},
        name="trial", hovertemplate="%{x}, %{y}<extra></extra>",
    )  # fmt: skip
    for axis, parameter in zip("xy", pair, strict=True):
        getattr(figure, f"update_{axis}axes")(title_text=parameter.dimension.field)
        _show_ticks(figure, parameter, axis)
    return finish(
        figure,
        f"{name} between {count} trials (points) over {fields}, the two most important fields;"
        " orange is best. The surface is drawn between the trials: far from points it is a guess.",
        430,
    )


def _having(study: optuna.Study, names: list[str]) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if set(names) <= set(trial.params)]


def _meet(study: optuna.Study, pair: tuple[Parameter, ...]) -> bool:
    """Whether both vary among the trials that have both: conditions may part them."""
    names = [one.name for one in pair]
    both = _having(study, names)
    return all(len({trial.params[name] for trial in both}) > 1 for name in names)


def _too_little(study: optuna.Study, results: Results, fewest: int) -> str:
    """Why trials can't be compared by their fields, or nothing."""
    count = len(study.get_trials(deepcopy=False))
    if not results.plan.search.parsed_space:
        return NOTHING_SEARCHED
    if not count:
        return NOTHING_JUDGED
    if count < fewest:
        return f"{_trials(count)} can be judged so far; this needs at least {fewest}."
    return "" if varied(study, results) else NOTHING_VARIED


def _trials(count: int) -> str:
    return f"{count} trial" + ("s" if count > 1 else "")
