"""From a trained network to a mask on the scan's own grid."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from csam_lite.common.errors import InputError
from csam_lite.core.windows import drawn_gates, probabilities, spread
from csam_lite.data.dataset import find_dataset
from csam_lite.data.labels import to_classes, to_values
from csam_lite.data.scan import Scan, read_scan, write_like
from csam_lite.training.run import Run


def predict(
    run: Run,
    image_path: str | Path,
    mask_path: str | Path,
    uncertainty_path: str | Path | None = None,
    draws: int = 20,
    channels: str = "",
) -> np.ndarray:
    """Segment a scan and write its mask as NIfTI, in the label values of the training data, on the scan's own
    grid.

    With `uncertainty_path`, also write the map of `disagreement`. channels: as in `read_for`. Returns the
    mask (S, H, W) uint8. Raises InputError as `read_for`, `write_like` and `disagreement` do; nothing is
    written then.
    """
    for path in filter(None, (mask_path, uncertainty_path)):
        if not str(path).lower().endswith((".nii", ".nii.gz")):
            raise InputError(f"{path}: masks and maps are written as NIfTI; let the name end in .nii.gz")
    paths = [Path(path).expanduser().resolve() for path in (image_path, mask_path, uncertainty_path) if path]
    if len(set(paths)) < len(paths):
        raise InputError(f"{mask_path}: the scan, the mask and the map need a name each; give another one")
    if draws < 1:
        raise InputError(f"--draws {draws}: must be 1 or more")
    scan = read_for(run, image_path, channels=channels)
    for remark in (*scan.remarks, *run.facts.remarks_on(scan)):
        print(f"{image_path}: {remark}", file=sys.stderr)
    mask = segment(run, scan)
    for remark in edge_remarks(run, scan, mask):
        print(f"{image_path}: {remark}", file=sys.stderr)
    arrays = {mask_path: to_values(mask, run.facts.labels)}
    if uncertainty_path:
        arrays[uncertainty_path] = disagreement(run, scan, draws)
    write_like(scan, arrays)
    return arrays[mask_path]


def edge_remarks(run: Run, scan: Scan, mask: np.ndarray) -> list[str]:
    """A whole sentence where a mask (S, H, W) ends where the network's grid ends, and the image goes on."""
    from scipy.ndimage import binary_dilation

    P = run.grid.pixels
    outside = run.grid.restore(torch.ones(1, 1, P, P), scan)[0, 0].numpy() < 0.5
    if not (mask.any(0) & binary_dilation(outside)).any():
        return []
    return [f"Its mask reaches the edge of what the network reads, {P * run.grid.spacing:.3g} mm in the "
            "middle of each slice, and may be cut there; give a scan with the organ in its middle."]


def segment(run: Run, scan: Scan) -> np.ndarray:
    """Mask (S, H, W) uint8 of classes 0..K-1 on the scan's own grid: the most probable class.

    Raises InputError as `class_probabilities` does.
    """
    return class_probabilities(run, scan).argmax(1).astype(np.uint8)


def class_probabilities(run: Run, scan: Scan) -> np.ndarray:
    """Probabilities (S, K, H, W) float32 on the scan's own grid.

    Raises InputError where the scan's channels are not the network's, or where the network answers with NaN.
    """
    answer = probabilities(run.network, network_input(run, scan))
    if not bool(answer.isfinite().all()):
        raise InputError(
            f"{scan.path}: the network of {run.folder} answers with NaN; "
            "train it again with a lower --learning-rate"
        )
    return restore(run, scan, answer).numpy()


def disagreement(run: Run, scan: Scan, draws: int = 20) -> np.ndarray:
    """How much repeated draws of the slice gate disagree, (S, H, W) float32 in [0, 0.5]; 0 where all draws
    agree.

    It is the standard deviation over `draws` of the probabilities of a class, of the class where it is
    largest. Raises InputError for a network without a drawn gate.
    """
    if not drawn_gates(run.network):
        raise InputError(
            f"{run.folder}: has no drawn slice gate, so draws cannot disagree; "
            "train one with --uncertain for a map"
        )
    values = spread(run.network, network_input(run, scan), draws)
    return restore(run, scan, values, background=0.0).amax(1).numpy()


def read_for(
    run: Run, image_path: str | Path, label_path: str | Path | None = None, channels: str = ""
) -> Scan:
    """Read a scan, and its mask as classes 0..K-1 if one is given, with the channels that the network takes.

    channels: names joined by +. Without them the file must hold the network's channels and no others. With
    them the network takes those that it was trained on, by their names, or otherwise the named ones in this
    order. The file's channels have the names of the dataset.json beside its folder. If there is none,
    `channels` must name all of them in the order of the file. Raises InputError as `read_scan` does, and for
    names that do not fit.
    """
    scan = read_scan(image_path, label_path, run.facts.labels)
    if scan.label is not None:
        scan.label = to_classes(scan.label, run.facts.labels)
    if not channels:
        return scan
    names, count = channels.split("+"), scan.image.shape[1]
    stored = _stored_names(Path(image_path).expanduser(), count) or names
    if len(stored) != count or len(set(names)) < len(names):
        raise InputError(
            f"--channels {channels}: {image_path} has {count} channel(s) without names; "
            "name each of them once, in their order"
        )
    if unknown := [name for name in names if name not in stored]:
        raise InputError(
            f"--channels: {image_path} has no channel {', '.join(unknown)}; it has {', '.join(stored)}"
        )
    trained = run.facts.channels
    wanted = trained if set(trained) <= set(names) else names
    return replace(scan, image=np.ascontiguousarray(scan.image[:, [stored.index(name) for name in wanted]]))


def network_input(run: Run, scan: Scan) -> torch.Tensor:
    """The scan on the network's grid, (S, C, P, P) float32. Raises InputError for other channels."""
    count, trained = scan.image.shape[1], run.facts.channels
    if count != len(trained):
        raise InputError(
            f"{scan.path}: has {count} channel(s), the network was trained on {len(trained)} "
            f"({', '.join(trained)}); give the same channels in the same order, "
            "or their names with --channels"
        )
    return run.grid.image(scan)


def restore(run: Run, scan: Scan, values: torch.Tensor, background: float = 1.0) -> torch.Tensor:
    """values (S, K, P, P) on the network's grid -> (S, K, H, W) on the scan's own.

    Outside of the network's grid class 0 has the value `background`, and the others 0. A pixel that lies half
    outside has the values of the grid's edge, so that probabilities add up to 1 there, too.
    """
    inside = run.grid.restore(torch.ones(1, 1, *values.shape[2:]), scan)[0, 0]  # the share of a pixel
    restored = run.grid.restore(values, scan) / inside.clamp(min=0.5)
    restored[:, :, inside < 0.5] = 0
    restored[:, 0, inside < 0.5] = background
    return restored


def _stored_names(image_path: Path, count: int) -> list[str]:
    """The names of a file's `count` channels in the dataset.json beside its folder; [] without one."""
    root = image_path.resolve().parent.parent
    if (root / "dataset.json").is_file():
        with suppress(InputError):  # of another program, or damaged: the names must be given
            names = list(find_dataset(root).channels)
            return names if len(names) == count else []
    return []
