"""What all compared networks share: what `raw` and `fuse` mean, and how images are made fit for a network."""

import psutil
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fusionlib.data.color import merge_luma, split_luma
from fusionlib.inference.tiling import mirrored, tiled
from fusionlib.utils.errors import FusionError

#: Bytes that are enough for a tile, where tiles give what the whole image gives and are far larger than their halo.
TILE = 2 << 30


def stretch(image: Tensor) -> Tensor:
    """Each image [B,C,H,W] to 0..1 by its own minimum and maximum over all channels; a flat one to 0."""
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low).clamp_min(1e-12)


class Peer(nn.Module):
    """A compared method. Its parameters and buffers are named as in the official release.

    `forward(ir, visible, text)` is the network on what it takes: [B,channels,H,W] in 0..1, sides multiples of
    `multiple` where it does not see to that itself. The class says how images get there and back.
    """

    channels = 1  # of both inputs: 1 takes infrared and luma, 3 takes colour
    order = "RGB"  # of three channels; "BGR" for networks that were trained on files as OpenCV reads them
    least = 1  # pixels of a side
    multiple = 1  # of the sides
    fit = "pad"  # how the sides get there: "pad" mirrors at the bottom and the right, "resize" goes down and back up
    official_stretch = False  # the release stretches its results to their own minimum and maximum
    always_stretch = False  # the output has no scale of its own, so that the stretch is a part of the method
    takes_text = False
    one_size = True  # of both images; False where infrared may have another size than the visible image
    halo: int | None = None  # pixels of context that a tile needs to give what the whole image gives; None: all of it
    #: Peak memory of `forward` with float32 on a CPU, measured with the allocator as the suite sets it, and
    #: so up to twice as much as without, because what is freed is kept.
    bytes_per_pixel = 0

    @torch.no_grad()
    def raw(self, ir: Tensor, visible: Tensor, text: str | Tensor | None = None) -> Tensor:
        """The network's own final output, before any clamp or stretch.

        Args:
            ir: [B,1 or 3,H,W] in 0..1.
            visible: [B,1 or 3,H,W] in 0..1; a network of one channel takes the luma of three.
            text: for networks that take one.

        Returns:
            [B,channels,H,W].
        """
        ir, visible = (_with_channels(image, self.channels) for image in (ir, visible))
        return self(ir, visible, text) if self.takes_text else self(ir, visible)

    @torch.no_grad()
    def fuse(
        self, ir: Tensor, visible: Tensor, text: str | Tensor | None = None, official_postprocess: bool = False
    ) -> Tensor:
        """Fuse a pair as the release does: its pre-processing, its padding, its way with colour.

        Args:
            ir: [1,H,W] or [B,1,H,W] in 0..1.
            visible: [1 or 3,H,W] or [B,1 or 3,H,W] RGB in 0..1.
            text: for networks that take one.
            official_postprocess: stretch the result to its own minimum and maximum where the release does so, which
                changes what metrics say. Without it values are cut to 0..1.

        Returns:
            The fused image in 0..1, of the size and with the channels of the visible image, on its device.

        Raises:
            FusionError: images that do not fit each other, or too large for the memory.
        """
        if ir.ndim == visible.ndim == 3:
            return self.fuse(ir[None], visible[None], text, official_postprocess)[0]
        _check(self, ir, visible)
        device, home = next(iter(self.state_dict().values()), visible).device, visible.device
        ir, visible = ir.to(device), visible.to(device)
        coloured = visible.shape[1] == 3
        if self.channels == 1 and coloured:
            first, cbcr = split_luma(visible)
        else:
            first = _with_channels(visible, self.channels)
        fused = self._fitted(*self.prepare(_with_channels(ir, self.channels), first), text)
        if self.always_stretch or (official_postprocess and self.official_stretch):
            fused = stretch(fused)
        fused = fused.clamp(0, 1)
        if self.channels == 3:
            fused = fused.flip(1) if self.order == "BGR" else fused
            return (fused if coloured else split_luma(fused)[0]).to(home)
        return (merge_luma(fused, cbcr) if coloured else fused).to(home)

    def prepare(self, ir: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """What the release does to its inputs [B,channels,H,W] in 0..1 before the network; by default BGR order."""
        if self.channels == 3 and self.order == "BGR":
            return ir.flip(1), visible.flip(1)
        return ir, visible

    def _whole_or_tiled(self, ir, visible, text):
        height, width = visible.shape[-2:]
        device = ir.device
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
        per_pixel = max(1, self.bytes_per_pixel * len(ir))
        room = int(0.8 * free / per_pixel)  # pixels
        if self.halo is not None:
            room = min(room, max(TILE // per_pixel, (10 * self.halo) ** 2))
        if height * width <= room:
            return self.raw(ir, visible, text)
        halo = self.halo and -(-self.halo // self.multiple) * self.multiple
        side = int(room**0.5) - 2 * (halo or 0)
        side -= side % self.multiple
        if halo is None or side < max(64, self.multiple):
            raise FusionError(
                f"{type(self).__name__} needs about {self.bytes_per_pixel * len(ir) * height * width / 1e9:.1f} GB of "
                f"memory for {width}x{height} pixels, {free / 1e9:.1f} GB are free: reduce the images, or close other "
                "programs"
            )
        return tiled(lambda *images: self.raw(*images, text), (ir, visible), side, halo)

    def _fitted(self, ir, visible, text):
        """Give the network sides that it takes, before tiles are cut, and its output the size of the input."""
        height, width = visible.shape[-2:]
        if height % self.multiple == width % self.multiple == 0:
            return self._whole_or_tiled(ir, visible, text)
        if self.fit == "resize":
            size = [max(1, side // self.multiple) * self.multiple for side in (height, width)]
            small = (interpolate(x, size, mode="bilinear", antialias=True) for x in (ir, visible))
            return interpolate(self._whole_or_tiled(*small, text), (height, width), mode="bilinear")
        more = (0, -width % self.multiple, 0, -height % self.multiple)
        large = (mirrored(image, more) for image in (ir, visible))
        return self._whole_or_tiled(*large, text)[..., :height, :width]


def _with_channels(image, channels):
    if image.shape[1] == channels:
        return image
    return image.expand(-1, 3, -1, -1) if channels == 3 else split_luma(image)[0]


def _check(peer, ir, visible):
    fits = ir.ndim == visible.ndim == 4 and ir.shape[1] == 1 and visible.shape[1] in (1, 3) and len(ir) == len(visible)
    if not fits or (peer.one_size and ir.shape[2:] != visible.shape[2:]):
        size = " of one size" if peer.one_size else ""
        raise FusionError(f"expected an infrared image [1,H,W] and a visible one [1 or 3,H,W]{size}, found "
                          f"{list(ir.shape)} and {list(visible.shape)}: resize one, or reduce infrared to one channel")
    height, width = min(ir.shape[2:], visible.shape[2:], key=min)
    if min(height, width) < peer.least:
        raise FusionError(f"{type(peer).__name__} takes images from {peer.least}x{peer.least} pixels on, found "
                          f"{width}x{height}: enlarge both")
