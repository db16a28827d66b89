"""The compared methods on the pairs of a run: which weights each has, its fused images, and what metrics say of them.

A method's results lie in methods/<name> of the run and are made when they are missing or when what they were made of
has changed, so that another method or another image costs only itself.
"""

from fusionlib.comparison.methods import OURS, STAGE_1, Method, find_methods
from fusionlib.comparison.results import fuse_method, measure_method, reading

__all__ = ["OURS", "STAGE_1", "Method", "find_methods", "fuse_method", "measure_method", "reading"]
