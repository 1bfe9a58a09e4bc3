"""A run: what was asked for (Config), what the data made of it (Facts), and the folder where a trained
network lives.

config.json         everything needed to build the network again and to repeat the run
history.csv         a line for each epoch
best.safetensors    weights of the epoch with the highest validation Dice (the last one, if nobody validates)
last.safetensors    weights of the last epoch
resume.pt           optimiser and the rest that a continuation needs; random numbers depend on seed and epoch
                    alone
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite import __version__
from csam_lite.common.device import best_device
from csam_lite.common.errors import InputError, first_line
from csam_lite.common.files import whole_file
from csam_lite.data.dataset import Dataset, find_dataset
from csam_lite.training.config import BEFORE, Config
from csam_lite.training.facts import Facts

if TYPE_CHECKING:
    import torch
    from torch import nn

    from csam_lite.data.grid import Grid

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def chosen_dataset(config: Config) -> Dataset:
    """The labelled cases of config.data with the channels that config.channels names. Raises InputError."""
    dataset = find_dataset(config.data, labelled=True)
    return dataset.only_channels(config.channels.split("+")) if config.channels else dataset


def check_data_is_there(config: Config, out: str | Path) -> None:
    """Raises InputError where the scans of the run in `out` are no longer where its description says."""
    if not Path(config.data).expanduser().exists():
        raise InputError(f"{out}: its scans are no longer at {config.data}; give their folder with --data")


@dataclass
class Run:
    """A trained network with all that its use needs; the network is in evaluation mode."""

    folder: Path
    config: Config
    facts: Facts
    network: nn.Module

    @property
    def grid(self) -> Grid:
        """What brings a scan onto the network's grid, and its answer back."""
        from csam_lite.data.grid import Grid

        return Grid(self.config.pixels, self.facts.spacing, self.facts.num_classes)


def save_description(folder: str | Path, config: Config, facts: Facts) -> None:
    """Write config.json, with the version of the code."""
    with whole_file(Path(folder) / "config.json") as part:
        content = {"csam_lite": code_version(), "config": asdict(config), "facts": asdict(facts)}
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def code_version() -> str:
    """For example "0.2.0 (code 3f2a9c11)": the version, and a hash over the Python files on which the result
    of a run depends.
    """
    digest = hashlib.md5(usedforsecurity=False)
    for room in ("core", "data", "inference", "metrics", "training"):
        for path in sorted((Path(__file__).parents[1] / room).glob("*.py")):
            digest.update(path.read_bytes())
    return f"{__version__} (code {digest.hexdigest()[:8]})"


def stored_version(folder: str | Path) -> str:
    """The `code_version` that wrote the run in `folder`."""
    return json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get(
        "csam_lite", "an unknown version"
    )


def load_description(folder: str | Path) -> tuple[Config, Facts]:
    """Config and Facts of the run in `folder`. Raises InputError where there is none."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError(
            f"{folder}: holds no run (no config.json); train one: python -m csam_lite train --data DIR --out "
            f"{folder}"
        )
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        known = {option.name for option in fields(Config)}
        facts = Facts(**stored["facts"])
        facts.labels = {int(value): name for value, name in facts.labels.items()}
        facts.check()
        return Config(
            **BEFORE | {name: value for name, value in stored["config"].items() if name in known}
        ), facts
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError, InputError) as error:
        raise InputError(f"{path}: is not a run's description ({first_line(error)}); train again") from error


def pretrained() -> Run:
    """The Run that ships: a small CSAM U-Net for PZ and TZ on T2 prostate MRI, trained on phantoms alone
    (experiments/README.md).

    It is made for lessons and as a start for training. It has never seen a patient, and it is no tool for
    patients.
    """
    return load_run(PRETRAINED)


def save_weights(path: str | Path, network: nn.Module) -> None:
    """Write the weights of a network, with a hash over them.

    Raises InputError where the file cannot be written.
    """
    from safetensors.torch import save

    # cloned, because MONAI's network shares some tensors, which safetensors refuses
    weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    with whole_file(path) as part:
        part.write_bytes(save(weights, {"digest": digest_of_weights(weights)}))


def digest_of_weights(weights: Mapping[str, torch.Tensor]) -> str:
    """A hash over the names and the numbers of some tensors on the CPU."""
    import torch

    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def stored_digest(path: str | Path) -> str:
    """The hash that `save_weights` wrote into a file; "" in a file of an older version, which has none."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("digest", "")


def load_run(folder: str | Path, weights: str = "best") -> Run:
    """The run in `folder` with its `weights`, "best" or "last".

    Raises InputError for a missing or damaged file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from csam_lite.training.build import build_network

    config, facts = load_description(folder)
    path = Path(folder) / f"{weights}.safetensors"
    if not path.is_file():
        raise InputError(
            f"{path}: no such weights; let the training finish an epoch, or continue it with --resume"
        )
    try:
        _check_shapes(path, config, facts)  # before a damaged config.json builds what no memory can hold
        network = build_network(config, facts)
        tensors = load_file(path)
        network.load_state_dict(tensors)
        if stored_digest(path) not in ("", digest_of_weights(tensors)):
            raise ValueError("its numbers are not those that were written")
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, OSError, OverflowError) as error:
        raise InputError(
            f"{path}: does not fit its config.json or is damaged ({first_line(error)}); train again"
        ) from error
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise InputError(
            f"{path}: holds NaN, as after a training that diverged; train again with a lower --learning-rate"
        )
    return Run(Path(folder), config, facts, network.eval().to(best_device()))


def _check_shapes(path: Path, config: Config, facts: Facts) -> None:
    """Raises ValueError where a network larger than the tensors in the file has other shapes than they."""
    import torch
    from safetensors import safe_open

    from csam_lite.training.build import build_network

    with safe_open(path, "pt") as file:
        stored = {name: file.get_slice(name).get_shape() for name in file.keys()}
    widest = config.base_channels * 2 ** (config.levels - 1)
    sizes = widest, facts.num_slices, config.semantic_hidden, config.neighbours
    if max(sizes) <= max((size for shape in stored.values() for size in shape), default=0):
        return  # too small to harm, and the meta device takes a second to load
    with torch.device("meta"):  # shapes without numbers
        tensors = build_network(config, facts).state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if stored != shapes:
        differing = [name for name in {*stored, *shapes} if stored.get(name) != shapes.get(name)]
        raise ValueError(f"{len(differing)} tensors have other names or shapes")
