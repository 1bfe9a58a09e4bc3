"""Pictures of the gates of a trained network, and of maps of its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.figures import COLOURS, SMALL
from csam_lite.course.drawing import GATE_COLOURS, GATE_MAPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from csam_lite.course.lessons import CourseScan


def plot_positional(image: np.ndarray, gates: Mapping[str, np.ndarray], share: np.ndarray,
                    spacing: float) -> Figure:
    """The positional gates of one volume, a map for each level, each with its own scale of colours.

    image: (H, W), what the network sees. gates: {name of the CSAM: values (h, w)}. share: (H, W), in which
    share of the slices a pixel is foreground; the outline is at a quarter. spacing: of the pixels in mm.
    """
    import matplotlib.pyplot as plt

    extent = (0, image.shape[1] * spacing, image.shape[0] * spacing, 0)
    figure, axes = plt.subplots(2, (len(gates) + 2) // 2, figsize=(9, 5.4), layout="constrained")
    axes.flat[0].imshow(image, cmap="gray", extent=extent)
    axes.flat[0].set_title("input, middle slice")
    for axis, (name, gate) in zip(axes.flat[1:], gates.items()):
        shown = axis.imshow(gate, cmap=GATE_MAPS["positional"], extent=extent)
        figure.colorbar(shown, ax=axis, shrink=0.8, label="gate")
        axis.set_title(f"{name}, {gate.shape[0]} x {gate.shape[1]}")
    for axis in axes.flat[:len(gates) + 1]:
        axis.contour(share, [0.25], colors=COLOURS[4], linewidths=1, extent=extent, origin="upper")
        axis.set(xlabel="mm", ylabel="mm")
    for axis in axes.flat[len(gates) + 1:]:
        axis.axis("off")
    figure.suptitle("Positional gates; outlined: predicted as foreground in a quarter of the slices")
    return figure


def plot_slice_gate(scan: CourseScan, mask: np.ndarray, gate: np.ndarray, s: int, name: str) -> Figure:
    """Slice s of a scan (counted from 0) with the outlines of a mask (S, H, W) and of its reference (dashed),
    beside the slice gate (D,) of the CSAM `name`, whose bar of this slice is dark; above the bars, how much
    of each slice the reference covers."""
    import matplotlib.pyplot as plt

    D = len(gate)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.7), layout="constrained", width_ratios=[5, 8])
    extent = (0, scan.label.shape[2] * scan.spacing[2], scan.label.shape[1] * scan.spacing[1], 0)
    left.imshow(scan.image[s, 0], cmap="gray", extent=extent)
    for k, (_, colour) in enumerate(zip(scan.classes, COLOURS), 1):
        for classes, style, ink in ((mask, "solid", colour), (scan.label, "dashed", "white")):
            if (classes[s] == k).any():
                left.contour(classes[s] == k, [0.5], colors=[ink], linestyles=style, linewidths=1,
                             origin="upper", extent=extent)
    left.set(title=f"slice {s + 1} of {D}", xlabel="mm", ylabel="mm")
    right.bar(range(1, D + 1), gate, color=GATE_COLOURS["slice"])
    right.bar(s + 1, gate[s], color="black")
    covered = (scan.label > 0).mean((1, 2))[None, :D]
    strip = right.imshow(covered, cmap="cividis", aspect="auto", extent=(0.5, D + 0.5, 1.04, 1.14))
    figure.colorbar(strip, ax=right, label="share that is organ")
    right.set(ylim=(0, 1.16), xlim=(0.3, D + 0.7), xlabel="slice, lowest first (black: shown)",
              ylabel="slice gate", title=f"slice gates of {name}; strip: reference")
    return figure


def plot_along(area: np.ndarray, gates: Mapping[str, np.ndarray]) -> Figure:
    """Slice gates along the stack, a line {name: values (S,)} for each, over bars of the labelled area (S,).

    The first is the finest level, and the darkest.
    """
    import matplotlib.pyplot as plt

    numbers = range(1, len(area) + 1)
    figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    axis.bar(numbers, area / max(area.max(), 1e-9), color="lightgray", label="labelled area (of its largest)")
    shades = plt.get_cmap(GATE_MAPS["slice"])(np.linspace(1, 0.4, len(gates)))
    for (name, values), colour, mark in zip(gates.items(), shades, "os^dv"):
        axis.plot(numbers, values, mark + "-", color=colour, label=name)
    axis.set(xlabel="slice, lowest first", ylabel="slice gate", ylim=(0, 1.02))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure


def plot_channels(gates: Mapping[str, np.ndarray]) -> Figure:
    """Semantic gates of several volumes {name of the CSAM: values (volumes, C)}: their means as bars, sorted,
    with a black line from the lowest to the highest."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(gates), figsize=(11, 2.8), sharey=True, layout="constrained")
    for axis, (name, values) in zip(axes, gates.items()):
        values = values[:, np.argsort(-values.mean(0))]
        numbers = np.arange(1, values.shape[1] + 1)
        axis.bar(numbers, values.mean(0), width=1, color=GATE_COLOURS["semantic"])
        axis.vlines(numbers, values.min(0), values.max(0), color="black", linewidth=1.5)
        axis.set(title=f"{name}, {values.shape[1]} channels", xlabel="channels, sorted", ylim=(0, 1))
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("semantic gate")
    figure.suptitle(f"Bars: mean of {len(values)} volumes. Black: lowest to highest. Finest scale left")
    return figure


def plot_gate_rows(gates: Mapping[str, np.ndarray], notes: Sequence[str], area: np.ndarray,
                   first: int = 1) -> Figure:
    """Slice gates as a map with a row for each CSAM {name: values (S,)}, above bars of the area (S,) of the
    organ as a part of each slice.

    notes: what stands at the right of each row. first: the number of the first slice.
    """
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4), height_ratios=(1.6, 1), sharex=True,
                                         layout="constrained")
    ends = (first - 0.5, first + len(area) - 0.5)
    shown = top.imshow(np.stack(list(gates.values())), cmap=GATE_MAPS["slice"], vmin=0, vmax=1, aspect="auto",
                       extent=(*ends, len(gates) - 0.5, -0.5))
    figure.colorbar(shown, ax=top, label="slice gate", pad=0.1)
    top.set_yticks(range(len(gates)), gates)
    for row, note in enumerate(notes):
        top.text(ends[1] + 0.2, row, note, va="center", fontsize=9)
    bottom.bar(range(first, first + len(area)), 100 * area, color="gray")
    bottom.set(xlabel="slice, lowest first", ylabel="organ\n(% of slice)", xlim=ends)
    bottom.xaxis.get_major_locator().set_params(integer=True)
    return figure


def plot_decoration(gates: Mapping[str, np.ndarray], changes: Mapping[str, np.ndarray]) -> Figure:
    """The slice gate (S,) of each of two networks, and the change (S,) of its output when the gate is 1."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(gates) + 1, figsize=(9, 2.6), layout="constrained")
    styles = zip(axes, gates.items(), ((COLOURS[5], "s--"), (COLOURS[4], "o-")))
    for axis, (name, gate), (colour, style) in styles:
        numbers = range(1, len(gate) + 1)
        axis.bar(numbers, gate, color=GATE_COLOURS["slice"])
        axis.set(title=f"{name}: its gate", xlabel="slice", ylabel="gate", ylim=(0, 1))
        axes[-1].plot(numbers, changes[name], style, color=colour, label=name)
    axes[-1].set(title="change if the gate is 1", xlabel="slice", ylabel="part of mean output")
    axes[-1].legend(frameon=False)
    return figure


def plot_uncertainty(maps: Mapping[str, np.ndarray], wrong: np.ndarray, near: np.ndarray, s: int,
                     rates: Mapping[str, Sequence[float]]) -> Figure:
    """Slice s of maps of uncertainty {name: (S, H, W)} and of the wrong voxels, cut to `near` (S, H, W), and
    the rate of wrong voxels (%) in each tenth of the voxels near, from certain to uncertain."""
    import matplotlib.pyplot as plt

    rows, columns = (np.flatnonzero(near[s].any(axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    widths = (*[1] * len(maps), 0.9, 1.2)
    figure, axes = plt.subplots(1, len(widths), figsize=(12, 3), width_ratios=widths, layout="constrained")
    for axis, (name, values) in zip(axes, [*maps.items(), ("wrong voxels", wrong)]):
        shown = axis.imshow(values[s][box], cmap="cividis", vmin=0)
        axis.set(title=f"{name}, slice {s + 1}", xlabel="column (pixels)", ylabel="row (pixels)")
        if name in maps:
            figure.colorbar(shown, ax=axis, shrink=0.7)
    for (name, values), colour, style in zip(rates.items(), (COLOURS[5], COLOURS[4]), ("o-", "s--")):
        axes[-1].plot(range(1, len(values) + 1), values, style, color=colour, label=name)
    axes[-1].axhline(100 * wrong[near].mean(), color="gray", linestyle=":", label="a map that knows nothing")
    axes[-1].set(title="are the errors there?", xlabel="tenth, certain to uncertain",
                 ylabel="wrong voxels (%)")
    axes[-1].set_ylim(0, 1.4 * axes[-1].get_ylim()[1])
    axes[-1].legend(frameon=False, fontsize=SMALL)
    return figure
