"""Checks of 08_does_it_help: the mean of each patient, the bootstrap, Holm's correction, the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from csam_lite.course.checks import Wrong, answer, numpy_generator, shuffled, verify


def per_patient(function: Callable) -> bool | None:
    """function(rows): dicts with "patient", "case" and "dice" -> {patient: mean Dice without NaN}."""

    def one_volume_each() -> None:
        """where each patient has one volume, each keeps its Dice"""
        _same_dict(function, [("a", 0.5), ("b", 0.7)], {"a": 0.5, "b": 0.7}, "two patients of one volume")
        drawn = dict(zip("cde", numpy_generator(0).random(3).round(3).tolist()))
        _same_dict(function, list(drawn.items()), drawn, "three patients of one volume")

    def volumes_are_averaged() -> None:
        """the volumes of a patient are averaged, in any order of the rows"""
        _same_dict(function, [("a", 0.9), ("b", 0.2), ("a", 0.3), ("a", 0.3)], {"a": 0.5, "b": 0.2},
                   "a: 0.9, 0.3, 0.3 and b: 0.2", "all volumes of a patient have the same weight")

    def missing_values_are_left_out() -> None:
        """a NaN (a class that is in neither mask) is left out; it is not 0, and the mean is not NaN"""
        _same_dict(function, [("a", 0.8), ("a", math.nan), ("b", 0.4)], {"a": 0.8, "b": 0.4},
                   "a: 0.8, NaN and b: 0.4", "numpy has nanmean")

    return verify("per_patient", one_volume_each, volumes_are_averaged, missing_values_are_left_out)


def bootstrap(function: Callable) -> bool | None:
    """function(d): differences (n,) -> (low, high), the 2.5 % and 97.5 % quantiles of the resampled means."""

    def no_spread() -> None:
        """where all patients have the same difference, the interval has no width"""
        low, high = _pair(answer(function, np.full(6, 0.25)), "six times 0.25")
        if abs(low - 0.25) > 1e-9 or abs(high - 0.25) > 1e-9:
            raise Wrong(f"on six times 0.25: expected (0.25, 0.25), found ({low:.4g}, {high:.4g}); "
                        "resample the values, then take their mean")

    def known_interval() -> None:
        """the interval agrees with the exact interval where that can be computed"""
        from scipy.stats import binom

        d = np.array([0.0] * 30 + [1.0] * 10)  # 40 times the resampled mean is binomial: 40 draws, chance 1/4
        expected = binom.ppf((0.025, 0.975), 40, 0.25) / 40
        _near(answer(function, d), expected, 0.026, "30 zeros and 10 ones",
              "draw n patients WITH replacement and take the mean, many times; then take the 2.5 % and "
              "97.5 % quantiles of these means")

    def skewed() -> None:
        """the interval is as lopsided as the data"""
        differences = np.array([0.0] * 9 + [1.0])
        _near(answer(function, differences), (0.0, 0.3), 0.01, "nine zeros and a one",
              "the mean +- 1.96 standard errors is another interval")

    def coverage() -> None:
        """the width is that of 95 %, and it shrinks with the root of the number of patients"""
        d = numpy_generator(1).normal(0.02, 0.05, 100)
        half = 1.96 * d.std() / 10
        _near(answer(function, d), (d.mean() - half, d.mean() + half), 0.12 * half, "100 patients",
              "the quantiles are 0.025 and 0.975")

    return verify("bootstrap", no_spread, known_interval, skewed, coverage)


def holm(function: Callable) -> bool | None:
    """function(p): list of p-values -> Holm's corrected p-values, in the same order."""

    def one_test() -> None:
        """a single p-value stays as it is"""
        _same_list(function, [0.03], [0.03])

    def in_the_order_given() -> None:
        """the smallest of m p-values is multiplied by m, the next by m - 1, ...; each keeps its place"""
        _same_list(function, [0.2, 0.001, 0.02], [0.2, 0.003, 0.04],
                   "multiply by m, m - 1, ..., 1 from the smallest upwards, then undo the sorting")
        generator = numpy_generator(2)
        rising = [round(0.02 * 3**k * generator.uniform(0.5, 0.6), 5) for k in range(4)]  # far apart
        order = generator.permutation(4)
        _same_list(function, [rising[k] for k in order], [rising[k] * (4 - k) for k in order],
                   "multiply by m, m - 1, ..., 1 from the smallest upwards, then undo the sorting")

    def never_falls() -> None:
        """a larger p-value never gets a smaller result than a smaller p-value"""
        _same_list(function, [0.01, 0.04, 0.03], [0.03, 0.06, 0.06],
                   "go through the sorted values and keep the highest so far")

    def at_most_one() -> None:
        """no result is above 1"""
        _same_list(function, [0.7, 0.6, 0.9], [1.0, 1.0, 1.0], "min(1, ...)")

    return verify("holm", one_test, in_the_order_given, never_falls, at_most_one)


def verdict(function: Callable) -> bool | None:
    """function(low, high, margin) -> "helps", "harms", "too small to matter" or "not known"."""

    def clear() -> None:
        """an interval on one side of 0 that reaches beyond the margin means helps, or harms"""
        _same_word(function, (0.03, 0.08, 0.02), "helps")
        _same_word(function, (-0.08, -0.03, 0.02), "harms")

    def wide() -> None:
        """an interval that contains 0 and reaches beyond the margin means not known"""
        _same_word(function, (-0.03, 0.08, 0.02), "not known",
                   "no evidence of a difference is no evidence of equality")
        _same_word(function, (-0.05, 0.01, 0.02), "not known", "look at both ends")

    def narrow() -> None:
        """an interval inside the margin means too small to matter"""
        _same_word(function, (-0.01, 0.012, 0.02), "too small to matter")

    def narrow_without_zero() -> None:
        """so does such an interval without 0, because significant is not the same as important"""
        _same_word(function, (0.004, 0.012, 0.02), "too small to matter", "ask for the margin first")
        _same_word(function, (-0.012, -0.004, 0.02), "too small to matter", "ask for the margin first")

    def beyond_the_margin_in_part() -> None:
        """an interval above 0 that crosses the margin means helps, because 0 is excluded"""
        _same_word(function, (0.01, 0.05, 0.02), "helps")

    trials = clear, wide, narrow, narrow_without_zero, beyond_the_margin_in_part
    return verify("verdict", *shuffled(trials, 4))


def _same_dict(function: Callable, pairs: list[tuple[str, float]], expected: dict[str, float], on: str,
               hint: str = "") -> None:
    rows = [{"patient": patient, "case": f"{patient}_visit{number}", "dice": dice}
            for number, (patient, dice) in enumerate(pairs)]
    means = answer(function, rows)
    if not isinstance(means, dict) or set(means) != set(expected):
        raise Wrong(f"on {on}: expected a dict of the patients {sorted(expected)}, found {means}")
    for patient, value in expected.items():
        if not abs(float(means[patient]) - value) < 1e-6:
            raise Wrong(f"on {on}: expected {value:g} for patient {patient}, found "
                        f"{float(means[patient]):.4g}"
                        + _hint(hint))


def _same_list(function: Callable, p: list[float], expected: list[float], hint: str = "") -> None:
    corrected = np.asarray(answer(function, list(p)), float)
    if corrected.shape != (len(p),) or not np.allclose(corrected, expected, atol=1e-9):
        raise Wrong(f"on {p}: expected {expected}, found {np.round(corrected, 6).tolist()}" + _hint(hint))


def _same_word(function: Callable, given: tuple[float, float, float], expected: str, hint: str = "") -> None:
    scale = numpy_generator(3).uniform(0.5, 2)  # the answer is the same in any unit
    scaled = tuple(round(float(scale) * number, 6) for number in given)
    for numbers in (given, scaled):
        _same_answer(function, numbers, expected, hint)


def _same_answer(function: Callable, given: tuple[float, ...], expected: str, hint: str) -> None:
    word = answer(function, *given)
    if word != expected:
        raise Wrong(f"on low, high, margin = {given}: expected {expected!r}, found {word!r}" + _hint(hint))


def _near(interval: object, expected: Sequence[float], tolerance: float, on: str, hint: str) -> None:
    low, high = _pair(interval, on)
    if not (abs(low - expected[0]) <= tolerance and abs(high - expected[1]) <= tolerance):  # NaN fails too
        raise Wrong(f"on {on}: expected about ({expected[0]:.3f}, {expected[1]:.3f}), "
                    f"found ({low:.3f}, {high:.3f}); {hint}")


def _pair(interval: object, on: str) -> tuple[float, float]:
    values = np.asarray(interval, float)
    if values.shape != (2,):
        raise Wrong(f"on {on}: expected two numbers (low, high), found {interval!r}")
    return float(values[0]), float(values[1])


def _hint(hint: str) -> str:
    return f"; {hint}" if hint else ""
