"""Differences between images that look alike, as columns of a contact sheet."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from fusionlib.utils.errors import FusionError
from fusionlib.visualization.style import LUMA, pixels

_GAINS = (100, 50, 20, 10, 5, 2, 1)
_CLIPPED = 0.01  # share of pixels that may lie beyond the scale


def with_differences(rows: Sequence[Mapping[str, object]], differences: Mapping[str, tuple[str, str]],
                     ) -> tuple[list[dict], tuple[ScalarMappable, str]]:
    """Add maps of the difference in luma to the rows of a contact sheet.

    Args:
        rows: {column title: image}, as for `contact_sheet`.
        differences: {new title: (title, title that is subtracted)}. A row that lacks one of both gets no map.

    Returns:
        The rows with the maps, and the argument `bar` of `contact_sheet`. All maps have one scale, blue where the first
        image is darker, white where both agree, red where it is brighter: the largest of 100, 50, 20, 10, 5, 2 and 1
        times the gray values by which at most 1 % of the pixels are cut off.

    Raises:
        FusionError: no row has both images of any difference, or they differ in size.
    """
    found = {}
    for index, row in enumerate(rows):
        for title, (first, second) in differences.items():
            if first in row and second in row:
                planes = [pixels(row[name]) @ LUMA for name in (first, second)]
                if planes[0].shape != planes[1].shape:
                    sizes = " and ".join(f"{plane.shape[1]}x{plane.shape[0]}" for plane in planes)
                    raise FusionError(f"{first} and {second} have {sizes} pixels: give images of one size.")
                found[index, title] = planes[0] - planes[1]
    if not found:
        raise FusionError(f"No row has both images of {', '.join(differences) or 'any difference'}: name two columns.")
    values = np.abs(np.concatenate([each.ravel() for each in found.values()]))
    gain = next((gain for gain in _GAINS if np.mean(values > 255 / gain) <= _CLIPPED), 1)
    scale = ScalarMappable(Normalize(-255 / gain, 255 / gain), "RdBu_r")
    painted = [dict(row) for row in rows]
    for (index, title), values in found.items():
        painted[index][title] = scale.to_rgba(values, bytes=True)[..., :3]
    return painted, (scale, f"difference of luma in gray levels of 255, drawn ×{gain}")
