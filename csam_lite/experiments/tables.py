"""The result tables of experiments/README.md, written from the stored results.

A table is an entry of results/tables.toml. It names a CSV file in results/scores/ and, where there is one,
the CSV file of paired differences that `compare` left. A stored figure is printed with the digits it is
stored with, a difference with three decimals.
"""

import csv
import tomllib
from pathlib import Path

from csam_lite.common.files import whole_file
from csam_lite.common.tables import Row, markdown, read_csv
from csam_lite.experiments.compare import RESULTS

README = RESULTS.parent / "README.md"
HEAD = """# Results

What was measured, on which machine, and by which command. This page is written from the files in
[results/](results/) by `python -m csam_lite tables --out csam_lite/experiments/README.md`. Dice is the mean
over held-out subjects, never pooled over voxels. All networks of a comparison had the same data, steps and
augmentation, unless its setting says otherwise. Differences are paired by patient. In brackets stands a 95 %
interval, and each table says over what. Over patients and trainings, the interval and p are those of
Student's t, because the luck of a training is a part of the variance; over patients alone, the interval is a
bootstrap, and p is from Wilcoxon's signed-rank test. Every p is after Holm's correction for the comparisons
of its column; intervals are not corrected. "Code bd77ba8c" is a hash of the package's source files, and "data
ac3a1bb1" one of the scans; `compare` writes both above its tables. Tables without them are older, or need no
training.

The public heart and prostate scans are not part of this repository. Convolutions that two networks of
a comparison share start alike: otherwise the luck of the initial weights, see the SD (standard deviation) of
seeds, would pass for an effect. A 3D network shares none.
"""


def write_tables(path: str | Path) -> Path:
    """Write the page of all results to `path` and return it. Raises InputError where it cannot be written."""
    with whole_file(path) as part:
        part.write_text(page(), encoding="utf-8")
    return Path(path)


def page() -> str:
    """The text of experiments/README.md."""
    plan = tomllib.loads((RESULTS / "tables.toml").read_text(encoding="utf-8"))
    return HEAD + "".join(section(table) for table in plan["table"])


def section(table: Row) -> str:
    """One table with its title, command, setting and what it shows."""
    stored = _stored(table["scores"])
    names = [row.pop("differences", table.get("differences")) for row in stored]
    rows = [_with_differences(row, name, table.get("metrics", ())) for row, name in zip(stored, names)]
    about = f"`{table['command']}`\n\nSetting: {table['setting']}. Made: {table['made']}."
    over = {_over_what(name) for name in names if name}
    if over:
        about += f" Intervals: {' or '.join(sorted(over))}."
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in table["text"].strip().split("\n\n"))
    shown = markdown(rows, list(rows[-1]))
    return f"\n## {table['title']}\n\n{about}\n\n{shown}\n" + (f"\n{text}\n" if text else "")


def with_interval(row: Row) -> str:
    """A row of `paired_differences` as text, for example "+0.044 [+0.021, +0.076]"; mm with one decimal."""
    digits = 1 if row["metric"].endswith("_mm") else 3
    low, middle, high = (f"{row[name]:+.{digits}f}" for name in ("low", "difference", "high"))
    return f"{middle} [{low}, {high}]"


def _stored(name: str) -> list[dict]:
    """The rows of a CSV file of scores, as text: figures keep the digits they were stored with."""
    with open(RESULTS / "scores" / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _over_what(name: str) -> str:
    """What the intervals of a CSV file of differences are taken over."""
    over_trainings = "trainings" in read_csv(RESULTS / f"{name}.csv")[0]
    return "over patients and trainings" if over_trainings else "over patients alone"


def _p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"


def _with_differences(row: dict, name: str | None, metrics: list[str]) -> dict:
    """A row of scores with the differences of its network from the reference, as far as they were stored."""
    if name is None:
        return row
    differences = {(d["network"], d["metric"]): d for d in read_csv(RESULTS / f"{name}.csv")}
    for metric in metrics:
        difference = differences.get((row.get("network", "CSAM"), metric))
        row[f"{metric.replace('_', ' ')} minus reference"] = with_interval(difference) if difference else ""
        if metric == metrics[0]:
            row["p"] = _p_value(difference["p"]) if difference else ""
    return row
