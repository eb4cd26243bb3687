"use strict";
(() => {
  const table = document.getElementById("overview");
  const form = document.getElementById("filters");
  const rows = table ? [...table.tBodies[0].rows] : [];
  const caseOf = (row) => document.getElementById(row.dataset.case);
  const details = () => [...document.querySelectorAll(".case:not([hidden]) > details")];

  const theme = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  const remembered = (() => {
    try { return localStorage.getItem("ftcheck-theme"); } catch { return null; } // a page of a mail has no storage
  })();
  const use = (name) => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    theme.textContent = `Theme: ${name}`;
    theme.dataset.theme = name;
  };
  use(themes.includes(remembered) ? remembered : "system");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    use(themes[(themes.indexOf(theme.dataset.theme) + 1) % themes.length]);
    try { localStorage.setItem("ftcheck-theme", theme.dataset.theme); } catch { /* holds for this page only */ }
  });

  const arrive = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const fold = target && target.querySelector(":scope > details");
    if (!fold) return;
    fold.open = true;
    fold.querySelector("summary").focus({ preventScroll: true });
    target.scrollIntoView();
  };
  addEventListener("hashchange", arrive);
  arrive();

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = details().filter((one) => !one.open);
    closed.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((one) => { one.open = false; }));

  if (!table) return;
  const key = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent.toLowerCase();
    return cell.dataset.sort === "" || cell.dataset.sort === "nan" ? null : Number(cell.dataset.sort);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  const sort = (header) => {
    const numeric = header.querySelector("button").dataset.kind === "number";
    const down = header.ariaSort === "ascending";
    const keyed = rows.map((row, place) => [key(row, header.cellIndex, numeric), place, row]);
    keyed.sort((a, b) => {
      if (a[0] === null || b[0] === null) return (a[0] === null) - (b[0] === null) || a[1] - b[1];
      return (down ? -1 : 1) * compare(a[0], b[0]) || a[1] - b[1];
    });
    for (const other of table.tHead.rows[0].cells) if (other.ariaSort) other.ariaSort = "none";
    header.ariaSort = down ? "descending" : "ascending";
    table.tBodies[0].append(...keyed.map((one) => one[2]));
  };
  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  if (!form) return;
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const filter = () => {
    const text = form.elements.text.value.trim().toLowerCase();
    const task = form.elements.task ? form.elements.task.value : "";
    const verdicts = [...form.querySelectorAll("[name=verdict]:checked")].map((box) => box.value);
    let kept = 0;
    for (const row of rows) {
      const wanted = (!verdicts.length || verdicts.includes(row.dataset.verdict))
        && (!task || row.dataset.task === task)
        && (!text || words.get(row).includes(text));
      row.hidden = !wanted;
      caseOf(row).hidden = !wanted;
      kept += wanted;
    }
    document.getElementById("clear").hidden = !text && !task && !verdicts.length;
    document.getElementById("found").textContent = kept === rows.length ? `${kept} cases` : `${kept} of ${rows.length} cases`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("clear").addEventListener("click", () => { form.reset(); filter(); });
  const unfold = document.getElementById("unfold");
  unfold.addEventListener("click", () => {
    const open = unfold.ariaPressed !== "true";
    unfold.ariaPressed = String(open);
    unfold.textContent = open ? "Close all" : "Open all";
    details().forEach((one) => { one.open = open; });
  });
  form.hidden = false;
  filter();
})();
