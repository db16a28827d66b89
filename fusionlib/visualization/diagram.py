"""Block diagram of the method, after figures 2 and 4 of the paper, in our own drawing."""

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from fusionlib.visualization.style import subplots

TRAINED, FROZEN, DATA, OURS = "trained", "frozen", "data", "open in the paper, our choice"
_FILL = {TRAINED: "#BFE0F5", FROZEN: "#DDDDDD", DATA: "#FFFFFF", OURS: "#F9E2B8"}
_INK = "#333333"
_TALL = 5.4  # height of a block; the page is 100 wide

#: {title: y of the upper and of the lower edge of its frame}.
_PARTS = {"Stage 1: the fusion network": (75, 56.2), "Feedback": (55, 45.2),
          "Stage 2: Text-DFH behind the encoders of stage 1": (44, 22.8), "Inside Text-DFH": (21.6, 2.6)}  # fmt: skip

#: {block: (x and y of the centre, width, text, kind)}.
_BLOCKS = {
    "ir1": (8, 69, 11, "infrared", DATA), "vi1": (8, 60, 11, "visible luma", DATA),
    "e_ir1": (26, 69, 13, "IR-Encoder", TRAINED), "e_vi1": (26, 60, 13, "VI-Encoder", TRAINED),
    "d1": (47, 64.5, 13, "F-Decoder", TRAINED), "f1": (69, 64.5, 14, "fused image", DATA),
    "l1": (90, 64.5, 16, "fusion loss, against\nboth sources", DATA),

    "q": (15, 49, 25, "“To improve …, how can the\nquality of this image be enhanced?”", DATA),
    "mllm": (41, 49, 12, "language\nmodel", FROZEN), "answer": (58, 49, 10, "answer", DATA),
    "states": (74, 49, 10, "features of\nits tokens", FROZEN), "t": (91, 49, 13, "text T\n[B, L, D]", DATA),

    "ir2": (8, 36, 11, "infrared", DATA), "vi2": (8, 27, 11, "visible luma", DATA),
    "e_ir2": (23, 36, 12, "IR-Encoder", FROZEN), "e_vi2": (23, 27, 12, "VI-Encoder", FROZEN),
    "h_ir": (40.5, 36, 12, "Text-DFH", TRAINED), "h_vi": (40.5, 27, 12, "Text-DFH", TRAINED),
    "d2": (57, 31.5, 11, "F-Decoder", FROZEN), "f2": (71.5, 31.5, 12, "refined image,\nwith Cb and Cr", DATA),
    "yolo": (83.5, 31.5, 8, "YOLOv5", FROZEN), "l2": (94.5, 31.5, 8.5, "detection\nloss", DATA),

    "f": (9.5, 15, 16, "image features F\n[B, HW, C]", DATA), "w": (9.5, 6.5, 16, "words W = T·E\n[B, L, C]", DATA),
    "ca1": (35.5, 15, 18, "CA1: pixels ask words\n[B, HW, C]", TRAINED),
    "ca2": (35.5, 6.5, 18, "CA2: words ask pixels\n[B, L, C]", TRAINED),
    "grid": (56, 6.5, 14, "back to the grid\n[B, HW, C]", OURS),
    "join": (71, 15, 11, "concatenate\n[B, 2C, H, W]", DATA), "layers": (84, 15, 9, "3 feature\nlayers", TRAINED),
    "sum": (95, 15, 7, "+ F", OURS),
}  # fmt: skip

#: (from, to) and the corners on the way; without any, a way between different heights bends in its middle.
_ARROWS = (
    ("ir1", "e_ir1"), ("vi1", "e_vi1"), ("e_ir1", "d1"), ("e_vi1", "d1"), ("d1", "f1"), ("f1", "l1"),
    ("f1", "mllm", (69, 53.2), (41, 53.2)), ("q", "mllm"), ("mllm", "answer"), ("answer", "states"), ("states", "t"),
    ("ir2", "e_ir2"), ("vi2", "e_vi2"), ("e_ir2", "h_ir"), ("e_vi2", "h_vi"), ("h_ir", "d2"), ("h_vi", "d2"),
    ("t", "h_ir", (91, 41), (31.5, 41), (31.5, 31.5), (40.5, 31.5)), ("t", "h_vi", (91, 41), (31.5, 41), (31.5, 31.5),
                                                                      (40.5, 31.5)),
    ("d2", "f2"), ("f2", "yolo"), ("yolo", "l2"), ("f", "ca1"), ("w", "ca2"), ("f", "ca2", (19.7, 15), (19.7, 7.8)),
    ("w", "ca1", (18.5, 6.5), (18.5, 13.7)), ("ca1", "join"), ("ca2", "grid"), ("grid", "join", (71, 6.5)),
    ("join", "layers"), ("layers", "sum"),
)  # fmt: skip
_ROLES = ((25.8, 16, "query"), (25.8, 12.6, "key, value"), (25.8, 8.9, "key, value"), (25.8, 5.5, "query"))


def method_diagram() -> Figure:
    """Draw the method: stage 1, the feedback, stage 2, and the inside of Text-DFH with the shapes of its tensors.

    B images, C channels of the features, H and W their height and width, L tokens of the answer, D numbers a token.
    Fills tell trained parts, frozen parts, data, and what the paper leaves open.
    """
    figure, axes = subplots(figsize=(10, 7.4))
    axes.set(xlim=(0, 100), ylim=(2, 75.5))
    axes.axis("off")
    for title, (upper, lower) in _PARTS.items():
        axes.add_patch(Rectangle((0.2, lower), 99.6, upper - lower, facecolor="#FAFAFA", edgecolor="#CCCCCC", zorder=0))
        axes.text(1, upper - 0.6, title, size=9.5, weight="bold", color=_INK, va="top")
    for source, target, *corners in _ARROWS:
        _draw_arrow(axes, _BLOCKS[source][:3], _BLOCKS[target][:3], corners)
    for x, y, width, text, kind in _BLOCKS.values():
        axes.add_patch(_block(x, y, width, kind))
        axes.text(x, y, text, size=8.5, ha="center", va="center", linespacing=1.2)
    for x, y, role in _ROLES:  # of what both branches are given
        axes.text(x, y, role, size=7, color=_INK, ha="right", va="center")
    figure.legend(handles=[FancyBboxPatch((0, 0), 1, 1, facecolor=fill, edgecolor=_INK, linewidth=0.8, label=kind)
                           for kind, fill in _FILL.items()], loc="outside lower center", ncols=len(_FILL))
    return figure


def _block(x, y, width, kind):
    return FancyBboxPatch((x - width / 2, y - _TALL / 2), width, _TALL, facecolor=_FILL[kind], edgecolor=_INK,
                          linewidth=0.8, boxstyle="round,pad=0,rounding_size=0.8", zorder=2)


def _draw_arrow(axes, source, target, corners):
    if not corners and source[1] != target[1]:
        middle = (source[0] + source[2] / 2 + target[0] - target[2] / 2) / 2
        corners = [(middle, source[1]), (middle, target[1])]
    way = [_edge(source, (corners or [target])[0]), *corners, _edge(target, (corners or [source])[-1])]
    axes.plot(*zip(*way), color=_INK, linewidth=0.9, zorder=1)
    axes.annotate("", way[-1], way[-2], arrowprops={"arrowstyle": "-|>", "color": _INK, "linewidth": 0.9,
                                                    "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9})


def _edge(block, point):
    """Where the way from a block's centre to a point, which lies beside, above or below it, leaves the block."""
    x, y, width = block
    if x == point[0]:
        return x, y + (_TALL if point[1] > y else -_TALL) / 2
    return x + (width if point[0] > x else -width) / 2, point[1]
