"""What the data decided about a run, as Config is what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from csam_lite.data.scan import PLANES, Scan
from csam_lite.training.config import BOUNDS

OF_SCANS = "scans "  # how a digest begins that does not depend on the machine
FAR = 1.5  # how many times coarser or finer than all training scans a scan may be without a remark


@dataclass
class Facts:
    """Channels and labels {value: name}, depth, spacing of the grid (mm), and who is in which split."""

    channels: list[str]
    labels: dict[int, str]
    num_slices: int
    spacing: float
    split: dict[str, list[str]]  # {"train": [case names], "val": [...], "test": [...]}
    digest: str = ""  # of the voxels and masks that were read; older runs have none, or one without OF_SCANS
    # Of the scans; empty in runs of older versions.
    planes: list[str] = field(default_factory=list)           # "axial", "coronal", "sagittal"
    through_plane: list[float] = field(default_factory=list)  # [least, most] spacing, mm
    in_plane: list[float] = field(default_factory=list)
    start: dict[str, str] = field(default_factory=dict)  # from which weights it started, see transfer.py

    def check(self) -> None:
        """Raises ValueError where a value has a type or a size that no data could give."""
        texts = [*self.channels, *self.labels.values(), self.digest]
        texts += [name for part in ("train", "val", "test") for name in self.split[part]]
        if not self.channels or not self.labels or not all(isinstance(text, str) for text in texts):
            raise ValueError("channels, labels, split: not the names of some")
        if not all(isinstance(text, str) for pair in self.start.items() for text in pair):
            raise ValueError("start: not texts")
        if any(type(names) is not list for names in (self.channels, *self.split.values())):
            raise ValueError("channels, split: not lists of names")
        if not all(0 < value < 256 for value in self.labels):
            raise ValueError("labels: a value does not lie between 1 and 255")
        if type(self.num_slices) is not int or not 0 < self.num_slices <= BOUNDS["num_slices"][1]:
            raise ValueError(f"num_slices: {self.num_slices!r}")
        if type(self.spacing) not in (int, float) or not 0 < self.spacing <= BOUNDS["spacing"][1]:
            raise ValueError(f"spacing: {self.spacing!r}")
        if type(self.planes) is not list or not {*self.planes} <= {*PLANES.values()}:
            raise ValueError(f"planes: {self.planes!r}")
        for name in ("through_plane", "in_plane"):
            if not _is_range(getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)!r}")

    @property
    def num_classes(self) -> int:
        """With background."""
        return len(self.labels) + 1

    def remarks_on(self, scan: Scan) -> list[str]:
        """Where the geometry of a scan lies far from that of the training scans, whole sentences."""
        remarks = []
        if self.planes and scan.plane not in self.planes:
            remarks.append(f"Its slices are {scan.plane}; the network was trained on "
                           f"{' and '.join(self.planes)} slices, so do not trust the mask.")
        for name, values, trained in (("through-plane", scan.spacing[:1], self.through_plane),
                                      ("in-plane", scan.spacing[1:], self.in_plane)):
            if trained and not all(trained[0] / FAR <= mm <= trained[1] * FAR for mm in values):
                remarks.append(f"Its {name} spacing is {_range(values)} mm, that of the training scans "
                               f"{_range(trained)} mm; the mask may be poor.")
        return remarks


def geometry_of(scans: Sequence[Scan]) -> dict[str, list]:
    """The planes, through_plane and in_plane of Facts for the scans of a training."""
    return {
        "planes": sorted({scan.plane for scan in scans}),
        "through_plane": _least_and_most(scan.spacing[0] for scan in scans),
        "in_plane": _least_and_most(mm for scan in scans for mm in scan.spacing[1:]),
    }


def _least_and_most(values: Iterable[float]) -> list[float]:
    values = list(values)
    return [round(min(values), 4), round(max(values), 4)]


def _is_range(values: object) -> bool:
    """Whether this is [], or [least, most] of some lengths."""
    return type(values) is list and (not values or len(values) == 2 and all(
        type(mm) in (int, float) and 0 < mm <= BOUNDS["spacing"][1] for mm in values))


def _range(values: Sequence[float]) -> str:
    least, most = f"{min(values):.3g}", f"{max(values):.3g}"
    return least if least == most else f"{least} to {most}"
