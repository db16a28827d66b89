"""The NumPy reference against our metrics, two independent writings of one definition, and the timing tool."""

import ast
import pkgutil
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import folder, fusion, growth, metrics, numpy_metrics, peers, starting, timing, training
from fusionlib.data.image_io import read_image, to_uint8
from fusionlib.metrics import evaluate
from fusionlib.metrics.conventions import PAPER
from fusionlib.utils.errors import FusionError


def agree(fused, ir, visible):
    ours = evaluate(*(torch.from_numpy(image)[None, None] for image in (fused, ir, visible)))
    for name in PAPER:
        assert ours[name].item() == pytest.approx(numpy_metrics.METRICS[name](fused, ir, visible), rel=1e-5), name


@pytest.mark.parametrize("size", [(64, 80), (67, 83), (11, 200)])
def test_numpy_and_ours_agree_on_noise_of_any_size(size):
    # Odd sizes take the other frequency grid and incomplete blocks of Q_CV.
    agree(*np.random.default_rng(3).integers(0, 256, (3, *size), dtype=np.uint8))


def test_numpy_and_ours_agree_on_a_scene():
    arrays = metrics.inputs()
    assert {image.shape for image in arrays.values()} == {(480, 640)}
    agree(**arrays)


def test_numpy_and_ours_agree_on_equal_strengths_and_flat_parts():
    ir, visible = np.random.default_rng(5).integers(0, 256, (2, 48, 64), dtype=np.uint8)
    ir[:20], visible[:20, :30] = 0, 90
    fused = np.where(np.arange(64) < 40, ir, visible)  # its edges are those of a source nearly everywhere
    agree(fused, ir, visible)


def test_a_benchmark_of_unequal_things_is_refused(monkeypatch):
    monkeypatch.setitem(numpy_metrics.METRICS, "AG", lambda fused, ir, visible: 1.0)
    with pytest.raises(FusionError, match=r"AG should be 1 .* but is"):
        metrics.inputs()


def test_every_metric_and_the_batch_are_cases_that_run():
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48), dtype=np.uint8)
    cases = metrics.cases(dict(zip(("fused", "ir", "visible"), images)))
    assert {case.task for case in cases} > set(metrics.METRICS)
    for case in cases:
        case.run()
    batch = [case.run()["AG"] for case in cases if case.way == "fusionlib, one call"]
    assert [len(values) for values in batch] == [1, metrics.BATCH, metrics.BATCH]


def test_ways_take_turns_and_a_first_round_is_not_counted():
    order = []
    times = timing.interleaved([lambda: order.append("a"), lambda: order.append("b")], seconds=0, least=3)
    assert times.shape == (3, 2) and (times > 0).all()
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"


def test_what_takes_long_is_called_once():
    order = []
    slow = [lambda: order.append("a"), lambda: (order.append("b"), time.sleep(0.02)), lambda: order.append("c")]
    times = timing.interleaved(slow, seconds=0, least=2, long=0.01)
    assert "".join(order) == "abc" + "ac" + "ca"
    assert times[0, 1] >= 0.02 and np.isnan(times[1, 1]) and np.isfinite(times[:, [0, 2]]).all()


def test_all_peers_and_ours_are_cases(monkeypatch):
    monkeypatch.setattr(peers, "SIZE", (64, 80))
    monkeypatch.setattr(peers, "_methods", dict(list(peers._methods().items())[:4]).copy)  # ours, AUIF, DATFuse
    arrays = peers.inputs()
    assert arrays["ways"][0].startswith("ours, stage 1: 0.053 M parameters, ")
    assert [case.way for case in peers.cases(arrays)] == arrays["ways"]
    for case in peers.cases(arrays):
        assert case.run().shape == (3, 64, 80)


def test_ours_its_convolutions_and_a_copy_are_cases(monkeypatch):
    monkeypatch.setattr(fusion, "SIZES", ((64, 300),))  # two tiles
    found = fusion.cases(fusion.inputs())
    assert {case.task for case in found} == {"fuse 300x64", "fuse 300x64, two threads"}
    results, threads = [case.run() for case in found], torch.get_num_threads()
    ours, refined, tiles, whole, copied, pictures, refined_pictures = results[:7]
    assert ours.shape == refined.shape == copied[1].shape == (3, 64, 300)
    assert pictures.shape == refined_pictures.shape == (64, 300, 3) and (pictures != refined_pictures).any()
    torch.testing.assert_close(results[7], ours)
    assert torch.get_num_threads() == threads
    inner = (..., slice(6, -6), slice(6, -6))  # tiles have their own zeros around them
    torch.testing.assert_close(tiles[inner], whole[inner], atol=1e-5, rtol=1e-4)


def test_a_folder_in_three_ways_gives_the_same_images(monkeypatch):
    monkeypatch.setattr(folder, "SIZES", ((64, 80),))
    monkeypatch.setattr(folder, "PAIRS", 5)
    found = folder.cases(folder.inputs())
    assert {case.task for case in found} == {"5 pairs 80x64"}
    alone, plain, ours = (case.run() for case in found)
    for image, *files in zip(alone, plain, ours):
        pixels = [read_image(path) for path in files]
        np.testing.assert_array_equal(*pixels)
        np.testing.assert_array_equal(to_uint8(image), pixels[0])


def test_growth_is_measured_and_drawn():
    rows = [(task, count, *growth.measure(task, count)) for task in growth.TASKS for count in (3, 30)]
    frame = pd.DataFrame(rows, columns=["task", "pairs", "seconds", "MB"])
    assert (frame["seconds"] > 0).all() and (frame["MB"] >= 0).all() and len(frame) == 12
    seconds, megabytes = growth.draw(frame).axes
    assert (seconds.get_title(), megabytes.get_title()) == ("time in seconds", "memory in MB")
    assert seconds.get_xscale() == "log"


def test_both_trainings_are_cases_that_run(monkeypatch):
    small = replace(training.QUICK, fusion_batch=2, fusion_crop=32, dfh_batch=1, detect_size=(64, 96))
    monkeypatch.setattr(training, "QUICK", small)
    monkeypatch.setattr(training, "PAIRS", 4)
    monkeypatch.setattr(training, "COMPILED", {"backend": "eager"})  # C++ would take a minute
    monkeypatch.setattr(training.shutil, "which", lambda name: name)
    found = training.cases(training.inputs())
    assert len({case.task for case in found}) == 2 and len(found) == 12
    for case in found:
        case.run()


def test_operations_of_a_convolution_are_counted():
    network = torch.nn.Conv2d(1, 8, 3, padding=1)
    images = {name: np.zeros((1, 10, 20), np.float32) for name in ("ir", "visible")}
    assert peers._operations(network, lambda net, ir, visible: net(ir), images) == 2 * 9 * 8 * 10 * 20


def test_table_compares_with_the_first_way_of_the_task():
    cases = [timing.Case("sleep", "slow", lambda: time.sleep(0.02)), timing.Case("alone", "only", lambda: None),
             timing.Case("sleep", "fast", lambda: time.sleep(0.002))]
    rows = timing.table(cases, seconds=0).set_index("way")
    assert list(rows.index) == ["slow", "fast", "only"] and list(rows.task) == ["sleep", "sleep", "alone"]
    assert rows.speedup["slow"] == rows.speedup["only"] == 1
    assert rows.ms["slow"] >= 20 and rows.speedup["fast"] > 2
    assert (rows.speedup_low <= rows.speedup).all() and (rows.speedup <= rows.speedup_high).all()


def test_markdown_names_times_ratio_and_memory():
    row = {"benchmark": "x", "task": "t", "way": "old", "ms": 1234.5, "ms_low": 1000.0, "ms_high": 2000.0,
           "speedup": 1.0, "speedup_low": 1.0, "speedup_high": 1.0, "peak_mb": 3.2}
    other = row | {"way": "new", "ms": 2.345, "ms_low": 2.0, "ms_high": 3.0, "speedup": 526.4}
    lines = timing.markdown(pd.DataFrame([row, other])).splitlines()
    assert lines[2:] == ["| x | t | old | 1234 (1000..2000) |  | 3 |", "| x | t | new | 2.35 (2..3) | 526 (1..1) | 3 |"]


def test_memory_is_that_of_the_case_and_not_of_this_process(tmp_path, monkeypatch):
    (tmp_path / "filled.py").write_text(
        "import subprocess, sys\nimport numpy as np\nfrom benchmarks.timing import Case\n"
        "def cases(arrays):\n"
        "    return [*(Case('fill', str(n), lambda n=n: np.ones(n * 125_000)) for n in arrays['megabytes']),\n"
        "            Case('fill', 'process', lambda: subprocess.run([sys.executable, '-c', '\"x\" * 500_000_000']))]\n")
    monkeypatch.syspath_prepend(tmp_path)
    ours = np.ones(40_000_000)  # 320 MB that the children must not count
    few, many, started = timing.peak_memory("filled", {"megabytes": np.array([1, 100])}, 3)
    assert few < 5 and many == pytest.approx(100, abs=5) and started == pytest.approx(510, abs=20)
    assert ours.all()


def test_the_names_that_a_new_python_looks_up_are_there():
    nodes = [node for code in starting.WAYS.values() for node in ast.walk(ast.parse(code))]
    names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    assert names > {"fl.experiments.open_run", "fl.browse", "fl.fuse"}
    for name in names:
        assert pkgutil.resolve_name(name.replace("fl.", "fusionlib.", 1)), name


def test_what_was_measured_before_a_failure_is_written(tmp_path, monkeypatch, capsys):
    row = {"benchmark": "metrics", "task": "t", "way": "w", "ms": 1.0, "ms_low": 1.0, "ms_high": 1.0, "speedup": 1.0,
           "speedup_low": 1.0, "speedup_high": 1.0, "peak_mb": 3.0}

    def measure(module, seconds):
        if module != "benchmarks.metrics":
            raise FusionError("no room")
        return pd.DataFrame([row])

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # which the command sets
    monkeypatch.setattr(timing, "measure", measure)
    monkeypatch.setattr("fusionlib.ROOT", tmp_path)
    with pytest.raises(FusionError, match="no room"):
        command.main(["metrics", "folder"])
    table = pd.read_csv(tmp_path / "figures" / "bench.csv")
    assert table[["benchmark", "ms"]].values.tolist() == [["metrics", 1.0]]
    report = (tmp_path / "figures" / "bench.md").read_text()
    assert "| metrics | t | w |" in report and "- metrics: " in report and "- folder: " not in report
    assert report == capsys.readouterr().out


def test_an_unknown_benchmark_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["nothing"])
    assert "unknown benchmark nothing: choose from metrics" in capsys.readouterr().err


def test_the_machine_is_described_without_a_path():
    text = timing.machine(2)
    assert "Python 3." in text and "2 threads" in text and "/" not in text
