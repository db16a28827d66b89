"""Training losses of the compared methods; `fusionlib.peers.recipes` has their settings.

A loss is (peer, batch, helper) -> (total, unweighted terms). The batch holds infrared `ir` and luma `y`, [B,1,H,W], and
`visible` [B,3,H,W], RGB, all in 0..1; the helper is a second network such as VGG16, or None.
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
    """Infrared and visible [B,channels,H,W] as the network takes them; results are compared with these."""
    visible = batch["y"] if peer.channels == 1 else batch["visible"]
    return peer.prepare(batch["ir"].expand(-1, peer.channels, -1, -1), visible)


def datfuse(peer, batch, _):
    """Tang et al.: squared error to both sources, SSIM with their maximum, mean edge strength of the sharper source.

    Taking the means per image instead of per batch is our reading.
    """
    ir, y = inputs(peer, batch)
    fused = peer(ir, y).float()
    strength, *sources = (sobel(x).mean((1, 2, 3)) for x in (fused, ir, y))
    return total(intensity=(1, mse_loss(fused, ir) + mse_loss(fused, y)),
                 structure=(10, 1 - ssim(fused, torch.maximum(ir, y)).mean()),
                 edges=(100, l1_loss(strength, torch.maximum(*sources))))


def auif(peer, batch, _):
    """Zhao et al.: reconstruction of single images, squared error and SSIM."""
    images = torch.cat(inputs(peer, batch))
    restored = peer.decode(*peer.encode(images)).float()
    structure = (1 - ssim(restored, images, 3).mean()) / 2
    return total(intensity=(1, mse_loss(restored, images)), structure=(5, structure))


def swinfusion(peer, batch, _):
    """Ma et al.: maximum intensity and edges of the sources, and SSIM weighted by edges."""
    ir, y = inputs(peer, batch)
    fused = peer(ir, y).float()
    loss, terms = FusionLoss(20, 20)(fused, ir, y)
    structure = 1 - weighted_ssim(fused, ir, y).mean()
    return loss + 10 * structure, terms | {"structure": structure.detach()}


def lrrnet(peer, batch, vgg):
    """Li et al., at 0..255: pixels and shallow features of luma, deeper ones of both, Gram matrix of infrared."""
    ir, y = inputs(peer, batch)
    fused, ir, y = 255 * stretch(peer(ir, y).float()), 255 * ir, 255 * y
    of_fused, of_ir, of_y = vgg(fused), vgg(ir), vgg(y)
    middle, deep = (mse_loss(of_fused[i], 3 * of_ir[i] + 0.5 * of_y[i]) for i in (1, 2))
    return total(intensity=(10, mse_loss(fused, y)), shallow=(1.5, mse_loss(of_fused[0], of_y[0])),
                 middle=(0.01, middle), deep=(0.5, deep), gram=(2000, mse_loss(gram(of_fused[3]), gram(of_ir[3]))))


def mlfusion(peer, batch, _):
    """Li et al.: both images, reduced by random factors from 1 to 3, are restored and fused at full size."""
    ir, visible = inputs(peer, batch)
    size = ir.shape[-2:]
    factors = (1 + 2 * torch.rand(2)).tolist() if peer.training else [2.0, 1.5]
    reduced = (interpolate(x, [round(n / r) for n in size], mode="bicubic", antialias=True).clamp(0, 1)
               for x, r in zip((ir, visible), factors))
    fused, *restored = (stretch(x.float()) for x in peer.super_resolve(*reduced, size))
    return total(restored=(1, l1_loss(restored[0], ir) + l1_loss(restored[1], visible)),
                 fused=(1, l1_loss(fused, ir) + l1_loss(fused, visible)))


def textif(peer, batch, sentence):
    """Yi et al., weights for low light: maximum intensity, SSIM with both sources, visible chroma, maximum edges."""
    ir, visible = inputs(peer, batch)
    fused = peer(ir, visible, sentence.vector.expand(len(ir), -1)).float()
    (luma, chroma), (_, visible_chroma) = split_luma(fused), split_luma(visible)
    return total(intensity=(8, l1_loss(fused, torch.maximum(ir, visible))),
                 structure=(1, 2 - ssim(fused, visible).mean() - ssim(luma, ir[:, :1]).mean()),
                 colour=(12, 2 * l1_loss(chroma, visible_chroma)),  # sum over Cb and Cr
                 edges=(10, directed_edges(fused, ir, visible)))


class Sentence(nn.Module):
    """CLIP's vector [1,512] of the plain prompt, from a file that holds it alone or by the CLIP model in a folder.

    Raises:
        FusionError: the file is missing or holds other tensors.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        path = Path(path)
        vectors = [sentence_vector(PROMPT, path)] if path.is_dir() else list(checkpoints.read(path).values())
        shapes = [list(x.shape) for x in vectors]
        if shapes != [[1, TEXT]]:
            raise FusionError(f"{path}: expected one tensor [1,{TEXT}], CLIP's vector of the prompt, found "
                              f"{shapes[:3]}; save what fusionlib.peers.textif.sentence_vector returns, alone")
        self.register_buffer("vector", vectors[0].float())


def cddfuse_parts(peer, batch, _):
    """Phase 1: the decomposition loss of Zhao et al.; our own: each image is restored from its base and detail."""
    images = inputs(peer, batch)
    features = [peer.encode(image) for image in images]
    restored = [peer.decode(image, *pair).float() for image, pair in zip(images, features)]
    error = sum(mse_loss(a, b) + 5 * (1 - ssim(a, b).mean()) for a, b in zip(restored, images))
    return total(restored=(1, error), decomposition=(2, decomposition(*zip(*features))))


def cddfuse(peer, batch, _):
    """Phase 2 of Zhao et al.: maximum intensity and edges of the sources, and the decomposition loss."""
    ir, y = inputs(peer, batch)
    base, detail = zip(peer.encode(y), peer.encode(ir))
    fused = peer.decode(y, peer.BaseFuseLayer(sum(base)), peer.DetailFuseLayer(sum(detail))).float()
    loss, terms = FusionLoss(1, 10)(fused, ir, y)
    separation = decomposition(base, detail)
    return loss + 2 * separation, terms | {"decomposition": separation.detach()}
