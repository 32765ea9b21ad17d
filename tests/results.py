"""The tables of results: three seeds of each run, and what each choice is worth. By hand, with MNIST at hand:

    python tests/results.py runs        both models, by batch size and number of epochs
    python tests/results.py ablation    the default run with one choice removed at a time

A figure is the median of the seeds, the worst of them in parentheses. The ablation is in differences from the medians
of the default run; where the three seeds of both runs overlap, a difference is in parentheses.
"""

import argparse
import contextlib
import io
import pathlib
import sys
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "code"))

import assignment
import grade
import numpy as np
import tensorflow as tf
import vae

SEEDS = (0, 1, 2)
# The columns, and for each whether larger is better
COLUMNS = {
    "loss of the last training epoch, nats ↓": False,
    "test loss, nats ↓": False,
    "KL of it, nats": False,
    "latents used": False,
    "Fréchet distance ↓": False,
    "accuracy of samples, % ↑": True,
    "of the worst digit, % ↑": True,
    "test images read, % ↑": True,
}
RUNS = [(kind, *run) for kind in (vae.VAE, vae.CVAE) for run in ((1024, 5), (1024, 10), (128, 10))]


class Evaluator:
    """The grader's classifier, and its features of the training images."""

    def __init__(self):
        self.classifier = grade.load_classifier()
        self.real = grade.features(self.classifier, assignment.to_pixels(assignment.load_data().x_train))

    def distance(self, images):
        return grade.frechet_distance(self.real, grade.features(self.classifier, images))


def measure(kind, batch_size, num_epochs, seed, evaluator):
    """Trains and grades: the figures of `COLUMNS`, the last three for a CVAE alone."""
    args = assignment.parseArguments(
        ["--batch_size", str(batch_size), "--num_epochs", str(num_epochs), "--seed", str(seed)]
    )
    with contextlib.redirect_stdout(io.StringIO()):
        model, losses, _ = grade.train(kind, args)
    reconstruction, kl, mu = assignment.evaluate(model)
    digits, images = grade.sample(model, seed)
    used = np.sum(mu.var(axis=0) > 0.01)
    row = [losses[-1], reconstruction + kl, kl, used, evaluator.distance(images)]
    if kind is vae.CVAE:
        data = assignment.load_data()
        read = np.argmax(assignment.classify(model, assignment.to_pixels(data.x_test)), axis=1)
        matrix = grade.confusion_matrix(digits, grade.read_digits(evaluator.classifier, images))
        row += [*grade.accuracy(matrix)[:2], 100 * np.mean(read == data.y_test)]
    return row


def three_seeds(kind, batch_size, num_epochs, evaluator):
    return np.array([measure(kind, batch_size, num_epochs, seed, evaluator) for seed in SEEDS])


def print_row(name, cells):
    print(f"| {' | '.join([name, *cells])} |", flush=True)


def print_header(evaluator):
    real = assignment.to_pixels(assignment.load_data().x_test)
    distance = f"Fréchet distance of real test images {evaluator.distance(real):.2f}"
    print(f"{assignment.load_data().name}, seeds {SEEDS}, TensorFlow {tf.__version__}; {distance}")
    print_row("", COLUMNS)
    print_row("---", ["---"] * len(COLUMNS))


def run_cells(rows):
    """For each column the median of the seeds, and the worst."""
    worst = [values.min() if larger else values.max() for values, larger in zip(rows.T, COLUMNS.values())]
    cells = [f"{np.median(values):.2f} ({bad:.2f})" for values, bad in zip(rows.T, worst)]
    cells[3] = f"{np.median(rows[:, 3]):.0f} ({rows[:, 3].min():.0f} to {rows[:, 3].max():.0f})"
    return cells + ["n/a"] * (len(COLUMNS) - len(cells))


def difference_cells(rows, default):
    """For each column the difference of the medians, in parentheses where the seeds of both overlap."""
    differences = np.median(rows, axis=0) - np.median(default, axis=0)
    overlap = (rows.min(axis=0) <= default.max(axis=0)) & (default.min(axis=0) <= rows.max(axis=0))
    cells = [f"({value:+.2f})" if same else f"{value:+.2f}" for value, same in zip(differences, overlap)]
    return cells + ["n/a"] * (len(COLUMNS) - len(cells))


def unscaled(name):
    """The class weights of the network of this name at their plain size."""
    make = vae.CVAE.__init__

    def changed(model, *args, **sizes):
        make(model, *args, **sizes)
        kernel = getattr(model, name).get_layer("hidden_1").kernel
        kernel.assign(tf.concat([kernel[:-10], kernel[-10:] / model.image_size], axis=0))

    return mock.patch.object(vae.CVAE, "__init__", changed)


def muon_in_the_encoder():
    """Muon's update for all kernels between hidden layers, as in a VAE, and for the CVAE's pixels."""
    make = vae.MuonAdam.__init__

    def changed(optimizer, variables, muon_kernels):
        between = [v for v in variables if len(v.shape) == 2 and v.shape[0] == v.shape[1]]
        make(optimizer, variables, between + muon_kernels[2:])

    return mock.patch.object(vae.MuonAdam, "__init__", changed)


def glorot_posterior():
    """Keras' own initial weights of mu and logvar."""
    dense = tf.keras.layers.Dense
    return mock.patch.object(vae, "posterior_layers", lambda z: [dense(z, name=name) for name in ("mu", "logvar")])


CHANGES = {
    "Adam for every kernel": lambda: mock.patch.object(assignment, "MUON_BATCH_SIZE", 10**9),
    "Keras' initial weights of mu and logvar": glorot_posterior,
    "Muon's update in the encoder too": muon_in_the_encoder,
    "class weights not scaled in the decoder": lambda: unscaled("decoder"),
    "class weights not scaled in the encoder": lambda: unscaled("encoder"),
}
ABLATION = [*((vae.VAE, name) for name in list(CHANGES)[:2]), *((vae.CVAE, name) for name in CHANGES)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("runs", "ablation"))
    what = parser.parse_args().what
    evaluator = Evaluator()
    print_header(evaluator)
    if what == "runs":
        for kind, batch_size, num_epochs in RUNS:
            name = f"{kind.__name__}, batch {batch_size}, {num_epochs} epochs"
            print_row(name, run_cells(three_seeds(kind, batch_size, num_epochs, evaluator)))
        return
    default = {kind: three_seeds(kind, 1024, 10, evaluator) for kind in (vae.VAE, vae.CVAE)}
    for kind, name in ABLATION:
        with CHANGES[name]():
            rows = three_seeds(kind, 1024, 10, evaluator)
        print_row(f"{kind.__name__}: {name}", difference_cells(rows, default[kind]))


if __name__ == "__main__":
    main()
