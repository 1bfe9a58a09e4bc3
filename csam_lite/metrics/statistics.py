"""Is one network better than another? Paired statistics over patients."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from csam_lite.common.tables import finite_mean
from csam_lite.metrics.overlap import UNIONS


def paired_differences(rows: dict[str, list[dict]], reference: str, draws: int = 10_000) -> list[dict]:
    """Rows network, metric, difference (network minus reference), its bootstrap 95 % interval, and p
    (Wilcoxon, Holm's correction).

    rows: {network: rows of `evaluate` with "seed"}. Each patient counts once: their volumes, classes and
    seeds are averaged first. The interval resamples patients; the test is the paired signed-rank test over
    patients, corrected over all rows of one metric.
    """
    from scipy.stats import wilcoxon

    found = []
    for metric in [name for name in rows[reference][0] if name.startswith("dice") or name.endswith("_mm")]:
        base, family = per_patient(rows[reference], metric), []
        for network in rows:
            if network == reference:
                continue
            own = per_patient(rows[network], metric)
            shared = sorted(
                patient for patient in base.keys() & own.keys() if np.isfinite(base[patient] + own[patient])
            )
            d = np.array([own[patient] - base[patient] for patient in shared])
            if not len(d):
                continue
            low, high = bootstrap_interval(d, draws)
            p = float(wilcoxon(d).pvalue) if d.any() else 1.0
            family.append(
                {
                    "network": network,
                    "against": reference,
                    "metric": metric,
                    "patients": len(d),
                    "difference": float(d.mean()),
                    "low": low,
                    "high": high,
                    "p": p,
                }
            )
        for row, p in zip(family, holm([row["p"] for row in family])):
            found.append(row | {"p": p})
    return found


def bootstrap_interval(d: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """(low, high) of a 95 % bootstrap interval of the mean of d (P,), one value for each patient."""
    means = d[np.random.default_rng(0).integers(len(d), size=(draws, len(d)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down procedure (Holm 1979), in the order given."""
    order, corrected, highest = np.argsort(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def per_patient(rows: list[dict], metric: str) -> dict[str, float]:
    """{patient: mean of a metric over classes (not their union), volumes and seeds}; NaN values are left out,
    all NaN gives NaN."""
    values = defaultdict(list)
    for row in rows:
        if row["class"] not in UNIONS:
            values[row["patient"]].append(row[metric])
    return {patient: finite_mean(own) for patient, own in values.items()}


class Estimate(NamedTuple):
    """A mean with its 95 % interval (low, high) and the p-value for a mean of zero; NaN where they cannot be
    known."""

    mean: float
    low: float
    high: float
    p: float


def differences_over_trainings(rows: dict[str, list[dict]], reference: str) -> list[dict]:
    """Differences of each network from the `reference`, with intervals over patients and trainings together.

    rows: {network: rows with "patient", "class", "seed", "fold" and the metrics of `measure`}. The volumes of
    a patient are averaged first, then each class is compared within the same patient, seed and fold. Rows:
    network, reference, metric, patients, trainings, difference (network minus reference), low and high (95 %,
    see `interval_over_trainings`), p (after Holm's correction over the networks), gain (share of the patients
    that do better: a higher Dice, a smaller distance). A metric such as "dice" is the mean over the classes
    that both networks have; "dice RV" is that of one class.
    """
    metrics = [name for name in rows[reference][0] if name.startswith("dice") or name.endswith("_mm")]
    classes = list(dict.fromkeys(row["class"] for row in rows[reference]))
    means = {network: _volume_means(own, metrics) for network, own in rows.items()}
    table = []
    for metric in metrics:
        for label in ["", *classes] if len(classes) > 1 else [""]:
            chosen = [label] if label else [name for name in classes if name not in UNIONS]
            family = []
            for network in rows:
                if network != reference:
                    d, folds = _paired(means[network], means[reference], metric, chosen)
                    if len(d):
                        family.append(
                            _difference_row(network, reference, f"{metric} {label}".strip(), d, folds)
                        )
            corrected = holm([row["p"] for row in family])
            table += [row | {"p": p} for row, p in zip(family, corrected)]
    return table


def interval_over_trainings(d: np.ndarray, folds: np.ndarray) -> Estimate:
    """The mean of differences d (P, T): P patients, each held out by T trainings. folds, numbered from 0, is
    (P,) where a patient's fold is the same every time, and (P, T) where it is drawn anew each time.

    A random effects model: d[p, t] = mean + fold[f] + training[f, t] + patient[p] + rest[p, t]. The luck of a
    training moves all patients of a fold at once, and so does the luck of which patients a fold left for
    training; neither shrinks with more patients. With folds drawn anew, fold and training are one and the
    same luck, of which there are T times as many draws. The variances are estimated by the method of moments
    (negative ones count as 0), and the interval is that of Student's t with degrees of freedom after
    Satterthwaite (Biometrics Bulletin 2, 1946). `coverage` measures how often it holds the truth. With one
    training a fold, or one fold, the luck that cannot be seen there is not in the interval. The sets of
    patients that folds leave for training overlap; the model takes their luck as independent.
    """
    from scipy.stats import t as student

    P = len(d)
    mean, parts = float(d.mean()), (_same_folds if folds.ndim == 1 else _new_folds)(d, folds)
    variance = sum(part for part, _ in parts)
    if P < 2:
        return Estimate(mean, math.nan, math.nan, math.nan)
    if variance <= 0:  # all differences alike
        return Estimate(mean, mean, mean, 0.0 if mean else 1.0)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts if part)
    half = float(student.ppf(0.975, freedom) * variance**0.5)
    return Estimate(mean, mean - half, mean + half, float(2 * student.sf(abs(mean) / variance**0.5, freedom)))


def _same_folds(d: np.ndarray, folds: np.ndarray) -> list[tuple[float, int]]:
    """Parts of the variance of the mean, each with its degrees of freedom, where folds (P,) stay the same."""
    P, T = d.shape
    counts = np.bincount(folds)
    F, harmonic, weight = len(counts), len(counts) / (1 / counts).sum(), ((counts / P) ** 2).sum()
    patient = d.mean(1)
    cell = np.stack([d[folds == f].mean(0) for f in range(F)])  # (F, T): one training each
    fold = cell.mean(1)
    within = _share(((patient - fold[folds]) ** 2).sum(), P - F)  # patients and rest / T
    rest = _share(((d - patient[:, None] - cell[folds] + fold[folds][:, None]) ** 2).sum(), (P - F) * (T - 1))
    training = max(0.0, _share(((cell - fold[:, None]) ** 2).sum(), F * (T - 1)) - rest / harmonic)
    between = max(0.0, _share(((fold - fold.mean()) ** 2).sum(), F - 1) - training / T - within / harmonic)
    return [(within / P, P - F), (training * weight / T, F * (T - 1)), (between * weight, F - 1)]


def _new_folds(d: np.ndarray, folds: np.ndarray) -> list[tuple[float, int]]:
    """The same where folds (P, T) are drawn anew each time: each set of patients left by a fold is used for
    one training."""
    P, T = d.shape
    place, training = np.unique(folds + np.arange(T) * P, return_inverse=True)  # a number for each training
    training, time, N = training.reshape(P, T), place // P, len(place)
    counts = np.bincount(training.ravel())
    cell = np.bincount(training.ravel(), d.ravel()) / counts  # (N,): one training each
    of_time = np.bincount(time, cell) / np.bincount(time)
    weight = ((counts / d.size) ** 2).sum()  # 1 / N with folds of equal size
    rest = _share(((d - cell[training]) ** 2).sum(), P * T - N)  # of patients, and of them between trainings
    luck = max(0.0, _share(((cell - of_time[time]) ** 2).sum(), N - T) - rest * (1 / counts).mean())
    patient = _share(((d.mean(1) - d.mean()) ** 2).sum(), P - 1)  # holds a share of the luck, too
    within = max(0.0, patient - luck * (1 / T - weight) * P / (P - 1)) if P > 1 else 0.0
    return [(within / P, P - 1), (luck * weight, N - T)]


def _share(squares: float, degrees: int) -> float:
    """A mean square; 0 where there are no degrees of freedom to estimate it."""
    return float(squares) / degrees if degrees else 0.0


def _volume_means(rows: list[dict], metrics: list[str]) -> dict[tuple, dict]:
    """{(patient, fold, seed, class): {metric: mean over the patient's volumes}}."""
    volumes = defaultdict(list)
    for row in rows:
        volumes[row["patient"], row["fold"], row["seed"], row["class"]].append(row)
    return {
        key: {metric: finite_mean(row[metric] for row in own) for metric in metrics}
        for key, own in volumes.items()
    }


def _paired(means: dict, base: dict, metric: str, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Differences (P, T), mean over `classes`, of the patients that have a finite one in each training that
    held them out, and folds as `interval_over_trainings` takes them."""
    seeds = sorted({seed for _, _, seed, _ in base})
    fold_of = {(patient, seed): fold for patient, fold, seed, _ in base}
    d, folds = [], []
    for patient in dict.fromkeys(patient for patient, _ in fold_of):
        own_folds = [fold_of.get((patient, seed), -1) for seed in seeds]
        keys = [[(patient, fold, seed, label) for label in classes] for fold, seed in zip(own_folds, seeds)]
        own = [
            finite_mean(
                means[key][metric] - base[key][metric] for key in trained if key in means and key in base
            )
            for trained in keys
        ]
        if np.isfinite(own).all():
            d.append(own)
            folds.append(own_folds)
    numbers = np.unique(folds, return_inverse=True)[1].reshape(np.shape(folds))
    same = len(d) > 0 and (numbers == numbers[:, :1]).all()
    return np.array(d), numbers[:, 0] if same else numbers


def _difference_row(network: str, reference: str, metric: str, d: np.ndarray, folds: np.ndarray) -> dict:
    estimate, patient = interval_over_trainings(d, folds), d.mean(1)
    better = patient < 0 if "_mm" in metric else patient > 0
    return {
        "network": network,
        "reference": reference,
        "metric": metric,
        "patients": len(d),
        "trainings": d.shape[1] * len(np.unique(folds)),
        "difference": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "p": estimate.p,
        "gain": float(better.mean()),
    }
