"""How often does a 95 % interval hold the truth? Simulated experiments in which the true difference is
zero."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from csam_lite.metrics.statistics import bootstrap_interval, interval_over_trainings

Interval = Callable[[np.ndarray, np.ndarray], tuple[float, float]]


@dataclass(frozen=True)
class Experiment:
    """A simulated comparison of two networks. The four standard deviations are in units of Dice."""

    patients: int
    folds: int
    trainings: int  # in each fold
    patient: float = 0.02  # how patients differ in what they gain
    rest: float = 0.02  # of one patient between trainings
    training: float = 0.0  # luck of a training: it moves all patients of the training at once
    fold: float = 0.0  # luck of the patients left for training: it moves all patients of the fold, every time
    new_folds: bool = False  # folds drawn anew for each training of a patient

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Differences (P, T) whose true mean is zero, and the fold of each patient: (P,), or (P, T) where
        folds are drawn anew."""
        P, T = self.patients, self.trainings
        folds: np.ndarray = np.arange(P) % self.folds
        patients = random.normal(0, self.patient, (P, 1)) + random.normal(0, self.rest, (P, T))
        if self.new_folds:
            folds = random.permuted(np.tile(folds[:, None], T), axis=0)
            luck = random.normal(0, np.hypot(self.training, self.fold), (self.folds, T))
            return patients + np.take_along_axis(luck, folds, 0), folds
        luck = random.normal(0, self.training, (self.folds, T)) + random.normal(0, self.fold, (self.folds, 1))
        return patients + luck[folds], folds


SETTINGS = {
    "5 folds, 3 seeds, no luck": Experiment(60, 5, 3),
    "5 folds, 3 seeds, luck of trainings": Experiment(60, 5, 3, training=0.008),
    "5 folds, 3 seeds, luck of folds": Experiment(60, 5, 3, fold=0.008),
    "5 folds, 3 seeds, both": Experiment(60, 5, 3, training=0.008, fold=0.008),
    "5 new folds for each of 3 seeds, no luck": Experiment(60, 5, 3, new_folds=True),
    "5 new folds for each of 3 seeds, both": Experiment(60, 5, 3, training=0.008, fold=0.008, new_folds=True),
    "5 folds, 1 seed, both": Experiment(60, 5, 1, training=0.008, fold=0.008),
    "1 split, 3 seeds, luck of trainings": Experiment(12, 1, 3, training=0.008),
    "1 split, 2 seeds, luck of trainings": Experiment(12, 1, 2, training=0.008),
}


def over_patients(d: np.ndarray, folds: np.ndarray) -> tuple[float, float]:
    """(low, high) as in `paired_differences`: the seeds are averaged, then a bootstrap over patients
    alone."""
    return bootstrap_interval(d.mean(1), draws=1000)


def over_both(d: np.ndarray, folds: np.ndarray) -> tuple[float, float]:
    """(low, high) of `interval_over_trainings`."""
    estimate = interval_over_trainings(d, folds)
    return estimate.low, estimate.high


def coverage(
    experiment: Experiment, interval: Interval, repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """(share of `repeats` simulated experiments whose interval holds the truth, mean width of the
    interval)."""
    random = np.random.default_rng(seed)
    ends = np.array([interval(*experiment.draw(random)) for _ in range(repeats)])
    return float(((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()), float((ends[:, 1] - ends[:, 0]).mean())


def coverage_table(repeats: int = 2000, seed: int = 0) -> list[dict]:
    """A row for each of SETTINGS: coverage (0.95 is wanted) and width of the interval over patients alone,
    and of the one over both."""
    rows = []
    for name, experiment in SETTINGS.items():
        row = {"experiment": name, "patients": experiment.patients}
        for title, interval in (("patients alone", over_patients), ("patients and trainings", over_both)):
            row[f"{title}: holds the truth"], row[f"{title}: width"] = coverage(
                experiment, interval, repeats, seed
            )
        rows.append(row)
    return rows
