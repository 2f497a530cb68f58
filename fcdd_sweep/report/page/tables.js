"use strict";
// Sorts and filters tables, opens linked images in place, unfolds what a link points into, and all that is printed. No
// server is needed.

const MOST_WITHOUT_FILTER = 8;

function keyOf(row, column) {
  const cell = row.cells[column];
  if (!cell) return "";
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  const number = Number(text);
  return text !== "" && !Number.isNaN(number) ? number : text.toLowerCase();
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a.localeCompare(b, undefined, { numeric: true });
}

function isUndefined(row, column) {
  const text = row.cells[column] ? row.cells[column].textContent.trim() : "";
  return text === "" || text.startsWith("n/a");
}

function sortBy(table, column) {
  const head = table.tHead.rows[0].cells;
  const before = head[column].getAttribute("aria-sort");
  const isNumber = head[column].classList.contains("num");
  const descending = before ? before === "ascending" : isNumber;
  for (const cell of head) cell.removeAttribute("aria-sort");
  head[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  rows.sort((a, b) => {
    const absent = isUndefined(a, column) - isUndefined(b, column); // undefined values stay last
    if (absent) return absent;
    const order = compare(keyOf(a, column), keyOf(b, column));
    return descending ? -order : order;
  });
  body.append(...rows);
}

function makeSortable(table) {
  Array.from(table.tHead.rows[0].cells).forEach((cell, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...cell.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    cell.append(button);
  });
}

function addFilter(table) {
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = "filter rows";
  input.setAttribute("aria-label", "show only rows that contain this text");
  input.className = "filter";
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase().split(/\s+/);
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    }
  });
  table.parentElement.before(input);
}

function showImage(box) {
  const place = box.querySelector(".absent");
  const address = box.dataset.image;
  if (!place || box.dataset.asked) return;
  box.dataset.asked = "yes";
  const image = new Image();
  image.alt = place.dataset.alt || address;
  image.addEventListener("load", () => place.replaceWith(image));
  image.src = address; // where it cannot be loaded, the placeholder stays and says where the file lies
}

function unfold() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (target) target.scrollIntoView();
}

for (const table of document.querySelectorAll("table.sortable")) {
  makeSortable(table);
  if (table.tBodies[0].rows.length > MOST_WITHOUT_FILTER) addFilter(table);
}
for (const box of document.querySelectorAll("details[data-image]")) {
  box.addEventListener("toggle", () => box.open && showImage(box));
}
window.addEventListener("hashchange", unfold);
unfold();

const folded = [];
window.addEventListener("beforeprint", () => {
  folded.push(...document.querySelectorAll("details:not([open]):not(.screen):not(.screen *)"));
  for (const box of folded) box.open = true;
});
window.addEventListener("afterprint", () => {
  for (const box of folded.splice(0)) box.open = false;
});

const links = new Map(Array.from(document.querySelectorAll("nav a"), (link) => [link.hash.slice(1), link]));
if (links.size && "IntersectionObserver" in window) {
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const link = links.get(entry.target.id);
        if (!link || !entry.isIntersecting) continue;
        for (const other of links.values()) other.removeAttribute("aria-current");
        link.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-10% 0px -75% 0px" },
  );
  for (const id of links.keys()) {
    const target = document.getElementById(id);
    if (target) seen.observe(target);
  }
}
