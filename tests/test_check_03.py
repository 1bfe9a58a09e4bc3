"""The checks of 03_positional_attention reject wrong answers and accept unlike right ones; the toy tasks are what they say."""

import pytest
import torch
from torch import nn

from csam_lite.attention import PositionalAttention, SemanticAttention
from csam_lite.check import n03
from csam_lite.toys import ToyNetwork, fit, one_stays, share_found, two_channels


def untouched(*inputs):
    ...


def two_maps(x):
    return torch.stack([x.amax((1, 2)), x.mean((1, 2))], 1)


def gated(x, logits):
    return x * torch.sigmoid(logits)[:, None]


def attention(x, conv):
    return gated(x, conv(two_maps(x)))


def without_graph(x, conv):
    with torch.no_grad():
        gate = torch.sigmoid(conv(two_maps(x)))
    return x * gate[:, None]


def loop_maps(x):
    out = torch.empty(len(x), 2, *x.shape[3:])
    for b, volume in enumerate(x):
        flat = volume.flatten(0, 1)  # (S*C, H, W)
        out[b, 0], out[b, 1] = flat.max(0).values, flat.sum(0) / len(flat)
    return out


def volume_by_volume(x, conv):
    return torch.stack([torch.einsum("schw,hw->schw", v, conv(two_maps(v[None]))[0, 0].sigmoid()) for v in x])


class Gate(nn.Module):
    def forward(self, x, conv):
        highest, mean = x.flatten(1, 2).max(1).values, x.flatten(1, 2).mean(1)
        return gated(x, conv(torch.cat([highest[:, None], mean[:, None]], 1)))


def kernel(of_maximum=0.0, of_mean=40.0, bias=-30.0, side=1):
    weight = torch.zeros(1, 2, 7, 7)
    where = slice(3 - side // 2, 4 + side // 2)
    weight[0, 0, where, where], weight[0, 1, where, where] = of_maximum / side**2, of_mean / side**2
    return lambda: (weight, torch.tensor([bias]))


WRONG = {
    "maps": {
        "exchanged": lambda x: two_maps(x).flip(1),
        "slices kept": lambda x: torch.stack([x.amax(2), x.mean(2)], 2),
        "channels kept": lambda x: torch.stack([x.amax(1), x.mean(1)], 1),
        "pixels pooled": lambda x: torch.stack([x.amax((3, 4)), x.mean((3, 4))], 1),
        "volumes pooled": lambda x: two_maps(x).mean(0, keepdim=True).expand(len(x), -1, -1, -1),
        "the mean of the channels' maxima": lambda x: torch.stack([x.amax((1, 2)), x.amax(2).mean(1)], 1),
        "the sum": lambda x: torch.stack([x.amax((1, 2)), x.sum((1, 2))], 1),
        "one map": lambda x: x.mean((1, 2)),
    },
    "positional_attention": {
        "the gate alone": lambda x, conv: torch.sigmoid(conv(two_maps(x)))[:, None],
        "no sigmoid": lambda x, conv: x * conv(two_maps(x))[:, None],
        "a gate for each slice": lambda x, conv: x * torch.stack([torch.sigmoid(conv(two_maps(x[:, [s]]))) for s in range(x.shape[1])], 1),
        "a gate for each channel": lambda x, conv: torch.stack([attention(x[:, :, [c]], conv)[:, :, 0] for c in range(x.shape[2])], 2),
        "maps exchanged": lambda x, conv: gated(x, conv(two_maps(x).flip(1))),
        "softmax over pixels": lambda x, conv: x * conv(two_maps(x)).flatten(1).softmax(1).reshape(len(x), 1, 1, *x.shape[3:]),
        "graph cut": without_graph,
        "input cut": lambda x, conv: gated(x, conv(two_maps(x.detach()))),
        "residual": lambda x, conv: x + attention(x, conv),
        "maximum of each volume in all": lambda x, conv: gated(x, conv(two_maps(x).amax(0, keepdim=True).expand(len(x), -1, -1, -1))),
    },
    "by_hand": {
        "reads the maximum": kernel(of_maximum=40.0, of_mean=0.0, bias=-25.0),
        "always open": kernel(0.0, 0.0, 9.0),
        "always shut": kernel(0.0, 0.0, -9.0),
        "inverted": kernel(of_mean=-40.0, bias=30.0),
        "too weak": kernel(of_mean=4.0, bias=-3.0),
        "no bias": kernel(bias=0.0),
        "averages over 7 x 7": kernel(side=7),
        "one tensor": lambda: torch.zeros(1, 2, 7, 7),
        "kernel of another size": lambda: (torch.zeros(1, 2, 3, 3), torch.zeros(1)),
    },
}
RIGHT = {
    "maps": {"stack": two_maps, "loop": loop_maps},
    "positional_attention": {"function": attention, "loop and einsum": volume_by_volume, "module": Gate()},
    "by_hand": {"mean at the pixel": kernel(), "mean, with less of the maximum": kernel(-2.0, 40.0, -28.0)},
}


@pytest.mark.parametrize("check, name", [(check, name) for check, answers in WRONG.items() for name in answers])
def test_a_wrong_answer_is_rejected(check, name):
    assert getattr(n03, check)(WRONG[check][name]) is False


@pytest.mark.parametrize("check, name", [(check, name) for check, answers in RIGHT.items() for name in answers])
def test_a_right_answer_is_accepted(check, name):
    assert getattr(n03, check)(RIGHT[check][name]) is True


@pytest.mark.parametrize("check", WRONG)
def test_an_untouched_stub_is_told_so(check, capsys):
    assert getattr(n03, check)(untouched) is None
    assert "complete the cell above first" in capsys.readouterr().out


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


@pytest.mark.parametrize("task, channels, gate", [(two_channels, 2, lambda: SemanticAttention(2, reduction=1, start=0.9)),
                                                  (one_stays, 1, lambda: PositionalAttention(start=0.9))])
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
