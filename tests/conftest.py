"""Fixtures that the whole test suite shares."""

import os
from pathlib import Path

# One thread count for every test: floating point sums depend on it in the last digits.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as fusionlib does, which torch is too early for here

import matplotlib
import pytest
import torch

import fusionlib  # noqa: F401  quiets the libraries that would look things up on the network

matplotlib.use("Agg")
torch.set_num_threads(2)

SHARED = Path(os.environ.get("FUSIONLIB_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data beside the checkout: real pairs, official weights, golden values."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the development data is not here (../shared or $FUSIONLIB_SHARED)")
    return SHARED


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def one_thread():
    """For small images and networks: on a busy machine a second thread mostly waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
