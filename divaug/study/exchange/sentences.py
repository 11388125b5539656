"""The report's sentences: the answer, the objections with what answers them, limits and priors."""

from collections.abc import Sequence
from typing import Any


def answer(judged: Sequence[Any]) -> str:
    """Return the answer in a sentence for each primary design; it names the manipulation.

    Args:
        judged: For each design: plan, design, rows, contrasts.
    """
    said = []
    for plan, design, _, found in judged:
        if design.label not in plan.words.primary:
            continue
        if not len(found):
            said.append(f"{design.dataset}: no result yet.")
            continue
        by_name = found.set_index("contrast")
        phi, breadth, number = (by_name.loc[name] for name in ("phi", "breadth", "number"))
        unfinished = str(phi["verdict"]).startswith("unfinished")
        if unfinished:
            said.append(f"{design.dataset}: *{phi['verdict']}*; nothing is said before all are in.")
            continue
        unit = "pairs of cuts" if design.name == "longtailed" else "cuts"
        said.append(
            f"{design.dataset}: *{phi['verdict']}*. Halving the kinds of a rare class's images costs "
            f"{breadth['effect']:.1f} points of its prior-corrected recall [{breadth['lo']:.1f}, {breadth['hi']:.1f}], "
            f"halving their number from {2 * design.n} to {design.n} costs {number['effect']:.1f} "
            f"[{number['lo']:.1f}, {number['hi']:.1f}] (95 % intervals over {phi['n']} {unit}); φ = "
            f"{phi['effect']:.2f} [{phi['lo']:.2f}, {phi['hi']:.2f}] at {100 * plan.words.confidence:.3g} %."
        )
    return " ".join(said) if said else "No primary design has a result yet."


OBJECTIONS = (
    """*It is covariate shift.* The narrow arms train on half of the kinds and are tested on all of them. That is the
    manipulation: losing kinds is losing part of the test distribution. D - A on kept kinds asks for more, whether
    other kinds help the kept ones; but D also doubles the class's share of the rows.""",
    """*Twice the number is also twice the exposure.* At a fixed number of steps, more images of a class are a larger
    share of the rows, and a milder imbalance; breadth changes neither. The design twice repeats the images of A and B
    to the exposure of C and D, and gives φ for different images alone.""",
    """*φ depends on the grain of the kinds.* With as many kinds as images, halving kinds is halving images at random
    and φ is 0. The answer is for 16 kinds a class; the designs kinds8 and kinds32 show what the grain does. B and D do
    not depend on it.""",
    """*The outcome is a threshold.* It is corrected for the training cut's shares with a strength chosen on other test
    images. φ of all classes' recall, and of the AUC, which knows no threshold, stand beside it.""",
    """*Atypical images.* Halves of the kinds are drawn until one holds 45 to 55 % of the pool; radius, probe margin,
    brightness and contrast of the arms' images are in the balance table. Breadth moves the mean of a class by its
    nature (column shift).""",
    """*The encoder leaks.* Encoders, patches and the probe see quarter b1 of the training images only, and no labels
    but for the probe, which measures and never selects. Pools are half a.""",
    """*The words were chosen afterwards.* They stand in the preregistration, whose hash is in every row, with the
    number of cuts and the outcome; nothing is said before all cuts are in.""",
    """*Latent diversity was not moved.* If the rarefied top-K CE and FE of held-out images do not both rise with
    breadth, the verdict says so. Number may move them too: its effect is beside it. There is no claim that they
    mediate.""",
)

LIMITS = (
    """One narrow network trained from scratch in a short protocol. Ten classes, one pool of images, and one test set:
    cuts overlap, so intervals are for this pool.""",
    """Kinds are clusters in a label-free joint space of four rotation networks, random patches and pixels; other
    encoders would make others.""",
    """Number is measured around 100 images a class. Its returns diminish, and kinds come to an end: φ is local.""",
    """*Comparable* means within a factor of two.""",
    """φ splits D - A exactly into breadth and number, each averaged over the level of the other; the simple effects
    show their interaction.""",
)

PRIORS = (
    """Couch et al. (arXiv 2407.15724): over thousands of medical subsets, diversity explains more of balanced accuracy
    than size does; observational.""",
    """Geiping et al. (arXiv 2210.06441): augmentation is worth a multiple of the data, by exchange rates.""",
    """Zheng et al. (arXiv 2210.15809): coverage explains which subsets train well.""",
    """Dablain et al. (arXiv 2210.09465): latent class diversity is as important as the number of examples; argued from
    trained networks, not by moving it.""",
)
