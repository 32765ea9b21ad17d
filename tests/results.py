"""The tables of results: what both models reach, and what each choice is worth. By hand, with MNIST at hand:

    python tests/results.py runs        by batch size, after 5 and after 10 epochs
    python tests/results.py ablation    the default run with one choice changed at a time
    python tests/results.py loops       other loops than `train_vae`: the usual one of this homework, and Keras' `fit`

and behind it `vae` or `cvae`. Figures are medians of the seeds, but those of the loops. All is in float32.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "code"))

import assignment
import grade
import muon
import numpy as np
import tensorflow as tf
import vae
from evaluation import accuracy, classify, confusion_matrix, evaluate, frechet_distance
from forward import is_conditional
from mnist_images import load_data, to_pixels

SEEDS = (0, 1, 2)
EPOCHS = 10
ADAM_EPOCHS = 13  # of Adam for every kernel in the time of the default run: 10 epochs, each "x Adam" of `bench.py`
ADAM_RATE = 0.36e-3  # of --learning_rate for Adam alone, a quarter of Muon's; the rate at 1024 is eight times that
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
        """The Frechet distance of images to the training images."""
        return frechet_distance(self.real, grade.features(self.classifier, images))

    def measure(self, model, loss, seed):
        """The figures of `COLUMNS` of a model, the last three for a CVAE alone."""
        test = evaluate(model, self.data)
        digits, images = grade.sample(model, seed)
        used = np.sum(test.mu.var(axis=0) > 0.01)
        row = [loss, test.loss, test.kl, used, self.distance(images)]
        if is_conditional(model):
            of_samples = accuracy(confusion_matrix(digits, grade.read_digits(self.classifier, images)))
            read = np.argmax(classify(model, to_pixels(self.data.x_test)), axis=1)
            row += [of_samples.all, of_samples.worst, 100 * np.mean(read == self.data.y_test)]
        return row


def train_and_measure(evaluator, kind, seed, change=None, batch_size=1024, epochs=(EPOCHS,), learning_rate=muon.PEAK):
    """Trains a model, after `change(model)`. Returns the rows of `Evaluator.measure` after these numbers of epochs."""
    args = argparse.Namespace(learning_rate=learning_rate)
    tf.keras.utils.set_random_seed(seed)
    model = kind(784)
    if change:
        change(model)
    train_loader = assignment.load_mnist(batch_size)
    rows = []
    for epoch in range(1, max(epochs) + 1):
        loss = assignment.train_vae(model, train_loader, args, is_conditional(model)) / len(train_loader)
        if epoch in epochs:
            rows.append(evaluator.measure(model, loss, seed))
    return rows


def print_row(name, cells):
    print(f"| {' | '.join([name, *cells])} |", flush=True)


def print_head(about, columns):
    print(f"{about}, {load_data().name}, TensorFlow {tf.__version__}")
    print_row("", columns)
    print_row("---", ["---"] * len(columns))


def fill(cells):
    """Cells for all columns: n/a for those that a VAE does not have."""
    return cells + ["n/a"] * (len(COLUMNS) - len(cells))


def run_cells(rows):
    """For each column the median of the seeds, and in parentheses the worst of them."""
    worst = [values.min() if larger else values.max() for values, larger in zip(rows.T, COLUMNS.values())]
    cells = [f"{np.median(values):.2f} ({bad:.2f})" for values, bad in zip(rows.T, worst)]
    used = rows[:, LATENTS_USED]
    cells[LATENTS_USED] = f"{np.median(used):.0f} ({used.min():.0f} to {used.max():.0f})"
    return fill(cells)


def difference_cells(rows, default):
    """For each column the difference of the medians, with a question mark where the seeds of both overlap."""
    differences = np.median(rows, axis=0) - np.median(default, axis=0)
    overlap = (rows.min(axis=0) <= default.max(axis=0)) & (default.min(axis=0) <= rows.max(axis=0))
    cells = [f"{value:+.2f} ?" if same else f"{value:+.2f}" for value, same in zip(differences, overlap)]
    return fill(cells)


# ------------------------------------------------------------------------------------------- a choice that is changed


def with_optimizer(**options):
    """Trained by the project's optimizer with other options."""

    def change(model):
        model.optimizer = muon.new_optimizer(model, **options)

    return change


def with_class_weights(network, scale):
    """Without the factor of the initial class weights in a network, "encoder" or "decoder"."""
    return lambda model: vae.scale_class_weights(getattr(model, network), 10, 1 / (scale * model.image_size))


def with_start(*layers):
    """With Keras' own initial weights in some layers, of which `layers` are the paths."""

    def change(model):
        for path in layers:
            layer = model.decoder.get_layer("pixels") if path == "pixels" else getattr(model, path)
            layer.kernel.assign(tf.keras.initializers.GlorotUniform()(layer.kernel.shape))
            layer.bias.assign(tf.zeros_like(layer.bias))

    return change


START_OF_POSTERIOR = {"mu and logvar start as in Keras": with_start("mu_layer", "logvar_layer")}
ABLATION = {
    vae.VAE: {**START_OF_POSTERIOR, "the pixels start as in Keras": with_start("pixels")},
    vae.CVAE: {
        **START_OF_POSTERIOR,
        "the pixels' kernel by Adam": with_optimizer(muon_layers=("decoder_2", "decoder_3")),
        "the encoder's kernels by Muon too": with_optimizer(
            muon_layers=("encoder_2", "encoder_3", "decoder_2", "decoder_3", "pixels")
        ),
        "class weights not scaled in the decoder": with_class_weights("decoder", vae.DECODER_CLASS_SCALE),
        "class weights not scaled in the encoder": with_class_weights("encoder", vae.ENCODER_CLASS_SCALE),
    },
}
by_adam = with_optimizer(muon_layers=())


def print_runs(kind):
    """After 5 and after 10 epochs: the learning rate does not depend on the length of a run, so one serves both."""
    evaluator = Evaluator()
    distance = evaluator.distance(to_pixels(evaluator.data.x_test))
    print_head(f"Seeds {SEEDS}; Fréchet distance of real test images {distance:.2f}", COLUMNS)
    for batch_size in (1024, 128):
        rows = [train_and_measure(evaluator, kind, seed, batch_size=batch_size, epochs=(5, EPOCHS)) for seed in SEEDS]
        rows = np.array(rows)  # (seed, epoch, column)
        for i, epochs in enumerate((5, EPOCHS)):
            print_row(f"{kind.__name__}, batch {batch_size}, {epochs} epochs", run_cells(rows[:, i]))


def print_ablation(kind):
    evaluator = Evaluator()
    print_head(f"Seeds {SEEDS}", COLUMNS)
    default = np.concatenate([train_and_measure(evaluator, kind, seed) for seed in SEEDS])
    print_row(f"{kind.__name__}: the default run", run_cells(default))
    options = {"epochs": (ADAM_EPOCHS,), "learning_rate": ADAM_RATE}
    rows = np.concatenate([train_and_measure(evaluator, kind, seed, by_adam, **options) for seed in SEEDS])
    name = f"{kind.__name__}: Adam for every kernel, in as much time ({ADAM_EPOCHS} epochs)"
    print_row(name, difference_cells(rows, default))
    for name, change in ABLATION[kind].items():
        rows = np.concatenate([train_and_measure(evaluator, kind, seed, change) for seed in SEEDS])
        print_row(f"{kind.__name__}: {name}", difference_cells(rows, default))


# ----------------------------------------------------------------------------------------- other loops than `train_vae`


def course_loader(batch_size):
    """Batches as the course's stencil makes them, shuffled among 1,024 images."""
    data = load_data()
    images = tf.data.Dataset.from_tensor_slices((to_pixels(data.x_train), data.y_train))
    return images.shuffle(1024).batch(batch_size, drop_remainder=True)


def usual_loop(model, optimizer, batch_size, epochs=5):
    """The loop as this homework's solutions have it, as a graph: the average loss of the last epoch."""

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


def from_keras_start(model):
    """The usual loop with Adam(1e-3), where mu and logvar start as in Keras."""
    with_start("mu_layer", "logvar_layer")(model)
    return usual_loop(model, tf.keras.optimizers.Adam(1e-3), 1024)


def by_fit(model, epochs=5):
    """Keras' `fit`, as the README has it: the loss of the last epoch."""
    model.compile(optimizer=muon.new_optimizer(model))
    loader = assignment.load_mnist(1024)
    if is_conditional(model):
        loader = loader.map(lambda x, y: ((x, assignment.one_hot(y, 10)),))
    return model.fit(loader, epochs=epochs, verbose=0).history["loss"][-1]


LOOPS = {
    "`model.optimizer`, batch 1024": lambda model: usual_loop(model, model.optimizer, 1024),
    "Adam(1e-3), batch 1024": lambda model: usual_loop(model, tf.keras.optimizers.Adam(1e-3), 1024),
    "Adam(1e-3), batch 1024, mu and logvar start as in Keras": from_keras_start,
    "`model.optimizer`, batch 128": lambda model: usual_loop(model, model.optimizer, 128),
    "`fit` with `muon.new_optimizer(model)`, batch 1024": by_fit,
}


def print_loops(kind):
    print_head("Training loss of the fifth epoch, nats", [f"seed {seed}" for seed in SEEDS])
    for name, loop in LOOPS.items():
        cells = []
        for seed in SEEDS:
            tf.keras.utils.set_random_seed(seed)
            cells.append(f"{loop(kind(784)):.1f}")
        print_row(f"{kind.__name__}, {name}", cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = {"runs": print_runs, "ablation": print_ablation, "loops": print_loops}
    kinds = {"vae": vae.VAE, "cvae": vae.CVAE}
    parser.add_argument("table", choices=tables)
    parser.add_argument("kind", choices=kinds)
    args = parser.parse_args()
    tables[args.table](kinds[args.kind])


if __name__ == "__main__":
    main()
