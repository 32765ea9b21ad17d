"""Where the images come from, and what is checked of them."""

import inspect
import zlib

import checks
import matplotlib
import mnist_images
import numpy as np
import pytest
import tensorflow as tf
from conftest import needs_mnist, small_arrays
from errors import InputError
from rendered_digits import rendered_digits


def set_mnist(monkeypatch, path, **changes):
    """Makes `MNIST_NPZ` name a file of `small_arrays` with some of them changed."""
    np.savez(path, **{**small_arrays(20), **changes})
    monkeypatch.setenv("MNIST_NPZ", str(path))


# -------------------------------------------------------------------------------------------------------- the files


def test_a_file_is_read_as_it_is_and_gives_the_data_its_name(small_mnist):
    assert small_mnist.name == "small.npz"
    for name, array in small_arrays().items():
        np.testing.assert_array_equal(getattr(small_mnist, name), array)
    assert small_mnist.x_train.dtype == tf.uint8  # a quarter of the memory of float32
    assert small_mnist.y_train.dtype == small_mnist.y_test.dtype == tf.int32


@pytest.mark.parametrize("kind", ["U1", "S1", "O", "f4"])
def test_labels_may_be_strings_or_whole_floats(kind):
    """OpenML's MNIST has strings."""
    strings = np.array(list("0123456789") * 2, kind)
    arrays = [small_arrays(20)[name] for name in mnist_images.ARRAYS]
    data = mnist_images.new_data("openml", arrays[0], strings, *arrays[2:])
    assert data.y_train.numpy().tolist() == list(range(10)) * 2


def test_another_file_is_read_in_the_same_process(tmp_path, monkeypatch):
    set_mnist(monkeypatch, tmp_path / "a.npz")
    first = mnist_images.load_data()
    assert mnist_images.load_data() is first  # kept, while it is the same
    set_mnist(monkeypatch, tmp_path / "b.npz", y_train=np.full(20, 7))
    assert mnist_images.load_data().name == "b.npz" and set(mnist_images.load_data().y_train.numpy()) == {7}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"x_train": np.zeros((20, 28, 27), np.uint8)}, "28, 27"),
        ({"x_test": np.zeros((50, 28, 28))}, "float64"),
        ({"x_test": np.zeros((0, 28, 28), np.uint8), "y_test": np.zeros(0, int)}, r"got uint8 \(0, 28, 28\)"),
        ({"y_test": np.zeros((50, 1), int)}, r"got uint8 \(50, 28, 28\) and int64 \(50, 1\)"),
        ({"y_train": np.zeros(19, int)}, r"got uint8 \(20, 28, 28\) and int64 \(19,\)"),
        ({"y_train": np.full(20, 10)}, "labels must be from 0 to 9, got 10 to 10"),
        ({"y_test": np.full(50, -1)}, "labels must be from 0 to 9, got -1 to -1"),
        ({"y_test": np.full(50, 0.5)}, "labels must be whole numbers, got 0.5"),
        ({"y_test": np.array(["three"] * 50)}, "labels must be whole numbers: .*three"),
        ({"y_train": np.array([{}] * 20, dtype=object)}, "allow_pickle"),
    ],
    ids=["shape", "type", "empty", "label shape", "length", "label 10", "label -1", "fraction", "word", "pickled"],
)
def test_a_file_that_is_not_valid_is_one_line(tmp_path, monkeypatch, changes, message):
    set_mnist(monkeypatch, tmp_path / "bad.npz", **changes)
    with pytest.raises(InputError, match=message) as error:
        mnist_images.load_data()
    assert "bad.npz" in str(error.value) and "unset it" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"not an archive", b"\x93NUMPY\x01\x00", b"PK\x03\x04 truncated"])
def test_a_file_that_is_no_archive_or_missing_is_refused(tmp_path, monkeypatch, content):
    if content is not None:
        (tmp_path / "bad.npz").write_bytes(content)
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "bad.npz"))
    with pytest.raises(InputError, match="bad.npz .* unset it"):
        mnist_images.load_data()


def test_an_archive_without_one_of_the_arrays_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "bad.npz", x_train=small_arrays()["x_train"])
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "bad.npz"))
    with pytest.raises(InputError, match="y_train"):
        mnist_images.load_data()


def test_data_is_named_mnist_if_it_is_mnist_s_to_the_last_byte(monkeypatch):
    arrays = small_arrays(20)
    everything = b"".join(arrays[name].astype(np.uint8).tobytes() for name in mnist_images.ARRAYS)
    monkeypatch.setattr(mnist_images, "MNIST_CHECKSUM", zlib.crc32(everything))  # as if these arrays were MNIST's
    assert mnist_images.new_data("other", *arrays.values()).name == "MNIST"
    arrays["y_test"][-1] = 0
    assert mnist_images.new_data("other", *arrays.values()).name == "other"


@needs_mnist
def test_real_mnist_is_read_and_named():
    data = mnist_images.load_data()
    assert data.name == "MNIST"
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# ------------------------------------------------------------------------------------------------------ without a file


@pytest.fixture
def without_file(monkeypatch):
    monkeypatch.delenv("MNIST_NPZ", raising=False)
    mnist_images.load_data_by.cache_clear()
    yield
    mnist_images.load_data_by.cache_clear()


def test_without_a_file_keras_gives_mnist(without_file, monkeypatch, capsys):
    x_train, y_train, x_test, y_test = small_arrays(20).values()
    monkeypatch.setattr(tf.keras.datasets.mnist, "load_data", lambda: ((x_train, y_train), (x_test, y_test)))
    for value in (None, ""):
        if value is not None:
            monkeypatch.setenv("MNIST_NPZ", value)
        data = mnist_images.load_data()
        np.testing.assert_array_equal(data.x_train, x_train)
        np.testing.assert_array_equal(data.y_test, y_test)
    assert capsys.readouterr().err == ""


def test_data_that_is_replaced_is_loaded_anew(without_file, monkeypatch, tmp_path):
    """Keras' function by another, as graders' tests do, and a file by another of the same name."""
    for count in (20, 30):
        x_train, y_train, x_test, y_test = small_arrays(count).values()
        monkeypatch.setattr(
            tf.keras.datasets.mnist, "load_data", lambda a=x_train, b=y_train, c=x_test, d=y_test: ((a, b), (c, d))
        )
        assert len(mnist_images.load_data().x_train) == count
        assert mnist_images.load_data() is mnist_images.load_data()
    for count in (20, 30):
        np.savez(tmp_path / "mnist.npz", **small_arrays(count))
        monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "mnist.npz"))
        assert len(mnist_images.load_data().x_train) == count


def test_without_mnist_digits_are_rendered_with_a_warning(without_file, monkeypatch, capsys):
    def no_download():
        raise Exception("no network")

    monkeypatch.setattr(tf.keras.datasets.mnist, "load_data", no_download)
    arrays = small_arrays(20)
    drawn = (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
    monkeypatch.setattr("rendered_digits.rendered_digits", lambda: drawn)
    data = mnist_images.load_data()
    captured = capsys.readouterr()
    assert "NOT MNIST" in captured.err and "no network" in captured.err and captured.out == ""
    assert data.name == "rendered digits, not MNIST"
    np.testing.assert_array_equal(data.x_train, arrays["x_train"])


def test_rendered_digits_are_as_many_as_mnist_s_unless_told_otherwise():
    sizes = inspect.signature(rendered_digits).parameters
    assert (sizes["train_size"].default, sizes["test_size"].default) == (60_000, 10_000)


def test_rendered_digits_have_mnist_s_format_and_ink(digits):
    """MNIST's mean pixel is 33, its mean centre of mass pixel 14, counted from 0, and its digits are 20 pixels high."""
    for images, labels, count in ((digits.x_train, digits.y_train, 2000), (digits.x_test, digits.y_test, 500)):
        images = images.numpy()
        assert images.shape == (count, 28, 28) and images.dtype == np.uint8
        assert np.bincount(labels, minlength=10).min() > count / 20
        assert 25 < images.mean() < 45 and images.max() > 250 and np.median(images) == 0
        for axis in (1, 2):
            profile = images.mean(axis=(0, axis), dtype=np.float64)
            assert profile @ np.arange(28) / profile.sum() == pytest.approx(14, abs=0.2)
        heights = (images > 128).any(axis=2).sum(axis=1)
        assert heights.mean() == pytest.approx(20, abs=2) and heights.std() > 1


def test_rendered_digits_look_like_their_labels_and_no_two_alike(digits):
    x_train, x_test = (digits.x_train.numpy().astype(float), digits.x_test.numpy().astype(float))
    means = np.stack([x_train[digits.y_train == digit].mean(axis=0) for digit in range(10)])
    nearest = ((x_test[:, None] - means) ** 2).sum(axis=(2, 3)).argmin(axis=1)
    assert np.mean(nearest == digits.y_test) > 0.75  # 0.1 by chance
    assert len(np.unique(x_test, axis=0)) == len(x_test)


def test_rendered_digits_repeat_by_seed(digits):
    """Whatever the user's settings of matplotlib are."""
    with matplotlib.rc_context({"path.sketch": (5, 20, 20), "patch.antialiased": False}):
        (same, _), _ = rendered_digits(0, 2000, 500)
    np.testing.assert_array_equal(same, digits.x_train)


def test_rendered_digits_are_of_the_fonts_that_are_named(monkeypatch):
    drawn = []
    for font in ("cmr10", "DejaVuSans-Bold"):
        monkeypatch.setattr("rendered_digits.FONTS", (font,))
        (images, _), _ = rendered_digits(0, 200, 10)
        drawn.append(images.mean())
    assert drawn[1] > 1.2 * drawn[0]  # the second is bold


def test_another_seed_gives_other_digits_also_more_than_are_drawn_at_once(digits):
    """They are drawn in parts of 5,000."""
    (x_train, y_train), (x_test, y_test) = rendered_digits(4, 5000, 10)
    assert len(x_train) == len(y_train) == 5000 and len(x_test) == len(y_test) == 10
    assert x_train.max(axis=(1, 2)).min() > 100 and x_test.max(axis=(1, 2)).min() > 100
    assert not np.array_equal(x_train[:2000], digits.x_train)


# ---------------------------------------------------------------------------------------------------------- the checks


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_images_from_0_to_1_are_given_as_float32(dtype):
    images = np.resize([0, 1, 1], (2, 1, 4, 4)).astype(dtype)
    checked = checks.check_images(images, 16)
    assert checked.dtype == tf.float32
    np.testing.assert_array_equal(checked, images)
    assert checks.check_images(images.tolist()).shape == (2, 1, 4, 4)
    assert checks.check_images(images[:0], 16).shape == (0, 1, 4, 4)


@pytest.mark.parametrize(
    "pixels, found",
    [
        ([0.0, 255.0], "0 to 255"),
        ([-0.5, 1.0], "-0.5 to 1"),
        ([0.0, 1.001], "0 to 1.001"),
        ([0.5, np.nan], "nan to nan"),
    ],
)
def test_pixels_outside_of_0_and_1_are_refused(pixels, found):
    with pytest.raises(InputError, match=f"pixels must be from 0 to 1, got {found}$"):
        checks.check_images(np.resize(pixels, (2, 1, 4, 4)))


def test_images_of_0_to_255_are_refused():
    with pytest.raises(InputError, match="pixels must be from 0 to 1, got 0 to 255"):
        checks.check_images(small_arrays(20)["x_train"][:, None], 784)


@pytest.mark.parametrize("shape", [(2, 4, 4, 1), (2, 16), (2, 1, 2, 8), (2, 1, 5, 5), (2, 3, 4, 4)])
def test_images_of_other_shapes_are_refused_where_the_shape_is_known(shape):
    images = np.zeros(shape)
    with pytest.raises(InputError) as error:
        checks.check_images(images, 16)
    assert str(error.value) == f"images must be (N, 1, 4, 4), got {shape}"
    assert checks.check_images(images).shape == shape


@pytest.mark.parametrize("labels", [[0, 3, 1], ["0", "3", "1"], [b"0", b"3", b"1"], [0.0, 3.0, 1.0]])
def test_labels_are_given_as_int32(labels):
    checked = checks.check_labels(labels, 4)
    assert checked.dtype == np.int32 and checked.tolist() == [0, 3, 1]
    assert checks.check_labels(tf.constant(labels), 4).tolist() == [0, 3, 1]


def test_no_labels_are_valid_labels():
    assert checks.check_labels([], 4).shape == (0,)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 4], "labels must be from 0 to 3, got 0 to 4"),
        ([-1, 2], "labels must be from 0 to 3, got -1 to 2"),
        (["0", "4"], "labels must be from 0 to 3, got 0 to 4"),
        ([0, np.nan], "labels must be from 0 to 3, got nan to nan"),
        ([1, 2.5], "labels must be whole numbers, got 2.5"),
        (["one"], "labels must be whole numbers: could not convert"),
        ([None, {}], "labels must be whole numbers: "),
    ],
)
def test_labels_that_are_no_class_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        checks.check_labels(labels, 4)


def test_pixels_are_bytes_divided_by_255_with_a_channel():
    images = small_arrays(3)["x_train"]
    pixels = mnist_images.to_pixels(images)
    assert pixels.dtype == tf.float32
    np.testing.assert_allclose(pixels, images[:, None] / 255, rtol=1e-6)
