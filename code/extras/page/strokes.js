/* Strokes, lists of points [x, y], and the image that they become: as in MNIST, and without a canvas. */

const SIZE = 280;      // of the drawing, on which the points are
const INK = 2.4;       // width in an image of 28 x 28 pixels, as it is in MNIST

/** The square of the distance of the point (x, y) from the segment between two points. */
function squaredDistance(x, y, [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length2 = dx * dx + dy * dy;
  const along = length2 && clamp(((x - x0) * dx + (y - y0) * dy) / length2, 0, 1);
  return (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2;
}

/** Strokes, in pixels of the image, as 784 pixels in [0, 1]. No canvas: some browsers answer its pixels with noise.

    A pixel is 1 where its middle is inside a stroke by half a pixel, 0 where it is outside by as much, and linear between.
*/
function rasterise(strokes) {
  const nearest = new Float32Array(784).fill(Infinity);  // squared distance of a pixel's middle from the strokes' lines
  const reach = INK / 2 + 1;
  for (const stroke of strokes) {
    stroke.forEach((to, n) => {
      const from = stroke[Math.max(n - 1, 0)];
      const [left, right] = [Math.min(from[0], to[0]) - reach, Math.max(from[0], to[0]) + reach];
      const [top, bottom] = [Math.min(from[1], to[1]) - reach, Math.max(from[1], to[1]) + reach];
      for (let row = Math.max(Math.floor(top), 0); row < Math.min(bottom, 28); row++) {
        for (let column = Math.max(Math.floor(left), 0); column < Math.min(right, 28); column++) {
          const i = 28 * row + column;
          nearest[i] = Math.min(nearest[i], squaredDistance(column + 0.5, row + 0.5, from, to));
        }
      }
    });
  }
  return nearest.map(squared => clamp(INK / 2 + 0.5 - Math.sqrt(squared), 0, 1));
}

/** The least and the greatest of the strokes' x (axis 0) or y (axis 1). */
function range(strokes, axis) {
  let low = Infinity;
  let high = -Infinity;
  for (const stroke of strokes) {
    for (const point of stroke) {  // Math.min(...points) would end in a RangeError, if there were many
      low = Math.min(low, point[axis]);
      high = Math.max(high, point[axis]);
    }
  }
  return [low, high];
}

const total = pixels => pixels.reduce((sum, value) => sum + value, 0);

/** The strokes as MNIST would have them: 20 pixels high or wide, anti-aliased, the centre of mass where MNIST has it. */
function toPixels(strokes) {
  const [left, right] = range(strokes, 0);
  const [top, bottom] = range(strokes, 1);
  const scale = Math.min((20 - INK) / Math.max(right - left, bottom - top), 1);
  const around = (middleX, middleY) => strokes.map(stroke => stroke.map(([x, y]) =>
    [middleX + (x - (left + right) / 2) * scale, middleY + (y - (top + bottom) / 2) * scale]));

  const pixels = rasterise(around(14, 14));
  const mass = total(pixels);
  const x = pixels.reduce((sum, value, i) => sum + value * (i % 28 + 0.5), 0) / mass;
  const y = pixels.reduce((sum, value, i) => sum + value * (Math.floor(i / 28) + 0.5), 0) / mass;
  return rasterise(around(28.5 - x, 28.5 - y));  // moved to the middle of pixel 14, counted from 0
}

const isInside = point => point.every(value => value >= 0 && value <= SIZE);

/** Where the way from a point inside the box to one outside leaves it. */
function edge(inside, outside) {
  const changes = inside.map((value, i) => outside[i] - value);
  const shares = changes.map((change, i) => change ? (clamp(outside[i], 0, SIZE) - inside[i]) / change : 1);
  const share = Math.min(...shares);
  return inside.map((value, i) => value + share * changes[i]);
}
