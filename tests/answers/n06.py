"""Answers to the exercises of 06_train: wrong ones that a check must reject, unusual right ones."""

import math

import numpy as np
import torch


def dice_of(p, r, smooth=0.0):
    return (2 * (p & r).sum() + smooth) / (p.sum() + r.sum() + smooth)


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
        [[dice_of(a == c, b == c, 1.0) for c in range(1, k)] for a, b in zip(p, r)]),
    "no NaN": lambda p, r, k: dice_loops(p, r, k).nan_to_num(0),
    "intersection over union": lambda p, r, k: (lambda d: d / (2 - d))(dice_loops(p, r, k)),
    "factor 2 forgotten": lambda p, r, k: dice_loops(p, r, k) / 2,
    "mean over classes": lambda p, r, k: dice_loops(p, r, k).nanmean(1),
}


def fall(done, waves=0.5):
    return 0.5 * (1 + math.cos(2 * math.pi * waves * (done - 0.1) / 0.9))


def rate(done):
    return 0.01 + 9.9 * done if done < 0.1 else fall(done)


WRONG_RATE = {
    "no rise": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "starts at zero": lambda done: done / 0.1 if done < 0.1 else rate(done),
    "straight fall": lambda done: rate(done) if done < 0.1 else 1 - (done - 0.1) / 0.9,
    "whole wave": lambda done: rate(done) if done < 0.1 else fall(done, waves=1),
    "cosine of all": lambda done: rate(done) if done < 0.1 else 0.5 * (1 + math.cos(math.pi * done)),
    "below zero": lambda done: rate(done) if done < 0.1 else math.cos(math.pi * (done - 0.1) / 0.9),
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
}


WRONG_SHARE = {
    "all to all": lambda batch, process, processes: batch,
    "first alone": lambda batch, process, processes: batch if process == 0 else [],
    "same half": lambda batch, process, processes: batch[:len(batch) // processes],
    "rest to the last": lambda batch, process, processes: (
        batch[process:process + 1] if process + 1 < processes else batch[process:]),
    "two processes only": lambda batch, process, processes: batch[process::2],
    "overlapping": lambda batch, process, processes: batch[process:process + len(batch) // processes],
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
    },
    "one_cycle": {
        "formula": rate,
        "half angle": lambda done: (np.interp(done, [0, 0.1], [0.01, 1]) if done <= 0.1
                                    else np.cos(np.pi * (done - 0.1) / 1.8) ** 2),
        "tensor": lambda done: torch.tensor(rate(done)),
    },
    "prior_bias": {
        "frequencies": lambda label, k: frequencies(label, k).clamp(min=1e-4).log(),
        "counts": lambda label, k: np.log([max(int((label == c).sum()), 1e-3) for c in range(k)]),
        "moved by a constant": lambda label, k: torch.tensor(
            [math.log(max((label == c).float().mean().item(), 1e-6)) + 5 for c in range(k)]),
    },
    "share": {
        "stride": lambda batch, process, processes: batch[process::processes],
        "chunks": lambda batch, process, processes: np.split(np.array(batch), processes)[process],
        "loop": lambda batch, process, processes: tuple(
            volume for number, volume in enumerate(batch) if number % processes == process),
    },
}
