"""How long training takes, beside what the machine can do. By hand: `python tests/bench.py`, with MNIST at hand.

Every ratio is a median of ratios between neighbours in time in one process, so that it holds on a noisy machine. Each
model has taken a step before it is timed, so that no compiler is. Rows in bfloat16 have ceilings of their own.
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
import muon
import numpy as np
import tensorflow as tf
from checks import checked_batches
from forward import classes_for, forward, is_conditional
from precision import computing_in, speed_up
from vae import CVAE, VAE, loss_function

ROUNDS = 3
EAGER_IMAGES = 5_120  # the eager loop is timed on so many images, and scaled to an epoch


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
    """Operations a second of products of 1024 x 1024 matrices of a type, over about a second."""
    n, calls = 1024, 8
    a = tf.cast(tf.random.normal((n, n), stddev=n**-0.5), dtype)  # so that products keep their size
    b = tf.cast(tf.random.normal((n, n)), dtype)
    return calls * 10 * 2 * n**3 / seconds(lambda: [matmuls(a, b).numpy() for _ in range(calls)])


def operations(model, batch_size):
    """Operations of a step: of the network, forward and backward, and of the orthogonalised updates."""
    of_network = 6 * batch_size * sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    shapes = [tuple(kernel.shape) for kernel in model.optimizer.kernels]
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
    assignment.train_vae(model, batches, args, is_conditional(model))


def check(model, batches):
    """What `train_vae` checks of each batch, alone."""
    for _ in checked_batches(batches, model, is_conditional(model)):
        pass


def eager_epoch(model, optimizer, batches):
    """The loop as it is usually written: a GradientTape a batch, and no graph."""
    for images, labels in batches:
        with tf.GradientTape() as tape:
            x_hat, mu, logvar = forward(model, images, classes_for(model, labels))
            loss = loss_function(x_hat, images, mu, logvar)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))


def bench_command():
    with tempfile.TemporaryDirectory() as folder:  # a copy, so that the project's outputs stay
        code = shutil.copytree(CODE, pathlib.Path(folder) / "code")
        for epochs in ("1", "10"):
            options = ["--is_cvae", "--precision", "float32", "--num_epochs", epochs]
            command = [sys.executable, str(code / "assignment.py"), *options]
            quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            spent = seconds(lambda c: subprocess.run(c, **quiet), command)
            print(f"- `assignment.py {' '.join(options)}`: {spent:.1f} s")
    print(f"- peak resident memory: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.2f} GiB")


COLUMNS = {
    "s/epoch": "{:.2f}",
    "GFLOP/s": "{:.0f}",
    "ceiling": "{:.0f}",
    "share": "{:.2f}",
    "share, network alone": "{:.2f}",
    "x float32": "{:.2f}",
    "x Adam": "{:.2f}",
    "optimizer": "{:.0f} %",
    "checks": "{:.1f} %",
    "x eager": "{:.1f}",
}


def bench_epochs():
    print(f"\n| | {' | '.join(COLUMNS)} |")
    print("| --- " * (1 + len(COLUMNS)) + "|")
    for kind, precision in itertools.product((VAE, CVAE), ("float32", "bfloat16")):
        medians = np.median(measure_epochs(kind, 1024, precision), axis=0)
        cells = [cell.format(value) for cell, value in zip(COLUMNS.values(), medians)]
        print(f"| {kind.__name__}, batch 1024, {precision} | {' | '.join(cells)} |", flush=True)


def measure_epochs(kind, batch_size, precision):
    """The figures of `COLUMNS`, a row for each round."""
    loader = assignment.load_mnist(batch_size)
    args = arguments(batch_size)
    with computing_in(precision):
        model, adam, sgd, usual = (kind(784) for _ in range(4))
    in_float32 = kind(784)
    adam.optimizer = muon.new_optimizer(adam, batch_size, muon_layers=())
    sgd.optimizer = tf.keras.optimizers.SGD(1e-9)  # next to nothing: what is left is the network
    optimizer = tf.keras.optimizers.Adam(1e-3)
    few = loader.take(EAGER_IMAGES // batch_size)
    at_hand = list(few)
    for trained in (model, adam, sgd, in_float32):
        train(trained, loader.take(1), args)
    eager_epoch(usual, optimizer, loader.take(2))
    check(model, at_hand)
    matmul_rate(precision)
    network, update = operations(model, batch_size)
    rows = []
    for _ in range(ROUNDS):
        ceilings = []
        spent = 0.0
        for _, part in quarters(loader):
            ceilings.append(matmul_rate(precision) / 1e9)
            spent += seconds(train, model, part, args)
        rate = len(loader) * (network + update) / spent / 1e9
        ceiling = np.mean(ceilings)
        share = rate / ceiling
        of_float32 = seconds(train, in_float32, loader, args)
        of_adam = seconds(train, adam, loader, args)
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
                spent / of_float32,
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
    print(f"A product of matrices of the network's size is {speed_up():.2f} times as fast in bfloat16")
    bench_command()  # first: a child's peak memory starts at its parent's
    bench_epochs()
