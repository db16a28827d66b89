"""Data: pairs of pictures, official layouts, embedded scenes, splits and augmentation.

The everyday names are here. `fusionlib.data.augment.augment`, `fusionlib.data.check.check` and
`fusionlib.data.scenes` live in the modules of their name.
"""

from fusionlib.data import samples, scenes
from fusionlib.data.labels import read_labels
from fusionlib.data.layouts import Report, find, pair_folders, read
from fusionlib.data.pairs import Pair, Problem, load, merge_luma, read_image, split_luma, write_image
from fusionlib.data.splits import choose, fingerprint, load_rules, read_manifest, summary, write_manifest

__all__ = [
    "Pair",
    "Problem",
    "Report",
    "choose",
    "find",
    "fingerprint",
    "load",
    "load_rules",
    "merge_luma",
    "pair_folders",
    "read",
    "read_image",
    "read_labels",
    "read_manifest",
    "samples",
    "scenes",
    "split_luma",
    "summary",
    "write_image",
    "write_manifest",
]
