"""The optimizer of `assignment.train_vae`: Adam, with Muon's update for some of the kernels; and its learning rate.

A run is short: 10 epochs in batches of 1024 are 580 steps. Muon (https://kellerjordan.github.io/posts/muon/) makes the
momentum of a kernel nearly orthogonal before the kernel moves along it, so that a step changes all directions alike,
and not only the few with large gradients. `tests/results.py ablation` shows what it is worth beside Adam for every
kernel in as much time, with a learning rate of Adam's own: see outputs/README.md.
"""

import math

import tensorflow as tf
from errors import InputError
from forward import is_conditional

PEAK = 1.5e-3  # the learning rate after the warm-up, for batches of 128
WARM_UP = 100  # steps over which the learning rate grows, for batches of 1024
DECAY = 200 * 1024  # images over which the learning rate falls, see `WarmUpThenDecay`
BETA_2 = 0.97  # of Adam: the average over the last 33 steps, since a run has but 580
MIN_MUON_BATCH_SIZE = 512  # Muon's update takes as long for smaller batches, and would be most of a step
MOMENTUM = 0.95  # as Muon's author has it
SCALE = 0.2  # size of the update, see `MuonAdam`; as in https://arxiv.org/abs/2502.16982
EVERY = 2  # a kernel is updated in every second step, by twice as much: as good, and half the time
NEWTON_SCHULZ_STEPS = 4  # Muon's author takes five; four save a fifth of the update's time


def rate_at(batch_size, peak=PEAK):
    """The highest learning rate of a run: `peak` at a batch size of 128, in proportion at others up to 1024."""
    return peak * min(batch_size, 1024) / 128


@tf.keras.utils.register_keras_serializable("hw6")
class WarmUpThenDecay(tf.keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step of a run in batches of one size; the length of the run need not be known.

    It grows linearly over the warm-up, and is then divided by (1 + images / 204,800)^1.5, images being the number of
    those seen since.

    Attributes:
        peak: see `rate_at`; a variable, so that a compiled step follows when it is changed.
        batch_size: B.
    """

    def __init__(self, peak=PEAK, batch_size=1024):
        super().__init__()
        self.peak = tf.Variable(peak, trainable=False, dtype=tf.float32)
        self.batch_size = batch_size

    def __call__(self, step):
        """The learning rate, float32, of a step, counted from 0 as optimizers do."""
        steps = tf.cast(tf.convert_to_tensor(step), tf.float32) + 1.0
        warm_up = WARM_UP * math.sqrt(1024 / min(self.batch_size, 1024))  # more for small batches: they have more noise
        growth = tf.minimum(steps / warm_up, 1.0)
        images = self.batch_size * tf.maximum(steps - warm_up, 0.0)
        return rate_at(self.batch_size, self.peak) * growth / (1.0 + images / DECAY) ** 1.5

    def get_config(self):
        return {"peak": float(self.peak.numpy()), "batch_size": self.batch_size}


@tf.keras.utils.register_keras_serializable("hw6")
class MuonAdam(tf.keras.optimizers.Adam):
    """Adam, and Muon's update for the kernels, the weight matrices, of some layers.

    The update of a kernel (F, G) is its momentum, made nearly orthogonal, times the learning rate and
    0.2 sqrt(max(F, G)), so that the update's elements are nearly of the size 0.2 times the rate. It is done in every
    second step, twice as large; the kernels take turns. InputError if it is to accumulate gradients.

    Attributes:
        schedule: the learning rate that it was made with.
        muon_layers: the names of the layers; a kernel gets Muon's update if one of them is part of its path.
        muon_dtype: the type in which the momentum is made orthogonal.
        known: the variables that it has state for.
        kernels, momenta: the kernels that get Muon's update, and the momentum of each.
    """

    def __init__(
        self, learning_rate=PEAK, beta_2=BETA_2, muon_layers=(), muon_dtype="float32", name="muon_adam", **options
    ):
        if options.get("gradient_accumulation_steps"):  # Keras' versions count steps in different ways
            raise InputError("MuonAdam does not accumulate gradients: use larger batches instead")
        super().__init__(learning_rate, beta_2=beta_2, name=name, **options)
        self.schedule = learning_rate
        self.muon_layers = tuple(muon_layers)
        self.muon_dtype = muon_dtype
        self.known = []
        self.kernels = []
        self.momenta = []

    def build(self, variables):
        """Creates the state for these variables, the first time that it is called. InputError on several devices."""
        super().build(variables)
        if self.known:
            return
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise InputError("MuonAdam trains on one device: use another optimizer of Keras on several")
        self.known = list(variables)
        for variable in variables:
            if self.is_for_muon(variable):
                self.kernels.append(variable)
                self.momenta.append(self.add_variable_from_reference(variable, "muon_momentum"))

    def is_for_muon(self, variable):
        """Whether a variable is the kernel of one of the layers."""
        path = getattr(variable, "path", variable.name)  # Keras 2 calls it a name
        is_kernel = len(variable.shape) == 2
        return is_kernel and not set(self.muon_layers).isdisjoint(path.split("/"))

    def set_peak(self, peak):
        """Changes the peak of its `WarmUpThenDecay`; another learning rate stays as it is."""
        if isinstance(self.schedule, WarmUpThenDecay):
            self.schedule.peak.assign(peak)

    def knows(self, variables):
        """Whether there is state for all of these variables."""
        return all(any(variable is known for known in self.known) for variable in variables)

    def update_step(self, gradient, variable, *learning_rate):
        """One variable's update. Keras calls it, and Keras 3 gives the learning rate."""
        for index, kernel in enumerate(self.kernels):
            if variable is kernel or variable is getattr(kernel, "value", None):  # Keras 3 gives TensorFlow's variable
                self.update_by_muon(index, gradient, variable)
                return
        super().update_step(gradient, variable, *learning_rate)

    def update_by_muon(self, index, gradient, kernel):
        """Adds the gradient to a kernel's momentum and, if it is the kernel's turn, updates the kernel."""
        momentum = self.momenta[index]
        momentum.assign(MOMENTUM * momentum + gradient)

        def update():
            direction = orthogonalise(gradient + MOMENTUM * momentum, self.muon_dtype)  # Nesterov's momentum
            rate = tf.cast(self.learning_rate, direction.dtype)
            kernel.assign_sub(rate * EVERY * SCALE * max(kernel.shape) ** 0.5 * direction)

        step = tf.cast(tf.convert_to_tensor(self.iterations), tf.int64)
        tf.cond((step + index) % EVERY == 0, update, lambda: None)

    def get_config(self):
        """The constructor's arguments, from which Keras makes a copy."""
        return {**super().get_config(), "muon_layers": list(self.muon_layers), "muon_dtype": self.muon_dtype}


def orthogonalise(matrix, dtype="float32"):
    """Nearly U V^T of the singular value decomposition U S V^T of a matrix (F, G), by Newton and Schulz's iteration.

    Muon's coefficients bring all but very small singular values into 0.7 to 1.2 in few steps, and do not converge to 1.
    A zero matrix stays zero. The iteration is done in the type `dtype`, the result is of the matrix's type.
    """
    x = tf.cast(tf.math.divide_no_nan(matrix, tf.norm(matrix)), dtype)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = tf.matmul(x, x, transpose_b=True)  # (F, F)
        x = 3.4445 * x + tf.matmul(-4.7750 * gram + 2.0315 * tf.matmul(gram, gram), x)
    return tf.cast(x, matrix.dtype)


def new_optimizer(model, batch_size=1024, peak=PEAK, **options):
    """A `MuonAdam` for a model that is trained in batches of one size: for `train_vae`, `fit` or a loop of one's own.

    `peak` is the learning rate after the warm-up, at a batch size of 128: see `WarmUpThenDecay`. `options` are
    `MuonAdam`'s, in place of those that suit the model.
    """
    suited = {"muon_layers": muon_layers(model, batch_size), "muon_dtype": muon_dtype(model)}
    optimizer = MuonAdam(WarmUpThenDecay(peak, batch_size), **{**suited, **options})
    build_for(optimizer, model)
    return optimizer


def muon_layers(model, batch_size=1024):
    """The names of the layers of a model whose kernels get Muon's update: none for batches of fewer than 512 images.

    Of a VAE those from one hidden layer to the next, in both networks. Of a CVAE the decoder's alone, and that of the
    pixels: if the encoder's get it as well, the loss is lower, and fewer samples are the digit asked for.
    """
    if batch_size < MIN_MUON_BATCH_SIZE:
        return ()
    if is_conditional(model):
        return ("decoder_2", "decoder_3", "pixels")
    return ("encoder_2", "encoder_3", "decoder_2", "decoder_3")


def muon_dtype(model):
    """The type of Muon's iteration: bfloat16, as its author has it, under Keras' policy for that; else float32."""
    return "bfloat16" if getattr(model, "compute_dtype", None) == "bfloat16" else "float32"


def set_optimizer(model, batch_size, peak=None):
    """Gives a model the optimizer with which `train_vae` trains it: this is the rule of whose optimizer counts.

    A model whose caller has set an optimizer, or has changed a setting of its first one, keeps it. Any other gets a
    `new_optimizer`, made for this batch size. If there is a `peak`, it becomes that of any `MuonAdam`'s learning rate.
    InputError if the optimizer is one that Keras has wrapped for float16.
    """
    optimizer = getattr(model, "optimizer", None)
    if isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
        raise InputError(
            "train_vae does not scale the loss, as compile() expects for float16: set model.optimizer anew"
        )
    is_first = hasattr(model, "first_optimizer") and settings_of(optimizer) == settings_of(model.first_optimizer())
    if optimizer is None or is_first:
        model.optimizer = new_optimizer(model, batch_size)
    elif isinstance(optimizer, MuonAdam) and not optimizer.knows(model.trainable_variables):
        model.optimizer = copy_for(model, optimizer)
    if peak is not None and isinstance(model.optimizer, MuonAdam):
        model.optimizer.set_peak(peak)


def copy_for(model, optimizer):
    """A copy of a `MuonAdam` for a model that has got new layers: its state is new, and its learning rate goes on."""
    copied = MuonAdam.from_config(optimizer.get_config())
    build_for(copied, model)
    copied.iterations.assign(optimizer.iterations)
    return copied


def build_for(optimizer, model):
    """Creates the state for all weights that may be trained: a layer that is frozen now may be trained later.

    Another's model may have no weights before it is called: then Keras creates the state in the first step.
    """
    if getattr(model, "built", True):  # a tf.Module has neither `built` nor `weights`
        weights = getattr(model, "weights", model.trainable_variables)
        optimizer.build([variable for variable in weights if tf.as_dtype(variable.dtype).is_floating])


def settings_of(optimizer):
    """An optimizer's configuration without its learning rate, if that is a variable: what is fixed in a compiled step.

    A number is such a variable, and so is the peak of a `WarmUpThenDecay`. {} if there is no configuration: a schedule
    of the caller's own may be without.
    """
    try:
        settings = optimizer.get_config()
    except (AttributeError, NotImplementedError):
        return {}
    learning_rate = settings.get("learning_rate")
    if not isinstance(learning_rate, dict) or "peak" in learning_rate["config"]:
        settings.pop("learning_rate", None)
    return settings
