/* Try it as a new user: likes live in this tab, every click asks for the list again. */

import { ask, failed } from "./api.js";
import { byId, counted, ghosts, kindOf, make, show, titleOf } from "./dom.js";
import { RankedList, bareList, legend } from "./lists.js";

const liked = new Map(); // item id -> item, in the order of the likes
const ranked = new RankedList(byId("ranked"), { onlike: like, liked });
let cards = []; // what is asked about now
let newest = null; // the last answer
let running = null; // the request on its way
let searching = 0;

show(byId("cards"), ...ghosts(12));
show(byId("ranked"), ...ghosts(10));
show(byId("plain"), ...ghosts(10));
rank({ newCards: true });

async function rank({ newCards = false } = {}) {
  running?.abort();
  running = new AbortController();
  const mine = running;
  const before = ranked.places;
  byId("ranked").setAttribute("aria-busy", "true");
  try {
    const answer = await ask("POST", "/console/api/preview", { liked: [...liked.keys()], n: 10 }, { signal: mine.signal });
    if (mine !== running) return;
    newest = answer;
    byId("model").textContent = answer.model;
    ranked.update(answer);
    bareList(byId("plain"), answer.unadapted, new Set(ranked.places.keys()));
    if (newCards) askAbout(answer.questions);
    tell(answer, before);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("status").textContent = "";
    show(byId("ranked"), make("li", {}, failed(error, () => rank({ newCards: newCards || !cards.length }))));
    ranked.rows.clear();
    if (!cards.length) show(byId("cards"));
    show(byId("plain"));
  }
}

function tell(answer, before) {
  const changed = ranked.changed(before);
  const learnt = answer.adapts ? "adapted to" : "ranked by";
  byId("status").textContent = liked.size
    ? `${learnt} ${counted(liked.size, "like")}${before ? ` · ${changed} of ${answer.items.length} moved` : ""}`
    : "nothing known yet";
  byId("jump").hidden = !liked.size;
  const gauges = [gauge("Likes it has learnt from", String(answer.support_events))];
  if (answer.doubt_left !== null) {
    const gone = 1 - answer.doubt_left;
    gauges.push(gauge("Doubt about these items gone", `${Math.round(gone * 100)} %`, gone));
  }
  const fresh = answer.items.filter((item) => !answer.unadapted.some((other) => other.item_id === item.item_id)).length;
  gauges.push(gauge("Items only adaptation found", `${fresh} of ${answer.items.length}`, fresh / Math.max(1, answer.items.length)));
  show(byId("gauges"), ...gauges);
  if (answer.adapts && !byId("ranked").nextElementSibling) byId("ranked").after(legend());
  byId("plain-why").textContent = `What the same model shows by the session alone, without learning from you.${liked.size ? " Faded: not in your list." : ""}`;
  if (!answer.adapts) byId("plain-why").textContent = "This version is a baseline: it reads your likes but has nothing to adapt, so both lists agree.";
}

function gauge(label, value, share = null) {
  const element = make("div", { cls: "gauge" }, make("div", { cls: "value" }, value), make("div", { cls: "label" }, label));
  if (share !== null) {
    const bar = make("span");
    bar.style.width = `${Math.round(share * 100)}%`;
    element.append(make("div", { cls: "track", "aria-hidden": "true" }, bar));
  }
  return element;
}

function askAbout(items, why = null) {
  cards = items;
  showCards(items, why);
}

function showCards(items, why = null) {
  byId("picks-why").textContent = why || (liked.size
    ? "Chosen anew, by what you have said: your answers to these would teach it most."
    : "Chosen by the model: your answers to these would teach it most.");
  byId("cards-empty").hidden = items.length > 0;
  byId("cards-empty").textContent = "Nothing of this name can be had. Try another word.";
  show(byId("cards"), ...items.map((item) => make("li", {}, card(item))));
}

function card(item) {
  const on = liked.has(item.item_id);
  return make("button", { type: "button", cls: "card", "aria-pressed": String(on), "data-item": item.item_id, onclick: () => toggle(item) },
    make("span", { cls: "name" }, titleOf(item)),
    make("span", { cls: "meta" }, make("span", {}, kindOf(item)), make("span", { cls: "heart", "aria-hidden": "true" }, on ? "♥" : "♡")));
}

function toggle(item) {
  if (liked.has(item.item_id)) unlike(item.item_id);
  else like(item);
}

function like(item) {
  liked.set(item.item_id, item);
  renew();
}

function unlike(id) {
  liked.delete(id);
  renew();
}

function renew() {
  for (const button of byId("cards").querySelectorAll(".card")) {
    const on = liked.has(button.dataset.item);
    button.setAttribute("aria-pressed", String(on));
    button.querySelector(".heart").textContent = on ? "♥" : "♡";
  }
  byId("liked").hidden = !liked.size;
  byId("other").disabled = false;
  show(byId("liked-list"), ...[...liked.values()].map((item) => make("li", {},
    make("button", { type: "button", "aria-label": `Like ${titleOf(item)} no longer`, onclick: () => unlike(item.item_id) }, titleOf(item)))));
  rank();
}

new IntersectionObserver(([seen]) => byId("jump").classList.toggle("off", seen.isIntersecting)).observe(byId("yours"));

byId("other").addEventListener("click", () => {
  byId("search").value = "";
  if (newest) askAbout(newest.questions);
});

byId("restart").addEventListener("click", () => {
  liked.clear();
  ranked.forget();
  byId("search").value = "";
  byId("liked").hidden = true;
  byId("other").disabled = true;
  rank({ newCards: true });
  byId("search").focus();
});

byId("search").addEventListener("input", () => {
  clearTimeout(searching);
  searching = setTimeout(search, 180);
});

async function search() {
  const text = byId("search").value.trim();
  if (!text) {
    showCards(cards);
    return;
  }
  try {
    const found = await ask("GET", `/console/api/items?q=${encodeURIComponent(text)}`);
    if (byId("search").value.trim() === text) showCards(found.items, `${counted(found.items.length, "item")} by title, the most popular first.`);
  } catch (error) {
    show(byId("cards"), make("li", {}, failed(error, search)));
  }
}
