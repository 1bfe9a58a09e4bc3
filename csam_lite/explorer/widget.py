"""The attention explorer: one line of a notebook that shows a volume, a network's masks on it and its gates, all linked.

The widget holds the whole volume in the browser (explorer.js draws it), so stepping through slices needs no kernel. Only an
intervention, the question what the network would answer with another gate, goes to the kernel and back. The same data and the same
script make a page of one file, which works from disk and offline.
"""

import base64
import gzip
import html
import io
import json
import time
from itertools import cycle
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from csam_lite.common.errors import InputError
from csam_lite.common.figures import COLOURS
from csam_lite.common.files import whole_file
from csam_lite.core.slice_normal import LowRankNormal
from csam_lite.explorer.examine import examine

_PAGE_FOLDER = Path(__file__).parent / "page"
_MOST_WORDS = 8_000_000  # voxels up to which intensities keep 16 bits; above, 8 bits keep a page small

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
<body class="csam-page">
<noscript><p>The explorer needs JavaScript. This is what it opens with:</p><img alt="{title}" src="data:image/png;base64,{png}"></noscript>
<main id="explorer"></main>
<script type="text/plain" id="packed">{packed}</script>
<script type="module">
{js}
openPage();
</script>
"""


def explore(run_or_network, volume, label=None, *, spacing=None, classes=None, draws=20, save=None):
    """The explorer of a Run on a Scan or NIfTI file, or of a bare network on a tensor (S, C, H, W): a widget, to be shown in a notebook.

        explore(load_run("demo/run"), "scan.nii.gz", "mask.nii.gz")
        explore(network, torch.randn(12, 1, 64, 64), spacing=(3, 0.5, 0.5))

    label, spacing, classes, draws: see `csam_lite.examine.examine`. save: also write the explorer as one page that works offline,
    without a kernel, e.g. "attention.html". Raises InputError (one line) for what cannot be shown or written.
    """
    if save is not None and Path(save).suffix not in (".html", ".htm"):
        raise InputError(f"{save}: the explorer is saved as a page; let the name end in .html")
    explorer = Explorer(examine(run_or_network, volume, label, spacing, classes, draws))
    if save is not None:
        explorer.save(save)
    return explorer


class Explorer(anywidget.AnyWidget):
    """The widget over an `Examination`. In a notebook it answers interventions; where no script runs, its static picture is seen."""

    _esm = _PAGE_FOLDER / "explorer.js"
    _css = _PAGE_FOLDER / "explorer.css"
    packed = traitlets.Bytes().tag(sync=True)
    _ipython_display_ = None  # ipywidgets 7 would show the widget without the picture of _repr_mimebundle_

    def __init__(self, examination):
        self.examination = examination
        super().__init__(packed=pack(*description(examination)))
        self.on_msg(self._answer)

    def save(self, path):
        """Write the page, whole or not at all. Raises InputError where it cannot be written."""
        with whole_file(path) as part:
            part.write_text(_PAGE.format(
                title=html.escape(f"Attention on {self.examination.title}"), css=(_PAGE_FOLDER / "explorer.css").read_text(encoding="utf-8"),
                png=base64.b64encode(self._png).decode(), packed=base64.b64encode(self.packed).decode(),
                js=(_PAGE_FOLDER / "explorer.js").read_text(encoding="utf-8")), encoding="utf-8")

    def figure(self):
        """The static picture, a matplotlib figure."""
        from csam_lite.explorer.figures import plot_examination

        return plot_examination(self.examination)

    @property
    def _png(self):
        if not hasattr(self, "_drawn"):
            import matplotlib.pyplot as plt
            from PIL import Image

            figure, file, small = self.figure(), io.BytesIO(), io.BytesIO()
            figure.savefig(file, format="png", dpi=70)
            plt.close(figure)
            Image.open(file).convert("RGB").quantize(256, kmeans=3).save(small, "png", optimize=True)  # a third of the bytes in each notebook
            self._drawn = small.getvalue()
        return self._drawn

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"image/png": base64.b64encode(self._png).decode()}, metadata

    def _answer(self, _, question, buffers):
        """Answer {"id", "gates": {"csam.0": {"slice": "one", "mean" or a list with null where the gate stays}}} from the browser."""
        start = time.perf_counter()
        try:
            answer = self.examination.answer({
                (name, gate): _VALUES[value] if isinstance(value, str) else np.array(value, np.float32)
                for name, gates in question["gates"].items() for gate, value in gates.items()})
            arrays = {"prediction": answer.mask} | gate_arrays(self.examination, answer)
            facts = {"dice": _or_none(self.examination.dice(answer.mask)), "seconds": time.perf_counter() - start}
            self.send({"kind": "answer", "id": question["id"]}, buffers=[pack(facts, arrays)])
        except Exception as error:  # whatever happens, the page must hear of it: a silent kernel looks like a dead one
            self.send({"kind": "error", "id": question.get("id"), "text": str(error).splitlines()[0] if str(error) else type(error).__name__})


_VALUES = {"one": 1.0, "mean": lambda gate: gate.mean()}


def description(examination):
    """What the page must know, (facts for JSON, {name: array}); explorer.js names every part of it in its head."""
    view, answer = examination, examination.as_trained
    arrays = {"prediction": answer.mask} | gate_arrays(view, answer) | _colour_maps()
    arrays["image"], scales = _stored(view.image)
    if view.label is not None:
        arrays["label"] = view.label
    if view.uncertainty is not None:
        arrays["uncertainty"] = np.round(view.uncertainty * 510).astype(np.uint8)  # a standard deviation of probabilities ends at 0.5
    levels = []
    for name, _ in view.network.named_modules():
        gates = list(answer.windows[0].record.get(name, ()))
        if gates:
            maps, size = view.feature_maps[name]
            low, high = maps.min((0, 2, 3)), maps.max((0, 2, 3))
            steps = (maps - low[:, None, None]) / np.maximum(high - low, 1e-12)[:, None, None]
            arrays |= {f"{name}/maps": np.round(255 * steps).astype(np.uint8), f"{name}/low": low, f"{name}/high": high}
            levels.append({"name": name, "size": list(size), "gates": gates})
    facts = {
        "title": view.title, "spacing": list(view.spacing), "unit": view.unit, "directions": view.directions, "field": list(view.field),
        "channels": [{"name": name} | scale for name, scale in zip(view.channels, scales)],
        "classes": [{"name": name, "colour": colour} for name, colour in zip(view.classes, cycle(COLOURS))],
        "windows": [[window.start, window.stop] for window in answer.windows], "levels": levels, "draws": view.draws,
        "uncertainty": None if view.uncertainty is None else max(float(view.uncertainty.max()), 1 / 510),
        "dice": _or_none(view.dice(answer.mask)), "start": view.busiest_slice}
    return facts, arrays


def gate_arrays(examination, answer):
    """{"csam.0/slice/0": (S,) float32, ...}: every gate of every CSAM in every window. The draw's covariance has `noise` in it."""
    normals = {name: module for name, module in examination.network.named_modules() if isinstance(module, LowRankNormal)}
    return {f"{name}/{gate}/{i}": named.values[0] * (normals[f"{name}.slice.normal"].noise**2 if gate == "slice_covariance" else 1)
            for i, window in enumerate(answer.windows) for name, gates in window.record.items() for gate, named in gates.items()}


def pack(facts, arrays):
    """Facts and arrays as one gzip file: length of the head (uint32), the head as JSON, the arrays, each from a multiple of 8 bytes on.

    The head is {"facts": ..., "arrays": {name: [dtype, shape, start]}}; the dtypes are uint8, uint16 and float32.
    """
    start, places, parts = 0, {}, []
    for name, array in arrays.items():
        array = np.ascontiguousarray(array, array.dtype if array.dtype in (np.uint8, np.uint16) else np.float32)
        places[name] = [array.dtype.name, list(array.shape), start]
        parts.append(array.tobytes() + bytes(-array.nbytes % 8))
        start += len(parts[-1])
    head = json.dumps({"facts": facts, "arrays": places}, allow_nan=False).encode()
    head += b" " * (-(4 + len(head)) % 8)
    return gzip.compress(b"".join([np.uint32(len(head)).tobytes(), head, *parts]), compresslevel=1, mtime=0)


def _stored(image):
    """image (S, C, H, W) -> (C, S, H, W) of whole numbers, and for each channel the intensity = offset + scale * number, and its window."""
    kind = np.uint16 if image.size <= _MOST_WORDS else np.uint8
    most, stored, scales = np.iinfo(kind).max, [], []
    for channel in np.moveaxis(image, 1, 0):
        low, high = float(channel.min()), float(channel.max())
        whole = high - low <= most and bool((channel == np.round(channel)).all())  # intensities as scanners store them stay exact
        scale = 1.0 if whole else (high - low) / most
        stored.append(np.round((channel - low) / (scale or 1)).astype(kind))
        dark, bright = (float(value) for value in np.percentile(channel, (0.5, 99.5)))
        scales.append({"scale": scale or 1.0, "offset": low, "dark": dark, "bright": bright if bright > dark else max(high, dark + 1)})
    return np.stack(stored), scales


def _colour_maps():
    """Matplotlib's own tables, so that the page and the figures agree: both are safe for colour-blind readers."""
    import matplotlib

    return {name: np.round(matplotlib.colormaps[name](np.arange(256))[:, :3] * 255).astype(np.uint8) for name in ("cividis", "PuOr")}


def _or_none(numbers):
    """JSON has no NaN."""
    return numbers and [number if np.isfinite(number) else None for number in numbers]
