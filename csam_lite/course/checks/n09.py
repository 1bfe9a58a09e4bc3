"""Checks of 09_your_own_scan: the geometry of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from csam_lite.course.checks import (
    Wrong,
    answer,
    exercise,
    number,
    numbers,
    numpy_generator,
    shuffled,
    states,
    verify,
)


def _turned(
    angle: float = 0.4,
    spacing: Sequence[float] = (0.5, 0.7, 3.0),
    origin: Sequence[float] = (-40.0, 12.0, 80.0),
    flip: Sequence[int] = (1, 1, 1),
) -> np.ndarray:
    """An affine (4, 4) of this spacing (mm), with axes flipped where `flip` is -1, and turned about x."""
    c, s = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) * (np.array(spacing) * flip)
    affine[:3, 3] = origin
    return affine


@exercise
def to_world(function: Callable) -> bool | None:
    """function(affine, voxel): (4, 4) and (i, j, k) -> (x, y, z) in mm."""

    @states("Voxel (0, 0, 0) lies where the last column says")
    def origin() -> None:
        _same(
            answer(function, _turned(), (0, 0, 0)),
            (-40.0, 12.0, 80.0),
            "voxel (0, 0, 0)",
            "the translation is affine[:3, 3]",
        )

    @states("Without rotation each index is multiplied by its distance")
    def straight() -> None:
        affine = _turned(0)
        _same(answer(function, affine, (10, 20, 2)), (-35.0, 26.0, 86.0), "voxel (10, 20, 2), no rotation")

    @states("The point is right in a tilted volume")
    def tilted() -> None:
        affine, voxel = _turned(0.4), (3, 50, 7)
        _same(
            answer(function, affine, voxel),
            (affine @ [*voxel, 1])[:3],
            "voxel (3, 50, 7), tilted by 0.4 rad",
            "multiply each row by the voxel, not each column: A @ v",
        )

    @states("The point is right where the axes of the file are in another order and one is flipped")
    def permuted() -> None:
        generator = numpy_generator(0)
        angle, spacing = generator.uniform(-0.6, 0.6), generator.uniform(0.4, 4, 3)
        affine = _turned(angle, spacing, generator.uniform(-90, 90, 3))
        affine[:3, :3] = _rotation(2, 0.3) @ affine[:3, :3]  # tilted about two axes
        voxel = tuple(generator.integers(0, 60, 3).tolist())
        _same(answer(function, affine, voxel), (affine @ [*voxel, 1])[:3], f"voxel {voxel} of a random scan")
        affine, voxel = _turned(-0.3, flip=(-1, 1, 1))[:, [2, 0, 1, 3]], (4, 5, 60)
        _same(answer(function, affine, voxel), (affine @ [*voxel, 1])[:3], "voxel (4, 5, 60), axes permuted")

    return verify("to_world", origin, straight, tilted, permuted)


@exercise
def same_grid(function: Callable) -> bool | None:
    """function(shape, affine, other_shape, other_affine) -> whether the grids agree.

    They do if the shapes are equal and no corner of one volume lies more than 0.1 mm from that of the other.
    """
    shape, affine = (160, 120, 20), _turned()

    @states("A grid is the same as itself")
    def same() -> None:
        _is(function, (shape, affine, shape, affine.copy()), True, "twice the same grid")

    @states("A difference by rounding is allowed, because NIfTI stores 32 bits")
    def rounded() -> None:
        _is(
            function,
            (shape, affine, shape, affine.astype(np.float32)),
            True,
            "one affine in 32 bits",
            "compare with a tolerance, not with ==",
        )

    @states("Another number of slices is another grid")
    def other_shape() -> None:
        _is(function, (shape, affine, (160, 120, 19), affine), False, "20 and 19 slices")

    @states("The same numbers in another order are another shape")
    def axes_in_another_order() -> None:
        _is(
            function,
            (shape, affine, (120, 160, 20), affine),
            False,
            "shapes (160, 120, 20) and (120, 160, 20)",
            "compare the shapes axis by axis",
        )

    def shifted(*steps: float) -> np.ndarray:
        """The affine, moved by this many mm along x, y, z."""
        moved = affine.copy()
        moved[:3, 3] += steps
        return moved

    @states("A grid that is moved by more than 0.1 mm is another grid, in any direction")
    def moved() -> None:
        drawn = tuple(numpy_generator(1).uniform(1, 9, 3).round(1).tolist())
        by_hand = (4, 0, 0), (4, -4, 0), (0, 0, -4), (0.2, 0, 0), (0, -0.2, 0), (0, 0, 0.2), (0.11, 0, 0)
        for steps in shuffled((*by_hand, (0, 0, 0), drawn), 2):
            _is(
                function,
                (shape, affine, shape, shifted(*steps)),
                not any(steps),
                f"a shift of {steps} mm",
                "the translation counts, differences of both signs must not cancel, and the limit is 0.1 mm",
            )

    @states("A grid that is moved by less than 0.1 mm is the same")
    def moved_a_little() -> None:
        for steps in ((0.05, 0, 0), (0, 0, -0.05), (0, 0.09, 0)):
            _is(
                function,
                (shape, affine, shape, shifted(*steps)),
                True,
                f"a shift of {steps} mm",
                "0.1 mm are allowed",
            )

    @states("A flipped axis makes another grid")
    def flipped() -> None:
        _is(
            function,
            (shape, affine, shape, _turned(flip=(-1, 1, 1))),
            False,
            "a flipped first axis",
            "the spacing has no sign",
        )

    @states("A small tilt moves the corners by millimetres")
    def tilted() -> None:
        hint = "a small number of the matrix is multiplied by 120 rows; compare corners in mm"
        _is(function, (shape, affine, shape, _turned(0.42)), False, "a tilt of 0.02 rad more", hint)
        centre = (affine @ [80, 60, 10, 1])[:3]
        for axis in range(3):
            for angle, same_ in ((0.01, False), (0.0005, True)):
                turn = _rotation(axis, angle)
                other = affine.copy()
                other[:3, :3], other[:3, 3] = turn @ affine[:3, :3], centre + turn @ (affine[:3, 3] - centre)
                _is(
                    function,
                    (shape, affine, shape, other),
                    same_,
                    f"a tilt of {angle} rad about the centre and axis {'xyz'[axis]}",
                    hint,
                )

    @states("A grid whose voxels are a little larger is another grid, if an end moves by more than 0.1 mm")
    def stretched() -> None:
        small, hint = (9, 7, 5), "the corners lie at the ends of each axis, and the shape says how far away"
        for axis, size in enumerate(small):
            for first, last in ((0, 0.115), (0, 0.088), (0.105, 0), (0.089, 0)):
                other = _stretched(affine, axis, size, first, last)
                on = f"shape {small}; on axis {axis} the first end moves {first} mm, the last {last}"
                _is(function, (small, affine, small, other), first + last < 0.1, on, hint)

    @states("One corner that lies more than 0.1 mm off is enough, whichever it is")
    def corner_by_corner() -> None:
        small, hint = (9, 7, 5), "compare all eight corners, and take the largest distance"
        for corner in np.ndindex(2, 2, 2):
            for most, same_ in ((0.12, False), (0.09, True)):
                other = affine
                for axis, (size, last) in enumerate(zip(small, corner)):
                    part = most / 3
                    other = _stretched(other, axis, size, 0 if last else part, part if last else 0)
                on = f"the corner {corner} (0: first voxel, 1: last) moved by {most} mm, the others by less"
                _is(function, (small, affine, small, other), same_, on, hint)

    return verify(
        "same_grid",
        same,
        rounded,
        other_shape,
        axes_in_another_order,
        moved,
        moved_a_little,
        flipped,
        tilted,
        stretched,
        corner_by_corner,
    )


def _rotation(axis: int, angle: float) -> np.ndarray:
    """The matrix (3, 3) of a rotation by `angle` rad about x, y or z (axis 0, 1 or 2)."""
    first, second = (i for i in range(3) if i != axis)
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    return turn


def _stretched(affine: np.ndarray, axis: int, size: int, first: float, last: float) -> np.ndarray:
    """The affine, changed so that the ends of this axis move by `first` and `last` mm along x."""
    changed = affine.copy()
    changed[0, 3] += first
    changed[0, axis] += (last - first) / (size - 0.5)  # between the last voxel's centre and its border
    return changed


@exercise
def volume_ml(function: Callable) -> bool | None:
    """function(mask, affine): labels (X, Y, Z) and (4, 4) -> volume in ml of all that is not background."""
    mask = np.zeros((30, 20, 10), np.uint8)
    mask[5:15, 5:15, 2:7] = 1  # 500 voxels

    @states("The volume in ml is the number of voxels times the volume of one voxel")
    def straight() -> None:
        _same(
            [answer(function, mask, np.diag([1.0, 1.0, 4.0, 1.0]))],
            [2.0],
            "500 voxels of 1 x 1 x 4 mm",
            "1 ml is 1000 cubic millimetres",
        )

    @states("Label 2 counts once, as label 1 does")
    def labels() -> None:
        both = mask.copy()
        both[5:10][both[5:10] > 0] = 2
        volume = answer(function, both, np.diag([1.0, 1.0, 4.0, 1.0]))
        _same([volume], [2.0], "500 voxels, half of them label 2", "count mask > 0; do not add labels up")

    @states("A flipped axis leaves the volume positive")
    def flipped() -> None:
        _same(
            [answer(function, mask, _turned(0, (0.5, 0.5, 4.0), flip=(-1, 1, 1)))],
            [0.5],
            "500 voxels of 0.5 x 0.5 x 4 mm, one axis flipped",
        )

    @states("A tilted volume keeps its size")
    def tilted() -> None:
        _same(
            [answer(function, mask, _turned(0.4, (0.5, 0.5, 4.0)))],
            [0.5],
            "500 voxels of 0.5 x 0.5 x 4 mm, tilted by 0.4 rad",
            "the diagonal is not enough; use the spacing, or the determinant",
        )
        drawn = (numpy_generator(3).random(mask.shape) < 0.3).astype(np.uint8)
        volume = answer(function, drawn, _turned(0.4, (0.5, 0.8, 4.0)))
        _same([volume], [1.6 * drawn.sum() / 1000], "a random mask of 0.5 x 0.8 x 4 mm, tilted by 0.4 rad",
              "count each voxel alone, and mind that rows and columns can have unlike spacings")
        volume = answer(function, 255 * drawn, _turned(0.4, (0.5, 0.8, 4.0)))
        on = "the same mask with the label 255"
        _same([volume], [1.6 * drawn.sum() / 1000], on, "count voxels, not labels")

    @states("An empty mask has the volume 0, and a full one that of the whole grid")
    def empty() -> None:
        _same([answer(function, 0 * mask, np.diag([1.0, 1.0, 4.0, 1.0]))], [0.0], "a mask without foreground")
        _same(
            [answer(function, 3 + 0 * mask, np.diag([1.0, 1.0, 4.0, 1.0]))], [24.0], "6000 voxels of label 3"
        )

    @states("The mask stays as it was")
    def untouched() -> None:
        given = 2 * mask
        answer(function, given, np.eye(4))
        if not np.array_equal(given, 2 * mask):
            raise Wrong("on a mask of label 2: your function changed the mask; do not write into it")

    return verify("volume_ml", straight, labels, flipped, tilted, empty, untouched)


def _same(found: object, expected: Sequence[float], on: str, hint: str = "") -> None:
    values = numbers(found, on).numpy()
    if values.shape == (len(expected), 1):
        values = values[:, 0]  # a column
    if values.shape != (len(expected),) or not np.allclose(values, expected, rtol=1e-4, atol=1e-4):
        wanted, found = np.round(expected, 4).tolist(), np.round(values, 4).tolist()
        if len(wanted) == 1 and values.shape == (1,):
            (wanted,), (found,) = wanted, found
        raise Wrong(f"on {on}: expected {wanted}, found {found}" + (f"; {hint}" if hint else ""))


def _is(function: Callable, given: tuple, expected: bool, on: str, hint: str = "") -> None:
    result = answer(function, *given)
    said = number(result, on)
    if said not in (0, 1) or isinstance(result, float) and bool(said) != expected:
        raise Wrong(f"on {on}: expected {expected}, found the number {said:g}; return True or False")
    if bool(said) != expected:
        raise Wrong(f"on {on}: expected {expected}, found {bool(said)}" + (f"; {hint}" if hint else ""))
