"""Checks of 06_train: Dice of each volume, the learning rate, the class prior, the share of a process."""

import math

import torch

from csam_lite.course.checks import Wrong, answer, same_shape, same_values, verify


def dice_per_volume(function):
    """function(predicted, reference, num_classes): masks (B, S, H, W) of classes 0..K-1 -> Dice (B, K-1), NaN where both lack the class."""

    def hand_checked():
        """a volume whose Dice you can count by hand"""
        predicted, reference = torch.zeros(2, 1, 2, 2, 4, dtype=torch.long)
        predicted[0, 0, 0] = torch.tensor([1, 1, 1, 0])
        reference[0, 0, 0] = torch.tensor([0, 1, 1, 1])
        reference[0, 1, 1, 3] = predicted[0, 1, 1, 3] = 1
        found = torch.as_tensor(answer(function, predicted, reference, 2))
        same_values(found, torch.tensor([[0.75]]), "3 + 1 predicted, 3 + 1 in the reference, 3 in both", "Dice is 2 |P and R| / (|P| + |R|)")

    def shape_and_volumes():
        """each volume has a row of its own, each class but background a column"""
        predicted, reference = _masks(0, 3, 4)
        found = torch.as_tensor(answer(function, predicted, reference, 4))
        same_shape(found, (3, 3), "3 volumes with background and 3 classes")
        same_values(found, _dice(predicted, reference, 4), "3 random volumes", "sum over S, H, W of one volume, and over nothing else")

    def unlike_slices():
        """a volume is one set of voxels: its slices are not averaged"""
        predicted, reference = torch.zeros(2, 1, 2, 4, 4, dtype=torch.long)
        reference[0, 0], predicted[0, 0], reference[0, 1, 0, 0] = 1, 1, 1
        found = torch.as_tensor(answer(function, predicted, reference, 2))
        same_values(found, torch.tensor([[32 / 33]]), "one full slice found, one voxel of the next missed", "count over the whole stack first")

    def missing_classes():
        """NaN where neither mask has the class, 0 where only one has it"""
        predicted, reference = torch.zeros(2, 2, 1, 2, 2, dtype=torch.long)
        predicted[1, 0, 0, 0] = 1
        found = torch.as_tensor(answer(function, predicted, reference, 2)).double()
        same_shape(found, (2, 1), "2 volumes")
        if not bool(found[0].isnan().all()):
            raise Wrong(f"on a class that neither mask has: expected NaN, found {found[0, 0]:.4g}; a smoothing term invents a score there")
        same_values(found[1:], torch.zeros(1, 1), "a class that only the prediction has", "a smoothing term would give more than 0")

    return verify("dice_per_volume", hand_checked, shape_and_volumes, unlike_slices, missing_classes)


def one_cycle(function):
    """function(done): the part of the training that is over, 0 to 1 -> the learning rate as a part of the highest one."""

    def rise():
        """a straight line from 0.01 at the start to 1 after a tenth"""
        for done, expected in ((0.0, 0.01), (0.05, 0.505), (0.1, 1.0)):
            _close(function, done, expected, "rise: 0.01 + 0.99 * done / 0.1")

    def fall():
        """then half a cosine down to zero"""
        for done in (0.1001, 0.3, 0.55, 0.8, 1.0):
            _close(function, done, (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2, "the cosine starts at 0.1, and its half wave lasts 0.9")

    return verify("one_cycle", rise, fall)


def prior_bias(function):
    """function(label, num_classes): masks of classes 0..K-1 -> biases (K,) whose softmax gives each class its frequency."""

    def gives_frequencies():
        """the softmax of the biases is the frequency of each class"""
        label = torch.tensor([0] * 90 + [1] * 8 + [2] * 2).reshape(1, 1, 10, 10)
        found = _biases(function, label, 3)
        same_values(found.softmax(0), torch.tensor([0.9, 0.08, 0.02]), "90, 8 and 2 voxels", "softmax undoes a logarithm", 1e-3)

    def counts_in_any_shape():
        """all voxels of all volumes count, as uint8 too"""
        label = _masks(1, 3, 4)[0].byte()
        expected = torch.bincount(label.flatten().long(), minlength=4) / label.numel()
        same_values(_biases(function, label, 4).softmax(0), expected, "3 random volumes of 4 classes", "count over B, S, H and W", 1e-3)

    def absent_class():
        """a class that is absent gets a finite bias, below the others"""
        found = _biases(function, torch.tensor([0, 0, 0, 1]).reshape(1, 1, 2, 2), 3)
        if not bool(found.isfinite().all()):
            raise Wrong(f"on masks without class 2: expected finite biases, found {[round(v, 2) for v in found.tolist()]}; log(0) is not finite")
        if float(found.softmax(0)[2]) > 0.02:
            raise Wrong(f"on masks without class 2: expected its probability below 0.02, found {float(found.softmax(0)[2]):.3f}")

    return verify("prior_bias", gives_frequencies, counts_in_any_shape, absent_class)


def share(function):
    """function(batch, process, processes): the list of volumes in a batch -> the list of those that this process takes."""

    def together():
        """all processes together have the batch, each volume once"""
        for batch, processes in (([7, 1, 4, 2], 2), ([5, 3, 8, 0, 2, 9], 3)):
            parts = [list(answer(function, list(batch), process, processes)) for process in range(processes)]
            if sorted(sum(parts, [])) != sorted(batch):
                raise Wrong(f"on the batch {batch} with {processes} processes: expected each volume once, found {parts}")

    def evenly():
        """every process has equally many"""
        for batch, processes in (([7, 1, 4, 2], 2), ([5, 3, 8, 0, 2, 9], 3)):
            lengths = [len(answer(function, list(batch), process, processes)) for process in range(processes)]
            if len(set(lengths)) > 1:
                raise Wrong(f"on the batch {batch} with {processes} processes: expected {len(batch) // processes} each, found {lengths}; "
                            "the slowest would keep the others waiting, and a mean over processes would weigh volumes unequally")

    def alone():
        """one process has the whole batch, and the batch itself is left as it is"""
        batch = [3, 1, 2]
        found = list(answer(function, batch, 0, 1))
        if sorted(found) != [1, 2, 3] or batch != [3, 1, 2]:
            raise Wrong(f"on the batch [3, 1, 2] with one process: expected all three, found {found}, and the batch is now {batch}")

    return verify("share", together, evenly, alone)


def _masks(seed, volumes, num_classes):
    """Two random masks (B, S, H, W), the later volumes with fewer voxels of each class, so that pooling over volumes shows."""
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randint(num_classes, (volumes, 3, 6, 5), generator=generator)
    predicted = torch.where(torch.rand(reference.shape, generator=generator) < 0.6, reference, reference.roll(1, -1))
    for b in range(volumes):
        predicted[b, :, b:], reference[b, :, 2 * b:] = (0, 0) if b else (predicted[b], reference[b])
    return predicted, reference


def _dice(predicted, reference, num_classes):
    rows = []
    for p, r in zip(predicted, reference):
        rows.append([2 * ((p == k) & (r == k)).sum() / ((p == k).sum() + (r == k).sum()) for k in range(1, num_classes)])
    return torch.tensor(rows)


def _biases(function, label, num_classes):
    found = torch.as_tensor(answer(function, label, num_classes)).detach().float()
    same_shape(found, (num_classes,), f"masks of {num_classes} classes")
    return found


def _close(function, done, expected, hint):
    found = answer(function, done)
    try:
        found = float(found)
    except (TypeError, ValueError):
        raise Wrong(f"at done = {done}: expected a number, found {type(found).__name__}") from None
    if not abs(found - expected) < 1e-3:
        raise Wrong(f"at done = {done}: expected {expected:.4f}, found {found:.4f}; {hint}")
