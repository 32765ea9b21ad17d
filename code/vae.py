"""The two models of the homework and their loss, in the order of the handout: `VAE` is its step 1, `CVAE` its step 2.

The method: Kingma & Welling, https://arxiv.org/abs/1312.6114. Data, training and pictures are in other files.
Shapes in the comments: N images of H x W pixels, D = H * W, Z latents, C classes, H_d hidden units.
"""

import math
import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # this is TensorFlow code, whatever backend the user's settings name

import tensorflow as tf
from tensorflow.keras import layers

HIDDEN_DIM = 384  # width of every hidden layer
POSTERIOR_STDDEV = 0.02  # of the initial weights of mu and logvar: small, so that q(z|x) starts near the prior
# The initial weights of the class are larger by these factors times the image's side: for MNIST 42 and 14.
# Chosen by trial, for samples that are the digit asked for: the loss is about the same with plain weights.
ENCODER_CLASS_SCALE = 1.5
DECODER_CLASS_SCALE = 0.5
PIXEL_BIAS = -2.0  # initial bias of the pixels: sigmoid(-2) = 0.12 is near MNIST's mean pixel of 0.13


class Autoencoder(tf.keras.Model):
    """What `VAE` and `CVAE` have in common: their sizes, an optimizer, and what Keras' `fit` and `evaluate` need.

    Attributes:
        input_size: D, the number of pixels, a square. ValueError if it is not one.
        image_size: H and W.
        latent_size: Z.
        hidden_dim: H_d, the width of every hidden layer.
        optimizer: Keras' Adam, for a caller's own loop or for `compile(optimizer=model.optimizer)`.
            `assignment.train_vae` puts a better one in its place, unless the caller has set another.
    """

    def __init__(self, input_size, latent_size):
        super().__init__()
        self.image_size = math.isqrt(max(input_size, 0))
        if input_size < 1 or self.image_size**2 != input_size:
            raise ValueError(f"input_size must be a positive square such as 784, got {input_size}")
        self.input_size = input_size
        self.latent_size = latent_size
        self.hidden_dim = HIDDEN_DIM
        self.optimizer = tf.keras.optimizers.Adam(2e-3, name="default_adam")  # `train_vae` knows it by this name
        trackers = [tf.keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "kl")]
        vars(self)["trackers"] = trackers  # set by `self.trackers = `, Keras 2 would count them among the weights

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss that `fit` minimises and `evaluate` reports, after `compile` without a loss.

        Keras gives it the model's inputs x, images or a pair (images, classes), and outputs y_pred. The others are not
        used.
        """
        images = x[0] if isinstance(x, (tuple, list)) else x
        x_hat, mu, logvar = y_pred
        loss = loss_function(x_hat, images, mu, logvar)
        kl = tf.reduce_mean(kl_divergence(mu, logvar))
        for tracker, value in zip(self.trackers, (loss, loss - kl, kl)):
            tracker.update_state(value, sample_weight=tf.shape(mu)[0])
        # Keras adds up the gradients of several devices (version 3 does so from 3.10 on; before, it averages them)
        return loss / tf.distribute.get_strategy().num_replicas_in_sync

    def create_posterior_weights(self):
        """Creates the weights of mu and logvar, as `layers.Input` does for the networks.

        So all weights are there, and can be loaded, before the model is first called.
        """
        for layer in (self.mu_layer, self.logvar_layer):
            layer.build((None, self.hidden_dim))
        self.built = True

    @property
    def metrics(self):
        """What `fit` and `evaluate` report: the loss, its two terms, and the metrics that were given to `compile`."""
        others = [metric for metric in super().metrics if metric.name != "loss"]  # Keras 3 has one for the loss too
        return [*self.trackers, *others]


@tf.keras.utils.register_keras_serializable("hw6")
class VAE(Autoencoder):
    """Fully-connected variational autoencoder (handout, step 1). ValueError if `input_size` is not a positive square.

    Attributes, besides those of `Autoencoder`:
        encoder: (N, 1, H, W) -> (N, H_d).
        mu_layer, logvar_layer: (N, H_d) -> (N, Z), mean and log-variance of the posterior q(z|x).
        decoder: (N, Z) -> (N, 1, H, W), pixels in (0, 1), float32.
    """

    def __init__(self, input_size, latent_size=15):
        super().__init__(input_size, latent_size)
        self.encoder = tf.keras.Sequential(
            [
                layers.Input((1, self.image_size, self.image_size)),
                layers.Flatten(),  # (N, 1, H, W) -> (N, D)
                hidden_layer(self.hidden_dim, "hidden_1"),  # (N, D) -> (N, H_d)
                hidden_layer(self.hidden_dim, "hidden_2"),
                hidden_layer(self.hidden_dim, "hidden_3"),
            ],
            name="encoder",
        )
        self.mu_layer = posterior_layer(latent_size, "mu")  # (N, H_d) -> (N, Z)
        self.logvar_layer = posterior_layer(latent_size, "logvar")  # (N, H_d) -> (N, Z)
        self.decoder = tf.keras.Sequential(
            [
                layers.Input((latent_size,)),
                hidden_layer(self.hidden_dim, "hidden_1"),  # (N, Z) -> (N, H_d)
                hidden_layer(self.hidden_dim, "hidden_2"),
                hidden_layer(self.hidden_dim, "hidden_3"),
                pixel_layer(input_size),  # (N, H_d) -> (N, D)
                layers.Reshape((1, self.image_size, self.image_size), dtype="float32"),  # (N, D) -> (N, 1, H, W)
            ],
            name="decoder",
        )
        self.create_posterior_weights()

    def encode(self, x):
        """Images x (N, 1, H, W) in [0, 1] to mu and logvar of q(z|x), (N, Z) each."""
        h = self.encoder(tf.cast(x, self.compute_dtype))  # (N, H_d)
        return self.mu_layer(h), self.logvar_layer(h)

    def decode(self, z):
        """Latents z (N, Z) to images x_hat (N, 1, H, W), pixels in (0, 1)."""
        return self.decoder(z)

    def call(self, x):
        """Images x (N, 1, H, W) in [0, 1] to x_hat (N, 1, H, W), mu and logvar (N, Z) (handout, "VAE Forward Pass")."""
        mu, logvar = self.encode(x)
        z = reparametrize(mu, logvar)
        x_hat = self.decode(z)
        return x_hat, mu, logvar

    def get_config(self):
        """The constructor's arguments, from which Keras makes a copy."""
        return {"input_size": self.input_size, "latent_size": self.latent_size}


@tf.keras.utils.register_keras_serializable("hw6")
class CVAE(Autoencoder):
    """Conditional VAE: encoder and decoder are given the class c too (handout, step 2; q(z|x,c) and p(x|z,c)).

    Attributes as `VAE`'s, and `num_classes` (C), but two networks take c beside their other input, concatenated:
        encoder: flattened image and c, (N, D + C) -> (N, H_d).
        decoder: z and c, (N, Z + C) -> (N, 1, H, W).
    """

    def __init__(self, input_size, num_classes=10, latent_size=15):
        super().__init__(input_size, latent_size)
        self.num_classes = num_classes
        self.encoder = tf.keras.Sequential(
            [
                layers.Input((input_size + num_classes,)),
                hidden_layer(self.hidden_dim, "hidden_1"),  # (N, D + C) -> (N, H_d)
                hidden_layer(self.hidden_dim, "hidden_2"),
                hidden_layer(self.hidden_dim, "hidden_3"),
            ],
            name="encoder",
        )
        self.mu_layer = posterior_layer(latent_size, "mu")  # (N, H_d) -> (N, Z)
        self.logvar_layer = posterior_layer(latent_size, "logvar")  # (N, H_d) -> (N, Z)
        self.decoder = tf.keras.Sequential(
            [
                layers.Input((latent_size + num_classes,)),
                hidden_layer(self.hidden_dim, "hidden_1"),  # (N, Z + C) -> (N, H_d)
                hidden_layer(self.hidden_dim, "hidden_2"),
                hidden_layer(self.hidden_dim, "hidden_3"),
                pixel_layer(input_size),  # (N, H_d) -> (N, D)
                layers.Reshape((1, self.image_size, self.image_size), dtype="float32"),  # (N, D) -> (N, 1, H, W)
            ],
            name="decoder",
        )
        self.create_posterior_weights()
        # A one-hot is a single 1 among H x W pixels or Z latents, and the networks would hardly use it: z would encode
        # part of the class, and more samples would be wrong digits. So its weights are made larger. In the encoder the
        # factor grows with the image's side, as the norm of the pixels does; the decoder's keeps its ratio to that.
        scale_class_weights(self.encoder, num_classes, ENCODER_CLASS_SCALE * self.image_size)
        scale_class_weights(self.decoder, num_classes, DECODER_CLASS_SCALE * self.image_size)

    def encode(self, x, c):
        """Images x (N, 1, H, W) in [0, 1] and one-hot classes c (N, C) to mu and logvar of q(z|x,c), (N, Z) each."""
        x = tf.reshape(tf.cast(x, self.compute_dtype), (-1, self.input_size))  # (N, D)
        c = tf.cast(c, self.compute_dtype)
        h = self.encoder(tf.concat([x, c], axis=1))  # (N, D + C) -> (N, H_d)
        return self.mu_layer(h), self.logvar_layer(h)

    def decode(self, z, c):
        """Latents z (N, Z) and one-hot classes c (N, C) to images x_hat (N, 1, H, W), pixels in (0, 1)."""
        z = tf.cast(z, self.compute_dtype)
        c = tf.cast(c, self.compute_dtype)
        return self.decoder(tf.concat([z, c], axis=1))  # (N, Z + C) -> (N, 1, H, W)

    def call(self, x, c=None):
        """As `VAE.call`, but also takes one-hots c (N, C) of any dtype (handout, "Define CVAE with class input").

        x and c may also come as one pair (x, c), as Keras passes two inputs.
        """
        if c is None:
            x, c = check_pair(x)
        mu, logvar = self.encode(x, c)
        z = reparametrize(mu, logvar)
        x_hat = self.decode(z, c)
        return x_hat, mu, logvar

    def get_config(self):
        """The constructor's arguments, from which Keras makes a copy."""
        return {"input_size": self.input_size, "num_classes": self.num_classes, "latent_size": self.latent_size}


def hidden_layer(hidden_dim, name):
    """A linear layer with ReLU, (N, any) -> (N, H_d), and the initial weights for it of He et al. 2015."""
    return layers.Dense(hidden_dim, "relu", kernel_initializer="he_normal", name=name)


def posterior_layer(latent_size, name):
    """A linear layer with small initial weights, (N, H_d) -> (N, Z)."""
    small = tf.keras.initializers.RandomNormal(stddev=POSTERIOR_STDDEV)
    return layers.Dense(latent_size, kernel_initializer=small, name=name)


def pixel_layer(input_size):
    """The decoder's last linear layer with sigmoid, (N, H_d) -> (N, D).

    At first all images are one grey near the mean pixel. float32 always: in float16 a sigmoid would reach 1.
    """
    bias = tf.keras.initializers.Constant(PIXEL_BIAS)
    return layers.Dense(
        input_size, "sigmoid", kernel_initializer="zeros", bias_initializer=bias, dtype="float32", name="pixels"
    )


def scale_class_weights(network, num_classes, factor):
    """Multiplies the first layer's weights of the class, its last C rows, by a factor."""
    kernel = network.get_layer("hidden_1").kernel
    of_other_inputs = kernel[:-num_classes]
    of_class = kernel[-num_classes:]
    kernel.assign(tf.concat([of_other_inputs, factor * of_class], axis=0))


def check_pair(inputs):
    """The inputs of a `CVAE`, a pair (images, classes). ValueError if the classes are missing."""
    if not isinstance(inputs, (tuple, list)) or len(inputs) != 2:
        raise ValueError("a CVAE needs images and their one-hot classes: model(x, c), or fit on batches ((x, c),)")
    return inputs


def reparametrize(mu, logvar):
    """z = mu + sigma * epsilon with epsilon ~ N(0, I), differentiable in mu and logvar (handout, "Reparametrization").

    All are (N, Z). The noise follows TensorFlow's global seed; a `tf.function` uses the seed set when it was traced.
    """
    mu = tf.convert_to_tensor(mu)
    sigma = tf.exp(0.5 * tf.convert_to_tensor(logvar))
    epsilon = tf.random.normal(tf.shape(mu), dtype=mu.dtype)
    return mu + sigma * epsilon


reparameterization = reparametrize  # the handout's spelling


def bce_function(x_hat, x):
    """Binary cross-entropy of x_hat to x in [0, 1], both of any one shape, in nats, summed over all elements: a scalar.

    ValueError if the shapes differ.
    """
    return tf.reduce_sum(reconstruction_loss(x_hat, x))


def reconstruction_loss(x_hat, x):
    """Binary cross-entropy of images (N, 1, H, W) in [0, 1] in nats, summed over the pixels of each image: (N,)."""
    x_hat = tf.cast(x_hat, tf.float32)
    x = tf.cast(x, tf.float32)
    x_hat.shape.assert_is_compatible_with(x.shape)  # ValueError: they would broadcast
    rows = (tf.shape(x)[0], -1)
    x = tf.reshape(x, rows)  # (N, D)
    mean_of_pixels = tf.keras.losses.binary_crossentropy(x, tf.reshape(x_hat, rows))  # clipped, so it is finite: (N,)
    return mean_of_pixels * tf.cast(tf.shape(x)[1], tf.float32)


def kl_divergence(mu, logvar):
    """D_KL(N(mu, sigma^2) || N(0, I)) of (N, Z) in nats, summed over latents: (N,) (Kingma & Welling, appendix B)."""
    mu = tf.cast(mu, tf.float32)
    logvar = tf.cast(logvar, tf.float32)
    mu.shape.assert_is_compatible_with(logvar.shape)
    return -0.5 * tf.reduce_sum(1.0 + logvar - tf.square(mu) - tf.exp(logvar), axis=-1)


def loss_function(x_hat, x, mu, logvar):
    """The negative ELBO per image in nats, a scalar (handout, "Loss Function").

    x_hat and x are (N, 1, H, W), mu and logvar (N, Z). ValueError if shapes do not agree.

    The handout's last formula has a squared error and a factor lambda; its text asks for the cross-entropy, which is
    used here, with lambda = 1.
    """
    x = tf.convert_to_tensor(x)
    mu = tf.convert_to_tensor(mu)
    x.shape[:1].assert_is_compatible_with(mu.shape[:1])  # both are of N images
    reconstruction = bce_function(x_hat, x)
    kl = tf.reduce_sum(kl_divergence(mu, logvar))
    return (reconstruction + kl) / tf.cast(tf.shape(x)[0], tf.float32)
