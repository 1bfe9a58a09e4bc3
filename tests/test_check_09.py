"""The checks of notebook 09 reject wrong answers and accept unlike right ones."""

import itertools

import nibabel
import numpy as np
import pytest

from csam_lite.check import n09


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
    "spacing": [lambda affine: np.sqrt((affine[:3, :3] ** 2).sum(0)), lambda affine: tuple(_sizes(affine)),
                lambda affine: [float(np.linalg.norm(affine @ step)) for step in np.eye(4)[:3]]],
    "to_world": [lambda affine, voxel: (affine @ [*voxel, 1])[:3], lambda affine, voxel: tuple(nibabel.affines.apply_affine(affine, voxel)),
                 lambda affine, voxel: [sum(affine[r, c] * voxel[c] for c in range(3)) + affine[r, 3] for r in range(3)]],
    "same_grid": [_by_corners, _by_numbers],
    "volume_ml": [lambda mask, affine: np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])) / 1000,
                  lambda mask, affine: float((mask > 0).sum() * np.prod(_sizes(affine)) * 1e-3)],
}


@pytest.mark.parametrize("check,name", [(check, name) for check, own in WRONG.items() for name in own])
def test_wrong_answers_are_rejected(check, name, capsys):
    assert getattr(n09, check)(WRONG[check][name]) is False
    assert capsys.readouterr().out.startswith("[FAIL]")


@pytest.mark.parametrize("check,number", [(check, number) for check, own in RIGHT.items() for number in range(len(own))])
def test_right_answers_are_accepted(check, number):
    assert getattr(n09, check)(RIGHT[check][number]) is True


@pytest.mark.parametrize("check", WRONG)
def test_the_untouched_stub_is_told_apart(check, capsys):
    assert getattr(n09, check)(lambda *inputs: ...) is None
    assert getattr(n09, check)(lambda *inputs: None) is None
    assert getattr(n09, check)(...) is None
    assert "complete the cell above first" in capsys.readouterr().out
