"""Labels and classes: the values that a mask file holds, and the numbers 0..K-1 with which a network counts
its outputs."""

from collections.abc import Mapping

import numpy as np

# What may be done with a prostate mask that holds one of its two zones only.
ONE_ZONE = ("error", "drop", "remap", "keep")
EMPTY = ("error", "drop", "keep")  # what may be done with a case whose mask holds no foreground
_ZONES = (
    {"pz", "peripheral zone", "peripheral"},
    {"tz", "transition zone", "transitional zone", "cg", "central gland"},
)


def to_classes(mask: np.ndarray, labels: Mapping[int, str]) -> np.ndarray:
    """A mask of label values, uint8 -> the same of classes 0..K-1. labels: {value: name} without background,
    in the order of classes."""
    classes = np.zeros(256, np.uint8)
    classes[list(labels)] = np.arange(1, len(labels) + 1)
    return classes[mask]


def to_values(mask: np.ndarray, labels: Mapping[int, str]) -> np.ndarray:
    """A mask of classes 0..K-1 -> the same in label values, uint8: the inverse of `to_classes`."""
    return np.array([0, *labels], np.uint8)[mask]


def zones(labels: Mapping[int, str]) -> tuple[int, int] | None:
    """(value of PZ, value of TZ) in {value: name}, or None where the names are not those of the two prostate
    zones."""
    matching = [[value for value, name in labels.items() if name.lower() in names] for names in _ZONES]
    return tuple(values[0] for values in matching) if all(matching) else None
