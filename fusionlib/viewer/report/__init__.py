"""Write a run's results as static pages: fusionlib.viewer.report.write_report("data/runs/quick")."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["cells", "contents", "pages"], {"pages": ["write_report"]})
