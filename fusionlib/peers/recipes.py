"""How each compared method is trained: its own loss and settings where they are known, and a word on what is ours.

`RECIPES` has one for every network, under its registry name; `experiments.peer_training` trains by it. Crops,
flips and quarter turns are the suite's, as for its own network. Budgets are passes over the user's pairs, so that an
epoch here is shorter than one over the many patches that most releases cut beforehand: `crops` makes it longer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from fusionlib.peers import objectives
from fusionlib.peers.losses import VGG16, Terms
from fusionlib.peers.peer import Peer


@dataclass(frozen=True)
class Recipe:
    """Settings of a training, or of one of its phases.

    Parameters are named as in `train.Objective`: peer.<name in the network>, and helper.<name> beside it.
    """

    loss: Callable[[Peer, dict, nn.Module | None], Terms]
    note: str  # whose the loss and the settings are, and what differs from the release
    batch: int
    crop: int  # pixels
    learning_rate: float
    epochs: int
    crops: int = 1  # of each pair in an epoch
    resize: int = 4096  # longer side that larger pairs are reduced to, pixels
    weight_decay: float = 0.0
    clip: float = 0.0  # norm that gradients are cut to; 0: not cut
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam
    drops: tuple[float, ...] = ()  # shares of the budget after which the learning rate is multiplied by `drop`
    drop: float = 0.5
    rates: dict[str, float] = field(default_factory=dict)  # beginning of parameters' names -> factor on learning_rate
    trains: tuple[str, ...] = ("peer.",)  # beginnings of the names of what is trained
    idle: tuple[str, ...] = ()  # parts of the names of what the output does not depend on: left as it is
    helper: Callable[..., nn.Module] | None = None  # makes the helper, from the file that `needs` names
    needs: str = ""  # the option with a file from the user: vgg or text
    first: "Recipe | None" = None  # the phase before this one

    def schedule(self, step: int, steps: int) -> float:
        """The factor on the learning rate after `step` of `steps`."""
        return self.drop ** sum(step >= share * steps for share in self.drops)


RECIPES = {
    "AUIF": Recipe(
        objectives.auif, "as the release: single images are restored; sums fuse them in tests only",
        batch=32, crop=128, learning_rate=1e-2, epochs=80, drops=(0.5,), drop=0.1,
        rates={"peer.Encoder_Detail.": 0.1},
    ),
    "DATFuse": Recipe(
        objectives.datfuse, "as the release; that edges are compared image by image is our reading",
        batch=128, crop=120, learning_rate=1e-3, epochs=10,
        idle=("patch_embed.norm", "relative_position_bias_table"),
    ),
    "IVFWSR": Recipe(
        objectives.ivfwsr, "ours: the release has no training code; infrared is displaced by up to 4 pixels",
        batch=2, crop=112, learning_rate=1e-4, epochs=100, idle=("compress_in",),
    ),
    "LRRNet": Recipe(
        objectives.lrrnet, "as the release", batch=8, crop=128, learning_rate=1e-5, epochs=4, weight_decay=0.9,
        helper=VGG16, needs="vgg",
    ),
    "MLFusion": Recipe(
        objectives.mlfusion, "as the release, without its last three epochs with a contrast loss that is not described",
        batch=4, crop=128, learning_rate=1e-4, epochs=20, weight_decay=1e-5, idle=("conv_after_meta_down",),
    ),
    "TIMFusion": Recipe(
        objectives.timfusion, "ours: its loss is not described; both stages are trained together",
        batch=8, crop=128, learning_rate=1e-4, epochs=100, idle=("stem_out2", "stem_out3"),
    ),
    "TIMFusion-light": Recipe(
        objectives.plain, "ours: its loss is not described", batch=8, crop=128, learning_rate=1e-4, epochs=100,
    ),
    "SwinFusion": Recipe(  # 10,000 steps, on the 1,083 training pairs of MSRS
        objectives.swinfusion, "as the release, without its running average of the weights",
        batch=12, crop=128, learning_rate=2e-5, epochs=110, idle=("conv_first1_B", "conv_first2_B"),
    ),
    "TextIF": Recipe(
        objectives.textif, "as the release with its ratios for low light, for one prompt; SSIM with the usual window",
        batch=8, crop=96, learning_rate=1e-4, epochs=120, weight_decay=5e-2, optimizer=torch.optim.AdamW,
        helper=objectives.Sentence, needs="text",
    ),
    "ALMFnet": Recipe(
        objectives.almfnet,
        "as the release, without its segmentation term, which needs labels; what its masks are, and learning rate ours",
        batch=8, crop=128, learning_rate=1e-3, epochs=300,
    ),
    "RMR-Fusion": Recipe(
        objectives.rmr_fusion, "as the release, without its segmentation term, which needs labels; on slices, ours",
        batch=2, crop=128, learning_rate=1e-4, epochs=100, trains=("peer.fusion.",),
        first=Recipe(
            objectives.rmr_autoencoder, "ours: the autoencoder restores slices", batch=2, crop=128, learning_rate=1e-4,
            epochs=100, trains=("peer.ir_encoder.", "peer.visible_encoder.", "peer.decoder."),
        ),
    ),
    "CDDFuse": Recipe(  # 1e-4, halved after each sixth of the two phases together
        objectives.cddfuse, "as the release; the optimiser begins anew in the second phase",
        batch=8, crop=128, learning_rate=2.5e-5, epochs=80, clip=0.01, drops=(0.25, 0.5, 0.75),
        first=Recipe(
            objectives.cddfuse_parts, "settings and decomposition as the release; ours: how images are restored, by "
            "squared error and 5 (1 - SSIM), and that encoder and decoder alone are trained",
            batch=8, crop=128, learning_rate=1e-4, epochs=40, clip=0.01, drops=(0.5,),
            trains=("peer.DIDF_Encoder.", "peer.DIDF_Decoder."),
        ),
    ),
    "EMMA": Recipe(
        objectives.emma, "as the release but for the sensing networks; batch, learning rate and epochs ours",
        batch=8, crop=128, learning_rate=1e-4, epochs=100, helper=objectives.sensing_networks,
        first=Recipe(
            objectives.emma_sensing, "ours: the release's sensing networks, of 39.4 million parameters, are not "
            "described; two of EMMA's own networks take their place and learn from Laplacian pyramid fusions",
            batch=8, crop=128, learning_rate=1e-4, epochs=100, trains=("helper.",), helper=objectives.sensing_networks,
        ),
    ),
}  # fmt: skip
