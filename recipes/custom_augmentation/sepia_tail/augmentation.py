import numpy as np

from divaug.config.registry import PIXEL

SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])


@PIXEL.register("sepia_tail")
class SepiaTail:
    """Tint images, the rarer their class the more often.

    Args:
        class_counts: Training images of each class.
        rate: Share of the smallest class's images that are tinted, in [0, 1]; class c has rate * n_min / n_c.

    Differs from the paper: there is none.
    """

    strengths = ({"rate": 0.2}, {"rate": 0.5}, {"rate": 1.0})  # what the gallery shows

    def __init__(self, class_counts, *, rate: float = 0.5):
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must lie in [0, 1], got {rate}")
        counts = class_counts.double()
        self.share = (rate * counts[counts > 0].min() / counts.clamp_min(1)).numpy()

    def sample(self, labels, size, rng):
        """Draw which rows are tinted, and how much."""
        return np.where(rng.random(len(labels)) < self.share[labels.numpy()], rng.uniform(0.3, 1.0, len(labels)), 0.0)

    def apply_one(self, image, plan, i):
        """Tint row ``i``'s image; grey ones become lighter."""
        tinted = image @ SEPIA.T if image.shape[2] == 3 else image * 1.2
        return ((1 - plan[i]) * image + plan[i] * tinted).round().clip(0, 255).astype(np.uint8)
