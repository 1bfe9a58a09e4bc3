"""Pictures of an examination: gates, cuts, uncertainty, feature maps."""

from itertools import cycle

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.figures import COLOURS


def plot_gates(record, image, spacing, volume=0, first_slice=1, title="", figure=None):
    """Figure of all gates of one volume: a row for each CSAM, a column for each attention and, of a drawn slice gate, for its covariance.

    record: what `record_gates` gave. image: (S, H, W), the network's input, whose middle slice is the backdrop of the positional gate.
    spacing: in-plane distance of its pixels in mm. first_slice: the number of the image's first slice in its volume. figure: one to draw
    into, e.g. a subfigure. The bars of a drawn slice gate carry the range in which the middle 68 % of its draws lie.
    """
    import matplotlib.pyplot as plt

    kinds = [kind for kind in ("semantic", "positional", "slice", "slice_covariance") if any(kind in gates for gates in record.values())]
    figure = figure or plt.figure(figsize=(3.6 * len(kinds), 2.3 * len(record) + 0.6), layout="constrained")
    axes = figure.subplots(len(record), len(kinds), squeeze=False)
    middle, (H, W) = image[len(image) // 2], image.shape[1:]
    for row, (level, (name, gates)) in zip(axes, enumerate(record.items())):
        for axis, kind in zip(row, kinds):
            if kind not in gates:
                axis.axis("off")
                continue
            gate = gates[kind].values[volume]
            axis.set_title(f"{kind.replace('_', ' ')}{'' if kind == 'slice_covariance' else ' gate'}, {name}, 1/{2**level} size", fontsize=9)
            axis.tick_params(labelsize=7)
            if kind == "positional":
                millimetres = (0, W * spacing, H * spacing, 0)
                axis.imshow(middle, cmap="gray", extent=millimetres)
                shown = axis.imshow(gate, cmap="cividis", alpha=0.6, extent=millimetres)
                figure.colorbar(shown, ax=axis, label="gate").ax.tick_params(labelsize=7)
                axis.set_xlabel("mm", fontsize=8)
                axis.set_ylabel("mm", fontsize=8)
                continue
            numbers = range(first_slice, first_slice + len(image))
            if kind == "slice_covariance":
                real, ends = gate[:len(image), :len(image)], (numbers[0] - 0.5, numbers[-1] + 0.5)
                shown = axis.imshow(real, cmap="PuOr", vmin=-abs(real).max(), vmax=abs(real).max(), extent=(*ends, *ends[::-1]))
                figure.colorbar(shown, ax=axis, label="covariance").ax.tick_params(labelsize=7)
                axis.set_xlabel("slice", fontsize=8)
                axis.set_ylabel("slice", fontsize=8)
                continue
            if kind == "semantic":
                axis.bar(range(len(gate)), np.sort(gate)[::-1], width=1, color=COLOURS[1])
                axis.set_xlabel("channels, sorted", fontsize=8)
            else:
                axis.bar(numbers, gate[:len(image)], color=COLOURS[0])
                if "slice_mean" in gates:
                    mean, variance = gates["slice_mean"].values[volume], np.diag(gates["slice_covariance"].values[volume])
                    low, high = (_sigmoid(mean + sign * np.sqrt(variance))[:len(image)] for sign in (-1, 1))
                    axis.vlines(numbers, low, high, colors="black", linewidths=1)
                axis.set_xlabel("slice, inferior to superior", fontsize=8)
                axis.xaxis.get_major_locator().set_params(integer=True)
            axis.set_ylabel("gate", fontsize=8)
            axis.set_ylim(0, 1)
    figure.suptitle(title, fontsize=10)
    return figure


def plot_examination(examination, s=None):
    """Figure of all that an Examination shows: the cuts through slice s, the uncertainty there, and the gates below.

    s: from 0; if None, the slice with most foreground.
    """
    import matplotlib.pyplot as plt

    answer, view = examination.as_trained, examination
    s = view.busiest_slice if s is None else s
    window = answer.window(s)
    record = {name: gates for name, gates in window.record.items() if gates}
    figure = plt.figure(figsize=(12, 3.4 + 2.2 * len(record)), layout="constrained")
    above, *below = np.atleast_1d(figure.subfigures(2 if record else 1, 1, height_ratios=[3.4, 2.2 * len(record)] if record else None))
    left, *right = np.atleast_1d(above.subfigures(1, 1 if view.uncertainty is None else 2, width_ratios=None if view.uncertainty is None else [3, 1]))
    plot_cuts(view, s, figure=left)
    if right:
        plot_uncertainty(view, s, figure=right[0])
    if record:
        read = view.x[window.start:window.stop, 0].numpy()
        read_spacing = (view.field[2] - view.field[0]) * view.spacing[2] / read.shape[2]
        plot_gates(record, read, read_spacing, first_slice=window.start + 1, figure=below[0])
    return figure


def plot_cuts(examination, s=None, figure=None):
    """Figure of slice s (from 0; None: that with most foreground) and of the coronal and sagittal cuts through the middle of what the
    network reads, at true spacing, with outlines of the reference (dashed) and of the prediction, and the slice marked on the cuts."""
    import matplotlib.pyplot as plt

    view = examination
    s = view.busiest_slice if s is None else s
    left, top, right, bottom = view.field
    (S, _, H, W), (deep, high, wide) = view.image.shape, view.spacing
    row, column = (min(max(int((a + b) / 2), 0), n - 1) for a, b, n in ((top, bottom, H), (left, right, W)))
    figure = figure or plt.figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=[W * wide, W * wide, H * high])
    up = dict(S=S, name="coronal", kind=np.s_[::-1, row]), dict(S=S, name="sagittal", kind=np.s_[::-1, :, column])
    low, high_value = np.percentile(view.image[:, 0], (0.5, 99.5))
    cuts = [(f"slice {s + 1} of {S}", np.s_[s], (0, W * wide, H * high, 0))]
    cuts += [(f"{cut['name']}, {'row' if i == 0 else 'column'} {(row, column)[i] + 1}", cut["kind"], (0, (W * wide, H * high)[i], 0, S * deep))
             for i, cut in enumerate(up)]
    masks = [(view.as_trained.mask, "solid", None)] + ([(view.label, "dashed", "white")] if view.label is not None else [])
    for axis, (name, where, extent) in zip(axes, cuts):
        axis.imshow(view.image[:, 0][where], cmap="gray", vmin=low, vmax=high_value, extent=extent, aspect="equal", interpolation="nearest")
        for mask, style, colour in masks:
            for k, own in zip(range(1, len(view.classes) + 1), cycle(COLOURS)):
                if min(mask[where].shape) > 1 and (outline := mask[where] == k).any() and not outline.all():
                    axis.contour(outline, [0.5], extent=extent, origin="upper", colors=colour or own, linestyles=style, linewidths=1)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(view.unit, fontsize=8)
        axis.tick_params(labelsize=7)
        if where != np.s_[s]:
            axis.axhspan(s * deep, (s + 1) * deep, fill=False, edgecolor=COLOURS[6], linewidth=1)
    if view.directions:
        opposite = dict(zip("LRAPSI", "RLPAIS"))
        up, down, across = view.directions
        for axis, (x, y) in zip(axes, ((across, opposite[down]), (across, up), (down, up))):
            for text, at in ((opposite[x], (0.03, 0.5)), (x, (0.97, 0.5)), (y, (0.5, 0.96)), (opposite[y], (0.5, 0.04))):
                axis.text(*at, text, color="white", transform=axis.transAxes, ha="center", va="center", fontsize=8, fontweight="bold")
    handles = [plt.Line2D([], [], color=colour, label=name) for colour, name in zip(cycle(COLOURS), view.classes)]
    if view.label is not None:
        handles.append(plt.Line2D([], [], color="gray", linestyle="dashed", label="reference"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8) or 1, fontsize=8, frameon=False)
    _show_field(axes[0], view)
    figure.suptitle(view.title, fontsize=10)
    return figure


def plot_uncertainty(examination, s=None, figure=None):
    """Figure of the uncertainty in slice s (from 0; None: that with most foreground). Raises InputError for a network without drawn gates."""
    import matplotlib.pyplot as plt

    view = examination
    if view.uncertainty is None:
        raise InputError(f"{view.title}: no drawn slice gate or no draws, so there is no uncertainty to plot; train with --uncertain")
    s = view.busiest_slice if s is None else s
    figure = figure or plt.figure(figsize=(4, 3.6), layout="constrained")
    axis, extent = figure.subplots(), (0, view.image.shape[3] * view.spacing[2], view.image.shape[2] * view.spacing[1], 0)
    axis.imshow(view.image[s, 0], cmap="gray", extent=extent)
    shown = axis.imshow(view.uncertainty[s], cmap="cividis", alpha=0.6, vmin=0, vmax=max(view.uncertainty.max(), 1e-3), extent=extent)
    _show_field(axis, view)
    bar = figure.colorbar(shown, ax=axis, shrink=0.8)
    bar.set_label("standard deviation of the class probability", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    axis.set_title(f"uncertainty, {view.draws} draws, slice {s + 1}", fontsize=9)
    axis.set_xlabel(view.unit, fontsize=8)
    axis.tick_params(labelsize=7)
    return figure


def plot_channels(examination, csam, s=None, most=8):
    """Figure of the feature maps that the CSAM named `csam` reads in slice s: the `most` channels with the widest open semantic gates."""
    import matplotlib.pyplot as plt

    view = examination
    s = view.busiest_slice if s is None else s
    maps, gate = view.feature_maps[csam].values, view.as_trained.window(s).record[csam]["semantic"].values[0]
    shown = np.argsort(-gate, kind="stable")[:most]
    figure, axes = plt.subplots(1, len(shown), figsize=(1.7 * len(shown), 2.4), squeeze=False, layout="constrained")
    for axis, channel in zip(axes.flat, shown):
        picture = axis.imshow(maps[s if len(maps) > 1 else 0, channel], cmap="cividis", vmin=maps[:, channel].min(), vmax=maps[:, channel].max())
        axis.set_title(f"channel {channel}\ngate {gate[channel]:.2f}", fontsize=8)
        axis.axis("off")
        figure.colorbar(picture, ax=axis, orientation="horizontal").ax.tick_params(labelsize=6)
    return figure


def _show_field(axis, view):
    """Cut a picture of a slice to what the network reads and a tenth around it."""
    (H, W), (_, high, wide), (left, top, right, bottom) = view.image.shape[2:], view.spacing, view.field
    margin = (right - left) / 10
    axis.set_xlim(max(left - margin, 0) * wide, min(right + margin, W) * wide)
    axis.set_ylim(min(bottom + margin, H) * high, max(top - margin, 0) * high)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))
