"""The ablation study of paper section 4.5, and controls that separate the effect of the text from that of training.

All experiments train stage 2 with the same budget and are evaluated on the same test pairs, by the same frozen
detectors and the same metrics. They differ in the network, in its text, or in the weight of fidelity.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fusionlib.config import Profile
from fusionlib.data import scenes
from fusionlib.data.pairs import Pair, load
from fusionlib.data.splits import evenly_spaced
from fusionlib.experiments import protocols, results
from fusionlib.experiments.detection import load_detectors
from fusionlib.experiments.methods import OURS_STAGE_1, Method, find_methods
from fusionlib.experiments.run import Run, fingerprint_pairs, network_of
from fusionlib.experiments.stages import fused_images
from fusionlib.feedback import backends, querying, store
from fusionlib.feedback.controls import Shuffled
from fusionlib.inference import network
from fusionlib.models.weights import load as load_weights
from fusionlib.training.text_dfh import train_text_dfh
from fusionlib.utils.errors import FusionError, first_line
from fusionlib.utils.files import file_fingerprint, fingerprint, write_atomically

#: Source of the text: the answer of notebook 03, the paper's fixed prompt, zeros, or the answer about another image.
TEXTS = ("own", "fixed", "none", "shuffled")
STAGE_1 = "stage 1"  # the row of the images without stage 2


@dataclass(frozen=True)
class Experiment:
    """One way to train stage 2."""

    name: str  # row of the tables
    note: str  # how it differs
    variant: str = "full"  # of Text-DFH, one of `models.VARIANTS`
    text: str = "own"  # one of `TEXTS`
    fidelity: float | None = None  # weight of the loss of stage 1 of the refined image; None: the profile's


FULL = Experiment("full", "nothing left out")
#: The rows of tables 6 and 7, in the paper's order.
PAPER = (Experiment("no MLLM", "the fixed prompt", text="fixed"),
         Experiment("no Text-DFH", "text concatenated", variant="no_dfh"),
         Experiment("CA1", "text-guided branch alone", variant="ca1"),
         Experiment("CA2", "image-guided branch alone", variant="ca2"),
         FULL)
CONTROLS = (Experiment("no text", "zeros", text="none"),
            Experiment("shuffled text", "another image's answer", text="shuffled"))


def fidelity_sweep(weights: Sequence[float], settings: Profile) -> dict[float, Experiment]:
    """{weight of fidelity: the full experiment with it}, ascending; `FULL` is added at the profile's own weight."""
    others = {w: Experiment(f"fidelity {w:g}", f"fidelity {w:g}", fidelity=w) for w in weights}
    return dict(sorted({**others, settings.fidelity: FULL}.items()))


@dataclass(frozen=True)
class Outcome:
    """The results of an experiment, one per seed."""

    methods: list[Method]
    found: dict[str, list[list[Tensor]]]  # by detector: detections of people [n,6] per test pair
    scores: list[pd.DataFrame]  # metrics, from `evaluation.evaluate_pairs`

    @property
    def mean_scores(self) -> pd.DataFrame:
        """The metrics of each image, averaged over the seeds."""
        mean = sum(self.scores[1:], self.scores[0]) / len(self.scores)
        mean.attrs = {key: value for key, value in self.scores[0].attrs.items() if key != "seconds"}
        return mean


class AblationStudy:
    """The pairs, networks and budget that all experiments of a run share.

    Notebooks 01 to 03 of the run are finished; its profile's `ablation_` settings are the budget. Trainings are stages
    ablations/<name>-seed<k> of the run: interrupted ones are resumed, finished ones loaded.

    Raises:
        FusionError: no labelled pairs, or notebook 03 asked a control instead of a back end that reads the image.
    """

    def __init__(self, run: Run):
        parts, settings = run.parts, run.profile
        parts.require_labels()
        self.run = run
        self.fusion, self.feedback = run.finished("02_fusion_network"), run.finished("03_mllm_feedback")
        if (backend := self.feedback.inputs["backend"]) in TEXTS:
            raise FusionError("the ablations compare answers with controls, but notebook 03 asked a control, "
                              f"{backend}: run it with another backend, such as rules")
        self.weights, self.network = run.weights(settings.detector), network_of(self.fusion)
        self.detectors = load_detectors(run)
        self.detector = self.detectors[self.weights.stem]  # in the loss
        self.train = evenly_spaced(parts.dfh_train, settings.ablation_pairs)
        self.test = evenly_spaced(parts.labelled_test, settings.ablation_test)
        self.validation = evenly_spaced(parts.dfh_validation, max(1, len(self.train) // 5))
        self.truths = protocols.truths(self.test, settings.detect_size)
        self.ignore, self.scenes = protocols.ignored(self.test, settings.detect_size), scenes.names(self.test)

    @property
    def budget(self) -> str:
        """The budget of every experiment, in words."""
        p = self.run.profile
        return (f"labelled pairs of {', '.join(self.run.parts.detection_datasets)}: {len(self.train)}, "
                f"epochs: {p.ablation_epochs}, batch: {p.dfh_batch}, learning rate: {p.dfh_lr:g} ({p.schedule}), "
                f"seeds: {p.ablation_seeds}")

    def answers(self, text: str, pairs: Sequence[Pair], seed: int) -> list[store.Answer]:
        """The texts for pairs, with features of controls zero-padded or cut to the dimension of the answers.

        `text` is one of `TEXTS`; "shuffled" permutes the answers among these pairs, two or more, by the seed.
        """
        answers = self.run.answers(pairs)
        if text == "own":
            return answers
        if text == "shuffled":
            return Shuffled(seed=seed).deal(answers)
        dim = answers[0].features.shape[1]
        control = backends.make(text, **({"dim": dim} if text == "none" else {}))
        controls = querying.ask(fused_images(self.fusion, pairs), control, self.feedback.inputs["question"],
                                store.open_store(self.run.folder / "answers"), [pair.label for pair in pairs])
        return [replace(answer, kept=functools.partial(_features, answer, dim)) for answer in controls]

    def method(self, experiment: Experiment, seed: int) -> Method:
        """Train an experiment, or load it, as a method; the seed is added to the profile's."""
        p = self.run.profile
        settings = replace(p, seed=p.seed + seed, dfh_epochs=p.ablation_epochs, variant=experiment.variant,
                           fidelity=p.fidelity if experiment.fidelity is None else experiment.fidelity)
        pairs, count = self.train + self.validation, len(self.train)
        answers = self.answers(experiment.text, pairs, settings.seed)
        stage = replace(self.run, profile=settings).stage(
            f"ablations/{experiment.name.replace(' ', '-')}-seed{settings.seed}", train_text_dfh,
            fusion=self.fusion.fingerprint, weights=file_fingerprint(self.weights), count=count,
            pairs=fingerprint_pairs(pairs, self.run.root),
            answers=fingerprint([store.answer_key(vars(answer)) for answer in answers]),
            **settings.part("dfh_", "variant", "fidelity", "detect_size", "amp", "optimizer", "schedule",
                            "freeze_bn_fraction", "fusion_loss"),
        )
        with stage.alone():
            if stage.provenance is None:
                train = self.train, store.LazyFeatures(answers[:count])
                validation = self.validation, store.LazyFeatures(answers[count:])
                train_text_dfh(self.network, self.detector, train, validation, stage.folder, settings,
                               sided=store.answers_with_sides(answers[:count]))
                stage.finish()
        texts = dict(zip((p.label for p in self.test), self.answers(experiment.text, self.test, settings.seed)))
        return Method(experiment.name, experiment.note, stage.folder,
                      lambda: functools.partial(network.fuse, load_weights(stage.weights, self.network)),
                      lambda pairs: [texts[pair.label] for pair in pairs])

    def outcome(self, experiment: Experiment, seeds: int) -> Outcome:
        """Train an experiment with several seeds and evaluate each; finished results are loaded."""
        methods = [self.method(experiment, seed) for seed in range(seeds)]
        return self._outcome(methods, [self._evaluate(method) for method in methods])

    def stage_1(self, seeds: int) -> Outcome:
        """Evaluate the images of stage 1 alike; they are the same for every seed."""
        (method,) = find_methods(self.run, [OURS_STAGE_1])
        return self._outcome([method] * seeds, [self._evaluate(method)] * seeds)

    def _outcome(self, methods, evaluated):
        found = {name: [each[name] for each, _ in evaluated] for name in self.detectors}
        return Outcome(methods, found, [scores for _, scores in evaluated])

    def _evaluate(self, method: Method) -> tuple[dict[str, list[Tensor]], pd.DataFrame]:
        """The detections of each frozen detector and the paper's metrics of a method's images of the test pairs."""
        results.fuse_method(method, self.test)
        images = [file_fingerprint(method.image_path(pair)) for pair in self.test]
        found = {name: self._find_people(name, method, images) for name in self.detectors}
        return found, results.measure_method(method, self.test)

    def _find_people(self, name, method, images):
        labels, size = [pair.label for pair in self.test], self.run.profile.detect_size
        in_loss = name == self.weights.stem
        weights = self.weights if in_loss else self.run.weights(self.run.profile.held_out_detector)
        stage = self.run.stage(method.folder / ("detections" if in_loss else f"detections-{name}"), protocols.stock,
                               labels=labels, images=images, weights=file_fingerprint(weights), size=size)
        file = stage.folder / "people.safetensors"
        with stage.alone():
            if stage.provenance is None:
                found = protocols.stock(self.detectors[name], [method], self.test, size)[method.name]
                write_atomically(file, save({label: boxes.contiguous() for label, boxes in zip(labels, found)}))
                stage.finish()
        try:
            found = load_file(file)
            return [found[label] for label in labels]
        except (SafetensorError, OSError, KeyError) as error:
            raise FusionError(f"{file}: expected the boxes of {len(labels)} images, but they cannot be read "
                              f"({first_line(error)}); delete its folder, and run again") from error

    def text_sensitivity(self, experiment: Experiment = FULL, seed: int = 0) -> dict[str, float]:
        """Mean absolute difference of a trained network's test images, in gray levels of 255.

        "answer" is that to its images with another image's answer, "stage 2" that to the images of stage 1.
        """
        method = self.method(experiment, seed)
        fuse, answers, changes = method.make(), method.answers(self.test), []
        for pair, answer, other in zip(self.test, answers, Shuffled(seed=seed).deal(answers)):
            ir, visible = load(pair)
            image = fuse(ir, visible, answer.features)
            compared = fuse(ir, visible, other.features), network.fuse(self.network, ir, visible)
            changes.append(torch.stack([(image - each).abs().mean() for each in compared]))
        return dict(zip(("answer", "stage 2"), (255 * torch.stack(changes).mean(0)).tolist()))


def _features(answer, dim):
    return torch.nn.functional.pad(answer.features, (0, dim - answer.features.shape[1]))
