"""The losses that the compared methods are trained by; `fusionlib.peers.recipes` says with what settings.

A loss is (peer, batch, helper) -> (total, unweighted terms). The batch holds infrared `ir` and luma `y`, [B,1,H,W], and
`visible` [B,3,H,W], RGB, all in 0..1; the helper is a network beside the peer, such as VGG16, or None.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, l1_loss, mse_loss

from fusionlib.data.color import split_luma
from fusionlib.models.losses import FusionLoss, sobel
from fusionlib.peers import checkpoints
from fusionlib.peers.losses import decomposition, directed_edges, gram, ssim, total, weighted_ssim
from fusionlib.peers.peer import Peer, stretch
from fusionlib.peers.textif import PROMPT, TEXT, sentence_vector
from fusionlib.utils.errors import FusionError


def inputs(peer: Peer, batch: dict) -> tuple[Tensor, Tensor]:
    """Infrared and visible [B,channels,H,W] as the network takes them; results are held to these."""
    visible = batch["y"] if peer.channels == 1 else batch["visible"]
    return peer.prepare(batch["ir"].expand(-1, peer.channels, -1, -1), visible)


def datfuse(peer, batch, _):
    """Tang et al.: squared error to both sources, SSIM with the brighter, mean edge strength of the sharper.

    That the means are those of each image, not of the batch, is our reading.
    """
    ir, y = inputs(peer, batch)
    fused = peer(ir, y).float()
    strength, *others = (sobel(x).mean((1, 2, 3)) for x in (fused, ir, y))
    return total(
        intensity=(1, mse_loss(fused, ir) + mse_loss(fused, y)),
        structure=(10, 1 - ssim(fused, torch.maximum(ir, y)).mean()),
        edges=(100, l1_loss(strength, torch.maximum(*others))),
    )


def auif(peer, batch, _):
    """Zhao et al.: squared error and SSIM of single images, taken apart and put together again."""
    images = torch.cat(inputs(peer, batch))
    again = peer.decode(*peer.encode(images)).float()
    structure = (1 - ssim(again, images, 3).mean()) / 2
    return total(intensity=(1, mse_loss(again, images)), structure=(5, structure))


def swinfusion(peer, batch, _):
    """Ma et al.: intensity and edges held to the larger, SSIM weighted by edges."""
    ir, y = inputs(peer, batch)
    fused = peer(ir, y).float()
    loss, parts = FusionLoss(20, 20)(fused, ir, y)
    structure = 1 - weighted_ssim(fused, ir, y).mean()
    return loss + 10 * structure, parts | {"structure": structure.detach()}


def lrrnet(peer, batch, vgg):
    """Li et al.: pixels and shallow features of luma, deeper ones of both, the Gram matrix of infrared; gray 0..255."""
    ir, y = inputs(peer, batch)
    fused, ir, y = 255 * stretch(peer(ir, y).float()), 255 * ir, 255 * y
    of_fused, of_ir, of_y = vgg(fused), vgg(ir), vgg(y)
    middle = [mse_loss(of_fused[i], 3 * of_ir[i] + 0.5 * of_y[i]) for i in (1, 2)]
    return total(
        intensity=(10, mse_loss(fused, y)), shallow=(1.5, mse_loss(of_fused[0], of_y[0])),
        middle=(0.01, middle[0]), deep=(0.5, middle[1]), gram=(2000, mse_loss(gram(of_fused[3]), gram(of_ir[3]))),
    )  # fmt: skip


def mlfusion(peer, batch, _):
    """Li et al.: both images, reduced by random factors from 1 to 3, are restored and fused at full size."""
    ir, visible = inputs(peer, batch)
    size = ir.shape[-2:]
    factors = (1 + 2 * torch.rand(2)).tolist() if peer.training else [2.0, 1.5]
    small = (interpolate(x, [round(n / r) for n in size], mode="bicubic", antialias=True).clamp(0, 1)
             for x, r in zip((ir, visible), factors))  # fmt: skip
    fused, *restored = (stretch(x.float()) for x in peer.super_resolve(*small, size))
    return total(
        restored=(1, l1_loss(restored[0], ir) + l1_loss(restored[1], visible)),
        fused=(1, l1_loss(fused, ir) + l1_loss(fused, visible)),
    )


def textif(peer, batch, sentence):
    """Yi et al., with the ratios of low light: brighter source, SSIM with both, visible colour, sharper edges."""
    ir, visible = inputs(peer, batch)
    fused = peer(ir, visible, sentence.vector.expand(len(ir), -1)).float()
    (luma, chroma), (_, wanted) = split_luma(fused), split_luma(visible)
    return total(
        intensity=(8, l1_loss(fused, torch.maximum(ir, visible))),
        structure=(1, 2 - ssim(fused, visible).mean() - ssim(luma, ir[:, :1]).mean()),
        colour=(12, 2 * l1_loss(chroma, wanted)),  # of Cb and Cr, added
        edges=(10, directed_edges(fused, ir, visible)),
    )


class Sentence(nn.Module):
    """CLIP's vector of the plain prompt, [1,512], out of a file that holds it alone, or by the CLIP in a folder."""

    def __init__(self, path: str | Path):
        super().__init__()
        if Path(path).is_dir():
            found = [sentence_vector(PROMPT, path)]
        else:
            found = list(checkpoints.read(Path(path)).values())
        shapes = [list(x.shape) for x in found]
        if shapes != [[1, TEXT]]:
            raise FusionError(f"{path}: expected one tensor [1,{TEXT}], CLIP's vector of the prompt, found "
                              f"{shapes[:3]}; save what fusionlib.peers.textif.sentence_vector returns, alone")
        self.register_buffer("vector", found[0].float())


def cddfuse_parts(peer, batch, _):
    """First phase, with the decomposition of Zhao et al.; ours: each image is restored from its own base and detail."""
    images = inputs(peer, batch)
    parts = [peer.encode(image) for image in images]
    again = [peer.decode(image, *part).float() for image, part in zip(images, parts)]
    restored = sum(mse_loss(a, b) + 5 * (1 - ssim(a, b).mean()) for a, b in zip(again, images))
    return total(restored=(1, restored), decomposition=(2, decomposition(*zip(*parts))))


def cddfuse(peer, batch, _):
    """Second phase of Zhao et al.: intensity and edges held to the larger, base and detail kept apart."""
    ir, y = inputs(peer, batch)
    base, detail = zip(peer.encode(y), peer.encode(ir))
    fused = peer.decode(y, peer.BaseFuseLayer(sum(base)), peer.DetailFuseLayer(sum(detail))).float()
    loss, parts = FusionLoss(1, 10)(fused, ir, y)
    apart = decomposition(base, detail)
    return loss + 2 * apart, parts | {"decomposition": apart.detach()}
