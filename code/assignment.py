"""Trains a VAE or a conditional VAE on MNIST and draws digits with it: the handout's functions and the command line.

The models and their loss are in `vae.py`, the optimizer in `muon.py`, the images in `mnist_images.py`, saved weights in
`weights.py`, the drawing in `pictures.py`. Everything is written to `outputs/` in the project's folder.
"""

import argparse
import itertools
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no messages about a missing GPU; errors are raised
if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # it draws to files, whatever a notebook's environment says

from vae import CVAE, VAE, loss_function  # isort: skip
import files  # vae is imported first: it names Keras' backend
import numpy as np
import tensorflow as tf
from checks import check_labels, checked_batches
from errors import InputError, exit_status
from evaluation import classify, evaluate, principal_axes
from forward import classes_for, forward, is_conditional, num_classes_of
from graphs import compiled_step
from mnist_images import load_data, to_pixels
from muon import PEAK, rate_at, set_optimizer
from pictures import draw_grid, draw_latent_space, draw_losses
from precision import PRECISIONS, choose_precision, computing_in, in_float32
from progress import ProgressBar
from weights import kind_of, load_model, load_weights, save_model_weights, weights_path  # noqa: F401


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
    """The training set of `mnist_images.load_data` (handout, "Train our VAE").

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
    c = one_hot(labels, num_classes_of(model)) if is_cvae else None
    with tf.GradientTape() as tape:
        x_hat, mu, logvar = forward(model, images, c, training=True)
        loss = loss_function(x_hat, images, mu, logvar)
    gradients = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss


def train_vae(model, train_loader, args, is_cvae=False):
    """Trains for one epoch: a `train_step` for each batch (handout, "Train our VAE", "Train our CVAE").

    Beyond the handout: batches are checked, the step is compiled, and the optimizer that the model was made with is
    replaced by `muon.MuonAdam`; one that the caller has set stays. Called again, training goes on.

    Args:
        model: a `VAE`, a `CVAE`, or any other that maps images, and if `is_cvae` one-hots, to (x_hat, mu, logvar).
        train_loader: gives batches of images (B, 1, H, W) in [0, 1] and labels (B,).
        args: may have `learning_rate`, the highest rate at a batch size of 128; at 1024 it is eight times that, see
            `muon.rate_at`. Not used if the caller has set an optimizer of Keras.
        is_cvae: whether the model is given the labels. TypeError if it is true for a `VAE` or false for a `CVAE`.

    Returns:
        The sum of the losses of the steps, a float: divided by the number of batches, if all are of one size, it is
        the average loss per image.

    InputError, a ValueError, if a batch is not like that, before it is trained on.
    """
    batches = checked_batches(train_loader, model, is_cvae)
    first_batch = next(batches)  # optimizer and graph are made for batches like the first
    set_optimizer(model, len(first_batch[0]), getattr(args, "learning_rate", None))
    step = compiled_step(train_step, model, first_batch, is_cvae)
    bar = ProgressBar(train_loader)
    total = 0.0
    for number, (images, labels) in enumerate(itertools.chain([first_batch], batches), start=1):
        total += step(model, images, labels, is_cvae)
        bar.show(number, total)
    bar.clear()
    return float(total)


# -------------------------------------------------------------------------------------------------------- pictures
LOSS_LIMIT = 120  # nats per image, of the training loss after LIMIT_EPOCH epochs (handout, "Train our VAE")
LIMIT_EPOCH = 5


def show_vae_images(model, latent_size, data_name=None):
    """Draws `outputs/show_vae_images.png`: 10 samples from the prior. `data_name` is for the title."""
    z = tf.random.normal((10, latent_size))
    path = files.OUTPUTS / "show_vae_images.png"
    draw_grid(path, model.decoder(z), 5, title(model, "samples", data_name), image_inches=1)
    return path


def show_vae_interpolation(model, latent_size, data_name=None):
    """Draws `outputs/show_vae_interpolation.png`: 12 rows of images between two samples of the prior, 12 in a row."""
    first, last = tf.random.normal((2, 12, latent_size))
    z = tf.linspace(first, last, 12, axis=1)  # (12, 12, Z), the images of a row are one step apart
    images = model.decoder(tf.reshape(z, (-1, latent_size)))
    path = files.OUTPUTS / "show_vae_interpolation.png"
    draw_grid(path, images, 12, title(model, "each row goes from one sample to another", data_name))
    return path


def show_vae_manifold(model, data_name=None):
    """Draws `outputs/vae_manifold.png`: 2 latents at 20 x 20 quantiles of the prior (Kingma & Welling, figure 4)."""
    quantiles = tf.math.ndtri((tf.range(20.0) + 0.5) / 20)
    z = tf.reshape(tf.stack(tf.meshgrid(quantiles, quantiles[::-1]), axis=-1), (-1, 2))  # z_2 grows upwards
    path = files.OUTPUTS / "vae_manifold.png"
    draw_grid(path, model.decoder(z), 20, title(model, "20 x 20 grid over its two latents", data_name))
    return path


def show_cvae_images(model, latent_size, data_name=None):
    """Draws `outputs/show_cvae_images.png`: 10 samples of each class, one row per class."""
    classes = np.arange(num_classes_of(model))
    z = tf.random.normal((10 * len(classes), latent_size))
    c = one_hot(np.repeat(classes, 10), len(classes))
    images = model.decoder(tf.concat([z, c], axis=1))  # any model of the handout has a decoder, only ours `decode`
    path = files.OUTPUTS / "show_cvae_images.png"
    draw_grid(path, images, 10, title(model, "samples by class", data_name), row_labels=classes)
    return path


def show_cvae_classes(model, data):
    """Draws `outputs/cvae_classes.png`: test images, their mu decoded as each class, the class that is read framed."""
    images, labels = examples_of_each_digit(data, 1)
    mu, _ = model.encode(images, one_hot(labels, model.num_classes))
    gap = np.full(images.shape, np.nan)
    columns = [images, gap]
    for class_ in range(model.num_classes):
        c = one_hot([class_] * len(images), model.num_classes)
        columns.append(model.decode(mu, c))
    by_row = np.stack(columns, axis=1).reshape(-1, *images.shape[1:])  # of each row the image, then each class
    read = np.argmax(classify(model, images), axis=1)
    text = title(model, "test images, their z as each class, and the class read", data.name)
    path = files.OUTPUTS / "cvae_classes.png"
    headings = ["test image", "", *range(model.num_classes)]
    draw_grid(path, by_row, len(columns), text, labels.numpy(), headings, framed=2 + read)
    return path


def show_reconstructions(model, data):
    """Draws `outputs/{vae,cvae}_reconstructions.png`: two test images of each digit above their reconstructions."""
    images, labels = examples_of_each_digit(data, 2)
    x_hat, _, _ = forward(model, images, classes_for(model, labels))
    rows = np.concatenate([images, x_hat])
    text = title(model, "test images and reconstructions", data.name)
    path = files.OUTPUTS / f"{kind_of(model)}_reconstructions.png"
    draw_grid(path, rows, len(images), text, row_labels=["test image", "reconstruction"])
    return path


def examples_of_each_digit(data, count):
    """The first `count` test images of each digit, float32 (10 * count, 1, 28, 28), and their labels."""
    chosen = np.concatenate([np.flatnonzero(data.y_test == digit)[:count] for digit in range(10)])
    return to_pixels(tf.gather(data.x_test, chosen)), tf.gather(data.y_test, chosen)


def show_latent_space(model, data, mu):
    """Draws `outputs/{vae,cvae}_latent_space.png`: the test images' mu (N, Z) by digit, on two principal components."""
    axes, shares = principal_axes(mu)
    names = [f"principal component {i + 1}, {shares[i]:.0%} of the variance" for i in (0, 1)]
    text = title(model, "posterior means of the test images", data.name)
    path = files.OUTPUTS / f"{kind_of(model)}_latent_space.png"
    draw_latent_space(path, mu @ axes.T, names, data.y_test, text)
    return path


def show_two_latents(model, data, mu):
    """Draws `outputs/{vae,cvae}_two_latents.png`: the test images' mu (N, 2) by digit."""
    text = title(model, "posterior means of the test images", data.name)
    path = files.OUTPUTS / f"{kind_of(model)}_two_latents.png"
    draw_latent_space(path, mu, ["$z_1$", "$z_2$"], data.y_test, text)
    return path


def show_losses(model, history, data_name=None):
    """Draws `outputs/{vae,cvae}_loss.png` of the history of a run, see `train_and_save`."""
    train = [epoch["train_loss"] for epoch in history]
    reconstruction = [epoch["test_reconstruction"] for epoch in history]
    kl = [epoch["test_kl"] for epoch in history]
    limit = (LIMIT_EPOCH, LOSS_LIMIT)
    path = files.OUTPUTS / f"{kind_of(model)}_loss.png"
    draw_losses(path, train, reconstruction, kl, limit, title(model, "loss", data_name))
    return path


def title(model, text, data_name=None):
    """The title of a picture: the kind of the model, the text, and the data of its training where they are known."""
    data = f" ({data_name})" if data_name else ""
    return f"{type(model).__name__}: {text}{data}"


# ------------------------------------------------------------------------------------------------------------ main
def main(args):
    """Trains the model, or loads it if `args.load_weights`, and draws its pictures."""
    if getattr(args, "seed", None) is not None:
        tf.keras.utils.set_random_seed(args.seed)
    kind = CVAE if args.is_cvae else VAE
    if args.load_weights:
        model, record = load_model(kind.__name__.lower())
        pictures = []
    else:
        data = load_data()
        model = new_model(kind, args)
        record, mu = train_and_save(model, data, args)
        model = in_float32(model)
        pictures = show_training(model, data, record["history"], mu)
    if model.latent_size != args.latent_size:
        print(f"The weights are of {model.latent_size} latents: --latent_size {args.latent_size} is not used")
    pictures += show_samples(model, record.get("data"))
    names = ", ".join(path.name for path in pictures)
    print(f"In {files.OUTPUTS}: {names}; the weights are in {weights_path(kind_of(model)).name}")


def new_model(kind, args):
    """A new model of the kind `VAE` or `CVAE`, in the precision that suits the machine or is asked for."""
    precision = getattr(args, "precision", "auto")
    if not hasattr(kind, "decode"):  # a class of another person's vae.py, which may not be made for it
        precision = "float32"
    with computing_in(choose_precision(precision)):
        return kind(args.input_size, latent_size=args.latent_size)


def train_and_save(model, data, args):
    """Trains a model; after each epoch evaluates it on the test images and saves it.

    Returns the record that is saved with the weights, a dictionary of `data`, the name of the data; `seed`, a number or
    None; `precision`, "float32" or "bfloat16"; and `history`, a list of dictionaries of nats per image, `train_loss`,
    `test_reconstruction` and `test_kl`, one for each epoch. And the posterior means of the test images, (N, Z).
    InputError if the loss is not finite: the weights of the epoch before stay saved.
    """
    train_loader = load_mnist(args.batch_size)
    about = f"{data.name}, {len(train_loader)} batches of {args.batch_size}, in {model.compute_dtype}"
    print(f"Training a {type(model).__name__} on {about}")
    record = {"data": data.name, "seed": getattr(args, "seed", None), "precision": model.compute_dtype, "history": []}
    for epoch in range(1, args.num_epochs + 1):
        train_loss = train_vae(model, train_loader, args, args.is_cvae) / len(train_loader)
        test = evaluate(in_float32(model), data)
        if not np.isfinite(train_loss + test.loss):
            raise InputError(f"the loss is no longer a number in epoch {epoch}: try a smaller --learning_rate")
        losses = {"train_loss": train_loss, "test_reconstruction": test.reconstruction, "test_kl": test.kl}
        record["history"].append(losses)
        save_model_weights(model, args, record)
        terms = f"(reconstruction {test.reconstruction:.2f} + KL {test.kl:.2f})"
        print(f"Train Epoch: {epoch}  Loss: {train_loss:.2f}  Test Loss: {test.loss:.2f} {terms}", flush=True)
    return record, test.mu


def show_training(model, data, history, mu):
    """Draws what needs the test images, or the losses of a run: the paths of the pictures."""
    paths = [show_losses(model, history, data.name), show_reconstructions(model, data)]
    if mu.shape[1] == 2:
        paths.append(show_two_latents(model, data, mu))
    elif mu.shape[1] > 2:
        paths.append(show_latent_space(model, data, mu))
    if is_conditional(model) and hasattr(model, "decode"):  # the CVAE of another person's vae.py has no such method
        paths.append(show_cvae_classes(model, data))
    return paths


def show_samples(model, data_name):
    """Draws what needs no images, samples and images between them: the paths of the pictures."""
    if is_conditional(model):
        return [show_cvae_images(model, model.latent_size, data_name)]
    paths = [show_vae_images(model, model.latent_size, data_name)]
    paths.append(show_vae_interpolation(model, model.latent_size, data_name))
    if model.latent_size == 2:
        paths.append(show_vae_manifold(model, data_name))
    return paths


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
    help_text = (
        f"peak at batch size 128, in proportion at others up to 1024: {rate_at(1024):.2g} there (default: {PEAK})"
    )
    parser.add_argument("--learning_rate", type=float, default=PEAK, help=help_text)
    help_text = "what the network computes with; auto: bfloat16 where that is much faster (default: auto)"
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help=help_text)
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
