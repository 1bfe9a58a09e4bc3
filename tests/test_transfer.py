"""A training that starts from trained weights: what is taken, what is fitted, what starts anew."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import blob, describe, write_nifti
from safetensors.torch import load_file

from csam_lite.cli import main
from csam_lite.common.errors import InputError
from csam_lite.common.tables import read_csv
from csam_lite.core.windows import probabilities
from csam_lite.experiments.plan import configs, read_plan
from csam_lite.training.build import build_network
from csam_lite.training.config import Config
from csam_lite.training.facts import Facts
from csam_lite.training.run import Run, digest_of_weights, load_description
from csam_lite.training.trainer import Trainer, train
from csam_lite.training.transfer import config_of, take_weights

LAYOUTS = [dict(), dict(uncertain=True), dict(network="unetpp", attention="slice+semantic"), dict(network="self_attention"),
           dict(attention="none", neighbours=1), dict(network="unet3d"), dict(network="unet2d")]


def describe_facts(channels=("T2", "ADC"), labels=("PZ", "TZ"), num_slices=10):
    return Facts(list(channels), dict(enumerate(labels, 1)), num_slices, 1.0, {"train": [], "val": [], "test": []})


def network_of(options, **facts):
    """A network whose parameters are all random, so that no two agree by their start."""
    network = build_network(Config("data", "out", base_channels=4, levels=3, **options), describe_facts(**facts)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
    return network


def source_of(options, **facts):
    return Run("source", Config("data", "out", base_channels=4, levels=3, **options), describe_facts(**facts), network_of(options, **facts))


def moved(options, old, new):
    """(source network, new network with its weights, what was fitted, what started anew)."""
    source, network = source_of(options, **old), network_of(options, **new)
    return source.network, network, *take_weights(source, network, describe_facts(**new))


def answer(network, volume):
    with torch.no_grad():
        return network(volume)


@pytest.mark.parametrize("options", LAYOUTS, ids=str)
def test_the_same_layout_takes_all_weights(options):
    old, new, fitted, anew = moved(options, {}, {})
    assert fitted == [] and anew == {}
    assert digest_of_weights(old.state_dict()) == digest_of_weights(new.state_dict())


@pytest.mark.parametrize("options", LAYOUTS, ids=str)
def test_other_classes_start_the_last_layers_anew_alone(options):
    source, network = source_of(options), network_of(options, labels=("RV", "MYO", "LV"))
    heads = {id(parameter) for head in network.heads for parameter in head.parameters()}
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    fitted, anew = take_weights(source, network, describe_facts(labels=("RV", "MYO", "LV")))
    assert fitted == [] and list(anew) == ["classes RV, MYO, LV, not PZ, TZ"]
    old = dict(source.network.named_parameters())
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name] if id(parameter) in heads else old[name]), name


def test_the_same_classes_in_another_order_keep_their_meaning():
    old, new, fitted, anew = moved({}, {}, dict(labels=("TZ", "PZ")))
    x = torch.randn(1, 6, 2, 16, 16)
    assert anew == {} and torch.equal(answer(new, x), answer(old, x)[:, :, [0, 2, 1]])


@pytest.mark.parametrize("options", LAYOUTS, ids=str)
def test_a_new_channel_changes_nothing_at_first_and_known_ones_keep_their_place(options):
    old, new, fitted, anew = moved(options, {}, dict(channels=("DWI", "ADC", "T2")))
    x = torch.randn(1, 7, 3, 32, 32)
    assert anew == {} and fitted == ["channels T2, ADC to DWI, ADC, T2"]
    torch.testing.assert_close(answer(new, x), answer(old, x[:, :, [2, 1]]))


def test_channels_of_other_names():
    x = torch.randn(1, 6, 2, 16, 16)
    old, new, fitted, anew = moved({}, {}, dict(channels=("channel 0", "channel 1")))  # a folder that names none
    assert anew == {} and torch.equal(answer(new, x), answer(old, x))
    old, new, fitted, anew = moved({}, {}, dict(channels=("cine",)))
    assert fitted == [] and anew == {"channels cine, not T2, ADC": ["down.0.0"]}
    old, new, fitted, anew = moved({}, {}, dict(channels=("T2",)))
    x[:, :, 1] = 0
    torch.testing.assert_close(answer(new, x[:, :, :1]), answer(old, x))


@pytest.mark.parametrize("options", [options for options in LAYOUTS if options.get("attention") != "none"], ids=str)
@pytest.mark.parametrize("slices", [14, 11, 24])
def test_a_deeper_network_answers_as_before_on_volumes_that_both_can_see(options, slices):
    old, new, fitted, anew = moved(options, {}, dict(num_slices=slices))
    assert anew == {}
    for depth in (10, 8) if slices % 2 == 0 else (10, 8, 6):  # an odd difference shifts odd depths by half a slot
        x = torch.randn(1, depth, 2, 32, 32)
        torch.testing.assert_close(answer(new, x), answer(old, x), rtol=1e-4, atol=1e-5)
    if slices % 2 == 0:
        x = torch.randn(1, 7, 2, 32, 32)
        torch.testing.assert_close(answer(new, x), answer(old, x), rtol=1e-4, atol=1e-5)
    assert answer(new, torch.randn(1, slices, 2, 32, 32)).isfinite().all()


def test_new_slots_of_a_deeper_network_can_learn():
    old, new, fitted, anew = moved({}, {}, dict(num_slices=14))
    assert fitted == ["gates of 10 slices to 14"]
    new(torch.rand(1, 14, 2, 16, 16)).square().sum().backward()
    first, _, last = new.csam[0].slice.mlp
    assert first.weight.grad[:, [0, 1, 12, 13]].abs().sum() > 0 and last.weight.grad[[0, 13]].abs().sum() > 0
    assert (last.weight[:, 40:] == 0).all() and last.weight.grad[:, 40:].abs().sum() > 0  # 56 hidden units, not 40
    assert torch.equal(last.weight[0], last.weight[2]) and last.bias[13] == last.bias[11]  # the last old slots


def test_a_shallower_network_keeps_the_middle_slots_and_the_strongest_units():
    source, network = source_of({}), network_of({}, num_slices=6)
    with torch.no_grad():  # 24 of 40 hidden units speak; the network has room for 24
        silent = torch.randperm(40)[:16]
        for csam in source.network.csam:
            csam.slice.mlp[2].weight[:, silent] = 0
    assert take_weights(source, network, describe_facts(num_slices=6))[1] == {}
    x = torch.randn(1, 5, 2, 16, 16)  # 5 and 6 differ from 10 slots as they should: (10 - 5) // 2 - (6 - 5) // 2 = 2
    torch.testing.assert_close(answer(network, x), answer(source.network, x), rtol=1e-4, atol=1e-5)


def test_gates_that_are_not_in_the_run_start_anew():
    source, network = source_of(dict(attention="slice")), network_of(dict(semantic_hidden=3))
    fitted, anew = take_weights(source, network, describe_facts())
    assert fitted == [] and list(anew) == ["not in that run"]
    assert {name.split(".")[2] for name in anew["not in that run"]} == {"semantic", "positional"}
    source, network = source_of(dict(uncertain=True)), network_of(dict(semantic_hidden=3))
    fitted, anew = take_weights(source, network, describe_facts())
    assert {name.split(".")[2] for name in anew["of another size"]} == {"semantic"}
    assert {name.split(".")[2] for name in anew["not in that run"]} == {"slice"}  # its MLP had another meaning


def test_a_training_starts_from_a_run_and_says_so(phantoms, run, tmp_path, capsys):
    options = ["--pixels", "32", "--epochs", "1", "--test", "2", "--val", "1", "--data", str(phantoms), "--seed", "5"]
    trainer = Trainer.prepare(config_of(data=str(phantoms), out=str(tmp_path / "same"), start_from=str(run.folder), test=2, val=1, seed=5))
    weights = digest_of_weights({name: tensor.cpu() for name, tensor in run.network.state_dict().items()})
    assert digest_of_weights(trainer.network.state_dict()) == weights
    assert trainer.config.uncertain and (trainer.config.base_channels, trainer.config.levels) == (4, 3)
    capsys.readouterr()
    assert main(["train", "--from", str(run.folder), "--out", str(tmp_path / "run"), "--channels", "T2", *options]) == 0
    told = capsys.readouterr().err
    assert f"starts from {run.folder.resolve()} (weights {weights})" in told
    assert "fitted to another size: channels T2, ADC to T2; started anew: none" in told
    assert "was trained with cases that are held out here" not in told  # the same split
    config, facts = load_description(tmp_path / "run")
    assert config.start_from == str(run.folder) and facts.start == {
        "run": str(run.folder.resolve()), "weights": weights, "fitted": "channels T2, ADC to T2", "anew": "none"}
    assert main(["train", "--from", str(run.folder), "--out", str(tmp_path / "other"), "--split-seed", "1", *options]) == 0
    assert "trained with cases that are held out here (prostate_" in capsys.readouterr().err


def test_what_started_from_a_run_goes_on_exactly_and_without_it(phantoms, run, tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(run.folder, source)
    for name in ("whole", "broken"):
        options = dict(data=str(phantoms), out=str(tmp_path / name), start_from=str(source), epochs=2, test=2, val=1, seed=5)
        wanted, step, count = config_of(**options), Trainer.step, []

        def stop(self, *batch, step=step, count=count, at=3 if name == "broken" else 99):
            count.append(1)
            if len(count) == at:
                raise KeyboardInterrupt
            return step(self, *batch)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "step", stop)
            try:
                train(wanted, progress=False)
            except KeyboardInterrupt:
                assert name == "broken"
    shutil.rmtree(source)
    assert main(["train", "--out", str(tmp_path / "broken"), "--resume"]) == 0
    assert load_description(tmp_path / "broken")[1] == load_description(tmp_path / "whole")[1]
    whole, broken = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "broken"))
    assert digest_of_weights(whole) == digest_of_weights(broken)
    with pytest.raises(InputError, match="--start-from pretrained: the run to continue has"):
        train(replace(wanted, start_from="pretrained"), resume=True, progress=False)


def test_a_training_that_was_stopped_before_its_first_epoch_needs_the_same_weights(phantoms, run, tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(run.folder, source)
    wanted = config_of(data=str(phantoms), out=str(tmp_path / "run"), start_from=str(source), epochs=1, test=2, val=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", lambda self, *batch: (_ for _ in ()).throw(KeyboardInterrupt))
        train(wanted, progress=False)
    shutil.copy(source / "last.safetensors", tmp_path / "kept")
    train(replace(wanted, out=str(source / "new"), start_from=str(run.folder), epochs=2), progress=False)
    shutil.copy(source / "new" / "last.safetensors", source / "best.safetensors")
    with pytest.raises(InputError, match="holds other weights than when .*run was started from it; start a new run"):
        train(wanted, resume=True, progress=False)
    shutil.copy(run.folder / "best.safetensors", source / "best.safetensors")
    assert train(wanted, resume=True, progress=False).facts.start["weights"]


def test_the_network_that_ships_is_a_start_for_other_organs(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        image, mask = blob((40, 36, 5), rng)
        write_nifti(tmp_path / "heart" / "imagesTr" / f"{name}.nii.gz", image)
        write_nifti(tmp_path / "heart" / "labelsTr" / f"{name}.nii.gz", (mask > 0).astype(np.uint8))
    describe(tmp_path / "heart", "abc", labels={"0": "background", "1": "LV"}, modality={"0": "cine"})
    wanted = config_of(data=str(tmp_path / "heart"), out=str(tmp_path / "run"), start_from="pretrained", epochs=1, test=1, val=0)
    trained = train(wanted, progress=False)
    assert trained.facts.num_slices == 24 and trained.config.pixels == 96  # as the network that ships
    assert trained.facts.start["run"] == "pretrained" and trained.facts.start["fitted"] == "none"
    assert trained.facts.start["anew"] == "heads.0 (classes LV, not PZ, TZ)"
    assert probabilities(trained.network, torch.randn(5, 1, 96, 96)).shape == (5, 2, 96, 96)


def test_a_start_that_cannot_be_is_named(phantoms, run, tmp_path):
    base = dict(data=str(phantoms), out=str(tmp_path / "run"), start_from=str(run.folder), test=2, val=1)
    for name, value in (("base_channels", 8), ("levels", 2), ("network", "unetpp"), ("neighbours", 1)):
        flag = name.replace("_", "-")
        stored = getattr(run.config, name)
        with pytest.raises(InputError, match=f"--{flag} {value}: .* was trained with {stored}; give {stored}, or train without --from"):
            train(config_of(**base | {name: value}), progress=False)
    with pytest.raises(InputError, match="holds no run"):
        config_of(**base | dict(start_from=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    shutil.copy(run.folder / "config.json", tmp_path / "empty" / "config.json")
    with pytest.raises(InputError, match="best.safetensors: no such weights; let the training finish an epoch"):
        train(config_of(**base | dict(start_from=str(tmp_path / "empty"))), progress=False)
    assert not (tmp_path / "run").exists()


def test_a_plan_may_start_from_a_run(phantoms, run, tmp_path):
    (tmp_path / "plan.toml").write_text(
        f'data = "{phantoms}"\nout = "{tmp_path}"\n[options]\nepochs = 1\n[networks.scratch]\n[networks."fine-tuned"]\nstart_from = "{run.folder}"\n',
        encoding="utf-8")
    scratch, tuned = (config for _, _, config in configs(read_plan(tmp_path / "plan.toml")))
    assert scratch.base_channels == 16 and (tuned.base_channels, tuned.levels, tuned.uncertain) == (4, 3, True)


def test_fine_tuning_is_better_than_scratch_in_the_same_steps(phantoms, tmp_path):
    options = dict(data=str(phantoms), out=str(tmp_path / "tuned"), channels="T2", epochs=2, test=0, val=2)
    tuned = train(config_of(**options, start_from="pretrained"), progress=False)
    scratch = train(replace(tuned.config, out=str(tmp_path / "scratch"), start_from=""), progress=False)
    assert tuned.facts.start["anew"] == "none" and scratch.facts.start == {}
    score = {run.folder.name: max(row["val_dice"] for row in read_csv(run.folder / "history.csv")) for run in (tuned, scratch)}
    assert score["tuned"] > max(0.6, score["scratch"] + 0.1), score
