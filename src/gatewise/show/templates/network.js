// The network of this page, in float64: its value, its pattern, its rule, its walls.

const BYTES = { i1: Int8Array, i2: Int16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

function unpack(packed) {
  const text = atob(packed.b64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const found = new BYTES[packed.type](bytes.buffer);
  if (!packed.of) return Float64Array.from(found);
  const table = unpack(packed.of);
  return Float64Array.from(found, code => table[code + packed.from]);
}

class Network {
  constructor(layers, inputs) {
    this.inputs = inputs;
    this.layers = layers.map(layer => ({
      ...layer,
      bias: unpack(layer.bias),
      weights: layer.weights.map(([source, w]) => [source, unpack(w)]),
    }));
    this.gates = this.layers.slice(0, -1);
    this.units = this.gates.reduce((n, gate) => n + gate.bias.length, 0);
  }

  // z = bias + sum W v for one layer, v the input and the gates' values so far.
  _affine(layer, values) {
    const z = layer.bias.slice();
    for (const [source, w] of layer.weights) {
      const v = values[source], n = v.length;
      for (let u = 0, k = 0; u < z.length; u++) {
        let sum = 0;
        for (let j = 0; j < n; j++) sum += w[k++] * v[j];
        z[u] += sum;
      }
    }
    return z;
  }

  _code(gate, u, z) {
    let code = 0;
    for (let k = 0; k < gate.closed.length; k++) {
      const knot = at(gate.knots[k], u);
      if (gate.closed[k] ? z >= knot : z > knot) code++;
    }
    return code;
  }

  // At x: outputs y, codes and pre-activations z of every gate.
  at(x) {
    const values = [x], codes = [], zs = [];
    for (const gate of this.gates) {
      const z = this._affine(gate, values), code = new Uint8Array(z.length);
      const v = z.map((value, u) => {
        code[u] = this._code(gate, u, value);
        return at(gate.slopes[code[u]], u) * value + at(gate.offsets[code[u]], u);
      });
      values.push(v); codes.push(code); zs.push(z);
    }
    return { x, y: this._affine(this.layers[this.layers.length - 1], values), codes, zs };
  }

  // Derivatives under fixed codes along each of the given directions (arrays of length `inputs`).
  // Returns for each layer, that of the outputs last, an array [unit * directions + direction].
  jacobian(codes, directions) {
    const many = directions.length, first = new Float64Array(this.inputs * many);
    directions.forEach((d, k) => { for (let j = 0; j < this.inputs; j++) first[j * many + k] = d[j]; });
    const values = [first], found = [];
    this.layers.forEach((layer, place) => {
      const units = layer.bias.length, dz = new Float64Array(units * many);
      for (const [source, w] of layer.weights) multiply(w, values[source], dz, units, many);
      found.push(dz);
      if (!layer.closed) return;
      const dv = dz.slice();
      for (let u = 0; u < units; u++) {
        const slope = at(layer.slopes[codes[place][u]], u);
        for (let k = 0; k < many; k++) dv[u * many + k] *= slope;
      }
      values.push(dv);
    });
    return found;
  }

  // The rule of a region: slopes of each output [output][input], intercepts, and all derivatives.
  rule(point) {
    const d = this.inputs, units = identity(d), all = this.jacobian(point.codes, units);
    const flat = all[all.length - 1], slopes = [], intercepts = [];
    for (let o = 0; o < point.y.length; o++) {
      const w = flat.slice(o * d, (o + 1) * d);
      slopes.push(w);
      intercepts.push(point.y[o] - dot(w, point.x));
    }
    return { slopes, intercepts, all };
  }

  // The nearest wall: distance with inputs measured in `scale`, and whose it is.
  wall(point, rule, scale) {
    let best = { distance: Infinity };
    const d = this.inputs;
    this.gates.forEach((gate, place) => {
      const slopes = rule.all[place];
      for (let u = 0; u < gate.bias.length; u++) {
        let norm = 0;
        for (let j = 0; j < d; j++) norm += (slopes[u * d + j] * scale[j]) ** 2;
        if (!(norm > 0)) continue;
        const code = point.codes[place][u];
        for (const k of [code - 1, code]) {
          if (k < 0 || k >= gate.closed.length) continue;
          const room = at(gate.knots[k], u) - point.zs[place][u];
          const distance = Math.abs(room) / Math.sqrt(norm);
          if (distance < best.distance) best = { distance, unit: u, gate: gate.name };
        }
      }
    });
    return best;
  }

  // Outputs along x with input j from low to high: [t, y] at every knot (regions thinner than
  // a billionth of the way are stepped over).
  trace(x, j, low, high, output) {
    const d = this.inputs, along = new Float64Array(d), point = Float64Array.from(x);
    along[j] = 1;
    const ts = [], ys = [], small = (high - low) * 1e-9;
    let t = low;
    for (let count = 0; count < 3000; count++) {
      point[j] = t + (count ? small : 0);
      const here = this.at(point), slopes = this.jacobian(here.codes, [along]);
      if (!count) { ts.push(t); ys.push(here.y[output]); }
      let next = Infinity;
      this.gates.forEach((gate, place) => {
        for (let u = 0; u < gate.bias.length; u++) {
          const slope = slopes[place][u], code = here.codes[place][u], k = slope > 0 ? code : code - 1;
          if (!slope || k < 0 || k >= gate.closed.length) continue;
          const gone = (at(gate.knots[k], u) - here.zs[place][u]) / slope;
          if (gone > 0 && gone < next) next = gone;
        }
      });
      t = Math.min(high, Math.max(point[j] + next, t + small));
      ts.push(t);
      point[j] = t;
      ys.push(this.at(point).y[output]);
      if (t >= high) break;
    }
    return [ts, ys];
  }
}

function at(row, unit) { return row.length === 1 ? row[0] : row[unit]; }

function dot(a, b) { let sum = 0; for (let j = 0; j < a.length; j++) sum += a[j] * b[j]; return sum; }

function identity(n) {
  return Array.from({ length: n }, (_, j) => { const e = new Float64Array(n); e[j] = 1; return e; });
}

// out (rows x many) += w (rows x n) @ v (n x many)
function multiply(w, v, out, rows, many) {
  const n = v.length / many;
  for (let u = 0; u < rows; u++)
    for (let j = 0; j < n; j++) {
      const a = w[u * n + j];
      if (a) for (let k = 0; k < many; k++) out[u * many + k] += a * v[j * many + k];
    }
}

// How many units differ between two patterns, and which: [[gate, unit], ...].
function flipped(network, a, b) {
  const found = [];
  network.gates.forEach((gate, place) => {
    for (let u = 0; u < gate.bias.length; u++)
      if (a[place][u] !== b[place][u]) found.push([gate.name, u, b[place][u] > a[place][u]]);
  });
  return found;
}
