"""Behaviour the released code did not have: gradients everywhere, any depth, batches, masks, a stable draw."""

import pytest
import torch

from csam_lite import (
    CSAM,
    PositionalAttention,
    SemanticAttention,
    SliceAttention,
    UNet,
    UNetPlusPlus,
    start_gates,
)
from csam_lite.core.gates import record_gates
from csam_lite.training.ablations import FORMS, NormalisedCSAM, ResidualCSAM, scale_draws

NETWORKS = [UNet, UNetPlusPlus]


def small(network, **options):
    return network(1, 3, num_slices=6, base_channels=4, levels=3, **options)


def loss_of(logits):
    return sum(out.square().mean() for out in logits) if isinstance(logits, list) else logits.square().mean()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("uncertain", [False, True])
def test_every_parameter_moves_under_training(network, uncertain):
    net = small(network, uncertain=uncertain)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(net(torch.randn(2, 6, 1, 16, 16))).backward()
        optimizer.step()
    still = [name for name, parameter in net.named_parameters() if torch.equal(parameter, before[name])]
    assert not still  # test_training.py asks the same of the trainer


def test_released_draw_gives_the_slice_parameters_no_gradient():
    for sampling, trains in [("released", False), ("reparameterised", True)]:
        net = small(UNet, uncertain=True, sampling=sampling)
        loss_of(net(torch.randn(1, 6, 1, 16, 16))).backward()
        grads = {name: parameter.grad for name, parameter in net.named_parameters()}
        of_slice = [grad is not None and bool(grad.abs().sum() > 0) for name, grad in grads.items() if ".slice." in name]
        others = [grad for name, grad in grads.items() if ".slice." not in name]
        assert len(of_slice) == 10 * 3 and all(grad is not None for grad in others)
        assert all(of_slice) if trains else not any(of_slice)


@pytest.mark.parametrize("uncertain", [False, True])
def test_evaluation_twice_is_bit_identical_and_training_draws(uncertain):
    x, net = torch.randn(1, 6, 1, 16, 16), small(UNet, uncertain=uncertain)
    assert torch.equal(net(x), net(x)) is not uncertain
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("gate", ["semantic", "positional", "slice"])
def test_a_changed_slice_changes_the_others(gate):
    x = torch.randn(1, 6, 1, 16, 16)
    changed = x.clone()
    changed[:, 2] += 3
    others = [0, 1, 3, 4, 5]
    for attention, differs in [(gate, True), ("none", False)]:
        net = small(UNet, attention=attention).eval()
        assert torch.equal(net(x)[:, others], net(changed)[:, others]) is not differs


MODULES = {
    "semantic": lambda: SemanticAttention(8), "positional": lambda: PositionalAttention(), "slice": lambda: SliceAttention(6),
    "csam": lambda: CSAM(6, 8, uncertain=True), "csam_certain": lambda: CSAM(6, 8),
    "residual": lambda: ResidualCSAM(6, 8), "normalised": lambda: NormalisedCSAM(6, 8),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("padding", [0.0, 1e6, float("nan"), float("inf")])
def test_batch_of_unlike_depths_equals_one_by_one_and_padding_changes_nothing(name, padding):
    module = MODULES[name]().eval()
    volumes = [torch.randn(1, depth, 8, 5, 7) for depth in (6, 3, 1, 4)]
    batch, mask = torch.full((4, 9, 8, 5, 7), padding), torch.zeros(4, 9, dtype=torch.bool)  # deeper than num_slices: padding only
    for b, volume in enumerate(volumes):
        batch[b, b % 3:b % 3 + volume.shape[1]] = volume[0]
        mask[b, b % 3:b % 3 + volume.shape[1]] = True
    batch.requires_grad_()
    out = module(batch, mask)
    out.sum().backward()
    together = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    for b, volume in enumerate(volumes):
        alone = module(volume)
        torch.testing.assert_close(out[b][mask[b]], alone[0], rtol=1e-5, atol=1e-6)
        alone.sum().backward()
    assert not out[~mask].any() and not batch.grad[~mask].any() and batch.grad[mask].any()
    for n, p in module.named_parameters():
        if n in together:
            torch.testing.assert_close(together[n], p.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_on_a_batch_of_unlike_depths(network):
    net = small(network, uncertain=True).eval()
    a, b = torch.randn(1, 6, 1, 17, 22), torch.randn(1, 4, 1, 17, 22)  # sizes that halving does not divide
    batch = torch.cat([a, torch.cat([b, torch.full((1, 2, 1, 17, 22), float("nan"))], dim=1)])
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    out = net(batch, mask)
    assert out.shape == (2, 6, 3, 17, 22)
    torch.testing.assert_close(out[0], net(a)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out[1, :4], net(b)[0], rtol=1e-4, atol=1e-5)


def test_thin_features_and_single_slices():
    for channels in (1, 3, 15):
        assert CSAM(4, channels)(torch.randn(2, 1, channels, 4, 4)).shape == (2, 1, channels, 4, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, None])
def test_the_draw_survives_large_activations_in_float32(dtype):
    csam = CSAM(6, 8, uncertain=True)
    drawn = []
    csam.slice.normal.register_forward_hook(lambda module, inputs, normal: drawn.append(normal.draw()))
    x = 1000 * torch.randn(2, 6, 8, 4, 4, dtype=dtype or torch.float32).requires_grad_()
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        out = csam(x)
    out.float().mean().backward()
    assert out.dtype == x.dtype and drawn[0].dtype == torch.float32
    assert out.isfinite().all() and all(p.grad.isfinite().all() for p in csam.parameters())


def test_draws_follow_the_normal_they_are_drawn_from():
    attention = SliceAttention(5, rank=2, uncertain=True)
    normals = []
    attention.normal.register_forward_hook(lambda module, inputs, normal: normals.append(normal))
    attention(torch.randn(1, 4, 3, 8, 8).expand(4000, -1, -1, -1, -1))
    draws = normals[0].draw()  # 4000 volumes, all alike
    torch.testing.assert_close(draws.mean(0), normals[0].mean[0], atol=0.1, rtol=0)
    torch.testing.assert_close(draws.T.cov(), normals[0].covariance[0], atol=0.15, rtol=0.1)


def test_gradients_against_finite_differences():
    for module in (SemanticAttention(3), PositionalAttention(), SliceAttention(4), SliceAttention(4, uncertain=True).eval()):
        x = torch.randn(2, 3, 3, 4, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(module.double(), (x, torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()))


def test_wrong_shapes_and_names_get_a_plain_line():
    with pytest.raises(ValueError, match=r"axes \(B, S, C, H, W\)"):
        CSAM(4, 8)(torch.randn(4, 8, 5, 5))
    with pytest.raises(ValueError, match=r"mask \(B, S\)"):
        CSAM(4, 8)(torch.randn(1, 4, 8, 5, 5), torch.ones(1, 5).bool())
    with pytest.raises(ValueError, match="7 slices is deeper than num_slices=4"):
        CSAM(4, 8)(torch.randn(1, 7, 8, 5, 5))
    with pytest.raises(ValueError, match="unknown attention spatial"):
        small(UNet, attention="semantic+spatial")
    with pytest.raises(ValueError, match="give at least 8"):
        small(UNet)(torch.randn(1, 6, 1, 7, 16))
    with pytest.raises(ValueError, match="1 levels are too few: UNetPlusPlus needs 2"):
        UNetPlusPlus(1, 3, num_slices=6, levels=1)
    with pytest.raises(ValueError, match="0 levels are too few: UNet needs 1"):
        UNet(1, 3, num_slices=6, levels=0)
    with pytest.raises(ValueError, match="sampling 'mean'"):
        CSAM(4, 8, sampling="mean")


def test_attention_names_any_subset():
    for attention, expected in {"all": 3, "none": 0, "slice": 1, "semantic+slice": 2, ("positional",): 1, (): 0}.items():
        csam = small(UNet, attention=attention).csam[0]
        assert sum(gate is not None for gate in (csam.semantic, csam.positional, csam.slice)) == expected
    assert not list(small(UNet, attention="none").csam.parameters())


def test_parameter_counts_of_the_paper_notes():
    def count(module):
        return sum(p.numel() for p in module.parameters())
    assert [count(CSAM(20, c, uncertain=True)) for c in (64, 512)] == [6919, 39651]
    with torch.device("meta"):  # counts need no memory
        assert count(UNet(1, 3, 20, attention="none")) == 34_512_323
        assert count(UNet(1, 3, 20, uncertain=True)) - 34_512_323 == 208_395
        assert count(UNet(1, 3, 20, levels=6, uncertain=True)) - count(UNet(1, 3, 20, levels=6, attention="none")) == 741_198
        assert count(UNetPlusPlus(1, 3, 20, attention="none")) == 36_614_604
        without_deepest = 208_395 - count(CSAM(20, 1024, uncertain=True))
        assert count(UNetPlusPlus(1, 3, 20, uncertain=True)) - 36_614_604 == without_deepest


def test_recorded_gates_have_named_axes_and_explain_the_output():
    csam, x = CSAM(6, 8, uncertain=True).eval(), torch.randn(2, 6, 8, 5, 7)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    with record_gates(torch.nn.Sequential(csam)) as record:  # any module that holds a CSAM
        csam(x, mask)
    gates = record["0"]
    sizes = dict(B=2, S=6, T=6, C=8, H=5, W=7)
    assert set(gates) == {"semantic", "positional", "slice", "slice_mean", "slice_covariance"}
    for name, gate in gates.items():
        assert gate.values.shape == tuple(sizes[axis] for axis in gate.axes), name
    a, p, s = (torch.from_numpy(gates[name].values) for name in ("semantic", "positional", "slice"))
    gated = x * a[:, None, :, None, None] * p[:, None, None] * s[:, :, None, None, None]
    torch.testing.assert_close(csam(x, mask)[mask], gated[mask])
    assert not s[1, 4:].any()
    assert not csam.semantic.gate._forward_hooks and not csam.slice.normal._forward_hooks  # nothing is left behind


def test_csam_plugs_into_a_monai_network():
    from monai.networks.nets import BasicUNet

    class WithCSAM(BasicUNet):  # a 2D network on (B*S, C, H, W); one CSAM on its finest skip connection
        def __init__(self, num_slices):
            super().__init__(spatial_dims=2, in_channels=1, out_channels=3, features=(8, 8, 16, 16, 32, 8))
            self.csam, self.num_slices = CSAM(num_slices, 8), num_slices
            self.conv_0.register_forward_hook(
                lambda module, inputs, y: self.csam(y.unflatten(0, (-1, self.num_slices))).flatten(0, 1))

    net, x = WithCSAM(num_slices=4), torch.randn(2, 4, 1, 32, 32)
    logits = net(x.flatten(0, 1)).unflatten(0, (2, 4))
    logits.square().mean().backward()
    assert logits.shape == (2, 4, 3, 32, 32)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.csam.parameters())


@pytest.mark.parametrize("uncertain", [False, True])
def test_a_quiet_start_is_the_same_for_every_input_and_trains(uncertain):
    csam, x = start_gates(CSAM(6, 8, uncertain=uncertain), 0.9), torch.randn(2, 6, 8, 16, 16)
    with record_gates(torch.nn.Sequential(csam.eval())) as record:
        csam(100 * x)
    for kind in ("semantic", "positional", "slice"):
        values = torch.as_tensor(record["0"][kind].values)
        torch.testing.assert_close(values, torch.full_like(values, 0.9))
    csam.train()
    optimizer = torch.optim.Adam(csam.parameters(), lr=1e-2)
    before = {name: parameter.detach().clone() for name, parameter in csam.named_parameters()}
    for _ in range(3):  # the last layers move first, then the others get gradients through them
        optimizer.zero_grad()
        (csam(x) * x).mean().backward()
        optimizer.step()
    assert not [name for name, parameter in csam.named_parameters() if torch.equal(parameter, before[name])]
    for bad in (0, 1):
        with pytest.raises(ValueError, match="must lie between 0 and 1"):
            start_gates(CSAM(6, 8), bad)


@pytest.mark.parametrize("channels, hidden", [(8, 8), (128, 8), (256, 16)])
def test_semantic_gates_can_start_by_comparing_channels(channels, hidden):
    semantic = start_gates(CSAM(4, channels, least_hidden=8), 0.5, semantic_weights=1.0).semantic
    assert semantic.mlp[0].out_features == hidden
    alike = torch.rand(3, 4, 1, 8, 8).expand(-1, -1, channels, -1, -1) * torch.tensor([1.0, 5, 20])[:, None, None, None, None]
    torch.testing.assert_close(semantic.gate_of(alike), torch.full((3, 1, channels, 1, 1), 0.5))  # however large they are
    volumes = torch.rand(20, 1, channels, 1, 1) * torch.rand(20, 4, channels, 8, 8)  # other channels are strong in each volume
    gate = semantic.gate_of(10 * volumes)
    assert gate.std(0).mean() > 0.02 and ((gate < 0.1) | (gate > 0.9)).float().mean() < 0.1
    assert bool((semantic.mlp[:2](volumes.amax((1, 3, 4))) > 0).any(0).all())  # no hidden unit is silent


def test_a_start_at_random_closes_channels_before_the_training():
    x, closed = torch.randn(1, 10, 16, 32, 32).relu(), []
    for seed in range(20):
        torch.manual_seed(seed)
        attention = SemanticAttention(16)
        gate = attention.gate_of(x)
        closed.append(((gate < 0.1) | (gate > 0.9)).float().mean().item())
    assert sum(closed) / len(closed) > 0.1  # why `start_gates` exists


@pytest.mark.parametrize("network", NETWORKS)
def test_convolutions_start_alike_whatever_the_gates(network):
    weights = []
    for attention in ("none", "slice", "all"):
        torch.manual_seed(3)
        weights.append({name: value for name, value in small(network, attention=attention).state_dict().items() if not name.startswith("csam.")})
    assert all(torch.equal(weights[0][name], other[name]) for other in weights[1:] for name in weights[0])


def test_forms_are_what_they_say():
    x, mask = torch.randn(2, 6, 8, 5, 7), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    csam = {}
    for form, kind in FORMS.items():
        torch.manual_seed(0)
        csam[form] = kind(6, 8)(x, mask)
    real = x * mask[:, :, None, None, None]
    torch.testing.assert_close(csam["residual"], real + csam["product"])
    for b, depth in enumerate((6, 4)):
        volume = csam["product"][b, :depth]
        expected = torch.nn.functional.instance_norm(volume.transpose(0, 1)[None])[0].transpose(0, 1)  # over S, H, W of each channel
        torch.testing.assert_close(csam["normalised"][b, :depth], expected, atol=1e-5, rtol=1e-4)
    assert (csam["normalised"][1, 4:] == 0).all()
    for kind in FORMS.values():
        assert torch.equal(kind(6, 8, semantic=False, positional=False, slice=False)(x), x)  # no gate, nothing to add


def test_bounded_covariance_and_scaled_draw():
    torch.manual_seed(0)
    free = SliceAttention(6, uncertain=True)
    bounded = SliceAttention(6, uncertain=True)
    scale_draws(bounded, max_std=0.5)
    bounded.load_state_dict(free.state_dict())
    for size in (0.01, 1.0, 1e4):
        t, slots = size * torch.rand(3, 6), torch.arange(6).expand(3, 6)
        own, limited = free.normal(t, slots), bounded.normal(t, slots)
        variance, less = (normal.covariance.diagonal(dim1=1, dim2=2) for normal in (own, limited))
        assert (less <= 0.25 + 1e-6).all() and torch.equal(own.mean, limited.mean)
        torch.testing.assert_close(less, variance / (1 + variance / 0.25), rtol=1e-4, atol=1e-6)
        signs = [normal.covariance / torch.sqrt(v[:, :, None] * v[:, None]) for normal, v in ((own, variance), (limited, less))]
        torch.testing.assert_close(*signs, rtol=1e-3, atol=1e-3)  # the correlation between slices stays
    draws = []
    for noise in (0.0, 0.5, 1.0):
        torch.manual_seed(1)
        draws.append(own.draw(noise))
    assert torch.equal(draws[0], own.mean)
    torch.testing.assert_close(draws[1], (draws[0] + draws[2]) / 2, rtol=1e-4, atol=1e-4)


def test_gates_are_chosen_by_any_iterable_and_once_only():
    for attention in ("semantic+slice", ["slice", "semantic"], (name for name in ("semantic", "slice"))):
        assert [part.name for part in small(UNet, attention=attention).csam[0].attentions] == ["semantic", "slice"]
    with pytest.raises(TypeError, match="multiple values"):
        small(UNet, attention="none", slice=True)


def test_gates_act_in_the_order_of_the_paper_also_where_one_is_added_later():
    csam = CSAM(6, 8, semantic=False)
    csam.semantic = SemanticAttention(8)
    assert [attention.name for attention in csam.attentions] == ["semantic", "positional", "slice"]
