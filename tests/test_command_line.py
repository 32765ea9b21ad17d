"""The command line as a user runs it. TensorFlow takes seconds to start: what can be tested in one process is."""

import json
import os
import signal
import subprocess
import sys

import pytest

import assignment
import vae
from conftest import CODE, Project

SHORT = ("--batch_size", "200", "--num_epochs", "2")


def main(*arguments):
    """A run of the command line in this process: its exit status."""
    return assignment.run(lambda: assignment.main(assignment.parseArguments(list(arguments))))


# ------------------------------------------------------------------------------------------------ in other processes


def test_runs_in_hostile_environments_are_clean_and_repeat_by_their_seed(tmp_path):
    project = Project(tmp_path / "pröject")
    status, stdout, stderr = project.run(
        "--is_cvae", *SHORT, "--seed", "5", cwd=tmp_path, environment={
            "KERAS_BACKEND": "jax", "MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONIOENCODING": "ascii"})
    assert (status, stderr) == (0, "")
    lines = stdout.splitlines()
    assert lines[0] == "Training a CVAE on small.npz, 3 batches of 200"
    assert lines[1].startswith("Train Epoch: 0  Loss: ") and lines[2].startswith("Train Epoch: 1  Loss: ")
    assert "\\xf6" in lines[3]
    assert sorted(f.name for f in project.outputs.iterdir()) == [
        "cvae.run.json", "cvae.weights.h5", "cvae_latent_space.png", "cvae_loss.png", "cvae_reconstructions.png",
        "show_cvae_images.png"]

    again = Project(tmp_path / "again")
    command = '"$@" >&- 2>&-'  # with its streams closed
    done = subprocess.run(["sh", "-c", command, "sh", *again.command("--is_cvae", *SHORT, "--seed", "5")],
                          env=again.environment(), timeout=300)
    assert done.returncode == 0
    for name in ("cvae.run.json", "cvae_latent_space.png", "cvae_loss.png", "show_cvae_images.png"):
        assert (project.outputs / name).read_bytes() == (again.outputs / name).read_bytes()
    assignment.OUTPUTS = again.outputs
    assignment.load_weights(vae.CVAE(784))  # nothing was written into the file that took the number of stderr


def test_ctrl_c_is_one_line_and_leaves_the_last_epoch_s_weights(project):
    process = project.start("--batch_size", "100", "--num_epochs", "100000")
    while "Train Epoch: 1 " not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.count("\n") == 1 and stderr.startswith("Interrupted")
    assert sorted(f.name for f in project.outputs.iterdir()) == ["vae.run.json", "vae.weights.h5"]


KILLED_WHILE_SAVING = """
import os, sys
sys.path.insert(0, sys.argv[1])
import assignment
assignment.USE_XLA = False
replace, saved = os.replace, []
def kill(partial, target):
    saved.append(target)
    if [t.name for t in saved].count("vae.weights.h5") == 2:  # of the second epoch; the new file is written
        os.kill(os.getpid(), 9)
    replace(partial, target)
os.replace = kill
assignment.main(assignment.parseArguments(["--batch_size", "300", "--num_epochs", "3", "--seed", "1"]))
"""


def test_killed_while_it_saves_the_weights_of_the_epoch_before_load(project, outputs):
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_SAVING, str(project.code)], capture_output=True,
                          env={**os.environ, "MNIST_NPZ": str(project.mnist)}, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = sorted(f.name for f in project.outputs.iterdir())
    assert len(left) == 3 and left[0].startswith(".") and left[1:] == ["vae.run.json", "vae.weights.h5"]
    outputs.mkdir()
    for path in project.outputs.iterdir():
        path.rename(outputs / path.name)
    assignment.load_weights(vae.VAE(784))
    assert len(assignment.saved_run(vae.VAE(784))["history"]) == 1


def test_importing_prints_nothing_of_ours_and_leaves_matplotlib_alone():
    script = ("import os, matplotlib; matplotlib.use('svg'); import grade, rendered_digits, explore; "
              "assert matplotlib.get_backend() == 'svg'")
    done = subprocess.run([sys.executable, "-c", script], cwd=CODE, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert not [line for line in done.stderr.splitlines() if "assignment" in line or "Error" in line], done.stderr


# --------------------------------------------------------------------------------------------------- in this process


def test_the_vae_s_run_and_its_record(small_mnist, outputs, capsys):
    assert main(*SHORT, "--latent_size", "2", "--seed", "3") == 0
    assert sorted(f.name for f in outputs.iterdir()) == [
        "show_vae_images.png", "show_vae_interpolation.png", "vae.run.json", "vae.weights.h5", "vae_latent_space.png",
        "vae_loss.png", "vae_manifold.png", "vae_reconstructions.png"]
    lines = capsys.readouterr().out.splitlines()
    record = json.loads((outputs / "vae.run.json").read_text())
    assert record["data"] == "small.npz" and record["seed"] == 3 and len(record["history"]) == 2
    for epoch, (loss, reconstruction, kl) in enumerate(record["history"]):
        assert lines[epoch + 1].startswith(f"Train Epoch: {epoch}  Loss: {loss:.6f}  Test Loss: "
                                           f"{reconstruction + kl:.6f} (reconstruction {reconstruction:.2f} + KL {kl:.2f}")


def test_a_seed_repeats_a_run_and_another_does_not(small_mnist, outputs, capsys):
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
    monkeypatch.setattr(assignment, "save_figure", lambda figure, target: (
        titles.append(figure.texts[0].get_text()), save_figure(figure, target)))
    assert main("--is_cvae", "--load_weights") == 0
    assert (outputs / "show_cvae_images.png").exists() and titles == ["CVAE: samples by digit (some data)"]


def test_defaults_are_the_handouts():
    args = assignment.parseArguments([])
    assert (args.batch_size, args.num_epochs, args.latent_size, args.input_size) == (1024, 10, 15, 784)
    assert not args.is_cvae and not args.load_weights and args.seed is None


@pytest.mark.parametrize("arguments", [
    *[[f"--{name}", value] for name in ("batch_size", "num_epochs", "latent_size", "input_size", "learning_rate")
      for value in ("0", "-1", "nan", "inf", "x", "1000000000")],
    ["--input_size", "783"], ["--seed", "-1"], ["--seed", str(2**32)], ["--batch_size", "1.5"], ["--nonsense"]])
def test_bad_arguments_end_with_status_2_and_say_why(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        assignment.parseArguments(arguments)
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in last and arguments[0].lstrip("-") in last


def test_every_argument_takes_its_extremes():
    for name, values in (("batch_size", (1, 10**6)), ("num_epochs", (1, 10**6)), ("latent_size", (1, 10**4)),
                         ("learning_rate", (1e-9, 1.0)), ("seed", (0, 2**32 - 1))):
        for value in values:
            assert getattr(assignment.parseArguments([f"--{name}", str(value)]), name) == value


@pytest.mark.parametrize("arguments, mnist, message", [
    (["--load_weights"], None, "train first"),
    (["--batch_size", "601"], None, "batch_size must be from 1 to 600"),
    ([], "/nowhere.npz", "/nowhere.npz"),
    (["--batch_size", "20", "--num_epochs", "5", "--learning_rate", "1"], None, "smaller --learning_rate"),
])
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
