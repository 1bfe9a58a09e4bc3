"""Pictures of a training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.common.figures import COLOURS, literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@literal
def plot_history(history_csv: str | Path) -> Figure:
    """Figure of a run's history.csv: training loss and validation Dice by epoch."""
    import matplotlib.pyplot as plt

    with open(history_csv, newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    epochs = [row["epoch"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot(epochs, [row["loss"] for row in rows], color=COLOURS[5])
    left.set(xlabel="epoch", ylabel="training loss (Dice + cross-entropy)")
    for colour, name in zip(COLOURS, [key for key in rows[0] if key.startswith("val_dice_")]):
        right.plot(epochs, [row[name] for row in rows], color=colour, label=name.removeprefix("val_dice_"))
    right.set(xlabel="epoch", ylabel="validation Dice", ylim=(0, 1))
    right.legend(frameon=False)
    return figure
