/* What each model makes of the drawing: its reconstruction, samples of q(z|x), and the two terms of the loss. */

const SAMPLES = 4;
let noise = [];        // epsilon of each sample, for the model with most latents
const views = {};      // of each model: {kind, title, input, reconstruction, difference, samples, terms, loss, average, digit, result}

function createView(kind) {
  const view = byId("view").content.cloneNode(true);
  const find = name => view.querySelector(`.${name}`);
  views[kind] = {
    kind,
    title: find("title"),
    input: find("input"),
    reconstruction: find("reconstruction"),
    difference: find("difference"),
    samples: Array.from({ length: SAMPLES }, () => createCanvas(find("samples"))),
    terms: find("terms").children,
    loss: find("loss"),
    average: find("average"),
    digit: 0,
    result: null,
  };
  find("input").setAttribute("aria-label", `Input of the ${kind.toUpperCase()}`);
  find("reconstruction").setAttribute("aria-label", `Reconstruction by the ${kind.toUpperCase()}`);
  find("difference").setAttribute("aria-label", `Difference, reconstruction minus input, of the ${kind.toUpperCase()}`);
  view.firstElementChild.id = `view-${kind}`;
  byId("views").append(view);
}
for (const name of Object.keys(models)) {
  createView(name);
  showView(views[name], BLANK, undefined, 0);  // what is shown later does not move what is below it
}

/** Shows what a model makes of 784 pixels, as one digit; `result` is undefined if nothing is drawn. */
function showView(view, pixels, result, digit) {
  view.digit = digit;
  view.result = result ?? null;
  write(view.title, describeView(view.kind, result, digit));
  paint(view.input, pixels);
  paint(view.reconstruction, result ? result.x_hat : BLANK);
  paintDifference(view.difference, result ? result.x_hat.map((value, i) => value - pixels[i]) : BLANK);
  showTerms(view, result);
}

function describeView(kind, result, digit) {
  if (!models[kind].num_classes) return "VAE: z holds digit and style";
  return result ? `CVAE, told that this is ${withArticle(digit)}: z holds the style` : "CVAE: z holds the style";
}

/** One bar of both terms of the loss, as wide as the loss that 99 % of the test images stay below. */
function showTerms(view, result) {
  const { run, usual } = models[view.kind];
  write(view.average, `Test images: ${run.test_loss.toFixed(1)} on average, 99 % below ${usual.loss.toFixed(1)}.`);
  view.loss.style.visibility = result ? "" : "hidden";  // its place stays
  [result?.reconstruction, result?.kl].forEach((nats, i) => {
    view.terms[i].style.flexBasis = `${clamp(100 * (nats ?? 0) / usual.loss, 0, 100)}%`;
  });
  if (!result) return;
  const [reconstruction, kl, loss] = view.loss.querySelectorAll("span");
  write(reconstruction, `Reconstruction ${result.reconstruction.toFixed(1)}`);
  write(kl, `KL ${result.kl.toFixed(1)}`);
  write(loss, `loss ${result.loss.toFixed(1)} nats`);
}

/** Shows what the model makes of the drawing that is not the one in use. */
function showOther(view) {
  const pixels = pixelsOfDrawing();
  const results = strokes.length ? reconstruct(view.kind, pixels) : [];
  const chosen = models[view.kind].num_classes ? asked ?? bestOf(results) : 0;
  showView(view, pixels, results[chosen], chosen);
}

/** z = mu + sigma * epsilon, for each sample; with nothing drawn, of the prior. */
function samplesOf({ kind, result }) {
  const size = models[kind].latent_size;
  return noise.map(epsilon => Array.from({ length: size }, (_, j) =>
    result ? result.mu[j] + Math.exp(result.logvar[j] / 2) * epsilon[j] : epsilon[j]));
}

function newNoise() {
  const size = Math.max(...Object.values(models).map(model => model.latent_size));
  noise = Array.from({ length: SAMPLES }, () => Array.from({ length: size }, normal));
}

byId("sample").onclick = () => {
  newNoise();
  setZ(samplesOf(views[kind])[0], views[kind].result
    ? "A sample of q(z|x): close to the style of your drawing." : "A sample of the prior: a random style.");
};

groups.push({
  drawn: "",
  key: () => [kind, digit, strokes.length, keyOf(drawnZ), noise[0][0]].join(),
  jobs() {
    for (const name of Object.keys(models)) {
      if (name !== kind) showOther(views[name]);
    }
    return Object.values(views).flatMap(view => samplesOf(view).map((z, i) => (
      { kind: view.kind, z, oneHot: classOf(view.kind, view.digit), canvas: view.samples[i] })));
  },
});
