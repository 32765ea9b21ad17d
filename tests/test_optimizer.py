"""`MuonAdam` against the exact U V^T, Adam's own algorithm, and the schedule's values."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import same_weights, second_input, steps_of

KINDS = [vae.VAE, vae.CVAE]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def layer():
    layer = tf.keras.layers.Dense(7, name="hidden")
    layer(tf.zeros((1, 5)))
    return layer


def step(optimizer, layer, gradient):
    """One update of a layer, with this gradient of its kernel: what the kernel was less what it is."""
    before = layer.kernel.numpy()
    optimizer.apply_gradients([(tf.constant(gradient, tf.float32), layer.kernel), (tf.ones(7), layer.bias)])
    return before - layer.kernel.numpy()


def near_1(s):
    """What becomes of a matrix's singular values in four steps: near 1 if they are above 0.001 of its norm."""
    s = s / np.linalg.norm(s)
    are_large = s > 0.001
    for a, b, c in vae.POLAR_EXPRESS:
        s = a * s + b * s**3 + c * s**5
    assert 0.43 < s[are_large].min() and s[are_large].max() < 1.57
    return s


def assert_orthogonal(change, direction, size):
    """A change is `size` U V^T of a direction, up to the iteration's error: the same singular vectors."""
    u, s, v = np.linalg.svd(direction, full_matrices=False)
    np.testing.assert_allclose(u.T @ change @ v.T / size, np.diag(near_1(s)), atol=1e-3)


def at_the_peak(optimizer, layer):
    """The optimizer, built, in step 100, in which the learning rate is its peak."""
    optimizer.build(layer.trainable_variables)
    optimizer.iterations.assign(99)
    return optimizer


# -------------------------------------------------------------------------------------------------------------- update


def test_kernels_of_other_layers_get_adam_s_update(layer, rng):
    """Kingma & Ba, algorithm 1; the rate of step t is 0.1 sqrt(t / 100)."""
    optimizer = vae.MuonAdam(0.1, muon_layers=["other"])
    m = v = 0
    for t in range(1, 6):
        gradient = rng.normal(size=(5, 7))
        m, v = 0.9 * m + 0.1 * gradient, 0.97 * v + 0.03 * gradient**2
        expected = 0.1 * np.sqrt(t / 100) * m / (1 - 0.9**t) / np.sqrt(v / (1 - 0.97**t))
        np.testing.assert_allclose(step(optimizer, layer, gradient), expected, atol=1e-6)


def test_muon_moves_a_kernel_along_u_v_transposed_of_its_momentum(layer, rng):
    optimizer = vae.MuonAdam(0.1, muon_layers=["hidden"])
    momentum = 0
    for t in range(1, 6):
        gradient = rng.normal(size=(5, 7))
        momentum = 0.95 * momentum + gradient
        change = step(optimizer, layer, gradient)
        assert_orthogonal(change, gradient + 0.95 * momentum, 0.1 * np.sqrt(t / 100) * 0.2 * np.sqrt(7))


def test_a_gradient_of_zero_moves_nothing(layer):
    optimizer = vae.MuonAdam(0.1, muon_layers=["hidden"])
    assert not step(optimizer, layer, np.zeros((5, 7))).any()


def test_weight_decay_and_clipping_act_on_muon_s_kernels_too(layer, rng):
    """Weight decay takes 0.1 times 0.5 of each weight, as in Keras' SGD; of a clipped gradient the direction counts."""
    decaying = at_the_peak(vae.MuonAdam(0.1, muon_layers=["hidden"], weight_decay=0.5), layer)
    before = layer.kernel.numpy()
    np.testing.assert_allclose(step(decaying, layer, np.zeros((5, 7))), 0.05 * before, rtol=1e-4)

    clipped = vae.MuonAdam(0.1, muon_layers=["hidden"], global_clipnorm=1.0)
    momentum = 0
    for t in (1, 2):
        gradient = rng.normal(size=(5, 7))
        norm = np.sqrt(np.sum(gradient**2) + 7)  # with that of the bias
        momentum = 0.95 * momentum + gradient / norm
        change = step(clipped, layer, gradient)
        assert_orthogonal(change, gradient / norm + 0.95 * momentum, 0.1 * np.sqrt(t / 100) * 0.2 * np.sqrt(7))


def test_singular_values_come_near_1_and_singular_vectors_stay(rng):
    """Of any size from the matrix's norm to a thousandth of it."""
    u, v = (np.linalg.qr(rng.normal(size=(n, 6)))[0] for n in (20, 9))
    s = np.array([3.0, 1.0, 0.3, 0.1, 0.03, 0.004])
    diagonal = u.T @ vae.orthogonalize(tf.constant(u * s @ v.T, tf.float32)).numpy() @ v
    np.testing.assert_allclose(diagonal, np.diag(near_1(s)), atol=1e-3)
    assert not vae.orthogonalize(tf.zeros((3, 4))).numpy().any()


# ---------------------------------------------------------------------------------------------------------------- rate


@pytest.mark.parametrize("t, factor", [(1, 0.1), (25, 0.5), (100, 1.0), (200, 0.5), (1000, 0.1)])
def test_the_rate_warms_up_over_100_steps_and_then_decays(layer, t, factor):
    """Adam's step along a constant gradient of 1, of which the moments are those of all the steps before."""
    optimizer = vae.MuonAdam(0.02)
    optimizer.build(layer.trainable_variables)
    optimizer.iterations.assign(t - 1)
    moments = {"first_moment": 1 - 0.9 ** (t - 1), "second_moment": 1 - 0.97 ** (t - 1)}
    for moment, values in zip(moments.values(), (optimizer.first_moments, optimizer.second_moments)):
        values[0].assign(tf.fill((5, 7), tf.cast(moment, tf.float32)))
    np.testing.assert_allclose(step(optimizer, layer, np.ones((5, 7))), 0.02 * factor * np.ones((5, 7)), rtol=0.02)


def test_a_learning_rate_that_is_set_counts_from_then_on_in_a_graph_too(layer):
    optimizer = at_the_peak(vae.MuonAdam(0.1), layer)
    graph = tf.function(lambda: optimizer.apply_gradients([(tf.ones((5, 7)), layer.kernel)]))
    moved = []
    for rate in (0.1, 0.001):
        optimizer.learning_rate = rate
        before = layer.kernel.numpy()
        graph()
        moved.append(np.abs(before - layer.kernel.numpy()).max())
    assert moved[1] == pytest.approx(0.01 * moved[0], rel=0.5)  # Adam's moments are those of steps 100 and 101


# -------------------------------------------------------------------------------------------- which kernels, what state


@pytest.mark.parametrize(
    "kind, names",
    [
        (vae.VAE, {f"{network}_{i}" for network in ("encoder", "decoder") for i in (2, 3)}),
        (vae.CVAE, {"decoder_2", "decoder_3", "pixels"}),
    ],
)
def test_muon_is_for_the_kernels_of_some_layers(kind, names, narrow, rng):
    """Its update moves a kernel by singular values near 1 times one number, Adam's first by elements of one size."""
    model = kind(64)
    layers = [*model.encoder.layers, *model.decoder.layers, model.mu_layer, model.logvar_layer]
    kernels = {layer.name: layer.kernel for layer in layers if hasattr(layer, "kernel")}
    before = {name: kernel.numpy() for name, kernel in kernels.items()}
    gradients = [(tf.constant(rng.normal(size=v.shape), tf.float32), v) for v in model.trainable_variables]
    model.optimizer.apply_gradients(gradients)
    moved = {name: before[name] - kernel.numpy() for name, kernel in kernels.items()}
    of_one_size = {name for name, move in moved.items() if np.abs(move).min() > 0.9 * np.abs(move).max()}
    assert kernels.keys() - of_one_size == names


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 4, 128])
def test_one_step_moves_every_variable(kind, count, rng):
    """On real sizes, from the first step on, also of a single image."""
    model = kind(784)
    before = model.get_weights()
    x, c = np.float32(rng.uniform(size=(count, 1, 28, 28))), second_input(model, np.arange(count) % 10)
    with tf.GradientTape() as tape:
        x_hat, mu, logvar = model(x, *c)
        loss = vae.loss_function(x_hat, x, mu, logvar)
    gradients = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    assert len(before) == 18
    assert not any(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def test_gradients_of_none_and_a_part_of_the_variables_are_fine(narrow):
    model = vae.CVAE(64)
    before = model.get_weights()
    model.optimizer.apply_gradients([(tf.ones_like(v), v) for v in model.decoder.trainable_variables])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says which have none
        model.optimizer.apply_gradients(
            [(None if len(v.shape) == 2 else tf.ones_like(v), v) for v in model.trainable_variables]
        )
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights())]
    assert sum(moved) == 8 + 5  # the decoder's weights, and the other biases


def test_a_variable_that_the_optimizer_was_not_built_with_is_refused(layer):
    optimizer = vae.MuonAdam(0.1)
    optimizer.build([layer.kernel])
    with pytest.raises((ValueError, KeyError)):
        optimizer.apply_gradients([(tf.ones(7), layer.bias)])


def test_a_copy_from_its_configuration_has_the_same_settings():
    optimizer = vae.MuonAdam(0.03, muon_layers=["pixels"], clipnorm=2.0)
    copied = tf.keras.optimizers.deserialize(tf.keras.optimizers.serialize(optimizer))
    assert type(copied) is vae.MuonAdam
    assert copied.muon_layers == ["pixels"] and copied.clipnorm == 2.0
    assert float(tf.convert_to_tensor(copied.learning_rate)) == pytest.approx(0.03)
    assert copied.get_config() == optimizer.get_config()


@pytest.mark.parametrize("kind", KINDS)
def test_each_model_has_an_optimizer_of_its_own_from_the_constructor_on(kind, narrow):
    first, second = kind(64), kind(64)
    assert isinstance(first.optimizer, vae.MuonAdam) and first.optimizer is not second.optimizer
    assert float(tf.convert_to_tensor(first.optimizer.learning_rate)) == pytest.approx(0.011)
    before = second.get_weights()
    first.optimizer.apply_gradients([(tf.ones_like(v), v) for v in first.trainable_variables])
    assert (steps_of(first), steps_of(second)) == (1, 0) and same_weights(before, second.get_weights())
