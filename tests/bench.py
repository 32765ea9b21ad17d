"""Where the time goes, beside what the machine can do. By hand: `python tests/bench.py`, with MNIST at hand.

Every ratio is a median of ratios between neighbours in time in one process, so that it holds on a noisy machine.
"""

import itertools
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

CODE = pathlib.Path(__file__).resolve().parent.parent / "code"
sys.path.insert(0, str(CODE))

import assignment
import numpy as np
import tensorflow as tf

from vae import CVAE, VAE, loss_function

ROUNDS = 3
BARS = (110, 108, 105)  # test losses to race to, nats per image
RACES = ((1024, 6, 1.2e-3), (1024, 10, 1.2e-3), (128, 2, 2.4e-3), (128, 5, 1.2e-3))  # batch, epochs, learning rate
EAGER_IMAGES = 10_240  # the eager loop is timed on so many images, and scaled to an epoch


def seconds(call, *args):
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


@tf.function
def _matmuls(a, b):
    for _ in range(10):
        b = tf.matmul(a, b)
    return b


def matmul_rate():
    """float32 operations a second over about a second of products of 1024 x 1024 matrices; no size to 2048 is faster."""
    n, calls = 1024, 8
    a, b = tf.random.normal((n, n), stddev=n**-0.5), tf.random.normal((n, n))  # so that products keep their size
    return calls * 10 * 2 * n**3 / seconds(lambda: [_matmuls(a, b).numpy() for _ in range(calls)])


def quarters(loader):
    """An epoch in four parts: (number of batches, the batches)."""
    batches = iter(loader)
    for count in np.diff(np.linspace(0, len(loader), 5).astype(int)):
        yield count, itertools.islice(batches, count)


def arguments(batch_size, num_epochs=10, learning_rate=1.2e-3):
    return assignment.parseArguments(["--batch_size", str(batch_size), "--num_epochs", str(num_epochs),
                                      "--learning_rate", str(learning_rate)])


def eager_epoch(model, optimizer, batches, is_cvae):
    """The loop as it is usually written: a GradientTape a batch, nothing compiled."""
    for images, labels in batches:
        with tf.GradientTape() as tape:
            c = (tf.one_hot(labels, 10),) if is_cvae else ()
            x_hat, mu, logvar = model(images, *c)
            loss = loss_function(x_hat, images, mu, logvar)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))


def bench_whole_command():
    command = [sys.executable, str(CODE / "assignment.py"), "--is_cvae", "--num_epochs", "1"]
    with tempfile.TemporaryDirectory() as folder:  # a copy, so that the project's outputs stay
        code = pathlib.Path(folder) / "code"
        code.mkdir()
        for name in ("vae.py", "assignment.py"):
            (code / name).write_bytes((CODE / name).read_bytes())
        command[1] = str(code / "assignment.py")
        times = [seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)) for _ in range(ROUNDS)]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"`assignment.py --is_cvae --num_epochs 1`: {np.median(times):.1f} s, peak resident memory {peak:.2f} GiB")


def bench_command():
    """One epoch of the command line, whole and by its parts."""
    parts = {"import": [], "data": [], "first step": [], "training": [], "test loss": [], "saving": [], "pictures": []}
    with tempfile.TemporaryDirectory() as folder:
        assignment.OUTPUTS = pathlib.Path(folder)
        for _ in range(ROUNDS):
            parts["import"].append(seconds(
                lambda: subprocess.run([sys.executable, "-c", "import assignment"], cwd=CODE, check=True)))
            assignment.load_data.cache_clear()
            model, args = CVAE(784), arguments(1024)
            parts["data"].append(seconds(assignment.load_mnist, 1024))
            loader = assignment.load_mnist(1024)
            parts["first step"].append(seconds(assignment.train_vae, model, loader.take(1), args, True))
            parts["training"].append(seconds(assignment.train_vae, model, loader, args, True))
            parts["test loss"].append(seconds(assignment.evaluate, model, True))
            args.is_cvae = True
            parts["saving"].append(seconds(assignment.save_model_weights, model, args))
            parts["pictures"].append(seconds(lambda: (
                assignment.show_cvae_images(model, 15), assignment.show_reconstructions(model, True),
                assignment.show_loss_curve([(1.0, 1.0, 1.0)], "", True))))
    medians = {name: np.median(times) for name, times in parts.items()}
    print("its parts, seconds: " + ", ".join(f"{name} {median:.2f}" for name, median in medians.items())
          + f"; all but training {sum(medians.values()) - medians['training']:.1f}")


def bench_epochs():
    print(f"\n{'model':<6}{'batch':>6}{'s/epoch':>9}{'GFLOP/s':>9}{'ceiling':>9}{'share':>7}{'x eager':>9}")
    for kind, is_cvae in ((VAE, False), (CVAE, True)):
        for batch_size in (1024, 128):
            model, eager, args = kind(784), kind(784), arguments(batch_size)
            loader, optimizer = assignment.load_mnist(batch_size), tf.keras.optimizers.Adam(1e-3)
            few = loader.take(EAGER_IMAGES // batch_size)
            assignment.train_vae(model, loader, args, is_cvae)  # compiles
            _matmuls(*tf.zeros((2, 1024, 1024)))
            eager_epoch(eager, optimizer, loader.take(2), is_cvae)
            weights = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
            rates, ceilings, epochs, speedups = [], [], [], []
            for _ in range(ROUNDS):
                epoch = 0.0
                for count, part in quarters(loader):
                    ceilings.append(matmul_rate() / 1e9)
                    spent = seconds(assignment.train_vae, model, part, args, is_cvae)
                    rates.append(6 * weights * count * batch_size / spent / 1e9)
                    epoch += spent
                epochs.append(epoch)
                eager_time = seconds(eager_epoch, eager, optimizer, few, is_cvae)
                speedups.append(eager_time * len(loader) / len(few) / epoch)
            share = np.median(np.divide(rates, ceilings))
            print(f"{kind.__name__:<6}{batch_size:>6}{np.median(epochs):>9.2f}{np.median(rates):>9.0f}"
                  f"{np.median(ceilings):>9.0f}{share:>7.2f}{np.median(speedups):>9.1f}", flush=True)


def race(batch_size, num_epochs, learning_rate):
    """Trains a VAE: the seconds, compiling counted, until its test loss is below each bar, and that loss at the end.

    The test loss is taken four times an epoch; its time does not count.
    """
    model, args = VAE(784), arguments(batch_size, num_epochs, learning_rate)
    loader, reached, spent = assignment.load_mnist(batch_size), [np.inf] * len(BARS), 0.0
    for _ in range(num_epochs):
        for _, part in quarters(loader):
            spent += seconds(assignment.train_vae, model, part, args)
            loss = sum(assignment.evaluate(model))
            reached = [min(time, spent) if loss < bar else time for time, bar in zip(reached, BARS)]
    return *reached, loss


def bench_race():
    print("\nSeconds of training until the VAE's test loss is below\n"
          f"{'batch':>6}{'epochs':>8}{'rate':>8}" + "".join(f"{bar:>8}" for bar in BARS) + f"{'at the end':>12}")
    for run in RACES:
        *reached, loss = np.median([race(*run) for _ in range(ROUNDS)], axis=0)
        cells = "".join(f"{time:>8.1f}" if np.isfinite(time) else f"{'-':>8}" for time in reached)
        print("{:>6}{:>8}{:>8}".format(*run) + f"{cells}{loss:>12.2f}", flush=True)


if __name__ == "__main__":
    if not os.environ.get("MNIST_NPZ"):
        print("MNIST_NPZ is not set: timing whatever data assignment.load_data finds")
    bench_whole_command()  # first: a child's peak memory starts at its parent's
    bench_command()
    bench_epochs()
    bench_race()
