"""Checks of 05_csam_unet: the way into a CSAM and out of it, the parameters of the gates, and a CSAM in a network by other hands."""

import torch
from torch import nn

from csam_lite.core.attention import CSAM, PositionalAttention, SemanticAttention, SliceAttention
from csam_lite.course.checks import Wrong, answer, same_shape, same_values, verify


def gate_level(gated):
    """gated(features, csam, S) -> features (B*S, C, H, W) of whole volumes of S slices, gated by csam, in the shape they came in."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        csam, features = CSAM(4, 6).eval(), torch.randn(3 * 4, 6, 5, 7)
    wanted = csam(features.unflatten(0, (3, 4))).flatten(0, 1)

    def shape():
        """the features leave with the axes (B*S, C, H, W)"""
        same_shape(answer(gated, features, csam, 4), features.shape, "3 volumes of 4 slices, 6 channels, 5 x 7 pixels")

    def values():
        """they are what csam gives for x (B, S, C, H, W)"""
        same_values(answer(gated, features, csam, 4), wanted, "3 volumes of 4 slices",
                    "is the first axis split into (B, S) with the volumes first? does csam see 5 axes?")

    def apart():
        """a volume is gated the same, whoever shares its batch"""
        same_values(answer(gated, features[:4], csam, 4), wanted[:4], "the first volume alone", "do not pool over the volumes of the batch")

    def gradients():
        """gradients reach the features and the gates"""
        own = features.clone().requires_grad_()
        csam.zero_grad(set_to_none=True)
        found = answer(gated, own, csam, 4)
        if found.requires_grad:
            found.square().sum().backward()
        if own.grad is None or any(parameter.grad is None for parameter in csam.parameters()):
            raise Wrong("a gradient is missing: look for .detach(), .data or torch.no_grad()")

    return verify("gate a level", shape, values, apart, gradients)


def parameters(count):
    """count(D, C) -> {"semantic": n, "positional": n, "slice": n}, the numbers that a CSAM of D slices and C channels learns."""
    def of(gate, D, C, make):
        found = answer(count, D, C)
        if gate not in found:
            raise Wrong(f"for D = {D}, C = {C}: no entry {gate!r}, found {sorted(found)}")
        wanted = sum(parameter.numel() for parameter in make().parameters())
        if int(found[gate]) != wanted:
            raise Wrong(f"for D = {D}, C = {C}: expected {wanted}, found {found[gate]}; a Linear or Conv2d has weights and biases")

    def semantic():
        """the semantic gate's MLP goes C -> C // 16 -> C"""
        for C in (16, 64, 512):
            of("semantic", 20, C, lambda C=C: SemanticAttention(C))

    def thin():
        """below 16 channels the hidden layer has one unit"""
        of("semantic", 20, 8, lambda: SemanticAttention(8))

    def positional():
        """the positional gate is one 7 x 7 convolution from 2 maps to 1, whatever D and C"""
        for D, C in ((20, 64), (6, 512)):
            of("positional", D, C, PositionalAttention)

    def slice_():
        """the slice gate's MLP goes D -> 4 D -> D, whatever C"""
        for D, C in ((20, 64), (6, 512), (32, 8)):
            of("slice", D, C, lambda D=D: SliceAttention(D))

    return verify("parameters of the gates", semantic, thin, positional, slice_)


def plug(plugged):
    """plugged(network, layer, csam, S) -> a network like `network`, whose layer of this name has its output gated by csam."""
    def parts():
        with torch.random.fork_rng():
            torch.manual_seed(8)
            network = _Layers()
            return network, CSAM(4, 6).eval(), torch.randn(2 * 4, 1, 8, 8)

    def expected(network, csam, x):
        y = network.middle(network.first(x))
        return network.last(csam(y.unflatten(0, (-1, 4))).flatten(0, 1))

    def values():
        """the network answers as if csam stood behind the layer"""
        network, csam, x = parts()
        wanted = expected(network, csam, x).detach()
        same_values(answer(plugged, network, "middle", csam, 4)(x), wanted, 'layer "middle", 2 volumes of 4 slices',
                    "csam wants (B, S, C, H, W), the layer gives (B*S, C, H, W)")

    def any_layer():
        """it is the layer that was named"""
        network, csam, x = parts()
        y = csam(network.first(x).unflatten(0, (-1, 4))).flatten(0, 1)
        wanted = network.last(network.middle(y)).detach()
        same_values(answer(plugged, network, "first", csam, 4)(x), wanted, 'layer "first"', "is the layer's name written into your code?")

    def learns():
        """an optimiser that is given network.parameters() trains csam, and the gradient reaches it"""
        network, csam, x = parts()
        result = answer(plugged, network, "middle", csam, 4)
        own = {id(parameter) for parameter in result.parameters()}
        if any(id(parameter) not in own for parameter in csam.parameters()):
            raise Wrong("csam's parameters are not among network.parameters(): make csam an attribute of a module of the network")
        result(x).square().sum().backward()
        if any(parameter.grad is None or not bool(parameter.grad.any()) for parameter in csam.parameters()):
            raise Wrong("a parameter of csam got no gradient")

    def crosses():
        """a changed slice changes the other slices of its volume, and no slice of another volume"""
        network, csam, x = parts()
        result = answer(plugged, network, "middle", csam, 4)
        changed = x.clone()
        changed[1] += 5  # slice 1 of volume 0
        with torch.no_grad():
            apart = (result(x) - result(changed)).abs().amax((1, 2, 3))
        if not bool(apart[:4].all()) or bool(apart[4:].any()):
            raise Wrong(f"volume 0, slice 1 was changed; the outputs moved by {[round(float(a), 4) for a in apart]}, volume by volume")

    return verify("plug in a CSAM", values, any_layer, learns, crosses)


class _Layers(nn.Module):
    """Not an nn.Sequential: there `network.csam = csam`, an answer as good as any, would also append csam to the layers."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.last(self.middle(self.first(x)))
