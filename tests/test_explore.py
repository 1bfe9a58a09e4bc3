"""What the explorer packs for the browser, against the package's own functions; its pages; bad input; its script's plain functions."""

import base64
import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np
import pytest
import torch
from conftest import TINY, write_nifti
from matplotlib.text import Text

from csam_lite import CSAM, UNet, UNetPlusPlus, explore
from csam_lite.cli import main
from csam_lite.common.errors import InputError
from csam_lite.common.figures import SMALL
from csam_lite.core.attention import Attention
from csam_lite.core.gates import override_gates, record_gates
from csam_lite.data.scan import read_scan
from csam_lite.explorer.examine import examine
from csam_lite.explorer.figures import plot_channel_maps, plot_cuts, plot_examination, plot_uncertainty_map
from csam_lite.inference.figures import plot_masks
from csam_lite.inference.predict import disagreement, segment
from csam_lite.training.ablations import ResidualCSAM


def unpack(packed):
    """The browser's half of `pack`: the description and the arrays."""
    data = gzip.decompress(packed)
    start = 4 + int(np.frombuffer(data, np.uint32, 1)[0])
    head, arrays = json.loads(data[4:start]), {}
    for name, (kind, shape, at) in head["arrays"].items():
        width, count = np.dtype(kind).itemsize, int(np.prod(shape))
        by_byte = np.frombuffer(data, np.uint8, width * count, start + at).reshape(width, count)
        arrays[name] = np.ascontiguousarray(by_byte.T).view(kind).reshape(shape)
    return head["description"], arrays


def intensities(description, arrays, channel=0):
    """(S, H, W) as stored in the scan."""
    stored = description["channels"][channel]
    return stored["offset"] + stored["factor"] * arrays["image"][channel].astype(float)


@pytest.fixture(scope="module")
def case(phantoms):
    return phantoms / "imagesTr" / "prostate_00.nii.gz", phantoms / "labelsTr" / "prostate_00.nii.gz"


@pytest.fixture(scope="module")
def explorer(run, case):
    return explore(run, *case, draws=3)


def network(num_slices=6, **options):
    return UNet(**dict(in_channels=1, num_classes=3, num_slices=num_slices, base_channels=4, levels=3) | options).eval()


def test_a_scan_is_packed_as_it_is(explorer, run, case):
    description, arrays = unpack(explorer.packed)
    scan = read_scan(*case, run.facts.labels)
    assert arrays["image"].dtype == np.uint16 and description["title"] == case[0].name and description["unit"] == "mm"
    for channel in range(2):
        np.testing.assert_array_equal(intensities(description, arrays, channel), scan.image[:, channel])  # whole numbers stay exact
        given = description["channels"][channel]
        np.testing.assert_allclose((given["dark"], given["bright"]), np.percentile(scan.image[:, channel], (0.5, 99.5)))
    assert [channel["name"] for channel in description["channels"]] == ["T2", "ADC"]
    assert [named["name"] for named in description["classes"]] == ["PZ", "TZ"]
    np.testing.assert_array_equal(arrays["label"], scan.label)
    np.testing.assert_array_equal(arrays["prediction"], segment(run, scan))
    np.testing.assert_allclose(description["spacing"], scan.spacing)
    assert description["directions"] == "SPL" and description["start"] == (scan.label > 0).sum((1, 2)).argmax()


def test_gates_and_feature_maps_are_those_of_the_pass(explorer, run, case):
    description, arrays = unpack(explorer.packed)
    x, seen = run.grid.image(read_scan(case[0])), {}
    hooks = [csam.register_forward_pre_hook(lambda module, inputs, i=i: seen.update({i: inputs[0][0]})) for i, csam in enumerate(run.network.csam)]
    with record_gates(run.network) as record, torch.no_grad():
        run.network(x[None])
    [hook.remove() for hook in hooks]
    for i, level in enumerate(description["levels"]):
        name = level["name"]
        assert name == f"csam.{i}" and level["size"] == list(seen[i].shape[2:])
        for gate, named in record[name].items():
            np.testing.assert_allclose(arrays[f"{name}/{gate}/0"], named.values[0], rtol=1e-4, atol=1e-6)
        low, high = (arrays[level["maps"][end]][:, None, None] for end in ("low", "high"))
        maps = low + (high - low) * arrays[level["maps"]["values"]] / 255
        np.testing.assert_allclose(maps, seen[i].numpy(), atol=float((high - low).max()) / 255)


def test_uncertainty_is_that_of_predict(run, case):
    scan = read_scan(case[0])
    torch.manual_seed(5)
    expected = disagreement(run, scan, draws=4)
    torch.manual_seed(5)
    view = examine(run, scan, draws=4)
    np.testing.assert_array_equal(view.uncertainty, expected)
    description, arrays = unpack(explore(run, scan, draws=1).packed)
    assert not arrays["uncertainty"].any() and "label" not in arrays
    assert "uncertainty" not in unpack(explore(run, scan, draws=0).packed)[1]


def test_the_field_of_the_network_lies_where_the_network_reads(run, tmp_path):
    """A bright column of the network's grid stands at the place of the scan that `field` says."""
    voxels = np.random.default_rng(0).normal(100, 1, (90, 140, 4, 2)).astype(np.float32)
    scan = read_scan(write_nifti(tmp_path / "x.nii.gz", voxels, np.diag([-1.0, -1.5, 3, 1])))
    view = examine(run, scan, draws=0)
    left, top, right, bottom = view.field
    S, P, mm = len(scan.image), run.config.pixels, run.facts.spacing
    np.testing.assert_allclose([(right - left) * scan.spacing[2], (bottom - top) * scan.spacing[1]], [P * mm, P * mm], rtol=0.05)
    grid = torch.zeros(S, 3, P, P)
    grid[:, 1, 4:9, 10:13] = 1
    rows, columns = (np.flatnonzero(view.restore(grid, 0.0)[0, 1].numpy().max(axis) > 0.5) for axis in (1, 0))
    for found, first, last, begin, end in ((rows, 4, 9, top, bottom), (columns, 10, 13, left, right)):
        assert abs(found[0] - (begin + first / P * (end - begin))) < 1.6 and abs(found[-1] + 1 - (begin + last / P * (end - begin))) < 1.6


def test_an_intervention_is_the_networks_own_answer(explorer, run, case, monkeypatch):
    sent = []
    monkeypatch.setattr(type(explorer), "send", lambda self, content, buffers=None: sent.append((content, buffers)))
    S = len(explorer.examination.x)
    hand = [None] * S
    hand[3] = 0.0
    explorer._answer(explorer, {"id": 7, "gates": {"csam.0": {"positional": "one", "semantic": "mean"}, "csam.1": {"slice": hand}}}, [])
    _, arrays = unpack(sent[0][1][0])
    assert sent[0][0] == {"kind": "answer", "id": 7}
    hand = np.array([np.nan if value is None else value for value in hand])
    overrides = {("csam.0", "positional"): 1.0, ("csam.0", "semantic"): torch.mean, ("csam.1", "slice"): hand}
    with override_gates(run.network, overrides):
        expected = segment(run, read_scan(case[0]))
    np.testing.assert_array_equal(arrays["prediction"], expected)
    assert (arrays["csam.0/positional/0"] == 1).all() and np.ptp(arrays["csam.0/semantic/0"]) == 0 and arrays["csam.1/slice/0"][3] == 0
    assert not (expected == explorer.examination.as_trained.mask).all()
    explorer._answer(explorer, {"id": 8, "gates": {"csam.7": {"slice": "one"}}}, [])
    assert sent[1][0]["kind"] == "error" and sent[1][0]["id"] == 8 and "csam.7" in sent[1][0]["text"]


@pytest.mark.parametrize("kind", [UNet, UNetPlusPlus])
def test_a_bare_network_and_a_tensor(kind):
    net, x = kind(2, 3, num_slices=6, base_channels=4, levels=3).train(), torch.randn(6, 2, 24, 32)
    label = torch.randint(0, 3, (6, 24, 32))
    description, arrays = unpack(explore(net, x, label, spacing=(3, 0.5, 0.25), classes=("gland", "cyst")).packed)
    assert net.training and all(module.training for module in net.modules())
    with torch.no_grad():
        np.testing.assert_array_equal(arrays["prediction"], net.eval()(x[None])[0].argmax(1))
    step = max(channel["factor"] for channel in description["channels"])
    np.testing.assert_allclose(intensities(description, arrays, 1), x[:, 1], atol=step)
    np.testing.assert_array_equal(arrays["label"], label)
    assert description["field"] == [0, 0, 32, 24] and description["spacing"] == [3, 0.5, 0.25] and description["directions"] is None
    assert [named["name"] for named in description["classes"]] == ["gland", "cyst"] and len(description["levels"]) == len(net.csam)
    description, _ = unpack(explore(net, x).packed)
    assert description["unit"] == "px" and [named["name"] for named in description["classes"]] == ["class 1", "class 2"]


def test_a_volume_deeper_than_the_network_is_seen_in_windows():
    net, x = network(uncertain=True), torch.randn(10, 1, 16, 16)
    hand = np.full(10, np.nan)
    hand[5] = 0.0
    view = examine(net, x, draws=2)
    description, arrays = unpack(explore(net, x, draws=2).packed)
    assert description["windows"] == [[0, 6], [2, 8], [4, 10]] and arrays["prediction"].shape == (10, 16, 16)
    for i, (start, stop) in enumerate(description["windows"]):
        with record_gates(net) as record, torch.no_grad():
            net(x[None, start:stop])
        np.testing.assert_allclose(arrays[f"csam.1/slice/{i}"], record["csam.1"]["slice"].values[0], rtol=1e-5)
        assert arrays[f"csam.1/slice_covariance/{i}"].shape == (6, 6)
    for window in view.answer({("csam.1", "slice"): hand}).windows:  # one slice of the volume is another slot in each window
        closed = window.record["csam.1"]["slice"].values[0] == 0
        assert closed.sum() == 1 and closed[5 - window.start]
    assert arrays[description["levels"][0]["maps"]["values"]].shape == (10, 4, 16, 16)


@pytest.mark.parametrize("options, x, levels", [
    (dict(attention="none"), torch.randn(5, 1, 16, 16), 0), (dict(), torch.randn(1, 1, 16, 16), 3),
    (dict(attention="slice"), torch.zeros(4, 1, 16, 16), 3),
    (dict(attention="semantic", csam_class=ResidualCSAM), torch.full((2, 1, 16, 40), 1e-3), 3),
    (dict(uncertain=True), torch.randn(1, 1, 16, 16), 3)])
def test_what_is_unusual_still_works(options, x, levels, tmp_path):
    explorer = explore(network(**options), x, draws=2, save=tmp_path / "a.html", live=False)
    description, arrays = unpack(explorer.packed)
    assert len(description["levels"]) == levels and arrays["image"].shape == (1, len(x), *x.shape[2:])
    for level in description["levels"]:
        for gate in level["gates"]:
            assert all(np.isfinite(arrays[key]).all() for keys in gate["arrays"].values() for key in keys)
    assert explorer._png.startswith(b"\x89PNG") and (tmp_path / "a.html").stat().st_size > 10_000


def test_large_feature_maps_are_kept_small_and_large_volumes_in_bytes(monkeypatch):
    from csam_lite.explorer import examine as examining
    from csam_lite.explorer import pack as exploring

    net, x = network(), torch.randn(6, 1, 96, 80)
    monkeypatch.setattr(exploring, "_MOST_WORDS", 1000)
    for most, shape in ((10**6, (6, 4, 64, 64)), (50_000, (6, 4, 32, 32)), (5000, (1, 4, 64, 64))):
        monkeypatch.setattr(examining, "MAP_VALUES", most)
        view = examine(net, x)
        assert view.feature_maps["csam.0"].values.shape == shape and view.feature_maps["csam.0"].size == (96, 80)
    description, arrays = unpack(explore(net, x).packed)
    assert arrays["image"].dtype == np.uint8
    np.testing.assert_allclose(intensities(description, arrays), x[:, 0], atol=description["channels"][0]["factor"])


def test_a_network_of_ones_own(tmp_path):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.gates, self.head = torch.nn.Conv2d(1, 8, 3, padding=1), CSAM(9, 8), torch.nn.Conv2d(8, 2, 1)

        def forward(self, x):
            return self.head(self.gates(self.first(x[0])[None])[0])[None]

    description, arrays = unpack(explore(Own(), torch.randn(4, 1, 20, 20)).packed)
    assert [level["name"] for level in description["levels"]] == ["gates"] and arrays["gates/semantic/0"].shape == (8,)


class FourthAttention(Attention):
    """A gate with any axes, from the mean and the maximum of what it pools."""

    def __init__(self, axes):
        super().__init__()
        self.name, self.axes = "fourth", axes
        self.weight = torch.nn.Parameter(torch.tensor(3.0))

    def scores(self, m, a, mask):
        return self.weight * (a - m / 2)


def with_a_fourth_gate(axes, **options):
    class FourGates(CSAM):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.fourth = FourthAttention(axes)

        @property
        def attentions(self):
            return [*super().attentions, self.fourth]

    return network(csam_class=FourGates, **options)


@pytest.mark.parametrize("axes", ["B", "BH", "BSC", "BSW", "BCH", "BSCH", "BSHW", "BCHW", "BSCHW"])
def test_a_fourth_gate_is_recorded_replaced_packed_and_drawn(axes, tmp_path):
    """A gate class has a name and axes; the explorer needs nothing else, in the page and in the figures."""
    net, x = with_a_fourth_gate(axes), torch.randn(9, 1, 16, 16)
    view = examine(net, x)
    description, arrays = unpack(explore(net, x).packed)
    for level in description["levels"]:
        gate = level["gates"][-1]
        assert gate["name"] == "fourth" and gate["axes"] == axes[1:] and len(gate["arrays"]["values"]) == 2
        for window, key in zip(view.as_trained.windows, gate["arrays"]["values"]):
            values = window.record[level["name"]]["fourth"].values[0]
            assert arrays[key].shape == values.shape and len(values.shape) == len(axes) - 1
            np.testing.assert_array_equal(arrays[key], values)
    if "S" in axes:  # an array for the whole volume is cut to each window, along the right axis
        shape = [dict(S=9, C=4, H=16, W=16)[letter] for letter in axes[1:]]
        whole = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
        for window in view.answer({("csam.0", "fourth"): whole}).windows:
            part = whole.take(range(window.start, window.stop), axes.index("S") - 1)
            np.testing.assert_allclose(window.record["csam.0"]["fourth"].values[0], part, rtol=1e-6)
    figure = plot_examination(view)
    drawn = [axis for axis in figure.subfigs[1].axes if axis.get_title().startswith("fourth gate")]
    assert len(drawn) == 3 and all(axis.images for axis in drawn)
    plt.close("all")


@pytest.mark.parametrize("axes", ["B", "BSHW", "BCH"])
def test_the_gates_of_another_volume_are_packed_and_asked_for_in_one_row(axes):
    """Of a gate of any axes: the page asks with the numbers one after the other."""
    net, x = with_a_fourth_gate(axes), torch.randn(5, 1, 16, 16)
    explorer = explore(net, x, other=(other := torch.randn(5, 1, 16, 16)))
    description, arrays = unpack(explorer.packed)
    named, chosen = description["other"], examine(net, other).as_trained.windows[0].record
    assert {key: named[key] for key in ("title", "S", "most")} == {"title": "the other volume", "S": 5, "most": 6}
    asked = {csam: {gate: arrays[key].ravel().tolist() for gate, key in gates.items()} for csam, gates in named["gates"].items()}
    sent = []
    explorer.send = lambda message, buffers: sent.append((message, buffers))
    explorer._answer(explorer, {"id": 0, "gates": asked}, [])
    (message, (packed,)), = sent
    assert message["kind"] == "answer", message
    expected = explorer.examination.answer({(csam, gate): named.values for csam, gates in chosen.items() for gate, named in gates.items()})
    np.testing.assert_array_equal(unpack(packed)[1]["prediction"], expected.mask)
    assert (expected.mask != explorer.examination.as_trained.mask).any()


def test_plots_of_a_run_without_a_gate_of_the_channels():
    with pytest.raises(InputError, match="csam.0: has no gate of the channels"):
        plot_channel_maps(examine(network(attention="slice"), X), "csam.0")


def test_the_scripts_join_every_file_in_the_order_of_its_imports():
    from csam_lite.explorer import script as joining

    files = {path.name: path.read_text(encoding="utf-8") for path in joining.PAGE_FOLDER.glob("*.js")}
    scripts = {names: joining.joined_script(names) for names in (joining.EXPLORER, joining.WORKER, joining.DROP)}
    assert sorted(files) == sorted({name for names in scripts for name in names})
    for names, script in scripts.items():
        for position, name in enumerate(names):
            imported = re.findall(r'from "\./(.+)"', files[name])
            assert set(imported) <= set(names[:position]), name
        assert not re.search(r"^import ", script, re.MULTILINE)
        declared = re.findall(r"(?m)^(?:export )?(?:async )?(?:const|let|class|function)\*? (\w+)", script)
        assert len(declared) > 20 and len(set(declared)) == len(declared), [name for name in declared if declared.count(name) > 1]
    exports = [re.findall(r"^export .*", script, re.MULTILINE) for script in scripts.values()]
    assert exports == [["export class Explorer {", "export async function openPage() {", "export default {"], [],
                       ["export function openDropPage() {"]]


X = torch.randn(4, 1, 16, 16)


@pytest.mark.parametrize("given, match", [
    (dict(volume=X[0]), r"shape \(1, 16, 16\) is not \(S, C, H, W\)"), (dict(volume=X * torch.nan), "1024 values are NaN"),
    (dict(volume=torch.randn(4, 2, 16, 16)), "cannot read a volume"), (dict(volume=torch.randn(4, 1, 3, 3)), "too few for 3 levels"),
    (dict(volume="scan.nii.gz"), "a scan needs a run"), (dict(volume=None), "is no tensor"), (dict(label=np.zeros((4, 8, 8))), "label: shape"),
    (dict(label=np.full((4, 16, 16), 7)), "label holds 7"), (dict(spacing=(1, 0, 1)), "spacing"), (dict(spacing=3), "spacing 3"),
    (dict(classes=("one",)), "give 2 name"), (dict(other=X[0]), r"shape \(1, 16, 16\) is not"),
    (dict(other=torch.randn(7, 1, 16, 16)), "the other volume: has 7 slices, more than"), (dict(volume=torch.randn(7, 1, 16, 16), other=X), "UNet: has 7 slices"),
    (dict(other=torch.randn(4, 1, 16, 24)), r"the other volume: its positional gate of csam.0 has the size \[16, 24\], not \[16, 16\]"),
    (dict(draws=-1), "draws -1"), (dict(save="a.png"), "end in .html")])
def test_bad_tensors(given, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=match) as caught:
        explore(network(), **dict(volume=X) | given)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_bad_networks_and_scans(run, case, tmp_path):
    with pytest.raises(InputError, match="is no network with weights"):
        explore("demo/run", X)
    with pytest.raises(InputError, match=r"answers 1 class\(es\)"):
        explore(network(num_classes=1), X)
    voxels = np.asanyarray(nibabel.load(case[0]).dataobj)
    with pytest.raises(InputError, match="has 1 channel"):
        explore(run, write_nifti(tmp_path / "one.nii.gz", voxels[..., 0]))
    broken = voxels.astype(np.float32)
    broken[3, 4, 5, 0] = np.nan
    with pytest.raises(InputError, match="1 voxels are NaN"):
        explore(run, write_nifti(tmp_path / "nan.nii.gz", broken))
    scan = read_scan(*case)
    scan.image[0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        explore(run, scan)
    with pytest.raises(InputError, match="carries its own label"):
        explore(run, read_scan(case[0]), case[1])


def test_the_page_is_whole_and_asks_for_nothing(explorer, tmp_path):
    explorer.save(tmp_path / "attention.html", live=False)
    page = (tmp_path / "attention.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["attention.html"]
    packed = re.search(r'id="packed">([^<]*)<', page)[1]
    assert gzip.decompress(base64.b64decode(packed)) == gzip.decompress(explorer.packed)
    for outside in ("src=\"http", "href=\"http", "@import", "fetch(", "XMLHttpRequest", "import("):
        assert outside not in page.replace(packed, "")
    assert "default-src 'none'" in page and page.count("</script>") == 2
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        explorer.save(tmp_path / "file" / "attention.html", live=False)


def test_names_in_a_page_are_text(tmp_path):
    explore(network(), X, classes=("<script>alert(1)</script>", "b"), save=tmp_path / "a.html", live=False)
    assert "alert(1)" not in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_the_cell_carries_a_picture(explorer):
    data, _ = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert 10_000 < len(data["image/png"]) < 200_000 and base64.b64decode(data["image/png"]).startswith(b"\x89PNG")


def test_figures(explorer, run, case):
    view = explorer.examination
    for figure, axes in ((plot_cuts(view), 3), (plot_uncertainty_map(view, 4), 2), (plot_channel_maps(view, "csam.0"), 8)):
        assert len(figure.axes) == axes
    cuts = plot_cuts(view, 7).axes
    S, H, W = view.image[:, 0].shape
    (deep, high, wide), (left, top, right, bottom) = view.spacing, view.field
    np.testing.assert_array_equal(cuts[0].images[0].get_array(), view.image[7, 0])
    np.testing.assert_array_equal(cuts[1].images[0].get_array(), view.image[::-1, 0, int((top + bottom) / 2)])
    np.testing.assert_array_equal(cuts[2].images[0].get_array(), view.image[::-1, 0, :, int((left + right) / 2)])
    for cut, across in ((cuts[1], W * wide), (cuts[2], H * high)):
        assert cut.images[0].get_extent() == pytest.approx([0, across, 0, S * deep]) and cut.get_aspect() == 1
    figure = plot_examination(view)
    assert len(figure.subfigs) == 2
    bars = next(axis for axis in figure.subfigs[1].axes if axis.get_title().startswith("slice gate, csam.0")).patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], view.as_trained.windows[0].record["csam.0"]["slice"].values[0])
    for figure in (plot_examination(view), plot_masks(read_scan(*case), view.classes, slices=2)):  # letters that can be read on a page
        figure.draw_without_rendering()
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
        assert len(sizes) > 10 and min(sizes) >= SMALL
    with pytest.raises(InputError, match="no uncertainty to plot"):
        plot_uncertainty_map(examine(network(), X))
    plt.close("all")


def test_the_command(run, case, tmp_path, capsys):
    out = tmp_path / "a.html"
    assert main(["explore", str(run.folder), str(case[0]), "--label", str(case[1]), "--out", str(out), "--draws", "2", "--no-live"]) == 0
    assert "open it in a browser" in capsys.readouterr().out and out.stat().st_size > 100_000
    assert main(["explore", str(run.folder), str(tmp_path / "none.nii"), "--out", str(out)]) == 2
    assert "no such file" in capsys.readouterr().err


def test_what_makes_the_mask_of_a_file_doubtful_is_told_once(run, case, tmp_path, capsys):
    image = nibabel.load(case[0])
    path = tmp_path / "turned.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), image.affine[[2, 0, 1, 3]], None), path)
    examine(run, path, draws=0)
    said = capsys.readouterr().err
    assert f"{path}: Its slices are sagittal; the network was trained on axial slices" in said
    examine(run, read_scan(path), draws=0)  # who has read the scan has its remarks
    assert capsys.readouterr().err == ""


def test_real_scans_open_rightly_oriented(run, shared):
    """The picture's columns run to the patient's left, its rows to the back, its slices upwards: as nibabel's canonical axes say."""
    folder = shared / "data"
    for path in [*sorted((folder / "prostate_zonal" / "imagesTr").iterdir()), sorted((folder / "acdc" / "imagesTr").iterdir())[0]]:
        scan, canonical = read_scan(path), nibabel.as_closest_canonical(nibabel.load(path))  # x to the right, y to the front, z upwards
        np.testing.assert_array_equal(scan.image[:, 0], np.asanyarray(canonical.dataobj).T[:, ::-1, ::-1])
        assert scan.directions == "SPL"
        np.testing.assert_allclose(scan.spacing, nibabel.affines.voxel_sizes(canonical.affine)[::-1], rtol=1e-5)


def test_real_prostates_are_packed(phantoms, shared, tmp_path):
    from csam_lite.training.build import build_network
    from csam_lite.training.config import Config
    from csam_lite.training.facts import Facts
    from csam_lite.training.run import Run, save_description

    folder = shared / "data" / "prostate_zonal"
    config = Config(str(folder), str(tmp_path / "run"), **TINY)
    facts = Facts(["T2"], {1: "PZ", 2: "TZ"}, 24, 1.2, {"train": [], "val": [], "test": []})
    save_description(tmp_path / "run", config, facts)
    untrained = Run(Path(tmp_path / "run"), config, facts, build_network(config, facts).eval())
    for path in sorted((folder / "imagesTr").iterdir()):
        description, arrays = unpack(explore(untrained, path, folder / "labelsTr" / path.name).packed)
        scan = read_scan(path, folder / "labelsTr" / path.name)
        np.testing.assert_allclose(intensities(description, arrays), scan.image[:, 0], atol=description["channels"][0]["factor"])
        np.testing.assert_array_equal(arrays["label"], scan.label)
        left, _, right, _ = description["field"]
        assert description["directions"] == "SPL"
        assert right - left == pytest.approx(32 * 1.2 / scan.spacing[2], rel=0.02)


def test_plain_functions_of_the_script():
    if (node := shutil.which("node")) is None:
        pytest.skip("no node: apt-get install nodejs")
    done = subprocess.run([node, "--test", str(Path(__file__).with_name("explorer.test.mjs"))], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
