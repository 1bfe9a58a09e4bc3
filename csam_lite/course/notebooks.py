"""The notebooks of the course as files: where they lie, how cells are marked, how outputs are kept."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.course.stamp import replace_address

if TYPE_CHECKING:
    from nbformat import NotebookNode

PACKAGE = Path(__file__).parents[1]
SHIPPED = PACKAGE / "course" / "shipped"  # in a wheel, setup.py puts the notebooks there, without outputs
PATTERN = "[0-9][0-9]_*.ipynb"


def find_notebooks() -> Path:
    """The folder `notebooks` beside the package or in the working directory, or the notebooks that ship.

    Raises InputError where there is none.
    """
    for folder in (PACKAGE.parent / "notebooks", Path("notebooks"), SHIPPED):
        if any(folder.glob(PATTERN)):
            return folder
    raise InputError("notebooks/: neither beside the package nor here; run this in a clone of the repository")


def copy_notebooks(target: Path, folder: Path | None = None) -> list[Path]:
    """Write the notebooks without outputs to `target`, all or none; return the new files.

    Raises InputError where one of them exists, because a reader's work may be in it.
    """
    sources = choose(folder or find_notebooks())
    if there := [target / path.name for path in sources if (target / path.name).exists()]:
        raise InputError(f"{there[0]}: exists; choose another folder, so that no work is overwritten")
    with ExitStack() as stack:
        for path in sources:
            text = without_outputs(path.read_text(encoding="utf-8"))
            stack.enter_context(whole_file(target / path.name)).write_text(text, encoding="utf-8")
    return [target / path.name for path in sources]


def without_outputs(text: str) -> str:
    """The text of a notebook file without outputs."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    notebook["metadata"].pop("csam_lite", None)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def choose(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """The notebooks in `folder` with these numbers or names, in the order given; all of them if there are no
    names.

    Raises InputError for a name that no notebook has.
    """
    notebooks = sorted(folder.resolve().glob(PATTERN))
    chosen = []
    for name in names:
        fitting = [path for path in notebooks
                   if name.removesuffix(".ipynb") == path.stem or name and name.zfill(2) == path.stem[:2]]
        if not fitting:
            known = ", ".join(path.stem for path in notebooks)
            raise InputError(f"{name or repr(name)}: no such notebook; choose from {known}")
        chosen += fitting
    return chosen or notebooks


def tagged(cell: NotebookNode, tag: str) -> bool:
    """Whether a cell has the tag."""
    return tag in cell.metadata.get("tags", [])


def folded(cell: NotebookNode) -> str:
    """What stands on the fold of a cell that is not to be seen at once, such as a solution; "" for others."""
    if tagged(cell, "solution"):
        return "Solution"
    title = re.match(r"#\s*@title (.+)", cell.source)
    hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
    return (title[1] if title else "Folded cell") if hidden else ""


def printed(cell: NotebookNode) -> str:
    """What a code cell printed to standard output and standard error."""
    return "".join(output.text for output in cell.get("outputs", ()) if output.output_type == "stream")


def sources_hash(notebook: NotebookNode) -> str:
    """A hash of what a person writes in a notebook, without the address of the repository.

    Executing the notebook does not change it.

    A notebook keeps the hash in its metadata, so that a test can see when its outputs are older than its
    source.
    """
    sources = [(cell.cell_type, replace_address(cell.source), cell.metadata.get("tags", []))
               for cell in notebook.cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def tidy(notebook: NotebookNode) -> None:
    """Remove outputs that say nothing on a page: widgets, which need a kernel, and values such as <function
    f>. Join what was printed in a row, which a kernel cuts wherever some time passes.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            data = output.get("data", {})
            widget = data.pop("application/vnd.jupyter.widget-view+json", None)
            is_result = output.output_type == "execute_result"
            empty = widget or is_result and re.fullmatch(r"<.*>", data.get("text/plain", ""))
            if empty and set(data) <= {"text/plain"}:
                continue
            if kept and output.output_type == "stream" and kept[-1].get("name") == output.name:
                kept[-1].text += output.text
            else:
                kept.append(output)
        cell.outputs = kept


def store(notebook: NotebookNode, path: Path) -> None:
    """Write an executed notebook with its outputs, but without what depends on the machine or the day.

    That is the times, the versions, and the state of widgets (without a kernel a widget shows an error).
    """
    import nbformat

    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
    tidy(notebook)
    notebook.metadata.clear()
    notebook.metadata.update(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"}, csam_lite={"sources": sources_hash(notebook)})
    notebook.nbformat_minor = 5
    _shrink_pictures(notebook)
    with whole_file(path) as part:
        part.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def _shrink_pictures(notebook: NotebookNode, most: int = 270_000) -> None:
    """Compress all pictures without loss; while a notebook is longer than `most`, reduce colours, largest
    first.
    """
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output.data for output in outputs if "image/png" in output.get("data", {})]
    for data in pictures:
        _compress(data)
    for colours in (256, 128):
        for data in sorted(pictures, key=lambda data: -len(data["image/png"])):
            if len(json.dumps(notebook)) > most:
                _compress(data, colours)


def _compress(data: dict[str, str], colours: int = 0) -> None:
    """Make data["image/png"] (base64) smaller where possible; `colours` above 0 is the size of a palette."""
    from io import BytesIO

    from PIL import Image

    picture = Image.open(BytesIO(base64.b64decode(data["image/png"]))).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    if colours:
        picture = picture.quantize(colours, Image.Quantize.FASTOCTREE, kmeans=1, dither=Image.Dither.NONE)
    packed = BytesIO()
    picture.save(packed, "png", optimize=True)
    smaller = base64.b64encode(packed.getvalue()).decode()
    data["image/png"] = min(smaller, data["image/png"].replace("\n", ""), key=len)
