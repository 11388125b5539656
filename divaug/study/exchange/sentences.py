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
        phi = by_name.loc["phi"]
        if str(phi["verdict"]).startswith("unfinished"):
            said.append(f"{design.dataset}: *{phi['verdict']}*; nothing is said before all are in.")
            continue
        breadth, number = by_name.loc["breadth"], by_name.loc["number"]
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
    """*It is only covariate shift.* Breadth loses on kept kinds, which are seen half as deep, and gains more on
    withheld kinds: the gain is for a test on all kinds, and nothing beyond representation is shown. The row *transfer*
    says what as many images of the other kinds give to the kept ones, as a share of what images of their own kinds
    give: where its interval is above 0 other kinds help; where it holds 0 no transfer is shown.""",
    """*Twice the number is also more exposure.* At a fixed number of steps, more images of a class are a larger share
    of the rows, and a milder imbalance; breadth changes neither. The word is for number with exposure until the design
    twice is run, which repeats the images of A and B to the exposure of C and D.""",
    """*φ depends on the grain of the kinds.* With as many kinds as images, halving kinds is halving images at random
    and φ is 0. The answer is for 16 kinds a class; the designs kinds8 and kinds32 show what the grain does. B and D do
    not depend on it.""",
    """*Narrow arms are biased draws.* Halves of the kinds are drawn until one holds 45 to 55 % of the pool; radius,
    probe margin, brightness and contrast are in the balance table, as means over classes, which may cancel. A narrow
    set's mean is farther from the class's by its nature (column shift), and as a predictor shift cannot be told from
    breadth itself.""",
    """*The outcome is a threshold.* It is corrected for the training cut's shares with a strength chosen on other test
    images. φ of all classes' recall, and of the AUC, which knows no threshold, stand beside it.""",
    """*The encoder leaks.* Encoders, patches and the probe see quarter b1 of the training images only, and no labels
    but for the probe, which measures and never selects. Pools are half a.""",
    """*The words were chosen afterwards.* They stand in the preregistration, whose hash is in every row, with the
    number of cuts and the outcome; nothing is said before all cuts are in.""",
    """*The manipulation check cannot pass.* It asks that rarefied top-K CE and FE of held-out images both rise with
    breadth. Number is its positive control; where number lowers one of them too, the check says nothing of latent
    diversity either way. There is no claim that it mediates, and none that it does not matter. In an encoder that the
    selection did not use the images may be no more diverse (vendi_outside): breadth is of kinds in the space that
    defines them.""",
)

LIMITS = (
    """One narrow network trained from scratch in a short protocol. Ten classes, one pool of images, and one test set:
    cuts overlap, and the interval is for these classes; over classes as the unit it is wider.""",
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
