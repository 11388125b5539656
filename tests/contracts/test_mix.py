import pickle

import numpy as np
import pytest
import torch

from divaug.data.loaders import Donors
from divaug.registry import MIX


def batch(rows, size=(6, 9), dtype=torch.float32):
    """Pictures whose every pixel is unique, so that each can be traced."""
    pixels = torch.arange(rows * 3 * size[0] * size[1], dtype=torch.float32).reshape(rows, 3, *size)
    return (pixels / pixels.numel()).to(dtype), torch.arange(rows) % 4


def run(mix, images, labels, seed):
    rng = np.random.default_rng(seed)
    donors = None
    if hasattr(mix, "donors"):
        picked = mix.donors(labels, rng)
        donors = Donors(images.flip(0) + 1, picked % 4)
    plan = mix.sample(labels, tuple(images.shape[2:]), rng)
    return mix.apply(images, labels, plan, donors), plan, donors


@pytest.mark.parametrize("name", list(MIX.entries()))
class TestMix:
    @pytest.mark.parametrize("rows", [1, 2, 7])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_shapes_and_weights(self, name, facts, rows, dtype):
        mix = MIX.build(name, facts=facts)
        images, labels = batch(rows, dtype=dtype)
        for seed in range(8):
            (mixed, target), _, _ = run(mix, images, labels, seed)
            assert mixed.shape == images.shape and mixed.dtype == dtype
            assert target.weights.dtype == torch.float32
            assert target.ids.shape == target.weights.shape and target.ids.shape[0] == rows
            torch.testing.assert_close(target.weights.sum(1), torch.ones(rows))
            assert (target.weights >= 0).all() and torch.equal(target.ids[:, 0], labels)

    def test_inputs_and_global_generators_are_left_alone(self, name, facts, global_rngs_untouched):
        mix = MIX.build(name, facts=facts)
        images, labels = batch(5)
        before = images.clone(), labels.clone()
        for seed in range(4):
            run(mix, images, labels, seed)
        assert torch.equal(images, before[0]) and torch.equal(labels, before[1])

    def test_a_plan_replays(self, name, facts):
        mix = pickle.loads(pickle.dumps(MIX.build(name, facts=facts)))
        images, labels = batch(5)
        (first, target), plan, donors = run(mix, images, labels, 11)
        again, target_again = mix.apply(images, labels, pickle.loads(pickle.dumps(plan)), donors)
        assert torch.equal(first, again) and torch.equal(target.weights, target_again.weights)
        (same, _), _, _ = run(mix, images, labels, 11)
        assert torch.equal(first, same)

    def test_memory_layout_does_not_matter(self, name, facts):
        mix = MIX.build(name, facts=facts)
        images, labels = batch(4)
        (plain, _), plan, donors = run(mix, images, labels, 5)
        strided, _ = mix.apply(images.contiguous(memory_format=torch.channels_last), labels, plan, donors)
        assert torch.equal(plain, strided)
