"""Trains a VAE or a CVAE on MNIST and draws digits with it: the handout's functions and its command line.

`vae.py` defines the models and their loss; no other file is needed. If the folder `extras` is next to the two, `main`
also measures the test loss, draws more pictures, and falls back on rendered digits where there is no MNIST. The
handout's functions come first, then the command line and the helper functions. All files are written to `outputs/` in
the project's folder.
"""

import argparse
import contextlib
import functools
import json
import operator
import os
import pathlib
import signal
import sys
import tempfile
import types
import warnings
import weakref
import zlib
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides TensorFlow's log, such as that there is no GPU
if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # whatever a notebook's environment says
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
    sys.modules["assignment"] = sys.modules[__name__]  # so that `extras` imports this module, not a copy

from vae import CVAE, VAE, bce_function, loss_function, reparametrize  # noqa: F401, isort: skip (sets Keras' backend)
import matplotlib.style
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent if HERE.name == "code" else HERE
OUTPUTS = (PROJECT / "outputs").resolve()
EXTRAS = HERE / "extras"


class InputError(ValueError):
    """An error that the user can fix, in arguments, data or files. The message says what was found and what to do."""


# ----------------------------------------------------------------------------------------------------------------- data


def one_hot(labels, class_size):
    """Returns the one-hot classes, float32 (N, class_size), of labels (N,) or (N, 1), a tensor or an array.

    Raises:
        tf.errors.InvalidArgumentError: if a label is not from 0 to class_size - 1.
    """
    labels = tf.cast(labels, tf.int32)
    if labels.shape.rank == 2:
        labels = tf.squeeze(labels, axis=1)  # (N, 1) -> (N,)
    message = f"labels must be from 0 to {class_size - 1}"
    tf.debugging.assert_non_negative(labels, message)
    tf.debugging.assert_less(labels, class_size, message)
    return tf.one_hot(labels, class_size)


def load_mnist(batch_size, buffer_size=1024):
    """Loads the training set (handout, "Train our VAE").

    Args:
        batch_size: B. A partial last batch is dropped.
        buffer_size: ignored. The whole set is shuffled, since MNIST is ordered by writer.

    Returns:
        A `tf.data.Dataset` of (images (B, 1, 28, 28) float32 in [0, 1], labels (B,) int32), reshuffled each epoch.

    Raises:
        InputError: if B is not from 1 to the number of images, or if `load_data` raises it.
    """
    data = load_data()
    count = len(data.x_train)
    if not 1 <= batch_size <= count:
        raise InputError(f"batch_size must be from 1 to {count}, the number of images, got {batch_size}")
    images = tf.constant(data.x_train)
    labels = tf.constant(data.y_train)
    indices = tf.data.Dataset.range(count).shuffle(count)  # indices are faster to shuffle than images
    indices = indices.batch(batch_size, drop_remainder=True)

    def batch_at(i):
        return to_pixels(tf.gather(images, i)), tf.gather(labels, i)

    batches = indices.map(batch_at)
    options = tf.data.Options()
    options.autotune.enabled = False  # there is nothing to tune, and some epochs would wait seconds for the tuner
    return batches.prefetch(2).with_options(options)


# ------------------------------------------------------------------------------------------------------------- training


def train_step(model, images, labels, is_cvae=False):
    """Trains on one batch with `model.optimizer` (handout, "Train our VAE", "Train our CVAE").

    Args:
        model: a `VAE`, or a `CVAE` if `is_cvae`.
        images: (B, 1, H, W) float32 in [0, 1].
        labels: (B,), used only if `is_cvae`.

    Returns:
        The batch's loss, computed before the update, in nats per image, a scalar.
    """
    with tf.GradientTape() as tape:
        x_hat, mu, logvar = forward(model, images, labels, is_cvae, training=True)
        loss = loss_function(x_hat, images, mu, logvar)
        loss += sum(model.losses)  # regularizers and `add_loss`, if a model has any
    gradients = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss


def forward(model, images, labels, is_cvae, training=False):
    """Calls a model with images (N, 1, H, W) and, if `is_cvae`, the one-hot classes of labels (N,).

    Returns:
        x_hat (N, 1, H, W), mu (N, Z) and logvar (N, Z).
    """
    if is_cvae:
        c = one_hot(labels, num_classes_of(model))  # (N, C)
        return model(images, c, training=training)
    return model(images, training=training)


def train_vae(model, train_loader, args, is_cvae=False):
    """Trains for one epoch with `model.optimizer` (handout, "Train our VAE", "Train our CVAE").

    Repeated calls continue the training. In a terminal, Keras' progress bar is shown.

    Args:
        model: a `VAE`, or a `CVAE` if `is_cvae`.
        train_loader: yields batches of images (B, 1, H, W) in [0, 1] and labels (B,).
        args: not used.
        is_cvae: whether to pass the one-hot labels to the model.

    Returns:
        The sum of the losses of the batches, a scalar tensor. Divided by the number of batches it is the average loss
        per image, if all batches have the same size.

    Raises:
        InputError: if a batch is invalid, before training on it, see `checked_batches`.
        TypeError: if `is_cvae` does not match the model.
    """
    length = operator.length_hint(train_loader) or None  # None if it is not known
    in_terminal = hasattr(sys.stdout, "isatty") and sys.stdout.isatty()
    bar = tf.keras.utils.Progbar(length, verbose=int(in_terminal), stateful_metrics=["loss"])
    total = tf.constant(0.0)
    for number, (images, labels) in enumerate(checked_batches(model, train_loader, is_cvae), start=1):
        step = compiled_step(model, images, labels, is_cvae)  # compiled at the first batch, then reused
        total += step(model, images, labels, is_cvae)
        bar.update(number, [("loss", total / number)])
    return total


# -------------------------------------------------------------------------------------------------------------- weights


def save_model_weights(model, args):
    """Saves the weights, with the optimizer's state, as `outputs/{vae,cvae}.weights.h5`.

    Also writes the run metadata (`model.run`, see `train`, and the latent size) to `outputs/{vae,cvae}.run.json`.

    Raises:
        OSError: if a file cannot be written. The old one is then unchanged.
    """
    build(model)
    name = model_type(model, args)
    with new_file(f"{name}.weights.h5") as path:
        model.save_weights(str(path))
    run = {**vars(run_of(model)), "latent_size": getattr(model, "latent_size", None)}
    with new_file(f"{name}.run.json") as path:
        path.write_text(json.dumps(run, indent=1), "utf-8")


def load_weights(model):
    """Loads the weights that `save_model_weights` saved and the optimizer's state, so that training can continue.

    Returns:
        The model.

    Raises:
        FileNotFoundError: if no weights are saved.
        InputError: if they cannot be loaded. The model keeps its weights; the optimizer's state may have changed.
    """
    name = model_type(model)
    path = OUTPUTS / f"{name}.weights.h5"
    if not path.exists():
        raise FileNotFoundError(f"there are no weights at {path}: train first, without --load_weights")
    build(model)
    before = model.get_weights()
    try:
        model.load_weights(str(path))
        if not all(np.isfinite(weight).all() for weight in model.get_weights()):
            raise ValueError("NaN or infinite weights")
    except Exception as error:  # h5py, Keras 2 and Keras 3 raise many types
        model.set_weights(before)  # some may have been loaded
        reasons = (
            "it has other layer sizes, is damaged, or was saved by Keras 3, which Keras 2 cannot load: train again"
        )
        raise InputError(f"{path} cannot be loaded into this {type(model).__name__}: {reasons}") from error
    run = read_run(name)
    if not run:
        warnings.warn(
            f"{name}.run.json is missing or damaged: cannot tell which data {path} was trained on", stacklevel=2
        )
    model.run = types.SimpleNamespace(**run)
    return model


# ------------------------------------------------------------------------------------------------------------- pictures


def show_vae_images(model, latent_size):
    """Draws `outputs/show_vae_images.png`: 10 samples from the prior. Returns its path."""
    z = tf.random.normal((10, latent_size))
    return draw_grid("show_vae_images.png", model.decoder(z), 5, title(model, "samples"), image_inches=1)


def show_vae_interpolation(model, latent_size):
    """Draws `outputs/show_vae_interpolation.png`: 12 interpolations of 12 images each. Returns its path."""
    first = tf.random.normal((12, latent_size))
    last = tf.random.normal((12, latent_size))
    z = tf.linspace(first, last, 12, axis=1)  # (12, 12, Z), a row for each pair
    images = model.decoder(tf.reshape(z, (-1, latent_size)))
    return draw_grid("show_vae_interpolation.png", images, 12, title(model, "interpolations between samples"))


def show_cvae_images(model, latent_size):
    """Draws `outputs/show_cvae_images.png`: 10 samples of each class, one row per class. Returns its path."""
    classes = np.arange(num_classes_of(model))
    z = tf.random.normal((10 * len(classes), latent_size))
    c = one_hot(np.repeat(classes, 10), len(classes))
    images = model.decoder(tf.concat([z, c], axis=1))
    return draw_grid("show_cvae_images.png", images, 10, title(model, "samples by class"), row_labels=classes)


# ----------------------------------------------------------------------------------------------------------------- main


def main(args):
    """Trains a model, or loads it if `args.load_weights`, and draws its pictures."""
    if getattr(args, "seed", None) is not None:  # custom `args` may lack it
        tf.keras.utils.set_random_seed(args.seed)
    if getattr(args, "precision", None) is not None:
        tf.keras.mixed_precision.set_global_policy(POLICIES[args.precision])
    if getattr(args, "load_weights", False):
        model = load_model("cvae" if args.is_cvae else "vae")
        saved = []
        if model.latent_size != args.latent_size:
            print(f"The saved model has {model.latent_size} latents; ignoring --latent_size {args.latent_size}")
    else:
        kind = CVAE if args.is_cvae else VAE
        model = kind(args.input_size, latent_size=args.latent_size)
        data = load_data()
        train(model, data, args)
        saved = [OUTPUTS / f"{model_type(model, args)}.weights.h5", *show_training(model, data)]
    saved += show_samples(model)
    print(f"Saved to {OUTPUTS}: {', '.join(path.name for path in saved)}")
    trained_on = getattr(run_of(model), "data", "MNIST")
    if trained_on != "MNIST":
        print(f"The model was trained on {trained_on}.")


def train(model, data, args):
    """Trains a model; after each epoch prints the losses and saves the weights.

    Sets `model.run` to the run metadata: `data`, the name of the data set; `seed`, a number or None; `precision`,
    "float32" or "bfloat16"; and `history`, a list with one dictionary per epoch, which holds `train_loss` and, with
    `extras`, `test_reconstruction` and `test_kl`, in nats per image.

    Raises:
        InputError: if the loss becomes NaN or infinite. The weights saved after the previous epoch are kept.
    """
    train_loader = load_mnist(args.batch_size)
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=OUTPUTS).close()  # raises now, not after an epoch, if `outputs/` cannot be written
    if args.learning_rate != LEARNING_RATE:  # the optimizer of a custom vae.py may have another default
        model.optimizer.learning_rate = args.learning_rate
    history = []
    model.run = types.SimpleNamespace(
        data=data.name, seed=getattr(args, "seed", None), precision=model.compute_dtype, history=history
    )
    print(f"Training a {type(model).__name__} on {data.name}: {len(train_loader)} batches of {args.batch_size}")
    for epoch in range(1, args.num_epochs + 1):
        total = train_vae(model, train_loader, args, args.is_cvae)
        train_loss = float(total) / len(train_loader)
        if not np.isfinite([train_loss, *map(np.sum, model.get_weights())]).all():
            raise InputError(f"the loss became NaN or infinite in epoch {epoch}: try a smaller --learning_rate")
        test_losses = measure_test_losses(model, data)
        history.append({"train_loss": train_loss, **test_losses})
        save_model_weights(model, args)
        print(f"Train Epoch: {epoch}  Loss: {train_loss:.2f}{describe(test_losses)}", flush=True)


def show_samples(model):
    """Draws the handout's pictures of a model. Returns their paths."""
    if is_conditional(model):
        return [show_cvae_images(model, model.latent_size)]
    return [show_vae_images(model, model.latent_size), show_vae_interpolation(model, model.latent_size)]


LEARNING_RATE = 0.011  # the peak of `vae.MuonAdam`
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # Keras' names


def parseArguments():
    """Parses the arguments of the command line (handout, "FAQ")."""
    parser = argparse.ArgumentParser(
        description="Train a VAE or a conditional VAE on MNIST and save samples to outputs/."
    )
    parser.add_argument("--is_cvae", action="store_true", help="train the conditional VAE instead of the VAE")
    parser.add_argument(
        "--load_weights", action="store_true", help="draw samples with the saved weights, without training"
    )
    parser.add_argument("--batch_size", type=int, default=1024, help="batch size (default: 1024)")
    parser.add_argument("--num_epochs", type=int, default=10, help="number of epochs (default: 10)")
    parser.add_argument("--latent_size", type=int, default=15, help="number of latents (default: 15)")
    parser.add_argument("--input_size", type=int, default=784, choices=[784], help="pixels per image, 784 for MNIST")
    help_text = f"peak learning rate (default: {LEARNING_RATE}, for every batch size)"
    parser.add_argument("--learning_rate", type=float, default=LEARNING_RATE, help=help_text)
    parser.add_argument("--seed", type=int, help="random seed, 0 to 4294967295, for a reproducible run")
    help_text = "bfloat16: Keras' policy mixed_bfloat16, faster on some processors (default: float32)"
    parser.add_argument("--precision", choices=POLICIES, default="float32", help=help_text)
    args = parser.parse_args()
    limits = {"batch_size": 10**6, "num_epochs": 10**6, "latent_size": 10**4, "learning_rate": 1}
    for name, highest in limits.items():
        value = getattr(args, name)
        if not 0 < value <= highest:  # NaN is neither
            parser.error(f"argument --{name}: must be above 0 and at most {highest}, got {value}")
    if args.seed is not None and not 0 <= args.seed < 2**32:
        parser.error(f"argument --seed: must be from 0 to 4294967295, got {args.seed}")
    return args


# ------------------------------------------------------------------------------------- compiled steps and valid batches


compiled_steps = weakref.WeakKeyDictionary()  # for each model its compiled step, which is freed with the model


def compiled_step(model, images, labels, is_cvae):
    """Returns `train_step` compiled to a graph, which is faster than eager execution.

    The graph is reused until the loss function, the optimizer or a trained variable is replaced. `images` and `labels`
    are an example batch for tracing.
    """
    if not model.built:
        forward(model, images[:1], labels[:1], is_cvae)  # creates the variables of a custom model
    objects = [loss_function, model.optimizer, *model.trainable_variables]
    step, known = compiled_steps.get(model, (None, []))
    if len(known) == len(objects) and all(map(operator.is_, known, objects)):
        return step
    check_trainable(model, images, labels, is_cvae)
    step = tf.function(train_step, autograph=False)
    any_images = tf.TensorSpec((None, *images.shape[1:]), images.dtype)
    any_labels = tf.TensorSpec((None,), labels.dtype)
    # Trace now: tracing on the first call would trigger retracing warnings after a few models
    step.get_concrete_function(model, any_images, any_labels, is_cvae)
    compiled_steps[model] = step, objects
    return step


def check_trainable(model, images, labels, is_cvae):
    """Raises an InputError if a model cannot be trained; warns if its outputs x_hat are not in [0, 1]."""
    if not model.trainable_variables:
        raise InputError("all layers are frozen: set trainable = True on one of them")
    if not hasattr(model.optimizer, "apply_gradients"):
        raise InputError(f"model.optimizer must be a Keras optimizer, got {model.optimizer!r}")
    x_hat, _, _ = forward(model, images[:1], labels[:1], is_cvae)
    if not 0 <= np.min(x_hat) <= np.max(x_hat) <= 1:
        warnings.warn("x_hat should be in [0, 1]: the decoder should end with a sigmoid", stacklevel=4)


def checked_batches(model, train_loader, is_cvae):
    """Yields the batches of a loader: images float32 (B, 1, H, W) and labels int32 (B,), which are 0 unless `is_cvae`.

    Pixels outside [0, 1] cause a warning.

    Raises:
        InputError: if a batch is not (images, labels) or has wrong shapes, NaN, or labels out of range; if there are no
            batches; if a data set repeats forever.
        TypeError: if `is_cvae` is true for a `VAE`, or false for a `CVAE`.
    """
    if isinstance(model, (VAE, CVAE)) and is_conditional(model) != is_cvae:
        raise TypeError(f"a {type(model).__name__} must be trained with is_cvae={not is_cvae}, got {is_cvae}")
    if isinstance(train_loader, tf.data.Dataset) and train_loader.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError("the loader repeats forever: remove .repeat()")
    batch = None
    for batch in train_loader:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            got = f"{len(batch)} element" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
            raise InputError(f"a batch must be (images, labels), got {got}")
        images = check_images(batch[0], model)
        labels = np.zeros(len(images), np.int32)
        if is_cvae:
            labels = check_labels(batch[1], len(images), num_classes_of(model))
        yield images, tf.constant(labels)
    if batch is None:
        raise InputError("the loader is empty or exhausted: create a new one for each epoch")


def check_images(images, model):
    """Returns images for a model, in any layout of D pixels, as float32 (N, 1, H, W).

    Raises:
        InputError: if there are none, if they have another number of pixels, or if one is NaN or infinite.
    """
    images = tf.cast(images, tf.float32)
    input_size = getattr(model, "input_size", 784)
    side = round(input_size**0.5)
    if images.shape.rank < 2 or not len(images) or np.prod(images.shape[1:]) != input_size:
        raise InputError(f"images must have the shape (N, 1, {side}, {side}), got {tuple(images.shape)}")
    low = np.min(images)
    high = np.max(images)
    if not np.isfinite(low + high):
        raise InputError(f"pixels must be finite, got {low} to {high}")
    if low < 0 or high > 1:
        warnings.warn("pixels should be in [0, 1]: divide them by 255?", stacklevel=4)
    return tf.reshape(images, (-1, 1, side, side))


def check_labels(labels, count, num_classes):
    """Returns labels (N,) or (N, 1), numbers or numeric strings, as int32 (N,).

    Raises:
        InputError: if they are not `count` whole numbers from 0 to `num_classes` - 1.
    """
    labels = np.asarray(labels)
    if labels.shape not in ((count,), (count, 1)):
        raise InputError(f"labels must have the shape ({count},), got {labels.shape}")
    try:
        numbers = labels.reshape(count).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"labels must be whole numbers: {error}") from error
    valid = np.isin(numbers, np.arange(num_classes))
    if not valid.all():
        raise InputError(f"labels must be whole numbers from 0 to {num_classes - 1}, got {numbers[~valid][0]:g}")
    return numbers.astype(np.int32)


def is_conditional(model):
    """Returns whether a model is conditional: a `CVAE`, or a custom model with `num_classes`."""
    return hasattr(model, "num_classes")


def num_classes_of(model):
    """Returns the model's number of classes, 10 if it has no `num_classes`."""
    return getattr(model, "num_classes", 10)


# -------------------------------------------------------------------------------------------------- the images of MNIST


class Data(NamedTuple):
    """A data set in MNIST's format."""

    name: str
    x_train: np.ndarray  # uint8 images (N, 28, 28), 0 is background
    y_train: np.ndarray  # int32 labels (N,), 0 to 9
    x_test: np.ndarray  # there may be no test images
    y_test: np.ndarray


def load_data():
    """Loads MNIST from the file named by `$MNIST_NPZ` if it is set, otherwise with Keras, which downloads it.

    If Keras cannot load it, digits rendered from fonts take its place, with a warning.

    Returns:
        `Data`. Its name is "MNIST" if the data is byte-identical to MNIST.

    Raises:
        InputError: if `$MNIST_NPZ` is not a valid file, or if MNIST cannot be loaded and there is no `extras`.
    """
    path = os.environ.get("MNIST_NPZ")
    if path:
        try:
            with np.load(path) as arrays:
                train = arrays["x_train"], arrays["y_train"]
                test = arrays["x_test"], arrays["y_test"]
            return new_data(pathlib.Path(path).name, train, test)
        except Exception as error:  # NumPy, zip and deflate raise many types
            raise InputError(
                f"MNIST_NPZ={path} is not a valid mnist.npz ({error}): unset it or set it to another file"
            ) from error
    try:
        train, test = tf.keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception where the download fails
        return render_data(str(error))
    return new_data("the images of keras.datasets.mnist", train, test)


@functools.lru_cache(maxsize=1)
def render_data(reason):
    """Returns digits rendered from fonts, after a warning that MNIST could not be loaded for this reason."""
    missing = f"MNIST could not be loaded ({reason}): set MNIST_NPZ to the path of an mnist.npz"
    if not EXTRAS.is_dir():
        raise InputError(missing)
    from extras.rendered_digits import rendered_digits

    stars = "*" * 88
    instead = "Using digits RENDERED FROM FONTS instead: losses and pictures are NOT those of MNIST."
    print(f"\n{stars}\nWARNING: {missing}.\n{instead}\n{stars}\n", file=sys.stderr, flush=True)
    return new_data("rendered digits, not MNIST", *rendered_digits())


MNIST_CHECKSUM = 0x1939F699  # CRC-32 of the bytes of x_train, y_train, x_test and y_test


def new_data(name, train, test):
    """Returns the `Data` of the pairs (images, labels) `train` and `test`; `test` may be empty.

    Raises:
        InputError: if they are not images (N, 28, 28) and labels from 0 to 9.
    """
    x_train, y_train = check_arrays(*train)
    x_test, y_test = x_train[:0], y_train[:0]
    if test and test[0] is not None and len(test[0]):
        x_test, y_test = check_arrays(*test)
    everything = b"".join(array.astype(np.uint8).tobytes() for array in (x_train, y_train, x_test, y_test))
    if zlib.crc32(everything) == MNIST_CHECKSUM:
        name = "MNIST"
    return Data(name, x_train, y_train, x_test, y_test)


def check_arrays(images, labels):
    """Returns images as uint8 (N, 28, 28) in 0 to 255 and labels as int32 (N,).

    Raises:
        InputError: if there are none, or if they are not of these shapes and ranges.
    """
    images = np.asarray(images)
    if images.shape[1:] != (28, 28) or not len(images):
        raise InputError(f"images must have the shape (N, 28, 28), got {images.shape}")
    if images.dtype.kind == "f" and images.max() <= 1:
        images = 255 * images
    if not 0 <= images.min() <= images.max() <= 255:  # NaN fails this too
        raise InputError(f"pixels must be from 0 to 255, got {images.min()} to {images.max()}")
    return np.rint(images).astype(np.uint8), check_labels(labels, len(images), 10)


def to_pixels(images):
    """Returns uint8 images (N, H, W) as float32 (N, 1, H, W) in [0, 1]."""
    return tf.cast(images[:, tf.newaxis], tf.float32) / 255.0


# ----------------------------------------------------------------------------------------------------- files in outputs


@contextlib.contextmanager
def new_file(name):
    """Yields a temporary path; on success, moves the file to `name` in `outputs/`, which is created if missing.

    After an error, as on a full disk, the old file is unchanged.
    """
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUTPUTS, prefix=".new-") as folder:
        path = pathlib.Path(folder) / name
        yield path
        os.replace(path, OUTPUTS / name)


def model_type(model, args=None):
    """Returns "cvae" or "vae", the prefix of the names of a model's files."""
    return "cvae" if is_conditional(model) or getattr(args, "is_cvae", False) is True else "vae"


def load_model(name, data=None):
    """Creates a model, "vae" or "cvae", of the saved latent size, and loads its weights.

    Raises:
        FileNotFoundError: if no weights are saved.
        InputError: if the weights cannot be loaded, or are known to be trained on a data set other than `data`.
    """
    run = read_run(name)
    trained_on = run.get("data")
    if data and trained_on and trained_on != data.name:
        raise InputError(f"the saved {name.upper()} was trained on {trained_on}, not on {data.name}: train it again")
    latent_size = run.get("latent_size") or 15
    model = CVAE(784, latent_size=latent_size) if name == "cvae" else VAE(784, latent_size=latent_size)
    return load_weights(model)


def read_run(name):
    """Returns the saved run metadata as a dictionary, {} if it cannot be read."""
    try:
        return dict(json.loads((OUTPUTS / f"{name}.run.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def run_of(model):
    """Returns `model.run`, see `train`; an empty namespace if the model has none."""
    return getattr(model, "run", types.SimpleNamespace())


def build(model):
    """Builds a model and its optimizer, since Keras cannot save, load or export an unbuilt model."""
    if not model.built:
        side = round(getattr(model, "input_size", 784) ** 0.5)
        forward(model, tf.zeros((1, 1, side, side)), tf.zeros(1, tf.int32), is_conditional(model))
    if hasattr(getattr(model, "optimizer", None), "build"):
        model.optimizer.build(model.trainable_variables)


# -------------------------------------------------------------------------------------------------------------- drawing


@matplotlib.style.context("default")
def draw_grid(name, images, columns, title, row_labels=(), column_labels=(), framed=(), image_inches=0.5):
    """Draws images row by row, white on black, with matplotlib's default settings, whatever the user's are.

    Args:
        name: file name in `outputs/`.
        images: N times H x W pixels in [0, 1]; an image of NaN leaves its cell empty.
        columns: images in a row.
        title: text above the grid.
        row_labels, column_labels: texts for the rows and columns.
        framed: for each row, the column of the image that gets a frame.
        image_inches: side of an image. At 0.5 inches, 28 x 28 pixels are drawn as 56 x 56.

    Returns:
        The path of the file.
    """
    images = np.asarray(images, np.float32)
    side = round((images.size / len(images)) ** 0.5)
    rows = len(images) // columns
    grid = images.reshape(rows, columns, side, side).swapaxes(1, 2).reshape(rows * side, columns * side)
    figure = Figure((columns * image_inches, rows * image_inches), dpi=112)
    plot = figure.add_axes((0, 0, 1, 1), frame_on=False)  # `save_figure` makes room for the texts around it
    plot.set_title(title, loc="left", fontsize="medium")
    # The extent makes an image 1 wide and 1 high, with row 0 at the top
    plot.imshow(grid, "gray", vmin=0, vmax=1, extent=(0, columns, rows, 0), interpolation="nearest")
    plot.set_yticks(np.arange(len(row_labels)) + 0.5, row_labels)
    plot.set_xticks(np.arange(len(column_labels)) + 0.5, column_labels)
    plot.tick_params(length=0, labeltop=True, labelbottom=False)
    frame = {"markersize": 66 * image_inches, "markeredgewidth": 2, "fillstyle": "none"}  # in points, 72 to an inch
    for row, column in enumerate(framed):
        plot.plot(column + 0.5, row + 0.5, "s", color="orange", **frame)
    return save_figure(name, figure)


def save_figure(name, figure):
    """Writes a figure, with the texts around it, as an optimized PNG in `outputs/`. Returns its path."""
    with new_file(name) as path:
        figure.savefig(path, bbox_inches="tight", pad_inches=0.05, pil_kwargs={"optimize": True})
    return OUTPUTS / name


def title(model, text):
    """Returns the title of a picture, with the data that the model was trained on where it is known."""
    data = getattr(run_of(model), "data", None)
    return f"{type(model).__name__}: {text}" + (f" ({data})" if data else "")


# -------------------------------------------------------------------------------------------------- optional: extras


def has_extras(data):
    """Returns whether `extras` can measure and draw: the folder is there, and there are test images."""
    return EXTRAS.is_dir() and len(data.x_test) > 0


def measure_test_losses(model, data):
    """Returns `test_reconstruction` and `test_kl` in nats per image; {} without `extras` or test images."""
    if not has_extras(data):
        return {}
    from extras.evaluation import evaluate

    test = evaluate(model, data)
    return {"test_reconstruction": test.reconstruction, "test_kl": test.kl}


def describe(test_losses):
    """Returns the test loss and its terms as text, empty if they were not measured."""
    if not test_losses:
        return ""
    reconstruction = test_losses["test_reconstruction"]
    kl = test_losses["test_kl"]
    return f"  Test Loss: {reconstruction + kl:.2f} (reconstruction {reconstruction:.2f} + KL {kl:.2f})"


def show_training(model, data):
    """Draws the training pictures with `extras`. Returns their paths, none without `extras` or test images."""
    if not has_extras(data):
        return []
    from extras import figures

    return figures.show_training(model, data)


def run_program(program):
    """Calls a program, a function without arguments; an `InputError` or OSError ends it with one line on stderr."""
    if sys.stdout:
        sys.stdout.reconfigure(errors="backslashreplace")  # an ASCII terminal prints a path with an umlaut
    try:
        return program()
    except (InputError, OSError) as error:
        sys.exit(f"Error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    run_program(lambda: main(parseArguments()))
