import numpy as np
import pytest
from PIL import Image

from divaug.base.errors import DataError
from divaug.data.datasets._folders import walk
from divaug.data.image_files import Geometry, ImageFiles, decode

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)


def saved(tmp_path, picture, name="a.png", **kwargs):
    picture.save(tmp_path / name, **kwargs)
    return tmp_path / name


def test_rgb_is_read_as_it_is(tmp_path):
    assert (decode(saved(tmp_path, Image.fromarray(RGB)), Geometry(8)) == RGB).all()


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    path = saved(tmp_path, Image.fromarray(RGB), exif=exif)
    assert (decode(path, Geometry(8)) == np.rot90(RGB, -1)).all()


def test_grey_and_palette_become_three_channels(tmp_path):
    assert (decode(saved(tmp_path, Image.fromarray(RGB[..., 0])), Geometry(8)) == RGB[..., :1]).all()
    palette = Image.fromarray(RGB).quantize(200)
    assert decode(saved(tmp_path, palette, "b.png"), Geometry(8)) == pytest.approx(np.asarray(palette.convert("RGB")))


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    values = RNG.integers(0, 65536, (8, 8), dtype=np.uint16)
    assert (decode(saved(tmp_path, Image.fromarray(values)), Geometry(8))[..., 0] == values >> 8).all()


def test_transparent_parts_turn_white(tmp_path):
    rgba = np.concatenate([RGB, np.zeros((8, 8, 1), np.uint8)], axis=2)
    assert (decode(saved(tmp_path, Image.fromarray(rgba)), Geometry(8)) == 255).all()
    rgba[..., 3] = 255
    assert (decode(saved(tmp_path, Image.fromarray(rgba), "b.png"), Geometry(8)) == RGB).all()


def test_cmyk_and_resizing(tmp_path):
    path = saved(tmp_path, Image.new("CMYK", (30, 12), (0, 0, 0, 0)), "a.jpg")
    assert (decode(path, Geometry(8)) == 255).all()


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "broken.jpg"
    if content is None:
        whole = saved(tmp_path, Image.fromarray(np.tile(RGB, (9, 9, 1))), "whole.jpg").read_bytes()
        content = whole[: len(whole) // 2]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read image .*broken\.jpg"):
        decode(path, Geometry(8))


def test_files_are_read_when_asked_for(tmp_path):
    paths = [saved(tmp_path, Image.fromarray((RGB + i).astype(np.uint8)), f"{i}.png") for i in range(5)]
    files = ImageFiles(paths, Geometry(8))
    assert files.shape == (5, 8, 8, 3) == files.load().shape and len(files) == 5
    assert (files[np.array([3, 1])] == files.load()[[3, 1]]).all()
    assert (files.take(np.array([False, True, False, False, True])).load() == files.load()[[1, 4]]).all()
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    assert walk(tmp_path).images == paths and walk(tmp_path).left_out == {".txt": 1}


@pytest.mark.parametrize("mode", ["I", "F"])
def test_grey_of_32_bits_is_refused(tmp_path, mode):
    path = saved(tmp_path, Image.new(mode, (4, 4), 1), "a.tif")
    with pytest.raises(DataError, match="32 bits, or with a sign, have no agreed range"):
        decode(path, Geometry(4))


def test_hidden_folders_are_left_out(tmp_path):
    (tmp_path / ".ipynb_checkpoints").mkdir()
    Image.fromarray(RGB).save(tmp_path / ".ipynb_checkpoints" / "a.png")
    assert walk(tmp_path).images == []
