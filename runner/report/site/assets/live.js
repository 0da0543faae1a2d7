"use strict";
// Loads the page again when `evalset view` has made a newer report; what is typed is not interrupted.
(() => {
  const { state, build } = document.currentScript.dataset;
  const label = document.getElementById("live");

  async function look() {
    try {
      const found = await (await fetch(state, { cache: "no-store" })).json();
      const typing = document.activeElement?.matches("input[type=search]") && document.activeElement.value;
      if (String(found.build) !== build && !typing) location.reload();
      label.textContent = String(found.build) === build ? "watching the run" : "there is something new";
    } catch {
      label.textContent = "evalset view has ended";
    }
    setTimeout(look, 2000);
  }
  setTimeout(look, 2000);
})();
