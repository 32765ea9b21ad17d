"""A step of training as a graph, which is faster than the same step line by line."""

import weakref
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from muon import settings_of


class Compiled(NamedTuple):
    """A model's compiled step, and what it was made for."""

    step: Callable
    objects: list  # the optimizer and the trained variables
    settings: dict  # of the optimizer, see `muon.settings_of`


compiled = weakref.WeakKeyDictionary()  # of each model; a model that is deleted frees its graph


def compiled_step(train_step, model, batch, is_cvae):
    """`train_step` as a graph for a model and batches like this one, of any size.

    It is kept from epoch to epoch, and made anew if the optimizer, its settings or the trained variables have changed.
    """
    settings = settings_of(model.optimizer)
    known = compiled.get(model)
    if known and known.settings == settings and same_objects(known.objects, trained_objects(model)):
        step = known.step
    else:
        step = tf.function(train_step, autograph=False)  # it would look for loops to convert
    images, labels = batch
    any_images = tf.TensorSpec((None, *images.shape[1:]), images.dtype)
    any_labels = tf.TensorSpec((None,), labels.dtype)
    # Traced here, and not by its first call: TensorFlow would warn of too many traces after a few models
    step.get_concrete_function(model, any_images, any_labels, is_cvae)
    compiled[model] = Compiled(step, trained_objects(model), settings)  # another's model has variables only by now
    return step


def trained_objects(model):
    """The optimizer of a model and its trained variables."""
    return [model.optimizer, *model.trainable_variables]


def same_objects(a, b):
    """Whether two lists hold the same objects."""
    return len(a) == len(b) and all(x is y for x, y in zip(a, b))
