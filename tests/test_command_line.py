"""The command line as a user runs it. TensorFlow takes seconds to start: what can be tested in one process is."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types

import assignment
import grade
import numpy as np
import pytest
import tensorflow as tf
import vae
from assignment import InputError
from conftest import CODE, keras_setting, same_weights, small_arrays

SHORT = ("--batch_size", "300", "--num_epochs", "1")
SAMPLES = {"vae": ["show_vae_images.png", "show_vae_interpolation.png"], "cvae": ["show_cvae_images.png"]}


@pytest.fixture(autouse=True)
def precision_as_before():
    """`main` sets Keras' policy."""
    with keras_setting():
        yield


@pytest.fixture
def parse(monkeypatch):
    """Parses a command line."""

    def parse(*arguments):
        monkeypatch.setattr(sys, "argv", ["assignment.py", *arguments])
        return assignment.parseArguments()

    return parse


@pytest.fixture
def main(parse, narrow):
    """Runs a command line in this process."""
    return lambda *arguments: assignment.run_program(lambda: assignment.main(parse(*arguments)))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run_of(folder, name):
    """What is saved of a run."""
    return json.loads((folder / f"{name}.run.json").read_text("utf-8"))


# ---------------------------------------------------------------------------------------------- in other processes


def run(*command, **options):
    """Runs Python in a process of its own, as a user does."""
    return subprocess.run([sys.executable, *command], capture_output=True, encoding="utf-8", **options)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """The path of a file of 1,200 random images."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(path, **small_arrays(1200))
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory, small_file):
    """A copy of the project, and options with settings that are in the way."""
    folder = tmp_path_factory.mktemp("copy") / "pröject"
    shutil.copytree(CODE, folder / "code", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "matplotlibrc").write_text("text.usetex: True\nimage.origin: lower\n")
    environment = {**os.environ, "MNIST_NPZ": str(small_file), "KERAS_BACKEND": "jax", "PYTHONIOENCODING": "utf-8"}
    del environment["TF_CPP_MIN_LOG_LEVEL"]
    return folder, {"cwd": folder, "env": environment}


def test_it_trains_with_settings_that_are_in_the_way(project):
    """Also with the backend that a notebook exports to the commands that it runs, which may not be installed there."""
    folder, options = project
    environment = {**options["env"], "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = ["code/assignment.py", "--is_cvae", "--batch_size", "400", "--num_epochs", "2"]
    done = run(*command, cwd=folder, env=environment)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Training a CVAE on small.npz: 3 batches of 400"
    assert lines[1].startswith("Train Epoch: 1  Loss: ") and lines[2].startswith("Train Epoch: 2  Loss: ")
    drawn = [f"cvae_{name}.png" for name in ("loss", "reconstructions", "latent_space", "classes")]
    drawn += SAMPLES["cvae"]
    saved = ["cvae.weights.h5", *drawn]
    assert lines[3] == f"Saved to {folder / 'outputs'}: {', '.join(saved)}"
    assert lines[4:] == ["The model was trained on small.npz."]  # which is not MNIST
    assert names(folder / "outputs") == sorted(["cvae.run.json", *saved])


def test_ctrl_c_ends_the_program_at_once_and_leaves_the_weights_of_the_last_epoch(project, monkeypatch):
    folder, options = project
    command = [sys.executable, "code/assignment.py", "--batch_size", "1200", "--num_epochs", "100000"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", **options)
    for line in program.stdout:
        if line.startswith("Train Epoch: 2 "):
            break
    program.send_signal(signal.SIGINT)
    _, stderr = program.communicate(timeout=60)
    assert program.returncode == -signal.SIGINT and "Traceback" not in stderr, stderr
    monkeypatch.setattr(assignment, "OUTPUTS", folder / "outputs")
    assert len(assignment.load_model("vae").run.history) >= 2


def test_mistakes_are_one_line_and_status_1(project):
    folder, options = project
    done = run("code/assignment.py", "--batch_size", "1201", **options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "Error: batch_size must be from 1 to 1200, the number of images, got 1201"
    assert "Traceback" not in done.stderr


THE_TWO_FILES = """
import sys, types
sys.path[:0] = [{folder!r}]
sys.path[:0] = [{foreign!r}]
import vae
import assignment
print("imported")
assert assignment.__file__ == {folder!r} + "/assignment.py"

for is_cvae in (False, True):
    args = types.SimpleNamespace(
        is_cvae=is_cvae, load_weights=False, batch_size=400, num_epochs=1, latent_size=15, input_size=784,
        learning_rate=0.011,
    )
    assignment.main(args)
    args.load_weights = True
    assignment.main(args)

saved = assignment.load_model("cvae")
assignment.save_model_weights(saved, args)
loaded = assignment.load_weights(vae.CVAE(784))
assert all((a == b).all() for a, b in zip(saved.get_weights(), loaded.get_weights()))
assert loaded.run.data == "small.npz" and 300 < loaded.run.history[0]["train_loss"] < 1000
"""


def test_the_two_files_alone_do_the_homework(tmp_path, small_file):
    """In an empty folder that is not called `code`; modules that others have are found before anything of ours."""
    folder = tmp_path / "homework"
    folder.mkdir()
    for name in ("vae.py", "assignment.py"):
        shutil.copy(CODE / name, folder)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in (
        "checks",
        "errors",
        "evaluation",
        "files",
        "forward",
        "graphs",
        "muon",
        "precision",
        "progress",
        "weights",
    ):
        (foreign / f"{name}.py").write_text("raise ImportError('another module of this name')")
    script = THE_TWO_FILES.format(folder=str(folder), foreign=str(foreign))
    done = run("-c", script, cwd=tmp_path, env={**os.environ, "MNIST_NPZ": str(small_file)})
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "imported"
    for name, printed in (("vae", lines[1:7]), ("cvae", lines[7:13])):
        assert printed[0] == f"Training a {name.upper()} on small.npz: 3 batches of 400"
        assert re.fullmatch(r"Train Epoch: 1  Loss: \d+\.\d\d", printed[1])
        samples = ", ".join(SAMPLES[name])
        assert printed[2] == f"Saved to {folder / 'outputs'}: {name}.weights.h5, {samples}"
        assert printed[4] == f"Saved to {folder / 'outputs'}: {samples}"  # from the saved weights
        assert printed[3] == printed[5] == "The model was trained on small.npz."
    files = [f"{name}.{kind}" for name in ("cvae", "vae") for kind in ("run.json", "weights.h5")]
    assert names(folder / "outputs") == sorted([*files, *SAMPLES["vae"], *SAMPLES["cvae"]])
    assert names(tmp_path) == ["foreign", "homework"]


ANOTHER_VAE = """
import tensorflow as tf
from tensorflow.keras import layers


class VAE(tf.keras.Model):
    def __init__(self, input_size, latent_size=15):
        super().__init__()
        self.input_size = input_size
        self.latent_size = latent_size
        self.hidden_dim = 32
        self.encoder = tf.keras.Sequential([layers.Flatten(), layers.Dense(32, "relu")])
        self.mu_layer = layers.Dense(latent_size)
        self.logvar_layer = layers.Dense(latent_size)
        self.decoder = tf.keras.Sequential(
            [layers.Dense(32, "relu"), layers.Dense(input_size, "sigmoid"), layers.Reshape((1, 28, 28))]
        )
        self.optimizer = tf.keras.optimizers.Adam(1e-3)

    def call(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        return self.decoder(reparametrize(mu, logvar)), mu, logvar


class CVAE(VAE):
    def __init__(self, input_size, num_classes=10, latent_size=15):
        super().__init__(input_size, latent_size)
        self.num_classes = num_classes

    def call(self, x, c):
        h = self.encoder(tf.concat([tf.reshape(x, (-1, self.input_size)), c], axis=-1))
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        return self.decoder(tf.concat([reparametrize(mu, logvar), c], axis=-1)), mu, logvar


def reparametrize(mu, logvar):
    return mu + tf.exp(0.5 * logvar) * tf.random.normal(tf.shape(mu))


def bce_function(x_hat, x):
    return tf.reduce_sum(tf.keras.losses.binary_crossentropy(x, x_hat, axis=(1, 2, 3))) * 784


def loss_function(x_hat, x, mu, logvar):
    kl = -0.5 * tf.reduce_sum(1 + logvar - mu**2 - tf.exp(logvar))
    return (bce_function(x_hat, x) + kl) / tf.cast(tf.shape(x)[0], tf.float32)
"""


def test_it_trains_saves_loads_and_draws_another_person_s_models(tmp_path, small_file):
    """Next to a `vae.py` that has the five names of the course's stencil, and nothing else of ours."""
    shutil.copytree(CODE, tmp_path / "code", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "code" / "vae.py").write_text(ANOTHER_VAE)
    script = """
import os, sys; sys.path.insert(0, "code")
import assignment
for kind in ([], ["--is_cvae"]):
    sys.argv[1:] = [*kind, "--batch_size", "400", "--num_epochs", "2", "--latent_size", "2"]
    assignment.main(assignment.parseArguments())
os.environ["MNIST_NPZ"] = "/nowhere.npz"  # of saved weights, samples alone are drawn
for kind in ([], ["--is_cvae"]):
    sys.argv[1:] = [*kind, "--load_weights"]
    assignment.main(assignment.parseArguments())
"""
    done = run("-c", script, cwd=tmp_path, env={**os.environ, "MNIST_NPZ": str(small_file)})
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "outputs") == [
        "cvae.run.json",
        "cvae.weights.h5",
        "cvae_loss.png",
        "cvae_reconstructions.png",
        "cvae_two_latents.png",
        "show_cvae_images.png",
        "show_vae_images.png",
        "show_vae_interpolation.png",
        "vae.run.json",
        "vae.weights.h5",
        "vae_loss.png",
        "vae_manifold.png",
        "vae_reconstructions.png",
        "vae_two_latents.png",
    ]
    for name in ("vae", "cvae"):
        saved = run_of(tmp_path / "outputs", name)
        losses = [epoch["train_loss"] for epoch in saved["history"]]
        assert losses[1] < losses[0] < 1000 and saved["latent_size"] == 2


# ------------------------------------------------------------------------------------------------ where outputs lie


@pytest.fixture
def imported(tmp_path):
    """Imports a copy of `assignment.py` in a folder of this name."""

    def imported(name):
        folder = tmp_path / "project" / name
        folder.mkdir(parents=True, exist_ok=True)
        path = shutil.copy(CODE / "assignment.py", folder)
        spec = importlib.util.spec_from_file_location("copy_of_assignment", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return imported


@pytest.mark.parametrize("folder, expected", [("code", "outputs"), ("homework", "homework/outputs")])
def test_outputs_lie_next_to_a_folder_called_code_and_in_any_other(imported, tmp_path, folder, expected):
    module = imported(folder)
    with module.new_file("target.txt") as path:
        path.write_text("new")
    assert (tmp_path / "project" / expected / "target.txt").read_text() == "new"


def test_a_dangling_link_as_outputs_is_followed(imported, tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "outputs").symlink_to(tmp_path / "disk" / "results")
    module = imported("code")
    with module.new_file("target.txt") as path:
        path.write_text("new")
    assert (tmp_path / "disk" / "results" / "target.txt").read_text() == "new"
    assert (tmp_path / "project" / "outputs").is_symlink()


# ------------------------------------------------------------------------------------------------- in this process


def test_the_vae_s_run_and_its_metadata(small_mnist, outputs, main, capsys):
    main(*SHORT, "--num_epochs", "2", "--latent_size", "2", "--seed", "3")
    assert names(outputs) == [
        "show_vae_images.png",
        "show_vae_interpolation.png",
        "vae.run.json",
        "vae.weights.h5",
        "vae_loss.png",
        "vae_manifold.png",
        "vae_reconstructions.png",
        "vae_two_latents.png",
    ]
    saved = run_of(outputs, "vae")
    assert (saved["data"], saved["seed"], saved["precision"], saved["latent_size"]) == ("small.npz", 3, "float32", 2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and len(saved["history"]) == 2
    for epoch, losses in enumerate(saved["history"], start=1):
        train_loss, reconstruction, kl = (losses[name] for name in ("train_loss", "test_reconstruction", "test_kl"))
        assert lines[epoch] == (
            f"Train Epoch: {epoch}  Loss: {train_loss:.2f}  Test Loss: {reconstruction + kl:.2f} "
            f"(reconstruction {reconstruction:.2f} + KL {kl:.2f})"
        )
        assert 300 < train_loss < 1000  # nats per image


def test_one_latent_has_no_plane_to_be_drawn_on(small_mnist, outputs, main):
    main(*SHORT, "--latent_size", "1")
    drawn = [name for name in names(outputs) if name.endswith(".png")]
    assert drawn == [*SAMPLES["vae"], "vae_loss.png", "vae_reconstructions.png"]


@pytest.mark.parametrize("is_cvae", [False, True])
def test_args_need_no_more_than_the_stencil_s(small_mnist, outputs, narrow, is_cvae):
    """Without `load_weights`, `seed` and `precision`."""
    args = types.SimpleNamespace(
        is_cvae=is_cvae, batch_size=300, num_epochs=1, latent_size=3, input_size=784, learning_rate=0.011
    )
    assignment.main(args)
    saved = run_of(outputs, "cvae" if is_cvae else "vae")
    assert (saved["seed"], saved["precision"], saved["latent_size"]) == (None, "float32", 3)


@pytest.mark.parametrize("total", [tf.constant(250.0), tf.Variable(250.0), np.float32(250), 250.0])
def test_train_vae_may_be_replaced_and_return_any_number(small_mnist, outputs, main, monkeypatch, total):
    monkeypatch.setattr(assignment, "train_vae", lambda model, train_loader, args, is_cvae=False: total)
    main(*SHORT)
    (losses,) = run_of(outputs, "vae")["history"]
    assert losses["train_loss"] == 125  # of two batches


def test_without_extras_only_the_handout_s_pictures_are_drawn(
    small_mnist, outputs, main, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(assignment, "EXTRAS", tmp_path / "extras")
    main(*SHORT)
    assert names(outputs) == [*SAMPLES["vae"], "vae.run.json", "vae.weights.h5"]
    (losses,) = run_of(outputs, "vae")["history"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"Train Epoch: 1  Loss: {losses['train_loss']:.2f}" and losses.keys() == {"train_loss"}


def test_without_test_images_only_the_handout_s_pictures_are_drawn(outputs, main, monkeypatch, capsys):
    monkeypatch.delenv("MNIST_NPZ", raising=False)
    arrays = small_arrays()
    train = arrays["x_train"].astype(np.int64), arrays["y_train"]
    monkeypatch.setattr(tf.keras.datasets.mnist, "load_data", lambda: (train, ()))
    main(*SHORT, "--is_cvae")
    assert names(outputs) == ["cvae.run.json", "cvae.weights.h5", *SAMPLES["cvae"]]
    assert re.fullmatch(r"Train Epoch: 1  Loss: \d+\.\d\d", capsys.readouterr().out.splitlines()[1])


@pytest.mark.parametrize("options, expected", [([], 0.011), (["--learning_rate", "0.003"], 0.003)])
def test_the_learning_rate_is_the_optimizer_s(small_mnist, main, monkeypatch, options, expected):
    rates = []

    def train_vae(model, train_loader, args, is_cvae=False):
        rates.append(float(tf.convert_to_tensor(model.optimizer.learning_rate)))
        return tf.constant(250.0)

    monkeypatch.setattr(assignment, "train_vae", train_vae)
    main(*SHORT, *options)
    assert rates == [pytest.approx(expected)]


def test_bfloat16_is_a_policy_of_keras_in_which_a_cvae_learns_and_is_drawn(small_mnist, outputs, main):
    main("--is_cvae", "--batch_size", "200", "--num_epochs", "2", "--latent_size", "2", "--precision", "bfloat16")
    assert tf.keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    saved = run_of(outputs, "cvae")
    first, second = (epoch["train_loss"] for epoch in saved["history"])
    assert saved["precision"] == "bfloat16" and second < first < 1000
    assert {"cvae_classes.png", "cvae_two_latents.png"} < set(names(outputs))


@pytest.mark.parametrize("kind", [vae.VAE, vae.CVAE])
def test_either_precision_loads_the_weights_of_the_other(narrow, kind):
    policies = ("mixed_bfloat16", "float32")
    for saved_in, loaded_in in (policies, policies[::-1]):
        with keras_setting(policy=saved_in):
            saved = kind(784)
            assignment.save_model_weights(saved, None)
        with keras_setting(policy=loaded_in):
            loaded = assignment.load_weights(kind(784))
        assert loaded.compute_dtype == loaded_in.replace("mixed_", "")
        assert same_weights(saved.get_weights(), loaded.get_weights())
        assert {array.dtype for array in loaded.get_weights()} == {np.dtype("float32")}


def test_saved_weights_of_other_latents_are_drawn_and_it_is_said(outputs, main, capsys):
    save(vae.CVAE(784, latent_size=3), "some data")
    for latent_size in ("3", "7"):
        main("--is_cvae", "--load_weights", "--latent_size", latent_size)
        said = "The saved model has 3 latents; ignoring --latent_size 7" in capsys.readouterr().out
        assert said == (latent_size == "7")


def save(model, data):
    """Saves a model as one that was trained on data of this name."""
    model.run = types.SimpleNamespace(data=data)
    assignment.save_model_weights(model, None)


@pytest.mark.parametrize("latent_size", [2, 15])
@pytest.mark.parametrize("kind", [vae.VAE, vae.CVAE])
def test_saved_weights_are_drawn_without_data(outputs, main, monkeypatch, kind, latent_size):
    """However many latents they have, which the command line is not told."""
    monkeypatch.setenv("MNIST_NPZ", "/nowhere.npz")
    save(kind(784, latent_size=latent_size), "some data")
    titles = []
    draw_grid = assignment.draw_grid
    monkeypatch.setattr(assignment, "draw_grid", lambda *given, **more: titles.append(given[3]) or draw_grid(*given))
    before = names(outputs)
    name = kind.__name__.lower()
    main("--load_weights", *(["--is_cvae"] if name == "cvae" else []))
    assert sorted(set(names(outputs)) - set(before)) == SAMPLES[name]
    assert len(titles) == len(SAMPLES[name]) and all("(some data)" in title for title in titles)


def test_a_seed_repeats_the_start_of_a_run(small_mnist, main, monkeypatch):
    starts = []

    def train(model, data, args):
        starts.append(np.append(model.get_weights()[0], tf.random.normal([5])))
        raise InputError("enough")

    monkeypatch.setattr(assignment, "train", train)
    for options in (["--seed", "5"], ["--seed", "5"], ["--seed", "6"], []):
        with pytest.raises(SystemExit):
            main(*options)
    assert np.array_equal(starts[0], starts[1]) and not np.array_equal(starts[0], starts[2])
    assert not any(np.array_equal(start, starts[3]) for start in starts[:3])


# ------------------------------------------------------------------------------------------------------------ errors


def test_a_program_s_result_is_passed_on():
    assert assignment.run_program(lambda: 7) == 7


@pytest.mark.parametrize("error", [InputError, OSError, FileNotFoundError, PermissionError])
def test_what_a_user_can_fix_is_one_line(error):
    def program():
        raise error("a\n  b")

    with pytest.raises(SystemExit) as end:
        assignment.run_program(program)
    assert end.value.code == "Error: a b"  # Python prints such a code to stderr, with status 1


@pytest.mark.parametrize("error", [ValueError, RuntimeError, TypeError, KeyError, KeyboardInterrupt])
def test_any_other_error_is_raised(error):
    def program():
        raise error("a bug")

    with pytest.raises(error):
        assignment.run_program(program)


@pytest.mark.parametrize(
    "arguments, mnist, message",
    [
        (["--load_weights"], None, "vae.weights.h5: train first"),
        (["--load_weights", "--is_cvae"], None, "cvae.weights.h5: train first"),
        (["--batch_size", "601"], None, "batch_size must be from 1 to 600"),
        ([], "/nowhere.npz", "/nowhere.npz"),
    ],
)
def test_mistakes_are_named(small_mnist, main, monkeypatch, arguments, mnist, message):
    if mnist:
        monkeypatch.setenv("MNIST_NPZ", mnist)
    with pytest.raises(SystemExit) as end:
        main(*arguments)
    assert end.value.code.startswith("Error: ") and message in end.value.code


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_epoch_and_the_weights_of_the_epoch_before_stay(
    small_mnist, outputs, main, monkeypatch, loss
):
    after_epochs = []
    train_vae = assignment.train_vae

    def diverge(model, *others):
        """In the second epoch."""
        total = train_vae(model, *others)
        after_epochs.append(model.get_weights())
        return total if len(after_epochs) == 1 else tf.constant(loss)

    monkeypatch.setattr(assignment, "train_vae", diverge)
    with pytest.raises(SystemExit, match="NaN or infinite in epoch 2: try a smaller --learning_rate"):
        main(*SHORT, "--num_epochs", "3")
    assert names(outputs) == ["vae.run.json", "vae.weights.h5"]
    model = assignment.load_model("vae")
    assert len(after_epochs) == 2 and not same_weights(*after_epochs)
    assert same_weights(model.get_weights(), after_epochs[0]) and len(model.run.history) == 1


def test_outputs_that_cannot_be_written_is_an_error_before_training(small_mnist, outputs, main, monkeypatch):
    outputs.write_text("in the way")
    monkeypatch.setattr(assignment, "train_vae", lambda *given: pytest.fail("trained"))
    with pytest.raises(SystemExit, match=f"Error: .*{outputs}"):
        main(*SHORT)


# --------------------------------------------------------------------------------------------------------- arguments


def test_defaults_are_those_of_the_handout(parse):
    args = parse()
    assert (args.batch_size, args.num_epochs, args.latent_size, args.input_size) == (1024, 10, 15, 784)
    assert not args.is_cvae and not args.load_weights
    assert (args.learning_rate, args.seed, args.precision) == (0.011, None, "float32")
    assert parse("--is_cvae").is_cvae
    assert parse("--load_weights").load_weights


def test_the_default_learning_rate_is_the_optimizer_s(parse, narrow):
    rate = tf.convert_to_tensor(vae.VAE(784).optimizer.learning_rate)
    assert parse().learning_rate == pytest.approx(float(rate))


@pytest.mark.parametrize("program", ["assignment", "grade"])
def test_the_help_says_what_the_program_does_and_each_default(program, parse, capsys):
    parse_program = parse if program == "assignment" else lambda *arguments: grade.parse_arguments(list(arguments))
    with pytest.raises(SystemExit) as end:
        parse_program("--help")
    usage, *parts = " ".join(capsys.readouterr().out.split()).split("options: ")
    assert end.value.code == 0 and usage.endswith(". ")  # a sentence
    options, defaults = re.split(r" (?=--)", parts[0])[2:], vars(parse_program())  # without -h, --help
    assert {option.split()[0][2:] for option in options} == defaults.keys()
    for option in options:
        name, *words = option.split()
        assert len([word for word in words if not word.isupper()]) > 2, option
        default = defaults[name[2:]]
        if default not in (None, False) and name != "--input_size":
            assert f"(default: {default}" in option


@pytest.mark.parametrize(
    "arguments",
    [
        *[
            [f"--{name}", value]
            for name in ("batch_size", "num_epochs", "latent_size", "input_size", "learning_rate")
            for value in ("0", "-1", "nan", "inf", "x", str(10**6 + 1))
        ],
        ["--latent_size", str(10**4 + 1)],
        ["--learning_rate", "1.01"],
        ["--input_size", "783"],
        ["--batch_size", "1.5"],
        ["--precision", "auto"],
        ["--seed", "-1"],
        ["--seed", str(2**32)],
        ["--nonsense"],
    ],
)
def test_bad_arguments_end_with_status_2_and_say_why(arguments, parse, capsys):
    with pytest.raises(SystemExit) as end:
        parse(*arguments)
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in last and arguments[0].lstrip("-") in last


@pytest.mark.parametrize(
    "name, values",
    [
        ("batch_size", (1, 10**6)),
        ("num_epochs", (1, 10**6)),
        ("latent_size", (1, 10**4)),
        ("learning_rate", (1e-9, 1.0)),
        ("seed", (0, 2**32 - 1)),
    ],
)
def test_every_argument_takes_its_extremes(parse, name, values):
    for value in values:
        assert getattr(parse(f"--{name}", str(value)), name) == value
