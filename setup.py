"""Puts the notebooks, without outputs, into the wheel; everything else is said in pyproject.toml."""

import json
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithNotebooks(build_py):
    def run(self):
        super().run()
        if self.editable_mode:  # a clone has the notebooks themselves
            return
        target = Path(self.build_lib) / "csam_lite" / "course" / "shipped"
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(Path("notebooks").glob("[0-9][0-9]_*.ipynb")):
            # as csam_lite.course.notebooks.without_outputs does, which a build cannot import (it needs numpy)
            notebook = json.loads(path.read_text(encoding="utf-8"))
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code":
                    cell.update(outputs=[], execution_count=None)
            notebook["metadata"].pop("csam_lite", None)
            text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
            (target / path.name).write_text(text, encoding="utf-8")


setup(cmdclass={"build_py": BuildWithNotebooks})
