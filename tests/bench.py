"""How long training takes, beside what the machine can do. By hand: `python tests/bench.py`, with MNIST at hand.

Every ratio is a median of ratios between neighbours in time in one process, so that it holds on a noisy machine. Each
model has taken a step before it is timed, so that no compiler is.
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
from unittest import mock

CODE = pathlib.Path(__file__).resolve().parent.parent / "code"
sys.path.insert(0, str(CODE))

import assignment
import muon
import numpy as np
import tensorflow as tf
from vae import CVAE, VAE, loss_function

ROUNDS = 3
EAGER_IMAGES = 10_240  # the eager loop is timed on so many images, and scaled to an epoch


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


def matmul_rate():
    """float32 operations a second of products of 1024 x 1024 matrices, over about a second."""
    n, calls = 1024, 8
    a, b = tf.random.normal((n, n), stddev=n**-0.5), tf.random.normal((n, n))  # so that products keep their size
    return calls * 10 * 2 * n**3 / seconds(lambda: [matmuls(a, b).numpy() for _ in range(calls)])


def operations(model, batch_size):
    """float32 operations of a step: of the network, forward and backward, and of the orthogonalised updates."""
    of_network = 6 * batch_size * sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    if batch_size < muon.MIN_MUON_BATCH_SIZE:
        return of_network, 0
    shapes = [tuple(kernel.shape) for kernel in model.optimizer.muon_kernels]
    of_all = sum(muon.NEWTON_SCHULZ_STEPS * (4 * f * f * g + 2 * f**3) for f, g in shapes)
    return of_network, of_all // muon.EVERY


def quarters(loader):
    """An epoch in four parts: (number of batches, the batches)."""
    batches = iter(loader)
    for count in np.diff(np.linspace(0, len(loader), 5).astype(int)):
        yield count, itertools.islice(batches, count)


def arguments(batch_size, num_epochs=10):
    return assignment.parseArguments(["--batch_size", str(batch_size), "--num_epochs", str(num_epochs)])


def train(model, batches, args):
    assignment.train_vae(model, batches, args, isinstance(model, CVAE))


def train_by_adam(model, batches, args):
    with mock.patch.object(muon, "MIN_MUON_BATCH_SIZE", 10**9):
        train(model, batches, args)


def check(model, batches):
    """What `train_vae` checks of each batch, alone."""
    for _ in assignment.checked_batches(batches, model, isinstance(model, CVAE)):
        pass


def eager_epoch(model, optimizer, batches):
    """The loop as it is usually written: a GradientTape a batch, and no graph."""
    for images, labels in batches:
        with tf.GradientTape() as tape:
            condition = [assignment.one_hot(labels, 10)] if isinstance(model, CVAE) else []
            x_hat, mu, logvar = model(images, *condition)
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


COLUMNS = {
    "s/epoch": "{:.2f}",
    "GFLOP/s": "{:.0f}",
    "ceiling": "{:.0f}",
    "share": "{:.2f}",
    "share, network alone": "{:.2f}",
    "x Adam": "{:.2f}",
    "optimizer": "{:.0f} %",
    "checks": "{:.1f} %",
    "x eager": "{:.1f}",
}


def bench_epochs():
    print(f"\n| | {' | '.join(COLUMNS)} |")
    print("| --- " * (1 + len(COLUMNS)) + "|")
    for kind, batch_size in itertools.product((VAE, CVAE), (1024, 128)):
        medians = np.median(measure_epochs(kind, batch_size), axis=0)
        cells = [cell.format(value) for cell, value in zip(COLUMNS.values(), medians)]
        print(f"| {kind.__name__}, batch {batch_size} | {' | '.join(cells)} |", flush=True)


def measure_epochs(kind, batch_size):
    """The figures of `COLUMNS`, a row for each round."""
    loader = assignment.load_mnist(batch_size)
    args = arguments(batch_size)
    model = kind(784)
    adam = kind(784)
    sgd = kind(784)
    sgd.optimizer = tf.keras.optimizers.SGD(1e-9)  # next to nothing: what is left is the network
    usual = kind(784)
    optimizer = tf.keras.optimizers.Adam(1e-3)
    few = loader.take(EAGER_IMAGES // batch_size)
    at_hand = list(few)
    train(model, loader.take(1), args)
    train_by_adam(adam, loader.take(1), args)
    train(sgd, loader.take(1), args)
    eager_epoch(usual, optimizer, loader.take(2))
    check(model, at_hand)
    matmul_rate()
    network, update = operations(model, batch_size)
    rows = []
    for _ in range(ROUNDS):
        ceilings = []
        spent = 0.0
        for _, part in quarters(loader):
            ceilings.append(matmul_rate() / 1e9)
            spent += seconds(train, model, part, args)
        rate = len(loader) * (network + update) / spent / 1e9
        ceiling = np.mean(ceilings)
        share = rate / ceiling
        of_adam = seconds(train_by_adam, adam, loader, args)
        of_sgd = seconds(train, sgd, loader, args)
        of_checks = seconds(check, model, at_hand) * len(loader) / len(few)
        of_eager = seconds(eager_epoch, usual, optimizer, few) * len(loader) / len(few)
        rows.append(
            [
                spent,
                rate,
                ceiling,
                share,
                share * network / (network + update),
                spent / of_adam,
                100 * (1 - of_sgd / spent),
                100 * of_checks / spent,
                of_eager / spent,
            ]
        )
    return rows


if __name__ == "__main__":
    if not os.environ.get("MNIST_NPZ"):
        print("MNIST_NPZ is not set: timing whatever data assignment.load_data finds")
    print(f"{processor()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}; of epochs medians of {ROUNDS} rounds")
    bench_command()  # first: a child's peak memory starts at its parent's
    bench_epochs()
