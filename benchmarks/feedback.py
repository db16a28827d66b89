"""Asking a tiny LLaVA against bare `generate`, and reading the features of 2,000 answers from a store of 2 GB."""

import itertools
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import Case
from fusionlib import ROOT, feedback
from fusionlib.data.synthetic import scene
from fusionlib.feedback.backends import Reply, to_pil
from fusionlib.feedback.llava import Llava
from fusionlib.utils.errors import FusionError

sys.path.insert(0, str(ROOT / "tests" / "feedback"))
import tiny_llava

BATCH = 8
ANSWERS, TOKENS, DIM = 2000, 128, 4096  # as the paper's training pairs and LLaVA-1.5-7B give them

_folders = []  # temporary ones, which are removed at the end of the process that made them


class Large:
    """A back end with features as large as LLaVA's."""

    model, revision, settings, encoder = "large", "", {}, "noise"

    def reply(self, images: list, question: str) -> list[Reply]:
        """The same noise [128,4096], once per image."""
        return [Reply("", torch.randn(TOKENS, DIM))] * len(images)


def inputs() -> dict:
    """Scenes uint8 [32,256,320,3], the folder of a tiny LLaVA, and that of a full store.

    Raises FusionError where there is no space for the store, or `ask` and `generate` say different things.
    """
    need = 2.5 * ANSWERS * TOKENS * DIM
    if (free := shutil.disk_usage(tempfile.gettempdir()).free) < need:
        raise FusionError(f"{tempfile.gettempdir()} must have {need / 1e9:.1f} GB free for a while, but has "
                          f"{free / 1e9:.1f} GB: set TMPDIR to a folder on another disk")
    _folders.append(tempfile.TemporaryDirectory())
    folder = Path(_folders[-1].name)
    tiny_llava.build("llava", folder / "model")
    store = feedback.open_store(folder / "store")
    feedback.ask([torch.tensor([[divmod(i, 256)]]) / 255 for i in range(ANSWERS)], Large(), store=store)
    images = np.stack([scene.render(i).visible for i in range(4 * BATCH)])
    arrays = {"images": images, "model": str(folder / "model"), "store": str(store.folder)}
    bare, _, ours, *_ = cases(arrays)
    if bare.run() != (said := ours.run()):
        raise FusionError(f"ask and generate should say the same, but ask says {said}: mend one of the two first")
    if hasattr(os, "sync"):
        os.sync()  # else writing the store would disturb what is timed
    return arrays


def cases(arrays: dict) -> list[Case]:
    """From images to answers by `ask` and by `generate`; features read one by one against all held in memory."""
    images, llava = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2) / 255, Llava(arrays["model"])
    processor, network = llava.processor, llava.network
    content = [{"type": "image"}, {"type": "text", "text": feedback.QUESTION}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    @torch.no_grad()
    def generate(**options):
        said = []
        for some in images.split(BATCH):
            pictures = [to_pil(image) for image in some]
            entered = processor(images=pictures, text=[prompt] * len(some), padding=True, return_tensors="pt")
            made = network.generate(**entered, return_dict_in_generate=True, **options)
            tokens = made.sequences[:, entered["input_ids"].shape[1] :]
            said += [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]
        return said

    empty, count = feedback.open_store(tempfile.mkdtemp(dir=Path(arrays["model"]).parent)), itertools.count()

    def ask():
        llava.revision = str(next(count))  # so that the store knows none of the answers
        return [answer.text for answer in feedback.ask(images, llava, store=empty, batch=BATCH)]

    store = feedback.open_store(arrays["store"])
    lazy = feedback.LazyFeatures(list(store.find(store.frame().key).values()))
    order = np.random.default_rng(0).permutation(len(lazy))

    def one_by_one():
        for i in order:
            lazy[i]

    asked, read = f"tiny LLaVA, {len(images)} images, {BATCH} at a time", f"{ANSWERS:,} features [{TOKENS}, {DIM}]"
    return [
        Case(asked, "generate", generate),
        Case(asked, "generate, hidden states kept", lambda: generate(output_hidden_states=True)),
        Case(asked, "ask, into a store", ask),
        Case(read, "all held in memory, half precision", lambda: [features.half() for features in lazy]),
        Case(read, "read at random, one by one", one_by_one),
    ]
