// People on canvases: skeletons, boxes, and what is wrong with their keypoints.
"use strict";
(() => {
  const { skeleton, minConfidence } = window.posepipe;
  const COLOURS = {
    left: "#ff9500", right: "#2f9bff", middle: "#6bd66b", label: "#ffffff", before: "#ff5fd2", box: "#d0d000",
    jitter: "#ffe066", inversion: "#3df5e3", swap: "#c77dff", miss: "#ff4040",
    "false positive": "#ff4040", "false negative": "#ff4040",
  };
  const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(0));

  // A view maps pixels of the picture to those of the canvas. Integers are pixel centres: the middle
  // of the first pixel is half a pixel from the edge. Edges of boxes are continuous.
  const at = (view, x, y) => [(x + 0.5) * view.scale + view.left, (y + 0.5) * view.scale + view.top];
  const point = (view, person, k) => at(view, person.keypoints[3 * k], person.keypoints[3 * k + 1]);
  const there = (person, k, least) => person.keypoints[3 * k + 2] >= least;
  const sideOf = (k) => COLOURS[skeleton.sides[k]];

  const line = (pen, colour, from, to) => {
    pen.strokeStyle = colour;
    pen.beginPath(); pen.moveTo(...from); pen.lineTo(...to); pen.stroke();
  };
  const drawSkeleton = (pen, person, view, { colour, width = 2, dots = 3.5, least = minConfidence } = {}) => {
    pen.lineWidth = width;
    skeleton.limbs.forEach(([from, to]) => {
      if (!there(person, from, least) || !there(person, to, least)) return;
      const side = sideOf(from) === sideOf(to) ? sideOf(from) : COLOURS.middle;
      line(pen, colour || side, point(view, person, from), point(view, person, to));
    });
    if (!dots) return;
    skeleton.keypoints.forEach((_, k) => {
      if (!there(person, k, least)) return;
      pen.fillStyle = colour || sideOf(k);
      pen.beginPath(); pen.arc(...point(view, person, k), dots, 0, 2 * Math.PI); pen.fill();
    });
  };
  const drawConfidences = (pen, person, view) => skeleton.keypoints.forEach((_, k) => {
    if (!there(person, k, minConfidence)) return;
    const [x, y] = point(view, person, k);
    write(pen, percent(person.keypoints[3 * k + 2]), sideOf(k), x + 5, y - 5);
  });
  const write = (pen, text, colour, x, y) => {
    pen.lineWidth = 3;
    pen.strokeStyle = "#000000";
    pen.strokeText(text, x, y);
    pen.fillStyle = colour;
    pen.fillText(text, x, y);
  };
  const drawBox = (pen, person, view, colour, dashes = []) => {
    const [left, top, right, bottom] = person.box.map((edge, side) => edge * view.scale + (side % 2 ? view.top : view.left));
    pen.lineWidth = 2;
    pen.strokeStyle = colour;
    pen.setLineDash(dashes);
    pen.strokeRect(left, top, right - left, bottom - top);
    pen.setLineDash([]);
  };
  const drawName = (pen, name, person, view, colour) =>
    write(pen, name, colour, person.box[0] * view.scale + view.left + 3, person.box[1] * view.scale + view.top + 13);
  // A ring about every keypoint that is not good, and a line to where it should be.
  const drawErrors = (pen, pose, label, view, only) => Object.entries(pose.errors || {}).forEach(([kind, points]) => {
    if (kind === "good") return;
    if (kind === "false positive") drawBox(pen, pose, view, COLOURS[kind], [6, 4]);
    points.forEach((k) => {
      if (only !== undefined && k !== only) return;
      pen.lineWidth = 1.5;
      pen.setLineDash([4, 3]);
      if (label) line(pen, COLOURS[kind], point(view, pose, k), point(view, label, k));
      pen.setLineDash([]);
      pen.lineWidth = 2.5;
      pen.beginPath(); pen.arc(...point(view, pose, k), 7, 0, 2 * Math.PI); pen.stroke();
    });
  });
  // A canvas as sharp as the screen: its pen draws in CSS pixels.
  const penOf = (canvas) => {
    const sharp = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * sharp);
    canvas.height = Math.round(canvas.clientHeight * sharp);
    const pen = canvas.getContext("2d");
    pen.scale(sharp, sharp);
    pen.font = "12px system-ui, sans-serif";
    pen.lineJoin = "round";
    return pen;
  };
  const fitted = ([width, height], roomWidth, roomHeight) => {
    const scale = Math.min(roomWidth / width, roomHeight / height);
    return { scale, left: (roomWidth - width * scale) / 2, top: (roomHeight - height * scale) / 2 };
  };
  window.posepipeDraw = { COLOURS, percent, drawSkeleton, drawConfidences, drawBox, drawName, drawErrors, penOf, fitted };
})();
