// The page of `posepipe view`. Everything from files (names, labels) is set as text, never as markup.
"use strict";
(() => {
  const all = window.posepipe;
  const get = (id) => document.getElementById(id);
  const CELL = { width: 200, height: 190 };
  const COLOURS = { left: "#ff9500", right: "#2f9bff", middle: "#6bd66b" };
  const SWITCHES = { p: "show-found", l: "show-labels", b: "show-boxes", c: "show-confidences", i: "show-ids" };
  let shown = [];      // the pictures that pass the filters, in order
  let current = -1;    // which of them is large
  let people = null;   // its poses and labels
  const cells = new Map();

  const add = (parent, tag, text = "") => {
    const element = parent.appendChild(document.createElement(tag));
    element.textContent = text;
    return element;
  };
  const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(0));

  // ---- which pictures, in which order
  const byName = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id - b.id);
  const last = (value) => (value === null || value === undefined ? Infinity : value);
  const ORDERS = {
    name: byName,
    oks: (a, b) => last(a.oks) - last(b.oks) || byName(a, b),
    change: (a, b) => last(a.change) - last(b.change) || byName(a, b),
    people: (a, b) => count(b) - count(a) || byName(a, b),
    score: (a, b) => last(lowest(a)) - last(lowest(b)) || byName(a, b),
  };
  const least = () => Number(get("score").value);
  const count = (picture) => picture.scores.filter((score) => score >= least()).length;
  const lowest = (picture) => {
    const kept = picture.scores.filter((score) => score >= least());
    return kept.length ? Math.min(...kept) : null;
  };
  const number = (id, otherwise) => (get(id).value === "" ? otherwise : Number(get(id).value));
  const passes = (picture) => {
    const people = count(picture);
    if (people < number("least", 0) || people > number("most", Infinity)) return false;
    if (!picture.name.toLowerCase().includes(get("name").value.toLowerCase())) return false;
    const size = get("size").value, error = get("error").value, keypoint = get("keypoint").value;
    if (size && !(picture.sizes || []).includes(size)) return false;
    if (!error && !keypoint) return true;
    const kinds = error ? [error] : all.errors.filter((kind) => kind !== "good");
    return kinds.some((kind) => {
      const found = (picture.errors || {})[kind];
      return found !== undefined && (!keypoint || found.includes(Number(keypoint)));
    });
  };
  const choose = () => {
    get("score-value").textContent = least().toFixed(2);
    shown = all.pictures.filter(passes).sort(ORDERS[get("sort").value]);
    get("count").textContent = `${shown.length} of ${all.pictures.length} pictures`;
    cells.forEach((cell) => cell.remove());
    cells.clear();
    get("grid").scrollTop = 0;
    layOut();
    location.replace("#" + new URLSearchParams(state()).toString());
  };

  // ---- the grid: only the cells in view exist
  const columns = () => Math.max(1, Math.floor(get("grid").clientWidth / CELL.width));
  const layOut = () => {
    const grid = get("grid"), across = columns();
    get("space").style.height = `${Math.ceil(shown.length / across) * CELL.height}px`;
    const first = Math.max(0, Math.floor(grid.scrollTop / CELL.height) - 1) * across;
    const end = Math.min(shown.length, (Math.ceil((grid.scrollTop + grid.clientHeight) / CELL.height) + 1) * across);
    cells.forEach((cell, place) => {
      if (place < first || place >= end) { cell.remove(); cells.delete(place); }
    });
    for (let place = first; place < end; place += 1) {
      const cell = cells.get(place) || makeCell(place);
      cell.style.left = `${(place % across) * CELL.width}px`;
      cell.style.top = `${Math.floor(place / across) * CELL.height}px`;
    }
  };
  const makeCell = (place) => {
    const picture = shown[place];
    const cell = add(get("space"), "button");
    cell.className = "cell";
    cell.dataset.id = picture.id;
    cell.title = picture.name;
    const image = add(cell, "img");
    image.loading = "lazy";
    image.alt = picture.name;
    image.src = picture.thumbnail;
    add(cell, "span", picture.name);
    const oks = picture.oks === undefined || picture.oks === null ? "" : `, OKS ${percent(picture.oks)}`;
    add(cell, "span", `${count(picture)} ${count(picture) === 1 ? "person" : "people"}${oks}`);
    cell.addEventListener("click", () => open(place));
    cells.set(place, cell);
    return cell;
  };

  // ---- one picture, large
  const open = (place) => {
    if (place < 0 || place >= shown.length) return;
    current = place;
    people = null;
    const picture = shown[place];
    get("large-name").textContent = `${picture.name} (${place + 1} of ${shown.length})`;
    get("people").textContent = "";
    get("drawing").getContext("2d").clearRect(0, 0, get("drawing").width, get("drawing").height);
    get("picture").src = picture.image;
    if (!get("large").open) get("large").showModal();
    // A script rather than a request, so that the page works from a folder, too.
    const script = document.createElement("script");
    script.src = picture.people;
    script.addEventListener("load", () => script.remove());
    document.head.appendChild(script);
    location.replace("#" + new URLSearchParams(state()).toString());
  };
  window.posepipePeople = (id, document_) => {
    if (current < 0 || shown[current].id !== id) return; // another one was opened meanwhile
    people = document_;
    draw();
  };
  const checked = (id) => get(id).checked;
  const draw = () => {
    if (!people) return;
    const canvas = get("drawing"), image = get("picture"), stage = get("stage");
    const [width, height] = shown[current].size;
    const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
    [image.width, image.height] = [canvas.width, canvas.height] = [width * scale, height * scale].map(Math.round);
    const pen = canvas.getContext("2d");
    pen.font = "12px system-ui, sans-serif";
    pen.lineWidth = 2;
    const poses = people.poses.filter((pose) => pose.score >= least());
    if (checked("show-found")) poses.forEach((pose) => drawPerson(pen, pose, scale, all.leastConfidence));
    if (checked("show-labels")) people.labels.forEach((label) => drawPerson(pen, label, scale, 0.5, "#ffffff"));
    get("people").textContent = "";
    poses.forEach((pose) => {
      const parts = [...(pose.track > 0 ? [`person ${pose.track}`] : []), `score ${percent(pose.score)}`, `box ${percent(pose.boxScore)}`];
      if (pose.track !== undefined && pose.track !== null) parts.unshift(`id ${pose.track}`);
      if (pose.oks !== undefined) parts.push(pose.oks === null ? "about nobody" : `OKS ${percent(pose.oks)}`);
      Object.entries(pose.errors || {}).forEach(([kind, points]) => {
        if (kind !== "good") parts.push(`${kind}: ${points.map((point) => all.skeleton.keypoints[point]).join(", ")}`);
      });
      add(get("people"), "li", parts.join(" · "));
    });
  };
  // Integers are pixel centres: the middle of the first pixel is half a pixel from the edge.
  const drawPerson = (pen, person, scale, least_, colour) => {
    const points = person.keypoints, at = (k) => [(points[3 * k] + 0.5) * scale, (points[3 * k + 1] + 0.5) * scale];
    const there = (k) => points[3 * k + 2] >= least_;
    const sideOf = (k) => COLOURS[all.skeleton.sides[k]];
    all.skeleton.limbs.forEach(([from, to]) => {
      if (!there(from) || !there(to)) return;
      pen.strokeStyle = colour || (sideOf(from) === sideOf(to) ? sideOf(from) : COLOURS.middle);
      pen.beginPath(); pen.moveTo(...at(from)); pen.lineTo(...at(to)); pen.stroke();
    });
    all.skeleton.keypoints.forEach((name, k) => {
      if (!there(k)) return;
      const [x, y] = at(k);
      pen.fillStyle = colour || sideOf(k);
      pen.beginPath(); pen.arc(x, y, 3.5, 0, 2 * Math.PI); pen.fill();
      if (checked("show-confidences") && !colour) pen.fillText(percent(points[3 * k + 2]), x + 5, y - 5);
    });
    if (checked("show-boxes")) {
      const [left, top, right, bottom] = person.box.map((edge) => edge * scale);
      pen.strokeStyle = colour || "#d0d000";
      pen.strokeRect(left, top, right - left, bottom - top);
    }
    if (checked("show-ids") && person.id !== undefined) {
      pen.fillStyle = colour || "#d0d000";
      pen.fillText(String(person.track ?? person.id), person.box[0] * scale + 2, person.box[1] * scale + 12);
    }
  };

  // ---- the address says what is looked at, so that it can be sent to somebody
  const FIELDS = ["sort", "name", "least", "most", "score", "size", "error", "keypoint"];
  const state = () => {
    const fields = FIELDS.filter((id) => get(id).value !== "").map((id) => [id, get(id).value]);
    return current < 0 ? fields : [...fields, ["picture", shown[current].id]];
  };

  // ---- set up
  get("title").textContent = all.title;
  get("score").value = all.leastScore;
  all.errors.forEach((kind) => { add(get("error"), "option", kind).value = kind; });
  all.skeleton.keypoints.forEach((name, k) => { add(get("keypoint"), "option", name).value = k; });
  document.querySelectorAll("[data-needs]").forEach((element) => {
    if (!all.has.includes(element.dataset.needs)) { element.hidden = true; element.style.display = "none"; }
  });
  const given = new URLSearchParams(location.hash.slice(1));
  FIELDS.forEach((id) => { if (given.has(id)) get(id).value = given.get(id); });
  FIELDS.forEach((id) => get(id).addEventListener("input", choose));
  Object.values(SWITCHES).forEach((id) => get(id).addEventListener("change", draw));
  get("grid").addEventListener("scroll", layOut);
  window.addEventListener("resize", () => { layOut(); draw(); });
  get("previous").addEventListener("click", () => open(current - 1));
  get("next").addEventListener("click", () => open(current + 1));
  get("close").addEventListener("click", () => get("large").close());
  get("large").addEventListener("close", () => { current = -1; people = null; });
  document.addEventListener("keydown", (event) => {
    if (["INPUT", "SELECT"].includes(event.target.tagName) && event.target.type !== "checkbox") return;
    if (!get("large").open) return;
    if (event.key === "ArrowLeft") open(current - 1);
    else if (event.key === "ArrowRight") open(current + 1);
    else if (event.key in SWITCHES && !get(SWITCHES[event.key]).parentElement.hidden) {
      get(SWITCHES[event.key]).checked = !get(SWITCHES[event.key]).checked;
      draw();
    } else return;
    event.preventDefault();
  });
  choose();
  if (given.has("picture")) open(shown.findIndex((picture) => String(picture.id) === given.get("picture")));
})();
