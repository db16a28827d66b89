"""Images side by side: sources, fused images, boxes, enlarged regions and answers."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from fusionlib.errors import FusionError
from fusionlib.plots.common import DPI, PREDICTION, REGION, TRUTH, array_of, pixels

_GAP, _TEXT, _CELL = 6, 34, 200  # pixels: between cells, line of text, least cell width


def contact_sheet(rows: Sequence[Mapping[str, object]], boxes: Sequence | None = None,
                  predictions: Sequence[Mapping[str, object] | None] | None = None,
                  zoom: Sequence[tuple[float, float, float, float] | None] | None = None,
                  labels: Sequence[str] | None = None, min_score: float = 0.25, widest_sheet: int = 1900) -> Figure:
    """Rows of images side by side, with a title over each column.

    Args:
        rows: one {column title: image} per row; a cell that a row lacks stays blank.
        boxes: per row, the true boxes [N, 4] xyxy in pixels, drawn into every image of the row, or None.
        predictions: per row, {column title: [n, 5 or more] of xyxy and score}, or None.
        zoom: per row, a region xyxy in pixels that is framed and shown enlarged in a corner, or None.
        labels: per row, a name at its left.
        min_score: predictions with a lower score are not drawn.
        widest_sheet: width in pixels that all columns together are reduced to.

    Raises:
        FusionError: no rows, lists of another length than rows, or something that is no image.
    """
    rows = [{name: pixels(image) for name, image in row.items()} for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise FusionError("A contact sheet needs at least one row with an image: check that any pairs were read.")
    for what, given in (("boxes", boxes), ("predictions", predictions), ("zoom", zoom), ("labels", labels)):
        if given is not None and len(given) != len(rows):
            raise FusionError(f"There are {len(rows)} rows of images but {len(given)} {what}: give one per row.")

    widest = max(image.shape[1] for row in rows for image in row.values())
    # One pixel of the image is one of the sheet, or a whole number of them, as long as the row has room.
    width = max(_CELL, min(widest * math.ceil(_CELL / widest), widest_sheet // max(len(names), 2)))
    heights = [round(width * max((i.shape[0] / i.shape[1] for i in row.values()), default=0)) for row in rows]
    legend = _legend(boxes, predictions, min_score)
    left, top, bottom = _TEXT if labels else _GAP, _TEXT if any(names) else _GAP, _TEXT if legend else _GAP
    total_width = left + len(names) * (width + _GAP)
    total_height = top + sum(heights) + _GAP * (len(rows) - 1) + bottom
    figure = plt.figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)
    plt.close(figure)  # the notebook shows what a cell returns, not what pyplot holds

    y = top
    for index, (row, height) in enumerate(zip(rows, heights)):
        if labels:
            figure.text(left / 2 / total_width, 1 - (y + height / 2) / total_height, labels[index], rotation=90,
                        ha="center", va="center", size=11)
        for column, name in enumerate(names):
            x = left + column * (width + _GAP)
            if index == 0:
                figure.text((x + width / 2) / total_width, 1 - top / 2 / total_height, name, ha="center", va="center",
                            size=11)
            if name not in row:
                continue
            axes = figure.add_axes([x / total_width, 1 - (y + height) / total_height, width / total_width,
                                    height / total_height])
            _show(axes, row[name], width)
            thin = min(1, max(0.45, width / 640))  # a small cell needs thin lines: people in it are a few pixels wide
            if boxes and boxes[index] is not None:
                _draw_boxes(axes, array_of(boxes[index]), TRUTH, 2.2 * thin)  # wider, to be seen under a prediction
            if predictions and predictions[index] and name in predictions[index]:
                _draw_predictions(axes, array_of(predictions[index][name]), min_score, 1.4 * thin)
            if zoom and zoom[index] is not None:
                _enlarge(axes, row[name], zoom[index], width)
        y += height + _GAP
    if legend:
        figure.legend(handles=legend, loc="center", ncols=len(legend), fontsize=10,
                      bbox_to_anchor=(0.5, bottom / 2 / total_height))
    return figure


def detections(image, truth, predictions, min_score: float = 0.25) -> Figure:
    """One image with its true boxes [N, 4] (None: it has no labels) and predictions [n, 5 or more] of xyxy, score."""
    return contact_sheet([{"": image}], [truth], [{"": predictions}], min_score=min_score)


def answers(images: Sequence, texts: Sequence[str], title: str) -> Figure:
    """Images with what was answered about each, as in the paper's figure 3.

    Args:
        images: one image per answer.
        texts: the answers, drawn as plain text.
        title: who was asked what.
    """
    figure, panels = plt.subplots(len(texts), 2, figsize=(9, 2.3 * len(texts) + 0.5), squeeze=False,
                                  layout="constrained", width_ratios=[1, 1.6])
    plt.close(figure)
    for (left, right), image, text in zip(panels, images, texts):
        left.imshow(pixels(image))
        right.text(0, 0.5, textwrap.fill(text, 62).replace("$", r"\$"), va="center", size=10)
        left.axis("off")
        right.axis("off")
    figure.suptitle(textwrap.fill(title, 100), size=10)
    return figure


def region_of(boxes: Tensor, size: tuple[int, int], share: float = 0.3) -> tuple[float, float, float, float]:
    """A region worth enlarging: around the tallest person of boxes [N,4], or the middle without any; xyxy in pixels.

    Args:
        boxes: xyxy in pixels.
        size: (H, W) of the image.
        share: width and height of the region as a share of the image's.
    """
    height, width = share * size[0], share * size[1]
    if len(boxes):
        x1, y1, x2, y2 = boxes[(boxes[:, 3] - boxes[:, 1]).argmax()].tolist()
    else:
        x1, y1, x2, y2 = 0, 0, size[1], size[0]
    left = min(max((x1 + x2 - width) / 2, 0), size[1] - width)
    top = min(max((y1 + y2 - height) / 2, 0), size[0] - height)
    return left, top, left + width, top + height


def _show(axes, image, width):
    axes.imshow(image, interpolation="nearest" if width >= image.shape[1] else "auto")
    axes.axis("off")


def _draw_boxes(axes, boxes, colour, width):
    for x1, y1, x2, y2 in boxes.reshape(-1, 4):
        axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width))


def _draw_predictions(axes, predictions, min_score, width):
    predictions = predictions[predictions[:, 4] >= min_score]
    _draw_boxes(axes, predictions[:, :4], PREDICTION, width)
    for x1, y1, _, _, score in predictions[:, :5]:
        axes.text(x1, y1, f"{score:.2f}".removeprefix("0"), color="white", size=4 + 2 * width, va="bottom",
                  clip_on=True, bbox={"facecolor": PREDICTION, "edgecolor": "none", "pad": 0.8})


def _legend(boxes, predictions, min_score):
    shown = []
    if boxes is not None and any(given is not None for given in boxes):
        shown.append(Line2D([], [], color=TRUTH, linewidth=2.2, label="truth"))
    if predictions is not None and any(predictions):
        shown.append(Line2D([], [], color=PREDICTION, linewidth=1.4, label=f"prediction (score ≥ {min_score:g})"))
    return shown


def _enlarge(axes, image, region, width):
    """Frame a region, and show it enlarged in the lower corner that is farther from it."""
    x1, y1, x2, y2 = (round(float(v)) for v in region)
    height = image.shape[0] / image.shape[1]
    part = image[max(y1, 0):y2, max(x1, 0):x2]
    if not part.size:
        raise FusionError(f"The region {x1, y1, x2, y2} lies outside the image of {image.shape[1]}x{image.shape[0]} "
                          "pixels: give x1, y1, x2, y2 inside it.")
    share = min(0.42, 0.6 * height * part.shape[1] / part.shape[0])  # of the cell's width
    tall = share * part.shape[0] / part.shape[1] / height
    inset = axes.inset_axes([0 if x1 + x2 > image.shape[1] else 1 - share, 0, share, tall])
    inset.imshow(part, interpolation="nearest" if share * width >= part.shape[1] else "auto", aspect="auto")
    inset.set(xticks=[], yticks=[])
    inset.spines[:].set(color=REGION, linewidth=1.6, visible=True)
    _draw_boxes(axes, np.array([[x1, y1, x2, y2]]), REGION, 1.2)
