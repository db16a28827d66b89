"""Images side by side: sources, fused images, boxes, enlarged regions and answers."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path
from torch import Tensor

from fusionlib.data.color import split_luma
from fusionlib.data.image_io import image_size
from fusionlib.data.pairs import Pair, load
from fusionlib.utils.errors import FusionError
from fusionlib.visualization.style import DPI, PREDICTION, REGION, TRUTH, array_of, legible, pixels, subplots

_GAP, _CELL = 6, 200  # pixels: between cells, minimum width of a cell
_OUTLINE = "#A03C00"  # of scores, as in the viewer
_SMALL = 300  # pixels: width of a cell from which on scores are written beside boxes


def medical_example(pairs: Sequence[Pair]) -> Pair:
    """The pair to show: the one with the largest labelled tumour, or the middle one where none is labelled."""
    labelled = [pair for pair in pairs if pair.boxes is not None and len(pair.boxes)]
    if not labelled:
        return pairs[len(pairs) // 2]
    return max(labelled, key=lambda pair: float(np.prod(pair.boxes[0, 2:] - pair.boxes[0, :2])))


def medical_region(pair: Pair, share: float = 0.25) -> tuple[float, float, float, float]:
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
                  columns: int = 12, bar: tuple[ScalarMappable, str] | None = None) -> Figure:
    """Rows of images side by side, with a title over each column, legible when printed 180 mm wide.

    Args:
        rows: one {column title: image} per row; a missing cell stays blank.
        boxes: per row, the true boxes [N, 4] xyxy in pixels, drawn into every image of the row, or None.
        predictions: per row, {column title: [n, 5 or more] of xyxy and score}, or None.
        zoom: per row, a region xyxy in pixels that is framed, and shown below the image as wide as it, or None.
        labels: per row, a name at its left.
        min_score: predictions with a lower score are not drawn.
        widest_sheet: width in pixels that all columns together are reduced to, as long as each keeps 200.
        columns: maximum side by side; all rows with the next columns follow below. Six leave each image 29 mm.
        bar: a colour scale and its label with the unit, drawn at the bottom, as `with_differences` returns it.

    Scores are written where they are legible: in the enlarged region, or else in images of 300 pixels and more, and
    where no higher score is.

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
    below = [round(width * _ratio(region, row)) for region, row in zip(zoom, rows)]
    size = max(9.0, legible(side_by_side * (width + _GAP) / DPI))
    line = round(1.3 * size * DPI / 72)  # whole pixels, so that images are not resampled
    titles = {name: _fit(name, width - _GAP, size) for name in names}
    tops = [max(1 + titles[name][0].count("\n") for name in block) * line if any(block) else _GAP for block in blocks]
    sides = [_fit(label, sum(room) - 2 * _GAP, size) for label, *room in zip(labels or (), heights, below)]
    left = max((1 + text.count("\n") for text, _ in sides), default=0) * line + _GAP
    legend = _legend(boxes, predictions, min_score)
    bottom = _GAP + (line if legend else 0) + (3 * line if bar else 0)
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
                panels = [(axes, thin, 0 if region is not None or width < _SMALL else 0.6 * size)]
                if region is not None:
                    region = _inside(region, row[name])
                    _draw_boxes(axes, np.array([region]), REGION, 0.12 * size)
                    part = place(places[name], y + height, below[index])
                    _enlarge(part, row[name], region, width)
                    panels.append((part, 1.0, 0.6 * size))
                for panel, thickness, text in panels:
                    if boxes[index] is not None:  # wider, to be seen under a prediction
                        _draw_boxes(panel, array_of(boxes[index]), TRUTH, 2.2 * thickness)
                    if name in (predictions[index] or {}):
                        _draw_predictions(panel, array_of(predictions[index][name]), min_score, 1.4 * thickness, text)
            y += height + below[index] + _GAP
    if legend:
        figure.legend(handles=legend, loc="center", ncols=len(legend), fontsize=size,
                      bbox_to_anchor=(0.5, (_GAP + line) / 2 / total_height))
    if bar:
        top = bottom - _GAP
        axes = figure.add_axes((0.3, (top - 0.5 * line) / total_height, 0.4, 0.5 * line / total_height))
        figure.colorbar(bar[0], axes, orientation="horizontal").set_label(bar[1], size=size)
        axes.tick_params(labelsize=0.9 * size)
    return figure


def detections(image, truth, predictions, min_score: float = 0.25) -> Figure:
    """One image with its true boxes [N, 4] (None: unlabelled) and predictions [n, 5 or more] of xyxy and score."""
    return contact_sheet([{"": image}], [truth], [{"": predictions}], min_score=min_score)


def answers(images: Sequence, texts: Sequence[str], title: str) -> Figure:
    """Images, three in a row, each over the answer about it as plain text, under a title (paper, figure 3)."""
    columns, wide = min(3, len(texts)), 9.6 / min(3, len(texts))  # inches
    texts = [textwrap.fill(text, round(13.5 * wide)).replace("$", r"\$") for text in texts]
    title = textwrap.fill(title, 110).replace("$", r"\$")
    images = [pixels(image) for image in images]
    rows = [slice(start, start + columns) for start in range(0, len(texts), columns)]
    tall = [max(image.shape[0] / image.shape[1] for image in images[row]) * wide for row in rows]
    lines = [max(text.count("\n") + 1 for text in texts[row]) for row in rows]
    heights = [each for picture, count in zip(tall, lines) for each in (picture, 0.165 * count + 0.1)]
    figure, panels = subplots(2 * len(rows), columns, figsize=(9.6, sum(heights) + 0.2 * title.count("\n") + 0.35),
                              squeeze=False, height_ratios=heights)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.02, wspace=0, hspace=0)
    for axes in panels.flat:
        axes.axis("off")
    for number, (image, text) in enumerate(zip(images, texts)):
        row, column = divmod(number, columns)
        panels[2 * row, column].imshow(image)
        panels[2 * row + 1, column].text(0, 1, text, va="top", size=9.5, linespacing=1.2).set_in_layout(False)
    figure.suptitle(title, size=10.5, x=0.005, ha="left")
    return figure


def region_of(boxes: Tensor, size: tuple[int, int], share: float = 0.25) -> tuple[float, float, float, float]:
    """The region to enlarge: around the tallest of boxes [N, 4], or in the middle without any; xyxy in pixels.

    Boxes that the image's edge cuts off come after all others.

    Args:
        size: (H, W) of the image.
        share: width and height of the region as a share of the image's: a quarter is shown at four times its size. It
            is larger where the box would not fit in with a tenth of its height above and below.
    """
    x1, y1, x2, y2 = 0, 0, *size[::-1]
    if len(boxes):
        whole = (boxes[:, :2] > 1).all(1) & (boxes[:, 2] < size[1] - 1) & (boxes[:, 3] < size[0] - 1)
        x1, y1, x2, y2 = boxes[(boxes[:, 3] - boxes[:, 1] + max(size) * whole).argmax()].tolist()
        share = min(1, max(share, 1.2 * (y2 - y1) / size[0], 1.2 * (x2 - x1) / size[1]))
    height, width = share * size[0], share * size[1]
    left = min(max((x1 + x2 - width) / 2, 0), size[1] - width)
    top = min(max((y1 + y2 - height) / 2, 0), size[0] - height)
    return left, top, left + width, top + height


def _fit(text, room, size):
    """Wrap a text into up to four lines of at most `room` pixels; returns it and the size at which all lines fit."""
    def width(text):
        return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0] * DPI / 72

    if width(text) > 1.1 * room:  # else a little smaller on one line
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
    left, right, bottom, top = *axes.get_xlim(), *axes.get_ylim()
    line = size / 72 * DPI * (bottom - top) / axes.get_window_extent().height  # height of a score in the image's pixels
    taken = []
    for x1, y1, x2, y2, score in sorted(map(tuple, predictions[:, :5]), key=lambda each: -each[4]) if size else ():
        if not (left < (x1 + x2) / 2 < right and top < (y1 + y2) / 2 < bottom):
            continue
        x = max(x1, left)  # over the box, or below it where a higher score is in the way, or nowhere
        places = [(x, y) for y in (max(y1, top + 1.2 * line), min(y2 + 1.4 * line, bottom))
                  if all(abs(x - a) > 2 * line or abs(y - b) > line for a, b in taken)]
        if places:
            taken.append(places[0])
            axes.text(*places[0], f"{score:.2f}".removeprefix("0"), color="white",
                      size=size, va="bottom", weight="bold", clip_on=True,  # outlined: a filled tag would hide people
                      path_effects=[withStroke(linewidth=size / 4, foreground=_OUTLINE)])


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


def _enlarge(axes, image, region, width):
    """Show a region of an image in axes of `width` pixels."""
    x1, y1, x2, y2 = region
    axes.imshow(image[y1:y2, x1:x2], interpolation="nearest" if width >= x2 - x1 else "auto", aspect="auto",
                extent=(x1 - 0.5, x2 - 0.5, y2 - 0.5, y1 - 0.5))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=REGION, linewidth=1.6, visible=True)
