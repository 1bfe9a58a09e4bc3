"""Checks of 06_train: Dice of each volume, the learning rate, the class prior, the share of a process."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from csam_lite.course.checks import (
    Wrong,
    answer,
    numpy_generator,
    same_shape,
    same_values,
    torch_generator,
    verify,
)


def dice_per_volume(function: Callable) -> bool | None:
    """function(predicted, reference, num_classes): masks (B, S, H, W) of classes 0 to K-1 -> Dice (B, K-1).

    Dice is NaN where neither mask has the class.
    """

    def hand_checked() -> None:
        """the Dice of a volume that you can count by hand"""
        predicted, reference = torch.zeros(2, 1, 2, 2, 4, dtype=torch.long)
        predicted[0, 0, 0] = torch.tensor([1, 1, 1, 0])
        reference[0, 0, 0] = torch.tensor([0, 1, 1, 1])
        reference[0, 1, 1, 3] = predicted[0, 1, 1, 3] = 1
        dice = torch.as_tensor(answer(function, predicted, reference, 2))
        same_values(dice, torch.tensor([[0.75]]), "3 + 1 voxels predicted, 3 + 1 in the reference, 3 in both",
                    "Dice is 2 |P and R| / (|P| + |R|)")

    def shape_and_volumes() -> None:
        """each volume has a row, and each class but the background a column"""
        predicted, reference = _masks(0, 3, 4)
        dice = torch.as_tensor(answer(function, predicted, reference, 4))
        same_shape(dice, (3, 3), "3 volumes with background and 3 classes")
        same_values(dice, _dice(predicted, reference, 4), "3 random volumes",
                    "sum over S, H and W of one volume, and over nothing else")

    def unlike_slices() -> None:
        """a volume is one set of voxels; its slices are not averaged"""
        predicted, reference = torch.zeros(2, 1, 2, 4, 4, dtype=torch.long)
        reference[0, 0], predicted[0, 0], reference[0, 1, 0, 0] = 1, 1, 1
        dice = torch.as_tensor(answer(function, predicted, reference, 2))
        same_values(dice, torch.tensor([[32 / 33]]), "a full slice predicted, and one voxel of the next "
                                                     "slice missed",
                    "count over the whole stack first")

    def missing_classes() -> None:
        """Dice is NaN where neither mask has the class, and 0 where only one mask has it"""
        predicted, reference = torch.zeros(2, 2, 1, 2, 2, dtype=torch.long)
        predicted[1, 0, 0, 0] = 1
        dice = torch.as_tensor(answer(function, predicted, reference, 2)).double()
        same_shape(dice, (2, 1), "2 volumes")
        if not bool(dice[0].isnan().all()):
            raise Wrong(f"on a class that neither mask has: expected NaN, found {dice[0, 0]:.4g}; "
                        "a smoothing term invents a score there")
        same_values(dice[1:], torch.zeros(1, 1), "a class that only the prediction has",
                    "a smoothing term would give more than 0")

    return verify("dice_per_volume", hand_checked, shape_and_volumes, unlike_slices, missing_classes)


def one_cycle(function: Callable) -> bool | None:
    """function(done): the part of the training that is over -> the rate, as a part of the highest rate."""

    def rise() -> None:
        """the rate rises in a straight line from 0.01 at the start to 1 after a tenth"""
        for done, expected in ((0.0, 0.01), (0.05, 0.505), (0.1, 1.0)):
            _close(function, done, expected, "rise: 0.01 + 0.99 * done / 0.1")

    def fall() -> None:
        """then the rate falls to zero as half a wave of a cosine"""
        drawn = numpy_generator(0).uniform(0.15, 0.95, 3).round(3).tolist()
        for done in (0.1001, 0.3, 0.55, 0.8, 1.0, *drawn):
            expected = (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2
            _close(function, done, expected, "the cosine starts at 0.1, and its half wave is 0.9 long")

    return verify("one_cycle", rise, fall)


def prior_bias(function: Callable) -> bool | None:
    """function(label, num_classes): masks of classes 0 to K-1 -> biases (K,); softmax gives frequencies."""

    def gives_frequencies() -> None:
        """the softmax of the biases is the frequency of each class"""
        label = torch.tensor([0] * 90 + [1] * 8 + [2] * 2).reshape(1, 1, 10, 10)
        frequencies = _biases(function, label, 3).softmax(0)
        same_values(frequencies, torch.tensor([0.9, 0.08, 0.02]), "90, 8 and 2 voxels",
                    "the softmax undoes a logarithm", 1e-3)

    def counts_in_any_shape() -> None:
        """all voxels of all volumes count, also if the masks are uint8"""
        label = _masks(1, 3, 4)[0].byte()
        expected = torch.bincount(label.flatten().long(), minlength=4) / label.numel()
        same_values(_biases(function, label, 4).softmax(0), expected, "3 random volumes of 4 classes",
                    "count over B, S, H and W", 1e-3)

    def absent_class() -> None:
        """a class that is absent gets a finite bias, below the others"""
        biases = _biases(function, torch.tensor([0, 0, 0, 1]).reshape(1, 1, 2, 2), 3)
        if not bool(biases.isfinite().all()):
            rounded = [round(bias, 2) for bias in biases.tolist()]
            raise Wrong(f"on masks without class 2: expected finite biases, found {rounded}; log(0) is not "
                        "finite")
        if (probability := float(biases.softmax(0)[2])) > 0.02:
            raise Wrong("on masks without class 2: expected its probability below 0.02, found "
                        f"{probability:.3f}")

    return verify("prior_bias", gives_frequencies, counts_in_any_shape, absent_class)


def share(function: Callable) -> bool | None:
    """function(batch, process, processes): the volumes of a batch -> those that this process takes."""
    drawn = numpy_generator(0).permutation(20)[:8].tolist()
    batches = ([7, 1, 4, 2], 2), ([5, 3, 8, 0, 2, 9], 3), (drawn, 4)  # and the number of processes

    def together() -> None:
        """all processes together take the batch, each volume once"""
        for batch, processes in batches:
            parts = [list(answer(function, list(batch), process, processes)) for process in range(processes)]
            if sorted(sum(parts, [])) != sorted(batch):
                raise Wrong(f"on the batch {batch} with {processes} processes: expected each volume once, "
                            f"found {parts}")

    def evenly() -> None:
        """every process takes equally many volumes"""
        for batch, processes in batches:
            lengths = [len(answer(function, list(batch), process, processes)) for process in range(processes)]
            if len(set(lengths)) > 1:
                raise Wrong(f"on the batch {batch} with {processes} processes: expected "
                            f"{len(batch) // processes} "
                            f"volumes each, found {lengths}; the slowest process would keep the others "
                            "waiting, and "
                            "a mean over processes would weigh the volumes unequally")

    def alone() -> None:
        """one process takes the whole batch, and the list itself is not changed"""
        batch = [3, 1, 2]
        taken = list(answer(function, batch, 0, 1))
        if sorted(taken) != [1, 2, 3] or batch != [3, 1, 2]:
            raise Wrong("on the batch [3, 1, 2] with one process: expected all three and an unchanged list, "
                        f"found {taken}, and the list is now {batch}")

    return verify("share", together, evenly, alone)


def _masks(seed: int, volumes: int, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two random masks (B, S, H, W).

    Later volumes have fewer voxels of each class, so that an answer that pools over volumes is wrong.
    """
    generator = torch_generator(seed)
    reference = torch.randint(num_classes, (volumes, 3, 6, 5), generator=generator)
    agrees = torch.rand(reference.shape, generator=generator) < 0.6
    predicted = torch.where(agrees, reference, reference.roll(1, -1))
    for b in range(volumes):
        predicted[b, :, b:], reference[b, :, 2 * b:] = (0, 0) if b else (predicted[b], reference[b])
    return predicted, reference


def _dice(predicted: torch.Tensor, reference: torch.Tensor, num_classes: int) -> torch.Tensor:
    rows = []
    for p, r in zip(predicted, reference):
        rows.append([2 * ((p == k) & (r == k)).sum() / ((p == k).sum() + (r == k).sum())
                     for k in range(1, num_classes)])
    return torch.tensor(rows)


def _biases(function: Callable, label: torch.Tensor, num_classes: int) -> torch.Tensor:
    biases = torch.as_tensor(answer(function, label, num_classes)).detach().float()
    same_shape(biases, (num_classes,), f"masks of {num_classes} classes")
    return biases


def _close(function: Callable, done: float, expected: float, hint: str) -> None:
    rate = answer(function, done)
    try:
        rate = float(rate)
    except (TypeError, ValueError):
        raise Wrong(f"at done = {done}: expected a number, found {type(rate).__name__}") from None
    if not abs(rate - expected) < 1e-3:
        raise Wrong(f"at done = {done}: expected {expected:.4f}, found {rate:.4f}; {hint}")
