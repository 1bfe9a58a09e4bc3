"""Tables: Markdown for people, CSV files for programs, and means that leave out what is missing."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from csam_lite.common.errors import InputError, first_line
from csam_lite.common.files import whole_file

Row = Mapping[str, Any]
TEXT_COLUMNS = ("case", "patient", "class", "network", "against", "reference", "metric")


def markdown(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """rows as a Markdown table, numbers with three decimals and to the right. `columns` chooses and orders
    the columns."""
    columns = list(columns or rows[0])
    texts = [[_text(row.get(column, "")) for column in columns] for row in rows]
    right = [any(isinstance(row.get(column), (int, float)) for row in rows) for column in columns]
    widths = [max(3, len(column), *(len(line[i]) for line in texts)) for i, column in enumerate(columns)]

    def line(cells: Sequence[str]) -> str:
        return (
            "| "
            + " | ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, widths, right))
            + " |"
        )

    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right)) + "|"
    return "\n".join([line(columns), rule, *map(line, texts)])


def check_csv_name(path: str | Path | None) -> None:
    """Raises InputError where a name given for a table would replace a file of another kind, such as a scan,
    or the history of a training, and for a folder. None is no name.
    """
    if not path:
        return
    if Path(path).is_dir():
        raise InputError(f"--csv {path}: is a folder; give the name of a file")
    if Path(path).suffix.lower() != ".csv" or Path(path).name == "history.csv":
        raise InputError(f"--csv {path}: is a table; let the name end in .csv, and not be history.csv, which "
                         "is of the training")


def write_csv(path: str | Path, rows: Sequence[Row], decimals: int | None = None) -> None:
    """Write rows as CSV, the whole file or nothing. `decimals` rounds floats; without it they are written in
    full.

    Raises InputError where the file cannot be written.
    """
    # a file name may hold bytes that are no letters; they stay what they are
    with (
        whole_file(path) as part,
        open(part, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.DictWriter(file, list(rows[0]) if rows else ["network"])
        table.writeheader()
        table.writerows(
            {
                key: f"{value:.{decimals}f}" if decimals is not None and isinstance(value, float) else value
                for key, value in row.items()
            }
            for row in rows
        )


def read_csv(path: str | Path, text: Iterable[str] = TEXT_COLUMNS) -> list[dict]:
    """The rows of a CSV file. The columns named in `text` hold text, all others numbers (float).

    Raises InputError for a file that is missing or holds something else.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        return [
            {key: str(value) if key in text and value is not None else float(value)
             for key, value in row.items()}
            for row in rows
        ]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path}: is no table of numbers, or damaged ({first_line(error)}); copy it again"
        ) from error


def finite_mean(values: Iterable[float]) -> float:
    """Mean of the values that are finite; NaN if there are none (numpy's nanmean would warn)."""
    finite = [value for value in values if math.isfinite(value)]
    return float(sum(finite) / len(finite)) if finite else math.nan


def _text(value: object) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3f}"
    return str(value).replace("|", "/")
