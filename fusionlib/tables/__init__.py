"""The tables of the notebooks: what is in them, how they are shown, and how they are kept as csv, LaTeX and HTML.

A table is a DataFrame with one row per method, in the order given, and two levels of columns:

- ("", note), text such as where the weights come from, and ("", "n"), the number of images behind the row;
- per metric (metric, "mean"), (metric, "low") and (metric, "high"), the ends of its interval, (metric, "difference"),
  the method minus the reference on the same images, and (metric, "p"), its p value after Holm's correction.

A method without results keeps its row: n = 0 and NaN. `attrs` holds "caption", "higher_is_better" {metric: bool},
"reference" ("" if nothing is compared) and "convention". `fusion_table` and `detection_table` make such tables, `build`
makes one of numbers that come from elsewhere; `show` and `save` take any of them.
"""

from fusionlib.tables.build import build, detection_table, fusion_table, higher_is_better
from fusionlib.tables.export import save, show

__all__ = ["build", "detection_table", "fusion_table", "higher_is_better", "save", "show"]
