import pickle

import numpy as np
import pytest
import torch

from divaug.registry import PIXEL


@pytest.mark.parametrize("name", list(PIXEL.entries()))
@pytest.mark.parametrize("channels", [1, 3])
class TestPixel:
    def images(self, channels, rows=7):
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, (rows, 12, 9, channels), dtype=torch.uint8, generator=generator)

    def test_batched_equals_one_by_one(self, name, channels):
        pixel, images = PIXEL.build(name, facts={}), self.images(channels)
        plan = pixel.sample(torch.zeros(7, dtype=torch.int64), (12, 9), np.random.default_rng(1))
        together = pixel.apply(images, plan)
        apart = [pixel.apply_one(image, plan, i) for i, image in enumerate(images.numpy())]
        assert together.dtype == torch.uint8 and together.shape == images.shape
        assert (together.numpy() == np.stack(apart)).all()

    def test_equal_generators_equal_pictures_and_rows_differ(self, name, channels, global_rngs_untouched):
        pixel = pickle.loads(pickle.dumps(PIXEL.build(name, facts={})))
        images = self.images(channels)[:1].expand(7, -1, -1, -1).contiguous()
        before = images.clone()
        plans = [pixel.sample(torch.zeros(7, dtype=torch.int64), (12, 9), np.random.default_rng(2)) for _ in range(2)]
        a, b = (pixel.apply(images, plan) for plan in plans)
        assert torch.equal(a, b) and torch.equal(images, before)
        assert name == "none" or len(torch.unique(a, dim=0)) > 1
