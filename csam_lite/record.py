"""Read the gates of a network while it runs: forward hooks, so a network that is not recorded pays nothing."""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

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
