"""Fixtures that the whole test suite shares."""

import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

# Of what the tests start, kernels of notebooks too: floating point sums depend on the number in the last digits.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as fusionlib does, which torch is too early for here

import matplotlib
import pytest
import torch

import fusionlib  # noqa: F401  quiets the libraries that would look things up on the network

# Nothing phones home: whoever tries is refused and noted, in this process and in those that it starts, workers too.
OFFLINE = Path(__file__).parent / "offline"
CONNECTIONS = Path(os.environ.setdefault("FUSIONLIB_CONNECTIONS", os.path.join(tempfile.mkdtemp(), "connections")))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))
sys.path.insert(0, str(OFFLINE))
sys.modules.pop("sitecustomize", None)
importlib.import_module("sitecustomize")

matplotlib.use("Agg")
torch.set_num_threads(1)  # of small images and networks, where a second thread mostly waits

SHARED = Path(os.environ.get("FUSIONLIB_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file at a time, in the order given; the notebooks as one, as each reads what those before it have made.

    The marks of `--dist loadgroup` would say the same, but pytest-xdist 3.8 does not find them with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "notebooks" if file.endswith(".ipynb") else file

    config.option.loadscopereorder = False
    return Files(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data beside the checkout: real pairs, official weights, golden values."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the development data is not here (../shared or $FUSIONLIB_SHARED)")
    return SHARED


@pytest.fixture
def text_dfh_weights(tmp_path_factory, monkeypatch):
    """The shipped weights of stage 1 with random ones of a Text-DFH that changes the image, as if they were shipped."""
    from fusionlib import models
    from fusionlib.feedback.text_encoder import DIM
    from fusionlib.inference import pair

    folder = tmp_path_factory.mktemp("weights")
    shutil.copy(pair.WEIGHTS / pair.STAGE_1, folder)
    model = models.TextGuidedFusion(models.load(folder / pair.STAGE_1), DIM)
    for harmonise in model.harmonise.values():
        torch.nn.init.normal_(harmonise.layers[-1].weight, std=0.05)
    models.save(model, folder / pair.STAGE_2)
    monkeypatch.setattr(pair, "WEIGHTS", folder)
    pair.text_dfh.cache_clear()
    yield folder
    pair.text_dfh.cache_clear()


@pytest.fixture(autouse=True)
def _seed_and_thread():
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a run sets its own, as a fixture or in a test
    yield
    torch.set_num_threads(1)


def pytest_sessionfinish(session):
    """Fail where anything, a notebook among them, wanted to reach another machine."""
    if CONNECTIONS.is_file() and (tried := CONNECTIONS.read_text().split()):
        print(f"\nnot allowed, but wanted: connections to {', '.join(sorted(set(tried)))}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
