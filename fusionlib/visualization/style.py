"""The style of all figures, and how they are written to files."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically

# The palette of Okabe and Ito, for all kinds of colour vision; green and vermillion are reserved for boxes.
TRUTH, PREDICTION, REGION = "#009E73", "#D55E00", "#F0E442"
COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#000000")

LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue

DPI = 150

_NOTE = "note"  # how `save` finds the line of `annotate`
_LINE = 36 / DPI  # inches that this line adds: whole pixels, so that images are not resampled


def set_style() -> None:
    """Set matplotlib's defaults for all figures; call it once, at the top of a notebook."""
    plt.rcParams.update({
        "font.family": "DejaVu Sans",  # comes with matplotlib, so figures look the same on every machine
        "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "legend.fontsize": 8, "xtick.labelsize": 8,
        "ytick.labelsize": 8, "axes.prop_cycle": plt.cycler(color=COLOURS),
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
        "axes.grid": True, "grid.color": "#DDDDDD", "grid.linewidth": 0.6, "axes.axisbelow": True,
        "lines.linewidth": 1.6, "legend.frameon": False,
        "pdf.fonttype": 42,  # TrueType: text in a pdf can be searched and edited
        "figure.dpi": DPI, "figure.facecolor": "white", "savefig.dpi": DPI,
    })


def subplots(rows: int = 1, columns: int = 1, **options):
    """`plt.subplots` with constrained layout, closed in pyplot: a notebook shows the figure that a cell returns."""
    figure, axes = plt.subplots(rows, columns, layout="constrained", **options)
    plt.close(figure)
    return figure, axes


def legible(width: float) -> float:
    """The size of text that has 7 points when a figure of this width in inches is printed 180 mm wide."""
    return 7 * width / (180 / 25.4)


def annotate(figure: Figure, text: str) -> None:
    """Write a line below a figure that says what it was made from; `save` and notebooks extend the figure by it."""
    width, height = figure.get_size_inches()
    figure.text(0.05 / width, -0.5 * _LINE / height, text.replace("$", r"\$"), size=max(8, legible(width)),
                color="#555555", va="center", gid=_NOTE).set_in_layout(False)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as png and, beside it, as pdf, without dates and versions: the same figure is the same file.

    Returns the path; raises FusionError where it does not end in .png.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise FusionError(f"{path}: figures are written as png and pdf; give the file a name that ends in .png.")
    below = _LINE * any(text.get_gid() == _NOTE for text in figure.texts)
    box = Bbox.from_extents(0, -below, *figure.get_size_inches())
    undated = dict.fromkeys(("Creator", "Producer", "CreationDate"))
    for file, metadata in ((path, {"Software": None}), (path.with_suffix(".pdf"), undated)):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=file.suffix[1:].lower(), dpi=DPI, metadata=metadata, bbox_inches=box)
        write_atomically(file, buffer.getvalue())
    return path


def pixels(image) -> np.ndarray:
    """Convert an image to a uint8 array [H, W, 3], which matplotlib shows without a colour map or normalisation."""
    array = array_of(image)
    if isinstance(image, torch.Tensor) and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or not array.size:
        raise FusionError(f"An image must be a tensor [1 or 3, H, W] or an array [H, W] or [H, W, 3], but this is a "
                          f"{type(image).__name__} of shape {tuple(np.shape(image))}.")
    full = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    array = (array.clip(0, full) / full * 255).round().astype(np.uint8)
    return np.repeat(array[..., None], 3, 2) if array.ndim == 2 else array


def array_of(values) -> np.ndarray:
    """Convert a tensor on any device, or anything array-like, to a NumPy array."""
    if isinstance(values, torch.Tensor):  # NumPy has no bfloat16
        values = (values.float() if values.is_floating_point() else values).numpy(force=True)
    return np.asarray(values)
