"""The tables of results: three seeds of each run, and what each choice is worth. By hand, with MNIST at hand:

    python tests/results.py runs        both models, by batch size and number of epochs
    python tests/results.py ablation    the default run with one choice undone at a time; `runs` has it with none undone

A figure is the median of the seeds, the worst of them in parentheses.
"""

import argparse
import contextlib
import io
import os
import pathlib
import sys
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "code"))

import assignment
import grade
import numpy as np
import tensorflow as tf

import vae

SEEDS = (0, 1, 2)
HEADER = ("loss in epoch 5", "in the last", "on test images", "KL", "distance", "% recognised", "of worst digit")
RUNS = [(kind, batch_size, num_epochs) for kind in (vae.VAE, vae.CVAE) for batch_size in (1024, 128)
        for num_epochs in (5, 10)] + [(vae.CVAE, 128, 30)]


class Judge:
    """The grader's classifier, and its features of the training images."""

    def __init__(self):
        self.classifier = grade.load_classifier()
        self.real = grade.features(self.classifier, assignment.to_pixels(assignment.load_data().x_train))

    def distance(self, images):
        return grade.frechet_distance(self.real, grade.features(self.classifier, images))


def measure(kind, batch_size, num_epochs, seed, judge):
    """Trains and grades: the figures of `HEADER`, the last two for a CVAE alone."""
    args = assignment.parseArguments(
        ["--batch_size", str(batch_size), "--num_epochs", str(num_epochs), "--seed", str(seed)])
    with contextlib.redirect_stdout(io.StringIO()):
        model, losses, _ = grade.train(kind, args)
    reconstruction, kl, _ = assignment.evaluate(model)
    digits, images = grade.sample(model, seed)
    row = [losses[4], losses[-1], reconstruction + kl, kl, judge.distance(images)]
    if kind is vae.CVAE:
        row += grade.recognition(grade.confusion_matrix(digits, grade.recognise(judge.classifier, images)))[:2]
    return row


def print_row(name, kind, batch_size, num_epochs, judge):
    rows = np.array([measure(kind, batch_size, num_epochs, seed, judge) for seed in SEEDS])
    worst = (np.max,) * 5 + (np.min,) * 2
    cells = [f"{np.median(values):.2f} ({worst[i](values):.2f})" for i, values in enumerate(rows.T)]
    cells += ["no class"] * (len(HEADER) - len(cells))
    print(f"| {' | '.join([name, *cells])} |", flush=True)


def unscaled(encoder):
    """The class rows of one network at their plain size."""
    scale = vae.scale_class_weights

    def scale_other(network, num_classes, factor):
        if (network.name == "encoder") != encoder:
            scale(network, num_classes, factor)

    return mock.patch.object(vae, "scale_class_weights", scale_other)


def beta_2(value):
    """Another beta_2 in the optimizer."""
    make = vae.MuonAdam.__init__

    def changed(optimizer, *given):
        make(optimizer, *given)
        optimizer.beta_2 = value

    return mock.patch.object(vae.MuonAdam, "__init__", changed)


def glorot_posterior():
    """Keras' own initial weights of mu and logvar."""
    return mock.patch.object(vae, "posterior_layers", lambda latent_size: [
        tf.keras.layers.Dense(latent_size, name=name) for name in ("mu", "logvar")])


CHANGES = {
    "Adam for every kernel": lambda: mock.patch.object(assignment, "MUON_BATCH_SIZE", 10**9),
    "class rows not scaled, decoder": lambda: unscaled(encoder=False),
    "class rows not scaled, encoder": lambda: unscaled(encoder=True),
    "mu and logvar start as usual": glorot_posterior,
    "images start grey": lambda: mock.patch.object(vae, "PIXEL_BIAS", 0.0),
    "beta_2 = 0.999": lambda: beta_2(0.999),
}
ABLATION = [*((vae.VAE, name) for name in ("Adam for every kernel", "mu and logvar start as usual")),
            *((vae.CVAE, name) for name in CHANGES)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("runs", "ablation"))
    what = parser.parse_args().what
    judge = Judge()
    print(f"{assignment.load_data().name}, seeds {SEEDS}, TensorFlow {tf.__version__}; distance of real test images "
          f"{judge.distance(assignment.to_pixels(assignment.load_data().x_test)):.2f}\n"
          f"| | {' | '.join(HEADER)} |\n|{' --- |' * (len(HEADER) + 1)}", flush=True)
    if what == "runs":
        for kind, batch_size, num_epochs in RUNS:
            print_row(f"{kind.__name__}, batch {batch_size}, {num_epochs} epochs", kind, batch_size, num_epochs, judge)
    else:
        for kind, name in ABLATION:
            with CHANGES[name]():
                print_row(f"{kind.__name__}: {name}", kind, 1024, 10, judge)


if __name__ == "__main__":
    main()
