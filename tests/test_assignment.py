"""Data, training, weights and pictures through the functions that callers use."""

import binascii
import copy
import functools
import gc
import hashlib
import inspect
import re
import sys
import weakref

import assignment
import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import arguments, keras_setting, needs_mnist, second_input, small_arrays

KINDS = [vae.VAE, vae.CVAE]


def loader(n=48, batch=16):
    """A caller's own, with float64 images; 40 of them end with a smaller batch."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(n, 1, 28, 28))
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, n))).batch(batch)


def train(model, batches, args=None):
    """`train_vae` of either kind of model."""
    return assignment.train_vae(model, batches, args or arguments(), isinstance(model, vae.CVAE))


def same_weights(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b))


CONTRACT = {
    vae: {
        "VAE": "(input_size, latent_size=15)",
        "CVAE": "(input_size, num_classes=10, latent_size=15)",
        "reparametrize": "(mu, logvar)",
        "reparameterization": "(mu, logvar)",
        "bce_function": "(x_hat, x)",
        "loss_function": "(x_hat, x, mu, logvar)",
    },
    assignment: {
        "parseArguments": "(argv=None)",
        "one_hot": "(labels, class_size)",
        "load_mnist": "(batch_size, buffer_size=1024)",
        "train_vae": "(model, train_loader, args, is_cvae=False)",
        "save_model_weights": "(model, args)",
        "load_weights": "(model)",
        "show_vae_images": "(model, latent_size)",
        "show_vae_interpolation": "(model, latent_size)",
        "show_cvae_images": "(model, latent_size)",
        "main": "(args)",
    },
}


@pytest.mark.parametrize("module, name", [(module, name) for module in CONTRACT for name in CONTRACT[module]])
def test_the_names_that_others_call_have_their_signatures(module, name):
    assert str(inspect.signature(getattr(module, name))) == CONTRACT[module][name]


# ------------------------------------------------------------------------------------------------------------ data


def test_one_hot():
    for labels in ([3, 0], np.array([[3], [0]]), tf.constant([3, 0], tf.uint8)):
        np.testing.assert_array_equal(assignment.one_hot(labels, 4), [[0, 0, 0, 1], [1, 0, 0, 0]])
    assert assignment.one_hot([1], 4).dtype == tf.float32 and assignment.one_hot([], 4).shape == (0, 4)


@pytest.mark.parametrize("labels", [[0, 4], [-1], [-1, 4]])
def test_one_hot_refuses_labels_out_of_range(labels):
    with pytest.raises(ValueError, match=f"labels must be from 0 to 3, got {min(labels)} to {max(labels)}"):
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
        assert x.shape == (64, 1, 28, 28) and x.dtype == np.float32 and y.shape == (64,) and y.dtype == np.int32
        seen += [np.round(image * 255).astype(np.uint8).tobytes() for image in x]
        assert [label_of[image] for image in seen[-64:]] == y.tolist()  # image and label stay together
    assert len(set(seen)) == len(seen) == 64 * 9
    assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])
    first_64 = {image.tobytes() for image in data["x_train"][:64]}
    assert len(first_64 & set(seen[:64])) < 32  # shuffled among all: 7 are expected


@pytest.mark.parametrize("batch_size", [0, -5, 601])
def test_batch_size_must_fit_the_data(small_mnist, batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be from 1 to 600, .* got {batch_size}"):
        assignment.load_mnist(batch_size)


def test_a_batch_may_be_all_the_data_or_one_image(small_mnist):
    assert len(assignment.load_mnist(600)) == 1 and len(assignment.load_mnist(1)) == 600


def broken(**changes):
    return {**small_arrays(20), **changes}


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x_train": np.zeros(3)}, "y_train"),
        (broken(x_train=np.zeros((20, 28, 27), np.uint8)), "28, 27"),
        (broken(x_test=np.zeros((50, 28, 28))), "float64"),
        (broken(x_test=np.zeros((0, 28, 28), np.uint8), y_test=np.zeros(0, int)), r"\(0, 28, 28\)"),
        (broken(y_test=np.zeros((50, 1), int)), r"got uint8 \(50, 28, 28\) and int64 \(50, 1\)"),
        (broken(y_train=np.zeros(19, int)), r"got uint8 \(20, 28, 28\) and int64 \(19,\)"),
        (broken(y_train=np.full(20, 10)), r"labels \(N,\) from 0 to 9"),
        (broken(y_test=np.full(50, -1)), r"labels \(N,\) from 0 to 9"),
        (broken(y_test=np.full(50, 0.5)), r"labels \(N,\) from 0 to 9"),
        (broken(y_train=np.array([{}] * 20, dtype=object)), "allow_pickle"),
    ],
    ids=["missing", "shape", "type", "empty", "label shape", "length", "label 10", "label -1", "label 0.5", "pickled"],
)
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
    with pytest.raises(ValueError, match="bad.npz .* unset it"):
        assignment.load_data()


def test_data_that_is_not_mnist_has_its_file_s_name(small_mnist, monkeypatch):
    assert assignment.load_data().name == "small.npz"
    small = small_arrays()
    everything = b"".join(small[name].astype(np.uint8).tobytes() for name in ("x_train", "y_train", "x_test", "y_test"))
    monkeypatch.setattr(assignment, "MNIST_CHECKSUM", binascii.crc32(everything))  # as if these arrays were MNIST's
    assignment.load_data.cache_clear()
    assert assignment.load_data().name == "MNIST"
    small["y_test"][-1] = 0
    assert assignment.new_data("other", *small.values()).name == "other"


@needs_mnist
def test_real_mnist_is_read_and_named():
    data = assignment.load_data()
    assert data.name == "MNIST"
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_without_mnist_digits_are_rendered_with_a_warning(monkeypatch, capsys, rendered):
    def no_download():
        raise Exception("no network")

    monkeypatch.delenv("MNIST_NPZ", raising=False)
    monkeypatch.setattr(tf.keras.datasets.mnist, "load_data", no_download)
    monkeypatch.setattr("rendered_digits.rendered_digits", lambda: (rendered[:2], rendered[2:]))
    data = assignment.load_data()
    assert "NOT MNIST" in capsys.readouterr().err and data.name == "rendered digits, not MNIST"
    assert data.x_train.shape == (60_000, 28, 28) and data.x_test.shape == (10_000, 28, 28)
    assert data.x_train.dtype == tf.uint8
    assert np.bincount(data.y_train, minlength=10).min() > 5_000
    # MNIST's mean pixel is 33, and the mean centre of mass is pixel 14, counted from 0
    x_train = data.x_train.numpy()
    assert 20 < x_train.mean() < 45
    rows = x_train.mean(axis=(0, 2), dtype=np.float64)
    assert abs(rows @ np.arange(28) / rows.sum() - 14) < 0.2


def test_rendered_digits_repeat_by_seed(rendered):
    from rendered_digits import rendered_digits

    digests = [
        hashlib.sha1(images.tobytes()).digest()
        for images in (rendered[0], rendered_digits(0)[0][0], rendered_digits(4)[0][0])
    ]
    assert digests[0] == digests[1] != digests[2]


# -------------------------------------------------------------------------------------------------------- training


def test_the_rate_warms_up_to_a_peak_that_grows_with_the_batch_and_decays():
    for batch_size, factor in ((128, 1.0), (1024, 4.757), (2048, 4.757), (64, 0.595)):
        peak = 1e-3 * factor
        for step, expected in (
            (1, peak / 400),
            (100, peak / 4),
            (300, 0.75 * peak),
            (400, peak),  # a straight line up
            (400 + 800, 0.505 * peak),
            (2000, 0.01 * peak),
            (9000, 0.01 * peak),
        ):  # half a cosine
            assert assignment.learning_rate_schedule(step, 2000, 1e-3, batch_size) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 101])
def test_a_short_run_does_not_jump(steps):
    rates = [0.0] + [assignment.learning_rate_schedule(step, steps, 1e-3, 128) for step in range(1, steps + 1)]
    assert np.diff(rates).max() < 1.01e-3 / 100 and min(rates[1:]) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_and_lowers_the_loss(kind):
    model = kind(784)
    totals = [train(model, loader(), arguments(num_epochs=30)) for _ in range(10)]
    assert totals[-1] < 0.98 * totals[0]
    assert steps_of(model) == 30


@pytest.mark.parametrize("kind", KINDS)
def test_the_total_is_the_sum_of_the_batch_losses(kind):
    model, batches = kind(784), list(loader(40))
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))  # no noise
    expected = 0
    for x, y in batches:
        x_hat, mu, logvar = model(x, *second_input(model, y.numpy()))
        expected += float(vae.loss_function(x_hat, x, mu, logvar))
    assert train(model, batches, arguments(1e-12)) == pytest.approx(expected, rel=1e-4)


def test_a_model_that_can_only_read_the_class_learns_two_classes_apart():
    """Training hands each image its own label: a model that reads only the class learns two classes apart."""
    images = np.zeros((64, 1, 28, 28), np.float32)
    images[::2] = 1.0
    batch = [(images, np.arange(64) % 2)]
    model = vae.CVAE(784)
    for _ in range(60):
        train(model, batch, arguments(num_epochs=60))
    drawn = model.decoder(tf.concat([tf.zeros((2, 15)), tf.eye(2, 10)], axis=-1)).numpy().mean(axis=(1, 2, 3))
    assert drawn[0] > 0.7 and drawn[1] < 0.3


def test_the_update_is_adam_s(monkeypatch):
    """Kingma & Ba, algorithm 1: the first update is the rate, against the gradient."""
    model = vae.VAE(784)
    x, _ = next(iter(loader()))
    tf.keras.utils.set_random_seed(1)
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))  # no noise
    with tf.GradientTape() as tape:
        x_hat, mu, logvar = model(x)
        loss = vae.loss_function(x_hat, x, mu, logvar)
    gradients = [np.asarray(g) for g in tape.gradient(loss, model.trainable_variables)]
    before = model.get_weights()
    train(model, [(x, np.zeros(16))], arguments(0.05, num_epochs=500))
    rate = 0.05 * (16 / 128) ** 0.75 / 100  # the first of 100 steps of warm-up
    for old, new, gradient in zip(before, model.get_weights(), gradients):
        clear = np.abs(gradient) > 1e-4 * np.abs(gradient).max() + 1e-4
        np.testing.assert_allclose((old - new)[clear], rate * np.sign(gradient)[clear], rtol=0.02, atol=1e-6)


def steps_of(model):
    return int(tf.convert_to_tensor(model.optimizer.iterations))


def test_muon_is_used_for_large_batches_alone_whatever_came_before():
    """Its update is nearly orthogonal: the largest singular value of a kernel's change tells it from Adam's."""

    def spectral_norm(batch_size):
        before = kernel.numpy()
        rng = np.random.default_rng(0)
        train(
            model, [(rng.uniform(size=(batch_size, 1, 28, 28)), np.zeros(batch_size))], arguments(1e-3, num_epochs=100)
        )
        rate = assignment.learning_rate_schedule(steps_of(model), 100, 1e-3, batch_size)
        return np.linalg.norm(kernel.numpy() - before, 2) / (rate * 0.2 * len(before) ** 0.5)

    model = vae.VAE(784)
    kernel = model.encoder.get_layer("hidden_2").kernel
    model.decoder.set_weights([np.random.default_rng(0).normal(0, 0.1, w.shape) for w in model.decoder.get_weights()])
    small, large = vae.MUON_BATCH_SIZE - 1, vae.MUON_BATCH_SIZE
    assert spectral_norm(small) > 2
    assert 0.6 < spectral_norm(large) < 1.3
    assert spectral_norm(small) > 2  # it is not the first batch that decides for good


def traces(model):
    return model.train_function.experimental_get_tracing_count()


def test_the_step_lives_with_its_model_and_each_shape_is_compiled_once():
    models = [vae.VAE(784) for _ in range(3)]
    for epoch in range(3):
        for model in models:
            train(model, loader(40), arguments(num_epochs=3))
            assert steps_of(model) == 3 * (epoch + 1)
    assert [traces(model) for model in models] == [2] * 3  # one a shape of batch


@pytest.mark.parametrize("trained", [False, True])
def test_a_model_that_is_not_used_any_more_is_freed(trained, small_mnist):
    model = vae.VAE(784)
    if trained:
        train(model, loader())
        assignment.evaluate(model)
    kernel = weakref.ref(model.mu_layer.kernel)
    del model
    tf.keras.backend.clear_session()
    gc.collect()
    assert kernel() is None


def test_a_trained_model_can_be_copied_and_saved(tmp_path):
    model = vae.CVAE(784)
    train(model, loader())
    model.save(tmp_path / "m.keras")
    for other in (copy.deepcopy(model), tf.keras.models.load_model(tmp_path / "m.keras")):
        assert same_weights(model.get_weights(), other.get_weights())
        assert train(other, loader()) > 0 and steps_of(other) == 3
        assert not same_weights(model.get_weights(), other.get_weights())
    assert steps_of(model) == 3


def test_the_schedule_spans_the_epochs_of_a_loader_that_knows_its_length_or_ten_of_mnist(monkeypatch):
    asked, schedule = [], assignment.learning_rate_schedule
    monkeypatch.setattr(assignment, "learning_rate_schedule", lambda *given: asked.append(given) or schedule(*given))
    model = vae.VAE(784)
    train(model, loader(), arguments(1e-3, num_epochs=7))
    train(model, (batch for batch in loader(32)), arguments(2e-3))
    assert asked == [
        *[(step, 7 * 3, 1e-3, 16) for step in (1, 2, 3)],
        *[(step, 10 * 3750, 2e-3, 16) for step in (4, 5)],
    ]


def test_a_new_learning_rate_counts_at_once():
    model, batches = vae.VAE(784), list(loader())
    moved = []
    for learning_rate in (1e-3, 1e-9, 1e-3):
        before = model.get_weights()
        train(model, batches, arguments(learning_rate))
        moved.append(max(np.abs(a - b).max() for a, b in zip(before, model.get_weights())))
    assert moved[1] < 1e-6 < 1e-5 < min(moved[0], moved[2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_can_be_frozen_and_trained_again(kind):
    model = kind(784)
    model.encoder.trainable = False  # from the first step on
    for trainable in (False, True, False):
        model.encoder.trainable = trainable
        before = model.encoder.get_weights(), model.decoder.get_weights()
        train(model, loader())
        assert same_weights(before[0], model.encoder.get_weights()) is not trainable
        assert not same_weights(before[1], model.decoder.get_weights())
    assert steps_of(model) == 9


def test_a_caller_s_optimizer_keeps_its_rate():
    """One step of gradient descent: 2e-4 times the gradient."""
    model = vae.VAE(784)
    train(model, loader())
    model.optimizer = tf.keras.optimizers.SGD(2e-4)
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))  # no noise
    images, labels = next(iter(loader()))
    with tf.GradientTape() as tape:
        x_hat, mu, logvar = model(images)
        loss = vae.loss_function(x_hat, images, mu, logvar)
    bias = model.decoder.get_layer("pixels").bias
    gradient, before = tape.gradient(loss, model.trainable_variables)[-1], bias.numpy()
    train(model, [(images, labels)], arguments(1.0))
    np.testing.assert_allclose(before - bias.numpy(), 2e-4 * np.asarray(gradient), rtol=0.01, atol=1e-7)


def test_a_caller_s_optimizer_keeps_its_schedule_and_a_new_one_is_used():
    model = vae.CVAE(784)
    for _ in range(2):
        schedule = tf.keras.optimizers.schedules.PiecewiseConstantDecay([2], [1e-3, 0.0])
        model.optimizer = tf.keras.optimizers.SGD(schedule)
        moved = []
        for _ in range(2):
            before = model.get_weights()
            train(model, loader())
            moved.append(not same_weights(before, model.get_weights()))
        assert moved == [True, False] and steps_of(model) == 6  # the rate is 0 from the fourth step on


def test_a_caller_s_adam_trains_a_model_whose_encoder_was_frozen_before():
    model = vae.CVAE(784)
    model.encoder.trainable = False
    train(model, loader())
    model.encoder.trainable = True
    model.optimizer = tf.keras.optimizers.Adam(1e-3)
    before = model.encoder.get_weights()
    train(model, loader())
    assert steps_of(model) == 3 and not same_weights(before, model.encoder.get_weights())


def test_building_a_trained_model_again_keeps_the_optimizer_s_state():
    model = vae.VAE(784)
    train(model, loader())
    model.build((None, 1, 28, 28))
    assert steps_of(model) == 3
    train(model, loader())
    assert steps_of(model) == 6


@pytest.mark.parametrize("images", [[255.0], [-0.5, 1.0], [np.nan], [0.0, 1.001]])
def test_images_outside_of_0_and_1_are_refused_before_a_step(images):
    model = vae.VAE(784)
    before = model.get_weights()
    batch = np.resize(images, (4, 1, 28, 28)), np.zeros(4)
    with pytest.raises(ValueError, match="pixels must be from 0 to 1, got "):
        train(model, [batch])
    assert same_weights(before, model.get_weights()) and steps_of(model) == 0


def test_the_message_gives_the_range_that_was_found():
    with pytest.raises(ValueError, match="got -2 to 255$"):
        train(vae.VAE(784), [(np.resize([-2.0, 255.0], (4, 1, 28, 28)), np.zeros(4))])


def test_labels_that_are_no_class_are_refused_before_a_step():
    with pytest.raises(ValueError, match="labels must be from 0 to 9, got 1 to 10"):
        train(vae.CVAE(784), [(np.zeros((2, 1, 28, 28)), [1, 10])])


def test_a_loader_without_batches_is_an_error():
    batches = iter(list(loader()))
    model = vae.VAE(784)
    assert train(model, batches) > 0
    with pytest.raises(ValueError, match="no batches: it can be used for one epoch only"):
        train(model, batches)
    for empty in ([], loader(8).take(0)):
        with pytest.raises(ValueError, match="no batches: it is empty"):
            train(model, empty)


@pytest.mark.parametrize(
    "batch, message",
    [
        ((np.zeros((64, 28, 28, 1)), np.zeros(64)), "images must be (N, 1, 28, 28), got (64, 28, 28, 1)"),
        ((np.zeros((64, 784)), np.zeros(64)), "images must be (N, 1, 28, 28), got (64, 784)"),
        ((np.zeros((4, 1, 14, 14)), np.zeros(4)), "images must be (N, 1, 28, 28), got (4, 1, 14, 14)"),
        ((np.zeros((4, 1, 28, 28)), np.zeros((4, 10))), "labels must be (4,), got (4, 10)"),
        ((np.zeros((4, 1, 28, 28)), np.zeros(3)), "labels must be (4,), got (3,)"),
        (np.zeros((2, 1, 28, 28)), "a batch must be a pair (images, labels), got a ndarray"),
        ((np.zeros((2, 1, 28, 28)),), "a batch must be a pair (images, labels), got a tuple"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_other_shapes_are_one_line(kind, batch, message):
    model = kind(784)
    with pytest.raises(ValueError) as error:
        train(model, [batch])
    assert str(error.value) == message and steps_of(model) == 0


def test_labels_may_be_a_column_and_batches_lists():
    images = np.random.default_rng(0).uniform(size=(4, 1, 28, 28))
    assert train(vae.CVAE(784), [[images.tolist(), [[1], [2], [3], [4]]]]) > 0


def test_a_loader_that_repeats_without_end_is_refused():
    with pytest.raises(ValueError, match="repeats without end"):
        train(vae.VAE(784), loader().repeat())
    assert train(vae.VAE(784), loader().repeat(2)) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_is_cvae_must_suit_the_model(kind):
    is_cvae, model = kind is vae.CVAE, kind(784)
    with pytest.raises(TypeError, match=f"is_cvae={is_cvae}"):
        assignment.train_vae(model, loader(), arguments(), is_cvae=not is_cvae)
    assert steps_of(model) == 0
    assert train(model, loader()) > 0 and steps_of(model) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("setting", [{"policy": "mixed_float16"}, {"floatx": "float64"}])
def test_both_models_learn_under_every_policy_of_keras(kind, setting):
    with keras_setting(**setting):
        model = kind(784)
        totals = [train(model, loader(40, 20), arguments(num_epochs=30)) for _ in range(12)]
    assert totals[-1] < 0.98 * totals[0]


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_is_the_loss_on_the_test_images(kind, monkeypatch):
    model = kind(784)
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))  # no noise
    images, y = np.random.default_rng(0).integers(0, 256, (2600, 28, 28), np.uint8), np.arange(2600) % 10
    data = assignment.new_data("more", images[:1], y[:1], images, y)
    monkeypatch.setattr(assignment, "load_data", functools.lru_cache(lambda: data))
    x = images[:, None] / np.float32(255)
    x_hat, mu, logvar = map(np.asarray, model(x, *second_input(model, y)))
    expected = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat), dtype=np.float64) / 2600
    expected_kl = np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar)) / 2600
    reconstruction, kl, means = assignment.evaluate(model)
    assert reconstruction == pytest.approx(expected, rel=1e-6) and kl == pytest.approx(expected_kl, rel=1e-5)
    np.testing.assert_allclose(means, mu, rtol=1e-4, atol=1e-5)


def test_a_terminal_shows_a_bar_with_the_loss(small_mnist, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    model = vae.VAE(784)
    total = train(model, assignment.load_mnist(20))
    shown = capsys.readouterr().out
    assert "10/30" in shown and "30/30" in shown
    last = float(re.findall(r"loss: ([\d.]+)", shown)[-1])
    assert last == pytest.approx(total / 30, abs=1e-3)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    train(model, assignment.load_mnist(20))
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(sys.modules, "ipykernel", None)  # as in a notebook
    train(model, assignment.load_mnist(20))
    assert "30/30" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdout", None)  # as in pythonw
    train(model, assignment.load_mnist(20))


# --------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_loaded_as_saved_and_no_other_file_is_left(outputs, kind):
    saved, loaded = kind(784), kind(784)
    saved.set_weights([weights + 1.0 for weights in saved.get_weights()])
    assignment.save_model_weights(saved, arguments(is_cvae=kind is vae.CVAE))
    assert assignment.load_weights(loaded) is loaded
    assert same_weights(saved.get_weights(), loaded.get_weights())
    assert [f.name for f in outputs.iterdir()] == [f"{kind.__name__.lower()}.weights.h5"]
    assert (outputs / f"{kind.__name__.lower()}.weights.h5").stat().st_size < 1.1 * 4 * saved.count_params()


def test_weights_that_do_not_fit_leave_the_model_as_it_was(outputs):
    with pytest.raises(FileNotFoundError, match="train first"):
        assignment.load_weights(vae.VAE(784))
    assignment.save_model_weights(vae.VAE(784, latent_size=7), arguments(is_cvae=False))
    whole = (outputs / "vae.weights.h5").read_bytes()
    (outputs / "cvae.weights.h5").write_bytes(whole)  # the other model's
    for kind, content in (
        (vae.VAE, whole),
        (vae.CVAE, whole),
        (vae.VAE, whole[:100_000]),
        (vae.VAE, b"foreign"),
        (vae.VAE, b""),
    ):
        model = kind(784)
        before = model.get_weights()
        (outputs / f"{kind.__name__.lower()}.weights.h5").write_bytes(content)
        with pytest.raises(ValueError, match=f"does not fit this {kind.__name__} .*15 latents.*train again") as error:
            assignment.load_weights(model)
        assert "\n" not in str(error.value) and "Keras 3" in str(error.value)
        assert same_weights(before, model.get_weights())


def test_a_failing_save_leaves_the_last_weights(outputs, monkeypatch):
    args, model = arguments(is_cvae=False), vae.VAE(784)
    assignment.save_model_weights(model, args)
    whole = (outputs / "vae.weights.h5").read_bytes()

    def full_disk(path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    (outputs / "vae.run.json").write_text("{}")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device"):
        patch.setattr(model, "save_weights", full_disk)
        assignment.save_model_weights(model, args)
    assert (outputs / "vae.weights.h5").read_bytes() == whole and (outputs / "vae.run.json").exists()
    assignment.save_model_weights(model, args)  # what the failure left is not in the way
    assert [f.name for f in outputs.iterdir()] == ["vae.weights.h5"]


# -------------------------------------------------------------------------------------------------------- pictures


class Decoder:
    """A decoder whose images tell what it was given: row i of an image is filled with input i, if there is one."""

    def __call__(self, inputs):
        inputs = np.asarray(inputs)
        images = np.zeros((len(inputs), 1, 28, 28), np.float32)
        images[:, 0, : inputs.shape[1]] = inputs[:, :28, None]
        return tf.constant(images)


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, by the name of the file: the array of the images, and the figure."""
    pictures = {}

    def keep(figure, target):
        images = figure.axes[0].get_images()
        pictures[target.name] = (images[0].get_array() if images else None), figure

    monkeypatch.setattr(assignment, "save_figure", keep)
    return pictures


def cells(grid):
    """The images (rows, columns, 28, 28) of a grid."""
    rows, columns = np.array(grid.shape) // 28
    return np.asarray(grid).reshape(rows, 28, columns, 28).swapaxes(1, 2)


class StandIn:
    """Of a model, what the pictures of samples need."""

    decoder = Decoder()
    num_classes = 10


def test_row_c_of_the_cvae_s_picture_is_class_c_with_fresh_noise(drawn):
    assignment.show_cvae_images(StandIn(), 15)
    grid, figure = drawn["show_cvae_images.png"]
    images = cells(grid)
    assert images.shape == (10, 10, 28, 28)
    np.testing.assert_array_equal(images[:, :, 15:25, 0], np.repeat(np.eye(10)[:, None], 10, axis=1))
    noise = images[:, :, :15, 0]
    assert len(np.unique(noise)) == noise.size and abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    assert figure.texts[0].get_text() == "StandIn: samples by class"
    assert [text.get_text() for text in figure.axes[0].texts] == [str(digit) for digit in range(10)]
    assert [text.get_position()[1] for text in figure.axes[0].texts] == [digit + 0.5 for digit in range(10)]
    assert list(figure.axes[0].get_images()[0].get_extent()) == [
        0,
        10,
        10,
        0,
    ]  # a row of images is 1 high, as labels are


def test_a_cvae_of_other_classes_has_a_row_for_each(drawn):
    """An alphabet: 26 classes, of which the pictures show all."""
    model = vae.CVAE(784, num_classes=26)
    train(model, loader())
    assignment.show_cvae_images(model, 15)
    grid, figure = drawn["show_cvae_images.png"]
    assert cells(grid).shape == (26, 10, 28, 28)
    assert [text.get_text() for text in figure.axes[0].texts] == [str(label) for label in range(26)]


def test_the_class_of_an_image_is_by_bayes_rule(rng_classes):
    """exp(-loss(x, c)) over its sum, with NumPy's loss and z = mu."""
    model, x = rng_classes
    losses = []
    for c in np.eye(3)[:, None].repeat(len(x), axis=1):
        h = model.encoder(np.concatenate([x.reshape(len(x), 64), c], axis=1).astype(np.float32))
        mu, logvar = (np.asarray(layer(h), float) for layer in (model.mu_layer, model.logvar_layer))
        x_hat = np.asarray(model.decoder(np.concatenate([mu, c], axis=1).astype(np.float32)), float)
        bce = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat), axis=(1, 2, 3))
        losses.append(bce + np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar), axis=1))
    likelihood = np.exp(np.min(losses, axis=0) - np.array(losses)).T
    expected = likelihood / likelihood.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(assignment.classify(model, x), expected, atol=1e-3)
    assert len(set(expected.argmax(axis=1))) > 1 and 0.1 < expected.max(axis=1).min() < 0.9  # not all is clear


@pytest.fixture
def rng_classes():
    """A CVAE of three classes and 8 x 8 pixels with random weights, and images."""
    rng, model = np.random.default_rng(0), vae.CVAE(64, num_classes=3, latent_size=2)
    model.set_weights([rng.normal(0, 0.05, w.shape) for w in model.get_weights()])
    return model, rng.uniform(size=(20, 1, 8, 8)).astype(np.float32)


def test_a_class_is_read_under_mixed_precision(rng_classes):
    with keras_setting(policy="mixed_float16"):
        model = vae.CVAE(64, num_classes=3, latent_size=2)
    model.set_weights(rng_classes[0].get_weights())
    np.testing.assert_allclose(assignment.classify(model, rng_classes[1]), assignment.classify(*rng_classes), atol=0.02)


def test_the_picture_of_classes_decodes_each_z_as_each_class_and_frames_the_one_read(drawn, small_mnist, monkeypatch):
    model, data = vae.CVAE(784), small_arrays()
    model.decoder.set_weights([np.random.default_rng(0).normal(0, 0.2, w.shape) for w in model.decoder.get_weights()])
    read = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])
    monkeypatch.setattr(assignment, "classify", lambda model, images: np.eye(10)[read[: len(images)]])
    assignment.show_cvae_classes(model)
    grid, figure = drawn["cvae_classes.png"]
    images = cells(grid)
    assert images.shape == (10, 11, 28, 28)
    x = data["x_test"][:10] / np.float32(255)  # the labels are 0 to 9, in this order
    np.testing.assert_allclose(images[:, 0], x, atol=1e-6)
    mu = np.asarray(model(x[:, None], np.eye(10))[1])
    for row, column in ((0, 0), (2, 7), (9, 4)):
        expected = model.decoder(np.concatenate([mu[row], np.eye(10)[column]])[None].astype(np.float32))
        np.testing.assert_allclose(images[row, 1 + column], expected[0, 0], atol=1e-5)
    frames = [(float(frame.get_ydata()[0]), float(frame.get_xdata()[0])) for frame in figure.axes[0].lines]
    assert frames == [(row + 0.5, 1 + column + 0.5) for row, column in enumerate(read)]


def test_the_vae_s_picture_is_ten_samples_of_the_prior(drawn):
    assignment.show_vae_images(StandIn(), 15)
    images = cells(drawn["show_vae_images.png"][0])
    assert images.shape == (1, 10, 28, 28)
    noise = images[0, :, :15, 0]
    assert len(np.unique(noise)) == 150 and abs(noise.mean()) < 0.3 and abs(noise.std() - 1) < 0.25


def test_the_interpolation_goes_between_its_corners(drawn):
    assignment.show_vae_interpolation(StandIn(), 15)
    grid, figure = drawn["show_vae_interpolation.png"]
    assert figure.texts[0].get_text() == "StandIn: between four samples"
    z = cells(grid)[:, :, :15, 0]
    assert z.shape == (12, 12, 15)
    corners = z[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert len(np.unique(corners)) == 60 and abs(corners.std() - 1) < 0.35
    for i in (0, 4, 11):
        for j in (0, 7, 11):
            s, t = i / 11, j / 11
            expected = (1 - s) * ((1 - t) * corners[0] + t * corners[1]) + s * ((1 - t) * corners[2] + t * corners[3])
            np.testing.assert_allclose(z[i, j], expected, atol=1e-5)


def test_the_manifold_is_the_plane_at_the_prior_s_quantiles(drawn):
    assignment.show_vae_manifold(StandIn())
    grid, figure = drawn["vae_manifold.png"]
    assert figure.texts[0].get_text() == "StandIn: 20 x 20 grid over its two latents"
    z = cells(grid)[:, :, :2, 0]
    assert z.shape == (20, 20, 2)
    assert z[0, 0, 0] == pytest.approx(-1.95996, abs=1e-4)  # the 2.5 % quantile, from a table
    assert z[0, 0, 1] == pytest.approx(1.95996, abs=1e-4) and z[-1, -1, 0] == pytest.approx(1.95996, abs=1e-4)
    assert (np.diff(z[..., 0], axis=1) > 0).all() and (np.diff(z[..., 1], axis=0) < 0).all()
    assert np.ptp(z[..., 0], axis=0).max() == np.ptp(z[..., 1], axis=1).max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_reconstructions_stand_below_their_images_two_of_each_digit(kind, drawn, small_mnist):
    model = kind(784)
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))  # no noise
    model.decoder.set_weights([np.random.default_rng(0).normal(0, 0.2, w.shape) for w in model.decoder.get_weights()])
    assignment.show_reconstructions(model)
    data = small_arrays()
    images = cells(drawn[f"{kind.__name__.lower()}_reconstructions.png"][0])
    assert images.shape == (2, 20, 28, 28)
    chosen = [i for digit in range(10) for i in (digit, digit + 10)]  # the labels are 0 to 9, again and again
    x = data["x_test"][chosen] / np.float32(255)
    np.testing.assert_allclose(images[0], x, atol=1e-6)
    x_hat = model(x[:, None], *second_input(model, np.repeat(np.arange(10), 2)))[0]
    np.testing.assert_allclose(images[1], x_hat[:, 0], atol=1e-3)
    assert len(np.unique(images[1].reshape(20, -1), axis=0)) == 20  # no two are the same
    figure = drawn[f"{kind.__name__.lower()}_reconstructions.png"][1]
    assert figure.texts[0].get_text() == f"{kind.__name__}: test images and reconstructions"
    assert [text.get_text() for text in figure.axes[0].texts] == ["$x$", r"$\hat{x}$"]


def test_the_latent_space_shows_the_posterior_means_on_their_principal_axes(drawn, small_mnist, monkeypatch):
    rng = np.random.default_rng(0)
    u, s, v = np.linalg.svd(rng.normal(size=(50, 3)) * [1, 5, 2], full_matrices=False)
    u -= u.mean(axis=0)
    mu = (u * s) @ v
    monkeypatch.setattr(assignment, "evaluate", lambda model: (0, 0, mu))
    assignment.show_latent_space(vae.CVAE(784, latent_size=3))
    plot = drawn["cvae_latent_space.png"][1].axes[0]
    points = plot.collections[0].get_offsets()
    _, variances, axes = np.linalg.svd(mu - mu.mean(axis=0), full_matrices=False)
    expected = mu @ axes[:2].T
    for i in (0, 1):
        sign = np.sign(points[:, i] @ expected[:, i])
        np.testing.assert_allclose(sign * points[:, i], expected[:, i], atol=1e-6)
    shares = variances**2 / np.sum(variances**2)
    assert plot.get_xlabel() == f"principal component 1, {100 * shares[0]:.0f}% of the variance"
    assert plot.get_ylabel() == f"principal component 2, {100 * shares[1]:.0f}% of the variance"
    np.testing.assert_array_equal(plot.collections[0].get_array(), np.arange(50) % 10)
    assert plot.get_title() == "CVAE: posterior means of the test images"
    assert len(np.unique(plot.collections[0].to_rgba(np.arange(10)), axis=0)) == 10  # ten colours
    legend = drawn["cvae_latent_space.png"][1].legends[0]
    assert legend.get_title().get_text() == "digit"
    assert [text.get_text()[-3] for text in legend.get_texts()] == list("0123456789")


def test_the_loss_curve_shows_each_term_by_epoch(drawn):
    assignment.show_loss_curve(vae.CVAE(784), [(5.0, 3.0, 1.0), (4.0, 2.5, 0.5)])
    plot = drawn["cvae_loss.png"][1].axes[0]
    lines = {line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in plot.lines}
    assert lines == {
        "train loss (average over the epoch)": ([1, 2], [5.0, 4.0]),
        "test loss": ([1, 2], [4.0, 3.0]),
        "test reconstruction": ([1, 2], [3.0, 2.5]),
        "test KL": ([1, 2], [1.0, 0.5]),
    }
    assert plot.get_ylim() == (0, 5.5)
    assert (plot.get_title(), plot.get_xlabel(), plot.get_ylabel()) == ("CVAE: loss", "epoch", "nats per image")
    assert [text.get_text() for text in plot.get_legend().get_texts()] == list(lines)
    assert all(tick == int(tick) for tick in plot.get_xticks())  # there is no epoch 1.5


def test_titles_name_the_data(drawn):
    model = StandIn()
    model.data_name = "rendered digits"
    assignment.show_vae_images(model, 15)
    assert drawn["show_vae_images.png"][1].texts[0].get_text() == "StandIn: samples (rendered digits)"


def test_a_grid_is_written_with_each_image_in_its_cell_white_on_black(outputs, monkeypatch):
    from matplotlib.image import imread

    images = np.zeros((6, 1, 28, 28), np.float32)
    images[4] = 1.0  # second row, second of three columns
    images[4, 0, :14] = 0.5
    figures, save_figure = [], assignment.save_figure
    monkeypatch.setattr(assignment, "save_figure", lambda *given: figures.append(given[0]) or save_figure(*given))
    assignment.draw_grid("grid.png", images, columns=3, title="")
    png = imread(outputs / "grid.png")[..., 0]
    inches = 3 * 0.5 + 0.1, 2 * 0.5 + 0.4  # half an inch an image, a margin, and a strip for the title
    assert png.shape[::-1] == tuple(int(112 * side) for side in inches) and not figures[0].axes[0].axison
    left, below = round(0.05 * 112), round(0.05 * 112)
    pixels = png[len(png) - below - 112 : len(png) - below, left : left + 168].reshape(2, 56, 3, 56).swapaxes(1, 2)
    assert pixels[1, 1, 30:-2, 2:-2].min() > 0.95 and pixels[1, 1, 2:26, 2:-2].mean() == pytest.approx(0.5, abs=0.03)
    assert max(pixels[i, j, 2:-2, 2:-2].max() for i in (0, 1) for j in (0, 1, 2) if (i, j) != (1, 1)) < 0.05
