"""Ask a back end about images, in batches and over several processes, and record which image has which answer."""

import datetime
import itertools
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import fastjsonschema
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.feedback.backends import make
from fusionlib.feedback.controls import Shuffled
from fusionlib.feedback.store import Answer, Store, answer_key, image_fingerprint
from fusionlib.feedback.text_encoder import encode
from fusionlib.feedback.views import View
from fusionlib.utils.distributed import gather, process
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import load_json, write_atomically

#: The question of the paper, verbatim.
QUESTION = "To improve the accuracy of pedestrian detection, how can the quality of this image be enhanced?"
BATCH = 16
MAX_CONSECUTIVE_FAILURES = 8  # images in a row; then the rest are not asked
_check_keys = fastjsonschema.compile({"type": "object", "additionalProperties": {"type": "string"}})


def ask(images: Iterable[View], backend="rules", question: str = QUESTION, store: Store | None = None,
        names: Sequence[str] | None = None, batch: int | None = None, problems: list[str] | None = None, **options
        ) -> list[Answer]:  # fmt: skip
    """Ask a back end about images; answers that the store already holds are not asked for again.

    Each batch is stored as soon as it is answered, so an interrupt loses only the batch in progress. Under `accelerate
    launch` every process asks about its share of the images (of a sequence it reads no others) and returns all answers.

    Args:
        images: tensors [1|3,H,W] in 0..1, or tuples of fused image and sources (`views.View`), any iterable; only one
            batch at a time is held in memory.
        backend: a name, see `make`, or a back end. The default, "rules", is a stand-in for LLaVA.
        question: what is asked.
        store: receives each batch of answers as it is ready.
        names: human-readable, one per image.
        batch: images asked about at once; by default what the back end prefers, or 16.
        problems: a list that receives a sentence for each image that got no answer, if others got one: then no error is
            raised for it.
        options: of the back end, if it is given by name.

    Returns:
        One answer per image, in order, with features [L,D].

    Raises:
        FusionError: unknown back end or option; the numbers of names and images differ; or some images got no answer,
            such as a file of a sequence that cannot be read. Then the others have been asked and stored, and a second
            call asks only about the rest. Or many in a row got none, which ends the call.
    """
    state = process()
    if options and not isinstance(backend, str):
        raise FusionError(f"options are for a back end given by name, but it is an object; got {', '.join(options)}")
    responder = make(backend, **options) if isinstance(backend, str) else backend
    shuffled = responder if isinstance(responder, Shuffled) else None
    responder = shuffled.base if shuffled else responder
    label = getattr(responder, "name", type(responder).__name__)
    batch = getattr(responder, "batch", BATCH) if batch is None else batch
    if batch < 1:
        raise FusionError(f"batch must be at least 1, but is {batch}")
    record = {"question": question, "backend": label, "model": responder.model, "revision": responder.revision,
              "settings": json.dumps(responder.settings, sort_keys=True), "encoder": responder.encoder}
    count = len(images) if hasattr(images, "__len__") else None if names is None else len(names)
    share = _share(images, names, state.process_index, state.num_processes)
    with tqdm(total=count, desc=f"asking {label}", unit=" images", leave=False, delay=5,
              disable=not state.is_main_process) as bar:
        outcome = _run(share, responder, record, store, batch, bar, state.num_processes)
    outcome, *others = gather(outcome)
    for other in others:
        outcome.keys |= other.keys
        outcome.answers |= other.answers
        outcome.failed += other.failed
        outcome.stopped |= other.stopped
    if outcome.failed and (problems is None or outcome.stopped or not outcome.answers):
        raise _failure(outcome, count, store) from outcome.failed[0][1]
    if problems is not None:
        problems += [f"{name}: {error}" for name, error in outcome.failed]
    answers = {index: outcome.answers[key] for index, key in sorted(outcome.keys.items()) if key in outcome.answers}
    if names is not None:
        if len(names) != len(outcome.keys):
            raise FusionError(f"names must be one per image, but there are {len(names)} for {len(outcome.keys)}")
        answers = {index: replace(answer, name=names[index]) for index, answer in answers.items()}
    answers = list(answers.values())
    return shuffled.deal(answers) if shuffled else answers


def write_assignment(path: str | Path, answers: Sequence[Answer]) -> None:
    """Write {name: key} of the answers as JSON; raises FusionError if two of them have the same name."""
    keys = {answer.name: answer_key(vars(answer)) for answer in answers}
    if len(keys) < len(answers):
        raise FusionError(f"{path}: expected a name for each of {len(answers)} answers, found {len(keys)} different "
                          "ones; pass unique names to ask")
    write_atomically(path, json.dumps(keys, indent=1).encode())


def read_keys(path: str | Path) -> dict[str, str]:
    """{name: key} of the answers, as `write_assignment` recorded them; FusionError for a missing or damaged file."""
    return load_json(path, "the answers' keys", "ask again", _check_keys)


def read_assignment(path: str | Path, store: Store, names: Sequence[str]) -> list[Answer]:
    """The answers that `write_assignment` recorded for these names, in their order; features are read when needed.

    Raises:
        FusionError: the file, a name in it or an answer in the store is missing.
    """
    keys = read_keys(path)
    if missing := [name for name in names if name not in keys]:
        raise FusionError(f"{path}: expected an answer for each of {len(names)} images, found none for {missing[0]}; "
                          "ask about it too")
    answers = store.find(keys[name] for name in names)
    if missing := [name for name in names if keys[name] not in answers]:
        raise FusionError(f"{store.folder}: expected the answers that {path} names, found none for {missing[0]} and "
                          f"{len(missing) - 1} others; ask again")
    return [answers[keys[name]] for name in names]


@dataclass
class _Outcome:
    """Of one process: the key of each image (by index), the answer of each key, (name, error) of failed images.

    stopped: so many failed one after the other that the rest were not asked about.
    """

    keys: dict[int, str] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    failed: list[tuple[str, Exception]] = field(default_factory=list)
    stopped: bool = False


def _share(images, names, process: int, processes: int) -> Iterator[tuple[int, str, Tensor | FusionError]]:
    """Index, name and image of this process's images, every `processes`-th; of a sequence only these are read.

    In the place of an image of a sequence that cannot be read comes its error.
    """
    if hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        share = ((index, _read(images, index)) for index in range(process, len(images), processes))
    else:
        share = itertools.islice(enumerate(images), process, None, processes)
    for index, image in share:
        yield index, names[index] if names is not None and index < len(names) else "", image


def _read(images, index: int) -> Tensor | FusionError:
    try:
        return images[index]
    except FusionError as error:
        return error


def _run(share, responder, record: dict, store: Store | None, batch: int, bar: tqdm, processes: int) -> _Outcome:
    """Look up stored answers and ask for the others, in full batches wherever in the share they are.

    The bar counts only images that are asked about: stored ones are subtracted from its total. The other processes are
    assumed to be as fast as this one.
    """
    outcome, waiting, consecutive_failures = _Outcome(), {}, 0
    while True:
        group, new = list(itertools.islice(share, batch)), {}
        for index, name, image in group:
            if isinstance(image, FusionError):
                outcome.keys[index] = ""
                outcome.failed.append((name or f"image {index}", image))
                continue
            image_record = {**record, "name": name, "image": image_fingerprint(image)}
            outcome.keys[index] = key = answer_key(image_record)
            if key not in outcome.answers and key not in waiting:
                new[key] = (index, image_record, image)
        if store is not None and new:
            outcome.answers |= store.find(new)
        new = {key: value for key, value in new.items() if key not in outcome.answers}
        waiting |= new
        if bar.total is not None:
            bar.total -= (len(group) - len(new)) * processes
        while len(waiting) >= batch or (waiting and not group):
            answers, failed = _query([waiting.pop(key) for key in list(waiting)[:batch]], responder)
            outcome.answers |= {answer_key(vars(a)): a for a in answers} if store is None else store.put(answers)
            outcome.failed += failed
            asked = (len(answers) + len(failed)) * processes
            left = None if bar.total is None else bar.total - bar.n - asked
            bar.set_postfix(_postfix(len(outcome.failed), answers, left, store), refresh=False)
            bar.update(asked)
            consecutive_failures = 0 if answers else consecutive_failures + len(failed)
            if consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
                outcome.stopped = True
                return outcome
        if not group:
            return outcome


def _postfix(failed: int, answers: list[Answer], left: int | None, store: Store | None) -> dict[str, float]:
    """Shown beside the bar: the number of failures, and the gigabytes that the store will still need and has free."""
    postfix = {"failed": failed}
    if answers and left is not None:
        postfix["GB to come"] = sum(answer.kept.nbytes for answer in answers) / len(answers) * left / 1e9
    return postfix if store is None else postfix | {"GB free": shutil.disk_usage(store.folder).free / 1e9}


def _query(batch: list[tuple[int, dict, Tensor]], responder) -> tuple[list[Answer], list[tuple[str, Exception]]]:
    """Ask about one batch: the answers, with features in half precision, and (name, error) of failed images."""
    began, asked = time.perf_counter(), datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    replies = responder.reply([image for *_, image in batch], batch[0][1]["question"])
    texts = [r.text for r in replies if not isinstance(r, Exception) and r.features is None]
    encoded = iter(encode(texts) if texts else [])
    seconds = (time.perf_counter() - began) / len(batch)
    answers, failed = [], []
    for (index, record, _), reply in zip(batch, replies, strict=True):
        if not isinstance(reply, Exception):
            features = (next(encoded) if reply.features is None else reply.features).detach().cpu().half()
            if len(features) and features.isfinite().all():
                answers.append(Answer(**record, text=reply.text, seconds=seconds, tokens=len(features), asked=asked,
                                      kept=features))
                continue
            reply = FusionError("its features are not all finite numbers: let the model compute in bf16 or float32")
        failed.append((record["name"] or f"image {index}", reply))
    return answers, failed


def _failure(outcome: _Outcome, count: int | None, store: Store | None) -> FusionError:
    """The error of `ask` when images have failed, grouped by reason."""
    names_by_reason = {}
    for name, error in outcome.failed:
        names_by_reason.setdefault(str(error) or type(error).__name__, []).append(name)
    reasons = [f"{', '.join(names[:3])}{' and others' * (len(names) > 3)}: {reason}"
               for reason, names in names_by_reason.items()]
    more = f"; and {len(reasons) - 3} more reasons" if len(reasons) > 3 else ""
    answered = sum(key in outcome.answers for key in outcome.keys.values())
    total = len(outcome.keys) if count is None else count
    fate = "are lost: give a store to keep them" if store is None else "are stored: a second call asks about the others"
    return FusionError(f"{len(outcome.failed)} images got no answer ({'; '.join(reasons[:3])}{more}); the answers to "
                       f"{answered} of {total} images {fate}")
