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
    return np.stack([sum(fine[start + i].astype(float) for i in range(factor)) / factor for start in range(0, len(fine) - factor + 1, factor)])


def adds_to_the_first(fine, factor):
    whole = fine[:len(fine) // factor * factor]
    total = whole[::factor]  # a view of fine
    for i in range(1, factor):
        total += whole[i::factor]
    return total / factor


def both_in_one_batch(network, x, s):
    answer = network(torch.cat([x, without_others(x, s)]))[:, s]
    return (answer[:len(x)] - answer[len(x):]).abs().max()


def odd_one_out(shape, mm):
    """The axis whose spacing no other axis has, the first one where all differ."""
    return next(axis for axis in range(3) if list(mm).count(mm[axis]) == 1)


def whole_numbers(fine, factor):
    """The mean, written into an array that takes its kind of numbers from the file."""
    out = np.zeros_like(fine[:len(fine) // factor])
    for s in range(len(out)):
        out[s] = fine[s * factor:(s + 1) * factor].mean(0)
    return out


def first_channel_silenced(network, x, s):
    other = x.clone()
    other[:, torch.arange(x.shape[1]) != s, 0] = 0
    return (network(x) - network(other))[:, s].abs().max()


WRONG = {
    "spacing": {
        "the diagonal": lambda affine: np.diag(affine)[:3],
        "the diagonal without sign": lambda affine: np.abs(np.diag(affine)[:3]),
        "lengths of the rows": lambda affine: np.linalg.norm(affine[:3, :3], axis=1),
        "rows with the offset": lambda affine: np.linalg.norm(affine[:3], axis=1),
        "all four columns": lambda affine: np.linalg.norm(affine, axis=0),
        "sum of the sizes in a column": lambda affine: np.abs(affine[:3, :3]).sum(0),
        "sorted": lambda affine: np.sort(np.linalg.norm(affine[:3, :3], axis=0)),
        "singular values": lambda affine: np.linalg.svd(affine[:3, :3], compute_uv=False)[::-1],
        "squared": lambda affine: (affine[:3, :3] ** 2).sum(0),
        "distances of the planes": lambda affine: 1 / np.linalg.norm(np.linalg.inv(affine[:3, :3]), axis=1),
        "the two largest numbers of a column": lambda affine: np.sqrt(np.sort(affine[:3, :3] ** 2, axis=0)[1:].sum(0)),
        "texts": lambda affine: [f"{size:.5f}" for size in np.linalg.norm(affine[:3, :3], axis=0)],
        "in place": lambda affine: np.sqrt(np.square(affine, out=affine)[:3, :3].sum(0)),
    },
    "slice_axis": {
        "the shortest": lambda shape, mm: int(np.argmin(shape)),
        "always the last": lambda shape, mm: 2,
        "always the first": lambda shape, mm: 0,
        "the finest": lambda shape, mm: int(np.argmin(mm)),
        "the longest in mm": lambda shape, mm: int(np.argmax(np.multiply(shape, mm))),
        "the odd one out": odd_one_out,
        "the first above 1 mm": lambda shape, mm: next(axis for axis in range(3) if mm[axis] > 1),
        "the farthest from the median": lambda shape, mm: int(np.argmax(np.abs(mm - np.median(mm)))),
        "the largest ratio of spacing and shape": lambda shape, mm: int(np.argmax(np.divide(mm, shape))),
        "counted from the end": lambda shape, mm: int(np.argmax(mm)) - 3,
        "the spacing, not the axis": lambda shape, mm: max(mm),
        "a text": lambda shape, mm: "z",
        "rounded to 0.1 mm": lambda shape, mm: int(np.argmax(np.round(mm, 1))),
        "the axis as a text": lambda shape, mm: str(int(np.argmax(mm))),
    },
    "thick_slices": {
        "planes left out": lambda fine, factor: fine[::factor][:len(fine) // factor],
        "rounded to whole numbers": whole_numbers,
        "the sum": lambda fine, factor: mean_loop(fine, factor) * factor,
        "the maximum": lambda fine, factor: fine[:len(fine) // factor * factor].reshape(-1, factor, *fine.shape[1:]).max(1),
        "planes from far apart": lambda fine, factor: fine[:len(fine) // factor * factor].reshape(factor, -1, *fine.shape[1:]).mean(0),
        "all axes coarser": lambda fine, factor: functional.avg_pool3d(torch.from_numpy(fine)[None], factor)[0],
        "columns coarser": lambda fine, factor: fine[:, :, :fine.shape[2] // factor * factor].reshape(*fine.shape[:2], -1, factor).mean(3),
        "an incomplete slice kept": lambda fine, factor: np.stack([fine[i:i + factor].mean(0) for i in range(0, len(fine), factor)]),
        "a running mean": lambda fine, factor: np.stack([fine[i:i + factor].mean(0) for i in range(len(fine) - factor + 1)]),
        "added up in 16 bits": lambda fine, factor: np.stack([sum(fine[i:i + factor]) for i in range(0, len(fine) - factor + 1, factor)]) / factor,
        "planes added to the first one": adds_to_the_first,
    },
    "influence": {
        "the whole answer": lambda network, x, s: (network(x) - network(without_others(x, s))).abs().max(),
        "slice s set to zero": silence_s,
        "one neighbour only": only_the_next,
        "the first class only": lambda network, x, s: (network(x) - network(without_others(x, s)))[:, s, 0].abs().max(),
        "the first channel only": first_channel_silenced,
        "the mean change": lambda network, x, s: (network(x) - network(without_others(x, s)))[:, s].abs().mean(),
        "without abs": lambda network, x, s: (network(x) - network(without_others(x, s)))[:, s].max(),
        "the first volume only": lambda network, x, s: (network(x) - network(without_others(x, s)))[0, s].abs().max(),
        "in place": in_place,
        "always 0": lambda network, x, s: 0.0,
        "a tensor of changes": lambda network, x, s: (network(x) - network(without_others(x, s)))[:, s].abs(),
        "a text": lambda network, x, s: f"{(network(x) - network(without_others(x, s)))[:, s].abs().max():.5f}",
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
        "a list": lambda fine, factor: mean_loop(fine, factor).tolist(),
    },
    "influence": {
        "zeros": lambda network, x, s: (network(x) - network(without_others(x, s)))[:, s].abs().max(),
        "a loop": by_loop,
        "a mask": lambda network, x, s: float(
            (network(x) - network(x * (torch.arange(x.shape[1]) == s)[:, None, None, None]))[:, s].abs().amax()),
        "both in one batch": both_in_one_batch,
    },
}

EQUIVALENT = {
    "spacing": {
        "affine[:«4»": "the last row of an affine is 0, 0, 0, 1",
        "[«np.sqrt": "a number of numpy is a number",
        "«affine @ [0, 0, 0, 1] - affine @ e»": "the length does not depend on the direction of the step",
        "«-1», 0, 0": "a step backwards is as long",
        "0, «-1», 0": "a step backwards is as long",
        "0, 0, «-1»": "a step backwards is as long",
    },
    "slice_axis": {
        "«np.argmax(mm)»": "a whole number of numpy is a whole number",
        ".detach()»": "a whole number has no gradient",
    },
    "thick_slices": {
        "reshape(-«2»": "numpy takes every negative size as the one that is left over",
        "«fine[:1]».shape[1:]": "fine[:1] has the same H and W",
        "«fine[-1:]».shape[1:]": "fine[-1:] has the same H and W",
        ".detach()»": "the file has no gradient",
        "[«-1»]": "of one volume, the last is the first",
        "return «[sum(": "a list of planes is accepted as well",
        "«mean_loop(fine, factor)»": "an array is accepted as well as a list",
    },
    "influence": {
        "detach()": "the answer is a number, no gradient is asked for",
        ".abs().abs()": "abs() twice is abs()",
        "«network(without_others(x, s)) - network(x)»": "the sign of the change does not matter",
        "«network(other) - network(x)»": "the sign of the change does not matter",
        "«network(x * (torch.arange(x.shape[1]) == s)[:, None, None, None]) - network(x)»": "nor here",
        "«other».shape[1]": "other has as many slices as x",
        "«x[:1]».shape[1]": "x[:1] has as many slices as x",
        "«x[-1:]».shape[1]": "x[-1:] has as many slices as x",
        "cat(«[without_others(x, s), x]»)": "the sign of the change does not matter",
        "return «answer[len(x):] - answer[:len(x)]»": "the sign of the change does not matter",
        "abs(«d»)": "a tensor of one number is a number",
        "«(network(x) - network(x * (torch.arange": "a tensor of one number is a number",
    },
}
