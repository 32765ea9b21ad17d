"""Runs the course's checks before handing in: `python code/grade.py`.

Trains both models as the autograder does, draws 1,000 samples of each digit with the CVAE, and classifies them with a
CNN trained only on the real training images (handout, "Autograder & Grading"). Prints further figures, for which the
course sets no limit: losses on the test images, Fréchet distances of samples to real digits, and how many test images
the CVAE itself classifies correctly.
"""

import argparse
import os
import sys
import time
import zlib
from typing import NamedTuple

if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # whatever a notebook's environment says

import assignment  # isort: skip
import numpy as np
import tensorflow as tf
from assignment import forward, is_conditional, load_data, load_model, new_file, run_program, to_pixels
from extras.evaluation import accuracy, classify, confusion_matrix, evaluate, frechet_distance
from extras.figures import LIMIT_EPOCH, LOSS_LIMIT, draw_confusion
from tensorflow.keras import layers
from vae import CVAE, VAE

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
    """Parses the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Check the models as the course does; exit 0 only if all pass.")
    parser.add_argument("--load_weights", action="store_true", help="grade the saved weights instead of training")
    parser.add_argument(
        "--num_epochs", type=int, default=5, help="number of epochs; the course's limit is for 5 (default: 5)"
    )
    parser.add_argument("--batch_size", type=int, default=1024, help="batch size (default: 1024)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of training and samples (default: 0)")
    args = parser.parse_args(argv)
    if args.num_epochs < 1:
        parser.error(f"argument --num_epochs: must be at least 1, got {args.num_epochs}")
    return args


def load_classifier(data):
    """Loads a convolutional classifier, or trains and saves it: images (N, 1, 28, 28) in [0, 1] to logits (N, 10).

    It is trained only on the training images of `data`. Its file name in `outputs/` contains their checksum, so each
    data set has its own classifier.
    """
    classifier = new_classifier()
    name = f"classifier-{zlib.crc32(data.x_train.tobytes()):08x}.weights.h5"
    path = assignment.OUTPUTS / name
    if path.exists():
        try:
            classifier.load_weights(str(path))
            return classifier
        except Exception:  # damaged, or saved by the other generation of Keras: each raises its own types
            print(f"{path} cannot be loaded: training the classifier again")
            classifier = new_classifier()  # some weights may have been loaded
    train_classifier(classifier, data)
    with new_file(name) as written:
        classifier.save_weights(str(written))
    return classifier


def new_classifier():
    """Creates the classifier, untrained."""
    tf.keras.utils.set_random_seed(0)  # one classifier for every run
    last = {"data_format": "channels_last"}  # regardless of Keras' image_data_format setting
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
    """Trains the classifier for 5 epochs."""
    epochs = 5
    batch_size = 128
    steps = epochs * -(-len(data.x_train) // batch_size)
    rate = tf.keras.optimizers.schedules.CosineDecay(2e-3, steps)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(tf.keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    print("Training the classifier")
    classifier.fit(to_pixels(data.x_train), data.y_train, batch_size=batch_size, epochs=epochs, verbose=2)


def predict_digits(classifier, images):
    """Returns the digits, int (N,), that the classifier predicts for images (N, 1, 28, 28) in [0, 1]."""
    return np.argmax(classifier.predict(images, batch_size=1000, verbose=0), axis=1)


def features(classifier, images):
    """Returns the outputs of the classifier's last hidden layer for images (N, 1, 28, 28): float64 (N, 128)."""
    hidden = tf.keras.Model(classifier.inputs, classifier.layers[-2].output)
    return hidden.predict(images, batch_size=1000, verbose=0).astype(np.float64)


def sample(model, seed):
    """Draws `SAMPLES` samples of each digit.

    The noise comes from a separate generator, so that sampling does not affect later training.

    Returns:
        The requested digits (N,), meaningless for a `VAE`, and the images (N, 1, 28, 28).
    """
    digits = np.repeat(np.arange(10), SAMPLES)
    z = np.random.default_rng(seed).normal(size=(len(digits), model.latent_size)).astype(np.float32)
    if is_conditional(model):
        images = model.decode(z, assignment.one_hot(digits, 10))
    else:
        images = model.decode(z)
    return digits, images.numpy()


def train_as_graded(kind, args):
    """Trains a `VAE` or `CVAE` as the autograder does.

    Returns:
        The model, the training loss of each epoch, and the minutes that the training took.
    """
    tf.keras.utils.set_random_seed(args.seed)
    start = time.perf_counter()
    model = kind(784)
    train_loader = assignment.load_mnist(args.batch_size)
    losses = []
    for epoch in range(1, args.num_epochs + 1):
        total = assignment.train_vae(model, train_loader, args, is_cvae=kind is CVAE)
        losses.append(float(total) / len(train_loader))
        print(f"{kind.__name__} Train Epoch: {epoch}  Loss: {losses[-1]:.2f}", flush=True)
    return model, losses, (time.perf_counter() - start) / 60


def grade(args):
    """Runs every check, prints the tables and draws the confusion matrix. Returns the checks."""
    data = load_data()
    checks = []
    models = []
    for kind in (VAE, CVAE):
        if args.load_weights:
            models.append(load_model(kind.__name__.lower(), data))
        else:
            model, losses, minutes = train_as_graded(kind, args)
            checks += check_training(kind.__name__, losses, minutes)
            models.append(model)
    vae, cvae = models

    classifier = load_classifier(data)
    x_test = to_pixels(data.x_test)
    correct = 100 * np.mean(predict_digits(classifier, x_test) == data.y_test)  # percent
    digits, images = sample(cvae, args.seed)
    matrix = confusion_matrix(digits, predict_digits(classifier, images))
    of_samples = accuracy(matrix)
    checks += check_samples(correct, of_samples.all)
    print_checks(checks)

    _, images_of_vae = sample(vae, args.seed)
    rows = {
        "VAE: loss on the test images, nats": evaluate(vae, data).loss,
        "CVAE: loss on the test images, nats": evaluate(cvae, data).loss,
        f"CVAE: sample accuracy of the worst digit ({of_samples.worst_digit}), %": of_samples.worst,
        "test images that the CVAE itself classifies correctly, %": accuracy_of_classify(cvae, data),
    }
    for name, distance in frechet_distances(classifier, data, models, [images_of_vae, images]).items():
        rows[f"Fréchet distance, {name}"] = distance
    print_information(rows)
    text = f"Accuracy of the CVAE's samples: {of_samples.all:.2f} % ({data.name})"
    path = draw_confusion(confusion_name(args), matrix, text)
    print(f"\nConfusion matrix saved to {path}")
    return checks


def accuracy_of_classify(model, data):
    """Returns the percentage of test images that a `CVAE` classifies correctly by Bayes' rule."""
    scores = classify(model, to_pixels(data.x_test))
    return 100 * np.mean(np.argmax(scores, axis=1) == data.y_test)


def check_training(name, losses, minutes):
    """Returns the checks of a model's training: the loss of its last epoch and the training time."""
    loss = losses[-1]
    if len(losses) == LIMIT_EPOCH:
        epoch = f"the {LIMIT_EPOCH}th epoch"
    else:
        epoch = f"epoch {len(losses)}, not the {LIMIT_EPOCH}th"
    return [
        Check(f"{name}: loss of {epoch}", f"< {LOSS_LIMIT}", loss, loss < LOSS_LIMIT),
        Check(f"{name}: minutes of training", f"< {MINUTES_LIMIT}", minutes, minutes < MINUTES_LIMIT),
    ]


def check_samples(correct, percent):
    """Returns a check of the classifier itself, and the course's check of the CVAE's samples; both in percent."""
    return [
        Check("classifier: accuracy on test images, %", f">= {CLASSIFIER_LIMIT}", correct, correct >= CLASSIFIER_LIMIT),
        Check("CVAE: sample accuracy, %", f"> {ACCURACY_LIMIT}", percent, percent > ACCURACY_LIMIT),
    ]


def frechet_distances(classifier, data, models, samples):
    """Returns the Fréchet distances of test images, reconstructions and samples to the training images, by name."""
    x_test = to_pixels(data.x_test)
    real = features(classifier, to_pixels(data.x_train))
    distances = {"real test images": frechet_distance(real, features(classifier, x_test))}
    for model, images in zip(models, samples):
        name = type(model).__name__
        x_hat, _, _ = forward(model, x_test, data.y_test, is_conditional(model))
        distances[f"{name}'s reconstructions"] = frechet_distance(real, features(classifier, x_hat))
        distances[f"{name}'s samples"] = frechet_distance(real, features(classifier, images))
    return distances


def confusion_name(args):
    """Returns the file name of the confusion matrix. After training it is another, to keep the tracked file."""
    return "grade_confusion.png" if args.load_weights else f"grade_confusion_{args.num_epochs}_epochs.png"


def print_checks(checks):
    """Prints check, limit, measured value and whether it passed."""
    print(f"\n{'check':<42}{'limit':>8}{'measured':>12}  pass")
    for check in checks:
        print(f"{check.name:<42}{check.limit:>8}{check.measured:>12.2f}  {'yes' if check.passed else 'NO'}")


def print_information(rows):
    """Prints the figures for which the course sets no limit."""
    print("\n(information only)")
    for name, value in rows.items():
        print(f"{name:<62}{value:>8.2f}")


def verdict(checks):
    """Returns a line that says whether all checks passed, or which failed."""
    failed = [check.name for check in checks if not check.passed]
    if failed:
        return f"{len(failed)} of {len(checks)} checks failed: {'; '.join(failed)}"
    return f"All {len(checks)} checks passed"


def main(argv=None):
    """Grades the models. Returns the exit status: 0 if every check passed, 1 otherwise."""
    checks = grade(parse_arguments(argv))
    print(verdict(checks))
    return 0 if all(check.passed for check in checks) else 1


if __name__ == "__main__":
    sys.exit(run_program(main))
