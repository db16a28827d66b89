"""NIfTI volumes and their axial slices."""

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


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume in canonical (RAS+) orientation, whatever the order of the axes in its file.

    `voxels` float32 [X,Y,Z]: x grows to the patient's right, y to the front, z upwards. `affine` [4,4]: voxel indices
    to millimetres.
    """

    path: Path
    voxels: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along x, y and z in millimetres."""
        return tuple(float(mm) for mm in nibabel.affines.voxel_sizes(self.affine))


def read_volume(path) -> Volume:
    """Read a NIfTI file, .nii or .nii.gz, scaled as its header says.

    Raises FusionError for a missing, truncated or damaged file, for other than three dimensions, and for voxels that
    are not real numbers, NaN or infinite.
    """
    path = Path(path)
    try:
        image = nibabel.load(path)
        kind, shape = image.get_data_dtype().kind, image.shape
        if len(shape) != 3 or min(shape) < 2:
            raise FusionError(f"{path}: expected a volume of three dimensions, found {list(shape)}; give one volume")
        if kind not in "iuf" or np.prod(shape, dtype=float) > MOST_VOXELS:
            raise FusionError(f"{path}: expected at most {MOST_VOXELS:,} voxels of real numbers, found {list(shape)} "
                              f"of type {image.get_data_dtype()}; save one gray volume")
        if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
            raise FusionError(f"{path}: expected an affine from voxels to millimetres, found {image.affine.tolist()}; "
                              "correct its header")
        image = nibabel.as_closest_canonical(image)
        voxels = image.get_fdata(dtype=np.float32, caching="unchanged")
    except FusionError:
        raise
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, OverflowError,
            MemoryError) as error:
        raise FusionError(f"{path}: expected a whole NIfTI volume, found something that cannot be read "
                          f"({str(error) or type(error).__name__}); copy it again") from None
    if bad := int(voxels.size - np.isfinite(voxels).sum()):
        raise FusionError(f"{path}: expected finite voxels, found {bad:,} that are NaN or infinite; save it again")
    return Volume(path, voxels, image.affine)


def normalise(volume: Volume) -> np.ndarray:
    """Scale voxels [X,Y,Z] to 0..1: `PERCENTILES` inside the head become 0 and 1, voxels outside are 0.

    Inside are the voxels other than zero. MRI has no absolute scale, and a few bright voxels of vessels or fat would
    dominate one by extremes. Raises FusionError for a constant volume.
    """
    inside = volume.voxels != 0
    low, high = np.percentile(volume.voxels[inside], PERCENTILES) if inside.any() else (0, 0)
    if low == high:
        raise FusionError(f"{volume.path}: expected a head with different intensities, found one value; copy it again")
    return np.where(inside, (volume.voxels - low) / (high - low), 0).clip(0, 1).astype(np.float32)


def axial_slice(voxels: np.ndarray, z: int) -> np.ndarray:
    """The axial slice z of voxels [X,Y,Z] as [H,W] in radiological convention: front at the top, right at the left."""
    return np.ascontiguousarray(voxels[::-1, ::-1, z].T)


def choose_slices(area: np.ndarray, count: int) -> list[int]:
    """At most `count` slices with at least half of the largest area, evenly spaced from the lowest to the highest.

    area: [Z], of the tumour in each slice, or of the head where no tumour is marked.
    """
    candidates = np.flatnonzero(area >= LEAST_AREA * area.max())
    return candidates[np.unique(np.linspace(0, len(candidates) - 1, count).round().astype(int))].tolist()
