"""The figure of README's first screen, from committed rows: ``python docs/hero.py`` writes docs/hero.png."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

ROOT = Path(__file__).parents[1]
FIRST = "cifar10-b-58fbff23.pt"  # of runs made twice, those beside the first encoder
COLUMNS = {"test_bal_acc": "balanced accuracy", "test_prior_corrected_bal_acc": "the same, class priors corrected"}


def main() -> None:
    rows = pd.read_csv(ROOT / "recipes/augmentation/cifar10.csv")
    rows = rows[(rows["epochs"] == 40) & ~rows["method"].str.contains("posthoc")]
    first = rows["encoder"] == FIRST
    rows = pd.concat([rows[first], rows[~first]]).drop_duplicates(["method", "seed"])
    order = list(rows.groupby("method")["test_bal_acc"].mean().sort_values().index)
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 4.4), sharey=True, layout="constrained")
    for axis, (column, title) in zip(axes, COLUMNS.items(), strict=True):
        plain = 100 * rows.loc[rows["method"] == "erm", column]
        axis.axvspan(plain.min(), plain.max(), color="0.88", lw=0)
        for y, method in enumerate(order):
            values = 100 * rows.loc[rows["method"] == method, column]
            axis.plot(values, [y] * len(values), "o", ms=5, mfc="none", mec="0.35", mew=1)
            axis.plot([values.mean()] * 2, [y - 0.3, y + 0.3], color="#0b5fa5", lw=2.5)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("test recall, mean over classes (%)", fontsize=9)
        axis.set_yticks(range(len(order)), order, fontsize=9)
        axis.grid(axis="x", color="0.92")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        "CIFAR-10-LT, imbalance factor 100 on half of the images, 40 epochs. "
        "Circles: three seeds of one cut; bars: means; grey: erm's range.",
        fontsize=7.5,
    )
    figure.savefig(ROOT / "docs/hero.png", dpi=150)


if __name__ == "__main__":
    main()
