"""From a run or a model folder to the model in it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from divaug.base.errors import DataError, DivaugError
from divaug.config import user_files
from divaug.data.load import Data, load_data
from divaug.runs.folder import RunFolder, find_runs
from divaug.runs.model import Model
from divaug.runs.model_folder import is_model_folder, read_model
from divaug.runs.preprocess import Preprocess
from divaug.train.build import build_model
from divaug.train.checkpoint import read_checkpoint


def load(source: str | Path | RunFolder, *, trust_imports: bool = False) -> Model:
    """Return the trained model of a run or of a model folder, on the CPU.

    Args:
        source: The run, its folder (``runs/<experiment>/<method>/seed<k>``), or a model folder (``divaug train``).
        trust_imports: Run the files that the folder names as its own components; needed for a network or head of one's
            own, and only for folders whose origin you trust.

    Raises:
        DivaugError: There is no run or model, the run has not finished its first epoch, or it was made by another
            version.
    """
    if trust_imports:
        user_files.trust()
    if not isinstance(source, RunFolder) and is_model_folder(Path(source)):
        return read_model(Path(source))
    folder = source if isinstance(source, RunFolder) else RunFolder(source)
    if not (folder.path / "config.toml").exists():
        below = [str(run.path) for run in find_runs([str(folder.path)])]
        raise DivaugError(f"{folder.path} is not a run, but runs lie below it: {', '.join(below[:5])}")
    config, manifest = folder.config, folder.manifest
    if not folder.checkpoint.exists():
        raise DivaugError(f"{folder.path} has no checkpoint: the run has not finished its first epoch")
    content = read_checkpoint(folder.checkpoint)
    if content["epoch"] == 0:  # stopped in the middle of the first
        raise DivaugError(f"{folder.path}: the run has not finished its first epoch")
    network = build_model(config, manifest)
    network.load_state_dict(content["model"])
    return Model(network, manifest["class_names"], transform_of(config, manifest))


def data_of(folder: RunFolder) -> Data:
    """Return the data of a finished run, as it was trained and tested on them.

    Raises:
        DataError: The data are no longer the run's, or it is a fold of ``divaug train``, which has no cut of its own.
    """
    if re.fullmatch(r"fold\d+|all", folder.path.name):
        raise DataError(
            f"{folder.path} is a run of divaug train: its images are dealt by that command; train it with "
            "divaug folder_lt to look into it"
        )
    data = load_data(folder.config)
    if what := folder.differs(data.manifest):
        raise DataError(
            f"{folder.path} was made with other data: {what} differ; bring the data back, or train the run anew"
        )
    return data


def transform_of(config: Any, manifest: Mapping[str, Any]) -> Preprocess:
    """Return the preprocessing of a run's images."""
    height, width, channels = manifest["image_shape"]
    mean, std = tuple(manifest["mean"]), tuple(manifest["std"])
    return Preprocess((height, width, channels), mean, std, config.resize, config.bits)
