"""The two models of the homework and their loss, in the order of the handout: `VAE` is its step 1, `CVAE` its step 2.

Data, training and pictures are in `assignment.py`. The method: Kingma & Welling, https://arxiv.org/abs/1312.6114.
Shapes in the comments: N images of H x W pixels, D = H * W, Z latents, C classes, H_d hidden units.
"""

import math
import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # this is TensorFlow code, whatever backend the user's settings name

import tensorflow as tf
from tensorflow.keras import layers

MUON_BATCH_SIZE = 512  # from this batch size on `assignment.train_vae` uses Muon's update, see `MuonAdam`


class Autoencoder(tf.keras.Model):
    """What both models have besides their layers: their sizes, and what Keras needs to copy a model."""

    def __init__(self, input_size, latent_size):
        super().__init__()
        self.image_size = math.isqrt(max(input_size, 0))  # H and W
        if input_size < 1 or self.image_size**2 != input_size:
            raise ValueError(f"input_size must be a positive square such as 784, got {input_size}")
        self.input_size = input_size
        self.latent_size = latent_size
        self.hidden_dim = 384  # a multiple of 64: matrix products of 400 take a seventh longer

    def get_config(self):
        """The constructor's arguments, from which Keras makes a copy."""
        return {k: getattr(self, k) for k in ("input_size", "num_classes", "latent_size") if hasattr(self, k)}


@tf.keras.utils.register_keras_serializable("hw6")
class VAE(Autoencoder):
    """Fully-connected variational autoencoder (handout, step 1). ValueError if `input_size` is not a positive square.

    Attributes `input_size` (D), `latent_size` (Z), `hidden_dim` (H_d), the width of every hidden layer, and
        encoder: (N, 1, H, W) -> (N, H_d).
        mu_layer, logvar_layer: (N, H_d) -> (N, Z), mean and log-variance of the posterior q(z|x).
        decoder: (N, Z) -> (N, 1, H, W), pixels in (0, 1), float32.
        optimizer: the one that `assignment.train_vae` uses. Copies and loaded models start with a new one.
    """

    def __init__(self, input_size, latent_size=15):
        super().__init__(input_size, latent_size)
        image = layers.Input((1, self.image_size, self.image_size))  # (N, 1, H, W) -> (N, D) -> (N, H_d)
        self.encoder = tf.keras.Sequential([image, layers.Flatten(), *hidden_layers(self.hidden_dim)], name="encoder")
        self.mu_layer, self.logvar_layer = posterior_layers(latent_size)  # (N, H_d) -> (N, Z) each
        self.decoder = decoder_network(latent_size, self.hidden_dim, self.image_size)  # (N, Z) -> (N, 1, H, W)
        self(tf.keras.Input((1, self.image_size, self.image_size)))  # creates all weights
        hidden = [network.get_layer(f"hidden_{i}") for network in (self.encoder, self.decoder) for i in (2, 3)]
        self.optimizer = MuonAdam(self.trainable_variables, [layer.kernel for layer in hidden])

    def call(self, x):
        """Images x (N, 1, H, W) in [0, 1] to x_hat (N, 1, H, W), mu and logvar (N, Z) (handout, "VAE Forward Pass")."""
        h = self.encoder(tf.cast(x, self.compute_dtype))  # (N, H_d)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)  # (N, Z) each
        z = reparametrize(mu, logvar)  # (N, Z)
        return self.decoder(z), mu, logvar


@tf.keras.utils.register_keras_serializable("hw6")
class CVAE(Autoencoder):
    """Conditional VAE: encoder and decoder are given the class too (handout, step 2; q(z|x,c) and p(x|z,c)).

    Attributes as `VAE`'s, and `num_classes` (C), but `encoder` takes flattened image and c, (N, D + C) -> (N, H_d), and
    `decoder` takes z and c, (N, Z + C) -> (N, 1, H, W), concatenated.
    """

    def __init__(self, input_size, num_classes=10, latent_size=15):
        super().__init__(input_size, latent_size)
        self.num_classes = num_classes
        x_and_c = layers.Input((input_size + num_classes,))  # (N, D + C) -> (N, H_d)
        self.encoder = tf.keras.Sequential([x_and_c, *hidden_layers(self.hidden_dim)], name="encoder")
        self.mu_layer, self.logvar_layer = posterior_layers(latent_size)  # (N, H_d) -> (N, Z) each
        self.decoder = decoder_network(latent_size + num_classes, self.hidden_dim, self.image_size)  # from (N, Z + C)
        self([tf.keras.Input((1, self.image_size, self.image_size)), tf.keras.Input((num_classes,))])  # creates weights
        # A one-hot is one input of size 1 beside H x W pixels, whose norm is of the order of the image's side. Its
        # weights, the last rows, are multiplied by it: else z encodes part of the class, and samples show wrong digits.
        for kernel in (self.encoder.get_layer("hidden_1").kernel, self.decoder.get_layer("hidden_1").kernel):
            kernel.assign(tf.concat([kernel[:-num_classes], self.image_size * kernel[-num_classes:]], axis=0))
        muon_kernels = [self.decoder.get_layer(name).kernel for name in ("hidden_2", "hidden_3", "pixels")]
        self.optimizer = MuonAdam(self.trainable_variables, muon_kernels)

    def call(self, x, c=None):
        """As `VAE.call`, given one-hot classes c (N, C) of any type (handout, "Define CVAE with class input")."""
        x, c = x if c is None else (x, c)  # Keras passes two inputs as a pair
        x, c = tf.cast(x, self.compute_dtype), tf.cast(c, self.compute_dtype)
        x = tf.reshape(x, (-1, self.input_size))  # (N, D)
        h = self.encoder(tf.concat([x, c], axis=1))  # (N, D + C) -> (N, H_d)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)  # (N, Z) each
        z = reparametrize(mu, logvar)  # (N, Z)
        return self.decoder(tf.concat([z, c], axis=1)), mu, logvar  # (N, Z + C) -> (N, 1, H, W)


def hidden_layers(hidden_dim):
    """Three linear layers with ReLU: (N, any) -> (N, H_d)."""
    return [layers.Dense(hidden_dim, "relu", kernel_initializer="he_normal", name=f"hidden_{i}") for i in (1, 2, 3)]


def posterior_layers(latent_size):
    """The linear layers of mu and logvar, (N, H_d) -> (N, Z). Their small initial weights are for the VAE's sake."""
    small = {"class_name": "RandomNormal", "config": {"stddev": 0.02}}  # q(z|x) starts near the prior, and KL near 0
    return [layers.Dense(latent_size, kernel_initializer=small, name=name) for name in ("mu", "logvar")]


def decoder_network(num_inputs, hidden_dim, image_size):
    """The decoder, (N, num_inputs) -> (N, H_d) -> (N, D) -> (N, 1, H, W) in (0, 1) (handout, "VAE Decoder").

    At first each pixel is sigmoid(-2) = 0.12, near MNIST's mean pixel of 0.13. In float16 a sigmoid would reach 1.
    """
    start = {"kernel_initializer": "zeros", "bias_initializer": tf.keras.initializers.Constant(-2.0)}
    pixels = layers.Dense(image_size**2, "sigmoid", dtype="float32", name="pixels", **start)
    image = layers.Reshape((1, image_size, image_size), dtype="float32")
    return tf.keras.Sequential([layers.Input((num_inputs,)), *hidden_layers(hidden_dim), pixels, image], name="decoder")


class MuonAdam(tf.keras.optimizers.Adam):
    """Adam, which can use Muon's update for some kernels (https://kellerjordan.github.io/posts/muon/).

    While `use_muon` is True, the update of a kernel (F, G) of `muon_kernels` is its momentum, made nearly orthogonal,
    times the learning rate and 0.2 sqrt(max(F, G)) (https://arxiv.org/abs/2502.16982). All else gets Adam's update.

    `assignment.train_vae` uses it from `MUON_BATCH_SIZE` on: it takes the same time at any batch size, longer than the
    network for small ones. At 1024 the test loss of the default run is 98.1 nats (CVAE) and 99.5 (VAE), with Adam alone
    107.1 and 109.4. The kernels are those between hidden layers; in a CVAE the decoder's alone, and the pixels': with
    the encoder's too, accuracy is 97.8 %, not 99.2 % (`tests/results.py ablation`, medians of three seeds).
    """

    def __init__(self, variables, muon_kernels):
        super().__init__(beta_2=0.97)
        self.build(variables)  # all of them from the start, so that a layer may be frozen, and trained again later
        self.use_muon = False
        self.muon_kernels = muon_kernels
        self.momenta = [tf.Variable(tf.zeros_like(kernel), trainable=False) for kernel in muon_kernels]

    def apply_gradients(self, grads_and_vars, *args, **options):
        """One step of training, given pairs of gradient and variable."""
        momenta = {id(kernel): m for kernel, m in zip(self.muon_kernels, self.momenta)} if self.use_muon else {}
        for_adam = []
        for gradient, variable in grads_and_vars:
            if gradient is None or id(variable) not in momenta:
                for_adam.append((gradient, variable))
                continue
            momentum = momenta[id(variable)].assign(0.95 * momenta[id(variable)] + gradient)
            update = orthogonalise(gradient + 0.95 * momentum)  # Nesterov's step
            variable.assign_sub(tf.cast(self.learning_rate, update.dtype) * 0.2 * max(variable.shape) ** 0.5 * update)
        return super().apply_gradients(for_adam, *args, **options)

    def save_own_variables(self, store):
        """Nothing: files of weights hold the weights alone. Adam's state would make them three times as large."""

    def load_own_variables(self, store):
        """Nothing: a loaded model starts with a new optimizer."""


def orthogonalise(matrix):
    """Nearly U V^T of the singular value decomposition U S V^T of a matrix (F, G), by 4 steps of Newton and Schulz."""
    # The coefficients are Muon's. They bring large singular values near 1 fast, and do not converge to 1.
    x = tf.math.divide_no_nan(matrix, tf.norm(matrix))
    for _ in range(4):
        gram = tf.matmul(x, x, transpose_b=True)  # (F, F)
        x = 3.4445 * x + tf.matmul(-4.7750 * gram + 2.0315 * tf.matmul(gram, gram), x)
    return x


def reparametrize(mu, logvar):
    """z = mu + sigma * epsilon with epsilon ~ N(0, I), differentiable in mu and logvar (handout, "Reparametrization").

    All are (N, Z). The noise follows TensorFlow's global seed; a graph, the one that was set when it was traced.
    """
    mu, logvar = tf.convert_to_tensor(mu), tf.convert_to_tensor(logvar)
    return mu + tf.exp(0.5 * logvar) * tf.random.normal(tf.shape(mu), dtype=mu.dtype)


reparameterization = reparametrize  # the handout's spelling


def reconstruction_loss(x_hat, x):
    """Binary cross-entropy of images (N, 1, H, W) in [0, 1] in nats, summed over the pixels of each image: (N,)."""
    x_hat, x = tf.cast(x_hat, tf.float32), tf.cast(x, tf.float32)
    x_hat.shape.assert_is_compatible_with(x.shape)  # ValueError: they would broadcast
    # Keras averages over the last axis, and clips x_hat so that the logarithms are finite.
    by_row = tf.keras.losses.binary_crossentropy(x, x_hat) * x_hat.shape[-1]  # (N, 1, H)
    return tf.reduce_sum(tf.reshape(by_row, (tf.shape(x)[0], -1)), axis=1)


def bce_function(x_hat, x):
    """Binary cross-entropy of images (N, 1, H, W) in [0, 1] in nats, summed over all pixels of all images: a scalar."""
    return tf.reduce_sum(reconstruction_loss(x_hat, x))


def kl_divergence(mu, logvar):
    """D_KL(N(mu, sigma^2) || N(0, I)) of (N, Z) in nats, summed over latents: (N,) (Kingma & Welling, appendix B)."""
    mu, logvar = tf.cast(mu, tf.float32), tf.cast(logvar, tf.float32)
    mu.shape.assert_is_compatible_with(logvar.shape)
    return -0.5 * tf.reduce_sum(1.0 + logvar - tf.square(mu) - tf.exp(logvar), axis=-1)


def loss_function(x_hat, x, mu, logvar):
    """The negative ELBO per image in nats, a scalar (handout, "Loss Function"). ValueError if shapes do not agree."""
    x, mu = tf.convert_to_tensor(x), tf.convert_to_tensor(mu)
    x.shape[:1].assert_is_compatible_with(mu.shape[:1])
    return (bce_function(x_hat, x) + tf.reduce_sum(kl_divergence(mu, logvar))) / tf.cast(tf.shape(x)[0], tf.float32)
