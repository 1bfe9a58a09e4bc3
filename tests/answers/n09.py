"""Answers to the exercises of 09_your_own_scan: wrong ones to reject, unusual right ones to accept."""

import itertools

import nibabel
import numpy as np
import torch


def _corners(shape, affine):
    return np.array([affine @ [*corner, 1] for corner in itertools.product(*((0, n) for n in shape))])


def _by_corners(shape, affine, other_shape, other_affine):
    apart = np.abs(_corners(shape, affine) - _corners(shape, other_affine)).max()
    return tuple(shape) == tuple(other_shape) and apart < 0.1


def _by_distance(shape, affine, other_shape, other_affine):
    if list(shape) != list(other_shape):
        return False
    for i, j, k in np.ndindex(2, 2, 2):
        corner = i * (shape[0] - 1), j * (shape[1] - 1), k * (shape[2] - 1)
        both = [nibabel.affines.apply_affine(a, corner) for a in (affine, other_affine)]
        if np.linalg.norm(both[0] - both[1]) > 0.1:
            return False
    return True


def _at(*corners):
    """A right test, but of these corners only, from 0 (the first voxel) to 1 (the last)."""
    def same(s, a, t, b):
        points = np.array([[*(np.array(s) * corner), 1] for corner in corners]).T
        return s == t and np.abs((a - b) @ points).max() <= 0.1
    return same


def _by_numbers(shape, affine, other_shape, other_affine):
    return shape == other_shape and np.allclose(affine, other_affine, atol=1e-3)


def _sizes(affine):
    return nibabel.affines.voxel_sizes(affine)


WRONG = {
    "to_world": {
        "no translation": lambda affine, voxel: affine[:3, :3] @ voxel,
        "columns for rows": lambda affine, voxel: affine[:3, :3].T @ voxel + affine[:3, 3],
        "the diagonal only": lambda affine, voxel: np.diag(affine)[:3] * voxel + affine[:3, 3],
        "the way back": lambda affine, voxel: (np.linalg.inv(affine) @ [*voxel, 1])[:3],
        "last axis first": lambda affine, voxel: (affine @ [*voxel[::-1], 1])[:3],
        "from voxel 1": lambda affine, voxel: (affine @ [*(np.array(voxel) + 1), 1])[:3],
        "rounded": lambda affine, voxel: (affine @ [*voxel, 1])[:3].round(),
        "four numbers": lambda affine, voxel: affine @ [*voxel, 1],
        "tilted about x at most": lambda affine, voxel: (np.where(affine[:3, :3].any(0) & (np.eye(3)[0] == 0), affine[:3, :3], 0) @ voxel
                                                        + affine[:3, 3] + np.diag([affine[0, 0], 0, 0]) @ voxel),
        "in place": lambda affine, voxel: np.add(affine[:3, :3] @ voxel, affine[:3, 3], out=affine[:3, 3]),
    },
    "same_grid": {
        "always": lambda *given: True,
        "never": lambda *given: False,
        # s, a: shape and affine of one grid; t, b: of the other
        "shapes only": lambda s, a, t, b: s == t,
        "affines only": lambda s, a, t, b: np.allclose(a, b, atol=1e-3),
        "spacings only": lambda s, a, t, b: s == t and np.allclose(_sizes(a), _sizes(b)),
        "bit for bit": lambda s, a, t, b: s == t and (a == b).all(),
        "signs cancel": lambda s, a, t, b: s == t and abs((a - b).sum()) < 0.1,
        "without the translation": lambda s, a, t, b: s == t and np.allclose(a[:3, :3], b[:3, :3], atol=1e-3),
        "the translation only": lambda s, a, t, b: s == t and np.allclose(a[:3, 3], b[:3, 3], atol=1e-3),
        "the numbers within 0.001": _by_numbers,
        "half a voxel is allowed": lambda s, a, t, b: s == t and np.abs(_corners(s, a) - _corners(s, b)).max() < 0.3,
        "1 mm is allowed": lambda s, a, t, b: s == t and np.abs(_corners(s, a) - _corners(s, b)).max() < 1,
        "the centre only": _at((0.5, 0.5, 0.5)),
        "the first and the last corner only": _at((0, 0, 0), (1, 1, 1)),
        "the last corner only": _at((1, 1, 1)),
        "mean of the corners": lambda s, a, t, b: s == t and np.abs(_corners(s, a) - _corners(s, b)).mean() <= 0.1,
        "as many voxels": lambda s, a, t, b: np.prod(s) == np.prod(t) and _by_corners(s, a, s, b),
        "too tolerant": lambda s, a, t, b: s == t and np.allclose(a, b, atol=0.1),
        "the distance": lambda s, a, t, b: np.abs(_corners(s, a) - _corners(t, b)).max(),
    },
    "volume_ml": {
        "labels added up": lambda mask, affine: mask.sum() * _sizes(affine).prod() / 1000,
        "cubic millimetres": lambda mask, affine: (mask > 0).sum() * _sizes(affine).prod(),
        "a signed determinant": lambda mask, affine: (mask > 0).sum() * np.linalg.det(affine[:3, :3]) / 1000,
        "the diagonal": lambda mask, affine: (mask > 0).sum() * np.abs(np.diag(affine)[:3]).prod() / 1000,
        "voxels": lambda mask, affine: float((mask > 0).sum()),
        "labels 1 and 2 only": lambda mask, affine: np.isin(mask, (1, 2)).sum() * _sizes(affine).prod() / 1000,
        "writes into the mask": lambda mask, affine: np.sign(mask, out=mask).sum() * _sizes(affine).prod() / 1000,
        "one voxel at least": lambda mask, affine: max((mask > 0).sum(), 1) * _sizes(affine).prod() / 1000,
        "label 1 only": lambda mask, affine: (mask == 1).sum() * _sizes(affine).prod() / 1000,
        "square pixels": lambda mask, affine: (mask > 0).sum() * _sizes(affine)[0] ** 2 * _sizes(affine)[2] / 1000,
        "labels below 128": lambda mask, affine: (mask.astype(np.int8) > 0).sum() * _sizes(affine).prod() / 1000,
    },
}
RIGHT = {
    "to_world": {
        "homogeneous": lambda affine, voxel: (affine @ [*voxel, 1])[:3],
        "column": lambda affine, voxel: (affine @ np.array([[*voxel, 1]]).T)[:3],
        "torch": lambda affine, voxel: torch.tensor(affine[:3, :3]) @ torch.tensor(voxel).double()
                                       + torch.tensor(affine[:3, 3]),
        "nibabel": lambda affine, voxel: tuple(nibabel.affines.apply_affine(affine, voxel)),
        "loops": lambda affine, voxel: [sum(affine[row, c] * voxel[c] for c in range(3)) + affine[row, 3]
                                        for row in range(3)],
    },
    "same_grid": {"corners": _by_corners, "distance": _by_distance,
                  "numpy bool": lambda s, a, t, b: np.bool_(_by_corners(s, a, t, b))},
    "volume_ml": {
        "determinant": lambda mask, affine: (
            np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])) / 1000),
        "array of one number": lambda mask, affine: np.array([(mask > 0).sum() * _sizes(affine).prod() / 1000]),
        "product of the sizes": lambda mask, affine: float((mask > 0).sum() * np.prod(_sizes(affine)) * 1e-3),
    },
}

EQUIVALENT = {
    "to_world": {
        ".detach()»": "the text asks for no gradient",
        "+ «affine[:3, 3]»": "torch adds an array",
        "«nibabel.affines.apply_affine(affine, voxel)»": "an array is as good as a tuple",
    },
    "same_grid": {
        "«_corners(shape, other_affine) - _corners(shape, affine)»": "a distance has no sign",
        "«other_shape»": "the shapes are compared, too",
        "«shape» ==": "shapes are tuples",
        "== «other_shape»": "shapes are tuples",
        "«apart <= 0.1»": "no grid differs by 0.1 mm exactly, because of rounding",
        "«return -np.array(": "a distance has no sign",
        "(n, 0)»": "the order of the corners does not matter",
        "«shape[:1]»[0]": "the first of the first is the first",
        "i * «shape[0]»": "the border instead of the centre of the last voxel",
        "j * «shape[1]»": "the border instead of the centre of the last voxel",
        "k * «shape[2]»": "the border instead of the centre of the last voxel",
        "shape[0] - «0»": "the border instead of the centre of the last voxel",
        "shape[1] - «0»": "the border instead of the centre of the last voxel",
        "shape[2] - «0»": "the border instead of the centre of the last voxel",
        "«return -False»": "-False is 0, and so False",
        "«(other_affine, affine)»": "a distance has no sign",
        "«both[1] - both[0]»": "a distance has no sign",
        ">= 0.1»": "no grid differs by 0.1 mm exactly, because of rounding",
        "norm(«both» - both[1])": "the second row of the difference is 0",
        "both[0] - «both»": "the first row of the difference is 0",
        "«both[:1]»[0]": "the first of the first is the first",
        "both[«-1»]": "the last of two is the second",
        "«_by_corners(s, a, t, b)»": "a bool of Python instead of one of numpy",
    },
    "volume_ml": {
        "np.linalg.det(«affine»)": "the determinant of all four rows is the same, because the last one is 0, 0, 0, 1",
        "«[(mask > 0).sum()": "a list of one number is as good as an array of one number",
        "«(mask > 0).sum() * np.prod": "a number of numpy is as good as a float",
    },
}
