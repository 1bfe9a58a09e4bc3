"""From cases on disk to batches of volumes: read once, kept in memory, augmented anew each epoch."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from csam_lite.common.errors import InputError
from csam_lite.common.progress import progress_bar
from csam_lite.data.dataset import Case, Dataset, split
from csam_lite.data.grid import Grid
from csam_lite.data.nifti import stem_of
from csam_lite.data.remarks import Remarks
from csam_lite.data.scan import Scan
from csam_lite.training.config import Config
from csam_lite.training.facts import OF_SCANS, Facts, geometry_of
from csam_lite.training.run import chosen_dataset

SHARED_MEMORY = Path("/dev/shm")
LEAST_HELD = 0.9  # of a mask: where the network's grid holds less, a line says so
LONGEST_WAIT = 600  # seconds for one batch, after which a worker counts as dead


@dataclass
class Sample:
    """A case on the network's grid: image (S, C, P, P) float32, label (S, P, P) uint8."""

    name: str
    image: torch.Tensor
    label: torch.Tensor


@dataclass
class TrainingData:
    """All that a training reads: samples to train and to validate on, the frequency of each class (K,), and
    the Facts.
    """

    samples: list[Sample]
    val_samples: list[Sample]
    frequencies: torch.Tensor
    facts: Facts
    batches: GlobalBatches

    def loader(self, config: Config, pin_memory: bool = False) -> torch.utils.data.DataLoader:
        """Batches (image, label, mask) of the training samples, as `collate` makes them.

        Raises InputError where the shared memory is too small for the batches of `config.workers` processes.
        """
        if config.workers:
            self._check_shared_memory(config)
        volumes = Volumes(self.samples, self.facts.num_slices, config.seed, config.augment)
        return torch.utils.data.DataLoader(
            volumes,
            batch_sampler=self.batches,
            collate_fn=collate,
            num_workers=config.workers,
            pin_memory=pin_memory,
            timeout=LONGEST_WAIT if config.workers else 0,
        )

    def _check_shared_memory(self, config: Config) -> None:
        """Workers hand over their batches in /dev/shm, and wait there for ever where it is too small."""
        if not SHARED_MEMORY.is_dir():
            return
        voxels = config.batch_size * self.facts.num_slices * config.pixels**2
        # two batches a worker, each with image and label
        needed = 2 * config.workers * voxels * (4 * len(self.facts.channels) + 1)
        free = shutil.disk_usage(SHARED_MEMORY).free
        if free < needed:
            raise InputError(
                f"--workers {config.workers}: need {needed / 1e6:.0f} MB of shared memory, {SHARED_MEMORY} "
                f"has {free / 1e6:.0f} free; use --workers 0, or a larger one (docker run --shm-size)"
            )


def read_training_data(
    config: Config, process: int = 0, processes: int = 1, progress: bool = True, least_slices: int = 1
) -> TrainingData:
    """Read, split and resample the scans in `config.data`. Raises InputError for data that cannot be used.

    least_slices: of the network, where `config.num_slices` leaves their number to the deepest volume.
    """
    dataset = chosen_dataset(config)
    split_cases = split(dataset.cases, config.split_seed, config.test, config.val, config.folds, config.fold)
    parts = dict(zip(("train", "val", "test"), split_cases))
    remarks = Remarks()
    scans = {part: read_scans(dataset, parts[part], config.one_zone, progress, config.empty, remarks)
             for part in ("train", "val")}
    if not scans["train"]:
        raise InputError(f"{config.data}: every training case is left out; "
                         "choose --one-zone keep or remap, or --empty keep")
    if not any(scan.label.any() for scan in scans["train"]):
        raise InputError(f"{config.data}: the masks of all training cases are empty, so that nothing can be "
                         "learnt; add cases with foreground, or choose another --split-seed")
    num_classes = len(dataset.labels) + 1
    if config.spacing:
        grid = Grid(config.pixels, config.spacing, num_classes)
    else:
        grid = Grid.fit(scans["train"], config.pixels, num_classes)
    geometry = geometry_of([*scans["train"], *scans["val"]])
    digest = digest_of([*scans["train"], *scans["val"]])  # before resampling, which depends on the threads
    samples, val_samples = (prepare(scans[part], grid, remarks) for part in ("train", "val"))
    counts = sum(torch.bincount(sample.label.flatten(), minlength=num_classes) for sample in samples)
    lost = [name for name, count in zip(dataset.classes, counts[1:]) if not count]
    if len(lost) == len(dataset.classes):
        raise InputError(f"{config.data}: no mask of a training case has a pixel on the network's grid of "
                         f"{grid}; give another --spacing, or 0, which fits the masks")
    if process == 0:
        remarks.tell(dataset.root)
        if lost:
            print(f"{dataset.root}: no training case holds {' or '.join(lost)} on the network's grid, so "
                  "that the network does not learn it", file=sys.stderr)
    facts = Facts(
        channels=list(dataset.channels),
        labels=dataset.labels,
        spacing=grid.spacing,
        num_slices=config.num_slices or max(least_slices, *(len(sample.image) for sample in samples)),
        split={part: [case.name for case in cases] for part, cases in parts.items()},
        digest=digest,
        **geometry,
    )
    batches = GlobalBatches(len(samples), config.batch_size, config.seed, process, processes)
    return TrainingData(samples, val_samples, counts / counts.sum(), facts, batches)


def digest_of(scans: list[Scan]) -> str:
    """A hash over the names, voxels and masks of scans: it tells two data sets of the same names apart.

    It is the same on every machine. That of a resampled image would not be: torch rounds it in another way
    with another number of threads.
    """
    digest = hashlib.blake2b(digest_size=8)
    for scan in scans:
        digest.update(os.fsencode(scan.path.name))
        for voxels in (scan.image, scan.label):
            digest.update(np.ascontiguousarray(voxels).data)
    return f"{OF_SCANS}{digest.hexdigest()}"


def read_scans(
    dataset: Dataset, cases: tuple[Case, ...], one_zone: str = "error", progress: bool = True,
    empty: str = "error", remarks: Remarks | None = None,
) -> list[Scan]:
    """Read labelled cases, each once; dropped ones are left out. Raises InputError as `Dataset.read` does."""
    with progress_bar(cases, desc="reading", unit="volume", disable=not progress, leave=False) as bar:
        return [scan for case in bar if (scan := dataset.read(case, one_zone, empty, remarks)) is not None]


def prepare(scans: list[Scan], grid: Grid, remarks: Remarks | None = None) -> list[Sample]:
    """The samples of labelled scans, on the network's grid. remarks: gathers the masks that it does not hold.

    The list of scans is emptied on the way, so that memory holds one copy.
    """
    remarks, samples = Remarks() if remarks is None else remarks, []
    while scans:
        scan = scans.pop(0)
        samples.append(Sample(scan.path.name, grid.image(scan), grid.label(scan)))
        area = (scan.label > 0).sum() * scan.spacing[1] * scan.spacing[2]  # mm2, of all slices
        held = (samples[-1].label > 0).sum().item() * grid.spacing**2
        if held < LEAST_HELD * area:
            remarks.add(stem_of(scan.path),
                        f"Of its mask {held / area:.0%} stands on the network's grid of {grid}.")
    return samples


class Volumes(torch.utils.data.Dataset):
    """Samples addressed by (epoch, index); the augmentation depends on (seed, epoch, index) alone.

    So it does not matter which process or worker asks, and a resumed run sees what the uninterrupted one
    would have seen. Volumes deeper than `num_slices` are cut to a random run of that many slices.
    """

    def __init__(self, samples: list[Sample], num_slices: int, seed: int, augment: bool = True) -> None:
        self.samples, self.num_slices, self.seed = samples, num_slices, seed
        self.augment = _augmentation() if augment else None

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, index = key
        sample, rng = self.samples[index], np.random.default_rng([self.seed, epoch, index])
        S, C = sample.image.shape[:2]
        start = rng.integers(max(S - self.num_slices, 0) + 1)
        image, label = (a[start : start + self.num_slices] for a in (sample.image, sample.label))
        if self.augment is None:
            return image, label
        self.augment.set_random_state(int(rng.integers(2**31)))
        # 2D transforms of a (channels, P, P) array: with slices as channels, one movement moves the whole
        # stack.
        moved = self.augment({"image": image.flatten(0, 1), "label": label})
        return moved["image"].as_tensor().unflatten(0, (-1, C)), moved["label"].as_tensor().byte()


class GlobalBatches(torch.utils.data.Sampler):
    """Batches of (epoch, index) for one process, such that all processes together see the batches that one
    alone would see.

    Each epoch is a new order of all volumes, topped up from its own start to whole batches. Set `.epoch`
    before iterating.
    """

    def __init__(self, count: int, batch_size: int, seed: int, process: int = 0, processes: int = 1) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.process, self.processes = process, processes
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        order = np.resize(order, len(self) * self.batch_size).reshape(-1, self.batch_size)
        for batch in order:
            yield [(self.epoch, int(index)) for index in batch[self.process :: self.processes]]


def collate(
    items: list[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[(image (S, C, P, P), label (S, P, P))] -> image (B, S, C, P, P), label (B, S, P, P), mask (B, S) bool;
    padded at the end.
    """
    depth = max(len(image) for image, _ in items)
    image, label = (
        torch.stack([torch.cat([a, a.new_zeros(depth - len(a), *a.shape[1:])]) for a in arrays])
        for arrays in zip(*items)
    )
    mask = torch.tensor([[s < len(image) for s in range(depth)] for image, _ in items])
    return image, label, mask


def _augmentation() -> Callable:
    """In-plane rotation, scale and shift; contrast, brightness and noise. One draw a volume."""
    from monai import transforms as t

    return t.Compose(
        [
            t.RandAffined(
                ["image", "label"],
                prob=0.8,
                rotate_range=0.26,
                scale_range=[0.15, 0.15],
                translate_range=[8, 8],
                mode=["bilinear", "nearest"],
                padding_mode="border",
            ),
            t.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
            t.RandScaleIntensityd("image", factors=0.2, prob=0.5),
            t.RandShiftIntensityd("image", offsets=0.2, prob=0.5),
            t.RandGaussianNoised("image", prob=0.3, std=0.1),
        ]
    )
