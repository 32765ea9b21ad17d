"""The two models of the homework and their loss, in the order of the handout.

`VAE` is the handout's step 1, `CVAE` its step 2; the method is that of Kingma & Welling, https://arxiv.org/abs/1312.6114.
What the handout leaves open follows below: the initialization of the weights, and `MuonAdam`, the default optimizer of
both models.

Shapes in the comments: N images of H x W pixels, D = H * W, Z latents, C classes, H_d hidden units (the handout's H).
Losses are in nats, the unit of natural logarithms.
"""

import math
import os
import types

os.environ["KERAS_BACKEND"] = "tensorflow"  # this is TensorFlow code, whatever backend the user's settings name

import tensorflow as tf
from tensorflow.keras import layers


class ElboModel(tf.keras.Model):
    """Base class of `VAE` and `CVAE`: stores the sizes and implements the loss for Keras' `fit` and `evaluate`.

    The loss is the negative ELBO, the evidence lower bound.

    Attributes:
        input_size: D, the number of pixels of a square image.
        image_size: H and W.
        latent_size: Z.
        hidden_dim: H_d, the width of every hidden layer.
        optimizer: a `MuonAdam`. Train with it, or assign another Keras optimizer.

    Raises:
        ValueError: if `input_size` is not a positive square.
    """

    hidden_dim = 352

    def __init__(self, input_size, latent_size):
        super().__init__()
        self.input_size = int(input_size)
        self.image_size = math.isqrt(max(self.input_size, 0))
        self.latent_size = int(latent_size)
        if self.input_size < 1 or self.image_size**2 != self.input_size:
            raise ValueError(f"input_size must be a positive square such as 784, got {input_size}")
        means = {name: tf.keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "kl")}
        # In a namespace, since Keras 2 would add the metrics' variables to the model's weights
        self.means = types.SimpleNamespace(**means)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Updates the metrics and returns the loss that `fit` minimizes and `evaluate` reports. Called by Keras.

        Args:
            x: the model's input: images, or a pair (images, one-hot classes).
            y: not used.
            y_pred: the model's output (x_hat, mu, logvar).
            sample_weight: (N,) or (N, 1). As in Keras, weighted losses are summed and divided by N.
            training: not used.

        Raises:
            ValueError: if a loss was passed to `compile`, since it would be ignored.
        """
        if self.loss:
            raise ValueError("the model has its own loss: call compile(optimizer=model.optimizer), without a loss")
        images = x[0] if isinstance(x, (tuple, list)) else x
        x_hat, mu, logvar = y_pred
        weight = 1.0
        if sample_weight is not None:
            weight = tf.reshape(tf.cast(sample_weight, tf.float32), tf.shape(mu)[:1])  # (N,)
        reconstruction = tf.reduce_mean(weight * reconstruction_loss(x_hat, images))
        kl = tf.reduce_mean(weight * kl_divergence(mu, logvar))
        loss = reconstruction + kl + sum(self.losses)  # `losses`: regularizers of the layers, and `add_loss`
        count = tf.shape(mu)[0]
        self.means.loss.update_state(loss, count)
        self.means.reconstruction.update_state(reconstruction, count)
        self.means.kl.update_state(kl, count)
        return loss / tf.distribute.get_strategy().num_replicas_in_sync  # Keras adds up the gradients of the devices

    @property
    def metrics(self):
        """The loss, its two terms, and the metrics given to `compile`."""
        others = [metric for metric in super().metrics if metric.name != "loss"]  # Keras 3 has one for the loss too
        return [self.means.loss, self.means.reconstruction, self.means.kl, *others]


# ----------------------------------------------------------------------------- step 1: fully-connected VAE


@tf.keras.utils.register_keras_serializable("hw6")
class VAE(ElboModel):
    """Fully-connected variational autoencoder (handout, step 1).

    Attributes, besides those of `ElboModel`:
        encoder: (N, 1, H, W) -> (N, H_d).
        mu_layer, logvar_layer: (N, H_d) -> (N, Z), mean and log-variance of the posterior q(z|x).
        decoder: (N, Z) -> (N, 1, H, W), pixels in (0, 1).
    """

    def __init__(self, input_size, latent_size=15):
        super().__init__(input_size, latent_size)
        self.encoder = tf.keras.Sequential(
            [
                layers.Input((1, self.image_size, self.image_size)),
                layers.Flatten(),  # (N, 1, H, W) -> (N, D)
                hidden_layer(self.hidden_dim, "encoder_1"),  # (N, D) -> (N, H_d)
                hidden_layer(self.hidden_dim, "encoder_2"),
                hidden_layer(self.hidden_dim, "encoder_3"),
            ],
            name="encoder",
        )
        self.mu_layer = mu_layer(self.hidden_dim, self.latent_size)  # (N, H_d) -> (N, Z)
        self.logvar_layer = logvar_layer(self.hidden_dim, self.latent_size, bias=-2.0)  # (N, H_d) -> (N, Z)
        self.decoder = tf.keras.Sequential(
            [
                layers.Input((self.latent_size,)),
                hidden_layer(self.hidden_dim, "decoder_1"),  # (N, Z) -> (N, H_d)
                hidden_layer(self.hidden_dim, "decoder_2"),
                hidden_layer(self.hidden_dim, "decoder_3"),
                output_layer(self.input_size),  # (N, H_d) -> (N, D)
                layers.Activation("sigmoid", dtype="float32"),
                layers.Reshape((1, self.image_size, self.image_size), dtype="float32"),  # (N, D) -> (N, 1, H, W)
            ],
            name="decoder",
        )
        # In about the same training time, Muon for these layers lowers the test loss by 3.7 nats compared with Adam
        self.optimizer = MuonAdam(muon_layers=("encoder_2", "encoder_3", "decoder_2", "decoder_3"))
        self.optimizer.build(self.trainable_variables)

    def encode(self, x):
        """Encodes images x, (N, 1, H, W) or of any shape with D pixels per image, into mu and logvar, (N, Z) each."""
        x = tf.cast(x, self.compute_dtype)
        x = tf.reshape(x, (tf.shape(x)[0], 1, self.image_size, self.image_size))
        h = self.encoder(x)  # (N, H_d)
        return self.mu_layer(h), self.logvar_layer(h)

    def decode(self, z):
        """Decodes latents z (N, Z) into images x_hat (N, 1, H, W), pixels in (0, 1)."""
        return self.decoder(tf.cast(z, self.compute_dtype))

    def call(self, x, training=None):
        """Reconstructs images (handout, "VAE Forward Pass").

        Args:
            x: images in [0, 1], (N, 1, H, W) or any other shape with D pixels per image.
            training: not used here; Keras passes it on to the inner layers, such as a `Dropout`.

        Returns:
            x_hat (N, 1, H, W), mu (N, Z) and logvar (N, Z).
        """
        mu, logvar = self.encode(x)
        z = reparametrize(mu, logvar)
        x_hat = self.decode(z)
        return x_hat, mu, logvar

    def get_config(self):
        """Returns the constructor's arguments, from which Keras re-creates the object."""
        return {"input_size": self.input_size, "latent_size": self.latent_size}


# ----------------------------------------------------------------- step 2: conditional fully-connected VAE


@tf.keras.utils.register_keras_serializable("hw6")
class CVAE(ElboModel):
    """Conditional VAE: encoder and decoder are given the class c too (handout, step 2; q(z|x,c) and p(x|z,c)).

    Attributes, besides those of `ElboModel`:
        num_classes: C.
        encoder: flattened image and c, concatenated, (N, D + C) -> (N, H_d).
        mu_layer, logvar_layer: (N, H_d) -> (N, Z), mean and log-variance of the posterior q(z|x,c).
        decoder: z and c, concatenated, (N, Z + C) -> (N, 1, H, W), pixels in (0, 1).
    """

    def __init__(self, input_size, num_classes=10, latent_size=15):
        super().__init__(input_size, latent_size)
        self.num_classes = int(num_classes)
        encoder_kernel = HeNormalWithClass(self.num_classes, ENCODER_CLASS_SCALE)
        decoder_kernel = HeNormalWithClass(self.num_classes, DECODER_CLASS_SCALE)
        self.encoder = tf.keras.Sequential(
            [
                layers.Input((self.input_size + self.num_classes,)),
                hidden_layer(self.hidden_dim, "encoder_1", encoder_kernel),  # (N, D + C) -> (N, H_d)
                hidden_layer(self.hidden_dim, "encoder_2"),
                hidden_layer(self.hidden_dim, "encoder_3"),
            ],
            name="encoder",
        )
        self.mu_layer = mu_layer(self.hidden_dim, self.latent_size)  # (N, H_d) -> (N, Z)
        self.logvar_layer = logvar_layer(self.hidden_dim, self.latent_size, bias=-3.0)  # (N, H_d) -> (N, Z)
        self.decoder = tf.keras.Sequential(
            [
                layers.Input((self.latent_size + self.num_classes,)),
                hidden_layer(self.hidden_dim, "decoder_1", decoder_kernel),  # (N, Z + C) -> (N, H_d)
                hidden_layer(self.hidden_dim, "decoder_2"),
                hidden_layer(self.hidden_dim, "decoder_3"),
                output_layer(self.input_size),  # (N, H_d) -> (N, D)
                layers.Activation("sigmoid", dtype="float32"),
                layers.Reshape((1, self.image_size, self.image_size), dtype="float32"),  # (N, D) -> (N, 1, H, W)
            ],
            name="decoder",
        )
        # In about the same training time, Muon for these layers lowers the test loss by 5.0 nats compared with Adam. In
        # the encoder it would lower the loss by another 1.7 nats, but the sample accuracy by 0.3 percentage points too
        self.optimizer = MuonAdam(muon_layers=("decoder_2", "decoder_3", "pixels"))
        self.optimizer.build(self.trainable_variables)

    def encode(self, x, c):
        """Encodes images x, given as in `VAE.encode`, and one-hot classes c (N, C) into mu and logvar, (N, Z) each."""
        x = tf.cast(x, self.compute_dtype)
        x = tf.reshape(x, (tf.shape(x)[0], self.input_size))  # (N, D)
        c = tf.cast(c, self.compute_dtype)
        h = self.encoder(tf.concat([x, c], axis=1))  # (N, D + C) -> (N, H_d)
        return self.mu_layer(h), self.logvar_layer(h)

    def decode(self, z, c):
        """Decodes latents z (N, Z) and one-hot classes c (N, C) into images x_hat (N, 1, H, W), pixels in (0, 1)."""
        z = tf.cast(z, self.compute_dtype)
        c = tf.cast(c, self.compute_dtype)
        return self.decoder(tf.concat([z, c], axis=1))  # (N, Z + C) -> (N, 1, H, W)

    def __call__(self, x, c=None, **options):
        """Passes x and c to Keras as one list, since Keras records the shapes of the first argument only."""
        inputs = x if c is None else (x, c)
        if isinstance(inputs, tuple):
            inputs = list(inputs)
        return super().__call__(inputs, **options)

    def call(self, x, c=None, training=None):
        """Reconstructs images of given classes (handout, "Define CVAE with class input").

        Args:
            x: images in [0, 1], (N, 1, H, W) or any other shape with D pixels per image; or a pair (x, c).
            c: one-hot classes (N, C) of any numeric type.
            training: not used here; Keras passes it on to the inner layers, such as a `Dropout`.

        Returns:
            x_hat (N, 1, H, W), mu (N, Z) and logvar (N, Z).

        Raises:
            ValueError: if the classes are missing.
        """
        if c is None:
            if not isinstance(x, (tuple, list)) or len(x) != 2:
                raise ValueError("a CVAE needs images and one-hot classes: model(x, c), or fit on batches ((x, c),)")
            x, c = x
        mu, logvar = self.encode(x, c)
        z = reparametrize(mu, logvar)
        x_hat = self.decode(z, c)
        return x_hat, mu, logvar

    def get_config(self):
        """Returns the constructor's arguments, from which Keras re-creates the object."""
        return {"input_size": self.input_size, "num_classes": self.num_classes, "latent_size": self.latent_size}


# ---------------------------------------------------------------------------- reparametrization and loss


def reparametrize(mu, logvar):
    """Draws z = mu + sigma * epsilon with epsilon ~ N(0, I), differentiable in mu and logvar.

    Handout, "Reparametrization". mu, logvar and z have the shape (N, Z). The noise follows TensorFlow's global seed.
    """
    mu = tf.convert_to_tensor(mu)
    sigma = tf.exp(0.5 * tf.convert_to_tensor(logvar))
    epsilon = tf.random.normal(tf.shape(mu), dtype=mu.dtype)
    return mu + sigma * epsilon


reparameterization = reparametrize  # the handout's spelling


def bce_function(x_hat, x):
    """Returns the binary cross-entropy between x_hat and x in nats, summed over every pixel of every image."""
    return tf.reduce_sum(reconstruction_loss(x_hat, x))


CLIP = 1e-7  # pixels of x_hat are kept this far from 0 and 1, so that their logarithms are finite


def reconstruction_loss(x_hat, x):
    """Returns the binary cross-entropy of each image in nats, (N,), for x_hat and x with D pixels per image."""
    x_hat = tf.clip_by_value(tf.cast(x_hat, tf.float32), CLIP, 1 - CLIP)
    x = tf.reshape(tf.cast(x, tf.float32), tf.shape(x_hat))  # raises if sizes differ, which might broadcast
    by_pixel = -(x * tf.math.log(x_hat) + (1 - x) * tf.math.log(1 - x_hat))
    return tf.reduce_sum(by_pixel, axis=tuple(range(1, x_hat.shape.rank)))


def kl_divergence(mu, logvar):
    """Returns D_KL(N(mu, sigma^2) || N(0, I)) of each image in nats, (N,) (Kingma & Welling, appendix B)."""
    mu = tf.cast(mu, tf.float32)  # (N, Z)
    logvar = tf.cast(logvar, tf.float32)  # (N, Z)
    return -0.5 * tf.reduce_sum(1.0 + logvar - tf.square(mu) - tf.exp(logvar), axis=-1)


def loss_function(x_hat, x, mu, logvar):
    """Returns the negative ELBO in nats per image, a scalar (handout, "Loss Function").

    The handout's last formula has a squared error and a factor lambda; its text asks for the cross-entropy, which is
    used here, with lambda = 1.

    Args:
        x_hat: reconstructions (N, 1, H, W) in [0, 1].
        x: images with as many pixels as x_hat, in [0, 1].
        mu, logvar: (N, Z).
    """
    reconstruction = bce_function(x_hat, x)
    kl = tf.reduce_sum(kl_divergence(mu, logvar))
    return (reconstruction + kl) / tf.cast(tf.shape(mu)[0], tf.float32)


# -------------------------------------------------------------------------------- layers and initialization


def hidden_layer(hidden_dim, name, kernel_initializer="he_normal"):
    """Creates a linear layer with ReLU, (N, any) -> (N, H_d), with the initialization of He et al. 2015."""
    return layers.Dense(hidden_dim, "relu", kernel_initializer=kernel_initializer, name=name)


def mu_layer(hidden_dim, latent_size):
    """Creates the linear layer of mu, (N, H_d) -> (N, Z)."""
    layer = layers.Dense(latent_size, name="mu")
    layer.build((None, hidden_dim))  # creates the weights now, for the optimizer
    return layer


def logvar_layer(hidden_dim, latent_size, bias):
    """Creates the linear layer of logvar, (N, H_d) -> (N, Z).

    At first logvar is `bias` for every image, and sigma exp(bias / 2): 0.37 for a `VAE`, 0.22 for a `CVAE`. With so
    little noise the decoder soon learns to use z; with more, a CVAE's decoder could learn to rely on the class alone.
    This lowers the CVAE's test loss by 2.6 nats, compared with Keras' default initializer.
    """
    bias = tf.keras.initializers.Constant(bias)
    layer = layers.Dense(latent_size, kernel_initializer="zeros", bias_initializer=bias, name="logvar")
    layer.build((None, hidden_dim))
    return layer


def output_layer(input_size):
    """Creates the decoder's last linear layer, (N, H_d) -> (N, D), whose outputs are the logits of the pixels.

    At first all images are nearly the same uniform gray: -2 is the logit of 0.12, near MNIST's mean pixel of 0.13.
    """
    kernel = tf.keras.initializers.RandomNormal(stddev=0.002)
    bias = tf.keras.initializers.Constant(-2.0)
    return layers.Dense(input_size, kernel_initializer=kernel, bias_initializer=bias, name="pixels")


# A one-hot class has a single nonzero element next to D pixels or Z latents. With He's initialization alone, the
# networks would largely ignore it: z would encode part of the class, and sample accuracy would be lower by 6.9
# (encoder) or 3.9 (decoder) percentage points. Both scales were chosen for MNIST; a larger decoder scale slows down
# training with Adam alone.
ENCODER_CLASS_SCALE = 50.0
DECODER_CLASS_SCALE = 10.5


@tf.keras.utils.register_keras_serializable("hw6")
class HeNormalWithClass(tf.keras.initializers.Initializer):
    """Initializes a kernel as in He et al. 2015, then multiplies its last C rows, the class weights, by `scale`."""

    def __init__(self, num_classes, scale):
        self.num_classes = num_classes
        self.scale = scale

    def __call__(self, shape, dtype=None, **options):
        kernel = tf.keras.initializers.HeNormal()(shape, dtype)
        factors = tf.repeat([1.0, self.scale], [shape[0] - self.num_classes, self.num_classes])
        return kernel * tf.cast(factors[:, tf.newaxis], kernel.dtype)

    def get_config(self):
        return {"num_classes": self.num_classes, "scale": self.scale}


# ------------------------------------------------------------------------------------------------ optimizer


@tf.keras.utils.register_keras_serializable("hw6")
class MuonAdam(tf.keras.optimizers.SGD):
    """Muon for the kernels of some layers, Adam for all other weights.

    Ten epochs at a batch size of 1024 are only 580 steps. Muon (https://kellerjordan.github.io/posts/muon/) makes the
    momentum of a kernel nearly orthogonal before each update, so that the update is about equally large in all
    directions, not only in the few with large gradients.

    In step t, counted from 1, the learning rate is `learning_rate` times min(sqrt(t / 100), 100 / t): it warms up to
    its peak over 100 steps and then decays as 1 / t, so the number of steps need not be known in advance.

    This is a subclass of SGD: SGD clips the gradient, `update_step` replaces it by Muon's or Adam's direction, and SGD
    applies weight decay and updates the variable.

    Args:
        learning_rate: the peak, a number. It can be changed at any time, for example by a Keras callback.
        muon_layers: names of the layers whose kernels are updated by Muon.
        name, options: as in `tf.keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate=0.011, muon_layers=(), name="muon_adam", **options):
        super().__init__(learning_rate, name=name, **options)
        self.muon_layers = list(muon_layers)
        # References to the variables, which, unlike variables, can be compared; the lists below have the same order
        self.references = []
        self.first_moments = []
        self.second_moments = []  # None for a kernel that is updated by Muon

    def build(self, variables):
        """Creates the state for these variables. Later calls, which Keras 2 makes, change nothing."""
        super().build(variables)
        if self.references:
            return
        for variable in variables:
            self.references.append(as_tensorflow(variable).ref())
            self.first_moments.append(self.add_variable_from_reference(variable, "first_moment"))
            second_moment = None
            if not self.is_for_muon(variable):
                second_moment = self.add_variable_from_reference(variable, "second_moment")
            self.second_moments.append(second_moment)

    def is_for_muon(self, variable):
        """Returns whether a variable is the kernel of one of `muon_layers`."""
        path = getattr(variable, "path", variable.name)  # Keras 2 has only the name
        is_kernel = len(variable.shape) == 2
        return is_kernel and any(part in self.muon_layers for part in path.split("/"))

    def apply_gradients(self, grads_and_vars, **options):
        """Updates variables, as in `tf.keras.optimizers.SGD`.

        Raises:
            ValueError: if a variable was not passed to `build`, for example after a layer was replaced or added.
        """
        grads_and_vars = list(grads_and_vars)
        for _, variable in grads_and_vars:
            if self.references and as_tensorflow(variable).ref() not in self.references:
                name = getattr(variable, "path", variable.name)
                raise ValueError(f"this MuonAdam was built without {name}: set model.optimizer to a new optimizer")
        return super().apply_gradients(grads_and_vars, **options)

    def update_step(self, gradient, variable, *learning_rate):
        """Updates one variable. Called by Keras; Keras 3 passes the learning rate, Keras 2 does not.

        Raises:
            ValueError: in multi-device training.
        """
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise ValueError("MuonAdam does not support multi-device training: use another Keras optimizer")
        index = self.references.index(as_tensorflow(variable).ref())
        first_moment = self.first_moments[index]
        second_moment = self.second_moments[index]
        step = tf.cast(self.iterations, gradient.dtype) + 1
        if second_moment is None:
            direction = muon_direction(gradient, first_moment)
        else:
            direction = adam_direction(gradient, first_moment, second_moment, step)
        schedule = tf.minimum(tf.sqrt(step / 100), 100 / step)
        super().update_step(schedule * direction, variable, *learning_rate)

    def get_config(self):
        """Returns the constructor's arguments, from which Keras re-creates the object."""
        return {**super().get_config(), "muon_layers": list(self.muon_layers)}


def as_tensorflow(variable):
    """Returns the `tf.Variable` that a variable of Keras 3 holds; in Keras 2 they are the same."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def adam_direction(gradient, first_moment, second_moment, step):
    """Updates the moments and returns Adam's direction (Kingma & Ba, https://arxiv.org/abs/1412.6980, algorithm 1).

    beta_2 is 0.97, which averages over about 33 steps, since training is short.
    """
    beta_1 = 0.9
    beta_2 = 0.97
    first_moment.assign(beta_1 * first_moment + (1 - beta_1) * gradient)
    second_moment.assign(beta_2 * second_moment + (1 - beta_2) * tf.square(gradient))
    mean = first_moment / (1 - beta_1**step)
    root_mean_square = tf.sqrt(second_moment / (1 - beta_2**step))
    return mean / (root_mean_square + 1e-7)


def muon_direction(gradient, momentum):
    """Updates the momentum of a kernel (F, G) and returns Muon's direction.

    It is scaled to a root mean square of about 0.2, similar to Adam's direction (https://arxiv.org/abs/2502.16982).
    """
    momentum.assign(0.95 * momentum + gradient)
    direction = orthogonalize(gradient + 0.95 * momentum)  # Nesterov's momentum
    return 0.2 * max(gradient.shape) ** 0.5 * direction


# The coefficients (a, b, c) of the first four steps in Amsel et al. 2025, https://arxiv.org/abs/2505.16932, rounded
POLAR_EXPRESS = (
    (8.2872, -23.5959, 17.3004),
    (4.1071, -2.9478, 0.5448),
    (3.9487, -2.9089, 0.5518),
    (3.3184, -2.4885, 0.5100),
)


def orthogonalize(matrix):
    """Returns approximately U V^T, where U S V^T is the singular value decomposition of a matrix (F, G).

    Each step replaces the singular values s by a s + b s^3 + c s^5. Four steps bring those above 0.001 of the Frobenius
    norm into the range 0.44 to 1.56; they do not converge to 1. A zero matrix stays zero.
    """
    x = tf.math.divide_no_nan(matrix, tf.norm(matrix))
    for a, b, c in POLAR_EXPRESS:
        gram = tf.matmul(x, x, transpose_b=True)  # (F, F)
        x = a * x + tf.matmul(b * gram + c * tf.matmul(gram, gram), x)
    return x
