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
import vae
from conftest import CODE, arguments, small_arrays

SHORT = ("--batch_size", "200", "--num_epochs", "2")


def main(*arguments):
    """A run of the command line in this process: its exit status."""
    return assignment.run(lambda: assignment.main(assignment.parseArguments(list(arguments))))


# ------------------------------------------------------------------------------------------------ in other processes


def test_a_copy_of_two_files_runs_with_settings_that_are_in_the_way(tmp_path):
    """A copy of the two files that a grader takes, run as a user does, but with settings that are in the way."""
    code, outputs = tmp_path / "pröject" / "code", tmp_path / "pröject" / "outputs"
    code.mkdir(parents=True)
    for name in ("vae.py", "assignment.py"):
        shutil.copy(CODE / name, code)
    np.savez(tmp_path / "small.npz", **small_arrays())
    environment = {
        **os.environ,
        "MNIST_NPZ": str(tmp_path / "small.npz"),
        "KERAS_BACKEND": "jax",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    del environment["TF_CPP_MIN_LOG_LEVEL"]
    command = [sys.executable, str(code / "assignment.py"), "--is_cvae"]
    done = subprocess.run([*command, *SHORT], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Training a CVAE on small.npz, 3 batches of 200"
    assert lines[1].startswith("Train Epoch: 1  Loss: ") and lines[2].startswith("Train Epoch: 2  Loss: ")
    assert lines[3] == f"Pictures and weights are in {outputs}"
    assert sorted(f.name for f in outputs.iterdir()) == [
        "cvae.run.json",
        "cvae.weights.h5",
        "cvae_classes.png",
        "cvae_latent_space.png",
        "cvae_loss.png",
        "cvae_reconstructions.png",
        "show_cvae_images.png",
    ]

    picture, weights = outputs / "show_cvae_images.png", (outputs / "cvae.weights.h5").read_bytes()
    picture.unlink()
    closed = '"$@" >&- 2>&-'  # with its streams closed: their numbers go to the files that are opened next
    done = subprocess.run(["sh", "-c", closed, "sh", *command, "--load_weights"], env=environment)
    assert done.returncode == 0 and picture.exists()
    assert (outputs / "cvae.weights.h5").read_bytes() == weights


def test_the_example_of_the_readme_runs_as_it_stands(tmp_path, monkeypatch):
    """In a copy of the project, with saved weights."""
    from matplotlib.image import imread

    shutil.copytree(CODE, tmp_path / "code")
    (tmp_path / "outputs").mkdir()
    monkeypatch.setattr(assignment, "OUTPUTS", tmp_path / "outputs")
    assignment.save_model_weights(vae.CVAE(784), arguments(is_cvae=True))
    (block,) = re.findall(r"```python\n(.*?)```", (CODE.parent / "README.md").read_text("utf-8"), re.S)
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert imread(tmp_path / "outputs" / "sevens.png").shape[:2] == (28, 5 * 28)


def test_the_default_path_learns_with_noise_of_its_own_and_repeats_by_seed(tmp_path):
    """Batches of 512, Muon's update and the step as a graph, as they are by default, in a process of its own."""
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import sys; sys.path.insert(0, {str(CODE)!r})
import numpy as np, tensorflow as tf, assignment, vae
assert vae.MUON_BATCH_SIZE <= 512
rng = np.random.default_rng(0)
labels = rng.integers(0, 10, 512)
images = (rng.uniform(size=(10, 1, 28, 28)) > 0.5)[labels].astype(np.float32)
args = assignment.parseArguments(["--num_epochs", "1"])
for seed in (1, 1, 2):
    tf.keras.utils.set_random_seed(seed)
    model = vae.CVAE(784)
    before = model.get_weights()
    losses = [assignment.train_vae(model, [(images, labels)], args, True) for _ in range(40)]
    assert model.optimizer.use_muon
    model.set_weights(before)
    model.decoder.set_weights([rng.normal(0, 0.2, w.shape) for w in model.decoder.get_weights()])
    model.optimizer = tf.keras.optimizers.SGD(0.0)  # the weights stay: what differs is the noise
    noisy = {{assignment.train_vae(model, [(images, labels)], args, True) for _ in range(5)}}
    print(losses[0], losses[20], losses[-1], len(noisy))
"""
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, again, other = ([float(figure) for figure in line.split()] for line in done.stdout.splitlines())
    assert first[2] < first[1] < first[0] and first[2] < 0.8 * first[0]
    assert first[:3] == again[:3] and first[2] != other[2]
    assert first[3] == again[3] == other[3] == 5


def test_importing_prints_nothing_of_ours_and_leaves_matplotlib_alone():
    script = (
        "import os, matplotlib; matplotlib.use('svg'); import grade, rendered_digits, explore; "
        "assert matplotlib.get_backend() == 'svg'"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=CODE, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert not [line for line in done.stderr.splitlines() if "assignment" in line or "Error" in line], done.stderr


# --------------------------------------------------------------------------------------------------- in this process


def test_ctrl_c_is_one_line_and_leaves_the_last_epoch_s_weights(small_mnist, outputs, monkeypatch, capsys):
    evaluate, calls = assignment.evaluate, []

    def interrupt(model):
        """Ctrl-C in the second epoch."""
        calls.append(model)
        if len(calls) == 2:
            raise KeyboardInterrupt  # what Python makes of the signal, unless the shell has the signal ignored
        return evaluate(model)

    monkeypatch.setattr(assignment, "evaluate", interrupt)
    assert main("--batch_size", "300", "--num_epochs", "9") == 130
    stderr = capsys.readouterr().err
    assert stderr == "Interrupted\n"
    assert sorted(f.name for f in outputs.iterdir()) == ["vae.run.json", "vae.weights.h5"]
    assert len(assignment.saved_run(assignment.load_weights(vae.VAE(784)))["history"]) == 1


def test_ctrl_c_between_weights_and_record_leaves_no_older_record(small_mnist, outputs, monkeypatch, capsys):
    outputs.mkdir()
    (outputs / "vae.run.json").write_text('{"data": "older data", "history": []}')
    replace = os.replace

    def interrupt(partial, target):
        replace(partial, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    assert main(*SHORT) == 130
    assert capsys.readouterr().err == "Interrupted\n"
    assert (outputs / "vae.weights.h5").exists() and assignment.saved_run(vae.VAE(784)) == {}


def test_the_vae_s_run_and_its_record(small_mnist, outputs, capsys):
    assert main(*SHORT, "--latent_size", "2", "--seed", "3") == 0
    assert sorted(f.name for f in outputs.iterdir()) == [
        "show_vae_images.png",
        "show_vae_interpolation.png",
        "vae.run.json",
        "vae.weights.h5",
        "vae_latent_space.png",
        "vae_loss.png",
        "vae_manifold.png",
        "vae_reconstructions.png",
    ]
    lines = capsys.readouterr().out.splitlines()
    record = json.loads((outputs / "vae.run.json").read_text())
    assert record["data"] == "small.npz" and record["seed"] == 3 and len(record["history"]) == 2
    assert record == assignment.saved_run(vae.VAE(784))
    for epoch, (loss, reconstruction, kl) in enumerate(record["history"], start=1):
        assert lines[epoch].startswith(
            f"Train Epoch: {epoch}  Loss: {loss:.6f}  Test Loss: "
            f"{reconstruction + kl:.6f} (reconstruction {reconstruction:.2f} + KL {kl:.2f}"
        )


def test_a_seed_repeats_a_run_and_another_does_not(small_mnist, outputs, monkeypatch, capsys):
    monkeypatch.setattr(assignment, "save_figure", lambda figure, target: None)

    def losses(seed):
        assert main("--batch_size", "300", "--num_epochs", "1", "--seed", seed) == 0
        return capsys.readouterr().out.splitlines()[1]

    assert losses("5") == losses("5") != losses("6")


def test_one_latent_is_enough(small_mnist, outputs):
    assert main("--batch_size", "300", "--num_epochs", "1", "--latent_size", "1") == 0
    assert not (outputs / "vae_latent_space.png").exists()


def test_saved_weights_are_drawn_without_data(outputs, monkeypatch, capsys):
    monkeypatch.setenv("MNIST_NPZ", "/nowhere.npz")
    args = assignment.parseArguments(["--is_cvae", "--load_weights"])
    assignment.save_model_weights(vae.CVAE(784), args)
    (outputs / "cvae.run.json").write_text('{"data": "some data", "history": []}')
    titles = []
    save_figure = assignment.save_figure
    monkeypatch.setattr(
        assignment,
        "save_figure",
        lambda figure, target: (titles.append(figure.texts[0].get_text()), save_figure(figure, target)),
    )
    assert main("--is_cvae", "--load_weights") == 0
    assert (outputs / "show_cvae_images.png").exists() and titles == ["CVAE: samples by class (some data)"]


def test_defaults_are_the_handouts():
    args = assignment.parseArguments([])
    assert (args.batch_size, args.num_epochs, args.latent_size, args.input_size) == (1024, 10, 15, 784)
    assert not args.is_cvae and not args.load_weights and args.seed is None and args.learning_rate == 0.0012
    assert (
        assignment.parseArguments(["--is_cvae"]).is_cvae and assignment.parseArguments(["--load_weights"]).load_weights
    )


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
        ["--nonsense"],
    ],
)
def test_bad_arguments_end_with_status_2_and_say_why(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        assignment.parseArguments(arguments)
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in last and arguments[0].lstrip("-") in last


def test_every_argument_takes_its_extremes():
    for name, values in (
        ("batch_size", (1, 10**6)),
        ("num_epochs", (1, 10**6)),
        ("latent_size", (1, 10**4)),
        ("learning_rate", (1e-9, 1.0)),
        ("seed", (0, 2**32 - 1)),
    ):
        for value in values:
            assert getattr(assignment.parseArguments([f"--{name}", str(value)]), name) == value


@pytest.mark.parametrize(
    "arguments, mnist, message",
    [
        (["--load_weights"], None, "train first"),
        (["--batch_size", "601"], None, "batch_size must be from 1 to 600"),
        (["--seed", "-1"], None, "eed must be between 0 and 2**32 - 1"),
        ([], "/nowhere.npz", "/nowhere.npz"),
        (["--batch_size", "20", "--num_epochs", "5", "--learning_rate", "1"], None, "smaller --learning_rate"),
    ],
)
def test_mistakes_are_one_line(small_mnist, monkeypatch, capsys, arguments, mnist, message):
    if mnist:
        monkeypatch.setenv("MNIST_NPZ", mnist)
    if "--learning_rate" in arguments:
        monkeypatch.setattr(assignment, "train_vae", lambda *a, **k: float("nan"))
    assert main(*arguments) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("Error: ") and stderr.count("\n") == 1 and message in stderr


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_weights(small_mnist, outputs, monkeypatch, loss):
    args = assignment.parseArguments([*SHORT])
    assignment.save_model_weights(vae.VAE(784), args)
    whole = (outputs / "vae.weights.h5").read_bytes()
    monkeypatch.setattr(assignment, "train_vae", lambda *a, **k: loss)
    with pytest.raises(ValueError, match="smaller --learning_rate"):
        assignment.main(args)
    assert (outputs / "vae.weights.h5").read_bytes() == whole


def test_outputs_that_is_a_file_is_one_line(small_mnist, outputs, capsys):
    outputs.write_text("in the way")
    assert main(*SHORT) == 1
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1 and str(outputs) in stderr
    assert outputs.read_text() == "in the way"


def test_a_program_s_status_is_passed_on_and_streams_may_be_missing(monkeypatch, capsys):
    assert assignment.run(lambda: 7) == 7
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    def interrupted():
        raise KeyboardInterrupt

    def mistaken():
        raise OSError("a\nb")

    assert (assignment.run(interrupted), assignment.run(mistaken)) == (130, 1)
