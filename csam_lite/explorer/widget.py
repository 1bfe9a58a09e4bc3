"""The attention explorer: one line of a notebook that shows a volume, a network's masks on it and its gates,
all linked.

The widget holds the whole volume in the browser, where page/*.js draw it, so that stepping through slices
needs no kernel. Only an intervention, the question what the network would answer with another gate, goes to
the kernel and back. The same data and the same script make a page of one file, which works from disk and
offline.
"""

import base64
import gzip
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import anywidget
import numpy as np
import traitlets

from csam_lite.common.errors import InputError
from csam_lite.common.figures import COLOURS, draw_figure
from csam_lite.common.files import whole_file
from csam_lite.core.slice_normal import LowRankNormal
from csam_lite.explorer.examine import Answer, Examination, examine
from csam_lite.explorer.figures import plot_examination

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from csam_lite.training.run import Run

PAGE_FOLDER = Path(__file__).parent / "page"
# The files of the explorer's script. Each imports only from those before it.
EXPLORER = ("data.js", "canvas.js", "state.js", "outline.js", "cross.js", "zoom.js", "slice.js", "cuts.js",
            "gates.js", "maps.js", "bars.js", "scales.js", "kernel.js", "change.js", "task.js", "explorer.js")
_MOST_WORDS = 8_000_000  # voxels up to which intensities keep 16 bits; above, 8 bits keep a page small

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
<body class="csam-page">
<noscript><p>The explorer needs JavaScript. This is what it opens with:</p>
<img alt="{title}" src="data:image/png;base64,{png}"></noscript>
<main id="explorer"></main>
<script type="text/plain" id="packed">{packed}</script>
<script type="module">
{js}
openPage();
</script>
"""


def explore(run_or_network: "Run | torch.nn.Module", volume: object, label: object = None, *,
            spacing: Sequence[float] | None = None, classes: Sequence[str] | None = None, draws: int = 20,
            save: str | Path | None = None) -> "Explorer":
    """The explorer of a Run on a Scan or NIfTI file, or of a bare network on a tensor (S, C, H, W): a widget
    for a notebook.

        explore(load_run("demo/run"), "scan.nii.gz", "mask.nii.gz")
        explore(network, torch.randn(12, 1, 64, 64), spacing=(3, 0.5, 0.5))

    label, spacing, classes, draws: as in `csam_lite.examine`. save: also write the explorer as one page that
    works offline and without a kernel, for example "attention.html". Raises InputError (one line) for what
    cannot be shown or written.
    """
    if save is not None and Path(save).suffix not in (".html", ".htm"):
        raise InputError(f"{save}: the explorer is saved as a page; let the name end in .html")
    explorer = Explorer(examine(run_or_network, volume, label, spacing, classes, draws))
    if save is not None:
        explorer.save(save)
    return explorer


def joined_script(names: Sequence[str]) -> str:
    """Files of the page as one script, which anywidget and pages of one file need: without imports, and with
    the exports of the last file only. (The files are modules, so that an editor and node can follow them; a
    bundler would need npm.)"""
    parts = [(PAGE_FOLDER / name).read_text(encoding="utf-8") for name in names]
    parts = [re.sub(r'(?m)^import \{[^}]*\} from "\./\w+\.js";\n', "", part) for part in parts]
    parts[:-1] = [re.sub(r"(?m)^export default ", "void ", part) for part in parts[:-1]]
    parts[:-1] = [re.sub(r"(?m)^export ", "", part) for part in parts[:-1]]
    return "\n".join(parts)


class Explorer(anywidget.AnyWidget):
    """The widget over an Examination. In a notebook it answers interventions; where no script runs, a reader
    sees its picture."""

    _esm = joined_script(EXPLORER)
    _css = PAGE_FOLDER / "explorer.css"
    packed = traitlets.Bytes().tag(sync=True)
    _ipython_display_ = None  # ipywidgets 7 would show the widget without the picture of _repr_mimebundle_

    def __init__(self, examination: Examination) -> None:
        self.examination = examination
        super().__init__(packed=pack(*description(examination)))
        self.on_msg(self._answer)

    def save(self, path: str | Path) -> None:
        """Write the page, whole or not at all. Raises InputError where it cannot be written."""
        with whole_file(path) as part:
            page = _PAGE.format(
                title=html.escape(f"Attention on {self.examination.title}"),
                css=(PAGE_FOLDER / "explorer.css").read_text(encoding="utf-8"), js=joined_script(EXPLORER),
                png=base64.b64encode(self._png).decode(), packed=base64.b64encode(self.packed).decode())
            part.write_text(page, encoding="utf-8")

    def figure(self) -> "Figure":
        """The static picture."""
        return plot_examination(self.examination)

    @property
    def _png(self) -> bytes:
        if not hasattr(self, "_drawn"):
            from PIL import Image

            file, small = io.BytesIO(), io.BytesIO()
            draw_figure(self.figure(), file, format="png", dpi=70)
            # 256 colours take a third of the bytes, and each notebook holds this picture
            Image.open(file).convert("RGB").quantize(256, kmeans=3).save(small, "png", optimize=True)
            self._drawn = small.getvalue()
        return self._drawn

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"image/png": base64.b64encode(self._png).decode()}, metadata

    def _answer(self, _, question: dict, buffers: list) -> None:
        """Answer {"id", "gates": {"csam.0": {"slice": "one", "mean" or a list with null where the gate
        stays}}} of the page."""
        try:
            answer = self.examination.answer({
                (name, gate): _VALUES[value] if isinstance(value, str) else np.array(value, np.float32)
                for name, gates in question["gates"].items() for gate, value in gates.items()})
            arrays = {"prediction": answer.mask} | gate_arrays(self.examination, answer)
            self.send({"kind": "answer", "id": question["id"]}, buffers=[pack({}, arrays)])
        except Exception as error:  # whatever happens, the page must hear of it: a silent kernel looks dead
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.send({"kind": "error", "id": question.get("id"), "text": text})


_VALUES = {"one": 1.0, "mean": lambda gate: gate.mean()}


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
    return {
        "title": view.title, "spacing": list(view.spacing), "unit": view.unit, "directions": view.directions,
        "field": list(view.field),
        "channels": [{"name": name} | channel for name, channel in zip(view.channels, channels)],
        "classes": [{"name": name, "colour": colour} for name, colour in zip(view.classes, cycle(COLOURS))],
        "windows": [[window.start, window.stop] for window in answer.windows], "levels": levels,
        "draws": view.draws,
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


def _key(csam: str, gate: str, window: int) -> str:
    """The name of a gate's array. It is built here alone: the page reads it from the description."""
    return f"{csam}/{gate}/{window}"


def _gate(csam: str, attention: object, windows: int) -> dict:
    """What the page must know of a gate: its name, its axes without B, and the names of its arrays in each
    window."""
    parts = {"values": attention.name}
    if getattr(attention, "normal", None) is not None:
        parts |= {part: f"{attention.name}_{part}" for part in ("mean", "covariance")}
    return {"name": attention.name, "axes": attention.axes.removeprefix("B"),
            "arrays": {part: [_key(csam, name, i) for i in range(windows)] for part, name in parts.items()}}


def pack(description: Mapping, arrays: Mapping[str, np.ndarray]) -> bytes:
    """A description and arrays as one gzip file: length of the head (uint32), the head as JSON, the arrays
    from multiples of 8 bytes.

    The head is {"description": ..., "arrays": {name: [dtype, shape, start]}}; the dtypes are uint8, uint16
    and float32.
    """
    start, places, parts = 0, {}, []
    for name, array in arrays.items():
        kind = array.dtype if array.dtype in (np.uint8, np.uint16) else np.float32
        array = np.asarray(array, kind, order="C")
        places[name] = [array.dtype.name, list(array.shape), start]
        parts.append(array.tobytes() + bytes(-array.nbytes % 8))
        start += len(parts[-1])
    head = json.dumps({"description": description, "arrays": places}, allow_nan=False).encode()
    head += b" " * (-(4 + len(head)) % 8)
    return gzip.compress(b"".join([np.uint32(len(head)).tobytes(), head, *parts]), compresslevel=1, mtime=0)


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
