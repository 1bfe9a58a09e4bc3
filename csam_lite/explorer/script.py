"""The scripts of the explorer's pages: files of page/, joined for a widget or a page of one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

PAGE_FOLDER = Path(__file__).parent / "page"
# The files of the explorer's script. Each imports only from those before it.
EXPLORER = ("data.js", "canvas.js", "other.js", "state.js", "outline.js", "cross.js", "zoom.js", "slice.js",
            "cuts.js", "gates.js", "maps.js", "bars.js", "scales.js", "kernel.js", "engine.js", "change.js",
            "task.js", "uncertainty.js", "words.js", "tour.js", "explorer.js")
# Of the page on which a scan is dropped.
DROP = (*EXPLORER, "drop.js")
# Of the worker that runs a network in a page.
WORKER = ("nifti.js", "geometry.js", "scan.js", "draws.js", "grid.js", "remarks.js", "window.js",
          "network.js", "describe.js", "worker.js")


def joined_script(names: Sequence[str]) -> str:
    """Files of the page as one script, which anywidget and pages of one file need: without imports, and with
    the exports of the last file only. (The files are modules, so that an editor and node can follow them; a
    bundler would need npm.)"""
    parts = [(PAGE_FOLDER / name).read_text(encoding="utf-8") for name in names]
    parts = [re.sub(r'(?m)^import \{[^}]*\} from "\./\w+\.js";\n', "", part) for part in parts]
    parts[:-1] = [re.sub(r"(?m)^export default ", "void ", part) for part in parts[:-1]]
    parts[:-1] = [re.sub(r"(?m)^export ", "", part) for part in parts[:-1]]
    return "\n".join(parts)
