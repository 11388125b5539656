import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from divaug import OPTIM
from divaug.config.layers import resolve
from divaug.models import resnet20
from divaug.optim.muon import orthogonalized
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


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 6)])
def test_an_orthogonalized_matrix_keeps_its_singular_vectors_and_loses_its_singular_values(shape):
    """With U and V of numpy's own decomposition U^T X V is diagonal, and its entries lie near 1 (the paper: 0.7 to 1.2)."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, values, v = np.linalg.svd(matrix.numpy(), full_matrices=False)
    assert values[0] / values[-1] > 1.5  # far from orthogonal before
    found = u.T @ orthogonalized(matrix).numpy() @ v.T
    np.testing.assert_allclose(found - np.diag(np.diag(found)), 0, atol=1e-9)
    assert ((np.diag(found) > 0.65) & (np.diag(found) < 1.25)).all()
    assert (orthogonalized(torch.zeros(shape)) == 0).all()


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_moves_kernels_by_hand_and_everything_else_as_sgd(nesterov):
    """Three steps in the plain form of the post, and torch's own SGD beside it for what is no kernel."""
    draw = torch.Generator().manual_seed(1)
    first = {
        name: torch.randn(shape, generator=draw) for name, shape in (("k", (4, 2, 3, 3)), ("w", (3, 4)), ("b", (3,)))
    }
    ours, theirs = ({n: torch.nn.Parameter(v.clone()) for n, v in first.items()} for _ in range(2))
    facts = {"lr": 0.1, "momentum": 0.9, "nesterov": nesterov}
    optimizer = OPTIM.build(
        "muon", gain=0.5,
        facts={"parameters": [{"params": [ours["k"], ours["w"]], "weight_decay": 0.01},
                              {"params": [ours["b"]], "weight_decay": 0.0}], **facts},
    )  # fmt: skip
    sgd = torch.optim.SGD(
        [{"params": [theirs["w"]], "weight_decay": 0.01}, {"params": [theirs["b"]], "weight_decay": 0.0}], **facts
    )
    kernel, mean = first["k"].double().numpy().reshape(4, 18), np.zeros((4, 18))
    for step in range(3):
        grads = {name: torch.randn(value.shape, generator=draw) for name, value in first.items()}
        for name, grad in grads.items():
            ours[name].grad, theirs[name].grad = grad.clone(), grad.clone()
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (step + 1)
        for group in sgd.param_groups:
            group["lr"] = 0.1 / (step + 1)
        optimizer.step()
        sgd.step()
        grad = grads["k"].double().numpy().reshape(4, 18)
        mean = 0.9 * mean + grad
        x = grad + 0.9 * mean if nesterov else mean
        x = x / np.linalg.norm(x)
        for _ in range(5):
            x = 3.4445 * x - 4.7750 * (x @ x.T) @ x + 2.0315 * (x @ x.T) @ (x @ x.T) @ x
        kernel = kernel * 2 / np.linalg.norm(kernel) - 0.5 * 0.1 / (step + 1) * x
        np.testing.assert_allclose(ours["k"].detach().numpy().reshape(4, 18), kernel, atol=2e-5)
        assert torch.allclose(ours["w"], theirs["w"], atol=1e-6) and torch.allclose(ours["b"], theirs["b"], atol=1e-6)


def test_a_kernel_of_zeros_is_moved_and_stays_finite():
    kernel = torch.nn.Parameter(torch.zeros(3, 2, 3, 3))
    optimizer = OPTIM.build(
        "muon", facts={"parameters": [{"params": [kernel]}], "lr": 0.1, "momentum": 0.9, "nesterov": True}
    )
    kernel.grad = torch.ones_like(kernel)
    optimizer.step()
    assert torch.isfinite(kernel).all() and (kernel < 0).all()


def test_muon_refuses_a_gain_that_makes_no_sense():
    with pytest.raises(ValueError, match="gain must be > 0, got 0"):
        OPTIM.build("muon", facts={"parameters": [], "lr": 0.1, "momentum": 0.9, "nesterov": True}, gain=0.0)


@pytest.mark.parametrize(
    ("kind", "facts", "theirs"),
    [("sgd", {"momentum": 0.9, "nesterov": True}, torch.optim.SGD), ("adamw", {}, torch.optim.AdamW)],
)
def test_a_step_without_the_compiler_is_torchs_own(kind, facts, theirs):
    """Bit for bit, over a saved and restored state."""
    first = torch.randn(7, generator=torch.Generator().manual_seed(2))
    pair = [torch.nn.Parameter(first.clone()) for _ in range(2)]
    groups = [[{"params": [p], "weight_decay": 0.1}] for p in pair]
    ours, torchs = (
        OPTIM.build(kind, facts={"parameters": groups[0], "lr": 0.1, **facts}),
        theirs(groups[1], lr=0.1, **facts),
    )
    assert isinstance(ours, theirs) and type(ours).__name__ == theirs.__name__
    assert type(pickle.loads(pickle.dumps(ours))) is type(ours) and type(ours).__doc__ == theirs.__doc__
    for step in range(6):
        for optimizer, parameter in ((ours, pair[0]), (torchs, pair[1])):
            (parameter * torch.arange(7.0)).sum().pow(2).backward()
            optimizer.step()
            optimizer.zero_grad()
            assert parameter.grad is None
        assert torch.equal(*pair) and not torch.equal(pair[0], first)
        if step == 2:
            saved = ours.state_dict()
            ours = OPTIM.build(
                kind, facts={"parameters": [{"params": [pair[0]], "weight_decay": 0.3}], "lr": 9.0, **facts}
            )
            ours.load_state_dict(saved)
            assert repr(saved) == repr(torchs.state_dict())


def test_training_does_not_import_torchs_compiler(tmp_path):
    """Its import takes longer than torch's own, and so does scikit-learn's, of which one file is read."""
    code = (
        "import sys, divaug\n"
        "for name in ('sgd', 'muon', 'adamw'):\n"
        "    divaug.run(divaug.configure(dataset='digits', epochs=1, tracking='off', monitor=False, optim=name,\n"
        f"                               output_dir={str(tmp_path)!r}, experiment=name))\n"
        "assert not {'torch._dynamo', 'sklearn', 'mlflow', 'timm', 'torchvision'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
