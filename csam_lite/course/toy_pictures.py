"""Pictures of the toy tasks and of what networks learn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.figures import COLOURS
from csam_lite.course.drawing import GATE_COLOURS, GATE_MAPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEAN_OF = 20  # steps: a loss is drawn as its mean over so many


def plot_slices(rows: Mapping[str, np.ndarray], highest: Sequence[float], title: str) -> Figure:
    """Rows {name: slices (S, H, W)} of one volume below each other, the slices counted from 1.

    highest: the value that each row draws white; 0 is black.
    """
    import matplotlib.pyplot as plt

    S = len(next(iter(rows.values())))
    size = (1.3 * S + 0.6, 1.4 * len(rows) + 0.4)
    figure, axes = plt.subplots(len(rows), S, figsize=size, layout="constrained", squeeze=False)
    for row, (name, slices), most in zip(axes, rows.items(), highest):
        for axis, picture in zip(row, slices):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=most)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    for number, axis in enumerate(axes[0], 1):
        axis.set_title(f"slice {number}")
    figure.suptitle(title)
    return figure


def plot_row(images: Mapping[str, np.ndarray], maps: Sequence[str], outline: np.ndarray | None = None,
             title: str = "") -> Figure:
    """Pictures (H, W) of values from 0 to 1 side by side, each with its name and the scale of its colours.

    maps: the name of a colour map for each picture. outline: (H, W), drawn in each where it crosses one half.
    """
    import matplotlib.pyplot as plt

    size = (9, 10 / len(images)) if len(images) > 2 else (7, 3.9)
    figure, axes = plt.subplots(1, len(images), figsize=size, layout="constrained", squeeze=False)
    for axis, (name, image), colours in zip(axes[0], images.items(), maps):
        shown = axis.imshow(image, cmap=colours, vmin=0, vmax=1)
        if outline is not None:
            axis.contour(outline, [0.5], colors=COLOURS[4])
        axis.set_title(name, fontsize=10)
        axis.set(xlabel="column (pixel)", ylabel="row (pixel)" if axis is axes[0, 0] else "")
        figure.colorbar(shown, ax=axis, location="bottom", ticks=(0, 1))
    figure.suptitle(title)
    return figure


def plot_training(losses: Mapping[str, Sequence[float]], shares: Mapping[str, float], guess: float,
                  words: str, title: str) -> Figure:
    """What networks with and without a gate find after a training, as bars, and their losses, as lines.

    losses: {network: loss of each step}; shares: {network: 0 to 1}. A gate's name gives its colour. guess: a
    dashed line at the share that `words` describe. Lines that lie on each other differ in width.
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.bar(list(shares), list(shares.values()), color=[GATE_COLOURS.get(name, "gray") for name in shares])
    left.axhline(guess, color="black", linestyle="dashed", label=words)
    left.set(ylabel="share of slices found", ylim=(0, 1.25))
    left.legend(loc="upper right", frameon=False)
    for (name, values), width in zip(losses.items(), np.linspace(7, 1.5, len(losses))):
        smooth = np.convolve(values, np.ones(MEAN_OF) / MEAN_OF, "valid")
        right.plot(smooth, color=GATE_COLOURS.get(name, "gray"), linewidth=width, label=name)
    right.set(xlabel="step", ylabel=f"loss (mean of {MEAN_OF} steps)", yscale="log")
    right.legend(frameon=False)
    figure.suptitle(title)
    return figure


def plot_curves(x: Sequence[float], curves: Mapping[str, Sequence[float]], colours: Sequence[str],
                marks: Mapping[str, float], xlabel: str, ylabel: str, title: str) -> Figure:
    """Lines over x with a legend beside them. marks: {name: position}, the first at a place of x (dotted),
    the second at a height (dashed)."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
    for (name, values), colour, marker in zip(curves.items(), colours, "oDs^v"):
        axis.plot(x, values, f"{marker}-", color=colour, markersize=4, label=name)
    for (name, at), line, style in zip(marks.items(), (axis.axvline, axis.axhline), ("dotted", "dashed")):
        line(at, color="gray", linestyle=style, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plot_kernels(kernels: Mapping[str, np.ndarray], title: str) -> Figure:
    """Square kernels of weights (k, k) side by side, on one scale of colours around 0, with their sums."""
    import matplotlib.pyplot as plt

    most = max(float(abs(kernel).max()) for kernel in kernels.values())
    figure, axes = plt.subplots(1, len(kernels), figsize=(7.5, 3.2), layout="constrained")
    for axis, (name, kernel) in zip(axes, kernels.items()):
        half = len(kernel) / 2
        shown = axis.imshow(kernel, cmap="PuOr", vmin=-most, vmax=most, extent=(-half, half, half, -half))
        axis.set(title=f"{name}, sum {kernel.sum():.2f}", xlabel="columns away", ylabel="rows away")
    figure.colorbar(shown, ax=axes, label="weight")
    figure.suptitle(title)
    return figure


def plot_levels(label: np.ndarray, lines: Mapping[str, np.ndarray], gates: np.ndarray, at: int) -> Figure:
    """Probabilities along the slices of a toy stack, and below them the slice gates (levels, S) as a map.

    label: (S,), 1 where a slice is labelled. lines: {network: values (S,)}. at: the slice with the dot, from
    1.
    """
    import matplotlib.pyplot as plt

    levels, S = gates.shape
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6.4, 5), layout="constrained", height_ratios=[2, 1])
    top.bar(range(1, S + 1), label, color="#dddddd", width=1, label="labelled")
    for (name, values), colour in zip(lines.items(), ("#777777", COLOURS[5])):
        top.plot(range(1, S + 1), values, "o-", color=colour, label=name)
    top.axvline(at, color="gray", linestyle="dotted", label="dot")
    top.set(xlabel="slice", ylabel="probability in the disc", ylim=(-0.02, 1.05))
    top.legend(frameon=False, fontsize=9, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
    shown = bottom.imshow(gates, cmap=GATE_MAPS["slice"], vmin=0, vmax=1, aspect="auto",
                          extent=(0.5, S + 0.5, levels - 0.5, -0.5))
    bottom.set(xlabel="slice", ylabel="level (0 is finest)", yticks=range(levels), title="slice gates")
    figure.colorbar(shown, ax=bottom, label="gate")
    return figure


def plot_growth(x: Sequence[float], lines: Mapping[str, Sequence[float]], xlabel: str, ylabel: str) -> Figure:
    """Lines on two logarithmic axes, with the colour of a gate where a line has its name."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for (name, values), marker in zip(lines.items(), "os^D"):
        axis.plot(x, values, f"{marker}-", color=GATE_COLOURS.get(name, "gray"), label=name)
    axis.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    axis.set_xticks(x, x)
    axis.minorticks_off()
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plot_start(histories: Mapping[str, np.ndarray]) -> Figure:
    """A rare class in the first steps: its probability in its own voxels (thick) and in all voxels (thin),
    and its Dice.

    histories: {start: numbers of each step (steps, 3) in this order}.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
    for (start, history), colour, style in zip(histories.items(), (COLOURS[4], COLOURS[5]), ("--", "-")):
        for column, width, where in ((0, 2, "its own voxels"), (1, 0.8, "all voxels")):
            axes[0].semilogy(history[:, column], style, color=colour, linewidth=width,
                             label=f"{start}: in {where}")
        axes[1].plot(history[:, 2], style, color=colour, linewidth=2)
    axes[0].set(xlabel="step", ylabel="mean probability", title="the small disc: its probability")
    axes[1].set(xlabel="step", ylabel="Dice", title="the small disc: its Dice", ylim=(-0.03, 1))
    figure.legend(handles=axes[0].get_lines(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def plot_areas(areas: Mapping[str, np.ndarray], title: str) -> Figure:
    """How many voxels each slice is given, as maps (volumes, S) below each other: a line for each volume."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(areas), 1, figsize=(6, 2.8), layout="constrained", sharex=True)
    most = max(float(area.max()) for area in areas.values())
    for axis, (name, area) in zip(axes, areas.items()):
        volumes, S = area.shape
        shown = axis.imshow(area, cmap="cividis", aspect="auto", vmin=0, vmax=most,
                            extent=(0.5, S + 0.5, volumes + 0.5, 0.5))
        axis.set(ylabel=name, yticks=[])
    axes[-1].set_xlabel("slice")
    figure.colorbar(shown, ax=axes, label="voxels\ncalled gland")
    figure.suptitle(title, fontsize=10)
    return figure


def plot_alarms(alarms: Mapping[str, float], fair: float, title: str) -> Figure:
    """The share of false alarms of each way of counting, as bars; a dashed line is that of a fair test."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 2.4), layout="constrained")
    bars = axis.barh(list(alarms), list(alarms.values()), color=COLOURS[5])
    axis.bar_label(bars, fmt="{:.0%}", padding=3)
    axis.axvline(fair, color="black", linestyle="--")
    axis.set(xlim=(0, 1), xlabel="share of false alarms", title=title)
    axis.invert_yaxis()
    return figure


def plot_two_gates(gate: np.ndarray, true: np.ndarray) -> Figure:
    """The gates (B, 2) of two channels as a point for each volume, with a colour and a mark for its true
    channel (B,), 0 or 1."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for k, (colour, marker) in enumerate(((COLOURS[5], "o"), (COLOURS[4], "s"))):
        axis.scatter(*gate[true == k].T, color=colour, marker=marker, alpha=0.5,
                     label=f"volumes whose true channel is {k}")
    axis.set(xlabel="gate of channel 0", ylabel="gate of channel 1", xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    axis.legend(frameon=False)
    axis.set_title("One point is one volume: which channel stays open?")
    return figure


def plot_spread(gates: Mapping[str, np.ndarray], title: str) -> Figure:
    """How many volumes have which gate, 0 to 1, of two channels {name: gates (B,)}."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    axis.hist([*gates.values()], np.linspace(0, 1, 21), color=(COLOURS[5], "gray"), label=[*gates])
    axis.set(xlabel="gate", ylabel="volumes", ylim=(0, len(next(iter(gates.values())))), title=title)
    axis.legend(frameon=False)
    return figure


def plot_influence(matrices: Mapping[str, np.ndarray]) -> Figure:
    """How much each input slice changes each output slice, as matrices {name: (S, S)} on one logarithmic
    scale."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(matrices), figsize=(8, 3.4), layout="constrained", squeeze=False)
    for axis, (name, matrix) in zip(axes[0], matrices.items()):
        ends = (0.5, len(matrix) + 0.5)
        shown = axis.imshow(np.maximum(matrix, 1e-4), cmap="cividis", norm="log", vmin=1e-4, vmax=1e3,
                            extent=(*ends, *ends[::-1]))
        axis.set(xlabel="input slice", ylabel="output slice", title=name)
    figure.colorbar(shown, ax=axes, label="influence")
    figure.suptitle("Does a slice reach another one?")
    return figure


def plot_plane(points: Mapping[str, tuple[np.ndarray, np.ndarray]],
               line: tuple[Sequence[float], Sequence[float]]) -> Figure:
    """Pixels as points {name: (maxima, means)} of a plane, and the line (maxima, means) on which a gate would
    be half open."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for (name, point), colour, marker in zip(points.items(), (COLOURS[5], COLOURS[4]), "o^"):
        axis.plot(*point, marker, color=colour, markersize=4, label=name)
    axis.plot(*line, "k--", label="half open, if the surroundings are alike")
    axis.set(xlabel="maximum over the stack", ylabel="mean over the stack", ylim=(-0.1, 1.1))
    axis.set_title("Which line separates the discs that stay from those that jump?")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
