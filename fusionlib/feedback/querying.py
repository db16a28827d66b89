"""The loop that asks: batches, the store, failures, and shares of several processes; and whose answer an image has."""

import datetime
import itertools
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.feedback.backends import make
from fusionlib.feedback.controls import Shuffled
from fusionlib.feedback.store import Answer, Store, answer_key, image_fingerprint
from fusionlib.feedback.text_encoder import encode
from fusionlib.utils.distributed import gather, process
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically

#: The question of the paper, to the letter.
QUESTION = "To improve the accuracy of pedestrian detection, how can the quality of this image be enhanced?"
BATCH = 16
MAX_CONSECUTIVE_FAILURES = 8  # images that may fail in a row before the rest is not asked any more


def ask(
    images: Iterable[Tensor],
    backend="rules",
    question: str = QUESTION,
    store: Store | None = None,
    names: Sequence[str] | None = None,
    batch: int | None = None,
    **options,
) -> list[Answer]:
    """Ask a back end about images; what the store knows already is not asked again.

    Each batch is stored as soon as it is answered: an interrupt or a kill loses the batch in flight and no more. Under
    `accelerate launch` every process asks its share of the images and returns the answers to all; of a list or a data
    set it reads its own images alone.

    Args:
        images: tensors [1|3,H,W] in 0..1, any iterable: they are taken one batch at a time.
        backend: a name, see `make`, or a back end. By default measurements put into words: a stand-in for LLaVA.
        question: what is asked.
        store: receives each batch of answers as it is ready.
        names: for people, one per image.
        batch: images asked about at once; by default what the back end prefers, or 16.
        options: of the back end, where it is given by name.

    Returns:
        One answer per image, in order, with features [L,D].

    Raises:
        FusionError: unknown back end or option; another number of names than of images; or some images got no answer.
            Then the others have been asked and stored, and a second call asks about the rest alone.
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
    record = {
        "question": question, "backend": label, "model": responder.model, "revision": responder.revision,
        "settings": json.dumps(responder.settings, sort_keys=True), "encoder": responder.encoder,
    }  # fmt: skip
    count = len(images) if hasattr(images, "__len__") else None if names is None else len(names)
    share = _share(images, names, state.process_index, state.num_processes)
    with tqdm(total=count, desc=f"asking {label}", unit=" images", leave=False, delay=5,
              disable=not state.is_main_process) as bar:  # fmt: skip
        part = _run(share, responder, record, store, batch, bar, state.num_processes)
    part = _joined(gather(part))
    if part.failed:
        raise _failure(part, count, store) from part.failed[0][1]
    answers = [part.answers[part.keys[index]] for index in range(len(part.keys))]
    if names is not None:
        if len(names) != len(answers):
            raise FusionError(f"there must be a name for each image, but there are {len(names)} for {len(answers)}")
        answers = [replace(answer, name=name) for answer, name in zip(answers, names)]
    return shuffled.deal(answers) if shuffled else answers


def write_assignment(path: str | Path, answers: Sequence[Answer]) -> None:
    """Write the key of each answer under its name, as JSON; names must differ.

    Raises:
        FusionError: two answers have the same name.
    """
    keys = {answer.name: answer_key(vars(answer)) for answer in answers}
    if len(keys) < len(answers):
        raise FusionError(f"{path}: expected a name for each of {len(answers)} answers, found {len(keys)} different "
                          "ones; give ask the names of the images")
    write_atomically(path, json.dumps(keys, indent=1).encode())


def read_assignment(path: str | Path, store: Store, names: Sequence[str]) -> list[Answer]:
    """The answers that `write_assignment` noted for these names, in their order; features are read when needed.

    Raises:
        FusionError: no such file, or a name or an answer that is missing.
    """
    try:
        keys = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise FusionError(f"{path}: expected the answers' keys, but it cannot be read ({error}): ask again") from error
    if unknown := [name for name in names if name not in keys]:
        raise FusionError(f"{path}: expected an answer for each of {len(names)} images, found none for {unknown[0]}; "
                          "ask about it too")
    found = store.find(keys[name] for name in names)
    if lost := [name for name in names if keys[name] not in found]:
        raise FusionError(f"{store.folder}: expected the answers that {path} names, found none for {lost[0]} and "
                          f"{len(lost) - 1} others; ask again")
    return [found[keys[name]] for name in names]


@dataclass
class _Part:
    """What one process has done: the key of each image it saw, the answer of each key, and errors by image."""

    keys: dict[int, str] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    failed: list[tuple[str, Exception]] = field(default_factory=list)


def _share(images, names, process: int, processes: int) -> Iterator[tuple[int, str, Tensor]]:
    """Index, name and image of every so many-th image; what can be indexed is read there and nowhere else."""
    if hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        own = ((index, images[index]) for index in range(process, len(images), processes))
    else:
        own = itertools.islice(enumerate(images), process, None, processes)
    for index, image in own:
        yield index, names[index] if names is not None and index < len(names) else "", image


def _run(share, responder, record: dict, store: Store | None, batch: int, bar: tqdm, processes: int) -> _Part:
    """Look up, and ask in full batches, however the images that the store knows are strewn among the others.

    The bar counts what is asked, for rate and time left: what is known leaves its total. The other processes are taken
    to be as fast as this one.
    """
    part, waiting, in_a_row = _Part(), {}, 0
    while True:
        group, new = list(itertools.islice(share, batch)), {}
        for index, name, image in group:
            own = {**record, "name": name, "image": image_fingerprint(image)}
            part.keys[index] = key = answer_key(own)
            if key not in part.answers and key not in waiting:
                new[key] = (index, own, image)
        if store is not None and new:
            part.answers |= store.find(new)
        new = {key: value for key, value in new.items() if key not in part.answers}
        waiting |= new
        if bar.total is not None:
            bar.total -= (len(group) - len(new)) * processes
        while len(waiting) >= batch or (waiting and not group):
            good, failed = _asked([waiting.pop(key) for key in list(waiting)[:batch]], responder)
            part.answers |= {answer_key(vars(a)): a for a in good} if store is None else store.put(good)
            part.failed += failed
            asked = (len(good) + len(failed)) * processes
            left = None if bar.total is None else bar.total - bar.n - asked
            bar.set_postfix(_facts(len(part.failed), good, left, store), refresh=False)
            bar.update(asked)
            in_a_row = 0 if good else in_a_row + len(failed)
            if in_a_row >= MAX_CONSECUTIVE_FAILURES:
                return part
        if not group:
            return part


def _facts(failed: int, good: list[Answer], left: int | None, store: Store | None) -> dict[str, float]:
    """What stands beside the bar: failures, and gigabytes that the answers to come will take and that are free."""
    facts = {"failed": failed}
    if good and left is not None:
        facts["GB to come"] = sum(answer.kept.nbytes for answer in good) / len(good) * left / 1e9
    return facts if store is None else facts | {"GB free": shutil.disk_usage(store.folder).free / 1e9}


def _asked(batch: list[tuple[int, dict, Tensor]], responder) -> tuple[list[Answer], list[tuple[str, Exception]]]:
    """The answers to one batch, with features in half precision, and what failed by the name of the image."""
    began, asked = time.perf_counter(), datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    replies = responder.reply([image for *_, image in batch], batch[0][1]["question"])
    texts = [r.text for r in replies if not isinstance(r, Exception) and r.features is None]
    encoded = iter(encode(texts) if texts else [])
    seconds = (time.perf_counter() - began) / len(batch)
    good, failed = [], []
    for (index, record, _), reply in zip(batch, replies, strict=True):
        if not isinstance(reply, Exception):
            features = (next(encoded) if reply.features is None else reply.features).detach().cpu().half()
            if len(features) and features.isfinite().all():
                facts = {"text": reply.text, "seconds": seconds, "tokens": len(features), "asked": asked}
                good.append(Answer(**record, **facts, kept=features))
                continue
            reply = FusionError("its features are not all finite numbers: let the model compute in bf16 or float32")
        failed.append((record["name"] or f"image {index}", reply))
    return good, failed


def _joined(parts: list[_Part]) -> _Part:
    """The parts of all processes in one."""
    whole = _Part()
    for part in parts:
        whole.keys |= part.keys
        whole.answers |= part.answers
        whole.failed += part.failed
    return whole


def _failure(part: _Part, count: int | None, store: Store | None) -> FusionError:
    done = sum(key in part.answers for key in part.keys.values())
    reasons = {}
    for name, error in part.failed:
        reasons.setdefault(str(error) or type(error).__name__, []).append(name)
    told = [f"{', '.join(names[:3])}{' and others' * (len(names) > 3)}: {why}" for why, names in reasons.items()]
    rest = f"; and {len(told) - 3} more reasons" if len(told) > 3 else ""
    kept = "are lost: give a store to keep them" if store is None else "are stored: a second call asks about the others"
    total = len(part.keys) if count is None else count
    return FusionError(
        f"{len(part.failed)} images got no answer ({'; '.join(told[:3])}{rest}); the answers to {done} of {total} "
        f"images {kept}"
    )
