"""What a training is asked to do."""

from dataclasses import MISSING, dataclass, field, fields

from csam_lite.common.errors import InputError
from csam_lite.data.labels import EMPTY, ONE_ZONE

PRECISIONS = ("no", "bf16", "fp16")


def _option(help, default=MISSING, short=""):
    return field(default=default, metadata={"help": help, "short": short})


@dataclass
class Config:
    """What a training is asked to do. Every field is an option of `python -m csam_lite train`."""

    data: str = _option("folder with the scans (Decathlon layout, or images/ and labels/)")
    out: str = _option("folder for this run")
    start_from: str = _option(
        "folder of a trained run, or pretrained (the network that ships): start from its weights as far as "
        "they fit, with its network and --pixels where these are not given",
        "",
        short="--from",
    )
    channels: str = _option("which channels to use, names joined by +, for example T2; all if not given", "")
    network: str = _option(
        "unet or unetpp; without gates, to compare with: unet2d, unet3d (MONAI's), self_attention (across "
        "slices)",
        "unet",
    )
    attention: str = _option("gates: all, none, or names joined by +, for example semantic+slice", "all")
    uncertain: bool = _option(
        "draw the slice gate from a normal distribution in training, as the paper does", False
    )
    sampling: str = _option(
        "how it is drawn: reparameterised, or released (as published: gets no gradient)", "reparameterised"
    )
    gate_start: float = _option(
        "value at which all gates start; 0: random weights, as in the released code (no hidden unit starts "
        "inactive)",
        0.5,
    )
    semantic_hidden: int = _option(
        "least hidden units of the semantic gate; it has a sixteenth of the channels where that is more. 1: "
        "as published",
        8,
    )
    semantic_weights: float = _option(
        "scale of the last layer's weights from which the semantic gate starts to compare channels; 0: it "
        "starts the same for all volumes",
        1.0,
    )
    gate_form: str = _option(
        "how gates act on the features: product (as published), residual, normalised", "product"
    )
    gate_rate: float = _option(
        "learning rate of the gates, as a multiple of the network's; 1 as published", 0.1
    )
    noise: float = _option("scale of the draw: 1 as published, 0 draws the mean", 1.0)
    noise_warmup: float = _option("part of the training over which the draw grows to its scale", 0.0)
    max_std: float = _option(
        "bound on the standard deviation of each slice's draw; 0: none, as published", 0.0
    )
    neighbours: int = _option(
        "slices on each side that are given as extra channels (the cheap 2.5D; for unet and unetpp)", 0
    )
    base_channels: int = _option("channels of the finest level; each level below has twice as many", 16)
    levels: int = _option("number of scales", 5)
    num_slices: int = _option("deepest volume the network takes at once; 0: the deepest training volume", 0)
    pixels: int = _option("in-plane size of the network's input", 128)
    spacing: float = _option(
        "in-plane spacing of the network's input in mm; 0: chosen so that the masks fit", 0.0
    )
    epochs: int = _option("passes over the training volumes", 60)
    minutes: float = _option(
        "time budget for the training; 0: none. The learning rate falls to zero in time", 0.0
    )
    prior: bool = _option(
        "start the last layer's biases at the frequencies of the classes, so that no rare class is lost "
        "early",
        True,
    )
    batch_size: int = _option("volumes a step, over all processes together", 2)
    learning_rate: float = _option("Adam's highest rate, reached after a tenth of the training", 5e-3)
    test: float = _option("patients held out for evaluation: a fraction, or their number", 0.2)
    val: float = _option("patients that choose the best epoch: a fraction, or their number, 0 for none", 0.1)
    folds: int = _option("cross-validation: number of folds; 0: one split", 0)
    fold: int = _option("which fold is held out, from 0", 0)
    one_zone: str = _option(
        "a prostate mask with one zone only: error, drop, remap (lone PZ becomes TZ), keep", "error"
    )
    empty: str = _option("a case whose mask holds no foreground: error, drop, keep", "error")
    augment: bool = _option("rotate, scale, shift, change contrast and add noise", True)
    precision: str = _option("mixed precision: no, bf16, fp16 (GPU)", "no")
    compile: bool = _option(
        "train through torch.compile, which joins operations: the first steps take a minute or more, the "
        "others less; needs a C++ compiler",
        False,
    )
    workers: int = _option("extra processes that prepare batches", 0)
    split_seed: int = _option("which patients are held out", 0)
    seed: int = _option("of the initial weights, the order of the volumes, the augmentation and the draws", 0)

    def __post_init__(self) -> None:
        """Raises InputError for a value that no training could use."""
        from csam_lite.core.networks import gate_names
        from csam_lite.core.slice_normal import SAMPLING
        from csam_lite.training.ablations import FORMS
        from csam_lite.training.baselines import NETWORKS

        for option in fields(self):
            value = getattr(self, option.name)
            fits = isinstance(value, (int, float) if option.type is float else option.type)
            if not fits or isinstance(value, bool) and option.type is not bool:
                raise InputError(
                    f"{_flag(option.name)} {value!r}: must be {_KINDS[option.type]}, not "
                    f"{_KINDS.get(type(value), 'this')}"
                )
        allowed = {
            "network": NETWORKS,
            "sampling": SAMPLING,
            "gate_form": FORMS,
            "precision": PRECISIONS,
            "one_zone": ONE_ZONE,
            "empty": EMPTY,
        }
        for name, choices in allowed.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{_flag(name)} {getattr(self, name)}: choose one of {', '.join(choices)}")
        network = NETWORKS[self.network]
        for name, (least, most) in (BOUNDS | {"levels": (network.least_levels, 12)}).items():
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{_flag(name)} {getattr(self, name)}: must lie between {least} and {most}")
        if 0 < self.spacing < 0.01:
            raise InputError(
                f"--spacing {self.spacing}: must be 0.01 mm or more, or 0 to be chosen by the masks"
            )
        for name in ("test", "val"):
            if (part := getattr(self, name)) > 1 and part != int(part):
                raise InputError(
                    f"{_flag(name)} {part}: must be a fraction of the patients, or a whole number of them"
                )
        if not 0 <= self.gate_start < 1:
            raise InputError(
                f"--gate-start {self.gate_start}: must lie between 0 and 1, or be 0 for a start at random"
            )
        if self.fold and not self.folds:
            raise InputError(f"--fold {self.fold}: needs --folds, the number of folds")
        if self.pixels < 2**self.levels:
            raise InputError(
                f"--pixels {self.pixels}: too few for {self.levels} levels; give at least {2**self.levels}, "
                "or fewer --levels"
            )
        if self.neighbours and not network.takes_gates:
            raise InputError(
                f"--neighbours {self.neighbours}: is for unet and unetpp; leave it out with {self.network}"
            )
        try:
            gate_names(self.attention)
        except ValueError as error:
            raise InputError(f"--attention: {error}") from error


# What a run did before an option existed: it stands for what an older config.json does not name.
BEFORE = {"semantic_hidden": 1, "semantic_weights": 0.0}

# The values between which a number must lie. The upper ones stop a slip of the hand before it fills the
# machine.
BOUNDS = {
    "semantic_hidden": (1, 100_000), "semantic_weights": (0, 1e6), "gate_rate": (1e-12, 1e6),
    "noise": (0, 1e6), "noise_warmup": (0, 1e6), "max_std": (0, 1e6), "neighbours": (0, 100),
    "base_channels": (1, 10_000),
    "num_slices": (0, 10_000), "pixels": (1, 10_000), "spacing": (0, 100), "epochs": (1, 10**9),
    "minutes": (0, 1e9),
    "batch_size": (1, 100_000), "learning_rate": (1e-12, 1e30), "test": (0, 1e9), "val": (0, 1e9),
    "folds": (0, 10**9), "fold": (0, 10**9), "workers": (0, 256), "split_seed": (0, 2**63 - 1),
    "seed": (0, 2**63 - 1),
}  # fmt: skip

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
