"""A model folder: everything that predicting needs, in files that can be copied anywhere.

``model.json`` (architecture, classes, preprocessing, decision, card), ``weights.safetensors``, and under ``code/`` the
user's own file where the network or head is defined in one. No file of pretrained weights, run folder or hub is needed.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from divaug.base.errors import DivaugError
from divaug.base.files import make_folder, write_json
from divaug.config import user_files
from divaug.config.registry import HEADS, MODELS, add_import
from divaug.config.schema import Component, Config
from divaug.models.network import build_network
from divaug.runs.decision import Decision
from divaug.runs.model import Model
from divaug.runs.preprocess import Preprocess

FORMAT = 2
TRAINED_ON = "trained_on.csv"  # the file and the SHA-256 of every image that the network has seen
_WEIGHTS_OF_OTHERS = ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")


def is_model_folder(path: Path) -> bool:
    """Return whether a folder holds a model."""
    return (path / "model.json").is_file()


def save_model(
    path: Path,
    model: Model,
    config: Config,
    *,
    head: Component | None = None,
    decision: Decision | None = None,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run's model as a model folder; return the folder.

    Args:
        path: The folder; a model that is there is replaced.
        model: What ``divaug.load`` gives of the run.
        config: The run's configuration.
        head: The model's head, if it is another than the run's.
        decision: Temperature, thresholds and abstention.
        card: What is known about the model, as plain values.
    """
    from safetensors.torch import save_file

    make_folder(path)
    options = {key: value for key, value in config.model.options.items() if key not in _WEIGHTS_OF_OTHERS}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    temporary = path / ".weights.safetensors.tmp"
    save_file(state, temporary)
    temporary.chmod(0o644)  # as the other files; safetensors leaves it to its owner alone
    temporary.replace(path / "weights.safetensors")
    head = head or config.head
    code = _own_code(path, config.model.name, head.name)
    write_json(path / "model.json", {
        "format": FORMAT, "classes": list(model.classes), "transform": asdict(model.transform),
        "network": {"name": config.model.name, "options": options, "head": head.name,
                    "head_options": dict(head.options)},
        "code": code, "decision": (decision or Decision()).table(), "card": dict(card or {}),
    })  # fmt: skip
    return path


def _own_code(path: Path, model: str, head: str) -> list[str]:
    """Copy the user's files that define the network and its head, and return their names."""
    modules = {HEADS.entry(head).module}
    if not model.startswith("timm:"):
        modules.add(MODELS.entry(model).module)
    files = [item for item in (*user_files.imports(), *user_files.looked_at()) if item.endswith(".py")]
    named = [Path(item) for item in files if user_files.module_name(item) in modules]
    for file in named:
        shutil.copyfile(file, make_folder(path / "code") / file.name)
    return [file.name for file in named]


def read_model(path: Path) -> Model:
    """Read a model folder.

    Raises:
        DivaugError: A file is missing or damaged, or of another format.
        ConfigError: The network is defined in a file of the folder's, which is not run unless the user trusts it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    content = contents(path)
    try:
        for name in content["code"]:
            add_import(str(path / "code" / name), named_by_user=False)
        network, transform, classes = content["network"], content["transform"], content["classes"]
        height, width, channels = transform["shape"]
        mean, std = tuple(transform["mean"]), tuple(transform["std"])
        preprocess = Preprocess((height, width, channels), mean, std, transform["resize"], transform["bits"])
        name, head, head_options, options = (network[key] for key in ("name", "head", "head_options", "options"))
        card = content["card"]
        state = load_file(path / "weights.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DivaugError(f"the model in {path} is damaged: {type(error).__name__}: {error}") from error
    built = build_network(
        name, len(classes), channels=channels, size=(height, width), head=head, head_options=head_options, seed=0,
        **options,
    )  # fmt: skip
    try:
        built.load_state_dict(state)
    except RuntimeError as error:
        raise DivaugError(f"the model in {path} is damaged: {str(error).splitlines()[0]}") from error
    return Model(built, classes, preprocess, Decision(**content["decision"]), card)


def contents(path: Path) -> dict[str, Any]:
    """Return what a model folder says of its model, without reading the network.

    Raises:
        DivaugError: The file is missing or damaged, or of another format.
    """
    try:
        content = json.loads((path / "model.json").read_text(encoding="utf-8"))
        found = content["format"], content["classes"], Decision(**content["decision"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DivaugError(f"the model in {path} is damaged: {type(error).__name__}: {error}") from error
    if found[0] != FORMAT:
        raise DivaugError(
            f"{path} is a model of format {found[0]}; this divaug reads {FORMAT}: the command that wrote it writes it "
            "anew (divaug train trains no finished fold again)"
        )
    return content


def decide(path: Path, **changes: Any) -> Decision:
    """Change the decision of a model folder, for example ``thresholds``, and return the new one.

    What describes an exported model in the folder (``*.onnx.json``) gets it too: the network itself has no thresholds.
    """
    content = contents(path)
    decision = replace(Decision(**content["decision"]), **changes)
    write_json(path / "model.json", {**content, "decision": decision.table()})
    for file in path.glob("*.onnx.json"):
        write_json(file, {**json.loads(file.read_text(encoding="utf-8")), "decision": decision.table()})
    return decision
