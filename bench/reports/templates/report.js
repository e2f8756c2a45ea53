(() => {
  "use strict";
  const number = (cell) => (cell.dataset.sort === undefined ? NaN : Number(cell.dataset.sort));
  const compare = (a, b, down) => {
    const x = number(a), y = number(b);
    if (!isNaN(x) && !isNaN(y)) return down ? y - x : x - y;
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
    const order = a.textContent.trim().localeCompare(b.textContent.trim());
    return down ? -order : order;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, at) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => compare(a.cells[at], b.cells[at], down));
        table.classList.add("sorted");
        table.tBodies[0].append(...rows);
      });
    });
  }
  const open = (details) => {
    const body = details.querySelector(":scope > script");
    if (body) body.outerHTML = body.textContent;
    details.open = true;
  };
  addEventListener("toggle", (event) => { if (event.target.open) open(event.target); }, true);
  const show = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.tagName === "DETAILS") open(target);
    if (target.classList.contains("cell")) target.querySelectorAll("details").forEach(open);
    target.scrollIntoView();
  };
  addEventListener("hashchange", show);
  addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest('a[href^="#"]');
    if (link && link.getAttribute("href") === location.hash) show();
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(open));
  if (location.hash) show();
})();
