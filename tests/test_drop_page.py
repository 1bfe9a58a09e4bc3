"""The page to drop a scan on, in headless Chromium from disk, against Python's `predict`: masks voxel by voxel, gates, saved files.

Times are those of the browser. They stand, after a run, in .pytest_cache/v/csam_lite/drop_page.
"""

import gzip
import json
import os
import re
import shutil
import statistics
import sys
import time
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
from browser import Shown, gates_of, replaced_by, wait, watched
from test_geometry import STATES, STORED, assert_opens_at_the_same_place, poke, save
from test_live_page import expected_probabilities, same_mask
from test_page_nifti import in_members

from csam_lite.cli import main
from csam_lite.common.errors import InputError
from csam_lite.core.windows import probabilities
from csam_lite.data.dataset import find_dataset
from csam_lite.explorer import runtime as runtime_module
from csam_lite.explorer.drop_page import write_drop_page
from csam_lite.explorer.examine import examine
from csam_lite.explorer.live import exported
from csam_lite.explorer.runtime import SHA256, VERSION, runtime
from csam_lite.inference.export import checksum
from csam_lite.inference.predict import network_input, predict, read_for
from csam_lite.training.run import pretrained

DROP_S, INTERVENTION_S, PAGE_MB, TAB_MB, STEP_MS, TASK_MS = 2.0, 0.3, 9, 600, 12, 50
BUSY = 3  # other work may share the processors and their caches: so much longer may a task of the page take


@pytest.fixture(scope="session")
def page_file(shipped_network, package, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "segment.html"
    write_drop_page(shipped_network, path, package)
    return path


class Dropped(Shown):
    """An open page, as a reader uses it."""

    def drop(self, *files, seconds=120):
        """Give files; the line with which the page ends its work."""
        self.page.evaluate("() => document.querySelector('#drop').page.tell('…')")
        self.page.set_input_files('[data-part="file"]', *files)
        return self.line(seconds)

    def line(self, seconds=120):
        end = time.monotonic() + seconds
        while (line := self.page.text_content('[data-part="progress"]')).endswith("…") or not line:
            assert time.monotonic() < end, line
            self.page.wait_for_timeout(20)
        return line

    def saved(self):
        """The NIfTI file that the page saves."""
        with self.page.expect_download() as caught:
            self.page.click('[data-part="save"]')
        return caught.value


@pytest.fixture
def dropped(browser, page_file):
    with watched(browser, allowed=("file://",)) as page:
        yield Dropped(page, page_file)


@pytest.fixture
def phantom(phantoms, tmp_path):
    """T2 alone of a phantom, as a file."""
    dataset = find_dataset(phantoms)
    return t2_of(nibabel.load(dataset.cases[0].image), tmp_path / "phantom.nii.gz")


def t2_of(image, path):
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj)[..., 0], image.affine, None), path)
    return path


def as_predict(shown, path, tmp_path, channels=""):
    """The mask that is seen, the file that is saved and what is said of the scan equal those of `predict`."""
    with redirect_stderr(StringIO()) as said:
        mask = predict(pretrained(), path, tmp_path / "expected.nii.gz", channels=channels)
    remarks = [line.removeprefix(f"{path}: ") for line in said.getvalue().splitlines()]
    assert shown.line().partition(" s. ")[2] == " ".join(remarks)
    np.testing.assert_array_equal(shown.array("prediction"), mask)  # the labels of this network are its classes
    download = shown.saved()
    assert download.suggested_filename == f"{path.name.removesuffix('.gz').removesuffix('.nii')}_mask.nii.gz"
    download.save_as(tmp_path / "saved.nii.gz")
    with gzip.open(tmp_path / "saved.nii.gz") as saved, gzip.open(tmp_path / "expected.nii.gz") as expected:
        assert saved.read() == expected.read()
    return mask


def test_a_phantom_is_segmented_as_predict_does(dropped, phantom, tmp_path):
    assert dropped.drop(phantom).startswith("phantom.nii.gz: done in ")
    mask = as_predict(dropped, phantom, tmp_path)
    run = pretrained()
    scan = read_for(run, phantom)
    np.testing.assert_allclose(dropped.probabilities(), probabilities(run.network, network_input(run, scan)).numpy().ravel(), atol=1e-3)
    for (csam, gate), values in gates_of(examine(run, scan).as_trained).items():
        np.testing.assert_allclose(dropped.array(f"{csam}/{gate}/0", np.float32), values, atol=1e-4)
    volumes = [(mask == k).sum() * np.prod(scan.spacing) / 1000 for k in (1, 2)]
    text = dropped.page.text_content('[data-part="volumes"]')
    assert [float(part.split()[1]) for part in text.split(", ")] == pytest.approx(volumes, rel=5e-3) and volumes[0] > 1


def test_what_makes_a_mask_doubtful_is_said(dropped, phantom, tmp_path):
    image = nibabel.load(phantom)
    voxels = np.asanyarray(image.dataobj)
    aside, sagittal = tmp_path / "aside.nii.gz", tmp_path / "sagittal.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.roll(voxels, 60, axis=0), image.affine, None), aside)
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine[[2, 0, 1, 3]], None), sagittal)
    for path, says in ((aside, "Its mask reaches the edge of what the network reads, 90.1 mm"), (sagittal, "Its slices are sagittal; ")):
        assert says in dropped.drop(path)
        as_predict(dropped, path, tmp_path)


def fits(page, width, height):
    """Slice and bars stand on one screen, without scrolling in either direction, so that a bar is dragged while the organ is watched."""
    page.set_viewport_size({"width": width, "height": height})
    wait(lambda: page.evaluate("innerWidth") == width)
    picture, bars = (page.locator(f'[data-part="{part}"]').bounding_box() for part in ("slice", "gate-slice"))
    is_seen = 0 <= picture["y"] and picture["y"] + picture["height"] < bars["y"] and bars["y"] + bars["height"] <= height
    return is_seen and picture["width"] >= 280 and page.evaluate("scrollY === 0 && document.scrollingElement.scrollWidth <= innerWidth")


def test_interventions_answer_as_python_does(dropped, phantom):
    dropped.drop(phantom)
    for width, height in ((1366, 768), (1400, 900), (1024, 768), (900, 700), (390, 844)):
        assert fits(dropped.page, width, height), (width, height)
    view = examine(pretrained(), phantom, draws=0)
    S = len(view.image)
    one_slice = [None] * S
    one_slice[S // 2] = 0.0
    scaled = (gates_of(view.as_trained)["csam.1", "slice"] * 0.3).tolist()
    for asked in ({"csam.0": {"slice": "one"}}, {"csam.0": {"slice": one_slice}}, {"csam.1": {"slice": scaled}, "csam.4": {"semantic": "one"}},
                  {"csam.0": {"positional": "mean"}, "csam.2": {"slice": "mean", "semantic": "mean"}}):
        expected = view.answer(replaced_by(asked))
        dropped.change(asked)
        np.testing.assert_array_equal(dropped.array("prediction"), expected.mask)
        for (csam, gate), values in gates_of(expected).items():
            np.testing.assert_allclose(dropped.array(f"{csam}/{gate}/0", np.float32), values, atol=1e-4)
    assert (expected.mask != view.as_trained.mask).any()
    dropped.page.click('[data-part="reset-gates"]')
    dropped.page.wait_for_timeout(100)
    np.testing.assert_array_equal(dropped.array("prediction"), view.as_trained.mask)


def test_the_gates_of_the_scan_before_are_used_in_this_one(dropped, phantom, phantoms, tmp_path):
    """One gate, and all of them, as the network chose them for the scan that was dropped before; it has other slices."""
    image = nibabel.load(find_dataset(phantoms).cases[1].image)
    before = tmp_path / "before.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj)[:, :, 2:15, 0], image.affine, None), before)
    dropped.drop(before)
    assert dropped.page.locator('[data-part="other-gates"]').count() == 0
    dropped.drop(phantom)
    view, chosen = examine(pretrained(), phantom, draws=0), gates_of(examine(pretrained(), before, draws=0).as_trained)
    S, most = len(view.image), 24
    shift = (most - S) // 2 - (most - 13) // 2  # each scan stands in the middle of the network's slots
    for (csam, gate), values in chosen.items():
        if gate == "slice":
            here = np.full(S, np.nan, np.float32)
            here[-shift:13 - shift] = values
            chosen[csam, gate] = here
    dropped.page.locator('[data-part="change-semantic"]').select_option("other")
    dropped.answered()
    one = {("csam.0", "semantic"): chosen["csam.0", "semantic"]}
    np.testing.assert_array_equal(dropped.array("prediction"), view.answer(one).mask)
    assert dropped.page.locator('[data-part="change-semantic"]').input_value() == "other"
    assert dropped.page.text_content('[data-part="other-gates"]') == "all gates as in before.nii.gz"
    dropped.page.click('[data-part="other-gates"]')
    assert "15 gates changed" in dropped.answered()
    expected = view.answer(chosen).mask
    np.testing.assert_array_equal(dropped.array("prediction"), expected)
    assert (expected != view.as_trained.mask).sum() > 20
    assert all(dropped.page.locator(f'[data-part="change-{gate}"]').input_value() == "other" for gate in ("slice", "positional", "semantic"))
    dropped.page.click('[data-part="undo"]')
    dropped.answered()
    np.testing.assert_array_equal(dropped.array("prediction"), view.answer(one).mask)


def test_the_uncertainty_of_drawn_gates(run, phantoms, package, browser, tmp_path):
    """As Python's but for the luck of 20 draws, the same each time; other work comes between the draws."""
    write_drop_page(run, tmp_path / "page.html", package)
    case = find_dataset(phantoms).cases[0]
    view = examine(run, case.image, draws=100)
    with watched(browser, allowed=("file://",)) as page:
        shown, maps = Dropped(page, tmp_path / "page.html"), []
        shown.drop(case.image)
        page.click('[data-part="draw"]')  # the drop that follows ends these draws
        for _ in range(2):
            assert "done in" in shown.drop(case.image)
            assert page.locator(".part-uncertainty").is_hidden()
            page.click('[data-part="draw"]')
            shown.change(asked := {"csam.0": {"slice": "zero"}})
            expected = view.answer({("csam.0", "slice"): 0.0}).mask
            same_mask(shown.array("prediction"), expected, view, expected_probabilities(view, asked))
            wait(lambda: page.text_content('[data-part="draw"]') == "the uncertainty is below", 120)
            maps.append(shown.array("uncertainty") / 510)
            assert page.locator(".part-uncertainty").is_visible() and "20 draws" in page.text_content(".part-uncertainty figcaption")
    np.testing.assert_array_equal(*maps)
    found, expected = maps[0], view.uncertainty
    assert found.shape == expected.shape and expected.max() > 0.01
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
    assert 0.7 < found.mean() / expected.mean() < 1.4


def test_a_channel_is_chosen_and_a_deep_volume_is_read_in_windows(dropped, phantoms, tmp_path):
    first, second = (nibabel.load(case.image) for case in find_dataset(phantoms).cases[:2])
    voxels = np.concatenate([np.asanyarray(first.dataobj), np.asanyarray(second.dataobj)], 2)[:, :, :31]
    path = tmp_path / "deep.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, first.affine), path)
    assert voxels.shape[2] > 24 and voxels.shape[3] == 2
    assert dropped.drop(path) == "deep.nii.gz: holds 2 channels. Which of them does the network read?"
    dropped.page.select_option('[data-part="choose-0"]', "1")
    dropped.page.evaluate("() => document.querySelector('#drop').page.tell('…')")
    dropped.page.click('[data-part="choose"]')
    assert "done in" in dropped.line()
    adc = tmp_path / "adc.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels[..., 1], first.affine), adc)
    view = examine(pretrained(), adc, draws=0)
    same_mask(dropped.array("prediction"), view.as_trained.mask, view, expected_probabilities(view, {}))
    shut = [None] * 31
    shut[15] = 0.0
    dropped.change(asked := {"csam.0": {"slice": shut}})
    expected = view.answer(replaced_by(asked))
    same_mask(dropped.array("prediction"), expected.mask, view, expected_probabilities(view, asked))
    assert len(expected.windows) == 2


def test_headers_of_all_kinds(dropped, phantom, tmp_path):
    """Each goes the whole way: the mask that is seen and the file that is saved are those of `predict`, and SimpleITK opens the file where
    it opens the scan. (test_page_nifti.py holds more headers to Python's answers, without a browser.)"""
    organ = np.asanyarray(nibabel.load(phantom).dataobj)[128:192, 130:190, 9:12]  # on noise the network would be undecided in some voxel
    written = {state: save(tmp_path / f"{state}.nii.gz", **options, voxels=np.stack([organ, organ[::-1]], 3) if "channels" in options else organ)
               for state, options in STATES.items()}
    written |= {state: poke(save(tmp_path / f"{state}.nii", **STATES["both equal"], voxels=organ), changes) for state, changes in STORED.items()}
    assert len(written) > 25
    for state, path in written.items():
        line = dropped.drop(path)
        channels = ""
        if "holds 2 channels" in line:
            dropped.page.evaluate("() => document.querySelector('#drop').page.tell('…')")
            dropped.page.click('[data-part="choose"]')
            line, channels = dropped.line(), "T2+ADC"
        assert "done in" in line, (state, line)
        assert as_predict(dropped, path, tmp_path, channels).any(), state
        assert_opens_at_the_same_place(tmp_path / "saved.nii.gz", path)


def claims_five_gigabytes(path):
    """A file as long as its header says, of which the disk holds the header alone."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((3000, 3000, 300))
    with open(path, "wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 2 * 3000 * 3000 * 300)
    return path


def test_hostile_files_become_a_line_and_the_page_goes_on(shipped_network, package, browser, phantom, tmp_path):
    """Damaged, huge and lying files, and markup in every name that a page is given: of files, classes and channels."""
    scan, facts = phantom.read_bytes(), json.loads(shipped_network.with_suffix(".json").read_text(encoding="utf-8"))
    markup = "<img src=x onerror=alert(1)>"
    facts |= {"labels": {value: f"{markup}{name}</script>" for value, name in facts["labels"].items()}, "channels": [f"<b>T2{markup}"]}
    facts["sha256"] = checksum(shipped_network.read_bytes(), facts)
    shutil.copy(shipped_network, tmp_path / "net.onnx")
    (tmp_path / "net.json").write_text(json.dumps(facts), encoding="utf-8")
    write_drop_page(tmp_path / "net.onnx", tmp_path / "segment.html", package)
    content = bytearray(gzip.decompress(scan))
    content[42:48] = np.array([3000, 3000, 300], "<i2").tobytes()
    files = {f"{markup}.nii.gz": scan[:2000], "cut.nii.gz": scan[:len(scan) // 2], "damaged.nii.gz": scan[:-8] + bytes(8), "text.nii": b"<b>no scan</b>" * 50,
             "empty.nii": b"", "five_gigabytes.nii.gz": gzip.compress(bytes(content)), "claims.nii": bytes(content)[:100_000]}
    with watched(browser, allowed=("file://",)) as page:
        dropped = Dropped(page, tmp_path / "segment.html")
        for name, data in files.items():
            line = dropped.drop({"name": name, "mimeType": "application/octet-stream", "buffer": data})
            assert line.startswith(f"{name}: cannot be read as NIfTI, truncated or damaged (") and "\n" not in line, line
        bomb = gzip.compress(bytes(content[:352]) + bytes(2**29), 1)
        assert "cannot be read" in dropped.drop({"name": "bomb.nii.gz", "mimeType": "application/gzip", "buffer": bomb})
        huge = claims_five_gigabytes(tmp_path / "huge.nii")
        assert re.fullmatch(r"huge.nii: .*; use python -m csam_lite predict.*", dropped.drop(huge))
        assert dropped.drop(huge.rename(tmp_path / "huge.nii.gz")).startswith("huge.nii.gz: ")
        for name in (f"{markup}.nii.gz", f"{markup}2.nii.gz"):  # the second time the first is the other scan
            (tmp_path / name).write_bytes(scan)
            assert "done in" in dropped.drop(tmp_path / name)
        page.click('[data-part="other-gates"]')
        assert "15 gates changed" in dropped.answered()
        assert page.locator("body img, main b:not(li > b:first-child), main script").count() == 0  # the list of words has b of its own
        assert f"{markup}2.nii.gz" in page.text_content(".csam-explorer header") and f"{markup}.nii.gz" in page.text_content('[data-part="other-gates"]')
        assert markup in page.text_content("h1") and markup in page.text_content('[data-part="volumes"]')
        saved = dropped.saved()
        assert "/" not in saved.suggested_filename and saved.suggested_filename.endswith("_mask.nii.gz")


def test_a_gzip_file_of_several_parts(dropped, phantom, tmp_path):
    """In Chromium, which by itself unpacks the first part alone; node reads all. What follows the last one is damage, but for zeros."""
    parts = tmp_path / "parts.nii.gz"
    parts.write_bytes(in_members(gzip.decompress(phantom.read_bytes()), [300, 70_000], zeros=5))
    assert dropped.drop(parts).startswith("parts.nii.gz: done in ")
    as_predict(dropped, parts, tmp_path)
    for rest in (b"rubbish", gzip.compress(b"x")[:-3]):
        with open(parts, "ab") as file:
            file.write(rest)
        assert dropped.drop(parts).startswith("parts.nii.gz: cannot be read as NIfTI, truncated or damaged (")
        with pytest.raises(InputError, match="truncated or damaged"):
            read_for(pretrained(), parts)


def test_a_grid_that_a_header_claims_is_bounded_as_in_python(dropped, phantom, tmp_path):
    image = nibabel.load(phantom)
    for mm in (30.0, 3000.0):
        far = tmp_path / "far.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), np.diag([mm, mm, 3.6, 1]), None), far)
        with pytest.raises(InputError) as refused:
            predict(pretrained(), far, tmp_path / "mask.nii.gz")
        assert "correct the voxel size" in str(refused.value)
        assert dropped.drop(far) == str(refused.value).replace(str(far), far.name)
    assert "done in" in dropped.drop(phantom)


def test_a_file_that_is_dropped_later_overtakes(dropped, phantom, tmp_path):
    later = tmp_path / "later.nii.gz"
    shutil.copy(phantom, later)
    dropped.page.set_input_files('[data-part="file"]', phantom)
    assert dropped.drop(later).startswith("later.nii.gz: done")


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.stress)])
def test_real_scans(every, dropped, shared, request, tmp_path):
    if every == 1 and "stress" not in request.config.option.markexpr:
        pytest.skip("all of them only with -m stress")
    paths = [path for folder in ("prostate_zonal/imagesTr", "prostate_unlabelled") for path in sorted((shared / "data" / folder).iterdir())]
    assert len(paths) > 5
    for path in paths[::every]:
        assert "done in" in dropped.drop(path)
        as_predict(dropped, path, tmp_path)


def test_the_page_is_one_small_file_that_may_ask_for_nothing(page_file):
    text = page_file.read_text(encoding="utf-8")
    assert len(text.encode()) < PAGE_MB * 1e6
    assert "default-src 'none'" in text and "connect-src" not in text
    head = text[:text.index('<script type="text/plain"')]
    assert "http" not in head.replace("http-equiv", "")
    for outside in ('src="http', 'href="http', "url(http", "@import"):
        assert outside not in text


def test_the_runtime_is_checked_and_missing_files_are_said_in_one_line(tmp_path, monkeypatch, capsys, shipped_network):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "other.tgz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=f"other.tgz: is no package of onnxruntime-web.*npm pack onnxruntime-web@{VERSION}"):
        runtime(tmp_path / "other.tgz")
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for name in SHA256:
        (folder / name).write_bytes(b"changed")
    with pytest.raises(InputError, match="has the sha256 .*, not "):
        runtime(tmp_path / "package")
    monkeypatch.setattr(runtime_module, "ADDRESS", "http://127.0.0.1:9/")
    out = tmp_path / "page.html"
    assert main(["page", str(out), "--run", str(shipped_network)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: http://127.0.0.1:9/") and "--runtime" in error
    assert main(["page", str(tmp_path / "page.pdf")]) == 2
    assert "end in .html" in capsys.readouterr().err
    assert not out.exists() and not (tmp_path / "cache").exists()


def test_a_network_that_was_not_exported_here(tmp_path, package):
    for content in (None, "{}", "[", "[1]"):
        (tmp_path / "net.onnx").write_bytes(b"x")
        if content:
            (tmp_path / "net.json").write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match="net.onnx: (is no exported network|was exported by an older version)"):
            write_drop_page(tmp_path / "net.onnx", tmp_path / "page.html", package)


def test_a_damaged_export_makes_no_page(shipped_network, tmp_path, seed):
    """Of the network, of its description, or two files that do not belong together."""
    rng = np.random.default_rng(seed)
    onnx, facts = shipped_network.read_bytes(), json.loads(shipped_network.with_suffix(".json").read_text(encoding="utf-8"))
    flipped = bytearray(onnx)
    flipped[int(rng.integers(len(onnx)))] ^= 1 << int(rng.integers(8))
    changes = [{"labels": {"1": 5}}, {"spacing": float("nan")}, {"slices": {"least": 1, "most": 6}}, {"gates": []}, {"sha256": 5}]
    for content, text in [(bytes(flipped), json.dumps(facts)), (onnx[:-9], json.dumps(facts)), (onnx, "[" * 100_000),
                          *((onnx, json.dumps(facts | change)) for change in changes)]:
        (tmp_path / "net.onnx").write_bytes(content)
        (tmp_path / "net.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="net.onnx: (it or the .json beside it was damaged|is no exported network)"):
            exported(tmp_path / "net.onnx")
    (tmp_path / "net.onnx").write_bytes(onnx)
    (tmp_path / "net.json").write_text(json.dumps(facts, indent=4), encoding="utf-8")  # in other lines: the same description
    assert exported(tmp_path / "net.onnx").onnx == onnx


def renderers():
    """The processes of Chromium's pages."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"--type=renderer" in (process / "cmdline").read_bytes():
                yield process


def tab_mb():
    """The memory that the largest of them holds."""
    sizes = [0]
    for process in renderers():
        with suppress(OSError):
            sizes += [int(line.split()[1]) for line in (process / "status").read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS")]
    return max(sizes) / 1000


def processor_seconds(name):
    """What the threads of this name in Chromium's pages have used of the processors. Other work on the machine hardly changes it."""
    total = 0.0
    for process in renderers():
        with suppress(OSError):
            for thread in (process / "task").iterdir():
                head, tail = (thread / "stat").read_text(encoding="utf-8").rsplit(")", 1)
                if head.split("(", 1)[1] == name:
                    total += sum(map(int, tail.split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


def longest_task(browser, page, work):
    """Milliseconds of the processor that the longest task of the page's main thread used during `work`."""
    browser.start_tracing(page=page, categories=["-*", "toplevel"])
    work()
    page.wait_for_timeout(500)  # what is drawn after it
    events = json.loads(browser.stop_tracing())["traceEvents"]
    main = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"}
    return max(event["tdur"] for event in events if "tdur" in event and (event["pid"], event["tid"]) in main) / 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what a thread has used")
def test_times(browser, page_file, phantom, request):
    """Medians over drops of 24 slices and over interventions, of one bar and of whole gates. The verdict is on the threads' share of the
    processors, because clocks measure what else runs on the machine."""
    image = nibabel.load(phantom)
    voxels = np.asanyarray(image.dataobj)
    voxels = np.concatenate([voxels, voxels[:, :, ::-1]], 2)[:, :, :24]
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine), phantom)
    assert voxels.shape[2] == 24
    figures = {"page MB": page_file.stat().st_size / 1e6}
    levels = [f"csam.{level}" for level in range(5)]
    shut = [{level: {"slice": [None] * s + [0.0] + [None] * (23 - s)}} for s in (3, 9, 15) for level in levels]
    gates = [{level: {gate: "one"}} for gate in ("slice", "positional", "semantic") for level in levels]
    with watched(browser, allowed=("file://",)) as page:
        shown = Dropped(page, page_file)

        def timed(work):
            used, start = processor_seconds("DedicatedWorker"), time.perf_counter()
            work()
            return time.perf_counter() - start, processor_seconds("DedicatedWorker") - used

        figures["first drop s"], figures["first drop, worker s"] = timed(lambda: shown.drop(phantom))
        for what, times in (("drop", [timed(lambda: shown.drop(phantom)) for _ in range(3)]),
                            ("one bar", [timed(lambda gates=gates: shown.change(gates)) for gates in shut]),
                            ("whole gate", [timed(lambda gates=gates: shown.change(gates)) for gates in gates])):
            figures[f"{what} s"], figures[f"{what}, worker s"] = map(statistics.median, zip(*times))
        for what, works in (("drop", [lambda: shown.drop(phantom)] * 3), ("change", [lambda gates=gates: shown.change(gates) for gates in shut[:5]])):
            tasks = [longest_task(browser, page, work) for work in works]
            figures[f"longest task of a {what} ms"], figures[f"the longest of all, {what} ms"] = statistics.median(tasks), max(tasks)
        steps = page.evaluate("""() => {
          const { state } = document.querySelector(".csam-explorer").explorer;
          return Array.from({ length: 48 }, (_, i) => {
            const start = performance.now();
            state.setSlice((i * 5) % state.S);
            state.drawPending();
            return performance.now() - start;
          });
        }""")
        figures["slice step ms"], figures["fastest slice step ms"] = statistics.median(steps), min(steps)
        figures["tab MB"] = tab_mb()
    request.config.cache.set("csam_lite/drop_page", figures)
    print({name: round(figure, 2) for name, figure in figures.items()})
    assert 50 < figures["tab MB"] < TAB_MB and figures["fastest slice step ms"] <= STEP_MS
    assert 0.01 < figures["drop, worker s"] <= DROP_S
    assert 0.001 < figures["one bar, worker s"] <= INTERVENTION_S and 0.01 < figures["whole gate, worker s"] <= INTERVENTION_S * BUSY
    assert 1 < figures["longest task of a drop ms"] <= TASK_MS * BUSY and 1 < figures["longest task of a change ms"] <= TASK_MS * BUSY
