"""`train --compile`: the same training through torch.compile, or one line where this machine cannot."""

import pytest
import torch
from conftest import TINY

from csam_lite.common.errors import InputError
from csam_lite.training.config import Config
from csam_lite.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("utf8_locale")


def config(phantoms, out, **options):
    return Config(str(phantoms), str(out), **TINY | dict(levels=2, attention="slice") | options)


def test_a_compiled_step_is_the_same_but_for_rounding(phantoms, tmp_path, stress):
    trainers = [Trainer.prepare(config(phantoms, tmp_path / str(compile), compile=compile), progress=False) for compile in (False, True)]
    batch = next(iter(trainers[0].loader))
    losses = [trainer.step(*batch) for trainer in trainers]
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    eager, built = (trainer.network.state_dict() for trainer in trainers)
    assert eager.keys() == built.keys()
    assert all(torch.allclose(eager[key].float(), built[key].float(), atol=1e-4) for key in eager)


def test_where_nothing_can_be_compiled_one_line_says_so(phantoms, tmp_path, monkeypatch):
    from torch._inductor.exc import InvalidCxxCompiler

    def broken(network):
        def call(*inputs):
            raise InvalidCxxCompiler()

        return call

    monkeypatch.setattr(torch, "compile", broken)
    trainer = Trainer.prepare(config(phantoms, tmp_path / "run", compile=True), progress=False)
    with pytest.raises(InputError, match=r"--compile: torch.compile does not work on this machine \(.*\); leave it out"):
        trainer.fit()


def test_an_error_of_the_network_itself_stays_what_it_is(phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: network)
    trainer = Trainer.prepare(config(phantoms, tmp_path / "run", compile=True), progress=False)
    with pytest.raises(RuntimeError):
        trainer.forward(torch.randn(1, 3, 99, 32, 32))
