/* Asks the endpoint, with the key of this tab where keys are on. */

import { byId, make } from "./dom.js";

const KEPT = "metaq-key";
const dialog = byId("ask-key");
let asking = null;

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export async function ask(method, path, body = undefined, options = {}) {
  if (document.body.dataset.keys === "on" && !sessionStorage.getItem(KEPT) && !(await askForKey(401, ""))) {
    throw new Refused(401, "unauthorized", "Nothing can be shown without a key.");
  }
  for (;;) {
    const headers = { Accept: "application/json" };
    const key = sessionStorage.getItem(KEPT);
    if (key) headers["X-API-Key"] = key;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, {
        method, headers, signal: options.signal, credentials: "omit", cache: "no-store",
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "unreachable", "The endpoint does not answer. Is it running?");
    }
    if (answer.ok) return answer.json();
    const refusal = await readRefusal(answer);
    const lacksKey = answer.status === 401 || (answer.status === 403 && document.body.dataset.keys === "on");
    if (!lacksKey || options.quiet || !(await askForKey(answer.status, refusal.message))) throw refusal;
  }
}

async function readRefusal(answer) {
  try {
    const { error } = await answer.json();
    return new Refused(answer.status, error.code, error.message);
  } catch {
    return new Refused(answer.status, "unknown", `The endpoint answered ${answer.status}.`);
  }
}

/* Several requests may be refused at once; one question is enough. */
export function askForKey(status, message) {
  asking = asking || new Promise((resolve) => {
    const why = status === 403 ? `The key at hand may not do this: ${message}`
      : sessionStorage.getItem(KEPT) ? "The key at hand is not known to this endpoint." : "This endpoint answers to keys.";
    byId("ask-key-why").textContent = why;
    const field = byId("key-field");
    field.value = "";
    dialog.returnValue = "";
    dialog.showModal();
    field.focus();
    dialog.addEventListener("close", () => {
      const given = field.value.trim();
      field.value = "";
      asking = null;
      const use = dialog.returnValue === "use" && given !== "";
      if (use) sessionStorage.setItem(KEPT, given);
      resolve(use);
    }, { once: true });
  });
  return asking;
}

/* Enter in a dialog's field means its last button, not its first. */
for (const each of document.querySelectorAll("dialog")) {
  each.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
    event.preventDefault();
    each.querySelector(".buttons button:last-child").click();
  });
}

byId("key")?.addEventListener("click", async () => {
  if (await askForKey(0, "")) location.reload();
});

export function failed(error, again) {
  const button = again && make("button", { type: "button", cls: "quiet", onclick: again }, "Try again");
  return make("div", { cls: "notice bad", role: "alert" }, error.message || String(error), button);
}

/* Says yes or no in a dialog of the page. */
export function confirmed(sure) {
  sure.returnValue = "";
  sure.showModal();
  return new Promise((resolve) => {
    sure.addEventListener("close", () => resolve(sure.returnValue), { once: true });
  });
}
