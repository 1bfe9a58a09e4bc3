"""The fast path of CSAM computes what the plain page computes: values, gradients, recorded and replaced gates."""


import pytest
import torch

from csam_lite import CSAM, UNet, override_gates, record_gates, start_gates
from csam_lite.core.attention import PositionalAttention, SemanticAttention, SliceAttention
from csam_lite.core.fast import CHANNELS, VOLUME, GateAndPoolChannels, PoolVolume, multiply_gates
from csam_lite.core.masks import max_over, mean_over

MASK = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [False, True, False, True, True, False]])
SWITCHES = [dict(), dict(semantic=False), dict(positional=False), dict(slice=False), dict(semantic=False, positional=False),
            dict(uncertain=True), dict(uncertain=True, sampling="released")]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def twins(*args, seed=0, **options):
    """The same CSAM twice, on the plain path and on the fast one."""
    plain, fast = CSAM(*args, fast=False, **options), CSAM(*args, **options)
    torch.manual_seed(seed)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if plain.semantic is not None:
        plain.semantic.mlp[0].weight.data.abs_()  # an inactive hidden unit would have no gradient to compare
    fast.load_state_dict(plain.state_dict())
    return plain, fast


def outcome(module, F, mask, probe, **autocast):
    """Output and gradients of a module, in training mode, with the same draws each time."""
    leaf = F.clone().requires_grad_()
    torch.manual_seed(1)
    module.zero_grad()
    with torch.autocast("cpu", **autocast) if autocast else torch.enable_grad():
        out = module(leaf, mask)
    (out.float() * probe).sum().backward()
    return [out.detach(), leaf.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


def assert_same(ours, theirs, tolerance=1e-5):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a.dtype == b.dtype
        scale = max(1.0, float(b.abs().max()))
        assert float((a - b).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", SWITCHES, ids=str)
@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
@pytest.mark.parametrize("autocast", [{}, dict(dtype=torch.bfloat16), dict(dtype=torch.float16)], ids=["float32", "bf16", "fp16"])
def test_values_and_gradients_are_those_of_the_plain_page(options, mask, autocast, seed):
    plain, fast = twins(7, 9, seed=seed, **options)
    F, probe = torch.randn(3, 6, 9, 10, 13), torch.randn(3, 6, 9, 10, 13)
    assert_same(outcome(fast, F, mask, probe, **autocast), outcome(plain, F, mask, probe, **autocast))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
def test_on_features_in_half_precision_the_fast_path_is_as_exact_as_the_plain_one(dtype, mask):
    """Here equal numbers are common, and which of them gets the gradient of a maximum is open: both are judged by float32."""
    plain, fast = twins(7, 9)
    F, probe = torch.randn(3, 6, 9, 10, 13).to(dtype), torch.randn(3, 6, 9, 10, 13)
    exact = outcome(plain, F.float(), mask, probe)
    for a, b, expected in zip(outcome(fast, F, mask, probe), outcome(plain, F, mask, probe), exact):
        ours, theirs = (float((x - expected).norm() / expected.norm()) for x in (a, b))
        assert a.dtype == b.dtype and ours <= 1.5 * theirs + 0.01


def test_compiled_the_two_paths_agree(utf8_locale):
    plain, fast = twins(7, 9)
    F, probe = torch.randn(3, 6, 9, 8, 8), torch.randn(3, 6, 9, 8, 8)
    expected = outcome(plain, F, MASK, probe)
    for module in (plain, fast):
        assert_same(outcome(torch.compile(module), F, MASK, probe), expected)
    torch.compiler.reset()


def test_both_paths_record_and_replace_the_same_gates():
    nets = [start_gates(UNet(1, 3, 6, base_channels=4, levels=2, fast=fast)).eval() for fast in (False, True)]
    torch.manual_seed(0)
    for parameter in nets[0].csam.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    nets[1].load_state_dict(nets[0].state_dict())
    x, seen = torch.randn(3, 6, 1, 12, 12), []
    changes = {("csam.0", "semantic"): 0.25, ("csam.1", "slice"): lambda gate: gate.mean(), ("csam.0", "positional"): -1.0}
    for net in nets:
        for values in ({}, changes):
            with override_gates(net, values), record_gates(net) as record:
                out = net(x, MASK)
            seen.append({"out": out} | {f"{name}/{gate}": torch.as_tensor(array.values)
                                        for name, gates in record.items() for gate, array in gates.items()})
        assert [csam.fast for csam in net.csam] == [net is nets[1]] * 2  # as they were
    for plain, fast in zip(seen[:2], seen[2:]):
        assert plain.keys() == fast.keys() and len(plain) == 7
        for name, values in plain.items():
            torch.testing.assert_close(fast[name], values, rtol=1e-5, atol=1e-5)
    assert (seen[3]["csam.0/positional"] == -1).all() and not torch.equal(seen[2]["out"], seen[3]["out"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_channel_maps_have_autograds_gradients_also_where_channels_tie(dtype):
    F = torch.randn(2, 3, 8, 5, 7).round().to(dtype)  # whole numbers: many ties
    probes, gate = torch.randn(2, 2, 3, 1, 5, 7), torch.full((2, 1, 8, 1, 1), 0.5, dtype=dtype)
    ways = (lambda F: GateAndPoolChannels.apply(F, gate)[1:], lambda F: (max_over(F * gate, CHANNELS), mean_over(F * gate, CHANNELS)))
    assert_same(*(pooled(F, pool, probes) for pool in ways), tolerance=1e-5 if dtype.itemsize > 2 else 0.01)


@pytest.mark.parametrize("options", SWITCHES[:5], ids=str)
@pytest.mark.parametrize("mask", [None, torch.tensor([[True, True, True], [False, True, True]])], ids=["no mask", "mask"])
def test_the_whole_path_has_the_right_gradients(options, mask):
    fast = twins(3, 4, **options)[1].double()
    smooth = torch.randn(2, 3, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda F: fast(F, mask), smooth)


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
@pytest.mark.parametrize("in_cache", [1, 9 * 10 * 13 * 4, 2**30], ids=["slice by slice", "four slices", "all"])
def test_the_size_of_the_parts_changes_nothing(in_cache, mask, monkeypatch):
    monkeypatch.setattr("csam_lite.core.fast.IN_CACHE", in_cache)
    plain, fast = twins(7, 9)
    F, probe = torch.randn(3, 6, 9, 10, 13), torch.randn(3, 6, 9, 10, 13)
    assert_same(outcome(fast, F, mask, probe), outcome(plain, F, mask, probe))


def test_attentions_of_other_axes_and_in_any_order():
    """A gate for each slice and channel before the others, and a semantic gate after the slice gate."""
    class SliceChannel(SemanticAttention):
        name, axes = "slice_channel", "BSC"

        def scores(self, m, a, mask):
            return (self.mlp(m.flatten(2)) + self.mlp(a.flatten(2)))[..., None, None]

    chain = [SliceChannel(9, least_hidden=8), PositionalAttention(), SliceAttention(6), SemanticAttention(9, least_hidden=8), PositionalAttention()]
    F, probe, seen = torch.randn(3, 6, 9, 10, 13), torch.randn(3, 6, 9, 10, 13), []
    for fast in (True, False):
        leaf = F.clone().requires_grad_()
        out = multiply_gates(chain, leaf, None) if fast else torch.nn.Sequential(*chain)(leaf)
        (out * probe).sum().backward()
        seen.append([out.detach(), leaf.grad, *(p.grad.clone() for module in chain for p in module.parameters())])
        for module in chain:
            module.zero_grad()
    assert_same(*seen)


def test_no_gradient_that_a_caller_holds_is_changed():
    """The backward pass works in place, but only on tensors of its own."""
    _, fast = twins(7, 9)
    F, gradient = torch.randn(3, 6, 9, 10, 13, requires_grad=True), torch.randn(3, 6, 9, 10, 13)
    kept = gradient.clone()
    used = F * 1.0
    used.retain_grad()
    out = fast(used, MASK)
    out.backward(gradient, retain_graph=True)
    first = used.grad.clone()
    used.grad = F.grad = None
    out.backward(gradient)  # a second pass through the same graph gives the same
    assert torch.equal(gradient, kept) and torch.equal(used.grad, first)


@pytest.mark.parametrize("dtype", DTYPES)
def test_volume_statistics_have_autograds_gradients_under_a_mask(dtype):
    mask = torch.tensor([[True] * 4, [False, True, True, False]])
    real = mask[:, :, None, None, None]
    F = (torch.randperm(2 * 4 * 3 * 5 * 7).view(2, 4, 3, 5, 7) - 900).to(dtype) * real  # below zero where real: padding must not win
    probes = torch.randn(2, 2, 1, 3, 1, 1)
    ours = pooled(F, lambda F: PoolVolume.apply(F, mask)[1:], probes)
    # In bfloat16 some of these numbers are equal. PyTorch shares the gradient among slices, the fast path gives it to the first.
    theirs = pooled(F, lambda F: (max_over(F, VOLUME, mask), mean_over(F, VOLUME, mask)), probes)
    if dtype is torch.bfloat16:
        ours[2], theirs[2] = ((gradient * real).sum((1, 3, 4)) for gradient in (ours[2], theirs[2]))
    ours[2], theirs[2] = (gradient * real if gradient.dim() == 5 else gradient for gradient in (ours[2], theirs[2]))
    assert_same(ours, theirs, tolerance=1e-5 if dtype.itemsize > 2 else 0.01)
    if dtype is torch.float64:
        smooth = torch.randn(2, 2, 3, 3, 3, dtype=dtype, requires_grad=True)
        assert torch.autograd.gradcheck(lambda F: PoolVolume.apply(F, None)[1:], smooth)


def test_the_mean_keeps_its_gradient_in_half_precision_under_a_mask():
    """20 x 64 x 64 = 81,920 voxels are more than half precision can count (65,504)."""
    F, mask = torch.randn(1, 20, 2, 64, 64).half().requires_grad_(), torch.ones(1, 20, dtype=torch.bool)
    of_mean = 1000.0
    (PoolVolume.apply(F, mask)[2] * of_mean).sum().backward()
    torch.testing.assert_close(F.grad, torch.full_like(F, of_mean / 81_920), rtol=1e-2, atol=0)


def test_a_maximum_that_many_hold_gets_its_gradient_once():
    F = torch.zeros(1, 3, 2, 4, 4, requires_grad=True)
    PoolVolume.apply(F, None)[1].sum().backward()
    torch.testing.assert_close(F.grad.sum((1, 3, 4)), torch.ones(1, 2))


def pooled(F, pool, probes):
    """[maximum, mean, gradient of F] for a loss that weighs both with `probes`."""
    leaf = F.clone().requires_grad_()
    maps = pool(leaf)
    sum((a.to(b.dtype) * b).sum() for a, b in zip(maps, probes)).backward()
    return [*maps, leaf.grad]
