"""The command line as a user runs it: real runs, mistakes, interruptions."""

import contextlib
import os
import pty
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import assignment
import vae
from conftest import CODE, needs_mnist

SHORT = ("--batch_size", "100", "--num_epochs", "2")


@needs_mnist
def test_one_epoch_on_mnist(project, tmp_path):
    status, stdout, stderr = project.run("--is_cvae", "--num_epochs", "1", mnist=os.environ["MNIST_NPZ"], cwd=tmp_path)
    assert status == 0 and stderr == ""
    lines = stdout.splitlines()
    assert lines[0].endswith("on MNIST, 58 batches of 1024")
    assert lines[1].startswith("Train Epoch: 0  Loss: ")
    # An untrained model is at 784 * log 2 = 543 and more, that of the mean image at 206
    assert float(lines[2].split()[2]) < 206
    assert sorted(f.name for f in project.outputs.iterdir()) == [
        "cvae.run.json", "cvae.weights.h5", "cvae_loss.png", "cvae_reconstructions.png", "show_cvae_images.png"]


def test_saved_weights_are_drawn_without_data(project):
    project.save(vae.CVAE(784), is_cvae=True)
    status, _, stderr = project.run("--load_weights", "--is_cvae", mnist="/nowhere.npz")
    assert status == 0 and stderr == ""
    assert (project.outputs / "show_cvae_images.png").exists()


def test_a_seed_repeats_a_run(project, outputs, monkeypatch, capsys):
    def results(stdout, folder):
        losses = [line for line in stdout.splitlines() if "Loss: " in line]
        assert len(losses) == 3
        return losses, {f.name: f.read_bytes() for f in folder.glob("*.png")}

    def run(seed):
        assignment.main(assignment.parseArguments([*SHORT, "--seed", seed]))
        return results(capsys.readouterr().out, outputs)

    monkeypatch.setenv("MNIST_NPZ", str(project.mnist))
    first = run("5")
    assert run("6")[0] != first[0]
    assert run("5") == first
    assert results(project.run(*SHORT, "--seed", "5")[1], project.outputs) == first  # and in another process


def test_without_a_seed_no_two_runs_are_the_same(project):
    losses = [project.run("--batch_size", "100", "--num_epochs", "1")[1].splitlines()[1] for _ in range(2)]
    assert losses[0].startswith("Train Epoch: 0") and losses[0] != losses[1]


def test_importing_prints_nothing():
    done = subprocess.run([sys.executable, "-c", "import grade, rendered_digits"], cwd=CODE, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_defaults_are_the_handouts():
    args = assignment.parseArguments([])
    assert (args.batch_size, args.num_epochs, args.latent_size, args.input_size) == (1024, 10, 15, 784)
    assert not args.is_cvae and not args.load_weights and args.seed is None


@pytest.mark.parametrize("arguments", [
    *[[f"--{name}", value] for name in ("batch_size", "num_epochs", "latent_size", "input_size", "learning_rate")
      for value in ("0", "-1", "nan", "inf", "x", "1000000000")],
    ["--input_size", "783"], ["--input_size", "64"], ["--seed", "-1"], ["--batch_size", "1.5"], ["--nonsense"]])
def test_bad_arguments_end_with_status_2_and_say_why(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        assignment.parseArguments(arguments)
    assert end.value.code == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("Error: ") and stderr.count("\n") == 1
    assert arguments[0].lstrip("-") in stderr and arguments[-1].lstrip("-") in stderr


@pytest.mark.parametrize("arguments, mnist, status, message", [
    (["--load_weights"], None, 1, "train first"),
    (["--batch_size", "601"], None, 2, "batch_size must be from 1 to 600"),
    ([], "/nowhere.npz", 1, "there is no such file"),
    (["--batch_size", "100", "--learning_rate", "1e8"], None, 1, "smaller --learning_rate"),
    (["--latent_size", "999999999"], None, 1, "smaller --latent_size"),
])
def test_mistakes_are_one_line(project, arguments, mnist, status, message):
    ended, _, stderr = project.run(*arguments, mnist=mnist)
    assert ended == status
    assert stderr.count("\n") == 1 and message in stderr


def test_weights_of_the_other_model_are_one_line(project):
    project.save(vae.VAE(784))
    (project.outputs / "vae.weights.h5").rename(project.outputs / "cvae.weights.h5")
    status, _, stderr = project.run("--load_weights", "--is_cvae")
    assert status == 1 and stderr.count("\n") == 1 and "does not fit a CVAE" in stderr and "train again" in stderr


def test_weights_of_another_latent_size_are_one_line(project):
    project.save(vae.VAE(784, latent_size=7))
    status, _, stderr = project.run("--load_weights")
    assert status == 1 and stderr.count("\n") == 1 and "does not fit a VAE with 15 latents" in stderr


def test_outputs_that_is_a_file_is_one_line(project):
    project.outputs.write_text("in the way")
    status, stdout, stderr = project.run(*SHORT)
    assert status == 1 and stderr.count("\n") == 1 and "a folder that you may write to" in stderr
    assert "Train Epoch" not in stdout  # said before an epoch is spent
    assert project.outputs.read_text() == "in the way"


def test_a_full_disk_keeps_the_last_weights(project):
    project.save(vae.VAE(784))
    whole = (project.outputs / "vae.weights.h5").read_bytes()

    def limit():  # a file cannot grow past a megabyte; the weights are seven
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    status, _, stderr = project.run(*SHORT, preexec_fn=limit)
    assert status == 1 and stderr.count("\n") == 1 and "free some space" in stderr
    assert (project.outputs / "vae.weights.h5").read_bytes() == whole
    assert not list(project.outputs.glob(".*"))


@pytest.mark.parametrize("sent, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_is_one_line_and_leaves_weights_and_no_litter(project, sent, status):
    process = project.start("--batch_size", "100", "--num_epochs", "100000")
    while "Train Epoch: 1 " not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == status
    assert stderr.count("\n") == 1 and "after epoch" in stderr and "vae.weights.h5" in stderr
    assert [f.name for f in project.outputs.iterdir()] == ["vae.weights.h5"]


def test_ctrl_c_while_starting_is_one_line(project):
    process = project.start()
    time.sleep(0.7)  # in the import of TensorFlow
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stderr.count("\n") == 1


def test_a_terminal_shows_a_bar_with_the_loss(project):
    ours, theirs = pty.openpty()
    process = project.start("--batch_size", "20", "--num_epochs", "1", terminal=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while part := os.read(ours, 65536):
            shown += part
    assert process.wait(timeout=60) == 0
    assert b"Epoch 1/1" in shown and b"30/30" in shown and b"loss: " in shown and b"Train Epoch" not in shown


def test_two_runs_at_once_leave_whole_files(project):
    runs = [project.start("--batch_size", "100", "--num_epochs", "10") for _ in range(2)]
    for run in runs:
        _, stderr = run.communicate(timeout=300)
        assert run.returncode == 0, stderr
    assert project.run("--load_weights")[0] == 0
    assert not list(project.outputs.glob(".*"))


def test_killed_at_any_moment_the_weights_load(project, outputs):
    # Forked children share one import of TensorFlow; each trains until it is killed.
    script = textwrap.dedent("""
        import os, shutil, signal, sys, time
        sys.path.insert(0, sys.argv[1])
        import assignment
        assignment.tf.config.run_functions_eagerly(True)  # compiling is most of a child's time, and not what is tested
        weights = assignment.OUTPUTS / "vae.weights.h5"
        for i, delay in enumerate(map(float, sys.argv[2:])):
            weights.unlink(missing_ok=True)
            child = os.fork()
            if not child:
                sys.stdout = open(os.devnull, "w")
                assignment.main(assignment.parseArguments(["--batch_size", "300", "--num_epochs", "100000"]))
                os._exit(1)
            while not weights.exists():
                assert os.waitpid(child, os.WNOHANG) == (0, 0)
                time.sleep(0.001)
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            shutil.copy(weights, assignment.OUTPUTS / f"{i}.h5")
        """)
    delays = [str(random.uniform(0, 0.3)) for _ in range(20)]
    command = [sys.executable, "-c", script, str(project.code), *delays]
    done = subprocess.run(command, env={**os.environ, "MNIST_NPZ": str(project.mnist)}, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    outputs.mkdir()
    for i in range(20):
        (outputs / "vae.weights.h5").write_bytes((project.outputs / f"{i}.h5").read_bytes())
        assignment.load_weights(vae.VAE(784))
    assert project.run(*SHORT)[0] == 0
    assert not list(project.outputs.glob(".*.h5"))
