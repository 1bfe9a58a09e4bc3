"""Train a network on a folder of scans: on a CPU, a GPU, or several processes started by torchrun."""

import csv
import io
import math
import pickle
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.common.memory import keep_freed_memory
from csam_lite.common.tables import finite_mean
from csam_lite.core.windows import probabilities
from csam_lite.data.dataset import split
from csam_lite.data.grid import Grid
from csam_lite.metrics.overlap import dice
from csam_lite.training.ablations import scale_draws
from csam_lite.training.batches import GlobalBatches, Volumes, collate, prepare, read_scans
from csam_lite.training.build import build_network
from csam_lite.training.run import Facts, chosen_dataset, load_description, load_run, save_description
from csam_lite.training.start import freeze_cancelled_biases, one_cycle, parameter_groups, start_at_prior, volume_loss


def train(config, resume=False, progress=True):
    """Train as the Config says, into the folder `config.out` (see run.py for what it then holds); return the Run, best weights.

    With `resume`, the run in that folder goes on from its last whole epoch and ends with the weights of an uninterrupted one (bit by
    bit on a CPU; a GPU may add up in another order). Only `data`, where the scans lie, and `minutes` may be new then.
    Raises InputError for data that cannot be used, a folder that holds a run already, or, with `resume`, none or another one.
    """
    Trainer(config, resume, progress).fit()
    return load_run(config.out)


class Trainer:
    """One training: data, network, optimiser and where it stands."""

    def __init__(self, config, resume=False, progress=True):
        self.out = Path(config.out)
        if not resume and (self.out / "config.json").exists():
            raise InputError(f"{self.out}: holds a run already; continue it with --resume, or choose another --out")
        self.config = replace(config, data=str(Path(config.data).resolve()))
        stored, facts = load_description(self.out) if resume else (None, None)
        for name, value in vars(config).items():
            if resume and name not in ("data", "out", "minutes") and value != getattr(stored, name):
                raise InputError(f"--{name.replace('_', '-')} {value}: the run to continue has {getattr(stored, name)}; leave the option out, "
                                 "or start a new run")
        self.accelerator = _accelerator(self.config)
        self.main = self.accelerator.is_main_process
        self.progress = progress and self.main
        self._read_data()
        if resume and facts != self.facts:
            raise InputError(f"{self.config.data}: is not what this run was started on (other cases, labels or spacing); "
                             "give the folder as it was, or start a new run")

        keep_freed_memory()
        torch.manual_seed(self.config.seed)
        network = build_network(self.config, self.facts)
        freeze_cancelled_biases(network)
        if self.config.prior:
            start_at_prior(network, self.frequencies)
        optimizer = torch.optim.Adam(parameter_groups(network, self.config.gate_rate), lr=self.config.learning_rate)
        self.network, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.criterion = volume_loss()
        self.epoch, self.seconds, self.best, self.history = 0, 0.0, -math.inf, []
        if (self.out / "resume.pt").exists():
            self._restore()
        if self.main:
            save_description(self.out, self.config, self.facts)

    def _read_data(self):
        config = self.config
        dataset = chosen_dataset(config)
        parts = dict(zip(("train", "val", "test"), split(dataset.cases, config.split_seed, config.test, config.val, config.folds, config.fold)))
        scans = {part: read_scans(dataset, parts[part], config.one_zone, self.progress) for part in ("train", "val")}
        if not scans["train"]:
            raise InputError(f"{config.data}: every training case is left out by --one-zone drop; choose keep or remap")
        grid = Grid(config.pixels, config.spacing, len(dataset.labels) + 1)
        if not config.spacing:
            grid = Grid.fit(scans["train"], config.pixels, len(dataset.labels) + 1)
        samples, self.val_samples = (prepare(scans[part], grid) for part in ("train", "val"))
        counts = sum(torch.bincount(sample.label.flatten(), minlength=len(dataset.labels) + 1) for sample in samples)
        self.frequencies = counts / counts.sum()
        self.facts = Facts(
            channels=list(dataset.channels), labels=dataset.labels, spacing=grid.spacing,
            num_slices=config.num_slices or max(len(sample.image) for sample in samples),
            split={part: [case.name for case in cases] for part, cases in parts.items()})
        self.batches = GlobalBatches(
            len(samples), config.batch_size, config.seed, self.accelerator.process_index, self.accelerator.num_processes)
        self.loader = torch.utils.data.DataLoader(
            Volumes(samples, self.facts.num_slices, config.seed, config.augment), batch_sampler=self.batches, collate_fn=collate,
            num_workers=config.workers, pin_memory=self.accelerator.device.type == "cuda")

    def fit(self):
        """Train until the epochs, or the minutes, are used up."""
        self.started = time.monotonic() - self.seconds
        per_epoch = len(self.batches)
        with tqdm(total=self.config.epochs * per_epoch, initial=self.epoch * per_epoch, desc="training", unit="step",
                  disable=not self.progress) as bar:
            while self.epoch < self.config.epochs and self._done() < 1:
                loss, rate = self._train_epoch(bar)
                dice = self._validate()  # (volumes, classes)
                self.epoch += 1
                self.seconds = time.monotonic() - self.started
                if self.main:
                    self._save(loss, rate, dice)
                    bar.set_postfix({name: f"{self.history[-1][name]:.3f}" for name in ("loss", "val_dice")})
                self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    def _train_epoch(self, bar):
        """One pass over the training volumes. Returns the mean loss and the last learning rate."""
        self.network.train()
        self.batches.epoch = self.epoch
        # The draws of an epoch depend on its number, not on what ran before: a resumed run draws the same.
        torch.manual_seed(np.random.SeedSequence([self.config.seed, self.epoch, self.accelerator.process_index]).generate_state(1)[0].item())
        losses, rate = [], 0.0
        for step, batch in enumerate(self.loader):
            done = self._done(step)
            if done >= 1:
                break
            rate = self.config.learning_rate * one_cycle(done)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["times"]
            scale_draws(self.network, noise=self.config.noise * min(done / self.config.noise_warmup if self.config.noise_warmup else 1, 1))
            losses.append(self.step(*batch))
            bar.update()
        if not losses:
            return math.nan, rate
        return self.accelerator.reduce(torch.stack(losses).mean(), "mean").item(), rate

    def step(self, image, label, mask):
        padded = not mask.all()
        image, label, mask = (tensor.to(self.accelerator.device, non_blocking=True) for tensor in (image, label, mask))
        with self.accelerator.autocast():
            logits = self.network(image, mask if padded else None)
        columns = logits if isinstance(logits, list) else [logits]  # U-Net++ answers with all its heads
        loss = sum(self.criterion(column.float(), label, mask) for column in columns)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def _done(self, step=0):
        """The part of the training that is over, of its steps or of its minutes, whichever is more; the same in all processes."""
        steps = self.epoch + step / len(self.batches)
        spent = torch.tensor((time.monotonic() - self.started) / 60, device=self.accelerator.device)
        if self.config.minutes and self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast
            spent = broadcast(spent)
        return max(steps / self.config.epochs, spent.item() / self.config.minutes if self.config.minutes else 0)

    def _validate(self):
        """Dice (volumes, classes) of the validation volumes on the network's grid, NaN for a class in neither mask."""
        from accelerate.utils import gather_object

        network = self.accelerator.unwrap_model(self.network).eval()
        rows = []
        for sample in self.val_samples[self.accelerator.process_index::self.accelerator.num_processes]:
            with self.accelerator.autocast():
                predicted = probabilities(network, sample.image).argmax(1)
            pairs = [(predicted == k, sample.label == k) for k in range(1, self.facts.num_classes)]
            rows.append([dice(p, r) for p, r in pairs])
        return np.array(gather_object(rows)).reshape(-1, self.facts.num_classes - 1)

    def _save(self, loss, rate, dice):
        """Add a line to the history and write what a reader, a user and a continuation need, each file whole or not at all."""
        from safetensors.torch import save

        means = [finite_mean(column) for column in dice.T]
        val_dice = finite_mean(means)
        row = {"epoch": self.epoch, "seconds": round(self.seconds, 1), "learning_rate": rate, "loss": loss, "val_dice": val_dice}
        self.history.append(row | {f"val_dice_{name}": value for name, value in zip(self.facts.labels.values(), means)})
        is_best = not len(dice) or self.epoch == 1 or val_dice > self.best  # without validation volumes the last epoch is the best
        self.best = val_dice if val_dice > self.best else self.best
        network = self.accelerator.unwrap_model(self.network)
        for name in ["last", *(["best"] if is_best else [])]:
            with whole_file(self.out / f"{name}.safetensors") as part:
                part.write_bytes(save({key: tensor.clone() for key, tensor in network.state_dict().items()}))  # MONAI's net shares some
        with whole_file(self.out / "history.csv") as part, open(part, "w", newline="") as file:
            table = csv.DictWriter(file, self.history[-1])
            table.writeheader()
            table.writerows(self.history)
        scaler = self.accelerator.scaler
        state = io.BytesIO()  # torch's own file writer hides why it failed
        torch.save({"network": network.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch, "seconds": self.seconds,
                    "best": self.best, "history": self.history, "scaler": scaler.state_dict() if scaler else None}, state)
        with whole_file(self.out / "resume.pt") as part:
            part.write_bytes(state.getbuffer())

    def _restore(self):
        try:
            state = torch.load(self.out / "resume.pt", map_location="cpu", weights_only=True)  # each tensor finds its own device later
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(f"{self.out / 'resume.pt'}: is damaged ({str(error).splitlines()[0]}); train again into another --out") from error
        self.accelerator.unwrap_model(self.network).load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.epoch, self.seconds, self.best, self.history = (state[name] for name in ("epoch", "seconds", "best", "history"))


def _accelerator(config):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs

    if config.precision == "fp16" and not torch.cuda.is_available():
        raise InputError("--precision fp16: needs a GPU; use bf16 or no on a CPU")
    # The released draw leaves the slice gate's parameters without gradient, which several processes must be told.
    no_gradient = config.uncertain and config.sampling == "released"
    AcceleratorState._reset_state()  # a notebook may train again with another precision, which accelerate refuses otherwise
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=config.precision,  # cpu: or torchrun's processes stay strangers
                              kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=no_gradient)])
    if config.batch_size % accelerator.num_processes:
        raise InputError(f"--batch-size {config.batch_size}: must be a multiple of the {accelerator.num_processes} processes that share it")
    return accelerator
