import numpy as np
import pytest
import torch

from divaug.labels import MixedLabels
from divaug.registry import FEATURE


@pytest.mark.parametrize("name", list(FEATURE.entries()))
def test_feature_contract(name, facts, global_rngs_untouched):
    feature = FEATURE.build(name, facts=facts)
    z = torch.randn(7, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = MixedLabels.hard(torch.arange(7) % 4)
    out, mixed = feature(z, target, np.random.default_rng(0))
    assert out.shape[1] == 8 and len(out) == len(mixed.ids) == len(mixed.weights)
    torch.testing.assert_close(mixed.weights.sum(1), torch.ones(len(out)))
    out.sum().backward()
    assert torch.isfinite(z.grad).all()
    same, kept = feature.eval()(z, target, np.random.default_rng(0))
    assert same is z and kept is target
