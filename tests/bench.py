"""Measures how long training takes, next to what the machine can do. By hand, with MNIST: `python tests/bench.py`.

Every ratio is a median of ratios between neighbours in time in one process, so that it holds on a noisy machine. Each
model has taken a step before it is timed, so that no compilation is.
"""

import itertools
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

CODE = pathlib.Path(__file__).resolve().parent.parent / "code"
sys.path.insert(0, str(CODE))

import assignment
import numpy as np
import tensorflow as tf
from assignment import forward, is_conditional
from vae import CVAE, VAE, MuonAdam, loss_function

ROUNDS = 3
EAGER_IMAGES = 5_120  # the eager loop is timed on so many images, and scaled to an epoch
COLUMNS = {
    "s per epoch": "{:.2f}",
    "GFLOP/s": "{:.0f}",
    "share of plain matmuls' GFLOP/s": "{:.2f}",
    "x float32": "{:.2f}",
    "x Adam": "{:.2f}",
    "x eager": "{:.2f}",
}


def seconds(call, *args):
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def processor():
    """The name of the processor, where Linux tells it."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


@tf.function
def matmuls(a, b):
    for _ in range(10):
        b = tf.matmul(a, b)
    return b


def matmul_rate(dtype):
    """FLOP/s of matmuls of 1024 x 1024 matrices of a type, over about a second."""
    n, calls = 1024, 8
    a = tf.cast(tf.random.normal((n, n), stddev=n**-0.5), dtype)  # so that the products keep their size
    b = tf.cast(tf.random.normal((n, n)), dtype)
    return calls * 10 * 2 * n**3 / seconds(lambda: [matmuls(a, b).numpy() for _ in range(calls)])


def operations(model, batch_size):
    """Floating-point operations of a step: of the network, forward and backward, and of the orthogonalized updates."""
    network = 6 * batch_size * sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    kernels = [v.shape for v in model.trainable_variables if model.optimizer.is_for_muon(v)]
    updates = sum(4 * (4 * f * f * g + 2 * f**3) for f, g in kernels)
    return network + updates


def train(model, batches):
    float(assignment.train_vae(model, batches, None, is_conditional(model)))


def eager_epoch(model, optimizer, batches):
    """The loop as it is usually written: a GradientTape for each batch, and no graph."""
    for images, labels in batches:
        with tf.GradientTape() as tape:
            x_hat, mu, logvar = forward(model, images, labels, is_conditional(model))
            loss = loss_function(x_hat, images, mu, logvar)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))


def bench_command():
    with tempfile.TemporaryDirectory() as folder:  # a copy, so that the project's outputs stay
        code = shutil.copytree(CODE, pathlib.Path(folder) / "code")
        for epochs in ("1", "10"):
            command = [sys.executable, str(code / "assignment.py"), "--is_cvae", "--num_epochs", epochs]
            quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            spent = seconds(lambda c: subprocess.run(c, **quiet), command)
            print(f"- `assignment.py --is_cvae --num_epochs {epochs}`: {spent:.1f} s")
    print(f"- peak resident memory: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.2f} GiB")


def model_in(kind, precision):
    """A new model that computes in this precision."""
    tf.keras.mixed_precision.set_global_policy(assignment.POLICIES[precision])
    model = kind(784)
    tf.keras.mixed_precision.set_global_policy("float32")
    return model


def quarters(loader):
    """The batches of an epoch in four parts."""
    batches = iter(loader)
    for count in np.diff(np.linspace(0, len(loader), 5).astype(int)):
        yield itertools.islice(batches, count)


def measure_epochs(kind, batch_size, precision):
    """The figures of `COLUMNS`, a row for each round."""
    loader = assignment.load_mnist(batch_size)
    model = model_in(kind, precision)
    adam = model_in(kind, precision)
    adam.optimizer = MuonAdam()
    in_float32 = model_in(kind, "float32")
    eager = model_in(kind, precision)
    eager_optimizer = tf.keras.optimizers.Adam(1e-3)
    few = loader.take(EAGER_IMAGES // batch_size)
    for trained in (model, adam, in_float32):
        train(trained, loader.take(1))
    eager_epoch(eager, eager_optimizer, loader.take(2))
    matmul_rate(precision)
    rows = []
    for _ in range(ROUNDS):
        matmul_rates = []
        spent = 0.0
        for part in quarters(loader):
            matmul_rates.append(matmul_rate(precision))
            spent += seconds(train, model, part)
        rate = len(loader) * operations(model, batch_size) / spent
        of_float32 = seconds(train, in_float32, loader)
        of_adam = seconds(train, adam, loader)
        of_eager = seconds(eager_epoch, eager, eager_optimizer, few) * len(loader) / len(few)
        share = rate / np.mean(matmul_rates)
        rows.append([spent, rate / 1e9, share, spent / of_float32, spent / of_adam, spent / of_eager])
    return rows


def bench_epochs():
    print(f"\n| | {' | '.join(COLUMNS)} |")
    print("| --- " * (1 + len(COLUMNS)) + "|")
    for kind, precision in itertools.product((VAE, CVAE), assignment.POLICIES):
        medians = np.median(measure_epochs(kind, 1024, precision), axis=0)
        cells = [cell.format(value) for cell, value in zip(COLUMNS.values(), medians)]
        print(f"| {kind.__name__}, batch 1024, {precision} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if not os.environ.get("MNIST_NPZ"):
        print("MNIST_NPZ is not set: timing whatever data assignment.load_data finds")
    devices = ", ".join(device.name for device in tf.config.list_physical_devices("GPU")) or "no GPU"
    print(f"{processor()}, {os.cpu_count()} cores, {devices}, TensorFlow {tf.__version__}; medians of {ROUNDS} rounds")
    bench_command()  # first: a child's peak memory starts at its parent's
    bench_epochs()
