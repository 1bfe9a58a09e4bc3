"""What the held-out patients of trained runs gave: measured once, stored in the run's folder, read again."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from csam_lite.common.errors import InputError, first_line
from csam_lite.common.files import whole_file
from csam_lite.common.tables import finite_mean, read_csv, write_csv
from csam_lite.inference.evaluate import measure_scan, segmented
from csam_lite.metrics.calibration import BINS
from csam_lite.metrics.overlap import measure_slices
from csam_lite.training.config import Config
from csam_lite.training.run import load_description, load_run


@dataclass
class HeldOut:
    """Scores of held-out patients: rows of `measure` with "seed" and "fold", rows of `measure_slices`,
    {class: reliability table}."""

    subjects: list[dict] = field(default_factory=list)
    slices: list[dict] = field(default_factory=list)
    reliability: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, run: "HeldOut", seed: int, fold: int) -> None:
        """Add what one more run gave, which was trained with this seed and held out this fold."""
        self.subjects += [row | {"seed": seed, "fold": fold} for row in run.subjects]
        self.slices += run.slices
        for name, table in run.reliability.items():
            self.reliability[name] = self.reliability.get(name, 0) + table


def is_done(config: Config, folder: str | Path | None = None) -> bool:
    """Whether the run in `folder` (config.out if not given) is finished. Raises InputError where it has other
    options than `config`."""
    folder = Path(folder or config.out)
    if not (folder / "held_out.csv").exists():
        return False
    stored = load_description(folder)[0]
    changed = [name for name, value in asdict(config).items()
               if name not in ("data", "out") and getattr(stored, name) != value]
    if changed:
        raise InputError(f"{folder}: was run with another {changed[0]} ({getattr(stored, changed[0])}); "
                         "choose another out for the experiment, or delete this run")
    return True


def measure_held_out(folder: str | Path, progress: bool = True) -> None:
    """Measure the held-out patients of the trained run in `folder`.

    Writes held_out.json, with what does not fit a table, and then held_out.csv, which marks the run as
    finished. Raises InputError as `segmented` does.
    """
    run = load_run(folder)
    classes = list(run.facts.labels.values())
    rows, slices, tables = [], [], dict.fromkeys(classes, 0)
    for case, scan, probabilities in segmented(run, progress=progress):
        measured, reliability = measure_scan(run, scan, probabilities)
        rows += [{"case": case.name, "patient": case.patient} | row for row in measured]
        slices += measure_slices(probabilities.argmax(1), scan.label, classes)
        for name, table in zip(classes, reliability):
            tables[name] = tables[name] + table
    write_json(run.folder / "held_out.json",
               {"slices": slices, "reliability": {name: table.tolist() for name, table in tables.items()}})
    write_csv(run.folder / "held_out.csv", rows, decimals=4)


def read_held_out(folder: str | Path) -> HeldOut:
    """What the held-out patients of a finished run gave. Raises InputError where the files are damaged."""
    folder = Path(folder)
    try:
        details = json.loads((folder / "held_out.json").read_text(encoding="utf-8"))
        reliability = {name: np.array(table, float) for name, table in details["reliability"].items()}
        for row in details["slices"]:
            if [*row] != ["class", "position", "dice"] or not isinstance(row["class"], str):
                raise ValueError(f"a slice holds {str(row)[:40]}")
            float(row["position"]), float(row["dice"])
        if any(table.shape != (BINS, 3) for table in reliability.values()):
            raise ValueError("a reliability table has another shape")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / 'held_out.json'}: is damaged ({first_line(error)}); delete held_out.csv "
                         "beside it, and the run is measured again") from error
    subjects = read_csv(folder / "held_out.csv")
    if not subjects or not {"case", "patient", "class", "dice"} <= set(subjects[0]):
        raise InputError(f"{folder / 'held_out.csv'}: holds no scores; delete it, and the run is measured "
                         "again")
    return HeldOut(subjects, details["slices"], reliability)


def patient_rows(scores: dict[str, HeldOut]) -> list[dict]:
    """One row for each network, seed, fold, patient and class, mean over the patient's volumes, with four
    decimals.

    These rows are small enough to ship, and the differences of a comparison are computed from them, so that
    everybody can compute them again.
    """
    table = []
    for network, held_out in scores.items():
        volumes = {}
        for row in held_out.subjects:
            volumes.setdefault((row["seed"], row["fold"], row["patient"], row["class"]), []).append(row)
        for (seed, fold, patient, label), rows in sorted(volumes.items()):
            metrics = [
                name for name in rows[0] if name.startswith("dice") or name.endswith("_mm") or name == "ece"
            ]
            table.append({"network": network, "seed": seed, "fold": fold, "patient": patient, "class": label}
                         | {name: round(finite_mean(row[name] for row in rows), 4) for name in metrics})
    return table


def write_json(path: Path, content: object) -> None:
    """Write `content` as JSON, the whole file or nothing."""
    with whole_file(path) as part:
        part.write_text(json.dumps(content) + "\n", encoding="utf-8")
