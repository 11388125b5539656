"""The guide's snippets for other people's trainers, run with stand-ins that call them as those trainers do."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import divaug

TEXT = (Path(__file__).parents[2] / "docs/your_own_loop.md").read_text(encoding="utf-8")
IMAGES, LABELS = torch.randn(24, 3, 4, 4), torch.arange(24) % 10
BATCHES = list(zip(IMAGES.split(8), LABELS.split(8), strict=True))


def snippet(heading):
    return re.search(rf"##+ {re.escape(heading)}\n.*?```python\n(.*?)```", TEXT, re.DOTALL)[1]


class Net(nn.Module):
    """A network with the names that the snippets use."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU())
        self.fc = self.classifier = nn.Linear(16, 10)

    def forward(self, images=None, labels=None):
        return self.fc(self.body(images))

    def get_classifier(self):  # as timm's models
        return self.fc


def test_a_plain_loop(capsys):
    model = Net()
    names = {"divaug": divaug, "model": model, "loader": BATCHES, "criterion": nn.CrossEntropyLoss()}
    exec(snippet("Watch what each class uses"), {**names, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)})
    assert capsys.readouterr().out.startswith("[")


def test_timms_training_script():
    space = {"divaug": divaug, "model": Net(), "loader": BATCHES, "args": SimpleNamespace(num_classes=10)}
    exec(snippet("timm's training script"), space)
    assert space["monitor"].compute()["ce"]["n"].sum() == 24


def test_lightning():
    logged = {}
    space = {"divaug": divaug, "lightning": SimpleNamespace(Callback=object)}
    exec(snippet("Lightning"), space)
    callback, module = space["Diversity"](), SimpleNamespace(model=Net(), log=logged.__setitem__)
    callback.on_train_epoch_start(None, module)
    for number, batch in enumerate(BATCHES):
        outputs = module.model(batch[0])
        callback.on_train_batch_end(None, module, outputs, batch, number)
    callback.on_train_epoch_end(None, module)
    assert logged["tail_number"] > 0 and not module.model.fc._forward_pre_hooks


def test_the_hugging_face_trainer():
    class Trainer:
        def __init__(self, model, args, train_dataset):
            self.model, self.data = model, train_dataset

        def training_step(self, model, inputs, num_items_in_batch=None):
            return nn.functional.cross_entropy(model(**inputs), inputs["labels"])

        def train(self):
            for images, labels in self.data:
                self.training_step(self.model, {"images": images, "labels": labels}, 8).backward()

    space = {
        "divaug": divaug, "transformers": SimpleNamespace(Trainer=Trainer), "model": Net(), "arguments": None, "data": BATCHES,
    }  # fmt: skip
    exec(snippet("Hugging Face Trainer"), space)
    assert space["trainer"].monitor.compute()["fe"]["n"].sum() == 24


def test_a_cut_and_single_parts():
    class CIFAR10:
        def __init__(self, root, download):
            self.targets = [c for c in range(10) for _ in range(5000)]

        def __len__(self):
            return len(self.targets)

    space = {"divaug": divaug, "torchvision": SimpleNamespace(datasets=SimpleNamespace(CIFAR10=CIFAR10))}
    exec(snippet("Cut any data set"), space)
    assert space["train"].counts == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    from torchvision.transforms import v2

    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    space = {
        "images": images, "labels": labels, "counts": torch.bincount(labels), "rank": 0, "world_size": 2, "v2": v2, "torch": torch, "model": model,
    }  # fmt: skip
    exec(snippet("Single parts"), space)
    assert len(list(space["sampler"])) == 4 and space["loss"].requires_grad
    assert space["transform"](torch.zeros(3, 8, 8, dtype=torch.uint8)).dtype == torch.float32


@pytest.mark.parametrize("number", [0, 1], ids=["pixel", "mix"])
def test_an_augmentation_of_your_own(number, tmp_path, monkeypatch, capsys):
    from divaug.recipes import check, digits_lt

    text = (Path(__file__).parents[2] / "docs/your_own_augmentation.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[number]
    lines = re.findall(r"```console\n(.*?)```", text, re.DOTALL)[number].strip().splitlines()
    monkeypatch.chdir(tmp_path)
    Path(code.splitlines()[0].removeprefix("# ")).write_text(code, encoding="utf-8")
    for line in sorted(lines):  # check first
        recipe, *argv = shlex.split(line, comments=True)[2:]
        if recipe.endswith("check"):
            assert check.main(argv) == 0
            assert ", 0 failed" in capsys.readouterr().out
        else:
            assert digits_lt.main([*argv, "--smoke", "--tracking", "off", "--progress", "none"]) == 0
            assert "erm+" in capsys.readouterr().out
