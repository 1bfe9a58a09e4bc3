"""The page of the guided tour: the network that ships on a phantom, with the tour open (page/tour.js)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from csam_lite.common.figures import small_png
from csam_lite.common.files import temporary_folder
from csam_lite.data.dataset import find_dataset
from csam_lite.data.phantom import write_phantoms
from csam_lite.data.scan import Scan
from csam_lite.explorer.examine import Examination, examine
from csam_lite.explorer.figures import plot_examination
from csam_lite.explorer.saved_page import check_name, write_saved_page
from csam_lite.training.run import Run, pretrained

SEED = 5000  # no network was trained on this phantom
_INTRO = (
    "An MRI scanner makes pictures of the inside of a body. These, drawn by a program, "
    "show a prostate, a gland as large as a walnut, in colours."
)
_ENDS = "The round shape there is other tissue. "
_LAST = "In other stacks of 20 slices these bars are almost the same: the network has learned places. "
# The bar that costs most Dice at an end of the organ: its slice, the next one outside, its CSAM, from 0. The
# page can find it, too, but a quick reader would wait. (tests/test_tour.py holds it to the network.)
_GOAL = {"slice": 4, "beyond": 3, "level": 3}
_PARTS = "TZ, the transition zone, is its inner part; PZ, the peripheral zone, its outer part."


def write_tour(path: str | Path, package: str | Path | None = None) -> None:
    """Write the page as `path`, for example "tour.html", whole or not at all.

    package: of onnxruntime-web, see `runtime`. Raises InputError where the name does not end in .html, where
    the network cannot be put into the page, and where the file cannot be written.
    """
    check_name(path)
    view = tour_view()
    words = {"intro": _INTRO, "parts": _PARTS, "ends": _ENDS, "last": _LAST, "goal": _GOAL}
    write_saved_page(view, path, small_png(plot_examination(view)), package=package, tour=words)


def tour_view() -> Examination:
    """The Examination of the shipped network on the phantom, cut to what the network reads."""
    with temporary_folder() as folder:
        run, dataset = pretrained(), find_dataset(write_phantoms(folder, count=1, seed=SEED, progress=False))
        scan = dataset.read(dataset.cases[0])
    scan.image = scan.image[:, [dataset.channels.index(name) for name in run.facts.channels]]
    return examine(run, _cut(scan, run), draws=0)


def _cut(scan: Scan, run: Run) -> Scan:
    """The scan without the rim that the network does not read: the page is smaller and the organ larger."""
    (H, W), (h, w) = scan.image.shape[2:], run.grid.size_of(scan)
    rows, columns = (math.ceil(n * (1 - run.config.pixels / m) / 2) for n, m in ((H, h), (W, w)))
    inside = (slice(rows, H - rows), slice(columns, W - columns))
    return replace(scan, path=Path("an artificial prostate"), image=scan.image[:, :, *inside].copy(),
                   label=scan.label[:, *inside].copy())
