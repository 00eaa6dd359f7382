// The page: pages, theme, tables that sort and filter. Names are only ever set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const $ = id => document.getElementById(id);
root.classList.add("js");

// An element with text, attributes and children.
function make(tag, { text, ...attributes } = {}, ...children) {
  const found = document.createElement(tag);
  if (text !== undefined) found.textContent = text;
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) found.setAttribute(name, value === true ? "" : value);
  found.append(...children);
  return found;
}

function fill(element, ...children) { element.replaceChildren(...children); }

// ---- numbers as people read them: three digits, thousands apart, a real minus ----

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function number(x, digits = 3) {
  if (Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const grouped = (v, places) => v.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places }).replace("-", "−");
  if (x === Math.round(x) && Math.abs(x) < 1e6) return grouped(x === 0 ? 0 : x, 0);
  const [mantissa, power] = x.toExponential(digits - 1).split("e").map(Number);
  if (power <= -5 || power >= 6) return String(mantissa).replace("-", "−") + "×10" + [...String(power)].map(c => RAISED[c]).join("");
  return grouped(Number(x.toPrecision(digits)), Math.max(0, digits - 1 - power));
}

// A name with places where a line may end: before capitals, after _ . / = -
function named(name) {
  return name.split(/(?<=[a-z0-9])(?=[A-Z])|(?<=[_./=-])(?=[A-Za-z])/).flatMap((part, k) => k ? [document.createElement("wbr"), part] : [part]);
}

const signed = (x, digits) => (x > 0 ? "+" : "") + number(x, digits);
const percent = share => Number.isFinite(share) ? (100 * share).toFixed(share > 0.0995 && share < 0.99 ? 0 : 1).replace(/\.0$/, "") + " %" : "–";
const counted = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;
const shorten = (name, limit = 26) => name.length <= limit ? name : name.slice(0, limit - 9) + "…" + name.slice(-8);

// ---- light and dark ----

const redraws = new Map(); // chart id -> function that draws it in the colours of now

function isDark() {
  const scheme = root.dataset.theme;
  return scheme ? scheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function tint() {
  root.dataset.drawn = isDark() ? "dark" : "light";
  $("theme").textContent = isDark() ? "☀" : "☾";
}

function retint() {
  tint();
  for (const draw of redraws.values()) draw();
}

// Draw now, and again whenever the theme changes.
function chart(id, draw) {
  if (!$(id)) return;
  redraws.set(id, draw);
  draw();
}

// ---- pages ----

const pages = [...document.querySelectorAll(".page")];
const links = [...document.querySelectorAll("nav a")];

function go() {
  const wanted = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const page = (wanted && wanted.closest(".page")) || pages[0];
  for (const p of pages) p.classList.toggle("here", p === page);
  for (const a of links) {
    const here = a.hash === "#" + page.id;
    if (here) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
  }
  if (wanted && wanted.tagName === "DETAILS") wanted.open = true;
  if (wanted && wanted !== page) wanted.scrollIntoView();
}

// A page is turned, and its top shown below the pages' names.
function turn(event) {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", link.hash);
  go();
  const header = document.querySelector(".top").getBoundingClientRect().bottom + scrollY;
  if (scrollY > header) scrollTo(0, header);
}

function arrows(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], place = links.indexOf(document.activeElement);
  if (!step || place < 0) return;
  links[(place + step + links.length) % links.length].focus();
  event.preventDefault();
}

// ---- tables ----

function cellValue(row, column) {
  const cell = row.cells[column], given = cell.dataset.sort;
  if (given === undefined) return cell.textContent.trim();
  return given === "" ? -Infinity : Number(given);
}

function compare(a, b) { return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }); }

// A heading becomes a button that sorts: first click largest first for numbers.
function sortButton(th, sort) {
  const label = make("button", { type: "button", class: "sort" }, ...th.childNodes);
  label.addEventListener("click", () => {
    const first = th.classList.contains("n") ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = th.getAttribute("aria-sort") === first ? other : first;
    for (const each of th.parentNode.children) each.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", order);
    sort(order === "ascending" ? 1 : -1);
  });
  th.append(label);
}

function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((th, column) => {
    if (th.classList.contains("unsorted")) return;
    sortButton(th, sign => fill(body, ...[...body.rows].sort((a, b) => sign * compare(cellValue(a, column), cellValue(b, column)))));
  });
}

function filterable(table) {
  if (table.tBodies[0].rows.length < 6) return;
  const input = make("input", { type: "search", placeholder: "Filter", "aria-label": "Filter the rows of this table", autocomplete: "off", spellcheck: "false" });
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
  });
  table.closest(".scroll").before(make("p", { class: "controls" }, input));
}

document.querySelectorAll("table.filterable").forEach(filterable);
document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelector("nav").addEventListener("keydown", arrows);
document.querySelector("nav").addEventListener("click", turn);
addEventListener("popstate", go);
addEventListener("hashchange", go);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retint);
$("theme").addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; retint(); });
