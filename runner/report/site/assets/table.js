"use strict";
// Sorts, searches and filters the table of a page. What is shown stands in the address, to be shared.
(() => {
  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const labels = heads.map((head) => head.textContent.trim());
  const found = rows.map((row) => row.textContent.toLowerCase());
  const states = rows.map((row) => {
    const cells = row.dataset.s ? [row] : [...row.querySelectorAll("[data-s]")];
    return new Set(cells.map((cell) => cell.dataset.s));
  });
  const form = document.querySelector("form.tools");
  const search = document.getElementById("search");
  const select = document.getElementById("sort");
  const direction = document.getElementById("direction");
  const shown = document.getElementById("shown");
  const boxes = [...document.querySelectorAll("input[name=state]")];
  const noun = shown ? shown.textContent.trim().split(" ").pop() : "";
  const collator = new Intl.Collator(undefined, { numeric: true });
  let sort = "";
  let descending = false;
  let arranged = rows;

  // What a row is sorted by: "3" is the text of the fourth column, "3:0" the first of its figures.
  function value(row, by) {
    const [column, part] = by.split(":");
    const cell = row.cells[column];
    const data = cell.dataset;
    const text = part ? (data.k || "").split("|")[part] : data.v ?? cell.firstChild?.textContent ?? "";
    return text === undefined || text.trim() === "" ? null : isNaN(text) ? text.trim() : Number(text);
  }

  function compare(one, other) {
    if (one.value === null || other.value === null) {
      return (one.value === null) - (other.value === null) || one.place - other.place;
    }
    const numbers = typeof one.value === "number" && typeof other.value === "number";
    const order = numbers ? one.value - other.value : collator.compare(one.value, other.value);
    return (descending ? -order : order) || one.place - other.place;
  }

  function arrange() {
    let order = rows;
    if (sort) {
      const keyed = rows.map((row, place) => ({ row, place, value: value(row, sort) }));
      order = keyed.sort(compare).map((each) => each.row);
    }
    if (order !== arranged) body.append(...order);
    arranged = order;
    heads.forEach((head, place) => {
      if (String(place) === sort) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    if (select) select.value = sort;
    if (direction) {
      direction.setAttribute("aria-pressed", String(descending));
      direction.disabled = !sort;
    }
  }

  function filter() {
    const words = search ? search.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
    const wanted = boxes.filter((box) => box.checked).map((box) => box.value);
    let count = 0;
    rows.forEach((row, place) => {
      const fits = words.every((word) => found[place].includes(word));
      row.hidden = !fits || (wanted.length > 0 && !wanted.some((state) => states[place].has(state)));
      count += !row.hidden;
    });
    if (shown) {
      const of = count === rows.length ? "" : ` of ${rows.length.toLocaleString("en")}`;
      shown.textContent = `${count.toLocaleString("en")}${of} ${noun}`;
    }
  }

  function remember() {
    const parts = new URLSearchParams();
    if (search?.value) parts.set("q", search.value);
    const wanted = boxes.filter((box) => box.checked).map((box) => box.value);
    if (wanted.length) parts.set("state", wanted.join(","));
    if (sort) parts.set("sort", (descending ? "-" : "") + sort);
    const text = parts.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  function recall() {
    const parts = new URLSearchParams(location.hash.slice(1));
    if (search) search.value = parts.get("q") ?? "";
    const wanted = (parts.get("state") ?? "").split(",");
    boxes.forEach((box) => { box.checked = wanted.includes(box.value); });
    const asked = parts.get("sort") ?? "";
    descending = asked.startsWith("-");
    sort = /^\d+(:\d)?$/.test(asked.replace("-", "")) ? asked.replace("-", "") : "";
    if (sort && Number(sort.split(":")[0]) >= heads.length) sort = "";
    arrange();
    filter();
  }

  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = labels[place];
    button.addEventListener("click", () => {
      descending = sort === String(place) ? !descending : head.classList.contains("n");
      sort = String(place);
      arrange();
      remember();
    });
    head.replaceChildren(button);
  });
  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => {
      if (select && select.value !== sort) {
        sort = select.value;
        arrange();
      }
      filter();
      remember();
    });
    direction?.addEventListener("click", () => {
      descending = !descending;
      arrange();
      remember();
    });
  }
  // On a phone each figure has its name before it.
  if (matchMedia("(max-width: 46rem)").matches) {
    rows.forEach((row) => [...row.cells].forEach((cell, place) => {
      if (cell.tagName === "TD" && cell.textContent.trim()) cell.dataset.l = labels[place];
    }));
  }
  addEventListener("hashchange", recall);
  recall();
})();
