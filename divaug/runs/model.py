"""A finished run's network."""

from pathlib import Path

from divaug.models.network import Network
from divaug.runs.folder import RunFolder
from divaug.train.build import build_model
from divaug.train.checkpoint import read_checkpoint


def open_run(path: str | Path) -> RunFolder:
    """Return the run in a folder, finished or not."""
    return RunFolder(path)


def load(source: str | Path | RunFolder) -> Network:
    """Return the trained network of a run, in evaluation mode, on the CPU.

    Pictures must be normalised with the manifest's ``mean`` and ``std``.
    """
    folder = source if isinstance(source, RunFolder) else RunFolder(source)
    model = build_model(folder.config, folder.manifest)
    model.load_state_dict(read_checkpoint(folder.checkpoint)["model"])
    return model.eval()
