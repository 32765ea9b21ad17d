/* Elements of the page: found, created, painted, and written to only where something has changed. */

document.querySelector("main").replaceChildren(byId("content").content.cloneNode(true));

const BLANK = new Float32Array(784);
const image = new ImageData(28, 28);
image.data.fill(255);  // opaque

/** Pixels in [0, 1] as greys: red, green, blue and opacity of each, a byte for each, which the array rounds. */
function fillGreys(data, pixels) {
  for (let i = 0; i < pixels.length; i++) {
    const grey = 255 * pixels[i];
    data[4 * i] = grey;
    data[4 * i + 1] = grey;
    data[4 * i + 2] = grey;
  }
}

/** Shows 784 pixels in [0, 1] as greys. */
function paint(canvas, pixels, left = 0, top = 0) {
  fillGreys(image.data, pixels);
  canvas.getContext("2d").putImageData(image, left, top);
}

/** Shows 784 differences in [-1, 1]: red where they are positive, blue where they are negative, brightest from 1/3 on. */
function paintDifference(canvas, differences) {
  for (let i = 0; i < 784; i++) {
    const strength = 255 * Math.min(3 * Math.abs(differences[i]), 1);
    const isPositive = differences[i] > 0;
    image.data[4 * i] = isPositive ? strength : 0.35 * strength;
    image.data[4 * i + 1] = 0.45 * strength;
    image.data[4 * i + 2] = isPositive ? 0.25 * strength : strength;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function create(tag, properties, parent) {
  const element = Object.assign(document.createElement(tag), properties);
  parent.append(element);
  return element;
}

/** A canvas of one image; `name` is for screen readers, which pass over an image without one. */
function createCanvas(parent, name = "") {
  const canvas = create("canvas", { width: 28, height: 28 }, parent);
  canvas.setAttribute(name ? "aria-label" : "aria-hidden", name || "true");
  if (name) canvas.setAttribute("role", "img");
  return canvas;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Unlike `disabled`, this leaves the focus on a button that has just been pressed. */
const setEnabled = (button, isEnabled) => setAttribute(button, "aria-disabled", !isEnabled);
const isEnabled = button => button.getAttribute("aria-disabled") !== "true";

/** What a screen reader says. A new text node is spoken even if the sentence is the same again. */
const announce = sentence => byId("status").replaceChildren(sentence);

let frame = 0;
/** Calls a function that shows what has changed, before the next frame is painted. Of several, the last is enough. */
function nextFrame(show) {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(show);
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const isSame = (a, b) => a.every((value, i) => Math.abs(value - b[i]) < 1e-6);
const withArticle = d => `${d === 8 ? "an" : "a"} ${d}`;
const toOneDecimal = value => (Math.round(10 * value) / 10 + 0).toFixed(1);  // never "-0.0"
