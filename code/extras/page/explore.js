"use strict";

/* The script of the page: `explore.py` puts it into `template.html`, after the models. */

/* ---- The networks -----------------------------------------------------------------------------------------------

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
     run:         data, epochs, test_loss of the run that the weights are of; data is null if they are not known
     usual:       of the test images: loss, which 99 % of them stay below, with z = mu and, for the CVAE, as the digit that it
                  reads; ink, [least, most], the sum of an image's pixels
*/
const byId = id => document.getElementById(id);
const models = JSON.parse(byId("models").textContent);
const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

function readLayers(model) {
  const bytes = Uint8Array.from(atob(model.weights), character => character.charCodeAt(0)).buffer;
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

/* A linear layer in JavaScript multiplies one number at a time, and most of the page's time goes into it. Two outputs share
   each multiplication: a number of the kernel is an even output's weight plus HIGH times the next output's, both integers,
   and a sum of such products is two sums. They stay apart, and exact, while each is less than HIGH / 2 from 0: the inputs
   are rounded to integers whose magnitudes add up to less than 2^18, and a weight is at most 127, so it is below 2^25. */
const HIGH = 2 ** 26;
const INPUTS = 2 ** 18 - 1000;  // before they are rounded, which adds half for each of at most 794

/** A row of a kernel, two outputs in each number. */
function pairs(row) {
  return Float64Array.from({ length: Math.ceil(row.length / 2) }, (_, j) => row[2 * j] + HIGH * (row[2 * j + 1] ?? 0));
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

/** Of the values themselves, which it returns: a copy of each would take longer than the comparison. */
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

/** For each digit, or once for the VAE: mu, its image x_hat, and in nats the two terms of the loss and their sum. */
function reconstruct(kind, pixels) {
  const log = value => Math.log(Math.max(value, 1e-7));  // as Keras clips it
  const classes = classesOf(kind);
  const posteriors = encodeAs(kind, pixels, classes);
  const images = decodeAs(kind, posteriors.map(({ mu }) => mu), classes);
  return posteriors.map(({ mu, logvar }, i) => {
    const x_hat = images[i];
    const reconstruction = -pixels.reduce((sum, x, j) => sum + x * log(x_hat[j]) + (1 - x) * log(1 - x_hat[j]), 0);
    const kl = mu.reduce((sum, m, j) => sum + (Math.exp(logvar[j]) + m * m - 1 - logvar[j]) / 2, 0);
    return { mu, x_hat, reconstruction, kl, loss: reconstruction + kl };
  });
}

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
  decode: (kind, z, digit) => Array.from(decodeAs(kind, [z], [classesOf(kind)[digit ?? 0]])[0]),
  /** 784 pixels in [0, 1] to the posterior's {mu, logvar}, arrays of Z numbers. */
  encode(kind, pixels, digit) {
    const [{ mu, logvar }] = encodeAs(kind, pixels, [classesOf(kind)[digit ?? 0]]);
    return { mu: Array.from(mu), logvar: Array.from(logvar) };
  },
  /** 784 pixels in [0, 1] to the CVAE's scores of the ten digits, which add up to 1. */
  classify: pixels => bayes(reconstruct("cvae", pixels).map(result => result.loss)),
};
for (const model of Object.values(models)) model.network = readLayers(model);

/* ---- What is shown ----------------------------------------------------------------------------------------------- */

document.querySelector("main").replaceChildren(byId("content").content.cloneNode(true));

let kind = "cvae" in models ? "cvae" : "vae";
let digit = 0;         // that the drawing is encoded as; 0 for the VAE
let drawnZ = [];       // of the drawing; zeros if nothing is drawn
let z = [];            // the latents of all that is shown
let shown = [];        // the images of z: {button, canvas, oneHot}
let sliders = [];      // one for each latent, in the model's order
let ends = [];         // the images at the ends of the sliders: {latent, value, canvas}
const BLANK = new Float32Array(784);

const image = new ImageData(28, 28);
const colours = new Uint32Array(image.data.buffer);  // opacity, blue, green, red: a byte each
function paint(canvas, pixels, left = 0, top = 0) {
  pixels.forEach((value, i) => { colours[i] = 0xff000000 + 0x010101 * Math.round(255 * value); });
  canvas.getContext("2d").putImageData(image, left, top);
}

function create(tag, properties, parent) {
  const element = Object.assign(document.createElement(tag), properties);
  parent.append(element);
  return element;
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const isSame = (a, b) => a.every((value, i) => Math.abs(value - b[i]) < 1e-6);
const withArticle = d => `${d === 8 ? "an" : "a"} ${d}`;

let frame = 0;
/** Calls a function that shows what has changed, before the next frame is painted. Of several, the last is enough. */
function nextFrame(show) {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(show);
}

/** How far z is along the map's two axes, in standard deviations. */
function onAxes() {
  const { axes, deviations } = models[kind];
  return axes.map((axis, i) => axis.reduce((sum, a, j) => sum + a * z[j], 0) / deviations[i]);
}

/** z moved along the two axes to (x, y), in standard deviations; what z has besides stays. */
function movedTo(x, y) {
  const { axes, deviations } = models[kind];
  const now = onAxes();
  const changes = [x, y].map((value, i) => (value - now[i]) * deviations[i]);
  return z.map((value, j) => value + changes[0] * axes[0][j] + changes[1] * axes[1][j]);
}

/** z with another value of one latent. */
const withLatent = (latent, value) => z.map((old, j) => j === latent ? value : old);

/** Shows everything that depends on z. `images` has those of them that are decoded already, by their place. */
function showZ(images = {}) {
  const rest = shown.filter((_, i) => !images[i]);
  const decoded = decodeAs(kind, rest.map(() => z), rest.map(({ oneHot }) => oneHot));
  rest.forEach(({ canvas }, i) => paint(canvas, decoded[i]));
  for (const [i, pixels] of Object.entries(images)) paint(shown[i].canvas, pixels);
  sliders.forEach((input, i) => {
    const end = Math.max(3, Math.ceil(Math.abs(z[i])));
    input.min = -end;
    input.max = end;
    input.value = z[i];
    input.parentElement.lastChild.textContent = (Math.round(10 * z[i]) / 10 + 0).toFixed(1);
  });
  const [x, y] = onAxes();
  byId("dot").style.left = `${50 + clamp(x, -3, 3) * 50 / 3}%`;
  byId("dot").style.top = `${50 - clamp(y, -3, 3) * 50 / 3}%`;
  byId("pad").setAttribute("aria-valuenow", clamp(x, -3, 3).toFixed(1));
  byId("pad").setAttribute("aria-valuetext", `${x.toFixed(1)} to the right, ${y.toFixed(1)} up`);
  showSource();
  showChosen();
  showPreviewsLater();
}

/** Says where z is from. */
function showSource() {
  const moved = strokes.length > 0 && !isSame(z, drawnZ);
  const ofDrawing = models[kind].num_classes ? "The z of the drawing, as all ten digits." : "The z of the drawing.";
  const unmoved = strokes.length ? ofDrawing : "Nothing is drawn: this z is of no drawing.";
  byId("source").textContent = moved ? "This is no longer the z of the drawing." : unmoved;
  byId("back").hidden = !moved;
}

/** Shows another z, as the person asked. */
function setZ(values) {
  stop();
  z = Array.from(values);
  nextFrame(() => showZ());
}
byId("back").onclick = () => setZ(drawnZ);

byId("save").onclick = () => {
  const side = 112;  // of an image in the file: four times as large, so that it can be seen
  const sheet = Object.assign(document.createElement("canvas"), { width: side * shown.length, height: side });
  const context = sheet.getContext("2d");
  context.imageSmoothingEnabled = false;
  shown.forEach(({ canvas }, i) => context.drawImage(canvas, side * i, 0, side, side));
  Object.assign(document.createElement("a"), { href: sheet.toDataURL(), download: "handwriting.png" }).click();
};

function choose(newKind) {
  kind = newKind;
  const { num_classes: classes, latent_size: size, run } = models[kind];
  const training = run.data === null ? "" : `, trained on ${run.data} for ${run.epochs} epochs`;
  byId("run").textContent = `${kind.toUpperCase()} with ${size} latents${training}; `
    + `test loss ${run.test_loss.toFixed(2)} nats per image.`;
  byId("about").textContent = classes
    ? "A CVAE reads the digit that you draw, and shows all ten digits in your handwriting."
    : "A VAE describes the digit that you draw by a few numbers, and makes an image of them again.";
  byId("title-images").textContent = classes ? "All ten digits in this handwriting" : "The image of this z";
  byId("images").replaceChildren();
  byId("images").classList.toggle("single", !classes);
  shown = classesOf(kind).map((oneHot, place) => {
    const button = create("button", { onclick: () => mark(place) }, byId("images"));
    const canvas = create("canvas", { width: 28, height: 28 }, button);
    create("span", { textContent: classes ? place : "z", className: "soft" }, button);
    return { button, canvas, oneHot };
  });
  createSliders();
  byId("digits").hidden = !classes;
  document.querySelector(".of-cvae").hidden = !classes;
  marksAreOwn = false;
  finishDrawing();
}

/** Sliders in the order of use; those of latents that the model does not use are folded away. */
function createSliders() {
  const { variances } = models[kind];
  const used = byId("latents");
  const unused = byId("unused").querySelector("div");
  const order = variances.map((_, i) => i).sort((i, j) => variances[j] - variances[i]);
  used.replaceChildren();
  unused.replaceChildren();
  sliders = [];
  ends = [];
  for (const i of order) {
    const isUsed = variances[i] >= 0.01;
    const label = create("label", {}, isUsed ? used : unused);
    create("span", { textContent: `z ${i + 1} ` }, label);
    if (isUsed) createEnd(i, -2.5, label);
    const oninput = () => setZ(withLatent(i, Number(sliders[i].value)));
    sliders[i] = create("input", { type: "range", step: 0.05, oninput }, label);
    if (isUsed) createEnd(i, 2.5, label);
    create("output", {}, label);
  }
  const count = unused.children.length;
  byId("unused").hidden = !count;
  byId("unused").querySelector("summary").textContent =
    (count === 1 ? "1 latent is not used by this model: its mu " : `${count} latents are not used by this model: their mu `)
    + "hardly differs from image to image (variance below 0.01), and the decoder ignores "
    + (count === 1 ? "it." : "them.");
}

function createEnd(latent, value, label) {
  ends.push({ latent, value, canvas: create("canvas", { width: 28, height: 28 }, label) });
}

if (Object.keys(models).length < 2) byId("kinds").hidden = true;
for (const name of Object.keys(models)) {
  const label = create("label", {}, byId("kinds"));
  create("input", { type: "radio", name: "kind", checked: name === kind, onchange: () => choose(name) }, label);
  label.append(` ${name.toUpperCase()}`);
}

/* ---- Previews: the map and the ends of the sliders ---------------------------------------------------------------- */

const CELLS = 7;       // of the map, in each direction
let previews = 0;      // the timer of those to come
let drawnKey = "";     // the map's key when it was drawn

/** What the map depends on: all but the place of the dot. */
const mapKey = () => [kind, digit, ...movedTo(0, 0).map(value => value.toFixed(2))].join();

/** The previews take several times as long as an update: they wait for a rest, and never come during a stroke. */
function showPreviewsLater() {
  clearTimeout(previews);
  byId("map").classList.toggle("stale", drawnKey !== mapKey());
  if (!stroke) previews = setTimeout(showPreviews, 150);
}

function showPreviews() {
  const jobs = ends.map(({ latent, value, canvas }) => ({ z: withLatent(latent, value), canvas }));
  const key = mapKey();
  if (drawnKey !== key) {
    drawnKey = "";  // until the last image: the map may be left half old and half new
    jobs.unshift(...mapJobs());
  }
  paintSome(jobs, key);
}

/** The z of each cell's middle. */
function mapJobs() {
  const places = Array.from({ length: CELLS }, (_, i) => i);
  const middle = place => 6 * (place + 0.5) / CELLS - 3;
  return places.flatMap(row => places.map(column => (
    { z: movedTo(middle(column), -middle(row)), canvas: byId("map"), left: 28 * column, top: 28 * row })));
}

/** Paints a few images and comes back for the others, so that a stroke that begins meanwhile does not wait for all. */
function paintSome(jobs, key) {
  const some = jobs.slice(0, CELLS);
  const images = decodeAs(kind, some.map(job => job.z), some.map(() => shown[digit].oneHot));
  some.forEach(({ canvas, left, top }, i) => paint(canvas, images[i], left, top));
  if (jobs.length > CELLS) {
    previews = setTimeout(paintSome, 0, jobs.slice(CELLS), key);
    return;
  }
  drawnKey = key;
  byId("map").classList.toggle("stale", key !== mapKey());
}

/* ---- Pointers and keys -------------------------------------------------------------------------------------------- */

/** Follows one pointer at a time and its primary button alone: start(event), move(event), then end(), or cancel() if the
    system takes the pointer away. The browser may leave out any of a pointer's events: the next pointer starts in any case. */
function follow(element, start, move, end, cancel) {
  let active = null;
  const finish = how => {
    active = null;
    how();
  };
  element.onpointerdown = event => {
    if (event.button !== 0) return;
    const isSecondFinger = active !== null && !event.isPrimary && element.hasPointerCapture(active);
    if (isSecondFinger) return;
    if (active !== null) finish(end);
    active = event.pointerId;
    try {
      element.setPointerCapture(active);
    } catch {
      // The pointer is gone already, as after a quick tap.
    }
    start(event);
  };
  element.onpointermove = event => {
    if (event.pointerId !== active) return;
    if (event.buttons & 1) move(event);
    else finish(end);
  };
  element.onpointerup = event => { if (event.pointerId === active) finish(end); };
  element.onpointercancel = event => { if (event.pointerId === active) finish(cancel); };
  element.oncontextmenu = event => event.preventDefault();  // a finger at rest opens it, and the pointer would be taken away
}

/** The direction [x, y] of an arrow key, y being downwards; undefined for other keys. */
function arrow(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return undefined;  // the browser's own
  return { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
}

/* ---- Latents ------------------------------------------------------------------------------------------------------ */

function normal() {  // Box and Muller
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}
byId("random").onclick = () => setZ(z.map(normal));
byId("zero").onclick = () => setZ(z.map(() => 0));

const moveTo = (x, y) => setZ(movedTo(clamp(x, -3, 3), clamp(y, -3, 3)));

const pad = byId("pad");
function moveToPointer(event) {
  const box = pad.getBoundingClientRect();
  moveTo(((event.clientX - box.left) / box.width - 0.5) * 6, (0.5 - (event.clientY - box.top) / box.height) * 6);
}
follow(pad, moveToPointer, moveToPointer, () => {}, () => {});
pad.onkeydown = event => {
  const direction = arrow(event);
  if (!direction) return;
  event.preventDefault();
  const [x, y] = onAxes();
  moveTo(x + 0.2 * direction[0], y - 0.2 * direction[1]);
};

/* ---- The drawing -------------------------------------------------------------------------------------------------- */

const SIZE = 280;      // of the drawing
const INK = 2.4;       // width in an image of 28 x 28 pixels, as it is in MNIST
const EXAMPLE = [      // shown until the person draws: a 5
  [186, 52], [118, 60], [104, 130], [112, 127], [120, 124], [128, 122], [138, 121], [148, 122], [158, 124], [168, 129],
  [177, 136], [184, 144], [188, 154], [191, 166], [190, 178], [186, 190], [180, 202], [172, 212], [161, 219], [148, 225],
  [136, 228], [125, 228], [114, 226], [104, 222], [96, 217], [90, 210], [84, 204]];
let strokes = [EXAMPLE];  // each a list of points [x, y], on the drawing
let stroke = null;     // the one that is being drawn
let last = null;       // the place that it has come to, on the drawing or beside it
let earlier = [];      // the strokes before each change, for Undo
let pen = [140, 140];  // the keyboard's, down or not
let penDown = false;

/** The square of the distance of the point (x, y) from the segment between two points. */
function squaredDistance(x, y, [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length2 = dx * dx + dy * dy;
  const along = length2 && clamp(((x - x0) * dx + (y - y0) * dy) / length2, 0, 1);
  return (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2;
}

/** Strokes, in pixels of the image, as 784 pixels in [0, 1]. No canvas: some browsers answer its pixels with noise.

    A pixel is 1 where its middle is inside a stroke by half a pixel, 0 where it is outside by as much, and linear between.
*/
function rasterise(strokes) {
  const nearest = new Float32Array(784).fill(Infinity);  // squared distance of a pixel's middle from the strokes' lines
  const reach = INK / 2 + 1;
  for (const stroke of strokes) {
    stroke.forEach((to, n) => {
      const from = stroke[Math.max(n - 1, 0)];
      const [left, right] = [Math.min(from[0], to[0]) - reach, Math.max(from[0], to[0]) + reach];
      const [top, bottom] = [Math.min(from[1], to[1]) - reach, Math.max(from[1], to[1]) + reach];
      for (let row = Math.max(Math.floor(top), 0); row < Math.min(bottom, 28); row++) {
        for (let column = Math.max(Math.floor(left), 0); column < Math.min(right, 28); column++) {
          const i = 28 * row + column;
          nearest[i] = Math.min(nearest[i], squaredDistance(column + 0.5, row + 0.5, from, to));
        }
      }
    });
  }
  return nearest.map(squared => clamp(INK / 2 + 0.5 - Math.sqrt(squared), 0, 1));
}

/** The least and the greatest of the strokes' x (axis 0) or y (axis 1). */
function range(axis) {
  let low = Infinity;
  let high = -Infinity;
  for (const stroke of strokes) {
    for (const point of stroke) {  // Math.min(...points) would end in a RangeError, if there were many
      low = Math.min(low, point[axis]);
      high = Math.max(high, point[axis]);
    }
  }
  return [low, high];
}

const total = pixels => pixels.reduce((sum, value) => sum + value, 0);

/** The strokes as MNIST would have them: 20 pixels high or wide, anti-aliased, the centre of mass where MNIST has it. */
function toPixels() {
  const [left, right] = range(0);
  const [top, bottom] = range(1);
  const scale = Math.min((20 - INK) / Math.max(right - left, bottom - top), 1);
  const around = (middleX, middleY) => strokes.map(stroke => stroke.map(([x, y]) =>
    [middleX + (x - (left + right) / 2) * scale, middleY + (y - (top + bottom) / 2) * scale]));

  const pixels = rasterise(around(14, 14));
  const mass = total(pixels);
  const x = pixels.reduce((sum, value, i) => sum + value * (i % 28 + 0.5), 0) / mass;
  const y = pixels.reduce((sum, value, i) => sum + value * (Math.floor(i / 28) + 0.5), 0) / mass;
  return rasterise(around(28.5 - x, 28.5 - y));  // moved to the middle of pixel 14, counted from 0
}

let asked = null;      // the digit that the person says it is, or null for the one that the CVAE reads
const rows = [...DIGITS, null].map(d => {
  const row = create("label", {}, byId("digits").querySelector("div"));
  const input = create("input", { type: "radio", name: "digit", checked: d === asked, onchange: () => ask(d) }, row);
  create("span", { textContent: d ?? "auto" }, row);
  return { row, input };
});
const bars = rows.slice(0, 10).map(({ row }) => create("div", {}, create("div", { className: "bar" }, row)));
const losses = rows.slice(0, 10).map(({ row }) => create("output", {}, row));

function ask(d) {
  asked = d;
  rows[d ?? 10].input.checked = true;
  finishDrawing();
}

function showStrokes() {
  // A stroke begins with a line from its first point to itself, so that a single point is a dot.
  byId("ink").setAttribute("d", strokes.map(stroke => `M${[stroke[0], ...stroke].join("L")}`).join(""));
  byId("pen").setAttribute("cx", pen[0]);
  byId("pen").setAttribute("cy", pen[1]);
  drawing.classList.toggle("down", penDown);
  byId("undo").disabled = !earlier.length;
  byId("clear").disabled = !strokes.length;
}

/** Shows the drawing and all that the model makes of it. Nothing of an earlier drawing or model is left. */
function showDrawing() {
  stop();
  showStrokes();
  const { num_classes: classes, latent_size: size } = models[kind];
  const pixels = strokes.length ? toPixels() : BLANK;
  const results = strokes.length ? reconstruct(kind, pixels) : [];
  const read = results.reduce((best, { loss }, d) => loss < results[best].loss ? d : best, 0);
  const doubt = strokes.length ? doubtAbout(pixels, results[read].loss) : null;
  if (!classes) digit = 0;
  else if (strokes.length) digit = asked ?? read;
  const result = results[digit];
  paint(byId("seen"), pixels);
  paint(byId("reconstruction"), result ? result.x_hat : BLANK);
  byId("drawn").textContent = describeDrawing(read, doubt);
  byId("loss").textContent = describeLoss(result);
  showLosses(classes ? results : []);
  showRead(classes && strokes.length && !doubt ? read : null);
  drawnZ = result ? Array.from(result.mu) : new Array(size).fill(0);
  z = drawnZ;
  showZ(result ? { [digit]: result.x_hat } : {});
}

/** Why pixels do not look like a digit, or null. */
function doubtAbout(pixels, loss) {
  const { usual } = models[kind];
  const ink = total(pixels);
  if (ink < usual.ink[0]) return "it has less ink than any test image";
  if (ink > usual.ink[1]) return "it has more ink than any test image";
  if (loss > usual.loss) return "its loss is above that of 99 % of the test images";
  return null;
}

function describeDrawing(read, doubt) {
  const { num_classes: classes } = models[kind];
  if (!strokes.length) return "Nothing is drawn.";
  const sentences = [];
  if (strokes[0] === EXAMPLE) sentences.push("An example.");
  if (doubt) sentences.push(`This does not look like a digit: ${doubt}.`);
  if (classes) sentences.push(`${doubt ? "The nearest is" : "Read as"} ${withArticle(read)}.`);
  else sentences.push("Encoded. The VAE reads no digit.");
  if (classes && asked !== null) sentences.push(`Encoded as ${withArticle(asked)}, as chosen.`);
  return sentences.join(" ");
}

function describeLoss(result) {
  const { run, usual } = models[kind];
  const ofTest = `Test images: ${run.test_loss.toFixed(1)} on average, 99 % below ${usual.loss.toFixed(1)}.`;
  if (!result) return ofTest;
  const { reconstruction, kl, loss } = result;
  return `Reconstruction ${reconstruction.toFixed(1)} + KL ${kl.toFixed(1)} = loss ${loss.toFixed(1)} nats. ${ofTest}`;
}

/** The bars are full at twice the loss that nearly all test images stay below, which is the line in their middle. */
function showLosses(results) {
  bars.forEach((bar, d) => {
    const loss = results[d]?.loss;
    bar.style.width = `${clamp(50 * (loss ?? 0) / models[kind].usual.loss, 0, 100)}%`;
    losses[d].textContent = loss?.toFixed(0) ?? "";
  });
}

/** Marks the digit that was read, if one was, in the list and among the images. */
function showRead(read) {
  rows.forEach(({ row }, d) => row.classList.toggle("read", d === read));
  shown.forEach(({ button }, d) => {
    button.classList.toggle("read", d === read);
    const name = models[kind].num_classes ? `digit ${d}${d === read ? ", which was read" : ""}` : "the image";
    button.setAttribute("aria-label", `${name}: choose it`);
  });
}

/** Shows the drawing after a stroke or another change: a screen reader says what was read, not at each movement. */
function finishDrawing() {
  stroke = null;
  penDown = false;
  cancelAnimationFrame(frame);
  showDrawing();
  byId("status").textContent = byId("drawn").textContent;
  if (!marksAreOwn) markTwo();
}

/** Remembers the strokes for Undo, and puts others in their place. */
function change(newStrokes) {
  earlier.push(strokes);
  strokes = newStrokes;
}

function startStroke(point) {
  stroke = [point];
  last = point;
  change([...strokes.filter(stroke => stroke !== EXAMPLE), stroke]);
}

const isInside = point => point.every(value => value >= 0 && value <= SIZE);

/** Where the way from a point inside the box to one outside leaves it. */
function edge(inside, outside) {
  const changes = inside.map((value, i) => outside[i] - value);
  const shares = changes.map((change, i) => change ? (clamp(outside[i], 0, SIZE) - inside[i]) / change : 1);
  const share = Math.min(...shares);
  return inside.map((value, i) => value + share * changes[i]);
}

/** The stroke goes on to a point. What is outside the box is left out: where it comes back, a new line begins. */
function extendStroke(to) {
  if (!stroke) return;  // Undo has removed it
  const from = last;
  last = to;
  if (isInside(from) && isInside(to)) addPoint(to);
  else if (isInside(from)) addPoint(edge(from, to));
  else if (isInside(to)) {
    stroke = [edge(to, from), to];
    strokes.push(stroke);
  }
}

/** Points closer to the one before than a pixel add nothing but time. */
function addPoint(point) {
  const [x, y] = stroke[stroke.length - 1];
  if (Math.hypot(point[0] - x, point[1] - y) >= 1) stroke.push(point);
}

function undo() {
  if (earlier.length) strokes = earlier.pop();
  finishDrawing();
}

/** The points of a movement on the drawing: several, if the pointer reports more often than a frame is shown. */
function pointsOf(event) {
  const box = drawing.getBoundingClientRect();
  const between = event.getCoalescedEvents?.() ?? [];
  return (between.length ? between : [event]).map(
    ({ clientX, clientY }) => [(clientX - box.left) * SIZE / box.width, (clientY - box.top) * SIZE / box.height]);
}

const drawing = byId("drawing");
follow(drawing,
  event => {
    drawing.classList.remove("keys");
    penDown = false;
    startStroke(pointsOf(event)[0]);
    nextFrame(showDrawing);
  },
  event => {
    pointsOf(event).forEach(extendStroke);
    nextFrame(showDrawing);
  },
  finishDrawing,
  () => { if (stroke) undo(); });

drawing.onkeydown = event => {
  const direction = arrow(event);
  if (!direction && event.key !== " ") return;
  event.preventDefault();
  drawing.classList.add("keys");
  if (direction) {
    pen = pen.map((value, i) => clamp(value + 10 * direction[i], 10, SIZE - 10));
    if (penDown) extendStroke(pen);
    nextFrame(penDown ? showDrawing : showStrokes);
  } else if (penDown) {
    finishDrawing();
  } else {
    penDown = true;
    startStroke(pen);
    nextFrame(showDrawing);
  }
};
drawing.onblur = () => { if (penDown) finishDrawing(); };

byId("undo").onclick = undo;
byId("clear").onclick = () => {
  change([]);
  ask(null);
};
document.onkeydown = event => {
  const isLatin = /^[a-z]$/i.test(event.key);
  const isZ = isLatin ? event.key.toLowerCase() === "z" : event.code === "KeyZ";  // another alphabet has it in the same place
  if (!isZ || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
  if (event.target.matches("input:not([type='radio'])")) return;  // what was done last there is no stroke
  event.preventDefault();
  undo();
};

/* ---- Between ------------------------------------------------------------------------------------------------------ */

let marks = [];        // at most two images: {place, z, oneHot}
let marksAreOwn = false;  // the person's choice, which a new drawing leaves as it is, and not the page's
let playing = 0;       // the frame to come while the slider is played

/** Two images to begin with: the drawing's, and another digit of its z, or for the VAE the image on the map's other side. */
function markTwo() {
  const { num_classes: classes } = models[kind];
  const [x, y] = onAxes();
  const other = classes ? (digit + 3) % 10 : 0;
  const otherZ = classes ? z : movedTo(x > 0 ? -2 : 2, y);
  marks = [{ place: digit, z, oneHot: shown[digit].oneHot }, { place: other, z: otherZ, oneHot: shown[other].oneHot }];
  showMarks();
}

function mark(place) {
  stop();
  marksAreOwn = true;
  if (marks.length === 2) marks = [];
  marks.push({ place, z, oneHot: shown[place].oneHot });
  showMarks();
}

/** Frames the images that are those chosen: another z makes others of them. */
function showChosen() {
  shown.forEach(({ button }, i) => {
    button.setAttribute("aria-pressed", marks.some(mark => mark.place === i && isSame(mark.z, z)));
  });
}

function showMarks() {
  for (const i of [0, 1]) {
    paint(byId(`mark-${i}`), marks[i] ? decodeAs(kind, [marks[i].z], [marks[i].oneHot])[0] : BLANK);
  }
  byId("mix").disabled = marks.length < 2;
  byId("play").disabled = marks.length < 2;
  byId("mix").value = 0.5;
  byId("marked").textContent = whatToDo();
  showChosen();
  paint(byId("between"), marks.length === 2 ? decodeBetween() : BLANK);
}

function whatToDo() {
  const areMany = models[kind].num_classes > 0;
  if (marks.length < 2) return areMany ? "Choose another image." : "Move z, then choose the image again.";
  return `Move the slider, or choose ${areMany ? "two of the images above" : "the image above before and after z is moved"}.`;
}

/** The value of the slider's place between two arrays. */
function betweenMarks(name) {
  const t = Number(byId("mix").value);
  const [from, to] = marks;
  return Array.from(from[name], (value, i) => value + t * (to[name][i] - value));
}

const decodeBetween = () => decodeAs(kind, [betweenMarks("z")], [betweenMarks("oneHot")])[0];

function showBetween() {
  paint(byId("between"), decodeBetween());
  z = betweenMarks("z");
  showZ();
}

byId("mix").oninput = () => {
  stop();
  nextFrame(showBetween);
};

/** Moves the slider to its end and back, until it is stopped: two seconds each way. */
function play(start) {
  playing = requestAnimationFrame(now => {
    const way = ((now - start) / 2000) % 2;
    byId("mix").value = Math.min(way, 2 - way);
    showBetween();
    play(start);
  });
}

function stop() {
  cancelAnimationFrame(playing);
  playing = 0;
  byId("play").textContent = "Play";
}

byId("play").onclick = () => {
  if (playing) {
    stop();
    return;
  }
  byId("play").textContent = "Stop";
  play(performance.now() - 2000 * byId("mix").value);
};

/* ---- Start -------------------------------------------------------------------------------------------------------- */

choose(kind);
byId("failed").hidden = true;
window.started = true;
