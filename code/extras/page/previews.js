/* Previews: images that are decoded when nothing moves, the map among them.

   They take several times as long as an update: they wait for a rest, and never come during a stroke. A group of them is
     key():   a text of all that its images depend on
     jobs():  {kind, z, oneHot, canvas, left, top} of each image
     drawn:   the key when they were painted, "" until the last of them is
     shown(): called when that changes; may be left out
*/
let previews = 0;      // the timer of those to come
const groups = [];

const keyOf = values => values.map(value => value.toFixed(2)).join();

function showPreviewsLater() {
  clearTimeout(previews);
  for (const group of groups) group.shown?.();
  if (!stroke) previews = setTimeout(showPreviews, 150);
}

function showPreviews() {
  const keys = new Map(groups.map(group => [group, group.key()]));
  const changed = groups.filter(group => group.drawn !== keys.get(group));
  for (const group of changed) group.drawn = "";  // they may be left half old and half new
  paintSome(changed.flatMap(group => group.jobs()), () => {
    for (const group of changed) {
      group.drawn = keys.get(group);
      group.shown?.();
    }
  });
}

/** Paints a few images and comes back for the others, so that a stroke that begins meanwhile does not wait for all. */
function paintSome(jobs, done) {
  if (!jobs.length) {
    done();
    return;
  }
  const some = jobs.slice(0, CELLS).filter(job => job.kind === jobs[0].kind);
  const images = decodeAs(jobs[0].kind, some.map(job => job.z), some.map(job => job.oneHot));
  some.forEach(({ canvas, left, top }, i) => paint(canvas, images[i], left, top));
  previews = setTimeout(paintSome, 0, jobs.slice(some.length), done);
}

/** A job for an image of this model, as the digit that is drawn. */
const job = (z, canvas) => ({ kind, z, oneHot: shown[digit].oneHot, canvas });

groups.push({
  drawn: "",
  key: () => [kind, digit, keyOf(z)].join(),
  jobs: () => ends.map(({ latent, value, canvas }) => job(withLatent(latent, value), canvas)),
});
