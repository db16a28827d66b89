"""The networks behind a viewer: detection of people, refinement by an instruction, attention of words."""

import functools
import unicodedata
from pathlib import Path

import torch
from torch import Tensor

from fusionlib.data.datasets import letterbox, resize_longer_side
from fusionlib.experiments.run import Run, network_of
from fusionlib.feedback.store import Answer
from fusionlib.feedback.text_encoder import encode_one, encoder_name, tokens
from fusionlib.inference import pair
from fusionlib.inference.network import fuse, word_attention
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.utils import devices
from fusionlib.utils.errors import FusionError

MIN_SCORE = 0.05  # of the detections that are sent; the threshold that the user sets is never lower


class Networks:
    """The networks of a run or else of the package, which has no detector; each is loaded when first needed."""

    def __init__(self, run: Run | None = None):
        self.run = run
        self.detector = functools.cache(self._detector)

    @property
    def detectors(self) -> dict[str, str]:
        """{name: weights} of the run's detectors: that of the loss, and the held-out one if it has one."""
        profile = self.run and self.run.profile
        weights = (profile.detector, profile.held_out_detector) if profile else ()
        return {Path(name).stem: name for name in weights if name}

    def _detector(self, name: str):
        """One of `detectors`. Raises FusionError without a run, or without its weights."""
        if name not in self.detectors:
            raise FusionError("Detecting people needs the detector of a run, and this folder is not a run: browse one "
                              "such as data/runs/quick")
        from fusionlib.detection.detectors import load_detector  # takes seconds to import

        return load_detector(self.run.weights(self.detectors[name]), devices.best_device())

    def detect_people(self, image: Tensor, name: str = "") -> Tensor:
        """Detect people in an image [3,H,W] as notebook 04 does: [n,5], xyxy in pixels of the image and score.

        `name` is one of `detectors`; without it the first, which is that of the loss.
        """
        detector = self.detector(name or next(iter(self.detectors), ""))
        from fusionlib.detection.detectors import detect

        small, scale = letterbox(image, self.run.profile.detect_size)
        boxes = detect(detector, [small], conf=MIN_SCORE)[0][:, :5]
        boxes[:, :4] /= scale
        return boxes

    @property
    def has_text_dfh(self) -> bool:
        """Whether the run has trained a Text-DFH."""
        return self.run is not None and (self.run.folder / "04_text_dfh" / "provenance.json").is_file()

    @property
    def follows_instructions(self) -> bool:
        """Whether the run's Text-DFH has learned instructions; otherwise that of the package answers them."""
        return self.has_text_dfh and self.run.profile.instruction_steps > 0

    @property
    def instructed(self) -> TextGuidedFusion:
        """The Text-DFH that answers instructions."""
        return self.text_dfh if self.follows_instructions else pair.text_dfh()

    @property
    def answers_from(self) -> str:
        """Whose weights answer instructions, for the user."""
        if self.follows_instructions:
            return "weights of this run"
        return "weights of the package" + (", as this run's never learned instructions" if self.has_text_dfh else "")

    @functools.cached_property
    def text_dfh(self) -> TextGuidedFusion:
        """The Text-DFH of the run's notebook 04, or else of the package."""
        if not self.has_text_dfh:
            return pair.text_dfh()
        return network_of(self.run.finished("04_text_dfh"))

    @functools.cached_property
    def fusion_network(self) -> FusionNetwork:
        """Stage 1 of the run, or else of the package."""
        trained = self.run is not None and (self.run.folder / "02_fusion_network" / "provenance.json").is_file()
        return network_of(self.run.finished("02_fusion_network")) if trained else pair.fusion_network()

    def preload(self) -> None:
        """Load everything that `refine` needs. Raises as it does."""
        self._encode("a word")
        _ = self.instructed

    def refine(self, ir: Tensor, visible: Tensor, instruction: str | None, longest: int = 0) -> Tensor:
        """Refine a pair by an instruction (None: stage 1): [3,H,W], its longer side `longest` pixels unless that is 0.

        Raises FusionError without weights of Text-DFH, and if they were trained with another text encoder.
        """
        text = None if instruction is None else self._encode(instruction)
        model = self.instructed.network if instruction is None else self.instructed
        ir, visible = resize_longer_side(ir, visible, longest) if longest else (ir, visible)
        return fuse(model, ir, visible, text)

    def fuse(self, ir: Tensor, visible: Tensor, longest: int = 0) -> Tensor:
        """Fuse a pair by stage 1 of the run or else of the package: as `refine` without an instruction."""
        return fuse(self.fusion_network, *(resize_longer_side(ir, visible, longest) if longest else (ir, visible)))

    def _encode(self, instruction: str) -> Tensor:
        if not self.follows_instructions:
            pair.check_settings(instruction, None)
            pair.require_text_dfh()
        elif (encoder := self.run.finished("03_mllm_feedback").inputs.get("encoder")) != encoder_name():
            raise FusionError(f"This run's Text-DFH was trained on text features of {encoder}, but instructions are "
                              f"encoded by {encoder_name()}: use a run whose answers were encoded by it, too")
        return encode_one(instruction)

    def attention(self, ir: Tensor, visible: Tensor, answer: Answer, start: int, end: int) -> Tensor:
        """The attention map of a word of an answer, [h,w] at the detector's input size without its padding.

        Args:
            ir, visible: the pair, [1,H,W] and [3,H,W].
            answer: one whose features this run's Text-DFH was trained on.
            start, end: of the word, in characters of the answer's text.

        Raises FusionError without a Text-DFH or its image-guided branch, and for features that do not belong to words.
        """
        if not self.has_text_dfh:
            raise FusionError("Attention maps need a run's Text-DFH, and this run has none: run notebook 04")
        spans = token_spans(answer.text)
        if len(spans) != answer.tokens:
            raise FusionError(f"The features of this answer belong to tokens of {answer.model}, which cannot be "
                              "assigned to words: use answers encoded by the sentence encoder")
        dim, features = self.text_dfh.harmonise["ir"].config["text_dim"], answer.features
        if features.shape[1] != dim:
            raise FusionError(f"The features of this answer have {features.shape[1]} numbers per token, and this run's "
                              f"Text-DFH was trained on {dim}: ask again with its text encoder")
        rows = [row for row, span in enumerate(spans) if span and span[0] < end and span[1] > start]
        if not rows:
            raise FusionError(f"{answer.text[start:end]!r} is not among the first {len(spans)} tokens of the answer, "
                              "which are all that the encoder reads")
        small, scale = letterbox(torch.cat([ir, visible]), self.run.profile.detect_size)
        maps = word_attention(self.text_dfh, small[:1], small[1:], features[rows])
        height, width = (max(1, round(side * scale)) for side in ir.shape[1:])
        return maps.mean(0)[:height, :width]


def token_spans(text: str) -> list[tuple[int, int] | None]:
    """The (start, end) in the text of each of `text_encoder.tokens(text)`; None for a token that is not found."""
    # The encoder reads lower case without accents: each such character, with its index in the text.
    characters = [(plain, index) for index, character in enumerate(text)
                  for plain in unicodedata.normalize("NFD", character.lower()) if unicodedata.category(plain) != "Mn"]
    plain_text, end, spans = "".join(plain for plain, _ in characters), 0, []
    for token in tokens(text):
        piece = token.removeprefix("##") or token
        begin = plain_text.find(piece, end)
        if begin >= 0:
            end = begin + len(piece)
        spans.append((characters[begin][1], characters[end - 1][1] + 1) if begin >= 0 else None)
    return spans
