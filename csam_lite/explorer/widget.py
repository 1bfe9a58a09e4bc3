"""The attention explorer: one line of a notebook that shows a volume, a network's masks on it and its gates,
all linked.

The widget holds the whole volume in the browser, where page/*.js draw it, so that stepping through slices
needs no kernel. Only an intervention, the question what the network would answer with another gate, goes to
the kernel and back. The same data and the same script make a page of one file, with the network inside
(saved_page.py).
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anywidget
import numpy as np
import traitlets

from csam_lite.common.figures import small_png
from csam_lite.explorer.examine import Examination, examine
from csam_lite.explorer.figures import plot_examination
from csam_lite.explorer.pack import description, gate_arrays, pack
from csam_lite.explorer.saved_page import check_name, write_saved_page
from csam_lite.explorer.script import EXPLORER, PAGE_FOLDER, joined_script

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from csam_lite.training.run import Run


def explore(run_or_network: "Run | torch.nn.Module", volume: object, label: object = None, *,
            spacing: Sequence[float] | None = None, classes: Sequence[str] | None = None, draws: int = 20,
            other: object = None, save: str | Path | None = None, live: bool = True) -> "Explorer":
    """The explorer of a Run on a Scan or NIfTI file, or of a bare network on a tensor (S, C, H, W): a widget
    for a notebook.

        explore(load_run("demo/run"), "scan.nii.gz", "mask.nii.gz")
        explore(network, torch.randn(12, 1, 64, 64), spacing=(3, 0.5, 0.5))

    label, spacing, classes, draws, other: as in `csam_lite.examine`. save: also write the explorer as one
    page that works offline and without a kernel, for example "attention.html". live: with the network in that
    page, so that gates can be changed in it (about 8 MB; needs csam-lite[web]); False for a small page to
    look at.
    Raises InputError (one line) for what cannot be shown or written.
    """
    if save is not None:
        check_name(save)
    explorer = Explorer(examine(run_or_network, volume, label, spacing, classes, draws, other))
    if save is not None:
        explorer.save(save, live)
    return explorer


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

    def save(self, path: str | Path, live: bool = True, package: str | Path | None = None) -> None:
        """Write the page, whole or not at all. live, package and errors: as in `write_saved_page`."""
        write_saved_page(self.examination, path, self._png, live, package)

    def figure(self) -> "Figure":
        """The static picture."""
        return plot_examination(self.examination)

    @property
    def _png(self) -> bytes:
        if not hasattr(self, "_drawn"):
            self._drawn = small_png(self.figure())
        return self._drawn

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"image/png": base64.b64encode(self._png).decode()}, metadata

    def _answer(self, _, question: dict, buffers: list) -> None:
        """Answer {"id", "gates": {"csam.0": {"slice": "one", "zero", "mean" or a list with null where the
        gate stays}}} of the page."""
        try:
            answer = self.examination.answer({
                (name, gate): _VALUES[value] if isinstance(value, str) else self._values(name, gate, value)
                for name, gates in question["gates"].items() for gate, value in gates.items()})
            arrays = {"prediction": answer.mask} | gate_arrays(self.examination, answer)
            self.send({"kind": "answer", "id": question["id"]}, buffers=[pack({}, arrays)])
        except Exception as error:  # whatever happens, the page must hear of it: a silent kernel looks dead
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.send({"kind": "error", "id": question.get("id"), "text": text})

    def _values(self, csam: str, gate: str, given: list) -> np.ndarray:
        """A list of the page in the shape of the gate; an axis of slices spans the whole volume."""
        values = np.array(given, np.float32)
        axes, (_, *shape) = self._gates[csam][gate].axes, self._gates[csam][gate].values.shape
        return values if values.ndim > 1 else values.reshape([-1, *shape[1:]] if "S" in axes[:2] else shape)

    @property
    def _gates(self) -> dict:
        return self.examination.as_trained.windows[0].record


_VALUES = {"one": 1.0, "zero": 0.0, "mean": lambda gate: gate.mean()}
