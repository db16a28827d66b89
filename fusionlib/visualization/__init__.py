"""The figures and tables of the notebooks, in one style.

Figure functions return a matplotlib Figure that is not shown yet: end a notebook cell with it; `save` writes it.
Images are tensors [1 or 3, H, W] or [H, W], or arrays [H, W] or [H, W, 3]; uint8, uint16, or float 0..1. They are shown
with their own gray values, never stretched, pixel by pixel where there is room, otherwise downsampled smoothly.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "charts", "contact_sheets", "saved_tables", "table_export", "tables",
], {
    "charts": ["attention", "confusion", "curves", "height_histogram", "instruction_responses", "miss_rates", "seeds",
               "tradeoff"],
    "contact_sheets": ["answers", "contact_sheet", "detections", "medical_example", "medical_region", "region_of"],
    "diagram": ["method_diagram"],
    "difference_maps": ["with_differences"],
    "style": ["COLOURS", "DPI", "PREDICTION", "REGION", "TRUTH", "annotate", "save", "set_style"],
    "table_export": ["save_table", "show_table"],
    "tables": ["build", "detection_table", "fusion_table", "higher_is_better"],
})
