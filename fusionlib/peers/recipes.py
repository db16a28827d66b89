"""How compared methods are trained: the loss and the settings of their releases, and a word on what is ours.

`RECIPES` has those of which at least the loss that decides the result is known, under their registry names, and
`ARCHITECTURE_ONLY` all other networks, which need official weights; `experiments.peer_training` trains. Crops, flips
and quarter turns are the suite's, as for its own network. Budgets are passes over the user's pairs, so that an
epoch here is shorter than one over the many patches that most releases cut beforehand: `crops` makes it longer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from fusionlib.peers import objectives
from fusionlib.peers.losses import Terms
from fusionlib.peers.peer import Peer
from fusionlib.peers.sources import SOURCES


@dataclass(frozen=True)
class Recipe:
    """Settings of a training, or of one of its phases. Parameters are named as in the network."""

    loss: Callable[[Peer, dict, nn.Module | None], Terms]
    note: str  # whose the loss and the settings are, and what differs from the release
    batch: int
    crop: int  # pixels
    learning_rate: float
    epochs: int
    steps: int = 0  # of the optimiser, instead of epochs; 0: by epochs
    crops: int = 1  # of each pair in an epoch
    resize: int = 4096  # longer side that larger pairs are reduced to, pixels
    weight_decay: float = 0.0
    clip: float = 0.0  # norm that gradients are cut to; 0: not cut
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam
    drops: tuple[float, ...] = ()  # shares of the budget after which the learning rate is multiplied by `drop`
    drop: float = 0.5
    rates: dict[str, float] = field(default_factory=dict)  # beginning of parameters' names -> factor on learning_rate
    trains: tuple[str, ...] = ("",)  # beginnings of the names of what is trained
    idle: tuple[str, ...] = ()  # parts of the names of what the output does not depend on: left as it is
    needs: str = ""  # what the loss takes beside the batch, out of a file from the user: vgg or text
    first: "Recipe | None" = None  # the phase before this one

    def schedule(self, step: int, steps: int) -> float:
        """The factor on the learning rate after `step` of `steps`."""
        return self.drop ** sum(step >= share * steps for share in self.drops)


RECIPES = {
    "AUIF": Recipe(
        objectives.auif, "as the release: single images are restored; sums fuse them in tests only",
        batch=32, crop=128, learning_rate=1e-2, epochs=80, drops=(0.5,), drop=0.1, rates={"Encoder_Detail.": 0.1},
    ),
    "DATFuse": Recipe(
        objectives.datfuse, "as the release; that edges are compared image by image is our reading",
        batch=128, crop=120, learning_rate=1e-3, epochs=10,
        idle=("patch_embed.norm", "relative_position_bias_table"),
    ),
    "LRRNet": Recipe(
        objectives.lrrnet, "as the release", batch=8, crop=128, learning_rate=1e-5, epochs=4, weight_decay=0.9,
        needs="vgg",
    ),
    "MLFusion": Recipe(
        objectives.mlfusion, "as the release, without its last three epochs with a contrast loss that is not described",
        batch=4, crop=128, learning_rate=1e-4, epochs=20, weight_decay=1e-5, idle=("conv_after_meta_down",),
    ),
    "SwinFusion": Recipe(  # 10,000 steps, on the 1,083 training pairs of MSRS
        objectives.swinfusion, "as the release, without its running average of the weights",
        batch=12, crop=128, learning_rate=2e-5, epochs=110, idle=("conv_first1_B", "conv_first2_B"),
    ),
    "TextIF": Recipe(
        objectives.textif, "as the release with its ratios for low light, for one prompt; SSIM with the usual window",
        batch=8, crop=96, learning_rate=1e-4, epochs=120, weight_decay=5e-2, optimizer=torch.optim.AdamW, needs="text",
    ),
    "CDDFuse": Recipe(  # 1e-4, halved after each sixth of the two phases together
        objectives.cddfuse, "second phase, of the whole network, as the release, but that the optimiser begins anew; "
        "of the first, how images are restored is ours",
        batch=8, crop=128, learning_rate=2.5e-5, epochs=80, clip=0.01, drops=(0.25, 0.5, 0.75),
        first=Recipe(
            objectives.cddfuse_parts, "settings and decomposition as the release; ours: how images are restored, by "
            "squared error and 5 (1 - SSIM), and that encoder and decoder alone are trained",
            batch=8, crop=128, learning_rate=1e-4, epochs=40, clip=0.01, drops=(0.5,),
            trains=("DIDF_Encoder.", "DIDF_Decoder."),
        ),
    ),
}  # fmt: skip

#: What of their training is not known to us, though it decides the result.
ARCHITECTURE_ONLY = {
    "IVFWSR": "its release has no training code, and its loss is not known to us",
    "TIMFusion": "the loss that its release was trained by is not known to us",
    "TIMFusion-light": "the loss that its release was trained by is not known to us",
    "ALMFnet": "the masks in its loss, which say what each source gives, are not known to us",
    "RMR-Fusion": "its loss needs labels of tissue, and how its autoencoder is trained is not known to us",
    "EMMA": "its loss needs the release's two sensing networks, which are not known to us",
}


def architecture_only(name: str) -> str:
    """Why a method of `ARCHITECTURE_ONLY` cannot be trained, and where its official weights are: a sentence."""
    return (f"{name} is architecture only: {ARCHITECTURE_ONLY[name]}, so there is no recipe to train it; "
            f"the official weights are at {SOURCES[name].weights}")
