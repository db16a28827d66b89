"""One run as static pages that open from disk: `contents` reads the run, `cells` turns notebooks into HTML, `pages` writes.

    fusionlib.report.write("data/runs/quick")           # -> data/runs/quick/report/index.html
"""

from fusionlib.report.pages import write

__all__ = ["write"]
