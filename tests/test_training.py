"""The handout's functions of data and training, called as its graders and notebooks call them."""

import gc
import inspect
import re
import sys
import weakref
from unittest import mock

import assignment
import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import keras_setting, needs_mnist, same_weights, second_input, small_arrays, steps_of
from extras.evaluation import evaluate

KINDS = [vae.VAE, vae.CVAE]
pytestmark = pytest.mark.usefixtures("narrow")


def loader(n=48, batch=16):
    """A caller's own batches of 8 x 8 images in float64; 40 images end with a smaller batch."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(n, 1, 8, 8))
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, n))).batch(batch)


def train(model, batches):
    """`train_vae` of any type of model: the sum of the losses."""
    return float(assignment.train_vae(model, batches, None, hasattr(model, "num_classes")))


def without_noise(model):
    """The model with a sigma of nearly 0, so that z is mu."""
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))
    return model


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
        "parseArguments": "()",
        "one_hot": "(labels, class_size)",
        "load_mnist": "(batch_size, buffer_size=1024)",
        "train_vae": "(model, train_loader, args, is_cvae=False)",
        "save_model_weights": "(model, args)",
        "load_weights": "(model)",
        "show_vae_images": "(model, latent_size)",
        "show_vae_interpolation": "(model, latent_size)",
        "show_cvae_images": "(model, latent_size)",
        "main": "(args)",
        "reparametrize": "(mu, logvar)",
        "bce_function": "(x_hat, x)",
        "loss_function": "(x_hat, x, mu, logvar)",
    },
}


def test_the_names_that_others_call_have_their_signatures():
    for module, signatures in CONTRACT.items():
        assert {name: str(inspect.signature(getattr(module, name))) for name in signatures} == signatures


# ------------------------------------------------------------------------------------------------------------ data


def test_one_hot():
    for labels in ([3, 0], np.array([[3], [0]]), tf.constant([3, 0], tf.uint8), np.array([3.0, 0.0])):
        np.testing.assert_array_equal(assignment.one_hot(labels, 4), [[0, 0, 0, 1], [1, 0, 0, 0]])
    assert assignment.one_hot([1], 4).dtype == tf.float32 and assignment.one_hot([], 4).shape == (0, 4)
    np.testing.assert_array_equal(assignment.one_hot(2, 4), [0, 0, 1, 0])


@pytest.mark.parametrize("labels", [[0, 4], [-1], [-1, 4]])
def test_one_hot_refuses_labels_out_of_range(labels):
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be from 0 to 3"):
        assignment.one_hot(labels, 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be from 0 to 3"):
        list(tf.data.Dataset.from_tensors(labels).map(lambda batch: assignment.one_hot(batch, 4)))


def test_one_hot_in_a_pipeline():
    """One label or a batch of them."""
    for labels, shape in (([2, 0], (4,)), ([[2], [0]], (1, 4))):
        batches = tf.data.Dataset.from_tensor_slices(labels)
        if shape == (1, 4):
            batches = batches.batch(1)
        encoded = list(batches.map(lambda label: assignment.one_hot(label, 4)))
        np.testing.assert_array_equal(np.reshape(encoded, (2, 4)), [[0, 0, 1, 0], [1, 0, 0, 0]])
        assert encoded[0].shape == shape


def test_batches_are_the_data_reshuffled_each_epoch(small_mnist):
    batches = assignment.load_mnist(64)
    assert len(batches) == 600 // 64
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


def test_the_batch_size_must_fit_the_data(small_mnist):
    for batch_size in (0, -5, 601):
        with pytest.raises(ValueError, match=f"batch_size must be from 1 to 600, .* got {batch_size}"):
            assignment.load_mnist(batch_size)
    assert len(assignment.load_mnist(600)) == 1 and len(assignment.load_mnist(1)) == 600


# --------------------------------------------------------------------------------------------------- one step, an epoch


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_optimizer_s_along_the_gradient_of_the_loss(kind):
    """Gradient descent on one weight, its gradient by finite differences."""
    model = without_noise(kind(64))
    model.optimizer = tf.keras.optimizers.SGD(1e-3)
    x, y = next(iter(loader()))
    x = tf.cast(x, tf.float32)
    bias = model.decoder.get_layer("pixels").bias

    def loss():
        x_hat, mu, logvar = model(x, *second_input(model, y.numpy()))
        return float(vae.loss_function(x_hat, x, mu, logvar))

    before, at_start = bias.numpy(), loss()
    losses = []
    for shift in (0.1, -0.1):
        bias.assign(before + shift * np.eye(64, dtype=np.float32)[5])
        losses.append(loss())
    bias.assign(before)
    returned = assignment.train_step(model, x, y, is_cvae=kind is vae.CVAE)
    assert float(returned) == pytest.approx(at_start, rel=1e-5)
    assert before[5] - bias.numpy()[5] == pytest.approx(1e-3 * (losses[0] - losses[1]) / 0.2, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_training_continues_and_lowers_the_loss(kind):
    model = kind(64)
    totals = [train(model, loader()) for _ in range(10)]
    assert totals[-1] < 0.98 * totals[0]
    assert steps_of(model) == 30


@pytest.mark.parametrize("kind", KINDS)
def test_the_total_is_a_scalar_tensor_the_sum_of_the_batch_losses(kind):
    model, batches = without_noise(kind(64)), list(loader(40))
    model.optimizer = tf.keras.optimizers.SGD(0.0)
    expected = 0
    for x, y in batches:
        x_hat, mu, logvar = model(x, *second_input(model, y.numpy()))
        expected += float(vae.loss_function(x_hat, x, mu, logvar))
    total = assignment.train_vae(model, batches, None, is_cvae=kind is vae.CVAE)
    assert total.shape == () and total.numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("args", [None, {}, "args", mock.Mock()])
def test_args_are_not_read(args):
    assert np.isfinite(assignment.train_vae(vae.VAE(64), loader(), args))


def test_weights_that_are_changed_between_two_epochs_stay_changed():
    """With all layers trained, and with some of them frozen."""
    model = vae.VAE(64)
    train(model, loader())
    rng = np.random.default_rng(0)
    model.optimizer.learning_rate = 0.0
    for trainable in (True, False):
        model.encoder.trainable = trainable
        other = [rng.normal(0, 0.1, w.shape) for w in model.get_weights()]
        model.set_weights(other)
        train(model, loader())
        for ours, theirs in zip(model.get_weights(), other):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_cvae_learns_from_the_labels():
    """Images of one class are black, of the other white: a model that reads only the class learns them apart."""
    images = np.zeros((64, 1, 8, 8), np.float32)
    images[::2] = 1.0
    model = vae.CVAE(64)
    train(model, [(images, np.arange(64) % 2)] * 200)
    drawn = model.decode(tf.zeros((2, 15)), tf.eye(2, 10)).numpy().mean(axis=(1, 2, 3))
    assert drawn[0] > 0.7 and drawn[1] < 0.3


def test_each_step_has_noise_of_its_own_which_follows_the_seed():
    """A whole training; then steps that leave the weights, so that what differs is the noise."""
    rng = np.random.default_rng(0)
    batch = rng.uniform(size=(20, 1, 8, 8)), rng.integers(0, 10, 20)
    losses = []
    for seed in (1, 1, 2):
        tf.keras.utils.set_random_seed(seed)
        model = vae.CVAE(64)
        losses.append([train(model, [batch] * 3) for _ in range(2)])
    assert losses[0] == losses[1] and losses[0][1] != losses[2][1]
    model.optimizer = tf.keras.optimizers.SGD(0.0)
    assert train(model, [batch]) != train(model, [batch])


@needs_mnist
@pytest.mark.parametrize("kind", KINDS)
def test_two_epochs_of_real_mnist_teach_more_than_the_mean_image(kind):
    """The loss of the mean image is 206 nats."""
    model = kind(784)
    for _ in range(2):
        train(model, assignment.load_mnist(1024))
    assert evaluate(model, assignment.load_data()).loss < 195


@pytest.mark.parametrize("kind", KINDS)
def test_a_grader_s_toy_batch_is_learned(kind, monkeypatch):
    """One batch of 32, twenty times."""
    monkeypatch.setattr(vae.ElboModel, "hidden_dim", 352)
    images = np.random.default_rng(0).uniform(size=(32, 1, 28, 28)) < 0.2
    model = kind(784)
    totals = [train(model, [(np.float32(images), np.arange(32) % 10)]) for _ in range(20)]
    assert totals[-1] < 0.85 * totals[0]


# --------------------------------------------------------------------------------------------------- any way of calling


def traced(monkeypatch):
    """A list that gets an element each time that the step is traced, as a graph or line by line."""
    traces, train_step = [], assignment.train_step

    def counted(*arguments):  # a name of its own: TensorFlow counts by it before it warns
        traces.append(arguments)
        return train_step(*arguments)

    monkeypatch.setattr(assignment, "train_step", counted)
    return traces


def test_batches_of_other_sizes_and_loaders_without_a_length_are_trained_on(monkeypatch):
    """Lists, generators, columns of labels, strings: one model and one graph, and training goes on."""
    traces = traced(monkeypatch)
    model = vae.CVAE(64)
    images = np.random.default_rng(0).uniform(size=(40, 1, 8, 8))
    for batches in (
        loader(16, 8),
        (batch for batch in loader(16, 8)),
        [[images[:8].tolist(), [[1]] * 8]],
        [(images[:8], np.array(["7"] * 8))],
        loader().repeat(2),
        [(images, np.zeros(40))],
    ):
        assert np.isfinite(train(model, batches))
    assert steps_of(model) == 2 + 2 + 1 + 1 + 6 + 1 and len(traces) == 1


class Plain(tf.keras.Model):
    """A custom model, whose layers have no weights before it is called."""

    def __init__(self):
        super().__init__()
        self.hidden = tf.keras.layers.Dense(8, "relu")
        self.mu_layer = tf.keras.layers.Dense(2)
        self.logvar_layer = tf.keras.layers.Dense(2)
        self.pixels = tf.keras.layers.Dense(784, "sigmoid")

    def call(self, x, c=None):
        flat = tf.reshape(x, (-1, 784))
        h = self.hidden(flat if c is None else tf.concat([flat, c], axis=1))
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        z = vae.reparametrize(mu, logvar)
        return tf.reshape(self.pixels(z if c is None else tf.concat([z, c], axis=1)), tf.shape(x)), mu, logvar


@pytest.mark.parametrize("is_cvae", [False, True])
def test_a_custom_model_is_trained(is_cvae):
    model = Plain()
    model.optimizer = tf.keras.optimizers.Adam(1e-2)
    dark = [(np.full((16, 784), 0.05), np.arange(16) % 10)] * 3
    totals = [float(assignment.train_vae(model, dark, None, is_cvae)) for _ in range(8)]
    assert totals[-1] < 0.98 * totals[0] and steps_of(model) == 24


def test_layers_are_told_that_they_are_trained():
    told = []

    class Told(Plain):
        def call(self, x, training=False):
            told.append(training)
            return super().call(x)

    model = Told()
    model.optimizer = tf.keras.optimizers.Adam()
    train(model, [(np.zeros((4, 784)), np.zeros(4))])
    assert told[-1] is True
    assignment.forward(model, tf.zeros((1, 1, 28, 28)), None, is_cvae=False)
    assert told[-1] is False


def test_what_a_batch_has_behind_images_and_labels_is_left_out():
    totals = []
    for others in ((), (np.zeros(16),), (None, "x")):
        model = without_noise(vae.CVAE(64))
        model.set_weights([np.random.default_rng(0).normal(0, 0.1, w.shape) for w in model.get_weights()])
        without_noise(model)
        totals.append(train(model, [(x, y, *others) for x, y in loader()]))
    assert totals[0] == totals[1] == totals[2]


def test_many_models_are_no_reason_for_a_warning(monkeypatch, caplog):
    traces = traced(monkeypatch)
    for _ in range(7):
        train(vae.VAE(64), loader(16, 16))
    assert len(traces) == 7 and "retracing" not in caplog.text


def test_fit_and_train_vae_take_turns():
    model = vae.VAE(64)
    batches = loader().map(lambda x, y: (tf.cast(x, tf.float32), y))
    model.compile(optimizer="adam")
    first = model.fit(batches, verbose=0).history["loss"][0]
    for _ in range(5):
        train(model, batches)
    assert model.fit(batches, verbose=0).history["loss"][0] < first
    assert steps_of(model) == 3 + 15 + 3  # by one optimizer, the caller's


def test_a_new_learning_rate_counts_at_once():
    model, batches = vae.VAE(64), list(loader())
    train(model, batches * 10)
    moved = []
    for learning_rate in (1e-3, 1e-9, 1e-3):
        model.optimizer.learning_rate = learning_rate
        before = model.get_weights()
        train(model, batches)
        moved.append(max(np.abs(a - b).max() for a, b in zip(before, model.get_weights())))
    assert moved[1] < 1e-7 < 1e-5 < min(moved[0], moved[2])


def test_a_loss_that_is_replaced_between_two_epochs_counts(monkeypatch):
    model = vae.VAE(64)
    model.optimizer = tf.keras.optimizers.SGD(0.0)
    train(model, loader())
    monkeypatch.setattr(assignment, "loss_function", lambda x_hat, x, mu, logvar: tf.reduce_sum(0.0 * mu) + 7.0)
    assert train(model, loader()) == 3 * 7.0


def test_a_layer_can_be_frozen_and_trained_again():
    model = vae.CVAE(64)
    for trainable in (False, True, False):  # from the first step on
        model.encoder.trainable = trainable
        before = model.encoder.get_weights(), model.decoder.get_weights()
        train(model, loader())
        assert same_weights(before[0], model.encoder.get_weights()) is not trainable
        assert not same_weights(before[1], model.decoder.get_weights())
    assert steps_of(model) == 9


def test_the_caller_s_optimizer_keeps_its_schedule_and_a_new_one_is_used():
    model = vae.CVAE(64)
    for _ in range(2):
        schedule = tf.keras.optimizers.schedules.PiecewiseConstantDecay([2], [1e-3, 0.0])
        model.optimizer = tf.keras.optimizers.SGD(schedule)
        moved = []
        for _ in range(2):
            before = model.get_weights()
            train(model, loader())
            moved.append(max(np.abs(a - b).max() for a, b in zip(before, model.get_weights())))
        assert moved[0] > 1e-4 and moved[1] < 1e-7  # the rate is 0 from the fourth step on
        assert steps_of(model) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_is_cvae_must_suit_the_model(kind):
    is_cvae = kind is vae.CVAE
    with pytest.raises(TypeError, match=f"is_cvae={is_cvae}"):
        assignment.train_vae(kind(64), loader(), None, is_cvae=not is_cvae)


@pytest.mark.parametrize("kind, setting", [(vae.CVAE, {"policy": "mixed_float16"}), (vae.VAE, {"floatx": "float64"})])
def test_models_learn_under_policies_of_keras(kind, setting):
    with keras_setting(**setting):
        model = kind(64)
        totals = [train(model, loader(40, 20)) for _ in range(12)]
    assert totals[-1] < 0.98 * totals[0]


def test_a_model_that_is_no_longer_used_is_freed():
    model = vae.VAE(64)
    train(model, loader())
    kernel = weakref.ref(model.mu_layer.kernel)
    del model
    tf.keras.backend.clear_session()
    gc.collect()
    assert kernel() is None


# --------------------------------------------------------------------------------------------------- what is refused


def test_a_later_batch_is_refused_before_it_is_trained_on():
    model, good = vae.CVAE(64), next(iter(loader()))
    steps = 0
    for pixel, labels, message in (
        (np.nan, [0], "pixels must be finite, got nan"),
        (np.inf, [0], "pixels must be finite, got inf"),
        (0.0, [77, 1], "labels must be whole numbers from 0 to 9, got 77"),
        (0.0, [-1], "labels must be whole numbers from 0 to 9, got -1"),
        (0.0, [2.5], "labels must be whole numbers from 0 to 9, got 2.5"),
        (0.0, ["seven"], "labels must be whole numbers: .*seven"),
    ):
        bad = np.full((4, 1, 8, 8), pixel), np.resize(labels, 4)
        with pytest.raises(assignment.InputError, match=message):
            train(model, [good, bad, good])
        steps += 1
        assert steps_of(model) == steps and all(np.isfinite(w).all() for w in model.get_weights())


def test_pixels_outside_0_to_1_are_trained_on_with_one_warning():
    model = vae.VAE(64)
    batches = [(np.random.default_rng(i).normal(size=(4, 1, 8, 8)), np.zeros(4)) for i in range(3)]
    with pytest.warns(UserWarning, match="pixels should be in"):
        assert np.isfinite(train(model, batches))
    assert steps_of(model) == 3


def test_a_decoder_of_logits_causes_a_warning():
    model = vae.VAE(64)
    model.decoder.get_layer("pixels").bias.assign(tf.fill((64,), -2.0))
    decoder = tf.keras.Sequential(model.decoder.layers[:4])  # without the sigmoid
    model.decode = lambda z: tf.reshape(decoder(z), (-1, 1, 8, 8))
    with pytest.warns(UserWarning, match="x_hat should be in"):
        train(model, loader())


def test_labels_are_not_looked_at_unless_is_cvae():
    for labels in (None, "none", np.full((16, 3), 99)):
        assert np.isfinite(train(vae.VAE(64), [(np.zeros((16, 64)), labels)]))


@pytest.mark.parametrize("shape", [(16, 64), (16, 8, 8), (16, 8, 8, 1), (16, 1, 8, 8)])
@pytest.mark.parametrize("kind", KINDS)
def test_images_may_come_in_any_layout(kind, shape):
    x = np.random.default_rng(0).uniform(size=(16, 1, 8, 8))
    model = without_noise(kind(64))
    model.optimizer = tf.keras.optimizers.SGD(0.0)
    expected = train(model, [(x, np.arange(16) % 10)])
    assert train(model, [(x.reshape(shape), np.arange(16) % 10)]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "batch, message",
    [
        ((np.zeros((4, 1, 14, 14)), np.zeros(4)), "images must have the shape (N, 1, 8, 8), got (4, 1, 14, 14)"),
        ((np.zeros((0, 1, 8, 8)), np.zeros(0)), "images must have the shape (N, 1, 8, 8), got (0, 1, 8, 8)"),
        ((np.zeros(64), np.zeros(64)), "images must have the shape (N, 1, 8, 8), got (64,)"),
        ((np.zeros((4, 1, 8, 8)), np.zeros((4, 10))), "labels must have the shape (4,), got (4, 10)"),
        ((np.zeros((4, 1, 8, 8)), np.zeros(3)), "labels must have the shape (4,), got (3,)"),
        (np.zeros((2, 1, 8, 8)), "a batch must be (images, labels), got a ndarray"),
        ((np.zeros((2, 1, 8, 8)),), "a batch must be (images, labels), got 1 element"),
    ],
)
def test_invalid_batches_are_one_line(batch, message):
    model = vae.CVAE(64)
    with pytest.raises(assignment.InputError) as error:
        train(model, [batch])
    assert str(error.value) == message and steps_of(model) == 0


def test_a_loader_without_batches_or_without_end_is_refused():
    model, batches = vae.VAE(64), iter(list(loader()))
    assert train(model, batches) > 0
    for empty in (batches, [], loader(8).take(0)):
        with pytest.raises(ValueError, match="the loader is empty or exhausted"):
            train(model, empty)
    with pytest.raises(ValueError, match="repeats forever"):
        train(model, loader().repeat())


# ------------------------------------------------------------------------------------------------------- progress bar


def test_a_terminal_shows_keras_bar_with_the_average_loss(monkeypatch, capsys):
    model = vae.VAE(64)
    model.optimizer = tf.keras.optimizers.SGD(0.0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    total = train(model, loader())
    shown = capsys.readouterr().out
    last = float(re.findall(r"loss: ([\d.]+)", shown)[-1])
    assert "3/3" in shown and last == pytest.approx(total / 3, abs=1e-3)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    train(model, loader())
    assert capsys.readouterr().out == ""
