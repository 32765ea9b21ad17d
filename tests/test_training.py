"""The handout's functions of data and training, called as its graders and notebooks call them."""

import argparse
import copy
import gc
import inspect
import re
import sys
import time
import weakref

import assignment
import muon
import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import arguments, keras_setting, needs_mnist, same_weights, second_input, small_arrays
from evaluation import evaluate
from forward import forward
from mnist_images import load_data
from progress import ProgressBar

KINDS = [vae.VAE, vae.CVAE]


def loader(n=48, batch=16):
    """A caller's own batches of 8 x 8 images in float64; 40 images end with a smaller batch."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(n, 1, 8, 8))
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, n))).batch(batch)


def new(kind):
    """A model with hidden layers of 32 units: what is tested does not depend on their width."""
    return kind(64, hidden_dim=32)


def train(model, batches, args=None):
    """`train_vae` of any kind of model."""
    return assignment.train_vae(model, batches, args or arguments(), hasattr(model, "num_classes"))


def without_noise(model):
    """The model with a sigma of nearly 0, so that z is mu."""
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))
    return model


def steps_of(model):
    return int(tf.convert_to_tensor(model.optimizer.iterations))


CONTRACT = {
    vae: {
        "VAE": "(input_size, latent_size=15, hidden_dim=384)",
        "CVAE": "(input_size, num_classes=10, latent_size=15, hidden_dim=384)",
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
        "save_model_weights": "(model, args, record=None)",
        "load_weights": "(model)",
        "show_vae_images": "(model, latent_size, data_name=None)",
        "show_vae_interpolation": "(model, latent_size, data_name=None)",
        "show_cvae_images": "(model, latent_size, data_name=None)",
        "main": "(args)",
    },
}


def test_the_names_that_others_call_have_their_signatures():
    for module, signatures in CONTRACT.items():
        assert {name: str(inspect.signature(getattr(module, name))) for name in signatures} == signatures


# ------------------------------------------------------------------------------------------------------------ data


def test_one_hot():
    for labels in ([3, 0], np.array([[3], [0]]), tf.constant([3, 0], tf.uint8), ["3", "0"], np.array([["3"], ["0"]])):
        np.testing.assert_array_equal(assignment.one_hot(labels, 4), [[0, 0, 0, 1], [1, 0, 0, 0]])
    assert assignment.one_hot([1], 4).dtype == tf.float32 and assignment.one_hot([], 4).shape == (0, 4)
    np.testing.assert_array_equal(assignment.one_hot(2, 4), [0, 0, 1, 0])


@pytest.mark.parametrize("labels", [[0, 4], [-1], [-1, 4]])
def test_one_hot_refuses_labels_out_of_range(labels):
    with pytest.raises(ValueError, match=f"labels must be from 0 to 3, got {min(labels)} to {max(labels)}"):
        assignment.one_hot(labels, 4)


def test_one_hot_in_a_pipeline():
    """One label or a batch of them, numbers or strings."""
    for labels, given, shape in (([2, 0], 1, (4,)), (["2", "0"], 1, (4,)), ([[2], [0]], 2, (4,))):
        data = tf.data.Dataset.from_tensor_slices(labels)
        encoded = list(data.map(lambda label: assignment.one_hot(label[tf.newaxis] if given == 2 else label, 4)))
        np.testing.assert_array_equal(np.reshape(encoded, (2, 4)), [[0, 0, 1, 0], [1, 0, 0, 0]])
        assert encoded[0].shape == (shape if given == 1 else (1, *shape))
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be from 0 to 3"):
        list(tf.data.Dataset.from_tensor_slices([1, 77]).map(lambda label: assignment.one_hot(label, 4)))


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
    model = without_noise(new(kind))
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
def test_training_goes_on_and_lowers_the_loss(kind):
    model = new(kind)
    totals = [train(model, loader(), arguments(0.2)) for _ in range(10)]
    assert totals[-1] < 0.98 * totals[0]
    assert steps_of(model) == 30


@pytest.mark.parametrize("kind", KINDS)
def test_the_total_is_the_sum_of_the_batch_losses(kind):
    model, batches = without_noise(new(kind)), list(loader(40))
    expected = 0
    for x, y in batches:
        x_hat, mu, logvar = model(x, *second_input(model, y.numpy()))
        expected += float(vae.loss_function(x_hat, x, mu, logvar))
    assert train(model, batches, arguments(1e-12)) == pytest.approx(expected, rel=1e-4)


def test_weights_that_are_changed_between_two_epochs_stay_changed():
    """With all layers trained, and with some of them frozen."""
    model = new(vae.VAE)
    train(model, loader())
    rng = np.random.default_rng(0)
    for trainable in (True, False):
        model.encoder.trainable = trainable
        other = [rng.normal(0, 0.1, w.shape) for w in model.get_weights()]
        model.set_weights(other)
        train(model, loader(), arguments(1e-12))
        for ours, theirs in zip(model.get_weights(), other):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_cvae_learns_from_the_labels():
    """Images of one class are black, of the other white: a model that reads only the class learns them apart."""
    images = np.zeros((64, 1, 8, 8), np.float32)
    images[::2] = 1.0
    model = new(vae.CVAE)
    for _ in range(40):
        train(model, [(images, np.arange(64) % 2)], arguments(1.0))
    drawn = model.decode(tf.zeros((2, 15)), tf.eye(2, 10)).numpy().mean(axis=(1, 2, 3))
    assert drawn[0] > 0.7 and drawn[1] < 0.3


def test_each_step_has_noise_of_its_own_which_follows_the_seed():
    """Batches of the default way, by Muon; then steps that leave the weights, so that what differs is the noise."""
    rng = np.random.default_rng(0)
    batch = rng.uniform(size=(muon.MIN_MUON_BATCH_SIZE, 1, 8, 8)), rng.integers(0, 10, muon.MIN_MUON_BATCH_SIZE)
    losses = []
    for seed in (1, 1, 2):
        tf.keras.utils.set_random_seed(seed)
        model = new(vae.CVAE)
        losses.append([train(model, [batch] * 3) for _ in range(2)])
    assert losses[0] == losses[1] and losses[0][1] != losses[2][1]
    model.optimizer = tf.keras.optimizers.SGD(0.0)
    assert train(model, [batch]) != train(model, [batch])


@needs_mnist
@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_of_real_mnist_teaches_more_than_the_mean_image(kind):
    """The loss of the mean image is 206 nats."""
    model = kind(784, hidden_dim=64)
    for _ in range(2):
        train(model, assignment.load_mnist(1024), arguments(1.5e-3))
    assert evaluate(model, load_data()).loss < 195


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
    model = new(vae.CVAE)
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
    """A model of the caller's own, whose layers have no weights before it is called."""

    def __init__(self):
        super().__init__()
        self.hidden = tf.keras.layers.Dense(8, "relu")
        self.mu_layer = tf.keras.layers.Dense(2)
        self.logvar_layer = tf.keras.layers.Dense(2)
        self.pixels = tf.keras.layers.Dense(64, "sigmoid")

    def call(self, x, c=None):
        flat = tf.reshape(x, (-1, 64))
        h = self.hidden(flat if c is None else tf.concat([flat, c], axis=1))
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        z = vae.reparametrize(mu, logvar)
        return tf.reshape(self.pixels(z if c is None else tf.concat([z, c], axis=1)), tf.shape(x)), mu, logvar


@pytest.mark.parametrize("is_cvae, optimizer", [(False, None), (True, "of the caller")])
def test_a_model_of_the_caller_s_own_is_trained(is_cvae, optimizer):
    model = Plain()
    if optimizer:
        model.optimizer = tf.keras.optimizers.Adam(1e-2)
    dark = [(np.full((16, 1, 8, 8), 0.05), np.arange(16) % 10)] * 3
    totals = [assignment.train_vae(model, dark, arguments(1.0), is_cvae) for _ in range(8)]
    assert totals[-1] < 0.98 * totals[0] and steps_of(model) == 24
    if optimizer is None:
        assert isinstance(model.optimizer, muon.MuonAdam)


class Module(tf.Module):
    """A model that is not Keras': it has no `built`, no `weights`, and is not told that it is trained."""

    optimizer = None

    def __init__(self):
        super().__init__()
        self.encoder = tf.Variable(tf.random.normal((64, 4), stddev=0.1))
        self.decoder = tf.Variable(tf.random.normal((2, 64), stddev=0.1))

    def __call__(self, x):
        mu, logvar = tf.split(tf.reshape(x, (-1, 64)) @ self.encoder, 2, axis=1)
        pixels = tf.sigmoid(vae.reparametrize(mu, logvar) @ self.decoder)
        return tf.reshape(pixels, tf.shape(x)), mu, logvar


@pytest.mark.parametrize("optimizer", [None, "of the caller"])
def test_a_model_that_is_not_keras_is_trained(optimizer):
    model = Module()
    if optimizer:
        model.optimizer = tf.keras.optimizers.SGD(0.1)
    before = [variable.numpy() for variable in model.trainable_variables]
    assert np.isfinite(train(model, loader()))
    assert not any(np.array_equal(a, b) for a, b in zip(before, model.trainable_variables)) and steps_of(model) == 3


def test_the_encoder_may_be_replaced_between_two_epochs():
    model = new(vae.VAE)
    train(model, loader())
    layers = tf.keras.layers
    model.encoder = tf.keras.Sequential([layers.Input((1, 8, 8)), layers.Flatten(), layers.Dense(32, "relu")])
    before = model.encoder.get_weights()
    train(model, loader())
    assert not same_weights(before, model.encoder.get_weights()) and steps_of(model) == 6


def test_layers_are_told_that_they_are_trained():
    told = []

    class Told(Plain):
        def call(self, x, training=False):
            told.append(training)
            return super().call(x)

    model = Told()
    train(model, loader())
    assert set(told) == {True}
    forward(model, tf.zeros((1, 1, 8, 8)), None)
    assert told[-1] is False


@pytest.mark.parametrize("args", [None, argparse.Namespace(), arguments(muon.PEAK)])
def test_without_a_learning_rate_the_default_counts(args):
    model = new(vae.VAE)
    assignment.train_vae(model, loader(), args)
    assert float(model.optimizer.schedule.peak.numpy()) == pytest.approx(1.5e-3)
    model.optimizer.set_peak(3e-4)
    assignment.train_vae(model, loader(), args)
    expected = args.learning_rate if hasattr(args, "learning_rate") else 3e-4
    assert float(model.optimizer.schedule.peak.numpy()) == pytest.approx(expected)


def test_what_a_batch_has_behind_images_and_labels_is_left_out():
    totals = []
    for others in ((), (np.zeros(16),), (None, "x")):
        model = without_noise(new(vae.CVAE))
        model.set_weights([np.random.default_rng(0).normal(0, 0.1, w.shape) for w in model.get_weights()])
        without_noise(model)
        totals.append(train(model, [(x, y, *others) for x, y in loader()]))
    assert totals[0] == totals[1] == totals[2]


@pytest.mark.parametrize("batch_size", [511, 512])
def test_fit_a_loop_of_one_s_own_and_train_vae_are_the_same_training(batch_size):
    """With one optimizer each, made by one function; without noise, step by step."""
    rng = np.random.default_rng(0)
    x = np.float32(rng.uniform(size=(3 * batch_size, 1, 8, 8)))
    y = rng.integers(0, 10, len(x))
    c = np.eye(10, dtype=np.float32)[y]
    pairs = tf.data.Dataset.from_tensor_slices(((x, c),)).batch(batch_size)
    labelled = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
    weights = [rng.normal(0, 0.1, w.shape) for w in new(vae.CVAE).get_weights()]

    def by_fit(model):
        model.compile(optimizer=muon.new_optimizer(model, batch_size))
        model.fit(pairs, verbose=0)

    def by_a_loop(model):
        model.optimizer = muon.new_optimizer(model, batch_size)
        for ((images, classes),) in pairs:
            with tf.GradientTape() as tape:
                x_hat, mu, logvar = model(images, classes)
                loss = vae.loss_function(x_hat, images, mu, logvar)
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))

    def by_train_vae(model):
        train(model, labelled, arguments(muon.PEAK))

    trained = []
    for way in (by_train_vae, by_fit, by_a_loop):
        model = new(vae.CVAE)
        model.set_weights(weights)
        way(without_noise(model))
        assert steps_of(model) == 3
        trained.append(model.get_weights())
    for others in trained[1:]:
        for ours, theirs, start in zip(trained[0], others, weights):
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=0.1 * np.abs(ours - start).max() + 1e-6)


def test_after_other_batches_the_optimizer_goes_on_as_it_is():
    model = new(vae.VAE)
    for batch in (16, 8, 48):
        train(model, loader(48, batch))
    assert steps_of(model) == 3 + 6 + 1 and model.optimizer.schedule.batch_size == 16


def test_many_models_are_no_reason_for_a_warning(monkeypatch, caplog):
    traces = traced(monkeypatch)
    for _ in range(7):
        train(new(vae.VAE), loader(16, 16))
    assert len(traces) == 7 and "retracing" not in caplog.text


def test_fit_and_train_vae_take_turns():
    model = new(vae.VAE)
    batches = loader().map(lambda x, y: (tf.cast(x, tf.float32), y))
    model.compile(optimizer="adam")
    first = model.fit(batches, verbose=0).history["loss"][0]
    for _ in range(5):
        train(model, batches)
    assert model.fit(batches, verbose=0).history["loss"][0] < first
    assert steps_of(model) == 3 + 15 + 3  # by one optimizer, the caller's


def test_a_new_learning_rate_counts_at_once():
    model, batches = new(vae.VAE), list(loader())
    train(model, batches * 40, arguments(1e-12))
    moved = []
    for learning_rate in (1e-3, 1e-9, 1e-3):
        before = model.get_weights()
        train(model, batches, arguments(learning_rate))
        moved.append(max(np.abs(a - b).max() for a, b in zip(before, model.get_weights())))
    assert moved[1] < 1e-7 < 1e-5 < min(moved[0], moved[2])


def test_a_layer_can_be_frozen_and_trained_again():
    model = new(vae.CVAE)
    for trainable in (False, True, False):  # from the first step on
        model.encoder.trainable = trainable
        before = model.encoder.get_weights(), model.decoder.get_weights()
        train(model, loader())
        assert same_weights(before[0], model.encoder.get_weights()) is not trainable
        assert not same_weights(before[1], model.decoder.get_weights())
    assert steps_of(model) == 9


def test_a_caller_s_optimizer_keeps_its_schedule_and_a_new_one_is_used():
    model = new(vae.CVAE)
    for _ in range(2):
        schedule = tf.keras.optimizers.schedules.PiecewiseConstantDecay([2], [1e-3, 0.0])
        model.optimizer = tf.keras.optimizers.SGD(schedule)
        moved = []
        for _ in range(2):
            before = model.get_weights()
            train(model, loader(), arguments(1.0))
            moved.append(max(np.abs(a - b).max() for a, b in zip(before, model.get_weights())))
        assert moved[0] > 1e-4 and moved[1] < 1e-7  # the rate is 0 from the fourth step on
        assert steps_of(model) == 6


def test_a_setting_of_the_optimizer_that_is_changed_counts():
    model = new(vae.VAE)
    model.optimizer = tf.keras.optimizers.SGD(1e-2)
    train(model, loader())
    before = model.get_weights()
    model.optimizer.clipnorm = 1e-9
    train(model, loader())
    assert max(np.abs(a - b).max() for a, b in zip(before, model.get_weights())) < 1e-7


class WithoutConfig(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A rate up to one step, and 0 after it: a schedule that Keras could not save."""

    def __init__(self, last_step, rate):
        self.last_step, self.rate = last_step, rate

    def __call__(self, step):
        return tf.where(tf.cast(step, tf.int32) <= self.last_step, self.rate, 0.0)


def piecewise_constant(last_step, rate):
    """The same as one of Keras' schedules."""
    return tf.keras.optimizers.schedules.PiecewiseConstantDecay([last_step], [rate, 0.0])


@pytest.mark.parametrize("schedule", [piecewise_constant, WithoutConfig])
@pytest.mark.parametrize("trained_before", [False, True])
def test_a_schedule_that_is_set_on_the_model_s_own_optimizer_counts(trained_before, schedule):
    model = new(vae.VAE)
    if trained_before:
        train(model, loader())
    model.optimizer.learning_rate = schedule(steps_of(model) + 1, 1e-2)
    moved = []
    for _ in range(2):
        before = model.get_weights()
        train(model, loader(), arguments(1.0))
        moved.append(max(np.abs(a - b).max() for a, b in zip(before, model.get_weights())))
    assert moved[0] > 1e-3 and moved[1] < 1e-6  # the rate is 0 from the third step on


@pytest.mark.parametrize("kind", KINDS)
def test_is_cvae_must_suit_the_model(kind):
    is_cvae, model = kind is vae.CVAE, new(kind)
    with pytest.raises(TypeError, match=f"is_cvae={is_cvae}"):
        assignment.train_vae(model, loader(), arguments(), is_cvae=not is_cvae)


@pytest.mark.parametrize("kind, setting", [(vae.CVAE, {"policy": "mixed_float16"}), (vae.VAE, {"floatx": "float64"})])
def test_models_learn_under_policies_of_keras(kind, setting):
    with keras_setting(**setting):
        model = new(kind)
        totals = [train(model, loader(40, 20), arguments(0.5)) for _ in range(12)]
    assert totals[-1] < 0.98 * totals[0]


def test_a_model_that_is_not_used_any_more_is_freed():
    model = new(vae.VAE)
    train(model, loader())
    kernel = weakref.ref(model.mu_layer.kernel)
    del model
    tf.keras.backend.clear_session()
    gc.collect()
    assert kernel() is None


def test_a_trained_model_can_be_copied_and_saved(tmp_path):
    model = new(vae.CVAE)
    train(model, loader())
    model.save(tmp_path / "m.keras")
    for other in (copy.deepcopy(model), tf.keras.models.load_model(tmp_path / "m.keras")):
        assert same_weights(model.get_weights(), other.get_weights())
        assert train(other, loader()) > 0 and steps_of(other) == 3
        assert not same_weights(model.get_weights(), other.get_weights())
    assert steps_of(model) == 3


# --------------------------------------------------------------------------------------------------- what is refused


def test_a_later_batch_is_refused_before_it_is_trained_on():
    model, good = new(vae.CVAE), next(iter(loader()))
    steps = 0
    for images, labels, message in (
        ([255.0], [0], "pixels must be from 0 to 1, got 255 to 255"),
        ([-0.5, 1.0], [0], "pixels must be from 0 to 1, got -0.5 to 1"),
        ([np.nan], [0], "pixels must be from 0 to 1, got nan"),
        ([0.0], [77, 1], "labels must be from 0 to 9, got 1 to 77"),
        ([0.0], [-1], "labels must be from 0 to 9, got -1 to -1"),
        ([0.0], ["seven"], "labels must be whole numbers: .*seven"),
    ):
        bad = np.resize(images, (4, 1, 8, 8)), np.resize(labels, 4)
        with pytest.raises(ValueError, match=message):
            train(model, [good, bad, good])
        steps += 1
        assert steps_of(model) == steps and all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize(
    "batch, message",
    [
        ((np.zeros((64, 8, 8, 1)), np.zeros(64)), "images must be (N, 1, 8, 8), got (64, 8, 8, 1)"),
        ((np.zeros((64, 64)), np.zeros(64)), "images must be (N, 1, 8, 8), got (64, 64)"),
        ((np.zeros((4, 1, 14, 14)), np.zeros(4)), "images must be (N, 1, 8, 8), got (4, 1, 14, 14)"),
        ((np.zeros((4, 1, 8, 8)), np.zeros((4, 10))), "labels must be (4,), got (4, 10)"),
        ((np.zeros((4, 1, 8, 8)), np.zeros(3)), "labels must be (4,), got (3,)"),
        (np.zeros((2, 1, 8, 8)), "a batch must be images and labels, got a ndarray"),
        ((np.zeros((2, 1, 8, 8)),), "a batch must be images and labels, got 1 of the two"),
    ],
)
def test_batches_of_other_shapes_are_one_line(batch, message):
    for model in (new(vae.VAE), new(vae.CVAE)):
        with pytest.raises(ValueError) as error:
            train(model, [batch])
        assert str(error.value) == message and steps_of(model) == 0


def test_a_loader_without_batches_or_without_end_is_refused():
    model, batches = new(vae.VAE), iter(list(loader()))
    assert train(model, batches) > 0
    for empty in (batches, [], loader(8).take(0)):
        with pytest.raises(ValueError, match="the loader has no batches"):
            train(model, empty)
    with pytest.raises(ValueError, match="repeats without end"):
        train(model, loader().repeat())


# ------------------------------------------------------------------------------------------------------------- the bar


def test_a_terminal_or_a_notebook_shows_a_bar_with_the_loss(monkeypatch, capsys):
    model, batches = new(vae.VAE), loader(240, 8)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    model.optimizer = tf.keras.optimizers.SGD(0.0)
    total = train(model, batches)
    shown = capsys.readouterr().out
    assert "10/30" in shown and shown.count("\n") == 0
    assert shown.endswith("\r\x1b[K")  # to the start of the line, and nothing of it is left
    last = float(re.findall(r"loss: ([\d.]+)", shown)[-1])
    assert last == pytest.approx(total / 30, rel=0.01)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    train(model, batches)
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(sys.modules, "ipykernel", None)  # as in a notebook
    train(model, batches)
    assert "10/30" in capsys.readouterr().out


def test_the_bar_shows_the_average_loss_of_the_batches_so_far(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    bar = ProgressBar([None] * 40)
    for number in (10, 20):
        time.sleep(0.1)  # Keras does not show what comes sooner
        bar.show(number, 1000.0)
    assert re.findall(r"loss: ([\d.]+)", capsys.readouterr().out)[-1].startswith("50.0")


def test_a_stdout_that_is_missing_or_only_writes_is_no_trouble(monkeypatch):
    class Log:
        """As an experiment tracker puts it in place of stdout."""

        def write(self, text):
            raise AssertionError("written to")

        def flush(self):
            pass

    model = new(vae.VAE)
    for stream in (Log(), None):
        monkeypatch.setattr(sys, "stdout", stream)
        assert train(model, loader()) > 0
