"""Browse images in a notebook, and write a run's results as static pages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["animation", "app", "encoding", "gallery", "ratings", "report", "requests", "run_gallery", "session",
               "uploads", "widget"],
    {"api": ["browse", "compare"], "widget": ["Viewer"]})
