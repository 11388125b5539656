import os
import shutil
import sys
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
if "PYTEST_XDIST_WORKER" not in os.environ and "cuda" not in sys.argv:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # golden numbers are of the CPU; `-m cuda` asks for a card
os.environ["OMP_NUM_THREADS"] = "1"  # tiny networks are faster on one thread; child processes inherit it

import pytest
import torch

import divaug  # noqa: F401  before anything that imports torchvision
from divaug.config import user_files
from divaug.config.registry import REGISTRIES


@pytest.fixture(autouse=True)
def untouched_process(tmp_path, monkeypatch):
    """Run every test in an empty folder, without the user's variables, and undo what it registered."""
    for variable in [name for name in os.environ if name.startswith(("DIVAUG_", "MLFLOW_TRACKING"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(user_files.VARIABLE, "")
    yield
    for registry in REGISTRIES.values():  # what divaug's own modules registered stays: they are not imported twice
        for name, factory in list(registry._factories.items()):
            if not factory.__module__.startswith("divaug.") or factory.__module__.startswith("divaug._user_"):
                del registry._factories[name]
    for module in [name for name in sys.modules if name.startswith("divaug._user_")]:
        if module != "divaug.config.user_files":
            del sys.modules[module]


REAL_DATA = os.environ.get("DIVAUG_DATA")


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets, where there is one."""
    if not REAL_DATA or not Path(REAL_DATA).is_dir():
        pytest.skip("DIVAUG_DATA names no folder with CIFAR-10, Fashion-MNIST and blood cells")
    return Path(REAL_DATA).resolve()


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory):
    """An MLflow SQLite store with its tables made once: that takes seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(migrated_store, tmp_path):
    """A fresh copy of the store in an output folder; returns that folder."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(migrated_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def global_rngs_untouched():
    """Fail a test that draws from or reseeds the global generators."""
    import numpy as np

    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(torch_before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002
