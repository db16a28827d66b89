"""Tiled inference: memory grows with the tile, not with the image."""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor
from torch.nn.functional import pad


def tiles(
    function: Callable[..., Tensor], images: Sequence[Tensor], side: int, halo: int
) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Apply a function of images [B,C,H,W] tile by tile, and give each tile's result as soon as it is there.

    Tiles begin at multiples of `side`, so that a network with windows sees the windows of the whole image where `side`
    and `halo` are multiples of the window. Each sees `halo` pixels more on every side, as far as the image goes; they
    are cut off the result. So results cover the image without gaps or overlap, and where no pixel of the function
    looks farther than `halo` they are what the function gives on the whole image.

    Yields:
        Rows and columns of the tile, and the function's result there.
    """
    height, width = images[0].shape[-2:]
    for top in range(0, height, side):
        for left in range(0, width, side):
            y, x = max(0, top - halo), max(0, left - halo)
            part = function(*(image[..., y : top + side + halo, x : left + side + halo] for image in images))
            part = part[..., top - y : top - y + side, left - x : left - x + side]
            rows, columns = part.shape[-2:]
            yield (slice(top, top + rows), slice(left, left + columns)), part


def tiled(function: Callable[..., Tensor], images: Sequence[Tensor], side: int, halo: int) -> Tensor:
    """What a function gives on whole images [B,C,H,W], put together from its `tiles`."""
    whole = None
    for place, part in tiles(function, images, side, halo):
        if whole is None:
            whole = part.new_empty((*part.shape[:-2], *images[0].shape[-2:]))
        whole[(..., *place)] = part
    return whole


def mirrored(image: Tensor, more: Sequence[int]) -> Tensor:
    """Pad [B,C,H,W] by (left, right, top, bottom), mirrored without repeating the edge, however small the image is."""
    while any(more):
        height, width = image.shape[-2:]
        now = [min(n, side - 1) for n, side in zip(more, (width, width, height, height))]
        if not any(now):
            return pad(image, more, mode="replicate")  # one row or column has nothing to mirror
        image = pad(image, now, mode="reflect")
        more = [n - m for n, m in zip(more, now)]
    return image
