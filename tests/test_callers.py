"""What callers do with the models: other layers, penalties, rates, serving, and classes of other modules."""

import importlib.util
import subprocess
import sys

import assignment
import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import CODE, same_weights, second_input, steps_of
from extras.evaluation import classify

KINDS = [vae.VAE, vae.CVAE]
pytestmark = pytest.mark.usefixtures("narrow")
layers = tf.keras.layers


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def images_and_labels(n=16):
    return np.float32(np.random.default_rng(0).uniform(size=(n, 1, 8, 8))), np.arange(n) % 10


def by_train_vae(model, x, y):
    return float(assignment.train_vae(model, [(x, y)], None, hasattr(model, "num_classes")))


def by_fit(model, x, y):
    model.compile(optimizer=model.optimizer)
    inputs = (x, *second_input(model, y)) if hasattr(model, "num_classes") else x
    return model.fit(tf.data.Dataset.from_tensors((inputs,)), verbose=0).history["loss"][0]


def by_a_loop(model, x, y):
    with tf.GradientTape() as tape:
        x_hat, mu, logvar = model(x, *second_input(model, y), training=True)
        loss = vae.loss_function(x_hat, x, mu, logvar) + sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return float(loss)


WAYS = [by_train_vae, by_fit, by_a_loop]


def new_encoder(model, *more):
    """An encoder of 8 x 8 images with further layers, for a VAE or a CVAE."""
    inputs = model.encoder.input_shape[1:]
    return tf.keras.Sequential([layers.Input(inputs), layers.Flatten(), layers.Dense(32, "relu"), *more])


# ------------------------------------------------------------------------------------------- layers and their penalties


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_batch_normalization_in_a_new_encoder_is_trained(kind, way):
    """It counts averages in training alone; 0.99 is Keras' momentum."""
    model = kind(64)
    norm = layers.BatchNormalization()
    model.encoder = new_encoder(model, norm)
    model.optimizer = tf.keras.optimizers.SGD(0.0)
    x, y = images_and_labels()
    flat = np.concatenate([x.reshape(16, 64), *second_input(model, y)], axis=1)
    kernel, bias = model.encoder.get_weights()[:2]
    expected = 0.01 * np.maximum(flat @ kernel + bias, 0).mean(axis=0)
    model(x, *second_input(model, y))
    assert not norm.moving_mean.numpy().any()
    way(model, x, y)
    np.testing.assert_allclose(norm.moving_mean.numpy(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("noise", [layers.Dropout(0.9), layers.GaussianNoise(0.9)])
def test_noise_of_layers_acts_in_training_alone(way, noise):
    """z is mu, and the rate is 0: without the layers' noise the loss is that of inference."""
    model = vae.VAE(64)
    model.encoder = new_encoder(model, noise)
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))
    model.optimizer = tf.keras.optimizers.SGD(0.0)
    x, y = images_and_labels()
    x_hat, mu, logvar = model(x)
    np.testing.assert_array_equal(mu, model(x)[1])
    assert abs(way(model, x, y) - float(vae.loss_function(x_hat, x, mu, logvar))) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_penalties_count(kind, way):
    """L2 of 0.5 on a kernel of ones, (64 or 74) x 32, of which Keras takes the sum of squares; `add_loss` of 7."""

    class Penalized(kind):
        def call(self, x, c=None, training=None):
            if not kind.__name__ == "VAE":
                outputs = super().call(x, c)
            else:
                outputs = super().call(x)
            self.add_loss(tf.constant(7.0))
            return outputs

    losses = []
    for penalty, model in ((None, kind(64)), (tf.keras.regularizers.L2(0.5), Penalized(64))):
        dense = layers.Dense(32, kernel_initializer="ones", kernel_regularizer=penalty)
        model.encoder = tf.keras.Sequential([layers.Input(model.encoder.input_shape[1:]), layers.Flatten(), dense])
        model.mu_layer.kernel.assign(tf.zeros((32, 15)))
        model.logvar_layer.bias.assign(tf.fill((15,), -30.0))
        model.decoder.get_layer("pixels").kernel.assign(tf.zeros((32, 64)))
        model.optimizer = tf.keras.optimizers.SGD(0.0)
        losses.append(way(model, *images_and_labels()))
    inputs = 64 if kind is vae.VAE else 74
    assert losses[1] - losses[0] == pytest.approx(7.0 + 0.5 * inputs * 32, rel=1e-4)


# ------------------------------------------------------------------------------------------------------- parts, frozen


@pytest.mark.parametrize("way", WAYS)
def test_a_new_encoder_needs_a_new_optimizer_and_then_trains(way):
    model = vae.VAE(64)
    model.encoder = new_encoder(model)
    with pytest.raises(ValueError, match="set model.optimizer to a new optimizer"):
        way(model, *images_and_labels())
    model.optimizer = vae.MuonAdam(muon_layers=["decoder_2"])
    before = model.encoder.get_weights()
    way(model, *images_and_labels())
    assert not same_weights(before, model.encoder.get_weights()) and steps_of(model) == 1


def test_layers_of_a_subclass_need_a_new_optimizer_and_then_train():
    class Deeper(vae.VAE):
        def __init__(self, input_size):
            super().__init__(input_size)
            self.more = layers.Dense(64, name="more")
            self.more.build((None, 64))
            self.optimizer = vae.MuonAdam(muon_layers=["more"])
            self.optimizer.build(self.trainable_variables)

        def encode(self, x):
            return super().encode(self.more(tf.reshape(x, (-1, 64))))

    model = Deeper(64)
    before = model.more.get_weights()
    by_train_vae(model, *images_and_labels())
    assert not same_weights(before, model.more.get_weights())


def test_nothing_to_train_and_no_optimizer_are_one_line():
    model = vae.VAE(64)
    model.trainable = False
    with pytest.raises(assignment.InputError, match="all layers are frozen"):
        by_train_vae(model, *images_and_labels())
    model.trainable = True
    model.optimizer = "adam"
    with pytest.raises(assignment.InputError, match="must be a Keras optimizer, got 'adam'"):
        by_train_vae(model, *images_and_labels())


# --------------------------------------------------------------------------------------------- rates set from outside


def test_keras_callbacks_set_the_learning_rate():
    model = vae.VAE(64)
    x, _ = images_and_labels()
    schedule = tf.keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)
    plateau = tf.keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=1e6, cooldown=9)
    model.optimizer.learning_rate = 0.02
    model.compile(optimizer=model.optimizer)
    model.fit(x, epochs=2, verbose=0, callbacks=[schedule])
    assert float(tf.convert_to_tensor(model.optimizer.learning_rate)) == pytest.approx(0.02 / 4, rel=1e-5)
    model.fit(x, epochs=3, verbose=0, callbacks=[plateau])
    assert float(tf.convert_to_tensor(model.optimizer.learning_rate)) == pytest.approx(0.02 / 4 / 10, rel=1e-5)


def test_backup_and_restore_continues_a_training_that_was_interrupted(tmp_path):
    """Three epochs, one of which failed after the first was saved, take three steps in all."""

    def fit(model, *callbacks):
        model.compile(optimizer=model.optimizer)
        model(images_and_labels()[0])  # Keras asks for a call before
        backup = tf.keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        model.fit(images_and_labels()[0], epochs=3, verbose=0, batch_size=16, callbacks=[backup, *callbacks])

    def fail(epoch, logs):
        if epoch == 1:
            raise RuntimeError("power failure")

    with pytest.raises(RuntimeError, match="power failure"):
        fit(vae.VAE(64), tf.keras.callbacks.LambdaCallback(on_epoch_begin=fail))
    model = vae.VAE(64)
    fit(model)
    assert steps_of(model) == 3


# --------------------------------------------------------------------------------------------------------------- served


def test_the_methods_work_in_a_graph_with_a_signature(rng):
    model = vae.CVAE(64)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    x, y = images_and_labels(5)
    c = np.eye(10, dtype=np.float32)[y[:5]]
    images = tf.TensorSpec((None, 1, 8, 8))
    classes = tf.TensorSpec((None, 10))
    graph = tf.function(lambda x: classify(model, x), input_signature=[images])
    np.testing.assert_allclose(graph(x), classify(model, x), atol=1e-4)
    np.testing.assert_allclose(np.sum(graph(x), axis=1), np.ones(5), rtol=1e-5)
    encode = tf.function(model.encode, input_signature=[images, classes])
    decode = tf.function(model.decode, input_signature=[tf.TensorSpec((None, 15)), classes])
    mu, _ = encode(x, c)
    np.testing.assert_allclose(mu, model.encode(x, c)[0], atol=1e-4)
    np.testing.assert_allclose(decode(mu, c), model.decode(mu, c), atol=1e-4)


def test_a_model_can_be_exported_with_signatures_of_its_own(tmp_path, rng):
    model = vae.CVAE(64)
    x, y = images_and_labels(5)
    signature = tf.function(lambda x: {"scores": classify(model, x)}, input_signature=[tf.TensorSpec((None, 1, 8, 8))])
    module = tf.Module()
    module.model = model
    tf.saved_model.save(module, str(tmp_path / "served"), signatures={"classify": signature})
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["classify"]
    np.testing.assert_allclose(served(tf.constant(x))["scores"], classify(model, x), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_weights_can_be_exported_at_once(kind, tmp_path):
    assignment.save_model_weights(kind(784), None)
    model = assignment.load_weights(kind(784))
    model.export(str(tmp_path / "model"))
    assert (tmp_path / "model" / "saved_model.pb").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_encode_and_decode_take_lists(kind, rng):
    model = kind(64)
    c = [row.tolist() for row in np.eye(10)[:2]]
    conditions = [c] if kind is vae.CVAE else []
    z = rng.normal(size=(2, 15))
    np.testing.assert_allclose(model.decode(z.tolist(), *conditions), model.decode(z, *conditions), atol=1e-6)
    x = rng.uniform(size=(2, 1, 8, 8))
    np.testing.assert_allclose(model.encode(x.tolist(), *conditions)[0], model.encode(x, *conditions)[0], atol=1e-5)


# -------------------------------------------------------------------------------------------- other modules


@pytest.fixture
def registered_classes():
    """What Keras knows by name is as before after the test."""
    before = dict(tf.keras.utils.get_custom_objects())
    yield
    tf.keras.utils.get_custom_objects().update(before)


def test_a_cvae_of_a_second_import_is_one_too(registered_classes):
    """As in a notebook that reloads vae.py, or a test that imports it by its path."""
    spec = importlib.util.spec_from_file_location("vae_again", CODE / "vae.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ElboModel.hidden_dim = 32
    model = module.CVAE(784)
    x = np.random.default_rng(0).uniform(size=(8, 1, 28, 28))
    assert np.isfinite(float(assignment.train_vae(model, [(x, np.arange(8))], None, is_cvae=True)))
    assignment.save_model_weights(model, None)
    assert (assignment.OUTPUTS / "cvae.weights.h5").exists()
    assert assignment.show_cvae_images(model, 15).exists()
    assert same_weights(assignment.load_weights(vae.CVAE(784)).get_weights(), model.get_weights())


def test_a_decoder_that_returns_rows_of_pixels_is_trained_and_drawn():
    model = vae.VAE(784)
    model.decoder = tf.keras.Sequential([layers.Input((15,)), layers.Dense(784, "sigmoid")])
    model.optimizer = tf.keras.optimizers.Adam()
    x = np.random.default_rng(0).uniform(size=(8, 1, 28, 28))
    assert np.isfinite(float(assignment.train_vae(model, [(x, None)], None)))
    for show in (assignment.show_vae_images, assignment.show_vae_interpolation):
        assert show(model, 15).exists()


def test_labels_of_another_data_set_are_named():
    """As those of EMNIST, 47 classes."""
    batch = np.zeros((47, 64)), np.arange(47)
    with pytest.raises(assignment.InputError, match="labels must be whole numbers from 0 to 9, got 10"):
        assignment.train_vae(vae.CVAE(64), [batch], None, is_cvae=True)
    assert np.isfinite(float(assignment.train_vae(vae.CVAE(64, num_classes=47), [batch], None, is_cvae=True)))


def test_weights_that_are_nan_are_not_loaded():
    model = vae.VAE(784)
    model.mu_layer.bias.assign(tf.fill((15,), np.nan))
    assignment.save_model_weights(model, None)
    with pytest.raises(assignment.InputError, match="cannot be loaded into this VAE"):
        assignment.load_weights(vae.VAE(784))


# ----------------------------------------------------------------------------------------------- odd data, surroundings


SURROUNDINGS = """
import pathlib, sys, types
sys.path.insert(0, {code!r})
import numpy as np, tensorflow as tf
tf.experimental.numpy.experimental_enable_numpy_behavior()
import assignment, vae
from extras import figures
assignment.OUTPUTS = pathlib.Path({outputs!r})
rng = np.random.default_rng(0)
for count in (20, 1):
    images = rng.integers(0, 256, (50, 28, 28))
    data = assignment.new_data("x", (images, np.arange(50) % 10), (images[:count], np.arange(count) % 10))
    model = vae.CVAE(784)
    assignment.train_vae(model, [(assignment.to_pixels(data.x_train), data.y_train)], None, True)
    losses = dict(train_loss=1.0, test_reconstruction=1.0, test_kl=1.0)
    model.run = types.SimpleNamespace(history=[losses])
    print(len(figures.show_training(model, data) + assignment.show_samples(model)))
"""


def test_numpy_s_behavior_and_one_test_image_are_drawn(tmp_path):
    """In a process of its own, since the behavior cannot be switched off. One image has no principal axes."""
    script = SURROUNDINGS.format(code=str(CODE), outputs=str(tmp_path / "outputs"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5", "4"]


def test_outputs_that_cannot_be_written_are_an_error_before_the_training(tmp_path, small_mnist, monkeypatch):
    """Here a file is where the folder should be, which fails for root too."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(assignment, "OUTPUTS", tmp_path / "file" / "outputs")
    trained = []
    monkeypatch.setattr(assignment, "train_vae", lambda *args: trained.append(args))
    monkeypatch.setattr("sys.argv", ["assignment.py", "--batch_size", "100"])
    with pytest.raises(OSError, match="file"):
        assignment.main(assignment.parseArguments())
    assert trained == []
