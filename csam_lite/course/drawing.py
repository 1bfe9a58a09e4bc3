"""A drawing of a stack of features (S, C, H, W) as blocks of slices, with what a gate pools and what it
keeps.

    draw_stack("slice")  # as the last expression of a cell, Jupyter shows it

Everything is drawn in SVG without a library, so that it stays sharp on a phone and small in a notebook.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from csam_lite.common.figures import COLOURS
from csam_lite.core.attention import GATES

GATE_COLOURS = dict(zip(("slice", "semantic", "positional"), COLOURS))  # in all pictures of the course
GATE_MAPS = {"slice": "YlOrBr", "semantic": "Blues", "positional": "Greens"}  # for gates as maps, 0 to 1
POOLED = {"semantic": ("S, H, W", "C"), "positional": ("S, C", "H, W"), "slice": ("C, H, W", "S")}
SLICES, CHANNELS = 5, 3
SIDE, STEP, PIXEL = 54, 11, 9  # of a slice, from one slice to the next, of a pixel
CHOSEN = {"slice": 2, "channel": 1, "pixel": (0, 5)}  # what is coloured; the pixel shows in all slices
LIGHT, LINE, TEXT = "#f2f2f2", "#777777", "#222222"


@dataclass
class Drawing:
    """A picture that Jupyter shows."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


def draw_stack(gate: str | None = None) -> Drawing:
    """The stack of one volume, and if `gate` is "semantic", "positional" or "slice", which numbers it pools
    and the gate that it makes of them. Raises ValueError for another gate."""
    if gate is not None and gate not in GATES:
        raise ValueError(f"gate {gate!r} is not one of {', '.join(GATES)}")
    body = [*_blocks(gate), *_axes(), *(_gate(gate) if gate else ())]
    width = 520 if gate else 370
    pools, keeps = POOLED.get(gate, ("", ""))
    gated = f"The {gate} gate pools {pools} and keeps {keeps}."
    title = gated if gate else "A stack with the axes S, C, H, W."
    return Drawing(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 185" width="{width}" role="img" '
        f'style="max-width:100%;background:white" font-family="sans-serif" font-size="13">'
        f"<title>{title}</title>{''.join(body)}"
        f'<text x="10" y="178" fill="{TEXT}">{title}</text></svg>'
    )


def _rectangle(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" stroke="{LINE}"/>'


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{TEXT}">{words}</text>'


def _blocks(gate: str | None) -> Iterator[str]:
    """One block for each channel. The highest slice lies behind the others and is drawn first."""
    colour = GATE_COLOURS.get(gate, LIGHT)
    row, column = CHOSEN["pixel"]
    for channel in range(CHANNELS):
        for number in reversed(range(SLICES)):
            x, y = 40 + channel * 108 + number * STEP, 75 - number * STEP
            whole = (
                gate == "semantic"
                and channel == CHOSEN["channel"]
                or gate == "slice"
                and number == CHOSEN["slice"]
            )
            yield _rectangle(x, y, SIDE, SIDE, colour if whole else LIGHT)
            if gate == "positional":
                yield _rectangle(x + column * PIXEL, y + row * PIXEL, PIXEL, PIXEL, colour)


def _axes() -> Iterator[str]:
    left, right, bottom = 40 + SIDE / 2, 40 + SIDE / 2 + 108 * (CHANNELS - 1), 75 + SIDE
    yield _text(28, 75 + SIDE / 2 + 4, "H", "end")
    yield _text(left, bottom + 15, "W")
    yield _text(40 + SIDE + SLICES * STEP / 2 + 8, bottom - 8, "S", "start")
    yield f'<path d="M{left} {bottom + 23} v-4 H{right} v4" fill="none" stroke="{LINE}"/>'
    yield _text((left + right) / 2, bottom + 33, "C")


def _gate(gate: str) -> Iterator[str]:
    """The arrow, and the gate: a bar of channels, a bar of slices or a map of pixels, with one number
    coloured."""
    colour = GATE_COLOURS[gate]
    yield f'<path d="M370 85 h46 m-7 -5 l7 5 l-7 5" fill="none" stroke="{TEXT}" stroke-width="1.5"/>'
    yield _text(393, 77, "max, mean")
    if gate == "semantic":
        for channel in range(CHANNELS):
            yield _rectangle(
                430 + 16 * channel, 77, 16, 16, colour if channel == CHOSEN["channel"] else LIGHT
            )
        yield _text(454, 110, "C")
    elif gate == "slice":
        for number in range(SLICES):
            yield _rectangle(440, 117 - 16 * number, 16, 16, colour if number == CHOSEN["slice"] else LIGHT)
        yield _text(466, 90, "S", "start")
    else:
        row, column = CHOSEN["pixel"]
        yield _rectangle(430, 58, SIDE, SIDE, LIGHT)
        yield _rectangle(430 + column * PIXEL, 58 + row * PIXEL, PIXEL, PIXEL, colour)
        yield _text(430 + SIDE / 2, 128, "W")
        yield _text(492, 89, "H", "start")
