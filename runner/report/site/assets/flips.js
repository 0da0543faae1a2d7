"use strict";
// Lists the samples of an eval that flipped, once its part of the comparison is opened.
(() => {
  const { make, text, load } = evalset;

  function item(row, before, after) {
    const [id, gained, expected, old, now] = row;
    const link = (page, label) => {
      const made = make("a", "", label);
      made.href = `${page}#${new URLSearchParams({ sample: id })}`;
      return made;
    };
    const side = (title, value) => make("div", "", make("h4", "", title), text("", value));
    return make("li", `sample ${gained ? "right" : "wrong"}`,
      make("header", "", make("h3", "", id), make("span", "verdict", gained ? "✓ now right" : "✕ now wrong"), link(before, "before"), link(after, "after")),
      make("div", "sides", side("Expected", expected), side("Before", old), side("After", now)));
  }

  function fill(box) {
    if (!box.open || box.dataset.filled) return;
    box.dataset.filled = "yes";
    const { flips, nonce, before, after } = box.dataset;
    load(`flips-${box.id}`, flips, nonce).then((rows) => {
      box.append(make("ul", "", ...rows.map((row) => item(row, before, after))));
    }).catch((error) => box.append(make("p", "warning", error.message)));
  }

  document.querySelectorAll("details.flips").forEach((box) => {
    box.addEventListener("toggle", () => fill(box));
  });
  function aim() {
    const box = document.getElementById(location.hash.slice(1));
    if (box?.matches("details.flips")) {
      box.open = true;
      box.scrollIntoView();
    }
  }
  addEventListener("hashchange", aim);
  aim();
})();
