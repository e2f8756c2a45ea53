(() => {
  "use strict";
  for (const box of document.querySelectorAll("[data-filters]")) {
    const input = box.querySelector("input");
    const rows = [...document.querySelector(`[data-filtered="${box.dataset.filters}"]`).tBodies[0].rows];
    box.hidden = rows.length < 6;
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    });
  }
})();
