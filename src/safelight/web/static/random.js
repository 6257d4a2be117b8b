// Keyed randomness, as randomness.py has it: Philox 4x64 of ten rounds (Salmon 2011), a row at its own counters.
const MASK = (1n << 64n) - 1n;
const [M0, M1] = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const [W0, W1] = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];
const fround = Math.fround;

// The 64-bit words of a row: `counts` counters, four words each. key: 128 bits in hexadecimal.
export function words(key, row, counts) {
  const whole = BigInt(`0x${key}`), made = new BigUint64Array(4 * counts);
  for (let at = 0; at < counts; at += 1) {
    let [k0, k1] = [whole & MASK, whole >> 64n];
    let [c0, c1, c2, c3] = [BigInt(row) * BigInt(counts) + BigInt(at) + 1n, 0n, 0n, 0n];
    for (let round = 0; round < 10; round += 1) {
      const a = M0 * c0, b = M1 * c2;
      [c0, c1, c2, c3] = [(b >> 64n) ^ c1 ^ k0, b & MASK, (a >> 64n) ^ c3 ^ k1, a & MASK];
      [k0, k1] = [(k0 + W0) & MASK, (k1 + W1) & MASK];
    }
    made.set([c0, c1, c2, c3], 4 * at);
  }
  return made;
}

// Standard normals, as `RowDraw.normal`: Box-Muller in float32, all cosines before all sines.
export function normal(key, row, size) {
  const halves = new Int32Array(words(key, row, Math.ceil(Math.ceil(size / 2) / 4)).buffer);
  const pairs = halves.length / 2, made = new Float32Array(2 * pairs);
  for (let at = 0; at < pairs; at += 1) {
    const uniform = Math.max(fround(fround(fround(halves[2 * at]) * 2 ** -32) + 0.5), 2 ** -33);
    const radius = fround(Math.sqrt(fround(fround(Math.log(fround(uniform))) * -2)));
    const angle = fround(fround(halves[2 * at + 1]) * fround(Math.PI * 2 ** -31));
    made[at] = fround(Math.cos(angle)) * radius;
    made[pairs + at] = fround(Math.sin(angle)) * radius;
  }
  return made.subarray(0, size);
}

// A whole number of [0, high), as `RowDraw.integers`.
export const integer = (key, row, high) => Math.floor(Number(words(key, row, 1)[0] >> 11n) * 2 ** -53 * high);
