"""The toy tasks of the course are what they say, and each is solved by one gate alone."""

import pytest
import torch

from csam_lite.core.attention import PositionalAttention, SemanticAttention
from csam_lite.core.start import start_gates
from csam_lite.course.toys import (
    StackNetwork,
    ToyNetwork,
    dice,
    drifting,
    fit,
    one_stays,
    share_found,
    slice_network,
    train_new,
    two_channels,
    two_discs,
)


def test_two_channels_is_what_it_says():
    x, label = two_channels(6, slices=5)
    assert x.shape == (6, 5, 2, 28, 28) and label.shape == (6, 5, 28, 28)
    assert label.unique().tolist() == [0, 1] and label.sum((2, 3)).unique().numel() == 1  # a disc of one size in each slice
    true = x.amax((1, 3, 4)).argmax(1)  # the channel with the brightest voxel
    assert set(true.tolist()) == {0, 1}
    for volume, labels, k in zip(x, label, true):
        bright = volume.amax((2, 3)) > 1.5  # (S, C)
        assert bright[:, k].sum() == 1 and not bright[:, 1 - k].any()
        assert torch.equal(volume[:, k] > 0.5, labels > 0) and not ((volume[:, 1 - k] > 0.5) & (labels > 0)).any()


def test_one_stays_is_what_it_says():
    x, label = one_stays(6, slices=5)
    assert x.shape == (6, 5, 1, 28, 28) and label.shape == (6, 5, 28, 28)
    found = x[:, :, 0] > 0.5
    assert (found.sum((2, 3)) == 4 * label.sum((2, 3))).all() and (label == label[:, :1]).all()
    assert torch.equal(found.all(1), label[:, 0] > 0)
    assert all(torch.equal(a, b) for a, b in zip(one_stays(2, seed=4), one_stays(2, seed=4)))
    assert not torch.equal(one_stays(2, seed=4)[0], one_stays(2, seed=5)[0])


@pytest.mark.parametrize("task, channels, gate", [(two_channels, 2, lambda: start_gates(SemanticAttention(2, reduction=1))),
                                                  (one_stays, 1, lambda: start_gates(PositionalAttention()))])
def test_a_toy_task_is_solved_by_its_gate_alone(task, channels, gate):
    x, label = task(64, seed=1)
    shares = []
    for made in (None, gate()):
        torch.manual_seed(0)
        network = ToyNetwork(channels, made)
        losses = fit(network, task, steps=150)
        assert losses[-1] < losses[0]
        shares.append(share_found(network, x, label))
    assert shares[0] < 0.7 and shares[1] > 0.95
    # The gate must follow the volume: its mean over the volumes does no better than no gate.
    network.gate.gate.register_forward_hook(lambda module, inputs, gate: gate.mean(0, keepdim=True).expand_as(gate))
    assert share_found(network, x, label) < 0.7


def test_a_disc_drifts_by_so_many_pixels_a_slice():
    x, label = one_stays(3, seed=2)
    still, same = drifting(x, label, 0.0)
    assert torch.equal(same, label) and torch.equal(still[:, :, 0][label == 0], x[:, :, 0][label == 0])
    seen, moved = drifting(x, label, 2.0)
    for s in range(8):
        assert torch.equal(moved[:, s], torch.roll(label[:, s], 2 * (s - 4), dims=2))
        assert (seen[:, s, 0][moved[:, s] > 0] >= 1).all()
    assert not torch.equal(seen, x) and torch.equal(x, one_stays(3, seed=2)[0])  # what was given is as it was


def test_dice_and_the_network_of_the_stack():
    x, label = one_stays(2, seed=1)
    right = torch.nn.Module()
    right.forward = lambda x: 2 * label - 1
    assert dice(right, x, label) == 1
    right.forward = lambda x: -torch.ones_like(label)
    assert dice(right, x, label) == 0

    x = torch.randn(1, 7, 1, 8, 8)
    for up, reach in ((0, 1), (1, 7)):  # three convolutions reach three slices up and down
        torch.manual_seed(0)
        network, changed = StackNetwork(up), x.clone()
        changed[:, 3] += 1
        differs = (network(x) - network(changed)).abs().amax((0, 2, 3, 4)) > 0
        assert network(x).shape == (1, 7, 2, 8, 8) and int(differs.sum()) == reach

    first, second = (train_new(lambda: None, one_stays, seed=3, steps=2) for _ in range(2))
    assert torch.equal(first.convolutions[0].weight, second.convolutions[0].weight) and not first.training


def test_two_discs_and_a_network_of_slices():
    x, y = two_discs(count=3, seed=4)
    assert x.shape == (3, 6, 1, 32, 32) and y.unique().tolist() == [0, 1, 2] and not y[:, [0, 1, 5]].any()
    assert (y == 1).sum() > 3 * (y == 2).sum() and slice_network(3)(x.flatten(0, 1)).shape == (18, 3, 32, 32)
