/* Elements of the page: found, created, painted, and written to only where something has changed. */

document.querySelector("main").replaceChildren(byId("content").content.cloneNode(true));

const BLANK = new Float32Array(784);
const image = new ImageData(28, 28);
const colours = new Uint32Array(image.data.buffer);  // opacity, blue, green, red: a byte each
const toColour = value => 0xff000000 + 0x010101 * Math.round(255 * value);  // of a grey in [0, 1]

/** Shows 784 pixels in [0, 1] as greys. */
function paint(canvas, pixels, left = 0, top = 0) {
  pixels.forEach((value, i) => { colours[i] = toColour(value); });
  canvas.getContext("2d").putImageData(image, left, top);
}

/** Shows 784 differences in [-1, 1]: red where they are positive, blue where they are negative, black at 0. */
function paintDifference(canvas, differences) {
  differences.forEach((value, i) => {
    const strength = Math.round(255 * Math.abs(value));
    const red = value > 0 ? strength : Math.round(0.35 * strength);
    const green = Math.round(0.45 * strength);
    const blue = value > 0 ? Math.round(0.25 * strength) : strength;
    colours[i] = 0xff000000 + 0x010000 * blue + 0x000100 * green + red;
  });
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
