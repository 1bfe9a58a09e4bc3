"""The library's answers to the exercises: they do a notebook's work until the reader's own answers pass.

They stand here and not in the notebooks, so that no cell shows a solution that its reader has not opened.
`library_answer(check)` finds one. The formulas of the three gates have none, because the library's gates
compute them. Axes and names are those of the exercises; `checks` says what each one must do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from csam_lite.core.attention import CSAM
from csam_lite.core.gates import override_gates, record_gates
from csam_lite.core.masks import centred_slots
from csam_lite.core.slice_normal import SliceNormal
from csam_lite.metrics import overlap, statistics
from csam_lite.training.start import one_cycle

if TYPE_CHECKING:
    from csam_lite.course.checks import Check

_answers: dict[str, Callable] = {
    "n00.dice": overlap.dice,
    "n06.one_cycle": one_cycle,
    "n08.bootstrap": statistics.bootstrap_interval,
    "n08.holm": statistics.holm,
}


def library_answer(check: Check) -> Callable | None:
    """The library's answer to the exercise of this check, or None."""
    return _answers.get(check.key)


def _answers_to(key: str) -> Callable[[Callable], Callable]:
    def keep(answer: Callable) -> Callable:
        _answers[key] = answer
        return answer
    return keep


# 00, 01: start here, anisotropic MRI

@_answers_to("n00.gate_shapes")
def gate_shapes(B: int, S: int, C: int, H: int, W: int) -> dict[str, tuple[int, ...]]:
    return {"semantic": (B, 1, C, 1, 1), "positional": (B, 1, 1, H, W), "slice": (B, S, 1, 1, 1)}


@_answers_to("n00.slice_gate")
def slice_gate(F: Tensor, gate: Tensor) -> Tensor:
    return F * gate.view(*gate.shape, 1, 1, 1)


@_answers_to("n01.spacing")
def spacing(affine: np.ndarray) -> np.ndarray:
    from nibabel.affines import voxel_sizes

    return voxel_sizes(affine)


@_answers_to("n01.slice_axis")
def slice_axis(shape: tuple[int, ...], spacing: np.ndarray) -> int:
    return int(np.argmax(spacing))


@_answers_to("n01.thick_slices")
def thick_slices(fine: np.ndarray, factor: int) -> np.ndarray:
    whole = len(fine) // factor * factor
    return fine[:whole].reshape(-1, factor, *fine.shape[1:]).mean(1)


@_answers_to("n01.influence")
def influence(network: nn.Module, x: Tensor, s: int) -> Tensor:
    alone = torch.where(torch.arange(x.shape[1])[:, None, None, None] == s, x, 0)
    return (network(x) - network(alone))[:, s].abs().max()


# 02, 03, 04: the three attentions

@_answers_to("n02.statistics")
def statistics_of_channels(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.amax((1, 3, 4)), x.mean((1, 3, 4))


@_answers_to("n02.by_hand")
def semantic_by_hand() -> tuple[list, ...]:
    return [[1, -1], [-1, 1]], [0, 0], [[10, -10], [-10, 10]], [0, 0]


@_answers_to("n02.masked_statistics")
def masked_statistics(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    real = [volume[rows].transpose(0, 1).flatten(1) for volume, rows in zip(x, mask)]  # (C, s*H*W) each
    return torch.stack([v.amax(1) for v in real]), torch.stack([v.mean(1) for v in real])


@_answers_to("n03.maps")
def maps(x: Tensor) -> Tensor:
    return torch.stack([x.amax((1, 2)), x.mean((1, 2))], 1)


@_answers_to("n03.by_hand")
def positional_by_hand() -> tuple[Tensor, list]:
    kernel = torch.zeros(1, 2, 7, 7)
    kernel[0, 1, 3, 3] = 40
    return kernel, [-30]


@_answers_to("n04.draw")
def draw(mean: Tensor, diag: Tensor, factor: Tensor) -> Tensor:
    return SliceNormal(mean, diag, factor).draw()


@_answers_to("n04.finds_cut")
def gradients_arrive(module: nn.Module) -> bool:
    y = module(torch.rand(2, 6, 4, 8, 8, requires_grad=True))
    (y * torch.randn_like(y)).sum().backward()
    return all(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


@_answers_to("n04.slots")
def slots(mask: Tensor, D: int) -> Tensor:
    return centred_slots(*mask.shape, D, mask.device, mask)


# 05, 06, 07: a network, a training, a look at the gates

@_answers_to("n05.gate_level")
def gate_level(features: Tensor, csam: nn.Module, S: int) -> Tensor:
    return csam(features.unflatten(0, (-1, S))).flatten(0, 1)


@_answers_to("n05.parameters")
def parameters(D: int, C: int) -> dict[str, int]:
    csam = CSAM(D, C)
    return {attention.name: sum(p.numel() for p in attention.parameters()) for attention in csam.attentions}


class Gated(nn.Module):
    """A layer on slices (B*S, C, H, W), and a CSAM behind it."""

    def __init__(self, layer: nn.Module, csam: nn.Module, S: int) -> None:
        super().__init__()
        self.layer, self.csam, self.S = layer, csam, S

    def forward(self, x: Tensor) -> Tensor:
        return gate_level(self.layer(x), self.csam, self.S)


@_answers_to("n05.plug")
def plug(network: nn.Module, layer: str, csam: nn.Module, S: int) -> nn.Module:
    network.set_submodule(layer, Gated(network.get_submodule(layer), csam, S))
    return network


@_answers_to("n06.dice_per_volume")
def dice_per_volume(predicted: Tensor, reference: Tensor, num_classes: int) -> Tensor:
    both = [[(mask == k).flatten(1) for mask in (predicted, reference)] for k in range(1, num_classes)]
    return torch.stack([2 * (p & r).sum(1) / (p.sum(1) + r.sum(1)) for p, r in both], 1)  # (B, K-1)


@_answers_to("n06.prior_bias")
def prior_bias(label: Tensor, num_classes: int) -> Tensor:
    shares = torch.stack([(label == k).float().mean() for k in range(num_classes)])  # (K,)
    return shares.clamp(min=1e-4).log()


@_answers_to("n07.flat")
def flat(gate: Tensor) -> Tensor:
    return gate.flatten(1).mean(1).view(-1, *[1] * (gate.ndim - 1))


@_answers_to("n07.changed")
def changed(before: np.ndarray, after: np.ndarray) -> float:
    return (before != after).sum() / max(((before > 0) | (after > 0)).sum(), 1)


@_answers_to("n07.effects")
def effects(network: nn.Module, x: Tensor) -> dict[tuple[str, str], Any]:
    parts = {}
    with torch.no_grad(), record_gates(network) as seen:
        trained = network(x).argmax(2).cpu().numpy()
    for key in [(name, gate) for name, gates in seen.items() for gate in gates]:
        with torch.no_grad(), override_gates(network, {key: flat}):
            parts[key] = changed(trained, network(x).argmax(2).cpu().numpy())
    return parts


@_answers_to("n07.entropy")
def entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(1) / np.log(p.shape[1])


# 08, 09: statistics, a scan of one's own

@_answers_to("n08.per_patient")
def per_patient(rows: list[dict]) -> dict[str, float]:
    patients = dict.fromkeys(row["patient"] for row in rows)
    return {p: float(np.nanmean([row["dice"] for row in rows if row["patient"] == p])) for p in patients}


@_answers_to("n08.verdict")
def verdict(low: float, high: float, margin: float) -> str:
    if -margin < low and high < margin:
        return "too small to matter"
    return "helps" if low > 0 else "harms" if high < 0 else "not known"


@_answers_to("n09.to_world")
def to_world(affine: np.ndarray, voxel: tuple[float, ...]) -> np.ndarray:
    return affine[:3, :3] @ np.array(voxel) + affine[:3, 3]


@_answers_to("n09.same_grid")
def same_grid(shape: tuple, affine: np.ndarray, other_shape: tuple, other_affine: np.ndarray) -> bool:
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])])
    return tuple(shape) == tuple(other_shape) and np.abs((affine - other_affine) @ corners.T).max() <= 0.1


@_answers_to("n09.volume_ml")
def volume_ml(mask: np.ndarray, affine: np.ndarray) -> float:
    return np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])) / 1000
