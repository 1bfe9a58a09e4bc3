"""Pictures of numbers: lines, patients in pairs, resampled means and trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEAN = COLOURS[5]  # the mean of a training, among the patients in gray


def plot_lines(x: Sequence[float], lines: Mapping[str, Sequence[float]], xlabel: str, ylabel: str,
               dot: tuple[float, float] | None = None, logarithmic: bool = False,
               ylim: tuple[float, float] | None = None) -> Figure:
    """One or two lines {name: values} over x.

    dot: a point (x, y) that is marked and named by its height. logarithmic: both axes. ylim: the lowest and
    the highest value that the picture shows.
    """
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5.5, 2.9), layout="constrained")
    for (name, values), colour, style in zip(lines.items(), (COLOURS[5], COLOURS[4]), ("-", "--")):
        axis.plot(x, values, style, color=colour, label=name)
    if dot is not None:
        axis.plot(*dot, "o", color=COLOURS[5])
        axis.annotate(f"{dot[1]:.2f}", dot, (5, -13), textcoords="offset points")
    if logarithmic:
        axis.set(xscale="log", yscale="log")
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if ylim is not None:
        axis.set_ylim(ylim)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def plot_pairs(pairs: Mapping[str, Sequence[float]], d: Sequence[float]) -> Figure:
    """The Dice of the same patients with two networks {name: values}, a line for each patient, and beside it
    the differences d, second minus first."""
    import matplotlib.pyplot as plt

    first, second = pairs
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot([0, 1], np.array([*pairs.values()]), "o-", color=COLOURS[5])
    left.set(xticks=[0, 1], xticklabels=[first, second], xlim=(-0.3, 1.3), xlabel="network", ylabel="Dice")
    left.set_title("one line for each patient")
    right.axvline(0, color="gray")
    right.plot(d, range(1, len(d) + 1), "o", color=COLOURS[4])
    right.set(xlabel=f"Dice of {second} minus Dice of {first}", ylabel="patient", yticks=range(1, len(d) + 1),
              title="the same, subtracted")
    return figure


def plot_resampled(means: np.ndarray, interval: tuple[float, float], step: float) -> Figure:
    """How often each mean difference came up among resampled groups, with the interval as a band.

    step: the distance between two means that can occur, so that each of them has a bar of its own.
    """
    import matplotlib.pyplot as plt

    low, high = interval
    figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
    edges = (np.arange(round(means.min() / step), round(means.max() / step) + 2) - 0.5) * step
    axis.hist(means, edges, color=COLOURS[1])
    axis.axvspan(low, high, color=COLOURS[0], alpha=0.25, label=f"95 %: {low:.3f} to {high:.3f}")
    axis.axvline(0, color="gray")
    axis.set(xlabel="mean difference in Dice of a resampled group", ylabel="draws")
    axis.legend(fontsize=8)
    return figure


def plot_trainings(d: np.ndarray) -> Figure:
    """Differences d (P, T) of P patients in T trainings: a column for each training, with its mean."""
    import matplotlib.pyplot as plt

    P, T = d.shape
    figure, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
    axis.axhline(0, color="gray", linewidth=0.8)
    for patient in d:
        axis.plot(range(1, T + 1), patient, ".-", color="#bbbbbb", linewidth=0.8)
    axis.plot(range(1, T + 1), d.mean(0), "D", color=MEAN, markersize=8, label="mean of a training")
    axis.plot([], [], ".-", color="#bbbbbb", label="one patient")
    axis.set(xlabel="training", xticks=range(1, T + 1), ylabel="Dice of CSAM minus plain")
    axis.legend(frameon=False)
    return figure
