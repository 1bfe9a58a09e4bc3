"""The site as a folder of static pages: writes Markdown and has the generator, zensical, make pages of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from csam_lite.common.errors import InputError
from csam_lite.common.files import temporary_folder
from csam_lite.common.locks import only_process
from csam_lite.course.notebooks import PACKAGE, choose, find_notebooks
from csam_lite.course.site.markdown import notebook_markdown, prose
from csam_lite.course.site.reference import reference_markdown
from csam_lite.course.stamp import Address, read_address
from csam_lite.explorer.drop_page import write_drop_page
from csam_lite.explorer.tour import write_tour
from csam_lite.training.run import pretrained

_TOUR, _DROP = "tour.html", "segment.html"
# On top of the front page. The tour itself, 9 MB, would keep each reader of the text waiting.
_INVITATION = f"""
<div class="invitation" markdown="1">
[![One bar of the slice gate is shut, and the mask of that slice fails](explorer.png)]({_TOUR})

[Take the guided tour]({_TOUR}){{ .md-button .md-button--primary }}

Six steps, about five minutes, nothing to know and nothing to install (9 MB; then it works offline).
</div>
"""
_EXPLORER = f"""---
hide:
  - toc
---

# The explorer

A phantom, the masks of the network that ships, and its gates, all linked. Nothing of it is loaded from
elsewhere, and nothing leaves your computer. [Open it in a window of its own]({_TOUR}#alone), or
[take the guided tour]({_TOUR}).

<iframe class="live" src="{_TOUR}#alone" title="The explorer on a phantom"></iframe>

In a notebook, `explore(run, "scan.nii.gz")` shows it on a scan of yours; notebook
[07](07_see_attention.md) explains it.
"""
_SCAN = f"""---
hide:
  - toc
---

# A scan of yours

Drop a T2 scan of a prostate (NIfTI) on this page. The network that ships runs in your browser and marks two
zones. It has seen phantoms only: it is for teaching, and no tool for patients. Nothing leaves your computer.
[Open it in a window of its own]({_DROP}). For your own network:
`python -m csam_lite page OUT.html --run RUN`.

<iframe class="live" src="{_DROP}" title="A page to drop a scan on"></iframe>
"""


def build_site(out: str | Path, notebooks: str | Path | None = None) -> Path:
    """Write the site into the folder `out`, which must be new, empty, or an earlier site.

    notebooks: a folder of executed notebooks, such as that of `run_course`, in place of the stored ones.
    Raises InputError where a notebook has no outputs, `out` holds something else, or zensical cannot build.
    """
    out, root = Path(out).resolve(), PACKAGE.parent
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if names and "sitemap.xml" not in names:
        raise InputError(f"{out}: holds other files; give a new folder, so that nothing is lost")
    if not (root / "README.md").exists():
        raise InputError(f"{root}: has no README.md, the front page; run this in a clone of the repository")
    part = out.with_name(f".part-{out.name}")
    busy = f"{out}: another process is building this site; wait for it, or choose another folder"
    with only_process(part, busy):
        try:
            with temporary_folder() as work:
                write_markdown(work / "docs", root, Path(notebooks) if notebooks else find_notebooks())
                _generate(work)
                _replace(out, work / "site", part)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return out


def _replace(out: Path, site: Path, part: Path) -> None:
    """Put a copy of the folder `site` in the place of `out`, whole or not at all. part: a folder beside `out`
    for what is not whole. Raises InputError where the disk is full or cannot be written.
    """
    try:
        shutil.rmtree(part / "new", ignore_errors=True)
        shutil.copytree(site, part / "new")
        if out.exists():
            out.rename(part / "old")
        (part / "new").rename(out)
    except OSError as error:
        if not out.exists() and (part / "old").exists():
            (part / "old").rename(out)
        why = error.strerror or "a copy failed"
        raise InputError(
            f"{out}: cannot be written ({why}); free some space, or choose another folder"
        ) from error


def write_markdown(docs: Path, root: Path, notebooks: Path) -> None:
    """Write all pages as Markdown, with their pictures and the live page, and the generator's settings."""
    docs.mkdir(parents=True)
    address = read_address(root)
    sources = f"https://github.com/{address.repository}/blob/{address.tag}"
    pages = {}
    for path in choose(notebooks):
        notebook = nbformat.read(path, 4)
        if not any(cell.get("outputs") for cell in notebook.cells):
            raise InputError(f"{path}: has no outputs; execute it with: python -m csam_lite course")
        pages[path.stem] = notebook_markdown(notebook, docs, path.stem)
    titles = {name: re.search(r"^# (.+)$", text, re.M)[1] for name, text in pages.items()}
    front = _repository_page(root / "README.md", root, docs, sources).replace(f"{address.site}{_TOUR}", _TOUR)
    front = re.sub(r"^!\[[^\]]*\]\(explorer\.png\)\n+", "", front, flags=re.M)  # the invitation has it
    pages["index"] = re.sub(r"^(# .+\n)", rf"\1{_INVITATION}", front, count=1, flags=re.M)
    pages["results"] = _repository_page(PACKAGE / "experiments" / "README.md", root, docs, sources)
    pages["reference"] = reference_markdown(sources)
    pages |= {"explorer": _EXPLORER, "scan": _SCAN}
    for name, text in pages.items():
        (docs / f"{name}.md").write_text(text, encoding="utf-8")
    write_tour(docs / _TOUR)
    write_drop_page(pretrained(), docs / _DROP)
    shutil.copy(Path(__file__).with_name("site.css"), docs)
    (docs.parent / "zensical.toml").write_text(_settings(titles, address), encoding="utf-8")


def _repository_page(path: Path, root: Path, docs: Path, sources: str) -> str:
    """A Markdown file of the repository: its links lead to pages of the site, or to the file on the web."""

    def link(target: str) -> str:
        there = (path.parent / target).resolve()
        if there.suffix == ".ipynb":
            return f"{there.stem}.md"
        if there == PACKAGE / "experiments" / "README.md":
            return "results.md"
        if there.suffix in (".png", ".svg"):
            shutil.copy(there, docs)
            return there.name
        return f"{sources}/{there.relative_to(root).as_posix()}"

    return prose(path.read_text(encoding="utf-8"), link)


def _settings(titles: dict[str, str], address: Address) -> str:
    """The settings of zensical. titles: of the notebooks, by name. JSON strings and lists are TOML too."""
    pages = [("Start", "index.md"), ("Explorer", "explorer.md"), ("A scan of yours", "scan.md"),
             *((title, f"{name}.md") for name, title in titles.items()),
             ("Results", "results.md"), ("Reference", "reference.md")]
    nav = ", ".join(f"{{ {json.dumps(title)} = {json.dumps(page)} }}" for title, page in pages)
    return f"""[project]
site_name = "CSAM Lite"
site_description = "A course and a small core on cross-slice attention for anisotropic volumes"
site_url = {json.dumps(address.site)}
copyright = {json.dumps(f'<a href="https://github.com/{address.repository}">The source on GitHub</a>')}
use_directory_urls = false
extra_css = ["site.css"]
nav = [{nav}]

[project.theme]
font = false  # of the reader's own system: no request
features = ["navigation.footer", "navigation.top", "content.code.copy", "search.highlight"]
{_palette("(prefers-color-scheme)", "", "lucide/sun-moon", "Light")}
{_palette("(prefers-color-scheme: light)", "default", "lucide/sun", "Dark")}
{_palette("(prefers-color-scheme: dark)", "slate", "lucide/moon", "As the system")}
[project.markdown_extensions.md_in_html]
[project.markdown_extensions.tables]
[project.markdown_extensions.attr_list]
[project.markdown_extensions.toc]
permalink = true
[project.markdown_extensions.pymdownx.superfences]
[project.markdown_extensions.pymdownx.highlight]
"""


def _palette(media: str, scheme: str, icon: str, following: str) -> str:
    colours = f'scheme = "{scheme}"\n' if scheme else ""
    return (f'[[project.theme.palette]]\nmedia = "{media}"\n{colours}'
            f'toggle.icon = "{icon}"\ntoggle.name = "{following}"\n')


def _generate(work: Path) -> None:
    """Have zensical make site/ of docs/. Raises InputError with its own words where it cannot."""
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=work, capture_output=True,
        encoding="utf-8", env=os.environ | {"PYTHONUTF8": "1", "NO_COLOR": "1"})
    if done.returncode or not (work / "site" / "index.html").exists():
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise InputError(f"zensical: {' '.join(lines[-6:])}")
