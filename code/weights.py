"""Saved weights, and beside them a record: what data they were trained on, the seed, and the losses by epoch."""

import json
import sys
import warnings
import zlib

import files
import numpy as np
import tensorflow as tf
from errors import InputError
from files import new_file
from forward import classes_for, forward, is_conditional
from vae import CVAE, VAE


def kind_of(model):
    """The first part of the names of a model's files, "cvae" or "vae"."""
    return "cvae" if is_conditional(model) else "vae"


def weights_path(kind):
    """The file of the weights of a kind, "cvae" or "vae"."""
    return files.OUTPUTS / f"{kind}.weights.h5"


def record_path(kind):
    """The file of their record."""
    return files.OUTPUTS / f"{kind}.run.json"


def save_model_weights(model, args, record=None):
    """Saves the weights as `outputs/{vae,cvae}.weights.h5`, and beside them a record as `outputs/{vae,cvae}.run.json`.

    The record is a dictionary of what is known of the weights, see `assignment.train_and_save`; the number
    of latents and a checksum of the file are added. OSError if a file cannot be written: the old one is then unchanged.
    """
    kind = kind_of(model)
    with new_file(weights_path(kind)) as written:
        write_weights(model, written)
        checksum = zlib.crc32(written.read_bytes())
    record = {**(record or {}), "latent_size": getattr(model, "latent_size", None), "checksum": checksum}
    with new_file(record_path(kind)) as written:
        written.write_text(json.dumps(record, indent=1), "utf-8")


def write_weights(model, path):
    """Writes the weights of a model to a file, without its optimizer. OSError if it cannot be written."""
    size = sum(np.asarray(weights).nbytes for weights in model.get_weights())
    path.write_bytes(bytes(size + 2**20))  # where the disk is full this raises, HDF5 would crash
    optimizer = getattr(model, "optimizer", None)
    model.optimizer = None  # Keras would write its state too, which is twice as large as the weights
    try:
        model.save_weights(str(path))
    except RuntimeError as error:  # what HDF5 raises for a file that cannot be written
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        model.optimizer = optimizer


def load_weights(model):
    """The model with its saved weights.

    FileNotFoundError if there are none; another OSError if the file cannot be read now, as while another program has it
    open; InputError, a ValueError, if the weights do not fit. The model is then unchanged.
    """
    path = weights_path(kind_of(model))
    if not path.exists():
        raise FileNotFoundError(f"there are no weights at {path}: train first, without --load_weights")
    if not model.built:  # another's model, which may have no weights before it is called
        forward(model, tf.zeros((1, 1, 28, 28)), classes_for(model, [0]))
    before = model.get_weights()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras says that the file has no state of the optimizer
            model.load_weights(str(path))
    except Exception as error:  # h5py and both generations of Keras raise many kinds
        model.set_weights(before)  # some may have been loaded
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, f"{path} cannot be read now ({error})") from error
        reasons = "its number of latents is another, it is damaged, or Keras 3 saved it and Keras 2 reads it"
        raise InputError(f"{path} does not fit this {type(model).__name__}: {reasons}") from error
    return model


def read_record(kind):
    """The record of the saved weights; {} and a line on stderr if it is missing, damaged or of other weights."""
    path = record_path(kind)
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["checksum"] == zlib.crc32(weights_path(kind).read_bytes()):
            return record
        reason = "it is the record of other weights"
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
    print(f"{path} does not say what data the weights are of ({reason})", file=sys.stderr)
    return {}


def load_model(kind, data=None):
    """The saved model of a kind, "vae" or "cvae", with as many latents as its record says; and the record.

    InputError if it was trained on other data than `data`, where both are known.
    """
    if not weights_path(kind).exists():
        raise FileNotFoundError(f"there are no weights at {weights_path(kind)}: train first, without --load_weights")
    record = read_record(kind)
    if data and record.get("data", data.name) != data.name:
        raise InputError(f"the saved {kind.upper()} was trained on {record['data']}, not on {data.name}: use that data")
    latent_size = record.get("latent_size") or 15
    model = CVAE(784, latent_size=latent_size) if kind == "cvae" else VAE(784, latent_size=latent_size)
    return load_weights(model), record
