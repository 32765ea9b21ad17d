"""Renders digits from fonts, in MNIST's format: the fallback of `assignment.load_data` where there is no MNIST.

Each image is a glyph of one of matplotlib's fonts with random stroke, slant, rotation and scale, its center of mass
near the center as in MNIST. It shows the models at work; results on it are not results on MNIST.
"""

import pathlib

import matplotlib.style
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmb10",
    "cmss10",
    "cmtt10",
)
STROKES = (0.0, 2.0, 4.0)  # extra width of the outline, in pixels of a glyph
CELL = 56  # a glyph is drawn at twice the size of an image, in a cell of CELL x CELL pixels,
HEIGHT = 40  # of which it is HEIGHT high: MNIST's digits are 20 of 28


def rendered_digits(seed=0, train_size=60_000, test_size=10_000):
    """Renders a data set, by default of the size of MNIST.

    Args:
        seed: the same seed and sizes give the same images.
        train_size, test_size: numbers of images.

    Returns:
        (x_train, y_train), (x_test, y_test): uint8 images (N, 28, 28), 0 is background; uint8 labels 0 to 9.
    """
    rng = np.random.default_rng(seed)
    glyphs = draw_glyphs()  # (10, faces, CELL, CELL)
    centers = centers_of_mass(glyphs)  # (10, faces, 2)
    count = train_size + test_size
    labels = rng.integers(0, 10, count).astype(np.uint8)
    faces = rng.integers(0, glyphs.shape[1], count)
    chunks = [(labels[i : i + 5_000], faces[i : i + 5_000]) for i in range(0, count, 5_000)]
    images = np.concatenate([distort(glyphs[chunk], centers[chunk], rng) for chunk in chunks])
    train = images[:train_size], labels[:train_size]
    test = images[train_size:], labels[train_size:]
    return train, test


@matplotlib.style.context("default")
def draw_glyphs():
    """Renders every digit in every font and stroke: uint8 (10, fonts * strokes, CELL, CELL)."""
    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = [(FontProperties(fname=folder / f"{font}.ttf"), stroke) for font in FONTS for stroke in STROKES]
    dpi = 72  # a point is a pixel
    figure = Figure(figsize=(len(faces) * CELL / dpi, 10 * CELL / dpi), dpi=dpi, facecolor="black")
    for column, (font, stroke) in enumerate(faces):
        for digit in range(10):
            path = TextPath((0, 0), str(digit), size=100, prop=font)
            box = path.get_extents()
            to_cell = (
                Affine2D()
                .translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2)
                .scale((HEIGHT - stroke) / box.height)
                .translate((column + 0.5) * CELL, (9.5 - digit) * CELL)
            )
            figure.add_artist(
                PathPatch(
                    to_cell.transform_path(path), transform=None, facecolor="white", edgecolor="white", linewidth=stroke
                )
            )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    sheet = np.asarray(canvas.buffer_rgba())[..., 0]
    return sheet.reshape(10, CELL, len(faces), CELL).swapaxes(1, 2)


def centers_of_mass(glyphs):
    """Returns the center of mass, x and y, of each glyph: (..., CELL, CELL) -> (..., 2)."""
    pixels = np.arange(CELL)
    mass = glyphs.sum(axis=(-2, -1), dtype=np.float64)
    x = glyphs.sum(axis=-2, dtype=np.float64) @ pixels
    y = glyphs.sum(axis=-1, dtype=np.float64) @ pixels
    return np.stack([x, y], axis=-1) / mass[..., np.newaxis]


def distort(glyphs, centers_of_mass, rng):
    """Slants, rotates and scales glyphs (N, CELL, CELL) at random into images (N, 28, 28), both uint8."""
    n = len(glyphs)
    angle = rng.normal(0, 0.12, n)  # radians
    slant = rng.normal(0.1, 0.2, n)
    height = CELL / 28 / rng.uniform(0.8, 1.05, n)  # glyph pixels to an image pixel
    width = CELL / 28 / rng.uniform(0.75, 1.15, n)
    cos, sin = np.cos(angle), np.sin(angle)
    # Image to glyph coordinates: [x, y] = linear @ ([x', y'] - center of the image) + center of mass
    linear = np.stack([width * (cos + slant * sin), width * (slant * cos - sin), height * sin, height * cos], axis=1)
    linear = linear.reshape(n, 2, 2)
    center = 14 + rng.normal(0, 0.4, (n, 2))
    shift = centers_of_mass - np.einsum("nij,nj->ni", linear, center)
    transforms = np.concatenate([linear[:, 0], shift[:, :1], linear[:, 1], shift[:, 1:], np.zeros((n, 2))], axis=1)
    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.constant(glyphs[..., np.newaxis], tf.float32),
        transforms=tf.constant(transforms, tf.float32),
        output_shape=(28, 28),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.cast(tf.round(images[..., 0]), tf.uint8).numpy()
