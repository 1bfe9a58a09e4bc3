"""CSAM Lite: cross-slice attention for anisotropic volumes, small enough to read.

The names below load on first use, so that `import csam_lite` costs nothing and a script pays only for what it calls.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "SemanticAttention": "attention", "PositionalAttention": "attention", "SliceAttention": "attention", "CSAM": "attention",
    "UNet": "networks", "UNetPlusPlus": "networks", "explore": "explorer",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted(__all__)
