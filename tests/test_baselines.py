"""The networks that CSAM is compared with: any size and depth, masks, and what crosses the slices."""

import os
import subprocess
import sys

import pytest
import torch

from csam_lite.core.networks import UNet
from csam_lite.training.baselines import SelfAttentionUNet, SliceSelfAttention, UNet2D, UNet3D

NETWORKS = [UNet2D, UNet3D, SelfAttentionUNet]


@pytest.mark.parametrize("network", NETWORKS)
def test_any_size_and_depth_and_padding_changes_nothing(network):
    net, x = network(1, 3, num_slices=6, base_channels=8, levels=3).eval(), torch.randn(2, 6, 1, 18, 22)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    padded = x.clone()
    padded[1, 4:] = float("nan")
    out, same, alone = net(x, mask), net(padded, mask), net(x[1:, :4])
    assert out.shape == (2, 6, 3, 18, 22)
    torch.testing.assert_close(out[mask], same[mask])
    torch.testing.assert_close(out[1:, :4], alone, atol=1e-4, rtol=1e-4)
    assert [head.out_channels for head in net.heads] == [3]


@pytest.mark.parametrize("network", NETWORKS)
def test_the_fewest_levels_can_be_built(network):
    assert network(1, 3, num_slices=4, base_channels=4, levels=network.least_levels)(torch.randn(1, 4, 1, 16, 16)).shape[2] == 3


@pytest.mark.parametrize("network, crosses", [(UNet2D, False), (UNet3D, True), (SelfAttentionUNet, True)])
def test_what_crosses_the_slices(network, crosses):
    net, x = network(1, 3, num_slices=6, base_channels=8, levels=3).eval(), torch.randn(1, 6, 1, 16, 16)
    changed = x.clone()
    changed[:, 2] += 3 * torch.randn(16, 16)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(net(x)[:, others], net(changed)[:, others]) is not crosses


def test_self_attention_moves_features_where_a_gate_only_weighs():
    attention = SliceSelfAttention(4, 8).eval()
    x = torch.randn(1, 4, 8, 5, 5)
    with torch.no_grad():
        attention.qkv.weight[:16] = 0  # no query, no key: every slice looks at all slices alike
        attention.qkv.bias[:16] = 0
    moved = attention(x) - x
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), atol=1e-5, rtol=1e-4)  # all get the same mean
    with pytest.raises(ValueError, match="no multiple"):
        SliceSelfAttention(4, 6, heads=4)


def test_what_self_attention_costs_in_parameters():
    def count(network):
        return sum(p.numel() for p in network.parameters())

    with torch.device("meta"):
        plain = count(UNet(1, 3, 20, levels=6, attention="none"))
        assert count(SelfAttentionUNet(1, 3, 20, levels=6)) - plain == 201_374_208  # 146 % more; CSAM: 0.5 %


@pytest.mark.parametrize("levels", [3, 5, 6])
def test_the_3d_network_never_convolves_two_slices(levels):
    """There PyTorch's gradient in bfloat16 reads memory that nothing has written (torch 2.13, CPU)."""
    net, depths = UNet3D(1, 2, num_slices=18, base_channels=2, levels=levels), set()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv3d) and module.kernel_size[0] == 3:
            module.register_forward_pre_hook(lambda module, inputs: depths.add(inputs[0].shape[2]))
    for S in range(1, 14):
        assert net(torch.randn(1, S, 1, 32, 32)).shape == (1, S, 2, 32, 32)
    assert min(depths) == 3


GRADIENTS = """
import torch
from csam_lite.training.baselines import UNet3D

torch.manual_seed(0)
net, found = UNet3D(1, 2, num_slices=8, base_channels=4, levels=5), {}
for _ in range(3):
    for S in (6, 7, 8):
        x = torch.randn(1, S, 1, 48, 48, generator=torch.Generator().manual_seed(S))
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = net(x)
        out.float().square().mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        assert torch.equal(found.setdefault(S, gradient), gradient), (S, gradient.abs().max())
"""


def test_gradients_of_the_3d_network_in_bfloat16_do_not_depend_on_what_the_memory_held():
    """glibc fills what is allocated with large numbers; other systems ignore the variable."""
    done = subprocess.run([sys.executable, "-c", GRADIENTS], env=os.environ | {"MALLOC_PERTURB_": "128", "OMP_NUM_THREADS": "1"},
                          capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
