"""The two models of the homework and their loss, in the order of the handout: `VAE` is its step 1, `CVAE` its step 2.

The method: Kingma & Welling, https://arxiv.org/abs/1312.6114. Data, training and pictures are in other files.
Shapes in the comments: N images of H x W pixels, D = H * W, Z latents, C classes, H_d hidden units (the handout's H).
"""

import math
import operator
import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # this is TensorFlow code, whatever backend the user's settings name

import tensorflow as tf
from tensorflow.keras import layers


class ElboModel(tf.keras.Model):
    """What `VAE` and `CVAE` have in common: sizes, an optimizer, and what Keras needs to build, `fit` and export them.

    Their loss is the negative ELBO, the evidence lower bound.

    Attributes:
        input_size: D, the number of pixels, a square. ValueError if it is not one.
        image_size: H and W.
        latent_size: Z.
        hidden_dim: H_d, the width of every hidden layer.
        optimizer: for a caller's own loop, see `first_optimizer`. `assignment.train_vae` puts a better one in its
            place, unless the caller has set another or changed this one.
    """

    def __init__(self, input_size, latent_size, hidden_dim):
        super().__init__()
        self.input_size = operator.index(input_size)  # a plain number, also from NumPy's
        self.image_size = math.isqrt(max(self.input_size, 0))
        if self.input_size < 1 or self.image_size**2 != self.input_size:
            raise ValueError(f"input_size must be a positive square such as 784, got {input_size}")
        self.latent_size = operator.index(latent_size)
        self.hidden_dim = operator.index(hidden_dim)
        self.optimizer = self.first_optimizer()
        trackers = [tf.keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "kl")]
        vars(self)["trackers"] = trackers  # set by `self.trackers = `, Keras 2 would count them among the weights

    @staticmethod
    def first_optimizer():
        """The optimizer of a new model, for a loop that knows no other: Keras' Adam.

        Its learning rate grows to 4e-3 over 80 steps, so that the first ones are not too large, and falls to a fifth of
        that over the next 280: together six epochs at a batch size of 1024.
        """
        schedule = tf.keras.optimizers.schedules.CosineDecay(0.0, 280, alpha=0.2, warmup_target=4e-3, warmup_steps=80)
        return tf.keras.optimizers.Adam(schedule, beta_2=0.97, name="adam")  # unnamed ones get numbers

    def build(self, input_shape):
        """Creates the weights of mu and logvar; those of the networks are there. Called by the models' constructors.

        So all weights can be saved and loaded before the model is first called, and Keras knows the shapes of the
        inputs, which it needs to export the model.
        """
        for layer in (self.mu_layer, self.logvar_layer):
            if not layer.built:
                layer.build((None, self.hidden_dim))
        self.built = True

    def _lock_state(self):
        """Leaves out what Keras 3 does at the end of `build`: refuse layers that are replaced or added later."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss that `fit` minimises and `evaluate` reports: that of `loss_function`, in its two terms.

        With weights (N,) or (N, 1) of the images, their weighted losses are added up and divided by N, as by Keras.

        Keras gives it the model's inputs x, images or a pair (images, classes), and outputs y_pred. y is not used.
        ValueError if `compile` was given a loss, which would not be used either.
        """
        if self.loss:
            raise ValueError("the model brings its own loss: call compile() without one")
        images = x[0] if isinstance(x, (tuple, list)) else x
        x_hat, mu, logvar = y_pred
        weights = 1.0 if sample_weight is None else tf.reshape(tf.cast(sample_weight, tf.float32), tf.shape(mu)[:1])
        reconstruction = tf.reduce_mean(weights * reconstruction_loss(x_hat, images))
        kl = tf.reduce_mean(weights * kl_divergence(mu, logvar))
        loss = reconstruction + kl
        for tracker, value in zip(self.trackers, (loss, reconstruction, kl)):
            tracker.update_state(value, sample_weight=tf.shape(mu)[0])
        # Keras adds up the gradients of several devices; only 3.4 to 3.9 average them, and are not supported there
        return loss / tf.distribute.get_strategy().num_replicas_in_sync

    @property
    def metrics(self):
        """What `fit` and `evaluate` report: the loss, its two terms, and the metrics that were given to `compile`."""
        others = [metric for metric in super().metrics if metric.name != "loss"]  # Keras 3 has one for the loss too
        return [*self.trackers, *others]


@tf.keras.utils.register_keras_serializable("hw6")
class VAE(ElboModel):
    """Fully-connected variational autoencoder (handout, step 1). ValueError if `input_size` is not a positive square.

    Attributes, besides those of `ElboModel`:
        encoder: (N, 1, H, W) -> (N, H_d).
        mu_layer, logvar_layer: (N, H_d) -> (N, Z), mean and log-variance of the posterior q(z|x).
        decoder: (N, Z) -> (N, 1, H, W), pixels in (0, 1), float32.
    """

    def __init__(self, input_size, latent_size=15, hidden_dim=384):
        super().__init__(input_size, latent_size, hidden_dim)
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
        self.mu_layer = mu_layer(self.latent_size)  # (N, H_d) -> (N, Z)
        self.logvar_layer = logvar_layer(self.latent_size, bias=-1.0)  # (N, H_d) -> (N, Z)
        self.decoder = tf.keras.Sequential(
            [
                layers.Input((self.latent_size,)),
                hidden_layer(self.hidden_dim, "decoder_1"),  # (N, Z) -> (N, H_d)
                hidden_layer(self.hidden_dim, "decoder_2"),
                hidden_layer(self.hidden_dim, "decoder_3"),
                pixel_layer(self.input_size),  # (N, H_d) -> (N, D)
                layers.Activation("sigmoid", dtype="float32"),  # in 16 bits a sigmoid would round to 1
                layers.Reshape((1, self.image_size, self.image_size), dtype="float32"),  # (N, D) -> (N, 1, H, W)
            ],
            name="decoder",
        )
        self.build((None, 1, self.image_size, self.image_size))

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
        return {"input_size": self.input_size, "latent_size": self.latent_size, "hidden_dim": self.hidden_dim}


@tf.keras.utils.register_keras_serializable("hw6")
class CVAE(ElboModel):
    """Conditional VAE: encoder and decoder are given the class c too (handout, step 2; q(z|x,c) and p(x|z,c)).

    Attributes as `VAE`'s, and `num_classes` (C); but encoder and decoder are also given c, concatenated:
        encoder: flattened image and c, (N, D + C) -> (N, H_d).
        decoder: z and c, (N, Z + C) -> (N, 1, H, W).
    """

    def __init__(self, input_size, num_classes=10, latent_size=15, hidden_dim=384):
        super().__init__(input_size, latent_size, hidden_dim)
        self.num_classes = operator.index(num_classes)
        self.encoder = tf.keras.Sequential(
            [
                layers.Input((self.input_size + self.num_classes,)),
                hidden_layer(self.hidden_dim, "encoder_1"),  # (N, D + C) -> (N, H_d)
                hidden_layer(self.hidden_dim, "encoder_2"),
                hidden_layer(self.hidden_dim, "encoder_3"),
            ],
            name="encoder",
        )
        self.mu_layer = mu_layer(self.latent_size)  # (N, H_d) -> (N, Z)
        self.logvar_layer = logvar_layer(self.latent_size, bias=-2.0)  # (N, H_d) -> (N, Z)
        self.decoder = tf.keras.Sequential(
            [
                layers.Input((self.latent_size + self.num_classes,)),
                hidden_layer(self.hidden_dim, "decoder_1"),  # (N, Z + C) -> (N, H_d)
                hidden_layer(self.hidden_dim, "decoder_2"),
                hidden_layer(self.hidden_dim, "decoder_3"),
                pixel_layer(self.input_size),  # (N, H_d) -> (N, D)
                layers.Activation("sigmoid", dtype="float32"),  # in 16 bits a sigmoid would round to 1
                layers.Reshape((1, self.image_size, self.image_size), dtype="float32"),  # (N, D) -> (N, 1, H, W)
            ],
            name="decoder",
        )
        self.build([(None, 1, self.image_size, self.image_size), (None, self.num_classes)])
        scale_class_weights(self.encoder, self.num_classes, ENCODER_CLASS_SCALE * self.image_size)
        scale_class_weights(self.decoder, self.num_classes, DECODER_CLASS_SCALE * self.image_size)

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
        return {
            "input_size": self.input_size,
            "num_classes": self.num_classes,
            "latent_size": self.latent_size,
            "hidden_dim": self.hidden_dim,
        }


def check_pair(inputs):
    """The inputs of a `CVAE`, a pair (images, classes). ValueError if the classes are missing."""
    if not isinstance(inputs, (tuple, list)) or len(inputs) != 2:
        raise ValueError("a CVAE needs images and their one-hot classes: model(x, c), or fit on batches ((x, c),)")
    return inputs


# ----------------------------------------------------------------------------------------------- layers and their start
# Layers have the names by which `muon.py` chooses its kernels.


def hidden_layer(hidden_dim, name):
    """A linear layer with ReLU, (N, any) -> (N, H_d), and the initial weights for it of He et al. 2015."""
    return layers.Dense(hidden_dim, "relu", kernel_initializer="he_normal", name=name)


# At first mu hardly depends on x, and sigma is exp(-1 / 2) = 0.61 in the VAE and exp(-2 / 2) = 0.37 in the CVAE, whose
# decoder might use the class alone: so narrow that noise does not hide mu, and the decoder soon learns what z says. For
# the CVAE that is worth one or two nats, for the VAE nothing. With larger weights of mu the loss of the CVAE is lower,
# and fewer samples are the digit asked for.
MU_STDDEV = 0.07  # near what Keras gives by default for 384 units
LOGVAR_STDDEV = 0.02


def mu_layer(latent_size):
    """The linear layer of mu, (N, H_d) -> (N, Z)."""
    start = tf.keras.initializers.RandomNormal(stddev=MU_STDDEV)
    return layers.Dense(latent_size, kernel_initializer=start, name="mu")


def logvar_layer(latent_size, bias):
    """The linear layer of logvar, (N, H_d) -> (N, Z), with this initial bias."""
    start = tf.keras.initializers.RandomNormal(stddev=LOGVAR_STDDEV)
    start_of_bias = tf.keras.initializers.Constant(bias)
    return layers.Dense(latent_size, kernel_initializer=start, bias_initializer=start_of_bias, name="logvar")


PIXEL_BIAS = -2.0  # sigmoid(-2) = 0.12 is near MNIST's mean pixel of 0.13


def pixel_layer(input_size):
    """The decoder's last linear layer, (N, H_d) -> (N, D), whose outputs are the logits of the pixels.

    At first all images are one grey near the mean pixel: with a random kernel they would be noise, which takes the
    first steps to unlearn.
    """
    bias = tf.keras.initializers.Constant(PIXEL_BIAS)
    return layers.Dense(input_size, kernel_initializer="zeros", bias_initializer=bias, name="pixels")


# A one-hot is a single 1 among H x W pixels or Z latents, and the networks would hardly use it: z would encode part of
# the class, and more samples would be wrong digits. So its initial weights are larger, by these factors times the
# image's side: for MNIST 42 and 12. The side counts since the norm of the pixels grows with it; the decoder keeps its
# ratio to the encoder. Both were chosen by trial, for samples that are the digit asked for; with a larger one in the
# decoder, loops with plain Adam learn more slowly.
ENCODER_CLASS_SCALE = 1.5
DECODER_CLASS_SCALE = 0.43


def scale_class_weights(network, num_classes, factor):
    """Multiplies the first layer's weights of the class, its last C rows, by a factor."""
    kernel = network.layers[0].kernel
    of_other_inputs = kernel[:-num_classes]
    of_class = kernel[-num_classes:]
    kernel.assign(tf.concat([of_other_inputs, factor * of_class], axis=0))


# ----------------------------------------------------------------------------------------------------------------- loss


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


CLIP = 1e-7  # pixels x_hat count as at least so far from 0 and 1, so that their logarithms are finite


def reconstruction_loss(x_hat, x):
    """Binary cross-entropy of images (N, 1, H, W) in [0, 1] in nats, summed over the pixels of each image: (N,)."""
    x_hat = tf.clip_by_value(tf.cast(x_hat, tf.float32), CLIP, 1 - CLIP)
    x = tf.cast(x, tf.float32)
    x_hat.shape.assert_is_compatible_with(x.shape)  # ValueError: they would broadcast
    by_pixel = -(x * tf.math.log(x_hat) + (1 - x) * tf.math.log(1 - x_hat))
    return tf.reduce_sum(by_pixel, axis=tuple(range(1, x.shape.rank)))


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
