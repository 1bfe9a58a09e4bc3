"""Read the gates of a network while it runs, or replace them: forward hooks, so a network that is left alone pays nothing."""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from csam_lite.attention import CSAM


class Named(NamedTuple):
    """An array and the names of its axes, e.g. ("B", "S"). T is the second slice axis of a covariance."""

    values: np.ndarray
    axes: tuple


_AXES = {"semantic": ("B", "C"), "positional": ("B", "H", "W"), "slice": ("B", "S")}


@contextmanager
def record_gates(network):
    """Record every gate of every CSAM in `network` (ours, or any module with a CSAM in it) during the block.

        with record_gates(network) as record:
            network(x, mask)
        record["csam.0"]["slice"]       # Named(values (B, S), axes ("B", "S"))

    Yields a dict: name of the CSAM in the network -> gate -> Named. Gates: "semantic" (B, C), "positional" (B, H, W),
    "slice" (B, S), each in (0, 1), the gate of a padded slice is 0; with an uncertain slice gate also the normal it is drawn
    from, before the sigmoid: "slice_mean" (B, S) and "slice_covariance" (B, S, T), without meaning where a slice is padded. Each pass
    overwrites the last one's.
    """
    record, hooks = {}, []

    def keep(csam_name, gate, axes, read):
        def hook(module, inputs, output):
            values = read(output).detach().float().cpu().numpy()
            record.setdefault(csam_name, {})[gate] = Named(values, axes)
        return hook

    for csam_name, csam in network.named_modules():
        if not isinstance(csam, CSAM):
            continue
        for gate, axes in _AXES.items():
            if (attention := getattr(csam, gate)) is not None:
                squeezed = tuple(i for i, axis in enumerate("BSCHW") if axis not in axes)
                hooks.append(attention.gate.register_forward_hook(keep(csam_name, gate, axes, lambda a, d=squeezed: a.squeeze(d))))
        if csam.slice is not None and (normal := csam.slice.normal) is not None:
            hooks.append(normal.register_forward_hook(keep(csam_name, "slice_mean", ("B", "S"), lambda n: n.mean)))
            hooks.append(normal.register_forward_hook(keep(csam_name, "slice_covariance", ("B", "S", "T"), lambda n: n.covariance)))
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def override_gates(network, values):
    """Replace gates of `network` during the block: what would it answer if a gate were open, flat, or any other?

        with override_gates(network, {("csam.0", "semantic"): 1.0, ("csam.1", "slice"): torch.mean}):
            network(x, mask)

    values: (name of the CSAM, gate) -> what stands in the gate's stead: a number; an array with or without the axis of the volumes,
    (B, C) or (C,), (B, H, W) or (H, W), (B, S) or (S,), in which NaN leaves the gate as it is; or a function from the gate, with that
    axis, to one of these. What comes later in the network is computed from it; gates are not bound to (0, 1) here. `record_gates`
    opened inside the block records what was put in. Raises ValueError for a gate that the network has not, or an array that does not fit.
    """
    found = {(csam_name, gate): getattr(csam, gate) for csam_name, csam in network.named_modules() if isinstance(csam, CSAM)
             for gate in _AXES if getattr(csam, gate) is not None}
    if missing := [key for key in values if key not in found]:
        raise ValueError(f"no gate {missing[0]} in this network; it has {', '.join(map(str, found)) or 'none'}")

    def replace(key, new):
        axes = _AXES[key[1]]
        squeezed = tuple(i for i, axis in enumerate("BSCHW") if axis not in axes)

        def hook(module, inputs, output):
            gate = output.squeeze(squeezed)
            given = torch.as_tensor(new(gate) if callable(new) else new, dtype=gate.dtype, device=gate.device)
            if given.ndim not in (0, gate.ndim - 1, gate.ndim) or any(a not in (1, b) for a, b in zip(given.shape[::-1], gate.shape[::-1])):
                raise ValueError(f"values of shape {tuple(given.shape)} do not fit gate {key} of shape {tuple(gate.shape)}, axes {', '.join(axes)}")
            given = given.expand_as(gate)
            return torch.where(given.isnan(), gate, given).reshape(output.shape)
        return hook

    hooks = [found[key].gate.register_forward_hook(replace(key, new)) for key, new in values.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
