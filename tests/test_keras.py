"""The models as models of Keras: `fit`, files, copies, export, policies."""

import copy
import importlib.util
import subprocess
import sys

import assignment
import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import CODE, keras_setting, same_weights, second_input, steps_of

KINDS = [vae.VAE, vae.CVAE]
pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def images_and_labels(n=40):
    """8 x 8 images of two kinds, and their labels 0 and 1."""
    labels = np.arange(n) % 2
    return np.float32(
        np.random.default_rng(0).uniform(size=(n, 1, 8, 8)) < 0.2 + 0.6 * labels[:, None, None, None]
    ), labels


@pytest.mark.parametrize("kind", KINDS)
def test_the_standard_loop_of_this_homework_trains_a_new_model(kind):
    model = kind(64)
    x, y = images_and_labels()
    losses = []
    for _ in range(15):
        with tf.GradientTape() as tape:
            x_hat, mu, logvar = model(x, *second_input(model, y))
            loss = vae.loss_function(x_hat, x, mu, logvar)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.5
    assert steps_of(model) == 15


def data_set(model, x, y):
    """What `fit` is given: batches of images and labels for a VAE, batches of a pair for a CVAE."""
    if hasattr(model, "num_classes"):
        return tf.data.Dataset.from_tensor_slices(((x, np.eye(10, dtype=np.float32)[y]),)).batch(20)
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(20)


@pytest.mark.parametrize("kind", KINDS)
def test_compile_fit_and_evaluate_minimise_the_loss_and_report_its_terms(kind, tmp_path):
    """With the callbacks that people use; saved compiled, loaded, trained on."""
    model = kind(64, latent_size=3)
    batches = data_set(model, *images_and_labels())
    model.compile(optimizer=tf.keras.optimizers.Adam(1e-2))
    callbacks = [
        tf.keras.callbacks.EarlyStopping("loss", patience=100),
        tf.keras.callbacks.ModelCheckpoint(str(tmp_path / "best.weights.h5"), "loss", save_weights_only=True),
    ]
    if importlib.util.find_spec("tensorboard"):  # not every TensorFlow brings it
        callbacks.append(tf.keras.callbacks.TensorBoard(str(tmp_path / "logs")))
    history = model.fit(batches, validation_data=batches, epochs=6, verbose=0, callbacks=callbacks).history
    assert history["loss"][-1] < history["loss"][0] - 1 and history["val_loss"][-1] < history["val_loss"][0]
    np.testing.assert_allclose(np.add(history["reconstruction"], history["kl"]), history["loss"], rtol=1e-5)
    assert len(callbacks) == 2 or list((tmp_path / "logs").rglob("*tfevents*"))
    other = kind(64, latent_size=3)
    call(other)
    other.load_weights(str(tmp_path / "best.weights.h5"))
    assert same_weights(other.get_weights(), model.get_weights())

    model.save(tmp_path / "m.keras")
    loaded = tf.keras.models.load_model(tmp_path / "m.keras")
    assert same_weights(loaded.get_weights(), model.get_weights()) and type(loaded) is kind
    assert loaded.fit(batches, verbose=0).history["loss"][0] < history["loss"][0]


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_is_the_loss_of_all_images(kind):
    """Against NumPy, without noise; the last of the batches is smaller."""
    model = kind(64)
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))
    x, y = images_and_labels(50)
    model.compile()
    x_hat, mu, logvar = (np.asarray(part, float) for part in model(x, *second_input(model, y)))
    reconstruction = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat)) / 50
    kl = np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar)) / 50
    loss = model.evaluate(data_set(model, x, y), verbose=0, return_dict=True)
    expected = {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_images_count_as_in_keras(kind):
    """Against NumPy, without noise: weighted losses added up and divided by the number of images."""
    model = kind(64)
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))
    x, y = images_and_labels(20)
    c = second_input(model, y)
    x_hat, mu, logvar = (np.asarray(part, float) for part in model(x, *c))
    reconstruction = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat), axis=(1, 2, 3))
    kl = np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar), axis=1)
    weights = np.float32(np.arange(20) % 3)
    model.compile(optimizer=tf.keras.optimizers.SGD(0.01))
    inputs = (x, *c) if c else x
    expected = {"loss": np.mean(weights * (reconstruction + kl)), "kl": np.mean(weights * kl)}
    for column in (weights, weights[:, None]):
        loss = model.evaluate(inputs, y, sample_weight=column, batch_size=20, verbose=0, return_dict=True)
        assert {name: loss[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    before = model.get_weights()
    model.fit(inputs, y, sample_weight=np.zeros(20), verbose=0)
    assert same_weights(before, model.get_weights())


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_of_the_caller_is_refused_in_one_line(kind):
    model = kind(64)
    model.compile("adam", loss="mse")
    with pytest.raises(ValueError, match="the model has its own loss"):
        model.fit(data_set(model, *images_and_labels()), verbose=0)


def test_metrics_of_the_caller_are_reported_too():
    class Counting(vae.VAE):
        """A subclass adds to what the constructor has built."""

        def __init__(self, *args, **sizes):
            super().__init__(*args, **sizes)
            self.images = tf.keras.metrics.Sum(name="images")

        def call(self, x, training=None):
            self.images.update_state(tf.ones(tf.shape(x)[:1]))
            return super().call(x)

    model = Counting(64)
    model.compile()
    x, _ = images_and_labels()
    history = model.fit(x, batch_size=20, verbose=0).history
    assert history["images"] == [40.0] and history["loss"][0] > 0


def test_parts_can_be_replaced():
    model = vae.VAE(64)
    flatten = tf.keras.layers.Flatten()
    model.encoder = tf.keras.Sequential([flatten, tf.keras.layers.Dense(32, "tanh")])
    x, _ = images_and_labels()
    x_hat, mu, _ = model(x)
    assert x_hat.shape == x.shape and mu.shape == (40, 15)
    kernel, bias = model.encoder.get_weights()
    w, b = model.mu_layer.get_weights()
    np.testing.assert_allclose(mu, np.tanh(x.reshape(40, 64) @ kernel + bias) @ w + b, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(
    getattr(tf.keras, "__version__", "2").startswith(tuple(f"3.{i}." for i in range(10))),
    reason="before 3.10, Keras 3 averages the gradients of the devices, where it must add them up",
)
def test_two_devices_train_as_one_does(tmp_path):
    """`fit` under MirroredStrategy against a step along the gradient of all images, without noise.

    In a process of its own: the devices must be there before TensorFlow starts.
    """
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import sys; sys.path.insert(0, {str(CODE)!r})
import numpy as np, tensorflow as tf, vae
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
x = np.float32(rng.uniform(size=(40, 1, 8, 8)))
c = np.eye(10, dtype=np.float32)[np.arange(40) % 10]
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = vae.CVAE(64)
    model.set_weights([rng.normal(0, 0.1, w.shape) for w in model.get_weights()])
    model.logvar_layer.bias.assign([-30.0] * 15)  # z is mu
    model.compile(optimizer=tf.keras.optimizers.SGD(1e-2))
with tf.GradientTape() as tape:
    x_hat, mu, logvar = model(x, c)
    loss = vae.loss_function(x_hat, x, mu, logvar)
gradients = tape.gradient(loss, model.trainable_variables)
before = model.get_weights()
model.fit(tf.data.Dataset.from_tensor_slices(((x, c),)).batch(40), verbose=0)
steps = [np.abs(a - b).max() for a, b in zip(before, model.get_weights())]
errors = [np.abs(a - 1e-2 * g - b).max() for a, g, b in zip(before, gradients, model.get_weights())]
with strategy.scope():
    other = vae.CVAE(64)
    other.compile(optimizer=other.optimizer)
try:
    other.fit(tf.data.Dataset.from_tensor_slices(((x, c),)).batch(40), verbose=0)
except ValueError as error:
    print(error)
print(strategy.num_replicas_in_sync, max(errors) / max(steps))
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "MuonAdam does not support multi-device training" in done.stdout
    devices, error = done.stdout.split()[-2:]
    assert devices == "2" and float(error) < 1e-3


# ------------------------------------------------------------------------------------------- training that is continued


def by_keras_file(model, folder):
    model.save(folder / "m.keras")
    return tf.keras.models.load_model(folder / "m.keras")


def by_checkpoint(model, folder):
    path = tf.train.Checkpoint(model).write(str(folder / "checkpoint"))
    other = type(model)(64, latent_size=3)
    tf.train.Checkpoint(other).read(path).assert_consumed()
    return other


def by_weights(model, folder):
    model.save_weights(str(folder / "m.weights.h5"))
    other = type(model)(64, latent_size=3)
    call(other)
    other.load_weights(str(folder / "m.weights.h5"))
    return other


def by_save_model_weights(model, folder):
    assignment.save_model_weights(model, None)
    return assignment.load_weights(type(model)(64, latent_size=3))


def by_save_model_weights_with_adam(model, folder):
    assignment.save_model_weights(model, None)
    other = type(model)(64, latent_size=3)
    other.optimizer = tf.keras.optimizers.Adam(1e-3)
    other.logvar_layer.trainable = False  # as in the model: Keras' Adam has state for the trained variables alone
    return assignment.load_weights(other)


def by_copy(model, folder):
    return copy.deepcopy(model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "carry", [by_keras_file, by_checkpoint, by_weights, by_save_model_weights, by_save_model_weights_with_adam, by_copy]
)
def test_a_training_that_is_saved_and_loaded_continues_as_if_uninterrupted(kind, carry, tmp_path):
    """Three steps, then two more, of the model and of what was loaded; without noise, and all equal."""
    model = kind(64, latent_size=3)
    model.logvar_layer.bias.assign([-30.0] * 3)
    model.logvar_layer.trainable = False
    if carry is by_save_model_weights_with_adam:
        model.optimizer = tf.keras.optimizers.Adam(1e-3)
    for _ in range(3):
        train(model)
    loaded = carry(model, tmp_path)
    loaded.logvar_layer.trainable = False
    assert type(loaded) is kind and loaded.latent_size == 3
    assert steps_of(loaded) == 3 and same_weights(loaded.get_weights(), model.get_weights())
    for _ in range(2):
        train(model)
        train(loaded)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert steps_of(loaded) == steps_of(model) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_fit_a_custom_loop_and_train_vae_are_the_same_training(kind):
    """Three steps by `model.optimizer`, without noise."""
    x, y = images_and_labels(60)

    def by_fit(model):
        model.compile(optimizer=model.optimizer)
        model.fit(data_set(model, x, y), verbose=0)

    def by_a_loop(model):
        for start in (0, 20, 40):
            images, labels = x[start : start + 20], y[start : start + 20]
            with tf.GradientTape() as tape:
                x_hat, mu, logvar = model(images, *second_input(model, labels))
                loss = vae.loss_function(x_hat, images, mu, logvar)
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))

    def by_train_vae(model):
        batches = [(x[start : start + 20], y[start : start + 20]) for start in (0, 20, 40)]
        assignment.train_vae(model, batches, None, is_cvae=kind is vae.CVAE)

    weights = kind(64).get_weights()
    trained = []
    for way in (by_train_vae, by_fit, by_a_loop):
        model = kind(64)
        model.set_weights(weights)
        model.logvar_layer.bias.assign(tf.fill((15,), -30.0))
        model.logvar_layer.trainable = False
        way(model)
        assert steps_of(model) == 3
        trained.append(model.get_weights())
    for others in trained[1:]:
        for ours, theirs, start in zip(trained[0], others, weights):
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=0.02 * np.abs(ours - start).max() + 1e-6)


# ----------------------------------------------------------------------------------------------------- served, exported


def inputs_of(model, n=3):
    """What a model is called with: one argument, images or a pair."""
    x, y = images_and_labels(n)
    c = second_input(model, y)
    return [x, *c] if c else x


def call(model):
    x, y = images_and_labels(3)
    model(x, *second_input(model, y))


def predict(model):
    model.predict(inputs_of(model), verbose=0)


def fit(model):
    model.compile(optimizer="adam")
    model.fit(data_set(model, *images_and_labels()), verbose=0)


def train(model):
    assignment.train_vae(model, [images_and_labels()], None, is_cvae=hasattr(model, "num_classes"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", [call, predict, fit, train])
def test_keras_exports_a_model_however_it_was_used_before(kind, use, tmp_path):
    model = kind(64, latent_size=3)
    use(model)
    model.export(str(tmp_path / "model"))
    exported = tf.saved_model.load(str(tmp_path / "model"))
    for n in (1, 3):  # any number of images
        x_hat, mu, logvar = exported.serve(inputs_of(model, n))
        _, expected, _ = model(inputs_of(model, n))
        np.testing.assert_allclose(mu, expected, atol=1e-6)
        assert x_hat.shape == (n, 1, 8, 8) and logvar.shape == (n, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_keras_exports_the_decoder(kind, tmp_path, rng):
    model = kind(64, latent_size=3)
    model.decoder.set_weights([rng.normal(0, 0.1, w.shape) for w in model.decoder.get_weights()])
    model.decoder.export(str(tmp_path / "decoder"))
    z = np.float32(rng.normal(size=(4, model.decoder.input_shape[1])))
    exported = tf.saved_model.load(str(tmp_path / "decoder"))
    np.testing.assert_allclose(exported.serve(z), model.decoder(z), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_tensorflow_lite_converts_model_and_decoder(kind, rng):
    model = kind(64, latent_size=3)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    z = np.float32(rng.normal(size=(1, model.decoder.input_shape[1])))
    images_and_classes = inputs_of(model, 1)
    call(model)
    for network, inputs in ((model, images_and_classes), (model.decoder, z)):
        converted = tf.lite.TFLiteConverter.from_keras_model(network).convert()
        interpreter = tf.lite.Interpreter(model_content=converted)
        interpreter.allocate_tensors()
        by_rank = {value.ndim: value for value in (inputs if type(inputs) is list else [inputs])}
        for details in interpreter.get_input_details():
            interpreter.set_tensor(details["index"], by_rank[len(details["shape"])])
        interpreter.invoke()
        outputs = [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]
        expected = network(inputs)[1] if network is model else network(inputs)
        assert any(o.shape == expected.shape and np.allclose(o, expected, atol=1e-5) for o in outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_can_be_part_of_another(kind):
    model = kind(64, latent_size=3)
    inputs = [tf.keras.Input((1, 8, 8)), *(tf.keras.Input((10,)) for _ in second_input(model, [0]))]
    _, mu, _ = model(*inputs)
    wrapped = tf.keras.Model(inputs, mu)
    _, expected, _ = model(inputs_of(model))
    np.testing.assert_allclose(wrapped.predict(inputs_of(model), verbose=0), expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_counts_the_weights_of_each_part(kind):
    lines, c, h = [], 10 * (kind is vae.CVAE), 32
    model = kind(64)
    call(model)
    model.summary(print_fn=lambda line, **_: lines.append(line))
    hidden = 2 * (h + 1) * h
    for name, count in (
        ("encoder", (64 + c + 1) * h + hidden),
        ("mu", (h + 1) * 15),
        ("logvar", (h + 1) * 15),
        ("decoder", (15 + c + 1) * h + hidden + (h + 1) * 64),
    ):
        rows = [line for line in "\n".join(lines).splitlines() if name in line]
        assert any(str(count) in row.replace(",", "") for row in rows), (name, count, rows)


def test_a_frozen_encoder_is_not_among_what_is_trained():
    model = vae.CVAE(64)
    model.encoder.trainable = False
    assert len(model.trainable_variables) == 2 + 2 + 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("setting", [{"policy": "mixed_float16"}, {"policy": "mixed_bfloat16"}, {"floatx": "float64"}])
def test_models_work_under_every_policy_of_keras(kind, setting, rng):
    with keras_setting(**setting):
        model = kind(64)
        x = rng.uniform(size=(20, 1, 8, 8))
        x_hat, mu, logvar = model(x, *(c.astype(int) for c in second_input(model, np.arange(20) % 10)))
        loss = vae.loss_function(x_hat, x, mu, logvar)
        assert x_hat.dtype == loss.dtype == tf.float32 and mu.dtype == model.compute_dtype and np.isfinite(loss)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_near_1_keep_their_gradient_under_mixed_precision(kind):
    """In float16 sigmoid(9) is 1 exactly, and the gradient of a pixel that should be 0 is lost."""
    with keras_setting(policy="mixed_float16"):
        decoder = kind(64).decoder
    decoder.get_layer("pixels").bias.assign(tf.fill((64,), 9.0))
    with tf.GradientTape() as tape:
        x_hat = decoder(tf.zeros((1, decoder.input_shape[1])))
        loss = vae.bce_function(x_hat, tf.zeros_like(x_hat))
    gradient = tape.gradient(loss, decoder.get_layer("pixels").bias)
    np.testing.assert_allclose(gradient, np.full(64, 1 / (1 + np.exp(-9.0))), rtol=1e-3)  # d loss / d logit = x_hat - x
