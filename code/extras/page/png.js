/* Pictures as PNG files, encoded from the pixels: some browsers answer a canvas's pixels with noise. */

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = remainder & 1 ? 0xedb88320 ^ (remainder >>> 1) : remainder >>> 1;
  return remainder;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc;
}

function adler32(bytes) {
  let low = 1;
  let high = 0;
  for (const byte of bytes) {
    low = (low + byte) % 65521;
    high = (high + low) % 65521;
  }
  return high * 65536 + low;
}

/** Four bytes, the most significant first. */
const bigEndian = value => [24, 16, 8, 0].map(shift => (value >>> shift) & 255);

/** Bytes in zlib's format, not compressed: blocks of at most 65,535 bytes, each after its length and its complement. */
function zlibStored(bytes) {
  const parts = [0x78, 0x01];
  for (let start = 0; start < bytes.length; start += 65535) {
    const block = bytes.subarray(start, start + 65535);
    const isLast = Number(start + 65535 >= bytes.length);
    parts.push(isLast, block.length & 255, block.length >> 8, ~block.length & 255, (~block.length >> 8) & 255);
    for (const byte of block) parts.push(byte);
  }
  parts.push(...bigEndian(adler32(bytes)));
  return parts;
}

function pngChunk(type, data) {
  const body = [...Array.from(type, character => character.charCodeAt(0)), ...data];
  return [...bigEndian(data.length), ...body, ...bigEndian(crc32(body))];
}

/** Greys in [0, 1], row by row, as the data: URL of a PNG, each `scale` pixels wide and high. */
function toPng({ width, pixels }, scale) {
  const columns = scale * width;
  const rows = scale * pixels.length / width;
  const scanlines = new Uint8Array(rows * (columns + 1));  // before each, the number of its filter: 0, none
  for (let y = 0; y < rows; y++) {
    const row = width * Math.floor(y / scale);
    for (let x = 0; x < columns; x++) {
      scanlines[y * (columns + 1) + 1 + x] = Math.round(255 * pixels[row + Math.floor(x / scale)]);
    }
  }
  const greyOf8Bits = [8, 0, 0, 0, 0];
  const bytes = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a,
    ...pngChunk("IHDR", [...bigEndian(columns), ...bigEndian(rows), ...greyOf8Bits]),
    ...pngChunk("IDAT", zlibStored(scanlines)),
    ...pngChunk("IEND", []),
  ];
  return `data:image/png;base64,${btoa(bytes.map(byte => String.fromCharCode(byte)).join(""))}`;
}
