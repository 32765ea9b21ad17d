"""Where the images come from, how they are checked, and the digits rendered from fonts."""

import inspect
import zlib

import assignment
import matplotlib
import numpy as np
import pytest
import tensorflow as tf
import vae
from assignment import InputError
from conftest import needs_mnist, small_arrays
from extras import rendered_digits as rendering
from extras.rendered_digits import rendered_digits


def set_mnist(monkeypatch, path, **changes):
    """Makes `MNIST_NPZ` name a file of `small_arrays` with some of them changed."""
    np.savez(path, **{**small_arrays(20), **changes})
    monkeypatch.setenv("MNIST_NPZ", str(path))


def small_pairs(n=20):
    """(images, labels) for training and for testing."""
    arrays = small_arrays(n)
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


# -------------------------------------------------------------------------------------------------------- the file


def test_a_file_is_loaded_as_it_is_and_gives_the_data_its_name(small_mnist):
    assert small_mnist.name == "small.npz"
    for name, array in small_arrays().items():
        np.testing.assert_array_equal(getattr(small_mnist, name), array)
    assert small_mnist.x_train.dtype == small_mnist.x_test.dtype == np.uint8  # a quarter of the memory of float32
    assert small_mnist.y_train.dtype == small_mnist.y_test.dtype == np.int32
    assert all(isinstance(array, np.ndarray) for array in small_mnist[1:])


@pytest.mark.parametrize("kind", ["U1", "S1", "O", "f4"])
def test_labels_may_be_strings_or_whole_floats(kind):
    """OpenML's MNIST has strings."""
    (images, _), test = small_pairs()
    data = assignment.new_data("openml", (images, np.array(list("0123456789") * 2, kind)), test)
    assert data.y_train.tolist() == list(range(10)) * 2


def test_labels_may_be_a_column():
    (images, labels), test = small_pairs()
    data = assignment.new_data("column", (images, labels[:, None]), test)
    assert data.y_train.tolist() == labels.tolist()


def test_another_file_is_loaded_in_the_same_process(tmp_path, monkeypatch):
    """Also one of the same name."""
    set_mnist(monkeypatch, tmp_path / "a.npz")
    assert assignment.load_data().name == "a.npz"
    set_mnist(monkeypatch, tmp_path / "b.npz", y_train=np.full(20, 7))
    assert assignment.load_data().name == "b.npz" and set(assignment.load_data().y_train) == {7}
    set_mnist(monkeypatch, tmp_path / "b.npz", y_train=np.full(20, 8))
    assert set(assignment.load_data().y_train) == {8}


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"x_train": np.zeros((20, 28, 27), np.uint8)},
            r"images must have the shape \(N, 28, 28\), got \(20, 28, 27\)",
        ),
        ({"x_train": np.zeros((0, 28, 28), np.uint8)}, r"images must have the shape \(N, 28, 28\), got \(0, 28, 28\)"),
        ({"x_test": np.full((50, 28, 28), -1)}, "pixels must be from 0 to 255, got -1 to -1"),
        ({"x_train": np.full((20, 28, 28), 255.5)}, "pixels must be from 0 to 255, got 255.5 to 255.5"),
        ({"x_train": np.full((20, 28, 28), np.nan)}, "pixels must be from 0 to 255, got nan to nan"),
        ({"y_train": np.zeros(19, int)}, r"labels must have the shape \(20,\), got \(19,\)"),
        ({"y_test": np.zeros((50, 10), int)}, r"labels must have the shape \(50,\), got \(50, 10\)"),
        ({"y_train": np.full(20, 10)}, "labels must be whole numbers from 0 to 9, got 10"),
        ({"y_test": np.full(50, -1)}, "labels must be whole numbers from 0 to 9, got -1"),
        ({"y_test": np.full(50, 0.5)}, "labels must be whole numbers from 0 to 9, got 0.5"),
        ({"y_test": np.array(["three"] * 50)}, "labels must be whole numbers: .*three"),
        ({"y_train": np.array([{}] * 20, dtype=object)}, "allow_pickle"),
    ],
)
def test_a_file_that_is_not_valid_is_named_with_what_is_wrong(tmp_path, monkeypatch, changes, message):
    set_mnist(monkeypatch, tmp_path / "bad.npz", **changes)
    with pytest.raises(InputError, match=f"bad.npz is not a valid mnist.npz .*{message}.* unset it"):
        assignment.load_data()


@pytest.mark.parametrize("content", [None, b"", b"not an archive", b"PK\x03\x04 truncated"])
def test_a_file_that_is_no_archive_or_missing_is_refused(tmp_path, monkeypatch, content):
    if content is not None:
        (tmp_path / "bad.npz").write_bytes(content)
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "bad.npz"))
    with pytest.raises(InputError, match="bad.npz .* unset it"):
        assignment.load_data()


def test_an_archive_without_one_of_the_arrays_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "bad.npz", x_train=small_arrays()["x_train"])
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "bad.npz"))
    with pytest.raises(InputError, match="y_train"):
        assignment.load_data()


def test_data_is_named_mnist_if_it_is_mnist_to_the_last_byte(monkeypatch):
    (x_train, y_train), (x_test, y_test) = small_pairs()
    everything = b"".join(array.astype(np.uint8).tobytes() for array in (x_train, y_train, x_test, y_test))
    monkeypatch.setattr(assignment, "MNIST_CHECKSUM", zlib.crc32(everything))  # as if these arrays were MNIST's
    assert assignment.new_data("other", (x_train, y_train), (x_test, y_test)).name == "MNIST"
    y_test[-1] = 0
    assert assignment.new_data("other", (x_train, y_train), (x_test, y_test)).name == "other"


@needs_mnist
def test_real_mnist_is_loaded_and_named():
    data = assignment.load_data()
    assert data.name == "MNIST" and len(data.x_train) == 60_000
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# -------------------------------------------------------------------------------------------------- without a file


@pytest.fixture
def keras_gives(monkeypatch):
    """Replaces Keras' `load_data` by a function that returns this, or raises it, where `MNIST_NPZ` is not set."""

    def replace(result):
        def load_data(path="mnist.npz"):
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(tf.keras.datasets.mnist, "load_data", load_data)

    monkeypatch.delenv("MNIST_NPZ", raising=False)
    assignment.render_data.cache_clear()
    yield replace
    assignment.render_data.cache_clear()


@pytest.mark.parametrize("variable", [None, ""])
def test_without_a_file_keras_gives_mnist(keras_gives, monkeypatch, capsys, variable):
    if variable is not None:
        monkeypatch.setenv("MNIST_NPZ", variable)
    (x_train, y_train), (x_test, y_test) = small_pairs()
    keras_gives(((x_train, y_train), (x_test, y_test)))
    data = assignment.load_data()
    for array, expected in zip(data[1:], (x_train, y_train, x_test, y_test)):
        np.testing.assert_array_equal(array, expected)
    assert capsys.readouterr().err == ""


def test_a_keras_function_that_is_replaced_counts_at_once(keras_gives):
    """As graders' tests replace it."""
    for count in (20, 30):
        keras_gives(small_pairs(count))
        assert len(assignment.load_data().x_train) == count


@pytest.mark.parametrize(
    "convert",
    [
        lambda images: images.astype(np.int64),
        lambda images: images.astype(np.float64),
        lambda images: images.astype(np.float32) / 255,
        lambda images: images / 255,
    ],
    ids=["int64", "float64 to 255", "float32 to 1", "float64 to 1"],
)
def test_images_of_other_types_are_the_same_bytes(keras_gives, convert):
    (x_train, y_train), (x_test, y_test) = small_pairs()
    keras_gives(((convert(x_train), y_train.astype(np.int64)), (convert(x_test), y_test)))
    data = assignment.load_data()
    np.testing.assert_array_equal(data.x_train, x_train)
    np.testing.assert_array_equal(data.x_test, x_test)
    assert data.x_train.dtype == data.x_test.dtype == np.uint8


NO_TEST_PARTS = [None, (), (np.zeros((0, 28, 28)), np.zeros(0)), (np.zeros(0), np.zeros(0)), ([], [])]


@pytest.mark.parametrize("test", NO_TEST_PARTS, ids=["None", "()", "no images", "flat", "lists"])
def test_there_may_be_no_test_images(keras_gives, test):
    train, _ = small_pairs()
    keras_gives((train, test))
    data = assignment.load_data()
    np.testing.assert_array_equal(data.x_train, train[0])
    assert data.x_test.shape == (0, 28, 28) and data.y_test.shape == (0,)


@pytest.mark.parametrize("convert", [np.int64, lambda images: images / 255], ids=["int64", "float64 to 1"])
def test_batches_are_float32_pixels_and_int32_labels_whatever_is_loaded(keras_gives, convert):
    (x_train, _), _ = small_pairs()
    keras_gives(((convert(x_train), np.arange(20) % 10), None))
    ((images, labels),) = assignment.load_mnist(20)
    assert images.dtype == tf.float32 and labels.dtype == tf.int32
    order = np.argsort(images.numpy().sum(axis=(1, 2, 3)))
    expected = np.argsort(x_train.sum(axis=(1, 2), dtype=int))
    np.testing.assert_allclose(images.numpy()[order, 0], x_train[expected] / 255, rtol=1e-6)
    np.testing.assert_array_equal(labels.numpy()[order], expected % 10)


def test_without_mnist_digits_are_rendered_with_one_warning(keras_gives, monkeypatch, capsys):
    keras_gives(Exception("no network"))
    train, test = small_pairs()
    monkeypatch.setattr(rendering, "rendered_digits", lambda: (train, test))
    data = assignment.load_data()
    captured = capsys.readouterr()
    assert "NOT those of MNIST" in captured.err and "no network" in captured.err and "MNIST_NPZ" in captured.err
    assert captured.out == ""
    assert data.name == "rendered digits, not MNIST"
    np.testing.assert_array_equal(data.x_train, train[0])
    assert len(assignment.load_mnist(5)) == 4  # of the same images, which are not rendered again
    assert capsys.readouterr().err == ""


def test_without_mnist_and_extras_the_error_says_what_to_do(keras_gives, monkeypatch, tmp_path):
    keras_gives(Exception("no network"))
    monkeypatch.setattr(assignment, "EXTRAS", tmp_path / "extras")
    with pytest.raises(InputError, match="no network.*set MNIST_NPZ"):
        assignment.load_data()


# ------------------------------------------------------------------------------------------------ rendered digits


def test_rendered_digits_are_as_many_as_mnist_has_unless_told_otherwise():
    sizes = inspect.signature(rendered_digits).parameters
    assert (sizes["train_size"].default, sizes["test_size"].default) == (60_000, 10_000)


def test_rendered_digits_have_the_format_and_the_ink_of_mnist(digits):
    """MNIST's mean pixel is 33, its mean centre of mass pixel 14, counted from 0, and its digits are 20 pixels high."""
    for images, labels, count in ((digits.x_train, digits.y_train, 2000), (digits.x_test, digits.y_test, 500)):
        assert images.shape == (count, 28, 28) and images.dtype == np.uint8
        assert np.bincount(labels, minlength=10).min() > count / 20
        assert 25 < images.mean() < 45 and images.max() > 250 and np.median(images) == 0
        for axis in (1, 2):
            profile = images.mean(axis=(0, axis), dtype=np.float64)
            assert profile @ np.arange(28) / profile.sum() == pytest.approx(14, abs=0.2)
        heights = (images > 128).any(axis=2).sum(axis=1)
        assert heights.mean() == pytest.approx(20, abs=2) and heights.std() > 1


def test_rendered_digits_look_like_their_labels_and_no_two_alike(digits):
    x_train, x_test = digits.x_train.astype(float), digits.x_test.astype(float)
    means = np.stack([x_train[digits.y_train == digit].mean(axis=0) for digit in range(10)])
    nearest = ((x_test[:, None] - means) ** 2).sum(axis=(2, 3)).argmin(axis=1)
    assert np.mean(nearest == digits.y_test) > 0.75  # 0.1 by chance
    assert len(np.unique(x_test, axis=0)) == len(x_test)


def test_rendered_digits_repeat_by_seed(digits):
    """Whatever the user's settings of matplotlib are."""
    with matplotlib.rc_context({"path.sketch": (5, 20, 20), "patch.antialiased": False}):
        (same, _), _ = rendered_digits(0, 2000, 500)
    np.testing.assert_array_equal(same, digits.x_train)


def test_digits_are_rendered_in_the_fonts_that_are_named(monkeypatch):
    drawn = []
    for font in ("cmr10", "DejaVuSans-Bold"):
        monkeypatch.setattr(rendering, "FONTS", (font,))
        (images, _), _ = rendered_digits(0, 200, 10)
        drawn.append(images.mean())
    assert drawn[1] > 1.2 * drawn[0]  # the second is bold


def test_another_seed_gives_other_digits_also_more_than_are_drawn_at_once(digits):
    """They are drawn in parts of 5,000."""
    (x_train, y_train), (x_test, y_test) = rendered_digits(4, 5000, 10)
    assert len(x_train) == len(y_train) == 5000 and len(x_test) == len(y_test) == 10
    assert x_train.max(axis=(1, 2)).min() > 100 and x_test.max(axis=(1, 2)).min() > 100
    assert not np.array_equal(x_train[:2000], digits.x_train)


# ------------------------------------------------------------------------------------------- the checks of a batch


@pytest.fixture(scope="module")
def small_model():
    """A model of images of 4 x 4 pixels."""
    return vae.VAE(16, latent_size=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (3, 4, 4, 1), (3, 4, 4), (3, 16)])
def test_images_of_any_type_and_layout_become_float32_images_with_a_channel(small_model, dtype, shape):
    images = np.resize([0, 1, 1, 0, 1], shape).astype(dtype)
    checked = assignment.check_images(images, small_model)
    assert checked.dtype == tf.float32
    np.testing.assert_array_equal(checked, images.reshape(3, 1, 4, 4))


@pytest.mark.parametrize("shape", [(2, 1, 5, 5), (2, 3, 4, 4), (0, 1, 4, 4), (16,)])
def test_images_of_another_size_are_refused(small_model, shape):
    with pytest.raises(InputError) as error:
        assignment.check_images(np.zeros(shape), small_model)
    assert str(error.value) == f"images must have the shape (N, 1, 4, 4), got {shape}"


@pytest.mark.parametrize("pixel", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused(small_model, pixel):
    with pytest.raises(InputError, match="pixels must be finite, got "):
        assignment.check_images(np.resize([0.5, pixel], (2, 1, 4, 4)), small_model)


@pytest.mark.parametrize("pixels", [[0, 255], [-0.5, 1.0], [0.0, 1.001]])
def test_pixels_outside_of_0_and_1_are_a_warning(small_model, pixels):
    images = np.resize(pixels, (2, 1, 4, 4))
    with pytest.warns(UserWarning, match=r"pixels should be in \[0, 1\].*255"):
        checked = assignment.check_images(images, small_model)
    np.testing.assert_allclose(checked, images, rtol=1e-6)


@pytest.mark.parametrize("labels", [[0, 3, 1], ["0", "3", "1"], [b"0", b"3", b"1"], [0.0, 3.0, 1.0], [[0], [3], [1]]])
def test_labels_become_int32(labels):
    for given in (labels, tf.constant(labels)):
        checked = assignment.check_labels(given, 3, 4)
        assert checked.dtype == np.int32 and checked.tolist() == [0, 3, 1]


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 4], "labels must be whole numbers from 0 to 3, got 4"),
        ([-1, 2], "labels must be whole numbers from 0 to 3, got -1"),
        (["0", "4"], "labels must be whole numbers from 0 to 3, got 4"),
        ([0, np.nan], "labels must be whole numbers from 0 to 3, got nan"),
        ([1, 2.5], "labels must be whole numbers from 0 to 3, got 2.5"),
        (["one", "1"], "labels must be whole numbers: could not convert"),
        ([None, {}], "labels must be whole numbers: "),
        ([1, 2, 3], r"labels must have the shape \(2,\), got \(3,\)"),
        ([[1, 0], [0, 1]], r"labels must have the shape \(2,\), got \(2, 2\)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        assignment.check_labels(labels, 2, 4)


def test_pixels_are_bytes_divided_by_255_with_a_channel():
    images = small_arrays(3)["x_train"]
    pixels = assignment.to_pixels(images)
    assert pixels.dtype == tf.float32
    np.testing.assert_allclose(pixels, images[:, None] / 255, rtol=1e-6)
