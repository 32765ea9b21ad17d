/* Random styles: samples of z from the prior. */

const STYLES = 10;
let styles = [];       // {z, canvas}

for (let i = 0; i < STYLES; i++) {
  const button = create("button", {}, byId("styles"));
  button.setAttribute("aria-label", `random sample ${i + 1}: show it`);
  const style = { z: [], canvas: createCanvas(button) };
  button.onclick = () => setZ(style.z, `A random ${styleOrZ()}, a sample of the prior.`);
  styles.push(style);
}

function newStyles() {
  for (const style of styles) style.z = Array.from({ length: models[kind].latent_size }, normal);
}
byId("random").onclick = () => {
  newStyles();
  showPreviewsLater();
};

groups.push({
  drawn: "",
  key: () => [kind, digit, styles[0].z[0]].join(),
  jobs: () => styles.map(({ z, canvas }) => job(z, canvas)),
});
