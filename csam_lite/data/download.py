"""Bring an archive to this disk and unpack it, whole or not at all: resumes, checks the hash, unpacks only
inside its folder.

Needs the standard library and tqdm only. Errors are `InputError`: one line with the file and what to do.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import stat
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PureWindowsPath
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from csam_lite.common.errors import InputError
from csam_lite.common.locks import only_process
from csam_lite.common.progress import progress_bar, terminal_bar

AGAIN = "run again, it resumes; or give a copy that you have (--archive FILE, in Python archive=FILE)"
CHUNK = 1 << 18       # bytes read at a time
LEAST_RATE = 1000     # bytes a second, on average over SLOW_SECONDS, below which we do not wait for a server
SLOW_SECONDS = 60.0
LONGEST_WAIT = 60.0   # seconds that we wait where a busy server asks for it; if it asks for more, we give up


class _Cut(Exception):
    """The connection failed or ended early; another try may help, after `wait` seconds where the server asks
    for them."""

    def __init__(self, reason: object, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Pace:
    """Watches that a download comes at LEAST_RATE, over all its connections."""

    def __init__(self, url: str) -> None:
        self.url, self.start, self.bytes = url, time.monotonic(), 0

    def add(self, count: int) -> None:
        """So many bytes have come. Raises InputError where the last SLOW_SECONDS brought too few."""
        self.bytes += count
        seconds = time.monotonic() - self.start
        if self.is_slow():
            raise InputError(f"{self.url}: sends only {self.bytes / seconds:.0f} bytes a second; {AGAIN}")
        if seconds > SLOW_SECONDS:
            self.start, self.bytes = time.monotonic(), 0

    def is_slow(self) -> bool:
        """Whether SLOW_SECONDS are over and have brought too few bytes."""
        seconds = time.monotonic() - self.start
        return seconds > SLOW_SECONDS and self.bytes < LEAST_RATE * seconds


def download(url: str, path: str | Path, md5: str | None = None, room: float = 1.0, timeout: float = 30,
             tries: int = 3) -> Path:
    """Download `url` to `path` and return `path`; a file that is there with the right md5 is kept without any
    request.

    A cut download stays beside the target as `NAME.part`, and the next try asks for the missing bytes only
    (HTTP Range). `timeout` is in seconds; `tries` counts failures in a row in which the part did not grow
    beyond its longest so far. A busy server's Retry-After is kept to, up to LONGEST_WAIT seconds. `room` is
    the space for unpacking, in archive sizes. Raises InputError: no connection, server error, a server that
    sends next to nothing or asks for a longer wait, wrong md5 (the bad file is removed), not enough disk
    space, another process that downloads to the same path.
    """
    path = Path(path)
    if path.exists():
        if md5 is None or md5_of(path) == md5:
            return path
        print(f"{path}: its md5 is not {md5}; downloading it again")
    part = path.with_name(path.name + ".part")
    with _writing(part):
        path.parent.mkdir(parents=True, exist_ok=True)
    busy = f"{path}: another process is downloading this file; wait for it, or choose another folder"
    with only_process(part, busy, is_file=True):
        try:
            _fill(url, part, room, timeout, tries)
            if md5 and (actual := md5_of(part)) != md5:
                part.unlink()
                raise InputError(
                    f"{path}: the md5 of {url} is {actual}, not {md5}; the file was removed: run again or "
                    "use another --url"
                )
            with _writing(path):
                part.replace(path)
        finally:
            if part.exists() and not _size(part):
                part.unlink()
    return path


def _fill(url: str, part: Path, room: float, timeout: float, tries: int) -> None:
    """Bring `part` up to the whole file in as many requests as it takes. Raises InputError."""
    failures, longest, pace = 0, _size(part), _Pace(url)
    while True:
        try:
            return _receive(url, part, room, timeout, pace)
        except _Cut as error:
            failures = 1 if _size(part) > longest else failures + 1
            # a server that lets us start anew each time makes no progress
            longest = max(longest, _size(part))
            if error.wait > LONGEST_WAIT:
                raise InputError(
                    f"{url}: the server is busy and asks for a wait of {error.wait:.0f} s; then {AGAIN}"
                ) from error
            if failures == tries or pace.is_slow():
                raise InputError(
                    f"{url}: the download failed ({' '.join(str(error).split())}); {AGAIN}"
                ) from error
            pace.start += error.wait  # the server's own wish, which makes it no slower
            time.sleep(max(failures, error.wait))


def fetch(archive: str | Path | None, url: str, path: str | Path, md5: str, room: float = 1.0) -> Path:
    """The archive on this disk: `archive` itself where it is given, else `url` downloaded to `path`; the md5
    is checked in both cases.

    Raises InputError as `download` does, and where `archive` is not there or has another md5.
    """
    if archive is None:
        return download(url, path, md5, room)
    archive = Path(archive)
    if not archive.is_file():
        raise InputError(
            f"{archive}: no such file; give the archive with --archive, or leave it out to download it"
        )
    if (actual := md5_of(archive)) != md5:
        raise InputError(
            f"{archive}: its md5 is {actual}, not {md5}: cut short or changed; get it again from {url}"
        )
    return archive


def md5_of(path: str | Path) -> str:
    """The md5 of a file, in hexadecimal. It finds damage; it is no protection against an attacker. Raises
    InputError if unreadable."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); correct its permissions or give another file"
        ) from error


def zenodo_md5(record: str, name: str, api: str = "https://zenodo.org/api/records") -> str:
    """The md5 that Zenodo publishes for the file `name` of a record. Raises InputError where it cannot be
    learnt."""
    url = f"{api}/{record}"
    try:
        with _opened(Request(url, headers={"User-Agent": "csam_lite"}), timeout=30) as response:
            content = b"".join(_body(response, _Pace(url)))
        return {file["key"]: file["checksum"] for file in json.loads(content)["files"]}[name].removeprefix(
            "md5:"
        )
    except (
        _Cut,
        OSError,
        HTTPException,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{url}: the md5 of {name} cannot be learnt there ({error!r}); run again, or give it with --md5"
        ) from error


def extract(archive: str | Path, folder: str | Path) -> Path:
    """Unpack a tar, tar.gz or zip archive into the new folder `folder` and return it.

    The folder appears under its name only when it is whole. AppleDouble files (`._*`, made by macOS) are left
    out. Raises InputError: a member that leaves the folder or is a link (nothing is unpacked then), a broken
    or cut archive, a full disk, a folder that is not empty.
    """
    archive = Path(archive)
    with whole_folder(folder) as work, _reading(archive), closing(_open(archive)) as opened:
        members = [member for member in _members(opened) if not _apple(member[0])]
        for name, _, plain, _ in members:  # all are checked before the first is written
            place = PureWindowsPath(name)  # knows both kinds of slash and drive letters
            if place.anchor or ".." in place.parts or not plain:
                raise InputError(
                    f"{archive}: its member {name!r} is a link or leaves the folder; do not use this "
                    "archive, get a good copy"
                )
        total = sum(size for _, size, _, _ in members)
        _room(work, total)
        with _bar(total, f"unpack {archive.name}") as bar:
            for name, _, _, source in members:
                target = work.joinpath(*PureWindowsPath(name).parts)
                with _writing(target):
                    (target if source is None else target.parent).mkdir(parents=True, exist_ok=True)
                if source is not None:
                    _write(target, "wb", _pieces(archive, source), bar)
    return Path(folder)


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a new temporary folder beside `folder`; rename it to `folder` if the block succeeds, remove it if
    not.

    Raises InputError where `folder` holds something already, where another process is filling it, and where
    the disk is full or cannot be written.
    """
    folder = Path(folder).absolute()
    part = folder.with_name(f".part-{folder.name}")
    busy = f"{folder}: another process is writing this folder; wait for it, or choose another folder (--out)"
    _check_empty(folder)
    with only_process(part, busy):
        try:
            _check_empty(folder)  # what the other process made meanwhile
            shutil.rmtree(part / "new", ignore_errors=True)  # left by a run that was killed
            (part / "new").mkdir(parents=True)
            yield part / "new"
            if folder.exists():
                folder.rmdir()
            (part / "new").rename(folder)
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be written ({error.strerror or error}); free some space or choose another "
                "folder"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _check_empty(folder: Path) -> None:
    """Raises InputError where a folder holds something, or where it is none."""
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder}: is not empty; delete it or choose another folder (--out)")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error


def _opened(request: Request, timeout: float) -> HTTPResponse:
    """The answer of a server, as soon as its headers are there.

    `timeout` bounds each wait for a byte; where headers come byte by byte, twice `timeout` bounds them all.
    """
    answers: list[HTTPResponse | BaseException] = []

    def ask() -> None:
        try:
            answers.append(urlopen(request, timeout=timeout))
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * timeout)
    if not answers:
        raise _Cut(f"no answer within {2 * timeout:g} s")
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]


def _receive(url: str, part: Path, room: float, timeout: float, pace: _Pace) -> None:
    """Bring `part` up to the whole file in one request, or raise _Cut."""
    have = _size(part)
    headers = {"User-Agent": "csam_lite"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = _opened(Request(url, headers=headers), timeout)
    except HTTPError as error:
        if error.code == 416:  # nothing after `have`: the part is whole, or it belongs to another file
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
            with _writing(part):
                open(part, "wb").close()
        if error.code in (408, 416, 429) or error.code >= 500:
            raise _Cut(error, _asked_wait(error.headers.get("Retry-After"))) from error
        reason = " ".join(str(error.reason).split())
        raise InputError(
            f"{url}: the server answers {error.code} {reason}; correct the address (--url) or use "
            "--archive"
        ) from error
    except ValueError as error:
        raise InputError(f"{url}: is no address; give one that begins with https:// (--url)") from error
    except (OSError, HTTPException) as error:
        raise _Cut(getattr(error, "reason", error)) from error
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        if not resumed:  # a server that does not know Range sends all from the start
            have = 0
        length = _length(response.headers.get("Content-Length"))
        if length:
            _room(part.parent, length + room * (have + length))
        with _bar(have + length if length else None, part.stem, have) as bar:
            _write(part, "ab" if resumed else "wb", _body(response, pace), bar)
    if length and _size(part) != have + length:
        raise _Cut(f"cut after {_size(part)} of {have + length} bytes")


def _length(header: str | None) -> int:
    """The bytes that a server promises; 0 where it promises none, or no sensible number."""
    return int(header) if header and len(header) < 16 and header.isascii() and header.isdigit() else 0


def _asked_wait(header: str | None) -> float:
    """The seconds for which a server asks us to wait, in either form of Retry-After; 0 where it asks for
    none."""
    if not header:
        return 0.0
    if seconds := _length(header.strip()):
        return float(seconds)
    try:
        moment = parsedate_to_datetime(header)
        return max((moment - datetime.now(moment.tzinfo)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):  # no date
        return 0.0


def _body(response: HTTPResponse, pace: _Pace) -> Iterator[bytes]:
    try:
        while chunk := response.read1(CHUNK):  # what has come so far: read() would wait for the whole chunk
            pace.add(len(chunk))
            yield chunk
    except (OSError, HTTPException) as error:
        raise _Cut(error) from error


def _pieces(archive: Path, source: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    with _reading(archive), source() as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _write(path: Path, mode: str, chunks: Iterable[bytes], bar: terminal_bar) -> None:
    with _writing(path), open(path, mode) as file:
        for chunk in chunks:  # its own errors are no OSError: they pass
            file.write(chunk)
            bar.update(len(chunk))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); free some space and run again, "
            "or choose another folder"
        ) from error


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        EOFError,
        RuntimeError,
        LookupError,
        ValueError,
        lzma.LZMAError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{archive}: cannot be unpacked ({reason}): broken or cut short; delete it and download it again"
        ) from error


def _open(archive: Path) -> tarfile.TarFile | zipfile.ZipFile:
    return tarfile.open(archive) if tarfile.is_tarfile(archive) else zipfile.ZipFile(archive)


def _members(opened: tarfile.TarFile | zipfile.ZipFile) -> list[tuple[str, int, bool, Callable | None]]:
    """(name, bytes, is a plain file or folder, how to open it: None for a folder) for each member of a tar or
    zip."""
    if isinstance(opened, tarfile.TarFile):
        members = opened.getmembers()
        opened.fileobj.seek(opened.offset)
        # zeros end a tar; tarfile takes a cut or damaged header for the end too
        last = opened.fileobj.read(tarfile.BLOCKSIZE)
        if any(last) or 0 < len(last) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("a header is cut or damaged")
        return [
            (m.name, m.size, m.isreg() or m.isdir(), None if m.isdir() else lambda m=m: opened.extractfile(m))
            for m in members
        ]
    return [
        (
            m.filename,
            m.file_size,
            not stat.S_ISLNK(m.external_attr >> 16),
            None if m.is_dir() else lambda m=m: opened.open(m),
        )
        for m in opened.infolist()
    ]


def _apple(name: str) -> bool:
    return any(part.startswith("._") or part == "__MACOSX" for part in PureWindowsPath(name).parts)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _room(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free: "
            f"{(needed - free) / 1e9:.2f} GB are "
            "missing; free some space or choose another folder"
        )


def _bar(total: int | None, label: str, done: int = 0) -> terminal_bar:
    return progress_bar(total=total, initial=done, desc=label, unit="B", unit_scale=True)
