/* Shows the OpenAPI document of this server, without anybody else's viewer. */

import { failed } from "./api.js";
import { byId, counted, make, show } from "./dom.js";

let whole = null;

read();

async function read() {
  try {
    const answer = await fetch("/openapi.json", { credentials: "omit" });
    if (!answer.ok) throw new Error(`The document cannot be read (${answer.status}).`);
    whole = await answer.json();
    list("");
  } catch (error) {
    show(byId("routes"), failed(error, read));
  }
}

byId("filter").addEventListener("input", (event) => whole && list(event.target.value));

function list(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map();
  for (const [path, methods] of Object.entries(whole.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const said = `${method} ${path} ${operation.summary} ${operation.description || ""}`.toLowerCase();
      if (!words.every((word) => said.includes(word))) continue;
      const tag = (operation.tags || ["other"])[0];
      groups.set(tag, [...(groups.get(tag) || []), route(method, path, operation)]);
    }
  }
  const parts = [...groups].map(([tag, routes]) => make("section", { cls: "panel" }, make("div", { cls: "head" },
    make("h2", {}, tag.charAt(0).toUpperCase() + tag.slice(1)), make("span", { cls: "badge" }, counted(routes.length, "route"))), ...routes));
  show(byId("routes"), ...(parts.length ? parts : [make("p", { cls: "empty" }, "No route fits.")]));
}

function route(method, path, operation) {
  const details = make("details", { cls: "route" }, make("summary", {},
    make("span", { cls: `method ${method}` }, method.toUpperCase()), make("code", {}, path), make("span", { cls: "muted small" }, operation.summary || "")));
  details.addEventListener("toggle", () => details.open && details.children.length === 1 && details.append(body(operation)), { once: true });
  return details;
}

function body(operation) {
  const parts = [operation.description && make("p", {}, operation.description), parameters(operation.parameters || [])];
  const content = operation.requestBody?.content?.["application/json"];
  if (content) parts.push(make("h3", {}, "Body"), shape(content.schema));
  parts.push(make("h3", {}, "Answers"));
  for (const [status, answer] of Object.entries(operation.responses || {})) {
    const schema = answer.content?.["application/json"]?.schema;
    const told = make("span", {}, make("strong", {}, status), ` ${answer.description || ""}`);
    parts.push(status.startsWith("2") && schema ? make("div", { cls: "answer" }, told, shape(schema)) : make("p", { cls: "answer small" }, told));
  }
  return make("div", { cls: "inside" }, ...parts.filter(Boolean));
}

function parameters(list) {
  if (!list.length) return null;
  const rows = list.map((one) => make("tr", {}, make("td", {}, make("code", {}, one.name)), make("td", {}, `${one.in}${one.required ? ", required" : ""}`),
    make("td", {}, typeOf(one.schema)), make("td", { cls: "muted" }, one.description || "")));
  const header = make("tr", {}, ...["Parameter", "Where", "Type", "Says"].map((name) => make("th", { scope: "col" }, name)));
  return make("div", { cls: "scroll", tabindex: "0", role: "region", "aria-label": "Parameters" }, make("table", {}, make("thead", {}, header), make("tbody", {}, ...rows)));
}

function resolved(schema) {
  return schema?.$ref ? whole.components.schemas[schema.$ref.split("/").at(-1)] : schema || {};
}

function typeOf(schema) {
  const found = resolved(schema);
  if (found.anyOf) return found.anyOf.map(typeOf).join(" | ");
  if (found.enum) return found.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (found.const !== undefined) return JSON.stringify(found.const);
  if (found.type === "array") return `${typeOf(found.items)}[]`;
  const bounds = [["minimum", "≥"], ["maximum", "≤"]].filter(([name]) => found[name] !== undefined).map(([name, sign]) => ` ${sign} ${found[name]}`);
  return (found.title && found.type === "object" ? found.title : found.type || "any") + bounds.join(",");
}

/* Fields of an object, or its example. */
function shape(schema) {
  const found = resolved(schema);
  const objects = (found.anyOf || [found]).map(resolved).filter((one) => one.properties);
  const parts = objects.map((one) => {
    const rows = Object.entries(one.properties).map(([name, field]) => make("tr", {}, make("td", {}, make("code", {}, name), (one.required || []).includes(name) ? make("span", { cls: "must", title: "required" }, " *") : ""),
      make("td", {}, typeOf(field)), make("td", { cls: "muted" }, resolved(field).description || field.description || "")));
    const example = one.examples?.[0];
    return make("div", {}, make("div", { cls: "scroll", tabindex: "0", role: "region", "aria-label": one.title || "Fields" }, make("table", {}, make("tbody", {}, ...rows))),
      example && make("pre", { tabindex: "0", "aria-label": "Example" }, make("code", {}, JSON.stringify(example, null, 2))));
  });
  return make("div", { cls: "shape" }, ...(parts.length ? parts : [make("p", { cls: "small muted" }, typeOf(schema))]));
}
