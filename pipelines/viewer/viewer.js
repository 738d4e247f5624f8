"use strict";
// The page: what is shown, and what hands do to it.

const $ = (id) => document.getElementById(id);
const state = {
  index: null, video: 0, frame: 0, layer: 0, mode: "A", sets: [], differs: null, shown: null, chosen: null,
  joint: null, zoom: null, playing: false, adding: false, drag: null, corrections: null, milliseconds: 0,
};
let wanted = 0, pictures = null, loading = Promise.resolve(), idle = 0;

const video = () => state.index.videos[state.video];
const labels = () => state.sets[state.mode === "B" ? 1 : 0] ?? state.sets[0] ?? state.sets[1];
const editable = () => state.mode !== "B" && state.sets[0] && state.shown;
const threshold = () => +$("threshold").value;

function say(text, bad = false) {
  $("message").textContent = text;
  $("message").classList.toggle("bad", bad);
}

// ---- opening

async function start() {
  state.index = await load("index.json");
  const { sets, videos } = state.index;
  $("title").textContent = sets.map((one) => one.name).join(" · ");
  document.title = `${sets[0].name} · vitpose view`;
  for (const one of videos) $("video").append(new Option(`${one.video} (${one.frames} frames, ${one.persons} people)`, one.number));
  if (sets[0].layers.length > 1) {
    sets[0].layers.forEach((name, i) => $("layer").append(new Option(name, i)));
    $("layer-box").hidden = false;
  }
  if (sets.length > 1) {
    const names = { A: "A", B: "B", both: "both", side: "side by side" };
    for (const [mode, name] of Object.entries(names)) {
      const button = document.createElement("button");
      Object.assign(button, { textContent: name, title: sets[mode === "B" ? 1 : 0].name });
      button.dataset.mode = mode;
      button.onclick = () => setMode(mode);
      $("mode").append(button);
    }
    document.querySelector("#legend .differs").hidden = false;
  } else $("mode").hidden = true;
  state.corrections = new Corrections(state.index);
  try { await state.corrections.open(); } catch (error) { say(error.message, true); }
  const [, number, frame] = /^#(\d+)\/(\d+)/.exec(location.hash) ?? [];
  if (sets.length > 1) setMode("side");
  await openVideo(videos[+number] ? +number : 0, +(frame ?? 0));
}

async function openVideo(number, frame = 0) {
  Object.assign(state, { video: number, chosen: null, joint: null, zoom: null, differs: null, shown: null });
  $("video").value = number;
  pictures = new Recent(48, (index) => picture(number, index));
  const joints = state.index.skeleton.keypoints.length;
  state.sets = await Promise.all(state.index.sets.map((one, set) =>
    video().sets.includes(set) ? Labels.open(number, set, set ? 0 : Math.min(state.layer, one.layers.length - 1), joints) : null));
  $("frame").max = video().frames - 1;
  $("of").textContent = `of ${video().frames - 1}`;
  if (state.sets[0] && state.sets[1]) {
    load(`video/${number}/disagreement.json`).then((found) => {
      if (state.video === number) { state.differs = bytes(found.differs); timeline(); redraw(); }
    }, (error) => say(error.message, true));
  }
  if (!state.doubtChosen) setDoubt(Math.max(0.3, usualLow(labels())));
  fillAbout();
  await show(frame);
  fillWorst();
}

function setMode(mode) {
  state.mode = document.body.dataset.mode = mode;
  for (const button of $("mode").children) button.classList.toggle("on", button.dataset.mode === mode);
  if (state.shown) { choose(null); redraw(); timeline(); }
}

// The confidence that the least sure person is below in one frame of twenty, or in fewer where many are alike.
function usualLow(all) {
  const low = [...all.low].filter((_, i) => all.people[i]).sort((a, b) => a - b);
  return low.length ? Math.floor(low[Math.floor(low.length / 20)] / 2.55) / 100 : 0;
}

function setDoubt(value) {
  $("doubt").value = value;
  $("doubt-is").textContent = (+$("doubt").value).toFixed(2);
}

// ---- showing a frame

async function show(frame) {
  frame = Math.max(0, Math.min(video().frames - 1, Math.round(frame) || 0));
  const mine = ++wanted, from = performance.now();
  state.frame = frame;
  $("frame").value = frame;
  history.replaceState(null, "", `#${state.video}/${frame}`);
  timeline();
  clearTimeout(idle);
  await loading;  // who drags over the timeline wants the last picture, not all of them
  if (mine !== wanted) return;
  const image = loading = pictures.get(frame).catch((error) => { pictures.forget(frame); return error; });
  let found;
  try {
    found = await Promise.all([image, ...state.sets.map((one) => one?.frame(frame) ?? null)]);
  } catch (error) {
    if (mine === wanted) say(error.message, true);
    return;
  }
  if (mine !== wanted) return;  // somebody has gone on
  const track = state.chosen?.track;
  state.shown = { frame, image: found[0], labelled: found.slice(1) };
  state.chosen = track >= 0 ? people(0).find((one) => one.track === track) ?? null : null;
  state.milliseconds = performance.now() - from;
  fetchAhead([frame + 1, frame + 2, frame + 3]);
  idle = setTimeout(() => fetchAhead([doubtful(1), doubtful(-1)]), 200);
  const failed = found[0] instanceof Error;
  const undecodable = labels()?.status[frame] === 2 ? `frame ${frame} did not decode when it was labelled` : "";
  say(failed ? found[0].message : undecodable || (state.adding ? "drag the new person's box" : ""), failed || undecodable !== "");
  const time = (state.shown.labelled[0] ?? state.shown.labelled[1])?.time_s;
  $("time").textContent = time == null ? "" : `${time.toFixed(3)} s`;
  redraw();
  fillPeople();
  fillPerson();
}

// Ask for pictures that are likely to be wanted next.
function fetchAhead(frames) {
  for (const frame of frames) {
    if (frame !== null && frame < video().frames) pictures.get(frame).catch(() => pictures.forget(frame));
  }
}

// Who is in the frame, corrections included.
function people(set) {
  if (!state.shown) return [];
  const corrected = set === 0 && state.corrections.of(state.video, state.frame);
  return corrected ? corrected.people : state.shown.labelled[set]?.people ?? [];
}

// Where images go: a rectangle of the canvas, and the scale and shift of image pixels in it.
function views() {
  const canvas = $("stage"), width = canvas.clientWidth, height = canvas.clientHeight;
  const both = state.mode === "side" && state.index.sets.length > 1;
  const { width: w, height: h } = video();
  const upright = both && Math.min(width / w, height / 2 / h) > Math.min(width / 2 / w, height / h);
  const parts = both ? [0, 1] : [0];
  return parts.map((i) => {
    const part = {
      x: both && !upright ? i * (width + 4) / 2 : 0, y: upright ? i * (height + 4) / 2 : 0,
      width: both && !upright ? (width - 4) / 2 : width, height: upright ? (height - 4) / 2 : height,
      sets: both ? [i] : state.mode === "both" ? [0, 1] : [state.mode === "B" ? 1 : 0],
    };
    const fit = Math.min(part.width / video().width, part.height / video().height);
    const zoom = state.zoom ?? { factor: 1, x: video().width / 2, y: video().height / 2 };
    const scale = fit * zoom.factor;
    return { ...part, scale, left: part.x + part.width / 2 - zoom.x * scale, top: part.y + part.height / 2 - zoom.y * scale };
  });
}

function redraw() {
  const canvas = $("stage"), context = fitted(canvas);
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  if (!state.shown) return;
  for (const view of views()) {
    context.save();
    context.beginPath(); context.rect(view.x, view.y, view.width, view.height); context.clip();
    if (state.shown.image instanceof Error) {
      context.fillStyle = "#22252c";
      context.fillRect(view.left, view.top, video().width * view.scale, video().height * view.scale);
    } else {
      context.imageSmoothingEnabled = view.scale < 4;
      context.drawImage(state.shown.image, view.left, view.top, video().width * view.scale, video().height * view.scale);
    }
    for (const set of view.sets) {
      drawPeople(context, people(set), view, {
        skeleton: state.index.skeleton, threshold: threshold(), boxes: $("boxes").checked, tracks: $("tracks").checked,
        names: $("names").checked, byTrack: $("by-track").checked, chosen: set === 0 ? state.chosen : null, joint: state.joint,
        tint: view.sets.length > 1 ? ["#6cb6ff", "#ff9d5c"][set] : null, faint: view.sets.length > 1 && set === 1,
      });
    }
    if (state.index.sets.length > 1 && view.sets.includes(0)) drawDifferences(context, people(0), people(1), view, threshold());
    if (state.index.sets.length > 1) {
      context.font = "12px system-ui, sans-serif";
      const text = view.sets.map((set) => `${"AB"[set]} ${state.index.sets[set].name}`).join("   ");
      context.fillStyle = "#000b"; context.fillRect(view.x, view.y, context.measureText(text).width + 14, 20);
      context.fillStyle = "#fff"; context.fillText(text, view.x + 7, view.y + 14);
    }
    context.restore();
  }
  if (state.drag?.box) {
    const [view] = views(), [x, y, w, h] = state.drag.box;
    context.strokeStyle = "#7ee787"; context.lineWidth = 2;
    context.strokeRect(x * view.scale + view.left, y * view.scale + view.top, w * view.scale, h * view.scale);
  }
  const count = people(state.mode === "B" ? 1 : 0).length;
  const differs = state.differs ? `, ${Math.round(state.differs[state.frame] / 2.55)} % disagreement` : "";
  $("facts").textContent = `${count} ${count === 1 ? "person" : "people"}${differs}`;
}

function timeline() {
  drawTimeline($("timeline"), labels(), {
    frames: video().frames, frame: state.frame, doubt: +$("doubt").value, differs: state.differs,
    edited: state.corrections.framesOf(state.video),
    track: labels()?.tracks.find((one) => one[0] === state.chosen?.track),
  });
  const count = state.corrections.unsaved.size;
  $("unsaved").textContent = count;
  $("save").classList.toggle("some", count > 0);
}

// ---- the side

function fillPeople() {
  const here = new Set(people(state.mode === "B" ? 1 : 0).map((one) => one.track));
  const tracks = labels()?.tracks ?? [];
  const ordered = [...tracks].sort((a, b) => here.has(b[0]) - here.has(a[0]) || a[1] - b[1]).slice(0, 300);
  const rows = ordered.map(([track, first, last, frames, mean]) => {
    const row = document.createElement("button");
    row.className = `row${here.has(track) ? " here" : ""}${state.chosen?.track === track ? " chosen" : ""}`;
    row.innerHTML = `<i style="background:${trackColor(track)}"></i><b>${track}</b><span>${first}–${last}</span><span>${mean.toFixed(2)}</span>`;
    row.title = `track ${track}: ${frames} frames, mean confidence ${mean}`;
    row.onclick = async () => {
      if (!here.has(track)) await show(first);
      choose(people(0).find((one) => one.track === track) ?? null);
    };
    return row;
  });
  const head = document.createElement("p");
  head.textContent = `${tracks.length} tracks; those in this frame first${tracks.length > 300 ? ", 300 shown" : ""}. Number, frames, confidence.`;
  $("people").replaceChildren(head, ...rows);
}

function fillPerson() {
  const person = state.chosen, box = $("person");
  if (!person) {
    box.innerHTML = "<p>Click a person to see and correct its joints. A adds one.</p>";
    return;
  }
  const head = document.createElement("div");
  head.className = "person-head";
  head.innerHTML = `<label>track <input id="track" type="number" min="0" value="${person.track}"></label>
    <button data-do="delete">delete</button><span class="dim">box ${person.boxScore.toFixed(2)}${person.corrected ? ", corrected" : ""}</span>`;
  head.querySelector("input").onchange = (event) => change((one) => { one.track = Math.max(0, Math.round(+event.target.value) || 0); });
  const rows = state.index.skeleton.keypoints.map((name, k) => {
    const row = document.createElement("div");
    row.className = `joint${state.joint === k ? " chosen" : ""}`;
    const seen = person.seen?.[k] ?? mark(person, k, threshold());
    const score = person.seen ? "" : person.points[3 * k + 2].toFixed(2);
    row.innerHTML = `<span class="name">${name}</span><span class="dim">${score}</span><span class="choice">` +
      ["no", "hidden", "visible"].map((word, v) => `<button data-v="${v}" class="${seen === v ? "on" : ""}">${word}</button>`).join("") + "</span>";
    row.querySelector(".name").onclick = () => { state.joint = k; redraw(); fillPerson(); };
    for (const button of row.querySelectorAll("button")) {
      button.onclick = () => { state.joint = k; setSeen(+button.dataset.v); };
    }
    return row;
  });
  box.replaceChildren(head, ...rows);
}

function fillAbout() {
  const rows = (pairs) => pairs.filter(([, value]) => value != null && value !== "").map(([name, value]) => {
    const term = document.createElement("dt"), said = document.createElement("dd");
    [term.textContent, said.textContent] = [name, value];
    return [term, said];
  }).flat();
  const parts = [];
  const add = (title, pairs) => {
    const heading = document.createElement("h3"), list = document.createElement("dl");
    heading.textContent = title;
    list.append(...rows(pairs));
    parts.push(heading, list);
  };
  const one = video();
  add(one.video, [["frames", one.frames], ["size", `${one.width} × ${one.height}`], ["rate", one.fps ? `${one.fps.toFixed(2)} a second` : "not stated"],
    ["people", one.persons], ["undecodable", one.undecodable]]);
  state.index.sets.forEach((set, i) => {
    add(`${state.index.sets.length > 1 ? `${"AB"[i]} ` : ""}${set.name}`, [
      ["model", set.model.name ? `${set.model.name} ${set.model.version ?? ""}` : null],
      ["weights", set.model.weights_digest?.slice(0, 16)], ["detector", set.label.detector], ["boxes from", set.label.boxes],
      ["keypoints", `${state.index.skeleton.name}, ${state.index.skeleton.keypoints.length}`],
    ]);
    if (set.quarantined.length) {
      const list = document.createElement("ul");
      for (const entry of set.quarantined) {
        const item = document.createElement("li");
        item.textContent = `${entry.video}: ${entry.reason}`;
        list.append(item);
      }
      const heading = document.createElement("h3");
      heading.textContent = "not labelled (quarantined)";
      parts.push(heading, list);
    }
  });
  $("about").replaceChildren(...parts);
}

// The least sure frames, one from each stretch of time.
async function fillWorst() {
  const all = labels(), number = state.video, apart = Math.max(1, Math.round(video().fps / 2));
  const order = [...Array(all.frames).keys()].filter((i) => all.people[i]).sort((a, b) => all.low[a] - all.low[b]);
  const picked = [];
  for (const frame of order) {
    if (picked.length === 24) break;
    if (picked.every((other) => Math.abs(other - frame) >= apart)) picked.push(frame);
  }
  const grid = document.createElement("div");
  grid.className = "grid";
  const head = document.createElement("p");
  head.textContent = picked.length ? "The least sure person of the least sure frames." : "Nobody is in this video.";
  $("worst").replaceChildren(head, grid);
  const draw = async (canvas, frame) => {
    const [image, found] = await Promise.all([picture(number, frame).catch(() => null), all.frame(frame)]);
    const sure = (one) => one.points.reduce((sum, value, i) => i % 3 === 2 ? sum + Math.min(1, Math.max(0, value)) : sum, 0);
    const person = found.people.reduce((a, b) => sure(b) < sure(a) ? b : a);
    const context = fitted(canvas), side = canvas.clientWidth, [x, y, w, h] = person.box;
    const scale = side / (Math.max(w, h) * 1.3);
    const view = { x: 0, y: 0, width: side, height: side, scale, left: side / 2 - (x + w / 2) * scale, top: side / 2 - (y + h / 2) * scale };
    if (image) context.drawImage(image, view.left, view.top, image.width * scale, image.height * scale);
    drawPeople(context, [person], view, { skeleton: state.index.skeleton, threshold: threshold(), boxes: true });
  };
  const seen = new IntersectionObserver((entries) => entries.filter((one) => one.isIntersecting).forEach((one) => {
    seen.unobserve(one.target);
    draw(one.target.querySelector("canvas"), +one.target.dataset.frame);
  }), { root: $("worst") });
  for (const frame of picked) {
    const cell = document.createElement("button");
    cell.dataset.frame = frame;
    cell.innerHTML = `<canvas></canvas><span>${frame} · ${(all.low[frame] / 255).toFixed(2)}</span>`;
    cell.onclick = () => { show(frame); };
    grid.append(cell);
    seen.observe(cell);
  }
}

// ---- corrections

function choose(person, joint = null) {
  Object.assign(state, { chosen: person, joint });
  redraw(); timeline(); fillPeople(); fillPerson();
}

// Changes the chosen person, in a copy of the frame.
function change(how) {
  const at = people(0).indexOf(state.chosen);
  if (!editable() || at < 0) return;
  const frame = state.corrections.begin(state.video, state.frame, state.shown.labelled[0], threshold());
  state.chosen = frame.people[at];
  state.chosen.corrected = true;
  how(state.chosen, frame);
  choose(frame.people.includes(state.chosen) ? state.chosen : null, state.joint);
}

function setSeen(v) {
  if (state.joint !== null) change((person) => { person.seen[state.joint] = v; });
}

function addPerson(box) {
  const joints = state.index.skeleton.keypoints.length;
  const known = [...labels().tracks.map((one) => one[0]), ...[...state.corrections.frames.values()].filter((one) => one.video === state.video).flatMap((one) => one.people.map((p) => p.track))];
  const model = state.chosen ?? people(0)[0] ?? null;
  const frame = state.corrections.begin(state.video, state.frame, state.shown.labelled[0], threshold());
  frame.people.push(newPerson(box, joints, model, known.reduce((a, b) => Math.max(a, b), -1) + 1));
  choose(frame.people.at(-1));
  showTab("person");
}

async function save() {
  try {
    say(`saved ${state.corrections.frames.size} corrected frames: ${await state.corrections.save()}`);
  } catch (error) { say(`not saved: ${error.message}`, true); }
  timeline();
}

// ---- hands

function under(event) {
  const box = $("stage").getBoundingClientRect();
  const x = event.clientX - box.left, y = event.clientY - box.top;
  const view = views().findLast((one) => x >= one.x && y >= one.y) ?? views()[0];
  return { view, x, y, image: [(x - view.left) / view.scale, (y - view.top) / view.scale] };
}

function jointAt(place) {
  if (!place.view.sets.includes(0) || !editable()) return null;
  let best = null, least = 10;
  const candidates = state.chosen ? [state.chosen, ...people(0)] : people(0);
  for (const person of candidates) {
    for (let k = 0; k < person.points.length / 3; k++) {
      if (person !== state.chosen && !mark(person, k, threshold())) continue;
      const away = Math.hypot(person.points[3 * k] - place.image[0], person.points[3 * k + 1] - place.image[1]) * place.view.scale;
      if (away < least) [best, least] = [{ person, joint: k }, away];
    }
    if (best && person === state.chosen) break;  // the chosen person's joints go first
  }
  return best;
}

function personAt(place) {
  const [u, v] = place.image;
  const inside = people(0).filter(({ box: [x, y, w, h] }) => u >= x && u <= x + w && v >= y && v <= y + h);
  return inside.reduce((a, b) => (!a || b.box[2] * b.box[3] < a.box[2] * a.box[3]) ? b : a, null);
}

const pointers = new Map();

$("stage").onpointerdown = (event) => {
  if (!state.shown) return;
  $("stage").setPointerCapture(event.pointerId);
  $("stage").focus({ preventScroll: true });
  pointers.set(event.pointerId, event);
  const place = under(event);
  if (pointers.size > 1) { state.drag = { pinch: true }; return; }
  if (state.adding) { state.drag = { from: place.image, box: [...place.image, 0, 0] }; return; }
  const hit = jointAt(place);
  if (hit) {
    choose(hit.person, hit.joint);
    state.drag = { joint: hit.joint, moved: false };
  } else state.drag = { pan: [place.x, place.y], zoom: state.zoom, moved: false, place };
};

$("stage").onpointermove = (event) => {
  if (!state.shown) return;
  const place = under(event), drag = state.drag;
  if (!drag) { $("stage").classList.toggle("joint", !!jointAt(place)); return; }
  if (drag.pinch && pointers.size === 2) {
    const apart = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
    const before = apart();
    pointers.set(event.pointerId, event);
    zoomBy(apart() / Math.max(1, before), place);
  } else if (drag.box) {
    const [x, y] = drag.from, [u, v] = place.image;
    drag.box = [Math.min(x, u), Math.min(y, v), Math.abs(u - x), Math.abs(v - y)];
    redraw();
  } else if (drag.joint != null) {
    const place0 = place.image;
    if (!drag.moved) {
      const [x, y] = state.chosen.points.slice(3 * drag.joint, 3 * drag.joint + 2);
      if (Math.hypot(x - place0[0], y - place0[1]) * place.view.scale < 3) return;
      change((person) => { person.seen[drag.joint] ||= 2; });
      drag.moved = true;
    }
    state.chosen.points[3 * drag.joint] = place0[0];
    state.chosen.points[3 * drag.joint + 1] = place0[1];
    state.chosen.box = boxAround(state.chosen);
    redraw();
  } else if (drag.pan) {
    const [dx, dy] = [place.x - drag.pan[0], place.y - drag.pan[1]];
    if (Math.hypot(dx, dy) < 4 && !drag.moved) return;
    drag.moved = true;
    const from = drag.zoom ?? { factor: 1, x: video().width / 2, y: video().height / 2 };
    state.zoom = { ...from, x: from.x - dx / place.view.scale, y: from.y - dy / place.view.scale };
    redraw();
  }
};

$("stage").onpointerup = $("stage").onpointercancel = (event) => {
  pointers.delete(event.pointerId);
  const drag = state.drag;
  state.drag = null;
  if (drag?.box) {
    setAdding(false);
    if (drag.box[2] > 3 && drag.box[3] > 3) addPerson(drag.box); else redraw();
  } else if (drag?.joint != null) fillPerson();
  else if (drag?.pan && !drag.moved) {
    choose(drag.place.view.sets.includes(0) ? personAt(drag.place) : null);
    if (state.chosen) showTab("person");
  }
};

$("stage").addEventListener("wheel", (event) => {
  event.preventDefault();
  if (state.shown) zoomBy(Math.exp(-event.deltaY / 400), under(event));
}, { passive: false });

function zoomBy(factor, place = null) {
  const zoom = state.zoom ?? { factor: 1, x: video().width / 2, y: video().height / 2 };
  const now = Math.min(40, Math.max(1, zoom.factor * factor));
  if (now === 1) state.zoom = null;
  else {
    const [u, v] = place?.image ?? [zoom.x, zoom.y], kept = zoom.factor / now;
    state.zoom = { factor: now, x: u + (zoom.x - u) * kept, y: v + (zoom.y - v) * kept };
  }
  redraw();
}

function zoomToPerson() {
  if (!state.chosen) return;
  const [x, y, w, h] = state.chosen.box, [view] = views();
  const fit = Math.min(view.width / video().width, view.height / video().height);
  const factor = Math.max(1, Math.min(view.width / w, view.height / h) * 0.75 / fit);
  state.zoom = { factor, x: x + w / 2, y: y + h / 2 };
  redraw();
}

function setAdding(on) {
  if (on && !editable()) { say("corrections go into set A; show it first", true); return; }
  state.adding = on;
  $("stage").classList.toggle("adding", on);
  say(on ? "drag the new person's box" : "");
}

function frameUnder(event) {
  const box = $("timeline").getBoundingClientRect();
  return Math.max(0, Math.min(video().frames - 1, Math.floor((event.clientX - box.left) / box.width * video().frames)));
}
$("timeline").onpointerdown = (event) => { $("timeline").setPointerCapture(event.pointerId); show(frameUnder(event)); };
$("timeline").onpointermove = (event) => {
  if (!state.shown) return;
  const frame = frameUnder(event);
  if (event.buttons) { show(frame); return; }
  clearTimeout(idle);  // a pointer that rests here is about to press
  idle = setTimeout(() => fetchAhead([frame]), 60);
};

function doubtful(step, leave) {
  const all = labels(), doubt = +$("doubt").value * 255;
  return seekFrame(state.frame, step, all.frames, (i) => all.status[i] === 2 || all.low[i] < doubt && all.people[i] > 0, leave);
}

function jump(step, leave) {
  const found = doubtful(step, leave);
  if (found === null) say(step > 0 ? "no doubtful frame after this one" : "no doubtful frame before this one");
  else show(found);
}

function jumpToDifference(step) {
  if (!state.differs) return;
  const most = Math.max(26, ...state.differs.filter((value) => value > 0).sort().slice(-Math.ceil(state.differs.length / 10)).slice(0, 1));
  const found = seekFrame(state.frame, step, state.differs.length, (i) => state.differs[i] >= most, false);
  if (found === null) say("the sets agree in the rest"); else show(found);
}

async function play() {
  state.playing = !state.playing;
  $("play").textContent = state.playing ? "❚❚" : "▶";
  while (state.playing && state.frame < video().frames - 1) {
    const due = performance.now() + 1000 / (video().fps || 25);
    await show(state.frame + 1);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
  }
  state.playing = false;
  $("play").textContent = "▶";
}

function nextPerson(step) {
  const all = people(0);
  if (all.length) choose(all[(all.indexOf(state.chosen) + step + all.length) % all.length]);
}

function showTab(name) {
  for (const tab of document.querySelectorAll(".tab")) tab.hidden = tab.id !== name;
  for (const button of $("tabs").children) button.classList.toggle("on", button.dataset.tab === name);
}

const actions = {
  back: () => show(state.frame - 1), next: () => show(state.frame + 1), play,
  "doubt-back": () => jump(-1), "doubt-next": () => jump(1), fit: () => { state.zoom = null; redraw(); },
  "zoom-in": () => zoomBy(1.5), "zoom-out": () => zoomBy(1 / 1.5), help: () => $("help").showModal(),
  delete: () => change((person, frame) => { frame.people.splice(frame.people.indexOf(person), 1); }),
};
document.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-do]")?.dataset.do;
  if (chosen) actions[chosen]();
});

const keys = {
  ArrowLeft: (e) => show(state.frame - (e.shiftKey ? 10 : 1)), ArrowRight: (e) => show(state.frame + (e.shiftKey ? 10 : 1)),
  Home: () => show(0), End: () => show(video().frames - 1), " ": play,
  n: (e) => jump(1, e.shiftKey), p: (e) => jump(-1, e.shiftKey), g: (e) => jumpToDifference(e.shiftKey ? -1 : 1),
  t: (e) => nextPerson(e.shiftKey ? -1 : 1), z: zoomToPerson, 0: actions.fit, "+": actions["zoom-in"], "=": actions["zoom-in"],
  "-": actions["zoom-out"], a: () => setAdding(!state.adding), Escape: () => { setAdding(false); choose(null); },
  Delete: actions.delete, Backspace: actions.delete, 1: () => setSeen(0), 2: () => setSeen(1), 3: () => setSeen(2), "?": actions.help,
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input[type=number], select, dialog *");
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "s") { event.preventDefault(); save(); }
    if (key === "z" && !typing && state.corrections.undo(state.video, state.frame)) { event.preventDefault(); choose(null); }
    return;
  }
  if (typing || event.altKey || !keys[key] || !state.shown) return;
  event.preventDefault();
  keys[key](event);
});

$("save").onclick = save;
$("frame").onchange = () => show(+$("frame").value);
$("video").onchange = () => openVideo(+$("video").value);
$("layer").onchange = async () => { state.layer = +$("layer").value; await openVideo(state.video, state.frame); };
$("doubt").oninput = () => { state.doubtChosen = true; setDoubt(+$("doubt").value); timeline(); };
$("threshold").oninput = () => { $("threshold-is").textContent = threshold().toFixed(2); redraw(); fillPerson(); };
for (const id of ["boxes", "tracks", "by-track", "names"]) $(id).onchange = redraw;
for (const button of $("tabs").children) button.onclick = () => showTab(button.dataset.tab);
window.onbeforeunload = (event) => { if (state.corrections?.unsaved.size) event.preventDefault(); };
new ResizeObserver(() => { if (state.shown) { redraw(); timeline(); } }).observe($("stage-box"));

start().catch((error) => say(error.message, true));
