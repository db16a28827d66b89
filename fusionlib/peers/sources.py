"""Sources of the compared methods: paper, repository, licence of the official release and digests of its weights.

The suite contains no release: the networks are our own code, and the user downloads the weights.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fusionlib.utils.errors import FusionError

_NONE = "none stated: all rights reserved"
_RESEARCH = "free for research purposes only"
_PYRAMID = "Burt and Adelson, The Laplacian pyramid as a compact image code, IEEE Transactions on Communications 31(4)"


class Source(NamedTuple):
    """One row of the table; `place` is module.Class in this package, "" without a network."""

    place: str
    paper: str
    year: int | None = None
    weights: str = ""  # repository on GitHub: file in it, or the place it refers to
    licence: str = ""
    sha256: dict[str, str] = {}  # of the official files that our outputs were verified with


SOURCES = {
    "AUIF": Source("auif.AUIF",
        "Zhao et al., Efficient and model-based infrared and visible image fusion via algorithm unrolling, IEEE TCSVT",
        2021, "Zhaozixiang1228/IVIF-AUIF-Net: Models/TCSVT_{Encoder_Base,Encoder_Detail,Decoder}.model", _NONE,
        {"TCSVT_Encoder_Base.model": "c4fe51b85637e3befc89b27e3cbb7a765aea37871eb4da4f58b471680ce7eb72",
         "TCSVT_Encoder_Detail.model": "92e1ad6a4b7e5a2acc442a3a57c3b0e48a2af262f487942e42d81334de204726",
         "TCSVT_Decoder.model": "7966d490bb4003821c8f20ce1197c22d020ab986850571c5dfa02b0defad8ad3"}),
    "DATFuse": Source("datfuse.DATFuse",
        "Tang et al., DATFuse: infrared and visible image fusion via dual attention transformer, IEEE TCSVT 33(7)",
        2023, "tthinking/DATFuse: model_10.pth", _NONE,
        {"model_10.pth": "075b636954cbd425fc29be808bcfb42232e29b203f054c2a637ed301300d5a1d"}),
    "IVFWSR": Source("ivfwsr.IVFWSR",
        "Li et al., A deep learning framework for infrared and visible image fusion without strict registration, IJCV",
        2023, "yuliu316316/IVF-WoReg: checkpoint/42.pkl", _RESEARCH),
    "LRRNet": Source("lrrnet.LRRNet",
        "Li et al., LRRNet: a novel representation learning guided fusion framework, IEEE TPAMI 45(9)",
        2023, "hli1221/imagefusion-LRRNet: model/final_lrr_net_lam2_1.5_wir_3.0_lam3_gram_2000_epoch_4_block_4.model",
        _NONE, {"final_lrr_net_lam2_1.5_wir_3.0_lam3_gram_2000_epoch_4_block_4.model":
                "1de9dd8dee9b650ce69c74ea53e3b9a6b749222f1059a689aabf28f68ee63e29"}),
    "MLFusion": Source("mlfusion.MLFusion",
        "Li et al., Different input resolutions and arbitrary output resolution: a meta learning-based deep framework "
        "for infrared and visible image fusion, IEEE TIP 30",
        2021, "yuliu316316/MetaLearning-Fusion: MLFusion23.pth", _RESEARCH),
    "TIMFusion": Source("timfusion.TIMFusion",
        "Liu et al., A task-guided, implicitly-searched and meta-initialized deep model for image fusion, "
        "arXiv 2305.15862",
        2023, "LiuZhu-CV/TIMFusion: weights_1_*.pt and weights_2_*.pt, on Google Drive", "MIT"),
    "TIMFusion-light": Source("timfusion.TIMFusionLight",
        "Liu et al., as TIMFusion: its light variant of one stage",
        2023, "LiuZhu-CV/TIMFusion: on Google Drive", "MIT"),
    "SwinFusion": Source("swinfusion.SwinFusion",
        "Ma et al., SwinFusion: cross-domain long-range learning for general image fusion via Swin transformer, "
        "IEEE/CAA JAS 9(7)",
        2022, "Linfeng-Tang/SwinFusion: 10000_E.pth of the infrared-visible task", _NONE),
    "TextIF": Source("textif.TextIF",
        "Yi et al., Text-IF: leveraging semantic text guidance for degradation-aware and interactive image fusion, "
        "CVPR, arXiv 2403.16387",
        2024, "XunpengYi/Text-IF: on Google Drive", "MIT"),
    "ALMFnet": Source("almfnet.ALMFnet",
        "Mu et al., Learning to search a lightweight generalized network for medical image fusion, IEEE TCSVT",
        2023, "RollingPlain/ALMFnet: cache_train/ALMFNet.pt", "MIT",
        {"ALMFNet.pt": "3947fceec8da13b823ecd45d4485e9c6cd7de1ba5bacd3a11f7cd40be117f050"}),
    "[85]": Source("", "the paper's reference [85], a medical method whose name is lost in our copy of the paper"),
    "RMR-Fusion": Source("rmr_fusion.RMRFusion",
        "Zhang et al., A robust mutual-reinforcing framework for 3D multi-modal medical image fusion, AAAI 38(7)",
        2024, "HaoZhang1018/RMR-Fusion (no file is known to us)", "MIT"),
    "CDDFuse": Source("cddfuse.CDDFuse",
        "Zhao et al., CDDFuse: correlation-driven dual-branch feature decomposition for multi-modality image fusion, "
        "CVPR, 5906-5916",
        2023, "Zhaozixiang1228/MMIF-CDDFuse", _NONE),
    "EMMA": Source("emma.EMMA",
        "Zhao et al., Equivariant multi-modality image fusion, CVPR", 2024, "Zhaozixiang1228/MMIF-EMMA", _NONE),
    "mean": Source("baselines.Mean", "mean of infrared and luma"),
    "maximum": Source("baselines.Maximum", "maximum of infrared and luma"),
    "laplacian": Source("baselines.Laplacian", _PYRAMID, 1983),
    "laplacian-max": Source("baselines.LaplacianMax", f"as laplacian, with the maximum of the base: {_PYRAMID}", 1983),
}


def spelled(names: Sequence[str], others: Sequence[str] = ()) -> list[str]:
    """The names of compared methods, in any case, as in `SOURCES` and `others`; FusionError for an unknown one."""
    spellings = {name.lower(): name for name in (*SOURCES, *others)}
    if unknown := [name for name in names if name.lower() not in spellings]:
        raise FusionError(f"there is no method {unknown[0]!r} to compare: choose among {', '.join(spellings.values())}")
    return [spellings[name.lower()] for name in names]
