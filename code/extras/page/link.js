/* Links to what is shown: model, digit, z and number, after the page's address. */

function stateInLink() {
  const values = z.map(value => Number(value.toFixed(3))).join("_");
  return `#${new URLSearchParams({ model: kind, digit, z: values, number: byId("number").value })}`;
}

/** The state in the page's address, or null if there is none that fits the models. */
function readLink() {
  const state = new URLSearchParams(location.hash.slice(1));
  const model = state.get("model");
  const digit = Number(state.get("digit"));
  const values = (state.get("z") ?? "").split("_").map(Number);
  const isValid = Object.hasOwn(models, model) && DIGITS.includes(digit)
    && values.length === models[model].latent_size && values.every(value => Math.abs(value) <= 20);
  return isValid ? { model, digit, values, number: state.get("number") ?? "" } : null;
}

/** The address without a link's state, which a reload would bring back. */
function leaveLink() {
  if (location.hash) history.replaceState(null, "", location.href.split("#")[0]);
}

/** Shows what a link says, with nothing drawn. */
function openLink(state) {
  strokes = [];
  earlier = [];
  later = [];
  setAsked(null);
  setNumber(state.number);
  digit = state.digit;
  choose(state.model);
  const content = models[kind].num_classes ? "a style" : "z";
  write(byId("drawn"), `This link holds ${content}, not a drawing. Draw a digit to see your own.`);
  setZ(state.values, `The ${styleOrZ()} of the link.`);
  markTwo();
}

byId("copy").onclick = async () => {
  history.replaceState(null, "", stateInLink());
  try {
    await navigator.clipboard.writeText(location.href);
    write(byId("copied"), "Link copied.");
  } catch {
    write(byId("copied"), `Copy this link: ${location.href}`);
  }
  announce(byId("copied").textContent);
};
