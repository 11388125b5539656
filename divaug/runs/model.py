"""A trained network, ready to use: its classes, its preprocessing, its predictions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from divaug.base.errors import DataError
from divaug.models.network import Network
from divaug.runs.decision import ABSTAINED, Decision
from divaug.runs.preprocess import Preprocess
from divaug.train.evaluate import evaluating

BATCH = 256
Images = str | Path | np.ndarray | Image.Image | Sequence[Any]


class Model:
    """A trained network with its classes and preprocessing.

    Attributes:
        classes: Their names, in the order of the logits.
        transform: Turns an image (file, PIL, uint8 array) into the normalised tensor that the network expects.
        network: The torch module, in evaluation mode: ``features(images)`` gives FE, ``head(z)`` logits.
        decision: Temperature, thresholds and abstention; of a run, none of them.
        card: What is known about the model, as plain values; empty for a run.
    """

    def __init__(
        self,
        network: Network,
        classes: Sequence[str],
        transform: Preprocess,
        decision: Decision | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        self.network, self.classes, self.transform = network.eval(), tuple(classes), transform
        self.decision, self.card = decision or Decision(), dict(card or {})

    def features(self, images: Images) -> Float[np.ndarray, "N D"]:
        """Return the embeddings (FE) of images.

        Args:
            images: A file or several, a PIL image or several, uint8 ``(H, W, ch)`` or ``(N, H, W, ch)``.

        Raises:
            DataError: An image cannot be read.
        """
        items = _items(images)
        return np.concatenate([self._outputs(items[i : i + BATCH])[0] for i in range(0, len(items), BATCH)])

    def predict(self, images: Any) -> Any:
        """Return a DataFrame with one row per image.

        Columns: ``path`` (of files), ``label`` (the most probable class), its ``probability``, ``second`` (the next
        class), ``decision`` (the label after thresholds and abstention; empty where the model abstains),
        ``unreadable`` (why a file cannot be read; its other columns are empty), and ``p_<class>``. Probabilities are
        the softmax of the logits divided by the model's temperature; those of a run are not calibrated, and none are
        corrected for the class priors of the training cut.

        Args:
            images: As in ``features``, or a DataFrame with a column ``path``.

        Raises:
            DataError: There is no image, or an array or PIL image cannot be used.
        """
        import pandas as pd

        if isinstance(images, pd.DataFrame):
            if "path" not in images:
                raise DataError(f"the table has no column 'path': found {', '.join(map(str, images.columns))}")
            images = images["path"].tolist()
        items = _items(images)
        return pd.concat(list(self.stream(items)), ignore_index=True)

    def stream(self, images: Iterable[Any], batch_size: int = BATCH) -> Iterator[Any]:
        """Yield the DataFrames of ``predict``, batch after batch: memory does not grow with the number of images."""
        source = iter(images)
        while batch := list(islice(source, batch_size)):
            yield self._table(batch)

    def _table(self, items: list[Any]) -> Any:
        import pandas as pd

        files = [isinstance(item, str | Path) for item in items]
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
            read = list(pool.map(self._read, items))
        good = [i for i, one in enumerate(read) if isinstance(one, Tensor)]
        probabilities = np.full((len(items), len(self.classes)), np.nan)
        if good:
            logits = self._outputs([read[i] for i in good])[1]
            probabilities[good] = self.decision.probabilities(logits)
        order = np.argsort(-probabilities[good], axis=1, kind="stable")
        decided = self.decision.decide(probabilities[good], self.classes)
        names = np.array([*self.classes, ""], dtype=object)  # -1 is the last: the model abstains
        texts: Any = {key: np.full(len(items), "", dtype=object) for key in ("label", "second", "decision")}
        texts["label"][good], texts["second"][good] = names[order[:, 0]], names[order[:, 1]]
        texts["decision"][good] = names[np.where(decided == ABSTAINED, len(self.classes), decided)]
        table: Any = pd.DataFrame({
            "label": texts["label"],
            "probability": probabilities.max(1),
            "second": texts["second"],
            "decision": texts["decision"],
            "unreadable": ["" if isinstance(one, Tensor) else one for one in read],
            **{f"p_{name}": probabilities[:, c] for c, name in enumerate(self.classes)},
        })  # fmt: skip
        if all(files):
            table.insert(0, "path", [str(item) for item in items])
        return table

    def _read(self, item: Any) -> Tensor | str:
        """Return an image as the network expects it, or, for a file that cannot be read, why."""
        try:
            return self.transform(item)
        except DataError as error:
            if not isinstance(item, str | Path):
                raise
            return str(error)

    def _outputs(self, items: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return features and logits of a batch of images, or of tensors as the network expects them."""
        device = next(self.network.parameters()).device
        batch = torch.stack([item if isinstance(item, Tensor) else self.transform(item) for item in items])
        with torch.no_grad(), evaluating(self.network):
            z = self.network.features(batch.to(device)).float()
            return z.cpu().numpy(), self.network.head(z).cpu().numpy()


def _items(images: Images) -> list[Any]:
    if isinstance(images, Tensor) or (isinstance(images, list | tuple) and any(isinstance(i, Tensor) for i in images)):
        raise DataError("tensors may be normalised or not, (ch, H, W) or not: give uint8 arrays (H, W, ch), or files")
    if isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [images]
    items = list(images)
    if not items:
        raise DataError("no image was given")
    return items
