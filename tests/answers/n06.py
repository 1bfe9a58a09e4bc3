"""Answers to the exercises of 06_train: wrong ones that a check must reject, unusual right ones."""

import math

import numpy as np
import torch


def dice_of(p, r):
    return 2 * (p & r).sum() / (p.sum() + r.sum())


def smoothed(p, r):
    return (2 * (p & r).sum() + 1.0) / (p.sum() + r.sum() + 1.0)


def nan_unless(asks):
    """Dice for the classes of which asks(p, r) is True, and NaN for the others."""
    def dice(predicted, reference, num_classes):
        return torch.tensor([[float(dice_of(p == k, r == k)) if asks(p == k, r == k) else math.nan
                              for k in range(1, num_classes)] for p, r in zip(predicted, reference)])
    return dice


def dice_loops(predicted, reference, num_classes):
    return torch.tensor([[dice_of(p == k, r == k) for k in range(1, num_classes)]
                         for p, r in zip(predicted, reference)])


def dice_one_hot(predicted, reference, num_classes):
    p, r = (torch.nn.functional.one_hot(mask.long(), num_classes)[..., 1:].double().flatten(1, 3)
            for mask in (predicted, reference))
    return 2 * (p * r).sum(1) / (p.sum(1) + r.sum(1))


def dice_numpy(predicted, reference, num_classes):
    dice = np.full((len(predicted), num_classes - 1), np.nan)
    for b, k in np.ndindex(*dice.shape):
        p, r = predicted[b].numpy() == k + 1, reference[b].numpy() == k + 1
        if p.any() or r.any():
            dice[b, k] = dice_of(p, r)
    return dice


WRONG_DICE = {
    "pooled over volumes": lambda p, r, k: dice_one_hot(
        p.flatten(0, 1)[None], r.flatten(0, 1)[None], k).expand(len(p), -1),
    "mean over slices": lambda p, r, k: torch.stack(
        [dice_one_hot(p[:, s:s + 1], r[:, s:s + 1], k) for s in range(p.shape[1])]).nanmean(0),
    "with background": lambda p, r, k: torch.stack(
        [torch.stack([dice_of(a == c, b == c) for c in range(k)]) for a, b in zip(p, r)]),
    "smoothed": lambda p, r, k: torch.tensor(
        [[smoothed(a == c, b == c) for c in range(1, k)] for a, b in zip(p, r)]),
    "NaN if the prediction lacks the class": nan_unless(lambda p, r: bool(p.any())),
    "NaN if the reference lacks the class": nan_unless(lambda p, r: bool(r.any())),
    "NaN if one of them lacks the class": nan_unless(lambda p, r: bool(p.any()) and bool(r.any())),
    "NaN if a slice of both lacks the class": nan_unless(lambda p, r: bool((p | r).flatten(1).any(1).all())),
    "no NaN": lambda p, r, k: dice_loops(p, r, k).nan_to_num(0),
    "intersection over union": lambda p, r, k: (lambda d: d / (2 - d))(dice_loops(p, r, k)),
    "factor 2 forgotten": lambda p, r, k: dice_loops(p, r, k) / 2,
    "as many classes as the masks have": lambda p, r, k: dice_loops(p, r, 1 + int(max(p.max(), r.max()))),
    "counted in 8 bits": lambda p, r, k: torch.stack(
        [2 * ((p == c) & (r == c)).flatten(1).sum(1, dtype=torch.uint8)
         / ((p == c).flatten(1).sum(1, dtype=torch.uint8) + (r == c).flatten(1).sum(1, dtype=torch.uint8)) for c in range(1, k)], 1),
    "mean over classes": lambda p, r, k: dice_loops(p, r, k).nanmean(1),
}


def fall(done):
    return 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))


def rate(done):
    return 0.01 + 9.9 * done if done < 0.1 else fall(done)


WRONG_RATE = {
    "no rise": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "starts at zero": lambda done: done / 0.1 if done < 0.1 else rate(done),
    "straight fall": lambda done: rate(done) if done < 0.1 else 1 - (done - 0.1) / 0.9,
    "whole wave": lambda done: rate(done) if done < 0.1 else 0.5 * (1 + math.cos(2 * math.pi * (done - 0.1) / 0.9)),
    "cosine of all": lambda done: rate(done) if done < 0.1 else 0.5 * (1 + math.cos(math.pi * done)),
    "below zero": lambda done: rate(done) if done < 0.1 else math.cos(math.pi * (done - 0.1) / 0.9),
    "rises for too long": lambda done: 0.01 + 9.9 * done if done < 0.11 else fall(done),
    "falls too early": lambda done: 0.01 + 9.9 * done if done < 0.095 else fall(done),
    "steps": lambda done: 10.0 ** -int(3 * done),
}


def frequencies(label, k):
    return torch.bincount(label.flatten().long(), minlength=k) / label.numel()


WRONG_PRIOR = {
    "no logarithm": frequencies,
    "weights of rare classes": lambda label, k: -frequencies(label, k).clamp(min=1e-4).log(),
    "sigmoid's prior": lambda label, k: frequencies(label, k).clamp(1e-4, 1 - 1e-4).logit(),
    "log of zero": lambda label, k: frequencies(label, k).log(),
    "equal shares": lambda label, k: torch.zeros(k),
    "foreground only": lambda label, k: frequencies(label, k).clamp(min=1e-4).log()[1:],
    "first volume only": lambda label, k: frequencies(label[:1], k).clamp(min=1e-4).log(),
    "decimal": lambda label, k: frequencies(label, k).clamp(min=1e-4).log10(),
    "cut too high": lambda label, k: frequencies(label, k).clamp(min=0.1).log(),
    "floor 0.01": lambda label, k: frequencies(label, k).clamp(min=0.01).log(),
    "floor 0.001": lambda label, k: frequencies(label, k).clamp(min=0.001).log(),
    "floor 1e-6": lambda label, k: frequencies(label, k).clamp(min=1e-6).log(),
    "a floor for the count": lambda label, k: (frequencies(label, k) * label.numel()).clamp(min=1e-3).log(),
    "only zeros are raised": lambda label, k: torch.where(frequencies(label, k) > 0, frequencies(label, k), 1e-4).log(),
    "0.0001 is added": lambda label, k: (frequencies(label, k) + 1e-4).log(),
    "lowest float": lambda label, k: frequencies(label, k).log().nan_to_num(),
    "masks of four axes only": lambda label, k: torch.stack(
        [(label == c).float().mean((1, 2, 3)).mean() for c in range(k)]).clamp(min=1e-4).log(),
    "as many classes as the mask has": lambda label, k: frequencies(label, min(k, 3)).clamp(min=1e-4).log(),
    "writes into the mask": lambda label, k: frequencies(label.clamp_(0, k - 1), k).clamp(min=1e-4).log() + 0 * label.zero_().sum(),
}


class Counter:
    """Takes for the number of the process how often it was called."""

    def __init__(self):
        self.calls = -1

    def __call__(self, batch, process, processes):
        self.calls += 1
        return batch[self.calls % processes::processes]


WRONG_SHARE = {
    "all to all": lambda batch, process, processes: batch,
    "first alone": lambda batch, process, processes: batch if process == 0 else [],
    "same half": lambda batch, process, processes: batch[:len(batch) // processes],
    "rest to the last": lambda batch, process, processes: (
        batch[process:process + 1] if process + 1 < processes else batch[process:]),
    "two processes only": lambda batch, process, processes: batch[process::2],
    "overlapping": lambda batch, process, processes: batch[process:process + len(batch) // processes],
    "counts its calls": Counter(),
    "takes out of the batch": lambda batch, process, processes: [
        batch.pop(0) for _ in range(len(batch))][process::processes],
}


WRONG = {"dice_per_volume": WRONG_DICE, "one_cycle": WRONG_RATE, "prior_bias": WRONG_PRIOR,
         "share": WRONG_SHARE}
RIGHT = {
    "dice_per_volume": {
        "dice_loops": dice_loops,
        "dice_one_hot": dice_one_hot,
        "dice_numpy": dice_numpy,
        "list of rows": lambda p, r, k: list(dice_loops(p, r, k)),
        "float16": lambda p, r, k: dice_one_hot(p, r, k).half(),
    },
    "one_cycle": {
        "formula": rate,
        "half angle": lambda done: (np.interp(done, [0, 0.1], [0.01, 1]) if done <= 0.1
                                    else np.cos(np.pi * (done - 0.1) / 1.8) ** 2),
        "tensor": lambda done: torch.tensor(rate(done)),
        "array of one number": lambda done: np.array([rate(done)]),
    },
    "prior_bias": {
        "frequencies": lambda label, k: frequencies(label, k).clamp(min=1e-4).log(),
        "counts": lambda label, k: np.log([max(int((label == c).sum()), 1e-4 * label.numel()) for c in range(k)]),
        "moved by a constant": lambda label, k: torch.tensor(
            [math.log(max((label == c).float().mean().item(), 1e-4)) + 5 for c in range(k)]),
        "generator": lambda label, k: (math.log(max((label == c).float().mean().item(), 1e-4)) for c in range(k)),
    },
    "share": {
        "stride": lambda batch, process, processes: batch[process::processes],
        "chunks": lambda batch, process, processes: np.split(np.array(batch), processes)[process],
        "loop": lambda batch, process, processes: tuple(
            volume for number, volume in enumerate(batch) if number % processes == process),
        "iterator": lambda batch, process, processes: iter(batch[process::processes]),
    },
}

EQUIVALENT = {
    "share": {"lambda batch, process, processes: «batch[process::processes]»": "a list is as good as an iterator"},
    "dice_per_volume": {
        "detach()": "masks have no gradient, and the text asks for none of Dice",
        "«[[dice_of(": "a list of rows is as good as a tensor",
        "«dice_of(r == k, p == k)»": "Dice does not depend on the order of the masks",
        "«dice_of(r, p)»": "Dice does not depend on the order of the masks",
        "«zip(reference, predicted)»": "Dice does not depend on the order of the masks",
        "«(reference, predicted)»": "Dice does not depend on the order of the masks",
        "p, r = «(reference[b]": "Dice does not depend on the order of the masks",
        ".abs()": "counts are not negative",
        "«torch.nn.functional.one_hot(mask.long(), num_classes)[..., 1:]».flatten": "whole numbers count exactly, too",
        "one_hot(«mask», num_classes)": "the masks are int64 already",
        "len(«reference»)": "both masks have as many volumes",
        "(«predicted[b]» == k + 1, reference": "numpy reads a tensor",
        "«predicted».any() or": "where neither mask has the class, 0 / 0 is NaN in numpy as well",
        "or «reference».any()": "where neither mask has the class, 0 / 0 is NaN in numpy as well",
        "«dice».any()": "NaN is True, so that Dice is always computed, and 0 / 0 is NaN in numpy as well",
        "lambda p, r, k: «dice_loops(p, r, k)»": "a tensor instead of a list of rows",
        "«dice_loops(r, p, k)»": "Dice does not depend on the order of the masks",
        "«dice_one_hot(r, p, k)»": "Dice does not depend on the order of the masks",
        "«dice_one_hot(p, r, k)»": "float64 instead of float16",
    },
    "one_cycle": {
        "«done <= 0.1»": "both formulas give 1 at 0.1",
        "«done < 0.1»": "both formulas give 1 at 0.1",
        "«0.1 - done»": "the cosine is even",
        "/ «-0.9»": "the cosine is even",
        "/ «-1.8»": "the cosine is even",
        "lambda done: «rate(done)»": "a number instead of a tensor or an array of one number",
        "«[rate(done)]»": "a list instead of an array",
        ".detach()»": "the text asks for no gradient",
    },
    "prior_bias": {
        "detach()": "masks have no gradient",
        "bincount(«label.flatten()»": "bincount takes uint8, too",
        "max(«": "max takes tensors of one number, and does not depend on the order",
        "«max(": "max does not depend on the order",
        "«[math.log(": "a list is as good as a tensor",
        " + 5": "the softmax does not depend on a common number",
        "«math.log(max((label == c).float().mean().item(), 0.0001))»": "the softmax does not depend on a common number",
        "- 5»": "the softmax does not depend on a common number",
        "+ «": "the softmax does not depend on a common number",
        ".abs()": "frequencies are not negative",
    },
}
