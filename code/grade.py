"""The course's checks, to run before handing in: `python code/grade.py`.

Trains both models as the autograder does, draws 1,000 samples of each digit with the CVAE, and lets a classifier that
was trained on real training images only read them (handout, "Autograder & Grading"). Beside the checks it prints
figures that the course does not ask for: losses on the test images, how far the samples are from real digits as a
whole, in sharpness and variety, and how many test images the CVAE itself reads.
"""

import argparse
import json
import os
import sys
import time
import zlib
from typing import NamedTuple

if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # whatever a notebook's environment says

import assignment
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tensorflow.keras import layers
from vae import CVAE, VAE

LOSS_LIMIT = 120  # nats per image, after 5 epochs
MINUTES_LIMIT = 30
ACCURACY_LIMIT = 90  # percent
CLASSIFIER_LIMIT = 99  # percent of the real test images, needed for a valid result
SAMPLES = 1000  # of each digit


class Check(NamedTuple):
    """A row of the table."""

    name: str
    limit: str
    measured: float
    passed: bool


def parse_arguments(argv=None):
    """The command line's arguments, and as `training` those of `assignment.py` to train with."""
    parser = argparse.ArgumentParser(description="Check the models as the course does; exit 0 only if all pass.")
    parser.add_argument("--load_weights", action="store_true", help="grade the saved weights instead of training")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--num_epochs", default="5", help="epochs, the handout's limit is for 5 (default: 5)")
    parser.add_argument("--batch_size", default="1024", help="batch size (default: 1024)")
    parser.add_argument("--seed", default="0", help="seed of training and samples (default: 0)")
    options = parser.parse_args(argv)
    training = ["--num_epochs", options.num_epochs, "--batch_size", options.batch_size, "--seed", options.seed]
    options.training = assignment.parseArguments(training)
    return options


def load_classifier():
    """A convolutional classifier of digits: images (N, 1, 28, 28) in [0, 1] to logits (N, 10).

    Trained on the training images of `assignment.load_data`, never on generated ones, and kept in `outputs/` under the
    checksum of those images: other data has another classifier.
    """
    tf.keras.utils.set_random_seed(0)  # one classifier for every run
    last = {"data_format": "channels_last"}  # whatever Keras is told to assume
    classifier = tf.keras.Sequential()
    for layer in (
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
    ):
        classifier.add(layer)
    data = assignment.load_data()
    path = assignment.OUTPUTS / f"classifier-{zlib.crc32(data.x_train.numpy()):08x}.weights.h5"
    if path.exists():
        try:
            classifier.load_weights(str(path))
            return classifier
        except Exception:  # damaged, or of another generation of Keras: each raises its own kinds
            print(f"{path} cannot be read: training the classifier anew")
    epochs, batch_size = 5, 128
    rate = tf.keras.optimizers.schedules.CosineDecay(2e-3, epochs * -(-len(data.x_train) // batch_size))
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(tf.keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    print("Training the classifier")
    classifier.fit(assignment.to_pixels(data.x_train), data.y_train, batch_size=batch_size, epochs=epochs, verbose=2)
    path.parent.mkdir(exist_ok=True)
    classifier.save_weights(str(path))
    return classifier


def read_digits(classifier, images):
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


def confusion_matrix(asked, read):
    """Counts (10, 10): row the digit asked for, column the digit read."""
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (asked, read), 1)
    return matrix


def accuracy(matrix):
    """Of a confusion matrix: percent read as the digit asked for, the same of the worst digit, and this digit."""
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
        print(f"{kind.__name__} Train Epoch: {epoch + 1}  Loss: {losses[-1]:.6f}", flush=True)
    return model, losses, (time.perf_counter() - start) / 60


def grade(options):
    """Runs every check, prints the tables and draws the confusion matrix.

    Returns:
        The checks, and the figures as a dictionary.
    """
    data = assignment.load_data()
    x_test = assignment.to_pixels(data.x_test)
    checks, figures, models = [], {"data": data.name, **vars(options.training)}, []
    for kind in (VAE, CVAE):
        name = kind.__name__
        if options.load_weights:
            models.append(assignment.load_weights(kind(784)))
            figures[name] = {}
        else:
            model, losses, minutes = train(kind, options.training)
            models.append(model)
            figures[name] = {"losses": losses, "minutes": minutes}
            checks.append(
                Check(f"{name}: loss of the last epoch", f"< {LOSS_LIMIT}", losses[-1], losses[-1] < LOSS_LIMIT)
            )
            checks.append(Check(f"{name}: minutes of training", f"< {MINUTES_LIMIT}", minutes, minutes < MINUTES_LIMIT))
        figures[name]["test_loss"] = sum(assignment.evaluate(models[-1])[:2])

    classifier = load_classifier()
    right = 100 * np.mean(read_digits(classifier, x_test) == data.y_test)
    checks.append(
        Check("classifier: % of test images right", f">= {CLASSIFIER_LIMIT}", right, right >= CLASSIFIER_LIMIT)
    )
    samples = [sample(model, options.training.seed) for model in models]
    asked, images = samples[-1]  # the CVAE's
    matrix = confusion_matrix(asked, read_digits(classifier, images))
    percent, worst, worst_digit = accuracy(matrix)
    checks.append(Check("CVAE: accuracy of samples, %", f"> {ACCURACY_LIMIT}", percent, percent > ACCURACY_LIMIT))
    read = 100 * np.mean(np.argmax(assignment.classify(models[-1], x_test), axis=1) == data.y_test)
    distances = frechet_distances(classifier, models, [images for _, images in samples])
    figures.update(classifier_accuracy=right, accuracy=percent, worst=worst, worst_digit=worst_digit, read_by_cvae=read)
    figures.update(confusion=matrix.tolist(), distances=distances)
    print_checks(checks)
    information = {f"{kind}: loss on the test images, nats": figures[kind]["test_loss"] for kind in ("VAE", "CVAE")}
    information[f"CVAE: accuracy of the worst digit, {worst_digit}, %"] = worst
    information["real test images that the CVAE itself reads, %"] = read
    information |= {f"Frechet distance, {name}": distance for name, distance in distances.items()}
    print("\n(information only)" + "".join(f"\n{name:<62}{value:>8.2f}" for name, value in information.items()))
    draw_confusion(matrix, f"Accuracy of the CVAE's samples: {percent:.2f} % ({data.name})")
    return checks, figures


def frechet_distances(classifier, models, samples):
    """Distances to the training images: by name, of the test images, each model's reconstructions and its samples."""
    data = assignment.load_data()
    sets = {"real test images": assignment.to_pixels(data.x_test)}
    for model, images in zip(models, samples):
        name = type(model).__name__
        sets |= {f"{name}'s reconstructions": reconstruct(model), f"{name}'s samples": images}
    real = features(classifier, assignment.to_pixels(data.x_train))
    return {name: frechet_distance(real, features(classifier, images)) for name, images in sets.items()}


def print_checks(checks):
    """Prints check, limit, measured and whether it passed."""
    print(f"\n{'check':<42}{'limit':>8}{'measured':>12}  pass")
    for check in checks:
        print(f"{check.name:<42}{check.limit:>8}{check.measured:>12.2f}  {'yes' if check.passed else 'NO'}")


def draw_confusion(matrix, title):
    """Draws `outputs/grade_confusion.png`: the digit asked for against the digit read."""
    figure = Figure(figsize=(5.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.sqrt(matrix), cmap="Blues")  # the root, so that a few mistakes show
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "white" if row == column else "black"
            axes.text(column, row, count, ha="center", va="center", color=color)
    axes.set(title=title, xticks=range(10), yticks=range(10), xlabel="read as", ylabel="digit asked for")
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
