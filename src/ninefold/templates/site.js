// What the pages add to themselves: theme, search, contents that follow, enlarged figures, tables that sort and download.
"use strict";

const themes = ["auto", "light", "dark"];
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};
const button = (textContent, onclick) => make("button", { type: "button", className: "tool", textContent, onclick });

function theme(chosen) {
  try { // a browser may refuse to store anything for files
    if (chosen) localStorage.setItem("theme", chosen);
    else chosen = localStorage.getItem("theme");
  } catch {}
  document.documentElement.dataset.theme = themes.includes(chosen) ? chosen : "auto";
}
theme(); // before the page shows

function switchTheme() {
  const root = document.documentElement;
  const label = () => `Theme: ${root.dataset.theme}`;
  const next = button(label(), () => {
    theme(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]);
    next.textContent = label();
  });
  document.querySelector(".tools").append(next);
}

function search() {
  const form = document.querySelector(".search");
  const field = form.querySelector("input");
  const results = document.getElementById("results");
  form.hidden = false;
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("input, textarea")) { event.preventDefault(); field.focus(); }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!results) location.href = `${form.dataset.up}index.html?q=${encodeURIComponent(field.value)}`;
  });
  if (!results) return;
  const sections = JSON.parse(document.getElementById("search-index").textContent);
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rank = ([, , title, text]) => words.every((word) => title.toLowerCase().includes(word)) ? 2
      : Number(words.every((word) => `${title} ${text}`.toLowerCase().includes(word)));
    const hits = words.length ? sections.filter(rank).sort((a, b) => rank(b) - rank(a)) : [];
    results.hidden = !words.length;
    results.querySelector("h2").textContent = `${hits.length} ${hits.length === 1 ? "section" : "sections"} with “${field.value.trim()}”`;
    results.querySelector("ol").replaceChildren(...hits.slice(0, 40).map(([page, anchor, title, text]) => {
      const place = Math.max(0, text.toLowerCase().indexOf(words[0]) - 60);
      const excerpt = make("p", { textContent: `${place ? "…" : ""}${text.slice(place, place + 180)}…` });
      return make("li", {}, make("a", { href: `${page}${anchor && "#"}${anchor}`, textContent: title }), excerpt);
    }));
  };
  field.addEventListener("input", show);
  field.value = new URLSearchParams(location.search).get("q") || "";
  show();
}

function contents() {
  const toc = document.querySelector("details.toc");
  if (!toc) return;
  const beside = matchMedia("(min-width: 70rem)");
  const links = all("a", toc);
  const headings = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
  const adapt = () => { toc.open = beside.matches; };
  const follow = () => {
    const atEnd = scrollY > 0 && innerHeight + scrollY > document.documentElement.scrollHeight - 5;
    const current = atEnd ? links.length - 1 : headings.findLastIndex((heading) => heading.getBoundingClientRect().top < 160);
    links.forEach((link, place) => place === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"));
    toc.querySelector(".current").textContent = current < 0 ? "" : links[current].textContent;
    if (beside.matches && current >= 0) links[current].scrollIntoView({ block: "nearest", behavior: "instant" });
  };
  toc.addEventListener("click", (event) => { if (event.target.matches("a")) adapt(); });
  beside.addEventListener("change", adapt);
  addEventListener("scroll", follow, { passive: true });
  adapt();
  follow();
}

function lightbox() {
  const frame = make("div", { className: "frame", tabIndex: 0 });
  const dialog = make("dialog", { className: "lightbox" }, frame);
  dialog.append(button("Close", () => dialog.close()));
  dialog.setAttribute("aria-label", "Enlarged figure");
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  const tip = tooltip();
  dialog.addEventListener("close", tip.hide);
  for (const image of all(".nf-figure img")) {
    const figure = image.closest("figure");
    const points = pointsOf(figure);
    const enlarge = () => {
      const larger = image.cloneNode();
      frame.replaceChildren(larger);
      tip.attach(larger, points);
      dialog.showModal();
    };
    image.addEventListener("click", (event) => { if (!points.length || event.pointerType !== "touch") enlarge(); });
    tip.attach(image, points);
    const tools = figure.querySelector("figcaption > span");
    tools?.append(" ", button("Enlarge", enlarge));
    if (tools && points.length) tools.append(...tip.steps(image, points));
  }
}

// The points of a figure, as ninefold.pictures wrote them: their place in thousandths of the picture, series, lines of text.
function pointsOf(figure) {
  const plain = (text) => text.replaceAll("\\$", "$").replace(/\s+/g, " ").trim();
  const drawn = JSON.parse(figure.dataset.points || "[]").map(([panel, label, names, points]) =>
    [panel, label, names, points.filter(([x, y]) => label === "_interval" || (x >= 0 && y >= 0 && x <= 1000 && y <= 1000))]);
  const panels = new Set(drawn.map(([panel]) => panel)).size > 1;
  const bars = drawn.filter(([, label]) => label === "_interval").flatMap(([, , , points]) =>
    points.flatMap((end, index) => index % 2 ? [[points[index - 1], end]] : []));
  const interval = ([x, y], way) => { // of a point, along x (0) or y (1): the error bar through it
    const bar = bars.find(([low, high]) => Math.abs([x, y][1 - way] - low[1 - way]) <= 1 && low[1 - way] === high[1 - way]
      && low[way] - 1 <= [x, y][way] && [x, y][way] <= high[way] + 1);
    return bar ? ` (${bar[0][2 + way]} to ${bar[1][2 + way]})` : "";
  };
  return drawn.flatMap(([panel, label, names, points], series) => label === "_interval" ? [] : points.map((point) => {
    const title = [panels && panel, !label.startsWith("_") && label].filter(Boolean).join(" · ");
    const lines = point.slice(2).map((text, scale) => {
      const shown = scale < 2 && text ? text + interval(point, scale) : text;
      return names[scale] && shown ? `${names[scale]}: ${shown}` : shown;
    });
    return { x: point[0], y: 1000 - point[1], series, lines: [title, ...lines].map(plain).filter(Boolean) };
  }));
}

// The values of the point nearest to the pointer, a tap, or the arrow keys on a figure's button "Values".
function tooltip() {
  const box = make("div", { className: "tip", hidden: true });
  const ring = make("div", { className: "ring", hidden: true });
  let shown = null;
  const places = (image) => { // from a point to the screen: a picture may be smaller than its element
    const { left, top } = image.getBoundingClientRect();
    const padding = parseFloat(getComputedStyle(image).paddingLeft);
    const [width, height] = [image.clientWidth - 2 * padding, image.clientHeight - 2 * padding];
    const scale = Math.min(width / image.naturalWidth, height / image.naturalHeight);
    const [across, down] = [image.naturalWidth * scale, image.naturalHeight * scale];
    const [x, y] = [left + image.clientLeft + padding + (width - across) / 2, top + image.clientTop + padding + (height - down) / 2];
    return (point) => [x + across * point.x / 1000, y + down * point.y / 1000];
  };
  const hide = () => { shown = null; box.hidden = ring.hidden = true; };
  const show = (image, point, by) => {
    if (shown?.point !== point || shown.image !== image) {
      box.replaceChildren(...point.lines.map((textContent) => make("div", { textContent })));
      (image.closest("dialog") ?? document.body).append(ring, box);
    }
    shown = { image, point, by };
    box.hidden = ring.hidden = false;
    const [x, y] = places(image)(point);
    const below = y - box.offsetHeight < 20;
    Object.assign(ring.style, { left: `${x}px`, top: `${y}px` });
    box.style.left = `${Math.max(8, Math.min(x + 12, document.documentElement.clientWidth - box.offsetWidth - 8))}px`;
    box.style.top = `${below ? y + 12 : y - box.offsetHeight - 12}px`;
  };
  const nearest = (image, points, event) => {
    const place = places(image);
    let [least, found] = [60, null];
    for (const point of points) {
      const [x, y] = place(point);
      const distance = Math.hypot(x - event.clientX, y - event.clientY);
      if (distance < least) [least, found] = [distance, point];
    }
    return found;
  };
  const attach = (image, points) => {
    const follow = (event) => {
      const point = nearest(image, points, event);
      if (point) show(image, point); else hide();
    };
    image.addEventListener("pointermove", follow);
    image.addEventListener("pointerdown", follow);
    image.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") hide(); });
  };
  const steps = (image, points) => {
    const spoken = make("span", { className: "unseen" });
    let current = -1;
    const go = (index) => {
      current = (index + points.length) % points.length;
      const scroller = image.closest("figure");
      const { left, width } = scroller.getBoundingClientRect();
      const [x, y] = places(image)(points[current]);
      if (x < left || x > left + width) scroller.scrollLeft += x - left - width / 2;
      if (y < 0 || y > innerHeight) scrollBy({ top: y - innerHeight * 0.7, behavior: "instant" });
      show(image, points[current], next);
      spoken.textContent = points[current].lines.join(", ");
    };
    const next = button("Values", () => go(current + 1));
    const starts = points.flatMap((point, index) => point.series !== points[index - 1]?.series ? [index] : []);
    const beside = (step) => { // the first point of the series before or after
      const now = starts.findLastIndex((start) => start <= Math.max(current, 0));
      return starts[(now + step + starts.length) % starts.length];
    };
    const moves = {
      ArrowRight: () => current + 1, ArrowLeft: () => Math.max(current, 0) - 1, Home: () => 0, End: () => points.length - 1,
      ArrowDown: () => beside(1), ArrowUp: () => beside(-1),
    };
    next.title = "The values of the points, one by one: press again, or use the arrow keys; up and down change the series";
    spoken.setAttribute("role", "status");
    next.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      if (moves[event.key]) { event.preventDefault(); go(moves[event.key]()); }
    });
    next.addEventListener("blur", () => { if (shown?.by === next) hide(); });
    return [" ", next, spoken];
  };
  addEventListener("scroll", () => { if (shown) show(shown.image, shown.point, shown.by); }, { passive: true, capture: true });
  addEventListener("pointerdown", (event) => { if (shown && !event.target.closest("img, button")) hide(); });
  return { attach, steps, hide };
}

function tables() {
  const collator = new Intl.Collator("en", { numeric: true });
  const text = (cell) => cell.textContent.trim();
  const number = (value) => parseFloat(value.replace(/,/g, "").replace("−", "-"));
  const isGap = (value) => ["–", "", "NaN", "None", "NaT", "<NA>"].includes(value);
  const compare = (one, other, sign) => isGap(one) - isGap(other) || sign * (number(one) - number(other) || collator.compare(one, other));
  for (const table of all(".nf-table table, table.dataframe")) {
    const body = table.tBodies[0];
    const heads = all("thead tr:last-child > *", table);
    if (!body || table.querySelector("[rowspan], tbody [colspan]")) continue;
    if (body.rows.length > 1) heads.forEach((head, column) => {
      if (!text(head)) return;
      const sort = make("button", { type: "button", className: "sort" }, ...head.childNodes);
      sort.addEventListener("click", () => {
        const way = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", way);
        body.append(...[...body.rows].sort((a, b) => compare(text(a.cells[column]), text(b.cells[column]), way === "ascending" ? 1 : -1)));
      });
      head.append(sort);
    });
    if (body.rows.length > 15) {
      const filter = make("input", { type: "search", className: "filter", placeholder: "Filter" });
      filter.setAttribute("aria-label", `Filter the rows of ${text(table.querySelector("caption .ref") || table.caption)}`);
      filter.addEventListener("input", () => {
        const words = filter.value.toLowerCase().split(/\s+/);
        for (const row of body.rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      });
      table.querySelector("caption > span")?.append(" ", filter);
    }
    table.querySelector("caption > span")?.append(" ", button("CSV", () => {
      const quoted = (cell) => `"${text(cell).replace(/^[=@]/, "'$&").replace(/"/g, '""')}"`;
      const lines = [...table.rows].map((row) => [...row.cells].map(quoted).join(","));
      const href = URL.createObjectURL(new Blob([`\ufeff${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
      const name = `${document.title.split(" · ")[0]} ${text(table.querySelector("caption .ref") || table.caption)}`;
      make("a", { href, download: `${name.toLowerCase().replace(/\W+/g, "_")}.csv` }).click();
      URL.revokeObjectURL(href);
    }));
  }
}

function parallel() { // coordinates: of experiments, a scale per param or metric, a line per run
  const data = document.getElementById("experiments");
  if (!data) return;
  const { names, rows } = JSON.parse(data.textContent);
  const draw = (tag, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  };
  const step = 150;
  const label = `${rows.length} runs, ${names.length} params and metrics; the table has the values`;
  const width = 180 + step * Math.max(names.length - 1, 0);
  const svg = draw("svg", { class: "parallel", viewBox: `0 0 ${width} 256`, style: `min-width: ${0.75 * width}px; max-width: ${1.2 * width}px`, role: "img", "aria-label": label });
  const scales = names.map((name, place) => {
    const values = rows.map((row) => row[place + 1]).filter((value) => value !== null);
    const numeric = values.every((value) => typeof value === "number");
    const ordered = numeric ? values.sort((a, b) => a - b) : [...new Set(values.map(String))].sort();
    const [low, high] = numeric ? [ordered[0], ordered.at(-1)] : [0, ordered.length - 1];
    const at = (value) => 230 - 180 * ((numeric ? value : ordered.indexOf(String(value))) - low) / (high - low || 1);
    const x = 90 + step * place;
    const short = name.split(".").slice(-2).join(".");
    svg.append(draw("path", { class: "grid", d: `M${x} 50V230` }));
    svg.append(draw("text", { class: "middle", x, y: place % 2 ? 12 : 27 }, short.length > 34 ? `…${short.slice(-33)}` : short));
    const shown = (value) => typeof value === "number" ? Number(value.toPrecision(3)).toString() : String(value).slice(0, 22);
    svg.append(draw("text", { class: "tick middle", x, y: 248 }, shown(ordered[0])), draw("text", { class: "tick middle", x, y: 45 }, shown(ordered.at(-1))));
    return (row) => row[place + 1] === null ? null : [x, at(row[place + 1])];
  });
  for (const row of [...rows.slice(1), rows[0]]) {
    const points = scales.map((scale) => scale(row)).filter(Boolean);
    const line = draw("path", { class: row === rows[0] ? "run base" : "run", d: `M${points.map((point) => point.map((each) => each.toFixed(1)).join(" ")).join("L")}` });
    line.append(draw("title", {}, row[0]));
    svg.append(line);
  }
  document.getElementById("parallel").append(svg);
}

function code() {
  const box = document.getElementById("all-code");
  if (!box) return;
  box.closest("label").hidden = false;
  box.addEventListener("change", () => { for (const each of all("details.code:not([id])")) each.open = box.checked; });
}

function dates() { // unbroken: browsers wrap lines after a hyphen
  const texts = document.createTreeWalker(document.getElementById("main"), NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) if (/\d{4}-\d\d-\d\d/.test(texts.currentNode.data) && !texts.currentNode.parentElement.closest("pre, script, style, svg")) found.push(texts.currentNode);
  for (const text of found) {
    const parts = text.data.split(/(\d{4}-\d\d-\d\d)/);
    text.replaceWith(...parts.map((part, place) => place % 2 ? make("span", { className: "date" }, part) : part));
  }
}

addEventListener("DOMContentLoaded", () => {
  for (const enhance of [switchTheme, search, contents, lightbox, parallel, tables, code, dates]) enhance();
  for (const box of all(".nf-table, .output, pre, .nf-figure, .drawing")) if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.matches("details")) target.open = true;
    target?.scrollIntoView({ behavior: "instant" });
  };
  addEventListener("hashchange", reveal);
  reveal();
});
