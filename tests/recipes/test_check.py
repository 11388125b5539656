import pytest

from divaug.recipes import check

MINE = '''
from divaug.base.labels import MixedLabels
from divaug.config.registry import MIX


@MIX.register("mine")
class Mine:
    """Blends a share of the next row in; its labels say something else."""

    def __init__(self, class_counts, *, share: float = 0.5):
        self.share = share

    def sample(self, labels, size, rng):
        return int(rng.integers(1, 9))

    def apply(self, images, labels, plan, donors=None):
        out = (1 - self.share) * images + self.share * images.roll(plan, 0)
        return out.to(images.dtype), MixedLabels.hard(labels)
'''


def outcomes(capsys):
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    return [words[0] for words in lines]


def test_ours_pass(capsys):
    assert check.main(["cutmix", "--mix.prob", "1.0"]) == 0
    out = capsys.readouterr().out
    assert "mix/cutmix on digits with 87 to 4 images per class" in out and "8 checks, 0 failed" in out
    assert "100 % of batches changed" not in out.split("rate")[0] and "distinct top-10 features in 16 views" in out
    assert check.main(["diverse", "--partners.k", "5"]) == 0  # its encoder: fixed random patches


def test_a_bare_name_means_all_that_bear_it(capsys):
    assert check.main(["none"]) == 0
    out = capsys.readouterr().out
    assert all(f"{family}/none" in out for family in ("pixel", "mix", "feature"))
    assert out.count("+0.0 distinct") == 2  # views of nothing show nothing new


def test_a_users_component_is_judged(tmp_path, capsys):
    (tmp_path / "my_augs.py").write_text(MINE)
    assert check.main(["mine", "--import", str(tmp_path / "my_augs.py"), "--mix.share", "0.25"]) == 0
    assert outcomes(capsys) == ["pass", "pass", "pass", "note", "pass", "pass", "pass", "pass"]
    (tmp_path / "worse.py").write_text(MINE.replace("mine", "worse").replace("int(rng.integers(1, 9))", "1"))
    assert check.main(["worse", "--import", str(tmp_path / "worse.py")]) == 1
    assert "all steps give the same batch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["cutmix", "--pixel.prob", "0.3"], "options of pixel have no effect: cutmix is no such component"),
        (["cutmix", "--seeds", "0-2"], "takes one method and one seed"),
        (["cutmx"], "unknown component 'cutmx'; did you mean 'cutmix'"),
        (["mixx/cutmix"], "unknown family 'mixx'; did you mean 'mix'"),
        (["--quiet"], "the argument NAME is missing"),
        (["cutmix", "--mix.alhpa", "1"], "mix 'cutmix' has no 'alhpa'; did you mean 'alpha'"),
        (["cutmix", "--mix.alpha", "-1.0"], r"alpha must be > 0"),
    ],
)
def test_mistakes_are_named(argv, message, capsys):
    assert check.main(argv) == 2
    assert message in capsys.readouterr().err
