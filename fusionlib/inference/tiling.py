"""Tiled inference: memory grows with the tile, not with the image."""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor
from torch.nn.functional import pad


def tiles(function: Callable[..., Tensor], images: Sequence[Tensor], side: int, halo: int,
          block: int = 1) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Apply a function of images [B,C,H,W] tile by tile.

    Tiles begin at multiples of `side`, so a network with windows sees those of the whole image if `side` and `halo` are
    multiples of the window. Each tile is extended by `halo` pixels on every side, as far as the image goes, and its
    result is cropped. So the results cover the image without gaps or overlap, and they equal the function of the whole
    image if its receptive field reaches no farther than `halo`.

    Args:
        block: side in pixels of the blocks that the function's results stand for; it divides `side` and `halo`.

    Yields:
        Rows and columns of a tile, and the function's result there.
    """
    height, width = images[0].shape[-2:]
    for top in range(0, height, side):
        for left in range(0, width, side):
            y, x = max(0, top - halo), max(0, left - halo)
            result = function(*(image[..., y : top + side + halo, x : left + side + halo] for image in images))
            inside = (slice(start // block, (start + side) // block) for start in (top - y, left - x))
            result = result[(..., *inside)]
            rows, columns = result.shape[-2:]
            yield (slice(top, top + rows), slice(left, left + columns)), result


def tiled(function: Callable[..., Tensor], images: Sequence[Tensor], side: int, halo: int) -> Tensor:
    """The result of a function of whole images [B,C,H,W], assembled from its `tiles`."""
    whole = None
    for position, result in tiles(function, images, side, halo):
        if whole is None:
            whole = result.new_empty((*result.shape[:-2], *images[0].shape[-2:]))
        whole[(..., *position)] = result
    return whole


def mirrored(image: Tensor, more: Sequence[int]) -> Tensor:
    """Pad [B,C,H,W] by (left, right, top, bottom), mirrored without repeating the edge, for images of any size."""
    while any(more):
        height, width = image.shape[-2:]
        now = [min(n, side - 1) for n, side in zip(more, (width, width, height, height))]
        if not any(now):
            return pad(image, more, mode="replicate")  # one row or column has nothing to mirror
        image = pad(image, now, mode="reflect")
        more = [n - m for n, m in zip(more, now)]
    return image
