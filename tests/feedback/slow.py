"""A back end that takes its time and writes down what it was asked, and runs of it in several processes.

    python slow.py killed FOLDER
    python slow.py writers FOLDER
    accelerate launch slow.py shared FOLDER
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from fusionlib import feedback
from fusionlib.feedback.backends import Reply
from fusionlib.feedback.store import answer_key, image_fingerprint
from fusionlib.utils.errors import FusionError

BATCH = 4
LINE = 65  # characters of a fingerprint in the log


class Slow:
    """Replies with features that are known for every image: its fingerprint is the seed."""

    model, revision, encoder = "slow", "1", "noise"

    def __init__(self, log=None, seconds=0.0, broken=()):
        self.log, self.seconds, self.broken, self.settings = log, seconds, broken, {"rows": 64}

    def reply(self, images, question):
        prints = [image_fingerprint(image) for image in images]
        if self.log:
            with open(self.log, "a") as file:
                file.write("".join(f"{p}\n" for p in prints))
        time.sleep(self.seconds)
        return [OSError("no luck") if p in self.broken else Reply(f"seen {p[:8]}", features(p)) for p in prints]


def features(fingerprint):
    generator = torch.Generator().manual_seed(int(fingerprint[:12], 16))
    return torch.randn(64, 256, generator=generator).half().float()


def pictures(count):
    generator = torch.Generator().manual_seed(7)
    return list(torch.rand(count, 3, 16, 20, generator=generator))


def key(fingerprint):
    slow = Slow()
    return answer_key({"image": fingerprint, "question": feedback.QUESTION, "model": slow.model,
                       "revision": slow.revision, "settings": json.dumps(slow.settings), "encoder": slow.encoder})


def killed(folder, kills=10):
    """Ask about 96 images in a process that is killed again and again; print what each one left, as JSON lines.

    Each is killed at a random moment while one of its first batches is asked or stored, the last one is left alone.
    """
    images, log, chance = pictures(96), folder / "asked.txt", random.Random(1)
    log.touch()
    prints = {key(p): p for p in map(image_fingerprint, images)}
    for attempt in range(kills + 1):
        child = os.fork()
        if not child:
            feedback.ask(images, Slow(log, 0.004), store=feedback.open_store(folder / "store"), batch=BATCH)
            os._exit(0)
        if attempt < kills:
            enough = log.stat().st_size + chance.randint(0, 2) * BATCH * LINE
            while log.stat().st_size <= enough and log.stat().st_size < len(images) * LINE:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        stored = feedback.open_store(folder / "store").find(prints)
        intact = all(torch.equal(answer.features, features(prints[k])) for k, answer in stored.items())
        print(json.dumps({"stored": [prints[k] for k in stored], "intact": intact, "asked": log.read_text().split()}))


def writers(folder):
    """Two processes fill one store at the same time, and 30 of 90 images are asked about by both."""
    for start in (0, 30):
        if not os.fork():
            images = pictures(90)[start : start + 60]
            os._exit(len(feedback.ask(images, Slow(), store=feedback.open_store(folder), batch=2)) - 60)
    assert [os.wait()[1], os.wait()[1]] == [0, 0]


class Read(list):
    """Images that remember which of them were read."""

    read = ()

    def __getitem__(self, index):
        self.read += (index,)
        return super().__getitem__(index)


def shared(folder):
    """Ask in each process of `accelerate launch` and write down what it got."""
    images, result = Read(pictures(23)), {}
    store = feedback.open_store(folder / "store")
    names = [str(i) for i in range(23)]
    answers = feedback.ask(images, Slow(folder / "asked.txt", 0.01), store=store, names=names, batch=4)
    result["stored"] = [[a.name, a.text, a.features.sum().item()] for a in answers]
    result["read"] = images.read
    answers = feedback.ask(iter(pictures(7)), Slow(), batch=2)
    result["gathered"] = [[a.text, a.features.sum().item()] for a in answers]
    try:
        feedback.ask(pictures(23), Slow(broken=[image_fingerprint(pictures(23)[6])]), batch=2)
    except FusionError as error:
        result["error"] = str(error)
    (folder / f"process-{os.environ['RANK']}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"killed": killed, "writers": writers, "shared": shared}[sys.argv[1]](Path(sys.argv[2]))
