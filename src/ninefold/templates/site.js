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
  for (const image of all(".nf-figure img")) {
    const enlarge = () => { frame.replaceChildren(image.cloneNode()); dialog.showModal(); };
    image.addEventListener("click", enlarge);
    image.closest("figure").querySelector("figcaption > span")?.append(" ", button("Enlarge", enlarge));
  }
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

function code() {
  const box = document.getElementById("all-code");
  if (!box) return;
  box.closest("label").hidden = false;
  box.addEventListener("change", () => { for (const each of all("details.code:not([id])")) each.open = box.checked; });
}

addEventListener("DOMContentLoaded", () => {
  for (const enhance of [switchTheme, search, contents, lightbox, tables, code]) enhance();
  for (const box of all(".nf-table, .output, pre, .nf-figure, .drawing")) if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.matches("details")) target.open = true;
    target?.scrollIntoView({ behavior: "instant" });
  };
  addEventListener("hashchange", reveal);
  reveal();
});
