// One row: picked from a table, drawn as a waterfall, and changed with sliders.

const names = data.features.map(f => f.name), many = names.length;
const net = data.network && new Network(data.network, many);
const scale = Float64Array.from(data.scale), reference = Float64Array.from(data.reference);
const rows = { index: unpack(data.rows.index), columns: data.rows.data.map(unpack), outputs: data.rows.outputs.map(unpack) };
for (const key of ["margin", "cluster", "cohort"]) rows[key] = data.rows[key] && unpack(data.rows[key]);
rows.count = rows.index.length;
const opened = (given, keys) => given && { ...given, ...Object.fromEntries(keys.map(key => [key, unpack(given[key])])) };
const stops = opened(data.stops, ["gate", "unit", "change", "cosine", "same", "flips", "here", "there", "leading", "steps", "more"]);
const reasons = opened(data.reasons, ["count", "codes", "amounts", "tied", "survives", "known", "left", "share"]);
const logit = data.head ? "logit" : "output";
let place = 0; // of the picked row among those in the page
let point; // the inputs as set by the sliders
let moved = 0; // the feature last moved

const inputsOf = i => Float64Array.from(rows.columns, column => column[i]);
const targetOf = i => data.rows.target ? (data.rows.target.names.length ? data.rows.target.names[unpackedTarget[i]] ?? "–" : number(unpackedTarget[i])) : undefined;
const unpackedTarget = data.rows.target && unpack(data.rows.target.values);
const byEffect = effects => [...effects.keys()].sort((a, b) => Math.abs(effects[b]) - Math.abs(effects[a]));

// The rule of row i for output o: from the network, or as it was put into the page.
function ruleOf(i, o) {
  if (net) {
    const here = net.at(inputsOf(i)), rule = net.rule(here);
    return { w: rule.slopes[o], b: rule.intercepts[o], here, rule };
  }
  if (!data.rows.slopes || o > 0) return null;
  const w = Float64Array.from(slopeColumns, column => column[i]);
  return { w, b: rows.outputs[o][i] - dot(w, inputsOf(i)) };
}
const slopeColumns = data.rows.slopes && data.rows.slopes.map(unpack);

// ---- the table of rows ----

const PAGE = 12;
const columns = [
  { name: "Row", value: i => rows.index[i], key: "row" },
  ...data.outputs.map((name, o) => ({ name: (data.head ? "Logit of " : "") + name, key: o ? `output${o}` : "output", value: i => rows.outputs[o][i] })),
  ...(data.rows.target ? [{ name: data.rows.target.name, key: "target", value: i => data.rows.target.names.length ? targetOf(i) : unpackedTarget[i] }] : []),
  ...(rows.margin ? [{ name: "Margin", key: "margin", value: i => rows.margin[i] }] : []),
  ...(rows.cohort ? [{ name: "Cohort", key: "cohort", value: i => rows.cohort[i] }] : []),
  ...names.map((name, j) => ({ name, key: name.toLowerCase(), value: i => rows.columns[j][i] })),
];
const SHOWN = Math.min(columns.length, columns.length - many + 6);
let order = [...Array(rows.count).keys()], found = order, from = 0;

// "margin < 0.01 target = 1", or words to find in a row's cells; unknown: columns that are not there.
function parseFilter(text) {
  const tests = [], unknown = [], rest = text.toLowerCase().replace(/("[^"]+"|[^\s<>=]+)\s*(<=|>=|<|>|=)\s*("[^"]+"|\S+)/g, (_, name, sign, value) => {
    const key = name.replace(/"/g, ""), wanted = value.replace(/"/g, ""), column = columns.find(c => c.key === key) || columns.find(c => c.name.toLowerCase().startsWith(key));
    if (!column) { unknown.push(key); return " "; }
    tests.push(i => {
      const got = column.value(i), b = Number(wanted);
      if (typeof got === "string" || Number.isNaN(b)) return sign === "=" && String(got).toLowerCase() === wanted;
      return { "<": got < b, ">": got > b, "<=": got <= b, ">=": got >= b, "=": got === b }[sign];
    });
    return " ";
  });
  for (const word of rest.split(/\s+/).filter(Boolean)) tests.push(i => columns.slice(0, SHOWN).some(c => String(c.value(i)).toLowerCase() === word));
  return { unknown, keep: i => !unknown.length && tests.every(test => test(i)) };
}

function drawRows() {
  const cells = i => columns.slice(0, SHOWN).map((c, k) => {
    const value = c.value(i), text = typeof value === "number" ? (k ? number(value) : String(value)) : value;
    return k ? make("td", { text, class: "n" }) : make("th", { scope: "row", class: "n" }, make("button", { type: "button", class: "pick", text, onclick: () => pick(i, true) }));
  });
  fill($("rows").tBodies[0], ...found.slice(from, from + PAGE).map(i => make("tr", { "aria-current": i === place && "true" }, ...cells(i))));
  $("rows-found").textContent = `${counted(found.length, "row")}`;
  $("rows-page").textContent = found.length ? `${from + 1}–${Math.min(from + PAGE, found.length)}` : "none";
  $("rows-back").disabled = from === 0;
  $("rows-on").disabled = from + PAGE >= found.length;
}

function filterRows() {
  const { unknown, keep } = parseFilter($("rows-filter").value);
  found = order.filter(keep);
  from = 0;
  drawRows();
  if (unknown.length) $("rows-found").textContent = `No column is called “${shorten(unknown[0])}”; the columns are ${columns.slice(0, 8).map(c => shorten(c.name)).join(", ")}${columns.length > 8 ? ", …" : ""}.`;
}

function setUpTable() {
  const head = make("tr", {}, ...columns.slice(0, SHOWN).map(c => make("th", { scope: "col", class: "n", text: c.name })));
  fill($("rows").tHead, head);
  [...head.cells].forEach((th, k) => sortButton(th, sign => {
    const value = columns[k].value;
    order = [...Array(rows.count).keys()].sort((a, b) => sign * compare(value(a), value(b)));
    filterRows();
  }));
  $("rows-filter").addEventListener("input", filterRows);
  $("rows-back").addEventListener("click", () => { from = Math.max(0, from - PAGE); drawRows(); });
  $("rows-on").addEventListener("click", () => { from += PAGE; drawRows(); });
  drawRows();
}

// ---- picking ----

function least(score) {
  let best = 0;
  for (let i = 1; i < rows.count; i++) if (score(i) < score(best)) best = i;
  return best;
}

function jumps() {
  const y = rows.outputs[0], all = [["at random", () => Math.floor(Math.random() * rows.count)], ["lowest", () => least(i => y[i])], ["highest", () => least(i => -y[i])]];
  if (Math.min(...y) < 0 && Math.max(...y) > 0) all.push(["nearest to 0", () => least(i => Math.abs(y[i]))]);
  if (rows.margin) all.push(["smallest margin", () => least(i => rows.margin[i])], ["largest margin", () => least(i => -rows.margin[i])]);
  return all;
}

function pick(i, close) {
  place = i;
  if (close) { $("browse").open = false; $("row-index").focus(); }
  $("row-index").value = rows.index[i];
  refuse("");
  drawRow();
  drawRows();
  if (net) { point = inputsOf(i); setSliders(); tryPoint(); }
}

// Why a number picks no row, beside the box and in it; "" where it picks one.
function refuse(why) {
  $("row-index").setCustomValidity(why);
  $("row-message").textContent = why;
  $("row-message").hidden = !why;
}

function pickIndex() {
  const box = $("row-index"), wanted = box.valueAsNumber, i = rows.index.indexOf(wanted);
  if (i >= 0) return pick(i);
  if (!Number.isInteger(wanted)) return refuse(`A row is a whole number, as in the data; row ${rows.index[place]} is shown.`);
  let near = 0;
  for (let k = 1; k < rows.count; k++) if (Math.abs(rows.index[k] - wanted) < Math.abs(rows.index[near] - wanted)) near = k;
  refuse(`Row ${wanted} is not in this page; the nearest is row ${rows.index[near]}. Row ${rows.index[place]} is shown.`);
}

// ---- what is said about the row ----

function figure(name, value, note) {
  return make("div", {}, make("dt", { text: name }), make("dd", { class: "value", text: value }), make("dd", { class: "note", text: note || "" }));
}

// The row's cohort, and what its rule says of the row.
function cohortFigure(x, k) {
  const r = data.cohort_rules, says = r.intercepts[k] + dot(r.coefficients[k], x), found = figure("Cohort", "", `of ${data.cohorts}; its rule says ${number(says, 4)}`);
  found.querySelector(".value").append(make("a", { href: `#cohort-${k}`, text: String(k) }));
  return found;
}

const chance = y => data.head === "Sigmoid" ? `probability ${percent(1 / (1 + Math.exp(-y)))}` : "";

function drawRow() {
  const y = rows.outputs[0][place], rule = ruleOf(place, 0);
  fill($("row-figures"),
    ...rows.outputs.map((values, o) => figure((data.head ? "Logit of " : "Output ") + data.outputs[o], number(values[place], 4), chance(values[place]))),
    ...(data.rows.target ? [figure(data.rows.target.name, targetOf(place), "the target")] : []),
    ...(rows.cohort ? [cohortFigure(inputsOf(place), rows.cohort[place])] : []),
    ...(rows.margin ? [figure("Margin", number(rows.margin[place]), data.unit + "s to the next rule")] : []));
  if (stops) where();
  if (reasons) why();
  wayOut();
  if (!rule) return;
  const x = inputsOf(place), parts = rule.w.map((w, j) => w * (x[j] - reference[j]));
  $("waterfall-says").textContent = `Contribution of each feature: its slope × its distance from ${data.reference_name}. They add up to the ${logit}.`;
  waterfallChart("waterfall", steps(parts, x, y));
  ruleText($("row-rule"), rule, x);
}

// Contributions as bars: the inputs of one category are one bar, the smaller ones together.
function steps(parts, x, y) {
  const folded = new Set(data.groups.flatMap(g => g.members));
  const all = [...parts.keys()].filter(j => !folded.has(j)).map(j => [`${shorten(names[j], 20)} = ${number(x[j])}`, parts[j]]);
  for (const g of data.groups) {
    all.push([`${shorten(g.name, 18)} = ${shorten(levelOf(g, x), 14)}`, g.members.reduce((sum, j) => sum + parts[j], 0)]);
  }
  const moving = all.filter(([, size]) => size !== 0).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const most = narrow() ? 8 : 10, shown = moving.slice(0, moving.length === most + 1 ? most + 1 : most), others = moving.slice(shown.length);
  const start = y - parts.reduce((a, b) => a + b, 0), found = [{ name: "at the reference", from: start, to: start, kind: "total", text: number(start) }];
  const add = (name, size) => { const last = found[found.length - 1].to; found.push({ name, from: last, to: last + size, kind: size < 0 ? "down" : "up", text: signed(size) }); };
  for (const [name, size] of shown) add(name, size);
  if (others.length) add(counted(others.length, "other"), others.reduce((sum, [, size]) => sum + size, 0));
  found.push({ name: "this row", from: y, to: y, kind: "total", text: number(y, 4) });
  return found;
}

function ruleText(element, rule, x) {
  const effects = rule.w.map((w, j) => w * scale[j]), shown = byEffect(effects).filter(j => rule.w[j] !== 0);
  const term = j => make("span", {}, make("b", { class: rule.w[j] < 0 ? "down" : "up", text: `${rule.w[j] < 0 ? "−" : "+"} ${number(Math.abs(rule.w[j]))}` }), " · ", ...named(names[j]));
  const spans = shown.slice(0, 12).map(term), more = shown.length - spans.length;
  fill(element, make("span", { text: `${data.head ? "logit of " : ""}${data.outputs[0]} =` }), " ", make("span", { text: number(rule.b) }), " ", ...spans.flatMap(s => [s, " "]));
  if (more > 0) element.append(make("span", { class: "rest", text: `and ${counted(more, "more term")}` }));
}

function facts(list, pairs) { fill(list, ...pairs.flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: value })])); }

// Where the rule stops: the nearest wall, in which features it is reached, the rule behind it.
function where() {
  const s = stops, i = place, gate = s.gates[s.gate[i]];
  if (!gate) return facts($("row-facts"), [["Wall", "none: the rule holds for every input"]]);
  const leading = [...Array(s.each).keys()].map(k => [s.leading[i * s.each + k], s.steps[i * s.each + k]]).filter(([j]) => j >= 0);
  const lines = [
    ["Nearest wall", `${number(rows.margin[i])} ${data.unit}s away: unit ${s.unit[i]} of ${gate}`],
    ["Which way", leading.map(([j, step]) => `${names[j]} ${signed(step)}`).join(", ") + (s.more[i] ? ", and the others less" : "")],
  ];
  if (s.flips[i]) lines.push(
    ["Behind it", `the slopes change by ${percent(s.change[i])} of their size (cosine ${number(s.cosine[i])}); the ${s.top} strongest features ${s.same[i] ? "stay" : "do not stay"}`],
    ["Rows", `${s.here[i].toLocaleString("en")} here, ${s.there[i].toLocaleString("en")} behind it` + (s.here[i] < s.few ? `: fewer than ${s.few}, too few to fit a rule of their own` : "")]);
  facts($("row-facts"), lines);
}

// Reason codes: the factors that push the row to one side, most first.
function why() {
  const r = reasons, i = place, x = inputsOf(i), element = $("row-reasons");
  fill(element, make("h3", { class: "next", text: "Reasons" }), make("p", { class: "soft small", text: r.says }));
  if (r.count[i] < 0) return element.append(make("p", { class: "soft", text: "Not worked out for this row." }));
  if (!r.count[i]) return element.append(make("p", { text: `No factor pushes this row towards ${r.side}.` }));
  const list = make("ol", { class: "reasons" });
  for (let k = i * r.each; k < i * r.each + r.count[i]; k++) {
    const name = r.factors[r.codes[k]], notes = [];
    if (r.tied[k]) notes.push("tied with the next");
    if (r.known[i] && !r.survives[k]) notes.push("not beyond the nearest wall");
    list.append(make("li", {}, make("b", {}, ...named(name)), ` ${valueOf(name, x)} `, make("span", { class: "soft", text: number(r.amounts[k]) + (notes.length ? `; ${notes.join("; ")}` : "") })));
  }
  element.append(list, make("p", { class: "soft small", text: `They carry ${percent(r.share[i])} of what pushes that way.` + (r.left[i] ? ` ${counted(r.left[i], "more factor")} matter as much as the last.` : "") }));
}

function valueOf(name, x) {
  const group = data.groups.find(g => g.name === name), j = names.indexOf(name);
  if (group) return "= " + levelOf(group, x);
  return j < 0 ? "" : "= " + number(x[j]);
}

function levelOf(group, x) { return group.levels[group.members.findIndex(j => x[j] === 1)] ?? group.dropped ?? "none"; }

// What would change it, where it was worked out; the answer can be tried below.
function wayOut() {
  const given = data.recourse, element = $("row-recourse"), r = given && given.rows[rows.index[place]];
  if (!given) return;
  fill(element, make("h3", { class: "next", text: "What would change it" }), make("p", { class: "soft small", text: given.says }));
  if (!r) return element.append(make("p", { class: "small" }, "Not for this row; pick ", ...Object.keys(given.rows).slice(0, 12).flatMap(row => [
    make("button", { type: "button", class: "pick", text: row, onclick: () => pick(rows.index.indexOf(Number(row))) }), " "])));
  const list = make("dl", { class: "facts" });
  facts(list, [["Target", r.target], ...r.changes.map(([j, a, b]) => [names[j], `${a} → ${b}`])]);
  element.append(list, make("p", { class: "soft small", text: r.sure }));
  if (net && r.point && r.changes.length) element.append(make("button", { type: "button", text: "Try it below", onclick: () => {
    point = Float64Array.from(r.point); moved = r.changes[0][0]; setSliders(); tryPoint(); $("what-if").scrollIntoView();
  } }));
}

$("row-index").addEventListener("change", pickIndex);
$("row-previous").addEventListener("click", () => pick((place + rows.count - 1) % rows.count));
$("row-next").addEventListener("click", () => pick((place + 1) % rows.count));
fill($("row-jumps"), ...jumps().map(([text, choose]) => make("button", { type: "button", text, onclick: () => pick(choose()) })));
