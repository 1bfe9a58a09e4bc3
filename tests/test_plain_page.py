"""Notebooks 02 to 05 show the lines of the plain page, core/attention.py, as they are today."""

import inspect
from pathlib import Path

import pytest

from csam_lite.core import attention

nbformat = pytest.importorskip("nbformat", reason="the course needs csam-lite[course]")

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SHOWN = {
    "02_semantic_attention": ("SemanticAttention", ("scores", "gate_of", "gate_from", "forward")),
    "03_positional_attention": ("PositionalAttention", ("scores",)),
    "04_slice_attention": ("SliceAttention", ("scores",)),
    "05_csam_unet": ("CSAM", ("forward",)),
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_stored_output_holds_the_lines_of_the_library(name):
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
    printed = "".join(output.text for cell in cells if "inspect.getsource" in cell.source
                      for output in cell.outputs if output.output_type == "stream")
    kind, functions = SHOWN[name]
    for function in functions:
        source = inspect.getsource(getattr(getattr(attention, kind), function))
        assert source in printed, f"attention.py has changed; run: python -m csam_lite course --write {name[:2]}"
