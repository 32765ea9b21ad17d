"""The two models of the homework and their loss, in the order of the handout: `VAE` is its step 1, `CVAE` its step 2.

Data, training and pictures are in `assignment.py`. The method: Kingma & Welling, https://arxiv.org/abs/1312.6114.
Shapes in the comments: N images of H x W pixels, D = H * W, Z latents, C classes, H_d hidden units.
"""

import math
import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # this is TensorFlow code, whatever backend the user's settings name

import tensorflow as tf
from tensorflow.keras import layers

# At first z is nearly noise, so that the decoder learns what does not need it, above all the class.
QUIET = {"class_name": "RandomNormal", "config": {"stddev": 0.02}}
# At first the pixel layer draws one dark image, sigmoid(-2) = 0.12, since most pixels are background.
DARK = {"kernel_initializer": "zeros", "bias_initializer": tf.keras.initializers.Constant(-2.0)}


class Autoencoder(tf.keras.Model):
    """What both models have besides their layers: sizes, noise, an optimizer, and what Keras needs to save a model."""

    def __init__(self, input_size, latent_size):
        super().__init__()
        self.side = math.isqrt(max(input_size, 0))  # H and W
        if input_size < 1 or self.side**2 != input_size:
            raise ValueError(f"input_size must be a positive square such as 784, got {input_size}")
        self.input_size = input_size
        self.latent_size = latent_size
        self.hidden_dim = 384  # a multiple of 64: matrix products of 400 take a seventh longer
        # Noise that follows TensorFlow's global seed: a step compiled by XLA would not heed that seed.
        self.generator = tf.random.Generator.from_seed(int(tf.random.uniform((), maxval=2**31 - 1, dtype=tf.int32)))

    def build(self, input_shape):
        """Called by Keras as each constructor ends, when it calls the model on symbolic inputs."""
        for layer in (self.mu_layer, self.logvar_layer):
            layer(self.encoder.outputs[0])  # creates the weights
        self.optimizer = new_optimizer()
        # Makes the decoder callable in what `tf.saved_model.save` writes; Keras 3 does not do that by itself.
        self.decoder.__call__ = tf.function(self.decoder.call, input_signature=[
            tf.TensorSpec(self.decoder.input_shape, self.compute_dtype)])

    def get_config(self):
        """The constructor's arguments, from which Keras makes a copy."""
        names = ("input_size", "num_classes", "latent_size")
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def __dir__(self):
        """Without the optimizer: Keras saves what it finds here, and the state is twice as large as the weights."""
        return [name for name in super().__dir__() if name != "optimizer"]


@tf.keras.utils.register_keras_serializable("hw6")
class VAE(Autoencoder):
    """Fully-connected variational autoencoder (handout, step 1). ValueError if `input_size` is no positive square.

    Attributes `input_size` (D), `latent_size` (Z), `hidden_dim` (H_d), the width of every hidden layer, and
        encoder: (N, 1, H, W) -> (N, H_d).
        mu_layer, logvar_layer: (N, H_d) -> (N, Z), mean and log-variance of the posterior q(z|x).
        decoder: (N, Z) -> (N, 1, H, W), pixels in (0, 1).
        optimizer: the one that `assignment.train_vae` uses. Copies and loaded models start with a new one.
    """

    def __init__(self, input_size, latent_size=15):
        super().__init__(input_size, latent_size)
        self.encoder = tf.keras.Sequential([
            layers.Input((1, self.side, self.side)),
            layers.Flatten(),  # (N, D)
            *hidden_layers(self.hidden_dim),  # (N, H_d)
        ], name="encoder")
        self.mu_layer = layers.Dense(latent_size, kernel_initializer=QUIET, name="mu")
        self.logvar_layer = layers.Dense(latent_size, kernel_initializer=QUIET, name="logvar")
        self.decoder = tf.keras.Sequential([
            layers.Input((latent_size,)),
            *hidden_layers(self.hidden_dim),  # (N, H_d)
            layers.Dense(input_size, activation="sigmoid", **DARK, name="pixels"),  # (N, D)
            layers.Reshape((1, self.side, self.side)),
        ], name="decoder")
        self(tf.keras.Input((1, self.side, self.side)))

    def call(self, x):
        """Images x (N, 1, H, W) in [0, 1] to x_hat (N, 1, H, W), mu and logvar (N, Z) (handout, "VAE Forward Pass")."""
        x = tf.cast(x, self.compute_dtype)
        h = self.encoder(x)  # (N, H_d)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)  # (N, Z) each
        z = reparametrize(mu, logvar, self.generator)  # (N, Z)
        return self.decoder(z), mu, logvar


@tf.keras.utils.register_keras_serializable("hw6")
class CVAE(Autoencoder):
    """Conditional VAE: the class goes into encoder and decoder (handout, step 2; q(z|x,c) and p(x|z,c)).

    Attributes as `VAE`'s, and `num_classes` (C), except that two take concatenations:
        encoder: flattened image and c, (N, D + C) -> (N, H_d).
        decoder: z and c, (N, Z + C) -> (N, 1, H, W).
    """

    def __init__(self, input_size, num_classes=10, latent_size=15):
        super().__init__(input_size, latent_size)
        self.num_classes = num_classes
        self.encoder = tf.keras.Sequential([
            layers.Input((input_size + num_classes,)),
            *hidden_layers(self.hidden_dim),  # (N, H_d)
        ], name="encoder")
        self.mu_layer = layers.Dense(latent_size, kernel_initializer=QUIET, name="mu")
        self.logvar_layer = layers.Dense(latent_size, kernel_initializer=QUIET, name="logvar")
        self.decoder = tf.keras.Sequential([
            layers.Input((latent_size + num_classes,)),
            *hidden_layers(self.hidden_dim),  # (N, H_d)
            layers.Dense(input_size, activation="sigmoid", **DARK, name="pixels"),  # (N, D)
            layers.Reshape((1, self.side, self.side)),
        ], name="decoder")
        self([tf.keras.Input((1, self.side, self.side)), tf.keras.Input((num_classes,))])
        scale_class_rows(self.encoder, num_classes, self.side)
        scale_class_rows(self.decoder, num_classes, self.side)

    def call(self, x, c=None):
        """As `VAE.call`, given one-hot classes c (N, C) of any numeric type (handout, "Define CVAE with class input").

        x may be the pair of both instead: so do Keras' own functions pass two inputs.
        """
        x, c = x if c is None else (x, c)
        x, c = tf.cast(x, self.compute_dtype), tf.cast(c, self.compute_dtype)
        x = tf.reshape(x, (-1, self.input_size))  # (N, D)
        h = self.encoder(tf.concat([x, c], axis=1))  # (N, D + C) -> (N, H_d)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)  # (N, Z) each
        z = reparametrize(mu, logvar, self.generator)  # (N, Z)
        return self.decoder(tf.concat([z, c], axis=1)), mu, logvar  # (N, Z + C) -> (N, 1, H, W)


def hidden_layers(hidden_dim):
    """Three linear layers with ReLU: (N, any) -> (N, H_d)."""
    return [layers.Dense(hidden_dim, "relu", kernel_initializer="he_normal", name=f"hidden_{i}") for i in (1, 2, 3)]


def scale_class_rows(network, num_classes, scale):
    """Multiplies by `scale` the last rows of the network's first kernel, which read the one-hot.

    A one-hot is one input of size 1 beside hundreds of pixels or 15 latents. Unscaled, z learns the class before the
    network hears it. That costs log 10 = 2.3 nats of KL, and samples are misread.
    """
    kernel = network.get_layer("hidden_1").kernel
    kernel.assign(tf.concat([kernel[:-num_classes], scale * kernel[-num_classes:]], axis=0))


def new_optimizer():
    """Adam; in Keras 3 as a part of Muon, which `train_vae` can tell to orthogonalise the updates of some kernels."""
    if hasattr(tf.keras.optimizers, "Muon"):
        return tf.keras.optimizers.Muon(
            exclude_layers=[""], adam_beta_2=0.97, ns_steps=4, weight_decay=None, adam_weight_decay=None)
    return tf.keras.optimizers.Adam(beta_2=0.97)


def reparametrize(mu, logvar, generator=None):
    """z = mu + sigma * epsilon with epsilon ~ N(0, I), differentiable in mu and logvar (handout, "Reparametrization").

    All are (N, Z). epsilon is drawn from `generator`, a `tf.random.Generator`, or else from TensorFlow's global one.
    """
    mu, logvar = tf.convert_to_tensor(mu), tf.convert_to_tensor(logvar)
    epsilon = (generator or tf.random).normal(tf.shape(mu), dtype=mu.dtype)
    return mu + tf.exp(0.5 * logvar) * epsilon


reparameterization = reparametrize  # the handout's spelling


def bce_function(x_hat, x):
    """Binary cross-entropy of images (N, 1, H, W) in [0, 1] in nats, summed over all pixels of all images: a scalar."""
    x_hat, x = tf.cast(x_hat, tf.float32), tf.cast(x, tf.float32)
    x_hat.shape.assert_is_compatible_with(x.shape)  # ValueError: they would broadcast
    # Keras averages over the last axis, and clips x_hat so that the logarithms are finite.
    return tf.reduce_sum(tf.keras.losses.binary_crossentropy(x, x_hat)) * x_hat.shape[-1]


def kl_divergence(mu, logvar):
    """D_KL(N(mu, sigma^2) || N(0, I)) in nats, summed over latents and images: a scalar (Kingma & Welling, app. B)."""
    mu, logvar = tf.cast(mu, tf.float32), tf.cast(logvar, tf.float32)
    mu.shape.assert_is_compatible_with(logvar.shape)
    return -0.5 * tf.reduce_sum(1.0 + logvar - tf.square(mu) - tf.exp(logvar))


def loss_function(x_hat, x, mu, logvar):
    """The negative ELBO per image in nats, a scalar, of (N, 1, H, W) and (N, Z) twice (handout, "Loss Function")."""
    x, mu = tf.convert_to_tensor(x), tf.convert_to_tensor(mu)
    x.shape[:1].assert_is_compatible_with(mu.shape[:1])
    return (bce_function(x_hat, x) + kl_divergence(mu, logvar)) / tf.cast(tf.shape(x)[0], tf.float32)
