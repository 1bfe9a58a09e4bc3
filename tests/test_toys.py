"""The toy tasks of the course are what they say, and each is solved by one gate alone."""

import pytest
import torch

from csam_lite.core.attention import PositionalAttention, SemanticAttention, SliceAttention
from csam_lite.core.start import start_gates
from csam_lite.course.toys import (
    StackNetwork,
    ToyNetwork,
    after_the_dot,
    between,
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


def test_the_blob_is_labelled_by_its_distance_from_the_band():
    x, label = between(40, seed=1)
    assert x.shape == (40, 12, 1, 10, 10) and label.shape == (40, 12, 10, 10)
    band = (x[:, :, 0, 0] > 1).all(2)     # (B, S)
    begins = band.int().argmax(1) + 1     # counted from 1
    assert set(begins.tolist()) == {7, 8, 9, 10, 11, 12} and (band.int().diff(dim=1) >= 0).all()
    slices = torch.arange(1, 13)
    labelled = (slices >= begins[:, None] - 5) & (slices <= begins[:, None] - 2)
    assert torch.equal(label.amax((2, 3)) > 0, labelled) and labelled.sum(1).unique().tolist() == [4]
    blob = x[:, :, 0, 3:9] > 0.5
    assert (blob == blob[:1, :1]).all()   # it alone tells nothing
    assert torch.equal(label[labelled][:, 3:9] > 0, blob[labelled])
    assert (between(9, begins=8)[0][:, 7, 0, 0] > 1).all() and (between(9, begins=8)[0][:, 6, 0, 0] < 1).all()
    late = between(60, seed=2, last=9)[0][:, :, 0, 0].amax(2) > 1
    assert late.sum(1).min() == 4         # the band begins in slice 9 at the latest


def test_the_disc_is_labelled_from_the_dot_on():
    x, label = after_the_dot(40, seed=1)
    assert x.shape == (40, 8, 1, 16, 16) and label.shape == (40, 8, 16, 16) and label.dtype == torch.long
    dot = x[:, :, 0, 3, 4] > 1            # (B, S)
    assert (dot.sum(1) == 1).all() and set((dot.int().argmax(1) + 1).tolist()) == {2, 3, 4, 5, 6, 7, 8}
    assert torch.equal(label[:, :, 10, 8].bool(), dot.int().cumsum(1).bool())
    disc = x[:, :, 0, 6:] > 0.5
    assert (disc == disc[:1, :1]).all() and torch.equal(label[:, -1, 6:].bool(), disc[:, -1])
    assert after_the_dot(3, at=5)[0][:, 4, 0, 3, 4].min() > 1


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
    give_all_volumes_the_mean_gate(network)
    assert share_found(network, x, label) < 0.7


def test_the_distance_from_the_band_is_solved_by_a_slice_gate_that_follows_the_volume():
    x, label = between(64, seed=1)
    scores = []
    for seed in range(4):
        network = train_new(lambda: SliceAttention(12), between, seed)
        own = dice(network, x, label)
        give_all_volumes_the_mean_gate(network)
        scores.append((own, dice(network, x, label)))
    own, mean = (sum(column) / 4 for column in zip(*scores))
    assert own > 0.95 and 0.5 < mean < 0.7  # experiments/README.md: 0.99 and 0.60
    assert dice(train_new(lambda: None, between, seed=0), x, label) < 0.1


def give_all_volumes_the_mean_gate(network):
    network.gate.gate.register_forward_hook(lambda module, inputs, gate: gate.mean(0, keepdim=True).expand_as(gate))


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
