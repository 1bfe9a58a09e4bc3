"""From a trained network to a mask on the scan's own grid."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from csam_lite.attention import SliceAttention
from csam_lite.errors import InputError
from csam_lite.scan import read_scan, write_like


@torch.no_grad()
def probabilities(network, image, during=None):
    """Class probabilities (S, K, H, W) float32 on the CPU for image (S, C, H, W), in the mode the network is in.

    A volume deeper than `network.num_slices` (if it has one) is covered by windows that overlap by half or more; where they do, slices
    count more the nearer they lie to their window's middle. during(start, stop) gives a context that is open while the network looks at these
    slices, e.g. to record or replace its gates (record.py).
    """
    S, device = len(image), next(network.parameters()).device
    D = getattr(network, "num_slices", S)

    def look(start, stop):
        with during(start, stop) if during else nullcontext():
            return network(image[None, start:stop].to(device))[0].float().softmax(1).cpu()

    if S <= D:
        return look(0, S)
    windows = -(-2 * S // D) - 1
    total, weight = 0.0, torch.zeros(S, 1, 1, 1)
    near_middle = 1.0 + torch.minimum(torch.arange(D), torch.arange(D).flip(0))[:, None, None, None]
    for start in map(int, np.linspace(0, S - D, windows).round()):
        part = look(start, start + D) * near_middle
        total = total + torch.nn.functional.pad(part, (0, 0, 0, 0, 0, 0, start, S - D - start))
        weight[start:start + D] += near_middle
    return total / weight


def class_probabilities(run, scan):
    """Probabilities (S, K, H, W) float32 on the scan's own grid. Raises InputError where its channels are not the network's."""
    return _restore(run, scan, probabilities(run.network, _network_input(run, scan))).numpy()


def segment(run, scan):
    """Mask (S, H, W) uint8 of classes 0..K-1 on the scan's own grid: the most probable class. Raises InputError as `class_probabilities`."""
    return class_probabilities(run, scan).argmax(1).astype(np.uint8)


def label_values(run, mask):
    """mask (S, H, W) of classes 0..K-1 -> the same in the label values of the training data, uint8."""
    return np.array([0, *run.facts.labels], np.uint8)[mask]


def disagreement(run, scan, draws=20):
    """How much repeated draws of the slice gate disagree: the standard deviation over `draws` of the class probabilities, that of
    the class where it is largest, (S, H, W) float32 in [0, 0.5]. Zero where all draws agree.

    Raises InputError for a network without a drawn gate.
    """
    if not drawn_gates(run.network):
        raise InputError(f"{run.folder}: has no drawn slice gate, so draws cannot disagree; train one with --uncertain for a map")
    return _restore(run, scan, spread(run.network, _network_input(run, scan), draws), background=0.0).amax(1).numpy()


def spread(network, image, draws=20):
    """Standard deviation of the class probabilities over `draws` of the slice gate, (S, K, H, W), for image (S, C, H, W).

    The gates draw; the rest of the network stays in the mode it is in.
    """
    drawn = drawn_gates(network)
    modes = [module.training for module in drawn]
    for module in drawn:
        module.train()
    try:
        return torch.stack([probabilities(network, image) for _ in range(draws)]).std(0, correction=0)
    finally:
        for module, mode in zip(drawn, modes):
            module.train(mode)


def drawn_gates(network):
    """The slice attentions of `network` that draw their gate in training."""
    return [module for module in network.modules() if isinstance(module, SliceAttention) and module.normal is not None]


def predict_file(run, image_path, mask_path, uncertainty_path=None, draws=20):
    """Segment a NIfTI scan and write its mask, in the label values of the training data, on the scan's own grid and affine.

    With `uncertainty_path`, also write the map of `disagreement`. Returns the mask (S, H, W). Raises InputError as `read_scan`,
    `write_like` and `disagreement` do; nothing is written then.
    """
    for path in filter(None, (mask_path, uncertainty_path)):
        if not str(path).endswith((".nii", ".nii.gz")):
            raise InputError(f"{path}: masks and maps are written as NIfTI; let the name end in .nii.gz")
    paths = [Path(path).resolve() for path in (image_path, mask_path, uncertainty_path) if path]
    if len(set(paths)) < len(paths):
        raise InputError(f"{mask_path}: the scan, the mask and the map need a name each; give another one")
    if draws < 1:
        raise InputError(f"--draws {draws}: must be 1 or more")
    scan = read_scan(image_path)
    mask = label_values(run, segment(run, scan))
    uncertainty = disagreement(run, scan, draws) if uncertainty_path else None
    write_like(scan, {mask_path: mask} | ({uncertainty_path: uncertainty} if uncertainty_path else {}))
    return mask


def _network_input(run, scan):
    channels, trained = scan.image.shape[1], run.facts.channels
    if channels != len(trained):
        raise InputError(f"{scan.path}: has {channels} channel(s), the network was trained on {len(trained)} ({', '.join(trained)}); "
                         "give the same channels in the same order")
    return run.preprocess.image(scan)


def _restore(run, scan, values, background=1.0):
    """values (S, K, P, P) on the scan's own grid (S, K, H, W); outside the network's grid all is background."""
    restored = run.preprocess.restore(values, scan)
    outside = run.preprocess.restore(torch.ones(1, 1, *values.shape[2:]), scan)[0, 0] < 0.5
    restored[:, 0, outside] = background
    return restored
