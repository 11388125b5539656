"""The audit: each planted fault is found, named, and in its place; clean data are left in peace."""

import csv
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from divaug.base.errors import DataError
from divaug.data.audit import KINDS, NEAR_BITS, audit, near_pairs
from divaug.data.datasets._own import Images, own_images
from divaug.data.image_files import Geometry, scan
from divaug.data.images import Request
from divaug.recipes import audit as recipe


def picture(key, size=(20, 20)):
    """A smooth random image: perceptual hashes of noise say nothing."""
    coarse = np.random.default_rng(key).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def folder(root, counts, first=0):
    for c, (name, n) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            picture([c, first + i]).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def own(tmp_path):
    return folder(tmp_path / "own", {"cat": 8, "dog": 8})


def found(path, size=20, **more):
    return {f.kind: f for f in Images(Request(path=str(path), image_size=size, **more)).findings()}


def test_clean_data_give_no_finding(own):
    assert found(own) == {}


def test_all_unreadable_files_are_named_at_once(own):
    for name in ("cat/1.png", "cat/5.png", "dog/3.png"):
        (own / name).write_bytes((own / name).read_bytes()[:60])
    text = found(own)["unreadable"].text
    assert "3 of 16 files" in text and all(name in text for name in ("cat/1.png", "cat/5.png", "dog/3.png"))
    with pytest.raises(DataError, match=r"3 of 16 files cannot be read .*1\.png.*5\.png.*3\.png"):
        own_images(Request(path=str(own), image_size=20))


def test_what_is_left_out_is_said(own):
    picture(1).save(own / "loose.png")
    (own / "cat" / "notes.txt").write_text("x")
    (own / "cat" / "raw.heic").write_bytes(b"x")
    os.symlink(own / "nowhere", own / "dog" / "gone.png")
    os.symlink(own, own / "dog" / "up")
    kinds = Images(Request(path=str(own), image_size=20)).findings()
    texts = [f.text for f in kinds if f.kind in ("loose", "left_out")]
    for part in (
        "1 image lies beside",
        "1 link that leads nowhere",
        "1 linked folder that leads back",
        "1 .txt",
        "1 .heic",
    ):
        assert any(part in text for text in texts), part


def test_linked_folders_are_followed(own, tmp_path):
    folder(tmp_path / "more", {"x": 5}, first=50)
    os.symlink(tmp_path / "more" / "x", own / "dog" / "more")
    assert sum(row.label == "dog" for row in Images(Request(path=str(own), image_size=20)).rows) == 13


def test_identical_images(own, tmp_path):
    (own / "cat" / "copy.png").write_bytes((own / "cat" / "0.png").read_bytes())
    (own / "dog" / "other.png").write_bytes((own / "cat" / "1.png").read_bytes())
    kinds = found(own)
    assert kinds["copies"].files == (own / "cat/0.png", own / "cat/copy.png")
    assert set(kinds["two_classes"].files) == {own / "cat/1.png", own / "dog/other.png"}
    assert kinds["copies"].text.startswith("1 image has identical copies in its own class: ")
    assert kinds["copies"].text.endswith("; 1 file could go")
    for i in range(2, 7):
        (own / "cat" / f"copy{i}.png").write_bytes((own / "cat" / f"{i}.png").read_bytes())
    several = found(own)["copies"]
    assert several.text.startswith("6 images have identical copies") and several.text.count(" = ") == 3
    assert several.text.endswith("; and 3 more (divaug audit --save); 6 files could go")
    assert several.sets == (1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6)
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(several.files[::2], several.files[1::2], strict=True))
    for i in range(2, 7):
        (own / "cat" / f"copy{i}.png").unlink()
    test = folder(tmp_path / "test", {"cat": 2, "dog": 2}, first=100)
    (test / "cat" / "leak.png").write_bytes((own / "cat" / "2.png").read_bytes())
    request = {"path": str(own), "test": str(test), "image_size": 20}
    with pytest.raises(DataError, match=r"1 image is byte for byte in several parts.*--allow-leaks.*leak\.png"):
        own_images(Request(**request))
    allowed = own_images(Request(**request, allow_leaks=True))
    assert any("byte for byte in several parts" in note for note in allowed.notes)


def test_copies_are_carved_off_together(own):
    for file in list(own.glob("*/*.png")):
        for copy in "abc":
            (file.parent / f"{file.stem}{copy}.png").write_bytes(file.read_bytes())
    dataset = own_images(Request(path=str(own), image_size=20))
    assert not set(dataset.train.digests.tolist()) & set(dataset.test.digests.tolist())
    assert np.bincount(dataset.test.labels).tolist() == [8, 8]  # two of eight different images, four files each


def test_groups_that_share_an_image_stay_on_one_side(own, tmp_path):
    (own / "dog" / "copy.png").write_bytes((own / "cat" / "0.png").read_bytes())
    rows = [f"{p.relative_to(own)},{p.parent.name},{p.stem}" for p in sorted(own.glob("*/*.png"))]
    (own / "own.csv").write_text("path,label,group\n" + "\n".join(rows) + "\n")
    for seed in range(8):
        dataset = own_images(Request(path=str(own / "own.csv"), image_size=20, split_seed=seed))
        assert not set(dataset.train.digests.tolist()) & set(dataset.test.digests.tolist())


def test_nearly_identical_images(own):
    picture([0, 0]).save(own / "cat" / "again.jpg", quality=95, subsampling=0)
    picture([1, 0]).resize((40, 40)).save(own / "cat" / "wrong.png")
    near = [f for f in Images(Request(path=str(own), image_size=20)).findings() if f.kind == "near_copies"]
    assert {frozenset(f.files) for f in near} == {
        frozenset({own / "cat/0.png", own / "cat/again.jpg"}), frozenset({own / "dog/0.png", own / "cat/wrong.png"}),
    }  # fmt: skip


def test_near_pairs_against_all_pairs():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 60, dtype=np.uint64)
    looks = np.concatenate([base, base])
    for i in range(60, 120):  # up to five bits flipped
        for bit in rng.choice(64, rng.integers(0, 6), replace=False):
            looks[i] ^= np.uint64(1) << np.uint64(bit)
    pixels = np.tile(rng.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8), (2, 1, 1, 1))
    pixels[60:75] = 255 - pixels[60:75]  # alike to the hash alone
    wanted = [
        (i, j) for i in range(120) for j in range(i + 1, 120)
        if int(looks[i] ^ looks[j]).bit_count() <= NEAR_BITS and (pixels[i] == pixels[j]).all()
    ]  # fmt: skip
    assert near_pairs(looks, pixels) == wanted and 5 < len(wanted) < 50


def test_a_hash_alone_is_no_copy(real_data):
    from divaug.data.datasets.fashion_mnist import fashion_mnist

    images = fashion_mnist(Request(data_root=str(real_data), download=False)).test.images[:1500]
    import imagehash

    squares = [Image.fromarray(image[..., 0]).convert("RGB").resize((32, 32)) for image in images]
    looks = np.array([int(str(imagehash.phash(s)), 16) for s in squares], dtype=np.uint64)
    thumbnails = np.stack([np.asarray(s.resize((16, 16), Image.Resampling.BOX)) for s in squares])
    assert near_pairs(looks, thumbnails) == []


def test_class_names_sizes_and_formats(tmp_path):
    own = folder(tmp_path / "own", {"Cat": 6, "cat ": 6, "fox": 1})
    for i in range(6):
        (own / "Cat" / f"{i}.png").unlink()
        picture([9, i], (50, 50)).save(own / "Cat" / f"{i}.jpg")
    kinds = Images(Request(path=str(own), image_size=20)).findings()
    texts = {kind: [f.text for f in kinds if f.kind == kind] for kind in KINDS}
    assert "['Cat', 'cat '] differ by case, blanks or spelling only" in texts["names"][0]
    assert "['fox'] (1 in all) have one training image" in texts["one_image"][0]
    assert (
        "image size alone tells 1 of 3 classes (median, px: Cat 50, the others 20, AUC 1.00)" in texts["separable"][0]
    )
    assert "file format alone tells" in texts["separable"][1] and "Cat: 100% JPEG" in texts["separable"][1]
    assert "trained at 20x20 pixels" in texts["shape"][0]
    assert [f.kind for f in kinds] == sorted((f.kind for f in kinds), key=list(KINDS).index)  # worst first


def test_unused_bits_are_said_and_used_on_request(tmp_path):
    values = np.arange(400, dtype=np.uint16).reshape(20, 20) * 10  # to 3,990: 12 bits
    for name in ("a", "b"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.roll(values, i + 3 * (name == "b"))).save(tmp_path / "own" / name / f"{i}.png")
    text = found(tmp_path / "own")["depth"].text
    assert "few values above 3,950: of 256 levels 16 are left" in text and "--bits 12" in text
    assert "depth" not in found(tmp_path / "own", bits=12)
    images = own_images(Request(path=str(tmp_path / "own"), image_size=20, bits=12)).train.images
    assert len(np.unique(images)) > 200 and images.max() == 3990 >> 4


def test_resizing_is_as_asked(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255  # the middle third
    Image.fromarray(wide).save(tmp_path / "wide.png")
    looks = {how: scan(tmp_path / "wide.png", Geometry(10, how)).pixels[5, :, 0] for how in ("stretch", "crop", "pad")}
    assert looks["crop"].tolist() == [255] * 10 and looks["stretch"][0] == 0 and looks["stretch"][5] == 255
    padded = scan(tmp_path / "wide.png", Geometry(30, "pad")).pixels
    assert (padded[:10] == 0).all() and (padded[10:20] == wide).all()


def test_findings_of_no_image_are_none():
    assert audit([], Geometry(8)) == []


def test_the_recipe_prints_saves_and_refuses(own, capsys):
    assert recipe.main([str(own), "--image-size", "20"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "16 images of 2 classes: cat 8, dog 8",
        "note: classes with fewer than 20 images, by which no method is chosen: cat 8, dog 8",
        f"nothing else was found; looked at: {recipe.CHECKED}",
        "not looked at: whether labels are right; after divaug train, the page shows the surest mistakes",
        "verdict: usable, but look first at: classes with few images",
    ]
    (own / "cat" / "1.png").write_bytes(b"x")
    Path(os.fsdecode(bytes(own / "cat") + b"/z\xff.png")).write_bytes((own / "cat" / "0.png").read_bytes())
    assert recipe.main([str(own), "--save", "out/findings.csv"]) == 3
    out = capsys.readouterr()
    assert "note: 1 of 17 files cannot be read" in out.out and "training would refuse these data" in out.err
    assert out.out.endswith("verdict: NOT USABLE as they are, because of what is named last\n")
    saved = Path("out/findings.csv").read_text()
    assert "unreadable" in saved.splitlines()[1] and "z\\udcff.png" in saved
    rows = list(csv.DictReader(saved.splitlines()))
    copies = [(row["set"], Path(row["file"]).name) for row in rows if row["kind"] == "copies"]
    assert copies == [("1", "0.png"), ("1", "z\\udcff.png")]
    assert {row["set"] for row in rows if row["kind"] == "unreadable"} == {""}
    assert recipe.main([str(own), "--resize", "squash"]) == 2
    for path, code in ((own / "nothing", 3), (own, 3)):  # a path that is wrong keeps no file from the right one
        assert recipe.main([str(path), "--save", "again.csv"]) == code
    assert Path("again.csv").read_text() == saved


def test_parts_are_recognised_by_their_folders(tmp_path):
    for k, part in enumerate(("train", "validation", "Test")):
        folder(tmp_path / "own" / part, {"cat": 6 - 2 * k, "dog": 6 - 2 * k}, first=100 * k)
    images = Images(Request(path=str(tmp_path / "own"), image_size=20))
    dataset = images.dataset()
    assert (len(dataset.train.labels), len(dataset.val.labels), len(dataset.test.labels)) == (12, 8, 4)
    assert any("train 12, validation 8, Test 4 images" in f.text or "Test 4" in f.text for f in images.findings())
    (tmp_path / "own" / "cats").mkdir()
    with pytest.raises(DataError, match=r"Test, train, validation look like parts .* and nothing beside them"):
        Images(Request(path=str(tmp_path / "own"), image_size=20))


def test_images_beside_masks_are_no_classes(tmp_path):
    folder(tmp_path / "own", {"images": 3, "masks": 3})
    with pytest.raises(DataError, match="images beside masks or annotations"):
        own_images(Request(path=str(tmp_path / "own"), image_size=20))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (("training_set/cat", "training_set/dog", "test_set/cat", "test_set/dog"), None),
        (("seg_train/cat", "seg_train/dog", "seg_test/cat", "seg_test/dog"), None),
        (("train/cat", "train/dog", "dev/cat", "dev/dog"), None),
        (("train/cat", "train/dog", "cat", "dog"), "train look like parts"),
        (("val/cat", "val/dog", "test/cat", "test/dog"), "test, val look like parts"),
        (("train/cat", "train/dog", "eval/cat", "eval/dog"), "eval, train look like parts"),
        (("cat/train", "cat/test", "dog/train", "dog/test"), "put the parts above the classes"),
        (("train/images", "train/masks", "test/images", "test/masks"), "images beside masks"),
        (("cat/images", "cat/masks", "dog/images", "dog/masks"), "images beside masks"),
        (("trainer", "tester"), None),  # classes after all
    ],
)
def test_parts_are_not_taken_for_classes(tmp_path, layout, message):
    for k, place in enumerate(layout):
        for i in range(3):
            (tmp_path / "own" / place).mkdir(parents=True, exist_ok=True)
            picture([k, i]).save(tmp_path / "own" / place / f"{i}.png")
    request = Request(path=str(tmp_path / "own"), image_size=20)
    if message is None:
        names = own_images(request).class_names
        assert names == (["cat", "dog"] if "/" in layout[0] else ["tester", "trainer"])
        return
    with pytest.raises(DataError, match=message):
        Images(request)


def test_deep_and_hidden_images_are_said(own):
    folder(own / "cat", {"day1": 2, "day2": 2}, first=30)
    picture(1).save(own / "dog" / ".hidden.png")
    (own / ".bird").mkdir()
    picture(2).save(own / ".bird" / "0.png")
    (own / "labels.zip").write_bytes(b"x")
    os.symlink("/nonexistent/fox", own / "fox")
    texts = " | ".join(f.text for f in Images(Request(path=str(own), image_size=20)).findings())
    for part in (
        "4 images lie in folders below the class folder (cat/day1/0.png)", "1 hidden image: left out",
        "1 hidden folder holds images in own", "files beside the folders of own are not read: 1 .zip",
        "1 link leads nowhere in own",
    ):  # fmt: skip
        assert part in texts, part


def test_a_pipe_among_images_does_not_hang(own):
    os.mkfifo(own / "cat" / "pipe.png")
    assert "1 special file" in found(own)["left_out"].text


def test_colours_of_16_bits_that_use_few_are_said(tmp_path):
    import zlib

    def png(values):  # Pillow cannot write 16-bit colour
        def chunk(name, content):
            return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        head = (20).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

    for c, name in enumerate("ab"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(3):
            values = np.random.default_rng([c, i]).integers(0, 4096, (20, 20, 3))
            (tmp_path / "own" / name / f"{i}.png").write_bytes(png(values))
    text = found(tmp_path / "own")["depth"].text
    assert "2 of 2 classes" in text and "--bits is for grey" in text


def test_one_dark_class_and_clipped_values_are_said(tmp_path):
    for name, top in (("dim", 4000), ("bright", 65000)):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(3):
            values = np.random.default_rng(i).integers(0, top, (20, 20)).astype(np.uint16)
            values[0, 0] = 65535  # a hot pixel
            Image.fromarray(values).save(tmp_path / "own" / name / f"{i}.png")
    assert "16-bit images of 1 of 2 classes" in found(tmp_path / "own")["depth"].text
    assert (
        "3 images have values above 4,095, which --bits 12 makes white"
        in found(tmp_path / "own", bits=12)["depth"].text
    )


def test_shape_alone_can_tell_a_class(tmp_path):
    for name, size in (("wide", (40, 20)), ("tall", (20, 40))):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(6):
            picture([len(name), i], size).save(tmp_path / "own" / name / f"{i}.png")
    assert "image shape alone tells 2 of 2 classes" in found(tmp_path / "own")["separable"].text


def test_names_that_look_alike(tmp_path):
    own = folder(tmp_path / "own", {"caf\u00e9": 3, "cafe\u0301": 3, "-1": 3, "1": 3, "01": 3})
    names = [f.text for f in Images(Request(path=str(own), image_size=20)).findings() if f.kind == "names"]
    assert len(names) == 2 and any("'01', '1'" in text for text in names) and not any("'-1'" in text for text in names)


def test_the_recipe_refuses_what_training_refuses(own, capsys):
    rows = [
        f"{p.relative_to(own)},{p.parent.name},{'test' if p.stem == '0' else 'train'},g" for p in own.glob("*/*.png")
    ]
    (own / "own.csv").write_text("path,label,split,group\n" + "\n".join(rows) + "\n")
    assert recipe.main([str(own / "own.csv"), "--image-size", "20"]) == 3
    assert "groups ['g'] (1 in all) are in both the training and the test part" in capsys.readouterr().err
    assert recipe.main([str(own / "own.csv"), "--save", str(own / "own.csv")]) == 2  # the input stays
    assert (own / "own.csv").read_text().startswith("path,label")
    assert recipe.main([str(own), "--group-column", "patient"]) == 2
    assert recipe.main([str(own), "--data-root", "x"]) == 3 and recipe.main([""]) == 3


def test_a_group_is_in_one_part_only(own):
    parts = {"0": "test", "1": "val", "2": "val"}
    rows = [(p, parts.get(p.stem, "train")) for p in sorted(own.glob("*/*.png"))]
    for shared in (("test", "val"), ("train", "val"), ("train", "test")):
        lines = [f"{p.relative_to(own)},{p.parent.name},{part},{'g' if part in shared else part}" for p, part in rows]
        (own / "own.csv").write_text("path,label,split,group\n" + "\n".join(lines) + "\n")
        with pytest.raises(DataError, match=r"groups \['g'\] \(1 in all\) are in both"):
            own_images(Request(path=str(own / "own.csv"), image_size=20))


def test_the_audit_goes_on_after_files_that_are_not_there(own, tmp_path, capsys):
    files = sorted(own.glob("*/*.png"))
    lines = [f"{file},{file.parent.name}" for file in (*files, own / "gone.png", own / "away.png")]
    (tmp_path / "own.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    shutil.copy(files[0], files[1])
    assert recipe.main([str(tmp_path / "own.csv"), "--image-size", "20", "--save", str(tmp_path / "found.csv")]) == 3
    out, err = capsys.readouterr()
    first = f"no such image in 2 of {len(lines)} rows: line {len(files) + 2}: {own / 'gone.png'}"
    assert first in out and first in err and "identical copies" in out and "NOT USABLE" in out
    with (tmp_path / "found.csv").open(newline="") as file:
        found = [row["file"] for row in csv.DictReader(file) if row["kind"] == "missing"]
    assert found == [str(own / "gone.png"), str(own / "away.png")]
    with pytest.raises(DataError, match="no such image in 2 of"):
        own_images(Request(path=str(tmp_path / "own.csv"), image_size=20))
    (tmp_path / "own.csv").write_text("path,label\na.png,x\nb.png,y\n")
    assert recipe.main([str(tmp_path / "own.csv")]) == 3 and "no such image in 2 of 2 rows" in capsys.readouterr().err


@pytest.mark.parametrize("within", ["", "train"])
def test_the_audit_goes_on_after_class_folders_without_images(own, tmp_path, within, capsys):
    place = own
    if within:
        place = tmp_path / "parts" / within
        shutil.copytree(own, place)
        shutil.copytree(own, tmp_path / "parts" / "test")
    (place / "fox").mkdir()
    (place / "fox" / "notes.txt").write_text("")
    whole = tmp_path / "parts" if within else own
    assert recipe.main([str(whole), "--image-size", "20", "--save", str(tmp_path / "found.csv")]) == 3
    out, err = capsys.readouterr()
    first = f"class folders without an image that can be read: fox (1 .txt) in {place}; remove or fill them"
    assert f"note: {first}\n" in out and first in err and "classes" in out and "NOT USABLE" in out
    with (tmp_path / "found.csv").open(newline="") as file:
        found = [row["file"] for row in csv.DictReader(file) if row["kind"] == "empty"]
    assert found == [str(place / "fox")]
    with pytest.raises(DataError, match=r"without an image that can be read: fox \(1 \.txt\)"):
        own_images(Request(path=str(whole), image_size=20))
    if not within:
        for image in place.glob("*/*.png"):
            image.unlink()
        assert recipe.main([str(own)]) == 3 and "fox (1 .txt)" in capsys.readouterr().err


def test_single_images_and_those_that_are_not_square_are_saved_with_their_names(tmp_path, capsys):
    for name, size in {
        "cat/a": (20, 20),
        "cat/b": (40, 20),
        "dog/a": (10, 10),
        "dog/b": (30, 30),
        "fox/a": (20, 20),
    }.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(len(name)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "in" / f"{name}.png")
    assert recipe.main([str(tmp_path / "in"), "--image-size", "20", "--save", str(tmp_path / "found.csv")]) == 0
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = [(row["kind"], row["file"].removeprefix(f"{tmp_path}/in/")) for row in csv.DictReader(file)]
    assert [name for kind, name in rows if kind == "one_image"] == ["fox/a.png"]
    assert [name for kind, name in rows if kind == "shape"] == ["cat/b.png", "dog/a.png"]


def test_test_images_in_a_folder_or_a_list_beside_a_table_with_its_own_columns(own, tmp_path):
    """What names the table's columns and folder does not apply to them, and does not stop them."""
    files = sorted(own.glob("*/*.png"))
    trained = [file for file in files if file.stem != "0"]
    lines = "".join(f"{file.relative_to(own)},{file.parent.name}\n" for file in trained)
    (tmp_path / "own.csv").write_text("where,what\n" + lines)
    for file in files:
        if file not in trained:
            (tmp_path / "held" / file.parent.name).mkdir(parents=True)
            file.rename(tmp_path / "held" / file.parent.name / "held.png")
    held = sorted((tmp_path / "held").glob("*/*.png"))
    tabbed = "".join(f"{file}\t{file.parent.name}\n" for file in held)
    (tmp_path / "held.tsv").write_text("where\twhat\n" + tabbed)  # of the same columns, as a second CSV would be
    (tmp_path / "held.csv").write_text("where,what\n" + tabbed.replace("\t", ","))
    (tmp_path / "held.txt").write_text("".join(f"{file} {file.parent.name}\n" for file in held))
    columns = {"path_column": "where", "label_column": "what", "data_root": str(own)}
    for test in ("held", "held.txt", "held.tsv", "held.csv"):
        request = Request(path=str(tmp_path / "own.csv"), test=str(tmp_path / test), image_size=20, **columns)
        found = own_images(request)
        assert (len(found.train.labels), len(found.test.labels)) == (len(trained), len(held))


def test_a_named_validation_part_that_is_dealt_into_folds_shares_what_it_likes_with_training(own, capsys):
    parts = {"0": "test", "1": "val", "2": "val"}
    rows = [(p, parts.get(p.stem, "train")) for p in sorted(own.glob("*/*.png"))]
    for shared, alike in ((("train", "val"), True), (("train", "test"), False), (("test", "val"), False)):
        lines = [f"{p.relative_to(own)},{p.parent.name},{part},{'g' if part in shared else part}" for p, part in rows]
        (own / "own.csv").write_text("path,label,split,group\n" + "\n".join(lines) + "\n")
        request = Request(path=str(own / "own.csv"), image_size=20, dealt=True)
        audited = recipe.main([str(own / "own.csv"), "--image-size", "20"])
        out, _ = capsys.readouterr()
        if alike:
            assert audited == 0 and "folder_lt refuses: groups ['g'] (1 in all) are in both the training and" in out
            assert own_images(request).val is not None
            shutil.copy(next(p for p, part in rows if part == "train"), next(p for p, part in rows if part == "val"))
            assert own_images(request).val is not None  # copies too
            assert recipe.main([str(own / "own.csv"), "--image-size", "20"]) == 0
            out, _ = capsys.readouterr()
            assert "(train, cat)" in out and "(val, cat)" in out and "byte for byte in several parts" in out
            assert "verdict: usable, but look first at: the same image in training and in test or validation" in out
            with pytest.raises(DataError, match="byte for byte in several parts"):
                own_images(replace(request, dealt=False))
            continue
        assert audited == 3 and "folder_lt refuses" not in out
        with pytest.raises(DataError, match=r"groups \['g'\] \(1 in all\) are in both"):
            own_images(request)


def test_names_cannot_forge_a_finding(tmp_path):
    own = folder(tmp_path / "own", {"a\nnote: all fine": 1, "b": 3})
    assert all("\n" not in f.text for f in Images(Request(path=str(own), image_size=20)).findings())


def test_a_folder_with_the_table_beside_its_images_points_to_the_table(tmp_path, capsys):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "cells.csv").write_text("path,label\na.png,x\n")
    assert recipe.main([str(tmp_path)]) == 3
    assert f"if cells.csv is the table of images, name {tmp_path / 'cells.csv'}" in capsys.readouterr().err


def test_what_is_only_said_is_no_reason_to_look(tmp_path, capsys):
    own = folder(tmp_path / "own", {"cat": 20, "dog": 20})
    assert recipe.main([str(own), "--image-size", "8"]) == 0  # resized, which is said
    out = capsys.readouterr().out
    assert "trained at 8x8 pixels" in out and out.endswith("verdict: usable\n")
    shutil.copy(own / "cat" / "0.png", own / "cat" / "copy.png")
    assert recipe.main([str(own), "--image-size", "8"]) == 0
    assert capsys.readouterr().out.endswith(
        "verdict: usable, but look first at: the same image several times in one class\n"
    )
    for part, first in (("train", 0), ("test", 100)):
        folder(tmp_path / "parts" / part, {"cat": 20, "dog": 20}, first=first)
    assert recipe.main([str(tmp_path / "parts"), "--image-size", "20"]) == 0
    out = capsys.readouterr().out
    assert "note: " in out and "layout" not in out and out.endswith("verdict: usable\n")  # how folders were taken
