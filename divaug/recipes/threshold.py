"""Set a class's threshold in a model folder: for a promised sensitivity or specificity, or for the least cost.

    divaug threshold models/cells --class eosinophil --sensitivity 0.9
    divaug threshold models/cells --class eosinophil --cost-miss 10 --cost-false 1
    divaug threshold models/cells --abstain 0.05
    divaug threshold models/cells             # what is set, and what it does
    divaug threshold models/cells --clear

It is chosen on out-of-fold probabilities, so that the lower Wilson bound keeps the promise. Images of one group
(patient, slide) count as fewer, by how alike they are. Where there are too few for a promise, nothing is set without
--anyway. divaug predict applies thresholds in the column decision: an image that reaches several is called the class
whose threshold it exceeds by the largest factor, and what all of them do together is printed. --abstain RATE makes the
model abstain where its largest probability is among the lowest RATE of these images.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, DivaugError, suggestion
from divaug.config.command import Parser
from divaug.config.command import main as run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = Parser("divaug threshold", __doc__)
        parser.add_argument("model", metavar="MODEL", help="model folder")
        parser.add_argument("--class", dest="name", metavar="NAME", help="the class")
        parser.add_argument("--sensitivity", type=float, metavar="S", help="share of the class to find, in (0, 1)")
        parser.add_argument("--specificity", type=float, metavar="S", help="share of others to leave, in (0, 1)")
        parser.add_argument("--cost-miss", type=float, metavar="C", help="cost of an image of the class not called so")
        parser.add_argument("--cost-false", type=float, metavar="C", help="cost of another image called so")
        parser.add_argument("--abstain", type=float, metavar="RATE", help="share of images to decide nothing on")
        parser.add_argument("--anyway", action="store_true", help="set the threshold even if nothing can be promised")
        parser.add_argument("--clear", action="store_true", help="remove all thresholds and abstention")
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        return _set(parser.read(arguments))

    return run_main("threshold", argv, work)


def _set(chosen: Any) -> int:
    from divaug.report.operating import together
    from divaug.report.own_images import out_of_fold, write_page
    from divaug.runs.decision import Decision
    from divaug.runs.model_folder import contents, decide, is_model_folder

    path = Path(chosen.model)
    if not is_model_folder(path):
        raise DivaugError(f"{path} is no model folder; divaug train writes one")
    costs = chosen.cost_miss is not None or chosen.cost_false is not None
    wanted = [chosen.sensitivity is not None, chosen.specificity is not None, costs]
    if chosen.clear:
        if any(wanted) or chosen.name or chosen.abstain is not None:
            raise ConfigError("--clear removes everything: give nothing else with it")
        decide(path, thresholds={}, abstain=0.0, notes={}, promised={})
        print("thresholds and abstention removed")
        if (path / "out_of_fold.csv").exists():
            print(f"page: {write_page(path)}")
        return 0
    content = contents(path)  # not the network: it may be the user's own code
    classes = content["classes"]
    if not any(wanted) and chosen.name is None and chosen.abstain is None and not chosen.anyway:
        return _show(path, Decision(**content["decision"]), classes)
    if sum(wanted) > 1 or (chosen.abstain is None and not any(wanted)):
        raise ConfigError("give one of --sensitivity, --specificity, --cost-miss with --cost-false, or --abstain")
    if chosen.name is not None and not any(wanted):
        raise ConfigError(f"--class {chosen.name}: give --sensitivity, --specificity, or both costs with it")
    if sum(wanted) and chosen.name is None:
        raise ConfigError("--class is missing: whose threshold?")
    for flag in ("sensitivity", "specificity", "abstain"):
        value = getattr(chosen, flag)
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"--{flag} must lie in (0, 1), got {value}")
    if costs and not all(cost is not None and cost > 0 for cost in (chosen.cost_miss, chosen.cost_false)):
        raise ConfigError("--cost-miss and --cost-false go together, and must be > 0")
    if chosen.name is not None and chosen.name not in classes:
        raise ConfigError(f"the model has no class {chosen.name!r}; {suggestion(chosen.name, classes)}")
    table = out_of_fold(path, classes)
    if sum(wanted):
        _threshold(path, Decision(**content["decision"]), table, classes, chosen)
    if chosen.abstain is not None:
        import numpy as np

        bound = float(np.quantile(table["probability"], chosen.abstain))
        decided = decide(path, abstain=bound)
        least = f"that of the {100 * chosen.abstain:g} % least sure out-of-fold images"
        print(f"abstains below a probability of {bound:.3f}, {least}")
        print(f"  {together(table, decided, classes)[-1]}")
    print(f"page: {write_page(path)}")
    return 0


def _show(path: Path, decision: Any, classes: Sequence[str]) -> int:
    """Print the thresholds that are set."""
    from divaug.report.operating import lines_of, together
    from divaug.report.own_images import out_of_fold

    if not decision.thresholds and not decision.abstain:
        print("no threshold is set: decision is the most probable class (--class NAME --sensitivity 0.9 sets one)")
        return 0
    table = out_of_fold(path, classes)
    for name in decision.thresholds:
        print("\n  ".join(lines_of(table, decision, classes, name)))
    if lines := together(table, decision, classes):
        print("\n  ".join(["all together:", *lines]))
    return 0


def _threshold(path: Path, decision: Any, table: Any, classes: Sequence[str], chosen: Any) -> None:
    from divaug.report.operating import few_groups, groups_of, lines_of, promise, scores_of, together
    from divaug.runs.model_folder import decide
    from divaug.runs.threshold import for_costs, for_sensitivity, for_specificity

    name = chosen.name
    (scores, positive), groups = scores_of(table, name), groups_of(table)
    if not positive.any() or positive.all():
        counts = int(positive.sum()), int((~positive).sum())
        raise DivaugError(f"the folds tested {counts[0]} images of {name} and {counts[1]} others")
    holds = True
    if chosen.sensitivity is not None:
        point, holds = for_sensitivity(scores, positive, chosen.sensitivity, groups=groups)
        kind, share = "sensitivity", chosen.sensitivity
    elif chosen.specificity is not None:
        point, holds = for_specificity(scores, positive, chosen.specificity, groups=groups)
        kind, share = "specificity", chosen.specificity
    else:
        point = for_costs(scores, positive, chosen.cost_miss, chosen.cost_false, groups=groups)
        kind, share = f"least cost at {chosen.cost_miss:g} a miss and {chosen.cost_false:g} a false call", None
    said = kind if share is None else promise(kind, share)
    ours = (positive, f"images of {name}") if kind == "sensitivity" else (~positive, "images of other classes")
    few = few_groups(table, *ours)
    if share is not None and holds and few is not None:
        if not chosen.anyway:
            raise DivaugError(f"{kind} of {100 * share:g} % for {name} cannot be promised: {few}; --anyway sets it so")
        said, holds = f"{kind} of {100 * share:g} % cannot be promised: {few}", False
    elif share is not None and not holds:
        if not chosen.anyway:
            raise DivaugError(_refusal(kind, share, name, point, positive & (table["predicted"] == name).to_numpy()))
        said = f"{kind} of {100 * share:g} % cannot be promised: too few images"
    thresholds, notes = {**decision.thresholds, name: point.threshold}, {**decision.notes, name: said}
    promised = {other: share for other, share in decision.promised.items() if other != name}
    if share is not None and holds:
        promised[name] = {kind: share}
    decided = decide(path, thresholds=thresholds, notes=notes, promised=promised)
    lines = lines_of(table, decided, classes, name)
    if chosen.sensitivity is not None and holds:
        lines += _set_by_one(table, name, point.threshold, chosen.sensitivity)
    print("\n  ".join(lines))
    if len(thresholds) > 1:
        print("\n    ".join(["  all thresholds together:", *together(table, decided, classes)]))
    if exported := sorted(file.name for file in path.glob("*.onnx")):
        print(f"  {exported[0]}.json has it too; copies elsewhere have the thresholds that they were exported with")


def _refusal(kind: str, share: float, name: str, point: Any, found: Any) -> str:
    """Say why nothing is set, what would be enough, and what there is instead."""
    from divaug.report.operating import alike, fewest

    own, right = point.positives, round(point.sensitivity[0] * point.positives)
    false = round((1 - point.specificity[0]) * point.negatives)
    needs = f"; it takes {fewest(share)} independent ones or more, if all are found" if kind == "sensitivity" else ""
    tested, as_many = (own, point.independent[0]) if kind == "sensitivity" else (point.negatives, point.independent[1])
    return (
        f"{kind} of {100 * share:g} % for {name} cannot be promised from {tested} tested "
        f"images{alike(tested, as_many)}{needs}. Nothing was set. "
        f"Without a threshold {found.sum()} of {own} are found; --anyway sets a probability of {point.threshold:.4g}, "
        f"which finds {right} of {own} and calls {false} of {point.negatives} others {name} too"
    )


def _set_by_one(table: Any, name: str, threshold: float, sensitivity: float) -> list[str]:
    """Return a line that names the image whose probability is the threshold, if it would be far higher without it."""
    from divaug.report.operating import groups_of, scores_of
    from divaug.runs.threshold import for_sensitivity

    (scores, positive), groups = scores_of(table, name), groups_of(table)
    (at,) = ((scores == threshold) & positive).nonzero()
    if len(at) != 1 or "path" not in table:
        return []
    others = scores != threshold
    left = None if groups is None else groups[others]
    without, holds = for_sensitivity(scores[others], positive[others], sensitivity, groups=left)
    if not holds or without.threshold < 2 * threshold:  # one image fewer may be too few for the promise
        return []
    image = table["path"].iloc[at[0]]
    return [f"one image sets it: without {image} it would be {without.threshold:.4g}; is it labelled {name} rightly?"]


if __name__ == "__main__":
    sys.exit(main())
