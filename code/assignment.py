"""Trains a VAE or a conditional VAE on MNIST and draws digits with it: data, training, weights, pictures, command line.

The models and their loss live in `vae.py`. Everything is written to `outputs/` in the project's folder.
"""

import atexit
import signal
import sys


def _interrupted(message, status=128 + signal.SIGINT):
    """Ends the process with the shell's status for a signal; the line comes at exit, when stderr is surely open."""
    atexit.register(print, f"Interrupted {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":  # from here on, so that the seconds of importing TensorFlow end in one line too
    signal.signal(signal.SIGINT, lambda *_: _interrupted("before training; nothing was changed."))

import argparse
import contextlib
import functools
import json
import math
import os
import pathlib
from typing import NamedTuple


@contextlib.contextmanager
def _quiet_stderr():
    """Silences the process's stderr: TensorFlow's start-up messages come from C++ and heed no setting."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _quiet_stderr():
    import tensorflow as tf
import numpy as np
from matplotlib.figure import Figure

from vae import CVAE, VAE, bce_function, kl_divergence, loss_function

OUTPUTS = pathlib.Path(__file__).resolve().parent.parent / "outputs"
MNIST = "MNIST"
# Only Keras 3 has `ops`. XLA makes a step faster with the TensorFlow of Keras 3, and slower with that of Keras 2 (2.15);
# not every TensorFlow for other systems, or for a GPU, comes with a working one.
USE_XLA = hasattr(tf.keras, "ops") and sys.platform == "linux"
WARMUP_STEPS = 100  # without a slow start the first steps, which only learn the mean image, spoil hidden units for good
MAX_SCALED_BATCH = 1024  # the rate grows with the batch up to here
BETA_2 = 0.95  # below Keras' 0.999: a run is a few hundred steps, too few for a memory of a thousand


# ---------------------------------------------------------------------------------------------------- command line


class Parser(argparse.ArgumentParser):
    """Says one line about a mistake, without argparse's lines of usage."""

    def error(self, message):
        self.exit(2, f"Error: {message}; --help lists the arguments\n")


class ArgumentError(ValueError):
    """An argument that does not suit the data: the command line's exit status is 2."""


def parseArguments(argv=None):
    """The arguments of the command line, or of the list `argv` (handout, "FAQ").

    Ends the process with status 2 and one line if one is out of range.
    """
    parser = Parser(description="Train a (conditional) VAE on MNIST and draw digits into outputs/.")
    parser.add_argument("--is_cvae", action="store_true", help="the conditional VAE instead of the VAE")
    parser.add_argument("--load_weights", action="store_true", help="draw from the saved weights, without training")
    parser.add_argument("--batch_size", type=_positive(int), default=1024, help="images in a step (default: 1024)")
    parser.add_argument("--num_epochs", type=_positive(int), default=10, help="passes over the data (default: 10)")
    parser.add_argument("--latent_size", type=_positive(int), default=15, help="Z, latents (default: 15)")
    parser.add_argument("--input_size", type=_positive(int), default=28 * 28, help="pixels of an image (default: 784)")
    parser.add_argument("--learning_rate", type=_positive(float), default=1.2e-3,
                        help="peak of the schedule for batches of 128, more for larger ones (default: 0.0012)")
    parser.add_argument("--seed", type=int, default=None, help="an integer, for a run that can be repeated")
    args = parser.parse_args(argv)
    if args.input_size != 28 * 28:
        parser.error(f"argument --input_size: MNIST's images have 784 pixels, got {args.input_size}")
    if args.seed is not None and not 0 <= args.seed < 2**32:
        parser.error(f"argument --seed: must be from 0 to 4294967295, got {args.seed}")
    return args


def _positive(number):
    """An argparse type: a positive `number` (int or float), not infinite nor absurd."""

    def parse(text):
        value = number(text)
        if not 0 < value < 1e9:
            raise argparse.ArgumentTypeError(f"must be above 0 and below 1e9, got {text}")
        return value

    parse.__name__ = number.__name__  # argparse's message: invalid int value
    return parse


# ------------------------------------------------------------------------------------------------------------ data


class Data(NamedTuple):
    """A data set in MNIST's format: uint8 images (N, 28, 28), 0 is background, and int32 labels (N,), 0 to 9.

    Tensors, so that batches are gathered from the one copy of the images that is held.
    """

    name: str
    x_train: tf.Tensor
    y_train: tf.Tensor
    x_test: tf.Tensor
    y_test: tf.Tensor


def _data(name, x_train, y_train, x_test, y_test):
    return Data(name, tf.constant(x_train), tf.constant(y_train, tf.int32),
                tf.constant(x_test), tf.constant(y_test, tf.int32))


@functools.lru_cache(maxsize=1)
def load_data():
    """MNIST from `$MNIST_NPZ`, else through Keras (its cache or its download), else digits rendered from fonts.

    Returns:
        `Data`, held once per process.

    Raises:
        ValueError: `$MNIST_NPZ` is set but is no usable `mnist.npz`, or there is no MNIST and `rendered_digits.py`
            is not beside this file.
    """
    path = os.environ.get("MNIST_NPZ")
    if path:
        return _read_npz(path)
    try:
        (x_train, y_train), (x_test, y_test) = tf.keras.datasets.mnist.load_data()
        return _data(MNIST, x_train, y_train, x_test, y_test)
    except Exception as error:  # Keras raises a bare Exception where the download fails
        reason = _first_line(error)
    try:
        from rendered_digits import rendered_digits
    except ImportError:
        raise ValueError(f"MNIST could not be loaded ({reason}); set MNIST_NPZ to the path of an mnist.npz") from None
    print(f"\n{'*' * 88}\nWARNING: MNIST could not be loaded ({reason}).\n"
          "Using digits RENDERED FROM FONTS instead: losses and pictures are NOT MNIST's.\n"
          f"To use MNIST, set MNIST_NPZ to the path of an mnist.npz.\n{'*' * 88}\n", file=sys.stderr, flush=True)
    (x_train, y_train), (x_test, y_test) = rendered_digits()
    return _data("rendered digits, not MNIST", x_train, y_train, x_test, y_test)


def _read_npz(path):
    def unusable(why):
        return ValueError(f"MNIST_NPZ={path}: {why}; set it to an mnist.npz, or unset it")

    names = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names}
    except FileNotFoundError:
        raise unusable("there is no such file") from None
    except KeyError as error:
        raise unusable(f"not all of {', '.join(names)} are in it ({error.args[0]})") from None
    except Exception as error:  # the archive's layers, NumPy, zip and deflate, raise many kinds
        raise unusable(f"not a readable archive of plain arrays ({_first_line(error)})") from None
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim != 3 or x.shape[1:] != (28, 28) or len(x) == 0 or x.dtype != np.uint8:
            raise unusable(f"x_{part} must be uint8 of shape (N, 28, 28), got {x.dtype} {x.shape}")
        if y.shape != (len(x),) or y.dtype.kind not in "iu":
            raise unusable(f"y_{part} must be integers of shape ({len(x)},), got {y.dtype} {y.shape}")
        if y.min() < 0 or y.max() > 9:
            raise unusable(f"y_{part} must be labels 0 to 9, got {y.min()} to {y.max()}")
    return _data(MNIST, **arrays)


def one_hot(labels, class_size):
    """One-hot classes, float32 (N, class_size), of labels (N,) or (N, 1), tensor or array.

    Raises:
        ValueError: a label is not in 0 to class_size - 1 (checked where the values are known, so not in a graph).
    """
    labels = tf.reshape(tf.cast(labels, tf.int32), (-1,))
    if tf.executing_eagerly() and len(labels):
        low, high = int(tf.reduce_min(labels)), int(tf.reduce_max(labels))
        if not 0 <= low <= high < class_size:
            raise ValueError(f"labels must be from 0 to {class_size - 1}, got {low} to {high}")
    return tf.one_hot(labels, class_size)


def _pixels(images):
    """uint8 (N, H, W) to float32 (N, 1, H, W) in [0, 1]."""
    return tf.cast(images[:, tf.newaxis], tf.float32) / 255.0


def load_mnist(batch_size, buffer_size=1024):
    """The training set of `load_data` (handout, "Train our VAE").

    Args:
        batch_size: B.
        buffer_size: the least number of images to shuffle among. All are, since a buffer of indices is small, and
            MNIST's order is by writer: a buffer of 1024 costs a nat and readability.

    Returns:
        A `tf.data.Dataset` of (images (B, 1, 28, 28) float32 in [0, 1], labels (B,) int32), reshuffled each epoch,
        a smaller last batch dropped.

    Raises:
        ValueError: as `load_data`; `ArgumentError`, a kind of it, if B is not in 1 to the number of images.
    """
    data = load_data()
    if not 1 <= batch_size <= len(data.x_train):
        raise ArgumentError(f"batch_size must be from 1 to {len(data.x_train)}, the number of images, got {batch_size}")

    def gather(indices):  # the images stay uint8: shuffling moves indices
        return _pixels(tf.gather(data.x_train, indices)), tf.gather(data.y_train, indices)

    indices = tf.data.Dataset.range(len(data.x_train)).shuffle(max(buffer_size, len(data.x_train)))
    batches = indices.batch(batch_size, drop_remainder=True).map(gather).prefetch(2)
    # Nothing here is left to tune, and the end of an epoch would wait for the tuner's next turn: seconds, in a long one.
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


# -------------------------------------------------------------------------------------------------------- training


def train_vae(model, train_loader, args, is_cvae=False):
    """Trains for one epoch (handout, "Train our VAE", "Train our CVAE"); called again, it goes on where it was.

    Args:
        model: a `VAE`, or a `CVAE` if `is_cvae`.
        train_loader: batches of (images (B, 1, H, W) in [0, 1], labels (B,)).
        args: `learning_rate`, the peak of a schedule that warms up and then follows a cosine over `num_epochs` (10 if
            args has none). It is meant for batches of 128, and scaled by (B / 128)^0.75 for others, up to B = 1024.
            Read at the model's first batch: the optimizer stays with the model.

    Returns:
        The sum of the batches' losses, a float: `total / len(train_loader)` is the average loss per image.
    """
    bar = tf.keras.utils.Progbar(_length(train_loader), stateful_metrics=["loss"]) if sys.stdout.isatty() else None
    total, batches = 0.0, 0
    for images, labels in train_loader:
        if not hasattr(model, "_train_step"):
            model._train_step = _compile_step(model, _optimizer(len(images), _length(train_loader), args), is_cvae)
        total += model._train_step(tf.cast(images, tf.float32), tf.cast(labels, tf.int32))
        batches += 1
        if bar and batches % 10 == 0 and batches != bar.target:  # reading the loss waits for the step
            bar.update(batches, [("loss", float(total) / batches)])
    total = float(total)
    if bar and batches:
        bar.update(batches, [("loss", total / batches)], finalize=True)
    return total


def _length(train_loader):
    """Batches in the loader, None if it cannot say."""
    try:
        return len(train_loader)
    except TypeError:
        return None


def _optimizer(batch_size, batches, args):
    """Adam, its rate warming up and then following a cosine over the epochs of the run."""
    steps = getattr(args, "num_epochs", 10) * (batches or 60_000 // batch_size)  # MNIST's, where the loader cannot say
    # One rate for small and large batches. The power is measured, 1.2e-3 serving 128 as 5.7e-3 serves 1024: between the
    # root that Adam should take (Malladi et al., https://arxiv.org/abs/2205.10343) and the linear rule.
    peak = args.learning_rate * (min(batch_size, MAX_SCALED_BATCH) / 128) ** 0.75
    warmup = min(WARMUP_STEPS, steps // 3)
    rate = tf.keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), alpha=0.01, warmup_target=peak, warmup_steps=warmup)
    return tf.keras.optimizers.Adam(rate, beta_2=BETA_2)


def _compile_step(model, optimizer, is_cvae):
    """One training step as a graph, traced once per shape of batch."""
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=USE_XLA and not tf.config.list_physical_devices("GPU"))
    def step(images, labels):
        with tf.GradientTape() as tape:
            x_hat, mu, logvar = _forward(model, images, labels, is_cvae)
            loss = loss_function(x_hat, images, mu, logvar)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    return step


def _forward(model, images, labels, is_cvae):
    return model(images, one_hot(labels, model.num_classes)) if is_cvae else model(images)


def evaluate(model, is_cvae=False):
    """Loss on the test images of `load_data`: (reconstruction, kl), nats per image; their sum is the loss."""
    data = load_data()
    reconstruction = kl = 0.0
    for i in range(0, len(data.x_test), 1000):
        images = _pixels(data.x_test[i:i + 1000])
        x_hat, mu, logvar = _forward(model, images, data.y_test[i:i + 1000], is_cvae)
        reconstruction += float(bce_function(x_hat, images))
        kl += float(kl_divergence(mu, logvar))
    return reconstruction / len(data.x_test), kl / len(data.x_test)


# --------------------------------------------------------------------------------------------------------- weights


@contextlib.contextmanager
def _replacing(target):
    """Gives a path beside `target` to write to, which then replaces it: a reader finds the old file or the new one.

    Raises:
        OSError: it cannot be written; the old file is untouched.
    """
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f".*.{target.name}"):  # of a process that was killed while it wrote
            if not _is_running(leftover.name.split(".")[1]):
                leftover.unlink(missing_ok=True)
        partial = folder / f".{os.getpid()}.{target.name}"
        try:
            yield partial
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError, ValueError) as error:  # the last two are h5py's, where closing the file fails
        raise OSError(f"cannot write {target} ({_first_line(error)}), what was there before is whole: "
                      f"free some space, or make {folder} a folder that you may write to") from error


def _is_running(pid):
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        pass
    return True


def _output(is_cvae, ending):
    return OUTPUTS / f"{'cvae' if is_cvae else 'vae'}{ending}"


def save_model_weights(model, args):
    """Saves the weights as `outputs/cvae.weights.h5` if `args.is_cvae`, else as `outputs/vae.weights.h5`.

    The new file replaces the old one whole.

    Raises:
        OSError: it cannot be written; the old file is untouched.
    """
    with _replacing(_output(args.is_cvae, ".weights.h5")) as partial:
        model.save_weights(str(partial))


def load_weights(model):
    """Loads what `save_model_weights` saved for this kind of model, and returns the model.

    Raises:
        FileNotFoundError: nothing was saved.
        ValueError: the file is damaged, or of a model of another shape; the model is as it was.
    """
    path = _output(isinstance(model, CVAE), ".weights.h5")
    if not path.exists():
        raise FileNotFoundError(f"there are no weights at {path}: train first, without --load_weights")
    before = model.get_weights()
    try:
        model.load_weights(str(path))
    except Exception as error:  # h5py and both generations of Keras raise many kinds
        model.set_weights(before)
        raise ValueError(f"{path} does not fit a {type(model).__name__} with {model.latent_size} latents and images of "
                         f"{model.input_size} pixels, or is damaged ({_first_line(error)}): use the arguments it was "
                         "trained with, or train again") from error
    return model


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


# -------------------------------------------------------------------------------------------------------- pictures


def show_vae_images(model, latent_size):
    """Draws `outputs/show_vae_images.png`: 10 samples from the prior."""
    _draw_grid("show_vae_images.png", model.decoder(tf.random.normal((10, latent_size))), columns=10,
               title=_title(model, "samples of the VAE"))


def show_vae_interpolation(model, latent_size):
    """Draws `outputs/show_vae_interpolation.png`: 12 x 12 images between four samples from the prior, the corners."""
    corners = tf.random.normal((4, latent_size)).numpy()
    t = np.linspace(0, 1, 12, dtype=np.float32)
    weights = np.stack([np.outer(1 - t, 1 - t), np.outer(1 - t, t), np.outer(t, 1 - t), np.outer(t, t)], axis=-1)
    _draw_grid("show_vae_interpolation.png", model.decoder(weights.reshape(-1, 4) @ corners), columns=12,
               title=_title(model, "between four samples of the VAE"))


def show_cvae_images(model, latent_size):
    """Draws `outputs/show_cvae_images.png`: 10 samples of each digit, a digit a row."""
    z = tf.random.normal((100, latent_size))
    c = one_hot(np.repeat(np.arange(10), 10), 10)
    _draw_grid("show_cvae_images.png", model.decoder(tf.concat([z, c], axis=-1)), columns=10,
               title=_title(model, "samples of the CVAE by digit"), row_labels=range(10))


def show_reconstructions(model, is_cvae):
    """Draws `outputs/{vae,cvae}_reconstructions.png`: two test images of each digit above their reconstructions."""
    data = load_data()
    chosen = np.concatenate([np.flatnonzero(data.y_test == digit)[:2] for digit in range(10)])
    images = _pixels(tf.gather(data.x_test, chosen))
    x_hat, _, _ = _forward(model, images, tf.gather(data.y_test, chosen), is_cvae)
    _draw_grid(_output(is_cvae, "_reconstructions.png").name, np.concatenate([images, x_hat]), columns=len(chosen),
               title=_title(model, "test images and reconstructions"), row_labels=["$x$", r"$\hat{x}$"])


def show_loss_curve(history, data_name, is_cvae):
    """Draws `outputs/{vae,cvae}_loss.png`.

    Args:
        history: (train loss, test reconstruction, test kl) of each epoch, nats per image.
        data_name: of the data set, for the title.
    """
    train, reconstruction, kl = np.transpose(history)
    epochs = np.arange(1, len(train) + 1)
    figure = Figure(figsize=(6.4, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for values, label, style in ((train, "train loss (average over the epoch)", "o--"),
                                 (reconstruction + kl, "test loss", "o-"),
                                 (reconstruction, "test reconstruction", "^-"), (kl, "test KL", "v-")):
        axes.plot(epochs, values, style, label=label, markersize=4)
    axes.set(xlabel="epoch", ylabel="nats per image", ylim=(0, None),
             title=f"{'CVAE' if is_cvae else 'VAE'} loss ({data_name})")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    _save_figure(figure, _output(is_cvae, "_loss.png"))


def _title(model, text):
    """Names the data that the model was trained on, where `main` knows it."""
    name = getattr(model, "data_name", None)
    return f"{text} ({name})" if name else text


def _draw_grid(name, images, columns, title, row_labels=()):
    """Writes images (N, 1, H, W) in [0, 1] as a grid to `outputs/{name}`, tiled into one array."""
    images = np.asarray(images)
    _, _, height, width = images.shape
    rows = len(images) // columns
    grid = images.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    inches, left, top = 0.5, 0.35 if row_labels else 0.05, 0.35
    size = (columns * inches + left + 0.05, rows * inches + top + 0.05)
    figure = Figure(figsize=size, dpi=112)  # two pixels for one, of 28
    axes = figure.add_axes((left / size[0], 0.05 / size[1], columns * inches / size[0], rows * inches / size[1]))
    axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=(0, columns, rows, 0))
    axes.set_axis_off()
    for row, label in enumerate(row_labels):
        axes.text(-0.3, row + 0.5, label, ha="center", va="center", fontsize=13)
    figure.text(left / size[0], 1 - top / 2 / size[1], title, va="center", fontsize=10)
    _save_figure(figure, OUTPUTS / name)


def _save_figure(figure, target):
    with _replacing(target) as partial:
        figure.savefig(partial, format="png", pil_kwargs={"optimize": True})


# ------------------------------------------------------------------------------------------------------------ main


def main(args):
    """Trains the model, or loads it if `args.load_weights`, saves its weights after each epoch and draws its pictures.

    Raises:
        ValueError, OSError: as the functions above; ValueError if the loss is no longer finite.
    """
    if getattr(args, "seed", None) is not None:
        tf.keras.utils.set_random_seed(args.seed)
    model = (CVAE if args.is_cvae else VAE)(args.input_size, latent_size=args.latent_size)
    if args.load_weights:
        load_weights(model)
        model.data_name = _saved_data_name(args.is_cvae)
    else:
        _train(model, args)
    if args.is_cvae:
        show_cvae_images(model, args.latent_size)
    else:
        show_vae_images(model, args.latent_size)
        show_vae_interpolation(model, args.latent_size)
    print(f"Pictures and weights are in {OUTPUTS}")


def _train(model, args):
    with _replacing(OUTPUTS / "writable") as partial:  # no epoch is spent where nothing can be saved
        partial.touch()
    (OUTPUTS / "writable").unlink(missing_ok=True)
    train_loader = load_mnist(args.batch_size)
    model.data_name = load_data().name
    print(f"Training a {type(model).__name__} on {model.data_name}, {len(train_loader)} batches of {args.batch_size}")
    history = []
    args.saved_epoch = None
    for epoch in range(args.num_epochs):
        if sys.stdout.isatty():
            print(f"Epoch {epoch + 1}/{args.num_epochs}")
        loss = train_vae(model, train_loader, args, is_cvae=args.is_cvae) / len(train_loader)
        if not math.isfinite(loss):
            raise ValueError(f"the loss became {loss} in epoch {epoch}; nothing of it was saved: try a smaller "
                             "--learning_rate")
        if not sys.stdout.isatty():
            print(f"Train Epoch: {epoch}  Loss: {loss:.6f}", flush=True)
        save_model_weights(model, args)
        args.saved_epoch = epoch
        history.append((loss, *evaluate(model, args.is_cvae)))
    with _replacing(_output(args.is_cvae, ".run.json")) as partial:
        partial.write_text(json.dumps({"data": model.data_name, "seed": args.seed, "history": history}))
    _, reconstruction, kl = history[-1]
    print(f"Test Loss: {reconstruction + kl:.6f}  (reconstruction {reconstruction:.2f} + KL {kl:.2f}, "
          f"{len(load_data().x_test)} test images of {model.data_name})")
    show_loss_curve(history, model.data_name, args.is_cvae)
    show_reconstructions(model, args.is_cvae)


def _saved_data_name(is_cvae):
    """The name of the data behind the saved weights, None if it is not on record."""
    try:
        return json.loads(_output(is_cvae, ".run.json").read_text())["data"]
    except (OSError, ValueError, KeyError):
        return None


def _raise_interrupt(number, frame):
    raise KeyboardInterrupt(number)


def _command_line():
    args = parseArguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _raise_interrupt)
    try:
        main(args)
    except KeyboardInterrupt as interrupt:
        saved = getattr(args, "saved_epoch", None)
        _interrupted("before an epoch was done; no weights were saved." if saved is None else
                     f"after epoch {saved}; its weights are in {_output(args.is_cvae, '.weights.h5')}",
                     128 + interrupt.args[0])
    except tf.errors.ResourceExhaustedError as error:
        sys.exit(f"Error: out of memory ({_first_line(error)}): try a smaller --latent_size or --batch_size")
    except (ValueError, OSError) as error:
        print(f"Error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ArgumentError) else 1)


if __name__ == "__main__":
    _command_line()
