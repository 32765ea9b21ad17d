/* The model in use, and the state in which the page begins. */

const KNOWLEDGE = { cvae: "knows the digit (CVAE)", vae: "does not (VAE)" };
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
  write(byId("about"), classes
    ? "Draw a digit. The model tells which one it is, and writes all ten digits in your handwriting."
    : "Draw a digit. The model describes it by a few numbers, z, and makes an image of them again.");
  write(byId("title-draw"), classes ? "Which digit is it?" : "Draw a digit");
  write(byId("title-number"), classes ? "Write a number in this handwriting" : "Save and send");
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
  byId("saved").hidden = true;
  write(byId("copied"), "");
  newNoise();
  choose("cvae" in models ? "cvae" : "vae");
}

function showLink() {
  const state = readLink();
  if (state) openLink(state);
}

byId("reset").onclick = () => {
  if (location.hash) history.replaceState(null, "", location.href.split("#")[0]);
  begin();
  announce(byId("drawn").textContent);
};
addEventListener("hashchange", showLink);

begin();
showLink();
byId("failed").hidden = true;
window.started = true;
