"""What a back end is shown: the fused image alone, as in the paper, or together with both sources."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusionlib.data.pairs import Pair, load

#: A fused image [1|3,H,W] in 0..1, or (fused, infrared [1,H,W], visible [3,H,W]) of one size.
View = Tensor | tuple[Tensor, Tensor, Tensor]
#: Said before the question about `side_by_side`.
CAPTION = "From left to right: a fused image, and the infrared and the visible image that it was made of. "


class WithSources(Sequence):
    """Fused images with the pairs that they were made of, each read when it is indexed."""

    def __init__(self, fused: Sequence[Tensor], pairs: Sequence[Pair]):
        self.fused, self.pairs = fused, pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """(fused, infrared, visible) of one pair; FusionError where one cannot be read."""
        return (self.fused[index], *load(self.pairs[index]))


def side_by_side(view: View) -> Tensor:
    """One image to show: a fused image as it is, or [3,H,3W], fused, infrared and visible."""
    if isinstance(view, Tensor):
        return view
    return torch.cat([image.expand(3, -1, -1) for image in view], dim=2)
