"""Batches of an epoch: a resident and a streaming loader, which return equal images for equal plans.

All draws of a step (pixel plan, donors, donors' pixel plan) are made here, in the main process, from streams keyed by
epoch and step; workers only apply them. So the number of workers changes nothing.
"""

import os
import signal
import weakref
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from divaug.base.contracts import Batch, Donors, Mix, Pixel, Plan, WholeMix, WholePixel, complete
from divaug.base.errors import ConfigError, broken, naming
from divaug.base.rng import stream
from divaug.data.image_files import ImageFiles
from divaug.data.images import Part

EVALUATED = 500  # images of up to 64 x 64 that are evaluated at once


@dataclass(frozen=True)
class _Request:
    """Everything a worker needs for one step: which images and what to do with each."""

    indices: np.ndarray
    plan: Plan
    donors: np.ndarray | None
    donor_plan: Plan
    pixel: WholePixel
    first: bool  # of an epoch


class _Fetched(NamedTuple):
    """A request's images, uint8, with the indices they belong to."""

    indices: np.ndarray
    rows: Tensor
    changed: Tensor
    donors: np.ndarray | None
    donor_rows: Tensor | None


def _fetch(take: Callable[[np.ndarray], Tensor], request: _Request) -> _Fetched:
    """Take the images of a request and augment them."""
    pixel = complete(request.pixel)  # a copy sent to a worker has only what it pickles
    raw = take(request.indices)
    before = raw.clone() if request.first else raw
    rows = _views(pixel, raw, request.plan)
    if request.first and not torch.equal(before, raw):
        raise broken(
            f"the pixel component {type(pixel).__name__}", "changes the images that it is given; return others"
        )
    changed = _differ(rows, raw)
    donor_rows = None
    if request.donors is not None:
        donor_rows = _views(pixel, take(request.donors), request.donor_plan)
    return _Fetched(request.indices, rows, changed, request.donors, donor_rows)


def _differ(views: Tensor, raw: Tensor) -> Bool[Tensor, "B"]:
    """Return which views are other images than the raw ones."""
    if views.shape != raw.shape:
        return torch.ones(len(raw), dtype=torch.bool, device=raw.device)
    ours, theirs = (images.contiguous().flatten(1) for images in (views, raw))
    if not (ours.shape[1] % 8 or ours.storage_offset() % 8 or theirs.storage_offset() % 8):
        ours, theirs = ours.view(torch.int64), theirs.view(torch.int64)  # eight bytes at once: three times as fast
    return (ours != theirs).any(1)


def _views(pixel: WholePixel, raw: Tensor, plan: Plan) -> Tensor:
    """Return views, refusing what is not as many uint8 images: floats of 0 to 1 would all be black."""
    with naming("the pixel component", pixel):
        views: Any = pixel.apply(raw, plan)
    if not torch.is_tensor(views) or views.dtype != torch.uint8 or views.ndim != 4 or len(views) != len(raw):
        what = f"{views.dtype} {tuple(views.shape)}" if torch.is_tensor(views) else type(views).__name__
        name = f"the pixel component {type(pixel).__name__}"
        raise broken(name, f"returned {what} for images of uint8 {tuple(raw.shape)}")
    return views


def _positions(asked: Any, rows: int, images: int, mix: WholeMix) -> np.ndarray:
    """Return the donors that a mix asked for, refusing what is not one position in the part for every row."""
    if not torch.is_tensor(asked) or asked.dtype != torch.int64 or asked.shape != (rows,):
        what = f"{asked.dtype} {tuple(asked.shape)}" if hasattr(asked, "shape") else type(asked).__name__
        how = f"asked for donors by {what}; an int64 tensor of positions, one for each of {rows} rows, is needed"
        raise broken(f"the mix {type(mix).__name__}", how)
    found = asked.numpy()
    if rows and not 0 <= found.min() <= found.max() < images:
        how = f"asked for donors {found.min()} to {found.max()}; there are {images} images"
        raise broken(f"the mix {type(mix).__name__}", how)
    return found


class _Reader(torch.utils.data.Dataset):
    """Reads and augments a step's images; lives in ``divaug`` so that spawned workers can unpickle it."""

    def __init__(self, images: np.ndarray | ImageFiles) -> None:
        self.images = images

    def __getitem__(self, request: _Request) -> _Fetched:
        return _fetch(lambda indices: torch.from_numpy(self.images[indices]), request)


def _as_it_is(fetched: _Fetched) -> _Fetched:
    """Keep DataLoader from turning index arrays into tensors; a function, so that workers can unpickle it."""
    return fetched


def _obey_parent(closing: Any, parent: int, worker: int) -> None:
    """Leave stopping to the main process: a signal to every process of a job must not kill its workers.

    Only once ``closing`` is set, or when the main process is gone, does SIGTERM end a worker: torch and Python send it
    to workers that they wait for at exit, and would wait for ever.
    """

    def stop(number: int, frame: Any) -> None:
        if closing.value or os.getppid() != parent:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)


def _close(reader: Any, closing: Any) -> None:
    """End the workers of a DataLoader now."""
    closing.value = 1
    if (iterator := reader._iterator) is not None:
        iterator._shutdown_workers()
        reader._iterator = None


def steps_of(rows: int, batch_size: int) -> int:
    """Return the number of batches in an epoch.

    A last batch of less than a quarter joins the one before it: the statistics of a few rows would spoil batch
    normalisation (on 290 digits in batches of 32, the last two rows cost 20 points of training recall).
    """
    full, rest = divmod(rows, batch_size)
    return full + (4 * rest >= batch_size or full == 0)


def most_workers() -> int:
    """Return how many worker processes a loader may have on this machine: eight per processor, at least 32."""
    return max(32, 8 * (os.cpu_count() or 1))


class _Feed:
    """The sampler of a DataLoader that lives for many epochs: hands out the current epoch's requests."""

    def __init__(self) -> None:
        self.requests: Iterator[_Request] = iter(())

    def __iter__(self) -> Iterator[_Request]:
        return self.requests


class Loader:
    """Hands out the batches of an epoch over one part's images.

    Args:
        part: The training cut (or any part to be evaluated).
        mean: Channel means, 0-1 scale.
        std: Channel standard deviations, 0-1 scale.
        batch_size: Rows per step; see ``steps_of`` for the last one.
        device: Device of the images.
        streaming: Read images in DataLoader workers (or one by one in this process with ``workers=0``) instead of
            keeping all on the device.
        workers: Worker processes of the streaming form.
        start_method: How worker processes start (fork, spawn, forkserver); None takes the platform's.

    Raises:
        ConfigError: More workers than this machine can use.
    """

    def __init__(
        self,
        part: Part,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        batch_size: int,
        device: torch.device,
        streaming: bool = False,
        workers: int = 0,
        start_method: str | None = None,
    ) -> None:
        if workers > (most := most_workers()):
            raise ConfigError(f"workers must be <= {most} on this machine ({os.cpu_count()} processors), got {workers}")
        self.batch_size, self.device = batch_size, device
        self.labels = torch.from_numpy(part.labels)
        channels = part.images.shape[3]
        if len(mean) != channels or len(std) != channels:
            raise ValueError(f"mean and std must have {channels} values, got {len(mean)} and {len(std)}")
        # One multiplication and one addition per pixel on the 0-255 scale.
        self._scale = (1 / (255 * torch.tensor(std))).to(device)
        self._shift = (-torch.tensor(mean) / torch.tensor(std)).to(device)
        self._resident: Tensor | None = None
        self._finalizer: weakref.finalize | None = None
        self._sent = False  # whether requests go to other processes
        if streaming:
            self._images = part.images
            self._feed = _Feed()
            self._sent = workers > 0
            context: Any = get_context(start_method)
            closing = context.RawValue("b", 0)
            self._reader = torch.utils.data.DataLoader(
                _Reader(part.images),
                sampler=self._feed,  # pyright: ignore[reportArgumentType] - any iterable of indices will do
                batch_size=None,
                collate_fn=_as_it_is,  # pyright: ignore[reportArgumentType] - torch's stubs think of lists only
                num_workers=workers,
                multiprocessing_context=start_method if workers else None,
                persistent_workers=workers > 0,
                worker_init_fn=partial(_obey_parent, closing, os.getpid()),
                generator=torch.Generator(),  # its own, so that the global one stays untouched
            )
            # At the latest when the interpreter exits, before Python waits for its children.
            self._finalizer = weakref.finalize(self, _close, self._reader, closing)
        else:
            images = part.images.load() if isinstance(part.images, ImageFiles) else part.images
            self._images = images
            self._resident = torch.from_numpy(images).to(device)

    def close(self) -> None:
        """End the worker processes, if there are any; the loader cannot be used afterwards."""
        if self._finalizer is not None:
            self._finalizer()

    def normalize(self, images: UInt8[Tensor, "B H W ch"]) -> Float[Tensor, "B ch H W"]:
        """Return normalised images, channels-last in memory."""
        on_device = images.to(self.device, non_blocking=True)
        floats = torch.empty(images.shape, dtype=torch.float32, device=self.device).copy_(on_device)
        width, channels = floats.shape[2:]
        # As whole rows of pixels: a broadcast over channels takes five times as long. In place: fresh memory is slow.
        rows = floats.view(*floats.shape[:2], width * channels)
        torch.addcmul(self._shift.repeat(width), rows, self._scale.repeat(width), out=rows)
        return floats.permute(0, 3, 1, 2)

    def denormalize(self, images: Float[Tensor, "B ch H W"]) -> UInt8[Tensor, "B H W ch"]:
        """Return images to look at: the inverse of ``normalize``, rounded and clipped."""
        planes = (images - self._shift.view(-1, 1, 1)) / self._scale.view(-1, 1, 1)
        return planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def epoch(
        self, indices: np.ndarray, *, pixel: Pixel, mix: Mix, seed: int, epoch: int, first_step: int = 0
    ) -> Iterator[Batch]:
        """Yield the batches of one epoch, from ``first_step`` on.

        Args:
            indices: The sampler's draw, positions in the part.
            pixel: Pixel component.
            mix: Mix component; if it asks for donors, their images come with the batch.
            seed: The run's seed.
            epoch: Epoch from 0.
            first_step: Steps already done (resuming within an epoch).
        """
        whole = cast(WholePixel, complete(pixel)), cast(WholeMix, complete(mix))
        requests = self._requests(indices, *whole, seed, epoch, first_step)
        if self._resident is not None:
            yield from (self._batch(_fetch(self.take, request)) for request in requests)
            return
        self._feed.requests = requests
        try:
            yield from map(self._batch, self._reader)
        finally:
            requests.close()  # the workers' queue holds it, and it holds this loader, with which the workers end

    def _batch(self, got: _Fetched) -> Batch:
        donors = None
        if got.donors is not None and got.donor_rows is not None:
            images, own = self.normalize(got.donor_rows), got.donors == got.indices
            donors = Donors(images, self.labels_of(got.donors), got.donors, own)
        changed = got.changed.to(self.device, non_blocking=True)  # found on the host where images are streamed
        return Batch(self.normalize(got.rows), self.labels_of(got.indices), got.indices, changed, donors)

    def labels_of(self, indices: np.ndarray | None) -> Int[Tensor, "B"]:
        """Return the labels at positions of the part, on the host."""
        return self.labels[torch.from_numpy(indices)]

    def steps(self, draws: int) -> int:
        """Return the number of batches in an epoch of ``draws`` rows."""
        return steps_of(draws, self.batch_size)

    def _requests(
        self, indices: np.ndarray, pixel: WholePixel, mix: WholeMix, seed: int, epoch: int, first_step: int
    ) -> Generator[_Request, None, None]:
        _, height, width, _ = self._images.shape
        size = (height, width)
        steps = self.steps(len(indices))
        for step in range(first_step, steps):
            last = step == steps - 1
            rows = indices[step * self.batch_size :] if last else indices[step * self.batch_size :][: self.batch_size]
            with naming("the pixel component", pixel):
                plan = pixel.sample(self.labels_of(rows), size, stream(seed, "pixel", epoch, step))
            donors = donor_plan = None
            with naming("the mix", mix):
                asked: Any = mix.donors(self.labels_of(rows), stream(seed, "donors", epoch, step))
            if asked is not None:
                donors = _positions(asked, len(rows), len(self.labels), mix)
                rng = stream(seed, "pixel_donors", epoch, step)
                with naming("the pixel component", pixel):
                    donor_plan = pixel.sample(self.labels_of(donors), size, rng)
            request = _Request(rows, plan, donors, donor_plan, pixel, step == first_step)
            if request.first and self._sent:
                with naming("the pixel component", pixel):  # its queue would swallow the error, and wait for ever
                    ForkingPickler.dumps(request)
            yield request

    def evenly(self, count: int, batch_size: int = 64, first: int | None = None) -> Iterator[Tensor]:
        """Yield up to ``count`` normalised images, evenly spaced in index order, unaugmented, in batches.

        From all images, or from the ``first`` ones only.
        """
        among = len(self.labels) if first is None else first
        rows = np.unique(np.linspace(0, among - 1, min(count, among)).round().astype(np.int64))
        for start in range(0, len(rows), batch_size):
            yield self.normalize(self.take(rows[start : start + batch_size]))

    def in_order(self, batch_size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images in order, unaugmented, with their labels: for evaluation.

        In batches of 500 by default, of fewer where images are large, but not fewer than are trained on at once.
        """
        if batch_size is None:
            height, width = self._images.shape[1:3]
            batch_size = min(EVALUATED, max(self.batch_size, EVALUATED * 64**2 // (height * width)))
        for start in range(0, len(self.labels), batch_size):
            rows = np.arange(start, min(start + batch_size, len(self.labels)))
            yield self.normalize(self.take(rows)), self.labels_of(rows)

    def take(self, rows: np.ndarray) -> UInt8[Tensor, "M H W ch"]:
        """Return unchanged images at positions of the part."""
        if self._resident is not None:
            index = torch.from_numpy(rows).to(self._resident.device, non_blocking=True)
            return self._resident.index_select(0, index)  # copies whole images: many times faster than indexing
        if isinstance(self._images, ImageFiles):
            return torch.from_numpy(self._images.take(rows).load())
        return torch.from_numpy(self._images[rows])
