"""Drawing: arrays in, a PNG out. It does not know the models.

All is drawn with matplotlib's default settings, whatever the user's own are.
"""

import functools

import matplotlib.style
import numpy as np
from files import new_file
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke


def with_default_settings(draw):
    """A function that draws with matplotlib's default settings."""

    @functools.wraps(draw)
    def draw_with_default_settings(*args, **options):
        with matplotlib.style.context("default"):
            return draw(*args, **options)

    return draw_with_default_settings


@with_default_settings
def draw_grid(path, images, columns, title, row_labels=(), column_labels=(), framed=(), image_inches=0.5):
    """Draws images (N, 1, H, W) in [0, 1] row by row, white on black; an image of nan leaves its cell empty.

    `row_labels` and `column_labels` are texts for the rows and columns. `framed` has the column of the image to frame,
    for each row. At the default of half an inch, 28 pixels are 2 x 28 pixels of the picture.
    """
    rows = len(images) // columns
    height, width = images.shape[2:]
    by_cell = np.reshape(images, (rows, columns, height, width))
    grid = by_cell.swapaxes(1, 2).reshape(rows * height, columns * width)

    figure = Figure((columns * image_inches, rows * image_inches), dpi=112)
    plot = figure.add_axes((0, 0, 1, 1), frame_on=False)  # `save_figure` makes room for the texts around it
    plot.set_title(title, loc="left", fontsize="medium")
    # The extent makes an image 1 wide and 1 high, with row 0 at the top
    plot.imshow(grid, "gray", vmin=0, vmax=1, extent=(0, columns, rows, 0), interpolation="nearest")
    plot.set_yticks(np.arange(len(row_labels)) + 0.5, row_labels)
    plot.set_xticks(np.arange(len(column_labels)) + 0.5, column_labels)
    plot.tick_params(length=0, labeltop=True, labelbottom=False)
    frame = {"markersize": 66 * image_inches, "markeredgewidth": 2, "fillstyle": "none"}  # in points, 72 to an inch
    for row, column in enumerate(framed):
        plot.plot(column + 0.5, row + 0.5, "s", color="orange", **frame)
    save_figure(figure, path)


@with_default_settings
def draw_latent_space(path, points, names, labels, title):
    """Draws points (N, 2) coloured by their labels (N,), 0 to 9, and each label at the median of its points.

    `names` are those of the two axes.
    """
    labels = np.asarray(labels)
    figure = Figure((6, 6))
    plot = figure.add_subplot(title=title, xlabel=names[0], ylabel=names[1], aspect="equal")
    plot.scatter(points[:, 0], points[:, 1], c=labels, cmap="tab10", vmin=0, vmax=9, s=5, alpha=0.5, linewidths=0)
    for label in np.unique(labels):
        x, y = np.median(points[labels == label], axis=0)
        text = plot.text(x, y, label, color=f"C{label}", size=13, weight="bold", ha="center", va="center")
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    save_figure(figure, path)


@with_default_settings
def draw_losses(path, train, reconstruction, kl, limit, title):
    """Draws losses by epoch, in nats per image: the test loss and its terms; training and test loss at a larger scale.

    `limit` is the epoch after which the training loss must be below a limit, and that limit.
    """
    figure = Figure((9, 4), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharex=True)
    for plot in (left, right):
        plot.set(xlabel="epoch", ylabel="nats per image")
        plot.spines[["top", "right"]].set_visible(False)  # the labels of the lines stand there
    plot_terms(left, reconstruction, kl)
    plot_end(right, train, np.add(reconstruction, kl), limit)
    save_figure(figure, path)


def plot_terms(plot, reconstruction, kl):
    """The test loss and the two terms that it is the sum of, from 0."""
    epochs = np.arange(1, len(kl) + 1)
    test = np.add(reconstruction, kl)
    plot.plot(epochs, test, "C1o-", label="test loss")
    plot.plot(epochs, reconstruction, "C2^-", label="reconstruction")
    plot.plot(epochs, kl, "C3v-", label="KL")
    plot.set(title="test loss and its two terms", ylim=(0, 1.1 * max(test)))
    label_lines(plot)


def plot_end(plot, train, test, limit):
    """The training and the test loss at the scale of the second half of the epochs, where they change little."""
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
    """Writes the label of each line at its right end; of two that would overlap, the upper one further up."""
    low, high = plot.get_ylim()
    free = low  # the lowest place where there is no text yet
    for line in sorted(plot.lines, key=lambda line: line.get_ydata()[-1]):
        x, y = line.get_xydata()[-1]
        y = max(y, free)
        place = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        plot.annotate(line.get_label(), (x, y), color=line.get_color(), **place)
        free = y + 0.06 * (high - low)


@with_default_settings
def draw_confusion(path, matrix, title):
    """Draws counts (10, 10): row the digit asked for, column the digit read."""
    figure = Figure((5.4, 5.2))
    plot = figure.add_subplot(title=title, xlabel="read as", ylabel="digit asked for")
    plot.imshow(np.sqrt(matrix), cmap="Blues")  # the root, so that a few mistakes show
    plot.set(xticks=range(10), yticks=range(10))
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "white" if row == column else "black"
            plot.text(column, row, count, ha="center", va="center", color=color)
    save_figure(figure, path)


def save_figure(figure, path):
    """Writes a figure, with the texts around it, as an optimised PNG."""
    with new_file(path) as written:
        figure.savefig(written, bbox_inches="tight", pad_inches=0.05, pil_kwargs={"optimize": True})
