/* Operations: readings every two seconds while the page is looked at; models, promote and roll back. */

import { ask, confirmed, failed } from "./api.js";
import { spark } from "./charts.js";
import { byId, counted, ghosts, make, plain, show } from "./dom.js";
import { showEstimate } from "./estimate.js";
import { between, nothing, quantile, sum } from "./readings.js";

const EVERY_MS = 2000;
const KEPT = 90; // points of a line: three minutes
const lines = { rate: [], p99: [] };
let last = null; // the reading before, of one worker
let told = ""; // the table of models as it was drawn
let timer = 0;

show(byId("tiles"), ...ghosts(8, "div"));
read();
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) read();
});

async function read() {
  clearTimeout(timer);
  try {
    const reading = await ask("GET", "/console/api/operations");
    figures(reading);
    models(reading);
    byId("seen").textContent = `Worker ${reading.worker}, up for ${ago(reading.at - reading.started)}. Each worker counts for itself. Read again every two seconds.`;
    showEstimate(byId("estimate"), byId("verdict"), await ask("GET", "/console/api/estimate"));
  } catch (error) {
    byId("seen").textContent = "";
    if (!last) show(byId("tiles"), failed(error, read));
    else byId("seen").textContent = `${error.message} Trying again…`;
    if (error.status === 401 || error.status === 403) return; // whoever closed the question is not asked every two seconds
  }
  if (!document.hidden) timer = setTimeout(read, EVERY_MS);
}

function figures(reading) {
  const whole = between(nothing(reading), reading);
  const same = last && last.worker === reading.worker && reading.at > last.at;
  const now = same ? between(last, reading) : null;
  last = reading;
  if (now) {
    keep(lines.rate, sum(now.requests) / now.seconds);
    keep(lines.p99, quantile(now.latency, 0.99));
  }
  const lists = sum(whole.lists);
  const share = (part, all) => (all ? `${((part / all) * 100).toFixed(part / all < 0.1 ? 1 : 0)} %` : "–");
  const recent = now && sum(now.lists) ? now : whole;
  const when = recent === now ? "now" : "since the start";
  show(byId("tiles"),
    tile("Requests a second", now ? (sum(now.requests) / now.seconds).toFixed(1) : "–", `${counted(sum(whole.requests), "request")} since the start`, lines.rate),
    tile("List latency, median", ms(quantile(recent.latency, 0.5)), when),
    tile("List latency, p99", ms(quantile(recent.latency, 0.99)), when, lines.p99),
    tile("Adaptation, median", ms(quantile(whole.adaptation, 0.5)), `${counted(whole.adaptation.at(-1)[1], "adapted list")}`),
    tile("Cold users", share(whole.cold, lists), `of ${counted(lists, "list")}`),
    tile("Fallbacks", String(sum(whole.fallbacks)), lists ? `${share(sum(whole.fallbacks), lists)} of lists` : "no list yet", null, sum(whole.fallbacks) ? "warn" : ""),
    tile("Events accepted", (whole.events.accepted || 0).toLocaleString("en"), `${(whole.events.duplicate || 0).toLocaleString("en")} sent twice`),
    tile("Events refused", (whole.events.rejected || 0).toLocaleString("en"), `${counted(reading.pending, "write")} waiting`, null, whole.events.rejected ? "warn" : ""));
  show(byId("breakdown"),
    bars("Lists by what ranked them", whole.lists), bars("Answers by status", whole.requests),
    bars("Fallbacks by reason", whole.fallbacks), bars("Refused before any work", whole.refused));
}

function keep(line, value) {
  line.push(value);
  if (line.length > KEPT) line.shift();
}

function tile(label, value, note, line = null, cls = "") {
  return make("div", { cls: `tile ${cls}` }, make("div", { cls: "label" }, label), make("div", { cls: "value" }, value),
    make("div", { cls: "note" }, note), line && line.length > 1 && spark(line));
}

function bars(heading, counts) {
  const entries = Object.entries(counts).filter(([, count]) => count > 0).sort((one, other) => other[1] - one[1]);
  const most = entries.length ? entries[0][1] : 1;
  const rows = entries.map(([name, count]) => {
    const bar = make("span");
    bar.style.width = `${(count / most) * 100}%`;
    return make("div", { cls: "count" }, make("span", {}, name.replaceAll("_", " ")), make("span", { cls: "lane", "aria-hidden": "true" }, bar), make("span", { cls: "number" }, count.toLocaleString("en")));
  });
  return make("div", { cls: "counts" }, make("h3", { cls: "small" }, heading), ...(rows.length ? rows : [make("p", { cls: "small muted" }, "none")]));
}

const ms = (seconds) => (seconds === null ? "–" : `${(seconds * 1000).toFixed(seconds < 0.01 ? 2 : 0)} ms`);

function ago(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function models(reading) {
  const state = JSON.stringify([reading.active, reading.shadow, reading.aliases, reading.told]);
  if (state === told) return;
  told = state;
  byId("model").textContent = reading.active;
  const shots = [...new Set(reading.told.flatMap((one) => one.curve.map((point) => point.events)))].sort((one, other) => one - other);
  const best = new Map(shots.map((k) => [k, Math.max(...reading.told.map((one) => meanAt(one, k) ?? -1))]));
  const header = make("tr", {}, make("th", { scope: "col" }, "Version"), make("th", { scope: "col" }, "Ranks by"),
    ...shots.map((k) => make("th", { scope: "col", cls: "number" }, counted(k, "event"))), make("th", { scope: "col" }, make("span", { cls: "hidden" }, "Actions")));
  const rows = reading.told.map((one) => make("tr", { cls: one.version === reading.active ? "active" : "" },
    make("td", {}, make("code", {}, one.version), ...roles(one.version, reading)),
    make("td", {}, one.ranker === "q" ? "adapted student" : one.ranker.replaceAll("_", "-") || "unknown"),
    ...shots.map((k) => figure(one, k, best.get(k))),
    make("td", { cls: "number actions" }, ...(one.version === reading.active ? [] : choices(one.version, reading)))));
  show(byId("models"), make("thead", {}, header), make("tbody", {}, ...rows));
}

function choices(version, reading) {
  const shadows = version === reading.shadow;
  const path = shadows ? "/v1/models/shadow" : `/v1/models/${encodeURIComponent(version)}/shadow`;
  return [
    make("button", { type: "button", cls: "quiet", "aria-label": shadows ? "Stop the shadow" : `Let ${version} rank in the shadow`,
      title: "Ranks every list unseen, and is the challenger of the live estimate", onclick: () => move(shadows ? "DELETE" : "POST", path) }, shadows ? "Stop shadow" : "Shadow"),
    make("button", { type: "button", cls: "quiet", "aria-label": `Promote ${version}`, onclick: () => promote(version) }, "Promote"),
  ];
}

const meanAt = (one, k) => one.curve.find((point) => point.events === k)?.mean ?? null;

function figure(one, k, best) {
  const point = one.curve.find((each) => each.events === k);
  if (!point) return make("td", { cls: "number muted" }, "–");
  return make("td", { cls: "number", title: `95 % interval ${plain(point.low)} to ${plain(point.high)}` }, point.mean === best ? make("strong", {}, plain(point.mean)) : plain(point.mean));
}

function roles(version, reading) {
  const names = Object.entries(reading.aliases).filter(([, where]) => where === version).map(([alias]) => alias);
  return [
    version === reading.active && make("span", { cls: "badge good" }, "answers now"),
    version === reading.shadow && make("span", { cls: "badge warn" }, "shadow"),
    ...names.map((alias) => make("span", { cls: "badge accent" }, alias)),
  ].filter(Boolean);
}

async function promote(version) {
  if (await certain(`Promote ${version}?`, "It is loaded and warmed first; then the next request is answered by it, and none is dropped. You can roll back.", "Promote")) {
    await move("POST", `/v1/models/${encodeURIComponent(version)}/activate`);
  }
}

byId("rollback").addEventListener("click", async () => {
  if (await certain("Roll back?", "The alias goes back to the version that it pointed to before, and the next request is answered by it.", "Roll back")) {
    await move("POST", "/v1/models/rollback");
  }
});

async function certain(title, text, go) {
  byId("sure-title").textContent = title;
  byId("sure-text").textContent = text;
  byId("sure-go").textContent = go;
  return (await confirmed(byId("sure"))) === "go";
}

async function move(method, path) {
  const notice = byId("moved");
  notice.hidden = false;
  notice.className = "notice";
  notice.textContent = "Loading the version…";
  try {
    const now = await ask(method, path);
    notice.textContent = now.active ? `${now.active} answers now.` : now.shadow ? `${now.shadow} ranks in the shadow.` : "Nothing ranks in the shadow.";
    read();
  } catch (error) {
    notice.className = "notice bad";
    notice.textContent = error.message;
  }
}
