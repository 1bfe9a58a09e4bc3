"""Pictures of the notebooks whose code would hide the lesson."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.figures import COLOURS, SMALL
from csam_lite.course.drawing import GATE_COLOURS, GATE_MAPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from csam_lite.data.scan import Scan

WINDOW = (1, 99)   # percentiles of the intensities that are drawn black and white
MARGIN_MM = 20     # of the picture around a mask
LABEL = "#0072B2"  # what a network should find; the three gates have GATE_COLOURS


def plot_doubt(scan: Scan, mask: np.ndarray, doubt: np.ndarray) -> Figure:
    """The lowest, the middle and the highest slice of a mask (S, H, W), with `doubt` (S, H, W), 0 to 1, in
    colour over the image; cut to the mask and MARGIN_MM around it."""
    import matplotlib.pyplot as plt

    organ = mask > 0
    where = organ if organ.any() else np.ones_like(organ)
    slices = np.flatnonzero(where.any((1, 2)))
    extent = (0, mask.shape[2] * scan.spacing[2], mask.shape[1] * scan.spacing[1], 0)
    low, high = np.percentile(scan.image[:, 0], WINDOW)
    figure, axes = plt.subplots(1, 3, figsize=(6.4, 2.7), sharex=True, sharey=True, layout="constrained")
    for axis, s in zip(axes, slices[[0, len(slices) // 2, -1]]):
        axis.imshow(scan.image[s, 0], cmap="gray", vmin=low, vmax=high, extent=extent)
        drawn = axis.imshow(np.ma.masked_less(doubt[s], 0.05), cmap="plasma", vmin=0, vmax=1, alpha=0.7,
                            extent=extent, interpolation="nearest")
        if organ[s].any():
            axis.contour(organ[s], [0.5], colors="white", linewidths=1.2, extent=extent, origin="upper")
        axis.set_title(f"slice {s + 1} of {len(mask)}", fontsize=11)
        axis.set_xlabel("W (mm)")
    (top, bottom), (left, right) = (
        np.flatnonzero(where.any((0, 2 - axis)))[[0, -1]] * scan.spacing[1 + axis] for axis in (0, 1))
    axes[0].set(xlim=(left - MARGIN_MM, right + MARGIN_MM), ylim=(bottom + MARGIN_MM, top - MARGIN_MM),
                ylabel="H (mm)")
    figure.colorbar(drawn, ax=axes, label="entropy", shrink=0.85)
    return figure


def plot_toy_stack(x: np.ndarray, label: np.ndarray) -> Figure:
    """A toy stack x (S, H, W) in two rows of slices, counted from 1, with the label (S, H, W) outlined."""
    import matplotlib.pyplot as plt

    S = len(x)
    across = -(-S // 2)
    figure, axes = plt.subplots(2, across, figsize=(6.4, 2.9), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for s, axis in zip(range(S), axes.flat):
        axis.imshow(x[s], cmap="gray", vmin=0, vmax=2)
        if label[s].any():
            axis.contour(label[s], [0.5], colors=LABEL, linewidths=2)
        axis.set_title(f"slice {s + 1}", fontsize=11)
    return figure


def plot_depth(pooled: dict[str, np.ndarray], label: np.ndarray, lines: dict[str, np.ndarray],
               begins: int) -> Figure:
    """What a slice gate reads, above, and what it makes of it, below, along the slices, counted from 1.

    pooled, lines: {name: values (S,)}, of which the line "gate" has the colour of the slice gate. label:
    (S,), 1 where a slice is labelled. begins: the slice that a vertical line marks.
    """
    import matplotlib.pyplot as plt

    numbers = np.arange(1, len(label) + 1)
    figure, (top, axis) = plt.subplots(2, 1, figsize=(6.4, 5.4), sharex=True, layout="constrained")
    for (name, values), style in zip(pooled.items(), ("s-", "^--")):
        top.plot(numbers, values, style, color="black", label=name)
    top.set(ylabel="what the gate reads", ylim=(-0.1, 2.5))
    axis.bar(numbers, label, color="#dddddd", width=1, label="labelled")
    for (name, values), colour in zip(lines.items(), ("#777777", LABEL)):
        if name != "gate":
            axis.plot(numbers, values, "o-", color=colour, label=name)
    axis.plot(numbers, lines["gate"], "d-", color=GATE_COLOURS["slice"], label="gate")
    axis.set(xlabel=f"slice (the band begins in slice {begins})", ylabel="gate, probability",
             ylim=(-0.02, 1.05), xticks=numbers)
    for panel in (top, axis):
        panel.axvline(begins - 0.5, color="black", linewidth=0.8)
        panel.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)
    return figure


def plot_one_draw(noise: np.ndarray, mu: float, sigma: float) -> Figure:
    """How noise (N,) becomes the draws mu + sigma * noise: a line from each number to its draw."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.2, 2.6), layout="constrained")
    draws = mu + sigma * noise
    for start, end in zip(noise, draws):
        axis.plot([start, end], [1, 0], color="#bbbbbb", linewidth=1)
    axis.plot(noise, np.ones_like(noise), "o", color="black")
    axis.plot(draws, np.zeros_like(draws), "o", color=GATE_COLOURS["slice"])
    axis.plot([mu, mu], [-0.12, 0.12], color=GATE_COLOURS["slice"])
    axis.set(xlim=(-6, 6), ylim=(-0.3, 1.3), xlabel="value", yticks=[0, 1],
             yticklabels=["$s = \\mu + \\sigma\\varepsilon$", "noise $\\varepsilon$"])
    axis.tick_params(axis="y", labelsize=12)
    return figure


def plot_drawn_stacks(mean: np.ndarray, diag: np.ndarray, factor: np.ndarray, seed: int = 0) -> Figure:
    """One draw of the normal as stacks of slices: mean (S,), each pattern of the factor (S, R) with its
    random strength, the noise of each slice alone with variances diag (S,), their sum, and the gate; below
    it the covariance (S, S)."""
    import matplotlib.pyplot as plt

    random = np.random.default_rng(seed)
    S, R = factor.shape
    strengths = random.normal(size=R)
    parts = [mean, *(factor * strengths).T, np.sqrt(diag) * random.normal(size=S)]
    patterns = [f"$W_{r + 1} \\times$\n{strength:+.1f}" for r, strength in enumerate(strengths)]
    titles = ["$\\mu$", *patterns, "$\\sqrt{d}\\,\\varepsilon$", "sum $s$", "gate"]
    logits = np.sum(parts, axis=0)
    stacks = [*parts, logits, 1 / (1 + np.exp(-logits))]
    most = max(np.abs(stack).max() for stack in stacks)
    figure, axes = plt.subplots(1, len(stacks) + 1, figsize=(6.6, 3.4), layout="constrained",
                                width_ratios=[1] * len(stacks) + [5])
    for axis, stack, title in zip(axes, stacks, titles):
        colours, low, high = (GATE_MAPS["slice"], 0, 1) if title == "gate" else ("PuOr", -most, most)
        axis.imshow(stack[:, None], colours, vmin=low, vmax=high, origin="lower",
                    extent=(0, 1, 0.5, S + 0.5), aspect="auto")
        axis.set_title(title, fontsize=11)
        axis.set(xticks=[], yticks=[])
    axes[len(stacks) - 1].set_xlabel("dark:\nopen")
    axes[0].set(ylabel="slice", yticks=range(1, S + 1))
    covariance, axis = factor @ factor.T + np.diag(diag), axes[-1]
    highest = np.abs(covariance).max()
    drawn = axis.imshow(covariance, origin="lower", extent=(0.5, S + 0.5) * 2, cmap="PuOr", vmin=-highest,
                        vmax=highest)
    axis.set(xlabel="slice", xticks=range(1, S + 1, 3), yticks=range(1, S + 1, 3))
    axis.set_title("covariance of $s$", fontsize=11)
    figure.colorbar(drawn, ax=axis, shrink=0.7)
    return figure


def plot_tables(tables: dict[str, np.ndarray], rows: Sequence[str], columns: Sequence[str],
                digits: Sequence[int]) -> Figure:
    """Tables side by side, whose cells are coloured by their values and show them.

    tables: {title: values (rows, columns)}, each with its own scale. digits: behind the point, one number
    for each table.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(tables), figsize=(4 * len(tables), 3.2), layout="constrained")
    for axis, (title, values), places in zip(np.atleast_1d(axes), tables.items(), digits):
        axis.imshow(values, cmap="cividis", aspect="auto")
        axis.set_xticks(range(len(columns)), columns)
        axis.set_yticks(range(len(rows)), rows)
        axis.set_title(title, fontsize=10)
        for (row, column), value in np.ndenumerate(values):
            ink = "w" if value < (values.min() + values.max()) / 2 else "k"
            axis.text(column, row, f"{value:.{places}f}", ha="center", va="center", color=ink)
    return figure


def plot_change(image: np.ndarray, reference: np.ndarray, before: np.ndarray, after: np.ndarray, s: int,
                title: str) -> Figure:
    """A slice with the outlines of a mask after a change, and the size of the masks along the stack.

    image (S, H, W); reference, before, after: masks (S, H, W) of the truth, of the network as it was, and of
    the changed network. s: the slice, counted from 0 (the picture counts from 1). title: of the change. The
    slice is cut to the surroundings of the organ in `before`.
    """
    import matplotlib.pyplot as plt

    sides = [np.flatnonzero((before > 0).any((0, axis))) for axis in (2, 1)]  # rows and columns of the organ
    box = tuple(slice(max(side[0] - 15, 0), side[-1] + 15) if len(side) else slice(None) for side in sides)
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), width_ratios=(1, 1.4), layout="constrained")
    axes[0].imshow(image[s][box], cmap="gray")
    for mask, style, ink in ((after, "solid", None), (reference, "dashed", "white")):
        for k in np.unique(mask[s][box][mask[s][box] > 0]):
            axes[0].contour(mask[s][box] == k, [0.5], colors=ink or COLOURS[(k - 1) % len(COLOURS)],
                            linestyles=style, linewidths=1.2)
    axes[0].set(title=f"slice {s + 1} of {len(before)}", xlabel="column (pixels)", ylabel="row (pixels)")
    styles = (":", "k", "reference"), ("-", COLOURS[5], "as trained"), ("--", COLOURS[4], "changed gate")
    for mask, (style, colour, name) in zip((reference, before, after), styles):
        axes[1].plot(range(1, len(mask) + 1), (mask > 0).mean((1, 2)) * 100, style, color=colour, label=name)
    axes[1].set(xlabel="slice", ylabel="mask (% of the slice)", title=title)
    axes[1].xaxis.get_major_locator().set_params(integer=True)
    axes[1].legend(frameon=False, fontsize=SMALL)
    return figure


def plot_bars(values: Mapping[str, Sequence[float]], names: Sequence[str], xlabel: str,
              line: float | None = None) -> Figure:
    """A group of bars for each row of `values` {row: a value for each name}, with the values at their ends.

    line: where a dashed line marks what is right.
    """
    import matplotlib.pyplot as plt

    size, table = (7, 1 + 0.4 * len(values)), np.array([list(row) for row in values.values()], float)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    high = 0.8 / len(names)
    for k, name in enumerate(names):
        at = np.arange(len(values)) + (k - (len(names) - 1) / 2) * high
        bars = axis.barh(at, table[:, k], high, color=COLOURS[k % len(COLOURS)], label=name)
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=SMALL,
                       bbox=dict(facecolor="white", edgecolor="none", pad=0.5))  # over a line, not under it
    if line is not None:
        axis.axvline(line, color="gray", linestyle="--")
    axis.set(yticks=range(len(values)), yticklabels=list(values), xlabel=xlabel,
             xlim=(0, 1.15 * max(1, np.nanmax(table))))
    axis.invert_yaxis()
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def plot_arrays(stored: Mapping[str, np.ndarray], read: Mapping[str, Scan]) -> Figure:
    """Above, the middle plane of each array (X, Y, Z) as it is stored; below, the middle slice of the same
    file as `read_scan` gives it, in mm. The titles name the directions of the axes."""
    import matplotlib.pyplot as plt

    def few(plane: np.ndarray) -> np.ndarray:  # fewer pixels, for a small picture
        return plane[::max(1, plane.shape[0] // 80), ::max(1, plane.shape[1] // 80)]

    figure, axes = plt.subplots(2, len(stored), figsize=(7, 4.8), layout="constrained", squeeze=False)
    for axis, (name, voxels) in zip(axes[0], stored.items()):
        X, Y, Z = voxels.shape
        axis.imshow(few(voxels[:, :, Z // 2]).T, cmap="gray", aspect="auto", extent=(0, X, Y, 0),
                    interpolation="nearest")
        axis.set(xlabel="first axis (voxels)", ylabel="second axis (voxels)")
        axis.set_title(name, fontsize=10)
    for axis, scan in zip(axes[1], read.values()):
        S, _, H, W = scan.image.shape
        axis.imshow(few(scan.image[S // 2, 0]), cmap="gray", interpolation="nearest",
                    extent=(0, W * scan.spacing[2], H * scan.spacing[1], 0))
        axis.set(xlabel="W (mm)", ylabel="H (mm)")
        axis.set_title(f"read_scan: {scan.directions}", fontsize=10)
    return figure


def plot_placed(scan: Scan, around: np.ndarray, panels: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """One slice of a scan for each panel {title: masks (S, H, W)}, with the outlines of its masks.

    The slice is the one with most of the mask `around`, and the picture is cut to 25 mm around that. A single
    mask has a colour for each of its classes; of several, the first is white and the others orange.
    """
    import matplotlib.pyplot as plt

    s = int((around > 0).sum((1, 2)).argmax())
    H, W = around.shape[1:]
    extent = (0, W * scan.spacing[2], H * scan.spacing[1], 0)
    low, high = np.percentile(scan.image[s, 0], WINDOW)
    ends = [np.flatnonzero((around[s] > 0).any(1 - a))[[0, -1]] * scan.spacing[1 + a] for a in (0, 1)]
    figure, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels), 3.4), layout="constrained",
                                squeeze=False)
    for axis, (title, masks) in zip(axes[0], panels.items()):
        axis.imshow(scan.image[s, 0], cmap="gray", vmin=low, vmax=high, extent=extent,
                    interpolation="nearest")
        for number, mask in enumerate(masks):
            for k, value in enumerate(np.unique(mask[s][mask[s] > 0])):
                colour = COLOURS[k] if len(masks) == 1 else ("white", COLOURS[0])[number > 0]
                axis.contour(mask[s] == value, [0.5], colors=colour, extent=extent, origin="upper")
        axis.set(xlim=(ends[1][0] - 25, ends[1][1] + 25), ylim=(ends[0][1] + 25, ends[0][0] - 25),
                 xlabel="W (mm)", ylabel="H (mm)", title=title)
    return figure


def plot_thickness(fine: np.ndarray, thick: np.ndarray, spacing: float, thickness: float,
                   heights: Sequence[float]) -> Figure:
    """A front view of the fine zones (Z, Y, X), of the same in thick slices, and of where the two differ.

    spacing, thickness: of the fine grid and of the slices in mm. heights: the lower and the upper edge of the
    picture in mm.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    y = int(np.argmax((fine > 0).sum((0, 2))))  # the row with most gland
    whole, coarser = fine[:, y], thick[:, y]    # (Z, X) each
    colours = ListedColormap(["#eeeeee", *COLOURS[:2]])
    panels = {"truth": (whole, colours), f"slices of {thickness:.1f} mm": (coarser, colours),
              "lost (black)": (2 * (whole != coarser), ListedColormap(["#eeeeee", "#eeeeee", "black"]))}
    figure, axes = plt.subplots(1, 3, figsize=(8.5, 2.9), layout="constrained", sharey=True)
    for axis, (title, (picture, shades)) in zip(axes, panels.items()):
        axis.imshow(picture, cmap=shades, vmin=0, vmax=2, origin="lower", interpolation="nearest",
                    extent=(0, whole.shape[1] * spacing, 0, len(whole) * spacing))
        axis.set(title=title, xlabel="mm, right to left", ylim=heights)
    axes[0].set_ylabel("mm, bottom to top")
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS[:2]]
    figure.legend(handles, ["PZ", "TZ"], loc="outside right upper", frameon=False)
    return figure


def plot_side_views(scans: Mapping[str, Scan], classes: Sequence[str]) -> Figure:
    """Cuts through the middle of scans {title: Scan}, from back to front, with the outlines of their classes;
    0 mm is the middle of each stack."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(scans), figsize=(8.5, 3.3), layout="constrained", sharey=True)
    for axis, (title, scan) in zip(axes, scans.items()):
        (S, H, W), (deep, row, _) = scan.label.shape, scan.spacing
        extent = (0, H * row, -S * deep / 2, S * deep / 2)
        axis.imshow(scan.image[:, 0, :, W // 2], cmap="gray", origin="lower", extent=extent)
        for k, colour in enumerate(COLOURS[:len(classes)], 1):
            axis.contour(scan.label[:, :, W // 2] == k, [0.5], colors=colour, linewidths=1.2, extent=extent)
        axis.set(title=title, xlabel="mm, back to front", ylim=(-34, 34))
    axes[0].set_ylabel("mm, bottom to top")
    handles = [plt.Line2D([], [], color=colour) for colour in COLOURS[:len(classes)]]
    axes[0].legend(handles, classes, loc="upper left", fontsize=SMALL)
    return figure


def plot_alike(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
               point: tuple[float, float]) -> Figure:
    """How alike voxels are over their distance in mm: lines {direction: (distances, correlations)} within a
    slice, and the point of the next slice."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
    for (name, (distances, values)), colour, marker in zip(curves.items(), (COLOURS[5], COLOURS[1]), "so"):
        axis.plot(distances, values, f"{marker}-", color=colour, label=f"within a slice, {name}")
    axis.plot(*point, "D", color=COLOURS[4], markersize=9, label="one slice further")
    axis.set(xlabel="distance in mm", ylabel="correlation of intensities", xlim=0, ylim=(None, 1.02))
    axis.legend(frameon=False, loc="upper right")
    return figure


def plot_cut(cut: np.ndarray, steps: tuple[float, float]) -> Figure:
    """A cut (slices, rows) through a stack, with square voxels on the left and in millimetres on the right.

    steps: from slice to slice and from row to row in mm.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    axes[0].imshow(cut, cmap="gray", origin="lower")
    axes[0].set(title=f"voxels as squares, {len(cut)} high", xlabel="voxel", yticks=[])
    extent = (0, cut.shape[1] * steps[1], 0, cut.shape[0] * steps[0])
    axes[1].imshow(cut, cmap="gray", origin="lower", extent=extent)
    axes[1].set(title="millimetres", xlabel="mm", ylabel="mm")
    return figure


def plot_neighbours(slices: np.ndarray, first: int, count: int, steps: tuple[float, float]) -> Figure:
    """Neighbouring slices (N, Y, X) of a stack of `count` slices, without any outline.

    first: the number of the first one. steps: from row to row and from column to column in mm.
    """
    import matplotlib.pyplot as plt

    N, Y, X = slices.shape
    figure, axes = plt.subplots(1, N, figsize=(8.5, 2.6), layout="constrained", sharey=True)
    for number, (axis, picture) in enumerate(zip(axes, slices), first):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=slices.max(), origin="lower",
                    extent=(0, X * steps[1], 0, Y * steps[0]))
        axis.set(title=f"slice {number} of {count}", xlabel="mm, right to left")
    axes[0].set_ylabel("mm, back to front")
    return figure
