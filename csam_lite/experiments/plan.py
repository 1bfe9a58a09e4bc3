"""The plan of an experiment: one small TOML file, checked, and what its runs will cost on this machine.

    data = "phantoms"          # folder of scans
    out = "runs/gates"         # folder for all runs, tables and pictures
    seeds = [0, 1, 2]          # initial weights, order, augmentation; the held-out patients stay the same
    folds = [0]                # with options.folds: which folds are run; leave out for one split
    reference = "plain"        # the network that the others are compared with
    hours = 3.0                # instead of options.epochs: as many epochs, the same for all, as fit by steps timed on this machine

    [options]                  # options of `train`, the same for all networks: the equal budget
    pixels = 96
    epochs = 20

    [networks.plain]           # what is special about each network
    attention = "none"

    [networks.CSAM]

The package ships the plans of the README's tables in `experiments/`: their name does for the file's, `data` and `out` are given with them.
"""

import hashlib
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np

from csam_lite.common.device import best_device
from csam_lite.common.errors import InputError
from csam_lite.data.dataset import find_dataset, split
from csam_lite.training.build import build_network
from csam_lite.training.config import Config
from csam_lite.training.run import Facts, chosen_dataset

PLANS = Path(__file__).parent / "plans"


def read_plan(path, data=None, out=None, hours=None):
    """The experiment in a TOML file, checked, with its defaults filled in. Raises InputError."""
    shipped = {plan.stem: plan for plan in PLANS.glob("*.toml")}
    path = Path(path)
    if str(path) in shipped and not path.exists():
        path = shipped[str(path)]
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, and no shipped plan ({', '.join(sorted(shipped))}); "
                         "`python -m csam_lite compare --help` shows what a plan holds") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not TOML ({error}); mend that line") from error
    plan |= {name: value for name, value in (("data", data), ("out", out), ("hours", hours)) if value is not None}
    if lacking := {"data", "out", "networks"} - set(plan):
        raise InputError(f"{path}: lacks {', '.join(sorted(lacking))}; add it" + (" (--data, --out)" if lacking & {"data", "out"} else ""))
    if unknown := set(plan) - {"data", "out", "networks", "seeds", "folds", "reference", "options", "hours"}:
        raise InputError(f"{path}: has unknown entries {', '.join(sorted(unknown))}; options of `train` belong under [options]")
    plan = {"seeds": [0], "folds": [0], "reference": next(iter(plan["networks"])), "options": {}, "hours": None} | plan
    if plan["reference"] not in plan["networks"]:
        raise InputError(f"{path}: reference {plan['reference']!r} is none of the networks {', '.join(plan['networks'])}; correct it")
    known = {one.name for one in fields(Config)} - {"data", "out", "seed", "fold"}
    for where, options in {"options": plan["options"], **{f"networks.{name}": own for name, own in plan["networks"].items()}}.items():
        if unknown := set(options) - known:
            raise InputError(f"{path}: [{where}] has unknown options {', '.join(sorted(unknown))}; `python -m csam_lite train --help` lists them")
    if hours is not None:
        plan["options"].pop("epochs", None)
    if plan["hours"] is not None and "epochs" in plan["options"]:
        raise InputError(f"{path}: gives hours and epochs; leave one of them out")
    if plan["hours"] is not None and not plan["hours"] > 0:
        raise InputError(f"{path}: hours = {plan['hours']}: must be more than 0")
    return plan


def configs(plan):
    """(network, seed, Config) of every run. Seeds are outermost: an experiment cut short has whole comparisons of the first seeds."""
    for seed in plan["seeds"]:
        for fold in plan["folds"]:
            for network, own in plan["networks"].items():
                out = Path(plan["out"]) / f"{network.replace(' ', '_').replace('/', '_')}-seed{seed}-fold{fold}"
                yield network, seed, Config(**{"data": plan["data"], "out": str(out), "seed": seed, "fold": fold} | plan["options"] | own)


def costs(plan, progress=True):
    """{network: {"ms/step", "peak MB"}}: a training step of each network of the plan, at its batch size and the data's usual depth,
    timed in turns with the others on this machine, and the most memory it holds beyond weights and data (forward, loss, backward)."""

    from csam_lite.experiments.timing import peak_memory, race, training_step

    device, steps = best_device(), {}
    first = {network: config for network, seed, config in reversed(list(configs(plan)))}
    for network in plan["networks"]:
        config = first[network]
        facts, depth = usual(config)
        shape = (config.batch_size, depth, len(facts.channels), config.pixels, config.pixels)
        steps[network] = training_step(build_network(config, facts).to(device), shape, config.precision)
    if progress:
        print("timing a training step of each network", flush=True)
    seconds = race(steps, repeats=3)
    return {network: {"ms/step": 1000 * seconds[network], "peak MB": peak_memory(step) / 2**20} for network, step in steps.items()}


def usual(config):
    """(Facts as a run on config.data would find them, but for its split and spacing; median number of slices)."""
    dataset = chosen_dataset(config)
    depths = [dataset.depth(case) for case in dataset.cases]
    return Facts(list(dataset.channels), dataset.labels, config.num_slices or max(depths), 1.0, {}), int(np.median(depths))


def affordable_epochs(plan, costs):
    """Epochs, the same for every run, that fill plan["hours"] by the measured steps; a fifth is kept for reading, augmenting, evaluating."""
    runs = list(configs(plan))
    cases = find_dataset(plan["data"], labelled=True).cases
    seconds = 0.0  # of one epoch of all runs
    for network, _, config in runs:
        train = split(cases, config.split_seed, config.test, config.val, config.folds, config.fold)[0]
        seconds += -(-len(train) // config.batch_size) * costs[network]["ms/step"] / 1000
    epochs = int(0.8 * plan["hours"] * 3600 / seconds)
    if epochs < 1:
        raise InputError(f"{plan['hours']} hours: one epoch of all {len(runs)} runs takes {seconds / 3600:.2f} hours here; "
                         "give more hours, fewer runs or a smaller network")
    return epochs


def data_digest(folder):
    """A hash (md5) over names and contents of all files that a data set lists: tells whether two experiments saw the same data."""
    dataset, digest = find_dataset(folder, labelled=True), hashlib.md5(usedforsecurity=False)
    for case in dataset.cases:
        for file in case.files:
            digest.update(f"{file.name}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
