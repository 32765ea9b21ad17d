"""float32 or bfloat16: which is chosen, that both train, and that each loads what the other has saved."""

import json
import time

import assignment
import numpy as np
import precision
import pytest
import tensorflow as tf
import vae
from conftest import arguments, same_weights, second_input

KINDS = [vae.VAE, vae.CVAE]


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_what_is_wanted_is_chosen(wanted, monkeypatch):
    monkeypatch.setattr(precision, "speed_up", None)  # nothing is measured
    assert precision.choose_precision(wanted) == wanted


@pytest.mark.parametrize("seconds, chosen", [(0.9e-3, "bfloat16"), (1.1e-3, "float32"), (9e-3, "float32")])
def test_auto_takes_bfloat16_where_its_products_are_much_faster(monkeypatch, seconds, chosen):
    """A machine that takes 1.5 ms in float32, and now and then ten times as long for either."""
    calls = []

    def measured(multiply):
        calls.append(multiply().dtype)
        return (1.5e-3 if calls[-1] == tf.float32 else seconds) * (10 if len(calls) % 5 == 0 else 1)

    monkeypatch.setattr(precision, "seconds", measured)
    assert precision.choose_precision("auto") == chosen
    assert set(calls) == {tf.float32, tf.bfloat16}


def test_what_is_measured_is_a_product_of_the_network_s_size_and_a_call_s_time():
    for dtype in (tf.float32, tf.bfloat16):
        result = precision.product(dtype)()
        assert result.shape == (1024, 384) and result.dtype == dtype

    def slow():
        time.sleep(0.02)
        return tf.zeros(())

    assert 0.02 <= precision.seconds(slow) < 20


def test_the_setting_of_keras_is_as_before_behind_the_block():
    before = tf.keras.mixed_precision.global_policy().name
    with pytest.raises(KeyError):
        with precision.computing_in("bfloat16"):
            assert vae.VAE(64).compute_dtype == "bfloat16"
            raise KeyError
    assert tf.keras.mixed_precision.global_policy().name == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_bfloat16_learns_and_its_optimizer_follows(kind):
    rng = np.random.default_rng(0)
    images = np.float32(rng.uniform(size=(512, 1, 8, 8)) < 0.2)
    with precision.computing_in("bfloat16"):
        model = kind(64, hidden_dim=32)
    losses = [
        assignment.train_vae(model, [(images, np.arange(512) % 10)], arguments(0.05), kind is vae.CVAE)
        for _ in range(30)
    ]
    assert losses[-1] < 0.98 * losses[0]
    assert model.optimizer.muon_dtype == "bfloat16" and model.optimizer.muon_layers
    assert {np.dtype(weights.dtype) for weights in model.get_weights()} == {np.dtype("float32")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_in_float32_has_the_same_weights_and_computes_with_them(kind):
    with precision.computing_in("bfloat16"):
        model = kind(64, latent_size=3, hidden_dim=16)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    copied = precision.in_float32(model)
    assert same_weights(copied.get_weights(), model.get_weights()) and precision.in_float32(copied) is copied
    x = rng.uniform(size=(5, 1, 8, 8))
    mu, other_mu = (m(x, *second_input(m, [0, 1, 2, 3, 4]))[1] for m in (copied, model))
    assert mu.dtype == tf.float32 and other_mu.dtype == tf.bfloat16
    np.testing.assert_allclose(mu, tf.cast(other_mu, tf.float32), atol=0.2)


def test_the_first_line_and_the_record_say_which_and_either_loads_the_weights(small_mnist, outputs, capsys):
    for name in ("bfloat16", "float32"):
        options = ["--batch_size", "600", "--num_epochs", "1", "--latent_size", "2", "--precision", name]
        assignment.main(assignment.parseArguments(options))
        first_line = capsys.readouterr().out.splitlines()[0]
        assert first_line == f"Training a VAE on small.npz, 1 batches of 600, in {name}"
        record = json.loads((outputs / "vae.run.json").read_text())
        assert record["precision"] == name
        for other in ("bfloat16", "float32"):
            with precision.computing_in(other):
                model = assignment.load_weights(vae.VAE(784, latent_size=2))
            assert model.compute_dtype == other
