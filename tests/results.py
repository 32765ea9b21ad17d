"""The tables of results: what both models reach, and what each choice is worth. By hand, with MNIST at hand:

    python tests/results.py runs        by batch size, after 5 and after 10 epochs
    python tests/results.py ablation    the default run with one choice changed at a time
    python tests/results.py adam        Adam for every kernel, for as long as that, by peak rates; seed 0 alone

and behind it `vae` or `cvae`. A figure is the median of the seeds, the worst of them in parentheses. The ablation is in
differences from the medians of the default run; where the seeds of both runs overlap, a difference is in parentheses.
"""

import argparse
import pathlib
import sys
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "code"))

import assignment
import evaluation
import grade
import muon
import numpy as np
import tensorflow as tf
import vae
from evaluation import classify, evaluate
from mnist_images import load_data, to_pixels

SEEDS = (0, 1, 2)
ABLATION_SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 10
ADAM_EPOCHS = 13  # of Adam for every kernel in the time of the default run: 10 epochs, each "x Adam" of `bench.py`
ADAM_PEAKS = (0.15e-3, 0.3e-3, 0.6e-3, 1.2e-3)  # of --learning_rate; the rate at 1024 is 4.76 times that
ADAM_RATE = 0.6e-3  # the best of them, for both models
# The columns, and for each whether larger is better; the KL is neither good nor bad
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
LATENTS_USED = list(COLUMNS).index("latents used")


class Evaluator:
    """The grader's classifier, and its features of the training images."""

    def __init__(self):
        self.data = load_data()
        self.classifier = grade.load_classifier(self.data)
        self.real = grade.features(self.classifier, to_pixels(self.data.x_train))

    def distance(self, images):
        return evaluation.frechet_distance(self.real, grade.features(self.classifier, images))

    def measure(self, model, loss, seed):
        """The figures of `COLUMNS` of a model, the last three for a CVAE alone."""
        test = evaluate(model, self.data)
        digits, images = grade.sample(model, seed)
        used = np.sum(test.mu.var(axis=0) > 0.01)
        row = [loss, test.loss, test.kl, used, self.distance(images)]
        if isinstance(model, vae.CVAE):
            matrix = evaluation.confusion_matrix(digits, grade.read_digits(self.classifier, images))
            accuracy = evaluation.accuracy(matrix)
            read = np.argmax(classify(model, to_pixels(self.data.x_test)), axis=1)
            row += [accuracy.all, accuracy.worst, 100 * np.mean(read == self.data.y_test)]
        return row


def train_and_measure(evaluator, kind, seed, batch_size=1024, epochs=(EPOCHS,), learning_rate=None):
    """Trains a model. Returns the rows of `Evaluator.measure` after these numbers of epochs."""
    given = ["--batch_size", str(batch_size)]
    if learning_rate:
        given += ["--learning_rate", str(learning_rate)]
    args = assignment.parseArguments(given)
    tf.keras.utils.set_random_seed(seed)
    model = kind(784)
    train_loader = assignment.load_mnist(batch_size)
    rows = []
    for epoch in range(1, max(epochs) + 1):
        loss = assignment.train_vae(model, train_loader, args, kind is vae.CVAE) / len(train_loader)
        if epoch in epochs:
            rows.append(evaluator.measure(model, loss, seed))
    return rows


def print_row(name, cells):
    print(f"| {' | '.join([name, *cells])} |", flush=True)


def print_header(evaluator, seeds):
    distance = evaluator.distance(to_pixels(evaluator.data.x_test))
    about = f"{evaluator.data.name}, seeds {seeds}, TensorFlow {tf.__version__}"
    print(f"{about}; Fréchet distance of real test images {distance:.2f}")
    print_row("", COLUMNS)
    print_row("---", ["---"] * len(COLUMNS))


def fill(cells):
    """Cells for all columns: n/a for those that a VAE does not have."""
    return cells + ["n/a"] * (len(COLUMNS) - len(cells))


def run_cells(rows):
    """For each column the median of the seeds, and the worst."""
    worst = [values.min() if larger else values.max() for values, larger in zip(rows.T, COLUMNS.values())]
    cells = [f"{np.median(values):.2f} ({bad:.2f})" for values, bad in zip(rows.T, worst)]
    used = rows[:, LATENTS_USED]
    cells[LATENTS_USED] = f"{np.median(used):.0f} ({used.min():.0f} to {used.max():.0f})"
    return fill(cells)


def difference_cells(rows, default):
    """For each column the difference of the medians, in parentheses where the seeds of both overlap."""
    differences = np.median(rows, axis=0) - np.median(default, axis=0)
    overlap = (rows.min(axis=0) <= default.max(axis=0)) & (default.min(axis=0) <= rows.max(axis=0))
    cells = [f"({value:+.2f})" if same else f"{value:+.2f}" for value, same in zip(differences, overlap)]
    return fill(cells)


# ------------------------------------------------------------------------------------- the choices that can be changed


def adam_alone():
    """Adam for every kernel."""
    return mock.patch.object(muon, "MIN_MUON_BATCH_SIZE", 10**9)


def unscaled(name):
    """The class weights of the network of this name at their plain size."""
    scale = vae.scale_class_weights

    def scale_the_other(network, num_classes, factor):
        if network.name != name:
            scale(network, num_classes, factor)

    return mock.patch.object(vae, "scale_class_weights", scale_the_other)


HIDDEN = ("hidden_2", "hidden_3")  # the layers from one hidden layer to the next


def muon_for(**networks):
    """Muon's update for these kernels alone: for each network the names of its layers."""

    def chosen(model):
        return [kernel for network, names in networks.items() for kernel in muon.kernels(model, network, names)]

    return mock.patch.object(muon, "muon_kernels", chosen)


ABLATION = {
    vae.VAE: {},
    vae.CVAE: {
        "the pixels' kernel by Adam": lambda: muon_for(decoder=HIDDEN),
        "the encoder's kernels by Muon too": lambda: muon_for(encoder=HIDDEN, decoder=(*HIDDEN, "pixels")),
        "class weights not scaled in the decoder": lambda: unscaled("decoder"),
        "class weights not scaled in the encoder": lambda: unscaled("encoder"),
    },
}


def print_runs(evaluator, kind):
    """After 5 and after 10 epochs: the learning rate does not depend on the length of a run, so one serves both."""
    print_header(evaluator, SEEDS)
    for batch_size in (1024, 128):
        rows = [train_and_measure(evaluator, kind, seed, batch_size, (5, EPOCHS)) for seed in SEEDS]
        rows = np.array(rows)  # (seed, epoch, column)
        for i, epochs in enumerate((5, EPOCHS)):
            print_row(f"{kind.__name__}, batch {batch_size}, {epochs} epochs", run_cells(rows[:, i]))


def print_ablation(evaluator, kind):
    print_header(evaluator, ABLATION_SEEDS)
    default = np.concatenate([train_and_measure(evaluator, kind, seed) for seed in ABLATION_SEEDS])
    print_row(f"{kind.__name__}: the default run", run_cells(default))
    with adam_alone():
        options = {"epochs": (ADAM_EPOCHS,), "learning_rate": ADAM_RATE}
        rows = np.concatenate([train_and_measure(evaluator, kind, seed, **options) for seed in ABLATION_SEEDS])
    name = f"{kind.__name__}: Adam for every kernel, in as much time ({ADAM_EPOCHS} epochs)"
    print_row(name, difference_cells(rows, default))
    for name, change in ABLATION[kind].items():
        with change():
            rows = np.concatenate([train_and_measure(evaluator, kind, seed) for seed in ABLATION_SEEDS])
        print_row(f"{kind.__name__}: {name}", difference_cells(rows, default))


def print_adam(evaluator, kind):
    print_header(evaluator, SEEDS[:1])
    for peak in ADAM_PEAKS:
        with adam_alone():
            (row,) = train_and_measure(evaluator, kind, SEEDS[0], epochs=(ADAM_EPOCHS,), learning_rate=peak)
        cells = [f"{value:.2f}" for value in row]
        print_row(f"{kind.__name__}, {ADAM_EPOCHS} epochs by Adam, --learning_rate {peak:g}", fill(cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = {"runs": print_runs, "ablation": print_ablation, "adam": print_adam}
    kinds = {"vae": vae.VAE, "cvae": vae.CVAE}
    parser.add_argument("table", choices=tables)
    parser.add_argument("kind", choices=kinds)
    args = parser.parse_args()
    tables[args.table](Evaluator(), kinds[args.kind])


if __name__ == "__main__":
    main()
