"""The ablation study of paper section 4.5, and its controls: is it the text, or the training?

All experiments train stage 2 with the same budget and are evaluated on the same test pairs, by the same frozen detector
and the same metrics. They differ in the network, in the text that it reads, or in the weight of fidelity.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import pad

from fusionlib.config import Profile
from fusionlib.data.datasets import people
from fusionlib.data.pairs import Pair, load
from fusionlib.data.splits import evenly_spaced
from fusionlib.detection.checkpoints import load_yolov5
from fusionlib.experiments import protocols, results
from fusionlib.experiments.methods import OURS_STAGE_1, Method, find_methods
from fusionlib.experiments.run import Run, listing
from fusionlib.experiments.stages import fused_images, network_of
from fusionlib.feedback import backends, querying, store
from fusionlib.feedback.controls import Shuffled
from fusionlib.feedback.store import Answer, answer_key
from fusionlib.inference import network
from fusionlib.models.weights import load as load_weights
from fusionlib.training.text_dfh import train_text_dfh
from fusionlib.utils import distributed
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import file_fingerprint, fingerprint, write_atomically

#: Where the text comes from: notebook 03, the paper's fixed prompt, zeros, or another image's answer of notebook 03.
TEXTS = ("own", "fixed", "none", "shuffled")
STAGE_1 = "stage 1"  # the row that stage 2 starts from


@dataclass(frozen=True)
class Experiment:
    """One way to train stage 2.

    name: row of the tables. note: what differs. variant: of Text-DFH (`models.VARIANTS`). text: one of
    `TEXTS`. fidelity: weight of L_f of the refined image, None for the profile's.
    """

    name: str
    note: str
    variant: str = "full"
    text: str = "own"
    fidelity: float | None = None


FULL = Experiment("full", "nothing left out")
#: The rows of tables 6 and 7, in the paper's order.
PAPER = (
    Experiment("no MLLM", "the fixed prompt", text="fixed"),
    Experiment("no Text-DFH", "text concatenated", variant="no_dfh"),
    Experiment("CA1", "text-guided branch alone", variant="ca1"),
    Experiment("CA2", "image-guided branch alone", variant="ca2"),
    FULL,
)
CONTROLS = (
    Experiment("no text", "zeros", text="none"),
    Experiment("shuffled text", "another image's answer", text="shuffled"),
)


def fidelity_sweep(weights: Sequence[float], settings: Profile) -> dict[float, Experiment]:
    """{weight: the full experiment with it}, in order, with the profile's own weight among them, which is `FULL`."""
    others = {w: Experiment(f"fidelity {w:g}", f"fidelity {w:g}", fidelity=w) for w in weights}
    return dict(sorted({**others, settings.fidelity: FULL}.items()))


@dataclass(frozen=True)
class Outcome:
    """What came of an experiment, per seed: results in folders, people found [n,6] per test pair, metrics."""

    methods: list[Method]
    found: list[list[Tensor]]
    scores: list[pd.DataFrame]

    @property
    def mean_scores(self) -> pd.DataFrame:
        """The metrics of each image, averaged over the seeds; laid out as `evaluation.evaluate_pairs` does."""
        mean = sum(self.scores[1:], self.scores[0]) / len(self.scores)
        mean.attrs = {"convention": self.scores[0].attrs["convention"]}
        return mean


class AblationStudy:
    """What all experiments of a run share, so that they differ in nothing but themselves.

    Trainings lie in ablations/<name>-seed<k> of the run. They resume where they stopped and are loaded when finished.

    Args:
        run: a run with its notebooks 01 to 03 done; its profile's `ablation_` settings are the budget.

    Raises:
        FusionError: no labelled pairs, or notebook 03 asked a control instead of somebody who looks at the image.
    """

    def __init__(self, run: Run):
        parts, settings = run.parts, run.profile
        parts.require_labels()
        self.run = run
        self.fusion, self.feedback = run.finished("02_fusion_network"), run.finished("03_mllm_feedback")
        if (asked := self.feedback.inputs["backend"]) in TEXTS:
            raise FusionError(f"the ablations compare answers with controls, but notebook 03 asked a control, {asked}: "
                              "run it with another backend, such as rules")
        self.store = store.open_store(run.folder / "answers")
        self.weights = run.weights(settings.detector)
        self.network = network_of(self.fusion)
        self.detector = load_yolov5(self.weights, distributed.best_device())
        self.train, self.test = (
            evenly_spaced(pairs, count) for pairs, count in
            ((parts.dfh_train, settings.ablation_pairs), (parts.labelled_test, settings.ablation_test))
        )  # fmt: skip
        self.validation = evenly_spaced(parts.dfh_validation, max(1, len(self.train) // 5))
        self.truths = [people(pair, settings.detect_size) for pair in self.test]

    @property
    def budget(self) -> str:
        """The budget of every experiment, in words."""
        p = self.run.profile
        return (f"labelled pairs of {p.detection_dataset}: {len(self.train)}, epochs: {p.ablation_epochs}, batch: "
                f"{p.dfh_batch}, learning rate: {p.dfh_lr:g} ({p.schedule}), seeds: {p.ablation_seeds}")  # fmt: skip

    def answers(self, text: str, pairs: Sequence[Pair], seed: int) -> list[Answer]:
        """The text of each pair; features of controls are padded with zeros, or cut, to the dimension of the answers.

        Args:
            text: one of `TEXTS`.
            pairs: with `shuffled`, the answers are dealt out anew among these, at least two.
            seed: of the dealing.
        """
        labels = [pair.label for pair in pairs]
        own = self.run.answers(pairs)
        if text == "own":
            return own
        if text == "shuffled":
            return Shuffled(seed=seed).deal(own)
        dim = own[0].features.shape[1]
        control = backends.make(text, **({"dim": dim} if text == "none" else {}))
        images = fused_images(self.fusion, pairs)
        given = querying.ask(images, control, self.feedback.inputs["question"], self.store, labels)
        return [replace(answer, kept=functools.partial(_features, answer, dim)) for answer in given]

    def method(self, experiment: Experiment, seed: int) -> Method:
        """Train an experiment with a seed, counted from the profile's, or load it; as a method to fuse with."""
        settings = replace(
            self.run.profile, seed=self.run.profile.seed + seed, dfh_epochs=self.run.profile.ablation_epochs,
            variant=experiment.variant,
            fidelity=self.run.profile.fidelity if experiment.fidelity is None else experiment.fidelity,
        )  # fmt: skip
        pairs, count = self.train + self.validation, len(self.train)
        answers = self.answers(experiment.text, pairs, settings.seed)
        stage = replace(self.run, profile=settings).stage(
            f"ablations/{experiment.name.replace(' ', '-')}-seed{settings.seed}", train_text_dfh,
            fusion=self.fusion.fingerprint, weights=file_fingerprint(self.weights), count=count,
            pairs=listing(pairs, self.run.data_root), answers=fingerprint([answer_key(vars(a)) for a in answers]),
            **settings.part("dfh_", "variant", "fidelity", "detect_size", "amp", "schedule", "freeze_bn_fraction"),
        )  # fmt: skip
        if stage.provenance is None:
            texts = store.LazyFeatures(answers[:count]), store.LazyFeatures(answers[count:])
            train_text_dfh(
                self.network, self.detector, (self.train, texts[0]), (self.validation, texts[1]), stage.folder, settings
            )
            stage.finish()
        tested = dict(zip((p.label for p in self.test), self.answers(experiment.text, self.test, settings.seed)))

        def make():
            return functools.partial(network.fuse, load_weights(stage.folder / "last.safetensors", self.network))

        def given(pairs: Sequence[Pair]) -> list[Answer]:
            return [tested[pair.label] for pair in pairs]

        return Method(experiment.name, experiment.note, stage.folder, make, given)

    def outcome(self, experiment: Experiment, seeds: int) -> Outcome:
        """Train an experiment with so many seeds and evaluate each; what is finished is loaded."""
        methods = [self.method(experiment, seed) for seed in range(seeds)]
        return Outcome(methods, [self.detect_people(m) for m in methods], [self.measure(m) for m in methods])

    def stage_1(self, seeds: int) -> Outcome:
        """The images that stage 2 starts from, evaluated alike; they are the same for every seed."""
        (method,) = find_methods(self.run, [OURS_STAGE_1])
        return Outcome([method] * seeds, [self.detect_people(method)] * seeds, [self.measure(method)] * seeds)

    def measure(self, method: Method) -> pd.DataFrame:
        """The paper's metrics of a method's images of the test pairs."""
        results.fuse_method(method, self.test)
        return results.measure_method(method, self.test)

    def detect_people(self, method: Method) -> list[Tensor]:
        """People [n,6] that the frozen detector finds in a method's image of each test pair; kept."""
        results.fuse_method(method, self.test)
        labels, size = [pair.label for pair in self.test], self.run.profile.detect_size
        images = [file_fingerprint(network.image_path(method.folder / "fused", pair)) for pair in self.test]
        stage = self.run.stage(
            str((method.folder / "detections").relative_to(self.run.folder)), protocols.stock, labels=labels,
            images=images, weights=file_fingerprint(self.weights), size=size,
        )  # fmt: skip
        file = stage.folder / "people.safetensors"
        if stage.provenance is None:
            found = protocols.stock(self.detector, [method], self.test, size)[method.name]
            write_atomically(file, save({label: boxes.contiguous() for label, boxes in zip(labels, found)}))
            stage.finish()
        found = load_file(file)
        return [found[label] for label in labels]

    def text_sensitivity(self, experiment: Experiment = FULL, seed: int = 0) -> dict[str, float]:
        """How far a trained network's test images move, in mean gray levels of 255: does it listen to the text at all?

        Returns:
            "answer": when it is given another image's answer instead of the own; "stage 2": from the images of stage 1
            to its own, to compare with.
        """
        method = self.method(experiment, seed)
        fuse, pairs = method.make(), self.test
        others, moved = Shuffled(seed=seed).deal(method.answers(pairs)), []
        for pair, own, other in zip(pairs, method.answers(pairs), others):
            ir, visible = load(pair)
            image = fuse(ir, visible, own.features)
            against = fuse(ir, visible, other.features), network.fuse(self.network, ir, visible)
            moved.append(torch.stack([(image - each).abs().mean() for each in against]))
        return dict(zip(("answer", "stage 2"), (255 * torch.stack(moved).mean(0)).tolist()))


def _features(answer, dim):
    return pad(answer.features, (0, dim - answer.features.shape[1]))
