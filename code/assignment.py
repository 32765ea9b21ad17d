"""Trains a VAE or a conditional VAE on MNIST and draws digits with it: data, training, weights, pictures, command line.

The models and their loss are in `vae.py`. Everything is written to `outputs/` in the project's folder.
"""

import argparse
import contextlib
import functools
import json
import operator
import os
import pathlib
import shutil
import sys
import time
import zlib
from collections import namedtuple

if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # it draws to files, whatever a notebook's environment says
with contextlib.ExitStack() as after_import:
    if __name__ == "__main__" and sys.stderr and sys.stderr is sys.__stderr__:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides TensorFlow's notes, except those of its start
        after_import.callback(os.dup2, os.dup(2), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    from vae import CVAE, VAE, bce_function, kl_divergence, loss_function  # before TensorFlow: it names Keras' backend
    import tensorflow as tf
import numpy as np
from matplotlib.figure import Figure

OUTPUTS = pathlib.Path(__file__).resolve().parent.parent / "outputs"
MNIST_CHECKSUM = 0x1939F699  # CRC-32 of the bytes of x_train, y_train, x_test and y_test
# XLA makes a step faster with Keras 3, slower with Keras 2, and not every build of TensorFlow has it.
USE_XLA = hasattr(tf.keras, "ops") and sys.platform == "linux" and not tf.config.list_physical_devices("GPU")
MUON_BATCH = 512  # from this batch on an orthogonalised update is worth its time, which does not depend on the batch


# ------------------------------------------------------------------------------------------------------------ data
# A data set in MNIST's format, as tensors: uint8 images (N, 28, 28), 0 is background, and labels (N,), 0 to 9.
Data = namedtuple("Data", ("name", "x_train", "y_train", "x_test", "y_test"))


@functools.lru_cache(maxsize=1)
def load_data():
    """MNIST from `$MNIST_NPZ`, else through Keras (its cache or its download), else digits rendered from fonts.

    Returns `Data`, held once per process. Its name is "MNIST" only if its arrays are MNIST's, to the last byte. Raises
    ValueError if `$MNIST_NPZ` is no usable `mnist.npz`, or if there is no MNIST and no `rendered_digits.py`.
    """
    if path := os.environ.get("MNIST_NPZ"):
        return new_data(pathlib.Path(path).name, *read_npz(path))
    try:
        train, test = tf.keras.datasets.mnist.load_data()
        return new_data("Keras' mnist.npz", *train, *test)
    except Exception as error:  # Keras raises a bare Exception where the download fails
        missing = (f"MNIST could not be loaded ({first_line(error)}). "
                   "To use MNIST, set MNIST_NPZ to the path of an mnist.npz.")
    try:
        from rendered_digits import rendered_digits
    except ImportError:
        raise ValueError(missing) from None
    print(f"\n{'*' * 88}\nWARNING: {missing}\nUsing digits RENDERED FROM FONTS instead: losses and pictures are NOT "
          f"MNIST's.\n{'*' * 88}\n", file=sys.stderr, flush=True)
    train, test = rendered_digits()
    return new_data("rendered digits, not MNIST", *train, *test)


def new_data(name, *arrays):
    """`Data` of x_train, y_train, x_test and y_test, with this name unless they are MNIST."""
    checksum = zlib.crc32(b"".join(np.asarray(array, np.uint8).tobytes() for array in arrays))
    return Data("MNIST" if checksum == MNIST_CHECKSUM else name, *map(tf.constant, arrays, (tf.uint8, tf.int32) * 2))


def read_npz(path):
    """x_train, y_train, x_test and y_test of an `mnist.npz`. ValueError if it is not one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = [archive[name] for name in ("x_train", "y_train", "x_test", "y_test")]
        for x, y in (arrays[:2], arrays[2:]):
            if x.dtype != np.uint8 or x.shape[1:] != (28, 28) or len(x) == 0:
                raise ValueError(f"images must be uint8 of shape (N, 28, 28), got {x.dtype} {x.shape}")
            if y.dtype.kind not in "iu" or y.shape != x.shape[:1] or not 0 <= y.min() <= y.max() <= 9:
                raise ValueError(f"labels must be {len(x)} integers from 0 to 9, got {y.dtype} {y.shape}")
    except Exception as error:  # NumPy, zip and deflate raise many kinds
        raise ValueError(f"MNIST_NPZ={path} is no mnist.npz ({first_line(error)}): use another, or unset it") from error
    return arrays


def one_hot(labels, class_size):
    """One-hot float32 (N, class_size) of labels (N,) or (N, 1). ValueError if one is no class, except in a graph."""
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
    without a smaller last batch. ValueError if there are not B images. `buffer_size` is there for callers who pass it:
    all images are shuffled, because MNIST is ordered by writer.
    """
    data = load_data()
    if not 1 <= batch_size <= len(data.x_train):
        raise ValueError(f"batch_size must be from 1 to {len(data.x_train)}, the number of images, got {batch_size}")

    def gather(indices):  # the images stay uint8: shuffling moves indices
        return to_pixels(tf.gather(data.x_train, indices)), tf.gather(data.y_train, indices)

    indices = tf.data.Dataset.range(len(data.x_train)).shuffle(len(data.x_train))
    options = tf.data.Options()
    options.autotune.enabled = False  # there is nothing to tune, and each epoch would end by waiting for the tuner
    return indices.batch(batch_size, drop_remainder=True).map(gather).prefetch(2).with_options(options)


# -------------------------------------------------------------------------------------------------------- training
def train_vae(model, train_loader, args, is_cvae=False):
    """Trains for one epoch (handout, "Train our VAE", "Train our CVAE"); called again, it goes on where it was.

    `model` is a `VAE`, or a `CVAE` if `is_cvae`, else TypeError. Its `optimizer` is used, and keeps its state.
    `train_loader` gives batches of images (B, 1, H, W) in [0, 1] and labels (B,). ValueError if the first is not like
    that, or if there is none. `args` has `learning_rate` and perhaps `num_epochs` (else 10), of which
    `learning_rate_schedule` makes the rate of each step; they are read anew in every call.
    Returns the sum of the batches' losses, a float: `total / len(train_loader)` is the average loss per image.
    """
    if is_cvae != isinstance(model, CVAE):
        raise TypeError(f"a {type(model).__name__} is trained with is_cvae={not is_cvae}")
    length = operator.length_hint(train_loader)  # 0 if it is not known
    in_terminal = sys.stdout is not None and sys.stdout.isatty()
    bar = tf.keras.utils.Progbar(length or None, verbose=int(in_terminal), stateful_metrics=["loss"])
    total, batches = 0.0, 0
    for images, labels in train_loader:
        images, labels = tf.cast(images, tf.float32), tf.cast(labels, tf.int32)
        if batches == 0:
            check_range("pixels", images, 0, 1)
            if is_cvae:
                check_range("labels", labels, 0, model.num_classes - 1)
            steps = getattr(args, "num_epochs", 10) * (length or 60_000 // len(images))
            rate = learning_rate_schedule(args.learning_rate, len(images), steps)
            step = prepare_step(model, len(images))
        total += step(images, labels, rate(tf.convert_to_tensor(model.optimizer.iterations) + 1))
        batches += 1
        if in_terminal and batches % 10 == 0 and batches != length:  # reading the loss waits for the step
            bar.update(batches, [("loss", float(total) / batches)])
    if batches == 0:
        raise ValueError("the loader has no batches left; a generator is used up after one epoch")
    bar.update(batches, [("loss", float(total) / batches)], finalize=True)
    return float(total)


@functools.lru_cache(maxsize=2)
def learning_rate_schedule(learning_rate, batch_size, steps):
    """The rate of step 1, 2, ... of a run of so many: up in a straight line, then down along a cosine.

    The peak is `learning_rate` for batches of 128, and (B / 128)^0.75 times that for others, up to B = 1024. The way up
    takes a fifth of the run, but at least 100 steps: large first steps damage hidden units for good.
    """
    peak = learning_rate * (min(batch_size, 1024) / 128) ** 0.75
    warmup = max(100, steps // 5)
    return tf.function(tf.keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), alpha=0.01, warmup_target=peak, warmup_steps=warmup))


def prepare_step(model, batch_size):
    """The training step for the model as it is now. Its optimizer is built if it is not yet.

    For large batches Keras 3's Muon (https://kellerjordan.github.io/posts/muon/) orthogonalises the updates of hidden
    kernels: they learn in a step what Adam learns in two. Not a CVAE's encoder: it would soon put the class into z.
    """
    optimizer = model.optimizer
    if hasattr(optimizer, "exclude_layers") and not optimizer.built and batch_size >= MUON_BATCH:
        by_adam = ["encoder"] if isinstance(model, CVAE) else ["pixels"]
        optimizer.exclude_layers = ["mu", "logvar", "hidden_1", *by_adam]
    optimizer.build(model.trainable_variables)
    return compile_step(model, optimizer, tuple(map(id, model.trainable_variables)))


@functools.lru_cache(maxsize=2)  # older models are let go
def compile_step(model, optimizer, trained):
    """One step of training as a graph (images, labels, rate -> loss); another one if other variables are trained."""

    @tf.function(jit_compile=USE_XLA)
    def step(images, labels, rate):
        with tf.GradientTape() as tape:
            x_hat, mu, logvar = forward(model, images, labels)
            loss = loss_function(x_hat, images, mu, logvar)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.learning_rate = tf.cast(rate, model.variable_dtype)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    return step


def forward(model, images, labels):
    """x_hat, mu and logvar of images; a CVAE is given their labels too."""
    return model(images, one_hot(labels, model.num_classes)) if isinstance(model, CVAE) else model(images)


compiled_forward = tf.function(forward)


def evaluate(model):
    """Reconstruction loss and KL on the test images, nats per image, whose sum is the loss; and their mu (N, Z)."""
    data, sums, means = load_data(), np.zeros(2), []
    for i in range(0, len(data.x_test), 1000):  # all at once would take more memory
        images = to_pixels(data.x_test[i:i + 1000])
        x_hat, mu, logvar = compiled_forward(model, images, data.y_test[i:i + 1000])
        sums += bce_function(x_hat, images), kl_divergence(mu, logvar)
        means.append(mu)
    return *(sums / len(data.x_test)), np.concatenate(means)


# --------------------------------------------------------------------------------------------------------- weights
@contextlib.contextmanager
def replacing(target):
    """A path to write to, which then replaces `target` whole. OSError if that fails; the old file is then untouched."""
    partial = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        target.parent.mkdir(exist_ok=True)
        yield partial
        for seconds in (0.2, 0.4, 0.8):  # on Windows a viewer or a virus scanner may hold the old file for a moment
            with contextlib.suppress(PermissionError):
                return os.replace(partial, target)
            time.sleep(seconds)
        os.replace(partial, target)
    except (OSError, RuntimeError, ValueError) as error:  # the last two are h5py's, where closing the file fails
        raise OSError(f"cannot write {target} ({first_line(error)}); what was there before is whole") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def output(model, ending):
    """The path of the file in `outputs/` with the name of the kind of the model, and this ending."""
    return OUTPUTS / f"{'cvae' if isinstance(model, CVAE) else 'vae'}{ending}"


def save_model_weights(model, args):
    """Saves the weights as `outputs/cvae.weights.h5` or `outputs/vae.weights.h5`. OSError if there is no room."""
    with replacing(output(model, ".weights.h5")) as partial:
        needed, free = 1.1 * sum(w.nbytes for w in model.get_weights()), shutil.disk_usage(partial.parent).free
        if free < needed:  # HDF5 would crash
            raise OSError(f"{needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free")
        model.save_weights(str(partial))


def load_weights(model):
    """Loads what `save_model_weights` saved for this kind of model, and returns the model.

    FileNotFoundError if there is nothing; ValueError if it does not fit: the model is then as it was.
    """
    path = output(model, ".weights.h5")
    if not path.exists():
        raise FileNotFoundError(f"there are no weights at {path}: train first, without --load_weights")
    before = model.get_weights()
    try:
        model.load_weights(str(path))
    except Exception as error:  # h5py and both generations of Keras raise many kinds
        model.set_weights(before)
        raise ValueError(f"{path} does not fit a {type(model).__name__} with {model.latent_size} latents, is damaged, "
                         f"or is of Keras 3 and this is Keras 2 ({first_line(error)}): train again") from error
    return model


def first_line(error):
    """The first line of an exception's message, at most 160 characters of it."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


# -------------------------------------------------------------------------------------------------------- pictures
def show_vae_images(model, latent_size):
    """Draws `outputs/show_vae_images.png`: 10 samples from the prior."""
    z = tf.random.normal((10, latent_size))
    draw_grid("show_vae_images.png", model.decoder(z), 10, title(model, "samples"))


def show_vae_interpolation(model, latent_size):
    """Draws `outputs/show_vae_interpolation.png`: 12 x 12 images between four samples from the prior, the corners."""
    corners = tf.random.normal((4, latent_size)).numpy()
    ends = np.linspace((1, 0), (0, 1), 12)  # along a side of the square, the weights of its two ends
    z = np.kron(ends, ends) @ corners  # (144, 4) weights of the corners
    draw_grid("show_vae_interpolation.png", model.decoder(z), 12, title(model, "between four samples"))


def show_vae_manifold(model):
    """Draws `outputs/vae_manifold.png`: 2 latents at 20 x 20 quantiles of the prior (Kingma & Welling, figure 4)."""
    quantiles = tf.math.ndtri((tf.range(20.0) + 0.5) / 20)
    z = tf.reshape(tf.stack(tf.meshgrid(quantiles, quantiles[::-1]), axis=-1), (-1, 2))  # z_2 grows upwards
    draw_grid("vae_manifold.png", model.decoder(z), 20, title(model, "the plane of its two latents"))


def show_cvae_images(model, latent_size):
    """Draws `outputs/show_cvae_images.png`: 10 samples of each digit, a digit a row."""
    z, c = tf.random.normal((100, latent_size)), one_hot(np.repeat(np.arange(10), 10), 10)
    draw_grid("show_cvae_images.png", model.decoder(tf.concat([z, c], axis=1)), 10,
              title(model, "samples by digit"), row_labels=range(10))


def show_reconstructions(model):
    """Draws `outputs/{vae,cvae}_reconstructions.png`: two test images of each digit above their reconstructions."""
    data = load_data()
    chosen = np.concatenate([np.flatnonzero(data.y_test == digit)[:2] for digit in range(10)])
    images = to_pixels(tf.gather(data.x_test, chosen))
    x_hat, _, _ = forward(model, images, tf.gather(data.y_test, chosen))
    draw_grid(output(model, "_reconstructions.png").name, np.concatenate([images, x_hat]), len(chosen),
              title(model, "test images and reconstructions"), row_labels=["$x$", r"$\hat{x}$"])


def show_latent_space(model):
    """Draws `outputs/{vae,cvae}_latent_space.png`: the test images' mu by digit, on two principal components."""
    _, _, mu = evaluate(model)
    name, axes, variances = "principal component", *principal_axes(mu)
    if mu.shape[1] == 2:
        name, axes, variances = "latent", np.eye(2), mu.var(axis=0)
    x_label, y_label = (f"{name} {i + 1}, {variances[i] / variances.sum():.0%} of the variance" for i in (0, 1))
    figure = Figure(layout="constrained")
    plot = figure.add_subplot(xlabel=x_label, ylabel=y_label, title=title(model, "posterior means of the test images"))
    points = plot.scatter(*axes[:2] @ mu.T, c=load_data().y_test, cmap="tab10", s=2)
    figure.legend(*points.legend_elements(), title="digit", loc="outside right upper")
    save_figure(figure, output(model, "_latent_space.png"))


def principal_axes(mu):
    """Principal components of posterior means (N, Z): directions, rows of (Z, Z), and the variances (Z,) along them."""
    variances, axes = np.linalg.eigh(np.atleast_2d(np.cov(mu, rowvar=False)))
    return axes.T[::-1], variances[::-1]


def show_loss_curve(model, history):
    """Draws `outputs/{vae,cvae}_loss.png` of (train loss, test reconstruction, test KL), nats per image, by epoch."""
    (train, reconstruction, kl), epochs = np.transpose(history), np.arange(1, len(history) + 1)
    figure = Figure(layout="constrained")
    plot = figure.add_subplot(title=title(model, "loss"), xlabel="epoch", ylabel="nats per image")
    plot.set_ylim(0, 1.1 * max(train))
    plot.plot(epochs, train, "o--", label="train loss (average over the epoch)")
    plot.plot(epochs, reconstruction + kl, "o-", label="test loss")
    plot.plot(epochs, reconstruction, "^-", label="test reconstruction")
    plot.plot(epochs, kl, "v-", label="test KL")
    plot.xaxis.get_major_locator().set_params(integer=True)
    plot.legend()
    save_figure(figure, output(model, "_loss.png"))


def title(model, text):
    """The text, with the kind of the model, and the data that it was trained on where that is known."""
    data = f" ({model.data_name})" if getattr(model, "data_name", None) else ""
    return f"{type(model).__name__}: {text}{data}"


def tile(images, columns):
    """Images (N, 1, H, W) as one array (N / columns * H, columns * W), row by row."""
    _, _, height, width = images.shape
    return np.reshape(images, (-1, columns, height, width)).swapaxes(1, 2).reshape(-1, columns * width)


def draw_grid(name, images, columns, title, row_labels=()):
    """Writes images (N, 1, H, W) in [0, 1] as a grid to `outputs/{name}`."""
    rows = len(images) // columns
    inches, left, top = 0.5, 0.35 if row_labels else 0.05, 0.35
    size = (columns * inches + left + 0.05, rows * inches + top + 0.05)
    figure = Figure(figsize=size, dpi=112)  # two pixels for one, of 28
    plot = figure.add_axes((left / size[0], 0.05 / size[1], columns * inches / size[0], rows * inches / size[1]))
    plot.imshow(tile(images, columns), "gray", vmin=0, vmax=1, extent=(0, columns, rows, 0), interpolation="nearest")
    plot.set_axis_off()
    for row, label in enumerate(row_labels):
        plot.text(-0.3, row + 0.5, label, ha="center", va="center")
    figure.text(left / size[0], 1 - top / 2 / size[1], title, va="center")
    save_figure(figure, OUTPUTS / name)


def save_figure(figure, target):
    """Writes a figure as an optimised PNG that replaces `target`."""
    with replacing(target) as partial:
        figure.savefig(partial, format="png", pil_kwargs={"optimize": True})


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
    """Trains for `args.num_epochs`, with the test loss after each, and draws the pictures that need the data.
    Puts on record, beside the weights, the data, the seed, the losses of each epoch and two principal axes of z.
    """
    train_loader, history = load_mnist(args.batch_size), []
    model.data_name = load_data().name
    print(f"Training a {type(model).__name__} on {model.data_name}, {len(train_loader)} batches of {args.batch_size}")
    for epoch in range(args.num_epochs):
        loss = train_vae(model, train_loader, args, args.is_cvae) / len(train_loader)
        if not np.isfinite(loss):
            raise ValueError(f"the loss became {loss} in epoch {epoch} and is not saved: try a smaller --learning_rate")
        save_model_weights(model, args)
        reconstruction, kl, mu = evaluate(model)
        history.append((loss, reconstruction, kl))
        axes, variances = principal_axes(mu)
        with replacing(output(model, ".run.json")) as partial:
            partial.write_text(json.dumps({
                "data": model.data_name, "seed": getattr(args, "seed", None), "history": history,
                "axes": axes[:2].tolist(), "spreads": np.sqrt(variances[:2]).tolist()}))
        print(f"Train Epoch: {epoch}  Loss: {loss:.6f}  Test Loss: {reconstruction + kl:.6f} "
              f"(reconstruction {reconstruction:.2f} + KL {kl:.2f})", flush=True)
    show_loss_curve(model, history)
    show_reconstructions(model)
    if args.latent_size > 1:
        show_latent_space(model)


def saved_run(model):
    """What `train` put on record of the run behind the saved weights; {} if nothing is."""
    try:
        return json.loads(output(model, ".run.json").read_text())
    except (OSError, ValueError):
        return {}


# ---------------------------------------------------------------------------------------------------- command line
def parseArguments(argv=None):
    """The arguments of the command line, or of the list `argv` (handout, "FAQ"). Status 2 if one is wrong."""
    parser = argparse.ArgumentParser(description="Train a (conditional) VAE on MNIST and draw digits into outputs/.")
    parser.add_argument("--is_cvae", action="store_true", help="the conditional VAE instead of the VAE")
    parser.add_argument("--load_weights", action="store_true", help="draw from the saved weights, without training")
    parser.add_argument("--batch_size", type=int, default=1024, help="images in a step (default: 1024)")
    parser.add_argument("--num_epochs", type=int, default=10, help="passes over the data (default: 10)")
    parser.add_argument("--latent_size", type=int, default=15, help="Z, latents (default: 15)")
    parser.add_argument("--input_size", type=int, default=784, choices=[784], help="pixels of an image, MNIST's 784")
    parser.add_argument("--learning_rate", type=float, default=1.2e-3, help="peak for batches of 128 (default: 0.0012)")
    parser.add_argument("--seed", type=int, default=None, help="0 to 4294967295, for a run that can be repeated")
    args = parser.parse_args(argv)
    for name, low, high in (("batch_size", 1, 10**6), ("num_epochs", 1, 10**6), ("latent_size", 1, 10**4),
                            ("learning_rate", 1e-9, 1), ("seed", 0, 2**32 - 1)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            parser.error(f"argument --{name}: must be from {low} to {high}, got {value}")
    return args


def run(program):
    """A program's exit status: what it returns, or 0; after one line, 1 for a mistake and 130 for Ctrl-C."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a path that the terminal cannot spell
    try:
        return program() or 0
    except KeyboardInterrupt:
        print(f"Interrupted. Weights in {OUTPUTS} are those of the last epoch that was done.", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"Error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(run(lambda: main(parseArguments())))
