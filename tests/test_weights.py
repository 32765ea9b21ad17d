"""Saving and loading weights and run metadata: round trips, what can be wrong with files, and how files are written."""

import json
import types
import warnings

import assignment
import numpy as np
import pytest
import tensorflow as tf
import vae
from assignment import InputError, load_model, load_weights, new_file, save_model_weights
from conftest import full_disk, same_weights, small_arrays, steps_of

KINDS = [vae.VAE, vae.CVAE]
pytestmark = pytest.mark.usefixtures("narrow")


def random_model(kind=vae.VAE, seed=0, data=None, **sizes):
    """A model whose weights are all different, trained on `data` if a name is given."""
    rng = np.random.default_rng(seed)
    model = kind(784, **sizes)
    model.set_weights([rng.normal(0, 0.1, array.shape) for array in model.get_weights()])
    if data:
        model.run = types.SimpleNamespace(data=data)
    return model


def save(model):
    save_model_weights(model, None)


def contents(folder):
    """The names of the files in a folder, and what they hold."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def optimizer_state(model):
    """The values of the variables of the model's optimizer."""
    return [tf.convert_to_tensor(variable).numpy() for variable in model.optimizer.variables]


def train(model, steps=3):
    """Trains on a few random images."""
    images = assignment.to_pixels(small_arrays(32)["x_train"])
    loader = [(images, np.arange(32) % 10)] * steps
    assignment.train_vae(model, loader, None, is_cvae=isinstance(model, vae.CVAE))


# ------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_run_are_loaded_as_saved_and_no_other_file_is_left(outputs, kind):
    name = kind.__name__.lower()
    save(random_model(kind, seed=1))
    saved = random_model(kind)
    saved.run = types.SimpleNamespace(data="some data", seed=3, precision="float32", history=[{"train_loss": 1.5}])
    save(saved)
    loaded = kind(784)
    assert load_weights(loaded) is loaded
    assert same_weights(saved.get_weights(), loaded.get_weights())
    assert contents(outputs).keys() == {f"{name}.weights.h5", f"{name}.run.json"}
    for model in (loaded, load_model(name)):
        assert (model.run.data, model.run.seed, model.run.precision) == ("some data", 3, "float32")
        assert model.run.history == [{"train_loss": 1.5}]


@pytest.mark.parametrize("kind", KINDS)
def test_training_continues_after_loading_as_if_uninterrupted(kind):
    tf.keras.utils.set_random_seed(0)  # without a seed, the compiled step would have noise that follows no later seed
    model = kind(784)
    train(model)
    save(model)
    loaded = load_weights(kind(784))
    assert steps_of(loaded) == 3
    assert same_weights(optimizer_state(model), optimizer_state(loaded))
    for each in (model, loaded):
        tf.keras.utils.set_random_seed(0)
        train(each)
    assert same_weights(model.get_weights(), loaded.get_weights())


def test_a_loaded_model_keeps_its_run_when_it_is_saved_again(outputs):
    save(random_model(data="some data"))
    before = contents(outputs)["vae.run.json"]
    save(load_model("vae"))
    assert contents(outputs)["vae.run.json"] == before
    assert load_model("vae").run.data == "some data"


def test_a_run_is_plain_json(outputs):
    save(random_model(vae.CVAE, latent_size=3, data="Zürich"))
    run = json.loads((outputs / "cvae.run.json").read_text("utf-8"))
    assert run == {"data": "Zürich", "latent_size": 3}


def test_models_of_other_latent_sizes_are_loaded_side_by_side():
    saved = random_model(vae.CVAE, data="CVAE"), random_model(vae.VAE, latent_size=2, data="VAE")
    for model in saved:
        save(model)
    for model in saved:
        loaded = load_model(type(model).__name__.lower())
        assert same_weights(model.get_weights(), loaded.get_weights())
        assert type(loaded) is type(model) and loaded.latent_size == model.latent_size
        assert loaded.run.data == type(model).__name__


def test_a_model_that_was_never_called_is_saved_and_loaded():
    model = vae.CVAE(784)
    save(model)
    assert same_weights(model.get_weights(), load_weights(vae.CVAE(784)).get_weights())


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_named_after_the_model_whatever_args_are(outputs, kind):
    model = random_model(kind)
    name = f"{kind.__name__.lower()}.weights.h5"
    for args in (types.SimpleNamespace(is_cvae=False), None, {}, "anything"):
        save_model_weights(model, args)
        (outputs / name).unlink()


def test_args_say_that_a_model_without_num_classes_is_conditional(outputs):
    """As of a CVAE whose class has no such attribute."""
    save_model_weights(vae.VAE(784), types.SimpleNamespace(is_cvae=True))
    assert contents(outputs).keys() == {"cvae.weights.h5", "cvae.run.json"}


# ------------------------------------------------------------------------------------- whose data the weights know


def test_a_model_is_loaded_for_the_data_that_it_was_trained_on(small_mnist):
    save(random_model(data="small.npz"))
    assert load_model("vae", small_mnist).run.data == "small.npz"


def test_a_model_is_not_loaded_for_other_data(small_mnist):
    save(random_model(data="MNIST"))
    with pytest.raises(InputError, match="the saved VAE was trained on MNIST, not on small.npz: train it again"):
        load_model("vae", small_mnist)


def test_a_model_of_unknown_data_is_loaded_for_any(small_mnist):
    save(random_model())
    assert same_weights(load_model("vae", small_mnist).get_weights(), random_model().get_weights())


@pytest.mark.parametrize("content", [None, b"null", b"\xff\xfe", b'{"data": "cut o'])
def test_a_run_that_is_missing_or_damaged_is_a_warning_and_no_error(outputs, content):
    save(random_model(data="some data"))
    path = outputs / "vae.run.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.warns(UserWarning, match="vae.run.json is missing or damaged"):
        model = load_model("vae")
    assert same_weights(model.get_weights(), random_model().get_weights())
    assert not hasattr(model.run, "data")


def test_loading_warns_of_nothing_where_all_is_there():
    save(random_model(data="some data"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_model("vae")


# ------------------------------------------------------------------------------------------ what cannot be written


def test_an_error_while_weights_are_written_leaves_the_old_files(outputs, monkeypatch):
    model = random_model()
    save(model)
    before = contents(outputs)

    def write_half(path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise RuntimeError("stopped")

    monkeypatch.setattr(model, "save_weights", write_half)
    with pytest.raises(RuntimeError, match="stopped"):
        save(model)
    assert contents(outputs) == before


def test_outputs_that_is_a_file_is_an_os_error_that_names_it(outputs):
    outputs.write_text("in the way")
    with pytest.raises(OSError, match=str(outputs)):
        save(random_model())
    assert outputs.read_text() == "in the way"


# ---------------------------------------------------------------------------------------------- what cannot be read


def test_where_there_are_no_weights_the_error_says_what_to_do():
    for load in (lambda: load_weights(vae.VAE(784)), lambda: load_model("vae")):
        with pytest.raises(FileNotFoundError, match="there are no weights at .*vae.weights.h5: train first"):
            load()


@pytest.mark.parametrize("case", ["other latents", "the other model's", "cut off", "foreign"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_fit_leave_the_model_as_it_was(outputs, kind, case):
    saved_kind = kind
    if case == "the other model's":
        saved_kind = vae.VAE if kind is vae.CVAE else vae.CVAE
    save(random_model(saved_kind, latent_size=7 if case == "other latents" else 15))
    (whole,) = (data for name, data in contents(outputs).items() if name.endswith(".h5"))
    content = {"cut off": whole[: len(whole) // 2], "foreign": b"foreign"}.get(case, whole)
    (outputs / f"{kind.__name__.lower()}.weights.h5").write_bytes(content)
    model = random_model(kind, seed=1)
    weights = model.get_weights()
    with pytest.raises(
        InputError, match=f"cannot be loaded into this {kind.__name__}: .*other layer sizes.*damaged.*Keras 3"
    ):
        load_weights(model)
    assert same_weights(weights, model.get_weights())


# ------------------------------------------------------------------------------------------- how files are written


@pytest.fixture
def target(outputs):
    """A file that is there already."""
    outputs.mkdir()
    path = outputs / "target.txt"
    path.write_text("old")
    return path


def only_file(path):
    """The content of a file, and that there is nothing next to it."""
    assert list(path.parent.iterdir()) == [path]
    return path.read_text()


def test_a_file_is_there_only_when_it_is_whole(target):
    with new_file("target.txt") as path:
        assert target.parent in path.parents  # on one file system, or it could not be moved at once
        path.write_text("ne")
        assert target.read_text() == "old"
        path.write_text("new")
    assert only_file(target) == "new"


def test_the_folder_is_made_if_it_is_missing(outputs, monkeypatch):
    monkeypatch.setattr(assignment, "OUTPUTS", outputs / "further" / "down")
    with new_file("target.txt") as path:
        path.write_text("new")
    assert only_file(outputs / "further" / "down" / "target.txt") == "new"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ValueError])
def test_an_error_leaves_the_old_file_and_nothing_else(target, error):
    with pytest.raises(error):
        with new_file("target.txt") as path:
            path.write_text("half")
            raise error
    assert only_file(target) == "old"


def test_a_full_disk_leaves_the_old_file_and_nothing_else(target):
    with full_disk(10_000), pytest.raises(OSError):
        with new_file("target.txt") as path:
            path.write_text("x" * 20_000)
    assert only_file(target) == "old"


def test_two_writers_do_not_meet(target):
    with new_file("target.txt") as first, new_file("target.txt") as second:
        first.write_text("first")
        second.write_text("second")
        assert (first.read_text(), second.read_text()) == ("first", "second")
    assert only_file(target) == "first"  # the block of the second ends before that of the first


def test_a_new_file_has_the_permissions_of_any_other(target):
    (target.parent / "other").touch()
    with new_file("target.txt") as path:
        path.write_text("new")
    assert target.stat().st_mode == (target.parent / "other").stat().st_mode
