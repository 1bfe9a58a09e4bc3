"""The trainer: exact continuation, processes, budgets, baselines, channels."""

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from conftest import TINY, describe
from safetensors.torch import load_file, save_file

from csam_lite.cli import main
from csam_lite.common.errors import InputError
from csam_lite.core.networks import ConvBlock, UNet
from csam_lite.data.dataset import find_dataset
from csam_lite.data.grid import Grid
from csam_lite.training import batches as batches_module
from csam_lite.training.baselines import SelfAttentionUNet
from csam_lite.training.batches import (
    GlobalBatches,
    Volumes,
    collate,
    prepare,
    read_scans,
    read_training_data,
)
from csam_lite.training.build import build_network
from csam_lite.training.config import Config
from csam_lite.training.run import load_description, load_run
from csam_lite.training.start import one_cycle, parameter_groups, volume_loss
from csam_lite.training.trainer import Trainer, train


def config(phantoms, out, **options):
    return Config(str(phantoms), str(out), **TINY | options)


def fewer(description, listed):
    """The data set's description without its first case; any other description as it is."""
    return description | {"training": listed["training"][1:]} if "training" in description else description


def apart(one, other):
    """The largest difference of two runs' last weights."""
    a, b = (load_file(folder / "last.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    return max(float((a[key] - b[key]).abs().max()) for key in a)


def test_a_run_leaves_what_it_should_and_learns(run):
    assert {"config.json", "history.csv", "best.safetensors", "last.safetensors", "resume.pt"} == {path.name for path in run.folder.iterdir()}
    with open(run.folder / "history.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"] and float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert 0 <= float(rows[1]["val_dice_PZ"]) <= 1
    stored = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"\d+\.\d+\.\d+ \(code [0-9a-f]{8}\)", stored["csam_lite"])
    assert stored["config"]["uncertain"] is True and stored["facts"]["channels"] == ["T2", "ADC"]
    assert sorted(len(names) for names in stored["facts"]["split"].values()) == [1, 2, 3]


@pytest.mark.parametrize("options", [dict(uncertain=True), dict(network="unetpp", precision="bf16")], ids=["drawn", "unetpp-bf16"])
def test_resume_continues_exactly(phantoms, tmp_path, options, monkeypatch):
    train(config(phantoms, tmp_path / "whole", epochs=3, **options), progress=False)
    broken = config(phantoms, tmp_path / "broken", epochs=3, **options)
    step, count = Trainer.step, []

    def stop_in_the_second_epoch(self, *batch):
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        return step(self, *batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", stop_in_the_second_epoch)
        train(broken, progress=False)
    with pytest.raises(InputError, match="holds a run already"):
        train(broken, progress=False)
    with pytest.raises(InputError, match="--seed 5: the run to continue has 0"):
        train(replace(broken, seed=5), resume=True, progress=False)
    listed = json.loads((phantoms / "dataset.json").read_text(encoding="utf-8"))
    with monkeypatch.context() as patch, pytest.raises(InputError, match="is not what this run was started on"):
        patch.setattr(json, "loads", lambda text, _loads=json.loads, **options: fewer(_loads(text, **options), listed))
        train(broken, resume=True, progress=False)
    train(broken, resume=True, progress=False)
    assert apart(tmp_path / "whole", tmp_path / "broken") == 0
    assert len((tmp_path / "broken" / "history.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_options_of_a_draw_that_does_nothing_are_told(phantoms, tmp_path, capsys):
    unused = [dict(uncertain=True, attention="semantic"), dict(uncertain=True, network="unet2d"), dict(noise=0.5, max_std=2.0)]
    flags = ["--uncertain: ", "--uncertain: ", "--noise, --max-std: "]
    for options, told in zip([*unused, dict(uncertain=True, noise=0.5), dict(attention="none")], [*flags, None, None], strict=True):
        Trainer.prepare(config(phantoms, tmp_path / "run", **options))
        said = capsys.readouterr().err
        assert (f"{told}without effect, because no slice gate of this network is drawn" in said) if told else said == "", options


@pytest.mark.parametrize("capability, told", [("AVX2", True), ("AVX512", False), ("SVE256", False)])
def test_bf16_is_told_to_be_slow_where_the_processor_lacks_it(phantoms, tmp_path, capsys, monkeypatch, capability, told):
    """18.7 s a step against 1.9 s in float32, measured on two cores with AVX2 alone."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for precision in ("bf16", "no"):
        Trainer.prepare(config(phantoms, tmp_path / "run", precision=precision))
        assert ("--precision bf16: this machine has no" in capsys.readouterr().err) == (told and precision == "bf16")


@pytest.mark.parametrize("network", ["unet", "unetpp"])
def test_the_trainer_moves_every_parameter_but_the_cancelled_biases(phantoms, tmp_path, network):
    trainer = Trainer.prepare(config(phantoms, tmp_path / "run", network=network, uncertain=True), progress=False)
    before = {name: parameter.detach().clone() for name, parameter in trainer.network.named_parameters()}
    trainer.fit()
    still = {name for name, parameter in trainer.network.named_parameters() if torch.equal(parameter, before[name])}
    cancelled = {f"{name}.{index}.bias" for name, block in trainer.network.named_modules() if isinstance(block, ConvBlock) for index in (0, 3)}
    assert still == cancelled
    assert all(parameter.grad is None for parameter in trainer.network.parameters())  # nothing is carried into the next step


@pytest.mark.row("reliability 7")
def test_a_damaged_continuation_is_named(phantoms, tmp_path):
    train(config(phantoms, tmp_path / "run", epochs=1), progress=False)
    whole = (tmp_path / "run" / "resume.pt").read_bytes()
    (tmp_path / "run" / "resume.pt").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(InputError, match="resume.pt: is damaged"):
        train(config(phantoms, tmp_path / "run", epochs=1), resume=True, progress=False)
    (tmp_path / "run" / "best.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="best.safetensors"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_end_with_the_weights_of_one(phantoms, tmp_path, nodes):
    """Two processes of one machine, and one process on each of two, as which the loopback address stands in."""
    train(config(phantoms, tmp_path / "one"), progress=False)
    script = tmp_path / "two.py"
    script.write_text("from csam_lite.training.config import Config\nfrom csam_lite.training.trainer import Trainer\n"
                      f"trainer = Trainer.prepare(Config({str(phantoms)!r}, {str(tmp_path / 'two')!r}, **{TINY!r}), progress=False)\n"
                      "assert trainer.accelerator.num_processes == 2\ntrainer.fit()\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(free.getsockname()[1])]
    ways = {1: [["--standalone", "--nproc-per-node", "2"]], 2: [[*meet, "--node-rank", "0"], [*meet, "--node-rank", "1"]]}[nodes]
    started = [subprocess.Popen([sys.executable, "-m", "torch.distributed.run", *way, str(script)], stderr=subprocess.PIPE, encoding="utf-8",
                                env=os.environ | {"OMP_NUM_THREADS": "1"}) for way in ways]
    try:
        for process in started:
            _, error = process.communicate(timeout=300)
            assert process.returncode == 0, error[-2000:]
    finally:  # one that failed leaves the other waiting
        for process in started:
            process.kill()
    assert apart(tmp_path / "one", tmp_path / "two") < 1e-5  # sums in another order: not bit by bit


def test_the_minutes_are_a_budget(phantoms, tmp_path):
    trainer = Trainer.prepare(config(phantoms, tmp_path / "run", epochs=10_000, minutes=0.05), progress=False)
    trainer.fit()
    assert trainer.seconds < 60 and trainer.epoch >= 1  # 3 s, and the epoch's validation
    rates = [row["learning_rate"] for row in trainer.history]
    assert rates[-1] < 0.3 * max(rates)  # the rate has fallen in time


def test_learning_rate_rises_then_falls_to_zero():
    rates = [one_cycle(done / 100) for done in range(101)]
    assert rates[10] == pytest.approx(1) and max(rates) <= 1 and rates[0] < 0.02 and rates[100] == pytest.approx(0)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("options", [
    dict(network="unet3d"), dict(network="unetpp", attention="slice"), dict(attention="none"), dict(uncertain=True, sampling="released"),
    dict(num_slices=8, augment=False), dict(attention="none", neighbours=1), dict(network="unet2d"), dict(network="self_attention"),
    dict(channels="T2"),
    dict(gate_form="normalised", gate_start=0.9, gate_rate=0.1), dict(uncertain=True, max_std=0.5, noise=0.3)],
    ids=lambda options: "-".join(map(str, options.values())))
def test_every_network_trains_and_segments_under_the_same_trainer(phantoms, tmp_path, options):
    trained = train(config(phantoms, tmp_path / "run", epochs=1, **options), progress=False)
    from csam_lite.inference.evaluate import evaluate

    rows = evaluate(trained, progress=False)
    assert len(rows) == 2 * 3 and all(row["reference_ml"] > 0 for row in rows)
    fresh = build_network(trained.config, trained.facts).state_dict()
    assert fresh.keys() == load_file(tmp_path / "run" / "last.safetensors").keys()


def test_3d_baseline_sees_no_padding():
    from csam_lite.training.baselines import UNet3D

    net, x = UNet3D(1, 3, 9, base_channels=4, levels=4).eval(), torch.randn(2, 9, 1, 20, 28)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 6:] = False
    out = net(x.masked_fill(~mask[:, :, None, None, None], 1e6), mask)
    assert out.shape == (2, 9, 3, 20, 28) and not out[~mask].any()
    torch.testing.assert_close(out[1, :6], net(x[1:, :6])[0])
    changed = x.clone()
    changed[0, 4] += 1
    assert not torch.equal(net(changed)[0, 3], net(x)[0, 3])  # neighbours matter


def test_loss_is_a_mean_over_volumes_and_blind_to_padding():
    criterion = volume_loss()
    logits, label = torch.randn(2, 6, 3, 8, 8), torch.randint(0, 3, (2, 6, 8, 8))
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    both = criterion(logits, label, mask)
    alone = [criterion(logits[:1], label[:1], mask[:1]), criterion(logits[1:, :4], label[1:, :4], mask[1:, :4])]
    torch.testing.assert_close(both, sum(alone) / 2)
    logits[1, 4:], label[1, 4:] = 99, 2
    assert criterion(logits, label, mask) == both
    assert criterion(50 * torch.nn.functional.one_hot(label, 3).movedim(4, 2).float(), label, mask) < 1e-3


def test_batches_hold_every_volume_and_do_not_depend_on_the_processes():
    alone = GlobalBatches(count=7, batch_size=4, seed=1)
    halves = [GlobalBatches(7, 4, 1, process, 2) for process in (0, 1)]
    for batches in (alone, *halves):
        batches.epoch = 3
    assert {index for batch in alone for _, index in batch} == set(range(7)) and len(list(alone)) == len(alone) == 2
    for batch, *parts in zip(alone, *halves):
        assert sorted(batch) == sorted(parts[0] + parts[1])
    first = list(alone)
    alone.epoch = 4
    assert first != list(alone)


def test_augmentation_depends_on_seed_epoch_and_case_alone_and_moves_mask_with_image(phantoms):
    dataset = find_dataset(phantoms)
    samples = prepare(read_scans(dataset, dataset.cases[:2], progress=False), Grid(64, 1.5, 3))
    volumes, again = Volumes(samples, num_slices=10, seed=0), Volumes(samples, 10, 0)
    again[0, 1], again[5, 0]
    assert all(torch.equal(a, b) for a, b in zip(volumes[1, 0], again[1, 0]))
    assert not torch.equal(volumes[1, 0][0], volumes[2, 0][0])
    shifts = []
    for epoch in range(12):
        image, label = volumes[epoch, 0]
        assert image.shape == (10, 2, 64, 64) and label.shape == (10, 64, 64) and label.unique().tolist() == [0, 1, 2]
        own = samples[0]
        # Where the gland went, the image went: TZ is darker than PZ on T2, before as after.
        assert image[:, 0][label == 2].mean() < image[:, 0][label == 1].mean()
        shifts.append(np.argwhere(label.numpy())[:, 2].mean() - np.argwhere(own.label.numpy())[:, 2].mean())
    assert np.std(shifts) > 0.5


def test_collate_pads_at_the_end():
    items = [(torch.ones(depth, 1, 4, 4), torch.ones(depth, 4, 4, dtype=torch.uint8)) for depth in (3, 5)]
    image, label, mask = collate(items)
    assert image.shape == (2, 5, 1, 4, 4) and mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert not image[0, 3:].any() and not label[0, 3:].any()


def test_real_prostates_with_two_channels_train(shared, tmp_path):
    trained = train(config(shared / "data" / "prostate_t2adc", tmp_path / "run", epochs=1, test=1, val=0), progress=False)
    assert trained.facts.channels == ["T2", "ADC"] and trained.network.down[0][0].in_channels == 2


def test_the_first_answer_is_the_frequency_of_the_classes(phantoms, tmp_path):
    for options in (dict(), dict(network="unetpp"), dict(network="unet3d"), dict(attention="none", neighbours=1)):
        trainer = Trainer.prepare(config(phantoms, tmp_path / f"run{len(list(tmp_path.iterdir()))}", **options), progress=False)
        labels = torch.cat([sample.label.flatten() for sample in trainer.loader.dataset.samples])
        share = torch.bincount(labels, minlength=3) / len(labels)
        for head in trainer.network.heads:
            torch.testing.assert_close(head.bias.softmax(0), share)
    free = Trainer.prepare(config(phantoms, tmp_path / "free", prior=False), progress=False)
    assert not torch.allclose(free.network.heads[0].bias.softmax(0), share, atol=0.05)


def test_gates_have_a_rate_of_their_own_and_the_draw_warms_up(phantoms, tmp_path):
    options = dict(epochs=2, uncertain=True, gate_rate=0.1, noise=0.5, noise_warmup=0.5)
    trainer = Trainer.prepare(config(phantoms, tmp_path / "run", **options), progress=False)
    seen, step = [], trainer.step

    def look(*batch):
        gate = trainer.network.csam[0].slice
        seen.append(([group["lr"] for group in trainer.optimizer.param_groups], gate.normal.noise))
        return step(*batch)

    trainer.step = look
    trainer.fit()
    assert all(gates == pytest.approx(0.1 * others) for (others, gates), _ in seen)
    done = np.arange(len(seen)) / len(seen)
    assert [noise for _, noise in seen] == pytest.approx(0.5 * np.minimum(done / 0.5, 1))
    gates = {id(p) for p in trainer.network.csam.parameters()}
    assert {id(p) for p in trainer.optimizer.param_groups[1]["params"]} == gates


def test_an_older_run_is_built_as_it_was_trained(phantoms, tmp_path):
    out = tmp_path / "old"
    options = TINY | dict(epochs=1, semantic_hidden=1, semantic_weights=0.0)
    old = train(Config(str(phantoms), str(out), **options), progress=False)
    stored = json.loads((out / "config.json").read_text(encoding="utf-8"))
    for name in ("semantic_hidden", "semantic_weights"):
        del stored["config"][name]  # options that the older run did not know
    (out / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    again = load_run(out)
    assert (again.config.semantic_hidden, again.config.semantic_weights) == (1, 0.0)
    assert all(torch.equal(value, again.network.state_dict()[name]) for name, value in old.network.state_dict().items())
    fresh = build_network(replace(again.config, semantic_hidden=Config("", "").semantic_hidden), again.facts)
    assert [csam.semantic.mlp[0].out_features for csam in again.network.csam] == [1, 1, 1]
    assert [csam.semantic.mlp[0].out_features for csam in fresh.csam] == [8, 8, 8]


def test_self_attention_is_no_gate_and_trains_at_the_full_rate():
    net = SelfAttentionUNet(1, 3, 6, base_channels=4, levels=2)
    assert [group["times"] for group in parameter_groups(net, gate_rate=0.1)] == [1.0]
    gated = {id(p) for p in UNet(1, 3, 6, base_channels=4, levels=2).csam.parameters()}
    assert gated  # and those of a CSAM are apart: test_gates_have_a_rate_of_their_own_and_the_draw_warms_up


@pytest.mark.row("reliability 2")
@pytest.mark.stress(trial="two processes at once", found=18)
def test_a_second_training_into_the_same_folder_is_refused(phantoms, tmp_path):
    script = ("import sys, time\nfrom csam_lite.common.locks import only_process\n"
              "with only_process(sys.argv[1], 'busy'):\n    print('held', flush=True)\n    time.sleep(60)\n")
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is training into this folder"):
            train(config(phantoms, tmp_path / "run"), progress=False)
    finally:
        other.kill()
        other.wait()
    assert not list((tmp_path / "run").iterdir())  # the other one has left nothing, this one has written nothing
    train(config(phantoms, tmp_path / "run", epochs=1), progress=False)  # a lock ends with its process
    trainer = Trainer.prepare(config(phantoms, tmp_path / "late", epochs=1), progress=False)
    train(config(phantoms, tmp_path / "late", epochs=1), progress=False)
    with pytest.raises(InputError, match="holds a run already"):
        trainer.fit()  # prepared before the other run began


@pytest.mark.row("reliability 3")
def test_a_training_that_diverges_is_no_run(phantoms, tmp_path):
    with pytest.raises(InputError, match=r"diverged in epoch \d+ \(the loss is (nan|inf)\); start a new run with a --learning-rate below"):
        train(config(phantoms, tmp_path / "run", epochs=30, learning_rate=1e30), progress=False)
    weights = [path for path in (tmp_path / "run").glob("*.safetensors")]
    for path in weights:  # of an epoch before it, if there was one
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(path).values())


@pytest.mark.row("reliability 4")
@pytest.mark.parametrize("part", ["imagesTr", "labelsTr"])
def test_a_run_does_not_go_on_with_other_voxels_or_masks(phantoms, tmp_path, part):
    shutil.copytree(phantoms, tmp_path / "data")
    train(config(tmp_path / "data", tmp_path / "run", epochs=1), progress=False)
    trained = load_description(tmp_path / "run")[1].split["train"][0]
    path = tmp_path / "data" / part / f"{trained}.nii.gz"
    nifti = nibabel.load(path)
    voxels = np.asanyarray(nifti.dataobj).copy()
    voxels[:, :, voxels.shape[2] // 2] = np.flip(voxels[:, :, voxels.shape[2] // 2], 0)
    nibabel.save(nibabel.Nifti1Image(voxels, nifti.affine, nifti.header), path)
    with pytest.raises(InputError, match="other voxels or masks"):
        train(config(tmp_path / "data", tmp_path / "run", epochs=1), resume=True, progress=False)


@pytest.mark.row("reliability 4")
def test_a_run_goes_on_on_a_machine_with_another_number_of_cores(phantoms, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        train(config(phantoms, tmp_path / "run", epochs=1, pixels=128), progress=False)
        (tmp_path / "older").mkdir()
        for path in (tmp_path / "run").iterdir():  # an older run holds a digest of resampled images
            shutil.copy(path, tmp_path / "older")
        described = tmp_path / "older" / "config.json"
        stored = json.loads(described.read_text(encoding="utf-8"))
        stored["facts"]["digest"] = "0123456789abcdef"
        described.write_text(json.dumps(stored), encoding="utf-8")
        torch.set_num_threads(3)
        for name in ("run", "older"):
            train(config(phantoms, tmp_path / name, epochs=1, pixels=128), resume=True, progress=False)
    finally:
        torch.set_num_threads(before)


@pytest.mark.row("reliability 4")
def test_a_run_of_older_code_goes_on_and_says_so(phantoms, tmp_path, capsys):
    """A run of version 0.1.0 knows no digests and not all options; its files are otherwise as they are now."""
    older = dict(semantic_hidden=1, semantic_weights=0.0)
    for name, epochs in (("run", 1), ("whole", 2)):
        train(config(phantoms, tmp_path / name, epochs=epochs, **older), progress=False)
    path = tmp_path / "run" / "config.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["csam_lite"] = "0.1.0 (code 01234567)"
    stored["config"]["epochs"] = 2
    del stored["facts"]["digest"], stored["config"]["semantic_hidden"], stored["config"]["semantic_weights"]
    path.write_text(json.dumps(stored), encoding="utf-8")
    for weights in ("best", "last"):
        save_file(load_file(path.with_name(f"{weights}.safetensors")), path.with_name(f"{weights}.safetensors"))
    assert load_run(tmp_path / "run").config.semantic_hidden == 1
    capsys.readouterr()
    assert main(["train", "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert "was begun by 0.1.0 (code 01234567) and goes on with" in capsys.readouterr().err
    assert len((tmp_path / "run" / "history.csv").read_text(encoding="utf-8").splitlines()) == 3
    assert load_description(tmp_path / "run")[1].digest


@pytest.mark.parametrize("options, says", [
    (dict(test=1.5), "--test 1.5: must be a fraction of the patients, or a whole number"), (dict(val=2.5), "--val 2.5: must be"),
    (dict(network="unet2d", levels=2), "--levels 2: must lie between 3 and 12")])
def test_no_number_is_rounded_and_no_network_is_too_flat_to_build(options, says, phantoms, tmp_path):
    with pytest.raises(InputError, match=says):
        config(phantoms, tmp_path / "run", **options)


def test_masks_that_the_grid_cuts_or_loses_are_told(phantoms, tmp_path, capsys):
    read_training_data(config(phantoms, tmp_path), progress=False)
    assert capsys.readouterr().err == ""
    read_training_data(config(phantoms, tmp_path, spacing=0.5), progress=False)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"4 cases .*: Of its mask \d+% stands on the network's grid of 32 x 32 pixels of 0.5 mm\.$", line)
    with pytest.raises(InputError, match="no mask of a training case has a pixel on the network's grid of 32 x 32 pixels of 90 mm"):
        read_training_data(config(phantoms, tmp_path, spacing=90.0), progress=False)


def test_a_class_that_no_training_case_holds_is_told(decathlon, tmp_path, capsys):
    describe(decathlon, "abcd", labels={"0": "background", "1": "ring", "2": "core", "3": "stone"})
    read_training_data(config(decathlon, tmp_path, test=1), progress=False)
    assert "no training case holds stone on the network's grid" in capsys.readouterr().err


@pytest.mark.row("reliability 8")
@pytest.mark.parametrize("options, says", [
    (dict(augment="no"), "--augment 'no': must be true or false, not text"), (dict(epochs=2.5), "--epochs 2.5: must be a whole number"),
    (dict(seed=True), "--seed True: must be a whole number, not true or false"), (dict(network=3), "--network 3: must be text")])
def test_options_have_types_wherever_they_come_from(phantoms, tmp_path, options, says):
    with pytest.raises(InputError, match=says):
        config(phantoms, tmp_path / "run", **options)


def test_loading_a_run_changes_nothing_in_the_process(run):
    code = ("import sys, warnings, csam_lite.common.memory as memory\n"
            "memory.keep_freed_memory = lambda: print('malloc was changed')\nbefore = list(warnings.filters)\n"
            "from csam_lite import evaluate, load_run\nfrom csam_lite.training.build import build_network\n"
            "import torch, monai.losses\nbetween = list(warnings.filters)\n"
            "loaded = load_run(sys.argv[1])\nbuild_network(loaded.config, loaded.facts)\nimport csam_lite.metrics.overlap\n"
            "print([f for f in warnings.filters if f not in between and f not in before])")
    done = subprocess.run([sys.executable, "-c", code, str(run.folder)], capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and done.stdout == "[]\n", done.stdout + done.stderr


def test_a_log_file_gets_a_line_for_each_epoch(phantoms, tmp_path):
    code = ("import sys\nfrom csam_lite.cli import main\n"
            "sys.exit(main(sys.argv[1:]))")
    options = {"data": phantoms, "out": tmp_path / "run", **TINY, "epochs": 5}
    arguments = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    done = subprocess.run([sys.executable, "-c", code, "train", *arguments], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if "Warning" not in line and line.strip()]
    assert len(lines) == 5 and all(line.startswith(f"epoch {i}/5, ") for i, line in enumerate(lines, 1)), done.stderr


@pytest.mark.row("reliability 17")
def test_a_run_without_an_epoch_may_begin_anew(phantoms, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(InputError, match="--minutes 1e-09: are over before the first step; give more"):
        train(config(phantoms, out, minutes=1e-9), progress=False)
    with pytest.raises(InputError, match="let the training finish an epoch"):
        load_run(out)
    train(config(phantoms, out, epochs=1), progress=False)
    assert load_run(out).config.minutes == 0
    with pytest.raises(InputError, match="holds a run already"):
        train(config(phantoms, out, epochs=1), progress=False)


@pytest.mark.row("files 11")
def test_too_little_shared_memory_is_said_before_it_hangs(phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(batches_module, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(batches_module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1e6, 1e6 - 1000, 1000))
    with pytest.raises(InputError, match=r"--workers 1: need \d+ MB of shared memory, .* use --workers 0, or a larger one"):
        train(config(phantoms, tmp_path / "run", workers=1), progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.row("files 11")
@pytest.mark.skipif(sys.platform != "linux", reason="workers inherit the broken samples by fork")
def test_a_worker_that_dies_ends_in_one_line(phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(Volumes, "__getitem__", lambda self, key: os._exit(9))
    with pytest.raises(InputError, match="--workers 1: a process that prepares batches has died .*; use --workers 0"):
        train(config(phantoms, tmp_path / "run", workers=1), progress=False)


def flipped(content, rng):
    """content with one bit flipped at a place drawn by rng."""
    damaged = bytearray(content)
    damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


@pytest.mark.row("reliability 7")
def test_no_flipped_bit_changes_the_weights_of_a_run(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    path, expected = tmp_path / "run" / "best.safetensors", run.network.state_dict()
    content, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(40):
        path.write_bytes(flipped(content, rng))
        try:
            weights = load_run(tmp_path / "run").network.state_dict()
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
    assert refused >= 35


@pytest.mark.row("reliability 7")
def test_no_flipped_bit_changes_a_continuation(phantoms, tmp_path):
    options = config(phantoms, tmp_path / "run", epochs=1)
    train(options, progress=False)
    trainer = Trainer.prepare(options, resume=True, progress=False)
    path = tmp_path / "run" / "resume.pt"
    content, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    trainer.restore()

    def state():
        tensors = [*trainer.network.state_dict().values(), *(
            value for entry in trainer.optimizer.state_dict()["state"].values() for value in entry.values())]
        return [tensor.clone() for tensor in tensors], (trainer.epoch, trainer.best, trainer.history)

    expected, numbers = state()
    for content_now in [b"", b"x", content[:100], *(flipped(content, rng) for _ in range(40))]:
        path.write_bytes(content_now)
        try:
            trainer.restore()
        except InputError as error:
            assert f"{path}: is damaged or was written by other code (" in str(error) and "\n" not in str(error)
            refused += 1
        else:
            tensors, now = state()
            assert now == numbers and all(torch.equal(a, b) for a, b in zip(tensors, expected))
    assert refused >= 35


@pytest.mark.row("reliability 13")
@pytest.mark.parametrize("part, name, value", [
    (None, "config", 5), (None, "facts", []), ("config", "augment", "no"), ("config", "pixels", 10**9),
    ("config", "epochs", None), ("config", "network", []), ("facts", "labels", []), ("facts", "labels", {"1": None}),
    ("facts", "labels", {"x": "PZ"}), ("facts", "labels", {"300": "PZ"}), ("facts", "spacing", None),
    ("facts", "spacing", 0), ("facts", "spacing", float("nan")), ("facts", "num_slices", "x"), ("facts", "num_slices", True),
    ("facts", "num_slices", 10**9), ("facts", "channels", 5), ("facts", "channels", "T2"), ("facts", "channels", [1]),
    ("facts", "split", {}), ("facts", "split", {"train": 3}), ("facts", "digest", 3), ("facts", "more", 1)])
def test_a_description_of_wrong_types_is_refused(run, tmp_path, part, name, value):
    stored = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    (stored if part is None else stored[part])[name] = value
    (tmp_path / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(InputError, match=r"config.json: is not a run's description \(.*\); train again") as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.row("reliability 13")
@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"null", b"[]", b"\xff\xfe", b'{"config": {}}'])
def test_a_description_that_is_none(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="config.json: is not a run's description"):
        load_run(tmp_path)


@pytest.mark.row("reliability 3")
def test_weights_of_nan_are_no_network(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    path = tmp_path / "run" / "best.safetensors"
    save_file({name: tensor * torch.nan for name, tensor in load_file(path).items()}, path)
    with pytest.raises(InputError, match="holds NaN, as after a training that diverged"):
        load_run(tmp_path / "run")
