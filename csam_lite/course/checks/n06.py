"""Checks of 06_train: Dice of each volume, the learning rate, the class prior, the share of a process."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from csam_lite.course.checks import (
    Wrong,
    answer,
    exercise,
    number,
    numbers,
    numpy_generator,
    same_shape,
    same_values,
    states,
    torch_generator,
    verify,
)
from csam_lite.course.checks._tensors import leaves_inputs


@exercise
def dice_per_volume(function: Callable) -> bool | None:
    """function(predicted, reference, num_classes): masks (B, S, H, W) of classes 0 to K-1 -> Dice (B, K-1).

    Dice is NaN where neither mask has the class.
    """

    def dice_of(predicted: torch.Tensor, reference: torch.Tensor, num_classes: int, on: str) -> torch.Tensor:
        return numbers(answer(function, predicted.clone(), reference.clone(), num_classes), on)

    @states("The Dice of a volume that you can count by hand")
    def hand_checked() -> None:
        predicted, reference = torch.zeros(2, 1, 2, 2, 4, dtype=torch.long)
        predicted[0, 0, 0] = torch.tensor([1, 1, 1, 0])
        reference[0, 0, 0] = torch.tensor([0, 1, 1, 1])
        reference[0, 1, 1, 3] = predicted[0, 1, 1, 3] = 1
        on = "3 + 1 voxels predicted, 3 + 1 in the reference, 3 in both"
        same_values(
            dice_of(predicted, reference, 2, on),
            torch.tensor([[0.75]]),
            on,
            "Dice is 2 |P and R| / (|P| + |R|)",
        )

    @states("Each volume has a row, and each class but the background a column")
    def shape_and_volumes() -> None:
        predicted, reference = _masks(0, 3, 4)
        same_values(
            dice_of(predicted, reference, 4, "3 random volumes"),
            _dice(predicted, reference, 4),
            "3 random volumes with background and 3 classes",
            "sum over S, H and W of one volume, and over nothing else",
            1e-3,  # a half-precision answer is right
        )

    @states("A volume is one set of voxels; its slices are not averaged")
    def unlike_slices() -> None:
        predicted, reference = torch.zeros(2, 1, 2, 4, 4, dtype=torch.long)
        reference[0, 0], predicted[0, 0], reference[0, 1, 0, 0] = 1, 1, 1
        on = "a full slice predicted, and one voxel of the next slice missed"
        same_values(
            dice_of(predicted, reference, 2, on),
            torch.tensor([[32 / 33]]),
            on,
            "count over the whole stack first",
        )
        reference = torch.ones(1, 2, 18, 18, dtype=torch.long)
        predicted = (torch.arange(648) < 300).long().view(reference.shape)
        on = "648 voxels in the reference, of which 300 are predicted"
        same_values(dice_of(predicted, reference, 2, on), torch.tensor([[600 / 948]]), on,
                    "do not count in a small type such as uint8", 1e-3)

    @states("Dice is NaN where neither mask has the class")
    def in_neither_mask() -> None:
        predicted, reference = torch.zeros(2, 2, 1, 2, 2, dtype=torch.long)
        predicted[1], reference[1] = 1, 1
        dice = dice_of(predicted, reference, 2, "2 volumes")
        same_shape(dice, (2, 1), "2 volumes")
        if not bool(dice[0].isnan().all()):
            raise Wrong(
                f"on a class that neither mask has: expected NaN, found {dice[0, 0]:.4g}; "
                "a smoothing term invents a score there"
            )
        same_values(dice[1:], torch.ones(1, 1), "a class that both masks have everywhere")
        on = "the same 2 volumes with K = 4, of which no mask has the classes 2 and 3"
        dice = dice_of(predicted, reference, 4, on)
        same_shape(dice, (2, 3), on)
        if not bool(dice[:, 1:].isnan().all()):
            raise Wrong(f"on {on}: expected NaN for both, found {dice[:, 1:].tolist()}")

    @states("Dice is 0 where only one of the two masks has the class")
    def in_one_mask() -> None:
        empty = torch.zeros(1, 3, 2, 2, dtype=torch.long)
        for s in (0, 2):  # the class is in one slice alone
            one_slice = empty.clone()
            one_slice[0, s] = 1
            hint = "a class that is never found has Dice 0, not NaN; a smoothing term gives more"
            for name, pair in {"prediction": (one_slice, empty), "reference": (empty, one_slice)}.items():
                on = f"a class that only the {name} has, in slice {s} of 3"
                same_values(dice_of(*pair, 2, on), torch.zeros(1, 1), on, hint)

    @states("The masks stay as they were")
    def untouched() -> None:
        predicted, reference = _masks(0, 3, 4)
        leaves_inputs(lambda p, r: answer(function, p, r, 4), predicted=predicted, reference=reference)()

    return verify(
        "dice_per_volume",
        hand_checked,
        shape_and_volumes,
        unlike_slices,
        in_neither_mask,
        in_one_mask,
        untouched,
    )


@exercise
def one_cycle(function: Callable) -> bool | None:
    """function(done): the part of the training that is over -> the rate, as a part of the highest rate."""

    @states("The rate rises in a straight line from 0.01 at the start to 1 after a tenth")
    def rise() -> None:
        for done, expected in (
            (0.0, 0.01),
            (0.02, 0.208),
            (0.05, 0.505),
            (0.09, 0.901),
            (0.0999, 0.99901),
            (0.1, 1.0),
        ):
            _close(function, done, expected, "rise: 0.01 + 0.99 * done / 0.1")

    @states("Then the rate falls to zero as half a wave of a cosine")
    def fall() -> None:
        drawn = numpy_generator(0).uniform(0.15, 0.95, 3).round(3).tolist()
        for done in (0.1001, 0.11, 0.12, 0.3, 0.55, 0.8, 1.0, *drawn):
            expected = (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2
            _close(function, done, expected, "the cosine starts at 0.1, and its half wave is 0.9 long")

    return verify("one_cycle", rise, fall)


@exercise
def prior_bias(function: Callable) -> bool | None:
    """function(label, num_classes): masks of classes 0 to K-1 -> biases (K,); softmax gives frequencies."""

    @states("The softmax of the biases is the frequency of each class")
    def gives_frequencies() -> None:
        label = torch.tensor([0] * 90 + [1] * 8 + [2] * 2).reshape(1, 1, 10, 10)
        frequencies = _biases(function, label, 3).softmax(0)
        same_values(
            frequencies,
            torch.tensor([0.9, 0.08, 0.02]),
            "90, 8 and 2 voxels",
            "the softmax undoes a logarithm",
            1e-3,
        )

    @states("All voxels of all volumes count, also if the masks are uint8")
    def counts_in_any_shape() -> None:
        label = _masks(1, 3, 4)[0].byte()
        expected = torch.bincount(label.flatten().long(), minlength=4) / label.numel()
        same_values(
            _biases(function, label, 4).softmax(0),
            expected,
            "3 random volumes of 4 classes",
            "count over B, S, H and W",
            1e-3,
        )

    @states("The masks may have any number of axes, and need not have every class")
    def any_axes() -> None:
        for shape in ((600,), (20, 30), (3, 10, 20)):
            label = torch.randint(2, shape, generator=torch_generator(2)) * 2
            expected = torch.bincount(label.flatten(), minlength=5) / label.numel()
            biases = _biases(function, label, 5)
            on = f"a mask {shape} of the classes 0 and 2, with K = 5"
            _same_biases(biases, expected.tolist(), on)

    @states("A class that is absent gets the bias of the frequency 0.0001")
    def absent_class() -> None:
        label = torch.zeros(2, 1, 2, 4, dtype=torch.long)
        label[:, 0, 0, :2] = 1
        biases = _biases(function, label, 3)
        if not bool(biases.isfinite().all()):
            rounded = [round(bias, 2) for bias in biases.tolist()]
            raise Wrong(
                f"on masks without class 2: expected finite biases, found {rounded}; log(0) is not finite"
            )
        _same_biases(biases, [0.75, 0.25, 0.0], "masks without class 2")

    @states("A frequency below 0.0001 is raised to it, and one above is not")
    def rare_class() -> None:
        for voxels in (1, 3):
            label = torch.zeros(1, 2, 100, 100, dtype=torch.long)
            label[0, 1, 0, :voxels], label[0, 0, 50:] = 1, 2
            share = voxels / label.numel()
            expected = [0.75 - share, share, 0.25]
            _same_biases(_biases(function, label, 3), expected, f"a class of frequency {share:g}")

    return verify("prior_bias", gives_frequencies, counts_in_any_shape, any_axes, absent_class, rare_class)


@exercise
def share(function: Callable) -> bool | None:
    """function(batch, process, processes): the volumes of a batch -> those that this process takes."""
    drawn = numpy_generator(0).permutation(20)[:8].tolist()
    batches = ([7, 1, 4, 2], 2), ([5, 3, 8, 0, 2, 9], 3), (drawn, 4)  # and the number of processes

    @states("All processes together take the batch, each volume once")
    def together() -> None:
        for batch, processes in batches:
            parts = [[] for _ in range(processes)]
            for process in reversed(range(processes)):  # each process asks for itself, in any order
                parts[process] = list(answer(function, list(batch), process, processes))
            if sorted(sum(parts, [])) != sorted(batch):
                raise Wrong(
                    f"on the batch {batch} with {processes} processes: expected each volume once, "
                    f"found {parts}"
                )

    @states("A process that asks again gets the same volumes, because each process asks for itself")
    def again() -> None:
        for batch, processes in batches:
            first, second = (list(answer(function, list(batch), 1, processes)) for _ in range(2))
            if first != second:
                raise Wrong(
                    f"on the batch {batch} with {processes} processes: process 1 got {first}, and then "
                    f"{second}; chance, or what your function remembers, differs from process to process"
                )

    @states("Every process takes equally many volumes")
    def evenly() -> None:
        for batch, processes in batches:
            lengths = [
                len(list(answer(function, list(batch), process, processes))) for process in range(processes)
            ]
            if len(set(lengths)) > 1:
                raise Wrong(
                    f"on the batch {batch} with {processes} processes: expected "
                    f"{len(batch) // processes} "
                    f"volumes each, found {lengths}; the slowest process would keep the others "
                    "waiting, and "
                    "a mean over processes would weigh the volumes unequally"
                )

    @states("One process takes the whole batch, and the list itself is not changed")
    def alone() -> None:
        batch = [3, 1, 2]
        taken = list(answer(function, batch, 0, 1))
        if sorted(taken) != [1, 2, 3] or batch != [3, 1, 2]:
            raise Wrong(
                "on the batch [3, 1, 2] with one process: expected all three and an unchanged list, "
                f"found {taken}, and the list is now {batch}"
            )

    return verify("share", together, again, evenly, alone)


def _masks(seed: int, volumes: int, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two random masks (B, S, H, W).

    Later volumes have fewer voxels of each class, so that an answer that pools over volumes is wrong.
    """
    generator = torch_generator(seed)
    reference = torch.randint(num_classes, (volumes, 3, 6, 5), generator=generator)
    agrees = torch.rand(reference.shape, generator=generator) < 0.6
    predicted = torch.where(agrees, reference, reference.roll(1, -1))
    for b in range(volumes):
        predicted[b, :, b:], reference[b, :, 2 * b :] = (0, 0) if b else (predicted[b], reference[b])
    return predicted, reference


def _dice(predicted: torch.Tensor, reference: torch.Tensor, num_classes: int) -> torch.Tensor:
    rows = []
    for p, r in zip(predicted, reference):
        rows.append(
            [
                2 * ((p == k) & (r == k)).sum() / ((p == k).sum() + (r == k).sum())
                for k in range(1, num_classes)
            ]
        )
    return torch.tensor(rows)


def _biases(function: Callable, label: torch.Tensor, num_classes: int) -> torch.Tensor:
    on = f"masks of {num_classes} classes"
    biases = numbers(answer(function, label.clone(), num_classes), on)
    same_shape(biases, (num_classes,), on)
    return biases


def _same_biases(biases: torch.Tensor, frequencies: list[float], on: str) -> None:
    """Raise Wrong unless the biases, up to a common number, are the logarithms of these frequencies."""
    expected = torch.tensor(frequencies).double().clamp(min=1e-4).log()
    found, expected = biases - biases.max(), expected - expected.max()
    if not bool(((found - expected).abs() < 0.05).all()):
        wanted, found = ([round(value, 2) for value in values.tolist()] for values in (expected, found))
        raise Wrong(
            f"on {on}: expected biases that lie {wanted} above the highest, found {found}; a frequency "
            "below 0.0001 becomes 0.0001, and no other frequency changes"
        )


def _close(function: Callable, done: float, expected: float, hint: str) -> None:
    rate = number(answer(function, done), f"done = {done}")
    if not abs(rate - expected) < 1e-4:
        raise Wrong(f"at done = {done}: expected {expected:.4f}, found {rate:.4f}; {hint}")
