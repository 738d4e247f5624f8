"use strict";
// Labels and pictures by path: from the server, or from the scripts of an exported page.

const EXPORTED = document.documentElement.hasAttribute("data-exported");
const awaited = new Map();

function got(path, content) {  // exported scripts call this
  awaited.get(path)?.(content);
}

function bytes(base64) {
  const text = atob(base64);
  const array = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) array[i] = text.charCodeAt(i);
  return array;
}

async function load(path) {
  const binary = path.endsWith(".bin");
  if (!EXPORTED) {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(await answer.text());
    return binary ? answer.arrayBuffer() : answer.json();
  }
  const content = await new Promise((resolve, reject) => {
    awaited.set(path, resolve);
    const script = document.createElement("script");
    script.src = `data/${path}.js`;
    script.onload = () => { awaited.delete(path); script.remove(); };
    script.onerror = () => reject(new Error(`${script.src} is not there; the page is not whole`));
    document.head.append(script);
  });
  return binary ? bytes(content).buffer : content;
}

// A few of the things that were asked for last, each a promise.
class Recent {
  constructor(most, make) {
    Object.assign(this, { most, make, kept: new Map() });
  }
  get(key) {
    const found = this.kept.get(key) ?? this.make(key);
    this.kept.delete(key);
    this.kept.set(key, found);
    if (this.kept.size > this.most) this.kept.delete(this.kept.keys().next().value);
    return found;
  }
  forget(key) { this.kept.delete(key); }
}

// The labels of one video in one set and layer.
class Labels {
  static async open(video, set, layer, joints) {
    const base = `video/${video}/${set}/${layer}`;
    const labels = new Labels();
    const overview = await load(`${base}.json`);
    Object.assign(labels, overview, {
      joints,
      people: new Uint16Array(bytes(overview.people).buffer),
      low: bytes(overview.low), mean: bytes(overview.mean), status: bytes(overview.status),
    });
    labels.pieces = new Recent(24, (number) => load(`${base}/${number}.bin`).then(parsePiece));
    return labels;
  }
  // Everybody in a frame: {status, pts, time_s, people}. A person's points are x, y, score a joint.
  async frame(index) {
    if (index >= this.frames) return { status: 2, pts: null, time_s: null, people: [] };
    const number = Math.floor(index / this.piece_frames);
    const piece = await this.pieces.get(number);
    const i = index - piece.start, width = 6 + 3 * this.joints;
    if (i + 1 >= piece.counts.length * 0.75 && (number + 1) * this.piece_frames < this.frames) {
      this.pieces.get(number + 1).catch(() => this.pieces.forget(number + 1));
    }
    const people = [];
    for (let n = piece.offsets[i]; n < piece.offsets[i + 1]; n++) {
      const row = piece.values.subarray(n * width, (n + 1) * width);
      people.push({ track: row[0], box: row.subarray(1, 5), boxScore: row[5], points: row.subarray(6), seen: null });
    }
    return { status: piece.status[i], pts: piece.pts[i], time_s: piece.time_s[i], people };
  }
}

function parsePiece(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const piece = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  piece.values = new Float32Array(buffer, 4 + length);
  piece.offsets = [0];
  for (const count of piece.counts) piece.offsets.push(piece.offsets.at(-1) + count);
  return piece;
}

// The picture of a frame; rejected with the reason where there is none.
async function picture(video, index) {
  const path = `video/${video}/frames/${index}.jpg`;
  const image = new Image();
  image.src = EXPORTED ? `data/${path}` : path;
  try {
    await image.decode();
  } catch {
    if (EXPORTED) throw new Error(`no picture of frame ${index}`);
    const answer = await fetch(path);
    throw new Error(answer.ok ? `the picture of frame ${index} is damaged` : await answer.text());
  }
  return image;
}
