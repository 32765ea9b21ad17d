/* What the model says of the drawing: which digit it is, and how well each fits. */

const POOR_FIT = 30;   // a prediction with a lower fit is put as a guess
let asked = null;      // the digit that the person says it is, or null for the one that the CVAE predicts
const rows = [...DIGITS, null].map(d => {
  const row = create("label", {}, byId("digits").querySelector("div"));
  const input = create("input", { type: "radio", name: "digit", checked: d === asked, onchange: () => ask(d) }, row);
  create("span", { textContent: d ?? "best fit" }, row);
  return { row, input };
});
rows[10].input.setAttribute("aria-label", "best fit: encode as the digit that fits best");
const bars = rows.slice(0, 10).map(({ row }) => create("div", {}, create("div", { className: "bar" }, row)));
const fits = rows.slice(0, 10).map(({ row }) => create("span", { className: "reading" }, row));

function setAsked(d) {
  asked = d;
  rows[d ?? 10].input.checked = true;
}

function ask(d) {
  setAsked(d);
  finishDrawing();
}

/** How well a digit fits, from 0 to 100: 0 for the loss that 99 % of the test images stay below, and above it. */
const fitOf = loss => 100 * clamp(1 - loss / models[kind].usual.loss, 0, 1);

function showFits(results) {
  bars.forEach((bar, d) => {
    const fit = results[d] ? fitOf(results[d].loss) : 0;
    bar.style.width = `${fit}%`;
    write(fits[d], results[d] ? fit.toFixed(0) : "");
  });
}

/** For screen readers: not at each movement. */
function nameFits() {
  rows.slice(0, 10).forEach(({ input }, d) => {
    const fit = fits[d].textContent;
    setAttribute(input, "aria-label", fit ? `${d}, fit ${fit} of 100: encode as ${withArticle(d)}` : `${d}: encode as ${withArticle(d)}`);
  });
}

/** Marks the predicted digit, if there is one, in the list and among the images. */
function showPrediction(predicted) {
  rows.forEach(({ row }, d) => row.classList.toggle("predicted", d === predicted));
  shown.forEach(({ button }, d) => {
    button.classList.toggle("predicted", d === predicted);
    const name = models[kind].num_classes ? `digit ${d}${d === predicted ? ", the predicted one" : ""}` : "z, the image";
    setAttribute(button, "aria-label", `${name}: choose it for Between two images`);
  });
}

/** Why pixels do not look like a digit, or null. */
function doubtAbout(pixels, loss) {
  const { usual } = models[kind];
  const ink = total(pixels);
  if (ink < usual.ink[0]) return "it has less ink than any test image";
  if (ink > usual.ink[1]) return "it has more ink than any test image";
  if (loss > usual.loss) return "it fits worse than 99 % of the test images";
  return null;
}

/** Which digit the drawing is, as confidently as it fits. */
function describePrediction(predicted, loss, doubt) {
  if (doubt) return `The nearest is ${withArticle(predicted)}.`;
  if (fitOf(loss) < POOR_FIT) return `Perhaps ${withArticle(predicted)}, but it fits badly.`;
  return `It looks like ${withArticle(predicted)}.`;
}

function describeDrawing(results, best, doubt) {
  if (!strokes.length) return "Nothing drawn.";
  const sentences = [];
  if (strokes[0] === EXAMPLE) sentences.push("An example.");
  if (doubt) sentences.push(`This does not look like a digit: ${doubt}.`);
  if (models[kind].num_classes) {
    sentences.push(describePrediction(best, results[best].loss, doubt));
    if (asked !== null) sentences.push(`You chose ${asked}: the drawing is encoded as ${withArticle(asked)}.`);
  } else {
    sentences.push("The VAE does not predict digits: it was never told the labels.");
  }
  return sentences.join(" ");
}
