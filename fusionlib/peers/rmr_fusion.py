"""RMR-Fusion: autoencoders of volumes, by convolution and Swin Transformer, and a network that fuses their features."""

from itertools import product
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.video.swin_transformer import PatchEmbed3d, ShiftedWindowAttention3d
from torchvision.ops import Permute

from fusionlib.peers.layers import Named
from fusionlib.peers.peer import Peer
from fusionlib.utils.errors import FusionError

PATCH = (32, 128, 128)  # voxels, of the release's patches
FEATURES, EMBED = 16, 48


class RMRFusion(Peer):
    """RMR-Fusion: an autoencoder for each modality, and a fusion network between its halves.

    Zhang et al.: A Robust Mutual-Reinforcing Framework for 3D Multi-Modal Medical Image Fusion Based on Visual-Semantic
    Consistency, AAAI 2024, 38(7) 7087-7095. The release is under the MIT licence; the user provides the weights.

    867,297 parameters, 145,344 of them in `fusion`, which has the release's keys. The keys of the autoencoder are ours,
    since its layout is not known: a file of the release can fill only `fusion`. Takes and gives volumes [B,1,D,H,W] in
    0..1 of any size: `ir` is T1 in the release, `visible` FLAIR, on which the release's loss leans. `fuse_volume` works
    patch by patch, as the release does, in about 2 GB of memory. So do `raw` and `fuse` on slices [B,1,H,W], which the
    network sees as volumes of two equal slices, its minimum. If the volume is available, slices of the fused volume are
    better, since the network then sees their neighbours.

    Our choices, where the description leaves them open: windows are shifted by 3 tokens in the second of each three
    blocks; the feed-forward network widens four times; there is no normalisation after the last block; odd sides repeat
    their last voxel; the shared decoder is a convolution 16->8 with PReLU, one 8->1 and a sigmoid; patches overlap by
    at least an eighth and are averaged.
    """

    bytes_per_pixel = 40  # in addition to the current patch

    def __init__(self):
        super().__init__()
        self.ir_encoder, self.visible_encoder = _encoder(), _encoder()
        self.fusion = FusionNet()
        self.decoder = nn.Sequential(
            _convolution(FEATURES, FEATURES // 2), nn.Conv3d(FEATURES // 2, 1, 3, padding=1), nn.Sigmoid()
        )

    def encode(self, ir: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B,16,D,H,W] of both volumes [B,1,D,H,W] of even sides; `decode` restores either volume."""
        return self.ir_encoder(ir), self.visible_encoder(visible)

    def decode(self, features: Tensor) -> Tensor:
        """The volume [B,1,D,H,W] in 0..1 of features [B,16,D,H,W], of one modality or fused."""
        return self.decoder(features)

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse volumes [B,1,D,H,W] as a whole, or slices [B,1,H,W] by patches; values in 0..1 in and out."""
        if ir.ndim == 4:
            return self._by_patches(ir[:, :, None], visible[:, :, None])[:, :, 0]
        depth, height, width = ir.shape[2:]
        padding = (0, width % 2, 0, height % 2, 0, depth % 2)
        features = self.encode(*(pad(volume, padding, mode="replicate") for volume in (ir, visible)))
        return self.decode(self.fusion(*features))[:, :, :depth, :height, :width]

    @torch.no_grad()
    def raw(self, ir: Tensor, visible: Tensor, text=None) -> Tensor:
        """The network's output, of the shape of `ir`, for two slices [B,1,H,W] or volumes [B,1,D,H,W] in 0..1.

        For features [B,16,D,H,W] it is that of the fusion network alone. Of slices with three channels luma is taken.
        """
        if ir.ndim == 5 and ir.shape[1] == FEATURES:
            return self.fusion(ir, visible)
        return super().raw(ir, visible)

    @torch.no_grad()
    def fuse_volume(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse two registered volumes [D,H,W] in 0..1, by overlapping patches of 32x128x128 voxels, to one like them.

        Raises:
            FusionError: not two volumes of the same size.
        """
        if ir.ndim != 3 or ir.shape != visible.shape:
            raise FusionError(f"expected two volumes [D,H,W] of the same size, found {list(ir.shape)} and "
                              f"{list(visible.shape)}: register and resample one to the other")
        device = self.decoder[1].weight.device
        return self._by_patches(*(x[None, None].to(device) for x in (ir, visible)))[0, 0].to(visible.device)

    def _by_patches(self, ir, visible):
        total, count = torch.zeros_like(ir), torch.zeros_like(ir)
        places = [(..., *place) for place in product(*map(_slices, ir.shape[2:], PATCH))]
        at_once = max(1, PATCH[0] // (2 * ir.shape[2]))  # thin patches, up to half the depth of a whole one
        for first in range(0, len(places), at_once):
            group = places[first : first + at_once]
            fused = self(*(torch.cat([volume[place] for place in group]) for volume in (ir, visible)))
            for place, patch in zip(group, fused.split(len(ir))):
                total[place] += patch
                count[place] += 1
        return total / count


class FusionNet(nn.Module):
    """The fusion network, a dense chain of 3D convolutions: two feature volumes [B,16,D,H,W] -> one."""

    def __init__(self):
        super().__init__()
        for i in range(5):
            self.add_module(f"conv{i}", _convolution((i + 2) * FEATURES, FEATURES))
        self.conv5 = _convolution(FEATURES, FEATURES)

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse two feature volumes; the newest features come first in each concatenation, as in the release."""
        features = torch.cat((ir, visible), 1)
        for convolution in (self.conv0, self.conv1, self.conv2, self.conv3):
            features = torch.cat((convolution(features), features), 1)
        return self.conv5(self.conv4(features))


def _convolution(before, after):
    return Named(conv=nn.Sequential(nn.Conv3d(before, after, 3, padding=1), nn.PReLU(after)))


def _encoder():
    """[B,1,D,H,W] of even sides -> [B,16,D,H,W]."""
    return nn.Sequential(
        _convolution(1, EMBED // 2), _convolution(EMBED // 2, EMBED),
        PatchEmbed3d([2, 2, 2], EMBED, EMBED), *(_swin_block(shifted=i % 3 == 1) for i in range(6)),
        Permute([0, 4, 1, 2, 3]), nn.ConvTranspose3d(EMBED, EMBED, 2, stride=2),
        _convolution(EMBED, EMBED // 2), _convolution(EMBED // 2, FEATURES),
    )


def _swin_block(shifted):
    block = SwinTransformerBlock(
        EMBED, num_heads=6, window_size=[7, 7, 7], shift_size=[3 * shifted] * 3, attn_layer=ShiftedWindowAttention3d
    )
    # It follows from the window, and would take 1 MB of a file for each block.
    block.attn.register_buffer("relative_position_index", block.attn.relative_position_index, persistent=False)
    return block


def _slices(side, patch):
    """Evenly spaced slices of `patch` voxels that cover `side` and overlap by at least an eighth."""
    if side <= patch:
        return [slice(0, side)]
    steps = ceil((side - patch) / (patch * 7 // 8))
    starts = (i * (side - patch) // steps for i in range(steps + 1))
    return [slice(start, start + patch) for start in starts]
