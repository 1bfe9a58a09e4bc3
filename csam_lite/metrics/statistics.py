"""Is one network better than another? Paired statistics over patients."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from csam_lite.common.tables import finite_mean
from csam_lite.metrics.overlap import UNIONS


def paired_differences(rows: dict[str, list[dict]], reference: str, draws: int = 10_000) -> list[dict]:
    """Rows network, metric, difference (network minus reference), its bootstrap 95 % interval, and p (Wilcoxon, Holm's correction).

    rows: {network: rows of `evaluate` with "seed"}. Each patient counts once: their volumes, classes and seeds are averaged first. The
    interval resamples patients; the test is the paired signed-rank test over patients, corrected over all rows of one metric.
    """
    from scipy.stats import wilcoxon

    found = []
    for metric in [name for name in rows[reference][0] if name.startswith("dice") or name.endswith("_mm")]:
        base, family = per_patient(rows[reference], metric), []
        for network in rows:
            if network == reference:
                continue
            own = per_patient(rows[network], metric)
            shared = sorted(patient for patient in base.keys() & own.keys() if np.isfinite(base[patient] + own[patient]))
            d = np.array([own[patient] - base[patient] for patient in shared])
            if not len(d):
                continue
            means = d[np.random.default_rng(0).integers(len(d), size=(draws, len(d)))].mean(1)
            low, high = np.quantile(means, (0.025, 0.975))
            p = float(wilcoxon(d).pvalue) if d.any() else 1.0
            family.append({"network": network, "against": reference, "metric": metric, "patients": len(d), "difference": float(d.mean()),
                           "low": float(low), "high": float(high), "p": p})
        for row, p in zip(family, holm([row["p"] for row in family])):
            found.append(row | {"p": p})
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down procedure (Holm 1979), in the order given."""
    order, corrected, highest = np.argsort(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def per_patient(rows: list[dict], metric: str) -> dict[str, float]:
    """{patient: mean of a metric over classes (not their union), volumes and seeds}; NaN values are left out, all NaN gives NaN."""
    values = defaultdict(list)
    for row in rows:
        if row["class"] not in UNIONS:
            values[row["patient"]].append(row[metric])
    return {patient: finite_mean(own) for patient, own in values.items()}
