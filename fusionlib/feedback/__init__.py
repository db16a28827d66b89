"""Feedback on fused images: text from a multimodal language model and its features (paper section 3.3)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "damage_analysis", "damage_words", "llava", "rules", "store", "text_encoder",
], {
    "backends": ["BACKENDS", "make"],
    "querying": ["QUESTION", "ask", "read_assignment", "write_assignment"],
    "store": ["Answer", "LazyFeatures", "Store", "open_store"],
    "text_encoder": ["encode", "encoder_name", "tokens"],
    "text_statistics": ["frequent", "nearest", "statistics"],
})
