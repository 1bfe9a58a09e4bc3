"""Read the gates of a network while it runs, or replace them.

Both use forward hooks, so that an unwatched network pays nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import NamedTuple

import torch
from torch import nn

from .attention import CSAM, Attention


class NamedArray(NamedTuple):
    """An array and the letters of its axes, for example ("B", "S").

    T is the second slice axis of a covariance.
    """

    values: "numpy.ndarray"  # type: ignore[name-defined]  # noqa: F821, numpy comes with torch; no import here
    axes: tuple[str, ...]


@contextmanager
def record_gates(network: nn.Module) -> Iterator[dict[str, dict[str, NamedArray]]]:
    """Record every gate of every CSAM in `network` (ours, or any module that contains a CSAM) during the
    block.

        with record_gates(network) as record:
            network(x, mask)
        record["csam.0"]["slice"]       # NamedArray(values (B, S), axes ("B", "S"))

    Yields a dict: name of the CSAM in the network -> name of the gate -> NamedArray. "semantic" is (B, C),
    "positional" (B, H, W), "slice" (B, S), all in [0, 1]; the gate of a padded slice is 0. An uncertain slice
    gate also has the normal distribution it is drawn from, before the sigmoid: "slice_mean" (B, S) and
    "slice_covariance" (B, S, T), which mean nothing where a slice is padded. Each pass replaces what the last
    one left. A bare CSAM has the name "". Give the network itself, not what torch.compile made of it, because
    compiled code may not call hooks.
    """
    record: dict[str, dict[str, NamedArray]] = {}
    hooks = []

    def keep(csam_name: str, gate: str, axes: str, read: Callable) -> Callable:
        def hook(module, inputs, output):
            values = read(output).detach().float().cpu().numpy()
            record.setdefault(csam_name, {})[gate] = NamedArray(values, tuple(axes))
        return hook

    for (csam_name, gate), attention in _attentions(network).items():
        own_axes = keep(csam_name, gate, attention.axes, lambda A, pooled=attention.pooled: A.squeeze(pooled))
        hooks.append(attention.gate.register_forward_hook(own_axes))
        if (normal := getattr(attention, "normal", None)) is not None:
            for part, axes in (("mean", "BS"), ("covariance", "BST")):
                hook = keep(csam_name, f"{gate}_{part}", axes, attrgetter(part))
                hooks.append(normal.register_forward_hook(hook))
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def override_gates(network: nn.Module, values: Mapping[tuple[str, str], object]) -> Iterator[None]:
    """Replace gates of `network` during the block: what would it answer if a gate were open, flat, or
    anything else?

        flat = {("csam.0", "semantic"): 1.0, ("csam.1", "slice"): lambda A: A.mean(1, keepdim=True)}
        with override_gates(network, flat):
            network(x, mask)

    values: (name of the CSAM, name of the gate) -> a number; an array with or without the axis of the
    volumes, for example (B, C) or (C,), in which NaN leaves the gate as it is; or a function from the gate,
    with the axis of the volumes and 0 in padded slices, to one of these. All that comes later in the network
    is computed from the new gate, which need not lie in (0, 1). `record_gates` opened inside the block
    records the new gates. Raises ValueError for a gate that the network does not have, or an array that does
    not fit.
    """
    present = _attentions(network)
    if missing := [key for key in values if key not in present]:
        raise ValueError(f"no gate {missing[0]} in this network; "
                         f"it has {', '.join(map(str, present)) or 'none'}")

    def replace(key: tuple[str, str], new: object) -> Callable:
        attention = present[key]

        def hook(module, inputs, output):
            gate = output.squeeze(attention.pooled)
            given = torch.as_tensor(new(gate) if callable(new) else new, dtype=gate.dtype, device=gate.device)
            fits = all(a in (1, b) for a, b in zip(given.shape[::-1], gate.shape[::-1]))
            if given.ndim not in (0, gate.ndim - 1, gate.ndim) or not fits:
                raise ValueError(f"values of shape {tuple(given.shape)} do not fit gate {key} "
                                 f"of shape {tuple(gate.shape)}, axes {', '.join(attention.axes)}")
            given = given.expand_as(gate)
            return torch.where(given.isnan(), gate, given).reshape(output.shape)
        return hook

    hooks = [present[key].gate.register_forward_hook(replace(key, new)) for key, new in values.items()]
    changed = [network.get_submodule(name) for name in {name for name, _ in values}]
    paths = [csam.fast for csam in changed]
    for csam in changed:
        csam.fast = False  # the fast path relies on gates above 0, and a replaced gate may be anything
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for csam, fast in zip(changed, paths):
            csam.fast = fast


def _attentions(network: nn.Module) -> dict[tuple[str, str], Attention]:
    """(name of the CSAM, name of the gate) -> the attention, for every CSAM in `network`."""
    return {(csam_name, attention.name): attention
            for csam_name, csam in network.named_modules() if isinstance(csam, CSAM)
            for attention in csam.attentions}
