"""The main job in one function: phantoms, a small CSAM U-Net trained on them, its masks, scores and gates."""

from pathlib import Path

import torch

from csam_lite.common.figures import save_figure
from csam_lite.common.files import whole_file
from csam_lite.common.tables import markdown, write_csv
from csam_lite.core.gates import record_gates
from csam_lite.core.windows import probabilities
from csam_lite.data.dataset import Case, Dataset, find_dataset
from csam_lite.data.phantom import write_phantoms
from csam_lite.explorer.figures import plot_gates
from csam_lite.explorer.widget import explore
from csam_lite.inference.evaluate import evaluate
from csam_lite.inference.figures import plot_masks
from csam_lite.inference.predict import segment
from csam_lite.metrics.overlap import mean_dice, summarise
from csam_lite.training.config import Config
from csam_lite.training.figures import plot_history
from csam_lite.training.run import Run
from csam_lite.training.trainer import train


def demo(folder: str | Path = "demo", volumes: int = 32, seed: int = 0, progress: bool = True,
         **options: object) -> float:
    """Make phantoms, train a network on three quarters of them, and return its mean Dice on the others.

    If an earlier call was stopped, this one continues its training. `options` are fields of
    `csam_lite.Config`, to train longer or another network. `folder` then holds phantoms/ (Decathlon layout),
    run/ (weights, history), predictions/ (NIfTI masks), dice.csv, dice.md, history.png, and for one held-out
    phantom masks.png, gates.png and attention.html (the explorer as a page). Raises InputError for options or
    a folder that cannot be used.
    """
    folder = Path(folder)
    phantoms = write_phantoms(folder / "phantoms", count=volumes, seed=seed, progress=progress)
    settings = dict(data=str(phantoms), out=str(folder / "run"), base_channels=8, levels=4, pixels=64,
                    epochs=40, test=0.25, seed=seed)
    config = Config(**settings | options)
    run = train(config, resume=(folder / "run" / "config.json").exists(), progress=progress)

    rows = evaluate(run, masks=folder / "predictions", progress=progress)
    write_csv(folder / "dice.csv", rows, decimals=4)
    table = markdown(summarise(rows))
    with whole_file(folder / "dice.md") as part:
        part.write_text(table + "\n", encoding="utf-8")

    dataset = find_dataset(phantoms)
    held_out = [case for case in dataset.cases if case.name in run.facts.split["test"]]
    draw(run, dataset, held_out[0], folder)
    if progress:
        print(f"\n{table}\n\nMean Dice over PZ and TZ on {len(held_out)} held-out phantoms: "
              f"{mean_dice(rows):.3f}\nPictures, masks and weights are in {folder}/")
    return mean_dice(rows)


def draw(run: Run, dataset: Dataset, case: Case, folder: Path) -> None:
    """Write masks.png, gates.png and attention.html of one case, and history.png of the run, to `folder`."""
    scan = dataset.read(case, run.config.one_zone, run.config.empty)
    title = f"{case.name}: outlines of the prediction and of the reference"
    save_figure(plot_masks(scan, dataset.classes, segment(run, scan), title=title), folder / "masks.png")
    first = max(len(scan.image) - run.network.num_slices, 0) // 2  # the middle of a deep volume
    image = run.grid.image(scan)[first:first + run.network.num_slices]
    with record_gates(run.network) as record, torch.no_grad():
        probabilities(run.network, image)
    if record:  # a network without CSAM has no gates
        figure = plot_gates(record, image[:, 0].numpy(), run.facts.spacing, first_slice=first + 1,
                            title=f"The gates of every CSAM on {case.name}")
        save_figure(figure, folder / "gates.png")
    explore(run, scan, save=folder / "attention.html")
    save_figure(plot_history(run.folder / "history.csv"), folder / "history.png")
