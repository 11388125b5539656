from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from divaug.recipes import compare
from divaug.report import results
from divaug.report.cards import write_cards
from divaug.report.compare import mean_sd

ROOT = Path(__file__).parents[2]
BAL = {"erm": {0: 0.50, 1: 0.60, 2: 0.70}, "cmo": {0: 0.53, 1: 0.62, 2: 0.71}, "diverse": {0: 0.5, 7: 0.9}}


@pytest.fixture
def rows():
    made = [
        {"experiment": "cifar10-exp100-fast", "protocol": "abc", "data": "d1", "method": method, "seed": seed, "epochs": 10,
         "test_bal_acc": value, "test_acc_tail": value / 2, "train_clean_rarefied_5_tail": 12.0}
        for method, seeds in BAL.items() for seed, value in seeds.items()
    ]  # fmt: skip
    return pd.DataFrame(made)


def test_differences_are_between_runs_of_one_seed_and_protocol(rows):
    summary = results.summary(rows).set_index("method")
    # Differences by seed: 3, 2, 1 points; diverse has seed 0 alone in common with erm.
    assert summary["bal - erm"].to_dict() == {"erm": "0.0 ± 0.0", "cmo": "2.0 ± 1.0", "diverse": "0.0"}
    assert summary.loc["cmo", "bal"] == f"{100 * np.mean([0.53, 0.62, 0.71]):.1f} ± 9.0"
    other = rows.assign(protocol=np.where(rows["method"] == "erm", "abc", "def"))
    parted = results.summary(other).set_index("method")
    assert parted.loc["cmo", "bal - erm"] == "-" and parted.loc["cmo", "experiment"] == "cifar10-exp100-fast (def)"
    both = pd.concat([rows, rows.assign(protocol="def", test_bal_acc=0.0), rows])  # rows twice are one run
    assert (results.summary(both)["seeds"] == [3, 3, 2] * 2).all()
    elsewhere = results.summary(pd.concat([rows, rows.assign(data="d2", test_bal_acc=0.0)]))  # other images: apart
    assert elsewhere["experiment"].tolist() == ["cifar10-exp100-fast (d1)"] * 3 + ["cifar10-exp100-fast (d2)"] * 3
    assert elsewhere["seeds"].tolist() == [3, 3, 2] * 2 and elsewhere["bal"][4] == "0.0 ± 0.0"
    assert results.summary(both)["bal"][1] == "62.0 ± 9.0"


def test_numbers_of_the_common_space_stand_beside_its_encoder(rows):
    assert "encoder" not in results.summary(rows)
    judged = pd.concat([rows.assign(encoder="x-b-1.pt"), rows.assign(protocol="def", encoder="x-b-2.pt")])
    heads = rows[rows["method"] == "erm"].assign(method="erm+posthoc=eos")  # not measured in it
    summary = results.summary(pd.concat([judged, heads])).set_index(["experiment", "method"])["encoder"]
    named = {"cifar10-exp100-fast (abc)": "x-b-1.pt", "cifar10-exp100-fast (def)": "x-b-2.pt"}
    for (experiment, method), encoder in summary.items():
        assert encoder == ("-" if "posthoc" in method else named[experiment])
    assert len(summary) == 7


def test_a_protocol_that_looks_like_a_number_is_text(rows, tmp_path):
    for protocol in ("12345678", "1234e567", "01234567"):
        rows.assign(protocol=protocol).to_csv(tmp_path / "rows.csv", index=False)
        assert set(results.read(tmp_path / "rows.csv")["protocol"]) == {protocol}


def test_names_that_look_like_missing_values_stay(rows, tmp_path):
    rows.assign(experiment="NA", method="None").to_csv(tmp_path / "rows.csv", index=False)
    table = results.read(tmp_path / "rows.csv")
    assert set(table["experiment"]) == {"NA"} and len(results.summary(table)) == 1


def test_a_card_says_what_a_method_is_how_it_is_used_and_what_it_gave(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows.to_csv("rows.csv", index=False)
    assert compare.main(["rows.csv", "--cards", "out/cards.md"]) == 0
    text = (tmp_path / "out" / "cards.md").read_text()
    assert "python -m divaug.recipes.compare rows.csv --cards out/cards.md" in text
    card = text.split("## diverse\n")[1]
    for part in (
        "CutMix whose donors add features", 'partner = "diverse"', "--method diverse", "`mix/cutmix`: Paste a box",
        "`partners/diverse`:", "arXiv:1905.04899", "*Differs from the paper:* nothing with these defaults",
    ):  # fmt: skip
        assert part in card, part
    assert "| cifar10-exp100-fast | 10 | 2 | 70.0 ± 28.3 |" in card
    assert "<h2>cmo</h2>" in (tmp_path / "out" / "cards.html").read_text()
    assert compare.main(["rows.csv", "--cards", "cards.txt"]) == 2
    assert compare.main(["rows.csv", "rows.csv", "--cards", "cards.md"]) == 2
    assert compare.main(["typo.csv"]) == 1
    assert "--cards FILE.md needs one CSV" in capsys.readouterr().err


def test_the_card_of_a_new_head_has_the_command_of_its_options(rows, tmp_path):
    label = "erm+posthoc=eos+neighbours=100+head-epochs=5"
    page, _ = write_cards(rows.assign(method=label), tmp_path / "cards.md", "made")
    command = "python -m divaug.recipes.posthoc RUN --method eos --neighbours 100 --head-epochs 5\n"
    assert command in page.read_text().split(f"## {label}\n")[1]


TABLES = ("blood_cells", "cifar10")


def test_every_committed_table_is_checked():
    assert tuple(sorted(path.stem for path in ROOT.glob("recipes/augmentation/*.csv"))) == TABLES


@pytest.mark.parametrize("stem", TABLES)
def test_committed_cards_are_those_of_the_committed_rows(stem, tmp_path):
    name = f"recipes/augmentation/{stem}.csv"
    table = ROOT / name
    command = f"python -m divaug.recipes.compare {name} --cards {name.removesuffix('.csv')}.md"
    page, _ = write_cards(results.read(table), tmp_path / "cards.md", command)
    assert page.read_text() == table.with_suffix(".md").read_text(), f"out of date; run: {command}"


def test_the_table_of_forty_epochs_in_the_readme_is_that_of_the_rows():
    rows = results.read(ROOT / "recipes/augmentation/cifar10.csv")
    rows = rows[(rows["epochs"] == 40) & ~rows["method"].str.contains("posthoc")]
    first = rows["encoder"] == "cifar10-b-58fbff23.pt"
    pooled = pd.concat([rows[first], rows[~first]]).drop_duplicates(["method", "seed"])  # the first encoder's, if any
    text = (ROOT / "recipes/augmentation/README.md").read_text()
    shown = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in text.splitlines()}
    recalls = ("test_bal_acc", "test_prior_corrected_bal_acc", "test_acc_tail", "test_worst_class_acc")
    assert pooled["method"].nunique() == 16
    for method, runs in pooled.groupby("method"):
        assert sorted(runs["seed"]) == [0, 1, 2]
        wanted = [mean_sd(list(runs[key])) for key in recalls]
        wanted.append(mean_sd(list(runs["train_clean_rarefied_20_tail"]), scale=1.0))
        *cells, common = shown[method]
        assert cells == wanted, method
        views = runs.loc[runs["encoder"] == "cifar10-b-58fbff23.pt", ["seed", "encoder_views_rarefied_20_tail"]]
        if common.startswith("as "):  # another method showed the same images: where both were measured, they agree
            same = pooled[(pooled["method"] == common.removeprefix("as ")) & pooled["seed"].isin(views["seed"])]
            assert sorted(same["encoder_views_rarefied_20_tail"]) == sorted(views["encoder_views_rarefied_20_tail"])
        else:
            few = "" if len(views) == 3 else f" ({len(views)} seeds)"
            assert common == mean_sd(list(views["encoder_views_rarefied_20_tail"]), scale=1.0) + few, method


def test_every_component_of_a_method_is_described(rows, tmp_path):
    named = pd.concat([rows.assign(method=method) for method in ("ldam_drw", "ros")])
    text = write_cards(named, tmp_path / "cards.md", "make")[0].read_text()
    for name in ("losses/ldam", "heads/cosine", "class_weights/effective_number", "samplers/oversample"):
        assert f"- `{name}`: " in text, name


def test_a_method_with_changed_options_has_its_numbers_alone(rows, tmp_path):
    changed = rows[rows["method"] == "cmo"].assign(method="cmo+mix.prob=1.0")
    page, _ = write_cards(pd.concat([rows, changed]), tmp_path / "cards.md", "make")
    assert "## cmo+mix.prob=1.0\n\n| experiment" in page.read_text()
