"""Answers to the exercises of 09_your_own_scan: wrong ones that its checks must reject, and unlike right ones that they must accept."""

import itertools

import nibabel
import numpy as np


def _corners(shape, affine):
    return np.array([affine @ [*corner, 1] for corner in itertools.product(*((0, n) for n in shape))])


def _by_corners(shape, affine, other_shape, other_affine):
    return tuple(shape) == tuple(other_shape) and np.abs(_corners(shape, affine) - _corners(shape, other_affine)).max() < 0.1


def _by_numbers(shape, affine, other_shape, other_affine):
    return shape == other_shape and np.allclose(affine, other_affine, atol=1e-3)


def _sizes(affine):
    return nibabel.affines.voxel_sizes(affine)


WRONG = {
    "spacing": {
        "the diagonal": lambda affine: np.diag(affine)[:3],
        "its absolute values": lambda affine: np.abs(np.diag(affine)[:3]),
        "lengths of rows": lambda affine: np.linalg.norm(affine[:3, :3], axis=1),
        "rows with the translation": lambda affine: np.linalg.norm(affine[:3], axis=1),
        "sorted": lambda affine: np.sort(_sizes(affine)),
        "four numbers": lambda affine: np.linalg.norm(affine[:3], axis=0),
        "sums of columns": lambda affine: affine[:3, :3].sum(0),
    },
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
        "shapes only": lambda shape, affine, other_shape, other_affine: shape == other_shape,
        "affines only": lambda shape, affine, other_shape, other_affine: np.allclose(affine, other_affine, atol=1e-3),
        "spacings only": lambda shape, affine, other_shape, other_affine: shape == other_shape and np.allclose(_sizes(affine), _sizes(other_affine)),
        "bit for bit": lambda shape, affine, other_shape, other_affine: shape == other_shape and (affine == other_affine).all(),
        "signs cancel": lambda shape, affine, other_shape, other_affine: shape == other_shape and abs((affine - other_affine).sum()) < 0.1,
        "without the translation": lambda shape, affine, other_shape, other_affine:
            shape == other_shape and np.allclose(affine[:3, :3], other_affine[:3, :3], atol=1e-3),
        "the translation only": lambda shape, affine, other_shape, other_affine:
            shape == other_shape and np.allclose(affine[:3, 3], other_affine[:3, 3], atol=1e-3),
        "too tolerant": lambda shape, affine, other_shape, other_affine: shape == other_shape and np.allclose(affine, other_affine, atol=0.1),
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
    "spacing": {
        "root of the squares": lambda affine: np.sqrt((affine[:3, :3] ** 2).sum(0)),
        "tuple": lambda affine: tuple(_sizes(affine)),
        "a step each": lambda affine: [float(np.linalg.norm(affine @ step)) for step in np.eye(4)[:3]],
    },
    "to_world": {
        "homogeneous": lambda affine, voxel: (affine @ [*voxel, 1])[:3],
        "nibabel": lambda affine, voxel: tuple(nibabel.affines.apply_affine(affine, voxel)),
        "loops": lambda affine, voxel: [sum(affine[r, c] * voxel[c] for c in range(3)) + affine[r, 3] for r in range(3)],
    },
    "same_grid": {"corners": _by_corners, "numbers": _by_numbers},
    "volume_ml": {
        "determinant": lambda mask, affine: np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])) / 1000,
        "product of the sizes": lambda mask, affine: float((mask > 0).sum() * np.prod(_sizes(affine)) * 1e-3),
    },
}
