"""Volumes of NIfTI files, and slices of them as pictures."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from fusionlib.utils.errors import FusionError

PERCENTILES = (0.5, 99.5)  # of the voxels inside the head that become black and white
LEAST_AREA = 0.5  # of the largest cross-section: slices with less are not chosen
MOST_VOXELS = 2**28

_BROKEN = (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, OverflowError, MemoryError)


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume in canonical orientation, whatever order and direction its file has.

    `voxels` float32 [X,Y,Z]: x grows to the patient's right, y to the front, z upwards. `affine` [4,4]: voxel indices
    to millimetres.
    """

    path: Path
    voxels: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along x, y and z in millimetres."""
        return tuple(float(mm) for mm in nibabel.affines.voxel_sizes(self.affine))


def read_volume(path) -> Volume:
    """Read a NIfTI file, .nii or .nii.gz, with the scaling that its header asks for.

    Raises:
        FusionError: a missing, truncated or damaged file, another number of dimensions than three, voxels that are no
            plain numbers, or NaN and infinite ones.
    """
    path = Path(path)
    try:
        image = nibabel.load(path)
        kind, shape = image.get_data_dtype().kind, image.shape
        if len(shape) != 3 or min(shape) < 2:
            raise FusionError(f"{path}: expected a volume of three dimensions, found {list(shape)}; give one volume")
        if kind not in "iuf" or np.prod(shape, dtype=float) > MOST_VOXELS:
            raise FusionError(f"{path}: expected at most {MOST_VOXELS:,} voxels that are plain numbers, found "
                              f"{list(shape)} of type {image.get_data_dtype()}; save one gray volume")
        if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
            raise FusionError(f"{path}: expected an affine from voxels to millimetres, found {image.affine.tolist()}; "
                              "mend its header")
        image = nibabel.as_closest_canonical(image)
        voxels = image.get_fdata(dtype=np.float32, caching="unchanged")
    except FusionError:
        raise
    except _BROKEN as error:
        raise FusionError(f"{path}: expected a whole NIfTI volume, found something that cannot be read "
                          f"({str(error) or type(error).__name__}); copy it again") from None
    if bad := int(voxels.size - np.isfinite(voxels).sum()):
        raise FusionError(f"{path}: expected finite voxels, found {bad:,} that are NaN or infinite; save it anew")
    return Volume(path, voxels, image.affine)


def normalise(volume: Volume) -> np.ndarray:
    """The voxels [X,Y,Z] in 0..1: `PERCENTILES` inside the head become 0 and 1, what is outside of it is 0.

    Inside is where voxels are not zero, as volumes without skull or background have it. MRI has no scale of its own,
    and a few voxels of a vessel or of fat would otherwise decide it. Raises FusionError for a volume of one value.
    """
    inside = volume.voxels != 0
    low, high = np.percentile(volume.voxels[inside], PERCENTILES) if inside.any() else (0, 0)
    if low == high:
        raise FusionError(f"{volume.path}: expected a head with different intensities, found one value only; copy it "
                          "again")
    return np.where(inside, (volume.voxels - low) / (high - low), 0).clip(0, 1).astype(np.float32)


def picture(voxels: np.ndarray, z: int) -> np.ndarray:
    """The axial slice z of voxels [X,Y,Z] as [H,W], seen from below as radiologists do.

    The front of the head is at the top, the patient's right at the left of the picture.
    """
    return np.ascontiguousarray(voxels[::-1, ::-1, z].T)


def choose_slices(area: np.ndarray, count: int) -> list[int]:
    """At most `count` slices with at least half of the largest area, spread evenly from the lowest to the highest.

    Args:
        area: [Z], of the tumour in each slice; of the head where no tumour is marked.
    """
    there = np.flatnonzero(area >= LEAST_AREA * area.max())
    return there[np.unique(np.linspace(0, len(there) - 1, count).round().astype(int))].tolist()
