"""The course's own checks, to run before handing in: `python code/grade.py`.

Trains both models as the autograder does, asks the CVAE for 1,000 of each digit, and lets a classifier that has seen
nothing but MNIST read them (handout, "Autograder & Grading"). Beside the checks it prints a figure that the course does
not ask for: how far the samples are from real digits as a whole, in sharpness and variety.
"""

import argparse
import json
import os
import sys
import time
import zlib
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # whatever a notebook's environment says

import assignment
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tensorflow.keras import layers

from vae import CVAE, VAE

LOSS_BAR = 120  # nats per image, after 5 epochs
MINUTES_BAR = 30
RECOGNISED_BAR = 90  # percent
CLASSIFIER_BAR = 99  # percent of the real test images, for its judgement to count
SAMPLES = 1000  # of each digit


class Check(NamedTuple):
    """A row of the table."""

    name: str
    bar: str
    measured: float
    passed: bool


def parse_arguments(argv=None):
    """The command line's arguments, and as `training` those of `assignment.py` to train with."""
    parser = argparse.ArgumentParser(description="Check the models as the course does; exit 0 only if all pass.")
    parser.add_argument("--weights", action="store_true", help="grade the saved weights instead of training")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument(
        "--num_epochs", default="5", help="passes over the data, as the handout's bar has them (default: 5)"
    )
    parser.add_argument("--batch_size", default="1024", help="images in a step (default: 1024)")
    parser.add_argument("--seed", default="0", help="of training and samples (default: 0)")
    options = parser.parse_args(argv)
    options.training = assignment.parseArguments(
        ["--num_epochs", options.num_epochs, "--batch_size", options.batch_size, "--seed", options.seed]
    )
    return options


def load_classifier():
    """A convolutional classifier of digits: images (N, 1, 28, 28) in [0, 1] to logits (N, 10).

    Trained on the training images of `assignment.load_data`, never on generated ones, and kept in `outputs/` under the
    checksum of those images: other data has another classifier.
    """
    tf.keras.utils.set_random_seed(0)  # one judge for every run
    last = {"data_format": "channels_last"}  # whatever Keras is told to assume
    classifier = tf.keras.Sequential(
        [
            layers.Input((1, 28, 28)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", **last),
            layers.MaxPooling2D(**last),
            layers.Conv2D(64, 3, activation="relu", **last),
            layers.MaxPooling2D(**last),
            layers.Flatten(**last),
            layers.Dropout(0.5),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    )
    data = assignment.load_data()
    path = assignment.OUTPUTS / f"classifier-{zlib.crc32(data.x_train.numpy()):08x}.weights.h5"
    if path.exists():
        try:
            classifier.load_weights(str(path))
            return classifier
        except Exception:  # damaged, or of another generation of Keras: each raises its own kinds
            print(f"{path} cannot be read: training the classifier anew")
    epochs, batch_size = 5, 128
    steps = epochs * -(-len(data.x_train) // batch_size)
    classifier.compile(
        tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    print("Training the classifier")
    classifier.fit(assignment.to_pixels(data.x_train), data.y_train, batch_size=batch_size, epochs=epochs, verbose=2)
    with assignment.replacing(path) as partial:
        classifier.save_weights(str(partial))
    return classifier


def recognise(classifier, images):
    """The digits, int (N,), that the classifier sees in images (N, 1, 28, 28) in [0, 1]."""
    return np.argmax(classifier.predict(images, batch_size=1000, verbose=0), axis=1)


def features(classifier, images):
    """What the classifier's last hidden layer makes of images (N, 1, 28, 28): float64 (N, 128)."""
    hidden = tf.keras.Model(classifier.inputs, classifier.layers[-2].output)
    return hidden.predict(images, batch_size=1000, verbose=0).astype(np.float64)


def frechet_distance(a, b):
    """The Frechet distance of two Gaussians with the means m and covariances C of features a (N, F) and b (M, F).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), as Heusel et al. 2017, https://arxiv.org/abs/1706.08500. Zero for equal
    distributions; it grows when samples are blurred or alike. Its scale is that of the features.
    """
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    # C1 C2 is not symmetric, but root C2 root is, and has the same eigenvalues
    trace_of_root = np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(0)).sum()
    return np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(c1) + np.trace(c2) - 2 * trace_of_root


def confusion_matrix(asked, recognised):
    """Counts (10, 10): row the digit asked for, column the digit recognised."""
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (asked, recognised), 1)
    return matrix


def recognition(matrix):
    """Of a confusion matrix: percent recognised of all, percent of the worst digit, and the worst digit."""
    by_digit = 100 * np.diag(matrix) / matrix.sum(axis=1)
    return 100 * np.trace(matrix) / matrix.sum(), by_digit.min(), int(by_digit.argmin())


def sample(model, seed):
    """`10 * SAMPLES` samples with fresh noise: digits (N,), as many of each, and images (N, 1, 28, 28).

    Of a `CVAE` the digits are what it was asked for; a `VAE` knows nothing of them.
    """
    tf.keras.utils.set_random_seed(seed)
    digits = np.repeat(np.arange(10), SAMPLES)
    z = tf.random.normal((len(digits), model.latent_size))
    if isinstance(model, CVAE):
        z = tf.concat([z, assignment.one_hot(digits, 10)], axis=1)
    return digits, model.decoder(z).numpy()


def reconstruct(model):
    """Reconstructions (N, 1, 28, 28) of the test images."""
    data = assignment.load_data()
    return assignment.forward(model, assignment.to_pixels(data.x_test), data.y_test)[0].numpy()


def train(kind, args):
    """Trains a model as the autograder does: the model, its loss in each epoch, and the minutes it took."""
    tf.keras.utils.set_random_seed(args.seed)
    model, start, losses = kind(args.input_size), time.perf_counter(), []
    train_loader = assignment.load_mnist(args.batch_size)
    for epoch in range(args.num_epochs):
        losses.append(assignment.train_vae(model, train_loader, args, is_cvae=kind is CVAE) / len(train_loader))
        print(f"{kind.__name__} Train Epoch: {epoch}  Loss: {losses[-1]:.6f}", flush=True)
    return model, losses, (time.perf_counter() - start) / 60


def grade(options):
    """Runs every check and prints the table.

    Returns:
        The checks, and the figures as a dictionary.
    """
    data = assignment.load_data()
    checks, figures, models = [], {"data": data.name, **vars(options.training)}, []
    for kind in (VAE, CVAE):
        name = kind.__name__
        if options.weights:
            models.append(assignment.load_weights(kind(784)))
        else:
            model, losses, minutes = train(kind, options.training)
            models.append(model)
            figures[name] = {"losses": losses, "minutes": minutes}
            checks.append(Check(f"{name}: loss of the last epoch", f"< {LOSS_BAR}", losses[-1], losses[-1] < LOSS_BAR))
            checks.append(Check(f"{name}: minutes of training", f"< {MINUTES_BAR}", minutes, minutes < MINUTES_BAR))
        test_loss = sum(assignment.evaluate(models[-1])[:2])
        figures.setdefault(name, {})["test_loss"] = test_loss
        checks.append(Check(f"{name}: loss on the test images", f"< {LOSS_BAR}", test_loss, test_loss < LOSS_BAR))

    classifier = load_classifier()
    x_test = assignment.to_pixels(data.x_test)
    accuracy = 100 * np.mean(recognise(classifier, x_test) == data.y_test)
    samples = [sample(model, options.training.seed) for model in models]
    asked, images = samples[-1]  # the CVAE's
    matrix = confusion_matrix(asked, recognise(classifier, images))
    recognised, worst, worst_digit = recognition(matrix)
    checks.append(
        Check("classifier: % of real test images right", f">= {CLASSIFIER_BAR}", accuracy, accuracy >= CLASSIFIER_BAR)
    )
    checks.append(
        Check("CVAE: % of samples recognised", f"> {RECOGNISED_BAR}", recognised, recognised > RECOGNISED_BAR)
    )
    train_features = features(classifier, assignment.to_pixels(data.x_train))
    sets = {"real test images": x_test}
    for model, (_, images) in zip(models, samples):
        name = type(model).__name__
        sets |= {f"{name}: reconstructions of the test images": reconstruct(model), f"{name}: samples": images}
    distances = {name: frechet_distance(train_features, features(classifier, images)) for name, images in sets.items()}
    figures.update(
        classifier_accuracy=accuracy,
        recognised=recognised,
        worst=worst,
        worst_digit=worst_digit,
        confusion=matrix.tolist(),
        distances=distances,
    )
    print_table(checks)
    print(f"Worst digit: {worst_digit}, {worst:.1f} % recognised\n\nFrechet distance to the training images, no check:")
    for name, distance in distances.items():
        print(f"{name:<50}{distance:>12.2f}")
    draw_confusion(matrix, f"{recognised:.2f} % of the CVAE's samples recognised ({data.name})")
    return checks, figures


def print_table(checks):
    """Prints check, bar, measured and whether it passed."""
    print(f"\n{'check':<42}{'bar':>8}{'measured':>12}  pass")
    for check in checks:
        print(f"{check.name:<42}{check.bar:>8}{check.measured:>12.2f}  {'yes' if check.passed else 'NO'}")


def draw_confusion(matrix, title):
    """Draws `outputs/grade_confusion.png`: asked digit against recognised digit."""
    figure = Figure(figsize=(5.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.sqrt(matrix), cmap="Blues")  # the root, so that a few mistakes show
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "white" if row == column else "black"
            axes.text(column, row, count, ha="center", va="center", color=color)
    axes.set(title=title, xticks=range(10), yticks=range(10), xlabel="recognised as", ylabel="digit asked for")
    assignment.save_figure(figure, assignment.OUTPUTS / "grade_confusion.png")


def main(argv=None):
    """Grades; returns the exit status: 0 if every check passed, 1 otherwise."""
    options = parse_arguments(argv)
    if options.json:  # no minutes are spent where the figures cannot be written
        open(options.json, "a").close()
    checks, figures = grade(options)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)
    return 0 if all(check.passed for check in checks) else 1


if __name__ == "__main__":
    sys.exit(assignment.run(main))
