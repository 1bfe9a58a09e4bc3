"""Checks of 02_semantic_attention."""

import torch
from torch import nn

from csam_lite.core.attention import SemanticAttention
from csam_lite.course.checks import Wrong, answer, parts, same_gradients, same_shape, same_values, verify

PAIR = ("the maximum", "the mean")


def statistics(function):
    """function(x): the maximum and the mean of each channel of x (B, S, C, H, W) in its whole volume, a pair of tensors (B, C)."""

    def by_hand():
        """a volume of two slices and two channels, whose statistics you can read off"""
        x = torch.tensor([[1.0, 3.0], [-4.0, -2.0], [5.0, 7.0], [-9.0, -1.0]]).reshape(1, 2, 2, 1, 2)
        highest, mean = parts(answer(function, x), PAIR)
        same_values(highest, torch.tensor([[7.0, -1.0]]), "the small volume, maximum", "the maximum is over slices and pixels, channel by channel")
        same_values(mean, torch.tensor([[4.0, -4.0]]), "the small volume, mean", "the mean is over slices and pixels, channel by channel")

    def random():
        """a batch: each volume has its own statistics"""
        x = features()
        highest, mean = parts(answer(function, x), PAIR)
        same_values(highest, x.amax((1, 3, 4)), f"x of shape {tuple(x.shape)}, maximum", "no axis but S, H and W may go")
        same_values(mean, x.mean((1, 3, 4)), f"x of shape {tuple(x.shape)}, mean", "no axis but S, H and W may go")

    return verify("statistics", by_hand, random)


def semantic_attention(function):
    """function(x, mlp): x times its semantic gate; `mlp` is a module (B, C) -> (B, C). Values and gradients are SemanticAttention's."""
    ours, x = SemanticAttention(3, reduction=1), features()
    for layer in (ours.mlp[0], ours.mlp[2]):
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
        nn.init.constant_(layer.bias, 0.3)

    def shape():
        """the output has the shape of x"""
        same_shape(answer(function, x, ours.mlp), x.shape, f"x of shape {tuple(x.shape)}")

    def gate():
        """one gate for each channel of each volume, the same for all slices and pixels"""
        ratio = answer(function, x, ours.mlp) / x
        spread = (ratio.amax((1, 3, 4)) - ratio.amin((1, 3, 4))).max().item()
        if not spread < 1e-4:
            raise Wrong(f"on x of shape {tuple(x.shape)}: expected output / x alike in a channel, found that it varies by {spread:.3g}")

    def values():
        """the values of csam_lite.SemanticAttention"""
        hint = "the gate is sigmoid(mlp(maximum) + mlp(mean)): one sigmoid, and the MLP is called twice"
        same_values(answer(function, x, ours.mlp), ours(x), f"x of shape {tuple(x.shape)}", hint)

    def gradients():
        """the gradients of csam_lite.SemanticAttention"""
        same_gradients(lambda x: answer(function, x, ours.mlp), ours, x, ours.mlp)

    return verify("semantic_attention", shape, gate, values, gradients)


def by_hand(function):
    """function(): weights W1 (2, 2), b1 (2,), W2 (2, 2), b2 (2,) of an MLP that opens the channel with the higher maximum and shuts the other."""

    def shapes():
        """four tensors of the shapes (2, 2), (2,), (2, 2), (2,)"""
        weights = parts(answer(function), ("W1", "b1", "W2", "b2"))
        for name, weight, shape in zip(("W1", "b1", "W2", "b2"), weights, ((2, 2), (2,), (2, 2), (2,))):
            same_shape(torch.as_tensor(weight), shape, name)

    def opens():
        """the gate is above 0.9 for the channel with the higher maximum and below 0.1 for the other, at any brightness"""
        attention = SemanticAttention(2, reduction=1)
        parameters = (attention.mlp[0].weight, attention.mlp[0].bias, attention.mlp[2].weight, attention.mlp[2].bias)
        with torch.no_grad():
            for parameter, weight in zip(parameters, answer(function)):
                parameter.copy_(torch.as_tensor(weight, dtype=torch.float32))
            for true, bright in ((0, 1), (1, 1), (0, 2), (1, 2)):
                x = torch.zeros(1, 4, 2, 5, 10)
                x[:, 0, :, 0, 0] = 1 + (torch.arange(2) == true).float()
                x[:, 1, :, 0] = (8 - x[:, 0, :, 0, :1]) / 10  # every mean is 8 / 200
                x *= bright
                gates = (attention(x)[0, 0, :, 0, 0] / x[0, 0, :, 0, 0]).tolist()
                if not (gates[true] > 0.9 and gates[1 - true] < 0.1):
                    raise Wrong(f"channel {true} has maximum {2 * bright}, channel {1 - true} maximum {bright}: expected gates above 0.9 and "
                                f"below 0.1, found {gates[true]:.2f} and {gates[1 - true]:.2f}")

    return verify("by_hand", shapes, opens)


def masked_statistics(function):
    """function(x, mask): statistics of the real slices alone, maximum and mean (B, C); mask (B, S) is True where a slice is real."""
    x = features() - 4  # all below zero: a padding of zeros would be the maximum
    mask = torch.tensor([[True, True, True, True], [True, True, False, False], [False, True, True, False]])

    def full():
        """with a mask that is True everywhere, the plain statistics"""
        highest, mean = parts(answer(function, x.clone(), torch.ones(3, 4, dtype=torch.bool)), PAIR)
        same_values(highest, x.amax((1, 3, 4)), "a full mask, maximum")
        same_values(mean, x.mean((1, 3, 4)), "a full mask, mean")

    def part():
        """volumes of 4, 2 and 2 real slices, all of whose values are negative"""
        highest, mean = parts(answer(function, x.clone(), mask), PAIR)
        kept = [volume[real] for volume, real in zip(x, mask)]
        expected = torch.stack([volume.amax((0, 2, 3)) for volume in kept]), torch.stack([volume.mean((0, 2, 3)) for volume in kept])
        same_values(highest, expected[0], "the maximum", "padding of zeros is higher than all real values here")
        same_values(mean, expected[1], "the mean", "divide by the number of real slices, not by S")

    def any_padding():
        """what stands in the padding changes nothing"""
        before = parts(answer(function, x.clone(), mask), PAIR)
        for padding, hint in ((50.0, ""), (torch.nan, "0 * NaN is NaN: fill the padding instead of multiplying it")):
            highest, mean = parts(answer(function, x.masked_fill(~mask[:, :, None, None, None], padding), mask), PAIR)
            same_values(highest, before[0], f"padding of {padding:g}, maximum", hint)
            same_values(mean, before[1], f"padding of {padding:g}, mean", hint)

    return verify("masked_statistics", full, part, any_padding)


def features():
    """x (3, 4, 3, 5, 6): three volumes of unlike level; no value is 0."""
    x = torch.randn(3, 4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    return x + torch.tensor([0.0, 1.0, -0.5])[:, None, None, None, None]
