"""Can one slice of a phantom tell gland from look-alike? A small network tries, near an end of the gland.

The phantom says that only the stack can tell (data/phantom.py). This measures how far that is true: the area
under the ROC curve (AUC) is 0.5 where a slice tells nothing and 1 where it tells all. Every phantom is scored
by a network that was trained on other phantoms.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from csam_lite.common.errors import InputError
from csam_lite.common.progress import progress_bar
from csam_lite.data.phantom import acquire, make_anatomy

PIXELS = 96
NEAR = {"apex": (1.8, 9.5), "base": (1.8, 4.5)}  # mm, end to middle of a slice
FIELD = 97.0  # mm, what the demo's network sees
VIEWS = ("whole slice", f"{FIELD:.0f} mm", "column alone")


class EndSlices(NamedTuple):
    """N slices near one end of the gland, both sides of it.

    views: name of the view -> float32 (N, 2, PIXELS, PIXELS), T2 and ADC, each slice normalised by itself.
    inside: bool (N,), True for a slice of the gland. phantom: int (N,), the number of the phantom.
    """

    views: dict[str, torch.Tensor]
    inside: np.ndarray
    phantom: np.ndarray


def ambiguity(
    phantoms: int = 300,
    ambiguous: bool = True,
    seed: int = 1000,
    end: str = "apex",
    folds: int = 3,
    epochs: int = 20,
    progress: bool = True,
) -> list[dict]:
    """Rows view, phantoms, slices, AUC and its 95 % interval (low, high: bootstrap over phantoms).

    The views: the whole slice, its middle as the demo's network sees it, and gland and look-alike alone (all
    else is 0). seed: of the phantoms (take one that nothing was tuned on) and of the trainings.
    end: "apex" or "base". Raises InputError for fewer phantoms than folds, or an unknown end.
    """
    if end not in NEAR or not 2 <= folds <= phantoms:
        raise InputError(
            f"{phantoms} phantoms, {folds} folds, {end}: give at least 2 folds, as many phantoms, "
            f"and {' or '.join(NEAR)}"
        )
    slices = end_slices(phantoms, ambiguous, seed, end, progress)
    rows = []
    for view, images in slices.views.items():
        scores = _scores(images, slices, folds, epochs, seed, f"{view}: " if progress else None)
        low, high = np.quantile(list(_resampled(scores, slices)), (0.025, 0.975))
        rows.append(
            {
                "view": view,
                "phantoms": phantoms,
                "slices": len(scores),
                "AUC": area_under_curve(scores, slices.inside),
                "low": float(low),
                "high": float(high),
            }
        )
    return rows


def end_slices(
    phantoms: int, ambiguous: bool = True, seed: int = 1000, end: str = "apex", progress: bool = True
) -> EndSlices:
    """The slices near one end of the gland, on both sides, of phantoms as `write_phantoms` with this seed
    would scan them.
    """
    views, inside, number = {view: [] for view in VIEWS}, [], []
    for k in progress_bar(range(phantoms), desc="phantoms", unit="volume", disable=not progress):
        rng = np.random.default_rng([seed, k])
        anatomy = make_anatomy(rng, ambiguous)
        scan = acquire(anatomy, rng)
        level = scan.centres[:, 0]
        depth = level - anatomy.apex if end == "apex" else anatomy.base - level  # mm inside the gland
        low, high = NEAR[end]
        for s in np.flatnonzero((abs(depth) >= low) & (abs(depth) <= high)):
            image = torch.from_numpy(scan.image[s])
            field = [round(FIELD / mm) for mm in scan.spacing[1:]]
            middle = tuple(slice((n - size) // 2, (n + size) // 2) for n, size in zip(image.shape[1:], field))
            alone = image * torch.from_numpy(scan.column[s])
            for view, picture in zip(VIEWS, (image, image[:, *middle], alone[:, *middle])):
                views[view].append(_normalised(picture))
            inside.append(depth[s] > 0)
            number.append(k)
    return EndSlices(
        {view: torch.stack(pictures) for view, pictures in views.items()}, np.array(inside), np.array(number)
    )


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive (bool) scores higher than a negative; ties count half (Mann and Whitney)."""
    from scipy.stats import mannwhitneyu

    return float(
        mannwhitneyu(scores[positive], scores[~positive]).statistic / (positive.sum() * (~positive).sum())
    )


def _normalised(picture: torch.Tensor) -> torch.Tensor:
    """picture (2, H, W) -> (2, PIXELS, PIXELS) of mean 0 and standard deviation 1 in each channel, over what
    is not 0.
    """
    picture = F.interpolate(picture[None], (PIXELS, PIXELS), mode="bilinear", antialias=True)[0]
    for channel in picture:
        seen = channel != 0
        channel[seen] = (channel[seen] - channel[seen].mean()) / channel[seen].std().clamp(min=1e-6)
    return picture


def _scores(
    images: torch.Tensor, slices: EndSlices, folds: int, epochs: int, seed: int, name: str | None
) -> np.ndarray:
    """A score (N,) of each slice by a network that saw none of its phantom, ranked within the fold so that
    folds can be joined.
    """
    scores = np.zeros(len(images))
    target = torch.from_numpy(slices.inside).float()
    fold = slices.phantom % folds
    total = folds * epochs
    with progress_bar(total=total, desc=f"{name}training", unit="epoch", disable=name is None) as bar:
        for held_out in range(folds):
            torch.manual_seed(seed + held_out)
            network = _reader()
            train = torch.from_numpy(np.flatnonzero(fold != held_out))
            optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
            steps = epochs * -(-len(train) // 32)
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
            for _ in range(epochs):
                for batch in train[torch.randperm(len(train))].split(32):
                    loss = F.binary_cross_entropy_with_logits(
                        network(_augmented(images[batch]))[:, 0], target[batch]
                    )
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    cycle.step()
                bar.update()
            network.eval()
            test = fold == held_out
            with torch.no_grad():
                logits = torch.cat(
                    [network(part)[:, 0] for part in images[torch.from_numpy(test)].split(64)]
                ).numpy()
            scores[test] = logits.argsort().argsort() / len(logits)
    return scores


def _reader() -> nn.Module:
    """(N, 2, PIXELS, PIXELS) -> (N, 1): the score that a slice belongs to the gland. Position counts: the
    last map is not averaged away.
    """
    layers, channels = [], 2
    for width in (16, 32, 64, 64):
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.LazyLinear(1))


def _augmented(images: torch.Tensor) -> torch.Tensor:
    """images (N, 2, P, P), mirrored, moved by up to 6 pixels and changed in contrast, each at random."""
    mirrored = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
    rows, columns = torch.randint(-6, 7, (2,)).tolist()
    gain = 1 + 0.1 * torch.randn(len(images), 2, 1, 1)
    return mirrored.roll((rows, columns), (2, 3)) * gain


def _resampled(scores: np.ndarray, slices: EndSlices, draws: int = 500) -> Iterator[float]:
    """The AUC of phantoms drawn with replacement."""
    rng = np.random.default_rng(0)
    where = [np.flatnonzero(slices.phantom == k) for k in np.unique(slices.phantom)]
    for _ in range(draws):
        drawn = np.concatenate([where[k] for k in rng.integers(len(where), size=len(where))])
        yield area_under_curve(scores[drawn], slices.inside[drawn])
