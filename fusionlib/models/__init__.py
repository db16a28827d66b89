"""The networks of the paper: the fusion network, its loss, and Text-DFH with its ablations."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [], {
    "fusion_network": ["FusionNetwork"],
    "losses": ["FUSION_LOSSES", "FusionLoss", "MultiscaleFusionLoss", "fusion_loss", "sobel"],
    "text_dfh": ["VARIANTS", "TextDFH", "TextGuidedFusion"],
    "weights": ["load", "save"],
})
