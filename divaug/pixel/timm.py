import random
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from divaug.config.registry import PIXEL
from divaug.pixel._seeded import Seeded, Seeds, from_pil, to_pil


@PIXEL.register("timm")
class Timm(Seeded):
    """Apply a timm policy, written as in timm's training script; ``timm:rand-m9`` is short for it.

    Args:
        policy: ``rand-m9-mstd0.5`` and the like (RandAugment), ``augmix-m3`` (AugMix), or ``original``, ``v0``, ...
            (AutoAugment).

    Reference:
        Wightman, PyTorch Image Models, 2019, https://github.com/huggingface/pytorch-image-models.

    Differs from the paper: every row has its own seed; grey images are processed as colour images.
    """

    def __init__(self, *, policy: str = "rand-m9") -> None:
        self.policy = policy
        self._by_side: dict[int, Any] = {}
        self._transform(32)  # an unknown policy is refused at once

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_by_side": {}}

    def _transform(self, side: int) -> Any:
        """Return timm's transform for images of this side, as set up by its own factory."""
        if side not in self._by_side:
            from timm.data import auto_augment as timm_policies

            settings = {"translate_const": int(0.45 * side), "img_mean": (128, 128, 128)}
            make = timm_policies.auto_augment_transform
            if self.policy.startswith("rand"):
                make = timm_policies.rand_augment_transform
            elif self.policy.startswith("augmix"):
                make = timm_policies.augment_and_mix_transform
            try:
                self._by_side[side] = make(self.policy, settings)
            except (AssertionError, ValueError, KeyError) as error:
                raise ValueError(f"timm knows no policy {self.policy!r} ({error}); rand-m9-mstd0.5 is one") from error
        return self._by_side[side]

    def apply_one(self, image: UInt8[np.ndarray, "H W ch"], plan: Seeds, i: int) -> UInt8[np.ndarray, "H W ch"]:
        """Apply the policy to row ``i``'s image with its seed."""
        transform = self._transform(min(image.shape[:2]))
        # timm draws from Python's and numpy's global generators, which are restored afterwards.
        states = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            random.seed(int(plan[i]))
            np.random.seed(int(plan[i]))  # noqa: NPY002
            done: Image.Image = transform(to_pil(image).convert("RGB"))
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
        return from_pil(done.convert("L") if image.shape[2] == 1 else done)
