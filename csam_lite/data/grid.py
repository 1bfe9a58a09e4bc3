"""From a scan to the network's input and back: all resampling, cropping and intensity choices stand here.

In-plane only: slices keep their thickness and number. An in-plane grid of `pixels` x `pixels` at `spacing` mm
is centred on the image; intensities, of whatever unit, are clipped to their 0.5 and 99.5 percentiles and
brought to mean 0 and standard deviation 1, channel by channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from csam_lite.common.errors import InputError
from csam_lite.data.scan import Scan

FAR = 64  # times the network's field: no scan is as wide


@dataclass(frozen=True)
class Grid:
    """The network's grid: `pixels` x `pixels` of `spacing` mm; `num_classes` with background."""

    pixels: int
    spacing: float
    num_classes: int

    def __str__(self) -> str:
        return f"{self.pixels} x {self.pixels} pixels of {self.spacing:.4g} mm"

    @classmethod
    def fit(cls, labelled_scans: Iterable[Scan], pixels: int, num_classes: int) -> Grid:
        """Choose the spacing: the median in-plane spacing, or coarser where the masks would not fit.

        The grid must hold the masks of 95 % of the scans with a tenth to spare; a few far-off ones may be
        cut.
        """
        spacings, reach = zip(
            *((np.sqrt(scan.spacing[1] * scan.spacing[2]), _reach(scan)) for scan in labelled_scans)
        )
        reach = [far for far in reach if far] or [0.0]  # without those of empty masks
        spacing = max(np.median(spacings), 2 * 1.1 * np.quantile(reach, 0.95) / pixels)
        return cls(pixels, round(float(spacing), 4), num_classes)

    def image(self, scan: Scan) -> torch.Tensor:
        """The image of `scan` on the network's grid, normalised: float32 (S, C, pixels, pixels)."""
        image = torch.from_numpy(scan.image)
        if image.shape[2:] != (size := self.size_of(scan)):
            image = F.interpolate(image, size, mode="bilinear", antialias=True)
        image = F.pad(image, self.margins(size), value=torch.nan)  # negative margins crop
        inside = ~image[0, 0].isnan()
        for channel in image.unbind(1):  # (S, pixels, pixels), a view
            seen = channel[:, inside]
            low, high = np.percentile(seen.numpy(), (0.5, 99.5))
            if low == high:  # what there is to see stands on less than 1 % of the voxels: nothing is clipped
                low, high = seen.min(), seen.max()
            channel.nan_to_num_(nan=float(low)).clamp_(float(low), float(high))
            seen = seen.clamp(float(low), float(high))
            channel.sub_(seen.mean()).div_(seen.std() if high > low else 1)
        return image

    def label(self, scan: Scan) -> torch.Tensor:
        """The mask of `scan` on the network's grid: uint8 (S, pixels, pixels)."""
        label = torch.from_numpy(scan.label)
        if label.shape[1:] != (size := self.size_of(scan)):
            one_hot = F.one_hot(label.long(), self.num_classes).permute(0, 3, 1, 2).float()
            label = F.interpolate(one_hot, size, mode="bilinear", antialias=True).argmax(1).byte()
        return F.pad(label, self.margins(size))

    def restore(self, values: torch.Tensor, scan: Scan, outside: float = 0.0) -> torch.Tensor:
        """values (S, K, pixels, pixels) float on the network's grid -> (S, K, H, W) on the scan's, `outside`
        where the grid ends."""
        size = self.size_of(scan)
        values = F.pad(values, [-margin for margin in self.margins(size)], value=outside)
        return (
            values
            if size == scan.image.shape[2:]
            else F.interpolate(values, scan.image.shape[2:], mode="bilinear")
        )

    def size_of(self, scan: Scan) -> tuple[int, int]:
        """(H, W) of the whole image at the network's spacing.

        Raises InputError where that is so many that the spacing must be wrong.
        """
        H, W = (max(1, round(n * mm / self.spacing)) for n, mm in zip(scan.image.shape[2:], scan.spacing[1:]))
        if max(H, W) > FAR * self.pixels:
            raise InputError(
                f"{scan.path}: its pixels of {scan.spacing[1]:.4g} x {scan.spacing[2]:.4g} mm would make "
                f"{H} x {W} of the network's {self.spacing:.4g} mm; correct the voxel size in its header, or "
                "give a scan that is more like those of the training"
            )
        return H, W

    def margins(self, size: tuple[int, int]) -> list[int]:
        """What F.pad adds (or, negative, cuts) to centre the image in the grid: left, right, top, bottom."""
        (top, left) = ((self.pixels - n) // 2 for n in size)
        return [left, self.pixels - size[1] - left, top, self.pixels - size[0] - top]


def _reach(scan: Scan) -> float:
    """How far the mask reaches from the image's centre, in mm, along rows or columns."""
    reach = 0.0
    for axis in (1, 2):
        along = np.flatnonzero(scan.label.any(axis=tuple({0, 1, 2} - {axis})))
        if len(along):
            reach = max(reach, np.abs(along - (scan.label.shape[axis] - 1) / 2).max() * scan.spacing[axis])
    return reach
