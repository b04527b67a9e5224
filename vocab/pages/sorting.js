// Sorts each table.sortable by the column whose heading is pressed, and the other way round when it is pressed again.
// The script makes buttons of the headings, which a keyboard reaches too. Without it the table stays in its first order.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table.tBodies[0], headings, column));
  });
}
function sort(body, headings, column) {
  const heading = headings[column], numeric = heading.classList.contains("number");
  const before = heading.getAttribute("aria-sort") ?? (numeric ? "ascending" : "descending");
  const descending = before === "ascending";
  const keyed = [...body.rows].map((row) => [key(row.cells[column].textContent, numeric), row]);
  keyed.sort(([one], [other]) => compare(one, other, descending));
  body.replaceChildren(...keyed.map(([, row]) => row));
  for (const each of headings) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
}
function key(text, numeric) {
  return numeric ? parseFloat(text.replaceAll(",", "")) : text.trim();
}
// Cells without a number come last either way.
function compare(one, other, descending) {
  if (typeof one === "string") return (descending ? -1 : 1) * one.localeCompare(other, "en", { numeric: true });
  if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other);
  return descending ? other - one : one - other;
}
