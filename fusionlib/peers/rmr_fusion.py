"""RMR-Fusion: autoencoders of volumes, by convolution and Swin Transformer, and a network that fuses their features."""

from itertools import product
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.video.swin_transformer import PatchEmbed3d, ShiftedWindowAttention3d

from fusionlib.peers.peer import Peer
from fusionlib.utils.errors import FusionError

PATCH = (32, 128, 128)  # voxels, of the release's patches
FEATURES = 16
EMBED = 48


class RMRFusion(Peer):
    """RMR-Fusion: an autoencoder for each modality, and between its halves the network that fuses features.

    Zhang et al.: A Robust Mutual-Reinforcing Framework for 3D Multi-Modal Medical Image Fusion Based on Visual-Semantic
    Consistency, AAAI 2024, 38(7) 7087-7095. The release is under the MIT licence; weights come from the user.

    867,297 parameters, 145,344 of them in `fusion`, whose keys are the release's. The keys of the autoencoder are ours,
    since its layout is not known: a file of the release can fill `fusion` alone.
    Takes and gives volumes [B,1,D,H,W] in 0..1 of any size. `ir` is the modality that plays infrared (T1 in the
    release), `visible` the one that plays visible (FLAIR, on which the release's loss leans). `fuse_volume` works
    patch by patch, as the release does, with about 2 GB of memory. So do `raw` and `fuse` on slices [B,1,H,W], which
    the network sees as volumes of two equal slices, the least that it takes. Where the volume is at hand, slices of the
    fused volume are the better choice: the network then sees their neighbours.

    Decided here, because the description leaves it open: windows are shifted by 3 tokens in the second of each three
    blocks; the feed-forward widens four times; there is no normalisation after the last block; odd sides repeat their
    last voxel; the shared decoder is a convolution 16->8 with PReLU, one 8->1 and a sigmoid; patches overlap by
    an eighth or more and are averaged.
    """

    bytes_per_pixel = 40  # beside the patch that is being fused

    def __init__(self):
        super().__init__()
        self.ir_encoder = _Encoder()
        self.visible_encoder = _Encoder()
        self.fusion = FusionNet()
        self.decoder = nn.Sequential(
            _Convolution(FEATURES, FEATURES // 2), nn.Conv3d(FEATURES // 2, 1, 3, padding=1), nn.Sigmoid()
        )

    def encode(self, ir: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B,16,D,H,W] of both volumes [B,1,D,H,W] of even sides; `decode` gives either volume back."""
        return self.ir_encoder(ir), self.visible_encoder(visible)

    def decode(self, features: Tensor) -> Tensor:
        """The volume [B,1,D,H,W] in 0..1 of features [B,16,D,H,W], of one modality or fused."""
        return self.decoder(features)

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse volumes [B,1,D,H,W] in one piece, or slices [B,1,H,W] by patches; values in 0..1 in and out."""
        if ir.ndim == 4:
            return self._by_patches(ir[:, :, None], visible[:, :, None])[:, :, 0]
        depth, height, width = ir.shape[2:]
        more = (0, width % 2, 0, height % 2, 0, depth % 2)
        features = self.encode(*(pad(volume, more, mode="replicate") for volume in (ir, visible)))
        return self.decode(self.fusion(*features))[:, :, :depth, :height, :width]

    @torch.no_grad()
    def raw(self, ir: Tensor, visible: Tensor, text=None) -> Tensor:
        """The network's own output.

        Args:
            ir: slices [B,1,H,W] or volumes [B,1,D,H,W] in 0..1, or features [B,16,D,H,W] for the fusion network alone.
            visible: the same of the other modality; of slices with three channels luma is taken.
            text: not used.

        Returns:
            Fused slices, volumes or features, of the shape of `ir`.
        """
        if ir.ndim == 5 and ir.shape[1] == FEATURES:
            return self.fusion(ir, visible)
        return super().raw(ir, visible)

    @torch.no_grad()
    def fuse_volume(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse two registered volumes [D,H,W] in 0..1 by overlapping patches of 32x128x128 voxels.

        Returns:
            [D,H,W] in 0..1, on the device of `visible`.

        Raises:
            FusionError: not two volumes of one size.
        """
        if ir.ndim != 3 or ir.shape != visible.shape:
            raise FusionError(f"expected two volumes [D,H,W] of one size, found {list(ir.shape)} and "
                              f"{list(visible.shape)}: register and resample one to the other")
        device = self.decoder[1].weight.device
        return self._by_patches(*(x[None, None].to(device) for x in (ir, visible)))[0, 0].to(visible.device)

    def _by_patches(self, ir, visible):
        total, count = torch.zeros_like(ir), torch.zeros_like(ir)
        parts = [(..., *part) for part in product(*map(_parts, ir.shape[2:], PATCH))]
        at_once = max(1, PATCH[0] // (2 * ir.shape[2]))  # thin patches, until they are half a whole one
        for first in range(0, len(parts), at_once):
            some = parts[first : first + at_once]
            fused = self(*(torch.cat([volume[part] for part in some]) for volume in (ir, visible)))
            for part, patch in zip(some, fused.split(len(ir))):
                total[part] += patch
                count[part] += 1
        return total / count


class FusionNet(nn.Module):
    """The fusion network, a dense chain of 3-D convolutions: two volumes of features [B,16,D,H,W] to one like them."""

    def __init__(self):
        super().__init__()
        for i in range(5):
            self.add_module(f"conv{i}", _Convolution((i + 2) * FEATURES, FEATURES))
        self.conv5 = _Convolution(FEATURES, FEATURES)

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse two volumes of features; the newest come first in each concatenation, as in the release."""
        known = torch.cat((ir, visible), 1)
        for convolution in (self.conv0, self.conv1, self.conv2, self.conv3):
            known = torch.cat((convolution(known), known), 1)
        return self.conv5(self.conv4(known))


class _Convolution(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv3d(before, after, 3, padding=1), nn.PReLU(after))

    def forward(self, x):
        return self.conv(x)


class _Encoder(nn.Sequential):
    """[B,1,D,H,W] of even sides -> [B,16,D,H,W]."""

    def __init__(self):
        super().__init__(
            _Convolution(1, EMBED // 2), _Convolution(EMBED // 2, EMBED),
            PatchEmbed3d([2, 2, 2], EMBED, EMBED), *(_swin_block(shifted=i % 3 == 1) for i in range(6)),
            _ChannelsFirst(), nn.ConvTranspose3d(EMBED, EMBED, 2, stride=2),
            _Convolution(EMBED, EMBED // 2), _Convolution(EMBED // 2, FEATURES),
        )


class _ChannelsFirst(nn.Module):
    def forward(self, x):
        return x.movedim(-1, 1)


def _swin_block(shifted):
    block = SwinTransformerBlock(
        EMBED, num_heads=6, window_size=[7, 7, 7], shift_size=[3 * shifted] * 3, attn_layer=ShiftedWindowAttention3d
    )
    # Follows from the window; 1 MB in each block of a file.
    block.attn.register_buffer("relative_position_index", block.attn.relative_position_index, persistent=False)
    return block


def _parts(side, patch):
    """Slices of `patch` voxels at even distances that cover `side` and overlap by an eighth or more."""
    if side <= patch:
        return [slice(0, side)]
    steps = ceil((side - patch) / (patch * 7 // 8))
    starts = (i * (side - patch) // steps for i in range(steps + 1))
    return [slice(start, start + patch) for start in starts]
