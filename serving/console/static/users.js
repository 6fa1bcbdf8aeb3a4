/* Looks up a user: what they did, what they would see and why, what is learnt of them, and how to forget them. */

import { ask, confirmed, failed } from "./api.js";
import { byId, counted, ghosts, make, plain, show, titleOf } from "./dom.js";
import { RankedList, bareList, legend } from "./lists.js";

const result = byId("result");
const days = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const hours = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });

byId("lookup").addEventListener("submit", (event) => {
  event.preventDefault();
  const user = byId("user").value.trim();
  if (user) lookUp(user);
});

async function lookUp(user) {
  show(result, make("div", { cls: "facts" }, ...ghosts(4, "div")), make("div", { cls: "panel" }, ...ghosts(6, "div")));
  for (const ghost of result.querySelectorAll(".ghost")) ghost.style.height = "58px";
  try {
    const answer = await ask("POST", "/console/api/preview", { user, n: 10 });
    if (!answer.history.length && !Object.keys(answer.attributes).length) show(result, unknown(user, answer));
    else show(result, ...known(user, answer));
  } catch (error) {
    show(result, failed(error, () => lookUp(user)));
  }
}

function unknown(user, answer) {
  return make("div", { cls: "blank" }, make("p", { cls: "big" }, `Nothing is kept of ${user}.`),
    make("p", { cls: "muted" }, `They would be met as a new user: the first item would be ${answer.items.length ? titleOf(answer.items[0]) : "none"}.`),
    listOf(answer, "What a new user sees"));
}

function known(user, answer) {
  return [facts(answer), make("div", { cls: "two" }, listOf(answer, "Their list now"), events(answer)), learnt(answer), dangerZone(user)];
}

function facts(answer) {
  const fact = (label, value, note) => make("div", { cls: "fact" }, make("div", { cls: "label" }, label), make("div", { cls: "value" }, value), note && make("div", { cls: "note" }, note));
  const newest = answer.history[0];
  const shift = answer.adapts && answer.items.length ? answer.items.reduce((sum, item) => sum + Math.abs(item.score - item.base_score), 0) / answer.items.length : null;
  return make("div", { cls: "facts" },
    fact("Events it has learnt from", String(answer.support_events), `of ${counted(answer.history.length, "kept event")}`),
    fact("Newest event", newest ? days.format(newest.timestamp * 1000) : "none", newest ? `${hours.format(newest.timestamp * 1000)} UTC` : null),
    answer.doubt_left === null ? null : fact("Doubt about their list gone", `${Math.round((1 - answer.doubt_left) * 100)} %`, "of the deviation before any event"),
    shift === null ? null : fact("Adaptation moves Q by", plain(shift), "on average over their list"),
    ...Object.entries(answer.attributes).map(([name, value]) => fact(name, value)));
}

function listOf(answer, heading) {
  const list = make("ol", { cls: "ranked" });
  const aside = make("ol", { cls: "bare" });
  new RankedList(list).update(answer);
  bareList(aside, answer.unadapted, new Set(answer.items.map((item) => item.item_id)));
  return make("section", { cls: "panel" }, make("div", { cls: "head" }, make("h2", {}, heading), make("span", { cls: "badge accent" }, answer.served_by)),
    make("p", { cls: "small muted" }, `Best first. Live, lists are drawn with ${answer.exploration.replaceAll("_", " ")}, so neighbours may change places.`),
    list, answer.adapts && legend(), answer.adapts && make("details", { cls: "more" }, make("summary", { cls: "small" }, "The same list without adaptation"), aside));
}

function events(answer) {
  const rows = answer.history.map((event) => make("tr", {}, make("td", {}, titleOf(event)), make("td", {}, make("span", { cls: "badge" }, event.event_type)),
    make("td", { cls: "number" }, event.value === null ? "" : plain(event.value, 2)), make("td", { cls: "muted when" }, days.format(event.timestamp * 1000), " ", hours.format(event.timestamp * 1000))));
  const header = make("tr", {}, ...["Item", "What", "Value", "When (UTC)"].map((name) => make("th", { scope: "col", cls: name === "Value" ? "number" : "" }, name)));
  return make("section", { cls: "panel" }, make("div", { cls: "head" }, make("h2", {}, "What they did"), make("span", { cls: "badge" }, counted(answer.history.length, "event"))),
    rows.length ? make("div", { cls: "scroll events", tabindex: "0", role: "region", "aria-label": "Events" }, make("table", {}, make("thead", {}, header), make("tbody", {}, ...rows)))
      : make("p", { cls: "empty" }, "No events; only attributes are known."));
}

/* The k-shot state: which events carry the list. */
function learnt(answer) {
  const weight = new Map();
  for (const item of answer.items) {
    for (const pull of item.pulls) {
      const known = weight.get(pull.item_id) || { item_id: pull.item_id, title: pull.title, total: 0 };
      known.total += Math.abs(pull.change);
      weight.set(pull.item_id, known);
    }
  }
  const strongest = [...weight.values()].sort((one, other) => other.total - one.total).slice(0, 8);
  if (!strongest.length) return null;
  const rows = strongest.map((source) => {
    const bar = make("span");
    bar.style.width = `${(source.total / strongest[0].total) * 100}%`;
    return make("div", { cls: "pull" }, make("span", {}, titleOf(source)), make("span", { cls: "lane", "aria-hidden": "true" }, bar), make("span", { cls: "number" }, plain(source.total)));
  });
  return make("section", { cls: "panel" }, make("div", { cls: "head" }, make("h2", {}, "What the model has learnt from")),
    make("p", { cls: "small muted" }, "How much each of their newest items moves the ten scores above, added up."), make("div", { cls: "why flat" }, ...rows));
}

function dangerZone(user) {
  return make("section", { cls: "panel danger-zone" },
    make("div", {}, make("h2", {}, "Delete their data"), make("p", { cls: "small muted" }, "Events, shown lists and attributes, in one transaction, with a count of what is left.")),
    make("button", { type: "button", cls: "danger", onclick: () => forget(user) }, "Delete…"));
}

async function forget(user) {
  byId("forget-who").textContent = user;
  byId("forget-check").value = "";
  byId("forget-go").disabled = true;
  if ((await confirmed(byId("forget"))) !== "forget" || byId("forget-check").value !== user) return;
  try {
    const gone = await ask("DELETE", `/v1/users/${encodeURIComponent(user)}`);
    show(result, proof(user, gone));
  } catch (error) {
    result.append(failed(error, () => forget(user)));
  }
}

byId("forget-check").addEventListener("input", () => {
  byId("forget-go").disabled = byId("forget-check").value !== byId("forget-who").textContent;
});

function proof(user, gone) {
  const removed = { events: gone.events, impressions: gone.impressions, users: gone.attributes };
  const rows = Object.entries(gone.remaining).map(([table, left]) => make("tr", {}, make("td", {}, make("code", {}, table)), make("td", {}, String(removed[table] ?? "")), make("td", {}, String(left))));
  const clean = Object.values(gone.remaining).every((left) => left === 0);
  const header = make("tr", {}, ...["Table", "Rows removed", "Rows left"].map((name) => make("th", { scope: "col" }, name)));
  return make("section", { cls: "panel proof", id: "proof" },
    make("div", { cls: "head" }, make("h2", {}, `${user} is forgotten`), make("span", { cls: `badge ${clean ? "good" : "bad"}` }, clean ? "nothing is left" : "something is left")),
    make("p", { cls: "small muted" }, "Every table that knows users was counted again after the deletion."), make("table", {}, make("thead", {}, header), make("tbody", {}, ...rows)));
}
