"""Train several networks under one budget and compare them patient by patient: an experiment from one small
file.

The file, called a plan, is described in plan.py. Every run is a folder `out/NETWORK-seedS-foldF` as `train`
leaves it, with the scores of its held-out patients in held_out.csv. Finished runs are kept and interrupted
ones go on, so that an experiment can be done in several sittings. The tables are written when all runs are
done.

On one machine, the same command started several times shares the runs: one process for each GPU
(CUDA_VISIBLE_DEVICES) or CPU core (OMP_NUM_THREADS). On several machines, `compare_part` does a part of the
runs and `collect` joins the parts (parts.py).
"""

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from csam_lite.common.errors import InputError, first_line
from csam_lite.common.files import make_folder, whole_file
from csam_lite.common.tables import finite_mean, markdown, read_csv, write_csv
from csam_lite.experiments.held_out import HeldOut, is_done, measure_held_out, patient_rows, read_held_out
from csam_lite.experiments.plan import configs, data_digest, read_plan
from csam_lite.experiments.record import Record, headline, keep_record
from csam_lite.metrics.overlap import UNIONS, mean_dice, summarise
from csam_lite.metrics.statistics import differences_over_trainings
from csam_lite.training.config import Config
from csam_lite.training.run import load_run

RESULTS = Path(__file__).parent / "results"
Tables = tuple[list[dict], list[dict]]


def compare(path: str | Path, data: str | None = None, out: str | None = None, hours: float | None = None,
            progress: bool = True) -> Tables:
    """Do, or finish, the experiment described in the TOML file `path`, or in the shipped plan of that name.

    data, out, hours: in place of the plan's. Returns the tables of `write_tables`. Raises InputError for a
    file that does not describe an experiment, for data that has changed since its first run, and at the end,
    where runs failed.
    """
    plan = read_plan(path, data, out, hours)
    digest, folder = data_digest(plan["data"]), make_folder(plan["out"])
    with _locked(folder / ".lock"):  # the first process measures, others wait and read
        record = keep_record(plan, digest, folder / "experiment.json", progress=progress)
    if plan["hours"]:
        plan["options"]["epochs"] = record["epochs"]
    _run_all([config for _, _, config in configs(plan)], progress)
    return write_tables(plan, record)


def write_tables(plan: dict, record: Record) -> Tables:
    """The tables of an experiment whose runs are all done: (scores, differences).

    scores: a row for each network. differences: rows for each network other than the reference, see
    `differences_over_trainings`. Written to the plan's `out`: compare.md, scores.csv, differences.csv;
    patients.csv, the rows of each patient behind the differences; and the pictures differences.png, stack.png
    (Dice along the stack), reliability.png.
    """
    out, held_out, folders = Path(plan["out"]), {}, {}
    for network, seed, config in configs(plan):
        folders[network] = Path(config.out)
        held_out.setdefault(network, HeldOut()).add(read_held_out(config.out), seed, config.fold)
    scores = [_score(network, scores.subjects, folders[network]) | record["costs"].get(network, {})
              for network, scores in held_out.items()]
    patients = patient_rows(held_out)
    differences = differences_of_patients(patients, plan["reference"])
    texts = [headline(record), markdown(scores), *([markdown(differences)] if differences else [])]
    with whole_file(out / "compare.md") as part:
        part.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    for name, table in (("scores", scores), ("differences", differences), ("patients", patients)):
        write_csv(out / f"{name}.csv", table)
    _draw(out, held_out, differences, plan["reference"])
    return scores, differences


def differences_of_patients(patients: list[dict] | str | Path, reference: str) -> list[dict]:
    """The table of differences, computed from the rows of patients.csv, or from that file."""
    if not isinstance(patients, list):
        patients = read_csv(patients)
    networks = dict.fromkeys(row["network"] for row in patients)
    if reference not in networks:
        raise InputError(
            f"reference {reference!r} is none of the networks {', '.join(networks)}; choose one of them"
        )
    rows = {network: [row for row in patients if row["network"] == network] for network in networks}
    return differences_over_trainings(rows, reference)


def over_all_classes(differences: list[dict]) -> list[dict]:
    """The rows of differences whose metric is a mean over the classes."""
    return [row for row in differences if " " not in row["metric"]]


def shipped_patients(name: str) -> list[dict]:
    """The rows of patients.csv of a comparison whose rows ship with the package, for example "phantom_v2".

    There is one row for each network, seed, fold, patient and class.

    `differences_of_patients` computes the stored differences from them. Raises InputError for a name that has
    none.
    """
    return read_csv(_stored_file(RESULTS / "patients", name))


def shipped_differences(name: str) -> list[dict]:
    """The rows of differences that `python -m csam_lite compare NAME` left for the page of results: hours of
    computing, stored.

    "control", "control_v2" and "control_long" are the plans on the control phantoms. Raises
    InputError for a name that has none.
    """
    return [row | {"patients": int(row["patients"])} for row in read_csv(_stored_file(RESULTS, name))]


def _stored_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.csv"
    if not path.is_file():
        names = ", ".join(sorted(path.stem for path in folder.glob("*.csv")))
        raise InputError(f"{name}: no such result ships; choose from {names}")
    return path


def do_run(config: Config, progress: bool = True) -> str:
    """Train, or go on training, the run that `config` describes, and measure its held-out patients.

    Returns why it failed, "" where it did not: an error, for example of a training that diverges, must not
    stop the other runs of an experiment.
    """
    from csam_lite.training.trainer import train

    try:
        train(config, resume=(Path(config.out) / "config.json").exists(), progress=progress)
        measure_held_out(config.out, progress)
    except Exception as error:
        if not isinstance(error, InputError):  # nobody foresaw it
            traceback.print_exc()
        if progress:
            print(f"{Path(config.out).name} failed; going on with the other runs", flush=True)
        return first_line(error)
    return ""


def check_failures(failed: dict[str, str], count: int) -> None:
    """Raises InputError where some of `count` runs failed. failed: {name of the run: why}."""
    if failed:
        reasons = ", ".join(f"{name} ({reason})" for name, reason in failed.items())
        raise InputError(
            f"{len(failed)} of {count} runs failed: {reasons}; the same command starts them again where they "
            "stopped; to begin a run anew, delete its folder"
        )


@contextmanager
def _locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file during the block. Raises Timeout where another process holds it for longer than
    `timeout` seconds (-1: wait), and InputError where it cannot be written.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout)
    except Timeout:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def _run_all(planned: list[Config], progress: bool) -> None:
    """Do every run that no other process has done or is doing; return when all are done.

    Raises InputError where runs failed, after all others.
    """
    waiting, announced, failed = list(planned), None, {}
    while waiting:
        busy = []
        for config in waiting:
            folder = Path(config.out)
            try:
                with _locked(folder.with_name(f".{folder.name}.lock"), timeout=0):
                    if is_done(config):
                        continue
                    if progress:
                        print(f"[{planned.index(config) + 1}/{len(planned)}] {folder.name}", flush=True)
                    if reason := do_run(config, progress):
                        failed[folder.name] = reason
            except Timeout:
                busy.append(config)
        if busy and busy != announced and progress:
            print(
                f"waiting for other processes: {', '.join(Path(config.out).name for config in busy)}",
                flush=True,
            )
        time.sleep(2 if busy else 0)
        waiting = announced = busy
    check_failures(failed, len(planned))


def _score(network: str, rows: list[dict], folder: Path) -> dict:
    """One line of the table of networks: parameters, means over subjects and seeds, spread of the seeds."""
    seeds = sorted({row["seed"] for row in rows})
    by_seed = [mean_dice([row for row in rows if row["seed"] == seed]) for seed in seeds]
    lines = {line["class"]: line for line in summarise(rows)}
    single = [line for name, line in lines.items() if name not in UNIONS]
    shown = [
        metric
        for metric in single[0]
        if metric.startswith("dice_") or metric.endswith("_mm") or metric == "ece"
    ]
    parameters = sum(p.numel() for p in load_run(folder).network.parameters())
    return {
        "network": network,
        "parameters": parameters,
        "seeds": len(seeds),
        "mean dice": float(np.mean(by_seed)),
        "sd of seeds": float(np.std(by_seed, ddof=1)) if len(seeds) > 1 else float("nan"),
        **{f"dice {name}": line["dice"] for name, line in lines.items()},
        **{metric: finite_mean(line[metric] for line in single) for metric in shown},
    }


def _draw(out: Path, held_out: dict[str, HeldOut], differences: list[dict], reference: str) -> None:
    from csam_lite.common.figures import save_figure
    from csam_lite.experiments.figures import plot_differences, plot_reliability, plot_stack

    metrics = [metric for metric in dict.fromkeys(row["metric"] for row in over_all_classes(differences))
               if metric.startswith("dice")]
    if metrics:
        save_figure(plot_differences(differences, reference, metrics), out / "differences.png")
    save_figure(
        plot_stack({network: scores.slices for network, scores in held_out.items()}), out / "stack.png"
    )
    reliability = {network: scores.reliability for network, scores in held_out.items()}
    save_figure(plot_reliability(reliability), out / "reliability.png")
