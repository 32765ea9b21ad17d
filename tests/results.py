"""Prints the tables of results, for `vae` or `cvae`. To be run by hand, with MNIST at hand:

    python tests/results.py runs cvae        the default run, after 5 and after 10 epochs
    python tests/results.py batches cvae     other batch sizes
    python tests/results.py ablation cvae    the default run with one choice changed at a time
    python tests/results.py loops cvae       custom training loops and Keras' `fit`
    python tests/results.py small cvae       a few images only

All is in float32, on one thread. Two tables can be made at once on two cores.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "code"))

import assignment
import grade
import numpy as np
import tensorflow as tf
import vae
from assignment import is_conditional, load_data, to_pixels
from extras.evaluation import accuracy, confusion_matrix, evaluate, frechet_distance

SEEDS = (0, 1, 2)
EPOCHS = 10
ADAM_EPOCHS = 15  # of Adam for all weights in about the time of the default run: "x Adam" of `bench.py` is 1.4 to 1.5
ADAM_RATE = 0.003  # peak for Adam alone
# The columns of two tables, and for each whether larger is better; the KL is neither good nor bad
LOSSES = {"training loss, last epoch ↓": False, "test loss ↓": False, "KL": False, "active latents": False}
SAMPLES = {
    "Fréchet distance ↓": False,
    "sample accuracy, % ↑": True,
    "worst digit's sample accuracy, % ↑": True,
    "test accuracy, % ↑": True,
}
COLUMNS = {**LOSSES, **SAMPLES}
ACTIVE_LATENTS = list(COLUMNS).index("active latents")


class Evaluator:
    """The grader's classifier, and its features of the training images."""

    def __init__(self):
        self.data = load_data()
        self.classifier = grade.load_classifier(self.data)
        self.real = grade.features(self.classifier, to_pixels(self.data.x_train))

    def distance(self, images):
        """The Frechet distance of images to the training images."""
        return frechet_distance(self.real, grade.features(self.classifier, images))

    def measure(self, model, loss, seed):
        """The figures of `COLUMNS` of a model, the last three for a CVAE alone."""
        test = evaluate(model, self.data)
        digits, images = grade.sample(model, seed)
        active = np.sum(test.mu.var(axis=0) > 0.01)
        row = [loss, test.loss, test.kl, active, self.distance(images)]
        if is_conditional(model):
            of_samples = accuracy(confusion_matrix(digits, grade.predict_digits(self.classifier, images)))
            row += [of_samples.all, of_samples.worst, grade.accuracy_of_classify(model, self.data)]
        return row


def train_and_measure(evaluator, kind, seed, change=None, batch_size=1024, epochs=(EPOCHS,)):
    """Trains a model, after `change(model)`. Returns the rows of `Evaluator.measure` after these numbers of epochs."""
    tf.keras.utils.set_random_seed(seed)
    model = kind(784)
    if change:
        change(model)
    train_loader = assignment.load_mnist(batch_size)
    rows = []
    for epoch in range(1, max(epochs) + 1):
        total = assignment.train_vae(model, train_loader, None, is_conditional(model))
        if epoch in epochs:
            rows.append(evaluator.measure(model, float(total) / len(train_loader), seed))
    return rows


def print_row(name, cells):
    print(f"| {' | '.join([name, *cells])} |", flush=True)


def print_head(about, columns):
    print(f"{about}, {load_data().name}, TensorFlow {tf.__version__}")
    print_row("", columns)
    print_row("---", ["---"] * len(columns))


def print_tables(about, rows):
    """Prints rows (name, cells of all columns) as a table of losses and a table of samples."""
    for columns in (LOSSES, SAMPLES):
        print_head(about, columns)
        first = list(COLUMNS).index(next(iter(columns)))
        for name, cells in rows:
            print_row(name, cells[first : first + len(columns)])
        print()


def decimals(column):
    """How many decimals a column has."""
    return 0 if column == ACTIVE_LATENTS else 2


def fill(cells):
    """Cells for all columns: n/a for those that a VAE does not have."""
    return cells + ["n/a"] * (len(COLUMNS) - len(cells))


def run_cells(rows):
    """For each column the median of the seeds, and in parentheses the worst of them."""
    worst = [values.min() if larger else values.max() for values, larger in zip(rows.T, COLUMNS.values())]
    cells = [f"{np.median(values):.2f} ({bad:.2f})" for values, bad in zip(rows.T, worst)]
    active = rows[:, ACTIVE_LATENTS]
    cells[ACTIVE_LATENTS] = f"{np.median(active):.0f} ({active.min():.0f} to {active.max():.0f})"
    return fill(cells)


def difference_cells(row, default):
    """For each column the difference from the default run of the same seed.

    With a question mark where it is not larger than the range of the seeds of the default run.
    """
    cells = []
    for i, difference in enumerate(np.subtract(row, default[0])):
        cell = f"{difference:+.{decimals(i)}f}"
        cells.append(f"{cell} ?" if abs(difference) <= np.ptp(default[:, i]) else cell)
    return fill(cells)


# ------------------------------------------------------------------------------------------- a choice that is changed


def with_muon(*muon_layers, **options):
    """Trained by a `MuonAdam` with other layers or options."""

    def change(model):
        model.optimizer = vae.MuonAdam(muon_layers=muon_layers, **options)

    return change


def with_learning_rate(learning_rate):
    """Trained with another peak learning rate."""

    def change(model):
        model.optimizer.learning_rate = learning_rate

    return change


def with_class_weights(network, scale):
    """Without the factor of the initial class weights in a network, "encoder" or "decoder"."""

    def change(model):
        kernel = getattr(model, network).layers[0].kernel
        factors = np.repeat([1.0, 1 / scale], [kernel.shape[0] - 10, 10])
        kernel.assign(kernel * factors[:, np.newaxis].astype(np.float32))

    return change


def with_keras_default_logvar(model):
    """With Keras' default initializers in the layer of logvar."""
    layer = model.logvar_layer
    layer.kernel.assign(tf.keras.initializers.GlorotUniform()(layer.kernel.shape))
    layer.bias.assign(tf.zeros_like(layer.bias))


def with_logvar_bias(bias):
    """With another initial bias of the layer of logvar."""

    def change(model):
        model.logvar_layer.bias.assign(tf.fill(model.logvar_layer.bias.shape, bias))

    return change


ABLATION = {
    vae.VAE: {"initial bias of logvar -3, as in the CVAE": with_logvar_bias(-3.0)},
    vae.CVAE: {
        "initial bias of logvar -2, as in the VAE": with_logvar_bias(-2.0),
        "logvar layer: Keras' default initializer": with_keras_default_logvar,
        "Muon for the encoder too": with_muon("encoder_2", "encoder_3", "decoder_2", "decoder_3", "pixels"),
        "class weights not scaled in the decoder": with_class_weights("decoder", vae.DECODER_CLASS_SCALE),
        "class weights not scaled in the encoder": with_class_weights("encoder", vae.ENCODER_CLASS_SCALE),
    },
}


def print_runs(kind):
    """After 5 and after 10 epochs: the learning rate does not depend on the length of a run, so one serves both."""
    evaluator = Evaluator()
    distance = evaluator.distance(to_pixels(evaluator.data.x_test))
    rows = np.array([train_and_measure(evaluator, kind, seed, epochs=(5, EPOCHS)) for seed in SEEDS])
    table = [(f"{kind.__name__}, {epochs} epochs", run_cells(rows[:, i])) for i, epochs in enumerate((5, EPOCHS))]
    print_tables(f"Seeds {SEEDS}; Fréchet distance of real test images {distance:.2f}", table)


BATCHES = {  # batch size, learning rate
    "batch 128": (128, None),
    "batch 128, `--learning_rate 0.004`": (128, 0.004),
    "batch 4096": (4096, None),
}


def print_batches(kind):
    evaluator = Evaluator()
    table = []
    for name, (batch_size, learning_rate) in BATCHES.items():
        change = with_learning_rate(learning_rate) if learning_rate else None
        rows = train_and_measure(evaluator, kind, SEEDS[0], change, batch_size, epochs=(5, EPOCHS))
        for epochs, row in zip((5, EPOCHS), rows):
            cells = [f"{value:.{decimals(i)}f}" for i, value in enumerate(row)]
            table.append((f"{kind.__name__}, {name}, {epochs} epochs", fill(cells)))
    print_tables(f"Seed {SEEDS[0]}", table)


def print_ablation(kind):
    """The default run of all seeds, and with one choice changed that of the first seed."""
    evaluator = Evaluator()
    default = np.concatenate([train_and_measure(evaluator, kind, seed) for seed in SEEDS])
    table = [(f"{kind.__name__}: the default run", run_cells(default))]
    by_adam = with_muon(learning_rate=ADAM_RATE)
    (row,) = train_and_measure(evaluator, kind, SEEDS[0], by_adam, epochs=(ADAM_EPOCHS,))
    name = f"{kind.__name__}: Adam for all weights, {ADAM_EPOCHS} epochs in about the same training time"
    table.append((name, difference_cells(row, default)))
    for name, change in ABLATION[kind].items():
        (row,) = train_and_measure(evaluator, kind, SEEDS[0], change)
        table.append((f"{kind.__name__}: {name}", difference_cells(row, default)))
    print_tables(f"Seeds {SEEDS}; changed runs: seed {SEEDS[0]}", table)


# ----------------------------------------------------------------------------------------- custom training loops


def course_loader(batch_size):
    """Batches as the course's stencil makes them, shuffled among 1,024 images."""
    data = load_data()
    images = tf.data.Dataset.from_tensor_slices((to_pixels(data.x_train), data.y_train))
    return images.shuffle(1024).batch(batch_size, drop_remainder=True)


def standard_loop(model, optimizer, batch_size, epochs=5):
    """The standard training loop of this homework, as a graph: the average loss of the last epoch."""

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            if is_conditional(model):
                x_hat, mu, logvar = model(images, assignment.one_hot(labels, 10))
            else:
                x_hat, mu, logvar = model(images)
            loss = vae.loss_function(x_hat, images, mu, logvar)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    loader = course_loader(batch_size)
    for _ in range(epochs):
        losses = [float(step(images, labels)) for images, labels in loader]
    return np.mean(losses)


def by_fit(model, epochs=5):
    """Keras' `fit`, as the README has it: the loss of the last epoch."""
    model.compile(optimizer=model.optimizer)
    loader = assignment.load_mnist(1024)
    if is_conditional(model):
        loader = loader.map(lambda x, y: ((x, assignment.one_hot(y, 10)),))
    return model.fit(loader, epochs=epochs, verbose=0).history["loss"][-1]


LOOPS = {
    "`model.optimizer`, batch 1024": lambda model: standard_loop(model, model.optimizer, 1024),
    "Adam(1e-3), batch 1024": lambda model: standard_loop(model, tf.keras.optimizers.Adam(1e-3), 1024),
    "`fit` with `model.optimizer`, batch 1024": by_fit,
}


def print_loops(kind):
    print_head("Training loss of the fifth epoch, nats", [f"seed {seed}" for seed in SEEDS])
    for name, loop in LOOPS.items():
        cells = []
        for seed in SEEDS:
            tf.keras.utils.set_random_seed(seed)
            cells.append(f"{loop(kind(784)):.1f}")
        print_row(f"{kind.__name__}, {name}", cells)


# --------------------------------------------------------------------------------------------------- small data

SMALL = {  # images, batch size, epochs
    "one batch of 32, 20 epochs": (32, 32, 20),
    "256 images, batch 32, 5 epochs": (256, 32, 5),
    "1,000 images, batch 100, 5 epochs": (1000, 100, 5),
    "5,000 images, batch 128, 5 epochs": (5000, 128, 5),
}


def print_small(kind):
    optimizers = {"`model.optimizer`": None, "Adam(1e-3)": lambda: tf.keras.optimizers.Adam(1e-3)}
    print_head("Training loss of the first and the last epoch, nats; seed 0", optimizers)
    data = load_data()
    for name, (count, batch_size, epochs) in SMALL.items():
        images = to_pixels(data.x_train[:count])
        loader = tf.data.Dataset.from_tensor_slices((images, data.y_train[:count]))
        loader = loader.shuffle(count).batch(batch_size)
        cells = []
        for optimizer in optimizers.values():
            tf.keras.utils.set_random_seed(0)
            model = kind(784)
            if optimizer:
                model.optimizer = optimizer()
            losses = []
            for _ in range(epochs):
                total = float(assignment.train_vae(model, loader, None, is_conditional(model)))
                losses.append(total / len(loader))
            cells.append(f"{losses[0]:.0f} → {losses[-1]:.0f}")
        print_row(f"{kind.__name__}, {name}", cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = {
        "runs": print_runs,
        "batches": print_batches,
        "ablation": print_ablation,
        "loops": print_loops,
        "small": print_small,
    }
    kinds = {"vae": vae.VAE, "cvae": vae.CVAE}
    parser.add_argument("table", choices=tables)
    parser.add_argument("kind", choices=kinds)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)  # sums in one order, whatever else the machine does
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tables[args.table](kinds[args.kind])


if __name__ == "__main__":
    main()
