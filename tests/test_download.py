"""Downloads and set-ups against a server on this machine and small archives in the layouts of the real sets."""

import gzip
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from csam_lite.common.errors import InputError
from csam_lite.data import download as module
from csam_lite.data.download import download, extract, fetch, whole_folder, zenodo_md5
from csam_lite.data.public_sets import get_msd_prostate

ROOT = Path(__file__).resolve().parents[1]
DATA = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
AFFINE = np.array([[-0.5, 0, 0.1, 40], [0, 0.5, 0, -30], [0, 0.05, 3.0, 12], [0, 0, 0, 1.0]])


def md5(data):
    return hashlib.md5(data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves server.files; knows Range unless server.ranges is False; closes after server.cut[0] bytes, once for each entry."""

    def do_GET(self):
        server, name = self.server, self.path.lstrip("/")
        server.asked.append(self.headers.get("Range"))
        if server.errors:
            return self.send_error(server.errors.pop(0))
        if name not in server.files:
            return self.send_error(404)
        data, start = server.files[name], 0
        if server.ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        stop = server.cut.pop(0) if server.cut else len(data)
        self.wfile.write(data[start:start + stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked, server.cut, server.errors, server.ranges = {"a": DATA}, [], [], [], True
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: None)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# transport


def test_whole_download_and_no_request_for_a_file_that_is_there(server, tmp_path):
    path = download(f"{server.url}/a", tmp_path / "new" / "a.bin", md5(DATA))
    assert path.read_bytes() == DATA and names(path.parent) == ["a.bin"] and server.asked == [None]
    server.shutdown()
    assert download(f"{server.url}/a", path, md5(DATA)) == path and len(server.asked) == 1


def test_cut_connection_resumes_with_a_range_request(server, tmp_path):
    server.cut = [1_000_000, 500_000]
    assert download(f"{server.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA
    assert server.asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_next_run_resumes_what_an_earlier_one_left(server, tmp_path):
    server.cut = [1_000_000, 0]
    with pytest.raises(InputError, match="run again, it resumes"):
        download(f"{server.url}/a", tmp_path / "a", md5(DATA), tries=1)
    assert names(tmp_path) == ["a.part"]
    assert download(f"{server.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA
    assert server.asked[-1] == "bytes=1000000-" and names(tmp_path) == ["a"]


def test_server_that_ignores_range_sends_all_again(server, tmp_path):
    server.ranges, server.cut = False, [1_000_000]
    assert download(f"{server.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA
    assert server.asked == [None, "bytes=1000000-"]


@pytest.mark.parametrize("part, requests", [(DATA, 1), (DATA + b"more", 2)])
def test_part_that_is_complete_or_too_long(server, tmp_path, part, requests):
    (tmp_path / "a.part").write_bytes(part)
    assert download(f"{server.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA
    assert len(server.asked) == requests


def test_wrong_md5_removes_the_file_so_that_the_next_run_works(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"x" * 1000)  # the start of another file
    with pytest.raises(InputError, match="md5.*removed") as caught:
        download(f"{server.url}/a", tmp_path / "a", md5(DATA))
    assert "\n" not in str(caught.value) and names(tmp_path) == []
    assert download(f"{server.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA


def test_damaged_file_is_downloaded_again_and_kept_until_then(server, tmp_path, capsys):
    (tmp_path / "a").write_bytes(DATA[:-1])
    server.errors = [404]
    with pytest.raises(InputError, match="404"):
        download(f"{server.url}/a", tmp_path / "a", md5(DATA))
    assert (tmp_path / "a").read_bytes() == DATA[:-1]
    assert download(f"{server.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA
    assert "downloading it again" in capsys.readouterr().out


def test_server_errors_are_tried_again_but_not_a_wrong_address(server, tmp_path):
    server.errors = [503, 500]
    download(f"{server.url}/a", tmp_path / "a", md5(DATA))
    assert len(server.asked) == 3
    with pytest.raises(InputError, match="404"):
        download(f"{server.url}/b", tmp_path / "b")
    with pytest.raises(InputError, match="no address"):
        download("nowhere", tmp_path / "b")
    assert len(server.asked) == 4 and names(tmp_path) == ["a"]


def test_no_network_names_the_address_and_the_mend(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(InputError, match="http://127.0.0.1:1/a.*refused.*--archive"):
        download("http://127.0.0.1:1/a", tmp_path / "a", md5(DATA))


def test_too_little_space_is_said_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 5_000_000))
    with pytest.raises(InputError, match="0.01 GB are needed.*missing"):
        download(f"{server.url}/a", tmp_path / "a", md5(DATA), room=1.0)
    assert names(tmp_path) == []
    download(f"{server.url}/a", tmp_path / "a", md5(DATA), room=0.0)


def test_full_disk_leaves_only_the_resumable_part(server, tmp_path):
    code = ("import resource, signal, sys; from csam_lite.data.download import download, InputError\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000,) * 2)\n"
            "try: download(sys.argv[1], sys.argv[2])\n"
            "except InputError as error: sys.exit(f'error: {error}')")
    ended = subprocess.run([sys.executable, "-c", code, f"{server.url}/a", str(tmp_path / "a")], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert ended.returncode == 1 and ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert "a.part: cannot be written" in ended.stderr and names(tmp_path) == ["a.part"]
    assert download(f"{server.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA
    assert server.asked == [None, "bytes=1000000-"]


def test_own_archive_is_checked_and_left_alone(tmp_path):
    (tmp_path / "a").write_bytes(DATA)
    assert fetch(tmp_path / "a", "http://127.0.0.1:1/a", tmp_path / "b", md5(DATA)) == tmp_path / "a"
    for archive, wanted in (("a", "md5"), ("c", "no such file")):
        with pytest.raises(InputError, match=wanted):
            fetch(tmp_path / archive, "http://127.0.0.1:1/a", tmp_path / "b", md5(b"other"))
    assert names(tmp_path) == ["a"]


def test_md5_from_zenodo(server):
    server.files["7"] = json.dumps({"files": [{"key": "x.zip", "checksum": "md5:abc"}]}).encode()
    assert zenodo_md5("7", "x.zip", server.url) == "abc"
    for record, name in (("7", "y.zip"), ("8", "x.zip"), ("a", "x.zip")):
        with pytest.raises(InputError, match="--md5"):
            zenodo_md5(record, name, server.url)


# unpacking


def make_tar(path, files, mode="w", members=()):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member in members:
            archive.addfile(member)
    return path


def make_zip(path, files, members=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for member, data in members:
            archive.writestr(member, data)
    return path


FILES = {"top/one": b"1" * 1000, "top/in/two": DATA[:300_000], "top/._one": b"apple", "__MACOSX/top/x": b"apple"}


@pytest.mark.parametrize("make, name", [(make_tar, "a.tar"), (partial(make_tar, mode="w:gz"), "a.tar.gz"), (make_zip, "a.zip")])
def test_extract(tmp_path, make, name):
    archive = make(tmp_path / name, FILES)
    folder = extract(archive, tmp_path / "out")
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == {
        name: FILES[name] for name in ("top/one", "top/in/two")}
    assert names(tmp_path) == [name, "out"]
    with pytest.raises(InputError, match="not empty"):
        extract(archive, folder)


@pytest.mark.parametrize("make, name", [(make_tar, "a.tar"), (partial(make_tar, mode="w:gz"), "a.tar.gz"), (make_zip, "a.zip")])
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated_archive(tmp_path, make, name, share):
    archive = make(tmp_path / name, FILES | {"top/z": DATA[:100_000]})
    data = archive.read_bytes()
    archive.write_bytes(data[:int(share * len(data))])
    with pytest.raises(InputError, match=f"{name}.*cut short.*download it again"):
        extract(archive, tmp_path / "out")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("damage", [lambda data: data[:1536 + 100], lambda data: data[:1536] + b"x" + data[1537:]])
def test_tar_cut_or_damaged_in_a_header(tmp_path, damage):
    """Header and content of the first member fill 1536 bytes; tarfile alone takes what follows for the end of the archive."""
    archive = make_tar(tmp_path / "a.tar", {"one": b"1" * 1000, "two": b"2"})
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(InputError, match="cut short"):
        extract(archive, tmp_path / "out")


@pytest.mark.row("reliability 6")
def test_a_server_that_lets_us_start_anew_for_ever_is_given_up(tmp_path, monkeypatch):
    requests = []

    def receive(url, part, room, timeout, pace):
        requests.append(url)
        part.write_bytes(b"" if part.stat().st_size else bytes(1000))  # 416 for each continuation: it grows again
        raise module._Cut("cut")

    monkeypatch.setattr(module, "_receive", receive)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    with pytest.raises(InputError, match="the download failed"):
        download("http://127.0.0.1:1/a", tmp_path / "a")
    assert len(requests) == 3


@pytest.mark.row("reliability 22")
@pytest.mark.parametrize("length, bytes_promised", [("123", 123), (None, 0), ("abc", 0), ("-5", 0), ("9" * 400, 0), ("\u0661", 0)])
def test_a_length_that_is_no_number_is_none(length, bytes_promised):
    assert module._length(length) == bytes_promised


@pytest.mark.row("reliability 23")
@pytest.mark.parametrize("suffix", ["xz", "gz", "bz2"])
def test_damage_anywhere_in_a_compressed_tar_is_one_line(suffix, tmp_path):
    with tarfile.open(tmp_path / "good.tar", f"w:{suffix}") as archive:
        member = tarfile.TarInfo("a")
        member.size = 20_000
        archive.addfile(member, io.BytesIO(DATA[:20_000]))
    content, rng = (tmp_path / "good.tar").read_bytes(), np.random.default_rng(0)
    for position in rng.integers(0, len(content), 100):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "bad.tar").write_bytes(damaged)
        try:
            extract(tmp_path / "bad.tar", tmp_path / "out")
            shutil.rmtree(tmp_path / "out")
        except InputError as error:
            assert "\n" not in str(error) and not (tmp_path / "out").exists()


@pytest.mark.row("reliability 23")
def test_a_zip_member_without_a_name_is_refused_in_one_line(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"good": b"g", "x": b"b"})
    content = archive.read_bytes()
    for name in (b"\0", b"/"):
        archive.write_bytes(content.replace(b"xb", name + b"b").replace(b"\x00x", b"\x00" + name).replace(b"xPK", name + b"PK"))
        with pytest.raises(InputError, match="a.zip") as caught:
            extract(archive, tmp_path / "out")
        assert "\n" not in str(caught.value) and names(tmp_path) == ["a.zip"]


def link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("bad", ["../x", "/tmp/csam_lite_x", "top/../../x", "..\\x", "C:\\x"])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_member_that_climbs_out(tmp_path, make, bad):
    archive = make(tmp_path / "deep.archive", {"good": b"g", bad: b"b"})
    with pytest.raises(InputError, match="deep.archive.*leaves the folder") as caught:
        extract(archive, tmp_path / "in" / "out")
    assert bad in str(caught.value).replace("\\\\", "\\")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [archive] and not Path("/tmp/csam_lite_x").exists()


def test_links_and_devices_are_refused(tmp_path):
    zip_link = zipfile.ZipInfo("link")
    zip_link.create_system, zip_link.external_attr = 3, 0o120777 << 16
    archives = [make_zip(tmp_path / "z", {"good": b"g"}, [(zip_link, "/etc/passwd")])]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        archives.append(make_tar(tmp_path / f"t{kind[0]}", {"good": b"g"}, members=[link("link", "good", kind)]))
    for archive in archives:
        with pytest.raises(InputError, match="link"):
            extract(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_interrupted_folder_is_not_taken_for_whole(tmp_path):
    archive = make_tar(tmp_path / "a.tar", FILES)
    code = ("import os, sys; from csam_lite.data import download as d; write = d._write\n"
            "def stop(path, *rest): write(path, *rest); os._exit(9)\n"
            "d._write = stop; d.extract(*sys.argv[1:])")
    assert subprocess.run([sys.executable, "-c", code, str(archive), str(tmp_path / "out")], cwd=ROOT).returncode == 9
    assert names(tmp_path) == [".part-out", "a.tar"]  # killed after one file
    assert (extract(archive, tmp_path / "out") / "top/in/two").exists() and names(tmp_path) == ["a.tar", "out"]


def test_whole_folder_never_overwrites(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not empty"), whole_folder(tmp_path / "full"):
        pytest.fail("must not start")
    assert (tmp_path / "full" / "mine").read_text(encoding="utf-8") == "mine"


# the sets, through their command lines


def nifti(values, affine=AFFINE):
    return gzip.compress(nib.Nifti1Image(values, affine).to_bytes(), 1)


def zones(*classes):
    label = np.zeros((16, 16, 5), np.uint8)
    for number in classes:
        label[4 * number - 2:4 * number + 2, 4:12, 1:4] = number
    return label


def run(script, *arguments, limit=None, cwd=ROOT):
    """Run a data script; return its exit code, stdout, and stderr."""
    command = [sys.executable, str(ROOT / "data_scripts" / script), *map(str, arguments)]
    if limit:
        code = ("import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); sys.argv = sys.argv[1:]\n"
                f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit},) * 2); sys.path.insert(0, {str(ROOT / 'data_scripts')!r})\n"
                "runpy.run_path(sys.argv[0], run_name='__main__')")
        command[1:1] = ["-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, cwd=cwd)
    return ended.returncode, ended.stdout, ended.stderr


def serve(server, path):
    """Serve an archive; return the options that a script needs for it."""
    server.files = {"x": path.read_bytes()}
    return ["--url", f"{server.url}/x", "--md5", md5(server.files["x"])]


def listed(folder):
    return [Path(case["label"]).name[:-7] for case in json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["training"]]


def label(folder, case):
    return np.asarray(nib.load(folder / "labelsTr" / f"{case}.nii.gz").dataobj)


def assert_one_line(ended, *words):
    code, _, stderr = ended
    assert code == 2 and stderr.startswith("error: ") and stderr.count("\n") == 1, ended
    for word in words:
        assert word in stderr, stderr


MSD = {"prostate_07": (1, 2), "prostate_02": (1,), "prostate_03": (1, 2), "prostate_09": (2,)}


def msd_archive(path, drop=()):
    image = np.random.default_rng(1).integers(0, 900, (16, 16, 5, 2), dtype=np.int16)
    dataset = {"name": "PROSTATE", "tensorImageSize": "4D", "modality": {"0": "T2", "1": "ADC"}, "numTraining": 4, "numTest": 1,
               "labels": {"0": "background", "1": "PZ", "2": "TZ"}, "test": ["./imagesTs/prostate_05.nii.gz"],
               "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in MSD]}
    files = {"dataset.json": json.dumps(dataset).encode(), "imagesTs/prostate_05.nii.gz": nifti(image), "imagesTr/._x": b"a"}
    for name, classes in MSD.items():
        files |= {f"imagesTr/{name}.nii.gz": nifti(image), f"labelsTr/{name}.nii.gz": nifti(zones(*classes))}
    return make_tar(path, {f"Task05_Prostate/{name}": data for name, data in files.items() if name not in drop})


def test_msd(server, tmp_path):
    options = serve(server, msd_archive(tmp_path / "source.tar"))
    folder = tmp_path / "data" / "msd"
    code, out, err = run("get_msd_prostate.py", "--out", folder, *options)
    assert code == 0 and not err and "WARNING" in out and "prostate_02" in out and "prostate_09" in out and "prostate_07" not in out
    assert names(folder.parent) == ["Task05_Prostate.tar", "msd"]
    assert names(folder) == ["dataset.json", "imagesTr", "imagesTs", "labelsTr"] and len(names(folder / "imagesTr")) == 4
    assert listed(folder) == list(MSD)
    published = {path: path.read_bytes() for path in (folder / "labelsTr").iterdir()}
    kept = (folder / "dataset.json").read_bytes()

    def choose(one_zone):
        return run("get_msd_prostate.py", "--out", folder, "--one-zone", one_zone, "--url", "http://127.0.0.1:1/none")

    def state():
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}

    for one_zone, cases, turned in (("drop", ["prostate_07", "prostate_03"], False), ("remap", list(MSD), True), ("keep", list(MSD), False),
                                    ("remap", list(MSD), True), ("drop", ["prostate_07", "prostate_03"], False)):
        code, out, _ = choose(one_zone)
        assert code == 0 and "is there" in out and listed(folder) == cases and ("WARNING" in out) == (one_zone == "keep")
        dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        assert dataset["one_zone"]["choice"] == one_zone and dataset["one_zone"]["cases"] == {"prostate_02": [1], "prostate_09": [2]}
        assert dataset["numTraining"] == len(cases)
        assert (label(folder, "prostate_02").max() == 2) == turned and (folder / "labelsTr_published").exists() == turned
        if turned:
            assert np.array_equal(label(folder, "prostate_02"), 2 * zones(1))
            assert np.allclose(nib.load(folder / "labelsTr" / "prostate_02.nii.gz").affine, AFFINE)
            assert (folder / "labelsTr_published" / "prostate_02.nii.gz").read_bytes() == published[folder / "labelsTr/prostate_02.nii.gz"]
        else:
            assert {path: path.read_bytes() for path in (folder / "labelsTr").iterdir()} == published
        before = state()
        choose(one_zone)
        assert state() == before  # the second run writes nothing
    assert_one_line(choose("error"), "prostate_02", "--one-zone drop")
    assert (folder / "dataset.json").read_bytes() == kept
    assert server.asked == [None]


def test_msd_error_choice_loses_no_download(server, tmp_path):
    options = serve(server, msd_archive(tmp_path / "source.tar"))
    ended = run("get_msd_prostate.py", "--out", tmp_path / "msd", "--one-zone", "error", *options)
    assert_one_line(ended, "prostate_02", "--one-zone drop")
    assert listed(tmp_path / "msd") == list(MSD)


def test_msd_remap_that_was_stopped_midway_is_finished_by_the_next_run(tmp_path, monkeypatch):
    archive = msd_archive(tmp_path / "a.tar")
    get = partial(get_msd_prostate, tmp_path / "msd", archive=archive, md5=md5(archive.read_bytes()))
    get()
    before = (tmp_path / "msd/dataset.json").read_bytes()

    def stop(source, *_, replace=os.replace):
        if source is OSError or "published" in str(source):
            raise KeyboardInterrupt
        replace(source, *_)

    for stopped, choice, then in (("relabel", "remap", "remap"), ("os.replace", "keep", "remap"), ("suppress", "keep", "remap"),
                                  ("os.replace", "drop", "keep"), ("relabel", "remap", "keep")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(f"csam_lite.data.public_sets.{stopped}", stop)
            get(choice)
        get(then)
        assert label(tmp_path / "msd", "prostate_02").max() == (2 if then == "remap" else 1)
        if then == "keep":
            assert (tmp_path / "msd/dataset.json").read_bytes() == before


def test_msd_folder_of_another_tool(tmp_path):
    archive = msd_archive(tmp_path / "a.tar")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # Python 3.11.4 and newer
    folder = tmp_path / "Task05_Prostate"
    code, out, _ = run("get_msd_prostate.py", "--out", folder, "--one-zone", "drop", "--url", "http://127.0.0.1:1/none")
    assert code == 0 and listed(folder) == ["prostate_07", "prostate_03"]
    (folder / "imagesTr" / "prostate_03.nii.gz").unlink()  # half extracted
    assert_one_line(run("get_msd_prostate.py", "--out", folder), "not whole", "prostate_03", "delete the folder")


@pytest.mark.row("reliability 5")
@pytest.mark.parametrize("name", ["../victim.nii.gz", "/VICTIM", "labelsTr/../../victim.nii.gz", "..\\\\victim.nii.gz", "C:/victim.nii.gz"])
def test_msd_a_description_that_leads_out_of_its_folder_is_refused(name, tmp_path):
    victim = tmp_path / "victim.nii.gz"
    victim.write_bytes(nifti(zones(1)))
    before, name = victim.read_bytes(), name.replace("/VICTIM", str(victim))
    folder = tmp_path / "set"
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "imagesTr" / "a.nii.gz").write_bytes(nifti(zones(0, 1)))
    entry = {"image": "imagesTr/a.nii.gz", "label": name}
    for listing in ({"training": [entry]}, {"training": [], "one_zone": {"choice": "keep", "cases": {"victim": [1]}, "training": [entry]}}):
        (folder / "dataset.json").write_text(json.dumps(listing | {"labels": {"0": "background", "1": "PZ", "2": "TZ"}}), encoding="utf-8")
        with pytest.raises(InputError, match="leads out of the folder|is not whole"):
            get_msd_prostate(folder, one_zone="remap")
        assert victim.read_bytes() == before and not (folder / "labelsTr_published").exists()


def test_msd_bad_input(server, tmp_path):
    archive = msd_archive(tmp_path / "a.tar")
    script = partial(run, "get_msd_prostate.py", "--out", tmp_path / "msd")
    assert_one_line(script("--archive", archive), "a.tar", "md5", "get it again")
    assert_one_line(script("--archive", tmp_path / "none.tar"), "none.tar", "no such file")
    archive.write_bytes(archive.read_bytes()[:20_000])
    assert_one_line(script("--archive", archive, "--md5", md5(archive.read_bytes())), "a.tar", "cut short")
    climbing = make_tar(tmp_path / "b.tar", {"../evil": b"x"})
    assert_one_line(script("--archive", climbing, "--md5", md5(climbing.read_bytes())), "b.tar", "../evil")
    lacking = msd_archive(tmp_path / "c.tar", drop=["imagesTr/prostate_03.nii.gz"])
    assert_one_line(script("--archive", lacking, "--md5", md5(lacking.read_bytes())), "c.tar", "imagesTr/prostate_03.nii.gz")
    other = make_tar(tmp_path / "d.tar", {"x/y": b"x"})
    assert_one_line(script("--archive", other, "--md5", md5(other.read_bytes())), "dataset.json")
    server.files = {"x": b"not it"}
    assert_one_line(script("--url", f"{server.url}/x"), "md5", "removed")
    assert not (tmp_path / "msd").exists() and names(tmp_path) == ["a.tar", "b.tar", "c.tar", "d.tar"]


def prostate158_archive(path, shift=0.0, bad=3):
    rng = np.random.default_rng(2)
    files = {"train.csv": b"ID\n1\n", "train/003/t2.nii.gz": nifti(np.zeros((4, 4, 2), np.int16))}  # 003 has no labels
    for name in ("001", "002"):
        near = AFFINE + np.array([[0, 0, 0, shift]] + [[0] * 4] * 3)
        files |= {f"train/{name}/{kind}.nii.gz": nifti(rng.integers(0, 900, (16, 16, 5), dtype=np.int16), near if kind == "adc" else AFFINE)
                  for kind in ("t2", "adc", "dwi")}
        files[f"train/{name}/t2_anatomy_reader1.nii.gz"] = nifti(np.minimum(zones(1, 2), bad).astype(np.float32))
    return make_zip(path, {f"prostate158_train/{name}": data for name, data in files.items()}), files


def test_prostate158(server, tmp_path):
    archive, files = prostate158_archive(tmp_path / "source.zip")
    options = serve(server, archive)
    script = partial(run, "get_prostate158.py", *options, "--out")
    code, out, err = script(tmp_path / "t2")
    assert code == 0 and not err and "2 cases with labels, 1 left out" in out
    dataset = json.loads((tmp_path / "t2/dataset.json").read_text(encoding="utf-8"))
    assert dataset["labels"] == {"0": "background", "1": "PZ", "2": "TZ"} and dataset["modality"] == {"0": "T2"}
    assert listed(tmp_path / "t2") == ["prostate158_001", "prostate158_002"] and dataset["numTraining"] == 2
    assert np.array_equal(label(tmp_path / "t2", "prostate158_001"), np.array([0, 2, 1])[zones(1, 2)])
    assert (tmp_path / "t2/imagesTr/prostate158_001.nii.gz").read_bytes() == files["train/001/t2.nii.gz"]
    image = nib.load(tmp_path / "t2/labelsTr/prostate158_001.nii.gz")
    assert image.get_data_dtype() == np.uint8 and np.allclose(image.affine, AFFINE)
    code, out, _ = script(tmp_path / "t2")
    assert code == 0 and "is there" in out and server.asked == [None]
    assert_one_line(script(tmp_path / "t2", "--channels", "t2+adc"), "another set", "--out")

    code, _, _ = script(tmp_path / "both", "--channels", "t2+adc")
    both = nib.load(tmp_path / "both/imagesTr/prostate158_002.nii.gz")
    assert code == 0 and both.shape == (16, 16, 5, 2) and np.allclose(both.affine, AFFINE)
    for channel, kind in enumerate(("t2", "adc")):
        expected = nib.Nifti1Image.from_bytes(gzip.decompress(files[f"train/002/{kind}.nii.gz"])).dataobj
        assert np.array_equal(np.asarray(both.dataobj)[..., channel], np.asarray(expected))
    assert server.asked == [None]  # the archive was there


def test_prostate158_test_part_asks_zenodo_for_its_md5(tmp_path, monkeypatch, capsys):
    archive, _ = prostate158_archive(tmp_path / "a.zip")
    monkeypatch.syspath_prepend(ROOT / "data_scripts")
    monkeypatch.chdir(tmp_path)
    script = importlib.import_module("get_prostate158")
    published = {("6592345", "prostate158_test.zip"): md5(archive.read_bytes())}
    monkeypatch.setattr(script, "zenodo_md5", lambda *asked: published[asked])
    assert script.main(["--part", "test", "--archive", "a.zip"]) == 0 and "from Zenodo just now" in capsys.readouterr().out
    assert listed(Path("data/prostate158_test")) == ["prostate158_001", "prostate158_002"]
    monkeypatch.setattr(script, "zenodo_md5", lambda *_: pytest.fail("asked again"))
    assert script.main(["--part", "test"]) == 0
    assert script.main(["--part", "train", "--out", "data/prostate158_test"]) == 2  # another part of the set


def test_prostate158_bad_input(tmp_path):
    def script(archive, *more):
        return run("get_prostate158.py", "--archive", archive, "--md5", md5(archive.read_bytes()), "--out", tmp_path / "out", *more)

    shifted, _ = prostate158_archive(tmp_path / "a.zip", shift=0.7)
    assert_one_line(script(shifted, "--channels", "t2+adc"), "case 001", "--channels t2")
    strange, _ = prostate158_archive(tmp_path / "b.zip", bad=1.5)
    assert_one_line(script(strange), "t2_anatomy_reader1", "labels other than")
    assert_one_line(script(make_zip(tmp_path / "c.zip", {"x": b"x"})), "c.zip", "no case")
    assert names(tmp_path) == ["a.zip", "b.zip", "c.zip"]


def promise12_archive(path, size=8):
    sitk = pytest.importorskip("SimpleITK")
    rng, files, volumes = np.random.default_rng(3), {}, {}
    turn = 0.2
    for name in ("Case00", "Case01"):
        image = sitk.GetImageFromArray(rng.integers(0, 900, (5, size, size + 2), dtype=np.int16))
        image.SetSpacing((0.4, 0.5, 3.6))
        image.SetOrigin((-10.0, 20.0, 5.0))
        image.SetDirection((1, 0, 0, 0, np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn)))
        volumes[name] = image
        for stem, volume in ((name, image), (f"{name}_segmentation", sitk.Cast(image > 450, sitk.sitkInt8))):
            sitk.WriteImage(volume, str(path.parent / f"{stem}.mhd"))
            for kind in ("mhd", "raw"):
                files[f"training_data/{stem}.{kind}"] = (path.parent / f"{stem}.{kind}").read_bytes()
                (path.parent / f"{stem}.{kind}").unlink()
    return make_zip(path, files), volumes, files


def test_promise12(server, tmp_path):
    archive, volumes, _ = promise12_archive(tmp_path / "source.zip")
    import SimpleITK as sitk
    options = serve(server, archive)
    code, out, err = run("get_promise12.py", "--out", tmp_path / "p", *options)
    assert code == 0 and not err and "whole gland" in out
    assert json.loads((tmp_path / "p/dataset.json").read_text(encoding="utf-8"))["labels"] == {"0": "background", "1": "prostate"}
    assert listed(tmp_path / "p") == ["Case00", "Case01"]
    for kind in ("imagesTr", "labelsTr"):
        read, wanted = sitk.ReadImage(str(tmp_path / "p" / kind / "Case01.nii.gz")), volumes["Case01"]
        for what in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
            assert np.allclose(getattr(read, what)(), getattr(wanted, what)(), atol=1e-5), what
        values = sitk.GetArrayFromImage(wanted)
        assert np.array_equal(sitk.GetArrayFromImage(read), values if kind == "imagesTr" else values > 450)
    code, out, _ = run("get_promise12.py", "--out", tmp_path / "p", *options)
    assert code == 0 and "is there" in out and server.asked == [None]
    assert_one_line(run("get_prostate158.py", "--out", tmp_path / "p"), "another set")


def test_promise12_bad_input_and_full_disk(tmp_path):
    archive, _, files = promise12_archive(tmp_path / "a.zip", size=60)

    def script(archive, **more):
        return run("get_promise12.py", "--archive", archive, "--md5", md5(archive.read_bytes()), "--out", tmp_path / "p", **more)

    for damaged, data in (("Case01.raw", b"short"), ("Case01_segmentation.mhd", b"")):
        files_now = files | {f"training_data/{damaged}": data}
        code, _, stderr = script(make_zip(tmp_path / "b.zip", files_now))  # SimpleITK writes lines of its own before ours
        assert_one_line((code, _, stderr.splitlines(True)[-1]), "b.zip", "Case01")
        assert "Traceback" not in stderr
    assert_one_line(script(archive, limit=20_000), "cannot be written")  # stops while it unpacks
    largest = max(map(len, files.values()))
    assert largest > 36_000
    assert_one_line(script(archive, limit=30_000), "cannot be written")
    assert names(tmp_path) == ["a.zip", "b.zip"]


def test_full_disk_while_converting(tmp_path):
    """A file limit between the packed T2 and ADC files and the 4D image made of them."""
    archive, files = prostate158_archive(tmp_path / "a.zip")
    limit = 100 + max(map(len, files.values()))
    arguments = ["--archive", archive, "--md5", md5(archive.read_bytes()), "--out", tmp_path / "out"]
    assert_one_line(run("get_prostate158.py", *arguments, "--channels", "t2+adc", limit=limit), "cannot be written")
    assert names(tmp_path) == ["a.zip"]
    assert run("get_prostate158.py", *arguments, limit=limit)[0] == 0


def test_phantom(tmp_path):
    code, _, err = run("make_phantom.py", "--out", tmp_path / "p", "--volumes", 1, "--seed", 3)
    assert code == 0 and "Traceback" not in err and len(listed(tmp_path / "p")) == 1
    code, _, err = run("make_phantom.py", "--out", tmp_path / "q", "--volumes", -1)
    assert code == 2 and err.splitlines()[-1].startswith("error: ") and "Traceback" not in err


# rude servers: each is given up in one line


class Rude(BaseHTTPRequestHandler):
    """Answers as server.behave(handler) does; what it waits, it waits in its own thread."""

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        self.server.behave(self)

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # the client has gone


def send(handler, body=b"", status=200, length=None, headers=(), pause=0.0):
    """Send a response, its body byte by byte with a pause after each if one is given."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    for piece in ([body] if not pause else [body[i:i + 1] for i in range(len(body))]):
        handler.wfile.write(piece)
        handler.wfile.flush()
        if pause:
            handler.server.stopped.wait(pause)


def raw(content):
    return lambda handler: handler.wfile.write(content)


def drip_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not handler.server.stopped.wait(0.05):
        handler.wfile.write(b"x")


def byte_a_connection(handler):
    start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
    send(handler, DATA[start:start + 1], 206, len(DATA) - start, [("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")])
    handler.close_connection = True


def silent(handler):
    handler.server.stopped.wait(20)


RUDE = {
    "a byte now and then": (partial(send, body=DATA, pause=0.02), "sends only .* bytes a second"),
    "a byte a connection": (byte_a_connection, "sends only .* bytes a second|the download failed"),
    "headers byte by byte": (drip_headers, "no answer within"),
    "no answer": (silent, "timed out|no answer"),
    "an answer that ends at once": (lambda handler: None, "the download failed"),
    "a garbage status line": (raw(b"SPAM\r\nmore\r\n\r\n"), "the download failed"),
    "half a status line": (raw(b"HTTP/1.1 2"), "the download failed"),
    "headers without end": (raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500), "the download failed"),
    "a header line of 100 kB": (raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"), "the download failed"),
    "less than promised": (partial(send, body=b"x", length=10**6), "cut after|the download failed"),
    "a length of 400 digits": (partial(send, body=b"x", length="9" * 400), "md5"),
    "a length of 5,000 digits": (partial(send, body=b"x", length="9" * 5000), "md5"),
    "a length that is no number": (partial(send, body=b"x", length="abc"), "md5"),
    "a length below zero": (partial(send, body=b"x", length=-5), "md5"),
    "more than the disk holds": (partial(send, body=b"x", length=10**14), "are missing"),
    "an HTML page": (partial(send, body=b"<html>"), "md5"),
    "nothing": (partial(send, body=b""), "md5"),
    "redirects in a circle": (partial(send, status=302, headers=[("Location", "/a")]), "302|redirect|the download failed"),
    "a redirect to a file": (partial(send, status=302, headers=[("Location", "file:///etc/passwd")]), "302|the download failed"),
    "a redirect to data": (partial(send, status=302, headers=[("Location", "data:,x")]), "302|the download failed"),
    "a redirect to nowhere": (partial(send, status=302, headers=[("Location", "http://")]), "is no address|302|the download failed"),
    "403": (partial(send, status=403), "answers 403"),
    "416 for ever": (partial(send, status=416), "the download failed"),
    "429": (partial(send, status=429), "the download failed"),
    "500": (partial(send, status=500), "the download failed"),
    "206 that was not asked for": (partial(send, body=b"x", status=206), "md5"),
    "204": (partial(send, status=204), "md5"),
    "a chunk that lies": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx"), "the download failed"),
    "a chunk that is cut": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx"), "the download failed"),
}


@pytest.fixture
def rude(monkeypatch):
    """A server whose answers are bad in the way that `behave` says."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "SLOW_SECONDS", 1.0)
    monkeypatch.setattr(module, "LEAST_RATE", 10_000)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Rude)
    server.daemon_threads, server.asked, server.stopped = True, [], threading.Event()
    server.handle_error = lambda *_: None
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
    yield server
    server.stopped.set()
    server.shutdown()
    server.server_close()


@pytest.mark.row("reliability 6", "reliability 22")
@pytest.mark.stress(trial="rude servers", found=6)
@pytest.mark.parametrize("name", RUDE)
def test_reliability_6_and_22_rude_servers_are_given_up_in_one_line(name, rude, tmp_path, capsys):
    rude.behave, says = RUDE[name]
    with pytest.raises(InputError, match=says) as caught:
        download(f"{rude.url}/a", tmp_path / "a", md5(DATA), timeout=10 if name == "a byte now and then" else 0.5)
    assert "\n" not in str(caught.value)
    assert set(names(tmp_path)) <= {"a.part"} and all((tmp_path / part).stat().st_size for part in names(tmp_path))
    rude.behave = partial(send, body=DATA)  # the server has come to its senses: the next run works
    if name != "less than promised":
        assert download(f"{rude.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA
    assert not [thread for thread in threading.enumerate() if "download" in thread.name]


def in_seconds(text):
    """A value of Retry-After; "in 45 s" becomes the date of that moment."""
    if not (text or "").startswith("in "):
        return text
    return format_datetime(datetime.now(UTC) + timedelta(seconds=int(text.split()[1])), usegmt=True)


@pytest.mark.row("reliability 22")
@pytest.mark.parametrize("status, header, least, most", [
    (503, "7", 7, 7), (429, " 30 ", 30, 30), (429, "60", 60, 60), (503, "in 45 s", 20, 45), (500, "5", 5, 5),
    (429, "in -900 s", 1, 1), (429, "0", 1, 1), (503, "soon", 1, 1), (503, "-5", 1, 1), (429, "1e3", 1, 1), (503, "9" * 400, 1, 1),
    (503, "Wed, 99 Foo 0000 99:99:99 GMT", 1, 1), (503, None, 1, 1)])
def test_a_busy_server_is_given_the_time_that_it_asks_for(status, header, least, most, rude, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)

    def behave(handler):
        if len(rude.asked) == 1:
            return send(handler, status=status, headers=[("Retry-After", in_seconds(header))] if header is not None else [])
        send(handler, body=DATA)

    rude.behave = behave
    assert download(f"{rude.url}/a", tmp_path / "a", md5(DATA)).read_bytes() == DATA
    assert len(waits) == 1 and least <= waits[0] <= most


@pytest.mark.row("reliability 22")
@pytest.mark.parametrize("header", ["61", "3600", "in 7200 s", "9" * 15])
def test_a_busy_server_that_asks_for_too_much_time_is_named(header, rude, tmp_path, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("waited"))
    rude.behave = partial(send, status=503, headers=[("Retry-After", in_seconds(header))])
    with pytest.raises(InputError, match="the server is busy and asks for a wait of [0-9]+ s; then run again"):
        download(f"{rude.url}/a", tmp_path / "a", md5(DATA))
    assert len(rude.asked) == 1


@pytest.mark.row("reliability 22")
@pytest.mark.stress(trial="rude servers", found=6)
@pytest.mark.parametrize("answer", [b"", b"[" * 100_000, b'{"files": [{"key": "x", "checksum": 5}]}', b'{"files": 5}', b"null", b"\xff"])
def test_reliability_22_zenodo_answers_that_are_none(answer, rude):
    rude.behave = partial(send, body=answer)
    with pytest.raises(InputError, match="--md5") as caught:
        zenodo_md5("7", "x", rude.url)
    assert "\n" not in str(caught.value)


BESIDE = """
import sys, time
from csam_lite.data import download as module
from csam_lite.common.errors import InputError
stop = getattr(module, sys.argv[1])
def slow(*arguments, **options):
    print("writing", flush=True)
    time.sleep(60)
setattr(module, sys.argv[1], slow)
getattr(module, sys.argv[2])(*sys.argv[3:])
"""


@pytest.mark.row("reliability 23")
@pytest.mark.stress(trial="two processes at once", found=18)
@pytest.mark.parametrize("what, target", [("extract", "out"), ("download", "out")])
def test_reliability_23_a_second_process_is_told_of_the_first(what, target, server, tmp_path):
    source = str(make_tar(tmp_path / "a.tar", FILES)) if what == "extract" else f"{server.url}/a"
    stop = "_write" if what == "extract" else "_receive"
    first = subprocess.Popen([sys.executable, "-c", BESIDE, stop, what, source, str(tmp_path / target)], cwd=ROOT,
                             stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert first.stdout.readline() == "writing\n"
        with pytest.raises(InputError, match=f"{target}: another process is .*; wait for it, or choose another folder"):
            getattr(module, what)(source, tmp_path / target)
    finally:
        first.kill()
        first.wait()
    getattr(module, what)(source, tmp_path / target)
    assert names(tmp_path) == (["a.tar", "out"] if what == "extract" else ["out"])
