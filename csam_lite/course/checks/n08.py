"""Checks of 08_does_it_help: the mean of each patient, the bootstrap, Holm's correction, the verdict."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from csam_lite.course.checks import (
    Wrong,
    answer,
    exercise,
    number,
    numbers,
    numpy_generator,
    seed_of,
    shuffled,
    states,
    verify,
)


@exercise
def per_patient(function: Callable) -> bool | None:
    """function(rows): dicts with "patient", "case" and "dice" -> {patient: mean Dice without NaN}."""

    @states("Where each patient has one volume, each keeps its Dice")
    def one_volume_each() -> None:
        _same_dict(
            function, [("anna", 0.5), ("ben", 0.7)], {"anna": 0.5, "ben": 0.7}, "two patients of one volume"
        )
        drawn = dict(zip(("carl", "dora", "emil"), numpy_generator(0).random(3).round(3).tolist()))
        _same_dict(function, list(drawn.items()), drawn, "three patients of one volume")

    @states("The volumes of a patient are averaged, in any order of the rows")
    def volumes_are_averaged() -> None:
        _same_dict(
            function,
            [("anna", 0.9), ("ben", 0.2), ("anna", 0.3), ("anna", 0.3)],
            {"anna": 0.5, "ben": 0.2},
            "anna: 0.9, 0.3, 0.3 and ben: 0.2",
            "all volumes of a patient have the same weight",
        )
        hint = "do not round the mean"
        rows = [("anna", 0.7), ("anna", 0.2), ("anna", 0.2)]
        _same_dict(function, rows, {"anna": 1.1 / 3}, "anna: 0.7, 0.2, 0.2", hint)

    @states("A NaN (a class that is in neither mask) is left out; it is not 0, and the mean is not NaN")
    def missing_values_are_left_out() -> None:
        _same_dict(
            function,
            [("anna", 0.8), ("anna", math.nan), ("ben", math.nan), ("ben", 0.4)],
            {"anna": 0.8, "ben": 0.4},
            "anna: 0.8, NaN and ben: NaN, 0.4",
            "numpy has nanmean",
        )

    @states("A Dice of 0 (a class that the network never finds) counts as 0")
    def zeros_count() -> None:
        _same_dict(
            function,
            [("anna", 0.8), ("anna", 0.0), ("ben", 0.0)],
            {"anna": 0.4, "ben": 0.0},
            "anna: 0.8, 0 and ben: 0",
            "`if dice` and `if dice > 0` drop a 0 too; ask for NaN",
        )

    return verify(
        "per_patient", one_volume_each, volumes_are_averaged, missing_values_are_left_out, zeros_count
    )


@exercise
def bootstrap(function: Callable) -> bool | None:
    """function(d): differences (n,) -> (low, high), the 2.5 % and 97.5 % quantiles of the resampled means."""

    @states("Where all patients have the same difference, the interval has no width")
    def no_spread() -> None:
        low, high = _pair(answer(function, np.full(6, 0.25)), "six times 0.25")
        if abs(low - 0.25) > 1e-9 or abs(high - 0.25) > 1e-9:
            raise Wrong(
                f"on six times 0.25: expected (0.25, 0.25), found ({low:.4g}, {high:.4g}); "
                "resample the values, then take their mean"
            )

    @states("The interval agrees with the exact interval where that can be computed")
    def known_interval() -> None:
        from scipy.stats import binom

        d = np.array([0.0] * 30 + [1.0] * 10)  # 40 times the resampled mean is binomial: 40 draws, chance 1/4
        expected = binom.ppf((0.025, 0.975), 40, 0.25) / 40
        _near(
            answer(function, d),
            expected,
            0.026,
            "30 zeros and 10 ones",
            "draw n patients WITH replacement and take the mean, many times; then take the 2.5 % and "
            "97.5 % quantiles of these means",
        )

    @states("The interval is as lopsided as the data")
    def skewed() -> None:
        differences = np.array([0.0] * 9 + [1.0])
        _near(
            answer(function, differences),
            (0.0, 0.3),
            0.01,
            "nine zeros and a one",
            "the interval holds the quantiles of the resampled means themselves (scipy calls this method "
            '"percentile"; its default, and the mean +- 1.96 standard errors, are other intervals)',
        )

    @states("The width is that of 95 %, and it shrinks with the root of the number of patients")
    def coverage() -> None:
        d = numpy_generator(1).normal(0.02, 0.05, 100)
        half = 1.96 * d.std() / 10
        _near(
            answer(function, d),
            (d.mean() - half, d.mean() + half),
            0.12 * half,
            "100 patients",
            "the quantiles are 0.025 and 0.975",
        )

    @states("The ends are the quantiles 0.025 and 0.975 of many resampled means")
    def quantiles() -> None:
        errors = []  # of both ends, in standard deviations of the means
        for d, expected, deviation in _groups(seed_of(25)):
            found = _pair(answer(function, d.copy()), f"{len(d)} patients")
            errors.append((found - expected) / deviation)
        for end, quantile, error in zip(("low", "high"), (0.025, 0.975), np.mean(errors, 0)):
            if not abs(error) < 0.048:  # 4000 draws let this mean vary by 0.008
                raise Wrong(
                    f"on 36 groups of patients: the {end} ends are {error:+.3f} standard deviations of the "
                    f"means off; is it the quantile {quantile}?"
                )
        if not np.square(errors).mean() ** 0.5 < 0.075:  # 0.05 with 4000 draws, 0.09 with 1000
            raise Wrong(
                "on 36 groups of patients: the ends vary by chance, or a patient is never drawn; draw 4000 "
                "times or more, and from all patients"
            )

    return verify("bootstrap", no_spread, known_interval, skewed, coverage, quantiles)


@functools.cache
def _groups(seed: int) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """36 groups of 25 to 60 patients: differences, the interval of their means, their standard deviation."""
    groups = []
    for n in range(25, 61):
        generator = np.random.default_rng(seed + n)
        d = generator.normal(0.01, 0.03, n)
        means = d[generator.integers(n, size=(10_000, n))].mean(1)
        groups.append((d, np.quantile(means, (0.025, 0.975)), means.std()))
    return groups


@exercise
def holm(function: Callable) -> bool | None:
    """function(p): list of p-values -> Holm's corrected p-values, in the same order."""

    @states("A single p-value stays as it is")
    def one_test() -> None:
        _same_list(function, [0.03], [0.03])

    @states("The smallest of m p-values is multiplied by m, the next by m - 1, ...; each keeps its place")
    def in_the_order_given() -> None:
        _same_list(
            function,
            [0.2, 0.001, 0.02],
            [0.2, 0.003, 0.04],
            "multiply by m, m - 1, ..., 1 from the smallest upwards, then undo the sorting",
        )
        generator = numpy_generator(2)
        rising = [round(0.02 * 3**k * generator.uniform(0.5, 0.6), 5) for k in range(4)]  # far apart
        order = generator.permutation(4)
        _same_list(
            function,
            [rising[k] for k in order],
            [rising[k] * (4 - k) for k in order],
            "multiply by m, m - 1, ..., 1 from the smallest upwards, then undo the sorting",
        )

    @states("A larger p-value never gets a smaller result than a smaller p-value")
    def never_falls() -> None:
        _same_list(
            function,
            [0.01, 0.04, 0.03],
            [0.03, 0.06, 0.06],
            "go through the sorted values and keep the highest so far",
        )

    @states("No result is above 1")
    def at_most_one() -> None:
        _same_list(function, [0.7, 0.6, 0.9], [1.0, 1.0, 1.0], "min(1, ...)")

    @states("A result is never below any smaller p-value's result, not only below that of its neighbour")
    def falls_for_long() -> None:
        _same_list(
            function,
            [0.02, 0.021, 0.022, 0.023],
            [0.08, 0.08, 0.08, 0.08],
            "compare with the highest result so far, not with the last product",
        )

    @states("Equal p-values get equal results")
    def ties() -> None:
        hint = "p.index(value) finds the first of two equal values only; use places, not values"
        _same_list(function, [0.02, 0.02, 0.5], [0.06, 0.06, 0.5], hint)
        _same_list(function, [0.3, 0.01, 0.3, 0.01], [0.6, 0.04, 0.6, 0.04], hint)

    @states("The list of p-values stays as it was")
    def untouched() -> None:
        p = [0.2, 0.001, 0.02]
        answer(function, p)
        if p != [0.2, 0.001, 0.02]:
            raise Wrong(f"on [0.2, 0.001, 0.02]: your function changed the list to {p}; work on a copy")

    return verify(
        "holm", one_test, in_the_order_given, never_falls, falls_for_long, ties, at_most_one, untouched
    )


@exercise
def verdict(function: Callable) -> bool | None:
    """function(low, high, margin) -> "helps", "harms", "too small to matter" or "not known"."""

    @states("An interval on one side of 0 that reaches beyond the margin means helps, or harms")
    def clear() -> None:
        _same_word(function, (0.03, 0.08, 0.02), "helps")
        _same_word(function, (-0.08, -0.03, 0.02), "harms")

    @states("An interval that contains 0 and reaches beyond the margin means not known")
    def wide() -> None:
        _same_word(
            function,
            (-0.03, 0.08, 0.02),
            "not known",
            "no evidence of a difference is no evidence of equality",
        )
        _same_word(function, (-0.05, 0.01, 0.02), "not known", "look at both ends")

    @states("An interval inside the margin means too small to matter")
    def narrow() -> None:
        _same_word(function, (-0.01, 0.012, 0.02), "too small to matter")

    @states("So does such an interval without 0, because significant is not the same as important")
    def narrow_without_zero() -> None:
        _same_word(function, (0.004, 0.012, 0.02), "too small to matter", "ask for the margin first")
        _same_word(function, (-0.012, -0.004, 0.02), "too small to matter", "ask for the margin first")

    @states("An interval above 0 that crosses the margin means helps, because 0 is excluded")
    def beyond_the_margin_in_part() -> None:
        _same_word(function, (0.01, 0.05, 0.02), "helps")

        _same_word(function, (-0.05, -0.01, 0.02), "harms")
        _same_word(
            function, (0.05, 0.06, 0.055), "helps", "the width of the interval does not count, its ends do"
        )

    @states("An interval whose middle is 0 means not known, if it reaches beyond the margin")
    def symmetric() -> None:
        _same_word(function, (-0.1, 0.1, 0.02), "not known", "look at both ends, not at the mean")
        _same_word(function, (-0.03, 0.03, 0.02), "not known", "look at both ends, not at the mean")

    @states("The margin is the one that is given, and an end on the margin is not inside")
    def margin() -> None:
        _same_word(function, (-0.01, 0.04, 0.05), "too small to matter", "is 0.02 written into your code?")
        _same_word(function, (-0.01, 0.04, 0.03), "not known", "is 0.02 written into your code?")
        _same_word(function, (-0.0199, 0.0199, 0.02), "too small to matter")
        for ends in ((-0.0201, 0.0199), (-0.0199, 0.0201), (-0.02, 0.01), (-0.01, 0.02)):
            _same_word(
                function,
                (*ends, 0.02),
                "not known",
                "both ends lie inside (-margin, margin), or it is not small",
            )

    @states("An interval that ends at 0 is neither above nor below 0")
    def zero() -> None:
        _same_word(function, (0.0, 0.05, 0.02), "not known", "above 0 means low > 0")
        _same_word(function, (-0.05, 0.0, 0.02), "not known", "below 0 means high < 0")

    @states("An interval without width counts like any other")
    def point() -> None:
        _same_word(function, (0.01, 0.01, 0.02), "too small to matter")
        _same_word(function, (0.03, 0.03, 0.02), "helps")

    trials = clear, wide, narrow, narrow_without_zero, beyond_the_margin_in_part
    return verify("verdict", *shuffled((*trials, symmetric, margin, zero, point), 4))


def _same_dict(
    function: Callable, pairs: list[tuple[str, float]], expected: dict[str, float], on: str, hint: str = ""
) -> None:
    rows = [
        {"patient": patient, "case": f"{patient}_visit{number}", "dice": dice}
        for number, (patient, dice) in enumerate(pairs)
    ]
    means = answer(function, rows)
    if not isinstance(means, dict) or set(means) != set(expected):
        raise Wrong(f"on {on}: expected a dict of the patients {sorted(expected)}, found {means}")
    for patient, value in expected.items():
        if not abs((mean := number(means[patient], on)) - value) < 1e-6:
            found = f"expected {value:.6g} for patient {patient}, found {mean:.6g}"
            raise Wrong(f"on {on}: {found}" + _hint(hint))


def _same_list(function: Callable, p: list[float], expected: list[float], hint: str = "") -> None:
    corrected = numbers(answer(function, list(p)), str(p)).numpy()
    if corrected.shape != (len(p),) or not np.allclose(corrected, expected, atol=1e-9):
        raise Wrong(f"on {p}: expected {expected}, found {np.round(corrected, 6).tolist()}" + _hint(hint))


def _same_word(function: Callable, given: tuple[float, float, float], expected: str, hint: str = "") -> None:
    scale = numpy_generator(3).uniform(0.5, 2)  # the answer is the same in any unit
    scaled = tuple(round(float(scale) * value, 6) for value in given)
    for values in (given, scaled):
        _same_answer(function, values, expected, hint)


def _same_answer(function: Callable, given: tuple[float, ...], expected: str, hint: str) -> None:
    word = answer(function, *given)
    if word != expected:
        raise Wrong(f"on low, high, margin = {given}: expected {expected!r}, found {word!r}" + _hint(hint))


def _near(interval: object, expected: Sequence[float], tolerance: float, on: str, hint: str) -> None:
    low, high = _pair(interval, on)
    if not (abs(low - expected[0]) <= tolerance and abs(high - expected[1]) <= tolerance):  # NaN fails too
        raise Wrong(
            f"on {on}: expected about ({expected[0]:.3f}, {expected[1]:.3f}), "
            f"found ({low:.3f}, {high:.3f}); {hint}"
        )


def _pair(interval: object, on: str) -> np.ndarray:
    """The ends (low, high) of an interval."""
    values = numbers(interval, on).numpy()
    if values.shape != (2,):
        raise Wrong(f"on {on}: expected two numbers (low, high), found the shape {values.shape}")
    return values


def _hint(hint: str) -> str:
    return f"; {hint}" if hint else ""
