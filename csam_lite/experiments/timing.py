"""What a computation costs on this machine: its time, in turns with its rivals, and the most memory it holds
at once."""

import os
import statistics
import time
from collections.abc import Callable

import torch

from csam_lite.common.device import best_device


def race(contenders: dict[str, Callable], repeats: int = 5) -> dict[str, float]:
    """{name: median seconds} of functions without arguments that take turns, so that a busy machine is unfair
    to none.

    The first turn warms up and does not count.
    """
    times = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            _finish()
            start = time.perf_counter()
            run()
            _finish()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def peak_memory(run: Callable) -> int:
    """The most bytes of tensors that `run()` holds at once beyond those held before it (on the GPU where
    there is one)."""
    if torch.cuda.is_available():
        _finish()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        _finish()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler prints messages
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = highest = 0
    for _, change in changes:  # bytes taken, or given back
        held += change
        highest = max(highest, held)
    return highest


def training_step(
    network: torch.nn.Module, shape: tuple[int, ...], precision: str = "no"
) -> Callable[[], None]:
    """A function that does one training step on noise of `shape` (B, S, C, H, W): forward, Dice +
    cross-entropy, backward; no optimiser."""
    from csam_lite.training.start import volume_loss

    device = next(network.parameters()).device
    x, mask = torch.randn(shape, device=device), torch.ones(shape[:2], dtype=torch.bool, device=device)
    kind, loss = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision), volume_loss()
    label = torch.randint(0, 2, (*shape[:2], *shape[3:]), device=device)

    def step():
        with torch.autocast(device.type, kind, enabled=kind is not None):
            logits = network(x)
        columns = logits if isinstance(logits, list) else [logits]
        sum(loss(column.float(), label, mask) for column in columns).backward()
        network.zero_grad()

    return step


def bandwidth(megabytes: int = 256, repeats: int = 5) -> float:
    """Bytes per second, read and written, that a copy of memory much larger than the caches moves."""
    source = torch.randn(megabytes * 2**18, device=best_device())
    target = torch.empty_like(source)
    return 2 * source.nbytes / race({"copy": lambda: target.copy_(source)}, repeats)["copy"]


def _finish() -> None:
    """Wait for the GPU, because it works on after a call has returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
