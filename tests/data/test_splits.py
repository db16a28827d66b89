"""Split rules and manifests."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusionlib.config import profile
from fusionlib.data import Pair, choose, fingerprint, load_rules, read_manifest, summary, write_image, write_manifest
from fusionlib.data.splits import balanced, parts, unused
from fusionlib.utils.errors import FusionError

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 9), dtype=np.uint8)


def llvip(train, test):
    """Pairs without files, named as LLVIP names them."""
    names = [("train", f"{i:06d}") for i in range(10001, 10001 + train)]
    names += [("test", f"{i:06d}") for i in range(190001, 190001 + test)]
    return [Pair("LLVIP", split, name, Path("a"), Path("b")) for split, name in names]


@pytest.fixture
def split(tmp_path):
    pairs = []
    for i, name in enumerate("abc"):
        files = tmp_path / "data" / "ir" / f"{name}.png", tmp_path / "data" / "vi" / f"{name}.png"
        write_image(files[0], IMAGE + np.uint8(i))
        write_image(files[1], np.stack([IMAGE] * 3, -1) + np.uint8(i))
        pairs.append(Pair("own", "", name, *files))
    pairs[0] = Pair("own", "", "a", pairs[0].ir, pairs[0].visible, np.float32([[0.1, 1, 5, 6]]), ("person",))
    pairs[1] = Pair("own", "", "b", pairs[1].ir, pairs[1].visible, np.zeros((0, 4), np.float32), ())
    return {"train": pairs[:1], "test": pairs[1:]}


def test_committed_rules_are_the_papers():
    rules = load_rules()
    assert rules["datasets"]["LLVIP"] == {"train": 2000, "test": 200}
    assert [rules["datasets"][name]["test"] for name in ("M3FD", "MSRS")] == [200, 200]


def test_named_train_pairs_of_a_data_set_without_parts():
    named = load_rules()["datasets"]["RoadScene"]["train"]
    assert len(named) == len(set(named)) == 87 and named == sorted(named)
    pairs = [Pair("RoadScene", "", name, None, None) for name in [*named[:3], "FLIR_99999", "FLIR_99998"]]
    split = choose(pairs)
    assert {pair.name for pair in split["train"]} == set(named[:3])
    assert {pair.name for pair in split["test"]} == {"FLIR_99999", "FLIR_99998"}
    assert summary(split)[0].startswith("RoadScene train: 3 pairs, 0 labelled; the rule asks for 87, all available")


def test_smaller_data_sets_are_repeated():
    pairs = [Pair(dataset, "train", str(i), None, None) for dataset, n in (("a", 7), ("b", 3), ("c", 1))
             for i in range(n)]
    counts = Counter(pair.dataset for pair in balanced(pairs))
    assert counts == {"a": 7, "b": 6, "c": 7} and balanced([]) == []


def test_the_rule_ranks_names_by_their_hash():
    pairs, seed = llvip(3000, 500), load_rules()["seed"]
    chosen = choose(pairs[::-1])  # in whatever order they come
    assert len(chosen["train"]) == 2000 and len(chosen["test"]) == 200
    assert {pair.split for pair in chosen["train"]} == {"train"} and {pair.split for pair in chosen["test"]} == {"test"}
    digest = {p.name: hashlib.sha256(f"{seed}/LLVIP/{p.name}".encode()).hexdigest() for p in pairs if p.split == "test"}
    assert [pair.name for pair in chosen["test"]] == sorted(digest, key=digest.get)[:200]
    # Published lists depend on it: these names must never change.
    assert [pair.name for pair in chosen["train"][:4]] == ["011765", "012688", "012593", "011800"]


def test_an_incomplete_copy_loses_only_what_it_lacks():
    pairs = llvip(3000, 0)
    whole = {pair.name for pair in choose(pairs)["train"]}
    subset = {pair.name for pair in choose(pairs[::2])["train"]}
    assert whole & {pair.name for pair in pairs[::2]} <= subset


def test_a_random_choice_is_spread_evenly():
    chosen = [int(pair.name) for pair in choose(llvip(3000, 0))["train"]]
    assert np.histogram(chosen, bins=10)[0].min() > 160  # of 200 expected; standard deviation 8


def test_data_sets_without_parts_are_tests_and_own_ones_are_taken_whole():
    pairs = [Pair("M3FD", "", str(i), Path("a"), Path("b")) for i in range(300)]
    pairs += [Pair("MSRS", "train", "x", Path("a"), Path("b"))]
    pairs += [Pair("Scenes", split, split, Path("a"), Path("b")) for split in ("train", "test")]
    chosen = choose(pairs)
    assert [pair.dataset for pair in chosen["train"]] == ["MSRS", "Scenes"]
    assert [pair.dataset for pair in chosen["test"]] == ["M3FD"] * 200 + ["Scenes"]


def own(dataset, **parts):
    return [Pair(dataset, part, f"{part}{i}", Path("a"), Path("b")) for part, count in parts.items()
            for i in range(count)]


def test_pairs_of_a_val_part_validate():
    chosen = choose(own("walk", train=20, val=10, test=5) + own("ride", train=30, test=2))
    assert Counter((p.dataset, p.split) for p in chosen["train"]) == {
        ("walk", "train"): 20, ("walk", "val"): 10, ("ride", "train"): 30}
    assert Counter((p.dataset, p.split) for p in chosen["test"]) == {("walk", "test"): 5, ("ride", "test"): 2}
    assert summary(chosen) == [
        "ride train: 30 pairs, 0 labelled", "ride test: 2 pairs, 0 labelled", "walk train: 20 pairs, 0 labelled",
        "walk val: 10 pairs, 0 labelled; evenly spaced ones, as many as the setting validation says, validate",
        "walk test: 5 pairs, 0 labelled"]
    used = parts(chosen, profile("small", validation=4, detector=""))
    assert Counter((p.dataset, p.split) for p in used.fusion_validation) == {("walk", "val"): 4, ("ride", "train"): 4}
    assert Counter((p.dataset, p.split) for p in used.fusion_train) == {("walk", "train"): 20, ("ride", "train"): 26}
    assert used.dfh_train == used.fusion_train and used.dfh_validation == used.fusion_validation


def test_a_val_part_without_a_test_part_tests():
    chosen = choose(own("walk", train=5, val=3))
    assert [pair.split for pair in chosen["test"]] == ["val"] * 3 and len(chosen["train"]) == 5
    assert summary(chosen)[1] == ("walk test: 3 pairs, 0 labelled; they are its val part, since it has no test part")


def test_what_the_rule_leaves_out_is_named():
    pairs = own("M3FD", train=4, val=3, test=201) + own("walk", train=2)
    assert unused(pairs, choose(pairs)) == [
        "4 pairs of M3FD train are not used: the split rule asks for no more, the first is train0",
        "3 pairs of M3FD val are not used: the split rule asks for no more, the first is val0",
        f"1 pairs of M3FD test are not used: the split rule asks for no more, the first is "
        f"{next(p.name for p in pairs if p.split == 'test' and p not in choose(pairs)['test'])}"]


def test_the_summary_says_what_is_missing():
    assert summary(choose(llvip(2500, 34))) == [
        "LLVIP train: 2000 pairs, 0 labelled",
        "LLVIP test: 34 pairs, 0 labelled; the rule asks for 200, all available ones are taken",
    ]


def test_manifest_round_trip(tmp_path, split):
    path = tmp_path / "runs" / "split.json"
    assert write_manifest(path, split, tmp_path / "data") == []
    again = read_manifest(path, tmp_path / "data", verify=True)
    for name in split:
        for before, after in zip(split[name], again[name], strict=True):
            assert (before.dataset, before.split, before.name) == (after.dataset, after.split, after.name)
            assert (before.ir, before.visible, before.classes) == (after.ir, after.visible, after.classes)
            assert (before.boxes is None) == (after.boxes is None)
            if before.boxes is not None:
                np.testing.assert_array_equal(before.boxes, after.boxes)
                assert after.boxes.dtype == np.float32 and after.boxes.shape[1] == 4
    content = json.loads(path.read_text())
    entry = content["train"][0]
    assert entry["ir"] == "ir/a.png" and entry["size"] == [8, 9] and str(tmp_path) not in path.read_text()
    assert entry["visible_sha256"] == hashlib.sha256((tmp_path / "data" / "vi" / "a.png").read_bytes()).hexdigest()
    assert content["rules"] == load_rules() and content["fingerprint"] == fingerprint(path)


def test_the_fingerprint_follows_files_and_boxes(tmp_path, split):
    root, prints = tmp_path / "data", []
    for change in ("nothing", "again", "box", "file"):
        if change == "box":
            split["train"][0].boxes[0, 0] = 0
        if change == "file":
            write_image(split["test"][0].ir, IMAGE)
        write_manifest(tmp_path / "m.json", split, root)
        prints.append(fingerprint(tmp_path / "m.json"))
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_changed_and_missing_files_are_named(tmp_path, split):
    path, root = tmp_path / "m.json", tmp_path / "data"
    write_manifest(path, split, root)
    write_image(root / "vi" / "b.png", IMAGE)
    read_manifest(path, root)  # it takes a look at the content to see that
    with pytest.raises(FusionError, match=r"vi/b.png: expected SHA-256 .* restore"):
        read_manifest(path, root, verify=True)
    (root / "ir" / "c.png").unlink()
    with pytest.raises(FusionError, match=r"ir/c.png: named in .*m.json but missing"):
        read_manifest(path, root)


def test_unreadable_files_are_left_out_and_named(tmp_path, split):
    path, root = tmp_path / "m.json", tmp_path / "data"
    cut = root / "vi" / "b.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    problems = write_manifest(path, split, root)
    assert [problem.path for problem in problems] == [cut]
    assert json.loads(path.read_text())["left_out"][0].startswith("vi/b.png: expected a whole")
    assert [pair.name for pair in read_manifest(path, root)["test"]] == ["c"]
    with pytest.raises(FusionError, match=r"no pair is left to write .*vi/b.png"):
        write_manifest(tmp_path / "none.json", {"train": [], "test": split["test"][:1]}, root)
    assert not (tmp_path / "none.json").exists()


def test_bad_manifests(tmp_path, split):
    path, root = tmp_path / "m.json", tmp_path / "data"
    with pytest.raises(FusionError, match=r"a.png: expected a file below .*elsewhere"):
        write_manifest(path, split, tmp_path / "other")
    with pytest.raises(FusionError, match=r"m.json: expected a split manifest.*No such file"):
        read_manifest(path, root)
    write_manifest(path, split, root)
    path.write_text(path.read_text().replace('"name": "a"', '"name": "z"'))
    with pytest.raises(FusionError, match="match its fingerprint"):
        read_manifest(path, root)
    for text in ("{}", "[]", "{"):
        path.write_text(text)
        with pytest.raises(FusionError, match=r"m\.json: expected a split manifest"):
            read_manifest(path, root)


def test_files_that_are_links_are_of_the_place_where_they_are_found(tmp_path, split):
    (tmp_path / "linked").mkdir()
    for side in ("ir", "vi"):
        (tmp_path / "linked" / side).symlink_to(tmp_path / "data" / side)
    linked = {name: [replace(pair, ir=tmp_path / "linked/ir" / pair.ir.name,
                             visible=tmp_path / "linked/vi" / pair.visible.name) for pair in pairs]
              for name, pairs in split.items()}  # fmt: skip
    write_manifest(tmp_path / "links.json", linked, tmp_path / "linked")
    write_manifest(tmp_path / "files.json", split, tmp_path / "data")
    assert (tmp_path / "links.json").read_text() == (tmp_path / "files.json").read_text()
    again = read_manifest(tmp_path / "links.json", tmp_path / "linked", verify=True)
    assert again["train"][0].ir == tmp_path / "linked/ir/a.png"


HOSTILE = {
    "ir": ["../../x.png", "/etc/x.png", "a/../../../x.png", "", 5, None, ["a"], "a\0b", "x" * 5000, "\ud800.png"],
    "visible": ["../x.png"], "name": ["../../../x", "..", "a/../../b", None, 5, "x" * 300, "\0"],
    "dataset": ["..", "/etc", None, {}], "split": ["../../..", 3], "scene": [None, [1]], "ir_sha256": [5],
    "ir_range": [[1], "auto", [float("nan"), 1], [None, 1]],
    "boxes": [[[float("nan")] * 4], [[0, 0, float("inf"), 1]], [[0, 0, 1e300, 1]], [[0, 0, 10**400, 1]], [[1, 2, 3]],
              [1, 2, 3, 4], "abcd", [["a"] * 4], [None], 5, [[[1, 2, 3, 4]]], [[1, 2, 3, 4]] * 2],
    "classes": [None, [1], "person", []],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in HOSTILE.items() for value in values],
                         ids=lambda value: repr(value)[:20])
def test_a_manifest_of_somebody_else(tmp_path, split, key, value):
    """Each entry is checked, with a valid fingerprint, and no name leads out of the folder of the data or of a run."""
    path, root = tmp_path / "m.json", tmp_path / "data"
    write_manifest(path, split, root)
    content = json.loads(path.read_text())
    content["train"][0][key] = value
    path.write_text(json.dumps(signed(content)))
    with pytest.raises(FusionError) as error:
        read_manifest(path, root)
    assert "\n" not in str(error.value) and "m.json" in str(error.value) and len(str(error.value)) < 800


def signed(content):
    """The manifest with the fingerprint of its entries, which anybody can compute."""
    entries = {name: content[name] for name in ("train", "test")}
    text = json.dumps(entries, sort_keys=True)
    return {**content, "fingerprint": hashlib.sha256(text.encode()).hexdigest()}


@pytest.mark.parametrize("change", [
    {"train": None}, {"train": 5}, {"train": "abc"}, {"train": {"a": 1}}, {"train": [None]}, {"train": [[]]},
    {"train": [{}]}, {"train": [], "test": []},
], ids=str)  # fmt: skip
def test_a_manifest_without_entries(tmp_path, split, change):
    path, root = tmp_path / "m.json", tmp_path / "data"
    write_manifest(path, split, root)
    path.write_text(json.dumps(signed(json.loads(path.read_text()) | change)))
    with pytest.raises(FusionError, match=r"m\.json: expected a split manifest"):
        read_manifest(path, root)
