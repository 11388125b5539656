from collections import Counter

import numpy as np
import pytest

from divaug.base.errors import DataError
from divaug.data.images import Part
from divaug.data.sources import image_paths
from divaug.data.split import ALWAYS, folds_of


def images(seed=0, n=300):
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, n, p=(0.5, 0.3, 0.15, 0.05))
    groups = rng.integers(0, 60, n)
    return labels, groups


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_no_group_is_on_both_sides_and_every_class_is_trained_in_every_fold(seed, folds):
    labels, groups = images(seed)
    fold = folds_of(labels, folds, seed, groups)
    assert set(fold[fold != ALWAYS]) == set(range(folds))
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1
    for k in range(folds):
        assert set(labels[fold != k]) == set(labels)
    share = np.array([np.mean(fold == k) for k in range(folds)])
    assert abs(share - 1 / folds).max() < 0.15


def test_identical_images_are_in_one_fold_and_join_their_groups():
    labels = np.zeros(8, dtype=np.int64)
    contents = np.array([bytes([k]) * 32 for k in (1, 1, 2, 3, 4, 5, 6, 7)], dtype="V32")
    groups = np.array([0, 1, 1, 2, 3, 4, 5, 6])  # 0 and 1 share an image
    for seed in range(5):
        fold = folds_of(labels, 3, seed, groups, contents)
        assert len(set(fold[:3])) == 1
        alone = folds_of(labels, 3, seed, None, contents)
        assert alone[0] == alone[1]


def test_one_group_a_fold():
    labels, groups = np.array([0, 1] * 6), np.repeat(np.arange(6), 2)
    fold = folds_of(labels, 6, 0, groups)
    assert sorted(set(fold)) == list(range(6))
    for group in range(6):
        assert len(set(fold[groups == group])) == 1


def test_a_class_of_one_group_is_always_trained_on():
    labels = np.array([0] * 20 + [1] * 3)
    groups = np.array([*range(20), 20, 20, 20])
    fold = folds_of(labels, 4, 0, groups)
    assert (fold[20:] == ALWAYS).all() and (fold[:20] != ALWAYS).all()
    single = folds_of(np.array([0] * 9 + [1]), 3, 0)
    assert single[9] == ALWAYS


def test_a_fold_that_only_holds_a_class_of_its_own_is_left_out():
    labels = np.array([0, 0, 1, 1, 1, 0, 1, 0, 1])
    groups = np.array([5, 5, 0, 0, 0, 3, 3, 4, 4])
    labels[2:5] = 2  # the first group alone has class 2
    fold = folds_of(labels, None, 0, groups)
    assert (fold[2:5] == ALWAYS).all() and sorted(set(fold) - {ALWAYS}) == [0, 1, 2]
    for group in (3, 4, 5):
        assert len(set(fold[groups == group])) == 1
    with pytest.raises(DataError, match="fewer than two folds have an image to test"):
        folds_of(np.array([0, 0, 1, 1]), 2, 0, np.array([0, 0, 1, 1]))


def test_groups_that_share_an_image_are_one_fold():
    labels, groups = np.array([0, 1] * 4), np.repeat(np.arange(4), 2)
    contents = np.array([0, 1, 2, 3, 2, 5, 6, 7])  # an image of group 1 is one of group 2
    fold = folds_of(labels, None, 0, groups, contents)
    assert sorted(set(fold)) == [0, 1, 2] and len(set(fold[2:6])) == 1


def test_what_stands_together_has_one_name():
    """Groups that share an image are one; without groups an image and its copies are. Else nothing is renamed."""
    pixels, labels = np.zeros((6, 1, 1, 1), dtype=np.uint8), np.zeros(6, dtype=np.int64)
    paths, groups = np.array([f"{i}.png" for i in range(6)]), np.array(list("dbbcae"))
    each = np.frombuffer(b"".join(bytes([i]) * 32 for i in (7, 1, 2, 2, 7, 3)), dtype="V32")
    part = Part(pixels, labels, groups, each, paths)
    assert part.units.tolist() == ["a + d", *["b + c"] * 3, "a + d", "e"]
    alone = Part(pixels, labels, None, each, paths)
    first, second = "0.png + 4.png", "2.png + 3.png"
    assert alone.units.tolist() == [first, "1.png", second, second, first, "5.png"]
    assert alone.take(np.array([1, 2, 5])).units is None  # the copies are elsewhere
    differ = np.frombuffer(b"".join(bytes([i]) * 32 for i in range(6)), dtype="V32")
    assert Part(pixels, labels, groups, differ, paths).units.tolist() == groups.tolist()
    assert Part(pixels, labels, None, differ, paths).units is None and Part(pixels, labels).units is None
    same = np.frombuffer(bytes(32) * 6, dtype="V32")
    assert set(Part(pixels, labels, np.array(list("abcdef")), same, paths).units) == {"a + b + 4 more"}
    assert set(Part(pixels[:3], labels[:3], None, same[:3], paths[:3]).units) == {"0.png + 1.png + 2.png"}
    assert Part(pixels, labels, groups).units.tolist() == groups.tolist()


def test_the_seed_deals_anew_and_nothing_else_does():
    labels, groups = images()
    first = folds_of(labels, 5, 1, groups)
    np.testing.assert_array_equal(first, folds_of(labels, 5, 1, groups))
    assert (first != folds_of(labels, 5, 2, groups)).any()


@pytest.mark.parametrize("folds", [0, 1, 61])
def test_more_folds_than_groups_are_refused(folds):
    labels, groups = images()
    with pytest.raises(DataError, match="at least as many groups"):
        folds_of(labels, folds, 0, groups)


def test_parts_are_joined_with_all_that_they_know():
    pixels = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2, 1)
    whole = Part(pixels, np.arange(6), np.array(list("abcdef")), None, np.array([f"{i}.png" for i in range(6)]))
    again = Part.joined([whole.take(np.array([0, 2])), whole.take(np.array([1, 3, 4, 5]))])
    order = [0, 2, 1, 3, 4, 5]
    np.testing.assert_array_equal(again.images, pixels[order])
    assert again.groups.tolist() == list("acbdef") and again.paths.tolist() == [f"{i}.png" for i in order]
    assert again.contents is None
    assert Part.joined([whole, Part(pixels, np.arange(6))]).paths is None


def test_files_folders_and_tables_are_read_one_by_one(tmp_path):
    for name in ("b/2.png", "b/1.jpg", "a/3.PNG", "a/notes.txt", "top.tif"):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    (tmp_path / "list.csv").write_text("label,path\nx,in/b/2.png\ny,elsewhere.png\n")
    found = [
        str(path.relative_to(tmp_path))
        for path in image_paths([tmp_path / "in", tmp_path / "list.csv", tmp_path / "in/a/notes.txt"])
    ]
    assert found == [
        "in/top.tif",
        "in/a/3.PNG",
        "in/b/1.jpg",
        "in/b/2.png",
        "in/b/2.png",
        "elsewhere.png",
        "in/a/notes.txt",
    ]
    for name in (".hidden.png", "b/._1.jpg", ".cache/4.png"):  # what systems and notebooks leave behind
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "in" / "b" / "above").symlink_to(tmp_path / "in", target_is_directory=True)  # a loop
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "5.png").write_bytes(b"")
    found = [str(path.relative_to(tmp_path / "in")) for path in image_paths([tmp_path / "in"])]
    assert found == ["top.tif", "a/3.PNG", "b/1.jpg", "b/2.png", "linked/5.png"]
    (tmp_path / "in" / "README").write_text("")
    left_out = Counter()
    list(image_paths([tmp_path / "in"], left_out=left_out))
    assert left_out == {"hidden": 2, ".txt": 1, "without a suffix": 1}  # what lies in hidden folders is not looked at
    (tmp_path / "excel.csv").write_bytes("\ufeffsep=;\r\nLabel;Path\r\nx; in\\b\\2.png\r\n\r\ny;gone.png\r\n".encode())
    (tmp_path / "tabs.tsv").write_text("path\tlabel\nin/b/1.jpg\tx\n")
    found = [str(p.relative_to(tmp_path)) for p in image_paths([tmp_path / "excel.csv", tmp_path / "tabs.tsv"])]
    assert found == ["in/b/2.png", "gone.png", "in/b/1.jpg"]
    with pytest.raises(DataError, match="there is no"):
        list(image_paths([tmp_path / "gone"]))
    (tmp_path / "list.csv").write_text("file\nx\n")
    with pytest.raises(DataError, match=r"no column 'path': found file \(--path-column names it\)"):
        list(image_paths([tmp_path / "list.csv"]))
    assert list(image_paths([tmp_path / "list.csv"], column="File")) == [tmp_path / "x"]
    (tmp_path / "two.csv").write_text("path;file name\na.png;b.png\n")
    assert list(image_paths([tmp_path / "two.csv"], column="file name")) == [tmp_path / "b.png"]
    for content, said in (
        (b"label,path\nx\n", "line 2: no path"),
        (b"label,path\n\xe9,a.png\n", "is not UTF-8"),
        (b"path\n" + b"a" * 200_000, "line 2: field larger than field limit"),
    ):
        (tmp_path / "list.csv").write_bytes(content)
        with pytest.raises(DataError, match=said):
            list(image_paths([tmp_path / "list.csv"]))
