"""NIfTI volumes and their axial slices."""

import math
import zlib
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import scipy.ndimage
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from fusionlib.data.image_io import MAX_PIXELS
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import require_regular_file

PERCENTILES = (0.5, 99.5)  # of the voxels inside the head that become black and white
LEAST_AREA = 0.5  # of the largest cross-section: slices with less are not chosen


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume in canonical (RAS+) orientation, whatever the order of the axes in its file.

    `voxels` float32 [X,Y,Z]: x grows to the patient's right, y to the front, z upwards. `affine` [4,4]: voxel indices
    to millimetres. `background`: number of voxels around the head that are NaN in the file and 0 here.
    """

    path: Path
    voxels: np.ndarray
    affine: np.ndarray
    background: int = 0

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along x, y and z in millimetres."""
        return tuple(float(mm) for mm in nibabel.affines.voxel_sizes(self.affine))


def stated_shape(path, channel: int | None = None) -> tuple[int, ...]:
    """The numbers of voxels in the header of a file that `read_volume` reads, in the order of its axes.

    No voxel is read. Raises FusionError as `read_volume` does for a header.
    """
    with _readable(path):
        return _opened(path, channel).shape[:3]


def read_volume(path, channel: int | None = None) -> Volume:
    """Read a NIfTI file, .nii or .nii.gz, scaled as its header says; of one with four dimensions the volume `channel`.

    Raises FusionError for a missing, truncated or damaged file, for other dimensions, and for voxels that are not real
    numbers, infinite, or NaN elsewhere than around the head.
    """
    path = Path(path)
    with _readable(path):
        image = _opened(path, channel)
        image = nibabel.as_closest_canonical(image if channel is None else image.slicer[..., channel])
        voxels = image.get_fdata(dtype=np.float32, caching="unchanged")
    background = _nan_around(voxels)
    if bad := int(voxels.size - np.isfinite(voxels).sum() - background.sum()):
        raise FusionError(f"{path}: expected finite voxels, found {bad:,} that are NaN or infinite; save it again")
    count = int(background.sum())
    return Volume(path, np.where(background, 0, voxels) if count else voxels, image.affine, count)


@contextmanager
def _readable(path):
    """Turn what nibabel raises for a file that it cannot read into FusionError."""
    require_regular_file(path, "a NIfTI volume", math.inf)
    try:
        yield
    except FusionError:
        raise
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, OverflowError,
            MemoryError) as error:
        raise FusionError(f"{path}: expected a whole NIfTI volume, found something that cannot be read "
                          f"({str(error) or type(error).__name__}); copy it again") from None


def _opened(path, channel):
    """A file as an image of nibabel, which has read the header alone; FusionError for what no volume states."""
    image = nibabel.load(path)
    kind, shape = image.get_data_dtype().kind, image.shape
    if channel is not None:
        if len(shape) != 4 or channel >= shape[3]:
            raise FusionError(f"{path}: expected four dimensions with at least {channel + 1} volumes in the last, "
                              f"found {list(shape)}; correct the dataset.json beside its folder")
        shape = shape[:3]
    if len(shape) != 3 or min(shape) < 2:
        raise FusionError(f"{path}: expected a volume of three dimensions, found {list(shape)}; give one volume")
    if kind not in "iuf" or np.prod(shape, dtype=float) > MAX_PIXELS:
        raise FusionError(f"{path}: expected at most {MAX_PIXELS:,} voxels of real numbers, found {list(shape)} "
                          f"of type {image.get_data_dtype()}; save one gray volume, or set the environment variable "
                          "OPENCV_IO_MAX_IMAGE_PIXELS")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise FusionError(f"{path}: expected an affine from voxels to millimetres, found {image.affine.tolist()}; "
                          "correct its header")
    return image


def _nan_around(voxels: np.ndarray) -> np.ndarray:
    """Whether a voxel is NaN and connected to the border by others, as outside a head that was cut out; bool."""
    nan = np.isnan(voxels)
    if not nan.any():
        return nan
    regions, _ = scipy.ndimage.label(nan)
    faces = [regions.take(end, axis).ravel() for axis in range(3) for end in (0, -1)]
    return nan & np.isin(regions, np.unique(np.concatenate(faces)))


def normalise(volume: Volume, chosen: Sequence[int] | slice = slice(None)) -> np.ndarray:
    """Scale the chosen slices of voxels [X,Y,Z] to 0..1: `PERCENTILES` inside the head become 0 and 1, outside is 0.

    Inside are the voxels other than zero. MRI has no absolute scale, and a few bright voxels of vessels or fat would
    dominate one by extremes. Raises FusionError for a constant volume.
    """
    inside = volume.voxels != 0
    low, high = np.percentile(volume.voxels[inside], PERCENTILES, overwrite_input=True) if inside.any() else (0, 0)
    if low == high:
        raise FusionError(f"{volume.path}: expected a head with different intensities, found one value; copy it again")
    voxels, inside = volume.voxels[..., chosen], inside[..., chosen]
    return np.where(inside, (voxels - low) / (high - low), 0).clip(0, 1).astype(np.float32)


def axial_slice(voxels: np.ndarray, z: int) -> np.ndarray:
    """The axial slice z of voxels [X,Y,Z] as [H,W] in radiological convention: front at the top, right at the left."""
    return np.ascontiguousarray(voxels[::-1, ::-1, z].T)


def choose_slices(area: np.ndarray, count: int) -> list[int]:
    """At most `count` slices with at least half of the largest area, evenly spaced from the lowest to the highest.

    area: [Z], of the tumour in each slice, or of the head where no tumour is marked.
    """
    candidates = np.flatnonzero(area >= LEAST_AREA * area.max())
    return candidates[np.unique(np.linspace(0, len(candidates) - 1, count).round().astype(int))].tolist()
