"""Trains a VAE or a conditional VAE on MNIST and draws digits with it: the handout's functions and the command line.

The models and their loss are in `vae.py`, the optimizer in `muon.py`, the images in `mnist.py`, the drawing in
`pictures.py`. Everything is written to `outputs/` in the project's folder.
"""

import argparse
import itertools
import json
import operator
import os
import sys
import warnings
import weakref
import zlib
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # of TensorFlow's messages the errors alone, once it is imported
if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # it draws to files, whatever a notebook's environment says

from vae import CVAE, VAE, loss_function  # isort: skip
import files  # vae is imported first: it names Keras' backend
import numpy as np
import tensorflow as tf
from errors import InputError, exit_status
from evaluation import classify, evaluate, forward, principal_axes
from files import new_file
from mnist import check_images, check_labels, load_data, to_pixels
from muon import MuonAdam, schedule_of, set_optimizer
from pictures import draw_grid, draw_latent_space, draw_losses

AVERAGE_EVERY = 5  # steps between two that are added to the average: to add all takes more time and is no better
AVERAGE_DECAY = 4  # of the average of weights: the last fifth of an epoch's steps make up two thirds of it


# ------------------------------------------------------------------------------------------------------------ data
def one_hot(labels, class_size):
    """One-hot float32 (N, class_size) of labels (N,) or (N, 1), numbers or strings of them; (class_size,) of one label.

    InputError, a ValueError, if a label is not from 0 to class_size - 1; in a graph, InvalidArgumentError.
    """
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 2:
        labels = tf.squeeze(labels, axis=1)  # (N, 1) -> (N,)
    if tf.executing_eagerly():
        labels = check_labels(labels, class_size)
        return tf.one_hot(labels, class_size)
    if labels.dtype == tf.string:
        labels = tf.strings.to_number(labels)
    labels = tf.cast(labels, tf.int32)
    valid = tf.reduce_all((0 <= labels) & (labels < class_size))
    message = f"labels must be from 0 to {class_size - 1}"
    with tf.control_dependencies([tf.debugging.Assert(valid, [message, labels])]):
        return tf.one_hot(labels, class_size)


def load_mnist(batch_size, buffer_size=1024):
    """The training set of `mnist.load_data` (handout, "Train our VAE").

    Returns a `tf.data.Dataset` of (images (B, 1, 28, 28) float32 in [0, 1], labels (B,) int32), reshuffled each epoch,
    without a partial last batch. InputError if there are not B images. All are shuffled, whatever the `buffer_size`.
    """
    data = load_data()
    count = len(data.x_train)
    if not 1 <= batch_size <= count:
        raise InputError(f"batch_size must be from 1 to {count}, the number of images, got {batch_size}")
    indices = tf.data.Dataset.range(count).shuffle(count)  # MNIST is ordered by writer
    indices = indices.batch(batch_size, drop_remainder=True)
    batches = indices.map(lambda i: (to_pixels(tf.gather(data.x_train, i)), tf.gather(data.y_train, i)))
    options = tf.data.Options()
    options.autotune.enabled = False  # there is nothing to tune, and some epochs would wait seconds for the tuner
    return batches.prefetch(2).with_options(options)


# -------------------------------------------------------------------------------------------------------- training
def train_step(model, images, labels, is_cvae=False):
    """One step of training by `model.optimizer` (handout, "Train our VAE", "Train our CVAE").

    Images (B, 1, H, W) in [0, 1] and labels (B,). Returns the loss before the step in nats per image, a scalar.
    """
    with tf.GradientTape() as tape:
        x_hat, mu, logvar = forward_pass(model, images, labels, is_cvae)
        loss = loss_function(x_hat, images, mu, logvar)
    gradients = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss


def forward_pass(model, images, labels, is_cvae):
    """x_hat, mu and logvar of images; a conditional model is given their one-hot labels too."""
    if is_cvae:
        return model(images, one_hot(labels, num_classes_of(model)))
    return model(images)


def train_vae(model, train_loader, args, is_cvae=False):
    """Trains for one epoch; called again, training goes on (handout, "Train our VAE", "Train our CVAE").

    Args:
        model: a `VAE`, a `CVAE`, or any other that maps images, and if `is_cvae` one-hots, to (x_hat, mu, logvar).
            It is trained by `muon.MuonAdam`, which is then its optimizer; but if the caller has set an optimizer, by
            that one, with its own rate or schedule.
        train_loader: gives batches of images (B, 1, H, W) in [0, 1] and labels (B,).
        args: has `learning_rate`, the peak rate of `muon.learning_rate_schedule`; nothing else is used.
        is_cvae: whether the model is given the labels. TypeError if it is true for a `VAE` or false for a `CVAE`.

    Returns:
        The sum of the losses of the steps, a float: `total / len(train_loader)` is the average loss per image.
        The model is left with an average of its weights, mostly of the last steps, whose loss is lower; the next epoch
        starts from it.

    InputError, a ValueError, if a batch is not like that, before it is trained on.
    """
    if isinstance(model, (VAE, CVAE)) and isinstance(model, CVAE) != is_cvae:
        raise TypeError(f"a {type(model).__name__} is trained with is_cvae={not is_cvae}")
    batches = checked_batches(train_loader, model, is_cvae)
    first_batch = next(batches)
    if not getattr(model, "built", True):  # another's model, which has no weights before it is called
        forward_pass(model, *first_batch, is_cvae)
    set_optimizer(model)
    state = training_state(model)
    state.average.start()
    watched = is_watched(sys.stdout)
    num_batches = operator.length_hint(train_loader)  # 0 if it is not known
    bar = tf.keras.utils.Progbar(num_batches or None, verbose=int(watched), stateful_metrics=["loss"])
    total = 0.0
    for number, (images, labels) in enumerate(itertools.chain([first_batch], batches), start=1):
        if isinstance(model.optimizer, MuonAdam):
            model.optimizer.start_step(len(images), args.learning_rate)
        loss = state.step(model, images, labels, is_cvae)
        total += loss
        state.average.add_step()
        if watched and number % 10 == 0 and number != num_batches:  # float() waits for the step
            bar.update(number, [("loss", float(total) / number)])
    state.average.put_in_place()
    bar.update(number, [("loss", float(total) / number)], finalize=True)
    return float(total)


def num_classes_of(model):
    """C of a conditional model; ten digits if it does not say."""
    return getattr(model, "num_classes", 10)


class WeightAverage:
    """The average of a model's weights over an epoch: it has less noise than the weights of the last step.

    The weights after every fifth step and after the last are added. The t-th to be added count nearly as
    t^`AVERAGE_DECAY`, so the average is over the last part of the epoch, however long it is (polynomial-decay
    averaging, Shamir & Zhang 2013, https://arxiv.org/abs/1212.1824).
    """

    def __init__(self, variables):
        self.steps = 0
        self.added = 0
        self.variables = list(variables)
        self.averages = [tf.Variable(variable, trainable=False) for variable in variables]
        self.compiled_move = tf.function(self.move_averages, autograph=False)

    def start(self):
        """Starts an epoch: nothing is left of the one before, since the share of the first weights is 1."""
        self.steps = 0
        self.added = 0

    def add_step(self):
        """Takes note of a step, and adds the weights after every fifth."""
        self.steps += 1
        if self.steps % AVERAGE_EVERY == 0:
            self.add_weights()

    def add_weights(self):
        """Adds the weights that the variables now have."""
        self.added += 1
        share = (1 + AVERAGE_DECAY) / (self.added + AVERAGE_DECAY)
        self.compiled_move(tf.constant(share))

    def move_averages(self, share):
        """average = (1 - share) * average + share * variable, for each variable."""
        for average, variable in zip(self.averages, self.variables):
            difference = tf.convert_to_tensor(variable) - average
            average.assign_add(tf.cast(share, average.dtype) * difference)

    def put_in_place(self):
        """Adds the weights of the last step, if that is not done, and sets the variables to their averages."""
        if self.steps % AVERAGE_EVERY != 0:
            self.add_weights()
        for average, variable in zip(self.averages, self.variables):
            variable.assign(average)


class TrainingState(NamedTuple):
    """What `train_vae` keeps of a model from epoch to epoch, and what it was made for."""

    step: Callable  # `train_step`, compiled to a graph
    average: WeightAverage
    made_for: list  # the optimizer and the trained variables
    schedule: dict  # of the learning rate, or None; a compiled step keeps the schedule that it was compiled with


states = weakref.WeakKeyDictionary()  # the `TrainingState` of each model, for as long as the model lives


def training_state(model):
    """The `TrainingState` of a model; a new one if its optimizer, its schedule or its trained variables changed."""
    made_for = [model.optimizer, *model.trainable_variables]
    schedule = schedule_of(model.optimizer)
    state = states.get(model)
    if state is None or state.schedule != schedule or not same_objects(state.made_for, made_for):
        step = tf.function(train_step, autograph=False)  # autograph's cache would keep the model alive
        states[model] = TrainingState(step, WeightAverage(model.trainable_variables), made_for, schedule)
    return states[model]


def same_objects(a, b):
    """Whether two lists hold the same objects."""
    return len(a) == len(b) and all(x is y for x, y in zip(a, b))


def is_watched(stream):
    """Whether a stream is a terminal or a notebook, where somebody sees a progress bar. It may be None."""
    is_terminal = hasattr(stream, "isatty") and stream.isatty()
    return stream is not None and (is_terminal or "ipykernel" in sys.modules)


def checked_batches(train_loader, model, is_cvae):
    """The batches of a loader, one after the other: images float32 (B, 1, H, W), labels (B,).

    InputError if there are none, or no end, or if the model cannot be trained on one.
    """
    if isinstance(train_loader, tf.data.Dataset) and train_loader.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError("the loader repeats without end: leave out .repeat()")
    batch = None
    for batch in train_loader:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise InputError(f"a batch must be a pair (images, labels), got a {type(batch).__name__}")
        images = check_images(batch[0], getattr(model, "input_size", None))
        labels = np.asarray(batch[1])
        count = len(images)
        if not count:
            raise InputError("a batch has no images")
        if labels.shape != (count,) and labels.shape != (count, 1):
            raise InputError(f"labels must be ({count},), got {labels.shape}")
        if is_cvae:
            labels = check_labels(labels, num_classes_of(model))
        else:
            labels = np.zeros(count, np.int32)  # they are not used, whatever they are
        yield images, labels
    if batch is None:
        raise InputError("the loader has no batches: it is empty, or was used up and must be made anew for each epoch")


# --------------------------------------------------------------------------------------------------------- weights
def kind_of(model):
    """The first part of the names of a model's files, "cvae" or "vae"."""
    return "cvae" if isinstance(model, CVAE) else "vae"


def weights_path(kind):
    return files.OUTPUTS / f"{kind}.weights.h5"


def record_path(kind):
    return files.OUTPUTS / f"{kind}.run.json"


def save_model_weights(model, args, record=None):
    """Saves the weights as `outputs/{vae,cvae}.weights.h5`, and beside them a record as `outputs/{vae,cvae}.run.json`.

    The record is a dictionary of what is known of the weights, see `train`; the number of latents and a checksum of the
    file are added. OSError if a file cannot be written: the old one is then unchanged.
    """
    kind = kind_of(model)
    with new_file(weights_path(kind)) as written:
        write_weights(model, written)
        checksum = zlib.crc32(written.read_bytes())
    record = {**(record or {}), "latent_size": getattr(model, "latent_size", None), "checksum": checksum}
    with new_file(record_path(kind)) as written:
        written.write_text(json.dumps(record, indent=1), "utf-8")


def write_weights(model, path):
    """Writes the weights of a model to a file. OSError if it cannot be written."""
    size = sum(np.asarray(weights).nbytes for weights in model.get_weights())
    path.write_bytes(bytes(3 * size + 2**20))  # where the disk is full this raises, HDF5 would crash
    try:
        model.save_weights(str(path))
    except RuntimeError as error:  # what HDF5 raises for a file that cannot be written
        raise OSError(f"{path} cannot be written: {error}") from error


def load_weights(model):
    """The model with its saved weights.

    FileNotFoundError if there are none; another OSError if the file cannot be read now, as while another program has it
    open; InputError, a ValueError, if the weights do not fit. The model is then unchanged.
    """
    path = weights_path(kind_of(model))
    if not path.exists():
        raise FileNotFoundError(f"there are no weights at {path}: train first, without --load_weights")
    if not model.built:  # another's model, which may have no weights before it is called
        forward(model, tf.zeros((1, 1, 28, 28)), tf.zeros(1, tf.int32))
    before = model.get_weights()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras says that the file has no state of the optimizer
            model.load_weights(str(path))
    except Exception as error:  # h5py and both generations of Keras raise many kinds
        model.set_weights(before)  # some may have been loaded
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, f"{path} cannot be read now ({error})") from error
        reasons = "its number of latents is another, it is damaged, or Keras 3 saved it and Keras 2 reads it"
        raise InputError(f"{path} does not fit this {type(model).__name__}: {reasons}") from error
    return model


def read_record(kind):
    """The record of the saved weights, see `train`; {} and a line on stderr if it is missing, damaged or of others."""
    path = record_path(kind)
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["checksum"] == zlib.crc32(weights_path(kind).read_bytes()):
            return record
        reason = "it is the record of other weights"
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
    print(f"{path} does not say what data the weights are of ({reason})", file=sys.stderr)
    return {}


def load_model(kind, data=None):
    """The saved model of a kind, "vae" or "cvae", with as many latents as its record says; and the record.

    InputError if it was trained on other data than `data`, where both are known.
    """
    if not weights_path(kind).exists():
        raise FileNotFoundError(f"there are no weights at {weights_path(kind)}: train first, without --load_weights")
    record = read_record(kind)
    if data and record.get("data", data.name) != data.name:
        raise InputError(f"the saved {kind.upper()} was trained on {record['data']}, not on {data.name}: use that data")
    latent_size = record.get("latent_size") or 15
    model = CVAE(784, latent_size=latent_size) if kind == "cvae" else VAE(784, latent_size=latent_size)
    return load_weights(model), record


# -------------------------------------------------------------------------------------------------------- pictures
def show_vae_images(model, latent_size, data_name=None):
    """Draws `outputs/show_vae_images.png`: 10 samples from the prior. `data_name` is for the title."""
    z = tf.random.normal((10, latent_size))
    draw_grid(files.OUTPUTS / "show_vae_images.png", model.decoder(z), 10, title(model, "samples", data_name))


def show_vae_interpolation(model, latent_size, data_name=None):
    """Draws `outputs/show_vae_interpolation.png`: 12 x 12 images between four samples from the prior, the corners."""
    corners = tf.random.normal((4, latent_size)).numpy()
    ends = np.linspace((1, 0), (0, 1), 12)  # along a side of the square, the shares of its two ends
    shares = np.kron(ends, ends)  # (144, 4), of the corners
    z = shares @ corners  # (144, Z)
    path = files.OUTPUTS / "show_vae_interpolation.png"
    draw_grid(path, model.decoder(z), 12, title(model, "between four samples", data_name))


def show_vae_manifold(model, data_name=None):
    """Draws `outputs/vae_manifold.png`: 2 latents at 20 x 20 quantiles of the prior (Kingma & Welling, figure 4)."""
    quantiles = tf.math.ndtri((tf.range(20.0) + 0.5) / 20)
    z = tf.reshape(tf.stack(tf.meshgrid(quantiles, quantiles[::-1]), axis=-1), (-1, 2))  # z_2 grows upwards
    path = files.OUTPUTS / "vae_manifold.png"
    draw_grid(path, model.decoder(z), 20, title(model, "20 x 20 grid over its two latents", data_name))


def show_cvae_images(model, latent_size, data_name=None):
    """Draws `outputs/show_cvae_images.png`: 10 samples of each class, one row per class."""
    classes = np.arange(num_classes_of(model))
    z = tf.random.normal((10 * len(classes), latent_size))
    c = one_hot(np.repeat(classes, 10), len(classes))
    images = model.decoder(tf.concat([z, c], axis=1))  # any model of the handout has a decoder, only ours `decode`
    path = files.OUTPUTS / "show_cvae_images.png"
    draw_grid(path, images, 10, title(model, "samples by class", data_name), row_labels=classes)


def show_cvae_classes(model, data):
    """Draws `outputs/cvae_classes.png`: test images, their mu decoded as each class, the class that is read framed."""
    images, labels = examples_of_each_digit(data, 1)
    mu, _ = model.encode(images, one_hot(labels, model.num_classes))
    columns = [images]
    for class_ in range(model.num_classes):
        c = one_hot([class_] * len(images), model.num_classes)
        columns.append(model.decode(mu, c))
    by_row = np.stack(columns, axis=1).reshape(-1, *images.shape[1:])  # of each row the image, then each class
    read = np.argmax(classify(model, images), axis=1)
    text = title(model, "test images, their z as each class, and the class read", data.name)
    path = files.OUTPUTS / "cvae_classes.png"
    draw_grid(path, by_row, len(columns), text, row_labels=labels.numpy(), framed=1 + read)


def show_reconstructions(model, data):
    """Draws `outputs/{vae,cvae}_reconstructions.png`: two test images of each digit above their reconstructions."""
    images, labels = examples_of_each_digit(data, 2)
    x_hat, _, _ = forward(model, images, labels)
    rows = np.concatenate([images, x_hat])
    text = title(model, "test images and reconstructions", data.name)
    path = files.OUTPUTS / f"{kind_of(model)}_reconstructions.png"
    draw_grid(path, rows, len(images), text, row_labels=["$x$", r"$\hat{x}$"])


def examples_of_each_digit(data, count):
    """The first `count` test images of each digit, float32 (10 * count, 1, 28, 28), and their labels."""
    chosen = np.concatenate([np.flatnonzero(data.y_test == digit)[:count] for digit in range(10)])
    return to_pixels(tf.gather(data.x_test, chosen)), tf.gather(data.y_test, chosen)


def show_latent_space(model, data, mu):
    """Draws `outputs/{vae,cvae}_latent_space.png`: the test images' mu (N, Z) by digit, on two principal components."""
    axes, shares = principal_axes(mu)
    text = title(model, "posterior means of the test images", data.name)
    draw_latent_space(files.OUTPUTS / f"{kind_of(model)}_latent_space.png", mu @ axes.T, shares, data.y_test, text)


def show_losses(model, history, data_name=None):
    """Draws `outputs/{vae,cvae}_loss.png` of the history of a run, see `train`."""
    train = [epoch["train_loss"] for epoch in history]
    reconstruction = [epoch["test_reconstruction"] for epoch in history]
    kl = [epoch["test_kl"] for epoch in history]
    path = files.OUTPUTS / f"{kind_of(model)}_loss.png"
    draw_losses(path, train, reconstruction, kl, title(model, "loss", data_name))


def title(model, text, data_name=None):
    """The title of a picture: the kind of the model, the text, and the data of its training where they are known."""
    data = f" ({data_name})" if data_name else ""
    return f"{type(model).__name__}: {text}{data}"


# ------------------------------------------------------------------------------------------------------------ main
def main(args):
    """Trains the model, or loads it if `args.load_weights`, and draws its pictures."""
    if getattr(args, "seed", None) is not None:
        tf.keras.utils.set_random_seed(args.seed)
    if args.load_weights:
        model, record = load_model("cvae" if args.is_cvae else "vae")
    elif args.is_cvae:
        model = CVAE(args.input_size, latent_size=args.latent_size)
        record = train(model, args)
    else:
        model = VAE(args.input_size, latent_size=args.latent_size)
        record = train(model, args)
    show_samples(model, record.get("data"))
    print(f"Pictures and weights are in {files.OUTPUTS}")


def show_samples(model, data_name):
    """Draws what needs no images: samples, and images between them."""
    if isinstance(model, CVAE):
        show_cvae_images(model, model.latent_size, data_name)
        return
    show_vae_images(model, model.latent_size, data_name)
    show_vae_interpolation(model, model.latent_size, data_name)
    if model.latent_size == 2:
        show_vae_manifold(model, data_name)


def train(model, args):
    """Trains; after each epoch saves weights and record. Then draws what needs the images.

    Returns the record, a dictionary of `data`, the name of the data; `seed`, a number or None; and `history`, a list of
    dictionaries of nats per image, `train_loss`, `test_reconstruction` and `test_kl`, one for each epoch. InputError if
    the loss is not finite: the weights of the epoch before stay saved.
    """
    data = load_data()
    train_loader = load_mnist(args.batch_size)
    print(f"Training a {type(model).__name__} on {data.name}, {len(train_loader)} batches of {args.batch_size}")
    record = {"data": data.name, "seed": getattr(args, "seed", None), "history": []}
    for epoch in range(1, args.num_epochs + 1):
        train_loss = train_vae(model, train_loader, args, args.is_cvae) / len(train_loader)
        test = evaluate(model, data)
        if not np.isfinite(train_loss + test.loss):
            raise InputError(f"the loss is no longer a number in epoch {epoch}: try a smaller --learning_rate")
        losses = {"train_loss": train_loss, "test_reconstruction": test.reconstruction, "test_kl": test.kl}
        record["history"].append(losses)
        save_model_weights(model, args, record)
        terms = f"(reconstruction {test.reconstruction:.2f} + KL {test.kl:.2f})"
        print(f"Train Epoch: {epoch}  Loss: {train_loss:.6f}  Test Loss: {test.loss:.6f} {terms}", flush=True)
    show_losses(model, record["history"], data.name)
    show_reconstructions(model, data)
    if test.mu.shape[1] > 1:
        show_latent_space(model, data, test.mu)
    if isinstance(model, CVAE) and hasattr(model, "decode"):  # the CVAE of another person's vae.py has no such method
        show_cvae_classes(model, data)
    return record


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
    help_text = "peak learning rate at batch size 128, grows with (B/128)^0.75 up to 1024 (default: 0.0014)"
    parser.add_argument("--learning_rate", type=float, default=1.4e-3, help=help_text)
    parser.add_argument("--seed", type=int, help="0 to 4294967295, for a run that can be repeated")
    args = parser.parse_args(argv)
    limits = {"batch_size": 10**6, "num_epochs": 10**6, "latent_size": 10**4, "learning_rate": 1}
    for name, highest in limits.items():
        value = getattr(args, name)
        if not 0 < value <= highest:  # nan is neither
            parser.error(f"argument --{name}: must be above 0 and at most {highest}, got {value}")
    if args.seed is not None and not 0 <= args.seed < 2**32:
        parser.error(f"argument --seed: must be from 0 to 4294967295, got {args.seed}")
    return args


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(parseArguments())))
