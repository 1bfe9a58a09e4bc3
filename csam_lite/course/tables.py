"""Tables of the notebooks: a notebook shows them as HTML, which moves sideways in its own frame on a phone,
and a terminal as text.

    course.show_table([{"network": "CSAM", "Dice": 0.845}])
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any


@dataclass
class Table:
    """Rows of text with a line of headers. right: the columns of numbers, which stand at the right."""

    headers: tuple[str, ...]
    rows: list[tuple[str, ...]]
    right: set[int] = field(default_factory=set)

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.headers, *self.rows)]

        def line(cells: tuple[str, ...]) -> str:
            return "  ".join(cell.rjust(width) if i in self.right else cell.ljust(width)
                             for i, (cell, width) in enumerate(zip(cells, widths))).rstrip()
        return "\n".join(map(line, [self.headers, *self.rows]))

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            sides = ("right" if i in self.right else "left" for i in range(len(cells)))
            return "<tr>" + "".join(f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>'
                                    for side, cell in zip(sides, cells)) + "</tr>"
        body = line(self.headers, "th") + "".join(line(row, "td") for row in self.rows)
        return f'<div style="overflow-x:auto"><table>{body}</table></div>'


def show_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = (), digits: int = 3) -> Table:
    """The rows as a table: fractions with `digits` behind the point, whole numbers with commas, NaN as "-".

    columns: chooses and orders them; without it they are those of the first row.
    """
    columns = list(columns or rows[0])
    values = [[row.get(column, "") for column in columns] for row in rows]
    right = {i for i, column in enumerate(zip(*values))
             if not any(isinstance(value, str) for value in column)}
    return Table(tuple(columns), [tuple(_text(value, digits) for value in row) for row in values], right)


def _text(value: str | float, digits: int) -> str:
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "-"
    return f"{value:,}" if isinstance(value, Integral) else f"{value:.{digits}f}"
