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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
CODE = pathlib.Path(__file__).resolve().parent.parent / "code"
sys.path.insert(0, str(CODE))

import assignment
import numpy as np
import tensorflow as tf

from vae import CVAE, VAE, loss_function

ROUNDS = 3
BARS = (110, 105, 100)  # test losses to race to, nats per image
EAGER_IMAGES = 10_240  # the eager loop is timed on so many images, and scaled to an epoch


def seconds(call, *args):
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


@tf.function
def matmuls(a, b):
    for _ in range(10):
        b = tf.matmul(a, b)
    return b


def matmul_rate():
    """float32 operations a second over about a second of products of 1024 x 1024 matrices; no size to 2048 is faster."""
    n, calls = 1024, 8
    a, b = tf.random.normal((n, n), stddev=n**-0.5), tf.random.normal((n, n))  # so that products keep their size
    return calls * 10 * 2 * n**3 / seconds(lambda: [matmuls(a, b).numpy() for _ in range(calls)])


def quarters(loader):
    """An epoch in four parts: (number of batches, the batches)."""
    batches = iter(loader)
    for count in np.diff(np.linspace(0, len(loader), 5).astype(int)):
        yield count, itertools.islice(batches, count)


def arguments(batch_size, num_epochs=10):
    return assignment.parseArguments(["--batch_size", str(batch_size), "--num_epochs", str(num_epochs)])


def train(model, batches, args):
    assignment.train_vae(model, batches, args, isinstance(model, CVAE))


def usual_model(kind):
    """As most solutions have it: Keras' own initial weights, the class as it is, and Adam at its default rate."""
    model = kind(784)
    for layer in (*model.encoder.layers, model.mu_layer, model.logvar_layer, *model.decoder.layers):
        if isinstance(layer, tf.keras.layers.Dense):
            layer.kernel.assign(tf.keras.initializers.GlorotUniform()(layer.kernel.shape))
            layer.bias.assign(tf.zeros_like(layer.bias))
    return model, tf.keras.optimizers.Adam(1e-3)


def eager_epoch(model, optimizer, batches):
    """The loop as it is usually written: a GradientTape a batch, nothing compiled."""
    for images, labels in batches:
        with tf.GradientTape() as tape:
            condition = [assignment.one_hot(labels, 10)] if isinstance(model, CVAE) else []
            x_hat, mu, logvar = model(images, *condition)
            loss = loss_function(x_hat, images, mu, logvar)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))


def bench_whole_command():
    with tempfile.TemporaryDirectory() as folder:  # a copy, so that the project's outputs stay
        code = pathlib.Path(folder) / "code"
        code.mkdir()
        for name in ("vae.py", "assignment.py"):
            (code / name).write_bytes((CODE / name).read_bytes())
        command = [sys.executable, str(code / "assignment.py"), "--is_cvae"]
        for epochs in ("1", "10"):
            times = [seconds(lambda: subprocess.run([*command, "--num_epochs", epochs], check=True,
                                                    stdout=subprocess.DEVNULL)) for _ in range(ROUNDS)]
            print(f"`assignment.py --is_cvae --num_epochs {epochs}`: {np.median(times):.1f} s")
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.2f} GiB")


def bench_command():
    """One epoch of the command line by its parts."""
    parts = {"import": [], "data": [], "first step": [], "training": [], "first test loss": [], "test loss": [],
             "saving": [], "pictures": []}
    with tempfile.TemporaryDirectory() as folder:
        assignment.OUTPUTS = pathlib.Path(folder)
        for _ in range(ROUNDS):
            parts["import"].append(seconds(lambda: subprocess.run(
                [sys.executable, "-c", "import assignment"], cwd=CODE, check=True, stderr=subprocess.DEVNULL)))
            assignment.load_data.cache_clear()
            model, args = CVAE(784), arguments(1024)
            args.is_cvae = True
            parts["data"].append(seconds(assignment.load_mnist, 1024))
            loader = assignment.load_mnist(1024)
            parts["first step"].append(seconds(train, model, loader.take(1), args))
            parts["training"].append(seconds(train, model, loader, args))
            parts["first test loss"].append(seconds(assignment.evaluate, model))
            parts["test loss"].append(seconds(assignment.evaluate, model))
            parts["saving"].append(seconds(assignment.save_model_weights, model, args))
            parts["pictures"].append(seconds(lambda: (
                assignment.show_cvae_images(model, 15), assignment.show_reconstructions(model),
                assignment.show_latent_space(model), assignment.show_loss_curve(model, [(1.0, 1.0, 1.0)]))))
    print("its parts, seconds: " + ", ".join(f"{name} {np.median(times):.2f}" for name, times in parts.items()))


def bench_epochs():
    print(f"\n{'model':<6}{'batch':>6}{'s/epoch':>9}{'GFLOP/s':>9}{'ceiling':>9}{'share':>7}{'x Adam':>8}{'optimizer':>11}"
          f"{'x eager':>9}")
    for kind in (VAE, CVAE):
        for batch_size in (1024, 128):
            model, args, loader = kind(784), arguments(batch_size), assignment.load_mnist(batch_size)
            muon_batch, assignment.MUON_BATCH = assignment.MUON_BATCH, 10**9
            adam = kind(784)
            train(adam, loader.take(1), args)
            assignment.MUON_BATCH = muon_batch
            still = kind(784)  # trained by plain gradient descent, next to nothing: what is left is the network
            still.optimizer = tf.keras.optimizers.SGD(1e-3)
            train(still, loader.take(1), args)
            train(model, loader.take(1), args)
            eager, optimizer = usual_model(kind)
            few = loader.take(EAGER_IMAGES // batch_size)
            eager_epoch(eager, optimizer, loader.take(2))
            matmuls(*tf.zeros((2, 1024, 1024)))
            weights = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
            rows = []
            for _ in range(ROUNDS):
                ceilings, spent = [], 0.0
                for count, part in quarters(loader):
                    ceilings.append(matmul_rate() / 1e9)
                    spent += seconds(train, model, part, args)
                rate = 6 * weights * len(loader) * batch_size / spent / 1e9
                of_adam, of_still = seconds(train, adam, loader, args), seconds(train, still, loader, args)
                of_eager = seconds(eager_epoch, eager, optimizer, few) * len(loader) / len(few)
                rows.append((spent, rate, np.mean(ceilings), rate / np.mean(ceilings), spent / of_adam,
                             100 * (1 - of_still / spent), of_eager / spent))
            s = np.median(rows, axis=0)
            print(f"{kind.__name__:<6}{batch_size:>6}{s[0]:>9.2f}{s[1]:>9.0f}{s[2]:>9.0f}{s[3]:>7.2f}{s[4]:>8.2f}{s[5]:>9.0f} %"
                  f"{s[6]:>9.1f}", flush=True)


def race(model, epoch, loader, epochs):
    """Seconds of training, compiling counted, until the test loss is below each bar, and that loss at the end.

    `epoch(batches)` trains. The test loss is taken four times an epoch; its time does not count.
    """
    reached, spent = [np.inf] * len(BARS), 0.0
    for _ in range(epochs):
        for _, part in quarters(loader):
            spent += seconds(epoch, part)
            loss = sum(assignment.evaluate(model)[:2])
            reached = [min(time, spent) if loss < bar else time for time, bar in zip(reached, BARS)]
    return *reached, loss


def race_ours(kind):
    model, args = kind(784), arguments(1024)
    return race(model, lambda part: train(model, part, args), assignment.load_mnist(1024), args.num_epochs)


def race_usual(kind):
    model, optimizer = usual_model(kind)
    return race(model, lambda part: eager_epoch(model, optimizer, part), assignment.load_mnist(128), 5)


def bench_race():
    print("\nSeconds of training until the test loss is below\n"
          f"{'':<44}" + "".join(f"{bar:>8}" for bar in BARS) + f"{'at the end':>12}")
    for kind in (VAE, CVAE):
        for name, run, rounds in (("as here, batch 1024, 10 epochs", race_ours, ROUNDS),
                                  ("as usual, eager, batch 128, 5 epochs", race_usual, 1)):
            *reached, loss = np.median([run(kind) for _ in range(rounds)], axis=0)
            cells = "".join(f"{time:>8.1f}" if np.isfinite(time) else f"{'never':>8}" for time in reached)
            print(f"{kind.__name__ + ', ' + name:<44}{cells}{loss:>12.2f}", flush=True)


if __name__ == "__main__":
    if not os.environ.get("MNIST_NPZ"):
        print("MNIST_NPZ is not set: timing whatever data assignment.load_data finds")
    bench_whole_command()  # first: a child's peak memory starts at its parent's
    bench_command()
    bench_epochs()
    bench_race()
