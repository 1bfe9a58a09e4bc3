"""The main job in one function: phantoms, a small CSAM U-Net trained on them, its masks, its scores and pictures of its gates."""

from pathlib import Path

import torch

from csam_lite.common.figures import save_figure
from csam_lite.common.files import whole_file
from csam_lite.common.tables import markdown, write_csv
from csam_lite.core.gates import record_gates
from csam_lite.core.windows import probabilities
from csam_lite.data.dataset import find_dataset
from csam_lite.data.phantom import write_phantoms
from csam_lite.explorer.figures import plot_gates
from csam_lite.explorer.widget import explore
from csam_lite.inference.evaluate import evaluate
from csam_lite.inference.figures import plot_masks
from csam_lite.inference.predict import segment
from csam_lite.metrics.overlap import mean_dice, summarise
from csam_lite.training.config import Config
from csam_lite.training.figures import plot_history
from csam_lite.training.trainer import train


def demo(folder="demo", volumes=32, seed=0, progress=True, **options):
    """Run everything into `folder`; a second call goes on where an earlier one stopped. Returns the mean Dice on held-out phantoms.

    Leaves phantoms/ (Decathlon), run/ (weights, history), predictions/ (NIfTI masks), dice.csv, dice.md, history.png, and for one
    held-out volume masks.png, gates.png and attention.html, the explorer as a page. `options` are Config's, to train longer or something else.
    """
    folder = Path(folder)
    phantoms = write_phantoms(folder / "phantoms", count=volumes, seed=seed, progress=progress)
    config = Config(**{"data": str(phantoms), "out": str(folder / "run"), "base_channels": 8, "levels": 4, "pixels": 64, "epochs": 40,
                       "test": 0.25, "seed": seed} | options)
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
        print(f"\n{table}\n\nMean Dice over PZ and TZ on {len(held_out)} held-out phantoms: {mean_dice(rows):.3f}\n"
              f"Pictures, masks and weights are in {folder}/")
    return mean_dice(rows)


def draw(run, dataset, case, folder):
    """Write masks.png, gates.png and attention.html of one case, and history.png of the run, into `folder`."""
    scan = dataset.read(case, run.config.one_zone)
    title = f"{case.name}: outlines of the prediction and of the reference"
    save_figure(plot_masks(scan, dataset.classes, segment(run, scan), title=title), folder / "masks.png")
    first = max(len(scan.image) - run.network.num_slices, 0) // 2  # of a volume deeper than the network, the middle is shown
    image = run.grid.image(scan)[first:first + run.network.num_slices]
    with record_gates(run.network) as record, torch.no_grad():
        probabilities(run.network, image)
    if record:  # a network without CSAM has no gates
        title = f"The gates of every CSAM on {case.name}"
        save_figure(plot_gates(record, image[:, 0].numpy(), run.facts.spacing, first_slice=first + 1, title=title), folder / "gates.png")
    explore(run, scan, save=folder / "attention.html")
    save_figure(plot_history(run.folder / "history.csv"), folder / "history.png")
