/* The drawing: strokes by pointer or by keyboard, Undo, Redo and Clear. */

const EXAMPLE = [      // shown until the person draws: a 5
  [186, 52], [118, 60], [104, 130], [112, 127], [120, 124], [128, 122], [138, 121], [148, 122], [158, 124], [168, 129],
  [177, 136], [184, 144], [188, 154], [191, 166], [190, 178], [186, 190], [180, 202], [172, 212], [161, 219], [148, 225],
  [136, 228], [125, 228], [114, 226], [104, 222], [96, 217], [90, 210], [84, 204]];
const PEN = 10;        // a step of the keyboard's pen
let strokes = [EXAMPLE];
let stroke = null;     // the one that is being drawn
let last = null;       // the place that it has come to, on the drawing or next to it
let earlier = [];      // the strokes before each change, for Undo
let later = [];        // the strokes that Undo has replaced, for Redo
let pen = [140, 140];  // the keyboard's, down or not
let penDown = false;

const pixelsOfDrawing = () => strokes.length ? toPixels(strokes) : BLANK;

function showStrokes() {
  // A stroke begins with a line from its first point to itself, so that a single point is a dot.
  setAttribute(byId("ink"), "d", strokes.map(stroke => `M${[stroke[0], ...stroke].join("L")}`).join(""));
  setAttribute(byId("pen"), "cx", pen[0]);
  setAttribute(byId("pen"), "cy", pen[1]);
  drawing.classList.toggle("down", penDown);
  setEnabled(byId("undo"), earlier.length > 0);
  setEnabled(byId("redo"), later.length > 0);
  setEnabled(byId("clear"), strokes.length > 0);
}

/** Shows the drawing and all that the model makes of it. Nothing of an earlier drawing or model is left. */
function showDrawing() {
  stop();
  showStrokes();
  const { num_classes: classes, latent_size: size } = models[kind];
  const pixels = pixelsOfDrawing();
  const results = strokes.length ? reconstruct(kind, pixels) : [];
  const best = bestOf(results);
  const doubt = strokes.length ? doubtAbout(pixels, results[best].loss) : null;
  if (!classes) digit = 0;
  else if (strokes.length) digit = asked ?? best;
  const result = results[digit];
  write(byId("drawn"), describeDrawing(results, best, doubt));
  for (const id of ["digits", "wrong"]) byId(id).toggleAttribute("hidden", !classes || !strokes.length);
  showFits(classes ? results : []);
  showPrediction(classes && strokes.length && !doubt ? best : null);
  showViews(pixels, result);
  showPosterior(result ?? null);
  drawnZ = result ? Array.from(result.mu) : new Array(size).fill(0);
  z = drawnZ;
  sourceOfZ = "";
  showZ(result ? { [digit]: result.x_hat } : {});
}

/** Shows the drawing when no stroke is under way. */
function settleDrawing() {
  stroke = null;
  penDown = false;
  cancelAnimationFrame(frame);
  showDrawing();
  nameFits();
  writeNotes();
  write(byId("pen-place"), describePen());
  if (!marksAreOwn) markTwo();
}

/** After a stroke or another change, a screen reader says the answer; not at each movement. */
function finishDrawing() {
  settleDrawing();
  announce(byId("drawn").textContent);
}

/** Remembers the strokes for Undo, and puts others in their place. */
function change(newStrokes) {
  earlier.push(strokes);
  later = [];
  strokes = newStrokes;
}

function startStroke(point) {
  leaveLink();
  stroke = [point];
  last = point;
  change([...strokes.filter(stroke => stroke !== EXAMPLE), stroke]);
}

/** The stroke goes on to a point. What is outside the box is left out: where it comes back, a new line begins. */
function extendStroke(to) {
  if (!stroke) return;  // Undo has removed it
  const from = last;
  last = to;
  if (isInside(from) && isInside(to)) addPoint(to);
  else if (isInside(from)) addPoint(edge(from, to));
  else if (isInside(to)) {
    stroke = [edge(to, from), to];
    strokes.push(stroke);
  }
}

/** Points closer to the one before than a pixel add nothing but time. */
function addPoint(point) {
  const [x, y] = stroke[stroke.length - 1];
  if (Math.hypot(point[0] - x, point[1] - y) >= 1) stroke.push(point);
}

function undo() {
  if (!earlier.length) return;
  later.push(strokes);
  strokes = earlier.pop();
  finishDrawing();
}

function redo() {
  if (!later.length) return;
  earlier.push(strokes);
  strokes = later.pop();
  finishDrawing();
}

/** Takes back the stroke that is under way, without a Redo: the person did not end it. */
function cancelStroke() {
  if (stroke) strokes = earlier.pop();
  finishDrawing();
}

function clearDrawing() {
  if (!strokes.length) return;
  change([]);
  ask(null);
}

/* ---- Pointers ----------------------------------------------------------------------------------------------------- */

const drawing = byId("drawing");

/** The points of a movement on the drawing: several, if the pointer reports more often than a frame is shown. */
function pointsOf(event) {
  const box = drawing.getBoundingClientRect();
  const between = event.getCoalescedEvents?.() ?? [];
  return (between.length ? between : [event]).map(
    ({ clientX, clientY }) => [(clientX - box.left) * SIZE / box.width, (clientY - box.top) * SIZE / box.height]);
}

follow(drawing,
  event => {
    penDown = false;
    startStroke(pointsOf(event)[0]);
    nextFrame(showDrawing);
  },
  event => {
    pointsOf(event).forEach(extendStroke);
    nextFrame(showDrawing);
  },
  finishDrawing,
  cancelStroke);

/* ---- Keys --------------------------------------------------------------------------------------------------------- */

/** Where the keyboard's pen is, in percent of the drawing from its left and from its top. */
function describePen() {
  const [x, y] = pen.map(value => Math.round(100 * value / SIZE));
  return `Pen ${penDown ? "down" : "up"}, ${x} across, ${y} down.`;
}

function movePen(direction) {
  pen = pen.map((value, i) => clamp(value + PEN * direction[i], PEN, SIZE - PEN));
  if (penDown) extendStroke(pen);
  nextFrame(penDown ? showDrawing : showStrokes);
}

function lowerPen() {
  penDown = true;
  startStroke(pen);
  nextFrame(showDrawing);
}

drawing.onkeydown = event => {
  const direction = arrow(event);
  if (!direction && event.key !== " ") return;
  event.preventDefault();
  if (!direction && penDown) {
    finishDrawing();
    return;
  }
  if (direction) movePen(direction);
  else lowerPen();
  write(byId("pen-place"), describePen());
  announce(describePen());
};
drawing.onblur = () => { if (penDown) finishDrawing(); };

byId("undo").onclick = undo;
byId("redo").onclick = redo;
byId("clear").onclick = clearDrawing;

/** The letter of a key, or of its place on a keyboard for another alphabet. */
const letterOf = event => /^[a-z]$/i.test(event.key) ? event.key.toLowerCase() : event.code.replace("Key", "").toLowerCase();

document.onkeydown = event => {
  if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
  if (event.target.matches("input:not([type='radio'], [type='checkbox'])")) return;  // what was done last there is no stroke
  const letter = letterOf(event);
  const isRedo = letter === "y" ? !event.shiftKey : letter === "z" && event.shiftKey;
  const isUndo = letter === "z" && !event.shiftKey;
  if (!isUndo && !isRedo) return;
  event.preventDefault();
  if (isUndo) undo();
  else redo();
};
