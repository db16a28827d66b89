"""Base class of the compared networks: `raw` and `fuse`, and how images are fitted to a network."""

import psutil
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fusionlib.data.color import merge_luma, split_luma
from fusionlib.inference.tiling import mirrored, tiled
from fusionlib.utils.errors import FusionError

#: Bytes that suffice for a tile of a network with a finite halo, unless the halo is large.
TILE = 2 << 30


def stretch(image: Tensor) -> Tensor:
    """Scale each image [B,C,H,W] to 0..1 by its minimum and maximum over all channels; a flat one becomes 0."""
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low).clamp_min(1e-12)


class Peer(nn.Module):
    """A compared method, with parameters and buffers named as in the official release.

    `forward(ir, visible, text)` is the network itself: two [B,channels,H,W] in 0..1, sides multiples of `multiple`
    unless the network pads them itself. The class attributes say how `fuse` converts images to its inputs and back.
    """

    channels = 1  # of both inputs: 1 takes infrared and luma, 3 takes colour
    order = "RGB"  # of three channels; "BGR" for networks trained on files as OpenCV reads them
    least = 1  # minimum side, pixels
    multiple = 1  # sides must be multiples of this
    fit = "pad"  # how they become so: "pad" mirrors at the bottom and right, "resize" reduces and enlarges again
    official_stretch = False  # the release stretches its results to their own minimum and maximum
    always_stretch = False  # the output has no scale, so the stretch is part of the method
    takes_text = False
    one_size = True  # both images must have the same size
    halo: int | None = None  # pixels of context for a tile to equal the whole image; None: the whole image
    #: Peak memory of `forward` in float32 on a CPU, measured with the suite's allocator settings, under which freed
    #: memory is retained: up to twice the amount without them.
    bytes_per_pixel = 0

    @torch.no_grad()
    def raw(self, ir: Tensor, visible: Tensor, text: str | Tensor | None = None) -> Tensor:
        """The network's output [B,channels,H,W], before any clamp or stretch, for two [B,1 or 3,H,W] in 0..1.

        A network of one channel takes the luma of three.
        """
        ir, visible = (_with_channels(image, self.channels) for image in (ir, visible))
        return self(ir, visible, text) if self.takes_text else self(ir, visible)

    @torch.no_grad()
    def fuse(
        self, ir: Tensor, visible: Tensor, text: str | Tensor | None = None, official_postprocess: bool = False
    ) -> Tensor:
        """Fuse a pair with the pre-processing, padding and colour handling of the release.

        Args:
            ir: [1,H,W] or [B,1,H,W] in 0..1.
            visible: [1 or 3,H,W] or [B,1 or 3,H,W] RGB in 0..1.
            text: for networks that take one.
            official_postprocess: stretch the result to its own minimum and maximum where the release does so, which
                affects the metrics. Otherwise values are clamped to 0..1.

        Returns:
            The fused image in 0..1, with the size, channels and device of the visible image.

        Raises:
            FusionError: images of unequal size or other shapes, too small, or too large for the memory.
        """
        if ir.ndim == visible.ndim == 3:
            return self.fuse(ir[None], visible[None], text, official_postprocess)[0]
        _check(self, ir, visible)
        device, home = next(iter(self.state_dict().values()), visible).device, visible.device
        ir, visible = ir.to(device), visible.to(device)
        coloured = visible.shape[1] == 3
        if self.channels == 1 and coloured:
            source, cbcr = split_luma(visible)
        else:
            source = _with_channels(visible, self.channels)
        fused = self._fitted(*self.prepare(_with_channels(ir, self.channels), source), text)
        if self.always_stretch or (official_postprocess and self.official_stretch):
            fused = stretch(fused)
        fused = fused.clamp(0, 1)
        if self.channels == 3:
            fused = fused.flip(1) if self.order == "BGR" else fused
            return (fused if coloured else split_luma(fused)[0]).to(home)
        return (merge_luma(fused, cbcr) if coloured else fused).to(home)

    def prepare(self, ir: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """The release's pre-processing of inputs [B,channels,H,W] in 0..1; by default only the order BGR."""
        if self.channels == 3 and self.order == "BGR":
            return ir.flip(1), visible.flip(1)
        return ir, visible

    def _whole_or_tiled(self, ir, visible, text):
        height, width = visible.shape[-2:]
        free = torch.cuda.mem_get_info(ir.device)[0] if ir.is_cuda else psutil.virtual_memory().available
        per_pixel = max(1, self.bytes_per_pixel * len(ir))
        max_pixels = int(0.8 * free / per_pixel)
        if self.halo is not None:
            max_pixels = min(max_pixels, max(TILE // per_pixel, (10 * self.halo) ** 2))
        if height * width <= max_pixels:
            return self.raw(ir, visible, text)
        halo = self.halo and -(-self.halo // self.multiple) * self.multiple
        side = int(max_pixels**0.5) - 2 * (halo or 0)
        side -= side % self.multiple
        if halo is None or side < max(64, self.multiple):
            needed = self.bytes_per_pixel * len(ir) * height * width
            raise FusionError(f"{type(self).__name__} needs about {needed / 1e9:.1f} GB of memory for {width}x{height} "
                              f"pixels, {free / 1e9:.1f} GB are free: reduce the images, or close other programs")
        return tiled(lambda *images: self.raw(*images, text), (ir, visible), side, halo)

    def _fitted(self, ir, visible, text):
        """The output at the size of the input, by way of sides that are multiples of `multiple`."""
        height, width = visible.shape[-2:]
        if height % self.multiple == width % self.multiple == 0:
            return self._whole_or_tiled(ir, visible, text)
        if self.fit == "resize":
            size = [max(1, side // self.multiple) * self.multiple for side in (height, width)]
            reduced = (interpolate(x, size, mode="bilinear", antialias=True) for x in (ir, visible))
            return interpolate(self._whole_or_tiled(*reduced, text), (height, width), mode="bilinear")
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        padded = (mirrored(image, padding) for image in (ir, visible))
        return self._whole_or_tiled(*padded, text)[..., :height, :width]


def _with_channels(image, channels):
    if image.shape[1] == channels:
        return image
    return image.expand(-1, 3, -1, -1) if channels == 3 else split_luma(image)[0]


def _check(peer, ir, visible):
    fits = ir.ndim == visible.ndim == 4 and ir.shape[1] == 1 and visible.shape[1] in (1, 3) and len(ir) == len(visible)
    if not fits or (peer.one_size and ir.shape[2:] != visible.shape[2:]):
        size = " of the same size" if peer.one_size else ""
        raise FusionError(f"expected an infrared image [1,H,W] and a visible one [1 or 3,H,W]{size}, found "
                          f"{list(ir.shape)} and {list(visible.shape)}: resize one, or reduce infrared to one channel")
    height, width = min(ir.shape[2:], visible.shape[2:], key=min)
    if min(height, width) < peer.least:
        raise FusionError(f"{type(peer).__name__} takes images of at least {peer.least}x{peer.least} pixels, found "
                          f"{width}x{height}: enlarge both")
