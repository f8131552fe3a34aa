// The page's own script: sorting, and what is built only when it is opened.
// Whatever a record says becomes text nodes and attributes here, never markup.
"use strict";
(() => {
  const RUNS = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = 7, LOOKS = 2 * COLOURS;

  function fill(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key.startsWith("--")) node.style.setProperty(key, value);
      else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== ""));
    return node;
  }
  const el = (tag, attributes = {}, ...children) =>
    fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS(SVG, tag), attributes, children);

  const short = (text, n) =>
    text.length <= n ? text : text.slice(0, n / 3) + "…" + text.slice(text.length - n + 1 + n / 3);
  const named = (text, n = 32) =>
    el("bdi", text.length > n ? { title: text } : {}, short(text, n));
  const count = (n) => n.toLocaleString("en");
  const share = (value) => value.toFixed(3);
  const heading = (level, text) => el("h" + Math.min(6, level), {}, text);
  const group = (label, ...children) =>
    el("div", { class: "scroll tall", tabindex: "0", role: "group", "aria-label": label }, ...children);

  // Tables that sort ---------------------------------------------------------------------------
  function compare(a, b) {
    const x = a.dataset.v, y = b.dataset.v;
    if (x !== undefined && y !== undefined) return x - y;
    return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  }
  function sortBy(header) {
    const table = header.closest("table"), body = table.tBodies[0], i = header.cellIndex;
    const order = header.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
    const missing = (row) => ["-", ""].includes(row.cells[i].textContent.trim());
    const rows = [...body.rows], sign = order === "ascending" ? 1 : -1;
    const there = rows.filter((row) => !missing(row));
    there.sort((a, b) => sign * compare(a.cells[i], b.cells[i]));
    body.append(...there, ...rows.filter(missing));
    for (const other of table.tHead.rows[0].cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    header.setAttribute("aria-sort", order);
  }
  document.addEventListener("click", (event) => {
    const header = event.target.closest("th[aria-sort]");
    if (header && event.target.closest("button")) sortBy(header);
  });

  // Images -------------------------------------------------------------------------------------
  function tile(run, image, text) {
    const sheet = RUNS[run].sheet, number = image[2];
    if (!sheet || sheet.shown === undefined || number === null) return el("span", { class: "tile none" }, "no image kept");
    const at = (n) => -n * sheet.shown + "px";
    return el("span", {
      class: "tile sheet-" + run, role: "img", "aria-label": text,
      "--t": sheet.shown + "px", "--columns": sheet.columns,
      "--x": at(number % sheet.columns), "--y": at(Math.floor(number / sheet.columns)),
    });
  }
  function card(run, names, image) {
    const [index, label, , predicted, score] = image;
    const parts = [el("span", {}, "true ", named(names.get(label)))];
    if (predicted !== null) parts.push(el("span", {}, "predicted ", named(names.get(predicted))));
    if (score !== null) parts.push(el("span", {}, "score " + score.toFixed(2)));
    parts.push(el("span", { class: "faint" }, "image " + index));
    return el("figure", { class: "card" },
      tile(run, image, "image " + index), el("figcaption", {}, ...parts));
  }

  // A result on a split ------------------------------------------------------------------------
  function reportTable(of, names) {
    const row = (name, s) => el("tr", {}, el("th", { scope: "row" }, name),
      ...s.map((v, i) => el("td", {}, i < 3 ? share(v) : count(v))));
    const header = ["class", "precision", "recall", "F1", "support"];
    return group("Classification report, " + of.title, el("table", {},
      el("caption", {}, "Classification report, " + of.title),
      el("thead", {}, el("tr", {}, header.map((h, i) => el("th", { scope: "col", class: i ? null : "left" }, h)))),
      el("tbody", {}, of.labels.map((label, i) => row(named(names.get(label)), of.scores[i])),
        row("macro avg", of.macro), row("weighted avg", of.weighted))));
  }

  const VIEWS = {
    plain: { title: "Counts", text: (n) => count(n) },
    normalized: { title: "Share of the true class", text: (n, all) => (n / all).toFixed(2) },
    errors: { title: "Without the diagonal", text: (n) => count(n) },
  };

  function matrix(of, names, show) {
    const k = of.labels.length, cells = [];
    const totals = of.confusion.map((row) => Math.max(1, row.reduce((a, b) => a + b, 0)));
    let worst = 1;
    of.confusion.forEach((row, i) => row.forEach((n, j) => { if (i !== j && n > worst) worst = n; }));
    const rows = of.confusion.map((row, i) => el("tr", {},
      el("th", { scope: "row" }, named(names.get(of.labels[i]), 16)),
      row.map((n, j) => {
        if (n === 0) return el("td", {}, k <= 12 ? "0" : "");
        const button = el("button", { type: "button", tabindex: "-1",
          onclick: () => show(of.labels[i], of.labels[j], n) });
        button.dataset.label = of.labels[i];
        button.dataset.predicted = of.labels[j];
        cells.push({ button, i, j, n });
        return el("td", {}, button);
      })));
    const table = el("table", { class: "matrix" + (k > 12 ? " many" : "") },
      el("caption", {}, "Confusion matrix, " + of.title),
      el("thead", {}, el("tr", {}, el("td", {}), of.labels.map((label) =>
        el("th", { scope: "col" }, named(names.get(label), 16))))),
      el("tbody", {}, rows));
    function view(kind) {
      for (const { button, i, j, n } of cells) {
        const hidden = kind === "errors" && i === j;
        const text = hidden ? "" : VIEWS[kind].text(n, totals[i]);
        const heat = kind === "errors" ? (hidden ? 0 : n / worst) : n / totals[i];
        button.textContent = text;
        button.disabled = hidden;
        button.parentNode.style.setProperty("--v", heat.toFixed(3));
        button.setAttribute("aria-label",
          `true ${short(names.get(of.labels[i]), 60)}, predicted ${short(names.get(of.labels[j]), 60)}: ${text}`);
      }
      const usable = cells.map((cell) => cell.button).filter((button) => !button.disabled);
      const stop = usable.find((button) => button.tabIndex === 0) || usable[0];
      for (const { button } of cells) button.tabIndex = button === stop ? 0 : -1;
    }
    // One stop for the tabulator; arrows go from cell to cell, over empty ones.
    table.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const from = event.target.closest("td");
      if (!step || !from) return;
      event.preventDefault();
      let row = from.parentNode.sectionRowIndex + step[0], column = from.cellIndex + step[1];
      for (; row >= 0 && row < k && column >= 1 && column <= k; row += step[0], column += step[1]) {
        const button = table.tBodies[0].rows[row].cells[column].querySelector("button:enabled");
        if (!button) continue;
        for (const cell of cells) cell.button.tabIndex = -1;
        button.tabIndex = 0;
        button.focus();
        return;
      }
    });
    const toggles = Object.entries(VIEWS).map(([kind, { title }]) => el("button", {
      type: "button", "aria-pressed": String(kind === "plain"),
      onclick: (event) => {
        for (const other of toggles) other.setAttribute("aria-pressed", String(other === event.currentTarget));
        view(kind);
      } }, title));
    view("plain");
    return [el("div", { class: "toggles", role: "group", "aria-label": "Show the matrix as" }, toggles),
      group("Confusion matrix, " + of.title, table),
      el("p", { class: "hint" }, "Rows are true classes, columns predicted ones. Click a cell, or move with the arrow keys and press Enter, to see its images.")];
  }

  function shownImages(run, shown, names) {
    const said = el("p", { "aria-live": "polite", class: "said" });
    const cards = el("div", { class: "cards" });
    // What is said stands outside of what is hidden: a live region that appears is not read.
    const panel = el("div", { class: "shown", hidden: true }, cards);
    function show(label, predicted, n) {
      const cell = ((shown && shown.cells) || []).find((c) => c[0] === label && c[1] === predicted);
      const images = cell ? cell[3] : [];
      const kept = images.length ? `${images.length} shown, most confident first` : "no images were kept";
      said.replaceChildren("True ", named(names.get(label)), ", predicted ",
        named(names.get(predicted)), `: ${count(n)} images; ${kept}.`);
      cards.replaceChildren(...images.map((image) => card(run, names, image)));
      panel.hidden = false;
    }
    return { parts: [said, panel], show };
  }

  function confusedPairs(of, names, show) {
    const pairs = [];
    of.confusion.forEach((row, i) => row.forEach((n, j) => { if (i !== j && n) pairs.push([n, i, j]); }));
    pairs.sort((a, b) => b[0] - a[0]);
    if (!pairs.length) return [el("p", {}, "There is no error.")];
    return [el("p", {}, "Most confused:"), el("ul", { class: "pairs" }, pairs.slice(0, 6).map(([n, i, j]) => el("li", {},
      el("button", { type: "button", onclick: () => show(of.labels[i], of.labels[j], n) },
        named(names.get(of.labels[i]), 24), " taken for ", named(names.get(of.labels[j]), 24), `: ${count(n)}`))))];
  }

  function errorBars(of, names) {
    const rows = of.labels.map((label, i) => {
      const column = of.confusion.reduce((sum, row) => sum + row[i], 0);
      const all = of.confusion[i].reduce((a, b) => a + b, 0), right = of.confusion[i][i];
      return { name: names.get(label), missed: all - right, wrong: column - right };
    }).sort((a, b) => b.missed + b.wrong - a.missed - a.wrong).slice(0, 30);
    const most = Math.max(1, ...rows.map((row) => Math.max(row.missed, row.wrong)));
    const high = 34, left = 124, wide = 205;
    const words = rows.slice(0, 10).map((r) => `${short(r.name, 30)} ${r.missed} missed, ${r.wrong} wrongly named`);
    const chart = svg("svg", { class: "chart", role: "img", viewBox: `0 0 380 ${rows.length * high + 28}`,
      "--w": "380px", "aria-label": `Errors per class, ${of.title}: ${words.join("; ")}` });
    chart.append(svg("rect", { class: "fill s1", x: left, y: 4, width: 10, height: 10 }),
      svg("text", { x: left + 15, y: 13 }, "missed"),
      svg("rect", { class: "fill s5", x: left + 90, y: 4, width: 10, height: 10 }),
      svg("text", { x: left + 105, y: 13 }, "wrongly named so"));
    rows.forEach((row, i) => {
      const y = 24 + i * high;
      chart.append(svg("text", { x: left - 6, y: y + 17, "text-anchor": "end" }, short(row.name, 18)));
      [[row.missed, "s1"], [row.wrong, "s5"]].forEach(([n, kind], j) => chart.append(
        svg("rect", { class: "fill " + kind, x: left, y: y + 13 * j, width: (n / most) * wide, height: 12 }),
        svg("text", { x: left + (n / most) * wide + 4, y: y + 13 * j + 10 }, count(n))));
    });
    const more = of.labels.length > 30 ? ` The 30 of ${of.labels.length} with most errors.` : "";
    return el("figure", {}, group("Errors per class, " + of.title, chart), el("figcaption", {},
      "Errors per class: images of the class that were missed, and others that were named so." + more));
  }

  // Charts of shares against shares ------------------------------------------------------------
  function unitChart(label, xTitle, yTitle) {
    const chart = svg("svg", { class: "chart", role: "img", viewBox: "0 0 380 350", "--w": "380px", "aria-label": label });
    const x = (v) => 50 + 315 * v, y = (v) => 300 - 285 * v;
    for (const v of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
      chart.append(svg("path", { class: "grid", d: `M50 ${y(v)}H365M${x(v)} 15V300` }),
        svg("text", { x: 44, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(1)),
        svg("text", { x: x(v), y: 317, "text-anchor": "middle" }, v.toFixed(1)));
    }
    chart.append(svg("text", { x: 207, y: 340, "text-anchor": "middle" }, xTitle),
      svg("text", { x: 14, y: 157, "text-anchor": "middle", transform: "rotate(-90 14 157)" }, yTitle));
    return { chart, x, y };
  }

  function curves(of, list, names) {
    const words = list.slice(0, 10).map(([label, ap]) => `${short(names.get(label), 30)} ${share(ap)}`);
    const { chart, x, y } = unitChart(`Precision and recall per class, ${of.title}; average precision: ${words.join(", ")}`, "recall", "precision");
    const drawn = list.map(([label, , recall, precision], i) => {
      const d = "M" + recall.map((r, p) => `${x(r).toFixed(1)} ${y(precision[p]).toFixed(1)}`).join("L");
      const line = svg("path", { class: `line s${i % COLOURS}${i % LOOKS >= COLOURS ? " dashed" : ""}`, d });
      chart.append(line);
      return line;
    });
    const mark = (i) => drawn.forEach((line, j) => line.classList.toggle("pale", i !== null && i !== j));
    const buttons = list.map(([label, ap], i) => el("button", {
      type: "button", class: `s${i % COLOURS}`, "aria-pressed": "false",
      onclick: (event) => {
        const on = event.currentTarget.getAttribute("aria-pressed") === "true";
        buttons.forEach((button) => button.setAttribute("aria-pressed", "false"));
        event.currentTarget.setAttribute("aria-pressed", String(!on));
        mark(on ? null : i);
      } }, el("span", { class: "key" }), named(names.get(label), 20), " " + share(ap)));
    return el("figure", {}, group("Precision and recall, " + of.title, chart),
      el("div", { class: "keys", role: "group", "aria-label": "Classes, with average precision" }, buttons),
      el("figcaption", {}, "Precision against recall per class, with average precision. Press a class to see its line alone."));
  }

  function reliability(of, r) {
    const { chart, x, y } = unitChart(`Reliability, ${of.title}: expected calibration error ${share(r.ece)}`, "confidence", "accuracy");
    const most = Math.max(...r.n);
    chart.append(svg("path", { class: "line s6 dashed", d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}` }));
    r.confidence.forEach((c, i) => chart.append(
      svg("path", { class: "bar s1", d: `M${x(c)} ${y(c)}V${y(r.accuracy[i])}` }),
      svg("circle", { class: "dot s0", cx: x(c), cy: y(r.accuracy[i]), r: 3 + 7 * Math.sqrt(r.n[i] / most) },
        svg("title", {}, `confidence ${share(c)}, accuracy ${share(r.accuracy[i])}, ${count(r.n[i])} images`))));
    return el("figure", {}, group("Reliability, " + of.title, chart), el("figcaption", {},
      `Reliability: expected calibration error ${share(r.ece)}. Bins below the diagonal are too sure of themselves; larger points hold more images. Confidences: ${r.probabilities}.`));
  }

  function buildSplit(node, run, result, split, level) {
    const names = new Map(RUNS[run].classes), of = result.splits[split], shown = result.shown[split];
    const images = shownImages(run, shown, names);
    node.append(reportTable(of, names), heading(level, "Confusion"),
      ...matrix(of, names, images.show),
      ...confusedPairs(of, names, images.show), ...images.parts);
    const figures = el("div", { class: "figures" }, errorBars(of, names));
    if (shown && shown.curves.length) figures.append(curves(of, shown.curves, names));
    if (shown && shown.reliability) figures.append(reliability(of, shown.reliability));
    node.append(heading(level, "Errors" + (shown ? " and confidence" : "")), figures);
  }

  function build(node) {
    const lazy = node.querySelector(".lazy");
    if (!lazy || lazy.dataset.built) return;
    lazy.dataset.built = "yes";
    const { run, result, level } = lazy.dataset, of = RUNS[run].results[result];
    Object.entries(of.splits).forEach(([split, metrics], i) => {
      const [a, low, high] = metrics.accuracy, body = el("div", { class: "lazy-split" });
      const inner = el("details", { class: "split" }, el("summary", {}, heading(+level,
        `${metrics.title}: accuracy ${share(a)} (${share(low)} to ${share(high)}), ${count(metrics.n)} images`)), body);
      const once = () => {
        if (!body.childNodes.length) buildSplit(body, +run, of, split, +level + 1);
      };
      inner.addEventListener("toggle", () => { if (inner.open) once(); });
      if (i === 0) { inner.open = true; once(); }
      lazy.append(inner);
    });
  }
  for (const node of document.querySelectorAll("details.result")) {
    node.addEventListener("toggle", () => { if (node.open) build(node); });
    if (node.open) build(node);
  }
  for (const node of document.querySelectorAll(".result.always")) build(node);

  // Maps ---------------------------------------------------------------------------------------
  function buildMap(node) {
    const run = +node.dataset.run, { maps, classes } = RUNS[run], names = new Map(classes);
    const place = new Map(classes.map(([label], i) => [label, i]));
    const status = el("div", { class: "cards", "aria-live": "polite" });
    const stage = el("div", { class: "stage", tabindex: "0", role: "group" });
    const about = el("p", { class: "hint" });
    const more = classes.length > LOOKS ? el("span", {}, `and ${classes.length - LOOKS} more classes, in the same looks again`) : null;
    const keys = el("div", { class: "keys" }, classes.slice(0, LOOKS).map(([, name], i) =>
      el("span", { class: `s${i % COLOURS}` }, svg("svg", { viewBox: "-7 -7 14 14", width: 14, height: 14, "aria-hidden": "true" }, mark(i, 0, 0, 5)), named(name, 20))), ...(more ? [more] : []));
    let points = [], at = -1;
    function mark(i, x, y, r) {
      const kind = `dot s${i % COLOURS}`;
      if (Math.floor(i / COLOURS) % 2 === 0) return svg("circle", { class: kind, cx: x, cy: y, r });
      return svg("rect", { class: kind, x: x - r, y: y - r, width: 2 * r, height: 2 * r });
    }
    function show(i, map) {
      if (i < 0 || i >= points.length) return;
      if (at >= 0) points[at].classList.remove("at");
      at = i;
      points[i].classList.add("at");
      status.replaceChildren(card(run, names, map.images[i]));
    }
    function draw(map) {
      at = -1;
      points = map.x.map((x, i) => mark(place.get(map.images[i][1]), x, 999 - map.y[i], 8));
      const explained = map.explained === null ? "" : `, ${(100 * map.explained).toFixed(0)} % of the variance`;
      const title = `${map.method.toUpperCase()} of ${short(map.cut, 60)}, ${map.split}: ${count(points.length)} images${explained}`;
      stage.replaceChildren(svg("svg", { class: "chart map", role: "img", viewBox: "-20 -20 1040 1040", "--w": "560px", "aria-label": title }, points));
      stage.setAttribute("aria-label", title + ". Arrow keys go from image to image.");
      about.textContent = title + ". Both axes have the same scale.";
      stage.onpointerover = (event) => show(points.indexOf(event.target), map);
      stage.onkeydown = (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        show(at < 0 ? 0 : at + step, map);
      };
      status.replaceChildren();
    }
    const choice = el("select", { onchange: () => draw(maps[choice.value]) }, maps.map((map, i) =>
      el("option", { value: i }, `${short(map.cut, 60)}, ${map.method.toUpperCase()}, ${map.split}`)));
    node.append(el("label", { class: "choice" }, "Map ", choice), keys,
      el("div", { class: "beside" }, stage, status), about);
    draw(maps[0]);
  }
  document.querySelectorAll(".maps").forEach(buildMap);

  // What scrolls must be reached by keyboard; what does not need not be a stop.
  function markScrolling() {
    for (const node of document.querySelectorAll(".scroll")) {
      const scrolls = node.scrollWidth > node.clientWidth + 1 || node.scrollHeight > node.clientHeight + 1;
      if (scrolls) node.setAttribute("tabindex", "0");
      else node.removeAttribute("tabindex");
    }
  }
  addEventListener("resize", markScrolling);
  document.addEventListener("toggle", markScrolling, true);
  markScrolling();

  // Paper cannot be opened: everything is open in print, but of very many cuts only the open ones.
  let closed = [];
  addEventListener("beforeprint", () => {
    const few = document.querySelectorAll("details.result").length <= 12;
    for (const selector of ["details.result", "details"]) {
      for (const node of document.querySelectorAll(selector)) {
        if (node.open || (!few && node.matches(".result"))) continue;
        closed.push(node);
        node.open = true;
        if (node.matches(".result")) build(node);
        else node.dispatchEvent(new Event("toggle"));
      }
    }
  });
  addEventListener("afterprint", () => {
    for (const node of closed) node.open = false;
    closed = [];
  });
})();
