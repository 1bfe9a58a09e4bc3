"""Where the course lives on GitHub: the address and tag in badges and setup cells, changed by one command.

The address stands in [project.urls] of pyproject.toml. `python -m csam_lite course --stamp OWNER/REPO@TAG`
writes it there, and wherever else the repository names it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file

PLACE = re.compile(r"([\w.-]+/[\w.-]+)@([\w.-]+)")
BADGE = re.compile(r"(colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+(/blob/)[\w.-]+(/)")
INSTALL = re.compile(r"(csam-lite @ git\+https://github\.com/)[\w.-]+/[\w.-]+(?:@[\w.-]+)?")
NOTEBOOKS = re.compile(r"https://github\.com/(.+)/tree/([^/]+)/notebooks")
CLONE = re.compile(r"(git clone https://github\.com/[\w.-]+/([\w.-]+) && cd )[\w.-]+")
FILES = "pyproject.toml", "README.md", "CONTRIBUTING.md", "CITATION.cff"
ORIGINAL = "csam-lite/csam-lite"


@dataclass(frozen=True)
class Address:
    """A repository on GitHub, such as "csam-lite/csam-lite", and a branch or tag of it."""

    repository: str
    tag: str

    @property
    def install(self) -> str:
        """What pip installs in a setup cell."""
        tag = "" if self.tag == "main" else f"@{self.tag}"
        return f"csam-lite @ git+https://github.com/{self.repository}{tag}"

    @property
    def site(self) -> str:
        """The public site, as GitHub Pages serves it."""
        owner, _, name = self.repository.partition("/")
        return f"https://{owner.lower()}.github.io/{name}/"


def read_address(root: Path) -> Address:
    """The address in `root`/pyproject.toml. Raises InputError where there is none."""
    try:
        urls = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
        repository, tag = NOTEBOOKS.fullmatch(urls["Notebooks"]).groups()
    except (OSError, KeyError, AttributeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{root}/pyproject.toml: has no [project.urls]; run this in a clone") from error
    return Address(repository, tag)


def stamp(place: str, root: Path) -> list[Path]:
    """Give the repository in `root` the address `place` ("OWNER/REPO@TAG"); return the changed files.

    Outputs of notebooks stay valid, because the address is no part of what the outputs depend on. Raises
    InputError for a place that is not of this form, and where `root` is no clone.
    """
    if not (match := PLACE.fullmatch(place)):
        raise InputError(f"--stamp {place}: give OWNER/REPO@TAG, such as {ORIGINAL}@v1.0")
    old, new = read_address(root), Address(*match.groups())
    changed = []
    for path in [*(root / name for name in FILES),
                 *sorted((root / "notebooks").glob("*.ipynb"))]:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = replace_address(before, new)
        for old_part, new_part in ((f"/tree/{old.tag}/notebooks", f"/tree/{new.tag}/notebooks"), ("", "")):
            after = after.replace(f"github.com/{old.repository}{old_part}",
                                  f"github.com/{new.repository}{new_part}")
        after = CLONE.sub(r"\g<1>\g<2>", after).replace(old.site, new.site)  # the folder that git makes
        if after != before:
            with whole_file(path) as part:
                part.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


def replace_address(source: str, address: Address = Address(ORIGINAL, "main")) -> str:
    """A text with the address in its badges and setup cells replaced."""
    source = BADGE.sub(rf"\g<1>{address.repository}\g<2>{address.tag}\g<3>", source)
    return INSTALL.sub(address.install, source)
