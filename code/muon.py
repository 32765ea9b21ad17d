"""The optimizer of `assignment.train_vae`: Adam, with Muon's update for some of the kernels.

A run is short: 10 epochs in batches of 1024 are 580 steps. Muon (https://kellerjordan.github.io/posts/muon/) makes the
momentum of a kernel nearly orthogonal before the kernel moves along it, so that a step changes all directions alike,
and not only the few with large gradients. Compared with Adam for every kernel, in as much time and at its own best
learning rate, the test loss is 4.8 nats lower for the VAE and 2.9 for the CVAE, and the distance of the CVAE's samples
to real digits a third smaller (`tests/results.py ablation`).
"""

import math

import tensorflow as tf

MIN_MUON_BATCH_SIZE = 512  # Muon's update takes as long for smaller batches, and would be most of a step
MOMENTUM = 0.95  # as Muon's author has it
SCALE = 0.2  # size of the update, see `MuonAdam`; as in https://arxiv.org/abs/2502.16982
EVERY = 2  # a kernel is updated in every second step, by twice as much: as good, and half the time
NEWTON_SCHULZ_STEPS = 4  # Muon's author takes five; four save a fifth of the update's time
WARM_UP = 100  # steps over which the learning rate grows, for batches of 1024
DECAY = 200 * 1024  # images after the warm-up until the learning rate is the peak / sqrt(2)
BETA_2 = 0.97  # of Adam: the average over the last 33 steps, since a run has but 580


@tf.keras.utils.register_keras_serializable("hw6")
class MuonAdam(tf.keras.optimizers.Adam):
    """Adam, and for the kernels in `muon_kernels` Muon's update while batches are large enough.

    The update of a kernel (F, G) is its momentum, made nearly orthogonal, times the learning rate and
    0.2 sqrt(max(F, G)), so that the update's elements are nearly of the size 0.2 times the rate. It is done in every
    second step, twice as large; the kernels take turns.

    Attributes:
        muon_kernels: the kernels; none in a copy that Keras made from the configuration, which is Adam alone.
        use_muon: whether they get Muon's update, see `start_step`.
        has_schedule: whether the caller has made its learning rate a schedule, which then counts.
        steps: the number of steps that were started.
        images_seen: the number of images in those after the warm-up.
    """

    def __init__(self, learning_rate=1e-3, beta_2=BETA_2, muon_kernels=(), **options):
        super().__init__(learning_rate, beta_2=beta_2, **options)
        self.muon_kernels = list(muon_kernels)
        self.momenta = [tf.Variable(tf.zeros_like(kernel), trainable=False) for kernel in self.muon_kernels]
        self.use_muon = False
        self.has_schedule = False
        self.steps = 0
        self.images_seen = 0
        self.known = []

    def prepare(self, variables):
        """Creates the state of all variables that may be trained: a layer that is frozen now may be trained later."""
        self.known = list(variables)
        if self.known:
            self.build(self.known)

    def knows(self, variables):
        """Whether it was prepared for all of these variables."""
        return all(any(variable is known for known in self.known) for variable in variables)

    def start_step(self, batch_size, peak):
        """Sets the learning rate of the next step, and whether its batch is large enough for Muon's update.

        The latter is read when the step is traced; each batch size has a trace of its own.
        """
        self.use_muon = batch_size >= MIN_MUON_BATCH_SIZE
        self.steps += 1
        if self.steps > warm_up_steps(batch_size):
            self.images_seen += batch_size
        if not self.has_schedule:
            self.learning_rate = learning_rate_schedule(self.steps, self.images_seen, batch_size, peak)

    def apply_gradients(self, grads_and_vars, *args, **options):
        """One step of training, given pairs of gradient and variable."""
        for_adam = []
        for gradient, variable in grads_and_vars:
            index = self.muon_index(variable)
            if index is None or gradient is None:
                for_adam.append((gradient, variable))
            else:
                self.update_by_muon(index, gradient)
        return super().apply_gradients(for_adam, *args, **options)

    def muon_index(self, variable):
        """The index of a variable in `muon_kernels`, or None if it gets Adam's update."""
        if self.use_muon:
            for index, kernel in enumerate(self.muon_kernels):
                if kernel is variable:
                    return index
        return None

    def update_by_muon(self, index, gradient):
        """Adds the gradient to a kernel's momentum and, if it is the kernel's turn, updates the kernel."""
        kernel = self.muon_kernels[index]
        momentum = self.momenta[index]
        momentum.assign(MOMENTUM * momentum + gradient)

        def update():
            direction = orthogonalise(gradient + MOMENTUM * momentum)  # Nesterov's momentum
            rate = tf.cast(self.learning_rate, direction.dtype)
            kernel.assign_sub(rate * EVERY * SCALE * max(kernel.shape) ** 0.5 * direction)
            return True

        step = tf.cast(tf.convert_to_tensor(self.iterations), tf.int64)
        tf.cond((step + index) % EVERY == 0, update, lambda: False)

    def save_own_variables(self, store):
        """Nothing: files of weights hold the weights alone. Adam's state would make them three times as large."""

    def load_own_variables(self, store):
        """Nothing: loading weights leaves the state as it is. That of a new model is empty."""


def orthogonalise(matrix):
    """Nearly U V^T of the singular value decomposition U S V^T of a matrix (F, G), by Newton and Schulz's iteration.

    Muon's coefficients bring all but very small singular values into 0.7 to 1.2 in few steps, and do not converge to 1.
    A zero matrix stays zero.
    """
    x = tf.math.divide_no_nan(matrix, tf.norm(matrix))
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = tf.matmul(x, x, transpose_b=True)  # (F, F)
        x = 3.4445 * x + tf.matmul(-4.7750 * gram + 2.0315 * tf.matmul(gram, gram), x)
    return x


def learning_rate_schedule(step, images_seen, batch_size, peak):
    """The learning rate of step 1, 2, ..., given the number of images since the warm-up. It needs no length of a run.

    `peak` is for batches of 128; for others it is (B / 128)^0.75 times that, up to B = 1024. The rate grows linearly
    over the warm-up, and is then the peak divided by sqrt(1 + images_seen / `DECAY`).
    """
    peak = peak * (min(batch_size, 1024) / 128) ** 0.75
    warm_up = warm_up_steps(batch_size)
    if step < warm_up:
        return peak * step / warm_up
    return peak / math.sqrt(1 + images_seen / DECAY)


def warm_up_steps(batch_size):
    """The number of steps of the warm-up: more for small batches, whose gradients have more noise."""
    return WARM_UP * math.sqrt(1024 / min(batch_size, 1024))


def set_optimizer(model):
    """Makes a `MuonAdam` the optimizer of a model, unless its caller has set another.

    A `MuonAdam` that was not prepared for all variables is replaced. Where a layer is new, the learning rate goes on.
    The `MuonAdam` of a new model has done no steps: its training starts with the warm-up, after `load_weights` too.
    """
    optimizer = getattr(model, "optimizer", None)
    is_ours = isinstance(optimizer, MuonAdam)
    if is_ours and optimizer.knows(model.trainable_variables):
        optimizer.has_schedule = schedule_of(optimizer) is not None
        return
    if not is_ours and optimizer is not None:
        is_default = optimizer.name == "default_adam" and schedule_of(optimizer) is None  # as `vae.py` makes it
        if not is_default:
            return
    model.optimizer = MuonAdam(muon_kernels=muon_kernels(model))
    weights = getattr(model, "weights", model.trainable_variables)
    model.optimizer.prepare([variable for variable in weights if tf.as_dtype(variable.dtype).is_floating])
    if is_ours:
        model.optimizer.steps = optimizer.steps
        model.optimizer.images_seen = optimizer.images_seen


def schedule_of(optimizer):
    """The configuration of the schedule that is an optimizer's learning rate, or None if that is a number."""
    learning_rate = optimizer.get_config()["learning_rate"]
    return learning_rate if isinstance(learning_rate, dict) else None


def muon_kernels(model):
    """The kernels of a model that get Muon's update.

    Of a VAE those from one hidden layer to the next, in both networks. Of a CVAE the decoder's alone, and that of the
    pixels: if the encoder's get it as well, fewer samples are the digit asked for.
    """
    if hasattr(model, "num_classes"):
        return kernels(model, "decoder", ("hidden_2", "hidden_3", "pixels"))
    hidden = ("hidden_2", "hidden_3")
    return kernels(model, "encoder", hidden) + kernels(model, "decoder", hidden)


def kernels(model, network, names):
    """The kernels of the layers of these names in one of a model's networks; none if there are no such layers."""
    layers = getattr(getattr(model, network, None), "layers", [])
    return [layer.kernel for layer in layers if layer.name in names]
