"""The command line as a user runs it. TensorFlow takes seconds to start: what can be tested in one process is."""

import json
import os
import re
import shutil
import subprocess
import sys

import assignment
import grade
import numpy as np
import pytest
import tensorflow as tf
import vae
import weights
from conftest import CODE, arguments, same_weights, small_arrays
from errors import InputError, exit_status

SHORT = ("--batch_size", "300", "--num_epochs", "1")


def main(*arguments):
    """A run of the command line in this process: its exit status."""
    return exit_status(lambda: assignment.main(assignment.parseArguments(list(arguments))))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -------------------------------------------------------------------------------------------------- in other processes


def run(*command, **options):
    """Runs Python in a process of its own, as a user does."""
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project, and an environment with settings that are in the way."""
    folder = tmp_path_factory.mktemp("copy") / "pröject"
    shutil.copytree(CODE, folder / "code", ignore=shutil.ignore_patterns("__pycache__"))
    np.savez(folder / "small.npz", **small_arrays(1200))
    (folder / "matplotlibrc").write_text("text.usetex: True\nimage.origin: lower\n")
    environment = {
        **os.environ,
        "MNIST_NPZ": str(folder / "small.npz"),
        "KERAS_BACKEND": "jax",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONIOENCODING": "ascii",
    }
    del environment["TF_CPP_MIN_LOG_LEVEL"]
    return folder, {"cwd": folder, "env": environment}


@pytest.fixture(scope="module")
def trained(project):
    """What training in the copy printed; it leaves its files in the copy's `outputs`."""
    return run("code/assignment.py", "--is_cvae", "--batch_size", "400", "--num_epochs", "2", **project[1])


def test_it_trains_with_settings_that_are_in_the_way(project, trained):
    folder, _ = project
    assert trained.returncode == 0 and "Traceback" not in trained.stderr, trained.stderr
    lines = trained.stdout.splitlines()
    assert re.fullmatch(r"Training a CVAE on small.npz, 3 batches of 400, in (float32|bfloat16)", lines[0])
    assert lines[1].startswith("Train Epoch: 1  Loss: ") and lines[2].startswith("Train Epoch: 2  Loss: ")
    drawn = [f"cvae_{name}.png" for name in ("loss", "reconstructions", "latent_space", "classes")]
    drawn.append("show_cvae_images.png")
    written = f"In {folder / 'outputs'}: {', '.join(drawn)}; the weights are in cvae.weights.h5"
    assert lines[3:] == [written.replace("ö", r"\xf6")]
    assert names(folder / "outputs") == sorted(["cvae.run.json", "cvae.weights.h5", *drawn])


def test_saved_weights_are_drawn_with_closed_streams(project, trained):
    """Their numbers are given to the files that are opened next."""
    folder, options = project
    picture, weights = folder / "outputs" / "show_cvae_images.png", folder / "outputs" / "cvae.weights.h5"
    before = weights.read_bytes()
    picture.unlink()
    command = [sys.executable, "code/assignment.py", "--is_cvae", "--load_weights"]
    environment = {**options["env"], "MNIST_NPZ": "/nowhere.npz"}  # samples alone are drawn
    done = subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", *command], cwd=folder, env=environment)
    assert done.returncode == 0 and picture.exists()
    assert weights.read_bytes() == before


def test_the_examples_of_the_readme_run_as_they_stand(project, trained):
    from matplotlib.image import imread

    folder, options = project
    environment = {name: value for name, value in options["env"].items() if name != "MPLBACKEND"}
    blocks = re.findall(r"```python\n(.*?)```", (CODE.parent / "README.md").read_text("utf-8"), re.S)
    done = run("-c", "\n".join(blocks), cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    assert imread(folder / "outputs" / "sevens.png").shape[:2] == (28, 5 * 28)


def test_importing_prints_nothing_and_the_models_need_no_other_file(tmp_path):
    """`vae.py` in an empty folder, and then the programs, which leave matplotlib's backend alone."""
    shutil.copy(CODE / "vae.py", tmp_path)
    script = f"""
import sys, numpy as np, matplotlib
import vae
x = np.zeros((3, 1, 28, 28), np.float32)
for outputs in (vae.VAE(784)(x), vae.CVAE(784)(x, np.eye(10)[:3])):
    assert [tuple(output.shape) for output in outputs] == [(3, 1, 28, 28), (3, 15), (3, 15)]
    assert vae.loss_function(outputs[0], x, *outputs[1:]) > 0
sys.path.append({str(CODE)!r})
matplotlib.use("svg")
import grade, explore, rendered_digits
assert matplotlib.get_backend() == "svg"
"""
    done = run("-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not [line for line in done.stderr.splitlines() if "code" in line or "Error" in line], done.stderr


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

    def call(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        return self.decoder(reparametrize(mu, logvar)), mu, logvar


class CVAE(VAE):
    def __init__(self, input_size, num_classes=10, latent_size=15):
        super().__init__(input_size, latent_size)
        self.num_classes = num_classes
        self.optimizer = tf.keras.optimizers.Adam(1e-3)

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


def test_it_trains_saves_loads_and_draws_another_person_s_models(tmp_path):
    """Beside a `vae.py` that has the five names of the course's stencil, and nothing else of ours."""
    shutil.copytree(CODE, tmp_path / "code", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "code" / "vae.py").write_text(ANOTHER_VAE)
    np.savez(tmp_path / "small.npz", **small_arrays())
    script = """
import os, sys; sys.path.insert(0, "code")
import assignment
import weights
for kind in ([], ["--is_cvae"]):
    options = [*kind, "--batch_size", "200", "--num_epochs", "2", "--latent_size", "2"]
    assignment.main(assignment.parseArguments(options))
os.environ["MNIST_NPZ"] = "/nowhere.npz"  # of saved weights, samples alone are drawn
for kind in ([], ["--is_cvae"]):
    assignment.main(assignment.parseArguments([*kind, "--load_weights"]))
"""
    environment = {**os.environ, "MNIST_NPZ": str(tmp_path / "small.npz")}
    done = run("-c", script, cwd=tmp_path, env=environment)
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
    for kind in ("vae", "cvae"):
        record = json.loads((tmp_path / "outputs" / f"{kind}.run.json").read_text())
        losses = [epoch["train_loss"] for epoch in record["history"]]
        assert losses[1] < losses[0] < 1000 and record["latent_size"] == 2


# ---------------------------------------------------------------------------------------------------- in this process


class Tee:
    """A stream of a caller's own, which has no more than it must."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_the_vae_s_run_and_its_record(small_mnist, outputs, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Tee())
    assert main(*SHORT, "--num_epochs", "2", "--latent_size", "2", "--seed", "3") == 0
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
    record = json.loads((outputs / "vae.run.json").read_text())
    assert (record["data"], record["seed"], record["latent_size"]) == ("small.npz", 3, 2)
    lines = sys.stdout.text.splitlines()
    assert len(lines) == 4 and len(record["history"]) == 2
    for epoch, losses in enumerate(record["history"], start=1):
        train_loss, reconstruction, kl = (losses[name] for name in ("train_loss", "test_reconstruction", "test_kl"))
        assert lines[epoch] == (
            f"Train Epoch: {epoch}  Loss: {train_loss:.2f}  Test Loss: {reconstruction + kl:.2f} "
            f"(reconstruction {reconstruction:.2f} + KL {kl:.2f})"
        )
        assert 300 < train_loss < 1000  # nats per image


def test_in_a_terminal_a_bar_comes_and_goes_and_the_lines_are_the_same(small_mnist, monkeypatch):
    printed = []
    for in_terminal in (False, True):
        stream = Tee()
        stream.isatty = lambda answer=in_terminal: answer
        monkeypatch.setattr(sys, "stdout", stream)
        options = ["--batch_size", "50", "--num_epochs", "1", "--latent_size", "1", "--precision", "float32"]
        assert main(*options, "--seed", "3") == 0
        printed.append(stream.text)
    without_bar, with_bar = printed
    assert "10/12" in with_bar and "10/12" not in without_bar
    shown = [line.split("\r\x1b[K")[-1] for line in with_bar.split("\n")]  # what a terminal leaves of each line
    assert shown == without_bar.split("\n") and len(shown) == 4


def test_saved_weights_of_other_latents_are_drawn_and_it_is_said(small_mnist, capsys):
    assignment.save_model_weights(vae.CVAE(784, latent_size=3), arguments(), {"data": "some data"})
    for latent_size in ("3", "7"):
        assert main("--is_cvae", "--load_weights", "--latent_size", latent_size) == 0
        said = "The weights are of 3 latents: --latent_size 7 is not used" in capsys.readouterr().out
        assert said == (latent_size == "7")


def test_ctrl_c_is_one_line_and_leaves_the_last_epoch_s_weights(small_mnist, outputs, monkeypatch, capsys):
    """With one latent, which has no plane to be drawn on."""
    evaluate, calls = assignment.evaluate, []

    def interrupt(model, data):
        """Ctrl-C in the second epoch."""
        calls.append(model.get_weights())
        if len(calls) == 2:
            raise KeyboardInterrupt  # what Python makes of the signal, unless the shell has the signal ignored
        return evaluate(model, data)

    monkeypatch.setattr(assignment, "evaluate", interrupt)
    assert main(*SHORT, "--num_epochs", "9", "--latent_size", "1") == 130
    assert capsys.readouterr().err == "Interrupted\n"
    assert names(outputs) == ["vae.run.json", "vae.weights.h5"]
    model, record = weights.load_model("vae")
    assert same_weights(model.get_weights(), calls[0]) and len(record["history"]) == 1
    assert main(*SHORT, "--latent_size", "1") == 0
    drawn = names(outputs)
    assert "vae_loss.png" in drawn and not {"vae_latent_space.png", "vae_two_latents.png"} & set(drawn)


def test_a_seed_repeats_the_start_of_a_run(small_mnist, monkeypatch):
    starts = []

    def train(model, *others):
        starts.append(np.append(model.get_weights()[0], tf.random.normal([5])))
        raise KeyboardInterrupt

    monkeypatch.setattr(assignment, "train_and_save", train)
    for seed in ("5", "5", "6"):
        assert main("--seed", seed) == 130
    assert np.array_equal(starts[0], starts[1]) and not np.array_equal(starts[0], starts[2])
    assert main() == 130  # a seed is not needed
    assert not any(np.array_equal(start, starts[3]) for start in starts[:3])


@pytest.mark.parametrize(
    "kind, latent_size, pictures",
    [
        (vae.VAE, 2, ["show_vae_images.png", "show_vae_interpolation.png", "vae_manifold.png"]),
        (vae.VAE, 15, ["show_vae_images.png", "show_vae_interpolation.png"]),
        (vae.CVAE, 3, ["show_cvae_images.png"]),
    ],
)
def test_saved_weights_are_drawn_without_data(outputs, monkeypatch, kind, latent_size, pictures):
    """However many latents they have, which the command line is not told."""
    monkeypatch.setenv("MNIST_NPZ", "/nowhere.npz")
    assignment.save_model_weights(kind(784, latent_size=latent_size), arguments(), {"data": "some data"})
    titles = []
    draw_grid = assignment.draw_grid
    monkeypatch.setattr(assignment, "draw_grid", lambda *given, **more: titles.append(given[3]) or draw_grid(*given))
    before = names(outputs)
    assert main("--load_weights", *(["--is_cvae"] if kind is vae.CVAE else [])) == 0
    assert sorted(set(names(outputs)) - set(before)) == pictures
    assert len(titles) == len(pictures) and all("(some data)" in title for title in titles)


@pytest.mark.parametrize(
    "arguments, mnist, message",
    [
        (["--load_weights"], None, "vae.weights.h5: train first"),
        (["--load_weights", "--is_cvae"], None, "cvae.weights.h5: train first"),
        (["--batch_size", "601"], None, "batch_size must be from 1 to 600"),
        ([], "/nowhere.npz", "/nowhere.npz"),
    ],
)
def test_mistakes_are_one_line(small_mnist, monkeypatch, capsys, arguments, mnist, message):
    if mnist:
        monkeypatch.setenv("MNIST_NPZ", mnist)
    assert main(*arguments) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("Error: ") and stderr.count("\n") == 1 and message in stderr


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_weights(small_mnist, outputs, monkeypatch, loss):
    assignment.save_model_weights(vae.VAE(784), arguments())
    before = {path: path.read_bytes() for path in outputs.iterdir()}
    monkeypatch.setattr(assignment, "train_vae", lambda *given: loss)
    with pytest.raises(InputError, match="smaller --learning_rate"):
        assignment.main(assignment.parseArguments([*SHORT]))
    assert {path: path.read_bytes() for path in outputs.iterdir()} == before


# ----------------------------------------------------------------------------------------------------------- arguments


def test_defaults_are_the_handouts():
    args = assignment.parseArguments([])
    assert (args.batch_size, args.num_epochs, args.latent_size, args.input_size) == (1024, 10, 15, 784)
    assert not args.is_cvae and not args.load_weights and args.seed is None and args.learning_rate == 0.0015
    assert assignment.parseArguments(["--is_cvae"]).is_cvae
    assert assignment.parseArguments(["--load_weights"]).load_weights


@pytest.mark.parametrize("parse", [assignment.parseArguments, grade.parse_arguments])
def test_the_help_tells_what_the_program_does_and_each_default(parse, capsys):
    with pytest.raises(SystemExit) as end:
        parse(["--help"])
    usage, *parts = " ".join(capsys.readouterr().out.split()).split("options: ")
    assert end.value.code == 0 and usage.endswith(". ")  # a sentence
    options, defaults = re.split(r" (?=--)", parts[0])[2:], vars(parse([]))  # without -h, --help
    assert {option.split()[0][2:] for option in options} == defaults.keys() - {"training"}
    for option in options:
        name, *words = option.split()
        assert len([word for word in words if not word.isupper()]) > 2, option
        assert "default" not in option or option.endswith(f"(default: {defaults[name[2:]]})")


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
        ["--seed", "-1"],
        ["--seed", str(2**32)],
        ["--nonsense"],
    ],
)
def test_bad_arguments_end_with_status_2_and_say_why(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        assignment.parseArguments(arguments)
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
def test_every_argument_takes_its_extremes(name, values):
    for value in values:
        assert getattr(assignment.parseArguments([f"--{name}", str(value)]), name) == value
