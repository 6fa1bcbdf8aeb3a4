/* Small pictures: a line of recent values, intervals on one axis. */

import { draw, plain } from "./dom.js";

export function spark(values, width = 150, height = 34) {
  const known = values.filter((value) => value !== null);
  const most = Math.max(...known, 1e-9);
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((value, place) => (value === null ? null : [place * step, height - 3 - (value / most) * (height - 6)])).filter(Boolean);
  const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const last = points.at(-1);
  return draw("svg", { cls: "spark", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", preserveAspectRatio: "none" },
    points.length > 1 && draw("polygon", { cls: "area", points: `${points[0][0]},${height} ${line} ${last[0]},${height}` }),
    points.length > 1 && draw("polyline", { points: line }));
}

/* rows: {name, mean, low, high, cls}; one scale for all, zero in it if it is near. */
export function intervals(rows, { from = null, unit = "", room = 580 } = {}) {
  const width = Math.max(280, Math.min(620, room)), left = width < 420 ? 86 : 120, right = 58, line = 32;
  const ends = rows.flatMap((row) => [row.low, row.high]).filter(Number.isFinite);
  let low = Math.min(...ends), high = Math.max(...ends);
  if (from !== null) { low = Math.min(low, from); high = Math.max(high, from); }
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  low -= margin; high += margin;
  const at = (value) => left + ((value - low) / (high - low)) * (width - left - right);
  const height = rows.length * line + 8;
  const says = rows.map((row) => `${row.name}: ${plain(row.mean)} from ${plain(row.low)} to ${plain(row.high)}`).join("; ");
  const marks = rows.flatMap((row, place) => {
    const y = place * line + line / 2 + 4;
    return [
      draw("text", { x: 0, y: y + 4, cls: "name" }, row.name),
      draw("line", { cls: `bar ${row.cls || ""}`, x1: at(row.low), x2: at(row.high), y1: y, y2: y }),
      draw("circle", { cls: `mark ${row.cls || ""}`, cx: at(row.mean), cy: y, r: 5 }),
      draw("text", { x: width, y: y + 4, cls: "value", "text-anchor": "end" }, plain(row.mean) + unit),
    ];
  });
  const zero = from !== null && draw("line", { cls: "zero", x1: at(from), x2: at(from), y1: 0, y2: height });
  return draw("svg", { cls: "intervals", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": says }, zero, ...marks);
}
