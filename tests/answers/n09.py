"""Answers to the exercises of 09_your_own_scan: wrong ones to reject, unusual right ones to accept."""

import itertools

import nibabel
import numpy as np


def _corners(shape, affine):
    return np.array([affine @ [*corner, 1] for corner in itertools.product(*((0, n) for n in shape))])


def _by_corners(shape, affine, other_shape, other_affine):
    apart = np.abs(_corners(shape, affine) - _corners(shape, other_affine)).max()
    return tuple(shape) == tuple(other_shape) and apart < 0.1


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
        "four numbers": lambda affine, voxel: affine @ [*voxel, 1],
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
        "too tolerant": lambda s, a, t, b: s == t and np.allclose(a, b, atol=0.1),
    },
    "volume_ml": {
        "labels added up": lambda mask, affine: mask.sum() * _sizes(affine).prod() / 1000,
        "cubic millimetres": lambda mask, affine: (mask > 0).sum() * _sizes(affine).prod(),
        "a signed determinant": lambda mask, affine: (mask > 0).sum() * np.linalg.det(affine[:3, :3]) / 1000,
        "the diagonal": lambda mask, affine: (mask > 0).sum() * np.abs(np.diag(affine)[:3]).prod() / 1000,
        "voxels": lambda mask, affine: float((mask > 0).sum()),
        "label 1 only": lambda mask, affine: (mask == 1).sum() * _sizes(affine).prod() / 1000,
    },
}
RIGHT = {
    "to_world": {
        "homogeneous": lambda affine, voxel: (affine @ [*voxel, 1])[:3],
        "nibabel": lambda affine, voxel: tuple(nibabel.affines.apply_affine(affine, voxel)),
        "loops": lambda affine, voxel: [sum(affine[row, c] * voxel[c] for c in range(3)) + affine[row, 3]
                                        for row in range(3)],
    },
    "same_grid": {"corners": _by_corners, "numbers": _by_numbers},
    "volume_ml": {
        "determinant": lambda mask, affine: (
            np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])) / 1000),
        "product of the sizes": lambda mask, affine: float((mask > 0).sum() * np.prod(_sizes(affine)) * 1e-3),
    },
}
