"""Experiments: one budget, paired statistics, several sittings."""

import csv
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import wilcoxon

from csam_lite import UNet, course
from csam_lite.common.errors import InputError
from csam_lite.data.dataset import Case, split
from csam_lite.experiments.compare import (
    RESULTS,
    compare,
    differences_of_patients,
    shipped_differences,
    shipped_patients,
)
from csam_lite.experiments.plan import PLANS, affordable_epochs, configs, read_plan
from csam_lite.metrics.statistics import holm, paired_differences, per_patient
from csam_lite.training.baselines import NeighbourChannels
from csam_lite.training.config import Config

PLAN = """
data = "{data}"
out = "{out}"
seeds = [0, 1]
reference = "plain"

[options]
pixels = 32
levels = 3
base_channels = 4
epochs = 1
test = 3
val = 0

[networks.plain]
attention = "none"

[networks."all gates"]
{extra}
"""


def rows(values, metric="dice"):
    """Rows of two volumes a patient and two classes, all of the patient's value, and a union that must not count."""
    empty = dict.fromkeys(("dice", "hd95_mm", "assd_mm", "dice_apex", "dice_mid", "dice_base"), math.nan)
    return [empty | {"case": f"p{i}_{visit}", "patient": f"p{i}", "class": name, metric: 9.0 if name == "all classes" else value + shift}
            for i, value in enumerate(values) for visit, shift in (("a", 0.1), ("b", -0.1)) for name in ("RV", "LV", "all classes")]


def test_each_patient_counts_once():
    assert per_patient(rows([0.5, 0.7]), "dice") == pytest.approx({"p0": 0.5, "p1": 0.7})
    assert all(math.isnan(value) for value in per_patient(rows([0.5]), "hd95_mm").values())


def test_differences_their_interval_and_their_test():
    rng = np.random.default_rng(0)
    base, gain, noise = rng.uniform(0.6, 0.8, 20), 0.05 + rng.normal(0, 0.01, 20), rng.normal(0, 0.02, 20)
    found = paired_differences({"plain": rows(base), "better": rows(base + gain), "same": rows(base + noise - noise.mean())}, "plain")
    better, same = ({row["network"]: row for row in found if row["metric"] == "dice"}[name] for name in ("better", "same"))
    assert better["difference"] == pytest.approx(gain.mean()) and better["low"] < gain.mean() < better["high"] and better["low"] > 0.04
    assert better["high"] - better["low"] == pytest.approx(2 * 1.96 * gain.std() / np.sqrt(20), rel=0.15)  # as the normal law has it
    assert better["p"] == pytest.approx(2 * wilcoxon(gain).pvalue) and better["patients"] == 20
    assert same["low"] < 0 < same["high"] and same["p"] > 0.05
    assert {row["metric"] for row in found} == {"dice"}  # a metric without values has no row


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_an_experiment_can_be_done_in_several_sittings(phantoms, tmp_path, monkeypatch):
    from csam_lite.training import trainer as training

    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.format(data=phantoms, out=tmp_path / "out", extra=""), encoding="utf-8")
    trained, real = [], training.train

    def train(config, **options):
        trained.append(config.out)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return real(config, **options)

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(KeyboardInterrupt):
        compare(plan, progress=False)
    assert not (tmp_path / "out" / "compare.md").exists()
    scores, differences = compare(plan, progress=False)
    assert re.match(r"csam_lite \S+ \(code [0-9a-f]{8}\), data [0-9a-f]{32}, torch ", (tmp_path / "out" / "compare.md").read_text(encoding="utf-8"))
    assert len(trained) == 5 and len(set(trained)) == 4  # the third was begun twice, the first two were kept
    assert [row["network"] for row in scores] == ["plain", "all gates"] and all(row["seeds"] == 2 for row in scores)
    assert scores[1]["parameters"] > scores[0]["parameters"] and scores[0]["sd of seeds"] >= 0
    assert {row["patients"] for row in differences} <= {1, 2, 3} and {row["trainings"] for row in differences} == {2}
    assert "dice_base" in {row["metric"] for row in differences}
    tested = []
    for run in ("plain-seed0-fold0", "plain-seed1-fold0", "all_gates-seed1-fold0"):
        with open(tmp_path / "out" / run / "held_out.csv", newline="", encoding="utf-8") as file:
            tested.append({row["patient"] for row in csv.DictReader(file)})
    assert tested[0] == tested[1] == tested[2] and len(tested[0]) == 3  # the same patients for every network and seed
    assert all(row["ms/step"] > 0 and row["peak MB"] > 1 and 0 <= row["ece"] <= 1 for row in scores)
    assert all((tmp_path / "out" / f"{name}.png").stat().st_size > 5000 for name in ("differences", "stack", "reliability"))
    assert differences_of_patients(tmp_path / "out" / "patients.csv", "plain") == differences
    with pytest.raises(InputError, match="reference 'none' is none of the networks plain, all gates"):
        differences_of_patients(tmp_path / "out" / "patients.csv", "none")
    again = compare(plan, progress=False)
    assert len(trained) == 5 and again == (scores, differences)
    plan.write_text(PLAN.format(data=phantoms, out=tmp_path / "out", extra="attention = 'slice'"), encoding="utf-8")
    with pytest.raises(InputError, match="was run with another attention"):
        compare(plan, progress=False)


def test_a_run_that_fails_stops_no_other(phantoms, tmp_path, monkeypatch, capsys):
    from csam_lite.experiments.parts import compare_part
    from csam_lite.training import trainer as training

    plan = tmp_path / "plan.toml"
    plan.write_text(f"""
        data = "{phantoms}"
        out = "{tmp_path / 'out'}"
        [options]
        pixels = 32
        levels = 3
        base_channels = 4
        epochs = 5
        test = 3
        val = 0
        [networks.wild]
        learning_rate = 1e30
        [networks.plain]
        attention = "none"
        """, encoding="utf-8")
    failure = r"1 of 2 runs failed: wild-seed0-fold0 \(.*diverged in epoch .*\); the same command starts them again"
    with pytest.raises(InputError, match=failure) as caught:
        compare(plan, progress=False)
    assert "\n" not in str(caught.value) and not (tmp_path / "out" / "compare.md").exists()
    assert (tmp_path / "out" / "plain-seed0-fold0" / "held_out.csv").exists()  # it came after the one that failed
    trained, real = [], training.train

    def train(config, **options):
        trained.append(config.out)
        if len(trained) == 1:
            raise RuntimeError("a fault that nobody foresaw\nin two lines")
        return real(config, **options)

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(InputError, match=r"1 of 2 runs failed: wild-seed0-fold0 \(a fault that nobody foresaw"):
        compare_part(plan, "1/1", out=str(tmp_path / "part"), progress=False)
    assert "Traceback" in capsys.readouterr().err and len(trained) == 2
    assert (tmp_path / "part" / "plain-seed0-fold0" / "held_out.csv").exists()


@pytest.mark.stress(trial="two processes at once", found=18)
def test_two_processes_share_the_runs(phantoms, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.format(data=phantoms, out=tmp_path / "out", extra=""), encoding="utf-8")
    command = [sys.executable, "-m", "csam_lite", "compare", str(plan)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=os.environ | {"OMP_NUM_THREADS": "1"})
            for _ in range(2)]
    begun = []
    for process in both:
        out, error = process.communicate(timeout=900)
        assert process.returncode == 0, error[-2000:]
        begun.append([line.split()[1] for line in out.splitlines() if line.startswith("[")])
        assert "| all gates |" in out
    assert len(begun[0] + begun[1]) == len(set(begun[0] + begun[1])) == 4  # each run once, by one of them
    assert begun[0] and begun[1]


@pytest.mark.row("reliability 8")
@pytest.mark.parametrize("text, match", [
    ("data = 1 2", "is not TOML"), ("data = 'x'", "lacks networks, out"), ("data='x'\nout='y'\nepochs=3\n[networks.a]", "unknown entries epochs"),
    ("data='x'\nout='y'\nreference='b'\n[networks.a]", "reference 'b' is none"),
    ("data='x'\nout='y'\nfolds=[0, 1]\n[networks.a]", r"folds = \[0, 1\] needs folds under \[options\]"),
    ("data='x'\nout='y'\nfolds=[5]\n[options]\nfolds=5\n[networks.a]", r"folds = \[5\] needs"),
    ("data='x'\nout='y'\nnew_folds=true\n[networks.a]", "new_folds needs folds under"), ("data='x'\nout='y'\nnew_folds=1\n[networks.a]", "must be true or"),
    ("data='x'\nout='y'\nnew_folds=true\n[options]\nfolds=3\n[networks.a]\nsplit_seed=1", "gives split_seed and new_folds"),
    ("data='x'\nout='y'\nhours=true\n[networks.a]", "hours = True: must be a number"),
    ("data='x'\nout='y'\nseeds=[1, 1]\n[networks.a]", r"seeds = \[1, 1\]: must be a list of different"),
    ("data='x'\nout='y'\nseeds=3\n[networks.a]", "seeds = 3: must be a list"),
    ("data='x'\nout='y'\n[networks.a]\nwidth=3", r"\[networks.a\] has unknown options width"), ("data='x'\nout='y'\n[networks.a]", "no such folder")])
def test_a_bad_plan_is_named(tmp_path, text, match):
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=match):
        compare(tmp_path / "plan.toml", progress=False)
    with pytest.raises(InputError, match="no such file"):
        compare(tmp_path / "none.toml", progress=False)


def test_neighbours_as_channels():
    seen = []

    class Look(torch.nn.Module):
        num_slices = 9

        def forward(self, x, mask=None):
            seen.append(x)
            return x

    x = torch.arange(1, 6.0).view(1, 5, 1, 1, 1).expand(2, 5, 1, 4, 4)
    NeighbourChannels(Look(), 1)(x, torch.tensor([[True] * 5, [True] * 3 + [False] * 2]))
    assert seen[0][0, :, :, 0, 0].tolist() == [[1, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 5]]
    assert seen[0][1, :3, :, 0, 0].tolist() == [[1, 1, 2], [1, 2, 3], [2, 3, 3]]
    net = NeighbourChannels(UNet(5, 3, num_slices=6, base_channels=4, levels=3, attention="none"), 2).eval()
    volume = torch.randn(1, 6, 1, 16, 16)
    changed = volume.clone()
    changed[:, 3] += 1
    moved = (net(volume) - net(changed)).abs().amax((0, 2, 3, 4)) > 0
    assert moved.tolist() == [False, True, True, True, True, True]  # two slices on either side, no further


def test_the_rows_of_patients_that_ship_give_the_stored_differences():
    names = [path.stem for path in (RESULTS / "patients").glob("*.csv")]
    assert names
    for name in names:
        rows = shipped_patients(name)
        reference = read_plan(name.removesuffix("_v2").replace("control", "phantom"), data="scans", out="runs")["reference"]
        for ours, stored in zip(differences_of_patients(rows, reference), shipped_differences(name), strict=True):
            assert all(ours[key] == pytest.approx(stored[key], abs=2e-4) if isinstance(ours[key], float) else ours[key] == stored[key]
                       for key in ours), (name, ours, stored)
    with pytest.raises(InputError, match="moon: no such result ships; choose from"):
        shipped_patients("moon")


def test_every_experiment_that_ships_is_a_plan():
    plans = sorted(PLANS.glob("*.toml"))
    assert plans
    for path in plans:
        plan = read_plan(path.stem, data="scans", out="runs")
        assert plan["data"] == "scans" and plan["reference"] in plan["networks"]
        for own in plan["networks"].values():
            Config(data="scans", out="runs", **plan["options"] | own)


def test_a_folder_of_scans_with_the_name_of_a_plan_is_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acdc").mkdir()
    assert read_plan("acdc", data="acdc", out="runs") == read_plan(PLANS / "acdc.toml", data="acdc", out="runs")


def test_every_result_that_ships_is_of_a_plan_and_in_its_readme():
    readme = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    for path in RESULTS.glob("*.csv"):
        plan = read_plan(path.stem.removesuffix("_v2").replace("control", "phantom"), data="scans", out="runs")
        rows = shipped_differences(path.stem)
        assert {row["network"] for row in rows} == set(plan["networks"]) - {plan["reference"]}
        told = ("dice", "dice_apex", "dice_mid", "dice_base") if path.stem.startswith(("phantom", "control")) else ("dice",)
        for row in (row for row in rows if row["metric"] in told):
            assert f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]" in readme, (path.stem, row)
    with pytest.raises(InputError, match="nowhere: no such result ships; choose from acdc"):
        shipped_differences("nowhere")


def test_hours_buy_epochs(phantoms, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.format(data=phantoms, out=tmp_path / "out", extra="").replace("epochs = 1", "batch_size = 2"), encoding="utf-8")
    plan = read_plan(path, hours=1.0)
    costs = {"plain": {"ms/step": 1000}, "all gates": {"ms/step": 3000}}
    steps = 2 * 2 * (1 + 3)  # 3 volumes in batches of 2; two seeds; one second and three
    assert affordable_epochs(plan, costs) == int(0.8 * 3600 / (steps / 1))
    with pytest.raises(InputError, match="one epoch of all 4 runs takes"):
        affordable_epochs(plan | {"hours": 1e-4}, costs)
    with pytest.raises(InputError, match="gives hours and epochs"):
        path.write_text("hours = 1\n" + PLAN.format(data=phantoms, out=tmp_path / "out", extra=""), encoding="utf-8")
        read_plan(path)


def test_folds_hold_every_patient_out_once_and_each_training_has_its_own_seed(phantoms, tmp_path):
    path = tmp_path / "plan.toml"
    text = PLAN.format(data=phantoms, out=tmp_path / "out", extra="").replace("test = 3", "folds = 3").replace("[0, 1]", "[0]")
    path.write_text("folds = [0, 1, 2]\n" + text, encoding="utf-8")
    planned = list(configs(read_plan(path)))
    assert [config.fold for _, _, config in planned] == [0, 0, 1, 1, 2, 2] and {seed for _, seed, _ in planned} == {0}
    seeds = [config.seed for _, _, config in planned]
    assert seeds[::2] == seeds[1::2] and len(set(seeds)) == 3  # one for the networks of a fold, another one for each fold
    scores, differences = compare(path, progress=False)
    with open(tmp_path / "out" / "patients.csv", newline="", encoding="utf-8") as file:
        kept = list(csv.DictReader(file))
    places = {(row["network"], row["patient"]): row["fold"] for row in kept}
    assert len({patient for _, patient in places}) == 6 and len(places) == 12
    assert len(kept) == len({(row["network"], row["patient"], row["class"]) for row in kept})
    row = next(row for row in differences if row["metric"] == "dice")
    own, base = ({patient: [float(r["dice"]) for r in kept if (r["network"], r["patient"]) == (name, patient) and r["class"] in ("PZ", "TZ")]
                  for patient in {p for _, p in places}} for name in ("all gates", "plain"))
    by_hand = [np.nanmean(np.subtract(own[patient], base[patient])) for patient in own]
    assert row["patients"] == 6 and row["trainings"] == 3
    assert row["difference"] == pytest.approx(np.mean(by_hand)) and row["gain"] == pytest.approx(np.mean(np.array(by_hand) > 0))
    assert {"dice PZ", "dice_base TZ", "dice whole gland"} <= {row["metric"] for row in differences}


def test_with_new_folds_each_seed_holds_every_heart_out_once_in_folds_of_its_own():
    cases = [Case(f"c{i}", f"p{i}", Path(f"c{i}"), None) for i in range(60)]
    tested = {}
    for _, seed, c in configs(read_plan("acdc5_new_folds", data="scans", out="runs")):
        held_out = [case.patient for case in split(cases, c.split_seed, c.test, c.val, c.folds, c.fold)[2]]
        assert tested.setdefault((seed, c.fold), held_out) == held_out  # the same for both networks
    assert len(tested) == len({tuple(own) for own in tested.values()}) == 20
    for seed in (3, 4, 5, 6):
        assert len({patient for fold in range(5) for patient in tested[seed, fold]}) == 60


def test_the_five_fold_plan_holds_out_every_heart_with_three_trainings():
    plan = read_plan("acdc5", data="scans", out="runs")
    assert plan["options"]["epochs"] == 30 and len(plan["seeds"]) == 3 and plan["folds"] == [0, 1, 2, 3, 4]
    assert len({config.out for _, _, config in configs(plan)}) == 4 * 3 * 5


@pytest.mark.parametrize("quick, networks", [(True, 3), (False, 9)])
def test_the_plan_of_the_course_can_be_read(tmp_path, quick, networks):
    """Its networks have one budget, and differ in what stands behind their names."""
    text = course.comparison_plan(SimpleNamespace(channels=("T2", "ADC")), quick, seed=3)
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    made = list(configs(read_plan(tmp_path / "plan.toml", data="scans", out="runs")))
    assert len(made) == 2 * networks and {config.seed for _, _, config in made} == {3, 4}
    assert len({(config.epochs, config.pixels, config.channels) for _, _, config in made}) == 1
    assert [config.prior for name, _, config in made if "no prior" in name] == [False, False]
