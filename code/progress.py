"""The bar that shows how far an epoch is, to those who watch."""

import operator
import sys

import tensorflow as tf

EVERY = 10  # batches: it is not shown for each, since reading the loss waits for the step


class ProgressBar:
    """Keras' bar with the average loss so far, in a terminal or a notebook; it is gone at the end of the epoch."""

    def __init__(self, loader):
        self.watched = is_watched(sys.stdout)
        self.num_batches = operator.length_hint(loader)  # 0 if it is not known
        self.bar = tf.keras.utils.Progbar(
            self.num_batches or None, verbose=int(self.watched), stateful_metrics=["loss"]
        )

    def show(self, number, total):
        """Shows that so many batches are done, with this sum of their losses, a scalar."""
        if self.watched and number % EVERY == 0 and number != self.num_batches:  # Keras keeps the bar after the last
            self.bar.update(number, [("loss", float(total) / number)])

    def clear(self):
        """Removes the bar."""
        if self.watched:
            print("\r\x1b[K", end="", flush=True)


def is_watched(stream):
    """Whether a stream is a terminal or a notebook, where somebody sees a progress bar. It may be None."""
    is_terminal = hasattr(stream, "isatty") and stream.isatty()
    return stream is not None and (is_terminal or "ipykernel" in sys.modules)
