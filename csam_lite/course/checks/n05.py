"""Checks of 05_csam_unet: the axes around a CSAM, the parameters of the gates, a CSAM in another network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from csam_lite.core.attention import CSAM, PositionalAttention, SemanticAttention, SliceAttention
from csam_lite.course.checks import (
    Wrong,
    answer,
    exercise,
    number,
    numpy_generator,
    same_gradients,
    same_shape,
    same_values,
    seed_of,
    states,
    verify,
)


@exercise
def gate_level(gated: Callable) -> bool | None:
    """gated(features, csam, S): features (B*S, C, H, W) of volumes of S slices -> the same, gated by csam."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(7))
        csam, features = CSAM(4, 6).eval(), torch.randn(3 * 4, 6, 5, 7)
    wanted = csam(features.unflatten(0, (3, 4))).flatten(0, 1)

    @states("The result has the axes (B*S, C, H, W)")
    def shape() -> None:
        same_shape(
            answer(gated, features, csam, 4),
            features.shape,
            "3 volumes of 4 slices, 6 channels, 5 x 7 pixels",
        )

    @states("The result is what csam gives for x (B, S, C, H, W)")
    def values() -> None:
        same_values(
            answer(gated, features, csam, 4),
            wanted,
            "3 volumes of 4 slices",
            "is the first axis split into (B, S) with the volumes first? does csam see 5 axes?",
        )

    @states("A volume is gated in the same way, whatever else is in its batch")
    def apart() -> None:
        same_values(
            answer(gated, features[:4], csam, 4),
            wanted[:4],
            "the first volume alone",
            "do not pool over the volumes of the batch",
        )

    @states("Volumes of S slices are gated, also where csam is made for more")
    def fewer_slices() -> None:
        fewer = csam(features.unflatten(0, (4, 3))).flatten(0, 1)
        on = "4 volumes of 3 slices, csam made for 4 slices"
        same_values(answer(gated, features, csam, 3), fewer, on, "take the number of slices from S")

    @states("Gradients reach the features and the gates")
    def gradients() -> None:
        same_gradients(
            lambda given: answer(gated, given, csam, 4),
            lambda given: csam(given.unflatten(0, (3, 4))).flatten(0, 1),
            features,
            names=["features"],
            part=csam,
        )

    return verify("gate a level", shape, values, apart, fewer_slices, gradients)


@exercise
def parameters(count: Callable) -> bool | None:
    """count(D, C) -> {"semantic": n, "positional": n, "slice": n}: parameters for D slices and C channels."""

    generator = numpy_generator(0)
    drawn_slices = generator.integers(5, 40, 3).tolist()
    drawn_channels = generator.integers(16, 300, 3).tolist()

    def compare(gate: str, D: int, C: int, make: Callable[[], nn.Module]) -> None:
        counted = answer(count, D, C)
        if not isinstance(counted, dict) or gate not in counted:
            found = sorted(counted, key=str) if isinstance(counted, dict) else type(counted).__name__
            raise Wrong(f"for D = {D}, C = {C}: expected a dict with the entry {gate!r}, found {found}")
        wanted = sum(parameter.numel() for parameter in make().parameters())
        result = number(answer(lambda: counted[gate]), f"D = {D}, C = {C}")
        if result != wanted:
            raise Wrong(
                f"for D = {D}, C = {C}: expected {wanted} for {gate!r}, found {result:g}; "
                "a Linear or Conv2d has weights and biases"
            )

    @states("The semantic gate's MLP goes C -> C // 16 -> C")
    def semantic() -> None:
        for C in (16, 64, 512, *drawn_channels):
            compare("semantic", 20, C, lambda C=C: SemanticAttention(C))

    @states("Where 16 does not divide C, the hidden layer is rounded down")
    def rounded_down() -> None:
        for C in (24, 40, 31, 47):
            compare("semantic", 20, C, lambda C=C: SemanticAttention(C))

    @states("Below 16 channels the hidden layer has one unit")
    def thin() -> None:
        for C in (8, 15, 1):
            compare("semantic", 20, C, lambda C=C: SemanticAttention(C))

    @states("The positional gate is one 7 x 7 convolution from 2 maps to 1, for any D and C")
    def positional() -> None:
        for D, C in ((20, 64), (6, 512), *zip(drawn_slices, drawn_channels)):
            compare("positional", D, C, PositionalAttention)

    @states("The slice gate's MLP goes D -> 4 D -> D, for any C")
    def slice_() -> None:
        for D, C in ((20, 64), (6, 512), (32, 8), *zip(drawn_slices, drawn_channels)):
            compare("slice", D, C, lambda D=D: SliceAttention(D))

    return verify("parameters of the gates", semantic, rounded_down, thin, positional, slice_)


@exercise
def plug(plugged: Callable) -> bool | None:
    """plugged(network, layer, csam, S) -> a network like `network`; csam gates what the layer returns."""

    def parts() -> tuple[_Layers, CSAM, torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(8))
            return _Layers(), CSAM(4, 6).eval(), torch.randn(2 * 4, 1, 8, 8)

    def gates(layer: str, hint: str) -> None:
        network, csam, x = parts()
        plain, wanted = network(x).detach(), network(x, layer, csam).detach()
        result = answer(plugged, network, layer, csam, 4)(x)
        if tuple(result.shape) == tuple(plain.shape) and torch.allclose(result, plain):
            raise Wrong(f"layer {layer!r}: the output is that of the network without csam; {hint}")
        same_values(result, wanted, f"layer {layer!r}, 2 volumes of 4 slices", hint)

    @states("The network gives what it gives with csam behind the layer")
    def values() -> None:
        gates(
            "middle",
            "a hook must return the new output, and csam takes (B, S, C, H, W) where the layer gives "
            "(B*S, C, H, W)",
        )

    @states("Csam gates the layer that was named")
    def any_layer() -> None:
        gates("first", "is the layer's name written into your code?")

    @states("Csam gates a layer inside another one")
    def nested() -> None:
        gates(
            "block.conv",
            "setattr does not look inside a layer; split the name at its last dot, or use "
            "network.get_submodule(name) and network.set_submodule(name, new)",
        )

    @states("Csam gates a layer that is an nn.Sequential, as those of MONAI often are")
    def sequence() -> None:
        hint = (
            "an nn.Sequential calls every module that becomes its attribute; make csam an attribute of the "
            "network, or put both into a module of your own"
        )
        try:
            gates("pair", hint)
        except ValueError as error:
            raise Wrong(f"layer 'pair': {error}; {hint}") from error

    @states("An optimiser that gets network.parameters() trains csam and all other layers")
    def learns() -> None:
        for layer in ("first", "block.conv"):
            network, csam, x = parts()
            # with some weights, a part of csam gets a gradient of zero from any network
            loss = network(x, layer, csam).square().sum()
            wanted = torch.autograd.grad(loss, tuple(csam.parameters()))
            result, x = answer(plugged, network, layer, csam, 4), x.requires_grad_()
            known = {id(parameter) for parameter in result.parameters()}
            if any(id(parameter) not in known for parameter in csam.parameters()):
                raise Wrong(
                    "csam's parameters are not among network.parameters(); "
                    "make csam an attribute of the network"
                )
            result(x).square().sum().backward()
            if any(
                parameter.grad is None or bool(gradient.any()) and not bool(parameter.grad.any())
                for parameter, gradient in zip(csam.parameters(), wanted)
            ):
                raise Wrong("a parameter of csam got no gradient")
            silent = [name for name, parameter in result.named_parameters() if parameter.grad is None]
            if silent or x.grad is None:
                raise Wrong(
                    f"{[*silent, 'the input'][0]} got no gradient; is there a detach(), a no_grad() "
                    "or a requires_grad_(False)?"
                )

    @states("A changed slice changes the other slices of its volume, and no slice of another volume")
    def crosses() -> None:
        network, csam, x = parts()
        result = answer(plugged, network, "middle", csam, 4)
        changed = x.clone()
        changed[1] += 5  # slice 1 of volume 0
        with torch.no_grad():
            change = (result(x) - result(changed)).abs().amax((1, 2, 3))  # (B*S,)
        if not bool(change[:4].all()) or bool(change[4:].any()):
            moved = [round(float(value), 4) for value in change]
            raise Wrong(f"slice 1 of volume 0 was changed; the outputs of the 8 slices moved by {moved}")

    @states("Any number of volumes, and of slices up to those that csam is made for")
    def other_sizes() -> None:
        network, csam, x = parts()
        three = torch.cat([x, x[:1]])  # 3 volumes of 3 slices, csam made for 4
        hint = "split the first axis by S, and leave the number of volumes open: unflatten(0, (-1, S))"
        plain, made, _ = parts()
        result = answer(plugged, plain, "middle", made, 3)
        for rows in (three, three[:6]):
            on = f"{len(rows) // 3} volumes of 3 slices, csam made for 4"
            with torch.no_grad():
                try:
                    found = result(rows)
                except (RuntimeError, ValueError) as error:
                    raise Wrong(f"on {on}: {error}; {hint}") from error
                same_values(found, network(rows, "middle", csam, 3), on, hint)

    return verify("plug in a CSAM", values, other_sizes, any_layer, nested, sequence, learns, crosses)


class _Layers(nn.Module):
    """Six layers. Two are nested and have the same name in their blocks, and one is an nn.Sequential. The
    whole is no nn.Sequential, because there `network.csam = csam` would add a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.other = nn.ModuleDict({"conv": nn.Conv2d(6, 6, 1)})  # as a layer of another block is called
        self.block = nn.ModuleDict({"conv": nn.Conv2d(6, 6, 3, padding=1)})
        self.pair = nn.Sequential(nn.Conv2d(6, 6, 1), nn.LeakyReLU())
        self.last = nn.Conv2d(6, 2, 1)

    def forward(
        self, x: torch.Tensor, layer: str = "", csam: CSAM | None = None, S: int = 4
    ) -> torch.Tensor:
        """x (B*S, 1, H, W) -> (B*S, 2, H, W); csam gates what the layer of this name returns."""
        layers = {
            "first": self.first,
            "middle": self.middle,
            "other.conv": self.other["conv"],
            "block.conv": self.block["conv"],
            "pair": self.pair,
            "last": self.last,
        }
        for name, module in layers.items():
            x = module(x)
            if name == layer:
                x = csam(x.unflatten(0, (-1, S))).flatten(0, 1)
        return x
