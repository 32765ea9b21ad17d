"""The course's checks, to run before handing in: `python code/grade.py`.

Trains both models as the autograder does, draws 1,000 samples of each digit with the CVAE, and lets a classifier read
them that was trained on the real training images alone (handout, "Autograder & Grading"). Beside the checks it prints
figures that the course does not ask for: losses on the test images, Frechet distances of samples to real digits, and
how many test images the CVAE itself reads.
"""

import argparse
import json
import os
import pathlib
import sys
import time
import zlib
from typing import NamedTuple

if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # whatever a notebook's environment says

import assignment  # isort: skip
import files  # assignment is imported first: it names Keras' backend
import numpy as np
import tensorflow as tf
from assignment import LIMIT_EPOCH, LOSS_LIMIT
from errors import InputError, exit_status
from evaluation import accuracy, classify, confusion_matrix, evaluate, frechet_distance
from files import new_file
from forward import classes_for, forward, is_conditional
from mnist_images import load_data, to_pixels
from pictures import draw_confusion
from tensorflow.keras import layers
from vae import CVAE, VAE
from weights import load_model, write_weights

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


def load_classifier(data):
    """A convolutional classifier of digits: images (N, 1, 28, 28) in [0, 1] to logits (N, 10).

    Trained on the training images of `data`, never on generated ones, and kept in `outputs/` under the checksum of
    those images: other data has another classifier.
    """
    classifier = new_classifier()
    path = files.OUTPUTS / f"classifier-{zlib.crc32(data.x_train.numpy()):08x}.weights.h5"
    if path.exists():
        try:
            classifier.load_weights(str(path))
            return classifier
        except Exception:  # damaged, or of another generation of Keras: each raises its own kinds
            print(f"{path} cannot be read: training the classifier anew")
            classifier = new_classifier()  # some weights may have been loaded
    train_classifier(classifier, data)
    with new_file(path) as written:
        write_weights(classifier, written)
    return classifier


def new_classifier():
    """The classifier, not trained."""
    tf.keras.utils.set_random_seed(0)  # one classifier for every run
    last = {"data_format": "channels_last"}  # whatever Keras is told to assume
    return tf.keras.Sequential(
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


def train_classifier(classifier, data):
    """Trains for 5 epochs."""
    epochs = 5
    batch_size = 128
    steps = epochs * -(-len(data.x_train) // batch_size)
    rate = tf.keras.optimizers.schedules.CosineDecay(2e-3, steps)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(tf.keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    print("Training the classifier")
    classifier.fit(to_pixels(data.x_train), data.y_train, batch_size=batch_size, epochs=epochs, verbose=2)


def read_digits(classifier, images):
    """The digits, int (N,), that the classifier sees in images (N, 1, 28, 28) in [0, 1]."""
    return np.argmax(classifier.predict(images, batch_size=1000, verbose=0), axis=1)


def features(classifier, images):
    """What the classifier's last hidden layer makes of images (N, 1, 28, 28): float64 (N, 128)."""
    hidden = tf.keras.Model(classifier.inputs, classifier.layers[-2].output)
    return hidden.predict(images, batch_size=1000, verbose=0).astype(np.float64)


def sample(model, seed):
    """`10 * SAMPLES` samples with fresh noise: digits (N,), as many of each, and images (N, 1, 28, 28).

    The digits are those that a `CVAE` was asked for; for a `VAE` they say nothing. The noise is from a generator of its
    own: a training that goes on afterwards is the same as without.
    """
    digits = np.repeat(np.arange(10), SAMPLES)
    z = np.random.default_rng(seed).normal(size=(len(digits), model.latent_size)).astype(np.float32)
    if is_conditional(model):
        images = model.decode(z, assignment.one_hot(digits, 10))
    else:
        images = model.decode(z)
    return digits, images.numpy()


def train_as_graded(kind, args):
    """Trains a model as the autograder does: the model, its loss in each epoch, and the minutes it took."""
    tf.keras.utils.set_random_seed(args.seed)
    start = time.perf_counter()
    model = kind(args.input_size)
    train_loader = assignment.load_mnist(args.batch_size)
    losses = []
    for epoch in range(1, args.num_epochs + 1):
        total = assignment.train_vae(model, train_loader, args, is_cvae=kind is CVAE)
        losses.append(total / len(train_loader))
        print(f"{kind.__name__} Train Epoch: {epoch}  Loss: {losses[-1]:.6f}", flush=True)
    return model, losses, (time.perf_counter() - start) / 60


def grade(options):
    """Runs every check, prints the tables and draws the confusion matrix.

    Returns the checks, and the figures as a dictionary.
    """
    data = load_data()
    figures = {"data": data.name, "seed": options.training.seed}
    checks = []
    models = []
    for kind in (VAE, CVAE):
        if options.load_weights:
            model, record = load_model(kind.__name__.lower(), data)
            figures[kind.__name__] = {"record": record}
        else:
            model, losses, minutes = train_as_graded(kind, options.training)
            checks += check_training(kind.__name__, losses, minutes)
            batch_size = options.training.batch_size
            figures[kind.__name__] = {"batch_size": batch_size, "losses": losses, "minutes": minutes}
        figures[kind.__name__]["test_loss"] = evaluate(model, data).loss
        models.append(model)
    vae, cvae = models

    classifier = load_classifier(data)
    x_test = to_pixels(data.x_test)
    right = 100 * np.mean(read_digits(classifier, x_test) == data.y_test)  # percent
    digits, images = sample(cvae, options.training.seed)
    matrix = confusion_matrix(digits, read_digits(classifier, images))
    of_samples = accuracy(matrix)
    checks += check_samples(right, of_samples.all)

    _, images_of_vae = sample(vae, options.training.seed)
    distances = frechet_distances(classifier, data, models, [images_of_vae, images])
    read_by_cvae = 100 * np.mean(np.argmax(classify(cvae, x_test), axis=1) == data.y_test)
    figures.update(
        classifier_accuracy=right,
        accuracy=of_samples.all,
        worst=of_samples.worst,
        worst_digit=of_samples.worst_digit,
        read_by_cvae=read_by_cvae,
        confusion=matrix.tolist(),
        distances=distances,
    )
    print_checks(checks)
    print_information(figures)
    path = confusion_path(options)
    draw_confusion(path, matrix, f"Accuracy of the CVAE's samples: {of_samples.all:.2f} % ({data.name})")
    print(f"\nThe digits asked for and the digits read are drawn in {path}")
    return checks, figures


def check_training(name, losses, minutes):
    """The course's checks of the training of a model, with the loss of its last epoch."""
    loss = losses[-1]
    if len(losses) == LIMIT_EPOCH:
        epoch = f"the {LIMIT_EPOCH}th epoch"
    else:
        epoch = f"epoch {len(losses)}, not the {LIMIT_EPOCH}th"
    return [
        Check(f"{name}: loss of {epoch}", f"< {LOSS_LIMIT}", loss, loss < LOSS_LIMIT),
        Check(f"{name}: minutes of training", f"< {MINUTES_LIMIT}", minutes, minutes < MINUTES_LIMIT),
    ]


def check_samples(right, percent):
    """Whether the classifier itself is good enough, and the course's check of the CVAE's samples; both in percent."""
    return [
        Check("classifier: % of test images right", f">= {CLASSIFIER_LIMIT}", right, right >= CLASSIFIER_LIMIT),
        Check("CVAE: accuracy of samples, %", f"> {ACCURACY_LIMIT}", percent, percent > ACCURACY_LIMIT),
    ]


def frechet_distances(classifier, data, models, samples):
    """Distances to the training images: by name, of the test images, each model's reconstructions and its samples."""
    x_test = to_pixels(data.x_test)
    real = features(classifier, to_pixels(data.x_train))
    distances = {"real test images": frechet_distance(real, features(classifier, x_test))}
    for model, images in zip(models, samples):
        name = type(model).__name__
        x_hat, _, _ = forward(model, x_test, classes_for(model, data.y_test))
        distances[f"{name}'s reconstructions"] = frechet_distance(real, features(classifier, x_hat))
        distances[f"{name}'s samples"] = frechet_distance(real, features(classifier, images))
    return distances


def confusion_path(options):
    """The file of the confusion matrix. That of saved weights is in git, which a graded training does not overwrite."""
    if options.load_weights:
        return files.OUTPUTS / "grade_confusion.png"
    return files.OUTPUTS / f"grade_confusion_{options.training.num_epochs}_epochs.png"


def print_checks(checks):
    """Prints check, limit, measured and whether it passed."""
    print(f"\n{'check':<42}{'limit':>8}{'measured':>12}  pass")
    for check in checks:
        print(f"{check.name:<42}{check.limit:>8}{check.measured:>12.2f}  {'yes' if check.passed else 'NO'}")


def print_information(figures):
    """Prints the figures that the course sets no limit for."""
    rows = {
        "VAE: loss on the test images, nats": figures["VAE"]["test_loss"],
        "CVAE: loss on the test images, nats": figures["CVAE"]["test_loss"],
        f"CVAE: accuracy of the worst digit ({figures['worst_digit']}), %": figures["worst"],
        "real test images that the CVAE itself reads, %": figures["read_by_cvae"],
    }
    for name, distance in figures["distances"].items():
        rows[f"Frechet distance, {name}"] = distance
    print("\n(information only)")
    for name, value in rows.items():
        print(f"{name:<62}{value:>8.2f}")


def verdict(checks):
    """A line that says whether all checks passed, or which failed."""
    failed = [check.name for check in checks if not check.passed]
    if failed:
        return f"{len(failed)} of {len(checks)} checks failed: {'; '.join(failed)}"
    return f"All {len(checks)} checks passed"


def main(argv=None):
    """Grades; returns the exit status: 0 if every check passed, 1 otherwise."""
    options = parse_arguments(argv)
    if options.json and not os.access(pathlib.Path(options.json).parent, os.W_OK):
        raise InputError(f"{options.json} cannot be written")  # before minutes are spent
    checks, figures = grade(options)
    if options.json:
        with new_file(pathlib.Path(options.json)) as written:
            written.write_text(json.dumps(figures, indent=1), "utf-8")
    print(verdict(checks))
    return 0 if all(check.passed for check in checks) else 1


if __name__ == "__main__":
    sys.exit(exit_status(main))
