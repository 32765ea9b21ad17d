"""The pictures: what each one shows, and where; and that the user's own settings of matplotlib change nothing."""

import assignment
import matplotlib
import numpy as np
import pictures
import pytest
import tensorflow as tf
import vae
from conftest import full_disk, second_input
from evaluation import principal_axes
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
    figures = {}
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: figures.update({path.name: figure}))
    return figures


def cells(figure):
    """The images (rows, columns, 28, 28) of a grid."""
    grid = figure.axes[0].get_images()[0].get_array()
    rows, columns = np.array(grid.shape) // 28
    return np.asarray(grid).reshape(rows, 28, columns, 28).swapaxes(1, 2)


def row_labels(figure):
    """The text of each row, from the top."""
    return [text.get_text() for text in sorted(figure.axes[0].texts, key=lambda text: text.get_position()[1])]


def random_model(kind):
    """A model without noise, whose images differ."""
    rng = np.random.default_rng(0)
    model = kind(784)
    model.logvar_layer.bias.assign(tf.fill((15,), -30.0))
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
    assert len(np.unique(noise)) == noise.size and abs(noise.mean()) < 0.2 and abs(noise.std() - 1) < 0.15
    assert row_labels(drawn["show_cvae_images.png"]) == [str(class_) for class_ in range(num_classes)]


def test_the_vae_s_picture_is_ten_samples_of_the_prior(drawn):
    assignment.show_vae_images(StandIn(), 15)
    images = cells(drawn["show_vae_images.png"])
    assert images.shape == (1, 10, 28, 28)
    noise = images[0, :, :15, 0]
    assert len(np.unique(noise)) == 150 and abs(noise.mean()) < 0.3 and abs(noise.std() - 1) < 0.25


def test_a_row_of_the_interpolation_goes_in_equal_steps_between_two_samples_of_its_own(drawn):
    assignment.show_vae_interpolation(StandIn(), 15)
    z = cells(drawn["show_vae_interpolation.png"])[:, :, :15, 0]
    assert z.shape == (12, 12, 15)
    first, last = z[:, 0], z[:, 11]
    ends = np.stack([first, last])
    assert len(np.unique(ends)) == ends.size  # 24 samples, no two of which have a number in common
    assert abs(ends.mean()) < 0.25 and abs(ends.std() - 1) < 0.2
    for step in range(12):
        np.testing.assert_allclose(z[:, step], first + step / 11 * (last - first), atol=1e-5)


def test_the_manifold_is_the_plane_at_the_prior_s_quantiles(drawn):
    assignment.show_vae_manifold(StandIn())
    z = cells(drawn["vae_manifold.png"])[:, :, :2, 0]
    assert z.shape == (20, 20, 2)
    assert z[0, 0].tolist() == pytest.approx([-1.95996, 1.95996], abs=1e-4)  # the 2.5 % quantile, from a table
    assert z[-1, -1].tolist() == pytest.approx([1.95996, -1.95996], abs=1e-4)
    assert z[9, 10].tolist() == pytest.approx([0.06271, 0.06271], abs=1e-4)  # the 52.5 % quantile
    assert (np.diff(z[..., 0], axis=1) > 0).all() and (np.diff(z[..., 1], axis=0) < 0).all()
    assert np.ptp(z[..., 0], axis=0).max() == np.ptp(z[..., 1], axis=1).max() == 0


def test_a_title_names_the_data_where_it_is_known(drawn):
    titles = []
    for name in ("rendered digits", None):
        assignment.show_vae_images(StandIn(), 15, name)
        titles.append(drawn["show_vae_images.png"].texts[0].get_text())
    assert titles[0] == titles[1] + " (rendered digits)" and "StandIn" in titles[1]


# -------------------------------------------------------------------------------------------------- of the test images


@pytest.mark.parametrize("kind", KINDS)
def test_reconstructions_stand_below_their_images_two_of_each_digit(kind, drawn, small_mnist):
    model = random_model(kind)
    assignment.show_reconstructions(model, small_mnist)
    images = cells(drawn[f"{kind.__name__.lower()}_reconstructions.png"])
    assert images.shape == (2, 20, 28, 28)
    chosen = [i for digit in range(10) for i in (digit, digit + 10)]  # the labels are 0 to 9, again and again
    x = small_mnist.x_test.numpy()[chosen] / np.float32(255)
    np.testing.assert_allclose(images[0], x, atol=1e-6)
    x_hat, _, _ = model(x[:, None], *second_input(model, np.repeat(np.arange(10), 2)))
    np.testing.assert_allclose(images[1], x_hat[:, 0], atol=1e-3)
    assert len(np.unique(images[1].reshape(20, -1), axis=0)) == 20  # no two are the same


def test_the_picture_of_classes_decodes_each_z_as_each_class_and_frames_the_one_read(drawn, small_mnist, monkeypatch):
    model = random_model(vae.CVAE)
    read = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])
    monkeypatch.setattr(assignment, "classify", lambda model, images: np.eye(10)[read[: len(images)]])
    assignment.show_cvae_classes(model, small_mnist)
    figure = drawn["cvae_classes.png"]
    images = cells(figure)
    assert images.shape == (10, 11, 28, 28)
    x = small_mnist.x_test.numpy()[:10] / np.float32(255)  # the labels are 0 to 9, in this order
    np.testing.assert_allclose(images[:, 0], x, atol=1e-6)
    mu = np.asarray(model(x[:, None], np.eye(10))[1])
    for row, column in ((0, 0), (2, 7), (9, 4)):
        expected = model.decoder(np.concatenate([mu[row], np.eye(10)[column]])[None].astype(np.float32))
        np.testing.assert_allclose(images[row, 1 + column], expected[0, 0], atol=1e-5)
    assert row_labels(figure) == list("0123456789")
    frames = [(float(frame.get_ydata()[0]), float(frame.get_xdata()[0])) for frame in figure.axes[0].lines]
    assert frames == [(row + 0.5, 1 + column + 0.5) for row, column in enumerate(read)]  # the middle of the image


def test_the_latent_space_shows_the_posterior_means_on_their_principal_axes(drawn, small_mnist):
    mu = np.random.default_rng(0).normal(size=(50, 3)) * [1, 5, 2] + [0, 0, 7]
    assignment.show_latent_space(vae.CVAE(784, latent_size=3), small_mnist, mu)
    plot = drawn["cvae_latent_space.png"].axes[0]
    points = plot.collections[0].get_offsets()
    _, deviations, axes = np.linalg.svd(mu - mu.mean(axis=0), full_matrices=False)
    expected = mu @ axes[:2].T
    for i in (0, 1):
        sign = np.sign(axes[i] @ principal_axes(mu)[0][i])
        np.testing.assert_allclose(sign * points[:, i], expected[:, i], atol=1e-6)
    np.testing.assert_array_equal(plot.collections[0].get_array(), np.arange(50) % 10)
    assert len(np.unique(plot.collections[0].to_rgba(np.arange(10)), axis=0)) == 10  # ten colours
    shares = 100 * deviations**2 / np.sum(deviations**2)
    assert f"{shares[0]:.0f}%" in plot.get_xlabel() and f"{shares[1]:.0f}%" in plot.get_ylabel()


def test_the_loss_curve_shows_each_term_by_epoch(drawn):
    history = [
        {"train_loss": 5.0, "test_reconstruction": 3.0, "test_kl": 1.0},
        {"train_loss": 4.0, "test_reconstruction": 2.5, "test_kl": 0.5},
    ]
    assignment.show_losses(vae.CVAE(784), history)
    plot = drawn["cvae_loss.png"].axes[0]
    lines = {line.get_label().split(" (")[0]: line.get_xydata().T.tolist() for line in plot.lines}
    assert lines == {
        "training loss": [[1, 2], [5.0, 4.0]],
        "test loss": [[1, 2], [4.0, 3.0]],
        "test reconstruction": [[1, 2], [3.0, 2.5]],
        "test KL": [[1, 2], [1.0, 0.5]],
    }
    low, high = plot.get_ylim()
    assert low == 0 and high > 5
    assert len(plot.get_legend().get_texts()) == 4
    assert all(tick == int(tick) for tick in plot.get_xticks())  # there is no epoch 1.5


def test_the_confusion_shows_the_counts_where_they_belong(drawn, outputs):
    matrix = np.zeros((10, 10), int)
    matrix[2, 7] = 5
    matrix[3, 3] = 90
    pictures.draw_confusion(outputs / "confusion.png", matrix, "title")
    plot = drawn["confusion.png"].axes[0]
    assert {text.get_position(): text.get_text() for text in plot.texts} == {(7, 2): "5", (3, 3): "90"}  # (x, y)
    assert {text.get_text(): text.get_color() for text in plot.texts} == {"5": "black", "90": "white"}  # white on dark
    assert plot.get_title() == "title"
    assert "asked for" in plot.get_ylabel() and "read" in plot.get_xlabel()
    assert list(plot.get_xticks()) == list(plot.get_yticks()) == list(range(10))
    shown = plot.get_images()[0].get_array()
    assert 0 < shown[2, 7] < shown[3, 3] and np.count_nonzero(shown) == 2


# ---------------------------------------------------------------------------------------------------------- the files


def test_a_grid_is_written_with_each_image_in_its_cell_white_on_black(outputs):
    images = np.zeros((6, 1, 28, 28), np.float32)
    images[4] = 1.0  # second row, second of three columns
    images[4, 0, :14] = 0.5
    pictures.draw_grid(outputs / "grid.png", images, 3, "")
    png = imread(outputs / "grid.png")[..., 0]
    margin = round(0.05 * 112)
    grid = png[-margin - 2 * 56 : -margin, margin : margin + 3 * 56]  # an image is twice its size; the title is above
    assert png.shape[1] == pytest.approx(3 * 56 + 2 * margin, abs=2)
    shown = grid.reshape(2, 56, 3, 56).swapaxes(1, 2)
    assert shown[1, 1, 30:-2, 2:-2].min() > 0.95
    assert shown[1, 1, 2:26, 2:-2].mean() == pytest.approx(0.5, abs=0.03)
    others = [shown[i, j, 2:-2, 2:-2] for i in (0, 1) for j in (0, 1, 2) if (i, j) != (1, 1)]
    assert np.max(others) < 0.05
    assert png[-margin + 2 :].min() == png[:, -margin + 2 :].min() == png[:, : margin - 2].min() == 1  # no axes


def test_labels_and_frames_stand_at_their_rows(outputs):
    images = np.zeros((6, 1, 28, 28), np.float32)
    sizes = {}
    for name, options in {"plain": {}, "labels": {"row_labels": "ab"}, "frames": {"framed": [2, 0]}}.items():
        pictures.draw_grid(outputs / f"{name}.png", images, 3, "", **options)
        sizes[name] = imread(outputs / f"{name}.png").shape
    assert sizes["labels"][1] > sizes["plain"][1] and sizes["labels"][0] == sizes["plain"][0]  # room for the labels
    ink = imread(outputs / "labels.png")[39 : 39 + 2 * 56, :38, 0] < 0.5
    for label in ink.reshape(2, 56, 38):
        assert np.argwhere(label).mean(axis=0) == pytest.approx([27.5, 22], abs=5)  # beside the middle of its row
    rows, columns = np.nonzero((imread(outputs / "frames.png") - imread(outputs / "plain.png"))[..., 0] > 0.3)
    inside = {(int(row - 39) // 56, int(column - 6) // 56) for row, column in zip(rows, columns)}
    assert inside == {(0, 2), (1, 0)}


DRAWINGS = {
    "grid": lambda path: pictures.draw_grid(path, np.eye(28)[None, None].repeat(4, 0), 2, "$x$", ["a", "b"], [0, 1]),
    "latent space": lambda path: pictures.draw_latent_space(path, np.eye(10)[:, :2], [0.5, 0.1], np.arange(10), "a"),
    "losses": lambda path: pictures.draw_losses(path, [3.0, 2.0], [2.0, 1.0], [0.5, 0.6], "a"),
    "confusion": lambda path: pictures.draw_confusion(path, np.eye(10, dtype=int), "a"),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_the_user_s_settings_change_nothing_and_stay(outputs, draw):
    """A LaTeX that is not installed, digits upside down."""
    draw(outputs / "default.png")
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
        draw(outputs / "own.png")
        assert dict(matplotlib.rcParams) == before
    assert (outputs / "own.png").read_bytes() == (outputs / "default.png").read_bytes()


def test_pictures_are_optimised(outputs):
    path = outputs / "grid.png"
    pictures.draw_grid(path, np.eye(28)[None, None].repeat(100, 0), 10, "$x$")
    size = path.stat().st_size
    with Image.open(path) as picture:
        picture.save(path, optimize=True)
    assert size <= path.stat().st_size + 200  # matplotlib adds its name


def test_a_full_disk_leaves_the_old_picture(outputs):
    images = np.random.default_rng(0).uniform(size=(100, 1, 28, 28))
    path = outputs / "grid.png"
    pictures.draw_grid(path, images, 10, "")
    before = path.read_bytes()
    assert len(before) > 20_000
    with full_disk(10_000), pytest.raises(OSError):
        pictures.draw_grid(path, images[::-1], 10, "")
    assert path.read_bytes() == before and list(outputs.iterdir()) == [path]
