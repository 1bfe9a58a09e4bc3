"""Train several networks under one budget on one split and compare them patient by patient: an experiment from one small file.

The file is TOML:

    data = "phantoms"          # folder of scans
    out = "runs/gates"         # folder for all runs and tables
    seeds = [0, 1, 2]          # initial weights, order, augmentation; the held-out patients stay the same
    folds = [0]                # with options.folds: which folds are run; leave out for one split
    reference = "plain"        # the network that the others are compared with

    [options]                  # options of `train`, the same for all networks: the equal budget
    pixels = 96
    epochs = 20

    [networks.plain]           # what is special about each network
    attention = "none"

    [networks.CSAM]

Every run is a folder `out/NETWORK-seedS-foldF` as `train` leaves it, with the scores of its held-out patients in held_out.csv. Finished runs
are kept, interrupted ones go on, so an experiment can be done in several sittings. The held-out patients are read once, at its end.
"""

import csv
import hashlib
import json
import tomllib
from collections import defaultdict
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from csam_lite import __version__
from csam_lite.dataset import find_dataset
from csam_lite.errors import InputError
from csam_lite.evaluate import UNIONS, evaluate, mean_dice, summarise, write_rows
from csam_lite.files import whole_file
from csam_lite.run import Config, load_description, load_run
from csam_lite.table import markdown


def compare(path, progress=True):
    """Do, or finish, the experiment described in the TOML file `path`.

    Returns (scores, differences): rows for each network, and rows for each network against the reference. Both are also written to
    compare.md, scores.csv and differences.csv in its folder. Raises InputError for a file that does not describe an experiment, for
    data that has changed since its first run, and as `train` and `evaluate` do.
    """
    plan = read_plan(path)
    out, digest = Path(plan["out"]), data_digest(plan["data"])
    _keep(out / "experiment.json", {"csam_lite": __version__, "data": digest})
    rows = defaultdict(list)  # network -> rows of `evaluate`, with the seed
    runs = {}
    for network, seed, config in configs(plan):
        folder = Path(config.out)
        if progress:
            print(f"{folder.name}", flush=True)
        runs[network] = folder
        rows[network] += [row | {"seed": seed} for row in _one(config, progress)]
    scores = [_score(network, rows[network], runs[network]) for network in rows]
    differences = against(rows, plan["reference"])
    with whole_file(out / "compare.md") as part:
        part.write_text(f"{markdown(scores)}\n\n{markdown(differences) if differences else ''}\n", encoding="utf-8")
    for name, table in (("scores", scores), ("differences", differences)):
        _write_csv(out / f"{name}.csv", table)
    return scores, differences


def read_plan(path):
    """The experiment in a TOML file, checked, with its defaults filled in. Raises InputError."""
    path = Path(path)
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `python -m csam_lite compare --help` shows what it holds") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not TOML ({error}); mend that line") from error
    needed = {"data", "out", "networks"}
    if lacking := needed - set(plan):
        raise InputError(f"{path}: lacks {', '.join(sorted(lacking))}; add it")
    if unknown := set(plan) - needed - {"seeds", "folds", "reference", "options"}:
        raise InputError(f"{path}: has unknown entries {', '.join(sorted(unknown))}; options of `train` belong under [options]")
    plan = {"seeds": [0], "folds": [0], "reference": next(iter(plan["networks"])), "options": {}} | plan
    if plan["reference"] not in plan["networks"]:
        raise InputError(f"{path}: reference {plan['reference']!r} is none of the networks {', '.join(plan['networks'])}; correct it")
    known = {one.name for one in fields(Config)} - {"data", "out", "seed", "fold"}
    for where, options in {"options": plan["options"], **{f"networks.{name}": own for name, own in plan["networks"].items()}}.items():
        if unknown := set(options) - known:
            raise InputError(f"{path}: [{where}] has unknown options {', '.join(sorted(unknown))}; `python -m csam_lite train --help` lists them")
    return plan


def configs(plan):
    """(network, seed, Config) of every run. Seeds are outermost: an experiment cut short has whole comparisons of the first seeds."""
    for seed in plan["seeds"]:
        for fold in plan["folds"]:
            for network, own in plan["networks"].items():
                out = Path(plan["out"]) / f"{network.replace(' ', '_').replace('/', '_')}-seed{seed}-fold{fold}"
                yield network, seed, Config(**{"data": plan["data"], "out": str(out), "seed": seed, "fold": fold} | plan["options"] | own)


def against(rows, reference, draws=10_000):
    """Rows network, metric, difference (network minus reference), its bootstrap 95 % interval, and p (Wilcoxon, Holm's correction).

    rows: {network: rows of `evaluate` with "seed"}. Each patient counts once: their volumes, classes and seeds are averaged first. The
    interval resamples patients; the test is the paired signed-rank test over patients, corrected over all rows of one metric.
    """
    from scipy.stats import wilcoxon

    found = []
    for metric in [name for name in rows[reference][0] if name.startswith("dice") or name.endswith("_mm")]:
        base, family = per_patient(rows[reference], metric), []
        for network in rows:
            if network == reference:
                continue
            own = per_patient(rows[network], metric)
            shared = sorted(patient for patient in base.keys() & own.keys() if np.isfinite(base[patient] + own[patient]))
            d = np.array([own[patient] - base[patient] for patient in shared])
            if not len(d):
                continue
            means = d[np.random.default_rng(0).integers(len(d), size=(draws, len(d)))].mean(1)
            low, high = np.quantile(means, (0.025, 0.975))
            p = float(wilcoxon(d).pvalue) if d.any() else 1.0
            family.append({"network": network, "against": reference, "metric": metric, "patients": len(d), "difference": float(d.mean()),
                           "low": float(low), "high": float(high), "p": p})
        for row, p in zip(family, holm([row["p"] for row in family])):
            found.append(row | {"p": p})
    return found


def holm(p_values):
    """p-values corrected for their number by Holm's step-down procedure (Holm 1979), in the order given."""
    order, corrected, highest = np.argsort(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def per_patient(rows, metric):
    """{patient: mean of a metric over classes (not their union), volumes and seeds}; NaN values are left out, all NaN gives NaN."""
    values = defaultdict(list)
    for row in rows:
        if row["class"] not in UNIONS:
            values[row["patient"]].append(row[metric])
    return {patient: float(np.nanmean(own)) if np.isfinite(own).any() else float("nan") for patient, own in values.items()}


def data_digest(folder):
    """A hash (md5) over names and contents of all files that a data set lists: tells whether two experiments saw the same data."""
    dataset, digest = find_dataset(folder, labelled=True), hashlib.md5(usedforsecurity=False)
    for case in dataset.cases:
        for file in (case.image, case.label):
            digest.update(f"{file.name}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _one(config, progress):
    """The test rows of one run, trained first where it is not finished."""
    from csam_lite.training import train

    path = Path(config.out) / "held_out.csv"
    if path.exists():
        stored = load_description(config.out)[0]
        if changed := [name for name, value in asdict(config).items() if name not in ("data", "out") and getattr(stored, name) != value]:
            raise InputError(f"{config.out}: was run with another {changed[0]} ({getattr(stored, changed[0])}); "
                             "choose another out for the experiment, or delete this run")
        return _read_rows(path)
    train(config, resume=(Path(config.out) / "config.json").exists(), progress=progress)
    rows = evaluate(load_run(config.out), progress=progress)
    write_rows(rows, path)
    return _read_rows(path)


def _score(network, rows, folder):
    """One line of the table of networks: parameters, seconds an epoch, means over subjects and seeds, spread of the seeds."""
    run = load_run(folder)
    seeds = sorted({row["seed"] for row in rows})
    by_seed = [mean_dice([row for row in rows if row["seed"] == seed]) for seed in seeds]
    with open(Path(folder) / "history.csv", newline="") as file:
        history = list(csv.DictReader(file))
    lines = {line["class"]: line for line in summarise(rows)}
    single = [line for name, line in lines.items() if name not in UNIONS]
    return {
        "network": network, "parameters": sum(p.numel() for p in run.network.parameters()),
        "seconds/epoch": float(history[-1]["seconds"]) / len(history), "seeds": len(seeds),
        "mean dice": float(np.mean(by_seed)), "sd of seeds": float(np.std(by_seed, ddof=1)) if len(seeds) > 1 else float("nan"),
        **{f"dice {name}": line["dice"] for name, line in lines.items()},
        **{metric: float(np.nanmean([line[metric] for line in single])) for metric in single[0]
           if metric.startswith("dice_") or metric.endswith("_mm")}}


def _keep(path, facts):
    """Write the facts of an experiment at its first start; later they must be the same."""
    if path.exists() and (stored := json.loads(path.read_text(encoding="utf-8"))).get("data") != facts["data"]:
        raise InputError(f"{path.parent}: was started on other data (md5 {stored.get('data')}); choose another out for the experiment")
    if not path.exists():
        with whole_file(path) as part:
            part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _read_rows(path):
    with open(path, newline="") as file:
        return [{key: value if key in ("case", "patient", "class") else float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _write_csv(path, rows):
    with whole_file(path) as part, open(part, "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else ["network"])
        table.writeheader()
        table.writerows(rows)
