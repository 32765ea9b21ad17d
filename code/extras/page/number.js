/* A number in the handwriting that is shown, as one picture, and what is saved. */

const LONGEST = 24;    // characters that are written
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

/* A picture is laid out of pieces {pixels, left, right}: the columns from left to before right of an image. */

const empty = width => ({ pixels: BLANK, left: 0, right: width });
const whole = pixels => ({ pixels, left: 0, right: 28 });
const SEPARATOR = [empty(GAP), { pixels: new Float32Array(784).fill(0.5), left: 0, right: 1 }, empty(GAP)];

/** An image without the empty columns at its sides. */
function trimmed(pixels) {
  let left = 28;
  let right = 0;
  for (let i = 0; i < 784; i++) {
    if (pixels[i] <= 0.2) continue;
    left = Math.min(left, i % 28);
    right = Math.max(right, i % 28 + 1);
  }
  return { pixels, left: Math.min(left, right), right };
}

/** Digits, the signs and a space; others are left out. */
const canBeWritten = character => /[0-9 ]/.test(character) || Object.hasOwn(imagesOfSigns, character);

/** The pieces of a text. */
function piecesOf(text) {
  const pieces = [empty(GAP)];
  for (const character of text) {
    const pixels = /[0-9]/.test(character) ? shown[character].pixels : imagesOfSigns[character];
    if (character === " ") pieces.push(empty(SPACE));
    else if (pixels) pieces.push(trimmed(pixels), empty(GAP));
  }
  return pieces;
}

/** Pieces side by side: the picture's width and its pixels, row by row. */
function layOut(pieces) {
  const width = pieces.reduce((sum, { left, right }) => sum + right - left, 0);
  const picture = new Float32Array(28 * width);
  let start = 0;
  for (const { pixels, left, right } of pieces) {
    for (let y = 0; y < 28; y++) picture.set(pixels.subarray(28 * y + left, 28 * y + right), width * y + start);
    start += right - left;
  }
  return { width, pixels: picture };
}

/** What is written of the text in the field. */
const writtenText = () => Array.from(byId("number").value).filter(canBeWritten).slice(0, LONGEST).join("");
const isWritten = () => models[kind].num_classes > 0 && writtenText().trim() !== "";

/** What is not written, and why; "" if all is. */
function describeUnwritten() {
  const characters = Array.from(byId("number").value);
  const unwritable = new Set(characters.filter(character => !canBeWritten(character)));
  const writable = `digits, spaces and ${Object.keys(SIGNS).join(" ")}`;
  if (unwritable.size) return `Left out: ${[...unwritable].join(" ")} (only ${writable} can be written).`;
  return characters.length > LONGEST ? `Only the first ${LONGEST} characters are written.` : "";
}

function showNumber() {
  byId("line").hidden = !isWritten();
  if (!isWritten()) return;
  const { width, pixels } = layOut(piecesOf(writtenText()));
  const line = new ImageData(width, 28);
  line.data.fill(255);  // opaque
  fillGreys(line.data, pixels);
  if (byId("line").width !== width) byId("line").width = width;
  byId("line").getContext("2d").putImageData(line, 0, 0);
}

/** Says what is written and what is not. What was said of another number goes. */
function describeNumber() {
  setAttribute(byId("line"), "aria-label", `${writtenText()} in this handwriting`);
  write(byId("number-note"), describeUnwritten());
  byId("saved").hidden = true;
  write(byId("copied"), "");
}

function setNumber(text) {
  byId("number").value = text;
  describeNumber();
}

byId("number").oninput = () => {
  const before = byId("number-note").textContent;
  describeNumber();
  const note = byId("number-note").textContent;
  if (note && note !== before) announce(note);
  showNumber();
};

/* ---- Saved --------------------------------------------------------------------------------------------------------- */

/** The drawing, if there is one, then the number, or without one all images. */
function picture() {
  const line = isWritten() ? piecesOf(writtenText()) : shown.map(({ pixels }) => whole(pixels));
  return layOut(strokes.length ? [whole(pixelsOfDrawing()), ...SEPARATOR, ...line] : line);
}

/** Saves the picture and shows it: where a frame forbids downloads, nobody is told, but the picture can be copied. */
byId("save").onclick = () => {
  const href = toPng(picture(), 4);
  Object.assign(document.createElement("a"), { href, download: "handwriting.png" }).click();
  byId("saved").hidden = false;
  byId("saved").querySelector("img").src = href;
  announce("The picture is saved as handwriting.png, and shown below the button.");
};
