/* The live replay estimate: what was earned, what each model would have earned, and whether these logs may say so. */

import { intervals } from "./charts.js";
import { counted, make, plain, show, signed } from "./dom.js";

const BADGES = { better: "good", worse: "bad", "no difference seen": "accent", "cannot say": "warn" };
let drawn = "";

export function showEstimate(place, badge, told) {
  const state = JSON.stringify(told);
  if (state === drawn) return;
  drawn = state;
  const open = place.querySelector("details")?.open ?? false;
  const decision = told.decision;
  badge.hidden = !decision;
  badge.textContent = decision === "cannot say" ? "these logs cannot say" : decision || "";
  badge.className = `badge ${BADGES[decision] || ""}`;
  if (!told.lists) {
    show(place, make("div", { cls: "blank" }, make("p", { cls: "big" }, "No list to learn from yet."),
      make("p", { cls: "muted" }, told.sentence)));
    return;
  }
  const parts = [make("p", { cls: "sentence" }, told.sentence)];
  if (told.rows.length) {
    parts.push(make("div", { cls: decision === "cannot say" ? "greyed" : "" }, intervals(told.rows.filter((row) => row.mean !== null).map((row) => ({ ...row, cls: row.role })), { room: place.clientWidth })));
    if (told.difference && decision !== "cannot say") {
      const { mean, low, high } = told.difference;
      parts.push(make("p", { cls: "small" }, make("strong", {}, "Challenger less champion, on the same lists: "), `${signed(mean)} a list (95 % ${signed(low)} to ${signed(high)})`));
    }
  }
  parts.push(make("p", { cls: "small muted" }, `${counted(told.lists, "list")} of ${counted(told.users, "user")}, ${counted(told.responses, "response")}${told.waiting ? `; ${told.waiting.toLocaleString("en")} more are being replayed` : ""}. ${leftOut(told.left_out)}SNIPS, ${told.assumption}; rewards as the champion learnt them, of events that name their list.`));
  if (told.gates.length) {
    const rows = told.gates.map((gate) => make("li", {}, make("span", { cls: `badge ${{ pass: "good", warn: "warn", fail: "bad" }[gate.verdict]}` }, gate.verdict), make("span", {}, make("strong", {}, `${gate.name} · ${gate.policy}: `), gate.says)));
    const failed = told.gates.filter((gate) => gate.verdict === "fail").length;
    parts.push(make("details", { open, cls: "gates" }, make("summary", { cls: "small" }, `Gates: ${told.gates.length - failed} of ${told.gates.length} let it pass`), make("ul", {}, ...rows)));
  }
  show(place, ...parts);
}

function leftOut(reasons) {
  const told = Object.entries(reasons).filter(([, count]) => count).map(([why, count]) => `${count.toLocaleString("en")} ${why}`);
  return told.length ? `Left out: ${told.join(", ")}. ` : "";
}
