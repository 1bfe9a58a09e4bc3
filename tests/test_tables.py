"""The page of results is what the command writes from the stored results, and README.md states no other result."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from csam_lite.cli import main
from csam_lite.common.tables import read_csv
from csam_lite.experiments.compare import RESULTS, differences_of_patients, shipped_patients
from csam_lite.experiments.tables import with_interval
from csam_lite.metrics.statistics import bootstrap_interval, per_patient

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_is_what_the_command_writes(tmp_path):
    assert main(["tables", "--out", str(tmp_path / "new.md")]) == 0
    kept = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "new.md").read_text(encoding="utf-8") == kept, (
        "run: python -m csam_lite tables --out csam_lite/experiments/README.md")


def test_every_stored_table_is_on_the_page():
    kept = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    for path in (RESULTS / "scores").glob("*.csv"):
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            assert all(figure in kept for figure in re.findall(r"\d+\.\d+", line)), (path.name, line)


def test_every_result_in_the_readme_is_a_stored_one():
    """Dice values and differences, the figures with three decimals, stand on the page of results."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    kept = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    figures = re.findall(r"[+-]?\d\.\d{3}\b", readme)
    assert figures and not [figure for figure in figures if figure not in kept]


def test_the_text_on_60_hearts_says_what_their_rows_say():
    """Patients that gain, the mean of each training, the interval over patients alone, and the intervals above zero."""
    rows = [row for row in shipped_patients("acdc5_pair") if row["class"] in ("RV", "MYO", "LV")]

    def difference(rows):
        csam, plain = (per_patient([row for row in rows if row["network"] == name], "dice") for name in ("CSAM", "plain 2D"))
        return {patient: csam[patient] - plain[patient] for patient in csam}

    d = difference(rows)
    fold = {row["patient"]: row["fold"] for row in rows}
    of_folds = [np.mean([d[patient] for patient in d if fold[patient] == k]) for k in range(5)]
    cells = [np.mean(list(difference([row for row in rows if (row["seed"], row["fold"]) == cell]).values()))
             for cell in {(row["seed"], row["fold"]) for row in rows}]
    low, high = bootstrap_interval(np.array(list(d.values())))
    above = [row["metric"] for row in read_csv(RESULTS / "acdc5_pair.csv") if row["low"] > 0 or row["high"] < 0]
    text = " ".join(next(table["text"] for table in tomllib.loads((RESULTS / "tables.toml").read_text(encoding="utf-8"))["table"]
                         if table.get("scores") == "acdc5_pair").split())
    assert f"{sum(value > 0 for value in d.values())} of {len(d)} patients" in text
    assert len(cells) == 15 and f"{min(cells):+.3f} to {max(cells):+.3f}, and in {sum(cell > 0 for cell in cells)} of them" in text
    assert "{:+.3f}, {:+.3f}, {:+.3f}, {:+.3f} and {:+.3f}".format(*of_folds) in text
    assert f"alone would be [{low:+.3f}, {high:+.3f}]" in text
    assert above == ["dice MYO", "dice_inferior MYO", "dice_mid MYO", "dice_mid all classes", "dice_superior LV"]
    assert "5 have an interval above zero" in text
    for seeds in (1, 2):  # what was known before the others
        before = differences_of_patients([row for row in rows if row["seed"] < seeds], "plain 2D")
        assert with_interval(next(row for row in before if row["metric"] == "dice")) in text


HEART = ("RV", "MYO", "LV")


def text_and_lead(name, network):
    """The text of a table, and a function: of how many patients, or trainings, `network` leads before the plain one."""
    rows = [row for row in shipped_patients(name) if row["class"] in HEART]
    text = " ".join(next(table["text"] for table in tomllib.loads((RESULTS / "tables.toml").read_text(encoding="utf-8"))["table"]
                         if table.get("scores") == name).split())

    def ahead(*keys):
        means = [{at: np.mean([row["dice"] for row in rows if row["network"] == one and [row[key] for key in keys] == [*at]])
                  for at in {tuple(row[key] for key in keys) for row in rows}} for one in (network, "plain 2D")]
        return f"{sum(means[0][at] > means[1][at] for at in means[0])} of {len(means[0])}"

    return text, ahead, rows


def test_the_text_on_the_3d_network_says_what_its_rows_say():
    text, ahead, rows = text_and_lead("acdc5_3d", "3D (MONAI)")
    csam = [row for row in shipped_patients("acdc5_pair") if row["class"] in HEART and row["network"] == "CSAM"]
    assert f"{ahead('patient')} patients" in text and f"{ahead('seed', 'fold')} trainings" in text
    against = differences_of_patients([row for row in rows if row["network"] != "plain 2D"] + csam, "3D (MONAI)")
    assert f"CSAM minus 3D is {with_interval(next(row for row in against if row['metric'] == 'dice'))}." in text
    parameters = {row["network"]: int(row["parameters"]) for row in read_csv(RESULTS / "scores" / "acdc5_3d.csv")}
    assert f"{parameters['3D (MONAI)'] / parameters['plain 2D']:.1f} times as many parameters" in text


def test_the_text_on_neighbours_says_what_its_rows_say():
    text, ahead, _ = text_and_lead("acdc5_neighbours", "3 slices as channels")
    assert f"{ahead('patient')} patients gain" in text and f"{ahead('seed', 'fold')} trainings" in text
    dice = next(row for row in read_csv(RESULTS / "acdc5_neighbours.csv") if row["metric"] == "dice")
    assert dice["high"] < 0 and "lies below zero" in text


@pytest.mark.parametrize("name", [path.stem for path in (RESULTS / "scores").glob("acdc5_*.csv")])
def test_stored_scores_are_those_of_the_stored_rows(name):
    rows = [row for row in shipped_patients(name) if row["class"] in HEART]
    for score in read_csv(RESULTS / "scores" / f"{name}.csv"):
        own = [row for row in rows if row["network"] == score["network"]]
        for label in HEART:
            assert score[label] == pytest.approx(np.mean([row["dice"] for row in own if row["class"] == label]), abs=6e-4)
        by_seed = [np.mean([row["dice"] for row in own if row["seed"] == seed]) for seed in {row["seed"] for row in own}]
        assert score["mean Dice"] == pytest.approx(np.mean(by_seed), abs=6e-4)
        assert score["SD of seeds"] == pytest.approx(np.std(by_seed, ddof=1), abs=6e-4)
        assert score["HD95 mm"] == pytest.approx(np.nanmean([row["hd95_mm"] for row in own]), abs=0.06)
        assert score["ECE"] == pytest.approx(np.nanmean([row["ece"] for row in own]), abs=6e-4)


def test_a_difference_is_printed_with_its_interval():
    row = read_csv(RESULTS / "acdc.csv")[0]
    assert with_interval(row) == f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    assert with_interval(row | {"metric": "hd95_mm", "difference": 3.94, "low": 1.26, "high": 7.15}) == "+3.9 [+1.3, +7.2]"
