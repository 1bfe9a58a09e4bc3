"""What CSAM is compared with, under the same trainer: MONAI's 2D and 3D U-Nets, neighbouring slices as extra
channels, and self-attention across slices."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from csam_lite.core.masks import centred_slots, without_padding
from csam_lite.core.networks import UNet, UNetPlusPlus


class NeighbourChannels(nn.Module):
    """A network that reads each slice with its `neighbours` on both sides as extra channels: 2.5D, the cheap
    way.

    `network` takes (2 * neighbours + 1) * Cin channels, neighbour by neighbour from below to above. Beyond
    the ends of a volume the end slice is repeated. forward: x (B, S, Cin, H, W), mask (B, S) bool or None ->
    what `network` answers.
    """

    def __init__(self, network: nn.Module, neighbours: int) -> None:
        super().__init__()
        self.network, self.neighbours, self.num_slices = network, neighbours, network.num_slices

    @property
    def heads(self) -> Sequence[nn.Module]:
        """The layers that give logits."""
        return self.network.heads

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        B, S = x.shape[:2]
        real = torch.ones(B, S, dtype=torch.bool, device=x.device) if mask is None else mask.bool()
        at = torch.arange(S, device=x.device).expand(B, S)
        first = at.masked_fill(~real, S).amin(1, keepdim=True)  # (B, 1)
        last = at.masked_fill(~real, -1).amax(1, keepdim=True)  # (B, 1)
        volume = torch.arange(B, device=x.device)[:, None]
        stack = [
            x[volume, (at + step).clamp(first, last)] for step in range(-self.neighbours, self.neighbours + 1)
        ]
        return self.network(torch.cat(stack, dim=2), mask)


class SelfAttentionUNet(UNet):
    """The plain U-Net whose skip connections and bottleneck pass through SliceSelfAttention instead of a
    CSAM.
    """

    takes_gates = False

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_slices: int,
        base_channels: int = 64,
        levels: int = 5,
        heads: int = 4,
    ) -> None:
        super().__init__(in_channels, num_classes, num_slices, base_channels, levels, attention="none")
        self.crossing = nn.ModuleList(SliceSelfAttention(num_slices, width, heads) for width in self.widths)

    @property
    def across_slices(self) -> nn.ModuleList:
        return self.crossing


class SliceSelfAttention(nn.Module):
    r"""Self-attention in which a slice is a word: the costly way across slices, which CSAM avoids.

    Written from the description of CAT-Net (Hung et al., IEEE Transactions on Medical Imaging 2022), one
    block:

        Q, K, V = Conv_{3x3}(norm(F) + e)     e: a learned vector for each slice's place in the stack
        F <- F + Conv_{3x3}( softmax(Q K^T / sqrt(d)) V )     S x S weights for each head, d numbers in a
                                                              slice's Q of one head

    Unlike a gate it moves features from slice to slice. x (B, S, C, H, W), mask (B, S) bool or None -> the
    same shape. Raises ValueError for a volume deeper than `num_slices`, or channels that are no multiple of
    `heads`.
    """

    def __init__(self, num_slices: int, channels: int, heads: int = 4) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels are no multiple of {heads} heads")
        self.num_slices, self.heads = num_slices, heads
        self.norm = nn.InstanceNorm2d(channels)
        self.place = nn.Embedding(num_slices, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 3, padding=1)
        self.out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        x, mask = without_padding(x, mask)
        B, S, C, H, W = x.shape
        slots = centred_slots(B, S, self.num_slices, x.device, mask)
        place = self.place(slots)[..., None, None]  # (B, S, C, 1, 1)
        features = self.norm(x.flatten(0, 1)) + place.flatten(0, 1)  # (B*S, C, H, W)
        together = self.qkv(features).view(B, S, 3, self.heads, -1)
        q, k, v = together.permute(2, 0, 3, 1, 4)  # (B, heads, S, d) each
        real = None if mask is None else mask[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=real)  # (B, heads, S, d)
        moved = self.out(mixed.transpose(1, 2).reshape(B * S, C, H, W)).view_as(x)
        return without_padding(x + moved, mask)[0]


class UNet2D(nn.Module):
    """MONAI's DynUNet on single slices: a 2D baseline by other hands.

    forward: x (B, S, Cin, H, W), mask (B, S) bool or None (not needed: no slice sees another) -> logits
    (B, S, K, H, W).
    """

    takes_gates, least_levels = False, 3

    def __init__(
        self, in_channels: int, num_classes: int, num_slices: int, base_channels: int = 32, levels: int = 5
    ) -> None:
        super().__init__()
        from monai.networks.nets import DynUNet

        self.num_slices, self.levels, self.multiple = num_slices, levels, 2 ** (levels - 1)
        strides = [1] + [2] * (levels - 1)
        self.network = DynUNet(
            2,
            in_channels,
            num_classes,
            [3] * levels,
            strides,
            upsample_kernel_size=strides[1:],
            norm_name="instance",
            filters=[min(base_channels * 2**level, 512) for level in range(levels)],
        )

    @property
    def heads(self) -> Sequence[nn.Module]:
        """The layers that give logits."""
        return [self.network.output_block.conv.conv]

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        x, _ = without_padding(x, mask)
        B, S, _, H, W = x.shape
        bottom, right = (-size % self.multiple for size in (H, W))
        extended = F.pad(x.flatten(0, 1), (0, right, 0, bottom), mode="replicate")
        return self.network(extended)[:, :, :H, :W].unflatten(0, (B, S))


class UNet3D(nn.Module):
    """MONAI's DynUNet with the strides that nnU-Net gives anisotropic volumes: no pooling across slices until
    pixels are as coarse.

    forward: x (B, S, Cin, H, W), mask (B, S) bool or None -> logits (B, S, K, H, W). Volumes go through one
    by one, each at its own depth (a 3D convolution would see padding), extended by repeating the last slice
    to the next multiple of its strides, and to three slices at the coarsest level. With two slices there, the
    gradient of a 3x3x3 convolution in bfloat16 holds whatever was in memory (PyTorch 2.13 on a CPU, see
    tests/test_baselines.py), so that some trainings ended in NaN.
    """

    takes_gates, least_levels = False, 3

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_slices: int,
        base_channels: int = 32,
        levels: int = 5,
        flat_levels: int = 2,
    ) -> None:
        super().__init__()
        from monai.networks.nets import DynUNet

        self.num_slices, self.levels = num_slices, levels
        kernels = [(1, 3, 3) if level < flat_levels else (3, 3, 3) for level in range(levels)]
        strides = [(1, 1, 1)] + [
            (1, 2, 2) if level <= flat_levels else (2, 2, 2) for level in range(1, levels)
        ]
        self.multiple = [2 ** sum(stride[axis] == 2 for stride in strides) for axis in range(3)]  # of S, H, W
        self.network = DynUNet(
            3,
            in_channels,
            num_classes,
            kernels,
            strides,
            upsample_kernel_size=strides[1:],
            norm_name="instance",
            filters=[min(base_channels * 2**level, 320) for level in range(levels)],
        )

    @property
    def heads(self) -> Sequence[nn.Module]:
        """The layers that give logits."""
        return [self.network.output_block.conv.conv]

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if mask is None:
            return torch.stack([self._one(volume) for volume in x])
        pairs = zip(x, mask.bool())
        return torch.stack([self._padded_back(self._one(volume[keep]), keep) for volume, keep in pairs])

    def _one(self, volume: torch.Tensor) -> torch.Tensor:
        """volume (S, Cin, H, W) -> logits (S, K, H, W)."""
        S, _, H, W = volume.shape
        back, bottom, right = (-size % multiple for size, multiple in zip((S, H, W), self.multiple))
        back = max(back, 3 * self.multiple[0] - S)
        ends = (0, right, 0, bottom, 0, back)
        extended = F.pad(volume.transpose(0, 1)[None], ends, mode="replicate")  # (1, Cin, S', H', W')
        return self.network(extended)[0, :, :S, :H, :W].transpose(0, 1)

    @staticmethod
    def _padded_back(logits: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Logits of the real slices in the places where `keep` (S,) is True, zero elsewhere."""
        out = logits.new_zeros(len(keep), *logits.shape[1:])
        out[keep] = logits
        return out


# All networks by the name that --network gives them: a new one is a class and one line here.
NETWORKS = {
    "unet": UNet,
    "unetpp": UNetPlusPlus,
    "unet2d": UNet2D,
    "unet3d": UNet3D,
    "self_attention": SelfAttentionUNet,
}
