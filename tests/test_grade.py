"""The grader: its limits, its classifier, and verdicts on models that must fail."""

import re
import shutil

import assignment
import grade
import numpy as np
import pytest
import tensorflow as tf
import vae
from assignment import InputError, to_pixels
from conftest import keras_setting, same_weights
from extras.evaluation import frechet_distance


@pytest.mark.parametrize("loss, minutes, passed", [(119.9, 29.9, 2), (120, 29.9, 1), (119.9, 30, 1), (np.nan, 31, 0)])
def test_the_limits_of_training_are_the_handout_s(loss, minutes, passed):
    checks = grade.check_training("VAE", [150.0, 130.0, 125.0, 122.0, loss], minutes)
    assert sum(check.passed for check in checks) == passed
    assert [check.measured for check in checks] == pytest.approx([loss, minutes], nan_ok=True)


@pytest.mark.parametrize(
    "epochs, words", [(5, "the 5th epoch"), (4, "epoch 4, not the 5th"), (10, "epoch 10, not the 5th")]
)
def test_the_check_of_the_loss_names_its_epoch(epochs, words):
    """The handout's limit is for the 5th."""
    check = grade.check_training("VAE", [130.0] * (epochs - 1) + [110.0], 1)[0]
    assert (check.name, check.limit, check.measured) == (f"VAE: loss of {words}", "< 120", 110.0)


@pytest.mark.parametrize("correct, percent, passed", [(99, 90.1, 2), (98.9, 90.1, 1), (99, 90, 1), (90, 90, 0)])
def test_the_limits_of_samples_are_the_handout_s(correct, percent, passed):
    checks = grade.check_samples(correct, percent)
    assert sum(check.passed for check in checks) == passed
    assert [check.measured for check in checks] == [correct, percent]


# ------------------------------------------------------------------------------------------------------- the classifier


@pytest.fixture(scope="module")
def classifier(digits, tmp_path_factory):
    """The classifier of the rendered digits and the path of its file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "OUTPUTS", tmp_path_factory.mktemp("classifier"))
        trained = grade.load_classifier(digits)
        (path,) = assignment.OUTPUTS.iterdir()
    return trained, path


def test_the_classifier_predicts_digits_and_the_distance_grows_with_blur_and_sameness(classifier, digits):
    trained, _ = classifier
    images = to_pixels(digits.x_test).numpy()
    assert np.mean(grade.predict_digits(trained, images) == digits.y_test) > 0.9
    real = grade.features(trained, to_pixels(digits.x_train))
    blurred = tf.nn.avg_pool2d(images[:, 0, :, :, None], 3, 1, "SAME").numpy()[:, None, :, :, 0]
    alike = images[np.repeat(np.arange(50), 10)]
    distances = [frechet_distance(real, grade.features(trained, x)) for x in (images, alike, blurred)]
    assert distances[0] < 0.5 * min(distances[1:])


def test_features_are_what_the_logits_are_made_of(classifier, digits):
    trained, _ = classifier
    images = to_pixels(digits.x_test)
    features = grade.features(trained, images)
    assert features.shape == (500, 128) and features.dtype == np.float64 and features.min() == 0  # of a ReLU
    kernel, bias = trained.layers[-1].get_weights()
    np.testing.assert_allclose(features @ kernel + bias, trained.predict(images, verbose=0), rtol=1e-3, atol=1e-3)


def test_a_classifier_belongs_to_its_data_and_is_kept(small_mnist, outputs, monkeypatch, capsys):
    started_with = []

    def set_ones(classifier, data):
        started_with.append(classifier.get_weights())
        classifier.set_weights([np.ones_like(weights) for weights in classifier.get_weights()])

    monkeypatch.setattr(grade, "train_classifier", set_ones)
    ones = grade.load_classifier(small_mnist).get_weights()
    # Two convolutions of 3 x 3 with 32 and 64 maps, of which 5 x 5 pixels are left, and 128 hidden units: by hand
    assert sum(weights.size for weights in ones) == 320 + 18_496 + 128 * 1601 + 1290
    (kept,) = outputs.iterdir()
    with keras_setting(image_data_format="channels_first"):  # a user's setting changes nothing
        assert same_weights(ones, grade.load_classifier(small_mnist).get_weights())
    assert len(started_with) == 1
    kept.write_bytes(b"damaged")
    assert same_weights(ones, grade.load_classifier(small_mnist).get_weights())
    assert len(started_with) == 2 and f"{kept} cannot be loaded" in capsys.readouterr().out
    assert same_weights(*started_with)  # the same classifier every time
    other = small_mnist._replace(x_train=small_mnist.x_train[::-1])
    grade.load_classifier(other)
    assert len(started_with) == 3 and len(list(outputs.iterdir())) == 2


# ----------------------------------------------------------------------------------------------------------- samples


def test_samples_are_of_the_requested_digit_with_fresh_noise_that_follows_the_seed(monkeypatch):
    given = []

    def decode(z, c):
        given.append((z, c.numpy()))
        return tf.zeros((1, 1, 28, 28))

    model = vae.CVAE(784)
    monkeypatch.setattr(model, "decode", decode)
    digits, _ = grade.sample(model, seed=1)
    grade.sample(model, seed=2)
    grade.sample(model, seed=1)
    (z, c), (other, _), (again, _) = given
    assert np.bincount(digits).tolist() == [1000] * 10
    np.testing.assert_array_equal(c, np.eye(10)[digits])
    assert len(np.unique(z[:, 0])) > 9_990 and abs(z.std() - 1) < 0.02 and z.shape == (10_000, 15)
    np.testing.assert_array_equal(z, again)
    assert not np.array_equal(z, other)


# -------------------------------------------------------------------------------------------------------- the command


def passed(printed):
    """The last column of the table of checks, "yes" or "NO", by the name of the check."""
    rows = [line for line in printed.splitlines() if line.endswith(("  yes", "  NO"))]
    return {line[:42].strip(): line.split()[-1] for line in rows}


def test_a_whole_grading_of_small_data(small_mnist, narrow, outputs, monkeypatch, capsys):
    """Random images, and a classifier that was not trained: the losses and the classifier must fail."""
    matrices = []
    draw_confusion = grade.draw_confusion
    monkeypatch.setattr(grade, "draw_confusion", lambda *given: matrices.append(given[1]) or draw_confusion(*given))
    monkeypatch.setattr(grade, "SAMPLES", 30)
    monkeypatch.setattr(grade, "train_classifier", lambda classifier, data: None)
    assert grade.main(["--num_epochs", "2", "--batch_size", "100", "--seed", "3"]) == 1
    printed = capsys.readouterr().out
    assert passed(printed) == {
        "VAE: loss of epoch 2, not the 5th": "NO",
        "VAE: minutes of training": "yes",
        "CVAE: loss of epoch 2, not the 5th": "NO",
        "CVAE: minutes of training": "yes",
        "classifier: accuracy on test images, %": "NO",
        "CVAE: sample accuracy, %": "NO",
    }
    information = dict(re.findall(r"^(\S.*?) +(-?[\d.]+)$", printed.split("(information only)\n")[1], re.M))
    for kind in ("VAE", "CVAE"):
        first, last = re.findall(rf"^{kind} Train Epoch: [12]  Loss: ([\d.]+)$", printed, re.M)
        assert re.search(rf"^{kind}: loss of epoch 2.* {last}  NO$", printed, re.M)
        test_loss = information[f"{kind}: loss on the test images, nats"]
        assert all(300 < float(loss) < 2000 for loss in (first, last, test_loss))
    (matrix,) = matrices
    assert matrix.shape == (10, 10) and matrix.sum(axis=1).tolist() == [30] * 10
    worst = np.diag(matrix).argmin()
    assert re.search(rf"^CVAE: sample accuracy, %.* {np.trace(matrix) / 3:.2f}  NO$", printed, re.M)
    accuracy = information.pop(f"CVAE: sample accuracy of the worst digit ({worst}), %")
    assert float(accuracy) == pytest.approx(matrix[worst, worst] / 0.3, abs=0.01)
    correct = float(information["test images that the CVAE itself classifies correctly, %"])
    assert 0 <= correct <= 100 and correct % 2 == pytest.approx(0)  # of 50 images
    of = ["real test images"] + [f"{kind}'s {of}" for kind in ("VAE", "CVAE") for of in ("reconstructions", "samples")]
    assert all(float(information[f"Fréchet distance, {name}"]) > 0 for name in of)
    assert len(information) == 8
    (picture,) = outputs.glob("*.png")  # that of saved weights is not overwritten
    assert picture.name == "grade_confusion_2_epochs.png"
    *_, drawn, verdict = printed.splitlines()
    assert drawn.endswith(f" {picture}") and verdict.startswith("4 of 6 checks failed: VAE: loss of epoch 2")


def test_untrained_weights_fail(digits, classifier, narrow, outputs, tmp_path, monkeypatch, capsys):
    """The models have latent sizes of their own, and their samples are grey."""
    _, x_train, y_train, x_test, y_test = digits
    np.savez(tmp_path / "digits.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    monkeypatch.setenv("MNIST_NPZ", str(tmp_path / "digits.npz"))
    monkeypatch.setattr(grade, "SAMPLES", 30)
    monkeypatch.setattr(grade, "train_classifier", lambda *given: pytest.fail("there is a classifier"))
    monkeypatch.setattr(grade, "CLASSIFIER_LIMIT", 90)
    for model in (vae.VAE(784, latent_size=2), vae.CVAE(784)):
        assignment.save_model_weights(model, None)
    shutil.copy(classifier[1], outputs)
    assert grade.main(["--load_weights"]) == 1
    printed = capsys.readouterr().out
    assert passed(printed) == {"classifier: accuracy on test images, %": "yes", "CVAE: sample accuracy, %": "NO"}
    (samples,) = re.findall(r"^CVAE: sample accuracy, %.* ([\d.]+)  NO$", printed, re.M)
    assert float(samples) < 30  # 10 if all samples are classified alike
    (picture,) = outputs.glob("*.png")
    assert picture.name == "grade_confusion.png" and f" {picture}\n" in printed


def test_weights_of_other_data_are_not_graded(small_mnist):
    for kind in (vae.VAE, vae.CVAE):
        assignment.save_model_weights(kind(784), None)
    path = assignment.OUTPUTS / "vae.run.json"
    path.write_text(path.read_text().replace("{", '{"data": "MNIST",'))
    with pytest.raises(InputError, match="trained on MNIST, not on small.npz"):
        grade.main(["--load_weights"])


def test_grading_weights_that_are_not_there_says_what_to_do(small_mnist):
    with pytest.raises(FileNotFoundError, match="vae.weights.h5: train first"):
        grade.main(["--load_weights"])


@pytest.fixture
def graded(monkeypatch):
    """The checks of a grading that is over at once, to be changed."""
    checks = [grade.Check("a", "< 1", 0.0, True), grade.Check("b", "< 1", 0.0, True)]
    monkeypatch.setattr(grade, "grade", lambda args: checks)
    return checks


@pytest.mark.parametrize(
    "passes, status, verdict",
    [
        ((True, True), 0, "All 2 checks passed"),
        ((False, True), 1, "1 of 2 checks failed: a"),
        ((True, False), 1, "1 of 2 checks failed: b"),
        ((False, False), 1, "2 of 2 checks failed: a; b"),
    ],
)
def test_the_exit_status_and_the_last_line_say_whether_every_check_passed(graded, capsys, passes, status, verdict):
    graded[:] = [check._replace(passed=value) for check, value in zip(graded, passes)]
    assert grade.main([]) == status
    assert capsys.readouterr().out.splitlines()[-1] == verdict


def test_the_defaults_are_the_epochs_of_the_handout_and_the_batch_size_of_training():
    args = grade.parse_arguments([])
    assert (args.num_epochs, args.batch_size, args.seed, args.load_weights) == (5, 1024, 0, False)
    with pytest.raises(SystemExit):
        grade.parse_arguments(["--num_epochs", "0"])
