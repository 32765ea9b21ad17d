"""Saving and loading weights, and the record beside them: round trips, and all that can be wrong with files."""

import fcntl
import json
import os

import assignment
import numpy as np
import pytest
import vae
import weights
from conftest import arguments, full_disk, same_weights
from errors import InputError, exit_status

KINDS = [vae.VAE, vae.CVAE]
needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")


def random_model(kind=vae.VAE, seed=0, **sizes):
    """A model whose weights are all different."""
    rng = np.random.default_rng(seed)
    model = kind(784, **sizes)
    model.set_weights([rng.normal(size=array.shape) for array in model.get_weights()])
    return model


def save(model, record=None):
    assignment.save_model_weights(model, arguments(), record)


def contents(folder):
    """The names of the files in a folder, and what they hold."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_record_are_loaded_as_saved_and_no_other_file_is_left(outputs, kind):
    saved, loaded, name = random_model(kind), kind(784), kind.__name__.lower()
    save(random_model(kind, seed=1))
    save(saved, {"data": "some data", "history": [{"train_loss": 1.5}]})
    assert assignment.load_weights(loaded) is loaded
    assert same_weights(saved.get_weights(), loaded.get_weights())
    assert contents(outputs).keys() == {f"{name}.weights.h5", f"{name}.run.json"}
    size = 4 * saved.count_params()
    assert size < (outputs / f"{name}.weights.h5").stat().st_size < size + 50_000  # nothing but the weights
    record = weights.read_record(name)
    assert (record["data"], record["history"], record["latent_size"]) == ("some data", [{"train_loss": 1.5}], 15)


def test_a_record_is_not_needed_to_save(outputs):
    save(random_model())
    assert weights.read_record("vae")["latent_size"] == 15


def test_models_of_other_latent_sizes_are_loaded_side_by_side(outputs):
    saved = random_model(vae.CVAE), random_model(vae.VAE, latent_size=2)
    for model in saved:
        save(model, {"data": type(model).__name__})
    for model in saved:
        loaded, record = weights.load_model(type(model).__name__.lower())
        assert same_weights(model.get_weights(), loaded.get_weights())
        assert type(loaded) is type(model) and loaded.latent_size == record["latent_size"] == model.latent_size
        assert record["data"] == type(model).__name__


def test_without_its_record_a_model_of_the_default_size_is_loaded(outputs, capsys):
    save(random_model())
    (outputs / "vae.run.json").unlink()
    model, record = weights.load_model("vae")
    assert same_weights(model.get_weights(), random_model().get_weights()) and record == {}
    assert capsys.readouterr().err.count("\n") == 1


# ------------------------------------------------------------------------------------------- what cannot be written


def test_a_disk_that_is_full_before_the_weights_are_written_leaves_the_old_files(outputs, capsys):
    save(random_model())
    before = contents(outputs)
    for free in (5_000, 150_000):  # for nothing, and for some of the layers
        with full_disk(free):
            assert exit_status(lambda: save(random_model(seed=1))) == 1
        stderr = capsys.readouterr().err
        assert stderr.startswith("Error: ") and stderr.count("\n") == 1
        assert contents(outputs) == before
    save(random_model(seed=1))  # what the failure left is not in the way
    assert contents(outputs).keys() == before.keys() and contents(outputs) != before


def test_a_disk_that_is_full_before_the_record_is_written_leaves_no_record_of_other_weights(outputs, capsys):
    save(random_model(), {"data": "older"})
    old_record = (outputs / "vae.run.json").read_bytes()
    with full_disk(8_000_000), pytest.raises(OSError):
        save(random_model(seed=1), {"data": 9_000_000 * "x"})
    assert contents(outputs).keys() == {"vae.weights.h5", "vae.run.json"}
    assert (outputs / "vae.run.json").read_bytes() == old_record
    assert same_weights(assignment.load_weights(vae.VAE(784)).get_weights(), random_model(seed=1).get_weights())
    assert weights.read_record("vae") == {}
    assert "other weights" in capsys.readouterr().err


def test_what_hdf5_raises_where_it_cannot_write_is_an_os_error(outputs, monkeypatch):
    model = random_model()
    save(model)
    before = contents(outputs)

    def fill_disk(path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise RuntimeError("Can't decrement id ref count")  # h5py's, on closing the file

    monkeypatch.setattr(model, "save_weights", fill_disk)
    with pytest.raises(OSError, match="vae.weights.h5 cannot be written: Can't decrement"):
        save(model)
    assert contents(outputs) == before


@needs_permissions
def test_a_folder_without_permission_is_one_line(outputs, capsys):
    outputs.mkdir()
    outputs.chmod(0o555)
    assert exit_status(lambda: save(random_model())) == 1
    outputs.chmod(0o755)
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1 and "Permission denied" in stderr


def test_outputs_that_is_a_file_is_one_line(outputs, capsys):
    outputs.write_text("in the way")
    assert exit_status(lambda: save(random_model())) == 1
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1 and str(outputs) in stderr
    assert outputs.read_text() == "in the way"


# ----------------------------------------------------------------------------------------------- what cannot be read


def test_no_weights_are_a_line_that_says_what_to_do(outputs):
    for load in (lambda: assignment.load_weights(vae.VAE(784)), lambda: weights.load_model("vae")):
        with pytest.raises(FileNotFoundError, match="vae.weights.h5: train first"):
            load()


def refused(model):
    """The error of `load_weights`, after which the model must be as it was."""
    before = model.get_weights()
    with pytest.raises(Exception) as error:
        assignment.load_weights(model)
    assert same_weights(before, model.get_weights())
    return error.value


@pytest.mark.parametrize("case", ["other latents", "the other model's", "cut off", "foreign", "empty"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_fit_leave_the_model_as_it_was(outputs, kind, case):
    other = vae.VAE if kind is vae.CVAE else vae.CVAE
    save(random_model(other if case == "the other model's" else kind, latent_size=7 if case == "other latents" else 15))
    (whole,) = (data for name, data in contents(outputs).items() if name.endswith(".h5"))
    content = {"cut off": whole[:100_000], "foreign": b"foreign", "empty": b""}.get(case, whole)
    (outputs / f"{kind.__name__.lower()}.weights.h5").write_bytes(content)
    error = refused(random_model(kind, seed=1))
    assert isinstance(error, InputError)
    assert f"does not fit this {kind.__name__}: " in str(error) and "Keras 3" in str(error)


def test_weights_that_another_program_has_open_are_not_called_unfit(outputs, capsys):
    """As HDF5 locks a file that is being written."""
    save(random_model())
    before = contents(outputs)
    with open(outputs / "vae.weights.h5", "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        error = refused(random_model(seed=1))
        assert exit_status(lambda: assignment.load_weights(vae.VAE(784))) == 1
    assert isinstance(error, OSError)
    assert "vae.weights.h5 cannot be read now" in str(error) and "unable to lock file" in str(error)
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1 and "fit" not in stderr and "train" not in stderr
    assert contents(outputs) == before
    assignment.load_weights(vae.VAE(784))  # it can be read when the other has closed it


@needs_permissions
def test_weights_without_permission_are_not_called_unfit(outputs):
    save(random_model())
    (outputs / "vae.weights.h5").chmod(0o000)
    error = refused(random_model(seed=1))
    assert isinstance(error, OSError) and "cannot be read now" in str(error) and "Permission denied" in str(error)


# ----------------------------------------------------------------------------------------------------------- records


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"data": "cut o', b'{"data": "foreign", "checksum": 1}'],
)
def test_a_record_that_says_nothing_of_the_weights_is_one_line_and_no_end(outputs, capsys, content):
    save(random_model(), {"data": "some data"})
    path = outputs / "vae.run.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert weights.read_record("vae") == {}
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith(f"{path} does not say what data the weights are of (")
    _, record = weights.load_model("vae")
    assert record == {}


def test_the_record_of_other_weights_does_not_count(outputs, capsys):
    save(random_model(seed=1))
    others = (outputs / "vae.weights.h5").read_bytes()
    save(random_model(), {"data": "some data"})
    assert weights.read_record("vae")["data"] == "some data"
    assert capsys.readouterr().err == ""
    (outputs / "vae.weights.h5").write_bytes(others)
    assert weights.read_record("vae") == {}
    assert "it is the record of other weights" in capsys.readouterr().err


def test_a_record_without_weights_does_not_count(outputs, capsys):
    save(random_model())
    (outputs / "vae.weights.h5").unlink()
    assert weights.read_record("vae") == {}
    assert capsys.readouterr().err.count("\n") == 1


def test_a_record_is_plain_json(outputs):
    save(random_model(vae.CVAE, latent_size=3), {"data": "Zürich", "seed": None})
    record = json.loads((outputs / "cvae.run.json").read_text("utf-8"))
    assert {**record, "checksum": 0} == {"data": "Zürich", "seed": None, "latent_size": 3, "checksum": 0}
