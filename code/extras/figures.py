"""Draws what `assignment.main` shows beyond the handout's grids: losses, reconstructions, latent space, classes.

The `show_*` functions take a model and draw its picture; the `draw_*` functions take arrays.
"""

import matplotlib.style
import numpy as np
import tensorflow as tf
from assignment import draw_grid, forward, is_conditional, model_type, one_hot, save_figure, title, to_pixels
from extras.evaluation import classify, evaluate, principal_axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

LOSS_LIMIT = 120  # limit of the training loss in epoch LIMIT_EPOCH, nats per image (handout, "Train our VAE")
LIMIT_EPOCH = 5


def show_training(model, data):
    """Draws the pictures of a trained model for which the test images or the losses are needed. Returns their paths."""
    paths = [show_losses(model), show_reconstructions(model, data)]
    mu = evaluate(model, data).mu
    if mu.shape[1] == 2:
        paths.append(show_two_latents(model, data, mu))
    elif mu.shape[1] > 2 and len(mu) > 1:  # principal axes need two images
        paths.append(show_latent_space(model, data, mu))
    if is_conditional(model) and hasattr(model, "encode"):  # the CVAE of another vae.py may have no such method
        paths.append(show_cvae_classes(model, data))
    if mu.shape[1] == 2 and not is_conditional(model):
        paths.append(show_vae_manifold(model))
    return paths


def show_losses(model):
    """Draws `outputs/{vae,cvae}_loss.png` from `model.run.history`, see `assignment.train`. Returns its path."""
    history = model.run.history
    train = [epoch["train_loss"] for epoch in history]
    reconstruction = [epoch["test_reconstruction"] for epoch in history]
    kl = [epoch["test_kl"] for epoch in history]
    name = f"{model_type(model)}_loss.png"
    return draw_losses(name, train, reconstruction, kl, (LIMIT_EPOCH, LOSS_LIMIT), title(model, "loss"))


def show_reconstructions(model, data):
    """Draws `outputs/{vae,cvae}_reconstructions.png`: two test images of each digit. Returns its path."""
    images, labels = examples_of_each_digit(data, 2)
    x_hat, _, _ = forward(model, images, labels, is_conditional(model))
    rows = np.concatenate([images, x_hat])
    text = title(model, "test images and reconstructions")
    name = f"{model_type(model)}_reconstructions.png"
    return draw_grid(name, rows, len(images), text, row_labels=["test image", "reconstruction"])


def examples_of_each_digit(data, count):
    """Returns the first `count` test images of each digit, float32 (10 * count, 1, 28, 28), and their labels."""
    chosen = np.concatenate([np.flatnonzero(data.y_test == digit)[:count] for digit in range(10)])
    return to_pixels(data.x_test[chosen]), data.y_test[chosen]


def show_latent_space(model, data, mu):
    """Draws `outputs/{vae,cvae}_latent_space.png`: the test images' mu (N, Z) on two axes. Returns its path."""
    axes, shares = principal_axes(mu)
    names = [f"principal component {i + 1}, {shares[i]:.0%} of the variance" for i in (0, 1)]
    text = title(model, "posterior means of the test images")
    return draw_latent_space(f"{model_type(model)}_latent_space.png", mu @ axes.T, names, data.y_test, text)


def show_two_latents(model, data, mu):
    """Draws `outputs/{vae,cvae}_two_latents.png`: the test images' mu (N, 2). Returns its path."""
    text = title(model, "posterior means of the test images")
    return draw_latent_space(f"{model_type(model)}_two_latents.png", mu, ["$z_1$", "$z_2$"], data.y_test, text)


def show_vae_manifold(model):
    """Draws `outputs/vae_manifold.png`: 20 x 20 quantiles of a prior of two latents. Returns its path.

    As figure 4 of Kingma & Welling, https://arxiv.org/abs/1312.6114.
    """
    quantiles = tf.math.ndtri((tf.range(20.0) + 0.5) / 20)
    z = tf.reshape(tf.stack(tf.meshgrid(quantiles, quantiles[::-1]), axis=-1), (-1, 2))  # z_2 grows upwards
    return draw_grid("vae_manifold.png", model.decoder(z), 20, title(model, "20 x 20 grid over its two latents"))


def show_cvae_classes(model, data):
    """Draws `outputs/cvae_classes.png`: test images, decoded as every class; prediction framed. Returns its path."""
    images, labels = examples_of_each_digit(data, 1)
    mu, _ = model.encode(images, one_hot(labels, model.num_classes))
    gap = np.full(images.shape, np.nan)
    columns = [images, gap]
    for class_ in range(model.num_classes):
        c = one_hot(np.full(len(images), class_), model.num_classes)
        columns.append(model.decode(mu, c))
    by_row = np.stack(columns, axis=1).reshape(-1, *images.shape[1:])  # of each row the image, then each class
    predicted = np.argmax(classify(model, images), axis=1)
    text = title(model, "test images, decoded as every class; prediction framed")
    headings = ["test image", "", *range(model.num_classes)]
    return draw_grid("cvae_classes.png", by_row, len(columns), text, labels, headings, framed=2 + predicted)


@matplotlib.style.context("default")
def draw_latent_space(name, points, names, labels, title):
    """Draws points (N, 2) colored by their labels (N,), 0 to 9, and each label at the median of its points.

    `names` are the labels of the two axes. Returns the path of the picture.
    """
    labels = np.asarray(labels)
    figure = Figure((6, 6))
    plot = figure.add_subplot(title=title, xlabel=names[0], ylabel=names[1], aspect="equal")
    plot.scatter(points[:, 0], points[:, 1], c=labels, cmap="tab10", vmin=0, vmax=9, s=5, alpha=0.5, linewidths=0)
    for label in np.unique(labels):
        x, y = np.median(points[labels == label], axis=0)
        text = plot.text(x, y, label, color=f"C{label}", size=13, weight="bold", ha="center", va="center")
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    return save_figure(name, figure)


@matplotlib.style.context("default")
def draw_losses(name, train, reconstruction, kl, limit, title):
    """Draws losses by epoch, in nats per image: the test loss and its terms; training and test loss at a larger scale.

    `limit` is a pair: an epoch, and the value that the training loss must be below in it. Returns the path of the
    picture.
    """
    figure = Figure((9, 4), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharex=True)
    for plot in (left, right):
        plot.set(xlabel="epoch", ylabel="nats per image")
        plot.spines[["top", "right"]].set_visible(False)  # the labels of the lines stand there
    plot_terms(left, reconstruction, kl)
    plot_end(right, train, np.add(reconstruction, kl), limit)
    return save_figure(name, figure)


def plot_terms(plot, reconstruction, kl):
    """Plots the test loss and its two terms, on an axis that starts at 0."""
    epochs = np.arange(1, len(kl) + 1)
    test = np.add(reconstruction, kl)
    plot.plot(epochs, test, "C1o-", label="test loss")
    plot.plot(epochs, reconstruction, "C2^-", label="reconstruction")
    plot.plot(epochs, kl, "C3v-", label="KL")
    plot.set(title="test loss and its two terms", ylim=(0, 1.1 * max(test)))
    label_lines(plot)


def plot_end(plot, train, test, limit):
    """Plots the training and the test loss at the scale of the second half of the epochs, where they change little."""
    epochs = np.arange(1, len(train) + 1)
    plot.plot(epochs, train, "C0o--", label="training loss")
    plot.plot(epochs, test, "C1o-", label="test loss")
    middle = (len(train) - 1) // 2
    shown = [limit[1], *train[middle:], *test[middle:]]
    margin = 0.1 * np.ptp(shown)
    plot.set(title="training and test loss, magnified", ylim=(min(shown) - margin, max(shown) + margin))
    label_lines(plot)
    plot.axvline(limit[0], color="gray", linestyle=":")
    plot.axhline(limit[1], color="gray", linestyle="--")
    plot.annotate(f"limit for epoch {limit[0]}: {limit[1]}", limit, (5, 5), textcoords="offset points")


def label_lines(plot):
    """Writes the label of each line at its right end; of two that would overlap, the upper one is moved up."""
    low, high = plot.get_ylim()
    free = low  # the lowest place where there is no text yet
    for line in sorted(plot.lines, key=lambda line: line.get_ydata()[-1]):
        x, y = line.get_xydata()[-1]
        y = max(y, free)
        place = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        plot.annotate(line.get_label(), (x, y), color=line.get_color(), **place)
        free = y + 0.06 * (high - low)


@matplotlib.style.context("default")
def draw_confusion(name, matrix, title):
    """Draws counts (10, 10): rows are requested digits, columns predicted ones. Returns the path of the picture."""
    figure = Figure((5.4, 5.2))
    plot = figure.add_subplot(title=title, xlabel="predicted digit", ylabel="requested digit")
    plot.imshow(np.sqrt(matrix), cmap="Blues")  # the square root, so that a few mistakes are visible
    plot.set(xticks=range(10), yticks=range(10))
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "white" if row == column else "black"
            plot.text(column, row, count, ha="center", va="center", color=color)
    return save_figure(name, figure)
