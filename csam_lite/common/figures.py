"""What all figures share: colours, and how a figure is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.common.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; one a class, in order.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#F0E442")


def save_figure(figure: Figure, path: str | Path, dpi: int = 110) -> None:
    """Write a figure, whole or not at all, and close it."""
    import matplotlib.pyplot as plt

    with whole_file(Path(path)) as part:
        figure.savefig(part, dpi=dpi)
    plt.close(figure)
