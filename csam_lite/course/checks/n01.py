"""Checks of 01_anisotropic_mri: spacing, the slice axis, thick slices, and whether a network looks across
slices."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from csam_lite.course.checks import (
    Answer,
    Verdict,
    Wrong,
    answer,
    exercise,
    numbers,
    numpy_generator,
    plain_number,
    same_values,
    states,
    torch_generator,
    verify,
)


@exercise
def spacing(function: Answer) -> Verdict:
    """function(affine): affine (4, 4), from voxel numbers to mm -> the distance in mm between neighbouring
    voxels on each of the three axes."""

    def gives(affine: np.ndarray, expected: Sequence[float], on: str, hint: str) -> None:
        result = numbers(answer(function, affine.copy()), on)
        same_values(result, torch.tensor(expected, dtype=torch.double), on, hint)

    c, s = np.cos(0.4), np.sin(0.4)
    turn = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
    slanting, another = np.eye(4), np.eye(4)
    slanting[:3, :3] = turn * (0.5, 0.7, 3.0)
    drawn = numpy_generator(3).uniform(0.3, 5.0, 3).round(2)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    another[:3, :3] = about_z @ turn * drawn

    @states("A straight scan: the spacing stands on the diagonal")
    def straight() -> None:
        gives(np.diag([0.5, 0.7, 3.0, 1]), (0.5, 0.7, 3.0), "diag(0.5, 0.7, 3, 1)",
              "return three numbers, one for each axis")

    @states("A distance has no sign, also where an axis runs backwards")
    def positive() -> None:
        gives(np.diag([-0.5, -0.7, 3.0, 1]), (0.5, 0.7, 3.0), "diag(-0.5, -0.7, 3, 1)",
              "an axis that runs to the left has a negative entry")

    @states("The position of the scan changes no distance")
    def moved() -> None:
        affine = np.diag([0.5, 0.7, 3.0, 1])
        affine[:3, 3] = -90, 40, 12
        gives(
            affine,
            (0.5, 0.7, 3.0),
            "the same with an offset of (-90, 40, 12) mm",
            "the last column is the offset",
        )

    @states("The three distances come in the order of the axes of the file")
    def in_order() -> None:
        gives(
            np.diag([3.0, 0.7, 0.5, 1]), (3.0, 0.7, 0.5), "diag(3, 0.7, 0.5, 1)", "do not sort the distances"
        )

    @states("A tilted scan: one step along an axis moves along two directions of the room")
    def tilted() -> None:
        gives(slanting, (0.5, 0.7, 3.0), "slices tilted by 23 degrees",
              "column j is where one step along axis j leads; take its length")
        gives(another, drawn, f"slices tilted about two axes, of the spacing {drawn.tolist()}",
              "column j is where one step along axis j leads; take its length")

    @states("A tilted scan whose slices lie on the first axis of the file")
    def sagittal() -> None:
        gives(slanting[:, [2, 0, 1, 3]], (3.0, 0.5, 0.7), "tilted slices on the first axis",
              "column j belongs to axis j of the file, whatever its direction in the room")

    @states("The toy of the text: its second column (0, 3, 4) has the length 5")
    def toy() -> None:
        affine = np.eye(4)
        affine[:3, 1] = 0, 3, 4
        gives(affine, (1, 5, 1), "the toy of the text", "take the length of each column, whatever the others")

    return verify("spacing", straight, positive, moved, in_order, tilted, sagittal, toy)


@exercise
def slice_axis(function: Answer) -> Verdict:
    """function(shape, spacing): three voxel numbers, three distances in mm -> the axis across the slices: 0,
    1 or 2."""

    def gives(shape: tuple[int, ...], mm: tuple[float, ...], expected: int, hint: str) -> None:
        result = answer(function, shape, mm)
        try:
            right = not isinstance(result, str) and float(result) == expected
        except (TypeError, ValueError):
            right = False
        if not right:
            raise Wrong(
                f"for shape {shape} and spacing {mm} mm: expected axis {expected}, found {result!r}; {hint}"
            )

    @states("Few thick slices on the last axis")
    def usual() -> None:
        gives((320, 300, 20), (0.6, 0.6, 3.6), 2, "return the number of the axis: 0, 1 or 2")

    @states("Slices on the first or on the middle axis")
    def first_or_middle() -> None:
        gives((18, 256, 256), (4.0, 0.75, 0.75), 0, "a file may store the slices on any axis")
        gives((256, 22, 256), (0.75, 3.0, 0.75), 1, "a file may store the slices on any axis")

    @states("The spacing decides, not the shape")
    def not_the_shape() -> None:
        for shape, mm, expected in (((64, 48, 80), (0.8, 0.8, 3.0), 2), ((90, 60, 40), (3.0, 0.5, 0.5), 0),
                                    ((20, 400, 30), (0.5, 1.2, 1.4), 2), ((10, 200, 90), (1.0, 0.7, 1.3), 2)):
            gives(shape, mm, expected, "a cropped scan can have more slices than rows")

    @states("The two axes within a slice can have different spacings")
    def three_spacings() -> None:
        for mm, expected in (
            ((0.5, 0.7, 3.0), 2),
            ((0.9, 0.4, 0.5), 0),
            ((1.2, 1.1, 2.5), 2),
            ((0.2, 1.1, 1.0), 1),
            ((0.52, 0.52, 0.54), 2),
        ):
            gives((100, 100, 100), mm, expected, "the slices lie farther apart than rows or columns: "
                                                 "which spacing is the largest?")
        generator = numpy_generator(4)
        for expected in generator.integers(0, 3, 4).tolist():
            mm = generator.uniform(0.3, 1.5, 3).round(2)
            mm[expected] = round(mm.max() * 1.5, 2)
            gives(tuple(generator.integers(10, 400, 3).tolist()), tuple(mm.tolist()), expected,
                  "which spacing is the largest?")

    return verify("slice_axis", usual, first_or_middle, not_the_shape, three_spacings)


@exercise
def thick_slices(function: Answer) -> Verdict:
    """function(fine, factor): fine (Z, H, W) numpy array -> (Z // factor, H, W), each slice the mean of
    `factor` neighbouring planes."""

    def gives(fine: np.ndarray, factor: int, on: str, hint: str) -> None:
        whole = len(fine) // factor * factor
        expected = torch.from_numpy(fine[:whole].reshape(-1, factor, *fine.shape[1:]).mean(1))
        same_values(numbers(answer(function, fine.copy(), factor), on), expected, on, hint)

    @states("Planes of 0, 1, 2, 3 and the factor 2 give slices of 0.5 and 2.5")
    def by_hand() -> None:
        fine = np.arange(4.0)[:, None, None] * np.ones((1, 3, 5))
        gives(fine, 2, "planes 0, 1, 2, 3 of shape (3, 5), factor 2",
              "0 and 2 mean that planes were left out; 1 and 5 mean that they were added, not averaged")

    @states("Rows and columns stay as they are")
    def in_plane() -> None:
        gives(numpy_generator(0).random((6, 4, 8)), 2, "random numbers (6, 4, 8), factor 2",
              "only the first axis gets coarser")

    @states("A slice is made of planes that lie next to each other")
    def neighbours() -> None:
        for number in (1, 4):
            gives(numpy_generator(number).random((12, 2, 3)), 3, "random numbers (12, 2, 3), factor 3",
                  "reshape to (Z // factor, factor, H, W)")

    @states("Planes that fill no whole slice are left out at the end")
    def left_over() -> None:
        gives(numpy_generator(2).random((8, 2, 3)), 3, "random numbers (8, 2, 3), factor 3",
              "8 // 3 = 2 slices use 6 planes")

    @states("The mean of whole numbers is not rounded")
    def whole_numbers() -> None:
        gives(np.arange(4, dtype=np.int16)[:, None, None] * np.ones((1, 2, 3), np.int16), 2,
              "planes 0, 1, 2, 3 of whole numbers (int16, as in many files), factor 2",
              "an array made with zeros_like(fine) keeps whole numbers only")
        gives(np.full((9, 2, 3), 4000, np.int16), 9, "planes of 4000 (int16), factor 9",
              "the sum, 36000, is too large for int16, which ends at 32767; add up fine.astype(float)")

    return verify("thick_slices", by_hand, in_plane, neighbours, left_over, whole_numbers)


@exercise
def influence(function: Answer) -> Verdict:
    """function(network, x, s): x (B, S, C, H, W) -> the largest absolute change of the network's answer in
    slice s when all other slices are set to zero."""
    x = torch.randn(2, 5, 2, 3, 4, generator=torch_generator(0))

    def gives(network: Callable, s: int, on: str, hint: str, x: torch.Tensor = x) -> None:
        alone = torch.zeros_like(x)
        alone[:, s] = x[:, s]
        expected = float((network(x) - network(alone))[:, s].abs().max())
        number = plain_number(answer(function, network, x.clone(), s), on, expected)
        if not abs(number - expected) <= 1e-4 * max(1, expected):
            raise Wrong(f"on {on}: expected {expected:.4g}, found {number:.4g}; {hint}")

    def filled(b: int) -> torch.Tensor:
        """x, of which the other volume is 0 except in slice 2, so that no other slice of it can matter."""
        only = x.clone()
        only[1 - b, :2], only[1 - b, 3:] = 0, 0
        return only

    @states("A network that works slice by slice: 0")
    def slice_by_slice() -> None:
        gives(lambda v: 3 * v, 2, "the network 3 x, slice 2",
              "compare the answers in slice s alone, and leave x[:, s] as it is")

    @states("A network that adds the mean over the stack")
    def whole_stack() -> None:
        for s in (0, 3):
            gives(lambda v: v + v.mean(1, keepdim=True), s, f"the network x + mean over S, slice {s}",
                  "take the largest absolute change; all other slices are set to zero, not to one")

    @states("A change downwards counts like a change upwards")
    def sign() -> None:
        for factor in (1, -1):
            gives(
                lambda v, factor=factor: v + factor * v.abs().amax(1, keepdim=True),
                1,
                f"the network x {'+' if factor > 0 else '-'} largest value, slice 1",
                "use abs() before max()",
            )

    @states("A network that looks one slice down, or one slice up, and goes round at the ends")
    def one_neighbour() -> None:
        for step, s in ((1, 2), (-1, 2), (1, 0), (-1, 4)):
            gives(lambda v, step=step: v + torch.roll(v, step, 1), s,
                  f"the network x + the slice {'below' if step == 1 else 'above'}, slice {s}",
                  "slices on both sides must be set to zero")

    @states("A network that reads 2 channels and answers with 3")
    def channels_and_classes() -> None:
        for strong in range(6):
            weight = torch.zeros(3, 2)
            weight[strong // 2, strong % 2] = 1.0
            gives(
                lambda v, weight=weight: torch.einsum(
                    "kc,bschw->bskhw", weight, v.mean(1, keepdim=True)
                ).expand(-1, v.shape[1], -1, -1, -1),
                1,
                f"a network whose class {strong // 2} reads the mean over S of channel {strong % 2}, slice 1",
                "set all channels of the other slices to zero, and compare all classes of the answer",
            )

    @states("Each volume of the batch counts")
    def volumes() -> None:
        for b in (0, 1):
            on = f"the network x + mean over S, slice 2, where only volume {b} has other slices"
            gives(lambda v: v + v.mean(1, keepdim=True), 2, on, "compare all volumes", filled(b))

    @states("Each number of the answer counts, also the first and the last")
    def each_number() -> None:
        for b, place, name in ((0, (0, 0, 0), "first"), (1, (1, 2, 3), "last")):
            def one_number(v: torch.Tensor, place: tuple[int, ...] = place) -> torch.Tensor:
                c, h, w = place
                change = torch.zeros_like(v)
                change[:, :, c, h, w] = v.abs().sum((1, 2, 3, 4))[:, None]
                return v + change

            gives(
                one_number,
                2,
                f"a network that adds the sum of the volume to the {name} number of a slice, slice 2",
                "compare all volumes, channels and pixels",
                filled(b),
            )

    return verify(
        "influence",
        slice_by_slice,
        whole_stack,
        sign,
        one_neighbour,
        channels_and_classes,
        volumes,
        each_number,
    )
