// One picture, large: its layers, its people one by one, zoom, and the keys for them.
"use strict";
// page: {shown(), least(), keypoint(), withPeople(picture, then), moved()} of view.js.
window.posepipeLarge = (page) => {
  const all = window.posepipe;
  const { COLOURS, percent, drawSkeleton, drawConfidences, drawBox, drawName, drawErrors, penOf, fitted } = window.posepipeDraw;
  const get = (id) => document.getElementById(id);
  const SWITCHES = { p: "show-found", r: "show-before", l: "show-labels", e: "show-errors", b: "show-boxes", c: "show-confidences", i: "show-ids" };
  const hasPoses = all.has.includes("keypoints");
  const PLAY_MS = 100;
  const MOST_ZOOM = 40;
  let current = -1;    // place of the picture among those shown
  let people = null;   // its poses and labels
  let view = null;     // how it lies on the stage
  let chosen = null;   // the person looked at alone: "pose 0", "label 2"
  let hovered = null;
  let playing = false;

  const picture = () => page.shown()[current];
  const on = (id) => get(id).checked && !get(id).parentElement.hidden;
  const add = (parent, tag, text = "", className = "") => {
    const element = parent.appendChild(document.createElement(tag));
    element.textContent = text;
    element.className = className;
    return element;
  };

  // ---- opening, closing
  const open = (place) => {
    if (place < 0 || place >= page.shown().length) { playing = false; return; }
    [current, people, chosen, hovered] = [place, null, null, null];
    get("large-name").textContent = `${picture().name} (${place + 1} of ${page.shown().length})`;
    get("people").textContent = "";
    get("trouble").hidden = true;
    get("picture").src = picture().image;
    if (!get("large").open) get("large").showModal();
    fit();
    const number = picture().id;
    page.withPeople(picture(), (document_) => {
      if (current < 0 || picture().id !== number) return; // another one was opened meanwhile
      people = document_;
      list();
      draw();
      [place + 1, place - 1].forEach((near) => { // what comes next is there at once
        if (page.shown()[near]) new Image().src = page.shown()[near].image;
      });
    }, () => trouble());
    page.moved();
  };
  const trouble = () => {
    get("trouble").textContent = "This image did not arrive: posepipe view no longer runs, or the folder is not complete.";
    get("trouble").hidden = false;
  };
  get("picture").addEventListener("error", trouble);
  get("picture").addEventListener("load", () => { if (playing) setTimeout(() => { if (playing) open(current + 1); }, PLAY_MS); });
  get("large").addEventListener("close", () => {
    const place = current;
    [current, people, playing] = [-1, null, false];
    page.moved(place);
  });

  // ---- where the picture lies
  const room = () => [get("stage").clientWidth, get("stage").clientHeight];
  const fit = () => { view = fitted(picture().size, ...room()); draw(); };
  const least = () => fitted(picture().size, ...room()).scale;
  const zoom = (factor, x, y) => {
    const scale = Math.min(Math.max(view.scale * factor, least()), Math.max(MOST_ZOOM, least()));
    if (scale === least()) { fit(); return; }
    const by = scale / view.scale;
    view = { scale, left: x - (x - view.left) * by, top: y - (y - view.top) * by };
    draw();
  };
  const zoomInMiddle = (factor) => zoom(factor, ...room().map((side) => side / 2));
  get("stage").addEventListener("wheel", (event) => {
    const stage = get("stage").getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - stage.left, event.clientY - stage.top);
    event.preventDefault();
  }, { passive: false });
  get("stage").addEventListener("pointerdown", (event) => { get("stage").setPointerCapture(event.pointerId); event.preventDefault(); });
  get("stage").addEventListener("pointermove", (event) => {
    if (!get("stage").hasPointerCapture(event.pointerId) || !view) return;
    view = { ...view, left: view.left + event.movementX, top: view.top + event.movementY };
    draw();
  });
  get("stage").addEventListener("dblclick", () => fit());
  new ResizeObserver(() => { if (current >= 0) fit(); }).observe(get("stage"));

  // ---- the people, in words
  const list = () => {
    get("people").textContent = "";
    const line = (id, head, details, colour) => {
      const item = add(get("people"), "li");
      const first = add(item, "div");
      if (colour) add(first, "span", "", "dot").style.background = colour;
      first.append(head);
      details.forEach((detail) => {
        const row = add(item, "div", "", "detail");
        if (detail.colour) add(row, "span", "", "dot").style.background = detail.colour;
        row.append(detail.text);
      });
      item.dataset.person = id;
      item.addEventListener("mouseenter", () => { hovered = id; draw(); });
      item.addEventListener("mouseleave", () => { hovered = null; draw(); });
      item.addEventListener("click", () => {
        chosen = chosen === id ? null : id;
        get("people").querySelectorAll("li").forEach((other) => other.classList.toggle("chosen", other.dataset.person === chosen));
        draw();
      });
    };
    const poses = people.poses.filter((pose) => pose.score >= page.least());
    poses.forEach((pose) => {
      const oks = pose.oks === undefined ? "" : ` · OKS ${percent(pose.oks)}`;
      const details = [{ text: `score ${percent(pose.score)}${hasPoses ? ` · box ${percent(pose.boxScore)}` : ""}` }];
      if (all.has.includes("judged") && !pose.errors) details.push({ text: "not judged: ignored as COCO does, or a second pose of somebody" });
      Object.entries(pose.errors || {}).forEach(([kind, points]) => {
        if (kind === "good") return;
        const where = points.map((k) => all.skeleton.keypoints[k]).join(", ");
        details.push({ colour: COLOURS[kind], text: where ? `${kind}: ${where}` : `${kind}: fits no labelled person` });
      });
      line(`pose ${pose.id}`, `Person ${nameOf(pose)}${oks}`, details);
    });
    people.labels.forEach((label, place) => {
      if (label.missed) line(`label ${place}`, "Missed person", [{ text: `label ${label.id}` }], COLOURS["false negative"]);
    });
    const hidden = people.poses.length - poses.length;
    if (hidden) add(get("people"), "li", `${hidden} with a score below ${page.least().toFixed(2)}`, "note");
    if (!get("people").children.length) add(get("people"), "li", "nobody", "note");
  };
  const nameOf = (pose) => String(pose.track > 0 ? pose.track : pose.id);

  // ---- the drawing
  const draw = () => {
    if (current < 0) return;
    const image = get("picture"), [width, height] = picture().size;
    image.style.left = `${view.left}px`;
    image.style.top = `${view.top}px`;
    image.style.width = `${width * view.scale}px`;
    image.style.height = `${height * view.scale}px`;
    image.style.imageRendering = view.scale > 4 ? "pixelated" : "auto";
    const pen = penOf(get("drawing"));
    if (!people) return;
    const alone = hovered || chosen;
    const about = (person) => { pen.globalAlpha = !alone || alone === person ? 1 : 0.15; };
    const poses = people.poses.filter((pose) => pose.score >= page.least());
    const labelOf = (pose) => people.labels[pose.label];
    people.labels.forEach((label, place) => {
      const itsPose = poses.find((pose) => pose.label === place);
      about(itsPose && alone === `pose ${itsPose.id}` ? alone : `label ${place}`);
      const missed = label.missed && on("show-errors");
      if (on("show-labels") || alone === `label ${place}`) drawSkeleton(pen, label, view, { colour: COLOURS.label, least: 0.5 });
      if (missed) drawBox(pen, label, view, COLOURS["false negative"], [6, 4]);
      else if (on("show-labels") && on("show-boxes")) drawBox(pen, label, view, COLOURS.label);
      if (on("show-labels") && on("show-ids")) drawName(pen, String(label.id), label, view, COLOURS.label);
    });
    if (on("show-before")) {
      pen.globalAlpha = alone ? 0.15 : 1;
      people.before.filter((pose) => pose.score >= page.least())
        .forEach((pose) => drawSkeleton(pen, pose, view, { colour: COLOURS.before }));
    }
    if (on("show-found") || !hasPoses) poses.forEach((pose) => {
      about(`pose ${pose.id}`);
      drawSkeleton(pen, pose, view);
      if (on("show-errors")) drawErrors(pen, pose, labelOf(pose), view, page.keypoint());
      if (on("show-confidences")) drawConfidences(pen, pose, view);
      if (on("show-boxes")) drawBox(pen, pose, view, COLOURS.box);
      if (on("show-ids") || alone === `pose ${pose.id}`) drawName(pen, nameOf(pose), pose, view, COLOURS.box);
    });
    pen.globalAlpha = 1;
  };

  // ---- buttons and keys
  Object.values(SWITCHES).forEach((id) => get(id).addEventListener("change", draw));
  get("previous").addEventListener("click", () => open(current - 1));
  get("next").addEventListener("click", () => open(current + 1));
  get("close").addEventListener("click", () => get("large").close());
  const KEYS = {
    ArrowLeft: () => open(current - 1), ArrowRight: () => open(current + 1),
    ArrowUp: () => open(current - 1), ArrowDown: () => open(current + 1),
    PageUp: () => open(Math.max(0, current - 10)), PageDown: () => open(Math.min(page.shown().length - 1, current + 10)),
    Home: () => open(0), End: () => open(page.shown().length - 1),
    "+": () => zoomInMiddle(1.5), "=": () => zoomInMiddle(1.5), "-": () => zoomInMiddle(1 / 1.5), 0: () => fit(),
    " ": () => { playing = !playing; if (playing) open(current + 1); },
  };
  const key = (name) => {
    if (name in KEYS) { if (name !== " ") playing = false; KEYS[name](); return true; }
    if (!(name in SWITCHES) || get(SWITCHES[name]).parentElement.hidden) return false;
    get(SWITCHES[name]).click();
    return true;
  };
  return { open, key, current: () => current };
};
