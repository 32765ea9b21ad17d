/* The map of handwriting styles: two axes of z, an image in each cell, and the test images. */

const CELLS = 7;       // in each direction
let points = [];       // the test images of the model: {label, z, x, y}

const pad = byId("pad");
const moveTo = (x, y) => setZ(movedTo(clamp(x, -3, 3), clamp(y, -3, 3)));

/** The place of a pointer on the map, in standard deviations. */
function placeOf(event) {
  const box = pad.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width - 0.5) * 6, (0.5 - (event.clientY - box.top) / box.height) * 6];
}

const moveToPointer = event => moveTo(...placeOf(event));
follow(pad, moveToPointer, moveToPointer, () => {}, () => {});
pad.onkeydown = event => {
  const direction = arrow(event);
  if (!direction) return;
  event.preventDefault();
  const [x, y] = onAxes();
  moveTo(x + 0.2 * direction[0], y - 0.2 * direction[1]);
  announce(`${describePlace()}.`);
};

/** Where the dot is, as "0.6 left, 1.2 up". */
function describePlace() {
  const [x, y] = onAxes().map(toOneDecimal);
  return `${x.replace("-", "")} ${x < 0 ? "left" : "right"}, ${y.replace("-", "")} ${y < 0 ? "down" : "up"}`;
}

function showDot() {
  const [x, y] = onAxes();
  byId("dot").style.left = `${50 + clamp(x, -3, 3) * 50 / 3}%`;
  byId("dot").style.top = `${50 - clamp(y, -3, 3) * 50 / 3}%`;
  write(byId("place"), `${describePlace()}.`);
}

/* ---- The images behind the dot ------------------------------------------------------------------------------------ */

/** The z of each cell's middle. */
function mapJobs() {
  const places = Array.from({ length: CELLS }, (_, i) => i);
  const middle = place => 6 * (place + 0.5) / CELLS - 3;
  return places.flatMap(row => places.map(column => (
    { ...job(movedTo(middle(column), -middle(row)), byId("map")), left: 28 * column, top: 28 * row })));
}

const mapGroup = {
  drawn: "",
  key: () => [kind, digit, keyOf(movedTo(0, 0))].join(),  // all but the place of the dot
  jobs: () => mapJobs(),
  shown: () => byId("map").classList.toggle("stale", mapGroup.drawn !== mapGroup.key()),
};
groups.unshift(mapGroup);

/* ---- The test images ---------------------------------------------------------------------------------------------- */

/** Puts the model's test images on the map, each as its digit in a colour of its own. */
function createPoints() {
  points = readPoints(models[kind]).map(({ label, z }) => {
    const [x, y] = onAxes(z);
    return { label, z, x, y };
  }).filter(({ x, y }) => Math.max(Math.abs(x), Math.abs(y)) <= 2.9);
  byId("points").innerHTML = points.map(({ label, x, y }) => (
    `<text x="${x.toFixed(2)}" y="${(-y).toFixed(2)}" style="--hue: ${36 * label}">${label}</text>`)).join("");
}

/** The test image next to a place on the map, or null if there are none. */
function nearest([x, y]) {
  const distance = point => Math.hypot(point.x - x, point.y - y);
  return points.reduce((best, point) => best && distance(best) <= distance(point) ? best : point, null);
}

/** Its image, decoded from its mu and as its own digit. */
const jobOfPoint = ({ label, z }) => ({ kind, z, oneHot: classOf(kind, label), canvas: byId("near") });

/** Shows the test image next to a place: where a pointer is, and otherwise next to the dot. */
function showNear(place) {
  nearGroup.place = place;
  showPreviewsLater();
}
pad.addEventListener("pointermove", event => { if (!event.buttons) showNear(placeOf(event)); });
pad.addEventListener("pointerleave", () => showNear(null));

/** Shows the test images or hides them, as the box next to the map says. */
function showPoints() {
  const { checked } = byId("show-points");
  pad.classList.toggle("with-points", checked);
  byId("near-shot").hidden = !checked;
}
byId("show-points").onchange = showPoints;
byId("show-points").checked = !matchMedia("(max-width: 640px)").matches;  // on a phone, they would crowd the map
showPoints();

const nearGroup = {
  drawn: "",
  place: null,
  point: () => nearest(nearGroup.place ?? onAxes()),
  key: () => [kind, points.indexOf(nearGroup.point())].join(),
  jobs() {
    const point = nearGroup.point();
    write(byId("near-name"), point ? `nearest test image, ${withArticle(point.label)}` : "");
    return point ? [jobOfPoint(point)] : [];
  },
};
groups.push(nearGroup);
