"""Images side by side: sources, fused images, boxes, enlarged regions and answers."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from torch import Tensor

from fusionlib.data.color import split_luma
from fusionlib.data.image_io import image_size
from fusionlib.data.pairs import Pair, load
from fusionlib.utils.errors import FusionError
from fusionlib.visualization.style import DPI, PREDICTION, REGION, TRUTH, array_of, pixels, subplots

_GAP, _CELL = 6, 200  # pixels: between cells, minimum width of a cell
_CORNER = 6  # columns up to which an enlarged region fits into a corner; with more, it goes below the image


def medical_example(pairs: Sequence[Pair]) -> Pair:
    """The pair to show: the one with the largest labelled tumour, or the middle one where none is labelled."""
    labelled = [pair for pair in pairs if pair.boxes is not None and len(pair.boxes)]
    if not labelled:
        return pairs[len(pairs) // 2]
    return max(labelled, key=lambda pair: float(np.prod(pair.boxes[0, 2:] - pair.boxes[0, :2])))


def medical_region(pair: Pair, share: float = 0.3) -> tuple[float, float, float, float]:
    """The region to enlarge, xyxy in pixels: around the labelled tumour, or where the second modality is brightest.

    FLAIR is bright at oedema, PET and SPECT at uptake, CT at bone and blood. `share` is as for `region_of`.
    """
    height, width = image_size(pair.ir)
    if pair.boxes is not None and len(pair.boxes):
        return region_of(torch.from_numpy(pair.boxes), (height, width), share)
    luma = split_luma(load(pair)[1])[0][0].numpy()
    mean = cv2.blur(luma, (round(share * width), round(share * height)), borderType=cv2.BORDER_CONSTANT)
    y, x = divmod(int(mean.argmax()), width)
    return region_of(torch.tensor([[x, y, x + 1.0, y + 1.0]]), (height, width), share)


def contact_sheet(rows: Sequence[Mapping[str, object]], boxes: Sequence | None = None,
                  predictions: Sequence[Mapping[str, object] | None] | None = None,
                  zoom: Sequence[tuple[float, float, float, float] | None] | None = None,
                  labels: Sequence[str] | None = None, min_score: float = 0.25, widest_sheet: int = 1900,
                  columns: int = 12) -> Figure:
    """Rows of images side by side, with a title over each column, legible when printed 180 mm wide.

    Args:
        rows: one {column title: image} per row; a missing cell stays blank.
        boxes: per row, the true boxes [N, 4] xyxy in pixels, drawn into every image of the row, or None.
        predictions: per row, {column title: [n, 5 or more] of xyxy and score}, or None.
        zoom: per row, a region xyxy in pixels that is framed and shown enlarged, with its boxes, or None: in a corner
            of the image, or, with more than six columns side by side, below it at the same width.
        labels: per row, a name at its left.
        min_score: predictions with a lower score are not drawn.
        widest_sheet: width in pixels that all columns together are reduced to, as long as each keeps 200.
        columns: maximum side by side; all rows with the next columns follow below. Six leave each image 29 mm.

    Raises:
        FusionError: no rows, lists of another length than rows, or a cell that is no image.
    """
    rows = [{name: pixels(image) for name, image in row.items()} for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names or columns < 1:
        raise FusionError("A contact sheet needs at least one row with an image, and one column: check both.")
    for name, values in (("boxes", boxes), ("predictions", predictions), ("zoom", zoom), ("labels", labels)):
        if values is not None and len(values) != len(rows):
            raise FusionError(f"There are {len(rows)} rows of images but {len(values)} {name}: give one per row.")
    boxes, predictions, zoom = (values or [None] * len(rows) for values in (boxes, predictions, zoom))

    blocks = [names[start:start + columns] for start in range(0, len(names), columns)]
    side_by_side, widest = len(blocks[0]), max(image.shape[1] for row in rows for image in row.values())
    # A pixel of the image covers a whole number of pixels of the sheet, as long as the row has room.
    width = max(_CELL, min(widest * math.ceil(_CELL / widest), widest_sheet // max(side_by_side, 2)))
    heights = [round(width * max((i.shape[0] / i.shape[1] for i in row.values()), default=0)) for row in rows]
    below = [round(width * _ratio(region, row)) if side_by_side > _CORNER else 0 for region, row in zip(zoom, rows)]
    size = max(9.0, 7 * (side_by_side * (width + _GAP) / DPI) / (180 / 25.4))  # at least 7 points at 180 mm
    line = round(1.3 * size * DPI / 72)  # whole pixels, so that images are not resampled
    titles = {name: _fit(name, width, size) for name in names}
    tops = [max(1 + titles[name][0].count("\n") for name in block) * line if any(block) else _GAP for block in blocks]
    sides = [_fit(label, sum(room), size) for label, *room in zip(labels or (), heights, below)]
    left = max((1 + text.count("\n") for text, _ in sides), default=0) * line + _GAP
    legend = _legend(boxes, predictions, min_score)
    bottom = line + _GAP if legend else _GAP
    total_width = left + side_by_side * (width + _GAP)
    total_height = sum(tops) + len(blocks) * (sum(heights) + sum(below) + _GAP * len(rows)) - _GAP + bottom
    figure = plt.figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)
    plt.close(figure)

    def write(x, y, text, size, va="center", **more):
        figure.text(x / total_width, 1 - y / total_height, text.replace("$", r"\$"), size=size, linespacing=1.1,
                    ha="center", va=va, **more)

    def place(x, y, height):
        return figure.add_axes((x / total_width, 1 - (y + height) / total_height,
                                width / total_width, height / total_height))

    thin = min(1, max(0.45, width / 640))  # line width in a small cell, where people are a few pixels wide
    y = 0
    for block, top in zip(blocks, tops):
        places = {name: left + column * (width + _GAP) for column, name in enumerate(block)}
        for name, x in places.items():
            write(x + width / 2, y + top - _GAP, *titles[name], va="baseline")
        y += top
        for index, (row, height) in enumerate(zip(rows, heights)):
            if labels:
                write(left / 2, y + (height + below[index]) / 2, *sides[index], rotation=90)
            for name in filter(row.__contains__, block):
                axes, region = place(places[name], y, height), zoom[index]
                axes.imshow(row[name], interpolation="nearest" if width >= row[name].shape[1] else "auto")
                axes.axis("off")
                panels = [(axes, thin)]
                if region is not None:
                    region = _inside(region, row[name])
                    _draw_boxes(axes, np.array([region]), REGION, 0.12 * size)
                    inset = place(places[name], y + height, below[index]) if below[index] else None
                    panels.append((_enlarge(axes, row[name], region, width, inset), 1.0 if inset else thin))
                for panel, thickness in panels:
                    if boxes[index] is not None:  # wider, to be seen under a prediction
                        _draw_boxes(panel, array_of(boxes[index]), TRUTH, 2.2 * thickness)
                    if name in (predictions[index] or {}):
                        text = 0 if panel is axes and below[index] else 0.6 * size  # size of the scores in points
                        _draw_predictions(panel, array_of(predictions[index][name]), min_score, 1.4 * thickness, text)
            y += height + below[index] + _GAP
    if legend:
        figure.legend(handles=legend, loc="center", ncols=len(legend), fontsize=size,
                      bbox_to_anchor=(0.5, bottom / 2 / total_height))
    return figure


def detections(image, truth, predictions, min_score: float = 0.25) -> Figure:
    """One image with its true boxes [N, 4] (None: unlabelled) and predictions [n, 5 or more] of xyxy and score."""
    return contact_sheet([{"": image}], [truth], [{"": predictions}], min_score=min_score)


def answers(images: Sequence, texts: Sequence[str], title: str) -> Figure:
    """Images, each beside the answer about it as plain text, under a title, as in the paper's figure 3."""
    size = 9, 2.3 * len(texts) + 0.5
    figure, panels = subplots(len(texts), 2, figsize=size, squeeze=False, width_ratios=[1, 1.6])
    for (left, right), image, text in zip(panels, images, texts):
        left.imshow(pixels(image))
        right.text(0, 0.5, textwrap.fill(text, 62).replace("$", r"\$"), va="center", size=10)
        left.axis("off")
        right.axis("off")
    figure.suptitle(textwrap.fill(title, 100), size=10)
    return figure


def region_of(boxes: Tensor, size: tuple[int, int], share: float = 0.3) -> tuple[float, float, float, float]:
    """The region to enlarge: around the tallest of boxes [N, 4], or in the middle without any; xyxy in pixels.

    Args:
        size: (H, W) of the image.
        share: width and height of the region as a share of the image's.
    """
    height, width = share * size[0], share * size[1]
    x1, y1, x2, y2 = boxes[(boxes[:, 3] - boxes[:, 1]).argmax()].tolist() if len(boxes) else (0, 0, *size[::-1])
    left = min(max((x1 + x2 - width) / 2, 0), size[1] - width)
    top = min(max((y1 + y2 - height) / 2, 0), size[0] - height)
    return left, top, left + width, top + height


def _fit(text, room, size):
    """Wrap a text into up to four lines of at most `room` pixels; returns it and the size at which all lines fit."""
    def width(text):
        return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0] * DPI / 72

    text = "\n".join(textwrap.wrap(text, max(1, int(room / width("n"))), break_long_words=False,
                                   break_on_hyphens=False, max_lines=4))
    widest = max(map(width, text.split("\n")))
    return text, size * min(1, room / widest) if widest else size


def _draw_boxes(axes, boxes, colour, width):
    for x1, y1, x2, y2 in boxes.reshape(-1, 4):
        axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width))


def _draw_predictions(axes, predictions, min_score, width, size):
    predictions = predictions[predictions[:, 4] >= min_score]
    _draw_boxes(axes, predictions[:, :4], PREDICTION, width)
    for x1, y1, _, _, score in predictions[:, :5] if size else ():
        axes.text(x1, y1, f"{score:.2f}".removeprefix("0"), color="white", size=size, va="bottom", clip_on=True,
                  bbox={"facecolor": PREDICTION, "edgecolor": "none", "pad": 0.8})


def _legend(boxes, predictions, min_score):
    truth = Line2D([], [], color=TRUTH, linewidth=2.2, label="truth")
    prediction = Line2D([], [], color=PREDICTION, linewidth=1.4, label=f"prediction (score ≥ {min_score:g})")
    return [truth] * any(each is not None for each in boxes) + [prediction] * any(predictions)


def _ratio(region, row):
    """Height / width of a region in the images of a row; 0 without a region."""
    if region is None or not row:
        return 0
    x1, y1, x2, y2 = _inside(region, next(iter(row.values())))
    return (y2 - y1) / (x2 - x1)


def _inside(region, image):
    """Round a region to pixels of the image and clip it; FusionError where nothing is left."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.clip([round(float(v)) for v in region], 0, [width, height] * 2).tolist()
    if x1 >= x2 or y1 >= y2:
        raise FusionError(f"The region {tuple(map(float, region))} lies outside the image of {width}x{height} pixels: "
                          "give x1, y1, x2, y2 inside it.")
    return x1, y1, x2, y2


def _enlarge(axes, image, region, width, inset):
    """Show a region in the axes `inset`, or without them in the lower corner of the image that is farther from it."""
    x1, y1, x2, y2 = region
    share = 1
    if inset is None:
        height = image.shape[0] / image.shape[1]
        share = min(0.42, 0.6 * height * (x2 - x1) / (y2 - y1))  # of the cell's width
        tall = share * (y2 - y1) / (x2 - x1) / height
        inset = axes.inset_axes([0 if x1 + x2 > image.shape[1] else 1 - share, 0, share, tall])
    inset.imshow(image[y1:y2, x1:x2], interpolation="nearest" if share * width >= x2 - x1 else "auto", aspect="auto",
                extent=(x1 - 0.5, x2 - 0.5, y2 - 0.5, y1 - 0.5))
    inset.set(xticks=[], yticks=[])
    inset.spines[:].set(color=REGION, linewidth=1.6, visible=True)
    return inset
