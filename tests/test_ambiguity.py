"""The measurement of how ambiguous a slice is: what it looks at, and that it finds what is there."""

import numpy as np
import pytest
import torch

from csam_lite.common.errors import InputError
from csam_lite.data.phantom import acquire, make_anatomy
from csam_lite.experiments.ambiguity import NEAR, PIXELS, VIEWS, ambiguity, area_under_curve, end_slices


@pytest.mark.parametrize("end", NEAR)
def test_the_slices_lie_near_the_end_and_know_their_side(end):
    slices = end_slices(3, seed=4, end=end, progress=False)
    expected = []
    for k in range(3):
        rng = np.random.default_rng([4, k])
        anatomy = make_anatomy(rng)
        scan = acquire(anatomy, rng)
        for s, z in enumerate(scan.centres[:, 0]):
            inside = anatomy.apex < z < anatomy.base
            away = abs(z - (anatomy.apex if end == "apex" else anatomy.base))
            if NEAR[end][0] <= away <= NEAR[end][1]:
                expected.append((k, inside))
                assert (scan.label[s] > 0).any() == inside  # the label agrees with the side of the end
    assert list(zip(slices.phantom.tolist(), slices.inside.tolist())) == expected and len(expected) > 3
    for view in VIEWS:
        images = slices.views[view]
        assert images.shape == (len(expected), 2, PIXELS, PIXELS) and images.dtype == torch.float32
    assert (slices.views["column alone"] == 0).float().mean() > 0.5 and (
        slices.views["whole slice"] == 0
    ).float().mean() < 0.01


def test_the_area_under_the_curve():
    positive = np.array([True, True, False, False])
    assert area_under_curve(np.array([3.0, 4, 1, 2]), positive) == 1
    assert area_under_curve(np.array([1.0, 4, 3, 2]), positive) == 0.5  # two of the four pairs are in order
    assert area_under_curve(np.ones(4), positive) == 0.5


def test_the_control_is_found_out():
    rows = ambiguity(24, ambiguous=False, seed=6, folds=2, epochs=8, progress=False)
    assert [row["view"] for row in rows] == list(VIEWS) and rows[0]["phantoms"] == 24
    assert (
        rows[-1]["low"] <= rows[-1]["AUC"] <= rows[-1]["high"] and rows[-1]["AUC"] > 0.8
    )  # 0.87 with so few phantoms


def test_impossible_requests_are_refused():
    for bad in (dict(phantoms=1), dict(folds=1), dict(end="middle")):
        with pytest.raises(InputError):
            ambiguity(**{"phantoms": 4, "progress": False} | bad)
