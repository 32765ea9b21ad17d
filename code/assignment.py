"""Trains a VAE or a conditional VAE on MNIST and draws digits with it: data, training, weights, pictures, command line.

The models and their loss are in `vae.py`. Everything is written to `outputs/` in the project's folder.
"""

import argparse
import functools
import itertools
import json
import math
import operator
import os
import pathlib
import sys
import zlib
from collections import namedtuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's errors alone, except while it is imported
if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # it draws to files, whatever a notebook's environment says

from vae import CVAE, MUON_BATCH_SIZE, VAE, MuonAdam, kl_divergence, loss_function, reconstruction_loss  # isort: skip
import numpy as np  # vae is imported first: it names Keras' backend
import tensorflow as tf
from matplotlib.figure import Figure

OUTPUTS = pathlib.Path(__file__).resolve().parent.parent / "outputs"
MNIST_CHECKSUM = 0x1939F699  # CRC-32 of the bytes of x_train, y_train, x_test and y_test


# ------------------------------------------------------------------------------------------------------------ data
# A data set in MNIST's format, as tensors: uint8 images (N, 28, 28), 0 is background, and labels (N,), 0 to 9.
Data = namedtuple("Data", ("name", "x_train", "y_train", "x_test", "y_test"))


@functools.lru_cache(maxsize=1)
def load_data():
    """MNIST from `$MNIST_NPZ`, else through Keras (its cache or its download), else digits rendered from fonts.

    Returns `Data`, held once per process. ValueError if `$MNIST_NPZ` is not valid, or if nothing is found.
    """
    if path := os.environ.get("MNIST_NPZ"):
        try:
            with np.load(path) as archive:
                arrays = [archive[name] for name in ("x_train", "y_train", "x_test", "y_test")]
            return new_data(pathlib.Path(path).name, *arrays)
        except Exception as error:  # NumPy, zip and deflate raise many kinds
            raise ValueError(f"MNIST_NPZ={path} is not a valid mnist.npz ({error}): unset it, or use another") from None
    try:
        train, test = tf.keras.datasets.mnist.load_data()
        return new_data("Keras' mnist.npz", *train, *test)
    except Exception as error:  # Keras raises a bare Exception where the download fails
        missing = f"MNIST could not be loaded ({error}). To use it, set MNIST_NPZ to the path of an mnist.npz."
    try:
        from rendered_digits import rendered_digits
    except ImportError:
        raise ValueError(missing) from None
    warning = f"WARNING: {missing}\nUsing digits RENDERED FROM FONTS instead: losses and pictures are NOT MNIST's."
    print(f"\n{'*' * 88}\n{warning}\n{'*' * 88}\n", file=sys.stderr, flush=True)
    train, test = rendered_digits()
    return new_data("rendered digits, not MNIST", *train, *test)


def new_data(name, *arrays):
    """`Data` of x_train, y_train, x_test and y_test; its name is "MNIST" if they are MNIST's to the last byte."""
    for x, y in (arrays[:2], arrays[2:]):
        valid = x.size and x.dtype == np.uint8 and x.shape == (len(y), 28, 28) and y.ndim == 1
        if not valid or not np.isin(y, range(10)).all():
            got = f"{x.dtype} {x.shape} and {y.dtype} {y.shape}"
            raise ValueError(f"images must be uint8 (N, 28, 28) and labels (N,) from 0 to 9, got {got}")
    checksum = zlib.crc32(b"".join(array.astype(np.uint8).tobytes() for array in arrays))
    return Data("MNIST" if checksum == MNIST_CHECKSUM else name, *map(tf.constant, arrays, (tf.uint8, tf.int32) * 2))


def one_hot(labels, class_size):
    """One-hot float32 (N, class_size) of labels (N,) or (N, 1). ValueError for invalid labels, in eager mode."""
    labels = tf.reshape(tf.cast(labels, tf.int32), (-1,))
    if tf.executing_eagerly() and len(labels):
        check_range("labels", labels, 0, class_size - 1)
    return tf.one_hot(labels, class_size)


def check_range(name, values, low, high):
    """ValueError if one of the values is not from `low` to `high`."""
    smallest, largest = float(tf.reduce_min(values)), float(tf.reduce_max(values))
    if not low <= smallest <= largest <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {smallest:g} to {largest:g}")


def to_pixels(images):
    """uint8 images (N, H, W) to float32 (N, 1, H, W) in [0, 1]."""
    return tf.cast(images[:, tf.newaxis], tf.float32) / 255.0


def load_mnist(batch_size, buffer_size=1024):
    """The training set of `load_data` (handout, "Train our VAE").

    Returns a `tf.data.Dataset` of (images (B, 1, 28, 28) float32 in [0, 1], labels (B,) int32), reshuffled each epoch,
    without a partial last batch. ValueError if there are not B images. All are shuffled, whatever the `buffer_size`.
    """
    data = load_data()
    n = len(data.x_train)
    if not 1 <= batch_size <= n:
        raise ValueError(f"batch_size must be from 1 to {n}, the number of images, got {batch_size}")
    indices = tf.data.Dataset.range(n).shuffle(n).batch(batch_size, drop_remainder=True)  # MNIST is ordered by writer
    batches = indices.map(lambda i: (to_pixels(tf.gather(data.x_train, i)), tf.gather(data.y_train, i)))
    options = tf.data.Options()
    options.autotune.enabled = False  # there is nothing to tune, and some epochs would wait seconds for the tuner
    return batches.prefetch(2).with_options(options)


# -------------------------------------------------------------------------------------------------------- training
def train_vae(model, train_loader, args, is_cvae=False):
    """Trains for one epoch (handout, "Train our VAE", "Train our CVAE"); called again, training continues.

    `model` is a `VAE`, or a `CVAE` if `is_cvae`, else TypeError. `train_loader` gives batches of images (B, 1, H, W) in
    [0, 1] and labels (B,), ValueError if the first is not like that. `args` has `learning_rate`, the peak of
    `learning_rate_schedule`, and perhaps `num_epochs` (else 10), its length: in later calls the rate stays at its end.
    A caller's own optimizer in `model.optimizer` keeps its own rate. Returns the sum of the batches' losses, a float:
    `total / len(train_loader)` is the average loss per image.
    """
    if is_cvae != isinstance(model, CVAE):
        raise TypeError(f"a {type(model).__name__} is trained with is_cvae={not is_cvae}")
    first, others = check_first_batch(model, train_loader)
    batch_size, num_batches = len(first[0]), operator.length_hint(train_loader)  # 0 if it is not known
    num_steps = getattr(args, "num_epochs", 10) * (num_batches or 60_000 // batch_size)
    done = int(tf.convert_to_tensor(model.optimizer.iterations))
    if own_optimizer := isinstance(model.optimizer, MuonAdam):
        model.optimizer.use_muon = batch_size >= MUON_BATCH_SIZE
    train_step = compile_train_step(model)
    shown = sys.stdout is not None and (sys.stdout.isatty() or "ipykernel" in sys.modules)  # in a terminal or notebook
    bar = tf.keras.utils.Progbar(num_batches or None, verbose=int(shown), stateful_metrics=["loss"])
    total = 0.0
    for i, (images, labels) in enumerate(itertools.chain([first], others), start=1):
        if own_optimizer:
            model.optimizer.learning_rate = learning_rate_schedule(done + i, num_steps, args.learning_rate, batch_size)
        total += train_step(tf.cast(images, tf.float32), tf.cast(labels, tf.int32))
        if shown and i % 10 == 0 and i != num_batches:  # reading the loss waits for the step
            bar.update(i, [("loss", float(total) / i)])
    bar.update(i, [("loss", float(total) / i)], finalize=True)
    return float(total)


def check_first_batch(model, train_loader):
    """The first batch of a loader, and an iterator over the others. ValueError if `model` cannot be trained on it."""
    if isinstance(train_loader, tf.data.Dataset) and train_loader.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("the loader repeats without end: leave out .repeat()")
    batches = iter(train_loader)
    batch = next(batches, None)
    if batch is None:
        why = "it can be used for one epoch only" if batches is train_loader else "it is empty"
        raise ValueError(f"the loader has no batches: {why}")
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(f"a batch must be a pair (images, labels), got a {type(batch).__name__}")
    images, labels = map(tf.convert_to_tensor, batch)
    side, n = model.image_size, len(images)
    if images.shape[1:] != (1, side, side):
        raise ValueError(f"images must be (N, 1, {side}, {side}), got {tuple(images.shape)}")
    if labels.shape != (n,) and labels.shape != (n, 1):
        raise ValueError(f"labels must be ({n},), got {tuple(labels.shape)}")
    check_range("pixels", images, 0, 1)
    if isinstance(model, CVAE):
        check_range("labels", labels, 0, model.num_classes - 1)
    return (images, labels), batches


def learning_rate_schedule(step, num_steps, learning_rate, batch_size):
    """The learning rate of step 1, 2, ... of a run: linear warm-up, then cosine decay to 1 % of the peak.

    The peak is `learning_rate` for batches of 128, and (B / 128)^0.75 times that for others, up to B = 1024. The
    warm-up takes a fifth of the run, but at least 100 steps.
    """
    peak, warmup = learning_rate * (min(batch_size, 1024) / 128) ** 0.75, max(100, num_steps // 5)
    if step < warmup:
        return peak * step / warmup
    progress = min((step - warmup) / max(1, num_steps - warmup), 1.0)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def compile_train_step(model):
    """A step of training as a graph, (images, labels) -> loss; a new one if optimizer or trained variables changed."""
    made_for = model.optimizer, getattr(model.optimizer, "use_muon", None), [id(v) for v in model.trainable_variables]
    if getattr(model.train_function, "made_for", None) != made_for:

        @tf.function(autograph=False)  # autograph would keep the model alive for good
        def train_step(images, labels):
            with tf.GradientTape() as tape:
                x_hat, mu, logvar = forward(model, images, labels)
                loss = loss_function(x_hat, images, mu, logvar)
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
            return loss

        train_step.made_for = made_for
        model.train_function = train_step  # where Keras keeps its own
    return model.train_function


def forward(model, images, labels):
    """x_hat, mu and logvar of images; a CVAE is given their labels too."""
    return model(images, one_hot(labels, model.num_classes)) if isinstance(model, CVAE) else model(images)


def evaluate(model):
    """Reconstruction loss and KL on the test images, nats per image, whose sum is the loss; and their mu (N, Z)."""
    data, parts = load_data(), []
    for i in range(0, len(data.x_test), 2500):  # all at once would take more memory
        images = to_pixels(data.x_test[i : i + 2500])
        x_hat, mu, logvar = forward(model, images, data.y_test[i : i + 2500])
        parts.append((reconstruction_loss(x_hat, images), kl_divergence(mu, logvar), mu))
    reconstruction, kl, mu = map(np.concatenate, zip(*parts))
    return reconstruction.mean(dtype=float), kl.mean(dtype=float), mu


def classify(model, images):
    """p(c|x) of a `CVAE` for images x (N, 1, H, W) in [0, 1]: (N, C) float32, rows that add up to 1.

    By Bayes' rule with equal priors, p(c|x) is proportional to p(x|c), here estimated by exp(-loss(x, c)): the loss is
    the handout's, of which -loss is a lower bound of log p(x|c) (Kingma & Welling, equation 3), but with z = mu.
    """
    losses = []
    for c in np.eye(model.num_classes):
        c = tf.constant(np.tile(c, (len(images), 1)), model.compute_dtype)
        _, mu, logvar = model(images, c)
        x_hat = model.decoder(tf.concat([mu, c], axis=1))
        losses.append(reconstruction_loss(x_hat, images) + kl_divergence(mu, logvar))
    return tf.nn.softmax(-tf.stack(losses, axis=1))


# --------------------------------------------------------------------------------------------------------- weights
def output_path(model, ending):
    """The path of the file in `outputs/` with the name of the kind of the model, and this ending."""
    return OUTPUTS / f"{'cvae' if isinstance(model, CVAE) else 'vae'}{ending}"


def save_model_weights(model, args):
    """Saves the weights as `outputs/{vae,cvae}.weights.h5`. OSError if that fails: the old file is then unchanged."""
    partial = output_path(model, ".partial.weights.h5")
    partial.parent.mkdir(exist_ok=True)
    model.save_weights(str(partial))
    output_path(model, ".run.json").unlink(missing_ok=True)  # it is that of the old weights
    os.replace(partial, output_path(model, ".weights.h5"))


def load_weights(model):
    """The model with its saved weights. FileNotFoundError if there are none; ValueError if they do not fit."""
    path = output_path(model, ".weights.h5")
    if not path.exists():
        raise FileNotFoundError(f"there are no weights at {path}: train first, without --load_weights")
    before = model.get_weights()
    try:
        model.load_weights(str(path))
    except Exception as error:  # h5py and both generations of Keras raise many kinds
        model.set_weights(before)  # some may have been loaded
        reasons = f"other sizes than {model.latent_size} latents, damaged, or saved by Keras 3 and read by Keras 2"
        raise ValueError(f"{path} does not fit this {type(model).__name__} ({reasons}): train again") from error
    return model


def saved_run(model):
    """What `train` put on record of the run behind the saved weights; {} if nothing is."""
    path = output_path(model, ".run.json")
    return json.loads(path.read_text()) if path.exists() else {}


# -------------------------------------------------------------------------------------------------------- pictures
def show_vae_images(model, latent_size):
    """Draws `outputs/show_vae_images.png`: 10 samples from the prior."""
    draw_grid("show_vae_images.png", model.decoder(tf.random.normal((10, latent_size))), 10, describe(model, "samples"))


def show_vae_interpolation(model, latent_size):
    """Draws `outputs/show_vae_interpolation.png`: 12 x 12 images between four samples from the prior, the corners."""
    corners = tf.random.normal((4, latent_size)).numpy()
    ends = np.linspace((1, 0), (0, 1), 12)  # along a side of the square, the weights of its two ends
    z = np.kron(ends, ends) @ corners  # (144, 4) weights of the corners
    draw_grid("show_vae_interpolation.png", model.decoder(z), 12, describe(model, "between four samples"))


def show_vae_manifold(model):
    """Draws `outputs/vae_manifold.png`: 2 latents at 20 x 20 quantiles of the prior (Kingma & Welling, figure 4)."""
    quantiles = tf.math.ndtri((tf.range(20.0) + 0.5) / 20)
    z = tf.reshape(tf.stack(tf.meshgrid(quantiles, quantiles[::-1]), axis=-1), (-1, 2))  # z_2 grows upwards
    draw_grid("vae_manifold.png", model.decoder(z), 20, describe(model, "20 x 20 grid over its two latents"))


def show_cvae_images(model, latent_size):
    """Draws `outputs/show_cvae_images.png`: 10 samples of each class, one row per class."""
    classes = np.arange(model.num_classes)
    z, c = tf.random.normal((10 * len(classes), latent_size)), one_hot(np.repeat(classes, 10), len(classes))
    images = model.decoder(tf.concat([z, c], axis=1))
    draw_grid("show_cvae_images.png", images, 10, describe(model, "samples by class"), row_labels=classes)


def show_cvae_classes(model):
    """Draws `outputs/cvae_classes.png`: test images, their mu decoded as each class, the class read in a frame."""
    (images, labels), num_classes = examples_of_each_digit(1), model.num_classes
    _, mu, _ = forward(model, images, labels)
    classes = [one_hot([c] * len(images), num_classes) for c in range(num_classes)]
    x_hats = [model.decoder(np.concatenate([mu, c], axis=1)) for c in classes]
    rows = np.stack([images, *x_hats], axis=1).reshape(-1, *images.shape[1:])  # the image, then each class
    read, text = np.argmax(classify(model, images), axis=1), "test images, their z as each class, and the class read"
    draw_grid("cvae_classes.png", rows, 1 + num_classes, describe(model, text), labels.numpy(), 1 + read)


def show_reconstructions(model):
    """Draws `outputs/{vae,cvae}_reconstructions.png`: two test images of each digit above their reconstructions."""
    images, labels = examples_of_each_digit(2)
    x_hat, _, _ = forward(model, images, labels)
    name, text = output_path(model, "_reconstructions.png").name, describe(model, "test images and reconstructions")
    draw_grid(name, np.concatenate([images, x_hat]), len(images), text, ["$x$", r"$\hat{x}$"])


def examples_of_each_digit(count):
    """The first `count` test images of each digit, float32 (10 * count, 1, 28, 28), and their labels."""
    data = load_data()
    chosen = np.concatenate([np.flatnonzero(data.y_test == digit)[:count] for digit in range(10)])
    return to_pixels(tf.gather(data.x_test, chosen)), tf.gather(data.y_test, chosen)


def show_latent_space(model):
    """Draws `outputs/{vae,cvae}_latent_space.png`: the test images' mu by digit, on two principal components."""
    _, _, mu = evaluate(model)
    variances, axes = np.linalg.eigh(np.cov(mu, rowvar=False))  # the last are the largest
    labels = [f"principal component {i}, {variances[-i] / variances.sum():.0%} of the variance" for i in (1, 2)]
    title, figure = describe(model, "posterior means of the test images"), Figure(layout="constrained")
    plot = figure.add_subplot(title=title, xlabel=labels[0], ylabel=labels[1])
    points = plot.scatter(*(mu @ axes[:, [-1, -2]]).T, c=load_data().y_test, cmap="tab10", s=2)
    figure.legend(*points.legend_elements(), title="digit", loc="outside right upper")
    save_figure(figure, output_path(model, "_latent_space.png"))


def show_loss_curve(model, history):
    """Draws `outputs/{vae,cvae}_loss.png` of (train loss, test reconstruction, test KL), nats per image, by epoch."""
    (train, reconstruction, kl), epochs = np.transpose(history), np.arange(1, len(history) + 1)
    figure = Figure(layout="constrained")
    plot = figure.add_subplot(title=describe(model, "loss"), xlabel="epoch", ylabel="nats per image")
    plot.plot(epochs, train, "o--", label="train loss (average over the epoch)")
    plot.plot(epochs, reconstruction + kl, "o-", label="test loss")
    plot.plot(epochs, reconstruction, "^-", label="test reconstruction")
    plot.plot(epochs, kl, "v-", label="test KL")
    plot.set_ylim(0, 1.1 * max(train))
    plot.xaxis.get_major_locator().set_params(integer=True)
    plot.legend()
    save_figure(figure, output_path(model, "_loss.png"))


def describe(model, text):
    """The text, with the kind of the model, and the data that it was trained on where that is known."""
    data_name = getattr(model, "data_name", None)
    return f"{type(model).__name__}: {text}" + (f" ({data_name})" if data_name else "")


def draw_grid(name, images, columns, title, row_labels=(), framed=()):
    """Draws images (N, 1, H, W) in [0, 1] row by row to `outputs/{name}`; `framed`: the column to mark in each row."""
    rows, (height, width) = len(images) // columns, images.shape[2:]
    grid = np.reshape(images, (rows, columns, height, width)).swapaxes(1, 2).reshape(rows * height, columns * width)
    left, right, top, bottom = 0.35 if len(row_labels) else 0.05, 0.05, 0.35, 0.05  # margins in inches
    w, h = columns / 2 + left + right, rows / 2 + top + bottom  # an image is half an inch,
    figure = Figure((w, h), dpi=112)  # which is 2 x 28 pixels
    plot = figure.add_axes((left / w, bottom / h, columns / 2 / w, rows / 2 / h))
    plot.imshow(grid, "gray", vmin=0, vmax=1, extent=(0, columns, rows, 0), interpolation="nearest")
    plot.set_axis_off()
    for row, label in enumerate(row_labels):
        plot.text(-0.3, row + 0.5, label, ha="center", va="center")
    for row, column in enumerate(framed):
        plot.plot(column + 0.5, row + 0.5, "s", markersize=33, fillstyle="none", color="orange", markeredgewidth=2)
    figure.text(left / w, 1 - top / 2 / h, title, va="center")
    save_figure(figure, OUTPUTS / name)


def save_figure(figure, path):
    """Writes a figure as an optimised PNG."""
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, pil_kwargs={"optimize": True})


# ------------------------------------------------------------------------------------------------------------ main
def main(args):
    """Trains the model, or loads it if `args.load_weights`, and draws its pictures."""
    if getattr(args, "seed", None) is not None:
        tf.keras.utils.set_random_seed(args.seed)
    model = (CVAE if args.is_cvae else VAE)(args.input_size, latent_size=args.latent_size)
    if args.load_weights:
        load_weights(model)
        model.data_name = saved_run(model).get("data")
    else:
        train(model, args)
    for show in (show_cvae_images,) if args.is_cvae else (show_vae_images, show_vae_interpolation):
        show(model, args.latent_size)
    if args.latent_size == 2 and not args.is_cvae:
        show_vae_manifold(model)
    print(f"Pictures and weights are in {OUTPUTS}")


def train(model, args):
    """Trains; after each epoch saves weights and a record: data, seed, losses in nats. Draws what needs the data."""
    train_loader, history = load_mnist(args.batch_size), []
    model.data_name, kind = load_data().name, type(model).__name__
    run = {"data": model.data_name, "seed": getattr(args, "seed", None), "history": history}
    print(f"Training a {kind} on {model.data_name}, {len(train_loader)} batches of {args.batch_size}")
    for epoch in range(1, args.num_epochs + 1):
        loss = train_vae(model, train_loader, args, args.is_cvae) / len(train_loader)
        if not np.isfinite(loss):
            raise ValueError(f"the loss became {loss} in epoch {epoch}: try a smaller --learning_rate")
        reconstruction, kl, _ = evaluate(model)
        history.append((loss, reconstruction, kl))
        save_model_weights(model, args)
        output_path(model, ".run.json").write_text(json.dumps(run))
        terms = f"(reconstruction {reconstruction:.2f} + KL {kl:.2f})"
        print(f"Train Epoch: {epoch}  Loss: {loss:.6f}  Test Loss: {reconstruction + kl:.6f} {terms}", flush=True)
    show_loss_curve(model, history)
    show_reconstructions(model)
    if args.latent_size > 1:
        show_latent_space(model)
    if args.is_cvae:
        show_cvae_classes(model)


# ---------------------------------------------------------------------------------------------------- command line
def parseArguments(argv=None):
    """The arguments of the command line, or of the list `argv` (handout, "FAQ"). Status 2 if one is wrong."""
    parser = argparse.ArgumentParser(description="Train a (conditional) VAE on MNIST and draw digits into outputs/.")
    parser.add_argument("--is_cvae", action="store_true", help="the conditional VAE instead of the VAE")
    parser.add_argument("--load_weights", action="store_true", help="draw from the saved weights, without training")
    parser.add_argument("--batch_size", type=int, default=1024, help="batch size (default: 1024)")
    parser.add_argument("--num_epochs", type=int, default=10, help="epochs (default: 10)")
    parser.add_argument("--latent_size", type=int, default=15, help="latent dimensions (default: 15)")
    parser.add_argument("--input_size", type=int, default=784, choices=[784], help="pixels of an image, MNIST's 784")
    help_text = "peak learning rate at batch size 128, grows with (B/128)^0.75 up to 1024 (default: 0.0012)"
    parser.add_argument("--learning_rate", type=float, default=1.2e-3, help=help_text)
    parser.add_argument("--seed", type=int, help="0 to 4294967295, for a run that can be repeated")
    args = parser.parse_args(argv)
    for name, high in {"batch_size": 10**6, "num_epochs": 10**6, "latent_size": 10**4, "learning_rate": 1}.items():
        if not 0 < getattr(args, name) <= high:  # nan too
            parser.error(f"argument --{name}: must be above 0 and at most {high}, got {getattr(args, name)}")
    return args


def run(program):
    """A program's exit status: what it returns, or 0; after one line, 1 for a mistake and 130 for Ctrl-C."""
    try:
        return program() or 0
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"Error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(run(lambda: main(parseArguments())))
