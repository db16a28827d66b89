"""The networks of the paper: stage 1, Text-DFH with its ablations, and the loss of stage 1."""

from fusionlib.models.fusion_loss import FusionLoss, sobel
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import VARIANTS, TextDFH, TextGuidedFusion
from fusionlib.models.weights import load, save

__all__ = ["VARIANTS", "FusionLoss", "FusionNetwork", "TextDFH", "TextGuidedFusion", "load", "save", "sobel"]
