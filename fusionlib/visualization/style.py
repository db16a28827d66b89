"""One style for all figures, and how they are kept."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically

# Okabe and Ito's palette for all kinds of colour vision. Green and vermillion mean boxes, and nothing else.
TRUTH, PREDICTION, REGION = "#009E73", "#D55E00", "#F0E442"
COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#000000")

DPI = 150


def set_style() -> None:
    """Set matplotlib's defaults for all figures: call it once, at the top of a notebook."""
    plt.rcParams.update({
        "font.family": "DejaVu Sans",  # comes with matplotlib, so figures look the same on every machine
        "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "legend.fontsize": 8,
        "xtick.labelsize": 8, "ytick.labelsize": 8,
        "axes.prop_cycle": plt.cycler(color=COLOURS),
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
        "axes.grid": True, "grid.color": "#DDDDDD", "grid.linewidth": 0.6, "axes.axisbelow": True,
        "lines.linewidth": 1.6, "legend.frameon": False,
        "pdf.fonttype": 42,  # text in a pdf stays text that can be searched and edited
        "figure.dpi": DPI, "figure.facecolor": "white", "savefig.dpi": DPI,
    })


def text_size(width: float) -> float:
    """Points of text in a figure of so many inches that is at least 7 points when printed 180 mm wide."""
    return max(9.0, 7 * width / (180 / 25.4))


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as png and, beside it, as pdf, without dates and versions: the same figure is the same file.

    Returns:
        The path of the png.

    Raises:
        FusionError: a path that does not end in .png.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise FusionError(f"{path}: figures are kept as png and pdf; give the file a name that ends in .png.")
    nobody = dict.fromkeys(("Creator", "Producer", "CreationDate"))
    for file, metadata in ((path, {"Software": None}), (path.with_suffix(".pdf"), nobody)):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=file.suffix[1:].lower(), dpi=DPI, metadata=metadata)
        write_atomically(file, buffer.getvalue())
    return path


def pixels(image):
    """An image as a uint8 array [H, W, 3], so that no colour map and no range comes between it and the picture."""
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
    """A tensor or anything like an array as an array on the CPU."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)
