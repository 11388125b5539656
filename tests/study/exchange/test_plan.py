import pytest

from divaug.base.errors import ConfigError
from divaug.study.exchange.plan import read_plan

PLAN = """
title = "t"
analysis = 1
[preset]
preset = "fast"
batch_size = 50
[[design]]
dataset = "digits"
name = "longtailed"
cuts = "0-3"
n = 10
heads = 30
kinds = 4
steps = 20
arms.A = { number = 1.0, breadth = 0.5 }
arms.B = { number = 1.0, breadth = 1.0 }
"""


def plan_of(tmp_path, text):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return read_plan(path)


def test_the_hash_covers_every_value_and_nothing_else(tmp_path):
    first = plan_of(tmp_path, PLAN).prereg
    assert len(first) == 12
    assert plan_of(tmp_path, "# a comment\n" + PLAN.replace("n = 10\nheads = 30", "heads = 30\nn = 10")).prereg == first
    for old, new in (('"t"', '"u"'), ("= 50", "= 51"), ("0-3", "0-5"), ("n = 10", "n = 11"), ("0.5", "1.0"),
                     ("steps = 20", "steps = 21"), ("kinds = 4", "kinds = 6")):  # fmt: skip
        assert plan_of(tmp_path, PLAN.replace(old, new)).prereg != first, (old, new)
    assert plan_of(tmp_path, PLAN + "[words]\nfloor = 2.0\n").prereg != first


def test_keys_reach_the_runs(tmp_path):
    plan = plan_of(
        tmp_path, PLAN.replace("breadth = 1.0 }", 'breadth = 1.0, method = "ros", options = { pixel = "none" } }')
    )
    design = plan.designs[0]
    config = plan.config(design, design.arms["B"], counts=(10, 30), epochs=7, seed=3)
    assert (config.dataset, config.method, config.pixel.name, config.batch_size) == ("digits", "ros", "none", 50)
    assert (config.counts, config.profile, config.epochs, config.seed) == ((10, 30), "custom", 7, 3)
    assert (config.tracking, config.vary, config.monitor) == ("off", "init", False)
    assert plan.config(design, design.arms["A"], counts=(1,), epochs=1, seed=0).sampler.name == "uniform"
    assert plan.runs == 8


def test_whole_numbers_draw_the_same_images(tmp_path):
    one, other = (
        plan_of(tmp_path, PLAN.replace("number = 1.0", number)).designs[0].arms
        for number in ("number = 1", "number = 1.0")
    )
    assert repr(one["A"]) == repr(other["A"])


def test_a_designs_preset_is_over_the_plans(tmp_path):
    plan = plan_of(tmp_path, PLAN + "[design.preset]\nbatch_size = 25\n")
    config = plan.config(plan.designs[0], plan.designs[0].arms["A"], counts=(1,), epochs=1, seed=0)
    assert config.batch_size == 25


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("analysis = 1", "analysis = 2", "analyses by version 1"),
        ("analysis = 1", "", "analysis = None"),
        ("title", "titel", "unknown key 'titel'"),
        ("batch_size = 50", "batch_sise = 50", "batch_sise"),
        ("kinds = 4", "kinds = 5", "kinds must be even"),
        ("kinds = 4", "kinds = true", "kinds must be int"),
        ("n = 10", 'n = "10"', "n must be int"),
        ("n = 10", "", "n"),
        ("n = 10", "m = 10", "unknown key 'm'"),
        ("steps = 20", "", "give steps or epochs"),
        ("steps = 20", "steps = 20\nepochs = 2", "give steps or epochs"),
        ('"longtailed"', '"longtail"', "must be longtailed, balanced, slides"),
        ("heads = 30", "", "heads go with longtailed"),
        ('"0-3"', '"0-2"', "come in pairs"),
        ('"0-3"', '"3-0"', "runs backwards"),
        ('"0-3"', "3", "cuts must look like"),
        ("breadth = 0.5", "breadth = 0.4", "breadth must be 0.5 or 1"),
        ("breadth = 0.5", "bredth = 0.5", "unknown key 'bredth'"),
        ("breadth = 0.5", 'breadth = 0.5, dose = "low"', "a dose is of all kinds"),
        ("breadth = 1.0", 'dose = "lo"', "dose"),
        ("breadth = 1.0", "copies = 0", "copies must be >= 1"),
        ("number = 1.0", "number = -1.0", "number must be > 0"),
        ("number = 1.0", "number = nan", "number must be finite"),
        ("breadth = 1.0", 'method = "erm2"', "erm2"),
        ("breadth = 1.0", 'dose = "low", match = ["size"]', "match takes"),
        ("arms.A", 'arms."A/B"', "cannot be called"),
        ('"digits"', '"digit"', "digit"),
        ("[preset]", '[encoders]\ndigits = ["none.pt"]\n[preset]', "there is no encoder"),
        ("[preset]", '[words]\nprimary = ["digits/balanced"]\n[preset]', "primary names 'digits/balanced'"),
        ("batch_size = 50", "epochs = 5", "preset: epochs is set by the study"),
        ("breadth = 1.0", "options = { seed = 3 }", "options: seed is set by the study"),
        ("breadth = 1.0", 'match = ["radius"]', "match goes with a dose"),
        ("steps = 20", "steps = -3000", "give steps or epochs"),
        ("n = 10", "n = 0", "n must be >= 1"),
        ("[preset]", "[words]\nflor = 1.0\n[preset]", "unknown key 'flor'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, said):
    assert old in PLAN
    with pytest.raises(ConfigError, match=said):
        plan_of(tmp_path, PLAN.replace(old, new, 1))


def test_two_designs_need_two_names(tmp_path):
    design = PLAN[PLAN.index("[[design]]") :]
    with pytest.raises(ConfigError, match="two designs are called digits/longtailed"):
        plan_of(tmp_path, PLAN + design)
    plan = plan_of(tmp_path, PLAN + design.replace("n = 10", 'n = 10\nvariant = "again"'))
    assert [one.label for one in plan.designs] == ["digits/longtailed", "digits/longtailed/again"]


def test_the_committed_plans_can_be_read():
    from pathlib import Path

    folder = Path(__file__).parents[3] / "recipes" / "study"
    plans = [read_plan(path) for path in sorted(folder.glob("*.toml"))]
    assert {"breadth.toml", "pilot_cifar10.toml"} <= {plan.path.name for plan in plans}
    breadth = next(plan for plan in plans if plan.path.name == "breadth.toml")
    assert breadth.words.primary == ("cifar10/longtailed", "fashion_mnist/longtailed")
    pilot = next(plan for plan in plans if plan.path.name == "pilot_cifar10.toml")
    used = {cut for design in pilot.designs for cut in design.cuts}
    assert not used & {cut for design in breadth.designs for cut in design.cuts}, "pilot cuts are not used again"
