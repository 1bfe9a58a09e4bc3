"""Checks of 01_anisotropic_mri: spacing from an affine, the slice axis, thick slices, and whether a network looks across slices."""

import numpy as np
import torch

from csam_lite.course.checks import Wrong, answer, same_values, verify


def spacing(function):
    """function(affine): 4 x 4, from voxel numbers to mm -> the distance in mm between neighbouring voxels on each of the three axes."""

    def gives(affine, expected, on, hint):
        found = np.array(answer(function, affine.copy()), float)
        same_values(torch.from_numpy(found), torch.tensor(expected, dtype=torch.double), on, hint)

    def straight():
        """A straight scan: the spacing stands on the diagonal"""
        gives(np.diag([0.5, 0.7, 3.0, 1]), (0.5, 0.7, 3.0), "diag(0.5, 0.7, 3, 1)", "three numbers are wanted, one an axis")

    def positive():
        """A distance has no sign, also where an axis runs backwards"""
        gives(np.diag([-0.5, -0.7, 3.0, 1]), (0.5, 0.7, 3.0), "diag(-0.5, -0.7, 3, 1)", "an axis that runs to the left has a negative entry")

    def moved():
        """Where the scan lies changes no distance"""
        affine = np.diag([0.5, 0.7, 3.0, 1])
        affine[:3, 3] = -90, 40, 12
        gives(affine, (0.5, 0.7, 3.0), "the same with an offset of (-90, 40, 12) mm", "the last column is the offset")

    def tilted():
        """A tilted scan: one step along an axis moves along two directions of the room"""
        c, s = np.cos(0.4), np.sin(0.4)
        affine = np.eye(4)
        affine[:3, :3] = np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) * (0.5, 0.7, 3.0)
        gives(affine, (0.5, 0.7, 3.0), "slices tilted by 23 degrees", "column j is where one step along axis j leads; take its length")

    return verify("spacing", straight, positive, moved, tilted)


def slice_axis(function):
    """function(shape, spacing): three voxel numbers, three distances in mm -> the number (0, 1, 2) of the axis across the slices."""

    def gives(shape, mm, expected, hint=""):
        found = answer(function, shape, mm)
        try:
            axis = int(found)
            whole = axis == float(found) and -3 <= axis < 3
        except (TypeError, ValueError):
            whole = False
        if not whole or axis % 3 != expected:
            raise Wrong(f"for shape {shape} and spacing {mm} mm: expected axis {expected}, found {found!r}{'; ' + hint if hint else ''}")

    def usual():
        """Few thick slices on the last axis"""
        gives((320, 300, 20), (0.6, 0.6, 3.6), 2)

    def first_or_middle():
        """Slices on the first or on the middle axis"""
        gives((18, 256, 256), (4.0, 0.75, 0.75), 0, "files may store the slices on any axis")
        gives((256, 22, 256), (0.75, 3.0, 0.75), 1, "files may store the slices on any axis")

    def not_the_shape():
        """The spacing decides, not the shape"""
        gives((64, 48, 80), (0.8, 0.8, 3.0), 2, "a cropped scan can have more slices than rows")
        gives((90, 60, 40), (3.0, 0.5, 0.5), 0, "a cropped scan can have more slices than rows")

    return verify("slice_axis", usual, first_or_middle, not_the_shape)


def thick_slices(function):
    """function(fine, factor): fine (Z, H, W) numpy array -> (Z // factor, H, W), each slice the mean of `factor` neighbouring planes."""

    def gives(fine, factor, on, hint=""):
        whole = len(fine) // factor * factor
        expected = torch.from_numpy(fine[:whole].reshape(-1, factor, *fine.shape[1:]).mean(1))
        found = answer(function, fine.copy(), factor)
        same_values(torch.as_tensor(found) if isinstance(found, np.ndarray) else found, expected, on, hint)

    def by_hand():
        """Planes of 0, 1, 2, 3 and the factor 2 give slices of 0.5 and 2.5"""
        fine = np.arange(4.0)[:, None, None] * np.ones((1, 3, 5))
        gives(fine, 2, "planes 0, 1, 2, 3 of shape (3, 5), factor 2", "0 and 2: planes were left out; 1 and 5: added, not averaged")

    def in_plane():
        """Rows and columns stay as they are"""
        gives(np.random.default_rng(0).random((6, 4, 8)), 2, "random numbers (6, 4, 8), factor 2", "only the first axis gets coarser")

    def neighbours():
        """A slice is made of planes that lie next to each other"""
        gives(np.random.default_rng(1).random((12, 2, 3)), 3, "random numbers (12, 2, 3), factor 3", "reshape to (Z // factor, factor, H, W)")

    def left_over():
        """Planes that fill no whole slice are left out at the end"""
        gives(np.random.default_rng(2).random((8, 2, 3)), 3, "random numbers (8, 2, 3), factor 3", "8 // 3 = 2 slices use 6 planes")

    return verify("thick_slices", by_hand, in_plane, neighbours, left_over)


def influence(function):
    """function(network, x, s): x (B, S, C, H, W) -> the largest absolute change of the network's answer in slice s when all other slices
    are set to zero."""
    x = torch.randn(2, 5, 1, 3, 4, generator=torch.Generator().manual_seed(0))

    def gives(network, s, expected, on, hint=""):
        given = x.clone()
        found = answer(function, network, given, s)
        try:
            number = float(found)
        except (TypeError, ValueError, RuntimeError) as error:
            raise Wrong(f"on {on}: expected the number {expected:.4g}, found {type(found).__name__}") from error
        if not abs(number - expected) <= 1e-4 * max(1, expected):
            raise Wrong(f"on {on}: expected {expected:.4g}, found {number:.4g}{'; ' + hint if hint else ''}")
        same_values(given, x, f"{on}, x looked at afterwards", "work on x.clone()")

    def slice_by_slice():
        """A network that works slice by slice: 0"""
        gives(lambda v: 3 * v, 2, 0, "the network 3 x, slice 2", "compare the answers in slice s alone, and leave x[:, s] as it is")

    def whole_stack():
        """A network that adds the mean over the stack"""
        for s in (0, 3):
            rest = (x.sum(1) - x[:, s]) / 5
            gives(lambda v: v + v.mean(1, keepdim=True), s, float(rest.abs().max()), f"the network x + mean over S, slice {s}",
                  "take the largest absolute change; all other slices are set to zero, not one")

    def sign():
        """A change downwards counts like one upwards"""
        for factor in (1, -1):
            gives(lambda v, factor=factor: v + factor * (v.abs().amax(1, keepdim=True)), 1,
                  float((x.abs().amax(1) - x[:, 1].abs()).max()), f"the network x {'+' if factor > 0 else '-'} largest value, slice 1",
                  "use abs() before max()")

    def one_neighbour():
        """A network that looks one slice down, or one slice up"""
        for step in (1, -1):
            gives(lambda v, step=step: v + torch.roll(v, step, 1), 2, float(x[:, 2 - step].abs().max()),
                  f"the network x + the slice {'below' if step == 1 else 'above'}, slice 2", "slices on both sides must be set to zero")

    return verify("influence", slice_by_slice, whole_stack, sign, one_neighbour)
