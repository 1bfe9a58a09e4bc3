"""The drawing of a stack: what it colours is what the gates pool."""

from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest

from csam_lite.core.attention import GATES, PositionalAttention, SemanticAttention, SliceAttention
from csam_lite.course import drawing
from csam_lite.course.drawing import draw_stack
from csam_lite.course.pictures import plot_change, plot_tables

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
