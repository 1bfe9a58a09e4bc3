"""What all figures share: colours, texts, and how a figure is written."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from csam_lite.common.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; one a class, in order.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#F0E442")
SMALL = 9  # points of the smallest letters: at the 70 dots an inch of a small PNG as many pixels


P = ParamSpec("P")
T = TypeVar("T")


def literal(plot: Callable[P, T]) -> Callable[P, T]:
    """The function `plot`, whose texts are drawn as they are: a $ in the name of a class, a file or a network
    begins no formula.
    """

    @wraps(plot)
    def drawn(*arguments: P.args, **options: P.kwargs) -> T:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": False}):
            return plot(*arguments, **options)

    return drawn


def save_figure(figure: Figure, path: str | Path, dpi: int = 110) -> None:
    """Write a figure, whole or not at all, and close it."""
    with whole_file(Path(path)) as part:
        draw_figure(figure, part, dpi=dpi)


def draw_figure(figure: Figure, file: Any, **options: Any) -> None:
    """Draw a figure into a file or its path, with the options of `savefig`, and close it. A letter that the
    font lacks is a box, without a warning.
    """
    import matplotlib.pyplot as plt

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from")
        figure.savefig(file, **options)
    plt.close(figure)


def small_png(figure: Figure) -> bytes:
    """A figure as a PNG file of 256 colours, which is a third of the bytes, for notebooks and pages that hold
    it; closes the figure.
    """
    from PIL import Image

    file, small = io.BytesIO(), io.BytesIO()
    draw_figure(figure, file, format="png", dpi=70)
    Image.open(file).convert("RGB").quantize(256, kmeans=3).save(small, "png", optimize=True)
    return small.getvalue()
