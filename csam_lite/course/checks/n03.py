"""Checks of 03_positional_attention."""

import torch
from torch import nn

from csam_lite.core.attention import PositionalAttention
from csam_lite.course.checks import Wrong, answer, parts, same_gradients, same_shape, same_values, verify
from csam_lite.course.checks.n02 import features


def maps(function):
    """function(x): the two maps of x (B, S, C, H, W) over its slices and channels, (B, 2, H, W), the maximum first, the mean second."""

    def by_hand():
        """a volume of two slices of 1 x 2 pixels, whose maps you can read off"""
        x = torch.tensor([[1.0, 6.0], [3.0, -2.0]]).reshape(1, 2, 1, 1, 2)
        same_values(answer(function, x), torch.tensor([[[[3.0, 6.0]], [[2.0, 2.0]]]]), "the small volume", "the maximum comes first, then the mean")

    def random():
        """a batch with several channels"""
        x = features()
        hint = "the axes S and C go, the axes B, H and W stay"
        same_values(answer(function, x), torch.stack([x.amax((1, 2)), x.mean((1, 2))], 1), f"x of shape {tuple(x.shape)}", hint)

    return verify("maps", by_hand, random)


def positional_attention(function):
    """function(x, conv): x times its positional gate; `conv` is a convolution (B, 2, H, W) -> (B, 1, H, W). Values and gradients are
    PositionalAttention's."""
    ours, x = PositionalAttention(), features()
    nn.init.normal_(ours.conv.weight, std=0.2, generator=torch.Generator().manual_seed(1))
    nn.init.constant_(ours.conv.bias, 0.2)

    def shape():
        """the output has the shape of x"""
        same_shape(answer(function, x, ours.conv), x.shape, f"x of shape {tuple(x.shape)}")

    def gate():
        """one gate for each pixel of each volume, the same for all slices and channels"""
        ratio = answer(function, x, ours.conv) / x
        spread = (ratio.amax((1, 2)) - ratio.amin((1, 2))).max().item()
        if not spread < 1e-4:
            raise Wrong(f"on x of shape {tuple(x.shape)}: expected output / x alike along S and C, found that it varies by {spread:.3g}")

    def values():
        """the values of csam_lite.PositionalAttention"""
        hint = "the gate is sigmoid(conv(maps)), the maximum in channel 0 of the maps and the mean in channel 1"
        same_values(answer(function, x, ours.conv), ours(x), f"x of shape {tuple(x.shape)}", hint)

    def gradients():
        """the gradients of csam_lite.PositionalAttention"""
        same_gradients(lambda x: answer(function, x, ours.conv), ours, x, ours.conv)

    return verify("positional_attention", shape, gate, values, gradients)


def by_hand(function):
    """function(): a weight (1, 2, 7, 7) and a bias (1,) whose gate is open on the disc that stays, and shut on discs that jump."""

    def shapes():
        """a weight of shape (1, 2, 7, 7) and a bias of shape (1,)"""
        same_shape(read(function)[0], (1, 2, 7, 7), "the weight")
        same_shape(read(function)[1], (1,), "the bias")

    def opens():
        """on 32 volumes, the gate is above 0.9 on every disc that stays and below 0.1 on every disc that jumps"""
        from csam_lite.course.toys import one_stays

        attention = PositionalAttention()
        x, label = one_stays(32, seed=2)  # no jumping disc is in one place in more than 5 of the 8 slices
        with torch.no_grad():
            for parameter, value in zip((attention.conv.weight, attention.conv.bias), read(function)):
                parameter.copy_(value)
            gate = attention.gate_of(x)[:, 0, 0]  # (B, H, W)
        stays, jumps = label[:, 0] > 0, ((x[:, :, 0] > 0.5) & (label == 0)).any(1)
        highest, mean = x.amax((1, 2)), x.mean((1, 2))  # (B, H, W) each

        def there(gate):
            at = gate.argmax()
            return f"in one place; there the maximum is {highest.flatten()[at]:.2f} and the mean {mean.flatten()[at]:.2f}"

        if not (least := gate[stays].min().item()) > 0.9:
            raise Wrong(f"on discs that stay: expected a gate above 0.9, found {least:.2f} {there((-gate).masked_fill(~stays, -torch.inf))}")
        if not (most := gate[jumps].max().item()) < 0.1:
            raise Wrong(f"on discs that jump: expected a gate below 0.1, found {most:.2f} {there(gate.masked_fill(~jumps, -torch.inf))}")

    return verify("by_hand", shapes, opens)


def read(function):
    """The weight and the bias as float32, or Wrong."""
    return [torch.as_tensor(part, dtype=torch.float32) for part in parts(answer(function), ("the weight", "the bias"))]
