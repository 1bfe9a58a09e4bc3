"""A run: what was asked for (Config), what the data made of it (Facts), and the folder where a trained network lives.

config.json         everything needed to build the network again and to repeat the run
history.csv         a line an epoch
best.safetensors    weights of the epoch with the highest validation Dice (the last one, if nobody validates)
last.safetensors    weights of the last epoch
resume.pt           optimiser and the rest that a continuation needs; random numbers depend on seed and epoch alone
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from csam_lite import __version__
from csam_lite.common.device import best_device
from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.data.dataset import find_dataset
from csam_lite.training.config import BEFORE, Config

PRETRAINED = Path(__file__).parents[1] / "pretrained"


@dataclass
class Facts:
    """What the data decided: channels and labels {value: name}, depth, spacing of the grid (mm), and who is in which split."""

    channels: list
    labels: dict
    num_slices: int
    spacing: float
    split: dict  # {"train": [case names], "val": [...], "test": [...]}

    @property
    def num_classes(self):
        """With background."""
        return len(self.labels) + 1


def chosen_dataset(config):
    """The labelled cases of config.data with the channels that config.channels names. Raises InputError."""
    dataset = find_dataset(config.data, labelled=True)
    return dataset.only_channels(config.channels.split("+")) if config.channels else dataset


@dataclass
class Run:
    """A trained network with all that its use needs; the network is in evaluation mode."""

    folder: Path
    config: Config
    facts: Facts
    network: object

    @property
    def grid(self):
        from csam_lite.data.grid import Grid

        return Grid(self.config.pixels, self.facts.spacing, self.facts.num_classes)


def save_description(folder, config, facts):
    """Write config.json, with the version of the code."""
    with whole_file(Path(folder) / "config.json") as part:
        content = {"csam_lite": code_version(), "config": asdict(config), "facts": asdict(facts)}
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def code_version():
    """Such as "0.1.0 (code 3f2a9c11)": the version, and a hash over the package's Python files, which tells two states of one version apart."""
    digest = hashlib.md5(usedforsecurity=False)
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return f"{__version__} (code {digest.hexdigest()[:8]})"


def load_description(folder):
    """Config and Facts of the run in `folder`. Raises InputError where there is none."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: holds no run (no config.json); train one: python -m csam_lite train --data DIR --out {folder}")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        known = {one.name for one in fields(Config)}
        facts = Facts(**stored["facts"])
        facts.labels = {int(value): name for value, name in facts.labels.items()}
        return Config(**BEFORE | {name: value for name, value in stored["config"].items() if name in known}), facts
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a run's description ({error}); train again") from error


def pretrained():
    """The Run that ships: a small CSAM U-Net for PZ and TZ on T2 prostate MRI, trained on phantoms alone (README, "Shipped weights").

    It is made for lessons and as a start for training. It was never shown a patient, and is no tool for one.
    """
    return load_run(PRETRAINED)


def load_run(folder, weights="best"):
    """The run in `folder` with its `weights`, "best" or "last". Raises InputError for a missing or damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from csam_lite.training.build import build_network

    config, facts = load_description(folder)
    path = Path(folder) / f"{weights}.safetensors"
    network = build_network(config, facts)
    if not path.is_file():
        raise InputError(f"{path}: no such weights; let the training finish an epoch, or continue it with --resume")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: does not fit its config.json or is damaged ({str(error).splitlines()[0]}); train again") from error
    return Run(Path(folder), config, facts, network.eval().to(best_device()))
