import numpy as np
import pytest
import torch

from divaug.pixel._translate import TranslatePlan, copy_windows, gather_windows, translate
from divaug.pixel.crop_flip import CropFlip
from divaug.pixel.shift import Shift

LABELS = torch.zeros(6000, dtype=torch.int64)


def test_translate_against_a_pixel_loop():
    images = torch.randint(1, 256, (4, 5, 7, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plan = TranslatePlan(
        np.array([0, 2, -1, -2]), np.array([0, -3, 3, 1]), np.array([False, False, True, True]), (2, 3)
    )
    out = copy_windows(images, plan)
    assert torch.equal(out, gather_windows(images, plan)) and torch.equal(out, translate(images, plan))
    for b in range(4):
        for y in range(5):
            for x in range(7):
                column = 6 - x if plan.flipped[b] else x
                source_y, source_x = y + plan.down[b], column + plan.right[b]
                inside = 0 <= source_y < 5 and 0 <= source_x < 7
                expected = images[b, source_y, source_x] if inside else torch.zeros(2, dtype=torch.uint8)
                assert torch.equal(out[b, y, x], expected)


def test_crop_flip_is_padding_by_four_of_32_and_half_mirrored():
    plan = CropFlip().sample(LABELS, (32, 32), np.random.default_rng(0))
    for shifts in (plan.down, plan.right):
        assert sorted(set(shifts)) == list(range(-4, 5))
        assert np.bincount(shifts + 4) / 6000 == pytest.approx(np.full(9, 1 / 9), abs=0.017)  # 4 sd
    assert plan.flipped.mean() == pytest.approx(0.5, abs=0.026)  # 4 sd


def test_shift_is_one_pixel_of_eight_and_never_mirrors():
    plan = Shift().sample(LABELS, (8, 8), np.random.default_rng(0))
    assert set(plan.down) == set(plan.right) == {-1, 0, 1} and not plan.flipped.any()


def test_zero_strength_is_identity():
    images = torch.randint(0, 256, (3, 6, 6, 3), dtype=torch.uint8)
    plan = CropFlip(pad_frac=0.0, flip=0.0).sample(LABELS[:3], (6, 6), np.random.default_rng(0))
    assert torch.equal(translate(images, plan), images)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CropFlip(pad_frac=1.0), r"pad_frac must lie in \[0, 1\), got 1\.0"),
        (lambda: CropFlip(flip=-0.1), r"flip must lie in \[0, 1\], got -0\.1"),
        (lambda: Shift(reach_frac=-1.0), r"reach_frac must lie in \[0, 1\), got -1\.0"),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
