// What if: sliders, the network in the page, and what changes.

const MOST = 60; // sliders
const inGroup = new Map(data.groups.flatMap(g => g.members.map(j => [j, g])));
let chosen = 0; // output

function slider(j) {
  const f = data.features[j], id = `slide-${j}`, step = f.integer ? 1 : (f.high - f.low) / 400 || 1;
  const move = value => { point[j] = value; moved = j; setSlider(j); tryPoint(); };
  const range = make("input", { type: "range", id, min: f.low, max: f.high, step: f.integer ? 1 : "any", "data-feature": j, oninput: e => move(e.target.valueAsNumber) });
  if (!f.integer) range.addEventListener("keydown", e => {
    const way = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[e.key];
    if (way) { e.preventDefault(); move(Math.min(f.high, Math.max(f.low, point[j] + way * step))); }
  });
  range.addEventListener("focus", () => { if (moved !== j) { moved = j; drawAlong(); } });
  const box = make("input", { type: "number", step: "any", "aria-label": f.name, id: `type-${j}`, onchange: e => { if (Number.isFinite(e.target.valueAsNumber)) move(e.target.valueAsNumber); } });
  return make("div", { class: "slider", "data-name": f.name.toLowerCase() }, make("label", { for: id }, ...named(f.name)), range, box);
}

function choice(group) {
  const id = `choose-${group.members[0]}`;
  const levels = [...group.levels.map((text, k) => [text, k]), ...(group.dropped !== null ? [[group.dropped, -1]] : [])];
  const select = make("select", { id, onchange: e => {
    const level = Number(e.target.value);
    if (level < -1) return;
    group.members.forEach((j, k) => { point[j] = k === level ? 1 : 0; });
    moved = group.members[Math.max(0, level)];
    tryPoint();
  } }, ...levels.map(([text, k]) => make("option", { value: k, text })), ...(group.dropped === null ? [make("option", { value: -1, text: "(none)" })] : []));
  return make("div", { class: "slider", "data-name": group.name.toLowerCase() }, make("label", { for: id }, ...named(group.name)), select);
}

function setSlider(j) {
  $(`slide-${j}`).value = point[j];
  $(`type-${j}`).value = Number(point[j].toPrecision(5));
}

function setSliders() {
  for (const range of document.querySelectorAll("#sliders input[type=range]")) setSlider(Number(range.dataset.feature));
  for (const group of data.groups) $(`choose-${group.members[0]}`).value = group.members.findIndex(j => point[j] === 1);
}

let own = {}; // the row's own point and rule

function tryPoint() {
  if (own.place !== place) { const row = net.at(inputsOf(place)); own = { place, row, rule: net.rule(row) }; }
  const here = net.at(point), rule = net.rule(here), { row, rule: before } = own;
  const switched = flipped(net, row.codes, here.codes), wall = net.wall(here, rule, scale), y = here.y[chosen];
  $("try-figures").dataset.output = String(y);
  fill($("try-figures"),
    figure((data.head ? "Logit of " : "Output ") + data.outputs[chosen], number(y, 4), chance(y) || " "),
    figure("Change", signed(y - row.y[chosen]), "against the row"),
    figure("Units switched", String(switched.length), `of ${net.units.toLocaleString("en")}` + (switched.length ? "" : ": the row's own region")),
    figure("Margin here", number(wall.distance), data.unit + "s"));
  const list = switched.slice(0, 12).map(([gate, unit, up]) => make("li", {}, make("b", { class: up ? "up" : "down", text: up ? "on" : "off" }), ` unit ${unit} of ${gate}`));
  const crossed = (row.y[chosen] > 0) !== (y > 0) && data.head ? make("p", { class: "flip", text: "The decision has changed sides." }) : "";
  const text = switched.length ? "Another rule holds here. Switched:" : "The row's own rule still holds here.";
  fill($("try-says"), crossed, make("p", { text }), make("ul", { class: "switched" }, ...list, ...(switched.length > 12 ? [make("li", { class: "soft", text: `and ${switched.length - 12} more` })] : [])));
  compareRules(before, rule);
  drawAlong();
}

function compareRules(before, after) {
  const a = before.slopes[chosen], b = after.slopes[chosen], shown = byEffect(b.map((v, j) => Math.max(Math.abs(v), Math.abs(a[j])) * scale[j])).slice(0, 15);
  const line = (name, x, y) => make("tr", {}, make("th", { scope: "row", class: "name" }, ...named(name)), make("td", { class: "n", text: number(x) }), make("td", { class: "n", text: number(y) }), make("td", { class: "n", text: signed(y - x) }));
  fill($("try-rule").tHead, make("tr", {}, make("th", { scope: "col", class: "name", text: "Slope of" }), ...["The row's", "Here", "Change"].map(text => make("th", { scope: "col", class: "n", text }))));
  fill($("try-rule").tBodies[0], line("(intercept)", before.intercepts[chosen], after.intercepts[chosen]), ...shown.map(j => line(names[j], a[j], b[j])));
}

let asked = 0;

// The curve depends on the other inputs only: while one slider moves, just the point does.
function drawAlong() {
  cancelAnimationFrame(asked);
  asked = requestAnimationFrame(() => {
    const f = data.features[moved], low = Math.min(f.low, point[moved]), high = Math.max(f.high, point[moved]);
    $("along-title").textContent = f.name;
    if (!(high > low)) return;
    const here = () => [point[moved], net.at(point).y[chosen]];
    const key = [place, moved, chosen, low, high, ...point.map((v, j) => j === moved ? 0 : v)].join();
    alongChart("along", key, () => ({ name: f.name, label: logit, curve: net.trace(point, moved, low, high, chosen), row: inputsOf(place)[moved], here: here() }), here());
  });
}

function setUpTry() {
  const single = byEffect(Float64Array.from(data.importance)).filter(j => !inGroup.has(j) && data.features[j].high > data.features[j].low);
  moved = single[0] ?? 0;
  fill($("sliders"), ...data.groups.map(choice), ...single.slice(0, MOST).map(slider));
  if (single.length > MOST) $("sliders").append(make("p", { class: "soft", text: `The ${MOST} most important of ${single.length} inputs; the others stay as in the row.` }));
  const still = names.filter((_, j) => !inGroup.has(j) && !(data.features[j].high > data.features[j].low)).length;
  if (still) $("sliders").append(make("p", { class: "soft", text: `${counted(still, "input")} with one value in all rows ${still === 1 ? "has" : "have"} no slider.` }));
  fill($("try-output"), ...data.outputs.map((text, value) => make("option", { value, text })));
  $("try-output").parentNode.hidden = data.outputs.length < 2;
  $("try-output").addEventListener("change", e => { chosen = Number(e.target.value); tryPoint(); });
  $("try-reset").addEventListener("click", () => { point = inputsOf(place); setSliders(); tryPoint(); });
  $("try-filter").parentNode.hidden = single.length + data.groups.length < 8;
  $("try-filter").addEventListener("input", e => {
    const word = e.target.value.trim().toLowerCase();
    for (const line of document.querySelectorAll(".slider")) line.hidden = !line.dataset.name.includes(word);
  });
}

// ---- start ----

tint();
for (const s of data.slopes) importanceChart(`importance-${s.output}`, s.features, data.unit);
if (data.curve) curveChart("curve", data.curve);
if (data.profiles) {
  const select = $("profile-feature"), draw = () => {
    const profile = data.profiles[Number(select.value)];
    $("profile-title").textContent = profile.name;
    profileChart("profile", { ...profile, mean: profile.mean.map(unpack).map(v => [...v]), curves: profile.curves.map(c => c.map(unpack).map(v => [...v])) }, logit);
  };
  fill(select, ...data.profiles.map((p, value) => make("option", { value, text: p.name })));
  select.addEventListener("change", draw);
  draw();
}
setUpTable();
if (net) setUpTry();
pick(0);
go();
root.dataset.ready = "yes";
