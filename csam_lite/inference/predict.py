"""From a trained network to a mask on the scan's own grid."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from csam_lite.common.errors import InputError
from csam_lite.core.windows import drawn_gates, probabilities, spread
from csam_lite.data.labels import to_values
from csam_lite.data.scan import read_scan, write_like

if TYPE_CHECKING:
    from csam_lite.data.scan import Scan
    from csam_lite.training.run import Run


def class_probabilities(run: Run, scan: Scan) -> np.ndarray:
    """Probabilities (S, K, H, W) float32 on the scan's own grid. Raises InputError where its channels are not the network's."""
    return restore(run, scan, probabilities(run.network, network_input(run, scan))).numpy()


def segment(run: Run, scan: Scan) -> np.ndarray:
    """Mask (S, H, W) uint8 of classes 0..K-1 on the scan's own grid: the most probable class. Raises InputError as `class_probabilities`."""
    return class_probabilities(run, scan).argmax(1).astype(np.uint8)


def disagreement(run: Run, scan: Scan, draws: int = 20) -> np.ndarray:
    """How much repeated draws of the slice gate disagree: the standard deviation over `draws` of the class probabilities, that of
    the class where it is largest, (S, H, W) float32 in [0, 0.5]. Zero where all draws agree.

    Raises InputError for a network without a drawn gate.
    """
    if not drawn_gates(run.network):
        raise InputError(f"{run.folder}: has no drawn slice gate, so draws cannot disagree; train one with --uncertain for a map")
    return restore(run, scan, spread(run.network, network_input(run, scan), draws), background=0.0).amax(1).numpy()


def predict(run: Run, image_path: str | Path, mask_path: str | Path, uncertainty_path: str | Path | None = None,
            draws: int = 20) -> np.ndarray:
    """Segment a NIfTI scan and write its mask, in the label values of the training data, on the scan's own grid and affine.

    With `uncertainty_path`, also write the map of `disagreement`. Returns the mask (S, H, W). Raises InputError as `read_scan`,
    `write_like` and `disagreement` do; nothing is written then.
    """
    for path in filter(None, (mask_path, uncertainty_path)):
        if not str(path).lower().endswith((".nii", ".nii.gz")):
            raise InputError(f"{path}: masks and maps are written as NIfTI; let the name end in .nii.gz")
    paths = [Path(path).expanduser().resolve() for path in (image_path, mask_path, uncertainty_path) if path]
    if len(set(paths)) < len(paths):
        raise InputError(f"{mask_path}: the scan, the mask and the map need a name each; give another one")
    if draws < 1:
        raise InputError(f"--draws {draws}: must be 1 or more")
    scan = read_scan(image_path)
    for remark in scan.remarks:
        print(f"{image_path}: {remark}", file=sys.stderr)
    mask = to_values(segment(run, scan), run.facts.labels)
    uncertainty = disagreement(run, scan, draws) if uncertainty_path else None
    write_like(scan, {mask_path: mask} | ({uncertainty_path: uncertainty} if uncertainty_path else {}))
    return mask


def network_input(run: Run, scan: Scan) -> torch.Tensor:
    channels, trained = scan.image.shape[1], run.facts.channels
    if channels != len(trained):
        raise InputError(f"{scan.path}: has {channels} channel(s), the network was trained on {len(trained)} ({', '.join(trained)}); "
                         "give the same channels in the same order")
    return run.grid.image(scan)


def restore(run: Run, scan: Scan, values: torch.Tensor, background: float = 1.0) -> torch.Tensor:
    """values (S, K, P, P) on the scan's own grid (S, K, H, W); outside the network's grid all is background."""
    restored = run.grid.restore(values, scan)
    outside = run.grid.restore(torch.ones(1, 1, *values.shape[2:]), scan)[0, 0] < 0.5
    restored[:, 0, outside] = background
    return restored
