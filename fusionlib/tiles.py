"""Functions of images, tile by tile: memory grows with the tile and not with the image."""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor


def parts(
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
    """What a function gives on whole images [B,C,H,W], put together from its `parts`."""
    whole = None
    for place, part in parts(function, images, side, halo):
        if whole is None:
            whole = part.new_empty((*part.shape[:-2], *images[0].shape[-2:]))
        whole[(..., *place)] = part
    return whole
