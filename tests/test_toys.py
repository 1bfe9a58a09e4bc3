"""The toy tasks of the course are what they say, and each is solved by one gate alone."""

import pytest
import torch

from csam_lite.core.attention import PositionalAttention, SemanticAttention
from csam_lite.core.start import start_gates
from csam_lite.course.toys import ToyNetwork, fit, one_stays, share_found, two_channels


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
