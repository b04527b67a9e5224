"""The figures of the transfer benchmark, as the paper's Figures 4 and 5; notebooks/transfer.ipynb draws them anew.

In: curves of the CLIP race and records. Out: PNG files.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.transfer_study.report import POINTS, Curves
from trainer.records.record import Record
from vocab.errors import MissingRequirementError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {"catlip": "CatLIP", "clip": "CLIP, same images", "clip_same_time": "CLIP, same time"}
INITS = {"random": "random init", "transfer": "Transfer Init"}


def require_matplotlib() -> None:
    """Raise MissingRequirementError if it is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingRequirementError(
            "plots",
            found="no package matplotlib",
            wanted="matplotlib",
            remedy="Install it with: pip install '.[notebooks]'",
        )


def draw_curves(path: Path, runs: Mapping[int, Curves]) -> None:
    """Probe accuracy against epochs and against seconds, a line for each seed (Figure 4)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colours = {side: f"C{number}" for number, side in enumerate(NAMES)}
    for number, run in enumerate(runs.values()):
        for side, curve in run.items():
            accuracies = [POINTS * point.accuracy for point in curve]
            label = NAMES[side] if number == 0 else None
            left.plot([point.epoch for point in curve], accuracies, ".-", color=colours[side], label=label)
            right.plot([point.spent.wall for point in curve], accuracies, ".-", color=colours[side])
    left.set(xlabel="epochs", ylabel="linear probe, %")
    right.set(xlabel="seconds of training")
    left.legend()
    figure.savefig(path, dpi=120)


def draw_shares(path: Path, records: Sequence[Record]) -> None:
    """Accuracy against share of the training images, random and Transfer Init (Figure 5), for each task and method."""
    shares_figure(records).savefig(path, dpi=120)


def shares_figure(records: Sequence[Record]) -> Figure:
    """Draw the figure of `draw_shares`."""
    from matplotlib.figure import Figure

    panels = sorted({(record.task, record.method) for record in records if record.method in ("probe", "finetune")})
    figure = Figure(figsize=(5.5 * len(panels), 4), layout="constrained")
    for axes, (task, method) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        some = [record for record in records if (record.task, record.method) == (task, method)]
        for init, label in INITS.items():
            _draw_init(axes, [record for record in some if record.init == init], label)
        axes.set(title=f"{method}, {task} classes", xlabel="share of the training images, %", ylabel="accuracy, %")
        axes.set_xscale("log")
        # After the scale, which brings ticks of its own: powers of ten are not the shares that were measured.
        ticks = sorted({record.percent for record in some})
        axes.set_xticks(ticks, [f"{share:g}" for share in ticks])
        axes.minorticks_off()
        axes.legend()
    return figure


def _draw_init(axes: Axes, records: Sequence[Record], label: str) -> None:
    percents = sorted({record.percent for record in records})
    values = [[POINTS * record.value for record in records if record.percent == percent] for percent in percents]
    means = [statistics.fmean(each) for each in values]
    spreads = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in values]
    axes.errorbar(percents, means, yerr=spreads, fmt="o-", capsize=3, label=label)
