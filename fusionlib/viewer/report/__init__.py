"""Write a run's results as static pages, `write_report("data/runs/quick")`, or as one text, `write_results`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["cells", "contents", "headline", "pages", "published"],
    {"pages": ["write_report"], "published": ["write_results"]})
