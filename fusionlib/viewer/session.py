"""What a viewer asks of networks: people in an image, an image refined by an instruction, where a word looks.

Each network is loaded when it is first needed: of the run that is looked at, or of the package.
"""

import functools
import unicodedata

import torch
from torch import Tensor

from fusionlib.data.datasets import letterbox, resize_longer_side
from fusionlib.experiments.run import Run
from fusionlib.feedback.store import Answer
from fusionlib.feedback.text_encoder import encode, encoder_name, tokens
from fusionlib.inference import pair
from fusionlib.inference.network import fuse, word_attention
from fusionlib.models import weights
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.utils import distributed
from fusionlib.utils.errors import FusionError

LEAST_SCORE = 0.05  # of predictions that are kept: below it, nobody sets a threshold by eye


class Networks:
    """The networks of a run, or, without one, those of the package, which has no detector."""

    def __init__(self, run: Run | None = None):
        self.run = run

    @functools.cached_property
    def detector(self):
        """The run's frozen detector. FusionError without a run, or without its weights."""
        if self.run is None:
            raise FusionError("People are looked for by a run's detector, and this is no folder of a run")
        from fusionlib.detection.detectors import (
            load_detector,  # here, for it takes seconds to import, and pictures none
        )

        return load_detector(self.run.weights(self.run.profile.detector), distributed.best_device())

    def find_people(self, image: Tensor) -> Tensor:
        """People in an image [3,H,W] as notebook 04 looks for them: [n,5], xyxy in pixels of the image and score."""
        from fusionlib.detection.detectors import detect

        detector = self.detector
        *parts, scale = letterbox(image[:1], image[1:], self.run.profile.detect_size)
        found = detect(detector, [torch.cat(parts)], conf=LEAST_SCORE)[0][:, :5]
        found[:, :4] /= scale
        return found

    @property
    def has_text_dfh(self) -> bool:
        """Whether the run has a Text-DFH of its own."""
        return self.run is not None and (self.run.folder / "04_text_dfh" / "provenance.json").is_file()

    @functools.cached_property
    def text_dfh(self) -> TextGuidedFusion:
        """Text-DFH of the run's notebook 04, or of the package."""
        if not self.has_text_dfh:
            return pair.text_dfh()
        fusion, stage = (self.run.finished(name).folder for name in ("02_fusion_network", "04_text_dfh"))
        network = weights.load(fusion / "last.safetensors").to(distributed.best_device())
        return weights.load(stage / "last.safetensors", network)

    def get_ready(self) -> None:
        """Load what `refine` needs. Raises as it does."""
        self._check("a word")
        _features("a word")
        _ = self.text_dfh

    def refine(self, ir: Tensor, visible: Tensor, instruction: str, longest: int = 0) -> Tensor:
        """A pair refined by an instruction, [3,H,W]; for a look, first reduced to a longer side of `longest` pixels.

        Raises:
            FusionError: no weights of Text-DFH, or those of another encoder of text than there is.
        """
        self._check(instruction)
        text = _features(instruction)
        ir, visible = resize_longer_side(ir, visible, longest) if longest else (ir, visible)
        return fuse(self.text_dfh, ir, visible, text)

    def _check(self, instruction: str) -> None:
        if not self.has_text_dfh:
            return pair.check_settings(instruction, None)
        learnt = self.run.finished("03_mllm_feedback").inputs.get("encoder")
        if learnt != encoder_name():
            raise FusionError(f"This run's Text-DFH reads features of {learnt}, and what you type is encoded by "
                              f"{encoder_name()}: an instruction needs a run whose answers were encoded alike")

    def attention(self, ir: Tensor, visible: Tensor, answer: Answer, start: int, end: int) -> Tensor:
        """Where a word of an answer looks in the image, [h,w] at the detector's size without what was filled.

        Args:
            ir, visible: the pair, [1,H,W] and [3,H,W].
            answer: whose features this run's Text-DFH was trained on.
            start, end: of the word in the answer's text, in characters.

        Raises:
            FusionError: no Text-DFH, one without the image-guided branch, or features of other tokens than words.
        """
        if not self.has_text_dfh:
            raise FusionError("Where a word looks is known to the Text-DFH of a run, and this one has none: notebook "
                              "04 trains it")
        spans = token_spans(answer.text)
        if len(spans) != answer.tokens:
            raise FusionError(f"The features of this answer are those of {answer.model}'s own tokens, so it is not "
                              "known which of them belong to a word")
        rows = [row for row, span in enumerate(spans) if span and span[0] < end and span[1] > start]
        if not rows:
            raise FusionError(f"{answer.text[start:end]!r} is behind the {len(spans)} tokens that the encoder reads")
        size = self.run.profile.detect_size
        small_ir, small_visible, scale = letterbox(ir, visible, size)
        maps = word_attention(self.text_dfh, small_ir, small_visible, answer.features[rows])
        height, width = (max(1, round(side * scale)) for side in ir.shape[1:])
        return maps.mean(0)[:height, :width]


@functools.lru_cache(maxsize=64)  # one instruction goes with many pairs
def _features(text: str) -> Tensor:
    return encode([text])[0]


def token_spans(text: str) -> list[tuple[int, int] | None]:
    """Where each of `feedback.tokens(text)` stands in the text, (start, end); None for one that is not found."""
    plain, places = [], []  # as the encoder reads it: lower case, without accents
    for index, character in enumerate(text):
        for part in unicodedata.normalize("NFD", character.lower()):
            if unicodedata.category(part) != "Mn":
                plain.append(part)
                places.append(index)
    plain, at, spans = "".join(plain), 0, []
    for token in tokens(text):
        piece = token.removeprefix("##") if len(token) > 2 else token
        begin = plain.find(piece, at)
        if begin < 0:
            spans.append(None)
            continue
        at = begin + len(piece)
        spans.append((places[begin], places[at - 1] + 1))
    return spans
