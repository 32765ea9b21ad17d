/* A number in the handwriting that is shown, as one picture, and what is saved. */

const GAP = 2;         // columns between two signs, and left and right of all
const SPACE = 8;       // columns of a space
const SIGNS = {        // what may stand between the digits of a date, a time, a sum or a telephone number
  ".": [[[14, 22]]],
  ",": [[[14, 22], [13, 25]]],
  ":": [[[14, 12]], [[14, 21]]],
  "-": [[[10, 15], [18, 15]]],
  "+": [[[9, 15], [19, 15]], [[14, 10], [14, 20]]],
  "/": [[[18, 6], [10, 23]]],
  "=": [[[9, 12], [19, 12]], [[9, 18], [19, 18]]],
  "(": [[[16, 5], [13, 10], [13, 18], [16, 24]]],
  ")": [[[12, 5], [15, 10], [15, 18], [12, 24]]],
};
const imagesOfSigns = Object.fromEntries(Object.entries(SIGNS).map(([sign, strokes]) => [sign, rasterise(strokes)]));

/** 784 pixels as 28 columns from the left to the right. */
const toColumns = pixels => Array.from({ length: 28 }, (_, x) => Array.from({ length: 28 }, (_, y) => pixels[28 * y + x]));

/** Those of them that have ink, and what is between. */
function inkedColumns(pixels) {
  const columns = toColumns(pixels);
  const inked = columns.map(column => Math.max(...column) > 0.2);
  return columns.slice(inked.indexOf(true), inked.lastIndexOf(true) + 1);
}

const emptyColumns = count => Array.from({ length: count }, () => new Array(28).fill(0));

/** A text of digits and signs as columns of 28 pixels. Other characters are left out. */
function columnsOf(text) {
  const columns = Array.from(text).flatMap(character => {
    if (character === " ") return emptyColumns(SPACE);
    const pixels = /[0-9]/.test(character) ? shown[character].pixels : imagesOfSigns[character];
    return pixels ? [...inkedColumns(pixels), ...emptyColumns(GAP)] : [];
  });
  return [...emptyColumns(GAP), ...columns];
}

/** Columns side by side as 28 rows. */
const toRows = columns => Array.from({ length: 28 }, (_, y) => columns.map(column => column[y]));

const isWritten = () => models[kind].num_classes > 0 && byId("number").value.trim() !== "";

function showNumber() {
  byId("line").hidden = !isWritten();
  if (!isWritten()) return;
  const rows = toRows(columnsOf(byId("number").value));
  const picture = new ImageData(rows[0].length, 28);
  new Uint32Array(picture.data.buffer).set(rows.flat().map(value => 0xff000000 + 0x010101 * Math.round(255 * value)));
  if (byId("line").width !== picture.width) {
    byId("line").width = picture.width;
    byId("line").style.width = `${2.5 * picture.width}px`;
  }
  byId("line").getContext("2d").putImageData(picture, 0, 0);
}

function nameLine() {
  setAttribute(byId("line"), "aria-label", `${byId("number").value} in this handwriting`);
}

function setNumber(text) {
  byId("number").value = text;
  nameLine();
}

byId("number").oninput = () => {
  nameLine();
  showNumber();
};

/* ---- Saved --------------------------------------------------------------------------------------------------------- */

/** The drawing, if there is one, then the number, or without one all images. */
function picture() {
  const line = isWritten() ? columnsOf(byId("number").value) : shown.flatMap(({ pixels }) => toColumns(pixels));
  const separator = [...emptyColumns(GAP), new Array(28).fill(0.5), ...emptyColumns(GAP)];
  return toRows(strokes.length ? [...toColumns(pixelsOfDrawing()), ...separator, ...line] : line);
}

/** Saves the picture and shows it: where a frame forbids downloads, nobody is told, but the picture can be copied. */
byId("save").onclick = () => {
  const href = toPng(picture(), 4);
  Object.assign(document.createElement("a"), { href, download: "handwriting.png" }).click();
  byId("saved").hidden = false;
  byId("saved").querySelector("img").src = href;
  announce("The picture is saved as handwriting.png, and shown below the button.");
};
