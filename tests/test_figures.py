"""The figures: what each one shows, and where; and that the user's own settings of matplotlib change nothing."""

import itertools
import types

import assignment
import matplotlib
import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import full_disk, second_input
from extras import figures
from extras.evaluation import principal_axes
from matplotlib import colormaps
from matplotlib.colors import to_rgba
from matplotlib.image import imread
from PIL import Image  # matplotlib's

KINDS = [vae.VAE, vae.CVAE]


class Decoder:
    """A decoder whose images tell what it was given: row i of an image is filled with input i."""

    def __call__(self, inputs):
        inputs = np.asarray(inputs)
        images = np.zeros((len(inputs), 1, 28, 28), np.float32)
        images[:, 0, : inputs.shape[1]] = inputs[:, :28, None]
        return tf.constant(images)


class StandIn:
    """Of a model, what the pictures of samples need."""

    decoder = Decoder()
    num_classes = 10


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, by the name of the file."""
    drawn = {}
    for module in (assignment, figures):
        monkeypatch.setattr(module, "save_figure", lambda name, figure: drawn.update({name: figure}))
    return drawn


def cells(figure):
    """The images (rows, columns, 28, 28) of a grid."""
    grid = figure.axes[0].get_images()[0].get_array()
    rows, columns = np.array(grid.shape) // 28
    return np.asarray(grid).reshape(rows, 28, columns, 28).swapaxes(1, 2)


def row_labels(figure):
    """The text of each row, from the top."""
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def column_labels(figure):
    """The text of each column."""
    return [text.get_text() for text in figure.axes[0].get_xticklabels()]


def random_model(kind, **sizes):
    """A model without noise, whose images differ."""
    rng = np.random.default_rng(0)
    model = kind(784, **sizes)
    model.logvar_layer.bias.assign(tf.fill((model.latent_size,), -30.0))
    model.decoder.set_weights([rng.normal(0, 0.2, weights.shape) for weights in model.decoder.get_weights()])
    return model


# ------------------------------------------------------------------------------------------------- samples of the prior


@pytest.mark.parametrize("num_classes", [10, 3])
def test_row_c_of_the_cvae_s_picture_is_class_c_with_fresh_noise(drawn, num_classes):
    model = StandIn()
    model.num_classes = num_classes
    assignment.show_cvae_images(model, 15)
    images = cells(drawn["show_cvae_images.png"])
    assert images.shape == (num_classes, 10, 28, 28)
    classes = images[:, :, 15 : 15 + num_classes, 0]
    np.testing.assert_array_equal(classes, np.repeat(np.eye(num_classes)[:, None], 10, axis=1))
    noise = images[:, :, :15, 0]
    assert len(np.unique(noise)) > 0.99 * noise.size  # of float32 numbers two may be equal by chance
    assert abs(noise.mean()) < 0.2 and abs(noise.std() - 1) < 0.15
    assert row_labels(drawn["show_cvae_images.png"]) == [str(class_) for class_ in range(num_classes)]


def test_the_vae_s_picture_is_ten_samples_of_the_prior(drawn):
    assignment.show_vae_images(StandIn(), 15)
    images = cells(drawn["show_vae_images.png"])
    assert images.shape == (2, 5, 28, 28)
    noise = images[:, :, :15, 0]
    assert len(np.unique(noise)) > 148 and abs(noise.mean()) < 0.4 and abs(noise.std() - 1) < 0.25


def test_a_row_of_the_interpolation_goes_in_equal_steps_between_two_samples_of_its_own(drawn, monkeypatch):
    samples = []

    def normal(shape):
        samples.append(np.random.default_rng(len(samples)).normal(size=shape).astype(np.float32))
        return tf.constant(samples[-1])

    monkeypatch.setattr(tf.random, "normal", normal)
    assignment.show_vae_interpolation(StandIn(), 15)
    z = cells(drawn["show_vae_interpolation.png"])[:, :, :15, 0]
    assert z.shape == (12, 12, 15)
    first, last = z[:, 0], z[:, 11]
    np.testing.assert_allclose(
        np.sort([first, last], axis=None), np.sort(samples, axis=None), atol=1e-6
    )  # each at one end
    for step in range(12):
        np.testing.assert_allclose(z[:, step], first + step / 11 * (last - first), atol=1e-5)


def test_the_manifold_is_the_plane_at_the_prior_s_quantiles(drawn):
    figures.show_vae_manifold(StandIn())
    z = cells(drawn["vae_manifold.png"])[:, :, :2, 0]
    assert z.shape == (20, 20, 2)
    assert z[0, 0].tolist() == pytest.approx([-1.95996, 1.95996], abs=1e-4)  # the 2.5 % quantile, from a table
    assert z[-1, -1].tolist() == pytest.approx([1.95996, -1.95996], abs=1e-4)
    assert z[9, 10].tolist() == pytest.approx([0.06271, 0.06271], abs=1e-4)  # the 52.5 % quantile
    assert (np.diff(z[..., 0], axis=1) > 0).all() and (np.diff(z[..., 1], axis=0) < 0).all()
    assert np.ptp(z[..., 0], axis=0).max() == np.ptp(z[..., 1], axis=1).max() == 0


@pytest.mark.parametrize(
    "show, name",
    [(assignment.show_vae_images, "show_vae_images.png"), (assignment.show_cvae_images, "show_cvae_images.png")],
)
def test_a_title_names_the_model_and_the_data_of_its_run_where_it_is_known(drawn, show, name):
    titles = []
    for run in (None, types.SimpleNamespace(), types.SimpleNamespace(data="rendered digits")):
        model = StandIn()
        if run:
            model.run = run
        show(model, 15)
        (figure,) = drawn.values()
        titles.append(figure.axes[0].get_title(loc="left"))
    assert titles[0] == titles[1] and titles[0].startswith("StandIn: samples")
    assert titles[2] == titles[0] + " (rendered digits)"


# -------------------------------------------------------------------------------------------------- of the test images


@pytest.mark.parametrize("kind", KINDS)
def test_reconstructions_stand_below_their_images_two_of_each_digit(kind, drawn, small_mnist):
    model = random_model(kind)
    figures.show_reconstructions(model, small_mnist)
    figure = drawn[f"{kind.__name__.lower()}_reconstructions.png"]
    images = cells(figure)
    assert images.shape == (2, 20, 28, 28)
    assert row_labels(figure) == ["test image", "reconstruction"]
    chosen = [i for digit in range(10) for i in (digit, digit + 10)]  # the labels are 0 to 9, again and again
    x = small_mnist.x_test[chosen] / np.float32(255)
    np.testing.assert_allclose(images[0], x, atol=1e-6)
    x_hat, _, _ = model(x[:, None], *second_input(model, np.repeat(np.arange(10), 2)))
    np.testing.assert_allclose(images[1], x_hat[:, 0], atol=1e-3)
    assert len(np.unique(images[1].reshape(20, -1), axis=0)) == 20  # no two are the same


def test_the_picture_of_classes_decodes_each_z_as_each_class_and_frames_the_prediction(drawn, small_mnist, monkeypatch):
    model = random_model(vae.CVAE)
    predicted = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])
    monkeypatch.setattr(figures, "classify", lambda model, images: np.eye(10)[predicted[: len(images)]])
    figures.show_cvae_classes(model, small_mnist)
    figure = drawn["cvae_classes.png"]
    images = cells(figure)
    assert images.shape == (10, 12, 28, 28)
    x = small_mnist.x_test[:10] / np.float32(255)  # the labels are 0 to 9, in this order
    np.testing.assert_allclose(images[:, 0], x, atol=1e-6)
    assert np.isnan(images[:, 1]).all() and not np.isnan(images[:, [0, 2, 11]]).any()  # a gap
    mu = np.asarray(model(x[:, None], np.eye(10))[1])
    for row, column in ((0, 0), (2, 7), (9, 4)):
        expected = model.decoder(np.concatenate([mu[row], np.eye(10)[column]])[None].astype(np.float32))
        np.testing.assert_allclose(images[row, 2 + column], expected[0, 0], atol=1e-5)
    assert row_labels(figure) == list("0123456789")
    assert column_labels(figure) == ["test image", "", *"0123456789"]
    frames = [(float(frame.get_ydata()[0]), float(frame.get_xdata()[0])) for frame in figure.axes[0].lines]
    assert frames == [(row + 0.5, 2 + column + 0.5) for row, column in enumerate(predicted)]  # the middle of the image


def test_the_latent_space_shows_the_posterior_means_on_their_principal_axes(drawn, small_mnist):
    mu = np.random.default_rng(0).normal(size=(50, 3)) * [1, 5, 2] + [0, 0, 7]
    figures.show_latent_space(vae.CVAE(784, latent_size=3), small_mnist, mu)
    plot = drawn["cvae_latent_space.png"].axes[0]
    points = plot.collections[0].get_offsets()
    _, deviations, axes = np.linalg.svd(mu - mu.mean(axis=0), full_matrices=False)
    expected = mu @ axes[:2].T
    for i in (0, 1):
        sign = np.sign(axes[i] @ principal_axes(mu)[0][i])
        np.testing.assert_allclose(sign * points[:, i], expected[:, i], atol=1e-6)
    shares = 100 * deviations**2 / np.sum(deviations**2)
    assert f"{shares[0]:.0f}%" in plot.get_xlabel() and f"{shares[1]:.0f}%" in plot.get_ylabel()


def test_two_latents_are_shown_as_they_are(drawn, small_mnist):
    mu = np.random.default_rng(0).normal(size=(50, 2)) * [1, 5]
    figures.show_two_latents(vae.VAE(784, latent_size=2), small_mnist, mu)
    plot = drawn["vae_two_latents.png"].axes[0]
    np.testing.assert_array_equal(plot.collections[0].get_offsets(), mu)
    assert (plot.get_xlabel(), plot.get_ylabel()) == ("$z_1$", "$z_2$")


def test_each_digit_stands_at_the_median_of_its_points_in_their_colour(drawn):
    """Of three digits only, whose colours are those that they have among ten."""
    points = np.array([[0, 0], [2, 1], [9, 5], [-1, -3], [-2, -3], [-9, -3], [4, 4]])
    figures.draw_latent_space("space.png", points, "ab", [3, 3, 3, 8, 8, 8, 6], "title")
    plot = drawn["space.png"].axes[0]
    texts = {text.get_text(): text for text in plot.texts}
    places = {digit: text.get_position() for digit, text in texts.items()}
    assert places == {"3": (2, 1), "8": (-2, -3), "6": (4, 4)}
    shown = plot.collections[0]
    colors = shown.to_rgba([3, 8, 6], alpha=1)
    np.testing.assert_allclose(colors, [to_rgba(texts[digit].get_color()) for digit in "386"])
    np.testing.assert_allclose(colors, colormaps["tab10"]([3, 8, 6]))
    np.testing.assert_array_equal(shown.get_array(), [3, 3, 3, 8, 8, 8, 6])
    assert shown.get_alpha() < 1 and plot.get_aspect() == 1


def test_the_losses_are_shown_by_epoch_with_the_handout_s_limit(drawn):
    epochs = np.arange(1, 11)
    train, test = 80 + 150 / epochs, 80 + 100 / epochs
    names = ("train_loss", "test_reconstruction", "test_kl")
    history = [dict(zip(names, losses)) for losses in zip(train, test - 20, np.full(10, 20))]
    model = vae.CVAE(784)
    model.run = types.SimpleNamespace(history=history, data="some data")
    figures.show_losses(model)
    assert "(some data)" in drawn["cvae_loss.png"].get_suptitle()
    left, right = drawn["cvae_loss.png"].axes
    lines = {line.get_label(): line for line in left.lines}
    expected = {"test loss": test, "reconstruction": test - 20, "KL": np.full(10, 20)}
    assert lines.keys() == expected.keys()
    for name, losses in expected.items():
        np.testing.assert_allclose(lines[name].get_xydata(), np.transpose([epochs, losses]))
    assert left.get_ylim()[0] == 0 and 180 < left.get_ylim()[1] < 220
    assert not any(plot.spines[side].get_visible() for plot in (left, right) for side in ("top", "right"))
    *losses, epoch, limit = right.lines
    assert [line.get_label() for line in losses] == ["training loss", "test loss"]
    for line, expected in zip(losses, [train, test]):
        np.testing.assert_allclose(line.get_xydata(), np.transpose([epochs, expected]))
    assert epoch.get_xdata() == [5, 5] and limit.get_ydata() == [120, 120] and limit.get_linestyle() == "--"
    low, high = right.get_ylim()
    assert 80 < low < 90 and 120 < high < 130  # from the last test loss to the limit, and margins; not to epoch 1


@pytest.mark.parametrize("epochs", [1, 3, 10])
def test_the_labels_of_the_losses_stand_at_the_ends_of_the_lines_and_apart(drawn, epochs):
    """The losses end as good as together; the terms do not, but for the KL, which is near 0."""
    test = np.linspace(150, 99, epochs) if epochs > 1 else np.array([99.0])
    figures.draw_losses("loss.png", test + 0.1, test - 1, [1] * epochs, (5, 120), "")
    figure = drawn["loss.png"]
    figure.draw_without_rendering()
    for plot in figure.axes:
        texts = {text.get_text(): text for text in plot.texts}
        boxes = [text.get_window_extent() for text in texts.values()]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        for line in plot.lines:
            if line.get_label() in texts:
                text = texts[line.get_label()]
                x, y = line.get_xydata()[-1]
                assert text.xy[0] == x == epochs and text.get_color() == line.get_color()
                assert y <= text.xy[1] < y + 0.1 * np.ptp(plot.get_ylim())
        assert all(tick == int(tick) for tick in plot.get_xticks())  # there is no epoch 1.5
    assert len(figure.axes[0].texts) == 3 and len(figure.axes[1].texts) == 3  # one is that of the limit


def test_the_confusion_shows_the_counts_where_they_belong(drawn):
    matrix = np.zeros((10, 10), int)
    matrix[2, 7] = 5
    matrix[3, 3] = 90
    figures.draw_confusion("confusion.png", matrix, "title")
    plot = drawn["confusion.png"].axes[0]
    assert {text.get_position(): text.get_text() for text in plot.texts} == {(7, 2): "5", (3, 3): "90"}  # (x, y)
    assert {text.get_text(): text.get_color() for text in plot.texts} == {"5": "black", "90": "white"}  # white on dark
    assert plot.get_title() == "title"
    assert "requested" in plot.get_ylabel() and "predicted" in plot.get_xlabel()
    assert list(plot.get_xticks()) == list(plot.get_yticks()) == list(range(10))
    shown = plot.get_images()[0].get_array()
    assert 0 < shown[2, 7] < shown[3, 3] and np.count_nonzero(shown) == 2


# ---------------------------------------------------------------------------------------------------------- the files


def black_box(png):
    """The first row and column of the black images of a grid (height, width) of its PNG."""
    black = png < 0.5
    return np.flatnonzero(black.mean(axis=1) > 0.5)[0], np.flatnonzero(black.mean(axis=0) > 0.5)[0]


@pytest.mark.parametrize("scale", [2, 4])
def test_a_grid_is_written_with_each_image_in_its_cell_white_on_black(outputs, scale):
    images = np.zeros((6, 1, 28, 28), np.float32)
    images[4] = 1.0  # second row, second of three columns
    images[4, 0, :14] = 0.5
    assignment.draw_grid("grid.png", images, 3, "", image_inches=scale / 4)
    png = imread(outputs / "grid.png")[..., 0]
    margin = round(0.05 * 112)
    size = scale * 28  # of an image; the title is above
    grid = png[-margin - 2 * size : -margin, margin : margin + 3 * size]
    assert png.shape[1] == pytest.approx(3 * size + 2 * margin, abs=2)
    shown = grid.reshape(2, size, 3, size).swapaxes(1, 2)
    middle = size // 2
    assert shown[1, 1, middle + 2 : -2, 2:-2].min() > 0.95
    assert shown[1, 1, 2 : middle - 2, 2:-2].mean() == pytest.approx(0.5, abs=0.03)
    others = [shown[i, j, 2:-2, 2:-2] for i in (0, 1) for j in (0, 1, 2) if (i, j) != (1, 1)]
    assert np.max(others) < 0.05
    assert png[-margin + 2 :].min() == png[:, -margin + 2 :].min() == png[:, : margin - 2].min() == 1  # no axes


def test_labels_and_frames_stand_at_their_rows_and_columns(outputs):
    images = np.zeros((6, 1, 28, 28), np.float32)
    images[4] = np.nan  # an empty cell
    pngs = {}
    options = {"plain": {}, "rows": {"row_labels": "ab"}, "columns": {"column_labels": "abc"}}
    options["frames"] = {"framed": [2, 0]}
    for name, option in options.items():
        assignment.draw_grid(f"{name}.png", images, 3, "", **option)
        pngs[name] = imread(outputs / f"{name}.png")[..., 0]
    top, left = black_box(pngs["plain"])
    shown = pngs["plain"][top : top + 2 * 56, left : left + 3 * 56].reshape(2, 56, 3, 56).swapaxes(1, 2)
    assert shown[1, 1, 2:-2, 2:-2].min() == 1 and shown[0, 1].max() == shown[1, 0, :, :-2].max() == 0

    top, left = black_box(pngs["rows"])
    labels = pngs["rows"][top : top + 2 * 56, : left - 1] < 0.5
    for label in labels.reshape(2, 56, -1):
        assert np.argwhere(label).mean(axis=0) == pytest.approx([27.5, left / 2], abs=5)  # beside the middle of its row
    top, left = black_box(pngs["columns"])
    labels = pngs["columns"][: top - 1, left : left + 3 * 56] < 0.5
    for label in labels.reshape(-1, 3, 56).swapaxes(0, 1):
        assert np.argwhere(label).mean(axis=0) == pytest.approx([top / 2, 27.5], abs=5)  # above the middle

    top, left = black_box(pngs["plain"])
    rows, columns = np.nonzero((pngs["frames"] - pngs["plain"]) > 0.3)
    inside = {(int(row - top) // 56, int(column - left) // 56) for row, column in zip(rows, columns)}
    assert inside == {(0, 2), (1, 0)}


DRAWINGS = {
    "grid": lambda name: assignment.draw_grid(name, np.eye(28)[None, None].repeat(4, 0), 2, "$x$", ["a", "b"], [0, 1]),
    "latent space": lambda name: figures.draw_latent_space(name, np.eye(10)[:, :2], "ab", np.arange(10), "a"),
    "losses": lambda name: figures.draw_losses(name, [3.0, 2.0], [2.0, 1.0], [0.5, 0.6], (5, 1), "a"),
    "confusion": lambda name: figures.draw_confusion(name, np.eye(10, dtype=int), "a"),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_the_user_s_settings_change_nothing_and_stay(outputs, draw):
    """A LaTeX that is not installed, digits upside down."""
    assert draw("default.png") == outputs / "default.png"
    settings = {
        "image.origin": "lower",
        "savefig.dpi": 30,
        "savefig.bbox": "tight",
        "figure.facecolor": "red",
        "savefig.facecolor": "blue",
        "text.usetex": True,
        "font.size": 20,
    }
    with matplotlib.rc_context(settings):
        before = dict(matplotlib.rcParams)
        draw("own.png")
        assert dict(matplotlib.rcParams) == before
    assert (outputs / "own.png").read_bytes() == (outputs / "default.png").read_bytes()


def test_pictures_are_optimized(outputs):
    path = assignment.draw_grid("grid.png", np.eye(28)[None, None].repeat(100, 0), 10, "$x$")
    size = path.stat().st_size
    with Image.open(path) as picture:
        picture.save(path, optimize=True)
    assert size <= path.stat().st_size + 200  # matplotlib adds its name


def test_a_full_disk_leaves_the_old_picture(outputs):
    images = np.random.default_rng(0).uniform(size=(100, 1, 28, 28))
    path = outputs / "grid.png"
    assignment.draw_grid("grid.png", images, 10, "")
    before = path.read_bytes()
    assert len(before) > 20_000
    with full_disk(10_000), pytest.raises(OSError):
        assignment.draw_grid("grid.png", images[::-1], 10, "")
    assert path.read_bytes() == before and list(outputs.iterdir()) == [path]
