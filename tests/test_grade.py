"""The grader: arithmetic on made-up predictions, distances against closed forms, verdicts on models that must fail."""

import functools
import json

import assignment
import grade
import numpy as np
import pytest
import tensorflow as tf
import vae
from conftest import keras_setting, needs_mnist, small_arrays


def test_accuracy_counts_by_digit():
    asked = np.repeat(np.arange(10), 4)
    read = asked.copy()
    read[36:38] = 4  # two of the four nines are read as fours
    read[0] = 6
    matrix = grade.confusion_matrix(asked, read)
    assert matrix[9, 4] == 2 and matrix[4, 9] == 0 and matrix[0, 6] == 1 and matrix.sum() == 40
    assert grade.accuracy(matrix) == (92.5, 50.0, 9)


def test_a_confusion_matrix_counts_repeats():
    assert grade.confusion_matrix([3, 3, 3], [5, 5, 3])[3, 5] == 2


# --------------------------------------------------------------------------------------------------------- distance


def gaussian(rng, mean, deviations, n=1000):
    """n points whose mean and covariance are exactly these."""
    points = rng.normal(size=(n, len(mean)))
    points -= points.mean(axis=0)
    points = points @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    return points * deviations + mean


def test_the_distance_of_two_gaussians_is_the_closed_form():
    """For covariances that commute: |m1 - m2|^2 + sum (s1 - s2)^2; and it does not change when both are turned."""
    rng = np.random.default_rng(0)
    a = gaussian(rng, [1.0, 0.0, 2.0], [1.0, 2.0, 0.5])
    b = gaussian(rng, [0.0, 2.0, 2.0], [3.0, 1.0, 0.5])
    expected = (1 + 4) + (4 + 1)
    assert grade.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert grade.frechet_distance(a @ turn, b @ turn) == pytest.approx(expected, rel=1e-9)
    assert grade.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_the_distance_of_covariances_that_do_not_commute():
    """In two dimensions tr (C1 C2)^(1/2) = sqrt(tr(C1 C2) + 2 sqrt(det(C1 C2)))."""
    rng = np.random.default_rng(1)
    a, b = (gaussian(rng, [0, 0], [1, 1]) @ rng.normal(size=(2, 2)) for _ in range(2))
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.trace(c1 @ c2) + 2 * np.sqrt(np.linalg.det(c1 @ c2)))
    means = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    assert grade.frechet_distance(a, b) == pytest.approx(means + np.trace(c1) + np.trace(c2) - 2 * root, rel=1e-6)


def test_features_of_one_constant_unit_are_no_trouble():
    a = np.random.default_rng(0).normal(size=(50, 4))
    a[:, 2] = 0
    assert grade.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.fixture
def trained_classifier(rendered, rendered_mnist, monkeypatch):
    """The grader's classifier, on fewer rendered digits."""
    data = assignment.new_data("fewer", rendered[0][:2000], rendered[1][:2000], rendered[2][:1000], rendered[3][:1000])
    monkeypatch.setattr(assignment, "load_data", functools.lru_cache(lambda: data))
    return grade.load_classifier(), data


def test_the_classifier_reads_digits_and_the_distance_grows_with_blur_and_sameness(trained_classifier):
    classifier, data = trained_classifier
    images = assignment.to_pixels(data.x_test).numpy()
    assert np.mean(grade.read_digits(classifier, images) == data.y_test) > 0.9
    real = grade.features(classifier, assignment.to_pixels(data.x_train))
    assert real.shape == (2000, 128) and real.dtype == np.float64 and real.min() == 0  # of a ReLU
    kernel, bias = classifier.layers[-1].get_weights()
    np.testing.assert_allclose(
        real @ kernel + bias, classifier.predict(assignment.to_pixels(data.x_train), verbose=0), rtol=1e-3, atol=1e-3
    )  # they are what the logits are made of
    blurred = tf.nn.avg_pool2d(images[:, 0, :, :, None], 3, 1, "SAME").numpy()[:, None, :, :, 0]
    alike = images[np.repeat(np.arange(100), 10)]
    distances = [grade.frechet_distance(real, grade.features(classifier, x)) for x in (images, alike, blurred)]
    assert distances[0] < 0.5 * min(distances[1:])


def test_a_classifier_belongs_to_its_data_and_is_the_same_every_time_whatever_keras_image_format(
    small_mnist, outputs, tmp_path, monkeypatch
):
    classifier = grade.load_classifier()
    # Two convolutions of 3 x 3 with 32 and 64 maps, of which 5 x 5 pixels are left, and 128 hidden units: by hand
    assert classifier.count_params() == 32 * (9 + 1) + 64 * (9 * 32 + 1) + 128 * (64 * 25 + 1) + 10 * (128 + 1)
    first = classifier.get_weights()
    kept = list(outputs.glob("classifier-*.weights.h5"))
    assert len(kept) == 1
    with keras_setting(image_data_format="channels_first"):
        read = grade.load_classifier()
        for a, b in zip(first, read.get_weights()):
            np.testing.assert_array_equal(a, b)
        x = assignment.to_pixels(assignment.load_data().x_test)
        np.testing.assert_allclose(grade.features(read, x), grade.features(classifier, x), rtol=1e-5)
        assert vae.VAE(784)(x[:2])[0].shape == (2, 1, 28, 28)
    kept[0].write_bytes(b"damaged")
    for a, b in zip(first, grade.load_classifier().get_weights()):  # trained again
        np.testing.assert_array_equal(a, b)
    np.savez(tmp_path / "small.npz", **{**small_arrays(), "x_train": small_arrays()["x_train"][::-1]})
    assignment.load_data.cache_clear()
    other = grade.load_classifier().get_weights()
    assert len(list(outputs.glob("classifier-*.weights.h5"))) == 2 and not np.array_equal(first[0], other[0])


# -------------------------------------------------------------------------------------------------------- the command


def test_samples_are_of_the_digit_asked_for_with_fresh_noise_that_follows_the_seed():
    given = []
    model = vae.CVAE(784)
    object.__setattr__(model, "decoder", lambda inputs: given.append(np.asarray(inputs)) or tf.zeros((1, 1, 28, 28)))
    digits, _ = grade.sample(model, seed=1)
    inputs = given[0]
    assert np.bincount(digits).tolist() == [1000] * 10
    np.testing.assert_array_equal(inputs[:, 15:], np.eye(10)[digits])
    assert len(np.unique(inputs[:, 0])) > 9_990 and abs(inputs[:, :15].std() - 1) < 0.02
    grade.sample(model, seed=2)
    grade.sample(model, seed=1)
    assert not np.array_equal(inputs, given[1])
    np.testing.assert_array_equal(inputs, given[2])


def test_a_vae_s_samples_have_no_class():
    digits, images = grade.sample(vae.VAE(784), seed=1)
    assert images.shape == (10_000, 1, 28, 28)


@pytest.mark.parametrize("passed, status", [(True, 0), (False, 1)])
def test_exit_status_is_zero_only_if_every_check_passes(monkeypatch, passed, status):
    checks = [grade.Check("a", "< 1", 0.0, True), grade.Check("b", "< 1", 0.0, passed)]
    monkeypatch.setattr(grade, "grade", lambda options: (checks, {}))
    assert grade.main([]) == status


def test_a_whole_grading_of_small_data(small_mnist, outputs, tmp_path, monkeypatch, capsys):
    """Random images: nothing can be learned in an epoch, so the losses and the classifier must fail."""
    monkeypatch.setattr(grade, "SAMPLES", 100)
    assert (
        grade.main(["--num_epochs", "1", "--batch_size", "100", "--seed", "3", "--json", str(tmp_path / "f.json")]) == 1
    )
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["data"] == "small.npz" and figures["num_epochs"] == 1 and figures["seed"] == 3
    for name in ("VAE", "CVAE"):
        assert f"{name} Train Epoch: 1  Loss: {figures[name]['losses'][0]:.6f}" in printed
        assert all(300 < loss < 2000 for loss in (figures[name]["test_loss"], *figures[name]["losses"]))
        assert 0 < figures[name]["minutes"] < 5
    rows = {line[:42].strip(): line[42:].split() for line in printed.splitlines() if line.endswith(("yes", "NO"))}
    assert {name: row[-1] for name, row in rows.items()} == {
        "VAE: loss of the last epoch": "NO",
        "VAE: minutes of training": "yes",
        "CVAE: loss of the last epoch": "NO",
        "CVAE: minutes of training": "yes",
        "classifier: % of test images right": "NO",
        "CVAE: accuracy of samples, %": "NO",
    }
    assert rows["VAE: loss of the last epoch"][:3] == ["<", "120", f"{figures['VAE']['losses'][0]:.2f}"]
    matrix = np.array(figures["confusion"])
    assert matrix.shape == (10, 10) and matrix.sum(axis=1).tolist() == [100] * 10
    assert figures["accuracy"] == pytest.approx(np.trace(matrix) / 10)
    assert figures["worst"] == pytest.approx(np.diag(matrix).min())
    assert list(figures["distances"]) == [
        "real test images",
        "VAE's reconstructions",
        "VAE's samples",
        "CVAE's reconstructions",
        "CVAE's samples",
    ]
    information = {
        line[:62].strip(): float(line[62:]) for line in printed.split("(information only)\n")[1].splitlines()
    }
    assert information["real test images that the CVAE itself reads, %"] == pytest.approx(
        figures["read_by_cvae"], abs=0.01
    )
    assert figures["read_by_cvae"] % 2 == pytest.approx(0) and figures["read_by_cvae"] <= 100  # of 50 images
    for kind in ("VAE", "CVAE"):
        assert information[f"{kind}: loss on the test images, nats"] == pytest.approx(
            figures[kind]["test_loss"], abs=0.01
        )
    for name, distance in figures["distances"].items():
        assert information[f"Frechet distance, {name}"] == pytest.approx(distance, abs=0.01) and distance > 0
    assert (outputs / "grade_confusion.png").exists()


@pytest.mark.parametrize(
    "loss, minutes, right, read, passed",
    [
        (119.9, 29.9, 99.1, 91, 0),
        (120.1, 29.9, 99.1, 91, 1),
        (119.9, 30.1, 99.1, 91, 1),
        (119.9, 29.9, 98.9, 91, 1),
        (119.9, 29.9, 99.1, 89, 1),
    ],
)
def test_the_limits_are_the_handout_s(small_mnist, outputs, monkeypatch, loss, minutes, right, read, passed):
    """Models whose losses, and a classifier whose answers, are made up."""
    monkeypatch.setattr(grade, "SAMPLES", 100)
    monkeypatch.setattr(grade, "train", lambda kind, args: (kind(784), [200.0, loss], minutes))
    monkeypatch.setattr(assignment, "evaluate", lambda model: (100.0, 10.0, None))
    y_test = np.arange(2000) % 10
    data = assignment.new_data("made up", *[np.zeros((2000, 28, 28), np.uint8), y_test] * 2)
    monkeypatch.setattr(assignment, "load_data", functools.lru_cache(lambda: data))

    def read_digits(classifier, images):
        if len(images) == len(y_test):
            return np.where(np.arange(len(y_test)) < len(y_test) * right / 100, y_test, 9 - y_test)
        answers = np.repeat(np.arange(10), 100)
        wrong = np.arange(len(answers)) % 100 >= read
        return np.where(wrong, (answers + 1) % 10, answers)

    monkeypatch.setattr(grade, "load_classifier", lambda: None)
    monkeypatch.setattr(grade, "read_digits", read_digits)
    monkeypatch.setattr(grade, "features", lambda classifier, images: np.random.default_rng(0).normal(size=(20, 2)))
    assert grade.main([]) == passed


@needs_mnist
def test_untrained_weights_fail(monkeypatch, outputs, capsys):
    for kind in (vae.VAE, vae.CVAE):
        assignment.save_model_weights(kind(784), assignment.parseArguments([]))
    monkeypatch.setattr(grade, "load_classifier", lambda: None)
    monkeypatch.setattr(grade, "read_digits", lambda classifier, images: np.zeros(len(images), int))
    monkeypatch.setattr(grade, "features", lambda classifier, images: np.random.default_rng(0).normal(size=(20, 2)))
    assert grade.main(["--load_weights"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("  NO") == 2  # the classifier itself, and 10 % of the samples
    assert "10.00  NO" in printed
    assert (outputs / "grade_confusion.png").exists()


def test_no_weights_is_one_line(small_mnist, capsys):
    assert assignment.run(lambda: grade.main(["--load_weights"])) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_json_file_that_cannot_be_written_is_an_error_before_grading(monkeypatch, capsys):
    monkeypatch.setattr(grade, "grade", lambda options: pytest.fail("graded"))
    assert assignment.run(lambda: grade.main(["--json", "/no/such/folder/f.json"])) == 1
    assert "/no/such/folder" in capsys.readouterr().err


def test_the_confusion_shows_the_counts_where_they_belong(monkeypatch):
    figures = []
    monkeypatch.setattr(assignment, "save_figure", lambda figure, target: figures.append(figure))
    matrix = np.zeros((10, 10), int)
    matrix[2, 7], matrix[3, 3] = 5, 90
    grade.draw_confusion(matrix, "title")
    axes = figures[0].axes[0]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {((7, 2), "5"), ((3, 3), "90")}
    assert {text.get_text(): text.get_color() for text in axes.texts} == {"5": "black", "90": "white"}  # white on dark
    assert axes.get_ylabel() == "digit asked for" and axes.get_xlabel() == "read as"
    assert axes.get_title() == "title" and list(axes.get_xticks()) == list(axes.get_yticks()) == list(range(10))
    np.testing.assert_allclose(axes.get_images()[0].get_array() ** 2, matrix)
