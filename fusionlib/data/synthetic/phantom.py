"""Synthetic head phantoms with a lesion, in the four contrasts and the file layout of BraTS2020.

A phantom consists of ellipsoids bent by smooth random fields, with one gray value per tissue and contrast. Its
contrasts differ as those of an MRI do: liquid is dark in T1 and FLAIR and bright in T2, gray and white matter swap
between T1 and the others, oedema is bright in FLAIR and faint in T1. Results on phantoms say nothing about patients.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from fusionlib.data.synthetic.scene import check_arguments
from fusionlib.utils.files import write_atomically

DRAWING = 1  # version of the drawing: increase it when the same arguments give another phantom
SMALLEST, LARGEST = 32, 256  # voxels along each side
EXTENT = 192.0  # millimetres along each side
NOISE = 0.015  # standard deviation of each of the two channels, of a signal of 1

TISSUES = ("air", "scalp", "skull", "liquid", "gray", "white", "deep", "swelling", "dead", "rim")
AIR, SCALP, SKULL, LIQUID, GRAY, WHITE, DEEP, SWELLING, DEAD, RIM = range(len(TISSUES))
CONTRASTS = {  # gray values of the tissues, 0..1
    "t1": (0, 0.85, 0.12, 0.16, 0.50, 0.72, 0.58, 0.47, 0.24, 0.50),
    "t1ce": (0, 0.80, 0.11, 0.15, 0.46, 0.65, 0.53, 0.43, 0.22, 0.95),
    "t2": (0, 0.55, 0.08, 0.95, 0.56, 0.38, 0.46, 0.80, 0.90, 0.62),
    "flair": (0, 0.50, 0.08, 0.10, 0.55, 0.42, 0.50, 0.92, 0.38, 0.78),
}
LABELS = {SWELLING: 2, DEAD: 1, RIM: 4}  # of tissues in seg, as in BraTS2020


@dataclass(frozen=True, eq=False)
class Phantom:
    """One head in voxels [X,Y,Z]: x grows to the right of the head, y to the front, z upwards.

    `contrasts` {"t1", "t1ce", "t2", "flair"}: float32, about 0..1, exactly 0 outside the head. `seg` uint8: 1 necrotic
    core, 2 oedema, 4 enhancing rim, elsewhere 0. `tissue` uint8: index into `TISSUES`.
    """

    contrasts: dict[str, np.ndarray]
    seg: np.ndarray
    tissue: np.ndarray


def render(index: int, seed: int = 0, size: tuple[int, int, int] = (128, 128, 48)) -> Phantom:
    """Render head number `index` of the sequence `seed` at `size` [X,Y,Z]; the same arguments give the same voxels.

    Raises FusionError where an argument is out of range.
    """
    check_arguments("phantom", size, ("x", "y", "z"), SMALLEST, LARGEST, index=index, seed=seed)
    rng = np.random.Generator(np.random.SFC64([seed, index]))
    tissue = _anatomy(rng, size)
    _add_lesion(rng, tissue)
    inside = tissue != AIR
    texture = 1 + 0.03 * _smooth_noise(rng, size, 1.5)
    contrasts = {}
    for name, values in CONTRASTS.items():
        signal = gaussian_filter(np.float32(values)[tissue] * texture, 0.55)  # partial volume at borders
        signal *= np.exp(0.12 * _field(rng, size, 3))  # bias field of the coil
        noisy = np.hypot(signal + NOISE * rng.standard_normal(size, np.float32),
                         NOISE * rng.standard_normal(size, np.float32))  # Rician noise
        contrasts[name] = np.where(inside, noisy, 0).astype(np.float32)
    return Phantom(contrasts, np.uint8([LABELS.get(kind, 0) for kind in range(len(TISSUES))])[tissue], tissue)


def write(folder, count: int, seed: int = 0, size: tuple[int, int, int] = (128, 128, 48)) -> Path:
    """Write phantoms as folder/Phantom/Phantom_NNN/Phantom_NNN_{flair,t1,t1ce,t2,seg}.nii.gz, and return `folder`.

    Axes run to the left, the back and up, as in BraTS2020. Existing files stay.
    """
    folder = Path(folder)
    for index in range(count):
        name = f"Phantom_{index + 1:03d}"
        paths = {kind: folder / "Phantom" / name / f"{name}_{kind}.nii.gz" for kind in (*CONTRASTS, "seg")}
        if all(path.exists() for path in paths.values()):
            continue
        phantom, affine = render(index, seed, size), np.diag([*(EXTENT / np.array(size) * (-1, -1, 1)), 1])
        for kind, path in paths.items():
            voxels = phantom.seg if kind == "seg" else (1000 * phantom.contrasts[kind] + 0.5).astype(np.int16)
            image = nibabel.Nifti1Image(np.ascontiguousarray(voxels[::-1, ::-1]), affine)
            write_atomically(path, gzip.compress(image.to_bytes(), 1, mtime=0))
    return folder


def _anatomy(rng, size):
    """Tissue of each voxel [X,Y,Z] of a healthy head."""
    bend = [_field(rng, size, 4) for _ in range(3)]
    grid = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in size), indexing="ij")
    x, y, z = (axis + 0.022 * wave for axis, wave in zip(grid, bend))
    width, length = rng.uniform(0.72, 0.8), rng.uniform(0.86, 0.92)
    depth = 1 - np.sqrt((x / width) ** 2 + (y / length) ** 2 + (z / 0.92) ** 2)  # below the skin, in head radii
    folds = np.abs(_smooth_noise(rng, size, [0.021 * n for n in size]))  # cortical folds are deep where this is near 0
    below = depth - 0.125  # below the surface of the brain
    tissue = np.full(size, AIR, np.uint8)
    for kind, where in (
        (SCALP, depth > 0), (SKULL, depth > 0.045), (LIQUID, depth > 0.095), (GRAY, below > 0),
        (WHITE, (below > 0.08) & (folds > 0.4) | (below > 0.34)),
        (LIQUID, (below < 0.24) & (below > 0) & (folds < 0.1)),
        (GRAY, (np.abs(x) < 0.05) & (below > 0) & (np.abs(y - 0.05) > 0.35) & (z > -0.3)),
        (LIQUID, (np.abs(x) < 0.014) & (below > -0.02) & (np.abs(y - 0.05) > 0.33) & (z > -0.3)),
    ):
        tissue[where] = kind
    side = np.abs(x)
    large = rng.uniform(0.85, 1.25)  # ventricles
    for kind, centre, radii, turn in (
        (DEEP, (0.13, -0.08, 0.0), (0.085, 0.15, 0.13), 0.2), (DEEP, (0.27, 0.1, -0.02), (0.055, 0.19, 0.14), -0.2),
        (DEEP, (0.14, 0.24, 0.05), (0.05, 0.12, 0.13), 0.3),
        (LIQUID, (0.10, 0.25, 0.12), (0.042, 0.20, 0.11), 0.25), (LIQUID, (0.15, -0.3, 0.1), (0.05, 0.24, 0.10), -0.45),
        (LIQUID, (0.085, 0.0, 0.17), (0.045, 0.3, 0.07), 0.0), (LIQUID, (0.0, -0.02, -0.02), (0.018, 0.16, 0.12), 0.0),
    ):
        a, b, c = radii if kind == DEEP else (large * radius for radius in radii)
        u, v = side - centre[0], y - centre[1]
        u, v = np.cos(turn) * u - np.sin(turn) * v, np.sin(turn) * u + np.cos(turn) * v
        tissue[(u / a) ** 2 + (v / b) ** 2 + ((z - centre[2]) / c) ** 2 < 1] = kind
    return tissue


def _add_lesion(rng, tissue):
    """Draw a lesion into white matter: a necrotic core, an enhancing rim, and oedema that spares liquid."""
    size = tissue.shape
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in size]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    central = (np.abs(x) > 0.2) & (np.abs(x) < 0.45) & (np.abs(y) < 0.5) & (np.abs(z - 0.1) < 0.3)
    places = np.argwhere((tissue == WHITE) & central)
    centre = [axis[i] for axis, i in zip(axes, places[rng.integers(len(places))])]
    radius = rng.uniform(0.14, 0.22)
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip((x, y, z), centre)))
    distance = distance * np.exp(0.22 * _field(rng, size, 12)) / radius
    brain = np.isin(tissue, (GRAY, WHITE, DEEP))
    reach = 1.15 + 0.45 * np.tanh(3 * _field(rng, size, 9))  # oedema has fingers
    tissue[brain & (distance < reach) & (tissue != GRAY)] = SWELLING
    tissue[brain & (distance < 0.62)] = RIM
    tissue[brain & (distance < 0.45)] = DEAD


def _field(rng, size, knots):
    """A smooth random field [X,Y,Z] through `knots` random values along each axis, of standard deviation about 0.7."""
    values = rng.standard_normal((knots,) * 3).astype(np.float32)
    x, y, z = (zoom(np.eye(knots, dtype=np.float32), (n / knots, 1), order=3) for n in size)  # cubic, axis by axis
    return np.einsum("xi,yj,zk,ijk->xyz", x, y, z, values, optimize=True)


def _smooth_noise(rng, size, sigma):
    """White noise, smoothed by `sigma` voxels, of standard deviation 1."""
    noise = gaussian_filter(rng.standard_normal(size, np.float32), sigma)
    return noise / noise.std()
