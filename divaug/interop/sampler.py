"""Any divaug sampler as torch's."""

from collections.abc import Iterator

import torch

from divaug.base import contracts
from divaug.base.rng import stream


class Sampler(torch.utils.data.Sampler[int]):
    """Hand a divaug sampler's draws to a ``torch.utils.data.DataLoader``.

    Every epoch draws anew; call ``set_epoch`` before each, as with torch's ``DistributedSampler``. The ranks share one
    draw: rank r takes its positions r, r + world_size, ... and their union is the draw of a single process. If its
    length is no multiple of world_size, its first positions come again at the end, as in ``DistributedSampler``: all
    ranks do as many steps.

    Args:
        sampler: Any component of the family ``samplers``.
        seed: The run's seed; all ranks have the same.
        epochs: Epochs of the whole training, for samplers that change over it; None if the sampler does not.
        rank: This process, in [0, world_size).
        world_size: Processes.

    Raises:
        ValueError: A rank outside [0, world_size), or draws of a later epoch, without ``epochs``, from a sampler whose
            class probabilities change over training (looked at in quarters).

    Example:
        >>> import torch
        >>> from divaug.interop import Sampler
        >>> from divaug.samplers import Oversample
        >>> labels = torch.tensor([0] * 90 + [1] * 10)
        >>> sampler = Sampler(Oversample(labels, torch.bincount(labels)), seed=1)
        >>> sampler.set_epoch(0)
        >>> bool(0.3 < labels[list(sampler)].float().mean() < 0.7)
        True
    """

    def __init__(
        self,
        sampler: contracts.Sampler,
        *,
        seed: int = 0,
        epochs: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in [0, world_size = {world_size}), got {rank}")
        self.sampler, self.seed, self.epochs = sampler, seed, epochs
        self.rank, self.world_size, self.epoch = rank, world_size, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, that the next iteration draws."""
        self.epoch = epoch

    def _draw(self) -> torch.Tensor:
        rng = stream(self.seed, "sampler", self.epoch)
        if self.epochs is None and self.epoch and self._changes():
            raise ValueError("this sampler changes over training: give Sampler the number of epochs, epochs=N")
        epochs = self.epochs or 1
        draw = self.sampler.draw(rng, min(self.epoch, epochs - 1) / epochs)
        positions = torch.arange(-(-len(draw) // self.world_size) * self.world_size) % len(draw)
        return draw[positions][self.rank :: self.world_size]

    def _changes(self) -> bool:
        first, *later = (self.sampler.class_probs(progress) for progress in (0.0, 0.25, 0.5, 0.75, 0.99))
        return any(not torch.equal(first, probs) for probs in later)

    def __iter__(self) -> Iterator[int]:
        return iter(self._draw().tolist())

    def __len__(self) -> int:
        return len(self._draw())
