/* A slider for each latent, with the range that the posterior leaves it, and what it leads to at its two ends. */

const USED = 0.01;     // the variance of mu over the test images above which a latent counts as active
let sliders = [];      // one for each latent, in the model's order
let readings = [];     // their values, as text
let bands = [];        // mu - sigma to mu + sigma of the drawing, on the sliders
let notes = [];        // mu, sigma and KL of the drawing, shown at the slider that has the focus or the pointer
let ends = [];         // the images at the ends of the sliders: {latent, value, canvas}
let posterior = null;  // the drawing's {mu, logvar}; null if nothing is drawn
let held = null;       // the slider that is being dragged

/** Creates the sliders in the order of use; those of inactive latents are folded away. */
function createSliders() {
  const { variances } = models[kind];
  const order = variances.map((_, i) => i).sort((i, j) => variances[j] - variances[i]);
  const unused = byId("unused").querySelector("div");
  byId("latents").replaceChildren();
  unused.replaceChildren();
  ends = [];
  for (const i of order) {
    const isUsed = variances[i] >= USED;
    createSlider(i, isUsed ? byId("latents") : unused, isUsed);
  }
  const count = unused.children.length;
  byId("unused").hidden = !count;
  write(byId("unused").querySelector("summary"),
    (count === 1 ? "1 latent is inactive: its mu " : `${count} latents are inactive: their mu `)
    + "hardly differs from image to image (variance below 0.01), and the decoder ignores "
    + (count === 1 ? "it." : "them."));
}

function createSlider(latent, parent, hasEnds) {
  const label = create("label", {}, parent);
  create("span", { textContent: `z ${latent + 1} ` }, label);
  if (hasEnds) createEnd(latent, -2.5, label);
  const track = create("span", { className: "track" }, label);
  const input = create("input", { type: "range", step: 0.05 }, track);
  input.setAttribute("aria-label", `z ${latent + 1}`);
  input.oninput = () => {
    held = input;
    setZ(withLatent(latent, Number(input.value)));
  };
  input.onchange = () => { held = null; };  // let go
  sliders[latent] = input;
  bands[latent] = create("span", { className: "band" }, track);
  notes[latent] = create("span", { className: "note", id: `note-${latent}` }, track);
  input.setAttribute("aria-describedby", `note-${latent}`);
  if (hasEnds) createEnd(latent, 2.5, label);
  readings[latent] = create("span", { className: "reading" }, label);
}

function createEnd(latent, value, label) {
  ends.push({ latent, value, canvas: createCanvas(label) });
}

/** A slider reaches from -3 to 3, or farther if z does. While it is dragged, its range stays. */
function showSliders() {
  z.forEach((value, i) => {
    const input = sliders[i];
    const end = input === held ? Number(input.max) : Math.max(3, Math.ceil(Math.abs(value)));
    const text = toOneDecimal(value);
    if (Number(input.max) !== end) {
      input.min = -end;
      input.max = end;
      showBand(i);
    }
    if (Number(input.value) !== value) input.value = value;
    write(readings[i], text);
    setAttribute(input, "aria-valuetext", text);
  });
}

/** Marks mu - sigma to mu + sigma of the drawing's posterior on each slider, or with nothing drawn none. */
function showPosterior(newPosterior) {
  posterior = newPosterior;
  bands.forEach((_, i) => showBand(i));
}

function showBand(latent) {
  const band = bands[latent];
  band.hidden = !posterior;
  if (!posterior) return;
  const end = Number(sliders[latent].max);
  const mu = posterior.mu[latent];
  const sigma = Math.exp(posterior.logvar[latent] / 2);
  const [left, right] = [mu - sigma, mu + sigma].map(value => clamp(0.5 + value / end / 2, 0, 1));
  setAttribute(band, "style", `--left: ${left.toFixed(3)}; --right: ${right.toFixed(3)}`);
}

/** For reading, and for screen readers: not at each movement. */
function writeNotes() {
  notes.forEach((note, i) => write(note, posterior ? describePosterior(posterior.mu[i], posterior.logvar[i]) : ""));
}

function describePosterior(mu, logvar) {
  const sigma = Math.exp(logvar / 2);
  return `mu ${mu.toFixed(2)}, sigma ${sigma.toFixed(2)}, KL ${toOneDecimal(klOf(mu, logvar))} nats`;
}

function normal() {  // Box and Muller
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}
byId("zero").onclick = () => setZ(z.map(() => 0), "z is 0, the mean of the prior.");
