"""What a seed varies, what is held out, and what data are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from divaug import configure
from divaug.base.errors import ConfigError, DataError
from divaug.config.tables import dump, protocol_fingerprint
from divaug.data.images import Dataset, Part
from divaug.data.load import fit, load_data, varied
from divaug.data.loaders import steps_of
from divaug.data.split import hold_out


def digits(**keys):
    return configure(dataset="digits", tracking="off", **keys)


def test_a_seed_varies_cut_and_order():
    assert varied(digits(seed=0)) == (0, "native") and varied(digits(seed=3)) == (3, "permuted:3")
    assert varied(digits(seed=3, split_seed=10)) == (13, "permuted:3")
    assert varied(digits(seed=3, class_order="reversed")) == (3, "reversed")  # a given order is kept
    assert varied(digits(seed=3, vary="init")) == (0, "native")
    assert varied(digits(seed=3, vary="images", split_seed=10)) == (13, "native")  # several cuts in one order
    assert varied(digits(seed=3, profile="natural")) == (3, "native")
    assert varied(digits(seed=3, profile="custom", counts=[5] * 10)) == (3, "native")
    one, two = load_data(digits(seed=1)), load_data(digits(seed=2))
    assert one.cut.sha256 != two.cut.sha256 and (one.class_order, one.split_seed) == ("permuted:1", 1)
    assert sorted(one.counts) == sorted(two.counts) and one.counts.tolist() != two.counts.tolist()
    assert one.identity == two.identity and one.manifest["data"] == one.identity
    assert load_data(digits(seed=1, vary="init")).cut.sha256 == load_data(digits(seed=2, vary="init")).cut.sha256


def test_vary_is_in_the_fingerprint_and_what_follows_from_it_is_not():
    assert protocol_fingerprint(digits(seed=1)) == protocol_fingerprint(digits(seed=2))
    assert protocol_fingerprint(digits(vary="init")) != protocol_fingerprint(digits())
    assert protocol_fingerprint(digits(split_seed=1)) != protocol_fingerprint(digits())


def test_the_subset_of_the_literature_is_one_cut():
    assert digits(subset="literature").vary == "init" and digits(preset="paper").vary == "init"
    assert digits(preset="fast_v1").subset == "literature"
    with pytest.raises(ConfigError, match="vary must be init with subset literature"):
        digits(subset="literature", vary="cut")
    with pytest.raises(ConfigError, match="vary must be init with subset literature"):
        digits(subset="literature", vary="images")


def test_held_out_images_are_balanced_apart_and_the_same_for_every_seed():
    zero, one = load_data(digits(seed=0, holdout=7)), load_data(digits(seed=1, holdout=7))
    assert np.bincount(zero.val.labels).tolist() == [7] * 10 and zero.val.sha256 == one.val.sha256
    assert not set(zero.val.digests.tolist()) & set(zero.dataset.train.digests.tolist())
    assert protocol_fingerprint(digits(holdout=7)) != protocol_fingerprint(digits())
    assert zero.identity == load_data(digits()).identity  # before anything is held out
    with pytest.raises(ConfigError, match="both make the validation part"):
        digits(holdout=7, val_frac=0.1)
    labels = np.array([0, 0, 0, 1, 1])
    assert np.bincount(labels[hold_out(labels, 2, 1, 0)]).tolist() == [1, 1]
    with pytest.raises(DataError, match=r"classes \[1\] no training image: .* at most 1"):
        hold_out(labels, 2, 2, 0)


def test_few_images_get_more_epochs_unless_a_number_is_given(monkeypatch):
    config = configure(dataset="image_folder", path="x")
    assert (config.min_steps, config.batch_size, config.lr) == (1000, 32, 0.05)
    data = load_data(digits())
    steps = steps_of(len(data.train.labels), 32)
    assert steps == len(data.train.labels) // 32 == 9  # the last four images join the ninth batch
    fitted = fit(replace(digits(), min_steps=50 * steps * 100, epochs=1), data)
    assert fitted.epochs == 5000 and fit(replace(digits(), min_steps=1, epochs=3), data).epochs == 3
    assert protocol_fingerprint(fitted) == protocol_fingerprint(replace(fitted, epochs=1))
    assert configure(dataset="image_folder", path="x", epochs=3).min_steps == 0
    assert configure(dataset="image_folder", path="x", min_steps=9).min_steps == 9
    for file in ("epochs = 40\nmin-steps = 9\n", "min_steps = 9\n"):
        Path("file.toml").write_text(file)
        found = configure(dataset="image_folder", path="x", config="file.toml", epochs=3)
        assert (found.epochs, found.min_steps) == (3, 0)  # what is said above a file stands
    assert configure(dataset="image_folder", path="x", config="file.toml").min_steps == 9
    record = configure(dataset="image_folder", path="x", min_steps=9)
    Path("record.toml").write_text(dump(record))
    assert configure(config="record.toml") == record
    Path("both.toml").write_text("epochs = 40\nmin-steps = 9\n")
    Path("epochs.toml").write_text("epochs = 40\n")
    for where, keys in (
        ("a flag, or --smoke,", {"epochs": 3, "min_steps": 9}), ("the --config file", {"config": "epochs.toml", "min_steps": 9}),
        ("the --config file", {"config": "both.toml"}), ("the --config file", {"config": "record.toml", "min_steps": 5}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"beside a number of epochs, which {where} gives; give one of them"):
            configure(dataset="image_folder", path="x", **keys)
    monkeypatch.setenv("DIVAUG_MIN_STEPS", "9")
    with pytest.raises(ConfigError, match="which the --config file gives"):
        configure(dataset="image_folder", path="x", config="epochs.toml")
    monkeypatch.delenv("DIVAUG_MIN_STEPS")
    assert configure(dataset="image_folder", path="x", epochs=3, min_steps=0).epochs == 3


def test_what_data_are_covers_groups_but_no_group_of_one_image():
    """A mended group moves images to the other side of a split; a lone image's group may be its path."""
    images, labels = np.arange(6).repeat(4), [0, 0, 0, 1, 1, 1]

    def identity(groups, order=range(6)):
        order = list(order)
        pixels = np.array(images, dtype=np.uint8).reshape(6, 2, 2, 1)[order]
        of = None if groups is None else np.array(groups)[order]
        train = Part(pixels[:4], np.array(labels)[order][:4], None if of is None else of[:4])
        test = Part(pixels[4:], np.array(labels)[order][4:], None if of is None else of[4:])
        return Dataset(train, test, ["a", "b"], (0.5,), (0.5,), "none", carved=True).identity

    base = identity(["p", "p", "q", "q", "r", "r"])
    assert base == identity(["p", "p", "q", "q", "r", "r"], [5, 0, 2, 4, 1, 3])  # a carved part is no part of its own
    others = [["p", "p", "q", "r", "r", "q"], ["s", "s", "q", "q", "r", "r"], ["p", "p", "q", "q", "x", "y"], None]
    assert len({base, *map(identity, others)}) == 5
    assert identity(list("abcdef")) == identity(list("ghijkl")) == identity(None)


def part(images, labels):
    return Part(np.array(images, dtype=np.uint8).reshape(-1, 1, 1, 1), np.array(labels))


def dataset(train, test, names=("a", "b"), **more):
    return Dataset(train, test, list(names), (0.5,), (0.5,), pixel="none", **more)


def test_what_data_are():
    train, test = part([1, 2, 3], [0, 0, 1]), part([4, 0], [0, 1])
    plain = dataset(train, test).identity
    assert dataset(part([3, 1, 2], [1, 0, 0]), part([0, 4], [1, 0])).identity == plain  # whatever the order
    assert dataset(part([1, 2, 3], [0, 1, 1]), test).identity != plain  # another label
    assert dataset(part([1, 2, 9], [0, 0, 1]), test).identity != plain  # another image
    assert dataset(train, test, names=("a", "c")).identity != plain
    assert dataset(part([1, 2], [0, 0]), part([3, 4, 0], [1, 0, 1])).identity != plain  # another part
    carved = dataset(train, test, carved=True).identity
    assert dataset(part([1, 2], [0, 0]), part([3, 4, 0], [1, 0, 1]), carved=True).identity == carved != plain
    assert dataset(train, test, val=part([7], [1])).identity != plain


def test_the_test_part_belongs_to_the_data(monkeypatch):
    whole = load_data(digits()).dataset
    fewer = replace(whole, test=whole.test.take(np.arange(len(whole.test.labels) - 1)))
    named = load_data(digits()).identity
    monkeypatch.setattr("divaug.data.load.dataset_of", lambda config, seed: fewer)
    assert load_data(digits()).identity != named


def test_digests_end_in_zeros_too():
    many = part(np.arange(256), np.zeros(256, int))
    assert len({bytes(d) for d in many.digests}) == 256 and all(len(bytes(d)) == 32 for d in many.digests)
