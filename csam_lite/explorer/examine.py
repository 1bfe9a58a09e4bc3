"""All that can be seen of a network at work on one volume: masks, gates, feature maps, the spread of repeated
draws.

An Examination is what `explore` shows in a browser and `plot_examination` on paper. It holds a volume on its
own grid (a scan keeps the grid of its file), and can ask the network again with some gates replaced.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from csam_lite.common.errors import InputError, printable
from csam_lite.core.attention import CSAM
from csam_lite.core.gates import NamedArray, override_gates, record_gates
from csam_lite.core.windows import drawn_gates, evaluating, probabilities, spread
from csam_lite.data.scan import Scan
from csam_lite.inference.predict import edge_remarks, network_input, read_for, restore
from csam_lite.metrics.overlap import dice
from csam_lite.training.run import Run

MAP_PIXELS = 64  # longest side of the feature maps that are kept
MAP_VALUES = 1_000_000  # how many values of the feature maps of one CSAM are kept


@dataclass
class Window:
    """The slices start to stop - 1, which the network saw at once, and what `record_gates` recorded there.

    A volume that fits into the network has one window.
    """

    start: int
    stop: int
    record: dict[str, dict[str, NamedArray]]


@dataclass
class Answer:
    """What the network answered: mask (S, H, W) uint8 of classes 0..K-1, K, and its gates in each Window."""

    mask: np.ndarray
    num_classes: int
    windows: list[Window]

    def window(self, s: int) -> Window:
        """The window in which slice s lies nearest to the middle."""
        return min(self.windows, key=lambda window: abs(window.start + window.stop - 1 - 2 * s))


class Maps(NamedTuple):
    """Feature maps of one CSAM, made smaller: (S, C, h, w) float32, or (1, C, h, w) for their mean over the
    stack.

    size: (H, W) that they had in the network.
    """

    values: np.ndarray
    size: tuple[int, int]


@dataclass
class Examination:
    """A network and a volume, with the geometry that a picture needs.

    - network: is asked in evaluation mode, and afterwards is in the mode in which it was
    - x: (S, Cin, h, w) float32, what the network reads
    - image: (S, C, H, W) float32, what the reader sees; intensities as stored in the file
    - spacing: (through-plane, row, column) distances in `unit`, which is "mm", or "px" where they are unknown
    - directions: where S, H and W point in the patient, for example "SPL", or None
    - field: (left, top, right, bottom) of x in pixels of the image, from the image's upper left corner
    - restore: (S, K, h, w) float on the grid of x -> (S, K, H, W) on the image's; `background` is the value
      outside of x
    - label: (S, H, W) uint8 of classes 0..K-1, or None
    - channels, classes: names of the image's channels and of the classes 1..K-1
    - draws: how often the slice gate is drawn for the uncertainty
    - other: another volume, whose gates can be put in place of this one's, or None
    """

    network: torch.nn.Module
    x: torch.Tensor
    image: np.ndarray
    spacing: tuple[float, float, float]
    unit: str
    directions: str | None
    field: tuple[float, float, float, float]
    restore: Callable[[torch.Tensor, float], torch.Tensor]
    label: np.ndarray | None
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    title: str
    draws: int = 20
    other: "Examination | None" = None

    def answer(self, overrides: Mapping[tuple[str, str], object] | None = None) -> Answer:
        """The network's Answer, with the gates in `overrides` replaced.

        overrides: as `override_gates` takes them, but an array for a gate of the slices, for example (S,),
        spans the whole volume. Raises InputError where the network cannot read the volume.
        """
        return self._ask(overrides or {})

    @property
    def as_trained(self) -> Answer:
        """The Answer with the network's own gates."""
        return self._first_answer[0]

    @property
    def feature_maps(self) -> dict[str, Maps]:
        """Name of the CSAM -> Maps of what it reads, at most MAP_PIXELS a side, so that all of them can be
        kept."""
        return self._first_answer[1]

    @cached_property
    def _first_answer(self) -> tuple[Answer, dict[str, Maps]]:
        maps, sizes = {}, {}

        def keep(name: str, start: int, features: torch.Tensor) -> None:
            sizes[name] = tuple(features.shape[2:])
            small = F.adaptive_avg_pool2d(features, [min(n, MAP_PIXELS) for n in features.shape[2:]]).cpu()
            kept = maps.setdefault(name, torch.zeros(len(self.x), *small.shape[1:]))
            kept[start:start + len(small)] = small

        answer = self._ask({}, keep)
        kept = {name: _at_most(values, MAP_VALUES).numpy() for name, values in maps.items()}
        return answer, {name: Maps(values, sizes[name]) for name, values in kept.items()}

    @cached_property
    def uncertainty(self) -> np.ndarray | None:
        """(S, H, W) float32: the standard deviation of the class probabilities over `draws` of the slice
        gate, of the class where it is largest. None for a network without a drawn gate."""
        if not drawn_gates(self.network) or not self.draws:
            return None
        with evaluating(self.network):
            return self.restore(spread(self.network, self.x, self.draws), 0.0).amax(1).numpy()

    @property
    def busiest_slice(self) -> int:
        """The slice with most foreground in the label, or without a label in the prediction; the middle one
        where there is none."""
        area = ((self.as_trained.mask if self.label is None else self.label) > 0).sum((1, 2))
        return int(area.argmax()) if area.any() else len(area) // 2

    def dice(self, mask: np.ndarray) -> list[float] | None:
        """Dice of each class of `mask` (S, H, W) with the label; None without a label, NaN where neither has
        the class."""
        if self.label is None:
            return None
        return [dice(mask == k, self.label == k) for k in range(1, len(self.classes) + 1)]

    def csam_modules(self) -> dict[str, CSAM]:
        """Every CSAM of the network by its name there."""
        return {name: module for name, module in self.network.named_modules() if isinstance(module, CSAM)}

    def _ask(self, overrides: Mapping[tuple[str, str], object],
             keep: Callable[[str, int, torch.Tensor], None] | None = None) -> Answer:
        """The Answer. keep(name, start, features) gets what each CSAM reads, (s, C, h, w), of the slices from
        `start` on."""
        windows, modules = [], self.csam_modules()
        axes = {(name, gate.name): gate.axes for name, csam in modules.items() for gate in csam.attentions}

        @contextmanager
        def during(start: int, stop: int) -> Iterator[None]:
            here = {gate: _of_window(value, axes.get(gate, ""), start, stop)
                    for gate, value in overrides.items()}
            with ExitStack() as stack:
                stack.enter_context(override_gates(self.network, here))
                for name, csam in modules.items() if keep else ():
                    hook = csam.register_forward_pre_hook(
                        lambda module, inputs, name=name: keep(name, start, inputs[0][0].float()))
                    stack.callback(hook.remove)
                record = stack.enter_context(record_gates(self.network))
                yield
            windows.append(Window(start, stop, record))

        with evaluating(self.network):
            try:
                probability = probabilities(self.network, self.x, during)
            except (ValueError, RuntimeError, TypeError) as error:
                shape, reason = tuple(self.x.shape), str(error).splitlines()[0]
                raise InputError(
                    f"{self.title}: the network cannot read a volume of shape {shape} (S, C, H, W): "
                    f"{reason}; give it the channels and the size it was built for") from error
        # numpy's argmax, because torch's takes ten times as long over an axis of three
        mask = self.restore(probability, 1.0).numpy().argmax(1).astype(np.uint8)
        return Answer(mask, probability.shape[1], windows)


def examine(run_or_network: Run | torch.nn.Module, volume: object, label: object = None,
            spacing: Sequence[float] | None = None, classes: Sequence[str] | None = None,
            draws: int = 20, other: object = None) -> Examination:
    """The Examination of a Run on a Scan or NIfTI file, or of a bare network on a tensor.

    volume: with a Run, a Scan or the path of a scan; with a network, a tensor or array (S, C, H, W), which it
    reads as it is. label: the reference. For a path, the path of a mask; for a tensor, an array (S, H, W) of
    classes 0..K-1. A Scan has its own. spacing: of a tensor, (through-plane, row, column) in mm; None where
    unknown. classes: names of classes 1..K-1 for a bare network. draws: of the slice gate, for the
    uncertainty. other: another volume of the same kind, whose gates a reader can put in place of this one's;
    both must fit into the network at once. What makes the mask of a file doubtful is written to standard
    error. Raises InputError for what cannot be shown: one line that says what is wrong, where, and what to
    do.
    """
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 0:
        raise InputError(f"draws {draws}: must be a whole number, 0 for no uncertainty")
    is_run = hasattr(run_or_network, "grid")
    if isinstance(volume, (str, Path, Scan)):
        if not is_run:
            raise InputError(f"{type(run_or_network).__name__}: a scan needs a run (load_run), which knows "
                             "how to prepare it; or give this network a tensor (S, C, H, W)")
        examination = _of_run(run_or_network, volume, label, draws)
    else:
        network = run_or_network.network if is_run else run_or_network
        examination = _of_tensor(network, volume, label, spacing, classes, draws)
    image, title, classes = examination.image, examination.title, examination.classes
    if count := int(image.size - np.isfinite(image).sum()):
        raise InputError(f"{title}: {count} values are NaN or infinite; replace them by 0")
    if examination.label is not None and (highest := examination.label.max(initial=0)) > len(classes):
        raise InputError(f"{title}: the label holds {highest}, but there are classes 1 to {len(classes)} "
                         "only; correct it")
    if other is not None:
        examination.other = _other_of(examination, examine(run_or_network, other, None, spacing, classes, 0))
    return examination


def _other_of(view: Examination, other: Examination) -> Examination:
    """The other Examination, whose gates fit those of `view`."""
    if other.directions is None:
        other.title = "the other volume"
    for each in (view, other):
        if len(each.as_trained.windows) > 1:
            raise InputError(f"{each.title}: has {len(each.image)} slices, more than the network reads at "
                             "once, so that its gates differ from window to window; give no other volume")
    here, there = view.as_trained.windows[0].record, other.as_trained.windows[0].record
    for csam, gates in here.items():
        for name, gate in gates.items():
            sizes = [[n for n, axis in zip(shape, gate.axes) if axis not in "BST"]
                     for shape in (gate.values.shape, there[csam][name].values.shape)]
            if sizes[0] != sizes[1]:
                raise InputError(f"{other.title}: its {name} gate of {csam} has the size {sizes[1]}, not "
                                 f"{sizes[0]}; give a volume with as many rows and columns as {view.title}")
    return other


def _of_run(run: Run, volume: str | Path | Scan, label: object, draws: int) -> Examination:
    if isinstance(volume, Scan):
        if label is not None:
            raise InputError(f"{volume.path}: a Scan carries its own label; "
                             "read it with read_scan(image, label), or leave label out")
        scan = volume
    else:
        scan = read_for(run, volume, label)
    if scan.label is not None and scan.label.shape != (scan.image.shape[0], *scan.image.shape[2:]):
        raise InputError(f"{scan.path}: label {scan.label.shape} and image {scan.image.shape} differ in "
                         "their grid; resample the label")
    (H, W), (h, w) = scan.image.shape[2:], run.grid.size_of(scan)
    left, _, top, _ = run.grid.margins((h, w))
    P = run.config.pixels
    examination = Examination(
        network=run.network, x=network_input(run, scan), image=scan.image, spacing=scan.spacing, unit="mm",
        directions=scan.directions,
        field=(-left * W / w, -top * H / h, (P - left) * W / w, (P - top) * H / h),
        restore=lambda values, background: restore(run, scan, values, background), label=scan.label,
        channels=tuple(run.facts.channels), classes=tuple(run.facts.labels.values()),
        title=printable(Path(scan.path).name), draws=draws)
    if scan is not volume:  # a file, of which nobody has been told anything yet
        cut = edge_remarks(run, scan, examination.as_trained.mask)
        for remark in (*scan.remarks, *run.facts.remarks_on(scan), *cut):
            print(f"{scan.path}: {remark}", file=sys.stderr)
    return examination


def _of_tensor(network: torch.nn.Module, volume: object, label: object, spacing: Sequence[float] | None,
               classes: Sequence[str] | None, draws: int) -> Examination:
    if not isinstance(network, torch.nn.Module) or next(network.parameters(), None) is None:
        raise InputError(f"{type(network).__name__}: is no network with weights; "
                         "give a Run (load_run) or a torch module such as UNet")
    try:
        x = torch.as_tensor(volume).detach().cpu().float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"volume: a {type(volume).__name__} is no tensor; "
                         "give a tensor (S, C, H, W), or a Run with a Scan or a path") from error
    if x.ndim != 4 or 0 in x.shape:
        raise InputError(f"volume: shape {tuple(x.shape)} is not (S, C, H, W); "
                         "give one volume without the axis B, with its axis C")
    if not bool(x.isfinite().all()):
        count = int((~x.isfinite()).sum())
        raise InputError(f"volume: {count} values are NaN or infinite; replace them by 0")
    fits = spacing is None or np.shape(spacing) == (3,) and all(0 < mm < float("inf") for mm in spacing)
    if not fits:
        raise InputError(f"spacing {spacing}: must be three distances above 0 in mm, "
                         "(through-plane, row, column)")
    S, C, H, W = x.shape
    if label is not None:
        label = np.asarray(label)
        if label.shape != (S, H, W) or not np.isin(label, range(256)).all():
            raise InputError(f"label: shape {label.shape} and values must be ({S}, {H}, {W}) "
                             "and classes 0, 1, 2, ...; make it fit the volume")
        label = label.astype(np.uint8)
    examination = Examination(
        network=network, x=x, image=x.numpy(), spacing=tuple(spacing or (1, 1, 1)),
        unit="mm" if spacing else "px", directions=None, field=(0, 0, W, H),
        restore=lambda values, background: values, label=label,
        channels=tuple(f"channel {c}" for c in range(C)), classes=(), title=type(network).__name__,
        draws=draws)
    K = examination.as_trained.num_classes
    if K < 2:
        raise InputError(f"{examination.title}: answers {K} class(es); "
                         "a segmentation needs at least two, the background and another")
    if classes and len(classes) != K - 1:
        raise InputError(f"classes {tuple(classes)}: the network answers {K} with the background; "
                         f"give {K - 1} name(s)")
    examination.classes = tuple(classes or (f"class {k}" for k in range(1, K)))
    return examination


def _of_window(value: object, axes: str, start: int, stop: int) -> object:
    """What replaces a gate in a window of slices: an array that spans the slices of the volume is cut to
    those of the window."""
    if "S" not in axes or callable(value):
        return value
    without_volumes = len(axes) - np.ndim(value)  # 1 for (S,), 0 for (1, S)
    dim = axes.index("S") - without_volumes
    if without_volumes not in (0, 1) or np.shape(value)[dim] == 1:
        return value
    return value[(slice(None),) * dim + (slice(start, stop),)]


def _at_most(maps: torch.Tensor, most: int) -> torch.Tensor:
    """maps (S, C, h, w) in at most `most` values: as they are, or at half the size, or their mean over the
    stack."""
    if maps.numel() <= most:
        return maps
    if maps.numel() <= 4 * most:
        return F.adaptive_avg_pool2d(maps, [max(n // 2, 1) for n in maps.shape[2:]])
    return maps.mean(0, keepdim=True)
