"""Checks of notebook 09: the geometry of a file."""

import numpy as np

from csam_lite.course.checks import Wrong, answer, verify


def _turned(angle=0.4, spacing=(0.5, 0.7, 3.0), origin=(-40.0, 12.0, 80.0), flip=(1, 1, 1)):
    """An affine (4, 4): columns of `spacing`, some turned around, rotated about the x axis by `angle`."""
    c, s = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) * (np.array(spacing) * flip)
    affine[:3, 3] = origin
    return affine


def spacing(function):
    """function(affine): (4, 4) -> the distances in mm between neighbours along the three axes of the file."""

    def straight():
        """without rotation it is read off the diagonal"""
        _same(answer(function, np.diag([0.5, 0.7, 3.0, 1.0])), (0.5, 0.7, 3.0), "diag(0.5, 0.7, 3)")

    def flipped():
        """a flipped axis has a positive distance too"""
        _same(answer(function, _turned(0, flip=(-1, 1, -1))), (0.5, 0.7, 3.0), "an affine with two flipped axes", "a length has no sign")

    def tilted():
        """a tilted volume keeps its distances"""
        _same(answer(function, _turned(0.4)), (0.5, 0.7, 3.0), "an affine tilted by 0.4 rad", "take the length of each COLUMN of the 3 x 3 part")

    def permuted():
        """the distances come in the order of the file's axes"""
        _same(answer(function, _turned(0.4)[:, [2, 0, 1, 3]]), (3.0, 0.5, 0.7), "an affine whose first axis runs across the slices", "do not sort")

    return verify("spacing", straight, flipped, tilted, permuted)


def to_world(function):
    """function(affine, voxel): (4, 4) and (i, j, k) -> (x, y, z) in mm."""

    def origin():
        """voxel (0, 0, 0) lies at the last column"""
        _same(answer(function, _turned(), (0, 0, 0)), (-40.0, 12.0, 80.0), "voxel (0, 0, 0)", "the translation is affine[:3, 3]")

    def straight():
        """without rotation each index is multiplied by its distance"""
        affine = _turned(0)
        _same(answer(function, affine, (10, 20, 2)), (-35.0, 26.0, 86.0), "voxel (10, 20, 2), no rotation")

    def tilted():
        """it holds for a tilted volume"""
        affine, voxel = _turned(0.4), (3, 50, 7)
        _same(answer(function, affine, voxel), (affine @ [*voxel, 1])[:3], "voxel (3, 50, 7), tilted by 0.4 rad",
              "rows times the voxel, not columns: A @ v")

    def permuted():
        """it holds where the file's axes are in another order, and one is flipped"""
        affine, voxel = _turned(-0.3, flip=(-1, 1, 1))[:, [2, 0, 1, 3]], (4, 5, 60)
        _same(answer(function, affine, voxel), (affine @ [*voxel, 1])[:3], "voxel (4, 5, 60), axes permuted")

    return verify("to_world", origin, straight, tilted, permuted)


def same_grid(function):
    """function(shape, affine, other_shape, other_affine) -> whether no corner of the two volumes lies more than 0.1 mm apart."""
    shape, affine = (160, 120, 20), _turned()

    def same():
        """a grid is the same as itself"""
        _is(function, (shape, affine, shape, affine.copy()), True, "twice the same grid")

    def rounded():
        """rounding in the header (NIfTI keeps 32 bits) does no harm"""
        _is(function, (shape, affine, shape, affine.astype(np.float32)), True, "one affine in 32 bits", "compare with a tolerance, not with ==")

    def other_shape():
        """another number of slices is another grid"""
        _is(function, (shape, affine, (160, 120, 19), affine), False, "20 and 19 slices")

    def moved():
        """a grid moved by 4 mm is another one, whatever the direction"""
        for shift in ((4, 0, 0), (4, -4, 0), (0, 0, -4)):
            _is(function, (shape, affine, shape, _turned(origin=np.array((-40.0, 12.0, 80.0)) + shift)), False, f"a shift of {shift} mm",
                "the translation counts, and differences of both signs must not cancel")

    def flipped():
        """a flipped axis makes another grid"""
        _is(function, (shape, affine, shape, _turned(flip=(-1, 1, 1))), False, "a flipped first axis", "the spacing alone does not tell")

    def tilted():
        """a small tilt moves the corners by millimetres"""
        _is(function, (shape, affine, shape, _turned(0.42)), False, "a tilt of 0.02 rad more", "numbers of the matrix are multiplied by 120 rows")

    return verify("same_grid", same, rounded, other_shape, moved, flipped, tilted)


def volume_ml(function):
    """function(mask, affine): labels (X, Y, Z) and (4, 4) -> the volume of all that is not background, in ml."""
    mask = np.zeros((30, 20, 10), np.uint8)
    mask[5:15, 5:15, 2:7] = 1  # 500 voxels

    def straight():
        """voxels times the volume of one, in ml"""
        _same([answer(function, mask, np.diag([1.0, 1.0, 4.0, 1.0]))], [2.0], "500 voxels of 1 x 1 x 4 mm", "1 ml is 1000 cubic millimetres")

    def labels():
        """label 2 counts once, as label 1 does"""
        both = mask.copy()
        both[5:10][both[5:10] > 0] = 2
        found = answer(function, both, np.diag([1.0, 1.0, 4.0, 1.0]))
        _same([found], [2.0], "500 voxels, half of them label 2", "count mask > 0; do not add labels up")

    def flipped():
        """a flipped axis leaves the volume positive"""
        _same([answer(function, mask, _turned(0, (0.5, 0.5, 4.0), flip=(-1, 1, 1)))], [0.5], "500 voxels of 0.5 x 0.5 x 4 mm, one axis flipped")

    def tilted():
        """a tilted volume keeps its size"""
        _same([answer(function, mask, _turned(0.4, (0.5, 0.5, 4.0)))], [0.5], "500 voxels of 0.5 x 0.5 x 4 mm, tilted by 0.4 rad",
              "the diagonal does not tell: use the spacing, or the determinant")

    return verify("volume_ml", straight, labels, flipped, tilted)


def _same(found, expected, on, hint=""):
    values = np.asarray(found, float)
    if values.shape != (len(expected),) or not np.allclose(values, expected, rtol=1e-4, atol=1e-4):
        raise Wrong(f"on {on}: expected {np.round(expected, 4).tolist()}, found {np.round(values, 4).tolist()}{'; ' + hint if hint else ''}")


def _is(function, given, expected, on, hint=""):
    if bool(answer(function, *given)) != expected:
        raise Wrong(f"on {on}: expected {expected}, found {not expected}{'; ' + hint if hint else ''}")
