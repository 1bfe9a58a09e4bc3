"""The page of results is what the command writes from the stored results, and README.md states no other result."""

import csv
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


HEART = ("RV", "MYO", "LV")


def text_of(name):
    """The text below a table."""
    tables = tomllib.loads((RESULTS / "tables.toml").read_text(encoding="utf-8"))["table"]
    return " ".join(next(table["text"] for table in tables if table["scores"] == name).split())


def hearts(name, *networks):
    return [row for row in shipped_patients(name) if row["class"] in HEART and row["network"] in networks]


def lead(rows, network, *keys):
    """Of how many patients, or trainings, `network` scores more than the plain one."""
    means = [{at: np.mean([row["dice"] for row in rows if row["network"] == one and tuple(row[key] for key in keys) == at])
              for at in {tuple(row[key] for key in keys) for row in rows}} for one in (network, "plain 2D")]
    return sum(means[0][at] > means[1][at] for at in means[0])


def test_the_text_on_60_hearts_says_what_their_rows_say():
    """Patients that gain, the mean of each training, the interval over patients alone, and the intervals above zero."""
    rows, text = hearts("acdc5", "CSAM", "plain 2D"), text_of("acdc5")

    def difference(rows):
        csam, plain = (per_patient([row for row in rows if row["network"] == name], "dice") for name in ("CSAM", "plain 2D"))
        return {patient: csam[patient] - plain[patient] for patient in csam}

    d = difference(rows)
    fold = {row["patient"]: row["fold"] for row in rows}
    of_folds = [np.mean([d[patient] for patient in d if fold[patient] == k]) for k in range(5)]
    cells = [np.mean(list(difference([row for row in rows if (row["seed"], row["fold"]) == cell]).values()))
             for cell in {(row["seed"], row["fold"]) for row in rows}]
    low, high = bootstrap_interval(np.array(list(d.values())))
    assert f"{lead(rows, 'CSAM', 'patient')} of {len(d)} patients" in text
    assert len(cells) == 15 and f"{min(cells):+.3f} to {max(cells):+.3f}, and in {sum(cell > 0 for cell in cells)} of them" in text
    assert "{:+.3f}, {:+.3f}, {:+.3f}, {:+.3f} and {:+.3f}".format(*of_folds) in text
    assert f"alone would be [{low:+.3f}, {high:+.3f}]" in text
    for seeds in (1, 2):  # what was known before the others
        before = differences_of_patients([row for row in rows if row["seed"] < seeds], "plain 2D")
        assert with_interval(next(row for row in before if row["metric"] == "dice")) in text


def test_the_text_on_new_folds_says_what_their_rows_say():
    rows, text = hearts("acdc5_new_folds", "CSAM", "plain 2D"), text_of("acdc5_new_folds")
    dice = next(row for row in read_csv(RESULTS / "acdc5_new_folds.csv") if row["metric"] == "dice")
    assert f"{lead(rows, 'CSAM', 'patient')} of 60 patients" in text
    cells = {(row["seed"], row["fold"]) for row in rows}
    assert f"{lead(rows, 'CSAM', 'seed', 'fold')} of {len(cells)} trainings" in text and dice["trainings"] == len(cells)
    stored = read_csv(RESULTS / "acdc5_new_folds.csv")
    assert f"{with_interval(dice)} on average" in text and f"p is {dice['p']:.3f}" in text
    assert dice["low"] > 0 and "begins just above zero" in text
    closer = [row for row in stored if "_mm" in row["metric"] and row["high"] < 0]
    higher = [row for row in stored if "_mm" not in row["metric"] and row["low"] > 0]
    without_zero = [row for row in stored if not row["low"] <= 0 <= row["high"]]
    assert len(without_zero) == len(closer) + len(higher) and len(closer) > len(higher)  # none against CSAM, most are distances
    assert f"{len(stored)} differences that were looked at, {len(without_zero)} have an interval in favour of CSAM and none" in text
    assert f"HD95 is {-next(row['difference'] for row in stored if row['metric'] == 'hd95_mm'):.1f} mm smaller" in text
    three = differences_of_patients([row for row in rows if row["seed"] < 6], "plain 2D")
    assert f"After three of its four seeds, the difference was {with_interval(three[0])}" in text
    assert len({(row["patient"], row["seed"]) for row in rows}) == 60 * len({row["seed"] for row in rows})  # each once for each seed
    assert len({row["fold"] for row in rows if row["patient"] == rows[0]["patient"]}) > 1  # in other folds


def test_the_text_on_60_hearts_names_every_interval_without_zero():
    text, stored = text_of("acdc5"), read_csv(RESULTS / "acdc5.csv")
    found = {network: [row["metric"] for row in stored if row["network"] == network and row["low"] > 0]
             for network in ("CSAM", "3D (MONAI)")}
    assert found == {"CSAM": ["dice MYO", "dice_inferior MYO", "dice_mid MYO", "dice_mid all classes", "dice_superior LV"],
                     "3D (MONAI)": ["dice_superior RV"]}
    assert "5 have an interval above zero" in text and "One of its 30 intervals lies above zero" in text
    assert not [row for row in stored if row["network"] in found and row["high"] < 0]
    dice = next(row for row in stored if (row["network"], row["metric"]) == ("3 slices as channels", "dice"))
    assert dice["high"] < 0 and "Its interval lies below zero" in text and f"p is {dice['p']:.3f}" in text


def test_the_text_on_60_hearts_compares_the_other_networks_as_their_rows_do():
    text = text_of("acdc5")
    near, deep = hearts("acdc5", "3 slices as channels", "plain 2D"), hearts("acdc5", "3D (MONAI)", "plain 2D")
    first = differences_of_patients([row for row in near if row["seed"] == 0], "plain 2D")
    assert (f"{lead(near, '3 slices as channels', 'patient')} of 60 patients gain, and it is ahead in "
            f"{lead(near, '3 slices as channels', 'seed', 'fold')} of 15 trainings") in text
    assert f"Seed 0 was published first, with {with_interval(first[0])}" in text
    assert (f"{lead(deep, '3D (MONAI)', 'patient')} of 60 patients, and is ahead in "
            f"{lead(deep, '3D (MONAI)', 'seed', 'fold')} of 15 trainings") in text
    against = differences_of_patients(hearts("acdc5", "3D (MONAI)", "CSAM"), "3D (MONAI)")
    assert f"CSAM minus 3D is {with_interval(next(row for row in against if row['metric'] == 'dice'))}." in text
    parameters = {row["network"]: int(row["parameters"]) for row in read_csv(RESULTS / "scores" / "acdc5.csv")}
    assert f"{parameters['3D (MONAI)'] / parameters['plain 2D']:.1f} times as many parameters" in text


def test_an_aim_that_was_reached_is_told_from_one_that_was_not():
    """Each measured figure stands in another table, too, and "reached" follows from the two figures."""
    stored = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    below = stored.split("What was wanted", 1)[1].split("\n## ", 1)[1]
    with open(RESULTS / "scores" / "aims.csv", newline="", encoding="utf-8") as file:
        aims = list(csv.DictReader(file))
    for row in aims:
        wanted, measured = (float(re.search(r"[+-]?\d+(\.\d+)?", row[name])[0]) for name in ("wanted", "measured"))
        figure = row["measured"] if "[" in row["measured"] else row["measured"].split()[0].rstrip(",")
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", below), row
        met = measured <= wanted if re.match("at most|under", row["wanted"]) else measured >= wanted
        if "above zero" in row["wanted"]:
            met = met and float(re.search(r"\[(\S+),", row["measured"])[1]) > 0
        assert row["reached"].startswith("not known" if "hour" in row["what"] else "yes" if met else "no"), row


@pytest.mark.parametrize("name", [path.stem for path in (RESULTS / "scores").glob("acdc5*.csv")])
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
