"""All that can be seen of a network at work on one volume: masks, gates, feature maps, the spread of repeated draws.

An Examination is what `explore` shows in a browser and `plots.plot_examination` on paper. It holds a volume on the grid on which it is
looked at (a scan's own), and knows how to ask the network again with some gates replaced.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from csam_lite.common.errors import InputError
from csam_lite.core.attention import CSAM
from csam_lite.core.gates import override_gates, record_gates
from csam_lite.core.windows import drawn_gates, evaluating, probabilities, spread
from csam_lite.data.labels import to_classes
from csam_lite.data.scan import Scan, read_scan
from csam_lite.inference.predict import network_input, restore
from csam_lite.metrics.overlap import dice

MAP_PIXELS, MAP_VALUES = 64, 1_000_000  # of the feature maps of one CSAM: longest side, and how many values are kept


@dataclass
class Window:
    """Slices start to stop - 1, which the network saw at once, and what `record_gates` gave there. Volumes it can hold have one."""

    start: int
    stop: int
    record: dict


@dataclass
class Answer:
    """What the network said: mask (S, H, W) uint8 of classes 0..K-1, K, and its gates in each Window."""

    mask: np.ndarray
    num_classes: int
    windows: list

    def window(self, s):
        """The window in which slice s lies nearest to the middle."""
        return min(self.windows, key=lambda window: abs(window.start + window.stop - 1 - 2 * s))


class Maps(NamedTuple):
    """Feature maps of one CSAM: (S, C, h, w) float32, or (1, C, h, w) their mean over the stack; and the size they were made smaller from."""

    values: np.ndarray
    size: tuple


@dataclass
class Examination:
    """A network and a volume, with the geometry that a picture needs.

    network     in the mode in which it came; it is asked in evaluation mode
    x           (S, Cin, h, w) float32, what the network reads
    image       (S, C, H, W) float32, what is looked at; intensities as stored
    spacing     (through-plane, row, column) distances in `unit`, which is "mm", or "px" where nobody knows
    directions  where S, H and W point in the patient, e.g. "SPL", or None
    field       (left, top, right, bottom) of x in pixels of the image, counted from its upper left corner
    restore     (S, K, h, w) float on the grid of x -> (S, K, H, W) on the image's; `background` is what stands outside of x
    label       (S, H, W) uint8 of classes 0..K-1 or None
    """

    network: torch.nn.Module
    x: torch.Tensor
    image: np.ndarray
    spacing: tuple
    unit: str
    directions: str | None
    field: tuple
    restore: object
    label: np.ndarray | None
    channels: tuple
    classes: tuple
    title: str
    draws: int = 20

    def answer(self, overrides=None):
        """The network's Answer, with the gates in `overrides` replaced.

        overrides: as `override_gates` takes them; an array for a slice gate is (S,) for the whole volume. Raises InputError where the
        network cannot read the volume.
        """
        return self._look(overrides or {})

    @property
    def as_trained(self):
        """The Answer without any override."""
        return self._first_look[0]

    @property
    def feature_maps(self):
        """Name of the CSAM -> Maps of what it reads, made small enough to keep them all: at most 64 pixels a side."""
        return self._first_look[1]

    @cached_property
    def _first_look(self):
        maps, sizes = {}, {}

        def keep(name, start, inputs):
            seen = inputs[0][0].float()  # (S, C, h, w)
            sizes[name] = tuple(seen.shape[2:])
            small = F.adaptive_avg_pool2d(seen, [min(n, MAP_PIXELS) for n in seen.shape[2:]]).cpu()
            maps.setdefault(name, torch.zeros(len(self.x), *small.shape[1:]))[start:start + len(small)] = small

        answer = self._look({}, keep)
        return answer, {name: Maps(_within(values, MAP_VALUES).numpy(), sizes[name]) for name, values in maps.items()}

    @cached_property
    def uncertainty(self):
        """(S, H, W) float32: standard deviation of the class probabilities over `draws` of the slice gate, of the class where it is
        largest; None for a network without a drawn gate."""
        if not drawn_gates(self.network) or not self.draws:
            return None
        with evaluating(self.network):
            return self.restore(spread(self.network, self.x, self.draws), 0.0).amax(1).numpy()

    @property
    def busiest_slice(self):
        """The slice with most foreground in the label, or else in the prediction; the middle one where there is none."""
        area = ((self.as_trained.mask if self.label is None else self.label) > 0).sum((1, 2))
        return int(area.argmax()) if area.any() else len(area) // 2

    def dice(self, mask):
        """Dice of each class of `mask` with the label, None without one; NaN where neither has the class."""
        if self.label is None:
            return None
        return [dice(mask == k, self.label == k) for k in range(1, len(self.classes) + 1)]

    def _look(self, overrides, keep=None):
        """The Answer; keep(name, start, inputs) is called with what each CSAM reads of the slices from `start` on."""
        windows = []

        @contextmanager
        def during(start, stop):
            within = {key: value[start:stop] if key[1] == "slice" and np.ndim(value) == 1 else value for key, value in overrides.items()}
            with ExitStack() as stack:
                stack.enter_context(override_gates(self.network, within))
                for name, module in self.network.named_modules() if keep else ():
                    if isinstance(module, CSAM):
                        hook = module.register_forward_pre_hook(lambda module, inputs, name=name: keep(name, start, inputs))
                        stack.callback(hook.remove)
                record = stack.enter_context(record_gates(self.network))
                yield
            windows.append(Window(start, stop, record))

        with evaluating(self.network):
            try:
                found = probabilities(self.network, self.x, during)
            except (ValueError, RuntimeError, TypeError) as error:
                raise InputError(f"{self.title}: the network cannot read a volume of shape {tuple(self.x.shape)} (S, C, H, W): "
                                 f"{str(error).splitlines()[0]}; give it the channels and the size it was built for") from error
        # numpy's argmax, since torch's takes ten times as long over an axis of three
        return Answer(self.restore(found, 1.0).numpy().argmax(1).astype(np.uint8), found.shape[1], windows)


def examine(run_or_network, volume, label=None, spacing=None, classes=None, draws=20):
    """The Examination of a Run on a Scan or NIfTI file, or of a bare network on a tensor.

    volume: with a Run, a Scan or the path of a scan; with a network, a tensor or array (S, C, H, W), which it reads as it is.
    label: the reference; the path of a mask for a path, an array (S, H, W) of classes 0..K-1 for a tensor. A Scan has its own.
    spacing: of a tensor, (through-plane, row, column) in mm; None where unknown. classes: names of classes 1..K-1 for a bare network.
    draws: of the slice gate, for the uncertainty. Raises InputError (one line: what, where, mend) for what cannot be shown.
    """
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 0:
        raise InputError(f"draws {draws}: must be a whole number, 0 for no uncertainty")
    if isinstance(volume, (str, Path, Scan)):
        if not hasattr(run_or_network, "grid"):
            raise InputError(f"{type(run_or_network).__name__}: a scan needs a run, which knows how to prepare it (load_run); "
                             "or give this network a tensor (S, C, H, W)")
        found = _of_run(run_or_network, volume, label, draws)
    else:
        network = run_or_network.network if hasattr(run_or_network, "grid") else run_or_network
        found = _of_tensor(network, volume, label, spacing, classes, draws)
    if bad := int(found.image.size - np.isfinite(found.image).sum()):
        raise InputError(f"{found.title}: {bad} values are NaN or infinite; replace them by 0")
    if found.label is not None and found.label.max(initial=0) > len(found.classes):
        raise InputError(f"{found.title}: the label holds {found.label.max()}, but there are classes 1 to {len(found.classes)} only; correct it")
    return found


def _of_run(run, volume, label, draws):
    if isinstance(volume, Scan):
        if label is not None:
            raise InputError(f"{volume.path}: a Scan carries its own label; read it with read_scan(image, label), or leave label out")
        scan = volume
    else:
        scan = read_scan(volume, label, run.facts.labels)
        if scan.label is not None:  # values as stored -> classes 0..K-1
            scan.label = to_classes(scan.label, run.facts.labels)
    if scan.label is not None and scan.label.shape != (scan.image.shape[0], *scan.image.shape[2:]):
        raise InputError(f"{scan.path}: label {scan.label.shape} and image {scan.image.shape} differ in their grid; resample the label")
    (H, W), (h, w) = scan.image.shape[2:], run.grid.size_of(scan)
    left, _, top, _ = run.grid.margins((h, w))
    P = run.config.pixels
    field = (-left * W / w, -top * H / h, (P - left) * W / w, (P - top) * H / h)
    return Examination(
        run.network, network_input(run, scan), scan.image, scan.spacing, "mm", scan.directions, field,
        lambda values, background: restore(run, scan, values, background), scan.label, tuple(run.facts.channels),
        tuple(run.facts.labels.values()), Path(scan.path).name, draws)


def _of_tensor(network, volume, label, spacing, classes, draws):
    if not isinstance(network, torch.nn.Module) or next(network.parameters(), None) is None:
        raise InputError(f"{type(network).__name__}: is no network with weights; give a Run (load_run) or a torch module such as UNet")
    try:
        x = torch.as_tensor(volume).detach().cpu().float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"volume: a {type(volume).__name__} is no tensor; give a tensor (S, C, H, W), or a Run with a Scan or a path") from error
    if x.ndim != 4 or 0 in x.shape:
        raise InputError(f"volume: shape {tuple(x.shape)} is not (S, C, H, W); give one volume without the axis B, with its axis C")
    if not bool(x.isfinite().all()):
        raise InputError(f"volume: {int((~x.isfinite()).sum())} values are NaN or infinite; replace them by 0")
    if spacing is not None and (np.shape(spacing) != (3,) or not all(0 < mm < float("inf") for mm in spacing)):
        raise InputError(f"spacing {spacing}: must be three distances above 0 in mm, (through-plane, row, column)")
    S, C, H, W = x.shape
    if label is not None:
        label = np.asarray(label)
        if label.shape != (S, H, W) or not np.isin(label, range(256)).all():
            raise InputError(f"label: shape {label.shape} and values must be ({S}, {H}, {W}) and classes 0, 1, 2, ...; make it fit the volume")
        label = label.astype(np.uint8)
    found = Examination(network, x, x.numpy(), tuple(spacing or (1, 1, 1)), "mm" if spacing else "px", None, (0, 0, W, H),
                        lambda values, background: values, label, tuple(f"channel {c}" for c in range(C)), (), type(network).__name__, draws)
    K = found.as_trained.num_classes
    if K < 2:
        raise InputError(f"{found.title}: answers {K} class(es); a segmentation needs at least two, the background and another")
    if classes and len(classes) != K - 1:
        raise InputError(f"classes {tuple(classes)}: the network answers {K} with the background; give {K - 1} name(s)")
    found.classes = tuple(classes or (f"class {k}" for k in range(1, K)))
    return found


def _within(maps, most):
    """maps (S, C, h, w), or where these are more than `most` values smaller ones, or at last their mean over the stack."""
    half = [max(n // 2, 1) for n in maps.shape[2:]]
    if maps.numel() <= most:
        return maps
    if maps.numel() <= 4 * most:
        return F.adaptive_avg_pool2d(maps, half)
    return maps.mean(0, keepdim=True)
