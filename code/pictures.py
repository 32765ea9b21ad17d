"""Drawing: arrays in, a PNG out. It does not know the models.

All is drawn with matplotlib's default settings, whatever the user's own are.
"""

import functools

import matplotlib.style
import numpy as np
from files import new_file
from matplotlib.figure import Figure


def with_default_settings(draw):
    """A function that draws with matplotlib's default settings."""

    @functools.wraps(draw)
    def draw_with_default_settings(*args, **options):
        with matplotlib.style.context("default"):
            return draw(*args, **options)

    return draw_with_default_settings


@with_default_settings
def draw_grid(path, images, columns, title, row_labels=(), framed=()):
    """Draws images (N, 1, H, W) in [0, 1] row by row, white on black.

    `row_labels` are texts for the rows. `framed` has the column of the image to frame, for each row.
    """
    rows = len(images) // columns
    height, width = images.shape[2:]
    by_cell = np.reshape(images, (rows, columns, height, width))
    grid = by_cell.swapaxes(1, 2).reshape(rows * height, columns * width)

    # All in inches: an image is half an inch, which is 2 x 28 pixels of the picture
    margin = 0.05
    left = 0.35 if len(row_labels) else margin
    top = 0.35
    figure_width = left + columns / 2 + margin
    figure_height = top + rows / 2 + margin
    figure = Figure((figure_width, figure_height), dpi=112)
    box = (left / figure_width, margin / figure_height, columns / 2 / figure_width, rows / 2 / figure_height)
    plot = figure.add_axes(box)
    plot.set_axis_off()
    # The extent makes an image 1 wide and 1 high, with row 0 at the top
    plot.imshow(grid, "gray", vmin=0, vmax=1, extent=(0, columns, rows, 0), interpolation="nearest")
    for row, label in enumerate(row_labels):
        plot.text(-0.3, row + 0.5, label, ha="center", va="center")
    for row, column in enumerate(framed):
        plot.plot(column + 0.5, row + 0.5, "s", markersize=33, fillstyle="none", color="orange", markeredgewidth=2)
    figure.text(left / figure_width, 1 - top / 2 / figure_height, title, va="center")
    save_figure(figure, path)


@with_default_settings
def draw_latent_space(path, points, shares, labels, title):
    """Draws points (N, 2) coloured by their labels (N,), 0 to 9.

    The two numbers of a point are principal components, of which `shares` has the parts of the variance, 0 to 1.
    """
    figure = Figure(layout="constrained")
    plot = figure.add_subplot(
        title=title,
        xlabel=f"principal component 1, {shares[0]:.0%} of the variance",
        ylabel=f"principal component 2, {shares[1]:.0%} of the variance",
    )
    shown = plot.scatter(points[:, 0], points[:, 1], c=labels, cmap="tab10", s=2)
    figure.legend(*shown.legend_elements(num=None), title="digit", loc="outside right upper")
    save_figure(figure, path)


@with_default_settings
def draw_losses(path, train, reconstruction, kl, title):
    """Draws losses by epoch, in nats per image: the training loss, the two terms of the test loss, and their sum."""
    epochs = np.arange(1, len(train) + 1)
    figure = Figure(layout="constrained")
    plot = figure.add_subplot(title=title, xlabel="epoch", ylabel="nats per image")
    plot.plot(epochs, train, "o--", label="training loss (average over the epoch)")
    plot.plot(epochs, np.add(reconstruction, kl), "o-", label="test loss")
    plot.plot(epochs, reconstruction, "^-", label="test reconstruction")
    plot.plot(epochs, kl, "v-", label="test KL")
    plot.set_ylim(0, 1.1 * max(*train, *np.add(reconstruction, kl)))
    plot.xaxis.get_major_locator().set_params(integer=True)
    plot.legend()
    save_figure(figure, path)


@with_default_settings
def draw_confusion(path, matrix, title):
    """Draws counts (10, 10): row the digit asked for, column the digit read."""
    figure = Figure(figsize=(5.4, 5.2), layout="constrained")
    plot = figure.add_subplot(title=title, xlabel="read as", ylabel="digit asked for")
    plot.imshow(np.sqrt(matrix), cmap="Blues")  # the root, so that a few mistakes show
    plot.set(xticks=range(10), yticks=range(10))
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "white" if row == column else "black"
            plot.text(column, row, count, ha="center", va="center", color=color)
    save_figure(figure, path)


def save_figure(figure, path):
    """Writes a figure as an optimised PNG."""
    with new_file(path) as written:
        figure.savefig(written, pil_kwargs={"optimize": True})
