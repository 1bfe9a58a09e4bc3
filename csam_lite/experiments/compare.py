"""Train several networks under one budget on one split and compare them patient by patient: an experiment from one small file.

Its file, a plan, is described in plan.py. Every run is a folder `out/NETWORK-seedS-foldF` as `train` leaves it, with the scores of its
held-out patients in held_out.csv. Finished runs are kept, interrupted ones go on, so an experiment can be done in several sittings. The
held-out patients are read once, at its end. The same command started several times shares the runs out, one process for each GPU
(CUDA_VISIBLE_DEVICES) or CPU core (OMP_NUM_THREADS).
"""

import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.common.tables import finite_mean, markdown, read_csv, write_csv
from csam_lite.experiments.plan import affordable_epochs, configs, costs, data_digest, read_plan
from csam_lite.inference.evaluate import measure_scan, segmented
from csam_lite.metrics.overlap import UNIONS, mean_dice, measure_slices, summarise
from csam_lite.metrics.statistics import paired_differences
from csam_lite.training.run import code_version, load_description, load_run

RESULTS = Path(__file__).parent / "results"


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
    found, folders = defaultdict(lambda: HeldOut([], [], {})), {}
    for network, seed, config in todo:
        folders[network] = Path(config.out)
        found[network].add(_held_out(config), seed)
    scores = [_score(network, own.subjects, folders[network]) | facts["costs"][network] for network, own in found.items()]
    differences = paired_differences({network: own.subjects for network, own in found.items()}, plan["reference"])
    about = ", ".join(f"{name} {value}" for name, value in facts.items() if isinstance(value, (str, int)))
    with whole_file(out / "compare.md") as part:
        part.write_text(f"{about}\n\n{markdown(scores)}\n\n{markdown(differences) if differences else ''}\n", encoding="utf-8")
    for name, table in (("scores", scores), ("differences", differences)):
        write_csv(out / f"{name}.csv", table)
    _draw(out, found, differences, plan["reference"])
    return scores, differences


def shipped_differences(name):
    """The rows of differences that `python -m csam_lite compare NAME` left for the README: a comparison of hours, to look at without them.

    "control" and "control_long" are the plans `phantom` and `phantom_long` on the control phantoms. Raises InputError for a name that has none.
    """
    path = RESULTS / f"{name}.csv"
    if not path.is_file():
        raise InputError(f"{name}: no such result ships; choose from {', '.join(sorted(path.stem for path in RESULTS.glob('*.csv')))}")
    return [row | {"patients": int(row["patients"])} for row in read_csv(path)]


@dataclass
class HeldOut:
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


def _run_all(configs, progress):
    """Train and measure every run that no other process has done, or is doing; return when all are done."""
    from csam_lite.training.trainer import train

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
    return HeldOut(read_csv(folder / "held_out.csv"), details["slices"], {name: np.array(table) for name, table in details["reliability"].items()})


def _read_held_out(config, progress):
    """Measure the held-out patients of a trained run; write held_out.csv, last, and held_out.json with what does not fit a table."""
    run = load_run(config.out)
    classes = list(run.facts.labels.values())
    rows, slices, tables = [], [], dict.fromkeys(classes, 0)
    for case, scan, probabilities in segmented(run, progress=progress):
        measured, reliability = measure_scan(run, scan, probabilities)
        rows += [{"case": case.name, "patient": case.patient} | row for row in measured]
        slices += measure_slices(probabilities.argmax(1), scan.label, classes)
        for name, table in zip(classes, reliability):
            tables[name] = tables[name] + table
    _write_json(run.folder / "held_out.json", {"slices": slices, "reliability": {name: table.tolist() for name, table in tables.items()}})
    write_csv(run.folder / "held_out.csv", rows, decimals=4)


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
        **{metric: finite_mean(line[metric] for line in single) for metric in single[0]
           if metric.startswith("dice_") or metric.endswith("_mm") or metric == "ece"}}


def _draw(out, found, differences, reference):
    from csam_lite.common.figures import save_figure
    from csam_lite.experiments.figures import plot_differences, plot_reliability, plot_stack

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
        facts = {"csam_lite": code_version(), "data": digest, "costs": {}} | _machine()
    if set(plan["networks"]) - set(facts["costs"]):  # at the first start, or when a network was added
        facts["costs"] = costs(plan, progress)
    if plan["hours"] and "epochs" not in facts:
        facts["epochs"] = affordable_epochs(plan, facts["costs"])
    _write_json(path, facts)
    return facts


def _write_json(path, content):
    with whole_file(path) as part:
        part.write_text(json.dumps(content) + "\n", encoding="utf-8")
