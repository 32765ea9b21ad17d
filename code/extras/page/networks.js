"use strict";

/* The networks. `explore.py` puts this script and the others of the folder into `template.html`, after the models.

   `models` maps "vae" and "cvae", where they were saved, to
     latent_size: Z
     num_classes: 10, or 0 for the VAE
     layers:      [inputs, outputs] of nine linear layers: the encoder's three, mu, logvar, the decoder's four
     weights:     base64 of, for each layer in this order, little-endian:
                  inputs float32 scales, outputs float32 biases, inputs x outputs int8 kernel, a row for each input;
                  a weight is its int8 times the scale of its row
     variances:   of the posterior means of the test images, Z numbers
     axes:        two unit vectors of Z numbers, the directions in which those means vary most
     deviations:  their standard deviations along the two
     run:         data, epochs and test_loss of the training; data is null if it is not known
     usual:       of the test images: loss, which 99 % of them stay below, with z = mu and, for the CVAE, as the digit with the
                  lowest loss; ink, [least, most], the sum of an image's pixels
     points:      of some test images: labels, a text of their digits; means, base64 of int8, Z for each image; scale, the
                  posterior mean of a byte of 1
*/
const byId = id => document.getElementById(id);
const models = JSON.parse(byId("models").textContent);
const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

function toBytes(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

function readLayers(model) {
  const bytes = toBytes(model.weights);
  let offset = 0;
  const take = (Type, count) => {
    const part = new Type(bytes.slice(offset, offset + count * Type.BYTES_PER_ELEMENT));
    offset += count * Type.BYTES_PER_ELEMENT;
    return part;
  };
  return model.layers.map(([inputs, outputs]) => {
    const scales = take(Float32Array, inputs);
    const bias = take(Float32Array, outputs);
    const kernel = Array.from(scales, () => pairs(take(Int8Array, outputs)));
    return { scales, bias, kernel, sums: new Float64Array(Math.ceil(outputs / 2)) };
  });
}

/** The test images {label, z} of a model, z being their posterior means. */
function readPoints({ points, latent_size: size }) {
  const means = Array.from(new Int8Array(toBytes(points.means)), byte => points.scale * byte);
  return Array.from(points.labels, (label, i) => ({ label: Number(label), z: means.slice(size * i, size * (i + 1)) }));
}

/* A linear layer in JavaScript multiplies one number at a time, and most of the page's time goes into it. Two outputs share
   each multiplication: a number of the kernel is an even output's weight plus HIGH times the next output's, both integers,
   and a sum of such products is two sums. They stay apart, and exact, while each is less than HIGH / 2 from 0: the inputs
   are rounded to integers whose magnitudes add up to less than 2^18, and a weight is at most 127, so it is below 2^25. */
const HIGH = 2 ** 26;
const INPUTS = 2 ** 18 - 1000;  // before they are rounded, which adds half for each of at most 794

/** A row of a kernel, two outputs in each number. */
function pairs(row) {
  const numbers = new Float64Array(Math.ceil(row.length / 2));
  for (let j = 0; j < numbers.length; j++) numbers[j] = row[2 * j] + HIGH * (row[2 * j + 1] ?? 0);
  return numbers;
}

/** input times kernel plus bias. Inputs of 0 are left out: after a ReLU, and in a one-hot, most are. */
function linear(input, { scales, bias, kernel, sums }) {
  const values = [];
  const rows = [];  // the kernel's row of each value
  let magnitude = 0;
  for (let i = 0; i < input.length; i++) {
    if (input[i] === 0) continue;
    const value = input[i] * scales[i];
    values.push(value);
    rows.push(kernel[i]);
    magnitude += Math.abs(value);
  }
  const unit = magnitude / INPUTS;
  for (let n = 0; n < values.length; n++) values[n] = Math.round(values[n] / unit);
  while (values.length % 4) {
    values.push(0);
    rows.push(kernel[0]);
  }

  sums.fill(0);  // the layer's own array: to create one for each call takes time
  for (let n = 0; n < values.length; n += 4) {  // four rows at a time: sums is read and written a quarter as often
    const v0 = values[n];
    const v1 = values[n + 1];
    const v2 = values[n + 2];
    const v3 = values[n + 3];
    const row0 = rows[n];
    const row1 = rows[n + 1];
    const row2 = rows[n + 2];
    const row3 = rows[n + 3];
    for (let j = 0; j < sums.length; j++) {
      sums[j] += v0 * row0[j] + v1 * row1[j] + v2 * row2[j] + v3 * row3[j];
    }
  }

  const outputs = new Float32Array(bias.length);
  for (let j = 0; j < sums.length; j++) {
    const high = Math.round(sums[j] / HIGH);
    const low = sums[j] - HIGH * high;
    outputs[2 * j] = bias[2 * j] + unit * low;
    if (2 * j + 1 < outputs.length) outputs[2 * j + 1] = bias[2 * j + 1] + unit * high;
  }
  return outputs;
}

/** In place, and returns the same array: to copy it would take longer than the comparisons. */
function relu(values) {
  for (let i = 0; i < values.length; i++) {
    if (values[i] < 0) values[i] = 0;
  }
  return values;
}

const sigmoid = values => values.map(value => 1 / (1 + Math.exp(-value)));

/** A model's second input for each digit: ten one-hots; for the VAE, which has none, an empty one. */
const classesOf = kind => models[kind].num_classes
  ? DIGITS.map(digit => Float32Array.from(DIGITS, d => Number(d === digit))) : [new Float32Array(0)];

/** That input for one digit, which the VAE passes over. */
const classOf = (kind, digit) => classesOf(kind)[models[kind].num_classes ? digit : 0];

/** The posteriors {mu, logvar} of 784 pixels, one for each element of `classes`. */
function encodeAs(kind, pixels, classes) {
  const [first, second, third, mu, logvar] = models[kind].network;
  const ofPixels = linear(pixels, first);  // computed once: the classes' rows of the kernel come after the pixels'
  const rest = { scales: first.scales.slice(784), bias: ofPixels, kernel: first.kernel.slice(784), sums: first.sums };
  const hidden = hiddenLayers(classes, [rest, second, third]);
  return hidden.map(h => ({ mu: linear(h, mu), logvar: linear(h, logvar) }));
}

/** Inputs through layers with ReLU: all of them through one layer, whose weights are then in the processor's cache, before the next. */
function hiddenLayers(inputs, layers) {
  return layers.reduce((h, layer) => h.map(input => relu(linear(input, layer))), inputs);
}

/** The 784 pixels of each z, with the one-hot, or mixture of two, of the same place. */
function decodeAs(kind, zs, classes) {
  const [first, second, third, pixels] = models[kind].network.slice(5);
  const inputs = zs.map((z, i) => Float32Array.from([...z, ...classes[i]]));
  return hiddenLayers(inputs, [first, second, third]).map(h => sigmoid(linear(h, pixels)));
}

/** The binary cross-entropy in nats, summed over the pixels. Most pixels are 0 or 1, and need one logarithm of two. */
function crossEntropy(x_hat, pixels) {
  const log = value => Math.log(Math.max(value, 1e-7));  // as Keras clips it
  let sum = 0;
  for (let i = 0; i < pixels.length; i++) {
    if (pixels[i] > 0) sum -= pixels[i] * log(x_hat[i]);
    if (pixels[i] < 1) sum -= (1 - pixels[i]) * log(1 - x_hat[i]);
  }
  return sum;
}

/** The KL divergence in nats of one latent's posterior from the prior, a standard normal distribution. */
const klOf = (mu, logvar) => (Math.exp(logvar) + mu * mu - 1 - logvar) / 2;

/** For each digit, or once for the VAE: mu, logvar, the image x_hat of mu, and in nats the two terms of the loss and their sum. */
function reconstruct(kind, pixels) {
  const classes = classesOf(kind);
  const posteriors = encodeAs(kind, pixels, classes);
  const images = decodeAs(kind, posteriors.map(({ mu }) => mu), classes);
  return posteriors.map(({ mu, logvar }, i) => {
    const x_hat = images[i];
    const reconstruction = crossEntropy(x_hat, pixels);
    const kl = mu.reduce((sum, m, j) => sum + klOf(m, logvar[j]), 0);
    return { mu, logvar, x_hat, reconstruction, kl, loss: reconstruction + kl };
  });
}

/** The index of the lowest loss. */
const bestOf = results => results.reduce((best, { loss }, d) => loss < results[best].loss ? d : best, 0);

/** p(digit | pixels) by Bayes' rule with equal priors, p(pixels | digit) being estimated by exp(-loss). */
function bayes(losses) {
  const least = Math.min(...losses);
  const likelihoods = losses.map(loss => Math.exp(least - loss));
  const sum = likelihoods.reduce((a, b) => a + b);
  return likelihoods.map(likelihood => likelihood / sum);
}

/** For the console and for tests. kind: "vae" or "cvae"; digit: 0 to 9, or null for the VAE. */
const explorer = {
  /** z, an array of Z numbers, to 784 pixels in [0, 1]. */
  decode: (kind, z, digit) => Array.from(decodeAs(kind, [z], [classOf(kind, digit)])[0]),
  /** 784 pixels in [0, 1] to the posterior's {mu, logvar}, arrays of Z numbers. */
  encode(kind, pixels, digit) {
    const [{ mu, logvar }] = encodeAs(kind, pixels, [classOf(kind, digit)]);
    return { mu: Array.from(mu), logvar: Array.from(logvar) };
  },
  /** 784 pixels in [0, 1] to the CVAE's scores of the ten digits, which add up to 1. */
  classify: pixels => bayes(reconstruct("cvae", pixels).map(result => result.loss)),
};
for (const model of Object.values(models)) model.network = readLayers(model);
