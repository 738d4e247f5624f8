"use strict";
// Poses on a canvas, as `vitpose.visualization` draws them.

const CROWD = 120;  // people from which limbs are drawn in one stroke a colour

function css(color) { return `rgb(${color.join(",")})`; }

function trackColor(track) { return track < 0 ? "#bbb" : `hsl(${(track * 137.508) % 360} 75% 62%)`; }

function limbColor(colors, a, b) {
  const middle = "80,215,100", one = colors[a].join(","), other = colors[b].join(",");
  if (one === other) return colors[a];
  if (one === middle) return colors[b];
  return other === middle ? colors[a] : [80, 215, 100];
}

// How a joint is drawn: 0 not, 1 ring, 2 dot; a corrected person's by its visibility.
function mark(person, k, threshold) {
  if (person.seen) return person.seen[k];
  const score = person.points[3 * k + 2];
  return score >= threshold ? 2 : score >= threshold / 3 ? 1 : 0;
}

// `view` maps image pixels: x * scale + left. `look`: skeleton, threshold, boxes, tracks, names, byTrack,
// chosen (a person), joint, tint (one colour for all) and faint.
function drawPeople(context, people, view, look) {
  const { limbs, colors, keypoints } = look.skeleton;
  const crowd = people.length > CROWD;
  const strokes = new Map(), dots = new Map();
  const at = (map, key) => map.get(key) ?? map.set(key, new Path2D()).get(key);
  const X = (x) => x * view.scale + view.left, Y = (y) => y * view.scale + view.top;
  context.save();
  context.globalAlpha = look.faint ? 0.55 : 1;
  context.lineCap = "round";
  for (const person of people) {
    const [x, y, w, h] = person.box, p = person.points;
    if (X(x + w * 2) < view.x || X(x - w) > view.x + view.width || Y(y + h * 2) < view.y || Y(y - h) > view.y + view.height) continue;
    const one = look.byTrack ? trackColor(person.track) : look.tint;
    const chosen = person === look.chosen;
    const width = crowd ? 1.5 : Math.min(8, Math.max(1.2, Math.max(w, h) * view.scale / 70));
    for (const [a, b] of limbs) {
      const ends = [mark(person, a, look.threshold), mark(person, b, look.threshold)];
      if (Math.min(...ends) < (person.seen ? 1 : 2)) continue;
      const path = at(strokes, `${one ?? css(limbColor(colors, a, b))}|${width.toFixed(1)}`);
      path.moveTo(X(p[3 * a]), Y(p[3 * a + 1]));
      path.lineTo(X(p[3 * b]), Y(p[3 * b + 1]));
    }
    const radius = crowd ? 1.6 : Math.max(1.6, width * 0.75) + (chosen ? 1.5 : 0);
    for (let k = 0; k < keypoints.length; k++) {
      const kind = mark(person, k, look.threshold);
      if (kind === 0 && !chosen) continue;
      const path = at(dots, `${one ?? css(colors[k])}|${kind}`);
      const cx = X(p[3 * k]), cy = Y(p[3 * k + 1]);
      path.moveTo(cx + radius, cy);
      path.arc(cx, cy, radius, 0, 7);
    }
  }
  if (!crowd) {
    context.strokeStyle = "#141414";
    for (const [key, path] of strokes) { context.lineWidth = +key.split("|")[1] + 2; context.stroke(path); }
  }
  for (const [key, path] of strokes) {
    const [color, width] = key.split("|");
    context.strokeStyle = color; context.lineWidth = +width;
    context.stroke(path);
  }
  for (const [key, path] of dots) {
    const [color, kind] = key.split("|");
    context.lineWidth = 1.2;
    if (kind === "2") {
      context.fillStyle = color; context.fill(path);
      if (!crowd) { context.strokeStyle = "#141414"; context.stroke(path); }
    } else {
      context.strokeStyle = color; context.lineWidth = kind === "1" ? 1.8 : 1;
      context.setLineDash(kind === "0" ? [2, 2] : []);
      context.stroke(path);
      context.setLineDash([]);
    }
  }
  for (const person of people) label(context, person, X, Y, view, look, crowd);
  context.restore();
}

function label(context, person, X, Y, view, look, crowd) {
  const [x, y, w, h] = person.box, chosen = person === look.chosen;
  if (look.boxes || chosen) {
    context.lineWidth = chosen ? 2.5 : 1;
    context.strokeStyle = chosen ? "#6cb6ff" : person.corrected ? "#7ee787" : look.byTrack ? trackColor(person.track) : "#ebebeb";
    context.globalAlpha = chosen ? 1 : 0.6;
    context.strokeRect(X(x), Y(y), w * view.scale, h * view.scale);
    context.globalAlpha = look.faint ? 0.55 : 1;
  }
  if ((look.tracks && person.track >= 0 && (!crowd || h * view.scale > 40)) || chosen) {
    const text = person.track < 0 ? "new" : String(person.track);
    context.font = "12px system-ui, sans-serif";
    const wide = context.measureText(text).width + 8;
    const bottom = Math.max(Y(y), view.y + 16);
    context.fillStyle = chosen ? "#6cb6ff" : "#000a";
    context.fillRect(X(x), bottom - 16, wide, 16);
    context.fillStyle = chosen ? "#0b1420" : "#fff";
    context.fillText(text, X(x) + 4, bottom - 4);
  }
  if (!chosen) return;
  look.skeleton.keypoints.forEach((name, k) => {
    const cx = X(person.points[3 * k]), cy = Y(person.points[3 * k + 1]);
    if (k === look.joint) {
      context.strokeStyle = "#fff"; context.lineWidth = 2;
      context.beginPath(); context.arc(cx, cy, 9, 0, 7); context.stroke();
    }
    if (look.names || k === look.joint) {
      context.font = "12px system-ui, sans-serif";
      context.lineWidth = 3; context.strokeStyle = "#000c";
      context.strokeText(name, cx + 11, cy + 4);
      context.fillStyle = "#fff"; context.fillText(name, cx + 11, cy + 4);
    }
  });
}

// Lines from each joint of a person of one set to the same joint of the person of the other nearest to it.
function drawDifferences(context, people, others, view, threshold) {
  const X = (x) => x * view.scale + view.left, Y = (y) => y * view.scale + view.top;
  context.save();
  context.strokeStyle = "#d2a8ff"; context.lineWidth = 1.5;
  context.beginPath();
  for (const person of people) {
    const other = nearest(person, others);
    if (!other) continue;
    for (let i = 0; i < person.points.length; i += 3) {
      if (Math.max(person.points[i + 2], other.points[i + 2]) < threshold) continue;
      context.moveTo(X(person.points[i]), Y(person.points[i + 1]));
      context.lineTo(X(other.points[i]), Y(other.points[i + 1]));
    }
  }
  context.stroke();
  context.restore();
}

function nearest(person, others) {
  const [x, y, w, h] = person.box;
  let best = null, least = Math.hypot(w, h) / 2;
  for (const other of others) {
    const [u, v, s, t] = other.box;
    const away = Math.hypot(x + w / 2 - u - s / 2, y + h / 2 - v - t / 2);
    if (away < least) [best, least] = [other, away];
  }
  return best;
}
