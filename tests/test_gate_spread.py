"""How much gates differ between volumes, and what that is worth."""

import numpy as np
import pytest
import torch
from conftest import write_nifti

from csam_lite import CSAM
from csam_lite.common.errors import InputError
from csam_lite.core.gates import record_gates
from csam_lite.core.start import start_gates
from csam_lite.core.windows import probabilities
from csam_lite.data.dataset import find_dataset
from csam_lite.inference.gate_spread import gate_spread, spread_of
from csam_lite.training.config import Config
from csam_lite.training.facts import Facts
from csam_lite.training.run import Run, load_run
from csam_lite.training.trainer import train


def test_the_spread_of_values_given():
    # Three volumes of one gate with two entries; the second entry exists in two of the volumes.
    row = spread_of([np.array([0.2, 0.5]), np.array([0.4, 0.7]), np.array([0.6, np.nan])])
    assert row["between"] == pytest.approx((np.std([0.2, 0.4, 0.6]) + 0.1) / 2) and row[
        "widest"
    ] == pytest.approx(np.std([0.2, 0.4, 0.6]))
    assert row["range"] == pytest.approx(0.4) and row["mean"] == pytest.approx(
        np.mean([0.2, 0.5, 0.4, 0.7, 0.6])
    )
    assert row["within"] == pytest.approx(np.mean([0.15, 0.15, 0]))
    assert spread_of([np.full((2, 2), 0.9)] * 3)["between"] == 0


def test_every_gate_at_every_scale_has_a_row(run, phantoms):
    rows = gate_spread(run, volumes=4, progress=False)
    assert [(row["csam"], row["gate"]) for row in rows] == [
        (f"csam.{level}", gate) for level in range(3) for gate in ("semantic", "positional", "slice")
    ]
    dataset = find_dataset(phantoms)
    seen = []
    for case in dataset.cases[:4]:  # the same by hand, for one gate
        with record_gates(run.network) as record:
            probabilities(run.network, run.grid.image(dataset.read(case)))
        seen.append(record["csam.1"]["semantic"].values[0])
    assert rows[3]["between"] == pytest.approx(np.std(seen, 0).mean(), rel=1e-5)
    assert rows[3]["range"] == pytest.approx(np.ptp(seen, 0).max(), rel=1e-5)


def test_a_gate_that_ignores_the_volume_has_no_spread_and_no_worth(run):
    silent = load_run(run.folder)
    start_gates(silent.network, 0.9)
    rows = gate_spread(silent, volumes=3, worth=True, progress=False)
    assert len(rows) == 3 * 3 + 3 and all(abs(row["worth"]) < 1e-6 for row in rows)
    for row in rows[:9]:
        assert row["mean"] == pytest.approx(0.9, abs=1e-5) and row["between"] < 1e-6, row


class PixelsOfTheGate(torch.nn.Module):
    """Class 1 is where the positional gate is above 0.75; the gate opens where a pixel is above 1 standard
    deviation in some slice.
    """

    num_slices = 5

    def __init__(self):
        super().__init__()
        self.csam = CSAM(5, 1, semantic=False, slice=False)
        with torch.no_grad():
            self.csam.positional.conv.weight.zero_()[0, 0, 3, 3] = 100.0
            self.csam.positional.conv.bias.fill_(-600.0)

    def forward(self, x, mask=None):
        features = x + 5
        gate = self.csam(features, mask) / features
        return torch.cat([0.75 - gate, gate - 0.75], 2)


def test_the_worth_is_the_dice_that_is_lost_with_the_mean_gate(tmp_path):
    for name, columns in (
        ("left", slice(0, 12)),
        ("right", slice(20, 32)),
    ):  # an organ on one side, then on the other
        mask = np.zeros((32, 32, 5), np.uint8)
        mask[columns, 8:24] = 1
        write_nifti(tmp_path / "images" / f"{name}.nii.gz", mask.astype(np.float32))
        write_nifti(tmp_path / "labels" / f"{name}.nii.gz", mask)
    config = Config(data=str(tmp_path), out=str(tmp_path / "run"), pixels=32, levels=2, spacing=0.5)
    facts = Facts(["channel 0"], {1: "class 1"}, 5, 0.5, {"train": [], "val": [], "test": []})
    rows = gate_spread(
        Run(tmp_path, config, facts, PixelsOfTheGate().eval()), volumes=2, worth=True, progress=False
    )
    # The gate is 1 on the organ, so Dice is 1. Its mean over both volumes is 0.5, so nothing is found.
    assert [(row["csam"], row["worth"]) for row in rows] == [("csam", 1.0), ("all", 1.0)]
    assert rows[0]["range"] == 1.0 and rows[0]["within"] == pytest.approx(np.sqrt(0.1875 * 0.8125), rel=1e-3)


def test_what_cannot_be_measured_is_refused(run, phantoms, tmp_path):
    with pytest.raises(InputError, match="at least 2"):
        gate_spread(run, volumes=1, progress=False)
    options = dict(
        pixels=32, levels=3, base_channels=4, epochs=1, test=2, val=0, attention="none", augment=False
    )
    plain = train(Config(str(phantoms), str(tmp_path / "plain"), **options), progress=False)
    with pytest.raises(InputError, match="no gates"):
        gate_spread(plain, volumes=2, progress=False)
