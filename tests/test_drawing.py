"""The drawing of a stack: what it colours is what the gates pool."""

from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from csam_lite.core.attention import GATES, PositionalAttention, SemanticAttention, SliceAttention
from csam_lite.course import drawing
from csam_lite.course.drawing import draw_stack
from csam_lite.course.gate_pictures import (
    plot_along,
    plot_channels,
    plot_decoration,
    plot_gate_rows,
    plot_positional,
    plot_slice_gate,
    plot_uncertainty,
)
from csam_lite.course.number_pictures import plot_lines, plot_pairs, plot_resampled, plot_trainings
from csam_lite.course.pictures import (
    plot_alike,
    plot_arrays,
    plot_bars,
    plot_change,
    plot_cut,
    plot_neighbours,
    plot_placed,
    plot_side_views,
    plot_tables,
    plot_thickness,
)
from csam_lite.course.toy_pictures import (
    plot_alarms,
    plot_areas,
    plot_curves,
    plot_growth,
    plot_influence,
    plot_kernels,
    plot_levels,
    plot_plane,
    plot_row,
    plot_slices,
    plot_spread,
    plot_start,
    plot_training,
    plot_two_gates,
)

RECTANGLE = "{http://www.w3.org/2000/svg}rect"


def rectangles(gate):
    """Fill colours of all rectangles, those of the stack (left of the arrow) and those of the gate."""
    root = ElementTree.fromstring(draw_stack(gate)._repr_svg_())
    drawn = [(float(element.get("x")), element.get("fill")) for element in root.iter(RECTANGLE)]
    return [fill for x, fill in drawn if x < 400], [fill for x, fill in drawn if x >= 400]


@pytest.mark.parametrize(
    "gate, coloured, numbers",
    [
        ("semantic", drawing.SLICES, drawing.CHANNELS),  # all slices of one channel make one of C numbers
        (
            "positional",
            drawing.SLICES * drawing.CHANNELS,
            2,
        ),  # one pixel in all slices and channels; a map and its pixel
        ("slice", drawing.CHANNELS, drawing.SLICES),
    ],
)  # one slice in all channels makes one of S numbers
def test_the_drawing_colours_what_the_gate_pools(gate, coloured, numbers):
    stack, made = rectangles(gate)
    assert stack.count(drawing.GATE_COLOURS[gate]) == coloured and len(made) == numbers
    assert made.count(drawing.GATE_COLOURS[gate]) == 1


@pytest.mark.parametrize("kind", [SemanticAttention, PositionalAttention, SliceAttention])
def test_the_words_name_the_axes_of_the_library(kind):
    pools, keeps = (text.replace(", ", "") for text in drawing.POOLED[kind.name])
    assert "B" + keeps == kind.axes and sorted(pools + keeps) == sorted("SCHW")
    assert (
        f"pools {drawing.POOLED[kind.name][0]} and keeps {drawing.POOLED[kind.name][1]}"
        in draw_stack(kind.name).svg
    )


def test_a_stack_without_a_gate_has_no_colour_and_another_gate_is_refused():
    assert set(rectangles(None)[0]) == {drawing.LIGHT} and set(drawing.GATE_COLOURS) == set(GATES)
    with pytest.raises(ValueError, match="not one of semantic, positional, slice"):
        draw_stack("spatial")


def test_tables_show_their_values_and_a_change_of_a_mask_its_slice():
    values = np.arange(6.0).reshape(2, 3)
    left, right = plot_tables({"one": values, "ten": 10 * values}, ["a", "b"], GATES, digits=(2, 0)).axes
    assert [text.get_text() for text in left.texts] == ["0.00", "1.00", "2.00", "3.00", "4.00", "5.00"]
    assert right.texts[5].get_text() == "50" and [tick.get_text() for tick in right.get_xticklabels()] == list(GATES)

    mask = np.zeros((4, 60, 60), np.uint8)
    nothing, mask[1, 30:35, 20:40] = mask.copy(), 2
    picture, lines = plot_change(np.random.default_rng(0).normal(size=mask.shape), mask, mask, nothing, 1, "shut").axes
    assert picture.get_title() == "slice 2 of 4" and picture.images[0].get_array().shape == (34, 49)
    assert [line.get_ydata()[1] > 0 for line in lines.lines] == [True, True, False] and lines.get_title() == "shut"
    assert list(lines.lines[0].get_xdata()) == [1, 2, 3, 4]
    whole = plot_change(mask, mask, nothing, mask, 0, "").axes[0]  # a network that had found nothing
    assert whole.images[0].get_array().shape == (60, 60)
    plt.close("all")


def test_a_row_of_pictures_has_its_maps_and_one_scale():
    maps = "gray", drawing.GATE_MAPS["positional"], "cividis"
    image = np.eye(6) * 3
    figure = plot_row({"a": image, "b": image, "c": image}, maps, np.eye(6), "three")
    pictures = [axis.images[0] for axis in figure.axes if axis.images]
    assert [picture.get_cmap().name for picture in pictures] == list(maps) and figure.get_suptitle() == "three"
    assert all(picture.get_clim() == (0, 1) for picture in pictures)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["a", "b", "c"]
    plt.close("all")


def test_a_training_is_drawn_in_the_colours_of_the_gates_and_a_curve_with_its_marks():
    losses = {"no gate": np.ones(60), "slice": np.linspace(1, 0.1, 60)}
    left, right = plot_training(losses, {"no gate": 0.25, "slice": 1.0}, 0.25, "a guess", "which?").axes
    assert [bar.get_height() for bar in left.patches] == [0.25, 1.0]
    assert to_hex(left.patches[1].get_facecolor()).upper() == drawing.GATE_COLOURS["slice"]
    assert [line.get_label() for line in right.lines] == list(losses) and len(right.lines[1].get_ydata()) == 41

    (axis,) = plot_curves([0, 1], {"up": [0, 1]}, ["black"], {"here": 0.5, "there": 0.2}, "x", "y", "t").axes
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines["here"].get_xdata()) == [0.5, 0.5] and list(lines["there"].get_ydata()) == [0.2, 0.2]
    plt.close("all")


def test_kernels_share_a_scale_around_zero():
    kernels = {"small": np.full((3, 3), 0.1), "large": np.full((3, 3), -2.0)}
    axes = plot_kernels(kernels, "two").axes[:2]
    assert [axis.images[0].get_clim() for axis in axes] == [(-2, 2)] * 2
    assert axes[1].get_title() == "large, sum -18.00"
    plt.close("all")


def test_gates_beside_a_scan_and_bars_of_scores():
    label = np.zeros((4, 20, 20), int)
    label[1:3, 5:12, 5:12] = 1
    scan = SimpleNamespace(image=label[:, None] * 2.0, label=label, spacing=(3.0, 0.5, 0.5), classes=("organ",))
    left, right, _ = plot_slice_gate(scan, label, np.array([0.1, 0.9, 0.8, 0.2]), 1, "csam.1").axes
    assert left.get_title() == "slice 2 of 4" and [bar.get_height() for bar in right.patches][-1] == 0.9
    assert list(right.images[0].get_array()[0] > 0) == [False, True, True, False]

    maps = {"csam.0": np.eye(8), "csam.1": np.eye(4)}
    figure = plot_positional(np.eye(8), maps, label[1, :8, :8], 2.0)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["input, middle slice", "csam.0, 8 x 8", "csam.1, 4 x 4"]

    (axis,) = plot_bars({"one": [0.5, 0.7], "two": [2.0, np.nan]}, ["PZ", "TZ"], "volume", line=1).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["one", "two"] and axis.get_xlim()[1] > 2
    assert axis.texts[0].get_text() == "0.50" and list(axis.lines[0].get_xdata()) == [1, 1]
    assert axis.texts[0].get_bbox_patch().get_facecolor()[:3] == (1, 1, 1) and axis.texts[0].zorder > axis.lines[0].zorder  # the line crosses no number
    plt.close("all")


def test_histories_levels_growth_and_areas_name_what_they_show():
    history = np.abs(np.random.default_rng(0).normal(size=(9, 3))) + 0.1
    left, right = plot_start({"equal": history, "prior": history}).axes
    assert [line.get_label() for line in left.lines][:2] == ["equal: in its own voxels", "equal: in all voxels"]
    assert len(right.lines) == 2

    top, bottom = plot_levels(np.ones(4), {"plain": np.ones(4)}, np.eye(2, 4), 3).axes[:2]
    assert {text.get_text() for text in top.get_legend().get_texts()} == {"labelled", "plain", "dot"}
    assert bottom.images[0].get_cmap().name == drawing.GATE_MAPS["slice"] and bottom.images[0].get_clim() == (0, 1)

    (axis,) = plot_alarms({"patients": 0.3}, 0.05, "12 patients").axes
    assert axis.texts[0].get_text() == "30%" and list(axis.lines[0].get_xdata()) == [0.05, 0.05]

    (axis,) = plot_growth([64, 128], {"slice": [3, 3], "other": [4, 9]}, "C", "n").axes
    assert axis.get_xscale() == "log" and axis.lines[0].get_color() == drawing.GATE_COLOURS["slice"]

    maps = plot_areas({"label": np.zeros((6, 10)), "2D": np.full((6, 10), 20)}, "six").axes[:2]
    assert [axis.images[0].get_clim() for axis in maps] == [(0, 20)] * 2  # one colour bar holds for all
    assert [axis.get_ylabel() for axis in maps] == ["label", "2D"]
    plt.close("all")


def test_arrays_masks_and_zones_in_millimetres():
    image = np.random.default_rng(0).normal(size=(4, 1, 20, 30))
    scan = SimpleNamespace(image=image, spacing=(3.0, 0.5, 1.0), directions="SPL")
    figure = plot_arrays({"a: RAS": image[:, 0].T}, {"a": scan})
    assert [axis.get_title() for axis in figure.axes] == ["a: RAS", "read_scan: SPL"]
    assert figure.axes[1].images[0].get_extent() == [0, 30, 10, 0]

    mask = np.zeros((4, 20, 30), int)
    mask[2, 5:10, 5:10] = 1
    axes = plot_placed(scan, mask, {"one": [mask], "two": [mask, np.roll(mask, 3, 2)]}).axes
    assert [axis.get_title() for axis in axes] == ["one", "two"]
    assert [to_hex(c.get_edgecolor()[0]) for c in axes[1].collections] == ["#ffffff", drawing.COLOURS[0].lower()]

    fine = np.zeros((8, 6, 6), int)
    fine[2:6, 2:4, 2:4] = 2
    axes = plot_thickness(fine, np.roll(fine, 1, 0), 0.8, 3.2, (-1, 8)).axes
    assert [axis.get_title() for axis in axes] == ["truth", "slices of 3.2 mm", "lost (black)"]
    assert axes[2].images[0].get_array().sum() == 2 * 4  # a row of two voxels is lost below, and one is gained above
    (axis,) = plot_along(np.array([0.0, 2, 1]), {"csam.0": np.ones(3)}).axes
    assert [bar.get_height() for bar in axis.patches] == [0, 1, 0.5] and axis.get_xlabel() == "slice, lowest first"
    plt.close("all")


def test_gates_of_channels_rows_and_decoration():
    gates = {"csam.0": np.array([[0.2, 0.9], [0.4, 0.7]]), "csam.1": np.full((2, 3), 0.5)}
    first = plot_channels(gates).axes[0]
    assert np.allclose([bar.get_height() for bar in first.patches], [0.8, 0.3]) and first.get_title() == "csam.0, 2 channels"

    top, bottom, _ = plot_gate_rows({"csam.0": np.ones(3)}, ["r +0.50"], np.array([0, 0.1, 0]), first=5).axes
    assert top.texts[0].get_text() == "r +0.50" and top.images[0].get_extent() == [4.5, 7.5, 0.5, -0.5]
    assert [bar.get_height() for bar in bottom.patches] == [0, 10, 0]

    last = plot_decoration({"Plain": np.ones(8), "Norm": np.ones(8)}, {"Plain": np.ones(8), "Norm": np.zeros(8)}).axes[-1]
    assert {line.get_label(): line.get_ydata()[0] for line in last.lines} == {"Plain": 1, "Norm": 0}

    near = np.zeros((2, 9, 9), bool)
    near[1, 2:5, 3:7] = True
    axes = plot_uncertainty({"entropy": near * 0.5}, near, near, 1, {"entropy": [0, 50]}).axes
    assert axes[0].images[0].get_array().shape == (3, 4) and axes[1].get_title() == "wrong voxels, slice 2"
    assert list(axes[2].lines[0].get_ydata()) == [0, 50] and axes[2].lines[1].get_ydata()[0] == 100
    plt.close("all")


def test_cuts_and_distances_are_in_millimetres():
    label = np.zeros((4, 20, 20), int)
    label[1:3, 5:12, 5:12] = 1
    scan = SimpleNamespace(image=label[:, None] * 1.0, label=label, spacing=(3.0, 0.5, 0.5))
    axes = plot_side_views({"thin": scan, "thick": scan}, ["organ"]).axes
    assert axes[1].get_title() == "thick" and axes[0].images[0].get_extent() == [0, 10, -6, 6]
    (axis,) = plot_alike({"front to back": ([1, 2], [0.9, 0.8])}, (3.6, 0.7)).axes
    assert [line.get_xdata()[0] for line in axis.lines] == [1, 3.6]
    plt.close("all")


def test_cuts_and_neighbours_have_the_steps_of_the_scan():
    left, right = plot_cut(np.eye(4, 10), (3.0, 0.5)).axes
    assert left.get_title() == "voxels as squares, 4 high" and right.images[0].get_extent() == [0, 5, 0, 12]
    axes = plot_neighbours(np.arange(24.0).reshape(2, 3, 4), 7, 20, (0.5, 0.25)).axes
    assert [axis.get_title() for axis in axes] == ["slice 7 of 20", "slice 8 of 20"]
    assert axes[1].images[0].get_extent() == [0, 1, 0, 1.5] and axes[0].images[0].get_clim() == (0, 23)
    plt.close("all")


def test_lines_pairs_resampled_means_and_trainings():
    figure = plot_lines([1, 10], {"up": [1, 100], "flat": [3, 3]}, "x", "y", dot=(10, 100), logarithmic=True)
    (axis,) = figure.axes
    assert axis.get_xscale() == axis.get_yscale() == "log" and axis.texts[0].get_text() == "100.00"
    low, high = axis.get_ylim()
    assert 0.5 < low < 1 and 100 < high < 200  # the lines fill the picture
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["up", "flat"]
    left, right = plot_pairs({"B": [0.5, 0.7], "A": [0.6, 0.6]}, [0.1, -0.1]).axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0.5, 0.6], [0.7, 0.6]]
    assert right.get_xlabel() == "Dice of A minus Dice of B" and list(right.lines[1].get_xdata()) == [0.1, -0.1]
    (axis,) = plot_resampled(np.array([-0.01, 0.0, 0.01, 0.01]), (-0.01, 0.01), 0.01).axes
    assert [bar.get_height() for bar in axis.patches[:3]] == [1, 1, 2]  # a bar for each mean
    (axis,) = plot_trainings(np.array([[0.1, 0.2], [0.3, 0.0]])).axes
    assert np.allclose(axis.lines[3].get_ydata(), [0.2, 0.1])
    plt.close("all")


def test_slices_gates_and_influence_of_the_toys():
    figure = plot_slices({"image": np.ones((3, 4, 4)), "label": np.zeros((3, 4, 4))}, (2, 1), "one volume")
    assert [axis.get_title() for axis in figure.axes] == ["slice 1", "slice 2", "slice 3", "", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes] == ["image", "", "", "label", "", ""]
    assert [axis.images[0].get_clim()[1] for axis in figure.axes] == [2, 2, 2, 1, 1, 1]
    (axis,) = plot_two_gates(np.array([[0.9, 0.1], [0.2, 0.8], [1, 0]]), np.array([0, 1, 0])).axes
    assert [len(points.get_offsets()) for points in axis.collections] == [2, 1]
    (axis,) = plot_spread({"true": np.array([0.99, 0.98]), "noise": np.array([0.01, 0.02])}, "t").axes
    assert [bar.get_height() for bar in axis.patches if bar.get_height()] == [2, 2] and axis.get_ylim() == (0, 2)
    axes = plot_influence({"held": np.eye(8), "computed": np.ones((8, 8))}).axes
    assert axes[0].get_title() == "held" and axes[0].images[0].get_array().min() == 1e-4
    assert axes[1].images[0].get_extent() == [0.5, 8.5, 8.5, 0.5]
    axis, = plot_plane({"stays": ([1, 1], [0.9, 1]), "jumps": ([1], [0.2])}, ([0.8, 1.3], [0.5, 0.7])).axes
    assert [list(line.get_ydata()) for line in axis.lines] == [[0.9, 1], [0.2], [0.5, 0.7]]
    plt.close("all")
