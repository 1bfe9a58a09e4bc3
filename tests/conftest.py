"""Fixtures. Tests on the released modules or on real scans skip, with the reason, where the folder `../shared` is missing."""

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared():
    """The folder with golden outputs and real scans beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the repository: released outputs and real scans are not at hand")
    return SHARED


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
