"""Pictures of an experiment."""

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.figures import COLOURS, SMALL, literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = ("-", "--", "-.", ":")  # of lines, so that networks differ without colours, too


@literal
def plot_differences(differences: list[dict], reference: str, metrics: list[str]) -> "Figure":
    """Each network's difference from the reference (dot) with its 95 % interval (line), a panel a metric.

    differences: rows of `paired_differences` or `differences_over_trainings`. reference: its name for the
    axis.
    """
    import matplotlib.pyplot as plt

    networks = list(dict.fromkeys(row["network"] for row in differences))
    size = (1.5 + 2.6 * len(metrics), 1.4 + 0.35 * len(networks))
    figure, axes = plt.subplots(
        1, len(metrics), figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for axis, metric in zip(axes[0], metrics):
        axis.axvline(0, color="gray", linewidth=0.8)
        for y, network in enumerate(networks):
            for row in (row for row in differences if row["network"] == network and row["metric"] == metric):
                axis.plot([row["low"], row["high"]], [y, y], color=COLOURS[5], linewidth=2)
                axis.plot(row["difference"], y, "o", color=COLOURS[4])
        axis.set_title(metric.replace("_", ", "), fontsize=10)
        axis.set_xlabel(f"difference from {reference}\n(dot: mean, line: 95 % interval)", fontsize=SMALL)
        axis.tick_params(labelsize=SMALL)
        axis.locator_params(axis="x", nbins=5)
    axes[0, 0].set_yticks(range(len(networks)), networks)
    axes[0, 0].set_ylim(len(networks) - 0.5, -0.5)  # no network lies on the frame
    return figure


@literal
def plot_stack(slices: dict[str, list[dict]], bins: int = 8) -> "Figure":
    """Dice along the stack, one panel for each class, one line for each network. slices: {network: rows of
    `measure_slices`}."""
    import matplotlib.pyplot as plt

    classes = list(dict.fromkeys(row["class"] for rows in slices.values() for row in rows))
    size = (1.5 + 3 * len(classes), 3.2)
    figure, axes = plt.subplots(
        1, len(classes), figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    middles = (np.arange(bins) + 0.5) / bins
    for axis, name in zip(axes[0], classes):
        for colour, style, (network, rows) in zip(cycle(COLOURS), cycle(STYLES), slices.items()):
            points = [(row["position"], row["dice"]) for row in rows if row["class"] == name]
            position, dice = np.array(points).reshape(-1, 2).T
            bin_of = np.minimum((position * bins).astype(int), bins - 1)
            means = [dice[bin_of == i].mean() if (bin_of == i).any() else np.nan for i in range(bins)]
            axis.plot(middles, means, style, color=colour, marker=".", label=network)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("position in the stack (0 lower end, 1 upper end)", fontsize=SMALL)
        axis.tick_params(labelsize=SMALL)
    axes[0, 0].set_ylabel("mean Dice of a slice", fontsize=SMALL)
    axes[0, 0].set_ylim(0, 1)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        fontsize=SMALL,
        frameon=False,
    )
    return figure


@literal
def plot_reliability(tables: dict[str, dict[str, np.ndarray]]) -> "Figure":
    """Reliability diagrams, one panel for each class, one line for each network.

    tables: {network: {class: table of calibration.reliability}}.
    """
    import matplotlib.pyplot as plt

    classes = list(next(iter(tables.values())))
    size = (1.5 + 3 * len(classes), 3.6)
    figure, axes = plt.subplots(
        1, len(classes), figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    for axis, name in zip(axes[0], classes):
        axis.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
        for colour, style, (network, by_class) in zip(cycle(COLOURS), cycle(STYLES), tables.items()):
            voxels, probability, truth = by_class[name][by_class[name][:, 0] > 0].T
            axis.plot(probability / voxels, truth / voxels, style, color=colour, marker=".", label=network)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("probability given by the network", fontsize=SMALL)
        axis.tick_params(labelsize=SMALL)
        axis.set_aspect("equal")
    axes[0, 0].set_ylabel("part of these voxels in the reference", fontsize=SMALL)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        fontsize=SMALL,
        frameon=False,
    )
    return figure


@literal
def plot_time_growth(rows: list[dict], slopes: dict[str, float]) -> "Figure":
    """Time over number of voxels, both logarithmic, one line for each axis that grew, with its slope: the
    rows of `growth`."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure, axis = plt.subplots(figsize=(5.5, 4), layout="constrained")
    for colour, mark, (name, slope) in zip(COLOURS, "os^D", slopes.items()):
        voxels, times = np.array(
            [(row["voxels"], row["milliseconds"]) for row in rows if row["axis"] == name]
        ).T
        axis.loglog(voxels, times, marker=mark, color=colour, label=f"{name}: slope {slope:.2f}")
    axis.set(xlabel="voxels of F (B S C H W)", ylabel="forward + backward of CSAM (ms)")
    for scale in (axis.xaxis, axis.yaxis):  # ticks at 1, 2 and 5 only, because more labels would overlap
        scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
        scale.set_major_formatter(EngFormatter(sep=""))
        scale.set_minor_formatter(NullFormatter())
    axis.legend(frameon=False)
    return figure
