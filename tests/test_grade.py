"""The grader's arithmetic on made-up predictions, and its verdict on a model that must fail."""

import numpy as np
import pytest

import assignment
import grade
import vae
from conftest import needs_mnist


def test_recognition_counts_by_digit():
    asked = np.repeat(np.arange(10), 4)
    recognised = asked.copy()
    recognised[36:38] = 4  # two of the four nines are read as fours
    recognised[0] = 6
    matrix = grade.confusion_matrix(asked, recognised)
    assert matrix[9, 4] == 2 and matrix[4, 9] == 0 and matrix[0, 6] == 1
    assert grade.recognition(matrix) == (92.5, 50.0, 9)


def test_every_run_has_the_same_judge(small_mnist, outputs):
    def train():
        return grade.load_classifier().get_weights()

    first = train()
    (outputs / "classifier.weights.h5").unlink()
    for a, b in zip(first, train()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("passed, status", [(True, 0), (False, 1)])
def test_exit_status_is_zero_only_if_every_check_passes(monkeypatch, passed, status):
    checks = [grade.Check("a", "< 1", 0.0, True), grade.Check("b", "< 1", 0.0, passed)]
    monkeypatch.setattr(grade, "grade", lambda options: (checks, {}))
    assert grade.main([]) == status


@needs_mnist
def test_untrained_weights_fail(monkeypatch, outputs, capsys):
    for kind, is_cvae in ((vae.VAE, False), (vae.CVAE, True)):
        args = assignment.parseArguments(["--is_cvae"] if is_cvae else [])
        assignment.save_model_weights(kind(784), args)
    always_zero = lambda classifier, images: np.zeros(len(images), int)
    monkeypatch.setattr(grade, "load_classifier", lambda: None)
    monkeypatch.setattr(grade, "recognise", always_zero)
    assert grade.main(["--weights"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("  NO") == 4  # both test losses, the classifier itself, and 10 % of the samples
    assert "10.00  NO" in printed
    assert (outputs / "grade_confusion.png").exists()


@needs_mnist
def test_no_weights_is_one_line(capsys):
    assert grade.main(["--weights"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
