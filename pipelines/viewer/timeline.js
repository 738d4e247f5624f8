"use strict";
// Confidence over time: a column of pixels stands for one frame or more, and shows the worst of them.

function drawTimeline(canvas, labels, look) {
  const context = fitted(canvas), width = canvas.clientWidth, height = canvas.clientHeight;
  context.clearRect(0, 0, width, height);
  if (!labels) return;
  const total = look.frames, lane = 12, top = 4, tall = height - lane - 8;
  const X = (frame) => (frame + 0.5) / total * width;
  const most = labels.people.reduce((a, b) => Math.max(a, b), 1);
  if (look.track) {
    context.fillStyle = "#6cb6ff2e";
    context.fillRect(X(look.track[1] - 0.5), 0, Math.max(2, X(look.track[2] + 0.5) - X(look.track[1] - 0.5)), height);
  }
  const mean = new Path2D();
  let drawn = false;
  for (let x = 0; x < width; x++) {
    const first = Math.floor(x / width * total);
    const last = Math.max(first + 1, Math.floor((x + 1) / width * total));
    let low = 255, sum = 0, counted = 0, people = 0, broken = false, differs = 0;
    for (let i = first; i < Math.min(last, labels.frames); i++) {
      low = Math.min(low, labels.low[i]);
      people = Math.max(people, labels.people[i]);
      broken ||= labels.status[i] === 2;
      if (labels.people[i]) { sum += labels.mean[i]; counted++; }
      if (look.differs) differs = Math.max(differs, look.differs[i]);
    }
    context.fillStyle = "#ffffff12";
    context.fillRect(x, top + tall * (1 - people / most), 1, tall * people / most);
    if (counted) {
      const y = top + tall * (1 - sum / counted / 255), lowest = top + tall * (1 - low / 255);
      context.fillStyle = "#6cb6ff40";
      context.fillRect(x, y, 1, lowest - y);
      drawn ? mean.lineTo(x + 0.5, y) : mean.moveTo(x + 0.5, y);
      drawn = true;
      if (low / 255 < look.doubt) { context.fillStyle = "#ffb454"; context.fillRect(x, height - lane, 1, lane / 2 - 1); }
    } else drawn = false;
    if (look.differs && differs > 12) {
      context.fillStyle = `rgba(210,168,255,${0.25 + differs / 340})`;
      context.fillRect(x, height - lane / 2, 1, lane / 2);
    }
    if (broken) { context.fillStyle = "#ff5c5c"; context.fillRect(x - 0.5, 0, 2, height); }
  }
  context.strokeStyle = "#6cb6ff"; context.lineWidth = 1.3;
  context.stroke(mean);
  context.strokeStyle = "#ffb45488"; context.lineWidth = 1; context.setLineDash([4, 4]);
  context.beginPath(); context.moveTo(0, top + tall * (1 - look.doubt)); context.lineTo(width, top + tall * (1 - look.doubt)); context.stroke();
  context.setLineDash([]);
  context.fillStyle = "#7ee787";
  for (const frame of look.edited) context.fillRect(X(frame) - 1.5, 0, 3, 6);
  context.fillStyle = "#fff";
  context.fillRect(X(look.frame) - 1, 0, 2, height);
}

// A canvas with as many pixels as the screen shows, and its context in CSS pixels.
function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

// The next frame in `step`'s direction of which `is` holds, null for none; with `leave` the first of the next
// run of such frames.
function seekFrame(from, step, total, is, leave) {
  let i = from;
  if (leave) while (i >= 0 && i < total && is(i)) i += step;
  else i += step;
  while (i >= 0 && i < total && !is(i)) i += step;
  if (i < 0 || i >= total) return null;
  if (leave && step < 0) while (i > 0 && is(i - 1)) i--;
  return i;
}
