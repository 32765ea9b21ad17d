"""Variational autoencoders of square images: the models and their loss.

`VAE` and `CVAE` (the handout's steps 1 and 2) share their layers, their reparameterisation and their loss, and stand
here in the order of the handout. Data, training and pictures live in `assignment.py`.

Shapes: N images of H x W pixels, D = H * W; Z latents, C classes, H_d hidden units.
Kingma & Welling, Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114 is the source of the method.
"""

import math

import tensorflow as tf
from tensorflow.keras import layers

HIDDEN_DIM = 400
# The posterior starts narrow, sigma = exp(-4 / 2) = 0.14: with sigma = 1 the decoder sees mostly noise, learns to ignore
# z, and the loss stays for most of the first epoch at that of the mean image.
INITIAL_LOGVAR = -4.0
# The decoder starts at a dark image, sigmoid(-2) = 0.12, whatever z is: most pixels are background, and there are no
# random images to unlearn.
INITIAL_LOGIT = -2.0
# A one-hot is one unit-size input beside 784 pixels or 15 latents: unscaled, the latents learn the class before the
# class is heard, and samples are misread. Louder is more readable and costs loss: README, "Graded".
ENCODER_CLASS_SCALE, DECODER_CLASS_SCALE = 24.0, 28.0


class _Autoencoder(tf.keras.Model):
    """The layers that `VAE` and `CVAE` share, given the shapes of one input to the encoder and to the decoder."""

    def __init__(self, input_size, latent_size, encoder_shape, decoder_shape):
        super().__init__()
        if latent_size < 1:
            raise ValueError(f"latent_size must be positive, got {latent_size}")
        self.input_size = input_size
        self.latent_size = latent_size
        self.hidden_dim = HIDDEN_DIM
        # Its own generator, seeded by the global one: XLA's plain random ops do not follow the global seed.
        self.generator = tf.random.Generator.from_seed(int(tf.random.uniform((), maxval=2**31 - 1, dtype=tf.int32)))
        self.encoder = tf.keras.Sequential(
            [layers.Input(encoder_shape), layers.Flatten(), *_hidden_layers(self.hidden_dim)], name="encoder")
        self.mu_layer = layers.Dense(latent_size, name="mu")
        self.logvar_layer = layers.Dense(latent_size, **_starting_at(INITIAL_LOGVAR), name="logvar")
        side = _side(input_size)
        self.decoder = tf.keras.Sequential(
            [layers.Input(decoder_shape), *_hidden_layers(self.hidden_dim),
             layers.Dense(input_size, activation="sigmoid", **_starting_at(INITIAL_LOGIT)),
             layers.Reshape((1, side, side))], name="decoder")


class VAE(_Autoencoder):
    """Fully-connected variational autoencoder (handout, step 1).

    Attributes:
        input_size: D, pixels of an image.
        latent_size: Z.
        hidden_dim: H_d, the width of every hidden layer.
        encoder: (N, 1, H, W) -> (N, H_d).
        mu_layer, logvar_layer: (N, H_d) -> (N, Z), mean and log-variance of the posterior q(z|x).
        decoder: (N, Z) -> (N, 1, H, W), pixels in (0, 1).

    Raises:
        ValueError: `input_size` is not a positive square, or `latent_size` is not positive.
    """

    def __init__(self, input_size, latent_size=15):
        side = _side(input_size)
        super().__init__(input_size, latent_size, encoder_shape=(1, side, side), decoder_shape=(latent_size,))
        self(tf.zeros((1, 1, side, side)))  # every variable exists from here on: weights can be loaded at once

    def call(self, x):
        """Encodes, samples and decodes (handout, "VAE Forward Pass").

        Args:
            x: images (N, 1, H, W) in [0, 1], float32 or float64.

        Returns:
            x_hat (N, 1, H, W), mu (N, Z), logvar (N, Z), float32.
        """
        h = self.encoder(tf.cast(x, tf.float32))  # (N, H_d)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)  # (N, Z) each
        z = reparametrize(mu, logvar, self.generator)  # (N, Z)
        return self.decoder(z), mu, logvar


class CVAE(_Autoencoder):
    """Conditional VAE: the class goes into encoder and decoder (handout, step 2; q(z|x,c) and p(x|z,c)).

    Attributes as `VAE`'s, and `num_classes` (C). The inputs are concatenations:
        encoder: flattened image and c, (N, D + C) -> (N, H_d).
        decoder: z and c, (N, Z + C) -> (N, 1, H, W).

    Raises:
        ValueError: as `VAE`, or `num_classes` is not positive.
    """

    def __init__(self, input_size, num_classes=10, latent_size=15):
        side = _side(input_size)
        if num_classes < 1:
            raise ValueError(f"num_classes must be positive, got {num_classes}")
        super().__init__(input_size, latent_size, encoder_shape=(input_size + num_classes,),
                         decoder_shape=(latent_size + num_classes,))
        self.num_classes = num_classes
        _scale_class_rows(self.encoder, num_classes, ENCODER_CLASS_SCALE)
        _scale_class_rows(self.decoder, num_classes, DECODER_CLASS_SCALE)
        self(tf.zeros((1, 1, side, side)), tf.zeros((1, num_classes)))

    def call(self, x, c):
        """As `VAE.call`, given the class (handout, "Define CVAE with class input").

        Args:
            x: images (N, 1, H, W) in [0, 1], float32 or float64.
            c: one-hot classes (N, C), any numeric type.

        Returns:
            x_hat (N, 1, H, W), mu (N, Z), logvar (N, Z), float32.

        Raises:
            ValueError: an image has not D pixels, or c is not (N, C).
        """
        x, c = tf.cast(x, tf.float32), tf.cast(c, tf.float32)
        if x.shape[1:].num_elements() not in (self.input_size, None):  # None: not known in this graph
            raise ValueError(f"x must be images of {self.input_size} pixels, got {x.shape}")
        if not c.shape.is_compatible_with((x.shape[0], self.num_classes)):
            raise ValueError(f"c must be one-hot of shape ({x.shape[0]}, {self.num_classes}), got {c.shape}")
        x = tf.reshape(x, (-1, self.input_size))  # (N, D)
        h = self.encoder(tf.concat([x, c], axis=-1))  # (N, H_d)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)  # (N, Z) each
        z = reparametrize(mu, logvar, self.generator)  # (N, Z)
        return self.decoder(tf.concat([z, c], axis=-1)), mu, logvar


def _side(input_size):
    """Height and width of a square image of `input_size` pixels."""
    if input_size < 1 or math.isqrt(input_size) ** 2 != input_size:
        raise ValueError(f"input_size must be a positive square such as 784, got {input_size}")
    return math.isqrt(input_size)


def _hidden_layers(hidden_dim):
    return [layers.Dense(hidden_dim, activation="relu", kernel_initializer="he_normal") for _ in range(3)]


def _starting_at(value):
    """Arguments of a layer whose output is `value` at the start, whatever its input."""
    return {"kernel_initializer": "zeros", "bias_initializer": tf.keras.initializers.Constant(value)}


def _scale_class_rows(network, num_classes, scale):
    """Multiplies the rows of the first kernel that read the one-hot, which come last."""
    first = next(layer for layer in network.layers if isinstance(layer, layers.Dense))
    kernel = tf.convert_to_tensor(first.kernel)
    first.kernel.assign(tf.concat([kernel[:-num_classes], scale * kernel[-num_classes:]], axis=0))


def reparametrize(mu, logvar, generator=None):
    """Samples z = mu + sigma * epsilon with epsilon ~ N(0, I), differentiably (handout, "Reparametrization").

    Args:
        mu, logvar: mean and log-variance (N, Z).
        generator: the `tf.random.Generator` of epsilon; TensorFlow's global one if None.

    Returns:
        z (N, Z).
    """
    mu, logvar = tf.convert_to_tensor(mu), tf.convert_to_tensor(logvar)
    epsilon = (generator or tf.random).normal(tf.shape(mu), dtype=mu.dtype)
    return mu + tf.exp(0.5 * logvar) * epsilon


reparameterization = reparametrize  # the handout's spelling


def bce_function(x_hat, x):
    """Binary cross-entropy in nats, summed over every pixel of every image: a scalar.

    Args:
        x_hat, x: reconstructions and images of one shape, (N, 1, H, W), in [0, 1].

    Raises:
        ValueError: x_hat and x differ in shape.
    """
    x_hat, x = _floats_of_one_shape(x_hat, x)
    # Keras averages over the last axis; its clipping keeps saturated pixels finite.
    return tf.reduce_sum(tf.keras.losses.binary_crossentropy(x, x_hat)) * x_hat.shape[-1]


def kl_divergence(mu, logvar):
    """D_KL(N(mu, sigma^2) || N(0, I)) in nats, summed over latents and images: a scalar (Kingma & Welling, app. B).

    Raises:
        ValueError: mu and logvar differ in shape.
    """
    mu, logvar = _floats_of_one_shape(mu, logvar)
    return -0.5 * tf.reduce_sum(1.0 + logvar - tf.square(mu) - tf.exp(logvar))


def loss_function(x_hat, x, mu, logvar):
    """The negative ELBO per image in nats: a scalar (handout, "Loss Function").

    Args:
        x_hat, x: reconstructions and images (N, 1, H, W) in [0, 1].
        mu, logvar: the posterior's mean and log-variance (N, Z).

    Raises:
        ValueError: x_hat and x, or mu and logvar, differ in shape, or x and mu in N.
    """
    x, mu = tf.cast(x, tf.float32), tf.cast(mu, tf.float32)
    if not x.shape[:1].is_compatible_with(mu.shape[:1]):
        raise ValueError(f"x and mu must be of as many images, got {x.shape} and {mu.shape}")
    return (bce_function(x_hat, x) + kl_divergence(mu, logvar)) / tf.cast(tf.shape(x)[0], tf.float32)


def _floats_of_one_shape(a, b):
    """As float32 tensors; unequal shapes would broadcast silently."""
    a, b = tf.cast(a, tf.float32), tf.cast(b, tf.float32)
    if not a.shape.is_compatible_with(b.shape):
        raise ValueError(f"shapes must be equal, got {a.shape} and {b.shape}")
    return a, b
