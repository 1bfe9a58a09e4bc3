"""Pictures of an examination: gates, cuts, uncertainty, feature maps."""

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.figures import COLOURS, SMALL, literal
from csam_lite.core.gates import NamedArray
from csam_lite.explorer.examine import Examination

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


@literal
def plot_gates(record: Mapping[str, Mapping[str, NamedArray]], image: np.ndarray, spacing: float,
               volume: int = 0, first_slice: int = 1, title: str = "",
               figure: "Figure | SubFigure | None" = None) -> "Figure | SubFigure":
    """Figure of all gates of one volume: a row for each CSAM, a column for each gate and for the covariance
    of a drawn one.

    record: as `record_gates` gives it. The axes of a gate decide how it is drawn: bars for channels (sorted)
    and for slices, a map over the image for rows and columns, a table for anything else. image: (S, H, W),
    the network's input, whose middle slice lies under the maps. spacing: in-plane distance of its pixels in
    mm. volume: which of the record. first_slice: the number of the image's first slice in its volume. figure:
    one to draw into, for example a subfigure. Thin lines on the bars of a drawn slice gate show the range of
    the middle 68 % of its draws.
    """
    import matplotlib.pyplot as plt

    names = dict.fromkeys(name for gates in record.values() for name in gates)
    names = [name for name in names if not any(_is_mean_of_draws(name, gates) for gates in record.values())]
    names = sorted(names, key=lambda name: name.endswith("_covariance"))  # gates first, as they act
    figure = figure or plt.figure(figsize=(3.6 * len(names), 2.3 * len(record) + 0.6), layout="constrained")
    grid = figure.subplots(len(record), len(names), squeeze=False)
    for row, (level, (csam, gates)) in zip(grid, enumerate(record.items())):
        for axis, name in zip(row, names):
            if name not in gates:
                axis.axis("off")
                continue
            covariance = gates[name].axes == ("B", "S", "T")
            words = f"{name.replace('_', ' ')}{'' if covariance else ' gate'}"
            axis.set_title(f"{words}, {csam}, 1/{2**level} size", fontsize=10)
            axis.tick_params(labelsize=SMALL)
            _draw_gate(axis, name, gates, image, spacing, volume, first_slice)
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_gate(axis: "Axes", name: str, gates: Mapping[str, NamedArray], image: np.ndarray, spacing: float,
               volume: int, first_slice: int) -> None:
    """One gate of `gates`, drawn as its axes ask for."""
    gate, axes = gates[name].values[volume], "".join(gates[name].axes[1:])
    S, H, W = image.shape
    numbers = range(first_slice, first_slice + S)
    if axes == "ST":
        real, ends = gate[:S, :S], (numbers[0] - 0.5, numbers[-1] + 0.5)
        most = abs(real).max()
        _image(axis, real, "covariance", "slice", "slice", cmap="PuOr", vmin=-most, vmax=most,
               extent=(*ends, *ends[::-1]))
    elif axes.endswith("HW"):  # of several slices the middle one, of several channels their mean
        gate = gate[S // 2] if axes.startswith("S") else gate
        gate = gate.mean(0) if "C" in axes else gate
        millimetres = (0, W * spacing, H * spacing, 0)
        axis.imshow(image[S // 2], cmap="gray", extent=millimetres)
        _image(axis, gate, "gate", "mm", "mm", cmap="cividis", alpha=0.6, extent=millimetres)
    elif axes == "C":
        axis.bar(range(len(gate)), np.sort(gate)[::-1], width=1, color=COLOURS[1])
        axis.set_xlabel("channels, sorted", fontsize=SMALL)
        axis.xaxis.get_major_locator().set_params(integer=True)
    elif axes == "S":
        axis.bar(numbers, gate[:S], color=COLOURS[0])
        if f"{name}_covariance" in gates:
            mean = gates[f"{name}_mean"].values[volume]
            variance = np.diag(gates[f"{name}_covariance"].values[volume])
            low, high = (_sigmoid(mean + sign * np.sqrt(variance))[:S] for sign in (-1, 1))
            axis.vlines(numbers, low, high, colors="black", linewidths=1)
        axis.set_xlabel("slice, lowest first", fontsize=SMALL)
        axis.xaxis.get_major_locator().set_params(integer=True)
    else:
        if len(axes) > 2:  # S and two others
            gate, axes = gate[S // 2], axes[1:]
        *down, across = [_AXES[letter] for letter in axes] or ["the volume"]
        _image(axis, np.atleast_2d(gate), "gate", across, *down, cmap="cividis", aspect="auto")
    if axes in ("C", "S"):
        axis.set_ylabel("gate", fontsize=SMALL)
        axis.set_ylim(0, 1)


_AXES = {"S": "slice", "C": "channel", "H": "row", "W": "column"}


def _image(axis: "Axes", values: np.ndarray, label: str, across: str, down: str = "", **options) -> None:
    """values (rows, columns) as an image with a colour bar."""
    shown = axis.imshow(values, **options)
    axis.figure.colorbar(shown, ax=axis, label=label).ax.tick_params(labelsize=SMALL)
    axis.set_xlabel(across, fontsize=SMALL)
    axis.set_ylabel(down, fontsize=SMALL)


def _is_mean_of_draws(name: str, gates: Mapping[str, NamedArray]) -> bool:
    """Whether an entry of a record is the mean, before the sigmoid, from which a gate is drawn: it is no
    gate."""
    gate = name.removesuffix("_mean")
    return gate != name and gate in gates and f"{gate}_covariance" in gates


@literal
def plot_examination(examination: Examination, s: int | None = None) -> "Figure":
    """Figure of all that an Examination shows: the cuts through slice s, the uncertainty there, and the gates
    below.

    s: from 0; if None, the slice with most foreground.
    """
    import matplotlib.pyplot as plt

    view = examination
    s = view.busiest_slice if s is None else s
    window = view.as_trained.window(s)
    record = {name: gates for name, gates in window.record.items() if gates}
    heights = [3.4, 2.2 * len(record)] if record else [3.4]
    widths = [1] if view.uncertainty is None else [3, 1]
    figure = plt.figure(figsize=(12, 3.4 + 2.2 * len(record)), layout="constrained")
    above, *below = np.atleast_1d(figure.subfigures(len(heights), 1, height_ratios=heights))
    left, *right = np.atleast_1d(above.subfigures(1, len(widths), width_ratios=widths))
    plot_cuts(view, s, figure=left)
    if right:
        plot_uncertainty_map(view, s, figure=right[0])
    if record:
        read = view.x[window.start:window.stop, 0].numpy()
        read_spacing = (view.field[2] - view.field[0]) * view.spacing[2] / read.shape[2]
        plot_gates(record, read, read_spacing, first_slice=window.start + 1, figure=below[0])
    return figure


@literal
def plot_cuts(examination: Examination, s: int | None = None,
              figure: "Figure | SubFigure | None" = None) -> "Figure | SubFigure":
    """Figure of slice s (from 0; None: that with most foreground) and of the coronal and the sagittal cut.

    The cuts go through the middle of what the network reads, at true spacing, with outlines of the reference
    (dashed) and of the prediction; the slice is marked on them.
    """
    import matplotlib.pyplot as plt

    view = examination
    s = view.busiest_slice if s is None else s
    left, top, right, bottom = view.field
    (S, _, H, W), (deep, high, wide) = view.image.shape, view.spacing
    row, column = (min(max(int((a + b) / 2), 0), n - 1) for a, b, n in ((top, bottom, H), (left, right, W)))
    figure = figure or plt.figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=[W * wide, W * wide, H * high])
    dark, bright = np.percentile(view.image[:, 0], (0.5, 99.5))
    cuts = [  # name, where in (S, H, W), extent in mm
        (f"slice {s + 1} of {S}", np.s_[s], (0, W * wide, H * high, 0)),
        (f"coronal, row {row + 1}", np.s_[::-1, row], (0, W * wide, 0, S * deep)),
        (f"sagittal, column {column + 1}", np.s_[::-1, :, column], (0, H * high, 0, S * deep))]
    masks = [(view.as_trained.mask, "solid", None)]
    masks += [(view.label, "dashed", "white")] if view.label is not None else []
    for axis, (name, where, extent) in zip(axes, cuts):
        axis.imshow(view.image[:, 0][where], cmap="gray", vmin=dark, vmax=bright, extent=extent,
                    aspect="equal", interpolation="nearest")
        for mask, style, colour in masks:
            for k, class_colour in zip(range(1, len(view.classes) + 1), cycle(COLOURS)):
                if min(mask[where].shape) > 1 and (outline := mask[where] == k).any() and not outline.all():
                    axis.contour(outline, [0.5], extent=extent, origin="upper", colors=colour or class_colour,
                                 linestyles=style, linewidths=1)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(view.unit, fontsize=SMALL)
        axis.tick_params(labelsize=SMALL)
        if where != np.s_[s]:
            axis.axhspan(s * deep, (s + 1) * deep, fill=False, edgecolor=COLOURS[6], linewidth=1)
    if view.directions:
        opposite = dict(zip("LRAPSI", "RLPAIS"))
        up, down, across = view.directions
        for axis, (x, y) in zip(axes, ((across, opposite[down]), (across, up), (down, up))):
            ends = {(0.03, 0.5): opposite[x], (0.97, 0.5): x, (0.5, 0.96): y, (0.5, 0.04): opposite[y]}
            for at, text in ends.items():
                axis.text(*at, text, color="white", transform=axis.transAxes, ha="center", va="center",
                          fontsize=SMALL, fontweight="bold")
    handles = [plt.Line2D([], [], color=colour, label=name)
               for colour, name in zip(cycle(COLOURS), view.classes)]
    if view.label is not None:
        handles.append(plt.Line2D([], [], color="gray", linestyle="dashed", label="reference"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8) or 1,
                  fontsize=SMALL, frameon=False)
    _crop_to_field(axes[0], view)
    figure.suptitle(view.title, fontsize=10)
    return figure


@literal
def plot_uncertainty_map(examination: Examination, s: int | None = None,
                     figure: "Figure | SubFigure | None" = None) -> "Figure | SubFigure":
    """Figure of the uncertainty in slice s (from 0; None: that with most foreground).

    Raises InputError for a network without drawn gates.
    """
    import matplotlib.pyplot as plt

    view = examination
    if view.uncertainty is None:
        raise InputError(f"{view.title}: no drawn slice gate or no draws, so there is no uncertainty to "
                         "plot; train with --uncertain")
    s = view.busiest_slice if s is None else s
    figure = figure or plt.figure(figsize=(4, 3.6), layout="constrained")
    (H, W), (_, high, wide) = view.image.shape[2:], view.spacing
    axis, extent = figure.subplots(), (0, W * wide, H * high, 0)
    axis.imshow(view.image[s, 0], cmap="gray", extent=extent)
    shown = axis.imshow(view.uncertainty[s], cmap="cividis", alpha=0.6, vmin=0,
                        vmax=max(view.uncertainty.max(), 1e-3), extent=extent)
    _crop_to_field(axis, view)
    bar = figure.colorbar(shown, ax=axis, shrink=0.8)
    bar.set_label("standard deviation of the class probability", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    axis.set_title(f"uncertainty, {view.draws} draws, slice {s + 1}", fontsize=10)
    axis.set_xlabel(view.unit, fontsize=SMALL)
    axis.tick_params(labelsize=SMALL)
    return figure


@literal
def plot_channel_maps(examination: Examination, csam: str, s: int | None = None, most: int = 8) -> "Figure":
    """Figure of the feature maps that the CSAM named `csam` reads in slice s: the `most` channels whose gates
    are widest open.

    Raises InputError for a CSAM without a gate of the channels.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    view = examination
    s = view.busiest_slice if s is None else s
    gates = view.as_trained.window(s).record.get(csam, {})
    gate = next((named.values[0] for named in gates.values() if named.axes == ("B", "C")), None)
    if gate is None:
        raise InputError(f"{csam}: has no gate of the channels, so there is no order of channels to plot; "
                         "choose another CSAM")
    maps, order = view.feature_maps[csam].values, np.argsort(-gate, kind="stable")[:most]
    figure, axes = plt.subplots(1, len(order), figsize=(2 * len(order), 2.7), squeeze=False,
                                layout="constrained")
    for axis, channel in zip(axes.flat, order):
        picture = axis.imshow(maps[s if len(maps) > 1 else 0, channel], cmap="cividis",
                              vmin=maps[:, channel].min(), vmax=maps[:, channel].max())
        axis.set_title(f"channel {channel}\ngate {gate[channel]:.2f}", fontsize=SMALL)
        axis.axis("off")
        bar = figure.colorbar(picture, ax=axis, orientation="horizontal", ticks=MaxNLocator(3))
        bar.ax.tick_params(labelsize=SMALL)
    return figure


def _crop_to_field(axis: "Axes", view: Examination) -> None:
    """Crop a picture of a slice to what the network reads and a tenth around it."""
    (H, W), (_, high, wide), (left, top, right, bottom) = view.image.shape[2:], view.spacing, view.field
    margin = (right - left) / 10
    axis.set_xlim(max(left - margin, 0) * wide, min(right + margin, W) * wide)
    axis.set_ylim(min(bottom + margin, H) * high, max(top - margin, 0) * high)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))
