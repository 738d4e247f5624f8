"use strict";
// Corrections: frames as they stand after a person went over them, and their way to a COCO file and back.

class Corrections {
  constructor(index) {
    Object.assign(this, { index, frames: new Map(), undone: new Map(), unsaved: new Set(), digest: "", file: "" });
  }
  key(video, frame) { return `${video}|${frame}`; }
  of(video, frame) { return this.frames.get(this.key(video, frame)); }
  framesOf(video) {
    return [...this.frames.values()].filter((one) => one.video === video).map((one) => one.frame);
  }

  // The frame to change: a copy of what the labels have, made at the first change; remembers what was before.
  begin(video, frame, labelled, threshold) {
    const key = this.key(video, frame);
    const before = this.frames.get(key) ?? null;
    const history = this.undone.get(key) ?? [];
    history.push(before && structuredClone(before));
    this.undone.set(key, history.slice(-100));
    if (!before) {
      const people = labelled.people.map((one) => ({
        track: one.track, box: [...one.box], boxScore: one.boxScore, points: [...one.points], corrected: false,
        seen: Array.from({ length: one.points.length / 3 }, (_, k) => one.points[3 * k + 2] >= threshold ? 2 : 0),
      }));
      this.frames.set(key, { video, frame, pts: labelled.pts, time_s: labelled.time_s, people });
    }
    this.unsaved.add(key);
    return this.frames.get(key);
  }
  undo(video, frame) {
    const key = this.key(video, frame);
    const history = this.undone.get(key);
    if (!history?.length) return false;
    const before = history.pop();
    before ? this.frames.set(key, before) : this.frames.delete(key);
    this.unsaved.add(key);
    return true;
  }

  toCoco() {
    const images = [], annotations = [];
    const ordered = [...this.frames.values()].sort((a, b) => a.video - b.video || a.frame - b.frame);
    for (const one of ordered) {
      const video = this.index.videos[one.video];
      images.push({
        id: images.length + 1, file_name: `${video.video}/${String(one.frame).padStart(6, "0")}.jpg`,
        video: video.video, frame_index: one.frame, pts: one.pts, time_s: one.time_s,
        width: video.width, height: video.height,
      });
      for (const person of one.people) {
        const round = (value) => Math.round(value * 100) / 100;
        annotations.push({
          id: annotations.length + 1, image_id: images.length, category_id: 1, track_id: person.track,
          bbox: person.box.map(round), area: round(person.box[2] * person.box[3]), iscrowd: 0,
          keypoints: person.seen.flatMap((v, k) => v ? [round(person.points[3 * k]), round(person.points[3 * k + 1]), v] : [0, 0, 0]),
          num_keypoints: person.seen.filter((v) => v > 0).length, corrected: person.corrected,
        });
      }
    }
    return { images, annotations, categories: [this.index.category] };
  }
  fromCoco(document) {
    const images = new Map();
    for (const image of document?.images ?? []) {
      const video = this.index.videos.findIndex((one) => one.video === image.video);
      if (video < 0) continue;
      const one = { video, frame: image.frame_index, pts: image.pts ?? null, time_s: image.time_s ?? null, people: [] };
      images.set(image.id, one);
      this.frames.set(this.key(video, one.frame), one);
    }
    for (const annotation of document?.annotations ?? []) {
      const seen = annotation.keypoints.filter((_, i) => i % 3 === 2);
      images.get(annotation.image_id)?.people.push({
        track: annotation.track_id, box: [...annotation.bbox], boxScore: 1, corrected: annotation.corrected ?? true,
        points: annotation.keypoints.map((value, i) => i % 3 === 2 ? Number(value > 0) : value), seen,
      });
    }
  }

  async open() {
    if (EXPORTED) return;
    const { document, digest, file } = await load("corrections.json");
    Object.assign(this, { digest, file });
    this.fromCoco(document);
  }
  // Where it went. Throws where the server refuses.
  async save() {
    const content = JSON.stringify(this.toCoco());
    const saved = [...this.unsaved];
    let where = "corrections.json, in your downloads";
    if (EXPORTED) {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
      link.download = "corrections.json";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    } else {
      const headers = { "Content-Type": "application/json", "If-Match": `"${this.digest}"` };
      const answer = await fetch("corrections.json", { method: "POST", headers, body: content });
      if (!answer.ok) throw new Error(await answer.text());
      ({ digest: this.digest, file: where } = await answer.json());
    }
    for (const key of saved) this.unsaved.delete(key);
    return where;
  }
}

// The box around what is labelled, at least the person's own.
function boxAround(person) {
  let [x, y, w, h] = person.box, right = x + w, bottom = y + h;
  person.seen.forEach((v, k) => {
    if (!v) return;
    x = Math.min(x, person.points[3 * k]); right = Math.max(right, person.points[3 * k]);
    y = Math.min(y, person.points[3 * k + 1]); bottom = Math.max(bottom, person.points[3 * k + 1]);
  });
  return [x, y, right - x, bottom - y];
}

// A person in a box: the pose of `model`, fitted into it, or joints in rows where there is none.
function newPerson(box, joints, model, track) {
  const [x, y, w, h] = box;
  const points = [];
  for (let k = 0; k < joints; k++) {
    if (model) {
      const [u, v, s, t] = model.box;
      points.push(x + (model.points[3 * k] - u) / s * w, y + (model.points[3 * k + 1] - v) / t * h, 1);
    } else {
      points.push(x + w * (k % 2 ? 0.35 : 0.65), y + h * (k + 0.5) / joints, 1);
    }
  }
  return { track, box, boxScore: 1, points, seen: Array(joints).fill(2), corrected: true };
}
