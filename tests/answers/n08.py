"""Answers to the exercises of 08_does_it_help: wrong ones to reject, unusual right ones to accept."""

from collections import defaultdict

import numpy as np

from csam_lite.metrics.statistics import holm


def _mean_of_all(rows):
    return dict.fromkeys({row["patient"] for row in rows}, float(np.nanmean([row["dice"] for row in rows])))


def _running(rows):
    means = {}
    for row in rows:
        before = means.get(row["patient"], row["dice"])
        means[row["patient"]] = (before + row["dice"]) / 2
    return means


def _gather(rows):
    values = defaultdict(list)
    for row in rows:
        values[row["patient"]].append(row["dice"])
    return values


def _each(rows, function):
    return {patient: function(values) for patient, values in _gather(rows).items()}


def _sums(rows):
    sums = {}
    for row in rows:
        if row["dice"] == row["dice"]:
            total, number = sums.get(row["patient"], (0.0, 0))
            sums[row["patient"]] = (total + row["dice"], number + 1)
    return {patient: total / number for patient, (total, number) in sums.items()}


def _means(d, draws=4000, size=None, replace=True):
    rng = np.random.default_rng(0)
    return np.array([rng.choice(d, size or len(d), replace=replace).mean() for _ in range(draws)])


def _numpy(d):
    drawn = np.random.default_rng(0).integers(len(d), size=(4000, len(d)))
    return np.quantile(d[drawn].mean(1), (0.025, 0.975))


def _by_loop(d):
    means = sorted(np.random.choice(d, len(d)).mean() for _ in range(4000))
    return means[100], means[3899]


def _quantiles(values, part=0.05):
    return np.quantile(values, (part / 2, 1 - part / 2))


def _normal(d):
    half = 1.96 * d.std() / len(d) ** 0.5
    return d.mean() - half, d.mean() + half


def _scipy(d):
    from scipy.stats import bootstrap

    rng = np.random.default_rng(1)
    return bootstrap((d,), np.mean, n_resamples=4000, method="percentile", rng=rng).confidence_interval


def _scipy_default(d):
    from scipy.stats import bootstrap

    return bootstrap((d,), np.mean, n_resamples=4000).confidence_interval if np.ptp(d) else (d[0], d[0])


def _torch(d):
    import torch

    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(d), (4000, len(d)), generator=generator)
    means = torch.as_tensor(d)[drawn].mean(1).sort().values
    return [means[100], means[3899]]


def _step_down(p, monotone=True, cap=True):
    corrected, highest = [0.0] * len(p), 0.0
    for rank, index in enumerate(np.argsort(p)):
        value = (len(p) - rank) * p[index]
        highest = max(highest, value) if monotone else value
        corrected[index] = min(1, highest) if cap else highest
    return corrected


def _array(p):
    order = np.argsort(p)
    corrected = np.zeros(len(p))
    corrected[order] = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def _sorted_in_place(p):
    p.sort()
    return [0.0] * len(p)


def _neighbour_only(p):
    order = np.argsort(p)
    products = [(len(p) - rank) * p[index] for rank, index in enumerate(order)]
    corrected = [0.0] * len(p)
    for rank, index in enumerate(order):
        corrected[index] = min(1.0, max(products[max(rank - 1, 0):rank + 1]))
    return corrected


def _by_value(p):
    corrected, highest = [0.0] * len(p), 0.0
    for rank, value in enumerate(sorted(p)):
        highest = max(highest, (len(p) - rank) * value)
        corrected[p.index(value)] = min(1.0, highest)
    return corrected


def _by_definition(p):
    return [min(1.0, max(sum(r >= q for r in p) * q for q in p if q <= value)) for value in p]


def _benjamini_hochberg(p):
    from scipy.stats import false_discovery_control

    return false_discovery_control(p)


def _zero_first(low, high, margin):
    if low > 0 or high < 0:
        return "helps" if low > 0 else "harms"
    return "too small to matter" if -margin < low and high < margin else "not known"


def _accepts_the_null(low, high, margin):
    return "helps" if low > 0 else "harms" if high < 0 else "too small to matter"


def _by_mean(low, high, margin):
    middle = (low + high) / 2
    return "too small to matter" if abs(middle) < margin else "helps" if middle > 0 else "harms"


def _middle_inside(low, high, margin):
    if abs((low + high) / 2) < margin:
        return "too small to matter"
    return "helps" if low > 0 else "harms" if high < 0 else "not known"


def _demands_margin(low, high, margin):
    if -margin < low and high < margin:
        return "too small to matter"
    return "helps" if low > margin else "harms" if high < -margin else "not known"


def _right(low, high, margin):
    if max(abs(low), abs(high)) < margin:
        return "too small to matter"
    return "helps" if low > 0 else "harms" if high < 0 else "not known"


def _right_other(low, high, margin):
    words = {(True, False): "helps", (False, True): "harms"}
    if -margin < low <= high < margin:
        return "too small to matter"
    return words.get((low > 0, high < 0), "not known")


WRONG = {
    "per_patient": {
        "every patient gets the mean of all": _mean_of_all,
        "the last volume wins": lambda rows: {row["patient"]: row["dice"] for row in rows},
        "keyed by volume": lambda rows: {row["case"]: row["dice"] for row in rows},
        "running halves": _running,
        "NaN passed on": lambda rows: _each(rows, np.mean),
        "NaN counted as 0": lambda rows: _each(rows, lambda values: np.mean(np.nan_to_num(values))),
        "0 left out": lambda rows: _each(rows, lambda dice: np.mean([value for value in dice if value > 0] or [0.5])),
        "falsy values left out": lambda rows: _each(rows, lambda dice: np.nanmean([value for value in dice if value] or [1])),
        "median": lambda rows: _each(rows, np.nanmedian),
        "rounded": lambda rows: _each(rows, lambda dice: round(float(np.nanmean(dice)), 3)),
        "a sum": lambda rows: _each(rows, np.nansum),
        "takes the rows out": lambda rows: _each([rows.pop() for _ in range(len(rows))], np.nanmean),
        "writes into the rows": lambda rows: _each([row for row in rows if row.update(case="") is None], np.nanmean),
        "raises": lambda rows: rows["patient"],
    },
    "bootstrap": {
        "quantiles of the data": lambda d: _quantiles(d),
        "sorts the differences": lambda d: d.sort() or _quantiles(_means(d)),
        "leaves out the last patient": lambda d: _quantiles(_means(d[:-1], size=len(d))),
        "without replacement": lambda d: _quantiles(_means(d, replace=False)),
        "90 %": lambda d: _quantiles(_means(d), 0.1),
        "normal interval": _normal,
        "upside down": lambda d: _quantiles(_means(d))[::-1],
        "half as many patients a draw": lambda d: _quantiles(_means(d, size=max(len(d) // 2, 1))),
        "least and greatest": lambda d: (_means(d).min(), _means(d).max()),
        "500 draws": lambda d: _quantiles(np.random.choice(d, (500, len(d))).mean(1)),
        "100 draws": lambda d: _quantiles(np.random.choice(d, (100, len(d))).mean(1)),
        "quantiles 0.02 and 0.98": lambda d: _quantiles(_means(d), 0.04),
        "one quantile wrong": lambda d: np.quantile(_means(d), (0.025, 0.95)),
        "bias-corrected, as SciPy does by default": _scipy_default,
        "one number": lambda d: float(d.mean()),
    },
    "holm": {
        "Bonferroni": lambda p: [min(1, len(p) * value) for value in p],
        "may fall": lambda p: _step_down(p, monotone=False),
        "above 1": lambda p: _step_down(p, cap=False),
        "sorted": lambda p: sorted(_step_down(p)),
        "unchanged": lambda p: p,
        "sorts the list": _sorted_in_place,
        "compared with the neighbour only": _neighbour_only,
        "places by value": _by_value,
        "false discovery rate": _benjamini_hochberg,
    },
    "verdict": {
        "asks for 0 first": _zero_first,
        "takes no evidence for equality": _accepts_the_null,
        "looks at the middle only": _by_mean,
        "wants all beyond the margin": _demands_margin,
        "the middle inside the margin": _middle_inside,
        "a narrow interval is small": lambda low, high, margin: (
            "too small to matter" if high - low < 2 * margin else _right(low, high, margin)),
        "the margin is 0.02": lambda low, high, margin: _right(low, high, 0.02),
        "harms beyond the margin only": lambda low, high, margin: (
            "not known" if -margin <= low < high < 0 and low > -margin - 0.03 else _right(low, high, margin)),
        "the margin itself is inside": lambda low, high, margin: (
            "too small to matter" if max(abs(low), abs(high)) <= margin else _right(low, high, margin)),
        "0 is above 0": lambda low, high, margin: "helps" if low == 0 else _right(low, high, margin),
        "always helps": lambda low, high, margin: "helps",
    },
}
RIGHT = {
    "per_patient": {"nanmean": lambda rows: _each(rows, np.nanmean), "sums": _sums},
    "bootstrap": {"numpy": _numpy, "loop": _by_loop, "scipy": _scipy, "torch": _torch},
    "holm": {"the library": holm, "by definition": _by_definition,
             "array": _array, "generator": lambda p: (value for value in holm(p))},
    "verdict": {"low first": _right, "another order": _right_other},
}

EQUIVALENT = {
    "per_patient": {"«(0, 0.0)»": "whole numbers or floats"},
    "bootstrap": {
        "default_rng(«": "every seed will do",
        "«torch.Generator()»": "every generator will do",
        "manual_seed(«": "every seed will do",
        "«torch.randint(len(d), (4000, len(d)))»": "every generator will do",
        "«4001»": "4000 draws or more or one less",
        "«3999»": "4000 draws or more or one less",
        "«list(range(4000))[": "4000 draws or more or one less",
        "method='percentile', rng=rng)»": "SciPy draws 9999 times by default",
        "n_resamples=4000, method='percentile')»": "every generator will do",
        "detach()": "the text asks for no gradient",
        "mean(«-1»)": "axis 1 of two is the last one",
        "means[«": "the neighbour of one of 4000 sorted means",
    },
    "holm": {
        "«min(max(": "min does not depend on the order",
        "«np.ones(len(p))»": "every number is overwritten",
        "len(«order»)": "as many as there are p-values",
        "len(«corrected»)": "as many as there are p-values",
    },
    "verdict": {
        "«max(abs(high), abs(low))»": "max does not depend on the order",
        "abs(low), «high»": "low is not above high, so that -high > margin means abs(low) > margin",
    },
}
