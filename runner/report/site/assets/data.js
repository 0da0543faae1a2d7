"use strict";
// Takes data out of scripts of this report, because a page on disk may load nothing else. What the data
// hold came from logs: it is shown as text, and never as anything else.
const evalset = (() => {
  const waiting = new Map();
  const takers = new Map();
  const policy = window.trustedTypes?.createPolicy("evalset", { createScriptURL: (url) => url });

  // Each name is asked for once at a time; all get the same answer.
  function load(name, url, nonce) {
    if (!waiting.has(name)) {
      waiting.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.nonce = nonce;
        script.src = policy ? policy.createScriptURL(url) : url;
        script.onerror = () => reject(new Error(`cannot load ${url}`));
        takers.set(name, (data) => { resolve(data); script.remove(); });
        document.head.append(script);
      }).finally(() => waiting.delete(name)));
    }
    return waiting.get(name);
  }

  function take(name, data) {
    takers.get(name)?.(data);
    takers.delete(name);
  }

  const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

  // Text without what would hide or turn around what is next to it.
  function plain(text) {
    return String(text).replace(/\r\n?/g, "\n").replace(UNSAFE, "\ufffd");
  }

  function make(tag, className, ...inside) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...inside.filter((each) => each !== null).map((each) => (each instanceof Node ? each : plain(each))));
    return element;
  }

  function text(title, value) {
    const box = make("div", "text", title ? make("b", "", title) : null, value);
    box.tabIndex = 0;
    return box;
  }

  return { load, take, make, plain, text };
})();
