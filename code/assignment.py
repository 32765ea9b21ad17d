"""Trains a VAE or a conditional VAE on MNIST and draws digits with it: data, training, weights, pictures, command line.

The models and their loss live in `vae.py`. Everything is written to `outputs/` in the project's folder.
"""

import argparse
import functools
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import: TensorFlow's start-up messages

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from vae import CVAE, VAE, loss_function

OUTPUTS = pathlib.Path(__file__).resolve().parent.parent / "outputs"


def parseArguments():
    """The command line's arguments (handout, "FAQ")."""
    parser = argparse.ArgumentParser(description="Train a (conditional) VAE on MNIST and draw digits into outputs/.")
    parser.add_argument("--is_cvae", action="store_true", help="train the conditional VAE")
    parser.add_argument("--load_weights", action="store_true", help="draw from the saved weights, without training")
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--num_epochs", type=int, default=10)
    parser.add_argument("--latent_size", type=int, default=15)
    parser.add_argument("--input_size", type=int, default=28 * 28)
    parser.add_argument("--learning_rate", type=float, default=2e-3, help="peak of the cosine schedule")
    parser.add_argument("--seed", type=int, default=None, help="for a run that can be repeated")
    args = parser.parse_args()
    for name in ("batch_size", "num_epochs", "latent_size", "input_size", "learning_rate"):
        if not 0 < getattr(args, name) < float("inf"):
            parser.error(f"--{name} must be a positive number, got {getattr(args, name)}")
    if args.input_size != 28 * 28:
        parser.error(f"--input_size must be 784, the size of MNIST's images, got {args.input_size}")
    return args


def one_hot(labels, class_size):
    """Labels (N,) or (N, 1), tensor or array, as one-hot float32 (N, class_size)."""
    return tf.one_hot(tf.reshape(tf.cast(labels, tf.int32), (-1,)), class_size)


@functools.lru_cache(maxsize=1)
def mnist_arrays():
    """MNIST as ((x_train, y_train), (x_test, y_test)): uint8 images (N, 28, 28), labels (N,).

    Read from `$MNIST_NPZ` if that is set, else through Keras (its cache or its download).
    """
    path = os.environ.get("MNIST_NPZ")
    if not path:
        return tf.keras.datasets.mnist.load_data()
    with np.load(path, allow_pickle=False) as arrays:
        return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def load_mnist(batch_size, buffer_size=1024):
    """The training set as batches of (images (B, 1, 28, 28) float32 in [0, 1], labels (B,)).

    Reshuffled each epoch through a buffer of `buffer_size` images; a smaller last batch is dropped.
    """
    (images, labels), _ = mnist_arrays()
    images, labels = tf.constant(images), tf.constant(labels, tf.int32)

    def gather(indices):
        return tf.cast(tf.gather(images, indices), tf.float32)[:, tf.newaxis] / 255.0, tf.gather(labels, indices)

    indices = tf.data.Dataset.range(len(images)).shuffle(buffer_size)
    return indices.batch(batch_size, drop_remainder=True).map(gather).prefetch(2)


def train_vae(model, train_loader, args, is_cvae=False):
    """Trains for one epoch (handout, "Train our VAE" and "Train our CVAE"); called again, it goes on.

    Args:
        model: a `VAE`, or a `CVAE` if `is_cvae`.
        train_loader: batches of (images (B, 1, H, W) in [0, 1], labels (B,)).
        args: `learning_rate`; with `num_epochs` as well, the rate follows a cosine over that many epochs.

    Returns:
        The sum of the batches' losses, so that `total / len(train_loader)` is the average loss per image.
    """
    if not hasattr(model, "_train_step"):
        step = _compile_step(model, _optimizer(train_loader, args), is_cvae)
        object.__setattr__(model, "_train_step", step)  # past Keras' tracking: not a part of the weights
    total = 0.0
    for images, labels in train_loader:
        total += model._train_step(tf.cast(images, tf.float32), labels)
    return total


def _optimizer(train_loader, args):
    rate = args.learning_rate
    if hasattr(args, "num_epochs"):
        steps = args.num_epochs * len(train_loader)
        warmup = min(30, steps // 10)
        rate = tf.keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warmup), alpha=0.01, warmup_target=rate, warmup_steps=warmup)
    # beta_2 below Keras' 0.999: at batch 1024 a whole run is a few hundred steps, too few for so long a memory.
    return tf.keras.optimizers.Adam(rate, beta_2=0.95)


def _compile_step(model, optimizer, is_cvae):
    """One training step as a graph, traced once per shape of batch."""
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(images, labels):
        with tf.GradientTape() as tape:
            inputs = (images, one_hot(labels, model.num_classes)) if is_cvae else (images,)
            x_hat, mu, logvar = model(*inputs)
            loss = loss_function(x_hat, images, mu, logvar)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    return step


def test_loss(model, is_cvae=False):
    """Average loss per image on the 10,000 test images."""
    _, (images, labels) = mnist_arrays()
    images = tf.cast(images[:, np.newaxis], tf.float32) / 255.0
    x_hat, mu, logvar = model(images, one_hot(labels, model.num_classes)) if is_cvae else model(images)
    return float(loss_function(x_hat, images, mu, logvar))


def _weights_path(is_cvae):
    return OUTPUTS / ("cvae.weights.h5" if is_cvae else "vae.weights.h5")


def save_model_weights(model, args):
    """Saves the weights under `outputs/`: a whole file replaces the last one, or nothing changes."""
    OUTPUTS.mkdir(exist_ok=True)
    target = _weights_path(args.is_cvae)
    partial = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        model.save_weights(str(partial))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def load_weights(model):
    """Loads what `save_model_weights` saved for this kind of model; returns the model."""
    model.load_weights(str(_weights_path(isinstance(model, CVAE))))
    return model


def show_vae_images(model, latent_size):
    """Draws `outputs/show_vae_images.png`: 10 samples from the prior."""
    _save_grid("show_vae_images", model.decoder(tf.random.normal((10, latent_size))), columns=10)


def show_vae_interpolation(model, latent_size):
    """Draws `outputs/show_vae_interpolation.png`: 12 x 12 images between four samples from the prior."""
    corners = tf.random.normal((4, latent_size)).numpy()
    t = np.linspace(0, 1, 12, dtype=np.float32)
    weights = np.stack([np.outer(1 - t, 1 - t), np.outer(1 - t, t), np.outer(t, 1 - t), np.outer(t, t)], axis=-1)
    _save_grid("show_vae_interpolation", model.decoder(weights.reshape(144, 4) @ corners), columns=12)


def show_cvae_images(model, latent_size):
    """Draws `outputs/show_cvae_images.png`: 10 samples of each digit, a digit a row."""
    digits = np.repeat(np.arange(10), 10)
    z = tf.concat([tf.random.normal((100, latent_size)), one_hot(digits, 10)], axis=-1)
    _save_grid("show_cvae_images", model.decoder(z), columns=10, row_labels=range(10))


def _save_grid(name, images, columns, row_labels=None):
    """Tiles images (N, 1, H, W) into one array and writes `outputs/{name}.png`."""
    images = np.asarray(images)
    n, _, height, width = images.shape
    rows = n // columns
    canvas = images.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    figure = Figure(figsize=(columns * 0.5 + 0.4, rows * 0.5), dpi=120)
    axes = figure.add_axes((0.4 / (columns * 0.5 + 0.4), 0, 1, 1))
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, aspect="auto", extent=(0, columns, rows, 0))
    axes.set_xlim(0, columns + 0.8)
    axes.set(xticks=[], yticks=[])
    axes.axis("off")
    axes.set_xlim(0, columns)
    for row, label in enumerate(row_labels or ()):
        axes.text(-0.4, row + 0.5, label, ha="center", va="center", fontsize=14)
    OUTPUTS.mkdir(exist_ok=True)
    figure.savefig(OUTPUTS / f"{name}.png")


def main(args):
    """Trains (or loads) the model, saves its weights and draws its pictures."""
    if getattr(args, "seed", None) is not None:
        tf.keras.utils.set_random_seed(args.seed)
    kind = CVAE if args.is_cvae else VAE
    model = kind(args.input_size, latent_size=args.latent_size)
    if args.load_weights:
        load_weights(model)
    else:
        train_loader = load_mnist(args.batch_size)
        for epoch in range(args.num_epochs):
            total = train_vae(model, train_loader, args, is_cvae=args.is_cvae)
            print(f"Train Epoch: {epoch}  Loss: {float(total) / len(train_loader):.6f}", flush=True)
            save_model_weights(model, args)
        print(f"Test Loss: {test_loss(model, args.is_cvae):.6f}")
    if args.is_cvae:
        show_cvae_images(model, args.latent_size)
    else:
        show_vae_images(model, args.latent_size)
        show_vae_interpolation(model, args.latent_size)
    print(f"Pictures are in {OUTPUTS}")


if __name__ == "__main__":
    try:
        main(parseArguments())
    except KeyboardInterrupt:
        print("Interrupted; outputs/ holds the weights of the last whole epoch.", file=sys.stderr)
        sys.exit(130)
