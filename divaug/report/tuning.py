"""How the options of compared methods were chosen: by their defaults, or by ``--tune``."""

import re
from pathlib import Path
from typing import Any

TUNING = "tuning.csv"  # in an experiment's folder: what --tune tried
_DEFAULTS = "Defaults, the published ones where there are such"
_OWN = re.compile(r"-[0-9a-f]{4}$")  # the label of a method from a file of the user's


def read_tuning(file: Path) -> Any:
    """Return what ``--tune`` tried, or None where it was not used; see ``study.tune``."""
    import pandas as pd

    if not file.exists():
        return None
    table = pd.read_csv(
        file, dtype=dict.fromkeys(("protocol", "resolved", "data"), str)
    )  # a hash may look like a number
    told = {key: table[key].fillna("") if key in table else "" for key in ("protocol", "resolved", "data")}
    return table.assign(**told)  # "": a record from before it was kept


def tuning_of(table: Any, tuning: Any) -> list[str]:
    """Say how the options of methods were chosen: one that was tuned more than another has an advantage.

    Args:
        table: Runs of one protocol and data set, which rows of a CSV name (runs lie beside their own record).
        tuning: What ``read_tuning`` returned.
    """
    methods = list(dict.fromkeys(table["method"]))
    if tuning is not None and "protocol" in table:
        tuning = tuning[(tuning["protocol"] == table["protocol"].iloc[0]) & (tuning["data"] == table["data"].iloc[0])]
    labels = {method: method.partition("+posthoc=")[0] for method in methods}
    chosen = {} if tuning is None else dict(tuning.loc[tuning["chosen"], ["label", "k"]].itertuples(index=False))
    tried = {method: int(chosen.get(label, 0)) for method, label in labels.items()}
    if any(tried.values()) and len(set(tried.values())) == 1:
        said = (
            f"Tuned alike: {tried[methods[0]]} configurations of every method (fewer where it has fewer options), "
            "drawn from its components' ranges and chosen on validation images; what was chosen stands in its name."
        )
        return [said]
    own = [method for method, label in labels.items() if _OWN.search(label.partition("+")[0])]
    but = f", but for methods of your own ({', '.join(own)}), whose files set theirs" if own else ""
    changed = [name for name, label in labels.items() if "+" in label or "+" in name.partition("+posthoc=")[2]]
    if not changed:
        return [f"{_DEFAULTS}: no option was tuned{but}."]
    if any("+" in label and tried[method] for method, label in labels.items()):
        shown = ", ".join(f"{method} {k or 'none'}" for method, k in tried.items())
        return [f"NOT TUNED ALIKE, configurations tried: {shown}. Differences may be of tuning."]
    return [f"{_DEFAULTS}, but for changes that stand in names ({', '.join(changed)}); --tune chose none of them{but}."]
