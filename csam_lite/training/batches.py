"""From cases on disk to batches of volumes: read once, kept in memory, augmented anew each epoch."""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm.auto import tqdm


@dataclass
class Sample:
    """A case on the network's grid: image (S, C, P, P) float32, label (S, P, P) uint8."""

    name: str
    image: torch.Tensor
    label: torch.Tensor


def read_scans(dataset, cases, one_zone="error", progress=True):
    """Read labelled cases, each once; dropped ones are left out. Raises InputError as `Dataset.read` does."""
    with tqdm(cases, desc="reading", unit="volume", disable=not progress, leave=False) as bar:
        return [scan for case in bar if (scan := dataset.read(case, one_zone)) is not None]


def prepare(scans, grid):
    """The samples of labelled scans, on the network's grid. The list of scans is emptied on the way: one copy in memory is enough."""
    samples = []
    while scans:
        scan = scans.pop(0)
        samples.append(Sample(scan.path.name, grid.image(scan), grid.label(scan)))
    return samples


class Volumes(torch.utils.data.Dataset):
    """Samples addressed by (epoch, index); the augmentation depends on (seed, epoch, index) alone.

    So it does not matter which process or worker asks, and a resumed run sees what the uninterrupted one would have seen.
    Volumes deeper than `num_slices` are cut to a random run of that many slices.
    """

    def __init__(self, samples, num_slices, seed, augment=True):
        self.samples, self.num_slices, self.seed = samples, num_slices, seed
        self.augment = _augmentation() if augment else None

    def __getitem__(self, key):
        epoch, index = key
        sample, rng = self.samples[index], np.random.default_rng([self.seed, epoch, index])
        S, C = sample.image.shape[:2]
        start = rng.integers(max(S - self.num_slices, 0) + 1)
        image, label = (a[start:start + self.num_slices] for a in (sample.image, sample.label))
        if self.augment is None:
            return image, label
        self.augment.set_random_state(int(rng.integers(2**31)))
        # 2D transforms of a (channels, P, P) array: with slices as channels, one movement moves the whole stack.
        moved = self.augment({"image": image.flatten(0, 1), "label": label})
        return moved["image"].as_tensor().unflatten(0, (-1, C)), moved["label"].as_tensor().byte()


class GlobalBatches(torch.utils.data.Sampler):
    """Batches of (epoch, index) for one process, such that all processes together see the batches that one alone would see.

    Each epoch is a new order of all volumes, topped up from its own start to whole batches. Set `.epoch` before iterating.
    """

    def __init__(self, count, batch_size, seed, process=0, processes=1):
        self.count, self.batch_size, self.seed, self.process, self.processes = count, batch_size, seed, process, processes
        self.epoch = 0

    def __len__(self):
        return -(-self.count // self.batch_size)

    def __iter__(self):
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        order = np.resize(order, len(self) * self.batch_size).reshape(-1, self.batch_size)
        for batch in order:
            yield [(self.epoch, int(index)) for index in batch[self.process::self.processes]]


def collate(items):
    """[(image (S, C, P, P), label (S, P, P))] -> image (B, S, C, P, P), label (B, S, P, P), mask (B, S) bool; padded at the end."""
    depth = max(len(image) for image, _ in items)
    image, label = (torch.stack([torch.cat([a, a.new_zeros(depth - len(a), *a.shape[1:])]) for a in arrays]) for arrays in zip(*items))
    mask = torch.tensor([[s < len(image) for s in range(depth)] for image, _ in items])
    return image, label, mask


def _augmentation():
    """In-plane rotation, scale and shift; contrast, brightness and noise. One draw a volume."""
    from monai import transforms as t

    return t.Compose([
        t.RandAffined(["image", "label"], prob=0.8, rotate_range=0.26, scale_range=[0.15, 0.15], translate_range=[8, 8],
                      mode=["bilinear", "nearest"], padding_mode="border"),
        t.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        t.RandScaleIntensityd("image", factors=0.2, prob=0.5),
        t.RandShiftIntensityd("image", offsets=0.2, prob=0.5),
        t.RandGaussianNoised("image", prob=0.3, std=0.1),
    ])
