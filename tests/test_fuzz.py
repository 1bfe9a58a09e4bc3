"""Rubbish for every reader: each input is read, or refused in one line; nothing else ever comes out.

Plain pytest tries a sample; -m stress tries 1,000 inputs. The seed is printed; CSAM_LITE_TEST_SEED repeats it. Any seed must pass.
"""

import gzip
import io
import json
import re
import resource
import shutil
import tarfile
import time
import traceback
import warnings
import zipfile

import nibabel
import numpy as np
import pytest
from conftest import SEED, TINY, blob, describe, write_nifti

from csam_lite.common.errors import InputError
from csam_lite.data.download import extract
from csam_lite.data.scan import read_scan
from csam_lite.data.survey import survey
from csam_lite.experiments.held_out import HeldOut, patient_rows, read_held_out
from csam_lite.experiments.plan import configs, read_plan
from csam_lite.experiments.record import read_record
from csam_lite.training.config import Config
from csam_lite.training.run import load_run
from csam_lite.training.trainer import Trainer

RUBBISH = [None, True, 0, -1, 1, 2, 255, 10**9, 10**30, 0.5, -1e300, float("nan"), float("inf"), "", "x", "no", "\x1b[31m", "ä" * 300, "$$",
           "../x", "/etc/passwd", "\\", "\ud800", [], [[]], [1], ["a"], {}, {"a": 1}, {"0": None}, [None] * 3, "3"]
WHOLE = [b"", b"\0" * 1000, b"<!DOCTYPE html><html></html>", b"[" * 100_000, b"{" * 1000, b"null", b"5", b"\xff\xfe", b"\xef\xbb\xbf{}", b"a,b\n1,2,3\n",
         b"version https://git-lfs.github.com/spec/v1\n", gzip.compress(b"x"), b"PK\x03\x04", b"\x1f\x8b"]
SLOW, MEMORY = 60, 4 << 30  # seconds of computing, and bytes, that no input may take


def damage(content, rng):
    """The bytes with one to three damages, each of a random kind."""
    content = bytearray(content)
    if rng.random() < 0.04:
        return WHOLE[rng.integers(len(WHOLE))]
    for _ in range(rng.integers(1, 4)):
        n = len(content)
        at = int(rng.integers(n + 1) if rng.random() < 0.5 else rng.integers(min(n, 400) + 1))  # headers matter more
        length = int(rng.integers(1, 40))
        kind = rng.integers(6)
        if kind == 0 and at < n:
            content[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            content[at:at + length] = bytes(rng.choice([0, 1, 127, 128, 255], len(content[at:at + length])).astype(np.uint8))
        elif kind == 2:
            del content[at:]
        elif kind == 3:
            del content[at:at + length]
        elif kind == 4:
            content[at:at] = rng.bytes(length)
        else:
            content[at:at] = content[at:at + length]
    return bytes(content)


def inside(content, rng):
    """Damage within what is compressed."""
    return gzip.compress(damage(gzip.decompress(content), rng))


def in_json(content, rng):
    """One to three values or keys of a JSON text replaced, taken away or put elsewhere."""
    tree = [json.loads(content)]
    for _ in range(rng.integers(1, 4)):
        places = [(tree, 0)]
        for holder, key in places:  # grows while we walk
            value = holder[key]
            places += [(value, k) for k in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ())]
        holder, key = places[rng.integers(len(places))]
        if rng.random() < 0.2 and holder is not tree:
            del holder[key]
        elif rng.random() < 0.15 and isinstance(holder, dict):
            holder[str(RUBBISH[rng.integers(len(RUBBISH))])] = holder.pop(key)
        else:
            holder[key] = json.loads(json.dumps(RUBBISH[rng.integers(len(RUBBISH))]))
    return json.dumps(tree[0]).encode()


TOML = ["5", '"a"', "true", "[]", "{}", "[1, 1]", '"no"', "nan", "inf", "-1", "1e30", "32.5", "[[1]]", "", "1979-05-27", '"\\u001b"', "9" * 40, '{a = 1}']


def in_lines(content, rng):
    """Values of a TOML text replaced, lines taken away, doubled or exchanged."""
    lines = content.decode().splitlines()
    for _ in range(rng.integers(1, 4)):
        k = int(rng.integers(len(lines)))
        kind = rng.integers(5)
        if kind == 0 and len(lines) > 1:
            del lines[k]
        elif kind == 1:
            lines.insert(int(rng.integers(len(lines))), lines[k])
        else:
            lines[k] = re.sub(r"= .*", lambda _: "= " + TOML[rng.integers(len(TOML))], lines[k])
    return "\n".join(lines).encode()


def in_cells(content, rng):
    """Cells of a CSV text replaced, taken away or doubled."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(rng.integers(1, 4)):
        row = rows[rng.integers(len(rows))]
        k = int(rng.integers(len(row))) if row else 0
        row[k:k + 1] = [[], ["x"], ["", ""], ["nan"], ["1e999"], ['"'], ["-5"], ["\0"]][rng.integers(8)]
    return "\n".join(",".join(row) for row in rows).encode()


def archive(path, kind):
    files = {"a/one": b"1" * 3000, "a/two": bytes(range(256)) * 20, "three": b""}
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in files.items():
                opened.writestr(name, content)
    else:
        with tarfile.open(path, kind) as opened:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                opened.addfile(member, io.BytesIO(content))
    return path


def unpack(path):
    """Extract an archive; nothing may be written outside of its folder, and nothing stay of a refused one."""
    out, beside = path.parent / "out" / "new", {*path.parent.parent.iterdir(), *path.parent.iterdir()}
    shutil.rmtree(out.parent, ignore_errors=True)
    try:
        extract(path, out)
        refused = False
    except InputError:
        refused = True
        raise
    finally:
        left = [entry.name for entry in out.parent.iterdir()] if out.parent.exists() else []
        assert left == ([] if refused else ["new"]), left
        assert {*path.parent.parent.iterdir(), *path.parent.iterdir()} - {out.parent} == beside - {out.parent}


PLAN = b'''data = "d"
out = "o"
seeds = [0, 1]
folds = [0, 1]
reference = "plain"

[options]
pixels = 32
levels = 3
epochs = 2
folds = 3
augment = false

[networks.plain]
attention = "none"

[networks.CSAM]
uncertain = true
'''
RECORD = {"csam_lite": "1", "data": "abc", "costs": {"plain": {"ms/step": 1.0, "peak MB": 3.0}}, "torch": "2", "machine": "m", "date": "d", "epochs": 3}
DETAILS = {"slices": [{"class": "PZ", "position": 0.5, "dice": 0.3}] * 3, "reliability": {"PZ": [[1.0, 0.5, 0.0]] * 10}}
SCORES = b"case,patient,class,dice,hd95_mm,volume_ml,ece\na,a,PZ,0.5000,nan,1.0,0.1\nb,b,PZ,0.7000,3.1,1.0,0.2\n"


@pytest.fixture(scope="module")
def readers(tmp_path_factory, phantoms):
    """{name: [(file, what reads it, how it is damaged)]}, all files good."""
    root = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(0)
    image, mask = blob((14, 12, 5), rng)
    image = image.astype(np.int16)
    for name in ("x.nii", "x.nii.gz"):
        write_nifti(root / "scans" / name, image)
        write_nifti(root / "masks" / name, mask)
    nibabel.save(nibabel.Nifti1Pair(image, np.diag([0.5, 0.5, 3, 1])), root / "scans" / "y.hdr")
    nibabel.save(nibabel.Nifti2Image(image, np.diag([0.5, 0.5, 3, 1])), root / "scans" / "z.nii")

    def scan(path):
        read_scan(path)

    def as_mask(path):
        read_scan(root / "scans" / "x.nii.gz", path, {1: "ring", 2: "core"})

    scans = [(root / "scans" / name, scan, damage) for name in ("x.nii", "x.nii.gz", "y.hdr", "z.nii")]
    scans.append((root / "scans" / "x.nii.gz", scan, inside))
    try:
        import SimpleITK

        for name in ("x.mha", "x.nrrd", "x.mhd"):
            SimpleITK.WriteImage(SimpleITK.ReadImage(str(root / "scans" / "x.nii")), str(root / "scans" / name))
            scans.append((root / "scans" / name, scan, damage))
    except ImportError:
        pass
    for folder, names in (("imagesTr", "ab"), ("labelsTr", "ab")):
        for name in names:
            write_nifti(root / "set" / folder / f"{name}.nii.gz", image if folder == "imagesTr" else mask)
    describe(root / "set", "ab")
    (root / "set" / "imagesTs").mkdir()
    shutil.copy(root / "set" / "imagesTr" / "a.nii.gz", root / "set" / "imagesTs" / "t.nii.gz")
    listing = root / "set" / "dataset.json"
    listing.write_text(json.dumps(json.loads(listing.read_text(encoding="utf-8")) | {
        "test": ["./imagesTs/t.nii.gz"], "one_zone": {"choice": "keep", "cases": {"a": [1]}}}), encoding="utf-8")

    config = Config(str(phantoms), str(root / "run"), **TINY | {"epochs": 1})
    Trainer.prepare(config, progress=False).fit()
    trainer = Trainer.prepare(config, resume=True, progress=False)
    shutil.copytree(root / "run", root / "continued")

    (root / "plan.toml").write_bytes(PLAN)
    (root / "experiment.json").write_text(json.dumps(RECORD), encoding="utf-8")
    (root / "scores").mkdir()
    (root / "scores" / "held_out.csv").write_bytes(SCORES)
    (root / "scores" / "held_out.json").write_text(json.dumps(DETAILS), encoding="utf-8")

    def scores(_):
        held_out = HeldOut()
        held_out.add(read_held_out(root / "scores"), 0, 0)
        patient_rows({"plain": held_out})

    (root / "archives").mkdir()
    archives = [archive(root / "archives" / f"a{number}.x", kind) for number, kind in enumerate(("w", "w:gz", "w:xz", "w:bz2", "zip"))]
    return {
        "scans": scans,
        "masks": [(root / "masks" / name, as_mask, kind) for name, kind in (("x.nii", damage), ("x.nii.gz", damage), ("x.nii.gz", inside))],
        "dataset.json": [(listing, lambda path: survey(path.parent, progress=False), kind) for kind in (in_json, in_json, damage)],
        "config.json": [(root / "run" / "config.json", lambda path: load_run(path.parent), kind) for kind in (in_json, in_json, damage)],
        "safetensors": [(root / "run" / "best.safetensors", lambda path: load_run(path.parent), damage)],
        "resume.pt": [(root / "run" / "resume.pt", lambda path: trainer.restore(), damage)],
        "plans": [(root / "plan.toml", lambda path: list(configs(read_plan(path))), kind) for kind in (in_lines, in_lines, damage)],
        "kept results": [(root / "scores" / "held_out.csv", scores, in_cells), (root / "scores" / "held_out.csv", scores, damage),
                         (root / "scores" / "held_out.json", scores, in_json), (root / "scores" / "held_out.json", scores, damage),
                         (root / "experiment.json", read_record, in_json), (root / "experiment.json", read_record, damage)],
        "archives": [(path, unpack, damage) for path in archives],
    }


@pytest.fixture
def little_memory():
    """No more than MEMORY beyond what the process has now."""
    with open("/proc/self/statm", encoding="utf-8") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def fuzz(name, count, readers):
    """How many of `count` inputs of one kind need the net of the command line: (failures, refused)."""
    print(f"seed {SEED}: repeat with CSAM_LITE_TEST_SEED={SEED}")
    rng, failures, refused = np.random.default_rng([SEED, *name.encode()]), [], 0
    for number in range(count):
        path, read, spoil = readers[name][number % len(readers[name])]
        good = path.read_bytes()
        path.write_bytes(spoil(good, rng))
        start = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a warning would reach the user with lines of source
                read(path)
        except InputError as error:
            refused += 1
            if len(str(error).splitlines()) != 1 or not str(error).isprintable():
                failures.append(f"{name} {number}: not one printable line: {error!s}")
        except Exception:
            failures.append(f"{name} {number} ({path.name}): {traceback.format_exc()}")
        finally:
            path.write_bytes(good)
        if time.process_time() - start > SLOW:
            failures.append(f"{name} {number}: took {time.process_time() - start:.0f} s")
    return failures, refused


NAMES = {"scans": (200, 10), "masks": (120, 0), "dataset.json": (150, 33), "config.json": (130, 58), "safetensors": (60, 0),
         "resume.pt": (60, 20), "plans": (140, 74), "kept results": (90, 16), "archives": (300, 40)}


@pytest.mark.row("reliability 7", "reliability 8", "reliability 12", "reliability 13", "reliability 14", "reliability 23")
@pytest.mark.parametrize("name", NAMES)
def test_a_little_rubbish(name, readers, little_memory):
    for _, read, _ in readers[name][:1]:
        read(readers[name][0][0])  # what is not damaged is read
    failures, _ = fuzz(name, 12, readers)
    assert not failures, "\n".join([f"seed {SEED}", *failures])


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.stress(trial=f"rubbish: {name}", found=found, count=count))
                                  for name, (count, found) in NAMES.items()])
def test_much_rubbish(name, stress, readers, little_memory):
    failures, refused = fuzz(name, NAMES[name][0], readers)
    assert not failures, "\n".join([f"seed {SEED}", f"{len(failures)} failures", *failures])
    assert refused > NAMES[name][0] / 10
