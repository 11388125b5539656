import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from divaug.base.errors import DataError
from divaug.data import roots
from divaug.data.datasets import _mnist
from divaug.data.datasets._cifar import read_cifar
from divaug.data.datasets.cifar10 import cifar10
from divaug.data.datasets.csv import csv
from divaug.data.datasets.digits import digits
from divaug.data.datasets.fashion_mnist import fashion_mnist
from divaug.data.datasets.image_folder import image_folder
from divaug.data.image_files import ImageFiles
from divaug.data.images import Request


def md5(content):
    import hashlib

    return hashlib.md5(content).hexdigest()


def _labels(dataset):
    return np.concatenate([dataset.train.labels, dataset.test.labels])


def test_digits_are_embedded_and_halved():
    dataset = digits(Request())
    assert dataset.train.images.shape == (901, 8, 8, 1) and dataset.test.images.shape == (896, 8, 8, 1)
    train, test = (np.bincount(part.labels) for part in (dataset.train, dataset.test))
    assert (np.abs(train - test) <= 1).all() and train.min() == 87
    every = load_digits()  # by scikit-learn itself; ours reads its file
    own = np.concatenate([dataset.train.images, dataset.test.images])[..., 0]
    wanted = np.round(every.images * 255 / 16).astype(np.uint8)
    order = [
        np.lexsort(np.c_[x.reshape(len(x), -1), y].T) for x, y in ((own, _labels(dataset)), (wanted, every.target))
    ]
    assert (own[order[0]] == wanted[order[1]]).all() and (_labels(dataset)[order[0]] == every.target[order[1]]).all()
    pixels = dataset.train.images / 255
    assert (pixels.mean(), pixels.std()) == pytest.approx((dataset.mean[0], dataset.std[0]), abs=0.01)
    assert dataset.train.images.max() == 255 and dataset.pixel == "shift"


@pytest.fixture
def fake_cifar(tmp_path):
    """A CIFAR of eight images with the checksums that belong to it."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (8, 3072), dtype=np.uint8), [0, 1] * 4
    contents = {
        "train": pickle.dumps({"data": images[:6], "labels": labels[:6]}),
        "test": pickle.dumps({"data": images[6:], "labels": labels[6:]}),
        "meta": pickle.dumps({"names": ["a", "b"]}),
    }
    folder = tmp_path / "root" / "fake"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    keys = {name: md5(content) for name, content in contents.items()}

    def read(request):
        return read_cifar(
            request, name="Fake", folder="fake", archive=("file:///nowhere.tar.gz", "0"), train={"train": keys["train"]},
            test={"test": keys["test"]}, meta=("meta", keys["meta"]), label_key="labels", names_key="names",
        )  # fmt: skip

    return read, folder, images


def test_cifar_planes_become_pixels(fake_cifar, tmp_path):
    read, _, images = fake_cifar
    dataset = read(Request(data_root=str(tmp_path / "root")))
    assert dataset.train.images.shape == (6, 32, 32, 3) and dataset.class_names == ["a", "b"]
    assert dataset.train.images[2, 5, 7].tolist() == [images[2, plane * 1024 + 5 * 32 + 7] for plane in range(3)]
    assert dataset.test.labels.tolist() == [0, 1]


def test_damaged_files_are_named(fake_cifar, tmp_path):
    read, folder, _ = fake_cifar
    (folder / "train").write_bytes((folder / "train").read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"train is damaged: MD5 .*, expected"):
        read(Request(data_root=str(tmp_path / "root")))
    (folder / "test").unlink()
    (folder / "train").unlink()
    with pytest.raises(DataError, match="not found; looked for train"):
        read(Request(data_root=str(tmp_path / "root")))


def test_an_incomplete_folder_hides_no_whole_one_and_is_fetched_anew(fake_cifar, tmp_path, monkeypatch):
    from divaug.data.roots import locate

    read, folder, _ = fake_cifar
    (tmp_path / "data" / "fake").mkdir(parents=True)
    (tmp_path / "data" / "fake" / "train").write_bytes((folder / "train").read_bytes())
    monkeypatch.chdir(tmp_path)
    request = Request(data_root=None, download=True)
    fetched = []
    assert locate("Fake", "fake", ["train"], request, fetched.append) == Path("data/fake") and not fetched
    locate("Fake", "fake", ["train", "test"], request, fetched.append)
    assert len(fetched) == 1  # the rest was not there
    monkeypatch.setenv("DIVAUG_DATA", str(tmp_path / "root"))
    assert len(read(Request(download=False)).train.labels) == 6


def test_roots_are_searched_in_order(fake_cifar, tmp_path, monkeypatch):
    read, _, _ = fake_cifar
    with pytest.raises(DataError) as caught:
        read(Request(download=False))
    assert "data/fake" in str(caught.value) and str(tmp_path / "cache" / "divaug" / "fake") in str(caught.value)
    assert "digits_lt" in str(caught.value)
    monkeypatch.setenv("DIVAUG_DATA", str(tmp_path / "root"))
    assert len(read(Request(download=False)).train.labels) == 6
    assert str(roots.candidates(Request())[0]) == "data"
    # an explicit root is the only one
    with pytest.raises(DataError, match="not found"):
        read(Request(data_root=str(tmp_path / "elsewhere")))


def test_a_failed_download_says_so(fake_cifar, monkeypatch):
    read, _, _ = fake_cifar
    with pytest.raises(DataError, match="download failed"):
        read(Request())


def test_downloads_go_to_the_cache(tmp_path, monkeypatch):
    files = {}
    source = tmp_path / "mirror"
    source.mkdir()
    for name, content in {
        "train-images-idx3-ubyte.gz": b"",
        "train-labels-idx1-ubyte.gz": bytes(8) + bytes([1, 0]),
        "t10k-images-idx3-ubyte.gz": b"",
        "t10k-labels-idx1-ubyte.gz": bytes(8) + bytes([1]),
    }.items():
        body = content if "images" not in name else bytes(16) + bytes(784 * (2 if "train" in name else 1))
        packed = gzip.compress(body, mtime=0)
        (source / name).write_bytes(packed)
        files[name] = md5(packed)

    def fake_download(url, root, filename=None, md5=None):
        from pathlib import Path
        from shutil import copy

        Path(root).mkdir(parents=True, exist_ok=True)
        copy(source / url.rsplit("/", 1)[1], root)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fake_download)

    def read():
        return _mnist.read_mnist(
            Request(), name="Fake", folder="Fake/raw", mirror="http://nowhere/", md5s=tuple(files.values()),
            class_names=["a", "b"], mean=0.5, std=0.5,
        )  # fmt: skip

    dataset = read()
    assert dataset.train.images.shape == (2, 28, 28, 1) and dataset.train.labels.tolist() == [1, 0]
    last = tmp_path / "cache" / "divaug" / "Fake" / "raw" / "t10k-labels-idx1-ubyte.gz"
    last.unlink()  # as if a download had been stopped
    assert read().test.labels.tolist() == [1] and last.exists()


def test_real_cifar10_and_fashion_mnist(real_data):
    cifar, fashion = (
        cifar10(Request(data_root=str(real_data))),
        fashion_mnist(Request(data_root=str(real_data))),
    )
    assert cifar.train.images.shape == (50_000, 32, 32, 3) and (np.bincount(cifar.test.labels) == 1000).all()
    assert fashion.train.images.shape == (60_000, 28, 28, 1) and (np.bincount(fashion.test.labels) == 1000).all()
    pixels = fashion.train.images / 255
    assert (pixels.mean(), pixels.std()) == pytest.approx((fashion.mean[0], fashion.std[0]), abs=1e-3)


@pytest.fixture
def pictures(tmp_path):
    """Three classes of 8, 6 and 4 images of odd sizes, as folders and as rows."""
    rng = np.random.default_rng(0)
    rows = []
    for label, count in (("cat", 8), ("dog", 6), ("emu", 4)):
        (tmp_path / "own" / label).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (9 + i, 13, 3), dtype=np.uint8)).save(
                tmp_path / "own" / label / f"{i}.png"
            )
            rows.append((f"{label}/{i}.png", label, i))
    return tmp_path / "own", rows


def request(path, **kwargs):
    return Request(path=str(path), image_size=10, **kwargs)


def write(folder, header, rows):
    file = folder / "own.csv"
    file.write_text("\n".join([header, *(",".join(str(cell) for cell in row) for row in rows)]) + "\n")
    return file


def test_image_folder_carves_a_stratified_test_part(pictures):
    dataset = image_folder(request(pictures[0], test_frac=0.25))
    assert dataset.class_names == ["cat", "dog", "emu"]
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 1]
    assert dataset.train.images.shape == (13, 10, 10, 3)
    assert any("carved off: 5 of 18" in note for note in dataset.notes) and dataset.carved
    flat = dataset.train.images.reshape(-1, 3) / 255
    assert dataset.mean == pytest.approx(flat.mean(0).tolist()) and dataset.std == pytest.approx(flat.std(0).tolist())


def test_a_test_folder_of_its_own(pictures, tmp_path):
    test = tmp_path / "test" / "dog"
    test.mkdir(parents=True)
    (tmp_path / "test" / "cat").mkdir()
    for grey, place in enumerate((test, tmp_path / "test" / "cat")):
        Image.fromarray(np.full((5, 5, 3), grey, np.uint8)).save(place / "x.png")
    dataset = image_folder(request(pictures[0], test=str(tmp_path / "test")))
    assert np.bincount(dataset.train.labels).tolist() == [8, 6, 4] and dataset.test.labels.tolist() == [0, 1]
    assert any("['emu'] have no test image" in note for note in dataset.notes) and not dataset.carved


def test_csv_with_split_and_source(pictures):
    folder, rows = pictures
    file = write(folder, "path,label,split,source", [(p, y, "test" if i < 2 else "train", "real") for p, y, i in rows])
    dataset = csv(request(file))
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 2] and "images by source: real 18" in dataset.notes
    assert not any("test_frac" in note for note in dataset.notes)
    idle = csv(request(file, test_frac=0.25)).notes
    assert "test_frac 0.25 has no effect: the data name a test part" in idle


def test_csv_with_groups_keeps_them_whole(pictures):
    folder, rows = pictures
    file = write(folder, "path,label,group", [(p, y, f"g{i % 4}") for p, y, i in rows])
    dataset = csv(request(file, test_frac=0.25))
    assert not set(dataset.train.groups) & set(dataset.test.groups)


def test_what_a_carved_part_lacks_is_no_fault_where_it_is_put_back(pictures):
    """Deer at six cameras, six other species at one of them each: carved off with it, none of one is left to train on."""
    folder, rows = pictures
    labels = ["deer"] * 6 + [f"species {k // 2}" for k in range(12)]
    cameras = [*range(6), *(k // 2 for k in range(12))]
    file = write(folder, "path,label,group", [(row[0], *own) for row, *own in zip(rows, labels, cameras, strict=True)])
    with pytest.raises(DataError, match="have no training image"):
        csv(request(file))
    whole = csv(request(file, dealt=True))
    assert len(whole.train.labels) + len(whole.test.labels) == 18 and whole.carved
    assert not any("test image" in note for note in whole.notes)


def test_large_sets_stay_on_disk(pictures, monkeypatch):
    monkeypatch.setattr("divaug.data.datasets._own.RESIDENT_BYTES", 100)
    assert isinstance(image_folder(request(pictures[0])).train.images, ImageFiles)


@pytest.mark.parametrize(
    ("header", "change", "message"),
    [
        ("path,lable", {}, "lacks the column 'label'"),
        ("path,label,grup", {}, "unknown column 'grup'; did you mean 'group'"),
        ("path,label", {3: ("cat/3.png", "")}, "line 5: empty label"),
        ("path,label", {3: ("", "cat")}, "line 5: empty path"),
        ("path,label", {3: ("cat/99.png", "cat")}, r"no such image in 1 of 18 rows: line 5: .*99\.png"),
        (
            "path,label,split",
            {3: ("cat/3.png", "cat", "tset")},
            "line 5: split must be train, val or test, got 'tset'",
        ),
    ],
)
def test_bad_csvs_are_refused(pictures, header, change, message):
    folder, rows = pictures
    width = header.count(",") + 1
    cells = [[p, y, "train" if "split" in header else f"g{i}"][:width] for p, y, i in rows]
    for line, cell in change.items():
        cells[line] = cell
    with pytest.raises(DataError, match=message):
        csv(request(write(folder, header, cells)))


def test_other_bad_own_images(pictures, tmp_path):
    folder, rows = pictures
    (folder / "fox").mkdir()
    with pytest.raises(DataError, match=r"class folders without an image that can be read: fox \(empty\)"):
        image_folder(request(folder))
    (folder / "fox").rmdir()
    with pytest.raises(DataError, match="does not exist; read are folders"):
        image_folder(request(tmp_path / "nothing"))
    with pytest.raises(DataError, match="at least two; found 0"):
        image_folder(request(folder / "cat"))
    (folder / "cat" / "0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"1 of 18 files cannot be read as images: .*0\.png"):
        image_folder(request(folder))
    (folder / "cat" / "0.png").unlink()
    file = write(
        folder,
        "path,label,split,group",
        [(p, y, "test" if i < 3 else "train", "same") for p, y, i in rows[1:]],
    )
    with pytest.raises(DataError, match=r"groups \['same'\] .* are in both the training and the test part"):
        csv(request(file))
    file = write(folder, "path,label,split", [(p, y, "test" if y == "emu" else "train") for p, y, i in rows[1:]])
    with pytest.raises(DataError, match=r"classes \['emu'\] have no training image"):
        csv(request(file))


def test_blood_cells_split_by_slide(real_data):
    dataset = csv(Request(path=str(real_data / "blood_cells" / "cells.csv"), image_size=8))
    assert len(dataset.train.labels) + len(dataset.test.labels) == 4855
    assert not set(dataset.train.groups) & set(dataset.test.groups)
    assert (np.bincount(dataset.train.labels, minlength=7) > 0).all()


def test_a_picture_is_never_on_both_sides(pictures):
    folder, rows = pictures
    file = write(folder, "path,label,split", [(p, y, "test" if i < 2 else "train") for p, y, i in rows])
    with pytest.raises(DataError, match="named twice: by --test and by the data's own parts"):
        csv(request(file, test=str(file)))
    plain = folder / "plain.csv"
    plain.write_text("path,label\n" + "".join(f"{p},{y}\n" for p, y, _ in rows))
    with pytest.raises(DataError, match="18 images are in both the training and the test part"):
        csv(request(plain, test=str(plain)))
    twice = write(folder, "path,label,split", [(p, y, s) for p, y, _ in rows for s in ("train", "test")])
    with pytest.raises(DataError, match="18 images are named twice"):
        csv(request(twice))
    test = csv(request(plain.rename(folder / "other.csv"), test=None))
    assert len(test.test.labels)
