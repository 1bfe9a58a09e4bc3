"""Train a network on a folder of scans: on a CPU, a GPU, or several processes started by torchrun."""

from __future__ import annotations

import io
import math
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from csam_lite.common.device import has_bf16
from csam_lite.common.errors import InputError, first_line
from csam_lite.common.files import whole_file
from csam_lite.common.locks import only_process
from csam_lite.common.memory import keep_freed_memory
from csam_lite.common.progress import note, progress_bar
from csam_lite.common.tables import finite_mean, write_csv
from csam_lite.core.windows import drawn_gates, probabilities
from csam_lite.metrics.overlap import dice
from csam_lite.training.ablations import scale_draws
from csam_lite.training.batches import TrainingData, read_training_data
from csam_lite.training.build import build_network
from csam_lite.training.compiled import compiled
from csam_lite.training.config import Config
from csam_lite.training.facts import OF_SCANS
from csam_lite.training.run import (
    Facts,
    Run,
    check_data_is_there,
    code_version,
    load_description,
    load_run,
    save_description,
    save_weights,
    stored_version,
)
from csam_lite.training.start import (
    freeze_cancelled_biases,
    one_cycle,
    parameter_groups,
    start_at_prior,
    volume_loss,
)
from csam_lite.training.transfer import lines_about, load_start, start_from

if TYPE_CHECKING:
    from accelerate import Accelerator

MAY_CHANGE = ("data", "out", "minutes")  # what a resumed run may give anew


def train(config: Config, resume: bool = False, progress: bool = True) -> Run:
    """Train as the Config says, into the folder `config.out` (run.py says what it then holds); return the
    Run, best weights.

    With `resume`, the run in that folder goes on from its last whole epoch and ends with the weights of an
    uninterrupted one (bit by bit on a CPU; a GPU may add up in another order). Only `data`, where the scans
    lie, and `minutes` may be new then. With `config.start_from`, the training starts from the weights of
    another run (transfer.py). Raises InputError for data that cannot be used, a training that
    diverges, a folder that holds a run already or to which another process is training, or, with `resume`,
    for a folder without a run, another run, or other voxels than at its start.
    """
    Trainer.prepare(config, resume, progress).fit()
    return load_run(config.out)


class Trainer:
    """One training: the parts it needs, and where it stands. `prepare` builds the parts, `fit` trains.

    Override `step` to change what happens to one batch.
    """

    @classmethod
    def prepare(cls, config: Config, resume: bool = False, progress: bool = True) -> Trainer:
        """The trainer for a Config, at its start or, with `resume`, where the run in `config.out` stands.

        Raises as `train` does.
        """
        if not resume:
            _check_unused(Path(config.out))
        accelerator = make_accelerator(config)
        progress = progress and accelerator.is_main_process
        if progress and config.precision == "bf16" and not has_bf16():
            print("--precision bf16: this machine has no instructions for it, so that a step can take ten "
                  "times as long; use no, or fp16 on a GPU", file=sys.stderr)
        config = replace(config, data=str(Path(config.data).resolve()))
        stored = load_description(config.out) if resume else None
        if stored:
            _check_same_options(config, stored[0])
            check_data_is_there(config, config.out)
        scans = [Path(config.data, name) for name in ("", "images", "labels", "imagesTr", "labelsTr")]
        if Path(config.out).resolve() in [folder.resolve() for folder in scans]:
            raise InputError(f"{config.out}: is the folder of the scans; choose another --out for the run")
        # once an epoch is over, a continuation has weights of its own and does not need those it started from
        begins = not (resume and (Path(config.out) / "resume.pt").exists())
        source = load_start(config) if config.start_from and begins else None
        least_slices = source.facts.num_slices if source else stored[1].num_slices if config.start_from else 1
        data = read_training_data(
            config, accelerator.process_index, accelerator.num_processes, progress, least_slices
        )
        if stored:
            data.facts.start = stored[1].start
            _check_same_data(config, data.facts, stored[1])

        keep_freed_memory()
        torch.manual_seed(config.seed)
        network = build_network(config, data.facts)
        if progress and not drawn_gates(network):
            _tell_of_unused_draws(config)
        freeze_cancelled_biases(network)
        if config.prior:
            start_at_prior(network, data.frequencies)
        if source:
            start = start_from(source, network, data.facts)
            if stored and start["weights"] != stored[1].start.get("weights"):
                raise InputError(
                    f"{config.start_from}: holds other weights than when {config.out} was started from it; "
                    "start a new run"
                )
            data.facts.start = start
            if progress:
                print("\n".join(lines_about(source, data.facts)), file=sys.stderr)
        optimizer = torch.optim.Adam(parameter_groups(network, config.gate_rate), lr=config.learning_rate)

        trainer = cls(config, data, accelerator, network, optimizer, progress)
        trainer.resumes = resume
        return trainer

    def __init__(
        self,
        config: Config,
        data: TrainingData,
        accelerator: Accelerator,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: bool = True,
    ) -> None:
        self.config, self.facts, self.batches, self.val_samples = (
            config,
            data.facts,
            data.batches,
            data.val_samples,
        )
        self.accelerator, self.progress, self.out = accelerator, progress, Path(config.out)
        self.loader = data.loader(config, pin_memory=accelerator.device.type == "cuda")
        self.network, self.optimizer = accelerator.prepare(network, optimizer)
        self.forward = compiled(self.network) if config.compile else self.network
        self.criterion = volume_loss()
        self.resumes = False
        self.epoch, self.seconds, self.best, self.history = 0, 0.0, -math.inf, []

    def fit(self) -> None:
        """Train until the epochs, or the minutes, are used up.

        Raises InputError where the training diverges.
        """
        main = self.accelerator.is_main_process
        self.started = time.monotonic()
        per_epoch = len(self.batches)
        busy = (
            f"{self.out}: another process is training into this folder; wait for it, or choose another --out"
        )
        with (
            only_process(self.out if main else None, busy),
            progress_bar(
                total=self.config.epochs * per_epoch, desc="training", unit="step", disable=not self.progress
            ) as bar,
        ):
            # What the folder holds is asked only now that no other process can change it.
            if self.resumes:
                self.restore()
                bar.update(self.epoch * per_epoch)
            elif main:
                _check_unused(self.out)
            if main:
                save_description(self.out, self.config, self.facts)
            while self.epoch < self.config.epochs and self.part_done() < 1:
                loss, rate = self._train_epoch(bar)
                if not math.isfinite(loss):
                    raise InputError(
                        f"{self.out}: the training diverged in epoch {self.epoch + 1} (the loss is {loss}); "
                        f"start a new run with a --learning-rate below {self.config.learning_rate:g}"
                    )
                val_dice = self._validate()  # (volumes, classes)
                self.epoch += 1
                self.seconds = time.monotonic() - self.started
                if main:
                    self._save(loss, rate, val_dice)
                    self._tell(bar)
                self.accelerator.wait_for_everyone()
            if not self.epoch:
                raise InputError(
                    f"--minutes {self.config.minutes:g}: are over before the first step; give more"
                )
        self.accelerator.end_training()

    def step(self, image: torch.Tensor, label: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """One step of the optimiser on a batch: image (B, S, C, P, P), label (B, S, P, P), mask (B, S).

        Returns the loss.
        """
        padded = not mask.all()
        image, label, mask = (
            tensor.to(self.accelerator.device, non_blocking=True) for tensor in (image, label, mask)
        )
        with self.accelerator.autocast():
            logits = self.forward(image, mask if padded else None)
        heads = logits if isinstance(logits, list) else [logits]  # U-Net++ answers with all its heads
        loss = sum(self.criterion(head.float(), label, mask) for head in heads)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def part_done(self, step: int = 0) -> float:
        """The part of the training that is over, of its steps or of its minutes, whichever is more; the same
        in all processes.
        """
        steps = self.epoch + step / len(self.batches)
        spent = torch.tensor((time.monotonic() - self.started) / 60, device=self.accelerator.device)
        if self.config.minutes and self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast

            spent = broadcast(spent)
        return max(
            steps / self.config.epochs, spent.item() / self.config.minutes if self.config.minutes else 0
        )

    def restore(self) -> None:
        """Go to where resume.pt stands; nothing where there is none.

        Raises InputError for a damaged file or one of other code.
        """
        path = self.out / "resume.pt"
        if not path.exists():
            return
        try:
            with zipfile.ZipFile(path) as archive:  # torch writes checksums, but does not compare them
                if broken := archive.testzip():
                    raise ValueError(f"the checksum of {broken} is wrong")
            # on the CPU first: each tensor finds its own device later
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.accelerator.unwrap_model(self.network).load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.accelerator.scaler and state["scaler"]:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.epoch, self.seconds, self.best, self.history = (
                kind(state[name])
                for name, kind in (("epoch", int), ("seconds", float), ("best", float), ("history", list))
            )
        except Exception as error:  # anything may come of a file that something else has changed
            raise InputError(
                f"{path}: is damaged or was written by other code ({first_line(error)}); "
                "train again into another --out"
            ) from error
        self.started = time.monotonic() - self.seconds
        if self.accelerator.is_main_process:
            self._save_history()  # a process that was killed may not have come so far
        if self.accelerator.is_main_process and (version := stored_version(self.out)) != code_version():
            print(
                f"note: {self.out} was begun by {version} and goes on with {code_version()}; "
                "it may end with other weights than an uninterrupted run",
                file=sys.stderr,
            )

    def _train_epoch(self, bar) -> tuple[float, float]:
        """One pass over the training volumes. Returns the mean loss and the last learning rate."""
        config, process = self.config, self.accelerator.process_index
        self.network.train()
        self.batches.epoch = self.epoch
        # The draws of an epoch depend on its number, not on what ran before, so that a resumed run draws the
        # same.
        torch.manual_seed(
            np.random.SeedSequence([config.seed, self.epoch, process]).generate_state(1)[0].item()
        )
        losses, rate = [], 0.0
        for step, batch in enumerate(self._batches_of_epoch()):
            done = self.part_done(step)
            if done >= 1 and losses:
                break
            done = min(done, 1.0)
            rate = config.learning_rate * one_cycle(done)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["times"]
            scale_draws(
                self.network,
                noise=config.noise * min(done / config.noise_warmup if config.noise_warmup else 1, 1),
            )
            losses.append(self.step(*batch))
            bar.update()
        return self.accelerator.reduce(torch.stack(losses).mean(), "mean").item(), rate

    def _batches_of_epoch(self) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batches of an epoch. Raises InputError where a process that prepares them has died."""
        try:
            with interrupts_wait():  # an interrupt that falls into a fork is lost, or ends a worker alone
                batches = iter(self.loader)
            yield from batches
        except RuntimeError as error:
            if "DataLoader" not in str(error):
                raise
            raise InputError(
                f"--workers {self.config.workers}: a process that prepares batches has died "
                f"({first_line(error)}); "
                "use --workers 0, or more memory and a larger /dev/shm"
            ) from error

    def _validate(self) -> np.ndarray:
        """Dice (volumes, classes) of the validation volumes on the network's grid, NaN for a class in neither
        mask.
        """
        from accelerate.utils import gather_object

        network = self.accelerator.unwrap_model(self.network).eval()
        rows, classes = [], range(1, self.facts.num_classes)
        for sample in self.val_samples[self.accelerator.process_index :: self.accelerator.num_processes]:
            with self.accelerator.autocast():
                predicted = probabilities(network, sample.image).argmax(1)
            rows.append([dice(predicted == k, sample.label == k) for k in classes])
        return np.array(gather_object(rows)).reshape(-1, len(classes))

    def _save(self, loss: float, rate: float, val_dice: np.ndarray) -> None:
        """Write weights, what a continuation needs, and the history, in this order, each file whole or not at
        all.
        """
        means = [finite_mean(column) for column in val_dice.T]
        mean = finite_mean(means)
        row = {
            "epoch": self.epoch,
            "seconds": round(self.seconds, 1),
            "learning_rate": rate,
            "loss": loss,
            "val_dice": mean,
        }
        self.history.append(
            row | {f"val_dice_{name}": value for name, value in zip(self.facts.labels.values(), means)}
        )
        # Without validation volumes, or with empty ones alone, the last epoch is the best.
        is_best = not len(val_dice) or self.best == -math.inf or mean > self.best
        self.best = mean if mean > self.best else self.best
        network = self.accelerator.unwrap_model(self.network)
        for name in ["last", *(["best"] if is_best else [])]:
            save_weights(self.out / f"{name}.safetensors", network)
        scaler = self.accelerator.scaler
        state = io.BytesIO()  # torch's own file writer hides why it failed
        torch.save(
            {
                "network": network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epoch": self.epoch,
                "seconds": self.seconds,
                "best": self.best,
                "history": self.history,
                "scaler": scaler.state_dict() if scaler else None,
            },
            state,
        )
        with whole_file(self.out / "resume.pt") as part:
            part.write_bytes(state.getbuffer())
        self._save_history()

    def _save_history(self) -> None:
        write_csv(self.out / "history.csv", self.history)

    def _tell(self, bar) -> None:
        last = self.history[-1]
        bar.set_postfix({name: f"{last[name]:.3f}" for name in ("loss", "val_dice")})
        if self.progress:
            note(
                f"epoch {self.epoch}/{self.config.epochs}, {self.seconds:.0f} s: loss {last['loss']:.3f}, "
                f"validation Dice {last['val_dice']:.3f}"
            )


def make_accelerator(config: Config) -> Accelerator:
    """The device, precision and processes of a training.

    Raises InputError for what this machine or this start cannot do.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs

    gpu = torch.cuda.is_available()
    if config.precision == "fp16" and not gpu:
        raise InputError("--precision fp16: needs a GPU; use bf16 or no on a CPU")
    # The released draw leaves the slice gate's parameters without gradient, which several processes must be
    # told.
    no_gradient = config.uncertain and config.sampling == "released"
    # a notebook may train again with another precision, which accelerate refuses otherwise
    AcceleratorState._reset_state()
    # cpu=True where there is no GPU: otherwise the processes of torchrun do not find each other
    accelerator = Accelerator(
        cpu=not gpu,
        mixed_precision=config.precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=no_gradient)],
    )
    if config.batch_size % accelerator.num_processes:
        raise InputError(
            f"--batch-size {config.batch_size}: must be a multiple of the {accelerator.num_processes} "
            "processes "
            "that share it"
        )
    return accelerator


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait until the block ends.

    Processes forked in the block ignore it, because this one ends them.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # only the main thread may choose what a signal does
        return
    waiting = []
    signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        before(*waiting[0])


def _check_unused(out: Path) -> None:
    """Raises InputError where a folder holds a run, or files of something else that a run would overwrite.

    A run that ended before its first epoch was over counts as none.
    """
    if (out / "config.json").exists():
        try:
            load_description(out)
        except InputError as error:
            raise InputError(f"{out}: holds a config.json of something else; choose another --out") from error
    elif (out / "history.csv").exists():
        raise InputError(f"{out}: holds a history.csv of something else; choose another --out")
    if any(out.glob("*.safetensors")) or (out / "resume.pt").exists():
        raise InputError(f"{out}: holds a run already; continue it with --resume, or choose another --out")


def _tell_of_unused_draws(config: Config) -> None:
    """Say which options of a draw are given to a network that draws nothing."""
    usual = {option.name: option.default for option in fields(Config)}
    given = [name for name in ("uncertain", "sampling", "noise", "noise_warmup", "max_std")
             if getattr(config, name) != usual[name]]
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        print(f"{flags}: without effect, because no slice gate of this network is drawn; that needs "
              "--uncertain and a slice gate (--attention)", file=sys.stderr)


def _check_same_options(config: Config, stored: Config) -> None:
    for name, value in asdict(config).items():
        if name not in MAY_CHANGE and value != getattr(stored, name):
            raise InputError(
                f"--{name.replace('_', '-')} {value}: the run to continue has {getattr(stored, name)}; "
                "leave the option out, or start a new run"
            )


def _check_same_data(config: Config, facts: Facts, stored: Facts) -> None:
    for name in ("digest", "planes", "through_plane", "in_plane"):
        if not getattr(stored, name):  # a run of an older version
            stored = replace(stored, **{name: getattr(facts, name)})
    if not stored.digest.startswith(OF_SCANS):  # of resampled images: it changes with the number of threads
        stored = replace(stored, digest=facts.digest)
    if facts != stored:
        what = (
            "other voxels or masks"
            if replace(facts, digest=stored.digest) == stored
            else "other cases, labels or spacing"
        )
        raise InputError(
            f"{config.data}: is not what this run was started on ({what}); give the folder as it was, or "
            "start a new run"
        )
