"""CSAM Lite: cross-slice attention for anisotropic volumes, in a core that can be read in one evening.

The names below load on first use, so that `import csam_lite` costs nothing and a script pays only for what it
calls.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that editors complete these names and jump to them
    from csam_lite.common.errors import InputError
    from csam_lite.common.figures import COLOURS
    from csam_lite.core.attention import CSAM, PositionalAttention, SemanticAttention, SliceAttention
    from csam_lite.core.gates import override_gates, record_gates
    from csam_lite.core.networks import UNet, UNetPlusPlus
    from csam_lite.core.start import start_gates
    from csam_lite.data.dataset import find_dataset
    from csam_lite.data.phantom import write_phantoms
    from csam_lite.data.scan import read_scan, write_like
    from csam_lite.explorer.examine import examine
    from csam_lite.explorer.widget import explore
    from csam_lite.inference.evaluate import evaluate
    from csam_lite.inference.export import export
    from csam_lite.inference.predict import predict, segment
    from csam_lite.training.config import Config
    from csam_lite.training.run import load_run, pretrained
    from csam_lite.training.trainer import train

__version__ = "0.2.0"

_HOME = {
    "InputError": "common.errors",
    "COLOURS": "common.figures",
    "CSAM": "core.attention",
    "PositionalAttention": "core.attention",
    "SemanticAttention": "core.attention",
    "SliceAttention": "core.attention",
    "override_gates": "core.gates",
    "record_gates": "core.gates",
    "UNet": "core.networks",
    "UNetPlusPlus": "core.networks",
    "start_gates": "core.start",
    "find_dataset": "data.dataset",
    "write_phantoms": "data.phantom",
    "read_scan": "data.scan",
    "write_like": "data.scan",
    "examine": "explorer.examine",
    "explore": "explorer.widget",
    "evaluate": "inference.evaluate",
    "export": "inference.export",
    "predict": "inference.predict",
    "segment": "inference.predict",
    "Config": "training.config",
    "load_run": "training.run",
    "pretrained": "training.run",
    "train": "training.trainer",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
