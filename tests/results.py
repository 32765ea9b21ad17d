"""The tables of results: three seeds of each run, and what each choice is worth. By hand, with MNIST at hand:

    python tests/results.py runs        both models, by batch size and number of epochs
    python tests/results.py ablation    the default run with one choice undone at a time

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


@contextlib.contextmanager
def another_start(change):
    """Calls `change(model)` on each new model."""
    build = vae.Autoencoder.build

    def built(model, input_shape):
        build(model, input_shape)
        change(model)

    with mock.patch.object(vae.Autoencoder, "build", built):
        yield


def grey_images(model):
    layer = model.decoder.get_layer("pixels")
    layer.bias.assign(tf.zeros_like(layer.bias))


def usual_pixels(model):
    layer = model.decoder.get_layer("pixels")
    layer.kernel.assign(tf.keras.initializers.GlorotUniform(seed=0)(layer.kernel.shape))


def usual_mu(model):
    kernel = model.mu_layer.kernel
    kernel.assign(tf.keras.initializers.GlorotUniform(seed=0)(kernel.shape))


def unscaled(encoder):
    """The class rows of one network at their plain size."""
    scale = vae.scale_class_rows

    def scale_other(network, num_classes, factor):
        if (network.name == "encoder") != encoder:
            scale(network, num_classes, factor)

    return mock.patch.object(vae, "scale_class_rows", scale_other)


def adam_alone():
    return mock.patch.object(assignment, "MUON_BATCH", 10**9)


def muon(**changes):
    """Another setting of the optimizer."""
    new_optimizer = vae.new_optimizer

    def changed():
        optimizer = new_optimizer()
        for name, value in changes.items():
            setattr(optimizer, name, value)
        return optimizer

    return mock.patch.object(vae, "new_optimizer", changed)



ABLATIONS = {
    vae.CVAE: {
        "nothing undone": contextlib.nullcontext,
        "Adam alone": adam_alone,
        "class rows not scaled, decoder": lambda: unscaled(encoder=False),
        "class rows not scaled, encoder": lambda: unscaled(encoder=True),
        "mu starts as usual": lambda: another_start(usual_mu),
        "images start grey": lambda: another_start(grey_images),
        "pixel kernel starts as usual": lambda: another_start(usual_pixels),
        "beta_2 = 0.999": lambda: muon(adam_beta_2=0.999),
        "five iterations in Muon": lambda: muon(ns_steps=5),
    },
    vae.VAE: {
        "nothing undone": contextlib.nullcontext,
        "Adam alone": adam_alone,
        "mu starts as usual": lambda: another_start(usual_mu),
        "images start grey": lambda: another_start(grey_images),
    },
}


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
        for kind, changes in ABLATIONS.items():
            for name, change in changes.items():
                with change():
                    print_row(f"{kind.__name__}: {name}", kind, 1024, 10, judge)


if __name__ == "__main__":
    main()
