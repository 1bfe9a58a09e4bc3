"""Answers to the exercises of 05_csam_unet: wrong ones to reject, unusual right ones to accept."""

import copy

import torch
from torch import nn

from csam_lite import CSAM


def level_right(features, csam, S):
    return csam(features.unflatten(0, (-1, S))).flatten(0, 1)


def level_by_loop(features, csam, S):
    return torch.cat([csam(volume[None])[0] for volume in features.split(S)])


def slices_first(features, csam, S):
    gated = csam(features.unflatten(0, (S, -1)).transpose(0, 1))
    return gated.transpose(0, 1).flatten(0, 1)


LEVEL_WRONG = {
    "slices before volumes": slices_first,
    "each slice for itself": lambda f, csam, S: csam(f[:, None])[:, 0],
    "five axes left": lambda f, csam, S: csam(f.unflatten(0, (-1, S))),
    "no gate": lambda f, csam, S: f,
    "channels and slices changed places": lambda f, csam, S: csam(
        f.reshape(-1, S, *f.shape[1:])).transpose(1, 2).reshape(f.shape),
    "gradient cut": lambda f, csam, S: level_right(f, csam, S).detach(),
    "gated twice": lambda f, csam, S: level_right(level_right(f, csam, S), csam, S),
    "four axes in": lambda f, csam, S: csam(f),
    "S is always 4": lambda f, csam, S: level_right(f, csam, 4),
    "S from csam": lambda f, csam, S: level_right(f, csam, csam.slice.num_slices),
    "the gradient of the features cut": lambda f, csam, S: level_right(f.detach(), csam, S),
    "half of the gradient": lambda f, csam, S: level_right(0.5 * f + 0.5 * f.detach(), csam, S),
}


def count_by_formula(D, C):
    hidden = max(C // 16, 1)
    return {"semantic": 2 * C * hidden + hidden + C, "positional": 2 * 49 + 1, "slice": 8 * D * D + 5 * D}


def count_by_modules(D, C):
    csam = CSAM(D, C)
    return {gate: sum(p.numel() for p in getattr(csam, gate).parameters())
            for gate in ("semantic", "positional", "slice")}


def count_with_hidden(hidden):
    def count(D, C):
        return count_by_formula(D, C) | {"semantic": 2 * C * hidden(C) + hidden(C) + C}
    return count


COUNT_WRONG = {
    "not rounded": count_with_hidden(lambda C: max(C / 16, 1)),
    "rounded up": count_with_hidden(lambda C: max(-(-C // 16), 1)),
    "rounded to the nearest": count_with_hidden(lambda C: max(round(C / 16), 1)),
    "no biases": lambda D, C: {"semantic": 2 * C * max(C // 16, 1), "positional": 98, "slice": 8 * D * D},
    "no hidden unit below 16 channels": lambda D, C: count_by_formula(D, C) | {
        "semantic": 2 * C * (C // 16) + C // 16 + C},
    "two MLPs": lambda D, C: {gate: 2 * n if gate != "positional" else n
                              for gate, n in count_by_formula(D, C).items()},
    "hidden layer of D": lambda D, C: count_by_formula(D, C) | {"slice": 2 * D * D + 2 * D},
    "one map into the convolution": lambda D, C: count_by_formula(D, C) | {"positional": 50},
    "a number for D = 20 only": lambda D, C: count_by_formula(20, C),
    "a gate left out": lambda D, C: {
        gate: n for gate, n in count_by_formula(D, C).items() if gate != "positional"},
    "the sum only": lambda D, C: sum(count_by_formula(D, C).values()),
}


class Around(nn.Module):
    """The network and its csam side by side; a hook joins them."""

    def __init__(self, network, layer, csam, S):
        super().__init__()
        self.network, self.csam = network, csam
        network.get_submodule(layer).register_forward_hook(lambda module, inputs, y: level_right(y, csam, S))

    def forward(self, x):
        return self.network(x)


class Behind(nn.Module):
    def __init__(self, layer, csam, S):
        super().__init__()
        self.layer, self.csam, self.S = layer, csam, S

    def forward(self, x):
        return level_right(self.layer(x), self.csam, self.S)


def plug_in_place(network, layer, csam, S):
    outer, _, name = layer.rpartition(".")
    module = network.get_submodule(outer)
    setattr(module, name, Behind(getattr(module, name), csam, S))
    return network


def plug_in_copy(network, layer, csam, S):
    changed = copy.deepcopy(network)
    changed.set_submodule(layer, Behind(changed.get_submodule(layer), csam, S))
    return changed


def plug_top_level_only(network, layer, csam, S):
    setattr(network, layer, Behind(network.get_submodule(layer), csam, S))
    return network


def frozen(network, layer, csam, S):
    return plug_in_place(network.requires_grad_(False), layer, csam, S)


def detached(network, layer, csam, S):
    part, network.csam = network.get_submodule(layer), csam
    part.register_forward_hook(lambda module, inputs, y: level_right(y.detach(), csam, S))
    return network


def hook_without_return(network, layer, csam, S):
    part, network.csam = network.get_submodule(layer), csam

    def hook(module, inputs, y):
        level_right(y, csam, S)
    part.register_forward_hook(hook)
    return network


def hook_only(network, layer, csam, S):
    network.get_submodule(layer).register_forward_hook(lambda module, inputs, y: level_right(y, csam, S))
    return network


def into_conv(network, layer, csam, S):
    network.get_submodule(layer).csam = csam
    return hook_only(network, layer, csam, S)


def into_network(network, layer, csam, S):
    network.csam = csam
    return hook_only(network, layer, csam, S)


def two_volumes(network, layer, csam, S):
    network.csam = csam
    network.get_submodule(layer).register_forward_hook(lambda module, inputs, y: csam(y.unflatten(0, (2, -1))).flatten(0, 1))
    return network


def as_the_first_time(network, layer, csam, S):
    network.csam, seen = csam, []

    def hook(module, inputs, y):
        seen.append(len(y) // S)
        return csam(y[:seen[0] * S].unflatten(0, (seen[0], S))).flatten(0, 1)

    network.get_submodule(layer).register_forward_hook(hook)
    return network


def before(network, layer, csam, S):
    class Before(Behind):
        def forward(self, x):
            return self.layer(x if x.shape[1] == 1 else level_right(x, self.csam, self.S))
    setattr(network, layer, Before(getattr(network, layer), csam, S))
    return network


def no_grad(network, layer, csam, S):
    part, network.csam = network.get_submodule(layer), csam
    part.register_forward_hook(lambda module, inputs, y: level_right(y, csam, S).detach())
    return network


PLUG_WRONG = {
    "the network as it was": lambda network, layer, csam, S: network,
    "as many slices as csam has slots": lambda network, layer, csam, S: into_network(network, layer, csam, csam.slice.num_slices),
    "always two volumes": two_volumes,
    "as many volumes as the first time": as_the_first_time,
    "a hook, but csam belongs to nobody": hook_only,
    "csam before the layer": before,
    "the first layer whose name ends like this": lambda network, layer, csam, S: into_network(
        network, next(name for name, _ in network.named_modules() if name.split(".")[-1] == layer.split(".")[-1]), csam, S),
    "one layer's name in the code": lambda network, layer, csam, S: into_network(network, "middle", csam, S),
    "gradient cut": no_grad,
    "slices taken one by one": lambda network, layer, csam, S: into_network(network, layer, csam, 1),
    "a CSAM of its own": lambda network, layer, csam, S: into_network(network, layer, CSAM(S, 6), S),
    "only layers that are not nested": plug_top_level_only,
    "the rest frozen": frozen,
    "the layers before it cut": detached,
    "a hook that returns nothing": hook_without_return,
    "csam an attribute of the layer, which may be a Sequential": into_conv,
    "csam behind the whole network": lambda network, layer, csam, S: nn.Sequential(network, csam),
}


WRONG = {"gate_level": LEVEL_WRONG, "parameters": COUNT_WRONG, "plug": PLUG_WRONG}
RIGHT = {
    "gate_level": {
        "level_right": level_right,
        "level_by_loop": level_by_loop,
    },
    "parameters": {
        "count_by_formula": count_by_formula,
        "count_by_modules": count_by_modules,
        "tensors": lambda D, C: {gate: torch.tensor(n) for gate, n in count_by_formula(D, C).items()},
    },
    "plug": {
        "into_network": into_network,
        "plug_in_place": plug_in_place,
        "plug_in_copy": plug_in_copy,
        "Around": Around,
    },
}

EQUIVALENT = {
    "gate_level": {"csam(volume[None])[«-1»]": "the batch has one volume"},
    "parameters": {
        "«max(1, C // 16)»": "max does not depend on the order",
        "«p.detach()».numel()": "only the size is used here",
        "for gate in «('positional', 'semantic', 'slice')»": "a dict may have any order",
        "for gate in «('semantic', 'slice', 'positional')»": "a dict may have any order",
        "{gate: «n» for": "a number instead of a tensor of one number",
    },
    "plug": {
        "«def __init__(": "building a module needs no gradient",
        "Behind(«network».get_submodule(layer)": "the layer of the original network is a layer as good as its copy",
    },
}
