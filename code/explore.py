"""Writes `outputs/explore.html`, a page to play with the saved models in any browser: `python code/explore.py`.

The page is the template `explore.html` beside this file, with the weights in it and statistics of the test images' mu.
It loads nothing from anywhere.
"""

import argparse
import base64
import json
import os
import pathlib
import sys

if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"  # whatever a notebook's environment says

import assignment
import numpy as np
from vae import CVAE, VAE

TEMPLATE = pathlib.Path(__file__).resolve().with_name("explore.html")


def quantise(kernel, bias):
    """A linear layer in 8 bits: bytes of float32 scales (inputs,), float32 biases and int8 kernel (inputs, outputs).

    A weight is its int8 times the scale of its row.
    """
    scales = np.maximum(np.abs(kernel).max(axis=1), 1e-12).astype("<f4") / np.float32(127)
    steps = np.round(kernel / scales[:, np.newaxis]).astype("i1")
    return scales.tobytes() + bias.astype("<f4").tobytes() + steps.tobytes()


def describe(model):
    """What the template needs of a trained model, as its comment says.

    ValueError if there is no record of the run behind its weights, or if that run had other data than is loaded now.
    """
    run, data = assignment.saved_run(model), assignment.load_data()
    if run.get("data") != data.name:
        record = assignment.output_path(model, ".run.json")
        raise ValueError(f"{record} does not say that the weights are of a run on {data.name}: train again")
    _, _, mu = assignment.evaluate(model)
    variances, axes = np.linalg.eigh(np.cov(mu, rowvar=False))  # the last are the largest
    networks = model.encoder, model.mu_layer, model.logvar_layer, model.decoder
    weights = [weight for network in networks for weight in network.get_weights()]
    kernels, biases = weights[::2], weights[1::2]
    return {
        "latent_size": model.latent_size,
        "num_classes": getattr(model, "num_classes", 0),
        "layers": [kernel.shape for kernel in kernels],
        "weights": base64.b64encode(b"".join(map(quantise, kernels, biases))).decode(),
        "run": {"data": run["data"], "epochs": len(run["history"]), "test_loss": sum(run["history"][-1][1:])},
        "variances": mu.var(axis=0).tolist(),
        "axes": axes.T[[-1, -2]].tolist(),
        "deviations": np.sqrt(variances[[-1, -2]]).tolist(),
    }


def main(argv=None):
    """Writes the page of the models that are saved. ValueError or OSError if there is none, or if one does not fit."""
    parser = argparse.ArgumentParser(description="Write outputs/explore.html, a page to play with the saved models.")
    parser.add_argument(
        "--latent_size", type=int, default=15, help="latent dimensions of the saved models (default: 15)"
    )
    latent_size = parser.parse_args(argv).latent_size
    models = [kind(784, latent_size=latent_size) for kind in (CVAE, VAE)]
    saved = [model for model in models if assignment.output_path(model, ".weights.h5").exists()] or models[:1]
    described = {type(model).__name__.lower(): describe(assignment.load_weights(model)) for model in saved}
    data = json.dumps(described).replace("<", "\\u003c")  # JSON's other spelling, which cannot end the script
    page = TEMPLATE.read_text("utf-8").replace(">MODELS<", f">{data}<")
    target = assignment.OUTPUTS / "explore.html"
    target.write_text(page, "utf-8")
    print(f"{target}, {target.stat().st_size / 1e6:.1f} MB, shows the {' and the '.join(described).upper()}")


if __name__ == "__main__":
    sys.exit(assignment.run(main))
