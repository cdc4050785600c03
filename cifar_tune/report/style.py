"""How plots look: colours that colour-blind people can tell apart on light and on dark ground."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from cifar_tune.plan.config import SearchConfig

NOTHING_JUDGED = "No trial has reported an epoch that it can be judged by yet."
NOTHING_REPORTED = "No trial has reported an epoch yet."

# After Okabe and Ito (2008), each moved to a lightness that stands out on white and on black.
COLOURS = {
    "completed": "#2f86c9",
    "stopped": "#788497",
    "running": "#149c84",
    "pending": "#a9903a",
    "interrupted": "#a9903a",
    "diverged": "#a968c4",
    "failed": "#d9534a",
}
BEST = "#e58606"
NEUTRAL = "rgba(128, 138, 152, 0.65)"
WORSE_TO_BETTER = [[0.0, "#7d89a6"], [0.55, "#2f86c9"], [1.0, BEST]]
EARLY_TO_LATE = [[0.0, "#b3bccb"], [1.0, "#2f6fb8"]]

# Plotly reads these as marks in any text; every other `<` is a user's.
_LITERAL = re.compile(r"<(?!/?(?:br|extra)\s*/?>)")


def finish(figure: go.Figure, caption: str, height: int = 380) -> go.Figure:
    """Give a plot our looks, and the sentence that says what it shows.

    The page adds the colours of text and grid by the reader's light or dark theme. Margins that
    the plot has already stay.
    """
    margin = {"l": 62, "r": 14, "t": 34, "b": 50, **figure.layout.margin.to_plotly_json()}
    figure.update_layout(
        title=None,
        height=height,
        autosize=True,
        margin=margin,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        hovermode="closest",
        meta={"caption": caption[:1].upper() + caption[1:]},
    )
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False)
    return figure


def caption_of(figure: go.Figure) -> str:
    """The sentence that says what a plot shows."""
    return str(figure.layout.meta["caption"])


def logarithmic(values: Sequence[float], search: SearchConfig) -> bool:
    """Whether the metric's axis is logarithmic: a high loss must not press the others together."""
    return search.mode == "min" and min(values) > 0


def plain(content: Any) -> Any:
    """A plot's content in which no text is taken for a link, whatever a user gave as a name."""
    if isinstance(content, str):
        return _LITERAL.sub("&lt;", content)
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(value) for value in content]
    return content
