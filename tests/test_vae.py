"""The models and their loss against NumPy, closed forms and Monte Carlo."""

import copy
import importlib.util
import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import CODE, keras_setting, same_weights, second_input

KINDS = [vae.VAE, vae.CVAE]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def layer_outputs(network, inputs):
    """What NumPy makes of the network's weights as the handout has it: linear layers, ReLU between, sigmoid last."""
    weights = network.get_weights()
    h = np.asarray(inputs).reshape(len(inputs), -1)
    for i in range(0, 6, 2):
        h = np.maximum(h @ weights[i] + weights[i + 1], 0)
    return h if len(weights) == 6 else 1 / (1 + np.exp(-(h @ weights[6] + weights[7])))


# ------------------------------------------------------------------------------------------------------------ loss


def test_bce_is_the_sum_over_all_pixels(rng):
    x_hat, x = rng.uniform(0.01, 0.99, (2, 5, 1, 4, 6)).astype(np.float32)
    expected = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
    np.testing.assert_allclose(vae.bce_function(x_hat, x), expected, rtol=1e-5)
    for shape in ((5, 24), (5, 4, 6, 1)):  # whatever the shape
        np.testing.assert_allclose(vae.bce_function(x_hat.reshape(shape), x.reshape(shape)), expected, rtol=1e-5)


def test_bce_of_plain_vectors():
    """-(log 0.9 + log 0.8 + log 0.9)."""
    expected = -(2 * math.log(0.9) + math.log(0.8))
    assert float(vae.bce_function([0.9, 0.2, 0.1], [1.0, 0.0, 0.0])) == pytest.approx(expected, rel=1e-5)


def test_terms_of_the_loss_are_given_by_image(rng):
    x_hat, x = rng.uniform(0.01, 0.99, (2, 5, 1, 4, 6)).astype(np.float32)
    mu, logvar = rng.standard_normal((2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(
        vae.reconstruction_loss(x_hat, x),
        -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat), axis=(1, 2, 3)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        vae.kl_divergence(mu, logvar), np.sum(0.5 * (np.exp(logvar) + mu**2 - 1 - logvar), axis=1), rtol=1e-5
    )


def test_kl_is_zero_for_the_prior():
    zeros = tf.zeros((3, 4))
    assert not vae.kl_divergence(zeros, zeros).numpy().any()


def test_kl_agrees_with_monte_carlo(rng):
    mu, logvar = np.float32([[0.5, -1.0]]), np.float32([[-1.0, 0.4]])
    z = mu + np.exp(logvar / 2) * rng.standard_normal((400_000, 2))
    log_q = -0.5 * (logvar + (z - mu) ** 2 / np.exp(logvar))
    monte_carlo = (log_q + 0.5 * z**2).sum(axis=1).mean()
    np.testing.assert_allclose(vae.kl_divergence(mu, logvar), [monte_carlo], rtol=0.02)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_loss_is_the_average_over_images(rng, dtype):
    x_hat, x = rng.uniform(0.1, 0.9, (2, 7, 1, 4, 4)).astype(dtype)
    mu, logvar = rng.standard_normal((2, 7, 3)).astype(dtype)
    bce = -np.sum(x * np.log(x_hat.astype(float)) + (1 - x) * np.log(1 - x_hat.astype(float)))
    kl = np.sum(0.5 * (np.exp(logvar.astype(float)) + mu.astype(float) ** 2 - 1 - logvar))
    loss = vae.loss_function(x_hat, x, mu, logvar)
    np.testing.assert_allclose(loss, (bce + kl) / 7, rtol=1e-3 if dtype == np.float16 else 1e-5)
    assert loss.dtype == tf.float32 and loss.shape == ()


def test_loss_is_finite_for_saturated_pixels():
    x, mu = tf.zeros((1, 1, 2, 2)), tf.zeros((1, 3))
    assert np.isfinite(vae.loss_function(tf.ones_like(x), x, mu, mu))


@pytest.mark.parametrize(
    "x_hat, x, mu, logvar, offending",
    [
        ((2, 1, 4, 4), (2, 1, 4, 1), (2, 3), (2, 3), r"\(2, 1, 4, 1\)"),
        ((2, 1, 4, 4), (1, 1, 4, 4), (2, 3), (2, 3), r"\(1,\)"),
        ((2, 1, 4, 4), (2, 1, 4, 4), (2, 3), (2, 1), r"\(2, 1\)"),
        ((2, 1, 4, 4), (2, 1, 4, 4), (1, 3), (1, 3), r"\(1,\)"),
    ],
)
def test_loss_refuses_shapes_that_would_broadcast(x_hat, x, mu, logvar, offending):
    with pytest.raises(ValueError, match=offending):
        vae.loss_function(*(tf.zeros(shape) for shape in (x_hat, x, mu, logvar)))


# ------------------------------------------------------------------------------------------------ reparameterisation


def test_reparametrize_samples_the_posterior():
    mu, logvar = tf.fill((200_000, 1), 2.0), tf.fill((200_000, 1), float(np.log(0.25)))
    z = vae.reparametrize(mu, logvar).numpy()
    assert abs(z.mean() - 2.0) < 0.01
    assert abs(z.std() - 0.5) < 0.01


def test_reparametrize_is_differentiable_in_a_graph_of_any_batch_size():
    @tf.function(input_signature=[tf.TensorSpec((None, 3)), tf.TensorSpec((None, 3))])
    def gradients(mu, logvar):
        with tf.GradientTape() as tape:
            tape.watch((mu, logvar))
            z = vae.reparameterization(mu, logvar)  # the handout's spelling
        return z, *tape.gradient(z, (mu, logvar))

    for n in (2, 5):
        mu = tf.ones((n, 3))
        z, by_mu, by_logvar = gradients(mu, tf.fill((n, 3), -1.0))
        np.testing.assert_array_equal(by_mu, np.ones((n, 3)))
        np.testing.assert_allclose(by_logvar, (z - mu) / 2, rtol=1e-4, atol=1e-6)  # d sigma / d logvar = sigma / 2


# ---------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_three_relu_layers_of_one_width_and_a_sigmoid(kind, rng):
    model = kind(64, latent_size=3)
    shapes = [w.shape for w in model.encoder.get_weights()[::2] + model.decoder.get_weights()[::2]]
    h, c = model.hidden_dim, 10 if kind is vae.CVAE else 0
    assert shapes == [(64 + c, h), (h, h), (h, h), (3 + c, h), (h, h), (h, h), (h, 64)]
    model.set_weights([rng.normal(0, 0.1, w.shape) for w in model.get_weights()])
    x = rng.uniform(size=(5, 64 + c)) if c else rng.uniform(size=(5, 1, 8, 8))
    np.testing.assert_allclose(model.encoder(np.float32(x)), layer_outputs(model.encoder, x), rtol=1e-3, atol=1e-4)
    z = np.float32(rng.normal(size=(5, 3 + c)))
    assert model.decoder(z).shape == (5, 1, 8, 8)
    np.testing.assert_allclose(
        np.reshape(model.decoder(z), (5, 64)), layer_outputs(model.decoder, z), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_forward_pass_encodes_samples_and_decodes(kind, rng, dtype):
    model = kind(64, latent_size=3)
    model.set_weights([rng.normal(0, 0.1, w.shape) for w in model.get_weights()])
    x, c = rng.uniform(size=(5, 1, 8, 8)).astype(dtype), second_input(model, [0, 3, 9, 3, 1])
    flat = np.concatenate([x.reshape(5, 64), *c], axis=1)
    h = layer_outputs(model.encoder, flat)
    (w_mu, b_mu), (w_logvar, b_logvar) = model.mu_layer.get_weights(), model.logvar_layer.get_weights()
    b_logvar -= 50  # sigma is nearly 0, and z is mu
    model.logvar_layer.set_weights([w_logvar, b_logvar])
    x_hat, mu, logvar = model(x, *c)
    np.testing.assert_allclose(mu, h @ w_mu + b_mu, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(logvar, h @ w_logvar + b_logvar, rtol=1e-3)
    expected = layer_outputs(model.decoder, np.concatenate([mu, *c], axis=1))
    np.testing.assert_allclose(np.reshape(x_hat, (5, 64)), expected, rtol=1e-3, atol=1e-4)
    assert x_hat.shape == (5, 1, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_z_has_noise_that_follows_the_global_seed(kind):
    def forward(seed):
        tf.keras.utils.set_random_seed(seed)
        model = kind(64)
        model.set_weights([np.full(w.shape, 0.1) for w in model.get_weights()])  # what differs is the noise alone
        x = tf.ones((2, 1, 8, 8))
        return [model(x, *second_input(model, [1, 2]))[0].numpy() for _ in range(2)]

    (first, second), again, other = forward(3), forward(3), forward(4)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal([first, second], again)
    assert not np.array_equal(first, other[0])


@pytest.mark.parametrize("kind", KINDS)
def test_encode_and_decode_are_what_the_forward_pass_is_made_of(kind, rng):
    model = kind(64, latent_size=3)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    x, c = rng.uniform(size=(5, 1, 8, 8)), second_input(model, [0, 3, 9, 3, 1])
    _, mu, logvar = model(x, *c)
    for ours, theirs in zip(model.encode(x, *c), (mu, logvar)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    z = rng.normal(size=(5, 3))
    expected = layer_outputs(model.decoder, np.concatenate([z, *c], axis=1))
    np.testing.assert_allclose(np.reshape(model.decode(z, *c), (5, 64)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_model_draws_one_image_near_the_mean_pixel(kind, rng):
    model = kind(64)
    images = model.decoder(np.float32(rng.normal(size=(5, model.decoder.input_shape[1]))))
    np.testing.assert_allclose(images, np.full((5, 1, 8, 8), 1 / (1 + math.exp(2))), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_mu_and_logvar_start_with_small_weights(kind):
    model = kind(784)
    for layer, stddev in ((model.mu_layer, 0.05), (model.logvar_layer, 0.02)):
        kernel, bias = layer.get_weights()
        assert kernel.std() == pytest.approx(stddev, rel=0.05) and abs(kernel.mean()) < 0.002 and not bias.any()


def test_class_weights_start_larger_in_proportion_to_the_image_s_side():
    tf.keras.utils.set_random_seed(0)
    model = vae.CVAE(784)
    for network, inputs, scale in ((model.encoder, 784 + 10, 1.5 * 28), (model.decoder, 15 + 10, 0.5 * 28)):
        kernel = network.get_weights()[0]
        he = math.sqrt(2 / inputs)
        assert kernel[:-10].std() == pytest.approx(he, rel=0.05)
        assert kernel[-10:].std() == pytest.approx(scale * he, rel=0.05)


def test_the_class_changes_what_encoder_and_decoder_put_out(rng):
    model = vae.CVAE(64)
    x, c = rng.uniform(size=(10, 64)).astype(np.float32), np.eye(10, dtype=np.float32)
    h = model.encoder(np.concatenate([np.repeat(x[:1], 10, axis=0), c], axis=1)).numpy()
    model.decoder.set_weights([rng.normal(0, 0.3, w.shape) for w in model.decoder.get_weights()])
    images = model.decoder(np.concatenate([np.zeros((10, 15), np.float32), c], axis=1)).numpy()
    for outputs in (h, images):
        for i in range(1, 10):
            assert np.abs(outputs[i] - outputs[0]).max() > 0.05


def test_cvae_takes_one_hots_of_any_type_a_pair_and_no_other_shape():
    model, x = vae.CVAE(64), tf.zeros((2, 1, 8, 8))
    for c in (np.eye(10)[:2], np.eye(10, dtype=np.int64)[:2], tf.eye(10)[:2]):
        assert model(x, c)[0].shape == model((x, c))[0].shape == (2, 1, 8, 8)
    for c in (np.eye(9)[:2], np.eye(10)[:1]):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            model(x, c)
    with pytest.raises(ValueError, match="one-hot classes"):
        model(x)


@pytest.mark.parametrize("kind", KINDS)
def test_models_refuse_images_of_another_size(kind):
    model = kind(64)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        model(tf.zeros((4, 1, 4, 4)), *second_input(model, [1, 2, 3, 4]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, -1, -4, 783])
def test_input_size_must_be_a_square(kind, size):
    with pytest.raises(ValueError, match=f"input_size must be .* got {size}"):
        kind(size)


def test_sizes_are_attributes():
    assert vae.VAE(1).image_size == 1
    model = vae.CVAE(784, num_classes=3, latent_size=4)
    assert (model.input_size, model.num_classes, model.latent_size) == (784, 3, 4)
    assert vae.CVAE(64).latent_size == vae.VAE(64).latent_size == 15 and vae.CVAE(64).num_classes == 10
    assert model.decoder(tf.zeros((2, 7))).shape == (2, 1, 28, 28)


# ------------------------------------------------------------------------------------------------- a model of Keras


def images_and_labels(n=40):
    """8 x 8 images of two kinds, and their labels 0 and 1."""
    labels = np.arange(n) % 2
    return np.float32(
        np.random.default_rng(0).uniform(size=(n, 1, 8, 8)) < 0.2 + 0.6 * labels[:, None, None, None]
    ), labels


@pytest.mark.parametrize("kind", KINDS)
def test_the_usual_loop_of_this_homework_trains_a_new_model(kind):
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
    assert int(tf.convert_to_tensor(model.optimizer.iterations)) == 15


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


def test_metrics_of_the_caller_are_reported_too():
    class Counting(vae.VAE):
        """A subclass adds to what the constructor has built."""

        def __init__(self, *args, **sizes):
            super().__init__(*args, **sizes)
            self.images = tf.keras.metrics.Sum(name="images")

        def call(self, x):
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
    model.encoder = tf.keras.Sequential([flatten, tf.keras.layers.Dense(384, "tanh")])
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
import muon, numpy as np, tensorflow as tf, vae
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
    try:
        muon.new_optimizer(model)
    except ValueError as error:
        print(error)
print(strategy.num_replicas_in_sync, max(errors) / max(steps))
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "MuonAdam trains on one device" in done.stdout
    devices, error = done.stdout.split()[-2:]
    assert devices == "2" and float(error) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_files_give_back_the_model(kind, tmp_path, rng):
    model = kind(64, latent_size=3)
    model.set_weights([rng.normal(0, 0.1, w.shape) for w in model.get_weights()])
    model.save(tmp_path / "m.keras")
    model.save_weights(str(tmp_path / "m.weights.h5"))
    other = kind(64, latent_size=3)
    other.load_weights(str(tmp_path / "m.weights.h5"))
    for copied in (other, copy.deepcopy(model), tf.keras.models.load_model(tmp_path / "m.keras")):
        assert same_weights(copied.get_weights(), model.get_weights())
        assert type(copied) is kind and copied.latent_size == 3
    assert (tmp_path / "m.weights.h5").stat().st_size < 4 * model.count_params() + 60_000


@pytest.mark.parametrize("kind", KINDS)
def test_keras_exports_the_decoder(kind, tmp_path, rng):
    model = kind(64, latent_size=3)
    model.decoder.set_weights([rng.normal(0, 0.1, w.shape) for w in model.decoder.get_weights()])
    model.decoder.export(str(tmp_path / "decoder"))
    z = np.float32(rng.normal(size=(4, model.decoder.input_shape[1])))
    exported = tf.saved_model.load(str(tmp_path / "decoder"))
    np.testing.assert_allclose(exported.serve(z), model.decoder(z), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_counts_the_weights_of_each_part(kind):
    lines, c, h = [], 10 * (kind is vae.CVAE), 32
    kind(64, hidden_dim=32).summary(print_fn=lambda line, **_: lines.append(line))
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
