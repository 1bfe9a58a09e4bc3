"""The page reads a NIfTI file as Python does and writes the same mask: the files of test_geometry.py and worse, in node."""

import base64
import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
from test_geometry import STATES, STORED, poke, random_header, save, tilted

from csam_lite.common.errors import InputError
from csam_lite.data.scan import read_scan, write_like

NUMBER = re.compile(r"\d[\d.]*(?:e[+-]\d+)?")


def in_node(folder):
    """{name: what the page says of it} for every file in a folder."""
    if (node := shutil.which("node")) is None:
        pytest.skip("no node: apt-get install nodejs")
    done = subprocess.run([node, str(Path(__file__).with_name("nifti_in_node.mjs")), str(folder)], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same_words(theirs, ours):
    """The last figure of a number may be rounded otherwise."""
    assert NUMBER.sub("", theirs) == NUMBER.sub("", ours)
    np.testing.assert_allclose(*(np.array(NUMBER.findall(text), float) for text in (theirs, ours)), rtol=1e-3)


def compare(path, page):
    """The same voxels in the same order, the same geometry and remarks, the same bytes of a mask; or the same refusal. Returns whether
    the file was read."""
    try:
        scan = read_scan(path)
    except InputError as error:
        assert page["kind"] == "InputError", page
        assert_same_words(page["error"], str(error).replace(str(path), path.name))
        return False
    assert "error" not in page, page
    image = np.stack([np.frombuffer(base64.b64decode(channel), np.float32).reshape(page["shape"]) for channel in page["channels"]], 1)
    np.testing.assert_array_equal(image, scan.image)
    np.testing.assert_allclose(page["spacing"], scan.spacing, rtol=1e-12)
    assert page["directions"] == scan.directions and len(page["remarks"]) == len(scan.remarks)
    for theirs, ours in zip(page["remarks"], scan.remarks):
        assert_same_words(theirs, ours)
    mask = (np.arange(image[:, 0].size) % 5).astype(np.uint8).reshape(page["shape"])
    write_like(scan, {path.with_name("mask.nii"): mask})
    assert base64.b64decode(page["mask"]) == path.with_name("mask.nii").read_bytes()
    path.with_name("mask.nii").unlink()
    return True


def test_every_state_of_a_header(tmp_path):
    for state, options in STATES.items():
        save(tmp_path / f"{state}.nii.gz", **options)
        save(tmp_path / f"{state}.nii", **options)
    for state, changes in STORED.items():
        poke(save(tmp_path / f"{state}.nii", **STATES["both equal"]), changes)
    pages = in_node(tmp_path)
    assert len(pages) == 2 * len(STATES) + len(STORED)
    assert all([compare(tmp_path / name, page) for name, page in pages.items()])


def test_any_header(tmp_path, seed):
    rng = np.random.default_rng(seed)
    for i in range(150):
        save(tmp_path / f"{i}.nii.gz", **random_header(rng)[0])
    pages = in_node(tmp_path)
    assert sum([compare(tmp_path / name, page) for name, page in pages.items()]) > 75


def in_members(content, sizes, zeros=0):
    """A gzip file that consists of several, as indexed and parallel programs write it."""
    parts, start = [], 0
    for size in (*sizes, len(content)):
        parts.append(gzip.compress(content[start:start + size], mtime=0) + bytes(zeros))
        start += size
    return b"".join(parts)


def test_a_gzip_file_of_several_parts_is_read_whole(tmp_path):
    """Also where the signs of a new part stand in the middle of one by chance."""
    content = save(tmp_path / "plain.nii", **STATES["both equal"]).read_bytes()
    for name, data in {"two": in_members(content, [500]), "many": in_members(content, [1, 100, 247, 352, 1000]),
                       "padded": in_members(content, [500], zeros=9), "cut": in_members(content, [500])[:-20],
                       "empty_part": in_members(content, [500, 0]), "chance": gzip.compress(content + b"\x1f\x8b\x08\0" * 300, 0)}.items():
        (tmp_path / f"{name}.nii.gz").write_bytes(data)
    pages = in_node(tmp_path)
    read = {name: compare(tmp_path / name, page) if name != "cut.nii.gz" else page["kind"] for name, page in pages.items()}
    assert read.pop("cut.nii.gz") == "InputError" and len(read) == 6 and all(read.values())
    with pytest.raises(InputError, match="truncated or damaged"):
        read_scan(tmp_path / "cut.nii.gz")


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_type_of_voxel(dtype, tmp_path):
    for version, big, slope in ((1, False, None), (2, True, (0.37, -11.3)), (1, True, (1e-3, 0)), (2, False, (-2, 5))):
        options = dict(qform=tilted(20), sform=tilted(20), version=version, big=big, slope=slope)
        save(tmp_path / f"{version}{big}.nii", dtype=dtype, **options)
    pages = in_node(tmp_path)
    assert len(pages) == 4 and all([compare(tmp_path / name, page) for name, page in pages.items()])


def changed(path, changes):
    """Write other bytes into a file: {place: bytes}."""
    content = bytearray(path.read_bytes())
    for place, new in changes.items():
        content[place:place + len(new)] = new
    path.write_bytes(content)


def test_what_python_refuses_the_page_refuses_in_the_same_words(tmp_path):
    good = save(tmp_path / "good.nii", qform=tilted(20), sform=tilted(20))
    zipped = gzip.compress(good.read_bytes(), 6)

    def spoilt(name, changes):
        shutil.copy(good, tmp_path / name)
        changed(tmp_path / name, changes)

    def number(value, kind):
        return np.array(value, kind).tobytes()

    spoilt("huge.nii", {42: number([3000, 3000, 300], "<i2")})  # 5.4 GB
    spoilt("negative.nii", {42: number(-3, "<i2")})
    spoilt("empty.nii", {44: number(0, "<i2")})
    spoilt("flat.nii", {40: number(2, "<i2")})
    spoilt("six.nii", {40: number([6, 12, 10, 1, 5, 1, 1], "<i2")})
    spoilt("analyze.nii", {344: b"\0\0\0\0"})
    spoilt("metres.nii", {123: b"\x01"})
    spoilt("sform of nan.nii", {252: number(0, "<i2"), 280: number([np.nan] * 12, "<f4")})
    spoilt("contradiction.nii", {80: number([0.8, 0.8, 3], "<f4"), 252: number(0, "<i2")})
    (tmp_path / "cut.nii").write_bytes(good.read_bytes()[:-100])
    (tmp_path / "lies.nii").write_bytes(zipped)
    (tmp_path / "lies.nii.gz").write_bytes(good.read_bytes())
    (tmp_path / "more.nii").write_bytes(good.read_bytes() + bytes(2**24 + 2**21))
    nan, same = np.ones((12, 10, 5), np.float32), np.full((12, 10, 5), 7, np.int16)
    nan[3, 4, 1] = np.nan
    for name, voxels in (("nan.nii", nan), ("constant.nii", same), ("beyond.nii", np.where(same > np.arange(5) * 2, 3e38, -3e38))):
        nibabel.save(nibabel.Nifti1Image(voxels, tilted(20)), tmp_path / name)
    colours = np.zeros((12, 10, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, tilted(20)), tmp_path / "colours.nii")
    nibabel.save(nibabel.Nifti1Image(nan.astype(np.complex64), tilted(20)), tmp_path / "complex.nii")
    pages = in_node(tmp_path)
    read = {name: compare(tmp_path / name, page) for name, page in pages.items()}
    assert len(read) == 19 and {name for name in read if read[name]} == {"good.nii", "six.nii"}


def test_rubbish_is_refused_in_one_line(tmp_path, seed):
    """Here the reason may differ (zlib's words are not the browser's)."""
    good = save(tmp_path / "good.nii.gz", qform=tilted(20), sform=tilted(20)).read_bytes()
    rng = np.random.default_rng(seed)
    (tmp_path / "cut.nii.gz").write_bytes(good[:len(good) // 2])
    (tmp_path / "damaged.nii.gz").write_bytes(good[:-9] + bytes([good[-9] ^ 255]) + good[-8:])
    (tmp_path / "checksum.nii.gz").write_bytes(good[:-8] + bytes([good[-8] ^ 255]) + good[-7:])
    (tmp_path / "nothing.nii").write_bytes(b"")
    (tmp_path / "text.nii").write_text("<script>alert(1)</script>" * 40, encoding="utf-8")
    for i in range(20):
        (tmp_path / f"noise{i}.nii").write_bytes(rng.bytes(int(rng.integers(1, 3000))))
        changed(save(tmp_path / f"header{i}.nii", qform=tilted(20), sform=tilted(20)), {int(rng.integers(0, 340)): rng.bytes(8)})
    pages = in_node(tmp_path)
    pages.pop("good.nii.gz")
    for name, page in pages.items():
        if name.startswith("header"):
            try:
                read_scan(tmp_path / name)
            except InputError:
                assert page.get("kind") == "InputError", (name, page)
                continue
            assert "error" not in page, (name, page)
            continue
        assert page["kind"] == "InputError" and page["error"].startswith(f"{name}: ") and "\n" not in page["error"], page
        with pytest.raises(InputError):
            read_scan(tmp_path / name)


def test_plain_functions_of_the_network_in_the_page():
    if (node := shutil.which("node")) is None:
        pytest.skip("no node: apt-get install nodejs")
    done = subprocess.run([node, "--test", str(Path(__file__).with_name("page_network.test.mjs"))], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
