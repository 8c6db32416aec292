"use strict";

// The order of rows by the values of one column: numbers as numbers, words as words, missing ones last.
function order(values, descending) {
  const missing = (v) => v === null || v === undefined || v === "";
  const numbers = values.every((v) => missing(v) || !Number.isNaN(Number(v)));
  const compare = numbers ? (a, b) => Number(a) - Number(b) : (a, b) => String(a).localeCompare(String(b));
  return values
    .map((_, i) => i)
    .sort((i, j) => {
      if (missing(values[i]) || missing(values[j])) return missing(values[i]) - missing(values[j]) || i - j;
      return (descending ? -1 : 1) * compare(values[i], values[j]) || i - j;
    });
}

function sortBy(head) {
  const table = head.closest("table");
  const column = [...head.parentNode.children].indexOf(head);
  const first = head.classList.contains("words") ? "ascending" : "descending";
  const other = first === "ascending" ? "descending" : "ascending";
  const now = head.getAttribute("aria-sort") === first ? other : first;
  for (const one of head.parentNode.children) one.setAttribute("aria-sort", one === head ? now : "none");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const values = rows.map((row) => row.cells[column].dataset.value);
  for (const i of order(values, now === "descending")) body.appendChild(rows[i]);
}

function start() {
  for (const head of document.querySelectorAll("table.sortable thead th"))
    head.querySelector("button").addEventListener("click", () => sortBy(head));
  const panel = document.getElementById("about");
  for (const cell of document.querySelectorAll("td[data-about]")) {
    const show = () => {
      panel.querySelector("pre").textContent = cell.dataset.about;
      panel.hidden = false;
    };
    cell.tabIndex = 0;
    cell.title = cell.dataset.about;
    cell.addEventListener("click", show);
    cell.addEventListener("keydown", (event) => event.key === "Enter" && show());
  }
  panel.querySelector("button").addEventListener("click", () => (panel.hidden = true));
}

if (typeof document !== "undefined") document.addEventListener("DOMContentLoaded", start);
if (typeof module !== "undefined") module.exports = { order };
