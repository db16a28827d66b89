"""Charts: curves, attention maps, responses to instructions, damages found, trade-offs, miss rates, heights of people.

seaborn, which takes a second to import, is imported by the functions that draw with it.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from fusionlib.utils.errors import FusionError
from fusionlib.visualization.style import COLOURS, LUMA, array_of, pixels, subplots
from fusionlib.visualization.tables import higher_is_better as better_upward


def curves(table: str | Path | pd.DataFrame, columns: Sequence[str], log: bool = False) -> Figure:
    """Training curves: one panel per column, over "epoch" or "step".

    Args:
        table: a csv file or a frame. A column "validation <name>" is drawn with its column, dashed.
        columns: names of columns. Long curves are drawn light, under their running mean over a twentieth of the length.
        log: logarithmic axis of values.

    Raises:
        FusionError: a column that the table does not have.
    """
    frame = table if isinstance(table, pd.DataFrame) else pd.read_csv(table)
    _check_columns(frame, columns)
    steps = next((name for name in ("epoch", "step") if name in frame), None)
    x, window = frame[steps] if steps else frame.index, len(frame) // 20
    both = any(f"validation {name}" in frame for name in columns)
    figure, panels = subplots(1, len(columns), figsize=((1.4 if both else 0.4) + 3 * len(columns), 2.5), squeeze=False)
    for axes, name in zip(panels[0], columns):
        drawn = [(name, "training", COLOURS[0], "-"), (f"validation {name}", "validation", COLOURS[1], "--")]
        drawn = [line for line in drawn if line[0] in frame]
        for column, label, colour, dashes in drawn:
            if window > 1:
                axes.plot(x, frame[column], color=colour, alpha=0.3, linewidth=0.8)
            smooth = frame[column].rolling(max(window, 1), min_periods=1, center=True).mean()
            axes.plot(x, smooth, dashes, color=colour, label=label, marker="." if len(frame) < 20 else None)
        axes.set(title=name, xlabel=steps or "step", yscale="log" if log else "linear")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if log:
            _plain_log(axes.yaxis)
        if len(drawn) > 1:
            legend = axes.get_legend_handles_labels()
    panels[0, 0].set_ylabel("loss")
    if both:
        figure.legend(*legend, loc="outside right upper")
    return figure


def seeds(table: pd.DataFrame, columns: Sequence[str], label: str) -> Figure:
    """Training curves of several experiments: one panel per column, the mean over seeds in a band from least to most.

    Args:
        table: one row per experiment, seed and epoch, with "epoch", the columns and the label.
        columns: as for `curves`, which says what is raised.
        label: the column that names the experiment.
    """
    import seaborn as sns

    _check_columns(table, [label, *columns])
    figure, panels = subplots(1, len(columns), figsize=(1.6 + 3 * len(columns), 2.8), squeeze=False)
    for axes, name in zip(panels[0], columns):
        sns.lineplot(table, x="epoch", y=name, hue=label, style=label, markers=bool(table["epoch"].max() < 20),
                     dashes=False, palette=sns.color_palette("colorblind", table[label].nunique()),
                     errorbar=("pi", 100), ax=axes)
        axes.set(title=name, ylabel="")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        lines, names = axes.get_legend_handles_labels()
        axes.get_legend().remove()
    figure.legend(lines, names, title=label, loc="outside right upper")
    return figure


def attention(image, maps, words: Sequence[str], average=None) -> Figure:
    """Attention maps of words over the image, in one colour scale.

    Args:
        image: an image, shown first, and in gray under the maps.
        maps: attention weights [L, h, w] of any size, each of sum 1, resized to the image by bilinear interpolation.
            They are shown as multiples of the weight that each pixel would have if the word looked everywhere alike.
        words: L names.
        average: map [h, w] of the average word; with it, differences to it are shown.

    Raises:
        FusionError: the numbers of words and maps differ, or are 0.
    """
    image, maps = pixels(image), array_of(maps)
    if maps.ndim != 3 or len(maps) != len(words) or not len(words):
        raise FusionError(f"Attention needs one map [h, w] per word, but there are {len(words)} words and maps "
                          f"{maps.shape}: choose the maps of these words.")
    maps = maps * maps[0].size
    low, high, colours, label = maps.min(), maps.max(), "inferno", "attention (equal everywhere: 1)"
    if average is not None:
        maps = maps - array_of(average) * maps[0].size
        high = np.quantile(np.abs(maps), 0.995)  # the largest are single pixels, beside which all others are pale
        low, colours, label = -high, "PuOr_r", "attention (equal everywhere: 1),\ndifference to the average word"
    columns = min(4, len(words) + 1)
    lines = math.ceil((len(words) + 1) / columns)
    height, width = image.shape[:2]
    size = 0.8 + 2.6 * columns, lines * (2.6 * height / width + 0.3)
    figure, panels = subplots(lines, columns, figsize=size, squeeze=False)
    gray = pixels(0.4 + 0.4 * (image @ LUMA / 255))  # weak, so that the colours tell
    for axes in panels.flat:
        axes.axis("off")
    panels.flat[0].imshow(image)
    panels.flat[0].set_title("image")
    for axes, word, weights in zip(panels.flat[1:], words, maps):
        axes.imshow(gray)
        heat = axes.imshow(weights, cmap=colours, vmin=low, vmax=high, alpha=0.7,
                           interpolation="bilinear", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        axes.set_title(word)
    bar = figure.colorbar(heat, ax=panels, label=label, fraction=0.03, pad=0.01, aspect=15 * lines,
                          extend="neither" if average is None else "both")
    bar.solids.set_alpha(1)  # else the bar, on white, is paler than the maps
    return figure


def tradeoff(frame: pd.DataFrame, x: str, y: str, label: str,
             higher_is_better: Mapping[str, bool] | None = None) -> Figure:
    """Two measures against each other: a small point per run, a large one at the mean over the runs of a label.

    Args:
        frame: one row per run, such as one weight and one seed.
        x, y: columns of the measures; an arrow at each axis points to the better end.
        label: the column that groups the runs. Numbers are joined by a line in their order, dark to light.
        higher_is_better: directions of measures that the suite does not know (`tables.higher_is_better`).

    Raises:
        FusionError: a missing column, no run with both measures, or a measure of unknown direction.
    """
    import seaborn as sns

    _check_columns(frame, [x, y, label])
    frame = frame.dropna(subset=[x, y])
    if frame.empty:
        raise FusionError(f"No run has both {x} and {y}: measure at least one.")
    numbers = pd.api.types.is_numeric_dtype(frame[label])
    groups = list(frame.groupby(label, sort=numbers))
    colours = sns.color_palette("viridis", len(groups)) if numbers else COLOURS
    figure, axes = subplots(figsize=(5.4, 3.2))
    if numbers:
        axes.plot(*zip(*(runs[[x, y]].mean() for _, runs in groups)), color="#999999", linewidth=1, zorder=1)
    for index, (name, runs) in enumerate(groups):
        drawn = {"color": [colours[index % len(colours)]], "marker": "osD^vPX*"[index % 8]}
        axes.scatter(runs[x], runs[y], s=14, alpha=0.5, linewidths=0, zorder=2, **drawn)
        axes.scatter(runs[x].mean(), runs[y].mean(), s=50, edgecolors="white", zorder=3, **drawn,
                     label=f"{name:g}" if numbers else str(name).replace("$", r"\$"))
    up, right = (better_upward(name, higher_is_better) for name in (y, x))
    axes.set(xlabel=f"{x} (better {'→' if right else '←'})", ylabel=f"{y} (better {'→' if up else '←'})")
    axes.margins(0.1)
    axes.locator_params(nbins=5)  # labels of a narrow range are long, and would overlap
    figure.legend(title=f"{label}\n{len(frame)} runs", loc="outside right upper", title_fontsize=8)
    return figure


def instruction_responses(table: pd.DataFrame) -> Figure:
    """Response to instructions: the change in the property that each names, a point per image, the median as a bar.

    The table is that of `fusionlib.experiments.instruction_following.instruction_responses`.
    """
    import seaborn as sns

    names, wordings = (list(dict.fromkeys(table[column])) for column in ("instruction", "wording"))
    figure, axes = subplots(figsize=(7.4, 0.6 + 0.42 * len(names)))
    options = {"x": "change", "y": "instruction", "hue": "wording", "order": names, "hue_order": wordings,
               "palette": list(COLOURS[: len(wordings)]), "ax": axes}
    state = np.random.get_state()
    np.random.seed(0)  # of the jitter: the same figure is the same file
    sns.stripplot(table, **options, dodge=True, size=3, alpha=0.5, jitter=0.15)
    np.random.set_state(state)
    sns.pointplot(table, **options, dodge=0.4 if len(wordings) > 1 else False, errorbar=None, estimator="median",
                  linestyle="none", marker="|", markersize=14, legend=False)
    properties = table.groupby("instruction")["property"].first()
    axes.axvline(0, color="#666666", linewidth=0.8)
    axes.set_yticks(range(len(names)), [f"{name}\n({properties[name].replace('_', ' ')})" for name in names])
    axes.set(xlabel="change of the property in %, against stage 1", ylabel="")
    legend = axes.get_legend_handles_labels()
    axes.get_legend().remove()
    figure.legend(*legend, title="wording\n(bar: median)", loc="outside right upper")
    return figure


def confusion(table: pd.DataFrame) -> Figure:
    """What is found beside what is there: fractions of images as a heat map, a panel for each modality.

    The table is that of `fusionlib.experiments.damage_detection.confusion`; rows are the damages at their levels, the
    first those of undamaged images.
    """
    import seaborn as sns

    modalities = list(dict.fromkeys(table.index.get_level_values("modality")))
    found = table.drop(columns="estimate")
    height = 0.17 * len(found) + 1.4 * len(modalities)
    figure, panels = subplots(len(modalities), 1, figsize=(6.4, height), squeeze=False,
                              height_ratios=[len(found.loc[modality]) for modality in modalities])
    for axes, modality in zip(panels[:, 0], modalities):
        shares = found.loc[modality]
        shares = shares.loc[:, shares.any()]
        shares.index = [f"{damage} {level:g}" if level else damage for damage, level in shares.index]
        texts = shares.map(lambda share: f"{share:.2f}".rstrip("0").rstrip(".") if share else "")
        sns.heatmap(shares, ax=axes, vmin=0, vmax=1, cmap="Blues", annot=texts, fmt="", annot_kws={"fontsize": 6},
                    cbar=False, linewidths=0.3, linecolor="#DDDDDD")
        title = "infrared" if modality == "ir" else modality
        axes.set(title=f"{title}: what is there (rows), what is found (columns)", ylabel="")
        axes.tick_params(axis="both", labelsize=7)
        axes.tick_params(axis="x", rotation=40)
    images = f"{table.attrs['pairs']} images" if "pairs" in table.attrs else "images"
    figure.colorbar(axes.collections[0], ax=panels, label=f"fraction of {images} (0 is left blank)", aspect=40)
    return figure


def miss_rates(lines: Mapping[str, tuple], highlighted: str) -> Figure:
    """Miss rate over false positives per image, as steps over a logarithmic axis.

    Args:
        lines: {method: (false positives per image, miss rate), from `detection.miss_rate_curve`}.
        highlighted: the method with the thicker line.
    """
    figure, axes = subplots(figsize=(6.8, 3.4))
    for index, (name, (false_positives, missed)) in enumerate(lines.items()):
        axes.step(false_positives, missed, where="post", label=name, color=COLOURS[index % len(COLOURS)],
                  linestyle=("-", "--", ":")[index // len(COLOURS) % 3], linewidth=2.4 if name == highlighted else 1.2)
    axes.set(xscale="log", xlim=(0.01, 10), ylim=(0, 1), xlabel="false alarms per image",
             ylabel="fraction of people missed")
    axes.xaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside right upper")
    return figure


def height_histogram(heights: Mapping[str, Sequence[float]]) -> Figure:
    """Heights of people in pixels, {data set: heights}: the share of each data set's people over a logarithmic axis."""
    import seaborn as sns

    named = {f"{name} (n = {len(values)})": list(values) for name, values in heights.items()}
    frame = pd.DataFrame([(name, v) for name, values in named.items() for v in values], columns=["data set", "height"])
    figure, axes = subplots(figsize=(5.8, 2.6))
    if len(frame):
        colours = COLOURS if len(named) <= len(COLOURS) else sns.color_palette("husl", len(named))
        sns.histplot(frame, x="height", hue="data set", hue_order=list(named), palette=list(colours[: len(named)]),
                     bins=16, log_scale=True, stat="percent", common_norm=False, element="step", alpha=0.25, ax=axes)
        legend = axes.get_legend()
        legend.remove()
        figure.legend(legend.legend_handles, list(named), loc="outside right upper")
        _plain_log(axes.xaxis)
    axes.set(xlabel="height of a person in pixels", ylabel="people in %")
    return figure


def _check_columns(frame, names):
    if missing := [name for name in names if name not in frame]:
        raise FusionError(f"The table has no column {missing[0]!r}, only {', '.join(map(str, frame))}.")


def _plain_log(axis):
    """Label a logarithmic axis as 0.5, 1, 2, 5, 10 instead of powers of ten."""
    axis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter=NullFormatter())
