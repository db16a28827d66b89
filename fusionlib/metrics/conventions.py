"""The table of the metrics: what each number means under each convention of evaluation code.

Papers take their numbers from a few public packages that disagree in constants, normalisation and colour. A convention
here is one such package's rules. Where it lacks a metric, the definition is borrowed from where it is usual, with the
convention's own colour rule, and the table says so.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch

from fusionlib.metrics import activity, correlation, fidelity, gradient, information, perceptual, structural
from fusionlib.utils.errors import FusionError
from fusionlib.utils.frames import TextFrame

Function = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Convention:
    """Rules of one evaluation code: `colour` takes gray values [B, C, H, W] to what its metrics are computed on."""

    note: str
    colour: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Rule:
    """A metric under one convention: a function of (fused, ir, visible) [B, C, H, W] -> [B, C], and how to read it."""

    function: Function
    range: tuple[float, float]
    note: str
    min_size: int = 1  # pixels that each side of the image must have


@dataclass(frozen=True)
class Metric:
    """One metric: which direction is better, its source, and its rule under each convention."""

    higher_is_better: bool
    reference: str
    rules: Mapping[str, Rule]


def _gray(image, weights, rounding):
    if image.shape[1] == 1:
        return image
    return rounding(sum(weight * plane for weight, plane in zip(weights, image.split(1, 1))))


CONVENTIONS = {
    "vifb": Convention(
        "VIFB benchmark (Zhang et al., CVPR Workshops 2020); colour: mean over R, G, B, infrared replicated",
        lambda image: image),
    "tang": Convention(
        "Tang's Evaluation-for-Image-Fusion in MATLAB (2022); colour: rgb2gray, rounded half up",
        lambda image: _gray(image, (0.2989, 0.5870, 0.1140), lambda gray: (gray + 0.5).floor())),
    "cddfuse": Convention(
        "Evaluator of CDDFuse (Zhao et al., CVPR 2023); colour: OpenCV's gray, rounded half to even",
        lambda image: _gray(image, (0.299, 0.587, 0.114), torch.round)),
}


def _rules(shared: Rule | None = None, borrowed: Iterable[str] = (), **own: Rule) -> dict[str, Rule]:
    """A rule per convention: its own or the shared one; `borrowed` names conventions whose code lacks the metric."""
    rules = {name: own.get(name, shared) for name in CONVENTIONS}
    for name in borrowed:
        rules[name] = Rule(rules[name].function, rules[name].range, f"{rules[name].note} (borrowed: not in this code)",
                           rules[name].min_size)
    return rules


INF = math.inf
PER_PIXEL = partial(activity.average_gradient, per_pixel=True)
SF = activity.spatial_frequency

METRICS = {
    "Q_AB/F": Metric(True, "Xydeas and Petrović 2000", _rules(
        Rule(gradient.q_abf, (0, 1), "L = 1, angles not wrapped, equal strengths give the strength itself"))),
    "Q_CV": Metric(False, "Chen and Varshney 2007", _rules(
        Rule(perceptual.q_cv, (0, INF), "images stretched to 0..255, blocks of 16, alpha = 5"), ("tang", "cddfuse"))),
    "SSIM": Metric(True, "Wang et al. 2004", _rules(
        vifb=Rule(structural.ssim_sum, (-2, 2), "sum over both sources, Gaussian 11x11, dynamic range 255",
                  structural.WINDOW),
        tang=Rule(structural.ssim_mean, (-1, 1), "mean over both sources, Gaussian 11x11, dynamic range 1"),
        cddfuse=Rule(structural.ssim_uniform, (-2, 2), "sum over both sources, uniform 7x7, dynamic range 2",
                     structural.UNIFORM))),
    "AG": Metric(True, "Cui et al. 2015", _rules(
        Rule(activity.average_gradient, (0, INF), "divided by (H - 1)(W - 1)", 2),
        cddfuse=Rule(PER_PIXEL, (0, INF), "divided by H W", 2))),
    "SCD": Metric(True, "Aslantas and Bendes 2015", _rules(
        Rule(correlation.scd, (-2, 2), "sum over both sources"), ("vifb",))),
    "EN": Metric(True, "Roberts et al. 2008", _rules(Rule(information.entropy, (0, 8), "bits"))),
    "SD": Metric(True, "Rao 1997", _rules(Rule(activity.standard_deviation, (0, 127.5), "of the population"))),
    "SF": Metric(True, "Eskicioglu and Fisher 1995", _rules(
        Rule(SF, (0, INF), "means over the differences", 2),
        vifb=Rule(activity.spatial_frequency_of_planes, (0, INF), "sums over H W, colour planes side by side"))),
    "MI": Metric(True, "Qu et al. 2002", _rules(
        vifb=Rule(partial(information.mutual_information, stretched=True), (0, INF), "sum, nats, images stretched"),
        tang=Rule(partial(information.mutual_information, bits=True), (0, INF), "sum over both sources, bits"),
        cddfuse=Rule(information.mutual_information, (0, INF), "sum over both sources, nats"))),
    "VIF": Metric(True, "Sheikh and Bovik 2006", _rules(
        Rule(fidelity.vif_sum, (0, INF), "sum over both sources, pixel domain, 4 scales", fidelity.SMALLEST),
        ("vifb",))),
    "CC": Metric(True, "Deshmukh and Bhosale 2010", _rules(
        Rule(correlation.correlation_coefficient, (-1, 1), "mean over both sources"), ("vifb",))),
    "PSNR": Metric(True, "Jagalingam and Hegde 2015", _rules(
        vifb=Rule(fidelity.psnr_of_root_error, (-INF, INF), "peak 255, of VIFB's own MSE"),
        tang=Rule(fidelity.psnr_of_unit_error, (0, INF), "peak 255, error of images 0..1: 48.13 dB too high"),
        cddfuse=Rule(fidelity.psnr_of_maximum, (-INF, INF), "peak is the fused image's maximum"))),
    "MSE": Metric(False, "Jagalingam and Hegde 2015", _rules(
        vifb=Rule(fidelity.root_error_over_pixels, (0, INF), "root of the summed squares over H W, printed as RMSE"),
        tang=Rule(partial(fidelity.mean_squared_error, peak=1), (0, 1), "mean over both sources, images 0..1"),
        cddfuse=Rule(fidelity.mean_squared_error, (0, 255**2), "mean over both sources, images 0..255"))),
    "N_AB/F": Metric(False, "Shreyamsha Kumar 2013", _rules(
        Rule(gradient.n_abf, (0, 1), "the modified form", 2), ("vifb", "cddfuse"))),
    "CE": Metric(False, "Bulanon et al. 2009", _rules(
        Rule(information.cross_entropy, (-INF, INF), "mean over both sources, bits"), ("tang", "cddfuse"))),
    "EI": Metric(True, "Rajalingam and Priya 2018", _rules(
        Rule(activity.edge_intensity, (0, INF), "mean Sobel magnitude"), ("tang", "cddfuse"))),
    "Q_CB": Metric(True, "Chen and Blum 2009", _rules(
        Rule(perceptual.q_cb, (0, 1), "images stretched to 0..255, windows 31x31"), ("tang", "cddfuse"))),
}

#: The five metrics of the paper's tables 1-3 and 5.
PAPER = ("Q_AB/F", "Q_CV", "SSIM", "AG", "SCD")


def check(names: Iterable[str], convention: str) -> None:
    """Refuse what the table does not know: FusionError with the names that it knows."""
    if convention not in CONVENTIONS:
        raise FusionError(f"Unknown metric convention {convention!r}: choose one of {', '.join(CONVENTIONS)}.")
    if unknown := [name for name in names if name not in METRICS]:
        raise FusionError(f"Unknown metric {unknown[0]!r}: choose from {', '.join(METRICS)}.")


def describe(names: Iterable[str] = PAPER, convention: str = "vifb") -> pd.DataFrame:
    """How to read a table of these metrics: one row per metric with its direction, range, definition and reference."""
    names = tuple(names)
    check(names, convention)
    rows = []
    for name in names:
        metric, rule = METRICS[name], METRICS[name].rules[convention]
        low, high = (f"{bound:g}".replace("inf", "∞") for bound in rule.range)
        rows.append({"metric": name, "better": "higher" if metric.higher_is_better else "lower",
                     "range": f"{low}..{high}", "convention": convention, "definition": rule.note,
                     "reference": metric.reference})
    return TextFrame(rows).set_index("metric")
