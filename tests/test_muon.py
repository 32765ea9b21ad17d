"""The optimizer against the exact U V^T and Adam's own algorithm; the rate against its values at a few images."""

import warnings

import muon
import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import keras_setting, same_weights
from errors import InputError


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


def new(kind):
    """A model with hidden layers of 32 units: what is tested does not depend on their width."""
    return kind(64, hidden_dim=32)


def orthogonal_step(change, direction, size):
    """Whether a change is `size` U V^T of a direction, up to the iteration's error: the same singular vectors."""
    u, _, v = np.linalg.svd(direction, full_matrices=False)
    scaled = u.T @ change @ v.T / size
    np.testing.assert_allclose(scaled, np.diag(np.diag(scaled)), atol=1e-4)
    return 0.65 < np.diag(scaled).min() and np.diag(scaled).max() < 1.25


# -------------------------------------------------------------------------------------------------------------- update


def test_kernels_of_other_layers_get_adam_s_update(layer, rng):
    """Kingma & Ba, algorithm 1, without weight decay."""
    optimizer = muon.MuonAdam(0.1, muon_layers=["other"])
    m = v = 0
    for t in range(1, 6):
        gradient = rng.normal(size=(5, 7))
        m, v = 0.9 * m + 0.1 * gradient, 0.97 * v + 0.03 * gradient**2
        expected = 0.1 * m / (1 - 0.9**t) / np.sqrt(v / (1 - 0.97**t))
        np.testing.assert_allclose(step(optimizer, layer, gradient), expected, atol=1e-5)


def test_muon_moves_a_kernel_every_second_step_along_u_v_transposed(layer, rng):
    """U V^T of the exact singular value decomposition of the momentum, in which every step's gradient counts."""
    optimizer, momentum = muon.MuonAdam(0.1, muon_layers=["hidden"]), 0
    moved = []
    for _ in range(6):
        gradient = rng.normal(size=(5, 7))
        momentum = 0.95 * momentum + gradient
        change = step(optimizer, layer, gradient)
        moved.append(change.any())
        assert not moved[-1] or orthogonal_step(change, gradient + 0.95 * momentum, 0.1 * 2 * 0.2 * np.sqrt(7))
    assert moved in ([True, False] * 3, [False, True] * 3)


def test_without_a_gradient_there_is_no_weight_decay(layer):
    optimizer = muon.MuonAdam(0.1, muon_layers=["hidden"])
    assert not any(step(optimizer, layer, np.zeros((5, 7))).any() for _ in range(2))


def test_weight_decay_and_clipping_act_on_muon_s_kernels_too(layer, rng):
    """Weight decay takes 0.1 times 0.5 of each weight; clipped to nearly nothing, other kernels hardly move."""
    optimizer = muon.MuonAdam(0.1, muon_layers=["hidden"], weight_decay=0.5)
    before = layer.kernel.numpy()
    np.testing.assert_allclose(step(optimizer, layer, np.zeros((5, 7))), 0.05 * before, rtol=1e-4)

    clipped, momentum = muon.MuonAdam(0.1, muon_layers=["hidden"], global_clipnorm=1.0), 0
    for _ in range(2):
        gradient = rng.normal(size=(5, 7))
        norm = np.sqrt(np.sum(gradient**2) + 7)  # with that of the bias
        momentum = 0.95 * momentum + gradient / norm
        change = step(clipped, layer, gradient)
        assert not change.any() or orthogonal_step(change, gradient / norm + 0.95 * momentum, 0.04 * np.sqrt(7))


def test_gradients_are_not_accumulated():
    with pytest.raises(InputError, match="does not accumulate gradients"):
        muon.MuonAdam(0.1, gradient_accumulation_steps=2)


@pytest.mark.parametrize("dtype, error", [("float32", 1e-4), ("bfloat16", 0.05)])
def test_large_singular_values_come_near_1_and_singular_vectors_stay(rng, dtype, error):
    u, v = (np.linalg.qr(rng.normal(size=(n, 6)))[0] for n in (20, 9))
    s = np.array([3.0, 2.0, 1.5, 1.0, 0.7, 0.5])
    result = muon.orthogonalise(tf.constant(u * s @ v.T, tf.float32), dtype)
    assert result.dtype == tf.float32
    diagonal = u.T @ result.numpy() @ v
    np.testing.assert_allclose(diagonal, np.diag(np.diag(diagonal)), atol=error)
    assert 0.6 < np.diag(diagonal).min() and np.diag(diagonal).max() < 1.3
    assert not muon.orthogonalise(tf.zeros((3, 4)), dtype).numpy().any()


def test_two_kernels_take_turns(rng):
    layers = [tf.keras.layers.Dense(6, name=f"hidden_{i}") for i in range(2)]
    for layer in layers:
        layer(tf.zeros((1, 6)))
    variables = [variable for layer in layers for variable in layer.trainable_variables]
    optimizer = muon.MuonAdam(0.1, muon_layers=["hidden_0", "hidden_1"])
    moved = []
    for _ in range(4):
        before = [layer.kernel.numpy() for layer in layers]
        optimizer.apply_gradients([(tf.constant(rng.normal(size=v.shape), tf.float32), v) for v in variables])
        moved.append([not np.array_equal(kernel, layer.kernel.numpy()) for kernel, layer in zip(before, layers)])
    assert moved in ([[True, False], [False, True]] * 2, [[False, True], [True, False]] * 2)
    assert int(tf.convert_to_tensor(optimizer.iterations)) == 4


def test_gradients_of_none_and_a_part_of_the_variables_are_fine():
    model = new(vae.CVAE)
    muon.set_optimizer(model, 1024)
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


# -------------------------------------------------------------------------------------------- which kernels, what state


@pytest.mark.parametrize(
    "kind, names",
    [
        (vae.VAE, {f"{network}_{i}" for network in ("encoder", "decoder") for i in (2, 3)}),
        (vae.CVAE, {"decoder_2", "decoder_3", "pixels"}),
    ],
)
@pytest.mark.parametrize("batch_size", [511, 512])
def test_muon_is_for_kernels_between_hidden_layers_and_for_large_batches(kind, names, batch_size):
    """Its update moves a kernel by singular values near 1 times one number, Adam's first by elements of one size."""
    model = new(kind)
    optimizer = muon.new_optimizer(model, batch_size)
    layers = [*model.encoder.layers, *model.decoder.layers, model.mu_layer, model.logvar_layer]
    kernels = {layer.name: layer.kernel for layer in layers if hasattr(layer, "kernel")}
    before = {name: kernel.numpy() for name, kernel in kernels.items()}
    rng = np.random.default_rng(0)
    gradients = [(tf.constant(rng.normal(size=v.shape), tf.float32), v) for v in model.trainable_variables]
    for _ in range(2):
        optimizer.apply_gradients(gradients)
    moved = {name: before[name] - kernel.numpy() for name, kernel in kernels.items()}
    of_one_size = {name for name, move in moved.items() if np.abs(move).min() > 0.9 * np.abs(move).max()}
    assert kernels.keys() - of_one_size == (names if batch_size == 512 else set())


def test_the_optimizer_can_be_saved_with_its_model_and_goes_on(tmp_path):
    """After one step of two, so that momentum and turns count: the third step of a copy is that of the original."""
    rng = np.random.default_rng(0)
    model = new(vae.CVAE)
    model.compile(optimizer=muon.new_optimizer(model, 1024))
    gradients = [[tf.constant(rng.normal(size=v.shape), tf.float32) for v in model.trainable_variables] for _ in "1234"]
    for gradient in gradients[:3]:
        model.optimizer.apply_gradients(zip(gradient, model.trainable_variables))
    model.save(tmp_path / "m.keras")
    loaded = tf.keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.optimizer) is muon.MuonAdam
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for other in (model, loaded):
        other.optimizer.apply_gradients(zip(gradients[3], other.trainable_variables))
    for ours, theirs in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------- rate


@pytest.mark.parametrize(
    "batch_size, factor, warm_up", [(128, 1.0, 282.84), (1024, 8, 100), (2048, 8, 100), (64, 0.5, 400)]
)  # B / 128 and 100 sqrt(1024 / B), by hand
def test_the_rate_warms_up_over_steps_and_decays_with_the_images_seen(batch_size, factor, warm_up):
    schedule = muon.WarmUpThenDecay(np.float64(2e-3), batch_size)  # of any type
    again = 200 * 1024 / batch_size  # steps after which (1 + images / DECAY) is 2, 3, ...
    for step, expected in (
        (0, 1 / warm_up),
        (49, 50 / warm_up),  # a straight line up
        (warm_up - 1, 1.0),
        (warm_up + again - 1, 0.35355),  # 2^-1.5
        (warm_up + 3 * again - 1, 0.125),
    ):
        rate = schedule(tf.constant(step, tf.float32))
        assert float(rate) == pytest.approx(2e-3 * factor * expected, rel=1e-4)


def test_the_default_rate():
    for batch_size, rate in ((64, 0.75e-3), (128, 1.5e-3), (1024, 0.012), (2048, 0.012)):
        assert muon.rate_at(batch_size) == pytest.approx(rate, rel=1e-6)


def test_the_rate_is_a_schedule_of_keras():
    schedule = muon.WarmUpThenDecay(2e-3, 64)
    schedules = tf.keras.optimizers.schedules
    copied = schedules.deserialize(schedules.serialize(schedule))
    assert type(copied) is muon.WarmUpThenDecay
    assert float(copied(100)) == float(schedule(100))


# ----------------------------------------------------------------------------------------- which optimizer a model has


def test_a_model_that_has_its_first_optimizer_gets_the_project_s():
    model = new(vae.VAE)
    assert type(model.optimizer) is tf.keras.optimizers.Adam
    muon.set_optimizer(model, 1024)
    first = model.optimizer
    assert isinstance(first, muon.MuonAdam)
    muon.set_optimizer(model, 128, 1e-4)
    assert model.optimizer is first and float(first.schedule.peak.numpy()) == pytest.approx(1e-4)


def chosen_before(model):
    model.optimizer = tf.keras.optimizers.Adam(1e-3)


def compiled(model):
    model.compile("adam")


def given_a_schedule(model):
    model.optimizer.learning_rate = tf.keras.optimizers.schedules.InverseTimeDecay(1e-3, 10, 1.0)


def clipped(model):
    model.optimizer.clipnorm = 1.0


@pytest.mark.parametrize("choose", [chosen_before, compiled, given_a_schedule, clipped])
def test_an_optimizer_that_the_caller_has_chosen_stays(choose):
    model = new(vae.VAE)
    choose(model)
    chosen = model.optimizer
    for _ in range(2):
        muon.set_optimizer(model, 1024)
        assert model.optimizer is chosen


@pytest.mark.parametrize("policy, dtype", [("float32", "float32"), ("mixed_bfloat16", "bfloat16")])
def test_muon_s_iteration_is_in_the_type_that_the_model_computes_in(policy, dtype):
    with keras_setting(policy=policy):
        assert muon.new_optimizer(new(vae.VAE)).muon_dtype == dtype


def test_copies_and_loaded_models_get_optimizers_of_their_own(tmp_path):
    model = new(vae.CVAE)
    muon.set_optimizer(model, 1024)
    model.save(tmp_path / "m.keras")
    loaded = tf.keras.models.load_model(tmp_path / "m.keras")
    muon.set_optimizer(loaded, 1024)
    assert isinstance(loaded.optimizer, muon.MuonAdam) and loaded.optimizer is not model.optimizer
    assert same_weights(loaded.get_weights(), model.get_weights())


def test_a_new_encoder_gets_an_optimizer_that_knows_it_and_how_far_training_is():
    model = new(vae.VAE)
    muon.set_optimizer(model, 512)
    first = model.optimizer
    first.iterations.assign(99)
    model.encoder = tf.keras.Sequential(
        [tf.keras.layers.Input((1, 8, 8)), tf.keras.layers.Flatten(), tf.keras.layers.Dense(32)]
    )
    muon.set_optimizer(model, 512)
    assert model.optimizer is not first and int(tf.convert_to_tensor(model.optimizer.iterations)) == 99


def test_an_optimizer_that_scales_the_loss_is_refused_in_one_line():
    with keras_setting(policy="mixed_float16"):
        model = new(vae.VAE)
        model.compile("adam")
        with pytest.raises(InputError, match="does not scale the loss"):
            muon.set_optimizer(model, 1024)
        model.optimizer = tf.keras.optimizers.Adam()
        muon.set_optimizer(model, 1024)
