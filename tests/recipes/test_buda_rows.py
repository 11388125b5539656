"""What the README of the repetition says is what its committed rows give."""

from pathlib import Path

from divaug.recipes.buda import DATASETS
from divaug.report import results
from divaug.study.buda import cells_of, judge, scores_of

HERE = Path(__file__).parents[2] / "recipes/buda"


def test_the_verdicts_and_numbers_are_those_of_the_rows():
    contrasts, claims = judge(scores_of(results.read(HERE / "results.csv"), cells_of(DATASETS), [0, 1, 2, 3]))
    assert [verdict for _, verdict in claims] == [
        "holds", "does not hold", "does not hold", "these runs cannot tell", "holds",
    ]  # fmt: skip
    assert set(contrasts["n"]) == {4} and set(contrasts["cells"]) == {8}
    text = " ".join((HERE / "README.md").read_text(encoding="utf-8").split())
    rows = {(row.claim, row.ours, row.theirs): row for row in contrasts.itertuples()}

    def said(row, digits=1, sign=""):
        return f"{row.difference:{sign}.{digits}f} [{row.low:.{digits}f}, {row.high:.{digits}f}]"

    one, two, three, five = (next(r for (c, *_), r in rows.items() if c == n) for n in (1, 2, 3, 5))
    assert f"{one.difference:.1f} points more area under the ROC curves [{one.low:.1f}, {one.high:.1f}]" in text
    assert f"worse than plain training ({said(two)})" in text
    assert f"undersampling ({said(rows[2, 'ros', 'rus'], sign='+')})" in text
    assert f"two phases ({said(rows[2, 'ros', 'two_phase'], sign='+')})" in text
    assert f"half of it ({said(three, digits=2)})" in text
    assert f"in full ({said(rows[3, 'rus_part', 'rus'], sign='+')})" in text
    assert f"+{five.difference:.1f} points of accuracy [{five.low:.1f}, {five.high:.1f}]" in text
