/* The ranked list: what stands where, what moved, and why. */

import { ask, failed } from "./api.js";
import { draw, kindOf, make, plain, show, signed, titleOf } from "./dom.js";

const WIDTH = 112;
const EDGE = 6;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class RankedList {
  /* `onlike`, where given, makes similar items things to like. */
  constructor(list, { onlike = null, liked = new Map() } = {}) {
    this.list = list;
    this.onlike = onlike;
    this.liked = liked;
    this.rows = new Map(); // item id -> li
    this.places = null; // of the list before
    this.answer = null;
  }

  update(answer) {
    const before = this.places;
    const tops = new Map([...this.rows].map(([id, row]) => [id, row.getBoundingClientRect().top]));
    const focused = this.list.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.item : null;
    const scale = scaleOf(answer.items);
    const rows = new Map();
    answer.items.forEach((item, place) => {
      const open = this.rows.get(item.item_id)?.querySelector("details").open ?? false;
      rows.set(item.item_id, this.#row(item, place, before, scale, open, answer));
    });
    this.rows = rows;
    this.places = new Map(answer.items.map((item, place) => [item.item_id, place]));
    this.answer = answer;
    show(this.list, ...rows.values());
    if (focused && rows.has(focused)) rows.get(focused).querySelector("summary").focus({ preventScroll: true });
    if (before && !calm.matches) this.#glide(tops);
  }

  forget() {
    this.places = null;
  }

  changed(previous) {
    if (!previous) return 0;
    return [...this.places].filter(([id, place]) => previous.get(id) !== place).length;
  }

  #row(item, place, before, scale, open, answer) {
    const summary = make("summary", { cls: "row" },
      make("span", { cls: "place" }, String(place + 1)),
      make("span", {},
        make("span", { cls: "title" }, titleOf(item)), moved(item, place, before),
        make("span", { cls: "under" }, ...under(item))),
      make("span", {}, answer.adapts && spot(item, scale), sure(item)),
      make("span", { cls: "turn", "aria-hidden": "true" }, "›"));
    const details = make("details", { open }, summary);
    const fill = () => {
      if (details.open && details.children.length === 1) details.append(this.#why(item, answer));
    };
    details.addEventListener("toggle", fill);
    fill();
    return make("li", { "data-item": item.item_id }, details);
  }

  #why(item, answer) {
    const near = make("div", { cls: "near" });
    const button = make("button", { type: "button", cls: "link", onclick: () => this.#similar(item, near, button) },
      "Show similar items");
    near.append(button);
    return make("div", { cls: "why" }, numbers(item, answer), pulls(item), near);
  }

  async #similar(item, near, button) {
    button.disabled = true;
    try {
      const found = await ask("GET", `/v1/items/${encodeURIComponent(item.item_id)}/similar?n=5`);
      const rows = found.items.map((other) => make("li", {},
        make("span", {}, titleOf(other)),
        this.onlike && !this.liked.has(other.item_id)
          ? make("button", { type: "button", cls: "link", "aria-label": `Like ${titleOf(other)}`, onclick: () => this.onlike(other) }, "Like")
          : make("span", { cls: "muted" }, this.liked.has(other.item_id) ? "liked" : plain(other.score, 2))));
      show(near, make("h3", {}, "Similar to this"), make("ul", {}, ...rows));
    } catch (error) {
      show(near, failed(error, () => this.#similar(item, near, button)));
    }
  }

  #glide(tops) {
    for (const [id, row] of this.rows) {
      const was = tops.get(id);
      const by = was === undefined ? 14 : was - row.getBoundingClientRect().top;
      if (!by) continue;
      const from = was === undefined ? { transform: `translateY(${by}px)`, opacity: 0 } : { transform: `translateY(${by}px)` };
      row.animate([from, { transform: "none", opacity: 1 }], { duration: 420, easing: "cubic-bezier(.2,.8,.2,1)" });
    }
  }
}

function moved(item, place, before) {
  if (!before) return null;
  const was = before.get(item.item_id);
  if (was === undefined) return make("span", { cls: "move new" }, "new");
  if (was === place) return null;
  const up = was > place;
  return make("span", { cls: `move ${up ? "up" : "down"}` },
    make("span", { "aria-hidden": "true" }, up ? "▲ " : "▼ "),
    make("span", { cls: "hidden" }, up ? "up " : "down "), String(Math.abs(was - place)));
}

/* What pulled it up most, and what it is. */
function under(item) {
  const best = item.pulls.find((pull) => pull.change > 0);
  const popular = item.reasons.some((reason) => reason.kind === "popular");
  const why = best ? make("span", { cls: "because" }, `because of ${titleOf(best)}`) : popular ? "many people take it" : "";
  return [why, why && kindOf(item) ? " · " : "", kindOf(item)];
}

function scaleOf(items) {
  const all = items.flatMap((item) => [item.score, item.base_score ?? item.score]);
  const low = Math.min(...all);
  const high = Math.max(...all);
  const margin = (high - low) * 0.12 || 1;
  return { low: low - margin, span: high - low + 2 * margin };
}

function sure(item) {
  return make("span", { cls: "sure" }, make("b", {}, plain(item.score, 2)), item.deviation === null ? "" : ` ± ${plain(item.deviation, 2)}`);
}

/* Base Q as a ring, adapted Q as a dot, on one scale for the whole list. */
function spot(item, { low, span }) {
  const at = (value) => EDGE + Math.min(1, Math.max(0, (value - low) / span)) * (WIDTH - 2 * EDGE);
  const says = `Q ${plain(item.base_score)} without adaptation, ${plain(item.score)} adapted, give or take ${plain(item.deviation)}`;
  const line = (cls, from, to) => draw("line", { cls, x1: at(from), x2: at(to), y1: 9, y2: 9 });
  return draw("svg", { cls: "spot", viewBox: `0 0 ${WIDTH} 18`, role: "img", "aria-label": says },
    draw("title", {}, says),
    draw("line", { cls: "axis", x1: EDGE, x2: WIDTH - EDGE, y1: 9, y2: 9 }),
    line("shift", item.base_score, item.score),
    draw("circle", { cls: "base", cx: at(item.base_score), cy: 9, r: 4 }),
    draw("circle", { cls: "now", cx: at(item.score), cy: 9, r: 5 }));
}

export function legend() {
  return make("p", { cls: "legend" },
    make("span", {}, make("i", { cls: "hollow" }), "base Q"),
    make("span", {}, make("i", {}), "adapted Q"),
    make("span", {}, "± what the model still doubts (one posterior deviation)"));
}

function numbers(item, answer) {
  const rows = [["Score", plain(item.score)]];
  if (answer.adapts) {
    rows.length = 0;
    rows.push(["Q without adaptation", plain(item.base_score)], ["Q adapted", `${plain(item.score)}  (${signed(item.score - item.base_score)})`],
      ["Give or take", `± ${plain(item.deviation)}`], ["… before any event", `± ${plain(item.prior_deviation)}`]);
  }
  return make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function pulls(item) {
  if (!item.pulls.length) return make("p", { cls: "muted" }, "No single event moves this item; it stands here for what it is.");
  const largest = Math.max(...item.pulls.map((pull) => Math.abs(pull.change)));
  const rows = item.pulls.map((pull) => {
    const bar = make("span", { cls: pull.change < 0 ? "less" : "" });
    bar.style.width = `${(Math.abs(pull.change) / largest) * 100}%`;
    return make("div", { cls: "pull" }, make("span", {}, titleOf(pull)), make("span", { cls: "lane", "aria-hidden": "true" }, bar),
      make("span", { cls: "number" }, signed(pull.change)));
  });
  return make("div", {}, make("h3", {}, "What each event adds: Q with it less Q without it (they overlap, so they need not add up)"), ...rows);
}

export function bareList(list, items, both) {
  show(list, ...items.map((item, place) => make("li", { cls: both.has(item.item_id) ? "both" : "" },
    make("span", { cls: "place" }, String(place + 1)), make("span", {}, titleOf(item)))));
}
