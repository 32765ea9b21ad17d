/* Between two images: a slider from one to the other, which can be played. */

let marks = [];        // at most two images: {place, z, oneHot}
let marksAreOwn = false;  // the person's choice, which a new drawing leaves as it is, and not the page's
let playing = 0;       // the frame to come while the slider is played

/** Two images to begin with: the drawing's, and another digit of its z, or for the VAE the image on the map's other side. */
function markTwo() {
  const { num_classes: classes } = models[kind];
  const [x, y] = onAxes();
  const other = classes ? (digit + 3) % 10 : 0;
  const otherZ = classes ? z : movedTo(x > 0 ? -2 : 2, y);
  marks = [{ place: digit, z, oneHot: shown[digit].oneHot }, { place: other, z: otherZ, oneHot: shown[other].oneHot }];
  showMarks();
}

function mark(place) {
  stop();
  marksAreOwn = true;
  if (marks.length === 2) marks = [];
  marks.push({ place, z, oneHot: shown[place].oneHot });
  showMarks();
  announce(whatToDo());
}

/** Frames the images that are those chosen: another z makes others of them. */
function showChosen() {
  shown.forEach(({ button, tag }, i) => {
    const which = marks.findIndex(mark => mark.place === i && isSame(mark.z, z));
    setAttribute(button, "aria-pressed", which >= 0);
    write(tag, ["first", "second"][which] ?? "");
  });
}

function showMarks() {
  for (const i of [0, 1]) {
    paint(byId(`mark-${i}`), marks[i] ? decodeAs(kind, [marks[i].z], [marks[i].oneHot])[0] : BLANK);
  }
  byId("mix").disabled = marks.length < 2;
  byId("play").disabled = marks.length < 2;
  byId("mix").value = 0.5;
  write(byId("marked"), whatToDo());
  showChosen();
  paint(byId("between"), marks.length === 2 ? decodeBetween() : BLANK);
}

function whatToDo() {
  const areMany = models[kind].num_classes > 0;
  if (marks.length < 2) return areMany ? "Now click the second digit." : "Now move z, then click the image again.";
  return areMany ? "Click two digits above to morph one into the other."
    : "Click the image above, move z, then click it again to morph one image into the other.";
}

/** The value of the slider's place between two arrays. */
function betweenMarks(name) {
  const t = Number(byId("mix").value);
  const [from, to] = marks;
  return Array.from(from[name], (value, i) => value + t * (to[name][i] - value));
}

const decodeBetween = () => decodeAs(kind, [betweenMarks("z")], [betweenMarks("oneHot")])[0];

function showBetween() {
  paint(byId("between"), decodeBetween());
  z = betweenMarks("z");
  sourceOfZ = `A ${styleOrZ()} between two.`;
  showZ();
}

byId("mix").oninput = () => {
  stop();
  nextFrame(showBetween);
};

/** Moves the slider to its end and back, until it is stopped: two seconds each way. */
function play(start) {
  playing = requestAnimationFrame(now => {
    const way = ((now - start) / 2000) % 2;
    byId("mix").value = Math.min(way, 2 - way);
    showBetween();
    play(start);
  });
}

function stop() {
  cancelAnimationFrame(playing);
  playing = 0;
  write(byId("play"), "Play");
}

byId("play").onclick = () => {
  if (playing) {
    stop();
    return;
  }
  write(byId("play"), "Stop");
  play(performance.now() - 2000 * byId("mix").value);
};
