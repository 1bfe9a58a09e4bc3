"""A run: what was asked for (Config), what the data made of it (Facts), and the folder where a trained network lives.

    config.json         everything needed to build the network again and to repeat the run
    history.csv         a line an epoch
    best.safetensors    weights of the epoch with the highest validation Dice (the last one, if nobody validates)
    last.safetensors    weights of the last epoch
    resume.pt           optimiser and the rest that a continuation needs; random numbers depend on seed and epoch alone
"""

import hashlib
import json
import math
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path

from csam_lite import __version__
from csam_lite.dataset import ONE_ZONE, find_dataset
from csam_lite.errors import InputError
from csam_lite.files import whole_file

NETWORKS = ("unet", "unetpp", "unet2d", "unet3d", "self_attention")
PRETRAINED = Path(__file__).parent / "pretrained"
PRECISIONS = ("no", "bf16", "fp16")


def _option(help, default=MISSING):
    return field(default=default, metadata={"help": help})


@dataclass
class Config:
    """What a training is asked to do. Every field is an option of `python -m csam_lite train`."""

    data: str = _option("folder with the scans (Decathlon layout, or images/ and labels/)")
    out: str = _option("folder for this run")
    channels: str = _option("which channels to use, names joined by +, e.g. T2; all if not given", "")
    network: str = _option("unet or unetpp; without gates, to compare with: unet2d, unet3d (MONAI's), self_attention (across slices)", "unet")
    attention: str = _option("gates: all, none, or names joined by +, e.g. semantic+slice", "all")
    uncertain: bool = _option("draw the slice gate from a normal distribution in training, as the paper does", False)
    sampling: str = _option("how it is drawn: reparameterised, or released (as published: gets no gradient)", "reparameterised")
    gate_start: float = _option("value at which all gates start; 0: at random, as published", 0.9)
    gate_form: str = _option("how gates act on the features: product (as published), residual, normalised", "product")
    gate_rate: float = _option("learning rate of the gates, as a multiple of the network's; 1 as published", 0.1)
    noise: float = _option("scale of the draw: 1 as published, 0 draws the mean", 1.0)
    noise_warmup: float = _option("part of the training over which the draw grows to its scale", 0.0)
    max_std: float = _option("bound on the standard deviation of each slice's draw; 0: none, as published", 0.0)
    neighbours: int = _option("slices on each side that are given as extra channels (the cheap 2.5D; for unet and unetpp)", 0)
    base_channels: int = _option("channels of the finest level; each level below has twice as many", 16)
    levels: int = _option("number of scales", 5)
    num_slices: int = _option("deepest volume the network takes at once; 0: the deepest training volume", 0)
    pixels: int = _option("in-plane size of the network's input", 128)
    spacing: float = _option("in-plane spacing of the network's input in mm; 0: chosen so that the masks fit", 0.0)
    epochs: int = _option("passes over the training volumes", 60)
    minutes: float = _option("time budget for the training; 0: none. The learning rate falls to zero in time", 0.0)
    prior: bool = _option("start the last layer's biases at the frequencies of the classes, so that no rare class is lost early", True)
    batch_size: int = _option("volumes a step, over all processes together", 2)
    learning_rate: float = _option("Adam's highest rate, reached after a tenth of the training", 5e-3)
    test: float = _option("patients held out for evaluation: a fraction, or their number", 0.2)
    val: float = _option("patients that choose the best epoch: a fraction, or their number, 0 for none", 0.1)
    folds: int = _option("cross-validation: number of folds; 0: one split", 0)
    fold: int = _option("which fold is held out, from 0", 0)
    one_zone: str = _option("a prostate mask with one zone only: error, drop, remap (lone PZ becomes TZ), keep", "error")
    augment: bool = _option("rotate, scale, shift, change contrast and add noise", True)
    precision: str = _option("mixed precision: no, bf16, fp16 (GPU)", "no")
    workers: int = _option("extra processes that prepare batches", 0)
    split_seed: int = _option("which patients are held out", 0)
    seed: int = _option("of the initial weights, the order of the volumes, the augmentation and the draws", 0)

    def __post_init__(self):
        from csam_lite.attention import FORMS, SAMPLING
        from csam_lite.networks import gate_names

        for name, allowed in {"network": NETWORKS, "sampling": SAMPLING, "gate_form": FORMS, "precision": PRECISIONS, "one_zone": ONE_ZONE}.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: choose one of {', '.join(allowed)}")
        least = dict.fromkeys(("neighbours", "num_slices", "spacing", "minutes", "test", "val", "folds", "fold", "workers", "seed", "split_seed",
                               "noise", "noise_warmup", "max_std"), 0)
        least |= dict.fromkeys(("base_channels", "pixels", "epochs", "batch_size"), 1) | dict.fromkeys(("learning_rate", "gate_rate"), 1e-12)
        least["levels"] = {"unet": 1, "self_attention": 1, "unet3d": 3}.get(self.network, 2)
        for name, low in least.items():
            if not low <= getattr(self, name) < float("inf"):
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be a number of {low} or more")
        if not 0 <= self.gate_start < 1:
            raise InputError(f"--gate-start {self.gate_start}: must lie between 0 and 1, or be 0 for a start at random")
        if self.fold and not self.folds:
            raise InputError(f"--fold {self.fold}: needs --folds, the number of folds")
        if self.pixels < 2**self.levels:
            raise InputError(f"--pixels {self.pixels}: too few for {self.levels} levels; give at least {2**self.levels}, or fewer --levels")
        if self.neighbours and self.network not in ("unet", "unetpp"):
            raise InputError(f"--neighbours {self.neighbours}: is for unet and unetpp; leave it out with {self.network}")
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


def chosen_dataset(config):
    """The labelled cases of config.data with the channels that config.channels names. Raises InputError."""
    dataset = find_dataset(config.data, labelled=True)
    return dataset.only_channels(config.channels.split("+")) if config.channels else dataset


def build_network(config, facts):
    """The untrained network of a run. As it will soon be at work, the process keeps freed memory from now on (memory.py)."""
    from csam_lite.baselines import NeighbourChannels, SelfAttentionUNet, UNet2D, UNet3D
    from csam_lite.memory import keep_freed_memory
    from csam_lite.networks import UNet, UNetPlusPlus

    keep_freed_memory()
    channels = len(facts.channels) * (1 + 2 * config.neighbours)
    size = (channels, facts.num_classes, facts.num_slices, config.base_channels, config.levels)
    if baseline := {"unet2d": UNet2D, "unet3d": UNet3D, "self_attention": SelfAttentionUNet}.get(config.network):
        return baseline(*size)
    kind = UNet if config.network == "unet" else UNetPlusPlus
    network = kind(*size, attention=config.attention, uncertain=config.uncertain, sampling=config.sampling, start=config.gate_start or None,
                   form=config.gate_form, noise=config.noise, max_std=config.max_std or math.inf)
    return NeighbourChannels(network, config.neighbours) if config.neighbours else network


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
    """Write config.json, with the version of the code."""
    with whole_file(Path(folder) / "config.json") as part:
        content = {"csam_lite": code_version(), "config": asdict(config), "facts": asdict(facts)}
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def code_version():
    """Such as "0.1.0 (code 3f2a9c11)": the version, and a hash over the package's Python files, which tells two states of one version apart."""
    digest = hashlib.md5(usedforsecurity=False)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
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
        return Config(**{name: value for name, value in stored["config"].items() if name in known}), facts
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a run's description ({error}); train again") from error


def pretrained():
    """The Run that ships: a small CSAM U-Net for PZ and TZ on T2 prostate MRI, trained on phantoms alone (README, "Shipped weights").

    It is made for lessons and as a start for training. It was never shown a patient, and is no tool for one.
    """
    return load_run(PRETRAINED)


def load_run(folder, weights="best"):
    """The run in `folder` with its `weights`, "best" or "last". Raises InputError for a missing or damaged file."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config, facts = load_description(folder)
    path, network = Path(folder) / f"{weights}.safetensors", build_network(config, facts)
    if not path.is_file():
        raise InputError(f"{path}: no such weights; let the training finish an epoch, or continue it with --resume")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: does not fit its config.json or is damaged ({str(error).splitlines()[0]}); train again") from error
    return Run(Path(folder), config, facts, network.eval().to("cuda" if torch.cuda.is_available() else "cpu"))
