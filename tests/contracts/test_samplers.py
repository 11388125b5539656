import pickle

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from divaug.config.registry import SAMPLERS


@pytest.mark.parametrize("name", list(SAMPLERS.entries()))
class TestSampler:
    def test_draws_match_the_declared_shares(self, name, facts):
        sampler = SAMPLERS.build(name, facts=facts)
        rng = np.random.default_rng(0)
        draws = torch.cat([sampler.draw(rng, 0.0) for _ in range(200)])
        assert draws.dtype == torch.int64 and draws.min() >= 0 and draws.max() < 68
        declared = sampler.class_probs(0.0)
        assert declared.sum().item() == pytest.approx(1)
        seen = torch.bincount(facts["labels"][draws], minlength=4).numpy()
        if name in ("uniform", "undersample"):  # without replacement: exact up to the last, partial round
            assert seen / len(draws) == pytest.approx(declared.numpy(), abs=0.03)
        else:  # a right sampler fails one seed in 10,000
            assert chisquare(seen, len(draws) * declared.numpy()).pvalue > 1e-4

    def test_an_epoch_has_as_many_draws_as_pictures(self, name, facts):
        assert len(SAMPLERS.build(name, facts=facts).draw(np.random.default_rng(0), 0.5)) == 68

    def test_equal_generators_give_equal_draws(self, name, facts, global_rngs_untouched):
        sampler = pickle.loads(pickle.dumps(SAMPLERS.build(name, facts=facts)))
        a, b = (sampler.draw(np.random.default_rng(3), 0.0) for _ in range(2))
        assert torch.equal(a, b)
        assert not torch.equal(a, sampler.draw(np.random.default_rng(4), 0.0))

    def test_every_class_is_reachable(self, name, facts):
        sampler = SAMPLERS.build(name, facts=facts)
        rng = np.random.default_rng(0)
        seen = torch.cat([sampler.draw(rng, 0.0) for _ in range(60)])
        assert set(facts["labels"][seen].tolist()) == {0, 1, 2, 3}
