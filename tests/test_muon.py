"""The optimizer against the exact U V^T and Adam's own algorithm; the rate against its values at a few images."""

import warnings

import muon
import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import same_weights


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def layer():
    layer = tf.keras.layers.Dense(7)
    layer.build((None, 5))
    return layer


def step(optimizer, layer, gradient):
    """One update of a layer, with this gradient of its kernel: what the kernel was less what it is."""
    before = layer.kernel.numpy()
    optimizer.apply_gradients([(tf.constant(gradient, tf.float32), layer.kernel), (tf.ones(7), layer.bias)])
    return before - layer.kernel.numpy()


def new_optimizer(layer, batch_size=muon.MIN_MUON_BATCH_SIZE):
    optimizer = muon.MuonAdam(muon_kernels=[layer.kernel])
    optimizer.prepare(layer.trainable_variables)
    optimizer.start_step(batch_size, 1.0)
    optimizer.learning_rate = 0.1
    return optimizer


def test_for_small_batches_the_optimizer_is_adam(layer, rng):
    """Kingma & Ba, algorithm 1, without weight decay."""
    optimizer = new_optimizer(layer, muon.MIN_MUON_BATCH_SIZE - 1)
    m = v = 0
    for t in range(1, 6):
        gradient = rng.normal(size=(5, 7))
        m, v = 0.9 * m + 0.1 * gradient, 0.97 * v + 0.03 * gradient**2
        expected = 0.1 * m / (1 - 0.9**t) / np.sqrt(v / (1 - 0.97**t))
        np.testing.assert_allclose(step(optimizer, layer, gradient), expected, atol=1e-5)


def test_muon_moves_a_kernel_every_second_step_along_u_v_transposed(layer, rng):
    """U V^T of the exact singular value decomposition of the momentum, in which every step's gradient counts."""
    optimizer, momentum = new_optimizer(layer), 0
    moved = []
    for _ in range(6):
        gradient = rng.normal(size=(5, 7))
        momentum = 0.95 * momentum + gradient
        change = step(optimizer, layer, gradient)
        moved.append(change.any())
        if moved[-1]:
            u, _, v = np.linalg.svd(gradient + 0.95 * momentum, full_matrices=False)
            scaled = u.T @ change @ v.T / (0.1 * 2 * 0.2 * np.sqrt(7))
            np.testing.assert_allclose(scaled, np.diag(np.diag(scaled)), atol=1e-4)  # the same singular vectors
            assert 0.65 < np.diag(scaled).min() and np.diag(scaled).max() < 1.25
    assert moved in ([True, False] * 3, [False, True] * 3)


def test_without_a_gradient_there_is_no_weight_decay(layer):
    optimizer = new_optimizer(layer)
    assert not step(optimizer, layer, np.zeros((5, 7))).any() and not step(optimizer, layer, np.zeros((5, 7))).any()


def test_large_singular_values_come_near_1_and_singular_vectors_stay(rng):
    u, v = (np.linalg.qr(rng.normal(size=(n, 6)))[0] for n in (20, 9))
    s = np.array([3.0, 2.0, 1.5, 1.0, 0.7, 0.5])
    result = muon.orthogonalise(tf.constant(u * s @ v.T, tf.float32)).numpy()
    diagonal = u.T @ result @ v
    np.testing.assert_allclose(diagonal, np.diag(np.diag(diagonal)), atol=1e-4)
    assert 0.65 < np.diag(diagonal).min() and np.diag(diagonal).max() < 1.25
    assert not muon.orthogonalise(tf.zeros((3, 4))).numpy().any()


def test_two_kernels_take_turns(rng):
    layers = [tf.keras.layers.Dense(6) for _ in range(2)]
    for layer in layers:
        layer.build((None, 6))
    variables = [variable for layer in layers for variable in layer.trainable_variables]
    optimizer = muon.MuonAdam(muon_kernels=[layer.kernel for layer in layers])
    optimizer.prepare(variables)
    optimizer.start_step(muon.MIN_MUON_BATCH_SIZE, 1.0)
    moved = []
    for _ in range(4):
        before = [layer.kernel.numpy() for layer in layers]
        optimizer.apply_gradients([(tf.constant(rng.normal(size=v.shape), tf.float32), v) for v in variables])
        moved.append([not np.array_equal(kernel, layer.kernel.numpy()) for kernel, layer in zip(before, layers)])
    assert moved in ([[True, False], [False, True]] * 2, [[False, True], [True, False]] * 2)
    assert int(tf.convert_to_tensor(optimizer.iterations)) == 4


@pytest.mark.parametrize(
    "kind, names",
    [
        (vae.VAE, {f"{network}/hidden_{i}" for network in ("encoder", "decoder") for i in (2, 3)}),
        (vae.CVAE, {"decoder/hidden_2", "decoder/hidden_3", "decoder/pixels"}),
    ],
)
def test_muon_is_for_kernels_between_hidden_layers(kind, names):
    model = kind(64)
    muon.set_optimizer(model)
    found = {
        f"{network.name}/{layer.name}"
        for network in (model.encoder, model.decoder)
        for layer in network.layers
        if any(kernel is getattr(layer, "kernel", None) for kernel in model.optimizer.muon_kernels)
    }
    assert found == names and len(model.optimizer.muon_kernels) == len(names)


def test_gradients_of_none_and_a_part_of_the_variables_are_fine():
    model = vae.CVAE(64)
    muon.set_optimizer(model)
    model.optimizer.start_step(muon.MIN_MUON_BATCH_SIZE, 1e-3)
    before = model.get_weights()
    for _ in range(2):
        model.optimizer.apply_gradients([(tf.ones_like(v), v) for v in model.decoder.trainable_variables])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says which have none
        model.optimizer.apply_gradients(
            [(None if len(v.shape) == 2 else tf.ones_like(v), v) for v in model.trainable_variables]
        )
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights())]
    assert sum(moved) == 8 + 5  # the decoder's weights, and the other biases


# -------------------------------------------------------------------------------------------------------------- rate


@pytest.mark.parametrize(
    "batch_size, factor, warm_up", [(128, 1.0, 282.84), (1024, 4.757, 100), (2048, 4.757, 100), (64, 0.595, 400)]
)  # (B / 128)^0.75 and 100 sqrt(1024 / B), by hand
def test_the_rate_warms_up_over_steps_and_decays_with_the_images_seen(batch_size, factor, warm_up):
    for step, images_seen, expected in (
        (1, 0, 1 / warm_up),
        (50, 0, 50 / warm_up),  # a straight line up
        (400, 0, 1.0),
        (401, 204_800, 0.7071),  # 1 / sqrt(2)
        (900, 3 * 204_800, 0.5),
        (401, 99 * 204_800, 0.1),
    ):
        rate = muon.learning_rate_schedule(step, images_seen, batch_size, 2e-3)
        assert rate == pytest.approx(2e-3 * factor * expected, rel=1e-3)


def test_the_rate_counts_steps_and_then_images_whatever_the_batches():
    optimizer = muon.MuonAdam()
    for _ in range(400):
        optimizer.start_step(64, 1e-3)
    assert float(tf.convert_to_tensor(optimizer.learning_rate)) == pytest.approx(1e-3 * 0.5**0.75, rel=1e-4)
    for batch_size in (3 * 51_200, 25_600, 204_800 - 3 * 51_200 - 25_600 - 128, 128):
        optimizer.start_step(batch_size, 1e-3)
    assert float(tf.convert_to_tensor(optimizer.learning_rate)) == pytest.approx(1e-3 / 2**0.5, rel=1e-4)


# ----------------------------------------------------------------------------------------- which optimizer a model has


def test_a_model_that_has_its_first_optimizer_gets_the_project_s():
    model = vae.VAE(64)
    assert type(model.optimizer) is tf.keras.optimizers.Adam
    muon.set_optimizer(model)
    first = model.optimizer
    assert isinstance(first, muon.MuonAdam)
    muon.set_optimizer(model)
    assert model.optimizer is first


def test_an_optimizer_that_the_caller_has_set_stays():
    model = vae.VAE(64)
    chosen = tf.keras.optimizers.Adam(1e-3)
    model.optimizer = chosen
    muon.set_optimizer(model)
    assert model.optimizer is chosen
    model.compile(optimizer="sgd")
    muon.set_optimizer(model)
    assert type(model.optimizer) is tf.keras.optimizers.SGD


def test_a_new_encoder_gets_an_optimizer_that_knows_it_and_how_far_training_is():
    model = vae.VAE(64)
    muon.set_optimizer(model)
    first = model.optimizer
    first.start_step(512, 1e-3)
    first.images_seen = 99
    model.encoder = tf.keras.Sequential(
        [tf.keras.layers.Input((1, 8, 8)), tf.keras.layers.Flatten(), tf.keras.layers.Dense(32)]
    )
    muon.set_optimizer(model)
    assert model.optimizer is not first and (model.optimizer.steps, model.optimizer.images_seen) == (1, 99)


def test_a_model_that_was_saved_compiled_gets_an_optimizer_for_its_own_kernels(tmp_path):
    model = vae.CVAE(64)
    muon.set_optimizer(model)
    model.compile(optimizer=model.optimizer)
    model.save(tmp_path / "m.keras")
    loaded = tf.keras.models.load_model(tmp_path / "m.keras")
    assert isinstance(loaded.optimizer, muon.MuonAdam) and not loaded.optimizer.muon_kernels
    muon.set_optimizer(loaded)
    assert len(loaded.optimizer.muon_kernels) == 3
    assert same_weights(loaded.get_weights(), model.get_weights())


def test_weights_files_have_no_state_of_the_optimizer(tmp_path):
    model, sizes = vae.CVAE(64), []
    muon.set_optimizer(model)
    for name in ("before", "after"):
        model.save_weights(str(tmp_path / f"{name}.weights.h5"))
        sizes.append((tmp_path / f"{name}.weights.h5").stat().st_size)
        model.optimizer.apply_gradients([(tf.ones_like(v), v) for v in model.trainable_variables])
    assert sizes[0] == sizes[1]
