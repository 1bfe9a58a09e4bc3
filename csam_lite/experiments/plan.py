"""The plan of an experiment: one small TOML file, checked, and what its runs will cost on this machine.

    data = "phantoms"          # folder of scans
    out = "runs/gates"         # folder for all runs, tables and pictures
    seeds = [0, 1, 2]          # initial weights, order, augmentation; the held-out patients stay the same
    folds = [0, 1, 2, 3, 4]    # with options.folds = 5: every patient is held out once
    new_folds = false          # true: the folds differ from seed to seed (repeated cross-validation)
    reference = "plain"        # the network that the others are compared with
    hours = 3.0                # in place of options.epochs: as many as fit by steps timed here

    [options]                  # options of `train`, the same for all networks: the equal budget
    pixels = 96
    epochs = 20

    [networks.plain]           # what is special about each network
    attention = "none"

    [networks.CSAM]

The package ships the plans of its tables of results in `experiments/plans/`. A shipped plan is called by its
name, with `data` and `out`.
"""

import hashlib
import os
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np

from csam_lite.common.device import best_device
from csam_lite.common.errors import InputError
from csam_lite.data.dataset import find_dataset, split
from csam_lite.training.config import Config
from csam_lite.training.facts import Facts
from csam_lite.training.run import chosen_dataset

PLANS = Path(__file__).parent / "plans"


def read_plan(
    path: str | Path, data: str | None = None, out: str | None = None, hours: float | None = None
) -> dict:
    """The experiment in a TOML file, or in the shipped plan of that name, checked, with its defaults filled
    in.

    data, out, hours: in place of the plan's. Raises InputError for a file that is no plan.
    """
    shipped = {plan.stem: plan for plan in PLANS.glob("*.toml")}
    path = Path(path)
    if str(path) in shipped and not path.is_file():  # a folder of scans may well be called acdc
        path = shipped[str(path)]
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, and no shipped plan ({', '.join(sorted(shipped))}); "
                         "`python -m csam_lite compare --help` shows what a plan holds") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not TOML ({error}); correct that line") from error
    plan |= {
        name: value for name, value in (("data", data), ("out", out), ("hours", hours)) if value is not None
    }
    _check_kinds(path, plan)
    if lacking := {"data", "out", "networks"} - set(plan):
        options = " (--data, --out)" if lacking & {"data", "out"} else ""
        raise InputError(f"{path}: lacks {', '.join(sorted(lacking))}; add it{options}")
    defaults = {
        "seeds": [0],
        "folds": [0],
        "new_folds": False,
        "reference": next(iter(plan["networks"])),
        "options": {},
        "hours": None,
    }
    if unknown := set(plan) - {"data", "out", "networks", *defaults}:
        raise InputError(f"{path}: has unknown entries {', '.join(sorted(unknown))}; "
                         "options of `train` belong under [options]")
    plan = defaults | plan
    if plan["reference"] not in plan["networks"]:
        raise InputError(f"{path}: reference {plan['reference']!r} is none of the networks "
                         f"{', '.join(plan['networks'])}; correct it")
    known = {option.name for option in fields(Config)} - {"data", "out", "seed", "fold"}
    sections = {"options": plan["options"]} | {
        f"networks.{name}": special for name, special in plan["networks"].items()
    }
    for section, options in sections.items():
        if unknown := set(options) - known:
            raise InputError(f"{path}: [{section}] has unknown options {', '.join(sorted(unknown))}; "
                             "`python -m csam_lite train --help` lists them")
    for name, values in (("seeds", plan["seeds"]), ("folds", plan["folds"])):
        whole = isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
        if not whole or not values or len(set(values)) < len(values):
            raise InputError(
                f"{path}: {name} = {values}: must be a list of different numbers of 0 or more, such as [0, 1]"
            )
    number_of_folds = plan["options"].get("folds", 0)
    if type(number_of_folds) is not int:
        raise InputError(f"{path}: [options] folds = {number_of_folds!r}: must be a whole number")
    if plan["folds"] != [0] and max(plan["folds"]) >= number_of_folds:
        raise InputError(f"{path}: folds = {plan['folds']} needs folds under [options], the number of folds; "
                         "folds are numbered from 0")
    if plan["new_folds"] and not number_of_folds:
        raise InputError(f"{path}: new_folds needs folds under [options], the number of folds")
    if plan["new_folds"] and any("split_seed" in options for options in sections.values()):
        raise InputError(f"{path}: gives split_seed and new_folds, which sets it; leave one of them out")
    if hours is not None:
        plan["options"].pop("epochs", None)
    if plan["hours"] is not None and "epochs" in plan["options"]:
        raise InputError(f"{path}: gives hours and epochs; leave one of them out")
    if plan["hours"] is not None and not plan["hours"] > 0:
        raise InputError(f"{path}: hours = {plan['hours']}: must be more than 0")
    return plan


def _check_kinds(path: Path, plan: dict) -> None:
    """Raises InputError for an entry of a plan that holds another kind of value than it should."""
    for name, kind, what in (("data", str, "text"), ("out", str, "text"), ("reference", str, "text"),
                             ("hours", (int, float), "a number"), ("options", dict, "a table, [options]"),
                             ("new_folds", bool, "true or false"),
                             ("networks", dict, "tables, such as [networks.CSAM]")):
        value = plan.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)):
            raise InputError(f"{path}: {name} = {value!r}: must be {what}")
    for name, special in plan.get("networks", {}).items():
        if not isinstance(special, dict) or not name.isprintable() or len(name.encode()) > 100:
            raise InputError(f"{path}: networks.{ascii(name)[:50]}: must be a table of options, and its name "
                             "text of at most 100 bytes")
    folders: dict[str, str] = {}
    for name in plan.get("networks", {}):
        if (other := folders.setdefault(_folder_name(name), name)) != name:
            raise InputError(f"{path}: the networks {other!r} and {name!r} would share the folders "
                             f"{_folder_name(name)}-...; give one of them another name")
    if not plan.get("networks", True):
        raise InputError(f"{path}: names no network; add one, such as [networks.CSAM]")


def configs(plan: dict) -> Iterator[tuple[str, int, Config]]:
    """(network, seed of the plan, Config) of every run.

    Seeds are outermost, so that an experiment that is cut short has whole comparisons of the first seeds. All
    networks of a seed and fold are trained with the same seed, and no other fold is: each training of a
    network has luck of its own, as the intervals assume. With `new_folds`, the seed is the split_seed, too.
    """
    from csam_lite.training.transfer import config_of

    for seed in plan["seeds"]:
        for fold in plan["folds"]:
            for network, special in plan["networks"].items():
                out = Path(plan["out"]) / f"{_folder_name(network)}-seed{seed}-fold{fold}"
                place = {"data": plan["data"], "out": str(out), "seed": seed + 100 * fold, "fold": fold}
                if plan["new_folds"]:
                    place["split_seed"] = seed
                yield network, seed, config_of(**place | plan["options"] | special)


def _folder_name(network: str) -> str:
    """How the folders of a network's runs begin."""
    return network.replace(" ", "_").replace("/", "_")


def costs(plan: dict, progress: bool = True) -> dict[str, dict[str, float]]:
    """{network: {"ms/step", "peak MB"}}: a training step of each network of the plan, at its batch size and
    the data's usual depth.

    The steps are timed on this machine, in turns with those of the other networks. Memory is the most that a
    step holds beyond weights and data (forward, loss, backward).
    """
    from csam_lite.experiments.timing import peak_memory, race, training_step
    from csam_lite.training.build import build_network

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
    return {network: {"ms/step": 1000 * seconds[network], "peak MB": peak_memory(step) / 2**20}
            for network, step in steps.items()}


def usual(config: Config) -> tuple[Facts, int]:
    """(Facts as a run on config.data would have them, but for split and spacing; median number of slices)."""
    dataset = chosen_dataset(config)
    depths = [dataset.depth(case) for case in dataset.cases]
    facts = Facts(list(dataset.channels), dataset.labels, config.num_slices or max(depths), 1.0, {})
    return facts, int(np.median(depths))


def affordable_epochs(plan: dict, costs: dict[str, dict[str, float]]) -> int:
    """Epochs, the same for every run, that fill plan["hours"] by the measured steps; raises InputError where
    there is less than one.

    A fifth of the time is kept for reading, augmenting and evaluating.
    """
    seconds = seconds_of_an_epoch(plan, costs)
    epochs = int(0.8 * plan["hours"] * 3600 / seconds)
    if epochs < 1:
        raise InputError(
            f"{plan['hours']} hours: one epoch of all {len(list(configs(plan)))} runs takes "
            f"{seconds / 3600:.2f} hours here; give more hours, fewer runs or a smaller network"
        )
    return epochs


def seconds_of_an_epoch(plan: dict, costs: dict[str, dict[str, float]]) -> float:
    """What the steps of one epoch of all runs take together, in seconds, by the measured costs."""
    cases, seconds = find_dataset(plan["data"], labelled=True).cases, 0.0
    for network, _, config in configs(plan):
        train = split(cases, config.split_seed, config.test, config.val, config.folds, config.fold)[0]
        seconds += -(-len(train) // config.batch_size) * costs[network]["ms/step"] / 1000
    return seconds


def data_digest(folder: str | Path) -> str:
    """A hash (md5) over names and contents of all files that a data set lists. It tells whether two
    experiments saw the same data."""
    dataset, digest = find_dataset(folder, labelled=True), hashlib.md5(usedforsecurity=False)
    for case in dataset.cases:
        for file in case.files:
            digest.update(os.fsencode(f"{file.name}\n"))
            digest.update(file.read_bytes())
    return digest.hexdigest()
