"""What the explorer shows, packed for the browser: a description and arrays in one gzip file, which
page/data.js reads.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from itertools import cycle

import numpy as np

from csam_lite.common.figures import COLOURS
from csam_lite.core.slice_normal import LowRankNormal
from csam_lite.explorer.examine import Answer, Examination

_MOST_WORDS = 8_000_000  # voxels up to which intensities keep 16 bits; above, 8 bits keep a page small


def description(examination: Examination) -> tuple[dict, dict[str, np.ndarray]]:
    """All that the page shows: (a description for JSON, {name: array}). The head of page/data.js lists the
    arrays."""
    view, answer = examination, examination.as_trained
    arrays = {"prediction": answer.mask} | gate_arrays(view, answer) | colour_maps()
    arrays["image"], channels = _stored(view.image)
    if view.label is not None:
        arrays["label"] = view.label
    if view.uncertainty is not None:
        # 255 is 0.5, the largest standard deviation that a probability can have
        arrays["uncertainty"] = np.round(view.uncertainty * 510).astype(np.uint8)
    levels = []
    for name, csam in view.csam_modules().items():
        gates = [_gate(name, attention, len(answer.windows)) for attention in csam.attentions]
        if gates and name in answer.windows[0].record:
            maps, size = view.feature_maps[name]
            low, high = maps.min((0, 2, 3)), maps.max((0, 2, 3))
            steps = (maps - low[:, None, None]) / np.maximum(high - low, 1e-12)[:, None, None]
            keys = {part: f"{name}/maps/{part}" for part in ("values", "low", "high")}
            arrays[keys["values"]] = np.round(255 * steps).astype(np.uint8)
            arrays |= {keys["low"]: low, keys["high"]: high}
            levels.append({"name": name, "size": list(size), "gates": gates, "maps": keys})
    other, gates_of_other = _other(view)
    arrays |= gates_of_other
    return {
        "title": view.title, "spacing": list(view.spacing), "unit": view.unit, "directions": view.directions,
        "field": list(view.field),
        "channels": [{"name": name} | channel for name, channel in zip(view.channels, channels)],
        "classes": [{"name": name, "colour": colour} for name, colour in zip(view.classes, cycle(COLOURS))],
        "windows": [[window.start, window.stop] for window in answer.windows], "levels": levels,
        "draws": view.draws, "other": other,
        "uncertainty": None if view.uncertainty is None else max(float(view.uncertainty.max()), 1 / 510),
        "start": view.busiest_slice}, arrays


def gate_arrays(examination: Examination, answer: Answer) -> dict[str, np.ndarray]:
    """Every gate of every CSAM in every window, without its axis of volumes. A draw's covariance has the
    `noise` of training in it."""
    noise = {(name, f"{attention.name}_covariance"): attention.normal.noise
             for name, csam in examination.csam_modules().items() for attention in csam.attentions
             if isinstance(getattr(attention, "normal", None), LowRankNormal)}
    return {_key(name, gate, i): named.values[0] * noise.get((name, gate), 1) ** 2
            for i, window in enumerate(answer.windows)
            for name, gates in window.record.items() for gate, named in gates.items()}


def _other(examination: Examination) -> tuple[dict | None, dict[str, np.ndarray]]:
    """Of the other volume, if there is one: what page/other.js must know, and the gates that the network
    chose for it."""
    if (other := examination.other) is None:
        return None, {}
    record = other.as_trained.windows[0].record
    names = {csam: {gate.name: f"{csam}/other/{gate.name}" for gate in module.attentions}
             for csam, module in other.csam_modules().items() if csam in record}
    arrays = {name: record[csam][gate].values[0]
              for csam, gates in names.items() for gate, name in gates.items()}
    S = len(other.image)
    most = getattr(other.network, "num_slices", max(S, len(examination.image)))
    return {"title": other.title, "S": S, "most": most, "gates": names}, arrays


def _key(csam: str, gate: str, window: int) -> str:
    """The name of a gate's array; the network in a page names its answers so too (describe.js)."""
    return f"{csam}/{gate}/{window}"


def _gate(csam: str, attention: object, windows: int) -> dict:
    """What the page must know of a gate: its name, its axes without B, and the names of its arrays in each
    window."""
    parts = {"values": attention.name}
    if getattr(attention, "normal", None) is not None:
        parts |= {part: f"{attention.name}_{part}" for part in ("mean", "covariance")}
    return {"name": attention.name, "axes": attention.axes.removeprefix("B"),
            "arrays": {part: [_key(csam, name, i) for i in range(windows)] for part, name in parts.items()}}


def pack(description: Mapping, arrays: Mapping[str, np.ndarray], level: int = 1) -> bytes:
    """A description and arrays as one gzip file: length of the head (uint32), the head as JSON, the arrays
    from multiples of 8 bytes.

    The head is {"description": ..., "arrays": {name: [dtype, shape, start]}}; the dtypes are uint8, uint16
    and float32. level: of the compression, 1 fast to 9 small.
    """
    start, places, parts = 0, {}, []
    for name, array in arrays.items():
        kind = array.dtype if array.dtype in (np.uint8, np.uint16) else np.float32
        array = np.asarray(array, kind, order="C")
        places[name] = [array.dtype.name, list(array.shape), start]
        # the first bytes of all numbers, then the second ones, and so on: so they compress better
        by_byte = array.reshape(-1, 1).view(np.uint8).T.tobytes()
        parts.append(by_byte + bytes(-array.nbytes % 8))
        start += len(parts[-1])
    head = json.dumps({"description": description, "arrays": places}, allow_nan=False).encode()
    head += b" " * (-(4 + len(head)) % 8)
    whole = b"".join([np.uint32(len(head)).tobytes(), head, *parts])
    return gzip.compress(whole, compresslevel=level, mtime=0)


def _stored(image: np.ndarray) -> tuple[np.ndarray, list[dict[str, float]]]:
    """image (S, C, H, W) -> (C, S, H, W) of whole numbers, and for each channel how to read them.

    The intensity is offset + factor * number; the page opens with black at `dark` and white at `bright`.
    """
    kind = np.uint16 if image.size <= _MOST_WORDS else np.uint8
    most, stored, channels = np.iinfo(kind).max, [], []
    for channel in np.moveaxis(image, 1, 0):
        low, high = float(channel.min()), float(channel.max())
        # intensities as scanners store them stay exact
        whole = high - low <= most and bool((channel == np.round(channel)).all())
        factor = 1.0 if whole else (high - low) / most or 1.0
        stored.append(np.round((channel - low) / factor).astype(kind))
        dark, bright = (float(value) for value in np.percentile(channel, (0.5, 99.5)))
        bright = bright if bright > dark else max(high, dark + 1)
        channels.append({"factor": factor, "offset": low, "dark": dark, "bright": bright})
    return np.stack(stored), channels


def colour_maps() -> dict[str, np.ndarray]:
    """Matplotlib's own tables (256, 3), so that the page and the figures agree: both are safe for
    colour-blind readers."""
    import matplotlib

    return {name: np.round(matplotlib.colormaps[name](np.arange(256))[:, :3] * 255).astype(np.uint8)
            for name in ("cividis", "PuOr")}
