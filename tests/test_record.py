"""Gates of a running network, replaced."""

import numpy as np
import pytest
import torch

from csam_lite import CSAM, UNet, UNetPlusPlus
from csam_lite.core.attention import SliceAttention
from csam_lite.core.gates import override_gates, record_gates


@pytest.fixture
def net():
    return UNet(1, 3, num_slices=5, base_channels=4, levels=3).eval()


X = torch.randn(2, 5, 1, 16, 16, generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()


@torch.no_grad()
def test_a_module_with_all_gates_at_one_passes_its_input_through():
    csam, x = CSAM(5, 4), torch.randn(2, 5, 4, 8, 8)
    with override_gates(csam, {("", gate): 1.0 for gate in ("semantic", "positional", "slice")}):
        torch.testing.assert_close(csam(x), x)
    assert not torch.allclose(csam(x), x)  # and only during the block


@torch.no_grad()
@pytest.mark.parametrize("kind", [UNet, UNetPlusPlus])
def test_what_is_put_in_is_what_acts(kind):
    net = kind(1, 3, num_slices=5, base_channels=4, levels=3).eval()
    rng = np.random.default_rng(0)
    given = {("csam.0", "semantic"): rng.random(4), ("csam.1", "positional"): rng.random((8, 8)), ("csam.0", "slice"): rng.random((2, 5))}
    before = net(X)
    with override_gates(net, given), record_gates(net) as record:
        after = net(X)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(net(X), before)
    for (name, gate), values in given.items():
        np.testing.assert_allclose(record[name][gate].values, np.broadcast_to(values, record[name][gate].values.shape), rtol=1e-6)
    with record_gates(net) as own:
        net(X)
    with override_gates(net, {(name, gate): named.values for name, gates in own.items() for gate, named in gates.items()}):
        torch.testing.assert_close(net(X), before)  # its own gates change nothing


@torch.no_grad()
def test_nan_leaves_a_gate_and_a_function_sees_it(net):
    with record_gates(net) as own:
        before = net(X, MASK)
    hand = np.full(5, np.nan)
    with override_gates(net, {("csam.2", "slice"): hand}):
        torch.testing.assert_close(net(X, MASK), before)
    hand[1] = 0.25
    mean = lambda gate: gate.mean(1, keepdim=True)  # noqa: E731
    with override_gates(net, {("csam.2", "slice"): hand, ("csam.0", "semantic"): mean}), record_gates(net) as record:
        net(X, MASK)
    expected = own["csam.2"]["slice"].values.copy()
    expected[:, 1] = 0.25
    np.testing.assert_allclose(record["csam.2"]["slice"].values, expected, rtol=1e-5)
    means = own["csam.0"]["semantic"].values.mean(1, keepdims=True)
    np.testing.assert_allclose(record["csam.0"]["semantic"].values, np.repeat(means, 4, 1), rtol=1e-5)


@torch.no_grad()
def test_padding_stays_invisible(net):
    with override_gates(net, {("csam.0", "slice"): 1.0}):
        together = net(X, MASK)[1, :3]
        alone = net(X[1:, :3])[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_gradients_go_through_what_is_put_in(net):
    wish = torch.full((5,), 0.5, requires_grad=True)
    with override_gates(net, {("csam.0", "slice"): wish}):
        net(X).square().sum().backward()
    assert wish.grad.abs().sum() > 0


def test_what_does_not_fit_is_said(net):
    with pytest.raises(ValueError, match=r"no gate \('csam.9', 'slice'\).*'csam.0', 'semantic'"), override_gates(net, {("csam.9", "slice"): 1.0}):
        pass
    with pytest.raises(ValueError, match="it has none"), override_gates(SliceAttention(5), {("", "slice"): 1.0}):
        pass
    with pytest.raises(ValueError, match=r"shape \(7,\) do not fit.*\(2, 5\).*B, S"), override_gates(net, {("csam.0", "slice"): torch.ones(7)}):
        net(X)
    assert not any(module._forward_hooks for module in net.modules())
