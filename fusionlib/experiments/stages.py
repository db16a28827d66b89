"""The stages of a run, as notebooks 01 to 04 and 08 and `python -m fusionlib train` call them.

Results that are finished for the same settings, data and code are loaded; an interrupted training is resumed.
"""

import os
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from fusionlib.data import manifests, splits
from fusionlib.data import medical as volumes
from fusionlib.data.check import examine
from fusionlib.data.image_io import LazyImages
from fusionlib.data.layouts import Report, read
from fusionlib.data.pairs import Pair
from fusionlib.data.problems import Problem
from fusionlib.data.synthetic import phantom, scene
from fusionlib.detection.checkpoints import load_yolov5
from fusionlib.experiments.run import Run, Stage, fingerprint_pairs, network_of
from fusionlib.feedback.querying import QUESTION, ask, write_assignment
from fusionlib.feedback.store import Answer, LazyFeatures, answers_with_sides, open_store
from fusionlib.feedback.views import CAPTION, WithSources
from fusionlib.inference.network import fuse_pairs, read_fused
from fusionlib.training.fusion import train_fusion_network
from fusionlib.training.text_dfh import train_text_dfh
from fusionlib.utils.devices import best_device
from fusionlib.utils.files import absolute, file_fingerprint, fingerprint

#: The question about medical images; the paper's only question is about pedestrians.
MEDICAL_QUESTION = "To make lesions and tissue easier to tell apart, how can the quality of this image be enhanced?"


def data(run: Run, ir: str = "", visible: str = "", labels: str = "") -> Report:
    """Find the pairs below the data root, and split them into training and test pairs (paper 4.1, notebook 01).

    `ir`, `visible` and `labels` are folders or patterns in its stead, see `data.layouts.pair_folders`; the stages after
    this one find their pairs without them. The synthetic scenes of a profile are rendered first where neither was
    given. The split is `run.parts`. Every image is decoded once, so that the report says of files what `data check`
    says of them. Raises FusionError where no pair is usable.
    """
    given = {"ir": ir, "visible": visible, "labels": labels}
    given = {name: str(absolute(place)) for name, place in given.items() if place}
    if not given and run.data_root.is_relative_to(run.folder):
        scene.write(run.data_root / "Scenes", run.profile.scenes_train, run.profile.scenes_test, run.profile.seed)
    report = read(None if given else run.data_root, **given)
    root, facts = report.root, {"root": str(report.root)} if given else {}
    run = replace(run, data_root=root, pairs_root=root)
    stage = run.stage("01_data", read, examine, splits.choose, manifests.write_manifest,
                      files=fingerprint_pairs(report.pairs, root))
    manifest = stage.folder / "manifest.json"
    with stage.alone():
        if stage.finished:
            known = stage.provenance["facts"]
            report.problems, report.remarks = ([Problem(root / path, kind, message) for path, kind, message in found]
                                               for found in (known["problems"], known["remarks"]))
            unreadable = {problem.path for problem in report.problems if problem.kind == "unreadable"}
            report.pairs = [pair for pair in report.pairs if not unreadable & {pair.ir, pair.visible}]
            if known.get("root") != facts.get("root"):  # the folders have been moved
                stage.finish(**{name: known[name] for name in ("manifest", "problems", "remarks")}, **facts)
        else:
            examine(report, progress=False).require_pairs()
            manifests.write_manifest(manifest, splits.choose(report.pairs), root)
            found = {name: [[os.path.relpath(p.path, root), p.kind, p.message] for p in getattr(report, name)]
                     for name in ("problems", "remarks")}
            stage.finish(manifest=manifests.fingerprint(manifest), **found, **facts)
    report.notes += splits.unused(report.pairs, splits.choose(report.pairs))
    return report


def fusion_network(run: Run) -> Stage:
    """Train the fusion network, stage 1 (paper 3.2, notebook 02); its folder has the weights and curves.csv."""
    parts, settings = run.parts, run.profile
    inputs = settings.part("fusion_", "channels", "crops_per_image", "exposure_augmentation", "amp", "optimizer",
                           "schedule", "freeze_bn_fraction", "validation")
    stage = run.stage("02_fusion_network", train_fusion_network, data=run.finished("01_data").fingerprint, **inputs)
    with stage.alone():
        if not stage.finished:
            train_fusion_network(parts.fusion_train, parts.fusion_validation, stage.folder, settings)
            stage.finish()
    return stage


def fused_images(stage: Stage, pairs: Sequence[Pair], texts: Sequence[Tensor] | None = None) -> LazyImages:
    """Fuse pairs with the weights of a finished stage, as files in "fused" in its folder; existing ones are kept.

    Args:
        stage: result of `fusion_network` or `text_dfh`.
        texts: for Text-DFH, features [L,D] of each pair's answer.

    Returns:
        Images [3,H,W] in 0..1, each read when it is indexed.
    """
    images = stage.run.stage(stage.folder / "fused", fuse_pairs, weights=stage.fingerprint)
    fuse_pairs(network_of(stage), pairs, images.folder, texts)
    if images.provenance is None:
        images.finish()
    return read_fused(images.folder, pairs)


def feedback(run: Run, responder, question: str = QUESTION) -> list[Answer]:
    """Ask a back end (`feedback.make`) about the fused image of each of `run.parts.asked` (paper 3.3, notebook 03)."""
    pairs, fusion = run.parts.asked, run.finished("02_fusion_network")
    stage = run.stage(
        "03_mllm_feedback", ask, fusion=fusion.fingerprint, question=question, backend=run.profile.backend,
        views=run.profile.views, model=responder.model, revision=responder.revision, settings=responder.settings,
        encoder=responder.encoder,
    )
    store, labels = open_store(run.folder / "answers"), [pair.label for pair in pairs]
    images = fused_images(fusion, pairs)
    if run.profile.views == "all":
        images, question = WithSources(images, pairs), CAPTION + question
    answers = ask(images, responder, question, store, labels)
    with stage.alone():
        if not stage.finished:
            write_assignment(stage.folder / "assigned.json", answers)
            stage.finish(answers=len(answers))
    return answers


def text_dfh(run: Run) -> Stage:
    """Train Text-DFH, stage 2 (paper 3.3, notebook 04), under the profile's detector or, without one, L_f alone."""
    parts, settings = run.parts, run.profile
    fusion, answers = run.finished("02_fusion_network"), run.finished("03_mllm_feedback")
    weights = run.weights(settings.detector) if settings.detector else None
    inputs = settings.part("dfh_", "variant", "fidelity", "detect_size", "detection_datasets", "amp", "optimizer",
                           "schedule", "validation", "freeze_bn_fraction", "instruction_", "restoration_",
                           "exposure_augmentation", "fusion_loss")
    stage = run.stage("04_text_dfh", train_text_dfh, fusion=fusion.fingerprint, feedback=answers.fingerprint,
                      detector=weights and file_fingerprint(weights), **inputs)
    with stage.alone():
        if not stage.finished:
            train, validation = ((pairs, LazyFeatures(run.answers(pairs)))
                                 for pairs in (parts.dfh_train, parts.dfh_validation))
            detector = weights and load_yolov5(weights, best_device())
            train_text_dfh(network_of(fusion), detector, train, validation, stage.folder, settings,
                           parts.fusion_train, answers_with_sides(train[1].answers))
            stage.finish()
    return stage


def medical(run: Run, modalities: Sequence[str]) -> Run:
    """Prepare slices of medical volumes as a run within a run (paper 4.4.3, notebook 08), for the stages above.

    Without medical data below the data root the volumes are procedural phantoms. `modalities` are those in place of the
    infrared and of the visible image, see `data.medical.read`. Stage 2 is trained under the fusion loss alone.

    Returns:
        A run in the folder 08_medical_fusion with finished notebook 01; `finished("01_data")` has notes and problems.
    """
    root, p, folder = run.data_root, run.profile, run.folder / "08_medical_fusion"
    if not volumes.sources(root):
        print("No medical data below the data root: procedural phantoms, no patients.")
        target = run.folder / "phantoms" / f"drawing-{phantom.DRAWING}-seed-{p.seed}"
        root = phantom.write(target, 6, p.seed, (128, 128, 32))
    files = [[str(path.relative_to(root)), path.stat().st_size] for path in volumes.sources(root)]
    settings = replace(
        p, fusion_datasets=(), fusion_epochs=p.medical_epochs, fusion_batch=p.medical_batch, fusion_crop=p.medical_crop,
        crops_per_image=1, fusion_balanced=False, exposure_augmentation=0.0, detector="", instruction_steps=0,
        views="fused", dfh_epochs=p.medical_dfh_epochs, dfh_lr=p.medical_dfh_lr,
    )
    inner = replace(run, profile=settings, folder=folder, pairs_root=folder / "01_data")
    inputs = {"files": fingerprint(files), "modalities": list(modalities), "slices": p.medical_slices}
    stage = inner.stage("01_data", volumes.read, manifests.write_manifest, **inputs)
    with stage.alone():
        if not stage.finished:
            report, manifest = volumes.read(root, stage.folder, p.medical_slices, modalities), "manifest.json"
            left_out = manifests.write_manifest(stage.folder / manifest, volumes.divide(report.pairs), stage.folder)
            stage.finish(notes=report.notes, problems=[str(problem) for problem in report.problems + left_out])
    return inner


#: The trainings of `python -m fusionlib train`, by number of the notebook.
TRAINED = {"02": fusion_network, "04": text_dfh}
