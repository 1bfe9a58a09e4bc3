"""Train several networks under one budget on one split and compare them patient by patient: an experiment from one small file.

The file is TOML:

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

Every run is a folder `out/NETWORK-seedS-foldF` as `train` leaves it, with the scores of its held-out patients in held_out.csv. Finished runs
are kept, interrupted ones go on, so an experiment can be done in several sittings. The held-out patients are read once, at its end.
The same command started several times shares the runs out, one process for each GPU (CUDA_VISIBLE_DEVICES) or CPU core (OMP_NUM_THREADS).
The package ships the plans of the README's tables in `experiments/`: their name does for the file's, `data` and `out` are given with them.
"""

import csv
import hashlib
import json
import time
import tomllib
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from csam_lite import __version__
from csam_lite.dataset import find_dataset, split
from csam_lite.errors import InputError
from csam_lite.evaluate import UNIONS, mean_dice, measure_scan, measure_slices, reliability_of_classes, segmented, summarise, write_rows
from csam_lite.files import whole_file
from csam_lite.paired import against
from csam_lite.run import SHIPPED, Config, Facts, build_network, chosen_dataset, load_description, load_run
from csam_lite.table import markdown


def compare(path, data=None, out=None, hours=None, progress=True):
    """Do, or finish, the experiment described in the TOML file `path`, or in the shipped plan of that name.

    data, out, hours: in place of the plan's. Returns (scores, differences): rows for each network, and rows for each network against the
    reference. Both are also written to compare.md, scores.csv and differences.csv in its folder, with pictures: differences.png, stack.png
    (Dice along the stack), reliability.png. Raises InputError for a file that does not describe an experiment, for data that has changed
    since its first run, and as `train` and `evaluate` do.
    """
    plan = read_plan(path, data, out, hours)
    out, digest = Path(plan["out"]), data_digest(plan["data"])
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):  # the first process measures, others wait and read
        facts = _facts(plan, digest, out / "experiment.json", progress)
    if plan["hours"]:
        plan["options"]["epochs"] = facts["epochs"]
    todo = list(configs(plan))
    _run_all([config for _, _, config in todo], progress)
    found, folders = defaultdict(lambda: Found([], [], {})), {}
    for network, seed, config in todo:
        folders[network] = Path(config.out)
        found[network].add(_held_out(config), seed)
    scores = [_score(network, own.subjects, folders[network]) | facts["costs"][network] for network, own in found.items()]
    differences = against({network: own.subjects for network, own in found.items()}, plan["reference"])
    about = ", ".join(f"{name} {value}" for name, value in facts.items() if isinstance(value, (str, int)))
    with whole_file(out / "compare.md") as part:
        part.write_text(f"{about}\n\n{markdown(scores)}\n\n{markdown(differences) if differences else ''}\n", encoding="utf-8")
    for name, table in (("scores", scores), ("differences", differences)):
        _write_csv(out / f"{name}.csv", table)
    _draw(out, found, differences, plan["reference"])
    return scores, differences


@dataclass
class Found:
    """What the held-out patients of a network's runs gave: rows of `measure`, rows of `measure_slices`, {class: reliability table}."""

    subjects: list
    slices: list
    reliability: dict

    def add(self, other, seed):
        """Add the findings of one more run, of this seed."""
        self.subjects += [row | {"seed": seed} for row in other.subjects]
        self.slices += other.slices
        for name, table in other.reliability.items():
            self.reliability[name] = self.reliability.get(name, 0) + table


def read_plan(path, data=None, out=None, hours=None):
    """The experiment in a TOML file, checked, with its defaults filled in. Raises InputError."""
    shipped = {plan.stem: plan for plan in SHIPPED.glob("*.toml")}
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
    import torch

    from csam_lite.cost import peak_memory, race, training_step

    device, steps = "cuda" if torch.cuda.is_available() else "cpu", {}
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
        for file in (case.image, case.label):
            digest.update(f"{file.name}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _run_all(configs, progress):
    """Train and measure every run that no other process has done, or is doing; return when all are done."""
    from csam_lite.training import train

    waiting, told = list(configs), None
    while waiting:
        busy = []
        for config in waiting:
            folder = Path(config.out)
            try:
                with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
                    if _is_done(config):
                        continue
                    if progress:
                        print(f"[{configs.index(config) + 1}/{len(configs)}] {folder.name}", flush=True)
                    train(config, resume=(folder / "config.json").exists(), progress=progress)
                    _read_held_out(config, progress)
            except Timeout:
                busy.append(config)
        if busy and busy != told and progress:
            print(f"waiting for other processes: {', '.join(Path(config.out).name for config in busy)}", flush=True)
        time.sleep(2 if busy else 0)
        waiting = told = busy


def _is_done(config):
    """Whether the run is finished; raises InputError where it was another one."""
    if not (Path(config.out) / "held_out.csv").exists():
        return False
    stored = load_description(config.out)[0]
    if changed := [name for name, value in asdict(config).items() if name not in ("data", "out") and getattr(stored, name) != value]:
        raise InputError(f"{config.out}: was run with another {changed[0]} ({getattr(stored, changed[0])}); "
                         "choose another out for the experiment, or delete this run")
    return True


def _held_out(config):
    """What the held-out patients of a finished run gave."""
    folder = Path(config.out)
    details = json.loads((folder / "held_out.json").read_text(encoding="utf-8"))
    return Found(_read_rows(folder / "held_out.csv"), details["slices"], {name: np.array(table) for name, table in details["reliability"].items()})


def _read_held_out(config, progress):
    """Measure the held-out patients of a trained run; write held_out.csv, last, and held_out.json with what does not fit a table."""
    run = load_run(config.out)
    classes = list(run.facts.labels.values())
    rows, slices, tables = [], [], dict.fromkeys(classes, 0)
    for case, scan, probabilities in segmented(run, progress=progress):
        rows += [{"case": case.name, "patient": case.patient} | row for row in measure_scan(run, scan, probabilities)]
        slices += measure_slices(probabilities.argmax(1), scan.label, classes)
        for name, table in zip(classes, reliability_of_classes(probabilities, scan.label)):
            tables[name] = tables[name] + table
    _write_json(run.folder / "held_out.json", {"slices": slices, "reliability": {name: table.tolist() for name, table in tables.items()}})
    write_rows(rows, run.folder / "held_out.csv")


def _score(network, rows, folder):
    """One line of the table of networks: parameters, means over subjects and seeds, spread of the seeds."""
    seeds = sorted({row["seed"] for row in rows})
    by_seed = [mean_dice([row for row in rows if row["seed"] == seed]) for seed in seeds]
    lines = {line["class"]: line for line in summarise(rows)}
    single = [line for name, line in lines.items() if name not in UNIONS]
    return {
        "network": network, "parameters": sum(p.numel() for p in load_run(folder).network.parameters()), "seeds": len(seeds),
        "mean dice": float(np.mean(by_seed)), "sd of seeds": float(np.std(by_seed, ddof=1)) if len(seeds) > 1 else float("nan"),
        **{f"dice {name}": line["dice"] for name, line in lines.items()},
        **{metric: float(np.nanmean([line[metric] for line in single])) for metric in single[0]
           if metric.startswith("dice_") or metric.endswith("_mm") or metric == "ece"}}


def _draw(out, found, differences, reference):
    from csam_lite.plots import plot_differences, plot_reliability, plot_stack, save_figure

    metrics = [metric for metric in dict.fromkeys(row["metric"] for row in differences) if metric.startswith("dice")]
    if metrics:
        save_figure(plot_differences(differences, reference, metrics), out / "differences.png")
    save_figure(plot_stack({network: own.slices for network, own in found.items()}), out / "stack.png")
    save_figure(plot_reliability({network: own.reliability for network, own in found.items()}), out / "reliability.png")


def _machine():
    """Where an experiment was started: a table without its machine cannot be repeated."""
    import platform
    from datetime import date

    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads, {platform.machine()}"
    return {"torch": torch.__version__, "machine": device, "date": date.today().isoformat()}


def _facts(plan, digest, path, progress):
    """Data, versions, machine and costs of an experiment: found at its first start, later read again; its data must be the same."""
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if facts.get("data", digest) != digest:
        raise InputError(f"{path.parent}: was started on other data (md5 {facts['data']}); choose another out for the experiment")
    if not facts:
        facts = {"csam_lite": __version__, "data": digest, "costs": {}} | _machine()
    if set(plan["networks"]) - set(facts["costs"]):  # at the first start, or when a network was added
        facts["costs"] = costs(plan, progress)
    if plan["hours"] and "epochs" not in facts:
        facts["epochs"] = affordable_epochs(plan, facts["costs"])
    _write_json(path, facts)
    return facts


def _write_json(path, content):
    with whole_file(path) as part:
        part.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _read_rows(path):
    with open(path, newline="") as file:
        return [{key: value if key in ("case", "patient", "class") else float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _write_csv(path, rows):
    with whole_file(path) as part, open(part, "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else ["network"])
        table.writeheader()
        table.writerows(rows)
