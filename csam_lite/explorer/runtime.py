"""The program that runs networks in a browser: onnxruntime-web, two files that a page carries inside (12 MB).

They are no part of this package. They are downloaded once, checked, and kept in the user's cache. Where there
is no internet, the package that `npm pack` brings can be given. A page that is written needs them no more.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

from csam_lite.common.errors import InputError, first_line
from csam_lite.common.files import user_cache, whole_file

VERSION = "1.23.2"  # 1.22.0 needs a third file; 1.30.0 takes 0.8 MB more of each page
ADDRESS = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
SHA256 = {
    "ort.wasm.bundle.min.mjs": "cace3b98bee45c1c40ed04e07b984fb66012acacb702e6aecd9008239bf35e99",
    "ort-wasm-simd-threaded.wasm": "45eaee27761ad883742a8d4b8fce1538d60ce43b51adf1726fafccc59b8c1a15",
}
LICENCE = """\
onnxruntime-web, Copyright (c) Microsoft Corporation, MIT License: Permission is hereby granted, free of
charge, to any person obtaining a copy of this software and associated documentation files (the "Software"),
to deal in the Software without restriction, including without limitation the rights to use, copy, modify,
merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom
the Software is furnished to do so, subject to the following conditions: The above copyright notice and this
permission notice shall be included in all copies or substantial portions of the Software. THE SOFTWARE IS
PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
DEALINGS IN THE SOFTWARE."""


class Runtime(NamedTuple):
    """onnxruntime-web: its script, an ES module, and the program that it starts, WebAssembly."""

    script: str
    wasm: bytes


def runtime(package: str | Path | None = None) -> Runtime:
    """The Runtime from `package`, from the user's cache or from the internet; it is kept in the cache.

    package: the file that `npm pack onnxruntime-web@VERSION` brings, or a folder that npm unpacked. Raises
    InputError where it is not there, is another version, or cannot be downloaded.
    """
    folder = cache_folder()
    contents = []
    for name, digest in SHA256.items():
        kept = folder / name
        if package is not None:
            content = _from_package(Path(package).expanduser(), name)
            _check(content, digest, f"{package}: its {name}")
        elif kept.is_file() and _sha256(content := kept.read_bytes()) == digest:
            contents.append(content)
            continue
        else:
            content = _download(name)
            _check(content, digest, f"{ADDRESS}{name}")
        try:
            with whole_file(kept) as part:
                part.write_bytes(content)
        except InputError as error:  # a home that cannot be written: the page is written all the same
            print(error, file=sys.stderr)
        contents.append(content)
    script, wasm = contents
    return Runtime(script.decode("utf-8"), wasm)


def cache_folder() -> Path:
    """Where the files are kept."""
    return user_cache() / f"onnxruntime-web-{VERSION}"


def _from_package(package: Path, name: str) -> bytes:
    try:
        if package.is_dir():
            return (package / "dist" / name).read_bytes()
        with tarfile.open(package) as archive:
            return archive.extractfile(f"package/dist/{name}").read()
    except (OSError, EOFError, KeyError, AttributeError, tarfile.TarError) as error:
        raise InputError(
            f"{package}: is no package of onnxruntime-web {VERSION} ({first_line(error)}); bring it with: "
            f"npm pack onnxruntime-web@{VERSION}") from error


def _download(name: str) -> bytes:
    print(f"{ADDRESS}{name}: downloading it once", file=sys.stderr)
    try:
        with urlopen(Request(ADDRESS + name, headers={"User-Agent": "csam_lite"}), timeout=30) as response:
            return response.read()
    except (OSError, URLError, ValueError) as error:
        raise InputError(
            f"{ADDRESS}{name}: cannot be downloaded ({first_line(error)}); get it elsewhere with "
            f"npm pack onnxruntime-web@{VERSION}, and give the file with --runtime") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check(content: bytes, digest: str, what: str) -> None:
    if (actual := _sha256(content)) != digest:
        raise InputError(f"{what} has the sha256 {actual}, not {digest}; get version {VERSION} of "
                         "onnxruntime-web from another place, and give it with --runtime")
