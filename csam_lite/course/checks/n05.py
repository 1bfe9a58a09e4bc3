"""Checks of 05_csam_unet: the axes around a CSAM, the parameters of the gates, a CSAM in another network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from csam_lite.core.attention import CSAM, PositionalAttention, SemanticAttention, SliceAttention
from csam_lite.course.checks import (
    Wrong,
    answer,
    numpy_generator,
    same_shape,
    same_values,
    seed_of,
    verify,
)


def gate_level(gated: Callable) -> bool | None:
    """gated(features, csam, S): features (B*S, C, H, W) of volumes of S slices -> the same, gated by csam."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(7))
        csam, features = CSAM(4, 6).eval(), torch.randn(3 * 4, 6, 5, 7)
    wanted = csam(features.unflatten(0, (3, 4))).flatten(0, 1)

    def shape() -> None:
        """the result has the axes (B*S, C, H, W)"""
        same_shape(answer(gated, features, csam, 4), features.shape, "3 volumes of 4 slices, 6 channels, 5 x "
                                                                     "7 pixels")

    def values() -> None:
        """the result is what csam gives for x (B, S, C, H, W)"""
        same_values(answer(gated, features, csam, 4), wanted, "3 volumes of 4 slices",
                    "is the first axis split into (B, S) with the volumes first? does csam see 5 axes?")

    def apart() -> None:
        """a volume is gated in the same way, whatever else is in its batch"""
        same_values(answer(gated, features[:4], csam, 4), wanted[:4], "the first volume alone",
                    "do not pool over the volumes of the batch")

    def gradients() -> None:
        """gradients reach the features and the gates"""
        leaf = features.clone().requires_grad_()
        csam.zero_grad(set_to_none=True)
        result = answer(gated, leaf, csam, 4)
        if result.requires_grad:
            result.square().sum().backward()
        if leaf.grad is None or any(parameter.grad is None for parameter in csam.parameters()):
            raise Wrong("a gradient is missing; is there a .detach(), a .data or a torch.no_grad()?")

    return verify("gate a level", shape, values, apart, gradients)


def parameters(count: Callable) -> bool | None:
    """count(D, C) -> {"semantic": n, "positional": n, "slice": n}: parameters for D slices and C channels."""

    generator = numpy_generator(0)
    drawn_slices = generator.integers(5, 40, 3).tolist()
    drawn_channels = generator.integers(16, 300, 3).tolist()

    def compare(gate: str, D: int, C: int, make: Callable[[], nn.Module]) -> None:
        counted = answer(count, D, C)
        if gate not in counted:
            raise Wrong(f"for D = {D}, C = {C}: there is no entry {gate!r}, only {sorted(counted)}")
        wanted = sum(parameter.numel() for parameter in make().parameters())
        if int(counted[gate]) != wanted:
            raise Wrong(f"for D = {D}, C = {C}: expected {wanted}, found {counted[gate]}; "
                        "a Linear or Conv2d has weights and biases")

    def semantic() -> None:
        """the semantic gate's MLP goes C -> C // 16 -> C"""
        for C in (16, 64, 512, *drawn_channels):
            compare("semantic", 20, C, lambda C=C: SemanticAttention(C))

    def thin() -> None:
        """below 16 channels the hidden layer has one unit"""
        compare("semantic", 20, 8, lambda: SemanticAttention(8))

    def positional() -> None:
        """the positional gate is one 7 x 7 convolution from 2 maps to 1, for any D and C"""
        for D, C in ((20, 64), (6, 512), *zip(drawn_slices, drawn_channels)):
            compare("positional", D, C, PositionalAttention)

    def slice_() -> None:
        """the slice gate's MLP goes D -> 4 D -> D, for any C"""
        for D, C in ((20, 64), (6, 512), (32, 8), *zip(drawn_slices, drawn_channels)):
            compare("slice", D, C, lambda D=D: SliceAttention(D))

    return verify("parameters of the gates", semantic, thin, positional, slice_)


def plug(plugged: Callable) -> bool | None:
    """plugged(network, layer, csam, S) -> a network like `network`; csam gates what the layer returns."""

    def parts() -> tuple[nn.Module, CSAM, torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(8))
            network = _Layers()
            return network, CSAM(4, 6).eval(), torch.randn(2 * 4, 1, 8, 8)

    def expected(network: nn.Module, csam: CSAM, x: torch.Tensor) -> torch.Tensor:
        y = network.middle(network.first(x))
        return network.last(csam(y.unflatten(0, (-1, 4))).flatten(0, 1))

    def values() -> None:
        """the network gives what it gives with csam behind the layer"""
        network, csam, x = parts()
        wanted = expected(network, csam, x).detach()
        same_values(answer(plugged, network, "middle", csam, 4)(x), wanted, 'layer "middle", 2 volumes of 4 '
                                                                            'slices',
                    "csam takes (B, S, C, H, W), the layer gives (B*S, C, H, W)")

    def any_layer() -> None:
        """csam gates the layer that was named"""
        network, csam, x = parts()
        y = csam(network.first(x).unflatten(0, (-1, 4))).flatten(0, 1)
        wanted = network.last(network.middle(y)).detach()
        same_values(answer(plugged, network, "first", csam, 4)(x), wanted, 'layer "first"',
                    "is the layer's name written into your code?")

    def learns() -> None:
        """an optimiser that gets network.parameters() trains csam, and a gradient reaches csam"""
        network, csam, x = parts()
        # with some weights, a part of csam gets a gradient of zero from any network
        wanted = torch.autograd.grad(expected(network, csam, x).square().sum(), tuple(csam.parameters()))
        result = answer(plugged, network, "middle", csam, 4)
        known = {id(parameter) for parameter in result.parameters()}
        if any(id(parameter) not in known for parameter in csam.parameters()):
            raise Wrong("csam's parameters are not among network.parameters(); "
                        "make csam an attribute of a module of the network")
        result(x).square().sum().backward()
        if any(parameter.grad is None or bool(gradient.any()) and not bool(parameter.grad.any())
               for parameter, gradient in zip(csam.parameters(), wanted)):
            raise Wrong("a parameter of csam got no gradient")

    def crosses() -> None:
        """a changed slice changes the other slices of its volume, and no slice of another volume"""
        network, csam, x = parts()
        result = answer(plugged, network, "middle", csam, 4)
        changed = x.clone()
        changed[1] += 5  # slice 1 of volume 0
        with torch.no_grad():
            change = (result(x) - result(changed)).abs().amax((1, 2, 3))  # (B*S,)
        if not bool(change[:4].all()) or bool(change[4:].any()):
            moved = [round(float(value), 4) for value in change]
            raise Wrong(f"slice 1 of volume 0 was changed; the outputs of the 8 slices moved by {moved}")

    return verify("plug in a CSAM", values, any_layer, learns, crosses)


class _Layers(nn.Module):
    """Three layers. It is no nn.Sequential, because there `network.csam = csam` would add a fourth layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.middle(self.first(x)))
