"""What deserves a line about the cases of a data set: each kind of remark once, with its cases."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LISTED = 12  # names in a line
_NUMBER = re.compile(r"\d[\d.e+-]*")


class Remarks:
    """Remarks on cases, gathered by kind: remarks that differ in their numbers only are of one kind."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[str, list[str]]] = {}  # {kind: (its first remark, names of the cases)}

    def add(self, case: str, remark: str) -> None:
        """Keep a remark, a whole sentence, on the case of this name."""
        self._kinds.setdefault(_NUMBER.sub("#", remark), (remark, []))[1].append(case)

    def lines(self, listed: int | None = LISTED) -> list[str]:
        """A line for each kind, the most frequent first: the number of cases, their names, and the remark.

        listed: how many names are given; None for all. The remark of the first case stands for the others.
        """
        kinds = sorted(self._kinds.values(), key=lambda kind: -len(kind[1]))
        return [f"{len(names)} {'case' if len(names) == 1 else 'cases'} ({some(names, listed)}): {remark}"
                for remark, names in kinds]

    def tell(self, root: Path) -> None:
        """Write the lines to standard error, with the folder of the data set."""
        for line in self.lines():
            print(f"{root}: {line}", file=sys.stderr)


def some(names: list[str], listed: int | None = LISTED) -> str:
    """The first names, and how many more there are."""
    shown = names[:listed]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(shown) < len(names) else "")
