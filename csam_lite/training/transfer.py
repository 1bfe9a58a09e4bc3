"""Start a training from the weights of a trained run (`train --from RUN`).

Layers of equal size are copied. The first layer takes the weights of the channels that both runs have, the
last layer is copied where both runs have the same classes, and the slice gates are copied slot by slot. All
other layers start as in any training, and are named.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from csam_lite.common.errors import InputError
from csam_lite.core.attention import SliceAttention
from csam_lite.training.baselines import SliceSelfAttention
from csam_lite.training.config import Config
from csam_lite.training.facts import Facts
from csam_lite.training.run import PRETRAINED, Run, digest_of_weights, load_description, load_run

SAME = ("network", "base_channels", "levels", "neighbours")  # with another one, hardly a layer would fit
LAYOUT = (*SAME, "attention", "uncertain", "sampling", "gate_form", "semantic_hidden", "pixels")


def config_of(**options: object) -> Config:
    """The Config of `options`. With `start_from`, the options that describe the network and the size of its
    images are those of that run, unless they are given. Raises InputError as Config does, and where there is
    no such run.
    """
    if options.get("start_from"):
        stored = asdict(load_description(_folder(options["start_from"]))[0])
        options = {name: stored[name] for name in LAYOUT} | options
    return Config(**options)


def load_start(config: Config) -> Run:
    """The run from whose weights `config` starts, on the CPU.

    Raises InputError where it has no weights, or a network that differs in more than channels, classes,
    depth and gates.
    """
    source = load_run(_folder(config.start_from))
    for name in SAME:
        given, stored = getattr(config, name), getattr(source.config, name)
        if given != stored:
            raise InputError(
                f"--{name.replace('_', '-')} {given}: {config.start_from} was trained with {stored}; give "
                f"{stored}, or train without --from"
            )
    source.network.cpu()
    return source


def start_from(source: Run, network: nn.Module, facts: Facts) -> dict[str, str]:
    """Give `network`, which was built for `facts`, the weights of `source` as far as they fit.

    Returns what Facts.start holds: the run, a hash over its weights, which layers were fitted to another
    size, and which started anew, and why.
    """
    fitted, anew = take_weights(source, network, facts)
    return {
        "run": "pretrained" if source.folder == PRETRAINED else str(source.folder.resolve()),
        "weights": digest_of_weights(source.network.state_dict()),
        "fitted": "; ".join(fitted) or "none",
        "anew": "; ".join(f"{_some(names)} ({reason})" for reason, names in anew.items()) or "none",
    }


def lines_about(source: Run, facts: Facts) -> list[str]:
    """What a person should know about a training with these Facts that starts from `source`."""
    start = facts.start
    lines = [
        f"starts from {start['run']} (weights {start['weights']})",
        f"fitted to another size: {start['fitted']}; started anew: {start['anew']}",
    ]
    seen = {name for part in ("train", "val") for name in source.facts.split[part]}
    again = [name for name in facts.split["test"] if name in seen]
    if again and source.folder != PRETRAINED:  # which has seen phantoms alone
        lines.append(
            f"note: {start['run']} was trained with cases that are held out here ({_some(again)}); if these "
            "are the same scans, their scores will be too high"
        )
    return lines


@torch.no_grad()
def take_weights(
    source: Run, network: nn.Module, facts: Facts
) -> tuple[list[str], dict[str, list[str]]]:
    """Copy the weights of `source` into `network`, which was built for `facts`, as far as they fit.

    Returns what was fitted to another size, and {reason: layers that started anew}.
    """
    layers, old_layers = dict(network.named_modules()), dict(source.network.named_modules())
    for name, gate in layers.items():
        old = old_layers.get(name)
        pair = isinstance(gate, SliceAttention) and isinstance(old, SliceAttention)
        if pair and (gate.normal is None) != (old.normal is None):
            # the MLP of a drawn gate feeds a normal distribution, that of another one is the gate itself
            old_layers = {key: layer for key, layer in old_layers.items() if not key.startswith(f"{name}.")}
    channels, old_channels = facts.channels, source.facts.channels
    classes, old_classes = list(facts.labels.values()), list(source.facts.labels.values())
    fitted, anew, moved = [], {}, _move_slots(layers, old_layers)
    if moved:
        fitted.append(f"gates of {source.facts.num_slices} slices to {facts.num_slices}")
    first = next(layer for layer in layers.values() if isinstance(layer, nn.Conv2d | nn.Conv3d))
    for name, layer in layers.items():
        new = dict(layer.named_parameters(recurse=False))
        if not new or layer in moved:
            continue
        old = dict(old_layers[name].named_parameters(recurse=False)) if name in old_layers else {}
        reason = "of another size" if old else "not in that run"
        if layer is first and channels != old_channels:
            if set(channels) & set(old_channels):
                old["weight"] = _of_channels(old["weight"], old_channels, channels)
                fitted.append(f"channels {', '.join(old_channels)} to {', '.join(channels)}")
            elif len(channels) != len(old_channels):  # as many with other names are taken in their order
                old, reason = {}, f"channels {', '.join(channels)}, not {', '.join(old_channels)}"
        if layer in network.heads and classes != old_classes:
            if sorted(classes) == sorted(old_classes):
                order = [0, *(1 + old_classes.index(label) for label in classes)]  # 0 is background
                old = {key: tensor[order] for key, tensor in old.items()}
            else:
                old, reason = {}, f"classes {', '.join(classes)}, not {', '.join(old_classes)}"
        if _shapes(new) != _shapes(old):
            anew.setdefault(reason, []).append(name)
            continue
        for key, parameter in new.items():
            parameter.copy_(old[key])
    return fitted, anew


def _of_channels(weight: torch.Tensor, old: list[str], new: list[str]) -> torch.Tensor:
    """Weights (O, N * Cin, ...) of a first layer, for N neighbouring slices of `old` channels each, as those
    for `new` channels. A channel that is not among the old ones gets zeros: at first it changes nothing.
    """
    stacked = weight.unflatten(1, (-1, len(old)))  # (O, N, Cin, ...)
    fitted = stacked.new_zeros(*stacked.shape[:2], len(new), *stacked.shape[3:])
    for index, name in enumerate(new):
        if name in old:
            fitted[:, :, index] = stacked[:, :, old.index(name)]
    return fitted.flatten(1, 2)


def _move_slots(layers: dict[str, nn.Module], old_layers: dict[str, nn.Module]) -> set[nn.Module]:
    """Copy every module with slots for slices from `old_layers` into the one of the same name in `layers`
    that has another number of slots; return all layers that this filled.

    A volume stands in the middle of the slots, so that the slots are matched from the middle: a volume that
    fits into both networks gets the same gates from both (exactly where the numbers of slots differ by an
    even number). A new slot beyond the old ends is read with weight zero and starts with the gate of the last
    old slot.
    """
    moved = set()
    for name, new in layers.items():
        old = old_layers.get(name)
        if not isinstance(new, SliceAttention | SliceSelfAttention) or not isinstance(old, type(new)):
            continue
        if new.num_slices == old.num_slices:
            continue
        place = torch.arange(new.num_slices) - (new.num_slices - old.num_slices) // 2
        slots = place.clamp(0, old.num_slices - 1)  # of the old module, for each slot of the new one
        inside = place == slots
        if isinstance(new, SliceSelfAttention):
            new.place.weight.copy_(old.place.weight[slots])
            moved.add(new.place)
            continue
        _move_mlp(old.mlp, new.mlp, slots, inside)
        moved |= set(new.mlp)
        if new.normal is not None and old.normal is not None:
            for key, layer in new.normal.named_children():
                given = old.normal.get_submodule(key)
                weight = given.weight.unflatten(0, (old.num_slices, -1))[slots][..., slots] * inside
                layer.weight.copy_(weight.flatten(0, 1))
                layer.bias.copy_(given.bias.unflatten(0, (old.num_slices, -1))[slots].flatten())
                moved.add(layer)
    return moved


def _move_mlp(old: nn.Sequential, new: nn.Sequential, slots: torch.Tensor, inside: torch.Tensor) -> None:
    """The MLP of a slice gate for other slots. It keeps the hidden units with the largest weights, as many
    as it has; those that it has more start without a say, as every gate does."""
    (first, _, last), (new_first, _, new_last) = old, new
    strength = first.weight[:, slots[inside]].norm(dim=1) * last.weight[slots[inside]].norm(dim=0)
    units = strength.argsort(descending=True, stable=True)[: new_first.out_features].sort().values
    count = len(units)
    new_first.weight[:count] = first.weight[units][:, slots] * inside
    new_first.bias[:count] = first.bias[units]
    new_last.weight.zero_()
    new_last.weight[:, :count] = last.weight[slots][:, units]
    new_last.bias.copy_(last.bias[slots])


def _shapes(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in parameters.items()}


def _folder(start_from: str) -> Path:
    """The folder of a run; "pretrained" is the network that ships."""
    return PRETRAINED if start_from == "pretrained" else Path(start_from)


def _some(names: list[str]) -> str:
    """At most three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
