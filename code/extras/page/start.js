/* The model in use, and the state in which the page begins. */

const KNOWLEDGE = { cvae: "is told the digit (CVAE)", vae: "is not told (VAE)" };
const WORDS = {        // of each model, by the ids of their elements
  cvae: {
    about: "Draw a digit. The model tells which one it is, and writes all ten digits in your handwriting.",
    "title-draw": "Which digit is it?",
    "title-images": "All ten digits in this handwriting",
    back: "Back to the style of the drawing",
    "title-number": "Write a number in this handwriting",
    "title-map": "Map of handwriting styles",
    "map-help": "Each place is a style. Drag the dot, or use the arrow keys.",
    "title-styles": "Random styles",
    "how-to-choose": "Choose one to write with it.",
    "what-z-is": "A style is described by a few numbers, z.",
  },
  vae: {
    about: "Draw a digit. The model describes it by a few numbers, z, and decodes them to an image again.",
    "title-draw": "Draw a digit",
    "title-images": "The image of this z",
    back: "Back to the z of the drawing",
    "title-number": "Save and send",
    "title-map": "Map of z",
    "map-help": "Each place is a z. Drag the dot, or use the arrow keys.",
    "title-styles": "Random images",
    "how-to-choose": "Choose one to show it.",
    "what-z-is": "An image is described by a few numbers, z.",
  },
};
const radios = {};
byId("kinds").hidden = Object.keys(models).length < 2;
for (const name of Object.keys(models)) {
  const label = create("label", {}, byId("kinds"));
  const onchange = () => {
    choose(name);
    announce(byId("drawn").textContent);
  };
  radios[name] = create("input", { type: "radio", name: "kind", onchange }, label);
  create("span", { textContent: KNOWLEDGE[name] }, label);
}

/** Shows everything of one model. */
function choose(name) {
  kind = name;
  radios[name].checked = true;
  const classes = models[kind].num_classes;
  write(byId("run"), describeRun());
  for (const [id, words] of Object.entries(WORDS[kind])) write(byId(id), words);
  for (const element of document.querySelectorAll(".of-cvae")) element.hidden = !classes;
  createImages();
  createSliders();
  createPoints();
  newStyles();
  marksAreOwn = false;
  settleDrawing();
}

function describeRun() {
  const { latent_size: size, run } = models[kind];
  const training = run.data === null ? "" : `, trained on ${run.data} for ${run.epochs} epochs`;
  return `${kind.toUpperCase()} with ${size} latents${training}; test loss ${run.test_loss.toFixed(2)} nats per image.`;
}

/** The example, and nothing that the person did. */
function begin() {
  strokes = [EXAMPLE];
  earlier = [];
  later = [];
  pen = [140, 140];
  setAsked(null);
  setNumber(byId("number").defaultValue);
  newNoise();
  choose("cvae" in models ? "cvae" : "vae");
}

function showLink() {
  const state = readLink();
  if (state) openLink(state);
}

byId("reset").onclick = () => {
  leaveLink();
  begin();
  announce(byId("drawn").textContent);
};
addEventListener("hashchange", showLink);

begin();
showLink();
byId("failed").hidden = true;
window.started = true;
