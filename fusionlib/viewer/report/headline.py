"""What the report begins with: captions, the numbers that matter, and one strip of images."""

import csv
import io
import re
from pathlib import Path

from fusionlib.metrics.conventions import METRICS, PAPER
from fusionlib.utils.files import read_text

LONGEST_TABLE = 1 << 24  # bytes of its file
OURS = "ours"  # the row of the suite's own method
STRIPS = ("04_refined", "05_fused", "02_fused", "01_pair", "01_pairs")  # figures, the best strip first
#: Of the notebooks' figures, by file name without suffix. Tables bring their own captions.
CAPTIONS = {
    "01_pair": "One pair: infrared, visible, and what of it is fused",
    "01_pairs": "Pairs of the data sets, infrared and visible",
    "01_heights": "How tall the labelled people are, in pixels",
    "01_damages": "A pair, and the damages that training adds to it",
    "02_curves": "Losses of stage 1 over its training",
    "02_fused": "Test pairs fused by stage 1",
    "03_answers": "Fused images and the model's answers about them",
    "03_damages": "Damages that were made, and those that were named",
    "04_method": "The method: stage 1, feedback, stage 2 and Text-DFH",
    "04_curves": "Losses of Text-DFH over its training",
    "04_detections": "People found before and after Text-DFH",
    "04_refined": "A test pair, fused by stage 1 and refined by Text-DFH",
    "04_attention": "Where words of an answer look",
    "05_fused": "Test pairs fused by all methods, with enlarged regions",
    "06_detections": "People found in the images of all methods",
    "06_miss_rates": "Share of missed people against false alarms per image",
    "07_words": "A damaged pair mended by its own answer, by another's, and without text",
    "07_differences": "What the ablations change in an image",
    "07_curves": "Validation losses of the ablations",
    "07_fused": "Images of the ablations, with enlarged regions",
    "07_detections": "People found in the images of the ablations",
    "07_fidelity": "What the weight of fidelity costs and gains",
    "08_curves_stage_1": "Losses of stage 1 on medical slices",
    "08_curves_text_dfh": "Losses of Text-DFH on medical slices, without a detector",
    "08_fused": "Medical slices fused by all methods",
    "10_ssim_maps": "SSIM of one image, step by step",
    "11_instructions": "One pair refined by several instructions",
    "11_responses": "Measured change of the property that each instruction names",
}


def caption(stem: str) -> str:
    """The caption of a figure, or else its file name in words: _table5_Phantom becomes Table 5 Phantom."""
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", re.sub(r"^\d\d", "", stem).replace("_", " ")).strip()
    return CAPTIONS.get(stem, words[:1].upper() + words[1:]) or stem


def first_words(text: str) -> str:
    """The beginning of a table's caption, which says what it is about, without its conditions."""
    return re.split(r", (?:profile|n =|convention)|\. |\.$", " ".join(text.split()))[0]


def numbers(figures: Path) -> dict[str, list[dict]]:
    """The values of our method in the tables of notebooks 05 and 06, {what they are about: one record for each metric}.

    A record has "name", "up" (higher is better), "value", "place" among "of" methods by the mean, and "n", the number
    of images. Tables that are missing, without our method, or cannot be read are left out.
    """
    quality = {name: METRICS[name].higher_is_better for name in PAPER}
    found = {f"Fusion quality on {path.stem.removeprefix('05_table_')}": _of_table(path, quality)
             for path in sorted(figures.glob("05_table_*.csv"))}  # fmt: skip
    found["Detection of people"] = _of_table(figures / "06_table4.csv", {"mAP@.5": True, "mAP@.5:.95": True})
    return {about: records for about, records in found.items() if records}


def _of_table(path, metrics):
    try:
        text = io.StringIO(read_text(path, "a table", "run its notebook again", LONGEST_TABLE), newline="")
        table = [row for row in csv.DictReader(text) if int(row["n"]) and ", retrained" not in row["method"]]
        values = {row["method"]: {name: float(row[f"{name} mean"]) for name in metrics if row.get(f"{name} mean")}
                  for row in table}  # fmt: skip
        images = {row["method"]: int(row["n"]) for row in table}
    except (ValueError, KeyError, TypeError, csv.Error):
        return []
    records = []
    for name, up in metrics.items():
        if name in values.get(OURS, {}):
            all_values = sorted((each[name] for each in values.values() if name in each), reverse=up)
            place = all_values.index(values[OURS][name]) + 1
            records.append({"name": name, "up": up, "value": f"{values[OURS][name]:.3g}", "place": place,
                            "of": len(all_values), "n": images[OURS]})
    return records
