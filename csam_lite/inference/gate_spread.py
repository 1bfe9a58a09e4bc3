"""Do the gates of a trained network follow the volume, and what is that worth in Dice?"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import torch

from csam_lite.common.errors import InputError
from csam_lite.common.progress import progress_bar
from csam_lite.common.tables import finite_mean
from csam_lite.core.attention import GATES
from csam_lite.core.gates import override_gates, record_gates
from csam_lite.core.masks import centred_slots
from csam_lite.core.windows import probabilities
from csam_lite.inference.evaluate import dataset_of
from csam_lite.metrics.overlap import dice
from csam_lite.training.batches import Sample
from csam_lite.training.run import Run

Key = tuple[str, str]  # name of the CSAM, name of the gate


def gate_spread(
    run: Run, data: str | None = None, volumes: int = 20, worth: bool = False, progress: bool = True
) -> list[dict]:
    """A row for every gate at every scale: how it differs between the first `volumes` cases of a folder.

    csam, gate   where it acts; csam.0 is the finest scale
    mean         over all values and volumes
    within       standard deviation over the channels, pixels or slices of a volume (mean over volumes)
    between      standard deviation over volumes of each channel, pixel or slice (mean over these);
                 0 for a gate that ignores the volume
    widest       the largest such standard deviation
    range        the largest difference between two volumes in a channel, a pixel or a slice
    worth        with `worth`: mean Dice minus the mean Dice after this gate is replaced by its mean over the
                 volumes; three more rows, csam "all", replace a gate at all scales at once

    Slices of volumes of different depths are compared slot by slot, as the slice attention sees them.
    data: the folder, if it is not where it was in training.
    Raises InputError for unusable data, fewer than 2 volumes, or a network without gates.
    """
    samples = list(_samples(run, data, volumes, progress))
    if len(samples) < 2:
        raise InputError(
            f"{data or run.config.data}: {len(samples)} labelled volume(s); a spread needs at least 2"
        )
    gates: dict[Key, list[np.ndarray]] = {}  # the values in each volume
    for sample in samples:
        with record_gates(run.network) as record:
            probabilities(run.network, sample.image)
        for csam, entry in record.items():
            for gate in GATES:
                if gate in entry:
                    gates.setdefault((csam, gate), []).append(
                        _in_slots(entry[gate].values, entry[gate].axes, run.facts.num_slices)
                    )
    if not gates:
        raise InputError(
            f"{run.folder}: the network has no gates; give a run with --attention other than none"
        )
    rows = [{"csam": csam, "gate": gate} | spread_of(values) for (csam, gate), values in gates.items()]
    if worth:
        before = _mean_dice(run, samples, {})
        means = {key: _mean_over_volumes(values) for key, values in gates.items()}
        rows += [{"csam": "all", "gate": gate} for gate in dict.fromkeys(gate for _, gate in means)]
        for row in progress_bar(rows, desc="replacing", unit="gate", disable=not progress):
            replaced = {
                key: mean
                for key, mean in means.items()
                if key[1] == row["gate"] and row["csam"] in ("all", key[0])
            }
            row["worth"] = before - _mean_dice(run, samples, replaced)
    return rows


def spread_of(values: Sequence[np.ndarray]) -> dict[str, float]:
    """mean, within, between, widest and range (see `gate_spread`) of one gate from its values in each volume,
    NaN where it has none.
    """
    stack = np.stack(values)
    stack = stack.reshape(len(stack), -1)
    stack = stack[:, np.isfinite(stack).sum(0) > 1]  # what two volumes or more have
    deviation = np.nanstd(stack, 0)
    return {
        "mean": float(np.nanmean(stack)),
        "within": float(np.nanstd(stack, 1).mean()),
        "between": float(deviation.mean()),
        "widest": float(deviation.max()),
        "range": float((np.nanmax(stack, 0) - np.nanmin(stack, 0)).max()),
    }


def _mean_over_volumes(values: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the volumes that have a value; NaN where none has."""
    stack = np.stack(values)
    count = np.isfinite(stack).sum(0)
    return np.where(count > 0, np.nansum(stack, 0) / np.maximum(count, 1), np.nan)


def _samples(run: Run, data: str | None, volumes: int, progress: bool) -> Iterator[Sample]:
    """The first labelled cases of a folder on the network's grid."""
    dataset = dataset_of(run, data)
    cases = list(islice(dataset.cases, volumes))
    for case in progress_bar(cases, desc="reading", unit="volume", disable=not progress, leave=False):
        if (scan := dataset.read(case, run.config.one_zone, run.config.empty)) is not None:
            yield Sample(case.name, run.grid.image(scan), run.grid.label(scan))


def _in_slots(values: np.ndarray, axes: tuple[str, ...], num_slices: int) -> np.ndarray:
    """One volume's gate without the axis B; a slice gate in its slots (num_slices,), NaN where no slice is.
    """
    if axes != ("B", "S"):
        return values[0]
    slots = np.full(num_slices, np.nan)
    slots[centred_slots(*values.shape, num_slices, torch.device("cpu"))[0].numpy()] = values[0]
    return slots


def _mean_dice(run: Run, samples: Sequence[Sample], replaced: Mapping[Key, np.ndarray]) -> float:
    """Mean Dice over classes and volumes on the network's grid, with some gates replaced by fixed values."""
    scores = []
    for sample in samples:
        def during(start: int, stop: int) -> object:
            slots = centred_slots(1, stop - start, run.facts.num_slices, torch.device("cpu"))[0].numpy()
            return override_gates(
                run.network,
                {key: values[slots] if key[1] == "slice" else values for key, values in replaced.items()},
            )

        predicted = probabilities(run.network, sample.image, during).argmax(1)
        scores += [
            dice((predicted == k).numpy(), (sample.label == k).numpy())
            for k in range(1, run.facts.num_classes)
        ]
    return finite_mean(scores)
