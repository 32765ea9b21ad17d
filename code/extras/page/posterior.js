/* What each model makes of the drawing: its reconstruction, samples of q(z|x), and the two terms of the loss. */

const SAMPLES = 4;
let noise = [];        // epsilon of each sample, for the model with most latents
const views = {};      // of each model: {kind, root, title, input, reconstruction, difference, samples, terms, loss, digit, result}

function createView(kind) {
  const view = byId("view").content.cloneNode(true);
  const find = name => view.querySelector(`.${name}`);
  views[kind] = {
    kind,
    root: view.firstElementChild,
    title: find("title"),
    input: find("input"),
    reconstruction: find("reconstruction"),
    difference: find("difference"),
    samples: Array.from({ length: SAMPLES }, () => createCanvas(find("samples"))),
    terms: find("terms").children,
    loss: find("loss"),
  };
  find("input").setAttribute("aria-label", `Input of the ${kind.toUpperCase()}`);
  find("reconstruction").setAttribute("aria-label", `Reconstruction by the ${kind.toUpperCase()}`);
  find("difference").setAttribute("aria-label", `Difference, reconstruction minus input, of the ${kind.toUpperCase()}`);
  const { run, usual } = models[kind];
  write(find("average"), `Test images: ${run.test_loss.toFixed(1)} on average, 99 % below ${usual.loss.toFixed(1)}.`);
  views[kind].root.id = `view-${kind}`;
  byId("views").append(view);
}
Object.keys(models).forEach(createView);

/** The loss in nats that both models' bars end at: what 99 % of the test images stay below, rounded up. */
const WHOLE_BAR = 10 * Math.ceil(Math.max(...Object.values(models).map(({ usual }) => usual.loss)) / 10);
write(byId("whole-bar"), `The whole bar is ${WHOLE_BAR} nats.`);

/** Shows what the model in use makes of the drawing, or nothing if `result` is undefined: nothing is drawn. */
function showViews(pixels, result) {
  byId("made").toggleAttribute("hidden", !result);
  if (result) showView(views[kind], pixels, result, digit);
  else for (const { root } of Object.values(views)) root.classList.toggle("old", true);
}

/** Shows what a model makes of 784 pixels, as one digit. */
function showView(view, pixels, result, digit) {
  view.digit = digit;
  view.result = result;
  view.root.classList.toggle("old", false);
  write(view.title, models[view.kind].num_classes
    ? `CVAE, told that this is ${withArticle(digit)}: z holds the style` : "VAE: z holds digit and style");
  paint(view.input, pixels);
  paint(view.reconstruction, result.x_hat);
  paintDifference(view.difference, result.x_hat.map((value, i) => value - pixels[i]));
  showTerms(view, result);
}

/** One bar of both terms of the loss. */
function showTerms(view, result) {
  [result.reconstruction, result.kl].forEach((nats, i) => {
    view.terms[i].style.flexBasis = `${Math.min(100 * nats / WHOLE_BAR, 100)}%`;
  });
  const [reconstruction, kl, loss] = view.loss.querySelectorAll("span");
  write(reconstruction, `Reconstruction ${result.reconstruction.toFixed(1)}`);
  write(kl, `KL ${result.kl.toFixed(1)}`);
  write(loss, `loss ${result.loss.toFixed(1)} nats`);
}

/** Shows what the model makes of the drawing that is not the one in use. */
function showOther(view) {
  const pixels = pixelsOfDrawing();
  const results = reconstruct(view.kind, pixels);
  const chosen = models[view.kind].num_classes ? asked ?? bestOf(results) : 0;
  showView(view, pixels, results[chosen], chosen);
}

/** z = mu + sigma * epsilon, for each sample. */
const samplesOf = ({ result: { mu, logvar } }) => noise.map(epsilon =>
  Array.from(mu, (value, j) => value + Math.exp(logvar[j] / 2) * epsilon[j]));

function newNoise() {
  const size = Math.max(...Object.values(models).map(model => model.latent_size));
  noise = Array.from({ length: SAMPLES }, () => Array.from({ length: size }, normal));
}

byId("sample").onclick = () => {
  newNoise();
  setZ(samplesOf(views[kind])[0], "A sample of q(z|x), close to your drawing.");
};

groups.push({
  drawn: "",
  key: () => [kind, digit, strokes.length, keyOf(drawnZ), noise[0][0]].join(),
  jobs() {
    if (!strokes.length) return [];
    for (const name of Object.keys(models)) {
      if (name !== kind) showOther(views[name]);
    }
    return Object.values(views).flatMap(view => samplesOf(view).map((z, i) => (
      { kind: view.kind, z, oneHot: classOf(view.kind, view.digit), canvas: view.samples[i] })));
  },
});
