"use strict";
// Sort a table by a click on a heading; what has no value stays last either way.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const other = { ascending: "descending", descending: "ascending" };
    const order = other[head.getAttribute("aria-sort")] ?? head.dataset.first;
    const sign = order === "ascending" ? 1 : -1;
    const value = row => row.cells[column].dataset.sort;
    const number = text => text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text);
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const [p, q] = [number(x), number(y)];
      return sign * (Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y) : p === q ? 0 : p < q ? -1 : 1);
    };
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
// Point at an agent in a legend or a table: its curves stand out from the others.
for (const article of document.querySelectorAll("article")) {
  for (const item of article.querySelectorAll("[data-agent]")) {
    const curves = article.querySelectorAll(`svg .a${item.dataset.agent}`);
    item.addEventListener("pointerenter", () => {
      article.classList.add("focus");
      curves.forEach(curve => curve.classList.add("on"));
    });
    item.addEventListener("pointerleave", () => {
      article.classList.remove("focus");
      curves.forEach(curve => curve.classList.remove("on"));
    });
  }
}
document.documentElement.dataset.ready = "1";
