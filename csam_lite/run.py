"""A run: what was asked for (Config), what the data made of it (Facts), and the folder where a trained network lives.

    config.json         everything needed to build the network again and to repeat the run
    history.csv         a line an epoch
    best.safetensors    weights of the epoch with the highest validation Dice (the last one, if nobody validates)
    last.safetensors    weights of the last epoch
    resume.pt           optimiser, random state and the rest that an exact continuation needs
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from csam_lite.dataset import ONE_ZONE
from csam_lite.errors import InputError
from csam_lite.files import whole_file

NETWORKS = ("unet", "unetpp", "unet3d")
PRECISIONS = ("no", "bf16", "fp16")


@dataclass
class Config:
    """What a training is asked to do. Every field is an option of `python -m csam_lite train`; the comment is its help."""

    data: str  # folder with the scans (Decathlon layout, or images/ and labels/)
    out: str  # folder for this run
    network: str = "unet"  # unet, unetpp, or unet3d (MONAI's 3D U-Net, a baseline)
    attention: str = "all"  # gates: all, none, or names joined by +, e.g. semantic+slice
    uncertain: bool = False  # draw the slice gate from a normal distribution in training, as the paper does
    sampling: str = "reparameterised"  # how it is drawn: reparameterised, or released (as published: gets no gradient)
    base_channels: int = 16  # channels of the finest level; each level below has twice as many
    levels: int = 5  # number of scales
    num_slices: int = 0  # deepest volume the network takes at once; 0: the deepest training volume
    pixels: int = 128  # in-plane size of the network's input
    spacing: float = 0.0  # in-plane spacing of the network's input in mm; 0: chosen so that the masks fit
    epochs: int = 60  # passes over the training volumes
    minutes: float = 0.0  # time budget for the training; 0: none. The learning rate falls to zero in time
    batch_size: int = 2  # volumes a step, over all processes together
    learning_rate: float = 2e-3  # Adam's highest rate, reached after a tenth of the training
    test: float = 0.2  # patients held out for evaluation: a fraction, or their number
    val: float = 0.1  # patients that choose the best epoch: a fraction, or their number, 0 for none
    folds: int = 0  # cross-validation: number of folds; 0: one split
    fold: int = 0  # which fold is held out, from 0
    one_zone: str = "error"  # a prostate mask with one zone only: error, drop, remap (lone PZ becomes TZ), keep
    augment: bool = True  # rotate, scale, shift, change contrast and add noise
    precision: str = "no"  # mixed precision: no, bf16, fp16 (GPU)
    workers: int = 0  # extra processes that prepare batches
    seed: int = 0  # of the split, the initial weights, the order and the augmentation

    def __post_init__(self):
        from csam_lite.networks import gate_names

        for name, allowed in {"network": NETWORKS, "precision": PRECISIONS, "one_zone": ONE_ZONE}.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: choose one of {', '.join(allowed)}")
        for name in ("base_channels", "levels", "pixels", "epochs", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be above 0")
        if self.pixels < 2**self.levels:
            raise InputError(f"--pixels {self.pixels}: too few for {self.levels} levels; give at least {2**self.levels}, or fewer --levels")
        try:
            gate_names(self.attention)
        except ValueError as error:
            raise InputError(f"--attention: {error}") from error


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


def build_network(config, facts):
    """The untrained network of a run."""
    from csam_lite.baselines import UNet3D
    from csam_lite.networks import UNet, UNetPlusPlus

    size = (len(facts.channels), facts.num_classes, facts.num_slices, config.base_channels, config.levels)
    if config.network == "unet3d":
        return UNet3D(*size)
    network = UNet if config.network == "unet" else UNetPlusPlus
    return network(*size, attention=config.attention, uncertain=config.uncertain, sampling=config.sampling)


@dataclass
class Run:
    """A trained network with all that its use needs; the network is in evaluation mode."""

    folder: Path
    config: Config
    facts: Facts
    network: object

    @property
    def preprocess(self):
        from csam_lite.preprocess import Preprocess

        return Preprocess(self.config.pixels, self.facts.spacing, self.facts.num_classes)


def save_description(folder, config, facts):
    """Write config.json."""
    with whole_file(Path(folder) / "config.json") as part:
        part.write_text(json.dumps({"config": asdict(config), "facts": asdict(facts)}, indent=1) + "\n", encoding="utf-8")


def load_description(folder):
    """Config and Facts of the run in `folder`. Raises InputError where there is none."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: holds no run (no config.json); train one: python -m csam_lite train --data DIR --out {folder}")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in fields(Config)}
        facts = Facts(**stored["facts"])
        facts.labels = {int(value): name for value, name in facts.labels.items()}
        return Config(**{name: value for name, value in stored["config"].items() if name in known}), facts
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a run's description ({error}); train again") from error


def load_run(folder, weights="best"):
    """The run in `folder` with its `weights`, "best" or "last". Raises InputError for a missing or damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    config, facts = load_description(folder)
    path, network = Path(folder) / f"{weights}.safetensors", build_network(config, facts)
    if not path.is_file():
        raise InputError(f"{path}: no such weights; let the training finish an epoch, or continue it with --resume")
    try:
        load_model(network, path)
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: does not fit its config.json or is damaged ({str(error).splitlines()[0]}); train again") from error
    return Run(Path(folder), config, facts, network.eval())
