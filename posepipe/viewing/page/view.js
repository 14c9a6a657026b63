// The page of `posepipe view`. Everything from files (names, labels) is set as text, never as markup.
"use strict";
(() => {
  const all = window.posepipe;
  const { COLOURS, percent, drawSkeleton, drawBox, penOf, fitted } = window.posepipeDraw;
  const get = (id) => document.getElementById(id);
  const CELL = { width: 200, height: 190 };  // the least width
  const FILL_MS = 80;     // cells that are scrolled past in less stay empty
  const KEPT = 600;       // pictures whose people and thumbnails stay in memory
  let shown = [];         // the pictures that pass the filters, in order
  let cursor = 0;         // the cell that keys move
  const cells = new Map();

  const add = (parent, tag, text = "", className = "") => {
    const element = parent.appendChild(document.createElement(tag));
    element.textContent = text;
    element.className = className;
    return element;
  };
  const keep = (map, key, value) => {
    map.set(key, value);
    if (map.size > KEPT) map.delete(map.keys().next().value);
    return value;
  };

  // ---- the people of a picture: scripts rather than requests, so that the page works from a folder
  const documents = new Map(), waiting = new Map();
  const withPeople = (picture, then, failed = () => {}) => {
    if (documents.has(picture.id)) { then(documents.get(picture.id)); return; }
    const asked = waiting.has(picture.id);
    waiting.set(picture.id, [...(waiting.get(picture.id) || []), { then, failed }]);
    if (asked) return;
    const script = document.createElement("script");
    const done = () => { script.remove(); waiting.delete(picture.id); };
    script.addEventListener("load", done);
    script.addEventListener("error", () => { waiting.get(picture.id).forEach((one) => one.failed()); done(); });
    script.src = picture.people;
    document.head.appendChild(script);
  };
  window.posepipePeople = (id, document_) => {
    keep(documents, id, document_);
    (waiting.get(id) || []).forEach((one) => one.then(document_));
  };

  // ---- which pictures, in which order
  const names = new Intl.Collator(undefined, { numeric: true });
  [...all.pictures].sort((a, b) => names.compare(a.name, b.name) || a.id - b.id)
    .forEach((picture, place) => { picture.byName = place; });
  const ascending = (value) => (pictures) => pictures  // those without a value come last
    .map((picture) => [value(picture) ?? Infinity, picture])
    .sort(([one, a], [other, b]) => (one === other ? a.byName - b.byName : one - other))
    .map(([, picture]) => picture);
  const ORDERS = {
    name: ascending((picture) => picture.byName),
    oks: ascending((picture) => picture.oks),
    change: ascending((picture) => picture.change),
    gain: ascending((picture) => (picture.change === undefined ? undefined : -picture.change)),
    people: ascending((picture) => -count(picture)),
    score: ascending((picture) => lowest(picture)),
  };
  const least = () => Number(get("score").value);
  const count = (picture) => picture.scores.filter((score) => score >= least()).length;
  const lowest = (picture) => {
    const kept = picture.scores.filter((score) => score >= least());
    return kept.length ? Math.min(...kept) : undefined;
  };
  const number = (id, otherwise) => (get(id).value === "" ? otherwise : Number(get(id).value));
  const keypoint = () => number("keypoint", undefined);
  const passes = (picture) => {
    const people = count(picture);
    if (people < number("least", 0) || people > number("most", Infinity)) return false;
    if (!picture.name.toLowerCase().includes(get("name").value.toLowerCase())) return false;
    const size = get("size").value, error = get("error").value;
    if (size && !(picture.sizes || []).includes(size)) return false;
    if (!error && keypoint() === undefined) return true;
    const errors = picture.errors || {};
    if (all.poseErrors.includes(error)) return error in errors;
    const kinds = error ? [error] : all.errors.filter((kind) => kind !== "good");
    return kinds.some((kind) => kind in errors && (keypoint() === undefined || errors[kind].includes(keypoint())));
  };
  const choose = () => {
    get("score-value").textContent = least().toFixed(2);
    get("keypoint").disabled = all.poseErrors.includes(get("error").value);
    shown = ORDERS[get("sort").value](all.pictures.filter(passes));
    get("count").textContent = `${shown.length} of ${all.pictures.length} images`;
    get("nothing").hidden = shown.length > 0;
    get("clear").hidden = FILTERS.every((id) => get(id).value === initial[id]);
    cells.forEach((cell) => cell.remove());
    cells.clear();
    cursor = 0;
    get("grid").scrollTop = 0;
    layOut();
    fill();
    tell();
  };

  // ---- the grid: only the cells in view exist
  const columns = () => Math.max(1, Math.floor(get("grid").clientWidth / CELL.width));
  const layOut = () => {
    const grid = get("grid"), across = columns(), width = grid.clientWidth / across;
    get("space").style.height = `${Math.ceil(shown.length / across) * CELL.height}px`;
    const first = Math.max(0, Math.floor(grid.scrollTop / CELL.height) - 1) * across;
    const end = Math.min(shown.length, (Math.ceil((grid.scrollTop + grid.clientHeight) / CELL.height) + 1) * across);
    cells.forEach((cell, place) => {
      if (place >= first && place < end) return;
      const thumbnail = thumbnails.get(shown[place].id);
      if (thumbnail && !thumbnail.complete) { // no longer wanted: those in view come first
        thumbnail.src = "";
        thumbnails.delete(shown[place].id);
      }
      cell.remove();
      cells.delete(place);
    });
    for (let place = first; place < end; place += 1) {
      const cell = cells.get(place) || makeCell(place);
      cell.style.width = `${width}px`;
      cell.style.left = `${(place % across) * width}px`;
      cell.style.top = `${Math.floor(place / across) * CELL.height}px`;
    }
  };
  const makeCell = (place) => {
    const picture = shown[place];
    const cell = add(get("space"), "button", "", "cell");
    cell.dataset.id = picture.id;
    cell.title = picture.name;
    cell.tabIndex = place === cursor ? 0 : -1;
    add(cell, "span", "", "frame");
    add(cell, "span", picture.name, "line");
    const all_ = picture.scores.length, people = count(picture);
    const parts = [`${people}${people < all_ ? ` of ${all_}` : ""} ${all_ === 1 ? "person" : "people"}`];
    if ((picture.oks ?? null) !== null) {
      const change = picture.change ? ` (${picture.change > 0 ? "+" : "−"}${percent(Math.abs(picture.change))})` : "";
      parts.unshift(`OKS ${percent(picture.oks)}${change}`);
    }
    if (picture.missed) parts.push(`${picture.missed} missed`);
    add(cell, "span", parts.join(" · "), "line");
    cell.addEventListener("focus", () => { cursor = place; });
    cell.addEventListener("click", () => large.open(place));
    cells.set(place, cell);
    return cell;
  };
  const thumbnails = new Map();
  const fill = () => cells.forEach((cell, place) => {
    const frame = cell.querySelector(".frame"), picture = shown[place];
    if (frame.children.length) return;
    const image = thumbnails.get(picture.id) || keep(thumbnails, picture.id, new Image());
    if (!image.src) image.src = picture.thumbnail;
    image.alt = picture.name;
    frame.appendChild(image);
    add(frame, "canvas");
    sketch(cell, picture);
  });
  const sketch = (cell, picture) => {
    const canvas = cell.querySelector("canvas");
    if (!canvas) return;
    if (!get("show-skeletons").checked) { canvas.width = canvas.height = 0; return; }
    withPeople(picture, (people) => {
      if (!canvas.isConnected) return;
      const pen = penOf(canvas), view = fitted(picture.size, canvas.clientWidth, canvas.clientHeight);
      const [width, height] = picture.size.map((side) => side * view.scale);
      pen.beginPath(); pen.rect(view.left, view.top, width, height); pen.clip();
      people.poses.filter((pose) => pose.score >= least()).forEach((pose) => {
        if (all.has.includes("keypoints")) drawSkeleton(pen, pose, view, { width: 1.5, dots: 0 });
        else drawBox(pen, pose, view, COLOURS.box);
      });
    });
  };
  const sketchAll = () => cells.forEach((cell, place) => sketch(cell, shown[place]));
  let filling = 0, before = 0;
  const fillSoon = () => {
    filling = filling || setTimeout(() => {
      const grid = get("grid"), moved = Math.abs(grid.scrollTop - before);
      [filling, before] = [0, grid.scrollTop];
      if (moved < grid.clientHeight / 2) fill();
      else fillSoon();
    }, FILL_MS);
  };
  const scrolled = () => { layOut(); fillSoon(); };
  const moveTo = (place) => {
    if (!shown.length) return;
    cursor = Math.min(Math.max(place, 0), shown.length - 1);
    const grid = get("grid"), top = Math.floor(cursor / columns()) * CELL.height;
    grid.scrollTop = Math.min(Math.max(grid.scrollTop, top + CELL.height - grid.clientHeight), top);
    layOut();
    fill();
    cells.get(cursor).focus({ preventScroll: true });
  };

  // ---- the address says what is looked at, so that it can be sent to somebody
  const FILTERS = ["name", "least", "most", "score", "size", "error", "keypoint"];
  const FIELDS = ["sort", ...FILTERS];
  const initial = {};
  let told = null;
  const tell = () => {
    const fields = FIELDS.filter((id) => get(id).value !== "").map((id) => [id, get(id).value]);
    if (large.current() >= 0) fields.push(["picture", shown[large.current()].id]);
    told = new URLSearchParams(fields).toString();
    location.replace(`#${told}`);
  };
  const follow = () => {
    if (location.hash.slice(1) === told) return;
    const given = new URLSearchParams(location.hash.slice(1));
    FIELDS.forEach((id) => {
      get(id).value = given.get(id) ?? initial[id];
      if (get(id).selectedIndex === -1) get(id).value = initial[id];
    });
    choose();
    if (given.has("picture")) large.open(shown.findIndex((picture) => String(picture.id) === given.get("picture")));
    else get("large").close();
  };

  // ---- set up
  get("title").textContent = all.title;
  if (!all.has.includes("keypoints")) get("show-boxes").checked = true; // there is nothing else
  get("score").value = all.minScore;
  [...all.errors, ...all.poseErrors].forEach((kind) => { add(get("error"), "option", kind).value = kind; });
  all.skeleton.keypoints.forEach((name, k) => { add(get("keypoint"), "option", name).value = k; });
  document.querySelectorAll("[data-needs]").forEach((element) => {
    if (!all.has.includes(element.dataset.needs)) { element.hidden = true; element.disabled = true; }
  });
  const explain = (colour, text) => {
    const row = add(get("colours"), "tr");
    add(add(row, "td"), "span", "", "dot").style.background = COLOURS[colour];
    add(row, "td", text);
  };
  explain("left", "the person's left side");
  explain("right", "the person's right side");
  explain("middle", "between the sides");
  explain("box", "boxes and ids of poses");
  if (all.has.includes("before")) explain("before", "the poses before");
  if (all.has.includes("labels")) explain("label", "labels");
  if (all.has.includes("judged")) {
    explain("jitter", "ring: jitter; the dashed line leads to the label");
    explain("inversion", "ring: inversion, left for right");
    explain("swap", "ring: swap, another person's");
    explain("miss", "ring: miss; dashed box: a false positive or a missed person");
  }
  const large = window.posepipeLarge({
    shown: () => shown, least, keypoint, withPeople,
    moved: (closed) => { tell(); if (closed !== undefined) moveTo(closed); },
  });
  FIELDS.forEach((id) => { initial[id] = get(id).value; get(id).addEventListener("input", choose); });
  get("show-skeletons").addEventListener("change", sketchAll);
  get("clear").addEventListener("click", () => { FILTERS.forEach((id) => { get(id).value = initial[id]; }); choose(); });
  get("help").addEventListener("click", () => get("keys").showModal());
  get("grid").addEventListener("scroll", scrolled);
  window.addEventListener("resize", () => { layOut(); fill(); sketchAll(); });
  window.addEventListener("hashchange", follow);
  const rows = () => Math.max(1, Math.floor(get("grid").clientHeight / CELL.height)) * columns();
  const KEYS = {
    ArrowLeft: () => moveTo(cursor - 1), ArrowRight: () => moveTo(cursor + 1),
    ArrowUp: () => moveTo(cursor - columns()), ArrowDown: () => moveTo(cursor + columns()),
    PageUp: () => moveTo(cursor - rows()), PageDown: () => moveTo(cursor + rows()),
    Home: () => moveTo(0), End: () => moveTo(shown.length - 1),
    Enter: () => large.open(cursor),
    s: () => get("show-skeletons").click(), "/": () => get("name").focus(), "?": () => get("keys").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || get("keys").open) return;
    const typed = event.target.closest("input, select");
    if (typed && typed.type !== "checkbox") {
      if (event.key === "Escape") typed.blur();
      return;
    }
    if ([" ", "Enter"].includes(event.key) && event.target.closest("button:not(.cell), input")) return;
    if (get("large").open) {
      if (event.key === "?") get("keys").showModal();
      else if (!large.key(event.key)) return;
    } else if (event.key in KEYS) KEYS[event.key]();
    else return;
    event.preventDefault();
  });
  if (location.hash.length > 1) follow();
  else choose();
})();
