"""Data, training, weights and pictures through the functions that callers use."""

import hashlib
import os
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import assignment
import vae
from conftest import needs_mnist, small_arrays


def loader(n=40, batch=16):
    """A caller's own: float64 images, a smaller last batch."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(n, 1, 28, 28))
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, n))).batch(batch)


def test_one_hot():
    for labels in ([3, 0], np.array([[3], [0]]), tf.constant([3, 0], tf.uint8)):
        np.testing.assert_array_equal(assignment.one_hot(labels, 4), [[0, 0, 0, 1], [1, 0, 0, 0]])
    assert assignment.one_hot([1], 4).dtype == tf.float32


@pytest.mark.parametrize("labels", [[0, 4], [-1]])
def test_one_hot_refuses_labels_out_of_range(labels):
    with pytest.raises(ValueError, match="labels must be from 0 to 3"):
        assignment.one_hot(labels, 4)


def test_batches_are_the_data_reshuffled_each_epoch(small_mnist):
    batches = assignment.load_mnist(64)
    assert len(batches) == 600 // 64
    assert assignment.load_data().x_train.dtype == tf.uint8  # a quarter of the memory of float32
    epochs = [[(x.numpy(), y.numpy()) for x, y in batches] for _ in range(2)]
    data = small_arrays()
    label_of = {image.tobytes(): label for image, label in zip(data["x_train"], data["y_train"])}
    seen = []
    for x, y in epochs[0]:
        assert x.shape == (64, 1, 28, 28) and x.dtype == np.float32 and y.shape == (64,)
        seen += [np.round(image * 255).astype(np.uint8).tobytes() for image in x]
        assert [label_of[image] for image in seen[-64:]] == y.tolist()
    assert len(set(seen)) == len(seen) == 64 * 9
    assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])


@pytest.mark.parametrize("batch_size", [0, -5, 601])
def test_batch_size_must_fit_the_data(small_mnist, batch_size):
    with pytest.raises(ValueError, match=f"batch_size .* got {batch_size}"):
        assignment.load_mnist(batch_size)


def broken(**changes):
    return {**small_arrays(20), **changes}


@pytest.mark.parametrize("arrays, message", [
    ({"x_train": np.zeros(3)}, "y_train"),
    (broken(x_train=np.zeros((20, 28, 27), np.uint8)), "28, 27"),
    (broken(x_train=np.zeros((20, 28, 28))), "float64"),
    (broken(y_test=np.zeros(50)), "float64"),
    (broken(y_train=np.zeros(19, int)), "19"),
    (broken(y_train=np.full(20, 10)), "10 to 10"),
    (broken(y_test=np.full(50, -1)), "-1 to -1"),
    (broken(y_train=np.array([{}] * 20, dtype=object)), "archive of plain arrays"),
], ids=["missing", "shape", "type", "label type", "length", "label 10", "label -1", "pickled"])
def test_unusable_mnist_is_one_clear_error(tmp_path, monkeypatch, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "bad.npz"))
    with pytest.raises(ValueError, match=message) as error:
        assignment.load_data()
    assert "bad.npz" in str(error.value) and "unset it" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"not an archive", b"\x93NUMPY\x01\x00", b"PK\x03\x04 truncated"])
def test_mnist_that_is_no_archive_is_refused(tmp_path, monkeypatch, content):
    if content is not None:
        (tmp_path / "bad.npz").write_bytes(content)
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "bad.npz"))
    with pytest.raises(ValueError, match="unset it"):
        assignment.load_data()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_archive_is_refused(tmp_path, monkeypatch, save):
    save(tmp_path / "bad.npz", **{**small_arrays(), "x_train": np.zeros((600, 28, 28), np.uint8)})
    content = bytearray((tmp_path / "bad.npz").read_bytes())
    content[200:210] = bytes(255 - byte for byte in content[200:210])  # in the first array
    (tmp_path / "bad.npz").write_bytes(content)
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "bad.npz"))
    with pytest.raises(ValueError, match="unset it"):
        assignment.load_data()


def test_pickles_are_not_run(tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    np.savez(tmp_path / "bad.npz", **broken(x_train=np.array([Trap()], dtype=object)))
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "bad.npz"))
    with pytest.raises(ValueError, match="unset it"):
        assignment.load_data()
    assert not (tmp_path / "sprung").exists()


def test_without_mnist_digits_are_rendered_and_it_is_said(monkeypatch, capsys):
    def no_download():
        raise Exception("no network")

    monkeypatch.delenv("MNIST_NPZ", raising=False)
    monkeypatch.setattr(tf.keras.datasets.mnist, "load_data", no_download)
    data = assignment.load_data()
    assert "NOT MNIST" in capsys.readouterr().err and data.name == "rendered digits, not MNIST"
    assert data.x_train.shape == (60_000, 28, 28) and data.x_test.shape == (10_000, 28, 28)
    assert data.x_train.dtype == tf.uint8
    counts = np.bincount(data.y_train, minlength=10)
    assert counts.min() > 5_000
    # MNIST's mean pixel is 33, and the mean centre of mass is the middle, 13.5
    x_train = data.x_train.numpy()
    assert 20 < x_train.mean() < 45
    rows = x_train.mean(axis=(0, 2), dtype=np.float64)
    assert abs(rows @ np.arange(28) / rows.sum() - 13.5) < 0.5


def test_rendered_digits_repeat_by_seed():
    from rendered_digits import rendered_digits

    digests = [hashlib.sha1(rendered_digits(seed)[0][0].tobytes()).digest() for seed in (3, 3, 4)]
    assert digests[0] == digests[1] != digests[2]


def test_the_rate_warms_up_to_a_peak_that_grows_with_the_batch_and_falls():
    args = SimpleNamespace(learning_rate=1e-3, num_epochs=2)
    # None: a loader of unknown length is taken for MNIST
    for batch_size, batches, factor in ((128, 468, 1.0), (1024, 58, 4.757), (2048, 29, 4.757), (64, None, 0.595)):
        rate = assignment._optimizer(batch_size, batches, args)._learning_rate
        steps = 2 * (60_000 // batch_size)
        rates = [float(rate(step)) for step in np.linspace(0, steps, 51)]
        assert rates[0] == 0.0
        assert max(rates) == pytest.approx(1e-3 * factor, rel=0.01)
        assert rates[-1] == pytest.approx(0.01 * max(rates), rel=0.05)


@pytest.mark.parametrize("is_cvae", [False, True])
def test_training_goes_on_and_lowers_the_loss(is_cvae):
    model = vae.CVAE(784) if is_cvae else vae.VAE(784)
    args = SimpleNamespace(learning_rate=1e-3)
    totals = [assignment.train_vae(model, loader(), args, is_cvae) for _ in range(5)]
    assert totals[-1] < 0.98 * totals[0]


def test_the_total_is_the_sum_of_the_batch_losses(monkeypatch):
    model, batches = vae.VAE(784), list(loader())
    args = SimpleNamespace(learning_rate=1e-12)  # the weights stay, so the losses can be taken one by one
    expected = sum(float(vae.loss_function((out := model(x))[0], x, *out[1:])) for x, _ in batches)
    assert assignment.train_vae(model, batches, args) == pytest.approx(expected, rel=1e-3)


def test_the_step_and_the_optimizer_stay_with_the_model(monkeypatch):
    compiled = []
    compile_step = assignment._compile_step
    monkeypatch.setattr(assignment, "_compile_step", lambda *a: compiled.append(1) or compile_step(*a))
    model = vae.VAE(784)
    for _ in range(3):
        assignment.train_vae(model, loader(), SimpleNamespace(learning_rate=1e-3, num_epochs=3))
    assert len(compiled) == 1
    assert model._train_step.experimental_get_tracing_count() == 2  # one a shape of batch


@pytest.mark.parametrize("is_cvae", [False, True])
def test_weights_return_and_leave_no_litter(outputs, is_cvae):
    kind = vae.CVAE if is_cvae else vae.VAE
    saved, loaded = kind(784), kind(784)
    saved.set_weights([weights + 1.0 for weights in saved.get_weights()])
    assignment.save_model_weights(saved, SimpleNamespace(is_cvae=is_cvae))
    assert assignment.load_weights(loaded) is loaded
    for a, b in zip(saved.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert [f.name for f in outputs.iterdir()] == ["cvae.weights.h5" if is_cvae else "vae.weights.h5"]


def test_weights_that_do_not_fit_leave_the_model_as_it_was(outputs):
    with pytest.raises(FileNotFoundError, match="train first"):
        assignment.load_weights(vae.VAE(784))
    assignment.save_model_weights(vae.VAE(784, latent_size=7), SimpleNamespace(is_cvae=False))
    whole = (outputs / "vae.weights.h5").read_bytes()
    (outputs / "cvae.weights.h5").write_bytes(whole)  # the other model's
    for kind, content in ((vae.VAE, whole), (vae.CVAE, whole), (vae.VAE, whole[:100_000]), (vae.VAE, b"foreign"),
                          (vae.VAE, b"")):
        model = kind(784)
        before = model.get_weights()
        (outputs / f"{kind.__name__.lower()}.weights.h5").write_bytes(content)
        with pytest.raises(ValueError, match="does not fit") as error:
            assignment.load_weights(model)
        assert "\n" not in str(error.value)
        for a, b in zip(before, model.get_weights()):
            np.testing.assert_array_equal(a, b)


def test_a_failing_save_leaves_the_last_weights(outputs, monkeypatch):
    args, model = SimpleNamespace(is_cvae=False), vae.VAE(784)
    assignment.save_model_weights(model, args)
    whole = (outputs / "vae.weights.h5").read_bytes()

    def full_disk(path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save_weights", full_disk)
    with pytest.raises(OSError):
        assignment.save_model_weights(model, args)
    assert (outputs / "vae.weights.h5").read_bytes() == whole
    assert len(list(outputs.iterdir())) == 1


def test_litter_of_a_killed_process_is_swept(outputs):
    outputs.mkdir()
    (outputs / ".999999999.vae.weights.h5").write_bytes(b"half")  # no such process: past the kernel's largest id
    (outputs / f".{os.getppid()}.vae.weights.h5").write_bytes(b"being written by another run")
    assignment.save_model_weights(vae.VAE(784), SimpleNamespace(is_cvae=False))
    assert sorted(f.name for f in outputs.iterdir()) == sorted([f".{os.getppid()}.vae.weights.h5", "vae.weights.h5"])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder where nobody may write, root included")
def test_outputs_that_cannot_be_written_are_said_before_an_epoch_is_spent(small_mnist, monkeypatch):
    monkeypatch.setattr(assignment, "OUTPUTS", pathlib.Path("/proc/self/outputs"))
    monkeypatch.setattr(assignment, "train_vae", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(OSError, match="make /proc/self/outputs a folder that you may write to"):
        assignment.main(assignment.parseArguments(["--batch_size", "64"]))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_weights(small_mnist, outputs, monkeypatch, loss):
    args = assignment.parseArguments(["--batch_size", "64", "--num_epochs", "2"])
    assignment.save_model_weights(vae.VAE(784), args)
    whole = (outputs / "vae.weights.h5").read_bytes()
    monkeypatch.setattr(assignment, "train_vae", lambda *a, **k: loss)
    with pytest.raises(ValueError, match="smaller --learning_rate"):
        assignment.main(args)
    assert (outputs / "vae.weights.h5").read_bytes() == whole


def test_pictures_have_the_grids_of_the_contract(outputs, monkeypatch):
    grids = {}
    draw = assignment._draw_grid
    monkeypatch.setattr(assignment, "_draw_grid", lambda name, images, columns, **k: (
        grids.update({name: (len(images), columns)}), draw(name, images, columns, **k)))
    assignment.show_vae_images(vae.VAE(784), 15)
    assignment.show_vae_interpolation(vae.VAE(784), 15)
    assignment.show_cvae_images(vae.CVAE(784), 15)
    assert grids == {"show_vae_images.png": (10, 10), "show_vae_interpolation.png": (144, 12),
                     "show_cvae_images.png": (100, 10)}
    assert sorted(f.name for f in outputs.iterdir()) == sorted(grids)


def test_a_grid_shows_each_image_in_its_cell(outputs):
    images = np.zeros((6, 1, 28, 28), np.float32)
    images[4] = 1.0  # second row, second of three columns
    assignment._draw_grid("grid.png", images, columns=3, title="")
    from matplotlib.image import imread

    drawn = imread(outputs / "grid.png")[..., 0]
    white = drawn[-int(0.05 * 112) - 112:, :][:112, int(0.05 * 112):][:, :168]
    cells = white[:112, :168].reshape(2, 56, 3, 56).mean(axis=(1, 3))
    assert cells[1, 1] > 0.9 and np.delete(cells.ravel(), 4).max() < 0.2


@needs_mnist
def test_real_mnist_is_read():
    data = assignment.load_data()
    assert data.name == "MNIST"
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
