"""Checks of 09_your_own_scan: the geometry of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from csam_lite.course.checks import Wrong, answer, numpy_generator, shuffled, verify


def _turned(angle: float = 0.4, spacing: Sequence[float] = (0.5, 0.7, 3.0),
            origin: Sequence[float] = (-40.0, 12.0, 80.0), flip: Sequence[int] = (1, 1, 1)) -> np.ndarray:
    """An affine (4, 4) of this spacing (mm), with axes flipped where `flip` is -1, and turned about x."""
    c, s = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) * (np.array(spacing) * flip)
    affine[:3, 3] = origin
    return affine


def to_world(function: Callable) -> bool | None:
    """function(affine, voxel): (4, 4) and (i, j, k) -> (x, y, z) in mm."""

    def origin() -> None:
        """voxel (0, 0, 0) lies where the last column says"""
        _same(answer(function, _turned(), (0, 0, 0)), (-40.0, 12.0, 80.0), "voxel (0, 0, 0)",
              "the translation is affine[:3, 3]")

    def straight() -> None:
        """without rotation each index is multiplied by its distance"""
        affine = _turned(0)
        _same(answer(function, affine, (10, 20, 2)), (-35.0, 26.0, 86.0), "voxel (10, 20, 2), no rotation")

    def tilted() -> None:
        """the point is right in a tilted volume"""
        affine, voxel = _turned(0.4), (3, 50, 7)
        _same(answer(function, affine, voxel), (affine @ [*voxel, 1])[:3], "voxel (3, 50, 7), tilted by 0.4 "
                                                                           "rad",
              "multiply each row by the voxel, not each column: A @ v")

    def permuted() -> None:
        """the point is right where the axes of the file are in another order and one is flipped"""
        generator = numpy_generator(0)
        angle, spacing = generator.uniform(-0.6, 0.6), generator.uniform(0.4, 4, 3)
        affine = _turned(angle, spacing, generator.uniform(-90, 90, 3))
        voxel = tuple(generator.integers(0, 60, 3).tolist())
        _same(answer(function, affine, voxel), (affine @ [*voxel, 1])[:3], f"voxel {voxel} of a random scan")
        affine, voxel = _turned(-0.3, flip=(-1, 1, 1))[:, [2, 0, 1, 3]], (4, 5, 60)
        _same(answer(function, affine, voxel), (affine @ [*voxel, 1])[:3], "voxel (4, 5, 60), axes permuted")

    return verify("to_world", origin, straight, tilted, permuted)


def same_grid(function: Callable) -> bool | None:
    """function(shape, affine, other_shape, other_affine) -> whether the grids agree.

    They do if the shapes are equal and no corner of one volume lies more than 0.1 mm from that of the other.
    """
    shape, affine = (160, 120, 20), _turned()

    def same() -> None:
        """a grid is the same as itself"""
        _is(function, (shape, affine, shape, affine.copy()), True, "twice the same grid")

    def rounded() -> None:
        """a difference by rounding is allowed, because NIfTI stores 32 bits"""
        _is(function, (shape, affine, shape, affine.astype(np.float32)), True, "one affine in 32 bits",
            "compare with a tolerance, not with ==")

    def other_shape() -> None:
        """another number of slices is another grid"""
        _is(function, (shape, affine, (160, 120, 19), affine), False, "20 and 19 slices")

    def moved() -> None:
        """a grid that is moved by 4 mm is another grid, in any direction"""
        drawn = tuple(numpy_generator(1).uniform(1, 9, 3).round(1).tolist())
        for shift in shuffled(((4, 0, 0), (4, -4, 0), (0, 0, -4), (0, 0, 0), drawn), 2):
            moved = _turned(origin=np.array((-40.0, 12.0, 80.0)) + shift)
            _is(function, (shape, affine, shape, moved), not any(shift), f"a shift of {shift} mm",
                "the translation counts, and differences of both signs must not cancel")

    def flipped() -> None:
        """a flipped axis makes another grid"""
        _is(function, (shape, affine, shape, _turned(flip=(-1, 1, 1))), False, "a flipped first axis",
            "the spacing has no sign")

    def tilted() -> None:
        """a small tilt moves the corners by millimetres"""
        _is(function, (shape, affine, shape, _turned(0.42)), False, "a tilt of 0.02 rad more",
            "a small number of the matrix is multiplied by 120 rows")

    return verify("same_grid", same, rounded, other_shape, moved, flipped, tilted)


def volume_ml(function: Callable) -> bool | None:
    """function(mask, affine): labels (X, Y, Z) and (4, 4) -> volume in ml of all that is not background."""
    mask = np.zeros((30, 20, 10), np.uint8)
    mask[5:15, 5:15, 2:7] = 1  # 500 voxels

    def straight() -> None:
        """the volume in ml is the number of voxels times the volume of one voxel"""
        _same([answer(function, mask, np.diag([1.0, 1.0, 4.0, 1.0]))], [2.0], "500 voxels of 1 x 1 x 4 "
                                                                              "mm", "1 ml is 1000 cubic "
                                                                                    "millimetres")

    def labels() -> None:
        """label 2 counts once, as label 1 does"""
        both = mask.copy()
        both[5:10][both[5:10] > 0] = 2
        volume = answer(function, both, np.diag([1.0, 1.0, 4.0, 1.0]))
        _same([volume], [2.0], "500 voxels, half of them label 2", "count mask > 0; do not add labels up")

    def flipped() -> None:
        """a flipped axis leaves the volume positive"""
        _same([answer(function, mask, _turned(0, (0.5, 0.5, 4.0), flip=(-1, 1, 1)))], [0.5],
              "500 voxels of 0.5 x 0.5 x 4 mm, one axis flipped")

    def tilted() -> None:
        """a tilted volume keeps its size"""
        _same([answer(function, mask, _turned(0.4, (0.5, 0.5, 4.0)))], [0.5],
              "500 voxels of 0.5 x 0.5 x 4 mm, tilted by 0.4 rad",
              "the diagonal is not enough; use the spacing, or the determinant")
        drawn = (numpy_generator(3).random(mask.shape) < 0.3).astype(np.uint8)
        _same([answer(function, drawn, _turned(0.4, (0.5, 0.5, 4.0)))], [drawn.sum() / 1000],
              "a random mask of voxels of 0.5 x 0.5 x 4 mm, tilted by 0.4 rad")

    return verify("volume_ml", straight, labels, flipped, tilted)


def _same(numbers: object, expected: Sequence[float], on: str, hint: str = "") -> None:
    values = np.asarray(numbers, float)
    if values.shape != (len(expected),) or not np.allclose(values, expected, rtol=1e-4, atol=1e-4):
        wanted, found = np.round(expected, 4).tolist(), np.round(values, 4).tolist()
        raise Wrong(f"on {on}: expected {wanted}, found {found}" + (f"; {hint}" if hint else ""))


def _is(function: Callable, given: tuple, expected: bool, on: str, hint: str = "") -> None:
    if bool(answer(function, *given)) != expected:
        raise Wrong(f"on {on}: expected {expected}, found {not expected}" + (f"; {hint}" if hint else ""))
