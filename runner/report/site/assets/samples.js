"use strict";
// Shows an eval's samples, a page of them at a time. The address names the page, or one sample.
(() => {
  const tools = document.getElementById("tools");
  if (!tools) return;
  const { make, text, load } = evalset;
  const { folder, nonce } = tools.dataset;
  const search = document.getElementById("search");
  const size = document.getElementById("size");
  const list = document.getElementById("list");
  const shown = document.getElementById("shown");
  const pageLabel = document.getElementById("page");
  const previous = document.getElementById("previous");
  const next = document.getElementById("next");
  const parts = new Map();
  const MOST_PARTS = 12;
  let index = null;
  let chosen = [];
  let page = 0;
  let aim = "";
  let turn = 0;

  const idOf = (place) => (index.ids.length === 2 ? `${index.ids[0]}.${place}` : index.ids[0][place]);
  const count = () => index.correct.length;
  const number = (value) => value.toLocaleString("en");

  function partOf(place) {
    let low = 0;
    let high = index.parts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (index.parts[middle] <= place) low = middle; else high = middle - 1;
    }
    return low;
  }

  async function part(which) {
    let found = parts.get(which);
    if (!found) found = await load(`part${which}`, `${folder}/${which}.js`, nonce);
    parts.delete(which);
    parts.set(which, found);
    if (parts.size > MOST_PARTS) parts.delete(parts.keys().next().value);
    return found;
  }

  async function sampleAt(place) {
    const which = partOf(place);
    return (await part(which))[place - index.parts[which]];
  }

  async function choose() {
    const mine = ++turn;
    const which = tools.elements.which.value;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let places = [];
    for (let place = 0; place < count(); place += 1) {
      if (which === "all" || index.correct[place] === which) places.push(place);
    }
    if (words.length) {
      const hits = [];
      for (const place of places) {
        const sample = await sampleAt(place);
        if (mine !== turn) return false;
        const all = JSON.stringify(sample).toLowerCase();
        if (words.every((word) => all.includes(word))) hits.push(place);
        if (place % 250 === 0) shown.textContent = `Searching, ${number(place)} of ${number(count())}`;
      }
      places = hits;
    }
    chosen = places;
    return mine === turn;
  }

  // Values from a log: text as it is, all else as JSON; one or several; messages with their roles.
  const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const asTexts = (value) => (value === null ? [] : Array.isArray(value) ? value.map(asText) : [asText(value)]);
  const own = (object, name) => (Object.hasOwn(object, name) && object[name] !== null ? object[name] : "");

  function asContent(value) {
    const parts = Array.isArray(value) && value.every((one) => one !== null && typeof one === "object");
    return parts ? value.map((one) => asText(own(one, "text") || `[${asText(own(one, "type"))}]`)).join("\n") : asText(value);
  }

  function asMessages(value) {
    if (value === null) return [];
    if (!Array.isArray(value) || !value.every((one) => one !== null && typeof one === "object" && !Array.isArray(one))) return [["", asText(value)]];
    return value.map((one) => [asText(own(one, "role")), asContent(own(one, "content"))]);
  }

  function card(sample, place) {
    const [id, correct, score, logged, pickedValue, expectedValue, others, leftOut] = sample;
    const calls = logged.map((call) => [asMessages(call[0]), asTexts(call[1]), call[2]]);
    const expected = asTexts(expectedValue);
    const all = asTexts(pickedValue);
    const picked = calls.length && JSON.stringify(all) === JSON.stringify(calls[0][1]) ? [] : all;
    const link = make("a", "", id);
    link.href = `#${new URLSearchParams({ sample: id })}`;
    const verdict = correct === 1 ? "✓ right" : correct === 0 ? "✕ wrong" : "";
    const item = make("li", `sample ${correct === 1 ? "right" : correct === 0 ? "wrong" : ""}`);
    const figure = score === null ? null : make("span", "verdict", `score ${Number(score.toPrecision(4))}`);
    item.append(make("header", "", make("h3", "", link), make("span", "verdict", verdict), figure));
    item.dataset.place = place;
    if (id === aim) {
      item.classList.add("aim");
      item.tabIndex = -1;
    }
    const answers = [];
    if (calls.length) answers.push(titled("Answer", calls[0][1]));
    if (picked.length) answers.push(titled("Picked from it", picked));
    if (expected.length) answers.push(titled("Expected", expected));
    const prompted = calls.length && calls[0][0].length;
    item.append(make("div", "sides", ...(prompted ? [prompt(calls[0]), make("div", "", ...answers)] : answers)));
    const rest = [
      ...calls.slice(1).flatMap((call) => [prompt(call), titled(call[2] ? `Answer of ${call[2]}` : "Answer", call[1])]),
      ...others.map(([kind, value]) => text(kind, value)),
    ];
    if (rest.length) {
      const said = (many, what) => (many > 0 ? [`${many} ${what}${many === 1 ? "" : "s"}`] : []);
      const more = [...said(calls.length - 1, "more call"), ...said(others.length, "other event")].join(", ");
      item.append(make("details", "", make("summary", "", more), ...rest));
    }
    if (leftOut) item.append(make("p", "quiet", `${number(leftOut)} more events are in its log.`));
    return item;
  }

  function prompt(call) {
    const box = make("div", "");
    if (call[0].length) box.append(make("h4", "", "Prompt"), ...call[0].map(([role, content]) => text(role, content)));
    return box;
  }

  function titled(title, values) {
    return make("div", "", make("h4", "", title), ...(values.length ? values : ["nothing"]).map((value) => text("", value)));
  }

  async function draw() {
    const per = Number(size.value);
    const pages = Math.max(1, Math.ceil(chosen.length / per));
    page = Math.min(Math.max(page, 0), pages - 1);
    const places = chosen.slice(page * per, page * per + per);
    const mine = turn;
    const cards = [];
    for (const place of places) cards.push(card(await sampleAt(place), place));
    if (mine !== turn) return;
    list.replaceChildren(...cards);
    const first = places.length ? page * per + 1 : 0;
    const all = chosen.length === count() ? "" : `, of ${number(count())} in all`;
    shown.textContent = `Samples ${number(first)} to ${number(page * per + places.length)} of ${number(chosen.length)}${all}`;
    pageLabel.textContent = `Page ${number(page + 1)} of ${number(pages)}`;
    previous.disabled = page === 0;
    next.disabled = page >= pages - 1;
    const aimed = list.querySelector(".aim");
    if (aimed) {
      aimed.scrollIntoView();
      aimed.focus({ preventScroll: true });
    }
  }

  function remember() {
    const parts = new URLSearchParams();
    if (search.value) parts.set("q", search.value);
    if (tools.elements.which.value !== "all") parts.set("show", tools.elements.which.value);
    if (page) parts.set("page", page + 1);
    history.replaceState(null, "", parts.size ? `#${parts}` : location.pathname + location.search);
  }

  async function change(keep) {
    aim = "";
    if (!keep) page = 0;
    if (keep || (await choose())) {
      if (!keep) page = 0;
      await draw();
      remember();
    }
  }

  async function recall() {
    const asked = new URLSearchParams(location.hash.slice(1));
    search.value = asked.get("q") ?? "";
    const which = ["0", "1"].includes(asked.get("show")) ? asked.get("show") : "all";
    tools.elements.which.value = which;
    aim = asked.get("sample") ?? "";
    if (!(await choose())) return;
    page = (Number(asked.get("page")) || 1) - 1;
    if (aim) {
      let place = 0;
      while (place < count() && idOf(place) !== aim) place += 1;
      if (place < count()) page = Math.floor(place / Number(size.value));
      else shown.textContent = "This report has no sample of that name.";
    }
    await draw();
  }

  tools.addEventListener("submit", (event) => event.preventDefault());
  let pause = 0;
  search.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(change, 200);
  });
  tools.addEventListener("change", (event) => { if (event.target !== search) change(); });
  previous.addEventListener("click", () => { page -= 1; change(true); list.scrollIntoView(); });
  next.addEventListener("click", () => { page += 1; change(true); list.scrollIntoView(); });
  addEventListener("hashchange", recall);
  load("index", `${folder}/index.js`, nonce).then((data) => {
    index = data;
    return recall();
  }).catch((error) => { shown.textContent = `The samples cannot be shown: ${error.message}`; });
})();
