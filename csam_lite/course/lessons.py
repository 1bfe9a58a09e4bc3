"""What the notebooks of the course share, data and networks, and the runner behind `python -m csam_lite course` and its test.

    dataset = course.load_dataset(DATA, QUICK, seed=SEED)     # phantoms, MSD Task05, or a folder of labelled scans
    scan = course.load_scan(dataset)                          # a labelled case, read
    run = course.load_network(dataset, QUICK, seed=SEED)      # a trained network for these labels
    x = course.network_input(run, scan)                          # what the network sees, (S, C, H, W)

What is made or downloaded lies in `course_data/` of the working directory, made once for all notebooks.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from csam_lite.common.errors import InputError
from csam_lite.data.scan import Scan

DATA_FOLDER = "course_data"
PHANTOM_SEED = 5000  # the phantoms of the course are none of those that the shipped network was trained on


@dataclass
class CourseScan(Scan):
    """A Scan that knows its case's name and the names of its channels and classes."""

    name: str = ""
    channels: tuple = ()
    classes: tuple = ()  # of the foreground, 1..K-1


def load_dataset(data="phantom", quick=True, seed=0):
    """The labelled cases that the notebooks work on, a `csam_lite.dataset.Dataset`.

    data: "phantom" makes 8 phantoms, or 32 if not `quick`; "msd" downloads MSD Task05 (229 MB), its mislabelled zones mended;
    else a folder of labelled scans. Raises InputError for a folder that cannot be used.
    """
    from csam_lite.data.dataset import find_dataset

    if data == "phantom":
        from csam_lite.data.phantom import write_phantoms

        count = 8 if quick else 32
        folder = Path(DATA_FOLDER) / f"phantoms_{count}_seed{seed}"
        with _lock(folder):
            write_phantoms(folder, count, PHANTOM_SEED + seed, progress=False)
    elif data == "msd":
        from csam_lite.data.public_sets import get_msd_prostate

        folder = Path(DATA_FOLDER) / "Task05_Prostate"
        with _lock(folder):
            get_msd_prostate(folder, one_zone="remap")
    else:
        folder = data
    return find_dataset(folder, labelled=True)


def load_scan(dataset, k=0):
    """The k-th labelled case of a Dataset, read (counted round where k is too large). A lone prostate zone is kept as it is."""
    case = dataset.cases[k % len(dataset.cases)]
    read = dataset.read(case, "keep")
    return CourseScan(**vars(read), name=case.name, channels=dataset.channels, classes=dataset.classes)


def load_network(dataset, quick=True, seed=0, train=False, **options):
    """A trained network for the labels of a Dataset, a `csam_lite.run.Run`.

    Without `train`, the shipped weights if they fit: PZ and TZ, a channel T2, and the `options` (fields of `csam_lite.run.Config`).
    Else a small training (64 pixels, 8 channels, 4 levels) in `course_data/`, kept for the next call. If `quick`, of six patients.
    """
    from csam_lite.training.run import load_run, pretrained

    if not train:
        run = pretrained()
        if _fits(run, dataset) and all(getattr(run.config, name) == value for name, value in options.items()):
            return run
    from csam_lite.training.config import Config
    from csam_lite.training.trainer import train as fit

    config = _small(Config, dataset, quick, seed, options)
    asked = {name: value for name, value in asdict(config).items() if name != "out"}
    names = [case.name for case in dataset.cases]
    digest = hashlib.sha256(json.dumps([asked, names], sort_keys=True).encode()).hexdigest()[:10]
    config = replace(config, out=str(Path(DATA_FOLDER) / f"run_{digest}"))
    done = Path(config.out) / "done"
    with _lock(config.out):
        if not done.exists():
            fit(config, resume=(Path(config.out) / "resume.pt").exists(), progress=False)
            done.touch()
    return load_run(config.out)


def match_channels(run, scan):
    """The same scan with the channels that the network of `run` was trained on, in its order; what `segment` and `explore` take."""
    wanted = tuple(run.facts.channels)
    if scan.channels == wanted or len(scan.channels) == len(wanted) == 1:  # one channel needs no name: plain folders have none
        return scan
    if missing := [name for name in wanted if name not in scan.channels]:
        raise InputError(f"{scan.path}: has no channel {', '.join(missing)}; it has {', '.join(scan.channels)}")
    return replace(scan, image=scan.image[:, [scan.channels.index(name) for name in wanted]], channels=wanted)


def network_input(run, scan):
    """What the network of `run` sees of a scan of `course.scan`: float32 (S, C, H, W), its channels, its grid, normalised."""
    return run.grid.image(match_channels(run, scan))


def _fits(run, dataset):
    """Whether the run's classes are the data set's, in order, and its channels are among the data set's."""
    from csam_lite.data.dataset import zones

    classes = {value: name for value, name in enumerate(dataset.classes, 1)}
    return len(classes) == 2 and zones(classes) == zones(run.facts.labels) and set(run.facts.channels) <= set(dataset.channels)


def _small(Config, dataset, quick, seed, options):
    """The Config of a training that a laptop does while the reader waits."""
    patients = len({case.patient for case in dataset.cases})
    volumes = max(1, round(6 * len(dataset.cases) / patients)) if quick else len(dataset.cases)  # six patients train, the rest is held out
    test = max(1, patients - 6) if quick else max(1, round(0.2 * patients))
    epochs = max(1, round((72 if quick else 960) / volumes))
    return Config(**{"data": str(dataset.root.resolve()), "out": DATA_FOLDER, "channels": "+".join(dataset.channels), "pixels": 64,
                     "base_channels": 8, "levels": 4, "epochs": epochs, "batch_size": 1, "test": test, "val": 0, "one_zone": "keep",
                     "seed": seed, "minutes": 0.4 if quick else 0.0} | options)


def _lock(path):
    """Of several processes that want to make `path`, one does, and the others wait."""
    from filelock import FileLock

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(path.name + ".lock"))
