"""Feedback on fused images: what a back end advises, and the features of its answer (paper section 3.3)."""

import itertools
import time
from collections.abc import Iterable, Sequence

from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.errors import FusionError
from fusionlib.feedback import rules
from fusionlib.feedback.encode import encode, encoder_name, tokens
from fusionlib.feedback.store import Answer, Store, answer_key, image_fingerprint, open_store

#: The question of the paper, to the letter.
QUESTION = "To improve the accuracy of pedestrian detection, how can the quality of this image be enhanced?"

#: name -> (model, function from images and a question to answers)
BACKENDS = {"rules": (rules.MODEL, rules.answer)}

__all__ = ["BACKENDS", "QUESTION", "Answer", "Store", "ask", "encode", "encoder_name", "open_store", "tokens"]


def ask(
    images: Iterable[Tensor],
    backend: str = "rules",
    question: str = QUESTION,
    store: Store | None = None,
    names: Sequence[str] | None = None,
    batch: int = 16,
) -> list[Answer]:
    """Ask a back end about images; what the store knows already is not asked again.

    Args:
        images: tensors [1|3,H,W] in 0..1, any iterable: they are taken one batch at a time.
        backend: "rules", measurements put into words: a stand-in for LLaVA.
        question: what is asked.
        store: receives each batch of answers as it is ready.
        names: for people, one per image.
        batch: images asked about at once.

    Returns:
        One answer per image, in order, with features [L,D].

    Raises:
        FusionError: unknown back end.
    """
    if backend not in BACKENDS:
        raise FusionError(f"backend must be one of {', '.join(BACKENDS)}, but is {backend!r}")
    model, respond = BACKENDS[backend]
    record = {"question": question, "backend": backend, "model": model, "settings": "{}", "encoder": encoder_name()}
    images = tqdm(images, desc=f"asking {backend}", leave=False, delay=5)  # no bar for what the store answers at once
    named = zip(itertools.repeat("") if names is None else names, images)
    answers = []
    while group := list(itertools.islice(named, batch)):
        prints = [image_fingerprint(image) for _, image in group]
        keys = [answer_key(image, **record) for image in prints]
        fresh = [i for i, key in enumerate(keys) if store is None or key not in store]
        began = time.perf_counter()
        texts = respond([group[i][1] for i in fresh], question) if fresh else []
        features = [f.half().float() for f in encode(texts)] if fresh else []  # as exact as the store keeps them
        seconds = (time.perf_counter() - began) / max(1, len(fresh))
        new = {
            i: Answer(group[i][0], prints[i], text=t, seconds=seconds, features=f, **record)
            for i, t, f in zip(fresh, texts, features)
        }
        if store is not None:
            store.put(new.values())
        answers += [new[i] if i in new else store.get(key) for i, key in enumerate(keys)]
    return answers
