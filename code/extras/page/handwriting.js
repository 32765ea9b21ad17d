/* The handwriting style z, the images that the model makes of it, and where it is from. */

let kind = "cvae" in models ? "cvae" : "vae";
let digit = 0;         // that the drawing is encoded as; 0 for the VAE
let drawnZ = [];       // of the drawing; zeros if nothing is drawn
let z = [];            // the latents of all that is shown
let sourceOfZ = "";    // says where z is from, unless it is the drawing's or was moved
let shown = [];        // the images of z: {button, tag, canvas, oneHot, pixels}

/** How far z is along the map's two axes, in standard deviations. */
function onAxes(values = z) {
  const { axes, deviations } = models[kind];
  return axes.map((axis, i) => axis.reduce((sum, a, j) => sum + a * values[j], 0) / deviations[i]);
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

/** Creates the images of a model: one of each digit, or one. */
function createImages() {
  const classes = models[kind].num_classes;
  byId("images").replaceChildren();
  byId("images").classList.toggle("single", !classes);
  shown = classesOf(kind).map((oneHot, place) => {
    const button = create("button", { onclick: () => mark(place) }, byId("images"));
    const canvas = createCanvas(button);
    create("span", { textContent: classes ? place : "z", className: "soft" }, button);
    const tag = create("b", { className: "tag" }, button);
    return { button, tag, canvas, oneHot, pixels: BLANK };
  });
}

/** Shows everything that depends on z. `images` has those of them that are decoded already, by their place. */
function showZ(images = {}) {
  const rest = shown.filter((_, i) => !images[i]);
  const decoded = decodeAs(kind, rest.map(() => z), rest.map(({ oneHot }) => oneHot));
  rest.forEach((image, i) => { image.pixels = decoded[i]; });
  for (const [i, pixels] of Object.entries(images)) shown[i].pixels = pixels;
  for (const { canvas, pixels } of shown) paint(canvas, pixels);
  paint(byId("at-dot"), shown[digit].pixels);
  showNumber();
  showSliders();
  showDot();
  showSource();
  showChosen();
  showPreviewsLater();
}

/** What z is called: the CVAE is told the digit, so that the style is left to z; by the VAE, it holds both. */
const styleOrZ = () => models[kind].num_classes ? "style" : "z";

/** Says where z is from. */
function showSource() {
  const isOfDrawing = strokes.length > 0 && isSame(z, drawnZ);
  write(byId("source"), isOfDrawing ? describeDrawnZ() : sourceOfZ || describeMovedZ());
  setEnabled(byId("back"), strokes.length > 0 && !isOfDrawing);
}

const describeDrawnZ = () => models[kind].num_classes
  ? "The style z of your drawing, as each digit." : "The z of your drawing, decoded again.";
const describeMovedZ = () => strokes.length
  ? `z has been moved: this is no longer the ${styleOrZ()} of your drawing.` : "Nothing drawn: z does not come from a drawing.";

/** Shows another z, as the person asked; `from` says what it is. */
function setZ(values, from = "") {
  stop();
  z = Array.from(values);
  sourceOfZ = from;
  nextFrame(() => showZ());
}
byId("back").onclick = () => { if (isEnabled(byId("back"))) setZ(drawnZ); };
