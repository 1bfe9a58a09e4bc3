"""Pictures of masks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.figures import COLOURS, SMALL, literal
from csam_lite.data.scan import Scan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 5  # pictures in a row
MARGIN_MM = 15  # of the picture around the masks


@literal
def plot_masks(
    scan: Scan,
    classes: Sequence[str],
    prediction: np.ndarray | None = None,
    channel: int = 0,
    slices: int = 9,
    title: str = "",
) -> Figure:
    """Figure of `slices` slices of a Scan with outlines: its label dashed in white, `prediction` (S, H, W) in
    the colours of the classes.

    The slices are spread evenly over those with a mask. In-plane proportions are true. The picture is cut to
    the masks and 15 mm around them. classes: the names of the classes 1..K-1.
    """
    import matplotlib.pyplot as plt

    masks = [mask for mask in (scan.label, prediction) if mask is not None]
    where = np.any([mask > 0 for mask in masks], axis=0) if masks else np.zeros(scan.image[:, 0].shape, bool)
    if not where.any():
        where[:] = True
    first, last = np.flatnonzero(where.any((1, 2)))[[0, -1]]
    shown = np.unique(np.linspace(first, last, slices).round().astype(int))
    box = tuple(_around(where.any((0, 3 - axis)), MARGIN_MM / scan.spacing[axis]) for axis in (1, 2))
    height, width = (part.stop - part.start for part in box)
    millimetres = (0, width * scan.spacing[2], height * scan.spacing[1], 0)
    across = min(len(shown), ACROSS)
    down = -(-len(shown) // across)
    size = (2.3 * across, 2.5 * down + 0.5)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    low, high = np.percentile(scan.image[(shown, channel)][(slice(None), *box)], (0.5, 99.5))
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    for axis, s in zip(axes.flat, shown):
        axis.imshow(scan.image[(s, channel, *box)], cmap="gray", vmin=low, vmax=high, extent=millimetres)
        for k, colour in zip(range(1, len(classes) + 1), cycle(COLOURS)):
            styles = (
                (scan.label, dict(colors="white", linestyles="dashed", linewidths=0.9)),
                (prediction, dict(colors=colour, linewidths=1.4)),
            )
            for mask, style in styles:
                if mask is not None and (outline := mask[(s, *box)] == k).any():
                    axis.contour(outline, [0.5], extent=millimetres, origin="upper", **style)
        axis.set_title(f"slice {s + 1} of {len(scan.image)}", fontsize=SMALL)
        axis.tick_params(labelsize=SMALL)
        axis.label_outer()
    for axis in axes[-1]:
        axis.set_xlabel("mm", fontsize=SMALL)
    for axis in axes[:, 0]:
        axis.set_ylabel("mm", fontsize=SMALL)
    handles = []
    if prediction is not None:
        handles += [
            plt.Line2D([], [], color=colour, label=name) for colour, name in zip(cycle(COLOURS), classes)
        ]
    if scan.label is not None:
        handles.append(plt.Line2D([], [], color="gray", linestyle="dashed", label="reference"))
    figure.suptitle(title, fontsize=10)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles) or 1, fontsize=SMALL, frameon=False
    )
    return figure


def _around(hit: np.ndarray, margin: float) -> slice:
    """The slice of an axis that holds all True of `hit` and `margin` more on both sides."""
    where = np.flatnonzero(hit)
    return slice(max(int(where[0] - margin), 0), min(int(where[-1] + margin) + 1, len(hit)))
