"""The README's results: three seeds of each run, and what each choice is worth. By hand, with MNIST at hand:

    python tests/results.py runs        both models, by batch size and number of epochs
    python tests/results.py ablation    the CVAE after 5 epochs at batch 1024, with one choice undone at a time
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
HEADER = ("loss in epoch 5", "in the last", "on test images", "% recognised", "of worst digit", "worst digits")


@contextlib.contextmanager
def not_compiled():
    """Runs every step eagerly."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def usual_loader(batch_size):
    """As `assignment.load_mnist`, from 60,000 single elements."""
    data = assignment.load_data()
    elements = tf.data.Dataset.from_tensor_slices((assignment._pixels(data.x_train), data.y_train))
    return elements.shuffle(len(elements)).batch(batch_size, drop_remainder=True)


ABLATIONS = {
    "nothing undone": contextlib.nullcontext(),
    "class rows not scaled, decoder": mock.patch.object(vae, "DECODER_CLASS_SCALE", 1.0),
    "class rows not scaled, encoder": mock.patch.object(vae, "ENCODER_CLASS_SCALE", 1.0),
    "posterior starts at sigma = 1": mock.patch.object(vae, "INITIAL_LOGVAR", 0.0),
    "images start grey": mock.patch.object(vae, "INITIAL_LOGIT", 0.0),
    "no warm-up": mock.patch.object(assignment, "WARMUP_STEPS", 1),
    "Adam's beta_2 = 0.999": mock.patch.object(assignment, "BETA_2", 0.999),
    "images loaded one by one": mock.patch.object(assignment, "load_mnist", usual_loader),
    "compiled without XLA": mock.patch.object(assignment, "USE_XLA", False),
    "not compiled": not_compiled(),
}


def measure(kind, batch_size, num_epochs, seed, classifier):
    """Trains and grades: losses of the fifth and last epoch, test loss, and of a CVAE recognised %, worst %, digit."""
    args = assignment.parseArguments(
        ["--batch_size", str(batch_size), "--num_epochs", str(num_epochs), "--seed", str(seed)])
    with contextlib.redirect_stdout(io.StringIO()):
        model, losses, _ = grade.train(kind, args)
    row = [losses[4], losses[-1], sum(assignment.evaluate(model, kind is vae.CVAE))]
    if kind is vae.CVAE:
        digits, images = grade.sample(model, seed)
        row += grade.recognition(grade.confusion_matrix(digits, grade.recognise(classifier, images)))
    return row


def print_row(name, kind, batch_size, num_epochs, classifier):
    """Prints the median over the seeds of each figure, the worst of them in parentheses."""
    rows = np.array([measure(kind, batch_size, num_epochs, seed, classifier) for seed in SEEDS])
    cells = [f"{np.median(values):.2f} ({worst(values):.2f})"
             for values, worst in zip(rows.T, (np.max, np.max, np.max, np.min, np.min))]
    cells += [" ".join(f"{digit:.0f}" for digit in digits) for digits in rows.T[5:]]
    print(f"| {' | '.join([name, *cells])} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("runs", "ablation"))
    what = parser.parse_args().what
    classifier = grade.load_classifier()
    print(f"{assignment.load_data().name}, seeds {SEEDS}: median (worst), TensorFlow {tf.__version__}\n"
          f"| | {' | '.join(HEADER)} |\n|{' --- |' * (len(HEADER) + 1)}", flush=True)
    if what == "runs":
        for kind in (vae.VAE, vae.CVAE):
            for batch_size in (1024, 128):
                for num_epochs in (5, 10):
                    name = f"{kind.__name__}, batch {batch_size}, {num_epochs} epochs"
                    print_row(name, kind, batch_size, num_epochs, classifier)
    else:
        for name, change in ABLATIONS.items():
            with change:
                print_row(name, vae.CVAE, 1024, 5, classifier)


if __name__ == "__main__":
    main()
