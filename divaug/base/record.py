"""The one table of metric names: what a run records, what it means, its unit, and where it goes.

Producers check their keys here, trackers look up what goes to MLflow, reports take titles from here, and the page of
metric names is made from it. A name with braces stands for several: ``{part}/acc`` is ``test/acc`` and ``val/acc``.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

PARTS = ("test", "val")
VIEWS = "views"
SPACES = {
    VIEWS: "unmixed views presented in training, in the run's own space (top-K CE)",
    "train_clean": "unaugmented training images in the run's own space (top-K CE)",
    "test_clean": "unaugmented test images in the run's own space (top-K CE)",
    "encoder_views": "views presented in training, in the common encoder's space (top-K FE)",
    "encoder_train_clean": "unaugmented training images in the common encoder's space (top-K FE)",
    "encoder_test_clean": "unaugmented test images in the common encoder's space (top-K FE)",
}
GROUPS = ("head", "mid", "tail")
SHOTS = ("many", "medium", "few")
_FIELDS = {"part": "|".join(PARTS), "group": "|".join(GROUPS), "shot": "|".join(SHOTS), "m": r"\d+"}

# Results shown in tables: key in a row of --results (final/KEY in result.json) and title.
TITLES = {
    "test_acc": "acc",
    "test_bal_acc": "bal",
    "test_prior_corrected_bal_acc": "prior-corr.",
    "test_acc_head": "head",
    "test_acc_mid": "mid",
    "test_acc_tail": "tail",
    "test_worst_class_acc": "worst",
    "test_macro_f1": "macro-F1",
}
Values = TypeVar("Values", bound=Mapping[str, object])


@dataclass(frozen=True)
class Metric:
    """One line of the table.

    Attributes:
        name: Key, or a pattern of keys with braces.
        meaning: What it is, for a reader.
        unit: "share" lies in 0 to 1; "features" are distinct features; "" is no unit.
        scalar: Whether it is one number per epoch (``metrics`` of a row).
        per_class: Whether it is one number per class (``per_class`` of a row).
        to_mlflow: Whether its scalar goes to MLflow, which is slow with many names; else it is only in the run folder.
    """

    name: str
    meaning: str
    unit: str = ""
    scalar: bool = True
    per_class: bool = False
    to_mlflow: bool = True

    @property
    def pattern(self) -> str:
        """A regular expression of its keys."""
        parts = re.split(r"\{(\w+)\}", self.name)
        return "".join(f"(?:{_FIELDS[text]})" if i % 2 else re.escape(text) for i, text in enumerate(parts))


def _per_class(name: str, meaning: str, unit: str) -> Metric:
    return Metric(name, meaning, unit, scalar=False, per_class=True, to_mlflow=False)


_TRAINING = (
    Metric("train/loss", "mean loss of the epoch's rows, class weights and label weights applied", "nats"),
    Metric("train/acc", "rows whose label of largest weight was predicted during training", "share"),
    Metric("train/lr", "learning rate of the epoch's last step"),
    Metric("train/seconds", "time for the epoch's training", "s"),
    Metric("train/epoch_seconds", "time for the epoch, evaluation and measurement included", "s"),
    Metric("train/img_per_s", "rows trained per second", "1/s"),
)
_AUGMENTATION = (
    Metric("aug/augmented_frac", "rows whose pixels were altered", "share"),
    Metric("aug/mixed_frac", "rows that another image was mixed into", "share"),
    Metric("aug/synthetic_frac", "label mass added in feature space, per row", "share"),
    Metric("aug/rows_tail_frac", "rows of tail classes", "share"),
    Metric("aug/mass_tail_frac", "label mass of tail classes", "share"),
    Metric("aug/givers_tail_frac", "mixed-in images of tail classes", "share"),
    Metric(
        "aug/donors_effective",
        "effective number of donor images of the training cut (inverse Simpson index of their uses)",
        "images", per_class=True,
    ),
    _per_class("aug/rows", "rows presented", "rows"),
    _per_class("aug/sources", "different images among them", "images"),
    _per_class("aug/augmented", "rows whose pixels were altered", "rows"),
    _per_class("aug/receivers", "rows that another image was mixed into", "rows"),
    _per_class("aug/givers", "rows that an image of the class was mixed into", "rows"),
    _per_class("aug/label_mass", "label mass after mixing and feature augmentation", "rows"),
    _per_class("aug/synthetic", "label mass that feature augmentation added", "rows"),
    _per_class("aug/donors", "different images of the training cut that were mixed in", "images"),
    _per_class("aug/level", "strength learned for the class", ""),
)  # fmt: skip
_EVALUATION = (
    Metric("{part}/acc", "images classified correctly", "share"),
    Metric("{part}/bal_acc", "mean recall over the classes present (balanced accuracy)", "share"),
    Metric("{part}/macro_f1", "mean F1 over the classes present", "share"),
    Metric("{part}/gmean", "geometric mean of the recalls", "share"),
    Metric("{part}/worst_class_acc", "smallest recall of any class", "share"),
    Metric("{part}/acc_{group}", "mean recall of the head, mid or tail classes, by rank of training count", "share"),
    Metric("{part}/acc_{shot}", "mean recall of classes with over 100, 20 to 100, under 20 training images", "share"),
    Metric("{part}/predicted_classes", "classes that were predicted at least once", "classes"),
    Metric("{part}/prior_corrected_bal_acc", "balanced accuracy, priors corrected by a cross-fitted tau", "share"),
    Metric("{part}/prior_corrected_acc_{group}", "mean prior-corrected recall of the group's classes", "share"),
    Metric("{part}/prior_corrected_tau", "tau of the correction, mean of two halves"),
    Metric("{part}/roc_auc", "mean area under the one-versus-rest ROC curves", "share"),
    Metric("{part}/ece", "expected calibration error over 15 bins", "share"),
    Metric("{part}/classwise_ece", "mean over classes of the calibration error of the class's probability", "share"),
    Metric("{part}/brier", "squared distance of probabilities and labels, summed over classes: 0 to 2"),
    Metric("{part}/sensitivity_at_95", "sensitivity at a specificity of 95 %, and its mean over classes", "share",
           per_class=True),
    Metric("{part}/acc_as_trained", "accuracy if the class shares were those of the training cut", "share"),
    Metric("{part}/acc_reversed", "accuracy if the smallest class had the largest's share, and so on", "share"),
    Metric("train_clean/bal_acc", "mean recall over unaugmented training images: how far training has come", "share"),
    Metric("train_clean/acc_{group}", "mean recall over unaugmented training images of the group's classes", "share"),
    _per_class("train_clean/recall", "recall over unaugmented training images", "share"),
    _per_class("{part}/recall", "recall; NaN for a class that is absent", "share"),
    _per_class("{part}/prior_corrected_recall", "recall after the correction of priors; last epoch", "share"),
    _per_class("{part}/calibration_error", "calibration error of the class's probability over 15 bins", "share"),
    _per_class("{part}/precision", "precision; 0 for a class that is never predicted", "share"),
)  # fmt: skip

# In each space: name, meaning, unit, and the spaces whose group means go to MLflow.
_LATENT = (
    ("number", "distinct features in the class's top-K sets; grows with n", "features",
     (VIEWS, "train_clean", "encoder_views", "encoder_train_clean")),
    ("rarefied_{m}", "distinct features expected in m rows; NaN with fewer", "features",
     ("train_clean", "encoder_train_clean")),
    ("effective", "features in use, by the entropy of their frequency", "features", ()),
    ("magnitude", "mean contribution over the class's top-K features", "", ()),
)  # fmt: skip
_GROWN = (
    ("growth", "number of this epoch minus the first epoch's", "features", (VIEWS,)),
    ("growth_rarefied_{m}", "rarefied number of this epoch minus the first epoch's", "features", ()),
)
_MORE_K, _MIXED = r"(?:_top\d+)?", "(?:_mixed)?"


@dataclass(frozen=True)
class Latent(Metric):
    """A line on top-K sets in one space: per class, and as means over head, mid and tail (``_tail`` after the name).

    Further values of K have ``_topK`` after the name; rows made of several images are separate, as ``_mixed``. Both are
    detail.
    """

    @property
    def pattern(self) -> str:
        """A regular expression of its keys per class."""
        return super().pattern + _MORE_K + _MIXED


def _latent() -> Iterator[Latent]:
    for space, about in SPACES.items():
        yield Latent(f"{space}/n", f"rows counted: {about}", "rows", scalar=False, per_class=True, to_mlflow=False)
        for name, meaning, unit, shown in (*_LATENT, *(_GROWN if space == VIEWS else ())):
            yield Latent(f"{space}/{name}", f"{meaning}: {about}", unit, per_class=True, to_mlflow=space in shown)


_RESULTS = (
    Metric("final/feature_dim", "width D of the embeddings", "features"),
    Metric("final/trained_parameters", "numbers that training changes: weights and biases, without what is frozen"),
    Metric("final/train_seconds", "time for the training of all epochs", "s"),
    Metric("final/total_seconds", "time for all epochs, evaluation and measurement included", "s"),
    Metric("best_on_test/acc", "largest test accuracy of any epoch: selected on the test set", "share"),
    Metric("best_on_test/bal_acc", "largest balanced accuracy of any epoch: selected likewise", "share"),
)  # fmt: skip
TABLE: tuple[Metric, ...] = (*_TRAINING, *_AUGMENTATION, *_EVALUATION, *_latent(), *_RESULTS)


@cache
def find(key: str, *, per_class: bool = False) -> Metric:
    """Return the line of a scalar key, or of a per-class key.

    ``final/X`` is the last epoch's ``X``, with ``_`` for its slash.

    Raises:
        KeyError: The table has no such name; add it there.
    """
    for metric in TABLE:
        if per_class:
            found = metric.per_class and re.fullmatch(metric.pattern, key)
        elif isinstance(metric, Latent):
            found = metric.scalar and re.fullmatch(f"{metric.pattern}_(?:{_FIELDS['group']})", key)
        else:
            found = metric.scalar and re.fullmatch(metric.pattern, key)
        if found:
            return metric
    if key.startswith("final/") and not per_class:
        return find(_as_in_a_row(key.removeprefix("final/")))
    raise KeyError(f"{key!r} is in no line of the table of metric names (divaug/base/record.py)")


def _as_in_a_row(name: str) -> str:
    """Return ``train_clean/number_tail`` for ``train_clean_number_tail``."""
    for prefix in sorted((*PARTS, *SPACES), key=len, reverse=True):  # test_clean before test
        if name.startswith(f"{prefix}_"):
            return f"{prefix}/{name.removeprefix(f'{prefix}_')}"
    return name


def goes_to_mlflow(key: str) -> bool:
    """Return whether a scalar goes to MLflow; if not, it is only in the run folder."""
    metric = find(key)
    if isinstance(metric, Latent):
        detail = "_mixed_" in key or re.search(r"_top\d+_", key)
        return metric.to_mlflow and not detail and not key.startswith(f"final/{VIEWS}_")
    return metric.to_mlflow


def checked(values: Values, *, per_class: bool = False) -> Values:
    """Return the values unchanged, after looking up every key in the table."""
    for key in values:
        find(key, per_class=per_class)
    return values
