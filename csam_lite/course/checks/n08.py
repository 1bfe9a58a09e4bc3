"""Checks of notebook 08: patients, intervals, corrections, words."""

import math

import numpy as np

from csam_lite.course.checks import Wrong, answer, verify


def per_patient(function):
    """function(rows): rows are dicts with "patient", "case" and "dice" -> {patient: mean Dice}, NaN left out."""

    def one_volume_each():
        """with one volume a patient, each keeps its Dice"""
        _same_dict(function, [("a", 0.5), ("b", 0.7)], {"a": 0.5, "b": 0.7}, "two patients of one volume")

    def volumes_are_averaged():
        """the volumes of a patient are averaged, in whatever order the rows come"""
        _same_dict(function, [("a", 0.9), ("b", 0.2), ("a", 0.3), ("a", 0.3)], {"a": 0.5, "b": 0.2}, "a: 0.9, 0.3, 0.3 and b: 0.2",
                   "all volumes of a patient have the same weight within it")

    def missing_values_are_left_out():
        """a NaN (a class that is in neither mask) is left out, not counted as 0 and not passed on"""
        _same_dict(function, [("a", 0.8), ("a", math.nan), ("b", 0.4)], {"a": 0.8, "b": 0.4}, "a: 0.8, NaN and b: 0.4", "numpy has nanmean")

    return verify("per_patient", one_volume_each, volumes_are_averaged, missing_values_are_left_out)


def bootstrap(function):
    """function(d): differences (n,) -> (low, high), the 2.5 % and 97.5 % quantiles of the means of resampled patients."""

    def no_spread():
        """where all patients differ by the same amount the interval has no width"""
        low, high = _pair(answer(function, np.full(6, 0.25)), "six times 0.25")
        if abs(low - 0.25) > 1e-9 or abs(high - 0.25) > 1e-9:
            raise Wrong(f"on six times 0.25: expected (0.25, 0.25), found ({low:.4g}, {high:.4g}); resample the values, then take their mean")

    def known_interval():
        """the interval agrees with the exact one where that can be computed"""
        from scipy.stats import binom

        d = np.array([0.0] * 30 + [1.0] * 10)  # its resampled mean is binomial: 40 coins of chance 1/4, divided by 40
        expected = binom.ppf((0.025, 0.975), 40, 0.25) / 40
        _near(answer(function, d), expected, 0.026, "30 zeros and 10 ones",
              "draw n patients WITH replacement, take the mean, many times; then the 2.5 % and 97.5 % quantiles of these means")

    def skewed():
        """it is as lopsided as the data"""
        differences = np.array([0.0] * 9 + [1.0])
        _near(answer(function, differences), (0.0, 0.3), 0.01, "nine zeros and a one", "mean +- 1.96 standard errors is another interval")

    def coverage():
        """the width belongs to 95 %, and shrinks with the root of the number of patients"""
        d = np.random.default_rng(1).normal(0.02, 0.05, 100)
        half = 1.96 * d.std() / 10
        _near(answer(function, d), (d.mean() - half, d.mean() + half), 0.12 * half, "100 patients", "the quantiles are 0.025 and 0.975")

    return verify("bootstrap", no_spread, known_interval, skewed, coverage)


def holm(function):
    """function(p): list of p-values -> Holm's corrected ones, in the order given."""

    def one_test():
        """a single p-value stays as it is"""
        _same_list(function, [0.03], [0.03])

    def in_the_order_given():
        """of m p-values the least is multiplied by m, the next by m - 1, and so on, and each stays at its place"""
        _same_list(function, [0.2, 0.001, 0.02], [0.2, 0.003, 0.04], "multiply by m, m - 1, ..., 1 from the least upwards, then undo the sorting")

    def never_falls():
        """a larger p-value never ends below a smaller one"""
        _same_list(function, [0.01, 0.04, 0.03], [0.03, 0.06, 0.06], "go through them in order and keep the highest so far")

    def at_most_one():
        """no p-value is above 1"""
        _same_list(function, [0.7, 0.6, 0.9], [1.0, 1.0, 1.0], "min(1, ...)")

    return verify("holm", one_test, in_the_order_given, never_falls, at_most_one)


def verdict(function):
    """function(low, high, margin) -> "helps", "harms", "too small to matter" or "not known"."""

    def clear():
        """an interval on one side of 0 that reaches beyond the margin: helps, or harms"""
        _same_word(function, (0.03, 0.08, 0.02), "helps")
        _same_word(function, (-0.08, -0.03, 0.02), "harms")

    def wide():
        """an interval that holds 0 and leaves the margin says nothing yet"""
        _same_word(function, (-0.03, 0.08, 0.02), "not known", "no evidence of a difference is no evidence of equality")
        _same_word(function, (-0.05, 0.01, 0.02), "not known", "look at both ends")

    def narrow():
        """an interval inside the margin shows that the difference does not matter"""
        _same_word(function, (-0.01, 0.012, 0.02), "too small to matter")

    def narrow_without_zero():
        """also where it does not hold 0: significant is not the same as important"""
        _same_word(function, (0.004, 0.012, 0.02), "too small to matter", "ask for the margin first")
        _same_word(function, (-0.012, -0.004, 0.02), "too small to matter", "ask for the margin first")

    def beyond_the_margin_in_part():
        """an interval above 0 that crosses the margin still helps: 0 is excluded, and a useful size is possible"""
        _same_word(function, (0.01, 0.05, 0.02), "helps")

    return verify("verdict", clear, wide, narrow, narrow_without_zero, beyond_the_margin_in_part)


def _same_dict(function, pairs, expected, on, hint=""):
    rows = [{"patient": patient, "case": f"{patient}_visit{i}", "dice": dice} for i, (patient, dice) in enumerate(pairs)]
    found = answer(function, rows)
    if not isinstance(found, dict) or set(found) != set(expected):
        raise Wrong(f"on {on}: expected a dict of the patients {sorted(expected)}, found {found}")
    for patient, value in expected.items():
        if not abs(float(found[patient]) - value) < 1e-6:
            raise Wrong(f"on {on}: expected {value:g} for patient {patient}, found {float(found[patient]):.4g}{'; ' + hint if hint else ''}")


def _same_list(function, p, expected, hint=""):
    found = np.asarray(answer(function, list(p)), float)
    if found.shape != (len(p),) or not np.allclose(found, expected, atol=1e-9):
        raise Wrong(f"on {p}: expected {expected}, found {np.round(found, 6).tolist()}{'; ' + hint if hint else ''}")


def _same_word(function, given, expected, hint=""):
    found = answer(function, *given)
    if found != expected:
        raise Wrong(f"on low, high, margin = {given}: expected {expected!r}, found {found!r}{'; ' + hint if hint else ''}")


def _near(found, expected, tolerance, on, hint):
    low, high = _pair(found, on)
    if not (abs(low - expected[0]) <= tolerance and abs(high - expected[1]) <= tolerance):  # NaN fails too
        raise Wrong(f"on {on}: expected about ({expected[0]:.3f}, {expected[1]:.3f}), found ({low:.3f}, {high:.3f}); {hint}")


def _pair(found, on):
    values = np.asarray(found, float)
    if values.shape != (2,):
        raise Wrong(f"on {on}: expected two numbers (low, high), found {found!r}")
    return float(values[0]), float(values[1])
