"""One range for the radiometric infrared images of a folder, a video or a data set, so that none flickers."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from fusionlib.data.image_io import is_eight_bit, read_image
from fusionlib.data.infrared import (
    DEFAULT,
    FULL,
    PERCENTILES,
    PIXELS,
    Reading,
    is_radiometric,
    to_gray,
    use_span,
    valid,
)
from fusionlib.data.pairs import Pair
from fusionlib.utils.errors import FusionError

IMAGES = 32  # that a common range is computed from


def of_images(reading: Reading, images: Iterable[np.ndarray]) -> Reading:
    """The same reading with one range for several images, from all of them."""
    limits = None if isinstance(reading.ir_range, tuple) else _pooled(images, always=reading.ir_range == "auto")
    return replace(reading, common=limits)


def of_files(reading: Reading, paths: Sequence[Path]) -> Reading:
    """As `of_images`, for files, of which some are read; those that cannot be read are passed over."""
    if isinstance(reading.ir_range, tuple) or len(paths) < 2:
        return reading
    chosen = [paths[index] for index in np.unique(np.linspace(0, len(paths) - 1, IMAGES).round().astype(int))]
    return of_images(reading, _decoded(chosen, reading.ir_range == "auto"))


def with_ranges(pairs: Sequence[Pair]) -> list[Pair]:
    """The same pairs, with one `ir_range` for those of a data set whose infrared images are radiometric."""
    files = {}
    for pair in pairs:
        files.setdefault(pair.dataset, []).append(pair.ir)
    ranges = {name: of_files(DEFAULT, paths).common for name, paths in files.items()}
    return [replace(pair, ir_range=ranges[pair.dataset]) if ranges[pair.dataset] else pair for pair in pairs]


def _pooled(images, always) -> tuple[float, float] | None:
    """The common range of those images that may be radiometric (`always`: of all): percentiles, `FULL` or None."""
    pool, kinds = [], set()
    for image in images:
        values, unit, _ = to_gray(image)
        try:
            if always or values.dtype == np.uint16 or is_radiometric(values, ""):
                values = valid(values)
                pool.append(values[:: max(1, len(values) // (PIXELS // 10))].astype(np.float64) * unit)
                kinds.add(image.dtype)
        except FusionError:
            continue  # reported when the image is fused
    if not pool:
        return None
    pool = np.concatenate(pool)
    spans = kinds == {np.dtype(np.uint16)} and use_span(pool)
    return FULL if spans and not always else tuple(map(float, np.percentile(pool, PERCENTILES)))


def _decoded(paths, always) -> Iterator[np.ndarray]:
    """Those of some files that can be read and may be radiometric (`always`: all), decoded one by one."""
    for path in paths:
        with suppress(FusionError):  # reported when the image is fused
            if always or not is_eight_bit(path):
                yield read_image(path)
