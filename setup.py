"""Puts the notebooks, without outputs, into the wheel, and builds a source archive whose bytes depend on the
sources alone. Everything else is said in pyproject.toml.
"""

import gzip
import json
import os
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist


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


class ReproducibleArchive(sdist):
    """With SOURCE_DATE_EPOCH set, as for wheels: files have that time and no owner, in the order of names."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        moment = os.environ.get("SOURCE_DATE_EPOCH")
        if not moment or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)

        def plain(member):
            member.mtime, member.uid, member.gid, member.uname, member.gname = int(moment), 0, 0, "", ""
            member.mode = 0o755 if member.isdir() else 0o644
            return member

        target = f"{base_name}.tar.gz"
        with (open(target, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, int(moment)) as packed,
              tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive):
            for path in sorted(Path(base_dir).rglob("*")):
                archive.add(path, recursive=False, filter=plain)
        return target


setup(cmdclass={"build_py": BuildWithNotebooks, "sdist": ReproducibleArchive})
