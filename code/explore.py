"""Writes `outputs/explore.html`, a page to play with the saved models in any browser: `python code/explore.py`.

The page is `extras/page/template.html` with the weights, statistics of the test images and the scripts of that folder
embedded. It loads no other files.
"""

import argparse
import base64
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as in assignment.py
if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # whatever a notebook's environment says

import assignment  # isort: skip
import numpy as np
from assignment import InputError, load_data, load_model, new_file, run_of, run_program, to_pixels
from extras.evaluation import evaluate, losses_by_class, principal_axes

TEMPLATE = pathlib.Path(__file__).resolve().parent / "extras" / "page" / "template.html"
END = "<!-- In the page"  # start of the template's tail, which the models and scripts replace
SCRIPTS = (  # in this order, as each uses what is before it
    "networks",
    "elements",
    "pointers",
    "png",
    "strokes",
    "handwriting",
    "latents",
    "previews",
    "map",
    "styles",
    "answer",
    "drawing",
    "posterior",
    "between",
    "number",
    "link",
    "start",
)
USUAL_SHARE = 0.99  # share of the test images whose loss counts as usual
POINTS = 150  # number of test images on the map: more would crowd it


def quantize(kernel, bias):
    """Quantizes a linear layer to bytes: float32 scales (inputs,), float32 biases, int8 kernel (inputs, outputs).

    A weight is its int8 value times the scale of its row.
    """
    scales = np.maximum(np.abs(kernel).max(axis=1), 1e-12).astype("<f4") / np.float32(127)
    quantized = np.round(kernel / scales[:, np.newaxis]).astype("i1")
    return scales.tobytes() + bias.astype("<f4").tobytes() + quantized.tobytes()


def describe_points(mu, labels):
    """Returns posterior means (N, Z) in 8 bits, with their labels (N,), for the map of the page."""
    scale = max(float(np.abs(mu).max()), 1e-12) / 127
    means = np.round(mu / scale).astype("i1")
    return {
        "labels": "".join(str(int(label)) for label in labels),
        "means": base64.b64encode(means.tobytes()).decode(),
        "scale": scale,
    }


def scripts():
    """Returns the scripts of the page, as one."""
    return "\n".join(TEMPLATE.with_name(f"{name}.js").read_text("utf-8") for name in SCRIPTS)


def describe(model, data):
    """Returns the data of a trained model that the page needs, in the format described in `networks.js`.

    The statistics are computed on the test images of `data`.

    Raises:
        InputError: if the model has fewer than two latents.
    """
    if model.latent_size < 2:
        kind = type(model).__name__
        raise InputError(f"the saved {kind} has one latent, the page needs two or more: train with --latent_size 2")
    images = to_pixels(data.x_test)
    ink = np.sum(images, axis=(1, 2, 3))
    usual_loss = np.quantile(np.min(losses_by_class(model, images), axis=1), USUAL_SHARE)
    test = evaluate(model, data)
    run = vars(run_of(model))
    axes, shares = principal_axes(test.mu)
    variances = test.mu.var(axis=0)
    networks = (model.encoder, model.mu_layer, model.logvar_layer, model.decoder)
    weights = [weight for network in networks for weight in network.get_weights()]
    kernels = weights[::2]
    biases = weights[1::2]
    layers = [quantize(kernel, bias) for kernel, bias in zip(kernels, biases)]
    return {
        "latent_size": model.latent_size,
        "num_classes": getattr(model, "num_classes", 0),
        "layers": [kernel.shape for kernel in kernels],
        "weights": base64.b64encode(b"".join(layers)).decode(),
        "run": {"data": run.get("data"), "epochs": len(run.get("history", [])), "test_loss": test.loss},
        "usual": {"loss": float(usual_loss), "ink": [float(ink.min()), float(ink.max())]},
        "variances": variances.tolist(),
        "axes": axes.tolist(),
        "deviations": (test.mu @ axes.T).std(axis=0, ddof=1).tolist(),
        "points": describe_points(test.mu[:POINTS], data.y_test[:POINTS]),
    }


def main(argv=None):
    """Writes the page of the saved models.

    Raises:
        FileNotFoundError: if there are no weights.
        InputError: if a saved model cannot be shown.
    """
    parser = argparse.ArgumentParser(description="Write outputs/explore.html, a page to play with the saved models.")
    parser.parse_args(argv)
    saved = [kind for kind in ("cvae", "vae") if (assignment.OUTPUTS / f"{kind}.weights.h5").exists()]
    if not saved:
        raise FileNotFoundError(f"there are no weights in {assignment.OUTPUTS}: train first, with assignment.py")
    data = load_data()
    models = {}
    for kind in saved:
        model = load_model(kind, data)
        models[kind] = describe(model, data)
    data_of_page = json.dumps(models).replace(
        "<", "\\u003c"
    )  # an equivalent JSON escape, which cannot close the script element
    page = TEMPLATE.read_text("utf-8").partition(END)[0]
    page += f'<script id="models" type="application/json">{data_of_page}</script>\n'
    page += f"<script>\n{scripts()}</script>\n</body>\n</html>\n"
    target = assignment.OUTPUTS / "explore.html"
    with new_file("explore.html") as written:
        written.write_text(page, "utf-8")
    names = " and the ".join(kind.upper() for kind in models)
    print(f"{target}, {target.stat().st_size / 1e6:.1f} MB, shows the {names}")


if __name__ == "__main__":
    run_program(main)
