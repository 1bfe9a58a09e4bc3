"""Trainings that are killed or interrupted: after --resume every file is as if nothing had happened.

Plain pytest runs a sample; -m stress runs 50 kills at random moments, 20 at write points and 16 times Ctrl-C. The seed of the
moments is printed; CSAM_LITE_TEST_SEED repeats them.
"""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import SEED, TINY

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the trainings to kill are forked")

# One process imports all, then forks a training again and again, so that kills fall into training, not into imports.
# It reads a list of trials, JSON: {"out", "workers", "signal", "at"}, and writes a line for each: exit code, output.
HARNESS = r'''
import json, os, signal, sys, time
import torch
torch.set_num_threads(1)
import csam_lite.training.trainer, monai.transforms, monai.losses, accelerate, safetensors.torch  # as a training does
from csam_lite.cli import main
from csam_lite.common import files


def child(arguments, log, point):
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without it
    for number in (1, 2):
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    if point is not None:  # SIGKILL before (even) or after (odd) the n-th file takes its name
        replace, count = os.replace, [0]

        def counted(*paths):
            if count[0] == point // 2 and point % 2 == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*paths)
            if count[0] == point // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            count[0] += 1
        files.os.replace = counted
    os._exit(main(arguments))


def start(arguments, log, point=None):
    process = os.fork()
    return process or child(arguments, log, point)


for trial in json.load(sys.stdin):
    arguments = ["train", *trial["arguments"], "--out", trial["out"]]
    log, codes = trial["out"] + ".log", []
    for moment in trial["moments"]:
        resume = ["--resume"] if os.path.exists(os.path.join(trial["out"], "config.json")) else []
        process = start(arguments + resume, log, moment if trial["signal"] == "write" else None)
        if trial["signal"] != "write":
            limit = time.monotonic() + 60  # counted from the end of the first epoch, where a trial asks for that
            while trial.get("after_an_epoch") and not os.path.exists(trial["out"] + "/history.csv") and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(moment)
            try:
                os.killpg(process, getattr(signal, trial["signal"]))
            except ProcessLookupError:
                pass
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    resume = ["--resume"] if os.path.exists(os.path.join(trial["out"], "config.json")) else []
    start_time = time.monotonic()
    last = os.waitstatus_to_exitcode(os.waitpid(start(arguments + resume, log), 0)[1])
    print(json.dumps({"codes": codes, "last": last, "seconds": time.monotonic() - start_time}), flush=True)
'''


def attempt(trials, phantoms):
    """The answers of the harness to trials (out, signal, moments[, options, after_an_epoch])."""
    options = {"data": phantoms, **TINY, "epochs": 3, "uncertain": None}
    listed = []
    for trial in trials:
        given = options | trial.get("options", {})
        arguments = [text for name, value in given.items()
                     for text in (f"--{name.replace('_', '-')}", *([] if value is None else [str(value)]))]
        listed.append({"arguments": arguments, "out": str(trial["out"]), "signal": trial["signal"], "moments": trial["moments"],
                       "after_an_epoch": trial.get("after_an_epoch", False)})
    done = subprocess.run([sys.executable, "-c", HARNESS], input=json.dumps(listed), capture_output=True, encoding="utf-8",
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(answers) == len(trials), done.stderr[-2000:]
    return answers


def left(folder):
    """What a run has left: the bytes of its weights, its history without the seconds, the names of its files."""
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        history = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    weights = [(folder / f"{name}.safetensors").read_bytes() for name in ("best", "last")]
    return weights, history, sorted(path.name for path in folder.iterdir())


def compare_with_whole(trials, phantoms, tmp_path, codes):
    """Run all trials and one training that nobody stops; every trial must leave the same."""
    print(f"seed {SEED}: repeat with CSAM_LITE_TEST_SEED={SEED}")
    whole, *answers = attempt([dict(out=tmp_path / "whole", signal="SIGKILL", moments=[]), *trials], phantoms)
    assert whole["last"] == 0
    expected = left(tmp_path / "whole")
    assert len(expected[1]) == 3 and len(expected[2]) == 5
    stopped = 0
    for trial, answer in zip(trials, answers):
        log = trial["out"].with_suffix(".log").read_text(encoding="utf-8")
        assert set(answer["codes"]) <= codes and answer["last"] == 0 and "Traceback" not in log, (trial, answer, log)
        assert left(trial["out"]) == expected, trial
        stopped += sum(code != 0 for code in answer["codes"])
    return stopped


def seconds_of_a_training(phantoms, tmp_path, options=()):
    """Of the second of two: the first one fills caches, so that moments up to its length often lie behind the end of the others."""
    trials = [dict(out=tmp_path / f"measured{i}", signal="SIGKILL", moments=[], options=dict(options)) for i in range(2)]
    return min(answer["seconds"] for answer in attempt(trials, phantoms))


def random_kills(count, phantoms, tmp_path):
    """Trials with two kills each, at moments of a training that lasts as long as it does here and now."""
    seconds = seconds_of_a_training(phantoms, tmp_path)
    rng = np.random.default_rng(SEED)
    return [dict(out=tmp_path / f"run{i}", signal="SIGKILL", moments=rng.uniform(0, seconds, 2).tolist()) for i in range(count)]


def kills_at_write_points(points, tmp_path):
    return [dict(out=tmp_path / f"write{point}", signal="write", moments=[point]) for point in points]


def interrupts(count, phantoms, tmp_path):
    """Ctrl-C reaches a terminal's whole group: the training and its workers, which each epoch forks anew."""
    options = {"workers": 2}
    seconds = seconds_of_a_training(phantoms, tmp_path, options)
    rng = np.random.default_rng(SEED)
    trials = [dict(out=tmp_path / f"run{i}", signal="SIGINT", options=options, moments=[rng.uniform(0.2, 1) * seconds])
              for i in range(count)]
    trials[0] |= dict(after_an_epoch=True, moments=[0.0])  # with two epochs before it, this one is stopped on any machine
    assert compare_with_whole(trials, phantoms, tmp_path, {130, 0}) > 0


@pytest.mark.row("reliability 19")
def test_a_few_kills(phantoms, tmp_path):
    """At random moments and while files are written."""
    trials = random_kills(2, phantoms, tmp_path) + kills_at_write_points((0, 7), tmp_path)
    assert compare_with_whole(trials, phantoms, tmp_path, {-9, 0}) > 3


@pytest.mark.row("reliability 18")
def test_a_few_interrupts(phantoms, tmp_path):
    interrupts(1, phantoms, tmp_path)


@pytest.mark.stress(trial="trainings killed at random moments, two kills each", found=0, count=50)
def test_fifty_kills(stress, phantoms, tmp_path):
    assert compare_with_whole(random_kills(25, phantoms, tmp_path), phantoms, tmp_path, {-9, 0}) > 12


@pytest.mark.stress(trial="trainings killed while they write a file (no .part left)", found=22, count=20)
def test_twenty_kills_at_write_points(stress, phantoms, tmp_path):
    assert compare_with_whole(kills_at_write_points(range(20), tmp_path), phantoms, tmp_path, {-9}) == 20


@pytest.mark.stress(trial="Ctrl-C to a training and its two workers", found=2, count=16)
def test_sixteen_interrupts(stress, phantoms, tmp_path):
    interrupts(16, phantoms, tmp_path)
