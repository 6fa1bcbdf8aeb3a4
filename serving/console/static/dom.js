/* Makes elements. Text is always text: nothing here parses markup. */

const SVG = "http://www.w3.org/2000/svg";

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  return fill(element, properties, children);
}

export function draw(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name === "cls" ? "class" : name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function show(parent, ...children) {
  parent.replaceChildren(...children.filter(Boolean));
  parent.removeAttribute("aria-busy");
}

export const byId = (id) => document.getElementById(id);

export function ghosts(count, tag = "li") {
  return Array.from({ length: count }, () => make(tag, { cls: "ghost", "aria-hidden": "true" }));
}

/* Titles of many shops are in capitals; people read sentences. */
export function titleOf(item) {
  const title = item.title || item.item_id;
  return title === title.toUpperCase() && /[A-Z]{3}/.test(title)
    ? title.charAt(0) + title.slice(1).toLowerCase()
    : title;
}

export function kindOf(item) {
  const parts = [];
  if (item.categories && item.categories.length) parts.push(item.categories.slice(0, 2).join(", "));
  if (item.price !== null && item.price !== undefined) parts.push(item.price.toFixed(2));
  return parts.join(" · ");
}

export function signed(number, digits = 3) {
  const text = Math.abs(number).toFixed(digits);
  return (number < 0 ? "−" : "+") + text;
}

export function plain(number, digits = 3) {
  return (number < 0 ? "−" : "") + Math.abs(number).toFixed(digits);
}

export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}
