"""The drawing of a stack: what it colours is what the gates pool."""

from xml.etree import ElementTree

import pytest

from csam_lite.core.attention import GATES, PositionalAttention, SemanticAttention, SliceAttention
from csam_lite.course import drawing
from csam_lite.course.drawing import draw_stack

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
