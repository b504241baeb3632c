"""Folders of images: what they become, and what is refused."""

import errno
import io
import os
import struct
import sys
from functools import partial

import numpy as np
import pytest
from absl import logging
from making import describe_dataset
from PIL import Image

from vae_jax import data, main
from vae_jax.data import image_folder, images
from vae_jax.errors import UserError

load = partial(data.load, "folder", num_valid=1, num_test=1)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: found.append(message % args))
    return found


def _pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def _fill(folder, num=5, shape=(6, 4, 3), names="{}.png"):
    for i in range(num):
        path = folder / names.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_pixels(i, *shape)).save(path)


def _refused(match, **kwargs):
    with pytest.raises(UserError, match=match) as caught:
        load(**kwargs)
    assert "\n" not in str(caught.value)


# --- what images become


@pytest.mark.quick
def test_the_images_in_the_order_of_their_paths(folder):
    _fill(folder, 5)
    _fill(folder / "b", 2)
    _fill(folder, 1, names=".hidden.png")
    (folder / "notes.txt").write_text("hello")
    ds = load(path=str(folder))
    assert (ds.name, ds.source, ds.example_shape, ds.dtype) == (
        "images",
        "file",
        (6, 4, 3),
        np.uint8,
    )
    assert isinstance(ds.train.x, np.memmap) and ds.train.label is None and ds.label_names == ()
    expected = [_pixels(i, 6, 4, 3) for i in (0, 1, 2, 3, 4, 0, 1)]
    np.testing.assert_array_equal(ds.train.x, expected)


def test_sub_folders_are_labels_when_all_images_lie_in_them(folder):
    for i, name in enumerate(("dog", "cat/young", "cat/old", "ant")):
        _fill(folder, 2, names=f"{name}/{i}{{}}.PNG")
    ds = load(path=str(folder))
    assert ds.train.label.tolist() == [0, 0, 1, 1, 1, 1, 2, 2] and ds.train.label.dtype == np.int32
    assert ds.label_names == ("ant", "cat", "dog")
    assert describe_dataset(ds, "none")["label_names"] == ["ant", "cat", "dog"]


def test_names_of_labels_may_be_any_bytes(folder):
    for name in (b"caf\xe9", b"two\nlines", "cr\u00e8me $x_{$".encode()):
        _fill(folder / os.fsdecode(name), 2)
    ds = load(path=str(folder))
    assert ds.label_names == (r"caf\udce9", "cr\u00e8me $x_{$", r"two\nlines")
    assert ds.train.label is not None and ds.train.num == 4


@pytest.mark.parametrize("skip_broken", [False, True])
def test_a_pipe_among_the_images_is_named_and_not_read(folder, skip_broken):
    _fill(folder, 3)
    os.mkfifo(folder / "x.png")
    named = r"x.png is no file with content, but a device, a pipe or a socket: move it"
    _refused(named, path=str(folder), skip_broken=skip_broken)


def test_what_is_no_image_is_said(folder, warnings):
    _fill(folder / "cat", 3)
    _fill(folder / "dog", 2, names="{}.JFIF.jpg")
    for i in range(2):
        (folder / "dog" / f"{i}.JFIF.jpg").rename(folder / "dog" / f"{i}.jfif")
    (folder / "bird").mkdir()
    (folder / "bird" / "a.heic").write_bytes(b"x")
    (folder / "list.txt").write_text("x")
    ds = load(path=str(folder))
    assert ds.label_names == ("cat", "dog")
    told = f"2 files in {folder} are not read (.heic, .txt); there is no image in bird"
    assert told in warnings
    for name in ("bird", "cat", "dog"):  # as a split
        (folder / "train").mkdir(exist_ok=True)
        (folder / name).rename(folder / "train" / name)
    load(path=str(folder))
    assert any(note.endswith("there is no image in train/bird") for note in warnings)


def test_links_to_folders_of_other_splits_are_followed_and_said(folder, warnings):
    _fill(folder / "train" / "cat", 4)
    _fill(folder / "train" / "dog", 5)
    _fill(folder / "test" / "dog", 2)
    (folder / "test" / "cat").symlink_to("../train/cat")
    ds = load(path=str(folder), num_test=0)
    assert (ds.train.num + ds.valid.num, ds.test.num) == (9, 6)
    assert any(note.startswith("4 of the 15 images in ") for note in warnings)


def _white_is_zero(x):
    """A TIFF file of uint16 [H, W] in which 0 is white."""
    height, width = x.shape
    content = (65535 - x).astype("<u2").tobytes()
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 0), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(content))]
    head = struct.pack("<2sHI", b"II", 42, 8 + len(content)) + content
    head += struct.pack("<H", len(tags))
    return head + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in tags) + bytes(4)


def test_deep_files_in_which_0_is_white(folder):
    x = np.arange(5 * 24, dtype=np.uint16).reshape(5, 6, 4) * 500
    for i in range(5):
        (folder / f"{i}.tif").write_bytes(_white_is_zero(x[i]))
    found = load(path=str(folder), scale="0:65535").train.x[..., 0]
    np.testing.assert_allclose(found, x / 65535, rtol=1e-6)


def test_gray_only_when_all_are(folder):
    _fill(folder, 3, shape=(6, 4))
    ds = load(path=str(folder))
    np.testing.assert_array_equal(ds.train.x[..., 0], [_pixels(i, 6, 4) for i in range(3)])
    _fill(folder, 1, shape=(6, 4, 3), names="colour.png")
    ds = load(path=str(folder))
    assert ds.example_shape == (6, 4, 3)
    np.testing.assert_array_equal(ds.train.x[0], np.repeat(_pixels(0, 6, 4)[..., None], 3, axis=-1))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif", "webp", "jpeg"])
def test_formats(folder, suffix):
    x = np.kron(_pixels(0, 4, 4, 3) // 64 * 64, np.ones((8, 8, 1), np.uint8))
    lossless = (
        {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix == "jpeg" else {}
    )
    for i in range(3):
        Image.fromarray(x).save(folder / f"{i}.{suffix}", **lossless)
    found = load(path=str(folder)).train.x[0].astype(int)
    assert found.shape == (32, 32, 3)
    assert abs(found - x).mean() < (8 if suffix == "jpeg" else 1e-9)


def _decoded(image, gray=False, fit=("", "center"), **save):
    file = io.BytesIO()
    image.save(file, "PNG", **save)
    return images.decoded(file.getvalue(), images.Fit(tuple(fit[0]), fit[1]), gray)


def test_modes_of_pixels():
    gray = Image.fromarray(_pixels(0, 4, 3))
    np.testing.assert_array_equal(_decoded(gray, gray=True)[..., 0], _pixels(0, 4, 3))
    deep = Image.fromarray(np.array([[0, 257, 514, 65535]], np.uint16))
    assert images.is_gray(deep)
    assert _decoded(deep, gray=True).ravel().tolist() == [0, 1, 2, 255]
    assert _decoded(Image.fromarray(np.array([[True, False]])), gray=True).ravel().tolist() == [
        255,
        0,
    ]
    palette = Image.fromarray(np.array([[1, 0]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert _decoded(palette).tolist() == [[[40, 50, 60], [10, 20, 30]]] and not images.is_gray(
        palette
    )
    assert _decoded(palette, transparency=1).tolist() == [[[255, 255, 255], [10, 20, 30]]]
    clear = Image.fromarray(
        np.array([[[9, 9, 9, 0], [50, 100, 150, 255], [0, 0, 0, 51]]], np.uint8)
    )
    assert _decoded(clear).tolist() == [[[255, 255, 255], [50, 100, 150], [204, 204, 204]]]
    assert _decoded(
        Image.fromarray(np.array([[[100, 255], [100, 0]]], np.uint8), "LA"), gray=True
    ).ravel().tolist() == [
        100,
        255,
    ]


@pytest.mark.parametrize(
    ("mode", "pixel", "suffix", "save", "expected"),
    [
        ("CMYK", (0, 255, 0, 55), "tif", {}, (200, 0, 200)),
        ("CMYK", (0, 255, 255, 0), "jpg", {}, (255, 0, 0)),
        ("CMYK", (0, 0, 0, 155), "tif", {}, (100,)),
        ("LA", (100, 51), "png", {}, (224,)),
        ("LA", (100, 255), "tif", {}, (100,)),
        ("RGBA", (100, 0, 50, 51), "webp", {"lossless": True}, (224, 204, 214)),
        ("1", 1, "png", {}, (255,)),
        ("1", 0, "png", {"transparency": 0}, (255,)),
        ("1", 1, "tif", {}, (255,)),
        ("1", 0, "pbm", {}, (0,)),
        ("L", 99, "png", {"transparency": 99}, (255,)),
        ("L", 99, "pgm", {}, (99,)),
        ("RGB", (1, 2, 3), "ppm", {}, (1, 2, 3)),
        ("RGB", (150, 150, 150), "png", {}, (150,)),
        ("P", 1, "gif", {}, (9,)),
        ("F", 0.3, "tif", {}, (np.float32(0.3),)),
    ],
)
def test_pixels_of_every_mode(folder, mode, pixel, suffix, save, expected):
    """Gray where all are gray, and on white where they are transparent."""
    for i in range(3):
        image = Image.new(mode, (2, 1), pixel)
        if mode == "P":
            image.putpalette([0, 0, 0, 9, 9, 9])
        image.save(folder / f"{i}.{suffix}", **save)
    x = load(path=str(folder), scale="type" if mode == "F" else "0:255").train.x
    assert x.shape == (3, 1, 2, len(expected)) and (x == expected).all()


def test_gray_files_of_every_mode_are_gray_together(folder):
    for i, mode in enumerate(("L", "RGB", "RGBA", "CMYK", "P", "1", "LA")):
        Image.fromarray(np.array([[0, 255]], np.uint8)).convert(mode).save(folder / f"{i}.tif")
    x = load(path=str(folder)).train.x
    assert x.shape == (7, 1, 2, 1) and (x[..., 0] == [0, 255]).all()
    Image.fromarray(np.array([[[0, 0, 0], [255, 255, 254]]], np.uint8)).save(folder / "x.png")
    assert load(path=str(folder)).example_shape == (1, 2, 3)


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_every_page_is_an_example(folder, suffix, warnings, monkeypatch):
    monkeypatch.setattr(images, "_BLOCK_IMAGES", 4)  # a file is read in several parts
    levels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    for i, row in enumerate(levels):
        frames = [Image.fromarray(np.array([[v, 0], [0, 255]], np.uint8)) for v in row]
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(folder / f"{i}.{suffix}", save_all=True, append_images=frames[1:], **options)
    for _ in range(2):
        x = load(path=str(folder)).train.x
        assert x.shape == (24, 2, 2, 1) and x[:, 0, 0, 0].tolist() == levels.ravel().tolist()
        assert "4 of the 4 files" in warnings[0] and "24 in all" in warnings.pop() and not warnings


def test_pages_of_other_sizes_are_named(folder):
    frames = [Image.fromarray(_pixels(0, 6, 4)), Image.fromarray(_pixels(1, 3, 2))]
    frames[0].save(folder / "0.tif", save_all=True, append_images=frames[1:])
    _refused(r"0\.tif is 6x4 .*, 0\.tif, page 2, is 3x2", path=str(folder))


@pytest.mark.parametrize(
    ("dtype", "top", "suffix", "of"),
    [("u2", 4095, "tif", 4095), ("u2", 1000, "png", 1023), ("i4", 200, "tif", 255)],
)
def test_no_level_of_deep_images_is_lost(folder, dtype, top, suffix, of):
    levels = np.linspace(0, top, 24).astype(dtype).reshape(4, 6)
    for i in range(3):
        Image.fromarray(levels).save(folder / f"{i}.{suffix}")
    ds = load(path=str(folder))
    assert ds.stored_range == (0, of) and ds.dtype == (np.uint8 if of == 255 else np.float32)
    np.testing.assert_allclose(
        ds.train.x[0, ..., 0] / (255 if of == 255 else 1), levels / of, rtol=1e-6
    )
    resized = load(path=str(folder), resize=(2, 3)).train.x
    assert resized.dtype == ds.dtype and abs(resized.mean() - ds.train.x.mean()) < 1
    ds = load(path=str(folder), scale="range")
    assert ds.stored_range == (0, top) and ds.train.x.min() == 0 and ds.train.x.max() == 1


def test_ranges_of_a_folder(folder, warnings):
    for i in range(3):
        Image.fromarray(_pixels(i, 6, 4) % 2).save(folder / f"{i}.png")
    _refused(r'the numbers 0 and 1, .* set data\.scale="range"', path=str(folder))
    x = load(path=str(folder), scale="range").train.x
    np.testing.assert_array_equal(x[1, ..., 0], _pixels(1, 6, 4) % 2 * 255)
    Image.fromarray(_pixels(0, 6, 4) // 9).save(folder / "0.png")
    for _ in range(2):
        load(path=str(folder))
        assert "no number above 27 of 255" in warnings.pop() and not warnings
    Image.fromarray(_pixels(3, 6, 4).astype("u2") * 100).save(folder / "3.png")
    ds = load(path=str(folder))
    assert "1 of the 4 images" in warnings[0] and "more than 8 bits" in warnings.pop()
    assert ds.dtype == np.float32 and ds.train.x.max() <= 1 and ds.stored_range == (0, 32767)
    np.testing.assert_allclose(ds.train.x[1, ..., 0], _pixels(1, 6, 4) % 2 / 255, rtol=1e-6)
    Image.fromarray(_pixels(4, 6, 4) / np.float32(9)).save(folder / "4.tif")
    _refused("integers and of floats", path=str(folder))
    Image.fromarray(np.full((6, 4), np.nan, "f4")).save(folder / "4.tif")
    _refused(r"4\.tif \(its pixels are not finite\)", path=str(folder))
    Image.fromarray(np.full((6, 4), -5, "i4")).save(folder / "4.tif")
    _refused('integers from -5 to 22,700: .* data.scale="range"', path=str(folder))


def test_colours_of_more_than_8_bits_are_said(folder, warnings):
    for i in range(3):
        (folder / f"{i}.ppm").write_bytes(b"P6\n1 1\n65535\n\xff\0\2\0\3\0")
    assert load(path=str(folder)).train.x[0].ravel().tolist() == [254, 2, 3]
    assert "3 of the 3 images" in warnings[0] and "the upper 8 are read" in warnings.pop()


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_images_stand_as_exif_says(folder, format):
    x = np.zeros((16, 32, 3), np.uint8)
    x[:, :16] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the left half becomes the upper one
    for i in range(3):
        Image.fromarray(x).save(folder / f"{i}.{format.lower()}", exif=exif)
    found = load(path=str(folder)).train.x[0]
    assert found.shape == (32, 16, 1) and (found[:15] > 250).all() and (found[17:] < 5).all()
    Image.fromarray(x.swapaxes(0, 1)).save(
        folder / "upright.png"
    )  # as high and wide as the others, once they stand
    assert load(path=str(folder)).example_shape == (32, 16, 1)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("size", "resize", "crop", "box"),
    [
        ((30, 20), (10, 10), "center", (5, 25, 0, 20)),
        ((20, 30), (10, 10), "center", (0, 20, 5, 25)),
        ((30, 20), (10, 10), "none", (0, 30, 0, 20)),
        ((30, 20), (12, 4), "center", (0, 30, 5, 15)),
        ((30, 20), (10, 10), "16x12", (7, 23, 4, 16)),
        ((30, 20), (), "16x12", (7, 23, 4, 16)),
        ((10, 10), (20, 20), "center", (0, 10, 0, 10)),
        ((10, 10), (10, 10), "center", (0, 10, 0, 10)),
    ],
)
def test_cropping_and_resizing(size, resize, crop, box):
    """The result depends on exactly the pixels inside the box, all of them alike."""
    fit = images.make_fit(resize, crop)
    x = np.full((*size, 3), 80, np.uint8)
    x[box[0] : box[1], box[2] : box[3]] = 160
    cut = x[box[0] : box[1], box[2] : box[3]]
    found = np.asarray(images.fitted(Image.fromarray(x), fit))
    assert found.shape[:2] == (resize or fit.cropped) and (found == 160).all()
    ramp = np.clip(np.add.outer(np.arange(size[0]), np.arange(size[1])) * 4, 0, 255).astype(
        np.uint8
    )
    found = np.asarray(images.fitted(Image.fromarray(ramp), fit)).astype(float)
    assert abs(found.mean() - ramp[box[0] : box[1], box[2] : box[3]].mean()) < 1.5
    assert cut.shape[0] == box[1] - box[0]


def test_resizing_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    found = np.asarray(images.fitted(Image.fromarray(stripes), images.make_fit((8, 8), "center")))
    assert (abs(found.astype(int) - 127) < 12).all()  # without it: 0 or 255


def test_what_was_done_is_recorded(folder):
    _fill(folder, 3)
    assert load(path=str(folder)).preparation == ""
    told = describe_dataset(load(path=str(folder), resize=(4, 4)), "none")["preparation"]
    assert (
        told
        == "largest centred part of the aspect ratio, resized to 4x4 (height x width, bilinear, "
        "antialiased)"
    )
    assert load(path=str(folder), crop="4x3").preparation == "centred 4x3 pixels (height x width)"


def test_blocks_and_the_cache(folder, monkeypatch):
    _fill(folder, 11, names="{:02}.png")
    monkeypatch.setattr(images, "_BLOCK_IMAGES", 4)
    x = np.array(load(path=str(folder)).train.x)
    np.testing.assert_array_equal(x, [_pixels(i, 6, 4, 3) for i in range(11)])
    monkeypatch.setattr(image_folder, "_blocks", lambda *_: pytest.fail("decoded twice"))
    np.testing.assert_array_equal(load(path=str(folder)).train.x, x)
    with pytest.raises(pytest.fail.Exception):
        load(path=str(folder), resize=(4, 4))  # something else is done
    os.utime(folder / "03.png", ns=(1, 1))
    with pytest.raises(pytest.fail.Exception):
        load(path=str(folder))  # a file has changed


def test_links_are_followed_but_not_in_circles(folder, tmp_path):
    _fill(tmp_path / "elsewhere", 3)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    assert len(load(path=str(folder)).train.x) == 3


# --- what is refused


def test_folders_that_are_none_or_empty(folder, tmp_path):
    _refused(r"data\.path is empty: set it to a folder", path="")
    _refused(r"data\.path: .*nowhere does not exist", path=str(tmp_path / "nowhere"))
    _refused(r"data\.path: .*images is empty; expected \.png", path=str(folder))
    (folder / "notes.txt").touch()
    _refused(r"none of the 1 files in .*images is an image; expected \.png", path=str(folder))
    _refused(
        r'is a file: for \.npy and \.npz set data\.name to "file"', path=str(folder / "notes.txt")
    )
    with pytest.raises(
        UserError, match=r'images: it is a folder; for images in it set data\.name to "folder"'
    ):
        data.load("file", path=str(folder), num_valid=1)
    with pytest.raises(UserError, match=r'data\.name is \'mnist\': set data\.name to "folder"'):
        data.load("mnist", path=str(folder), num_valid=1)


def test_sub_folders_with_names_of_splits_are_splits(folder):
    for part, num in {"Train": 4, "val": 2, "test": 3}.items():
        _fill(folder / part / "dog", num)
        _fill(folder / part / "cat", 1, names="x{}.png")
    for _ in range(2):
        ds = load(path=str(folder), num_valid=0, num_test=0)
        assert (ds.train.num, ds.valid.num, ds.test.num) == (5, 3, 4)
        assert ds.label_names == ("cat", "dog")
        for split in (ds.train, ds.valid, ds.test):
            assert split.labels(slice(None)).tolist() == [0] + [1] * (split.num - 1)
            np.testing.assert_array_equal(split.take(1), _pixels(0, 6, 4, 3))
    _refused(
        r"data\.num_test must be 0, not 1: images has a test split", path=str(folder), num_valid=0
    )
    _fill(folder, 1)
    _refused(r"holds the splits .* beside 0\.png, which is none", path=str(folder))
    (folder / "0.png").unlink()
    _fill(folder / "extra", 1)
    _refused(r"holds the splits .* beside extra, which is none", path=str(folder))


def test_classes_with_the_name_of_a_split(folder):
    for name in ("bus", "car", "train"):
        _fill(folder / name, 2)
    ds = load(path=str(folder))
    assert ds.label_names == ("bus", "car", "train") and ds.train.num == 4


def test_splits_without_one_to_train_on(folder):
    _fill(folder / "test", 3)
    _refused(r"holds the splits test but no train", path=str(folder))
    (folder / "test").rename(folder / "train")
    assert load(path=str(folder)).train.num == 1  # the others are held out of it


def test_images_beside_folders_lose_their_labels_but_not_in_silence(folder, warnings):
    _fill(folder, 2)
    _fill(folder / "cat", 3)
    for _ in range(2):
        assert load(path=str(folder)).train.label is None
        assert "2 of the 5 images" in warnings[0] and "none has a label" in warnings.pop()
        assert not warnings


def test_sizes_that_differ(folder):
    _fill(folder, 2)
    _fill(folder, 1, (5, 7, 3), "b/{}.png")
    _refused(
        r"differ in size: 0\.png is 6x4 \(height x width\), b/0\.png is 5x7 .*data\.resize",
        path=str(folder),
    )
    assert load(path=str(folder), resize=(3, 5)).example_shape == (3, 5, 3)
    assert load(path=str(folder), crop="5x4").example_shape == (5, 4, 3)
    _refused(
        r"b/0\.png is 5x7 \(height x width\), smaller than data\.crop 6x4",
        path=str(folder),
        crop="6x4",
    )


@pytest.mark.quick
def test_broken_files_are_named_and_skipped_only_on_request(folder, warnings):
    _fill(folder, 6, (60, 40, 3), names="a/{}.png")
    _fill(folder, 4, (60, 40, 3), names="b/{}.png")
    os.truncate(folder / "a" / "1.png", 3000)  # whole header, cut pixels
    (folder / "a" / "3.png").write_bytes(b"hello")
    (folder / "b" / "2.png").write_bytes(b"")
    for _ in range(2):  # nothing of a refused folder is kept
        _refused(
            r"3 of the 10 images in .*images are broken: a/1\.png \(.*\), "
            r"a/3\.png \(cannot identify image file\), "
            r"b/2\.png \(.*\): repair or remove them, or set --config\.data\.skip_broken=True",
            path=str(folder),
        )
    for _ in range(2):  # it warns from the cache too
        ds = load(path=str(folder), skip_broken=True)
        kept = [("a", i) for i in (0, 2, 4, 5)] + [("b", i) for i in (0, 1, 3)]
        np.testing.assert_array_equal(ds.train.x, [_pixels(i, 60, 40, 3) for _, i in kept])
        assert ds.train.label.tolist() == [0] * 4 + [1] * 3
        assert len(warnings) == 1 and "3 of the 10 images" in warnings.pop() and not warnings
    _refused("3 of the 10", path=str(folder))


def test_many_broken_files_are_counted(folder):
    _fill(folder, 1)
    for i in range(5):
        (folder / f"x{i}.png").write_bytes(b"hello")
    _refused(r"5 of the 6 images .* x2\.png \([^)]*\), \.\.\.: repair", path=str(folder))
    (folder / "0.png").unlink()
    _refused(
        r"5 of the 5 images .* are broken: .*\.\.\.: repair or remove them$",
        path=str(folder),
        skip_broken=True,
    )


def test_files_that_may_not_be_read(folder, monkeypatch):
    """Never skipped: nothing is known to be wrong with them."""
    _fill(folder, 3)

    def forbidden(file, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", forbidden)
        _refused(
            r"data\.path: .*0\.png cannot be read \(Permission denied\)",
            path=str(folder),
            skip_broken=True,
        )
    (folder / "sub").mkdir()

    def scandir(path, scandir=os.scandir):
        return forbidden(path) if str(path).endswith("sub") else scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    _refused(r"data\.path: .*sub cannot be read \(Permission denied\)", path=str(folder))


def test_a_cache_without_room(folder, tmp_path):
    _fill(folder, 3)
    (tmp_path / "file").touch()
    _refused(
        r"cannot be written to .*set \$VAE_JAX_CACHE", path=str(folder), cache_dir=tmp_path / "file"
    )


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"resize": (64,)}, r"data\.resize is \(64,\), expected \(height, width\)"),
        ({"resize": (64, 0)}, r"data\.resize is \(64, 0\)"),
        ({"crop": "middle"}, r'data\.crop is \'middle\', expected "center"'),
        ({"crop": "0x5"}, r"data\.crop"),
    ],
)
def test_impossible_options(folder, kwargs, match):
    _refused(match, path=str(folder), **kwargs)


# --- other data is cropped and resized alike


def test_arrays_are_resized_channel_by_channel(tmp_path):
    x, y = _pixels(0, 9, 8, 6, 3), np.arange(9)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    ds = data.load("file", path=str(tmp_path / "x.npz"), resize=(4, 4), num_valid=1, num_test=1)
    expected = [
        np.asarray(images.fitted(Image.fromarray(i), images.make_fit((4, 4), "center"))) for i in x
    ]
    np.testing.assert_array_equal(ds.train.x, expected)
    np.testing.assert_array_equal(ds.train.label, y)
    digits = data.load("digits", resize=(16, 16), num_valid=9)
    assert digits.example_shape == (16, 16, 1) and "resized to 16x16" in digits.preparation
    np.save(tmp_path / "f.npy", x.astype(np.float32))
    for path, options in (("f.npy", {"resize": (4, 4)}), ("f.npy", {"crop": "4x4"})):
        with pytest.raises(
            UserError, match=r"for uint8 images, but the examples of .*f\.npy are float32"
        ):
            data.load("file", path=str(tmp_path / path), num_valid=1, num_test=1, **options)


# --- out of the box


@pytest.mark.usefixtures("undrawn")
def test_a_folder_of_colour_images_trains(folder, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for i in range(90):
        x = np.full((64, 64, 3), rng.integers(0, 256, 3), np.uint8)
        top, left = rng.integers(0, 40, 2)
        x[top : top + 20, left : left + 20] = rng.integers(0, 256, 3)
        Image.fromarray(x).save(folder / f"{i}.png")
    monkeypatch.chdir(os.path.dirname(os.path.dirname(__file__)))
    fields = {"data.path": folder, "data.num_valid": 10, "data.num_test": 10}
    fields |= {"data.resize": "(16,16)", "network.name": "mlp", "network.hidden": "(8,)"}
    fields |= {
        "hypers.latent_dim": 2,
        "hypers.beta_warmup_epochs": 0,
        "train.batch_size": 10,
        "train.num_epochs": 0.3,
    }
    fields |= {
        "train.steps_per_call": 1,
        "eval.nll_samples": 2,
        "eval.samples_per_step": 2,
        "eval.batch_size": 10,
    }
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    assert (
        main.run(["main", "--config=configs/folder.py", f"--workdir={tmp_path / 'run'}", *flags])
        == 0
    )
    told = (tmp_path / "run" / "results.json").read_text()
    assert '"complete": true' in told and '"num_train": 70' in told
    assert "tensorflow" not in sys.modules
