"""What the data decided about a run, as Config is what was asked for."""

from dataclasses import dataclass

from csam_lite.training.config import BOUNDS


@dataclass
class Facts:
    """Channels and labels {value: name}, depth, spacing of the grid (mm), and who is in which split."""

    channels: list[str]
    labels: dict[int, str]
    num_slices: int
    spacing: float
    split: dict[str, list[str]]  # {"train": [case names], "val": [...], "test": [...]}
    digest: str = ""  # of the voxels and masks that were read; runs of older versions have none

    def check(self) -> None:
        """Raises ValueError where a value has a type or a size that no data could give."""
        texts = [*self.channels, *self.labels.values(), self.digest]
        texts += [name for part in ("train", "val", "test") for name in self.split[part]]
        if not self.channels or not self.labels or not all(isinstance(text, str) for text in texts):
            raise ValueError("channels, labels, split: not the names of some")
        if any(type(names) is not list for names in (self.channels, *self.split.values())):
            raise ValueError("channels, split: not lists of names")
        if not all(0 < value < 256 for value in self.labels):
            raise ValueError("labels: a value does not lie between 1 and 255")
        if type(self.num_slices) is not int or not 0 < self.num_slices <= BOUNDS["num_slices"][1]:
            raise ValueError(f"num_slices: {self.num_slices!r}")
        if type(self.spacing) not in (int, float) or not 0 < self.spacing <= BOUNDS["spacing"][1]:
            raise ValueError(f"spacing: {self.spacing!r}")

    @property
    def num_classes(self) -> int:
        """With background."""
        return len(self.labels) + 1
