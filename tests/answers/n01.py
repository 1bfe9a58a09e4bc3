"""Answers to the exercises of 01_anisotropic_mri: wrong ones that its checks must reject, and unlike right ones that they must accept."""

import nibabel
import numpy as np
import torch
from torch.nn import functional


def without_others(x, s):
    alone = torch.zeros_like(x)
    alone[:, s] = x[:, s]
    return alone


def by_loop(network, x, s):
    other = x.clone()
    for t in range(x.shape[1]):
        if t != s:
            other[:, t] = 0
    return max(abs(float(d)) for d in (network(x) - network(other))[:, s].flatten())


def in_place(network, x, s):
    before = network(x.clone())[:, s]
    for t in range(x.shape[1]):
        x[:, t] *= t == s
    return (before - network(x)[:, s]).abs().max()


def only_the_next(network, x, s):
    other = x.clone()
    other[:, (s + 1) % x.shape[1]] = 0
    return (network(x) - network(other))[:, s].abs().max()


def silence_s(network, x, s):
    other = x.clone()
    other[:, s] = 0
    return (network(x) - network(other))[:, s].abs().max()


def mean_loop(fine, factor):
    return np.stack([sum(fine[start + i] for i in range(factor)) / factor for start in range(0, len(fine) - factor + 1, factor)])


WRONG = {
    "spacing": {
        "the diagonal": lambda affine: np.diag(affine)[:3],
        "the diagonal without sign": lambda affine: np.abs(np.diag(affine)[:3]),
        "lengths of the rows": lambda affine: np.linalg.norm(affine[:3, :3], axis=1),
        "rows with the offset": lambda affine: np.linalg.norm(affine[:3], axis=1),
        "all four columns": lambda affine: np.linalg.norm(affine, axis=0),
        "sum of the sizes in a column": lambda affine: np.abs(affine[:3, :3]).sum(0),
        "squared": lambda affine: (affine[:3, :3] ** 2).sum(0),
    },
    "slice_axis": {
        "the shortest": lambda shape, mm: int(np.argmin(shape)),
        "always the last": lambda shape, mm: 2,
        "always the first": lambda shape, mm: 0,
        "the finest": lambda shape, mm: int(np.argmin(mm)),
        "the longest in mm": lambda shape, mm: int(np.argmax(np.multiply(shape, mm))),
        "the spacing, not the axis": lambda shape, mm: max(mm),
        "a text": lambda shape, mm: "z",
    },
    "thick_slices": {
        "planes left out": lambda fine, factor: fine[::factor][:len(fine) // factor],
        "the sum": lambda fine, factor: mean_loop(fine, factor) * factor,
        "the maximum": lambda fine, factor: fine[:len(fine) // factor * factor].reshape(-1, factor, *fine.shape[1:]).max(1),
        "planes from far apart": lambda fine, factor: fine[:len(fine) // factor * factor].reshape(factor, -1, *fine.shape[1:]).mean(0),
        "all axes coarser": lambda fine, factor: functional.avg_pool3d(torch.from_numpy(fine)[None], factor)[0],
        "columns coarser": lambda fine, factor: fine[:, :, :fine.shape[2] // factor * factor].reshape(*fine.shape[:2], -1, factor).mean(3),
        "an incomplete slice kept": lambda fine, factor: np.stack([fine[i:i + factor].mean(0) for i in range(0, len(fine), factor)]),
        "a running mean": lambda fine, factor: np.stack([fine[i:i + factor].mean(0) for i in range(len(fine) - factor + 1)]),
    },
    "influence": {
        "the whole answer": lambda network, x, s: (network(x) - network(without_others(x, s))).abs().max(),
        "slice s set to zero": silence_s,
        "one neighbour only": only_the_next,
        "the mean change": lambda network, x, s: (network(x) - network(without_others(x, s)))[:, s].abs().mean(),
        "without abs": lambda network, x, s: (network(x) - network(without_others(x, s)))[:, s].max(),
        "the first volume only": lambda network, x, s: (network(x) - network(without_others(x, s)))[0, s].abs().max(),
        "in place": in_place,
        "always 0": lambda network, x, s: 0.0,
        "a tensor of changes": lambda network, x, s: (network(x) - network(without_others(x, s)))[:, s].abs(),
    },
}
RIGHT = {
    "spacing": {
        "norm of the columns": lambda affine: np.linalg.norm(affine[:3, :3], axis=0),
        "nibabel": nibabel.affines.voxel_sizes,
        "steps": lambda affine: [float(np.sqrt(((affine @ e - affine @ [0, 0, 0, 1]) ** 2).sum()))
                                 for e in ([1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1])],
    },
    "slice_axis": {
        "argmax": lambda shape, mm: int(np.argmax(mm)),
        "max with a key": lambda shape, mm: max(range(3), key=lambda axis: mm[axis]),
        "a tensor": lambda shape, mm: torch.tensor(mm).argmax(),
    },
    "thick_slices": {
        "reshape": lambda fine, factor: fine[:len(fine) // factor * factor].reshape(-1, factor, *fine.shape[1:]).mean(1),
        "avg_pool3d": lambda fine, factor: functional.avg_pool3d(torch.from_numpy(fine).double()[None], (factor, 1, 1))[0],
        "a loop": mean_loop,
    },
    "influence": {
        "zeros": lambda network, x, s: (network(x) - network(without_others(x, s)))[:, s].abs().max(),
        "a loop": by_loop,
        "a mask": lambda network, x, s: float(
            (network(x) - network(x * (torch.arange(x.shape[1]) == s)[:, None, None, None]))[:, s].abs().amax()),
    },
}
