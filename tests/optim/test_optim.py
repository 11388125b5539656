import math

import pytest
import torch

from divaug.config.layers import resolve
from divaug.models import resnet20
from divaug.optim.schedule import learning_rate
from divaug.train.build import build_optimizer

LDAM = {
    "steps_per_epoch": 3,
    "epochs": 200,
    "lr": 0.1,
    "warmup_frac": 0.025,
    "milestones": (0.8, 0.9),
    "drop": 0.01,
}


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 0.02),
        (3, 0.08),
        (4, 0.1),
        (5, 0.1),
        (159, 0.1),
        (160, 1e-3),
        (179, 1e-3),
        (180, 1e-5),
        (199, 1e-5),
    ],
)
def test_the_step_schedule_is_ldam_drws(epoch, expected):
    # e = epoch + 1: e <= 5: 0.1 e / 5; 6 to 160: 0.1; 161 to 180: 1e-3; 181 to 200: 1e-5
    for step in range(3):
        assert learning_rate("step", step=3 * epoch + step, **LDAM) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "triangular"])
def test_the_others_rise_linearly_and_end_where_they_should(schedule):
    kwargs = {"steps_per_epoch": 10, "epochs": 10, "lr": 1.0, "warmup_frac": 0.2}
    rates = [learning_rate(schedule, step=s, **kwargs) for s in range(100)]
    assert rates[:20] == pytest.approx([(s + 1) / 20 for s in range(20)])
    done = (60 - 20) / 80
    halfway = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * done)) / 2, "triangular": 1 - done}[schedule]
    assert rates[60] == pytest.approx(halfway)
    assert rates[99] == pytest.approx({"constant": 1.0}.get(schedule, 0.0), abs=0.02)


def test_an_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="got 'linear'"):
        learning_rate("linear", step=50, steps_per_epoch=10, epochs=10, lr=1.0, warmup_frac=0.0)


@pytest.mark.parametrize("decay_norms", [True, False])
def test_decay_spares_vectors_unless_told(decay_norms):
    model = resnet20(num_classes=10)
    optimizer = build_optimizer(
        resolve(flags={"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "decay_norms": decay_norms}),
        model,
    )
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    for parameter in model.parameters():
        assert decay[id(parameter)] == (0.01 if decay_norms or parameter.ndim > 1 else 0.0)
    assert all(group["nesterov"] for group in optimizer.param_groups)


def test_frozen_parameters_are_left_out():
    model = torch.nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    optimizer = build_optimizer(
        resolve(flags={"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "decay_norms": False}), model
    )
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 1
