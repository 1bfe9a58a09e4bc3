"""Intervals over patients and trainings: by formulas, on cases known by hand, and how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from csam_lite.metrics.coverage import SETTINGS, Experiment, coverage, over_both, over_patients
from csam_lite.metrics.statistics import (
    _new_folds,
    differences_over_trainings,
    interval_over_trainings,
    paired_differences,
)


def test_one_split_and_one_training_give_the_t_test_over_patients():
    d = np.random.default_rng(0).normal(0.01, 0.02, (15, 1))
    estimate, known = interval_over_trainings(d, np.zeros(15, int)), ttest_1samp(d[:, 0], 0)
    assert (estimate.low, estimate.high) == pytest.approx(known.confidence_interval(0.95)) and estimate.p == pytest.approx(known.pvalue)
    assert estimate.mean == pytest.approx(d.mean())


def test_patients_that_are_all_alike_leave_the_t_test_over_trainings():
    luck = np.array([0.01, 0.03, 0.02, -0.01])
    estimate, known = interval_over_trainings(np.tile(luck, (9, 1)), np.zeros(9, int)), ttest_1samp(luck, 0)
    assert (estimate.low, estimate.high) == pytest.approx(known.confidence_interval(0.95)) and estimate.p == pytest.approx(known.pvalue)


def test_folds_that_differ_leave_the_t_test_over_folds():
    luck, folds = np.array([0.01, 0.03, 0.02, -0.01, 0.04]), np.arange(20) % 5
    estimate, known = interval_over_trainings(np.tile(luck[folds][:, None], 3), folds), ttest_1samp(luck, 0)
    assert (estimate.low, estimate.high) == pytest.approx(known.confidence_interval(0.95)) and estimate.p == pytest.approx(known.pvalue)


def test_more_patients_do_not_shrink_the_luck_of_trainings():
    few, many = (np.diff(over_both(*Experiment(count, 5, 3, training=0.02).draw(np.random.default_rng(1))))[0] for count in (60, 6000))
    assert many > 0.5 * few and np.diff(over_patients(*Experiment(6000, 5, 3, training=0.02).draw(np.random.default_rng(1))))[0] < 0.3 * many


def test_new_folds_that_differ_leave_the_spread_of_trainings_within_a_seed():
    luck = np.array([[0.01, 0.03, 0.02], [0.04, -0.01, 0.0]])  # of three folds in each of two seeds
    folds = np.array([[0, 2], [0, 0], [1, 1], [1, 0], [2, 1], [2, 2]])
    estimate = interval_over_trainings(luck[[0, 1], folds], folds)
    half = t.ppf(0.975, 4) * math.sqrt(luck.var(1, ddof=1).mean() / 6)
    assert estimate[:3] == pytest.approx((luck.mean(), luck.mean() - half, luck.mean() + half))


@pytest.mark.parametrize("experiment", [
    Experiment(60, 5, 3, training=0.03, new_folds=True), Experiment(59, 5, 4, training=0.02, new_folds=True),
    Experiment(9, 3, 2, patient=0.05, rest=0.001, training=0.05, new_folds=True)])
def test_the_variance_of_new_folds_is_that_of_repeated_experiments(experiment):
    random, means, variances = np.random.default_rng(2), [], []
    for _ in range(4000):
        d, folds = experiment.draw(random)
        means.append(d.mean())
        variances.append(sum(part for part, _ in _new_folds(d, folds)))
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.08)


def test_too_little_to_know():
    assert interval_over_trainings(np.full((4, 2), 0.5), np.array([0, 0, 1, 1])) == (0.5, 0.5, 0.5, 0.0)
    assert interval_over_trainings(np.zeros((4, 1)), np.zeros(4, int)) == (0, 0, 0, 1)
    assert all(math.isnan(value) for value in interval_over_trainings(np.ones((1, 3)), np.zeros(1, int))[1:])
    alone = interval_over_trainings(np.array([[0.1], [0.3], [0.2]]), np.arange(3))  # each patient a fold of its own
    assert (alone.low, alone.high) == pytest.approx(ttest_1samp([0.1, 0.3, 0.2], 0).confidence_interval(0.95))


@pytest.mark.parametrize("name", SETTINGS)
def test_coverage(name):
    """The interval over both holds the truth in at least 90 % of the experiments; the one over patients does so only without luck."""
    held, _ = coverage(SETTINGS[name], over_both, repeats=500)
    today, _ = coverage(SETTINGS[name], over_patients, repeats=500)
    assert 0.90 <= held <= 0.985
    assert today > 0.92 if SETTINGS[name].training + SETTINGS[name].fold == 0 else today < held - 0.03


def rows(values, seeds=(0, 1)):
    """values: {patient: (fold, {class: dice})}; two volumes a patient, which differ by 0.2."""
    return [{"patient": patient, "class": label, "seed": seed, "fold": fold, "dice": dice + shift, "hd95_mm": 10 * (1 - dice)}
            for patient, (fold, classes) in values.items() for seed in seeds for shift in (-0.1, 0.1) for label, dice in classes.items()]


def test_differences_pair_patients_classes_and_trainings():
    base = {f"p{i}": (i % 2, {"RV": 0.6, "LV": 0.7, "all classes": 0.1}) for i in range(6)}
    better = {p: (fold, {"RV": 0.6 + 0.02 * i, "LV": 0.8, "all classes": 0.9}) for i, (p, (fold, _)) in enumerate(base.items())}
    better["p5"] = (1, {"RV": math.nan, "LV": 0.6, "all classes": 0.9})
    table = {row["metric"]: row for row in differences_over_trainings({"plain": rows(base), "other": rows(better)}, "plain")}
    assert list(table) == [f"{metric}{name}" for metric in ("dice", "hd95_mm") for name in ("", " RV", " LV", " all classes")]
    assert table["dice RV"]["patients"] == 5 and table["dice RV"]["difference"] == pytest.approx(0.04)
    assert table["dice RV"]["gain"] == pytest.approx(0.8)  # the first one is unchanged
    assert table["dice LV"]["difference"] == pytest.approx((5 * 0.1 - 0.1) / 6) and table["dice LV"]["gain"] == pytest.approx(5 / 6)
    assert table["dice"]["difference"] == pytest.approx((sum((0.1 + 0.02 * i) / 2 for i in range(5)) - 0.1) / 6)
    assert table["hd95_mm LV"]["gain"] == pytest.approx(5 / 6) and table["hd95_mm LV"]["difference"] < 0  # smaller is better
    assert all(row["trainings"] == 4 and row["low"] <= row["difference"] <= row["high"] for row in table.values())


def test_a_patient_without_a_value_in_one_training_is_left_out():
    base = rows({f"p{i}": (0, {"RV": 0.6}) for i in range(4)})
    other = [row | {"dice": math.nan if (row["patient"], row["seed"]) == ("p0", 1) else row["dice"] + 0.1} for row in base]
    assert differences_over_trainings({"plain": base, "other": other}, "plain")[0]["patients"] == 3


def test_with_one_training_and_no_missing_value_the_difference_is_that_of_paired_differences():
    random = np.random.default_rng(0)
    base = rows({f"p{i}": (0, {"RV": random.uniform(0.5, 0.9), "LV": random.uniform(0.5, 0.9)}) for i in range(20)}, seeds=(0,))
    other = [row | {"dice": row["dice"] + random.normal(0.02, 0.02)} for row in base]
    both = {"plain": base, "other": other}
    new, old = differences_over_trainings(both, "plain")[0], paired_differences(both, "plain")[0]
    assert new["difference"] == pytest.approx(old["difference"])
    assert (new["low"], new["high"]) == pytest.approx((old["low"], old["high"]), abs=0.002)


def test_patients_are_paired_within_the_fold_that_each_seed_gave_them():
    fold, gain = {0: [0, 0, 1, 1], 1: [1, 0, 1, 0]}, {(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.3, (1, 1): 0.4}
    table = {name: [{"patient": f"p{i}", "class": "LV", "seed": seed, "fold": fold[seed][i],
                     "dice": 0.5 + i / 10 + (name == "other") * gain[seed, fold[seed][i]]} for seed in (1, 0) for i in range(4)]
             for name in ("plain", "other")}
    row, = differences_over_trainings(table, "plain")
    luck = interval_over_trainings(np.array([[0.1, 0.4], [0.1, 0.3], [0.2, 0.4], [0.2, 0.3]]), np.array([[0, 1], [0, 0], [1, 1], [1, 0]]))
    assert (row["patients"], row["trainings"], row["gain"]) == (4, 4, 1)
    assert (row["difference"], row["low"], row["high"], row["p"]) == pytest.approx(luck)
