"""What CSAM is compared with, under the same trainer: MONAI's 3D U-Net, and neighbouring slices as extra channels."""

import torch
from torch import nn
from torch.nn import functional as F


class NeighbourChannels(nn.Module):
    """A network that reads each slice with its `neighbours` on both sides as extra channels: 2.5D, the cheap way.

    `network` takes (2 * neighbours + 1) * Cin channels, neighbour by neighbour from below to above. Beyond the ends of a volume the
    end slice is repeated. forward: x (B, S, Cin, H, W), mask (B, S) bool or None -> what `network` answers.
    """

    def __init__(self, network, neighbours):
        super().__init__()
        self.network, self.neighbours, self.num_slices = network, neighbours, network.num_slices

    def forward(self, x, mask=None):
        B, S = x.shape[:2]
        real = torch.ones(B, S, dtype=torch.bool, device=x.device) if mask is None else mask.bool()
        at = torch.arange(S, device=x.device).expand(B, S)
        first, last = at.masked_fill(~real, S).amin(1, keepdim=True), at.masked_fill(~real, -1).amax(1, keepdim=True)  # (B, 1)
        volume = torch.arange(B, device=x.device)[:, None]
        stack = [x[volume, (at + step).clamp(first, last)] for step in range(-self.neighbours, self.neighbours + 1)]
        return self.network(torch.cat(stack, dim=2), mask)


class UNet3D(nn.Module):
    """MONAI's DynUNet with the strides that nnU-Net gives anisotropic volumes: no pooling across slices until pixels are as coarse.

    forward: x (B, S, Cin, H, W), mask (B, S) bool or None -> logits (B, S, K, H, W). Volumes go through one by one, each at its
    own depth (a 3D convolution would see padding), extended to the next multiple of its strides by repeating the end slices.
    """

    def __init__(self, in_channels, num_classes, num_slices, base_channels=32, levels=5, flat_levels=2):
        super().__init__()
        from monai.networks.nets import DynUNet

        self.num_slices, self.levels = num_slices, levels
        kernels = [(1, 3, 3) if level < flat_levels else (3, 3, 3) for level in range(levels)]
        strides = [(1, 1, 1)] + [(1, 2, 2) if level <= flat_levels else (2, 2, 2) for level in range(1, levels)]
        self.multiple = [2 ** sum(stride[axis] == 2 for stride in strides) for axis in range(3)]  # of S, H, W
        self.network = DynUNet(
            3, in_channels, num_classes, kernels, strides, upsample_kernel_size=strides[1:], norm_name="instance",
            filters=[min(base_channels * 2**level, 320) for level in range(levels)])

    def forward(self, x, mask=None):
        real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask.bool()
        return torch.stack([self._padded_back(self._one(volume[keep]), keep) for volume, keep in zip(x, real)])

    def _one(self, volume):
        """volume (S, Cin, H, W) -> logits (S, K, H, W)."""
        S, _, H, W = volume.shape
        back, bottom, right = (-size % multiple for size, multiple in zip((S, H, W), self.multiple))
        extended = F.pad(volume.transpose(0, 1)[None], (0, right, 0, bottom, 0, back), mode="replicate")  # (1, Cin, S', H', W')
        return self.network(extended)[0, :, :S, :H, :W].transpose(0, 1)

    @staticmethod
    def _padded_back(logits, keep):
        """Logits of the real slices in the places where `keep` (S,) is True, zero elsewhere."""
        out = logits.new_zeros(len(keep), *logits.shape[1:])
        out[keep] = logits
        return out
