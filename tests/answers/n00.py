"""Answers to the exercises of 00_start_here: wrong ones that its checks must reject, and unlike right ones that they must accept."""


import numpy as np
import torch


def shapes(semantic="B1C11", positional="B11HW", slice="BS111"):
    def function(B, S, C, H, W):
        sizes = {"B": B, "S": S, "C": C, "H": H, "W": W, "1": 1}
        texts = {"semantic": semantic, "positional": positional, "slice": slice}
        return {gate: tuple(sizes[letter] for letter in text) for gate, text in texts.items()}
    return function


def loop_over_slices(F, gate):
    out = torch.empty_like(F)
    for b in range(F.shape[0]):
        for s in range(F.shape[1]):
            out[b, s] = gate[b, s] * F[b, s]
    return out


def asserts_the_range(F, gate):
    assert gate.min() >= 0 and gate.max() <= 1, "a gate lies between 0 and 1"
    return F * gate[:, :, None, None, None]


def in_place(F, gate):
    F *= gate[:, :, None, None, None]
    return F


def sets_dice(a, b):
    a, b = ({tuple(at) for at in np.argwhere(mask)} for mask in (a, b))
    return 2 * len(a & b) / (len(a) + len(b))


WRONG = {
    "gate_shapes": {
        "semantic and slice exchanged": shapes(semantic="BS111", slice="B1C11"),
        "positional differs by slice": shapes(positional="BS1HW"),
        "positional differs by channel": shapes(positional="B1CHW"),
        "slice on the channel axis": shapes(slice="B1S11"),
        "axes of size 1 left out": shapes("BC", "BHW", "BS"),
        "numbers of one example": lambda B, S, C, H, W: shapes()(2, 5, 3, 7, 4),
        "numbers, not shapes": lambda B, S, C, H, W: {"semantic": B * C, "positional": B * H * W, "slice": B * S},
        "no dict": lambda B, S, C, H, W: (B, 1, C, 1, 1),
        "a part still open": lambda B, S, C, H, W: shapes()(B, S, C, H, W) | {"slice": ...},
    },
    "slice_gate": {
        "gate on the last axes": lambda F, gate: F * gate,
        "gate on the channels": lambda F, gate: F * gate[:, None, :, None, None],
        "gate of the first volume for all": lambda F, gate: F * gate[:1, :, None, None, None],
        "added": lambda F, gate: F + gate[:, :, None, None, None],
        "sigmoid again": lambda F, gate: F * gate.sigmoid()[:, :, None, None, None],
        "in place": in_place,
        "gradient cut": lambda F, gate: (F * gate[:, :, None, None, None]).detach(),
        "gate returned": lambda F, gate: gate[:, :, None, None, None],
    },
    "dice": {
        "intersection over union": lambda a, b: (a & b).sum() / (a | b).sum(),
        "without the factor 2": lambda a, b: (a & b).sum() / (a.sum() + b.sum()),
        "part of the first mask": lambda a, b: (a & b).sum() / a.sum(),
        "accuracy": lambda a, b: (a == b).mean(),
        "mean over slices": lambda a, b: np.mean([2 * (x & y).sum() / max(x.sum() + y.sum(), 1) for x, y in zip(a, b) if (x | y).any()]),
        "sum of booleans": lambda a, b: 2 * (a & b).sum() / (a + b).sum(),
        "a list": lambda a, b: [1.0, 0.0],
        "0.01 added below": lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum() + 0.01),
        "a text": lambda a, b: f"{2 * (a & b).sum() / (a.sum() + b.sum()):.4f}",
        "counted in 8 bits": lambda a, b: 2 * float((a & b).sum(dtype=np.uint8)) / float(a.sum(dtype=np.uint8) + b.sum(dtype=np.uint8)),
        "as many columns as rows": lambda a, b: (lambda a, b, h: 2 * (a & b)[:, :, :h].sum() / (a.sum() + b.sum()))(a, b, a.shape[1]),
        "written into b": lambda a, b: 2 / (a.sum() + b.sum()) * np.logical_and(a, b, out=b).sum(),
    },
}
RIGHT = {
    "gate_shapes": {
        "written out": lambda B, S, C, H, W: {
            "semantic": (B, 1, C, 1, 1), "positional": (B, 1, 1, H, W), "slice": (B, S, 1, 1, 1)},
        "torch.Size": lambda *sizes: {gate: torch.Size(s) for gate, s in shapes()(*sizes).items()},
        "arrays": lambda *sizes: {gate: np.array(s) for gate, s in shapes()(*sizes).items()},
    },
    "slice_gate": {
        "broadcast": lambda F, gate: F * gate[:, :, None, None, None],
        "einsum": lambda F, gate: torch.einsum("bschw,bs->bschw", F, gate),
        "loops": loop_over_slices,
        "asserts that a gate lies between 0 and 1": asserts_the_range,
    },
    "dice": {
        "formula": lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum()),
        "sets": sets_dice,
        "torch, with a small number below": lambda a, b: 2 * torch.tensor(a & b).sum() / (torch.tensor(a).sum() + torch.tensor(b).sum() + 1e-6),
    },
}

EQUIVALENT = {
    "gate_shapes": {
        "gate: «s»": "a torch.Size is a tuple",
        "with torch.no_grad()": "no tensor is computed",
        "sizes[«letter[": "a letter has one character",
    },
    "slice_gate": {
        "empty_like(«F.detach()»": "only the size of F is used here",
        "range(«gate».shape": "gate and F have the same B and S",
        "range(«out».shape": "out and F have the same size",
        "».shape[1]": "F[:1] has as many slices as F",
        "'a gate lies between 0 and 1'": "the assertion changes no result, because every gate lies between 0 and 1",
    },
    "dice": {
        "for mask in «(b, a)»": "Dice does not depend on the order",
        ".detach()»": "the answer is a number, and no gradient passes through a number of voxels",
        "«a & b».sum()": "numpy counts as torch does",
        "(«a».sum()": "numpy counts as torch does",
        "«b».sum()": "numpy counts as torch does",
        "«torch.tensor(a).sum() + torch.tensor(b).sum()": "the small number may be left out or subtracted",
        "torch.tensor(b).sum() + «": "the small number may have another value",
    },
}
