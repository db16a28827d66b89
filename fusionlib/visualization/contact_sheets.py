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
from fusionlib.visualization.style import DPI, PREDICTION, REGION, TRUTH, array_of, pixels, text_size


def medical_example(pairs: Sequence[Pair]) -> Pair:
    """The pair worth showing: the one with the largest marked tumour, or the middle one where none is marked."""
    marked = [pair for pair in pairs if pair.boxes is not None and len(pair.boxes)]
    if not marked:
        return pairs[len(pairs) // 2]
    return max(marked, key=lambda pair: float(np.prod(pair.boxes[0, 2:] - pair.boxes[0, :2])))


def medical_region(pair: Pair, share: float = 0.3) -> tuple[float, float, float, float]:
    """What to enlarge: around the marked tumour, or where the second modality is brightest; xyxy in pixels.

    Bright is where FLAIR has swelling and liquid bound in tissue, PET and SPECT have uptake, and CT has bone or blood.

    Args:
        pair: a medical pair.
        share: width and height of the region as a share of the image's.
    """
    height, width = image_size(pair.ir)
    if pair.boxes is not None and len(pair.boxes):
        return region_of(torch.from_numpy(pair.boxes), (height, width), share)
    luma = split_luma(load(pair)[1])[0][0].numpy()
    mean = cv2.blur(luma, (round(share * width), round(share * height)), borderType=cv2.BORDER_CONSTANT)
    y, x = divmod(int(mean.argmax()), width)
    return region_of(torch.tensor([[x, y, x + 1.0, y + 1.0]]), (height, width), share)


_GAP, _CELL = 6, 200  # pixels: between cells, least cell width
_CORNER = 6  # columns in which an enlarged region still has room in a corner; with more, it goes below the image


def contact_sheet(rows: Sequence[Mapping[str, object]], boxes: Sequence | None = None,
                  predictions: Sequence[Mapping[str, object] | None] | None = None,
                  zoom: Sequence[tuple[float, float, float, float] | None] | None = None,
                  labels: Sequence[str] | None = None, min_score: float = 0.25, widest_sheet: int = 1900,
                  columns: int = 12) -> Figure:
    """Rows of images side by side, with a title over each column, legible when printed at a width of 180 mm.

    Args:
        rows: one {column title: image} per row; a cell that a row lacks stays blank.
        boxes: per row, the true boxes [N, 4] xyxy in pixels, drawn into every image of the row, or None.
        predictions: per row, {column title: [n, 5 or more] of xyxy and score}, or None.
        zoom: per row, a region xyxy in pixels that is framed and shown enlarged, with its boxes, or None: in a corner
            of the image, or, with more than six columns side by side, below it and as wide.
        labels: per row, a name at its left.
        min_score: predictions with a lower score are not drawn.
        widest_sheet: width in pixels that all columns together are reduced to, as long as each keeps 200.
        columns: so many are side by side; all rows with the next columns follow below. Six leave each image 29 mm.

    Raises:
        FusionError: no rows, lists of another length than rows, or something that is no image.
    """
    rows = [{name: pixels(image) for name, image in row.items()} for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names or columns < 1:
        raise FusionError("A contact sheet needs at least one row with an image, and one column: check that any pairs "
                          "were read.")
    for what, given in (("boxes", boxes), ("predictions", predictions), ("zoom", zoom), ("labels", labels)):
        if given is not None and len(given) != len(rows):
            raise FusionError(f"There are {len(rows)} rows of images but {len(given)} {what}: give one per row.")
    boxes, predictions, zoom = (given or [None] * len(rows) for given in (boxes, predictions, zoom))

    blocks = [names[start:start + columns] for start in range(0, len(names), columns)]
    side_by_side, widest = len(blocks[0]), max(image.shape[1] for row in rows for image in row.values())
    # One pixel of the image is one of the sheet, or a whole number of them, as long as the row has room.
    width = max(_CELL, min(widest * math.ceil(_CELL / widest), widest_sheet // max(side_by_side, 2)))
    heights = [round(width * max((i.shape[0] / i.shape[1] for i in row.values()), default=0)) for row in rows]
    below = [0] * len(rows)  # heights of the enlarged regions
    if side_by_side > _CORNER:
        below = [round(width * _ratio(region, row)) for region, row in zip(zoom, rows)]
    size = text_size(side_by_side * (width + _GAP) / DPI)
    line = round(1.3 * size * DPI / 72)  # pixels, whole ones, as the images shall lie on them
    titles = {name: _fit(name, width, size) for name in names}
    tops = [max(1 + titles[name][0].count("\n") for name in block) * line if any(block) else _GAP for block in blocks]
    sides = [_fit(label, sum(room), size) for label, *room in zip(labels or (), heights, below)]
    left = max((1 + text.count("\n") for text, _ in sides), default=0) * line + _GAP
    legend = _legend(boxes, predictions, min_score)
    bottom = line + _GAP if legend else _GAP
    total_width = left + side_by_side * (width + _GAP)
    total_height = sum(tops) + len(blocks) * (sum(heights) + sum(below) + _GAP * len(rows)) - _GAP + bottom
    figure = plt.figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)
    plt.close(figure)  # the notebook shows what a cell returns, not what pyplot holds

    def write(x, y, text, size, va="center", **more):
        figure.text(x / total_width, 1 - y / total_height, text.replace("$", r"\$"), size=size, linespacing=1.1,
                    ha="center", va=va, **more)

    def place(x, y, height):
        return figure.add_axes([x / total_width, 1 - (y + height) / total_height, width / total_width,
                                height / total_height])

    thin = min(1, max(0.45, width / 640))  # a small cell needs thin lines: people in it are a few pixels wide
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
                    part = place(places[name], y + height, below[index]) if below[index] else None
                    panels.append((_enlarge(axes, row[name], region, width, part), 1.0 if part else thin))
                for panel, thick in panels:
                    if boxes[index] is not None:  # wider, to be seen under a prediction
                        _draw_boxes(panel, array_of(boxes[index]), TRUTH, 2.2 * thick)
                    if name in (predictions[index] or {}):
                        text = 0 if panel is axes and below[index] else 0.6 * size  # points of the scores
                        _draw_predictions(panel, array_of(predictions[index][name]), min_score, 1.4 * thick, text)
            y += height + below[index] + _GAP
    if legend:
        figure.legend(handles=legend, loc="center", ncols=len(legend), fontsize=size,
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


def _fit(text, room, size):
    """A text in up to four lines of at most `room` pixels, and the size at which its longest word fits."""
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
    shown = []
    if boxes is not None and any(given is not None for given in boxes):
        shown.append(Line2D([], [], color=TRUTH, linewidth=2.2, label="truth"))
    if predictions is not None and any(predictions):
        shown.append(Line2D([], [], color=PREDICTION, linewidth=1.4, label=f"prediction (score ≥ {min_score:g})"))
    return shown


def _ratio(region, row):
    """Height over width of a region in the images of a row; 0 without one."""
    if region is None or not row:
        return 0
    x1, y1, x2, y2 = _inside(region, next(iter(row.values())))
    return (y2 - y1) / (x2 - x1)


def _inside(region, image):
    """A region in whole pixels of the image."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (round(float(v)) for v in region)
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if x1 >= x2 or y1 >= y2:
        raise FusionError(f"The region {tuple(map(float, region))} lies outside the image of {width}x{height} pixels: "
                          "give x1, y1, x2, y2 inside it.")
    return x1, y1, x2, y2


def _enlarge(axes, image, region, width, part):
    """Show a region in the axes `part`, or in the image's lower corner that is farther from it."""
    x1, y1, x2, y2 = region
    share = 1
    if part is None:
        height = image.shape[0] / image.shape[1]
        share = min(0.42, 0.6 * height * (x2 - x1) / (y2 - y1))  # of the cell's width
        tall = share * (y2 - y1) / (x2 - x1) / height
        part = axes.inset_axes([0 if x1 + x2 > image.shape[1] else 1 - share, 0, share, tall])
    part.imshow(image[y1:y2, x1:x2], interpolation="nearest" if share * width >= x2 - x1 else "auto", aspect="auto",
                extent=(x1 - 0.5, x2 - 0.5, y2 - 0.5, y1 - 0.5))
    part.set(xticks=[], yticks=[])
    part.spines[:].set(color=REGION, linewidth=1.6, visible=True)
    return part
