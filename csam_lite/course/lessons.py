"""What the notebooks of the course share: the scans that they work on, and the networks that they look at.

    dataset = course.load_dataset(DATA, QUICK, seed=SEED)   # phantoms, MSD Task05, or your own folder
    scan = course.load_scan(dataset)                        # one labelled case, read from disk
    run = course.load_network(dataset, QUICK, seed=SEED)    # a trained network for these labels
    x = course.network_input(run, scan)                     # what the network sees, (S, C, H, W)

What is made or downloaded lies in `course_data/`, or in the folder that the environment variable
CSAM_LITE_DATA names. It is made once for all notebooks.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.common.errors import InputError
from csam_lite.data.dataset import Dataset, find_dataset
from csam_lite.data.labels import zones
from csam_lite.data.phantom import write_phantoms
from csam_lite.data.public_sets import get_msd_prostate
from csam_lite.data.scan import Scan
from csam_lite.training.config import Config
from csam_lite.training.run import PRETRAINED, Run, load_run, pretrained

if TYPE_CHECKING:
    import torch
    from filelock import BaseFileLock

PHANTOM_SEED = 5000  # so that no phantom of the course is one that the shipped network was trained on


@dataclass
class CourseScan(Scan):
    """A Scan that knows the name of its case, and the names of its channels and classes."""

    name: str = ""
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()  # of the foreground: classes 1 to K-1


def data_folder() -> Path:
    """The folder for what the notebooks make: CSAM_LITE_DATA if it is set (on Colab: a folder on Drive)."""
    return Path(os.environ.get("CSAM_LITE_DATA") or "course_data")


def load_dataset(data: str = "phantom", quick: bool = True, seed: int = 0) -> Dataset:
    """The labelled cases that the notebooks work on.

    data: "phantom" makes 8 phantoms, or 32 if `quick` is False; "msd" downloads MSD Task05 (229 MB) and
    corrects the labels of the cases with one zone; anything else is a folder of labelled scans. Raises
    InputError for a folder that cannot be used.
    """
    if data == "phantom":
        count = 8 if quick else 32
        folder = data_folder() / f"phantoms_{count}_seed{seed}"
        with _lock(folder):
            write_phantoms(folder, count, PHANTOM_SEED + seed, progress=False)
    elif data == "msd":
        folder = data_folder() / "Task05_Prostate"
        with _lock(folder):
            try:
                get_msd_prostate(folder, one_zone="remap")
            except InputError as error:  # its advice is for the script, whose options a notebook lacks
                cure = f"put Task05_Prostate.tar into the folder {data_folder()} and run the cell again"
                raise InputError(f'{error}. In a notebook: {cure}, or choose DATA = "phantom"') from error
    else:
        folder = Path(data)
    return find_dataset(folder, labelled=True)


def load_scan(dataset: Dataset, k: int = 0) -> CourseScan:
    """The k-th labelled case of a data set, read from disk; after the last case comes the first again.

    An empty mask, or one with only one of the two prostate zones, is kept as it is. Raises InputError for a
    file that cannot be used.
    """
    case = dataset.cases[k % len(dataset.cases)]
    scan = dataset.read(case, one_zone="keep", empty="keep")
    return CourseScan(**vars(scan), name=case.name, channels=dataset.channels, classes=dataset.classes)


def load_network(dataset: Dataset, quick: bool = True, seed: int = 0, train: bool = False,
                 **options: object) -> Run:
    """A trained network for the labels of a data set.

    This is the network that ships, if it fits: the data set has the classes PZ and TZ and a channel T2, and
    the `options` (fields of `csam_lite.Config`) are those of the shipped network. Otherwise, and always with
    `train`, a small network is trained (64 pixels, 8 channels, 4 levels; on six patients if `quick`) in
    `course_data/`, and the next call with the same arguments returns it again.
    """
    if not train:
        run = pretrained()
        if _fits(run, dataset) and all(getattr(run.config, name) == value for name, value in options.items()):
            return run
    from csam_lite.training.trainer import train as train_network  # loads accelerate and MONAI

    config = _small_config(dataset, quick, seed, options)
    settings = {name: value for name, value in asdict(config).items() if name != "out"}
    names = [case.name for case in dataset.cases]
    digest = hashlib.sha256(json.dumps([settings, names], sort_keys=True).encode()).hexdigest()[:10]
    config = replace(config, out=str(data_folder() / f"run_{digest}"))
    done = Path(config.out) / "done"
    with _lock(Path(config.out)):
        if not done.exists():
            train_network(config, resume=(Path(config.out) / "resume.pt").exists(), progress=False)
            done.touch()
    return load_run(config.out)


def match_channels(run: Run, scan: CourseScan) -> CourseScan:
    """The same scan with the channels that the network of `run` was trained on, in its order.

    `segment` and `explore` take the result. Raises InputError where the scan lacks a channel.
    """
    wanted = tuple(run.facts.channels)
    if scan.channels == wanted or len(scan.channels) == len(wanted) == 1:  # a single channel needs no name
        return scan
    if missing := [name for name in wanted if name not in scan.channels]:
        raise InputError(
            f"{scan.path}: has no channel {', '.join(missing)}; it has {', '.join(scan.channels)}")
    image = scan.image[:, [scan.channels.index(name) for name in wanted]]
    return replace(scan, image=image, channels=wanted)


def network_input(run: Run, scan: CourseScan) -> torch.Tensor:
    """What the network of `run` sees of a scan, float32 (S, C, H, W): its channels, on its grid, normalised.

    The tensor lies on the device of the network, so that `run.network(x[None])` works on a GPU too.
    Raises InputError where the scan lacks a channel.
    """
    return run.grid.image(match_channels(run, scan)).to(next(run.network.parameters()).device)


def unseen_cases(run: Run, dataset: Dataset) -> list[int]:
    """The numbers of the cases that the network of `run` was not trained on: those that it held out, or all
    of them for the network that ships, which saw no phantom of the course."""
    held_out = run.facts.split["test"]
    return [k for k, case in enumerate(dataset.cases) if run.folder == PRETRAINED or case.name in held_out]


def comparison_plan(dataset: Dataset, quick: bool = True, seed: int = 0) -> str:
    """The plan (TOML) of notebook 08: what all networks share, and what is special about each of them.

    If `quick`, the networks are tiny and three; otherwise larger, with each gate alone and other networks.
    """
    sizes = ("pixels = 32\nbase_channels = 4\nlevels = 3\nepochs = 40\ntest = 3" if quick else
             "pixels = 64\nbase_channels = 8\nlevels = 4\nepochs = 30\ntest = 0.3")
    networks = {"plain 2D": 'attention = "none"', "CSAM": "",
                "plain 2D, no prior": 'attention = "none"\nprior = false'}
    more = {"semantic": 'attention = "semantic"', "positional": 'attention = "positional"',
            "slice": 'attention = "slice"', "CSAM, drawn": "uncertain = true", "3D": 'network = "unet3d"',
            "3 slices as channels": 'attention = "none"\nneighbours = 1'}
    head = f"""seeds = {[seed, seed + 1]}
reference = "plain 2D"

[options]
{sizes}
batch_size = 1
val = 0
channels = "{dataset.channels[0]}"
one_zone = "keep"
prior = true
"""
    parts = [f'[networks."{name}"]\n{special}\n'.rstrip() + "\n"
             for name, special in (networks if quick else networks | more).items()]
    return "\n".join([head, *parts])


def _fits(run: Run, dataset: Dataset) -> bool:
    """Whether the run has the classes of the data set, in its order, and no channel that the data set
    lacks.
    """
    classes = {value: name for value, name in enumerate(dataset.classes, 1)}
    same_zones = len(classes) == 2 and zones(classes) == zones(run.facts.labels)
    return same_zones and set(run.facts.channels) <= set(dataset.channels)


def _small_config(dataset: Dataset, quick: bool, seed: int, options: dict[str, object]) -> Config:
    """The Config of a training that a laptop does while the reader waits."""
    patients = len({case.patient for case in dataset.cases})
    if quick:  # six patients are trained on, the others are held out
        volumes, test, minutes = max(1, round(6 * len(dataset.cases) / patients)), max(1, patients - 6), 0.4
    else:
        volumes, test, minutes = len(dataset.cases), max(1, round(0.2 * patients)), 0.0
    epochs = max(1, round((72 if quick else 960) / volumes))
    settings = dict(data=str(dataset.root.resolve()), out=str(data_folder()),
                    channels="+".join(dataset.channels), pixels=64, base_channels=8, levels=4,
                    epochs=epochs, batch_size=1, minutes=minutes, test=test, val=0,
                    one_zone="keep", empty="keep", seed=seed)
    return Config(**settings | options)


def _lock(path: Path) -> BaseFileLock:
    """Of several processes that want to make `path`, one makes it and the others wait."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(path.name + ".lock"))
