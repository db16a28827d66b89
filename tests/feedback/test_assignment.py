import pytest
import torch

from fusionlib import feedback
from fusionlib.utils.errors import FusionError


@pytest.fixture
def images():
    return [torch.rand(3, 40, 50) * level for level in (0.2, 0.6, 1)]


@pytest.mark.parametrize("backend", ["rules", "shuffled"])
def test_each_image_gets_back_the_answer_that_was_its_own_in_the_run(tmp_path, images, backend):
    store = feedback.open_store(tmp_path / "answers")
    answers = feedback.ask(images, backend, store=store, names=["a", "b", "c"])
    feedback.write_assignment(tmp_path / "assigned.json", answers)
    again = feedback.read_assignment(tmp_path / "assigned.json", feedback.open_store(tmp_path / "answers"), ["c", "a"])
    for mine, its in zip((answers[2], answers[0]), again):
        assert its.text == mine.text and torch.equal(its.features, mine.features)


def test_what_is_missing_is_named(tmp_path, images):
    path, store = tmp_path / "assigned.json", feedback.open_store(tmp_path / "answers")
    with pytest.raises(FusionError, match=r"assigned\.json: .* cannot be read .* ask again"):
        feedback.read_assignment(path, store, ["a"])
    answers = feedback.ask(images, store=store)
    with pytest.raises(FusionError, match="a name for each of 3 answers, found 1 different"):
        feedback.write_assignment(path, answers)
    feedback.write_assignment(path, feedback.ask(images, store=store, names=["a", "b", "c"]))
    with pytest.raises(FusionError, match="2 images, found none for d"):
        feedback.read_assignment(path, store, ["a", "d"])
    with pytest.raises(FusionError, match="found none for a and 1 others; ask again"):
        feedback.read_assignment(path, feedback.open_store(tmp_path / "other"), ["a", "b"])


@pytest.mark.parametrize("content", [
    b"", b"5", b"null", b"[]", b'["a"]', b'{"a": 5}', b'{"a": null}', b'{"a": ["k"]}', b'{"a": "\xe9"}', b"[" * 100_000,
], ids=lambda content: str(content)[:20])  # fmt: skip
def test_keys_that_are_damaged(tmp_path, content):
    (tmp_path / "assigned.json").write_bytes(content)
    with pytest.raises(FusionError, match=r"assigned\.json: expected the answers' keys, .*ask again") as error:
        feedback.read_assignment(tmp_path / "assigned.json", feedback.open_store(tmp_path / "answers"), ["a"])
    assert "\n" not in str(error.value)
