// The charts, drawn by Bokeh in the colours of the page.

// A colour of the style sheet as it is now, light or dark.
function colour(name) {
  const probe = make("i", { style: `color: var(--${name})`, hidden: true });
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";

// Bokeh reads $$...$$, \[...\] and \(...\) as mathematics; a name is text.
const literal = name => String(name).replace(/\$\$/g, "$\u2060$").replace(/\\([([])/g, "\\\u2060$1");

// An empty figure in the page's type and colours.
function frame(id, { height, x = "", y = "", tips, mode = "mouse", ...options }) {
  const soft = colour("soft"), line = colour("line");
  const plot = Bokeh.Plotting.figure({
    height, sizing_mode: "stretch_width", output_backend: "svg", toolbar_location: null, tools: "",
    background_fill_color: null, border_fill_color: null, outline_line_color: null,
    min_border_left: 4, min_border_right: 14, min_border_top: 6, ...options,
  });
  const text = { text_font: FONT, text_font_size: "12.5px", text_color: soft };
  const prefixed = (prefix, style) => Object.fromEntries(Object.entries(style).map(([k, v]) => [prefix + k, v]));
  for (const [axis, label] of [[plot.xaxis, x], [plot.yaxis, y]])
    axis.each(a => a.setv({
      axis_label: label || null, axis_line_color: line, major_tick_line_color: line, minor_tick_line_color: null,
      ...prefixed("major_label_", text), ...prefixed("axis_label_", { ...text, text_font_style: "normal" }),
    }));
  for (const grid of [plot.xgrid, plot.ygrid]) grid.each(g => g.setv({ grid_line_color: line, grid_line_alpha: 0.7 }));
  if (tips) plot.add_tools(new Bokeh.HoverTool({ tooltips: tips, mode, toggleable: false, renderers: "auto" }));
  return plot;
}

// Put a figure in its place; what was there goes once the new one stands, so nothing flickers.
async function show(plot, id) {
  const target = $(id), host = make("div");
  target.append(host);
  host.view = await Bokeh.Plotting.show(plot, host);
  const hosts = [...target.children];
  for (const old of hosts.slice(0, hosts.indexOf(host))) {
    if (old.view) old.view.remove();
    old.remove();
  }
}

// Names down the side of a chart whose bars lie at 0, 1, 2, ... from the top.
function sideNames(plot, names) {
  const axis = plot.left[0];
  axis.ticker = new Bokeh.FixedTicker({ ticks: names.map((_, i) => i) });
  axis.major_label_overrides = new Map(names.map((name, i) => [i, literal(shorten(name, narrow() ? 20 : 30))]));
  axis.setv({ major_tick_line_color: null, axis_line_color: null, major_label_text_color: colour("ink") });
  plot.ygrid.each(g => g.setv({ grid_line_color: null }));
}

const narrow = () => innerWidth < 560;

function zeroLine(plot) {
  plot.add_layout(new Bokeh.Span({ location: 0, dimension: "height", line_color: colour("soft"), line_width: 1 }));
}

// ---- features: the mean effect of one unit, and its 5 to 95 % range over the rows ----

function importanceChart(id, slopes, unit) {
  chart(id, () => {
    const plot = frame(id, {
      height: 80 + 26 * slopes.length, x: `effect of one ${unit}`,
      y_range: new Bokeh.Range1d({ start: slopes.length - 0.4, end: -0.6 }),
      tips: [["", "@name"], ["mean", "@mean_text"], ["5 % to 95 %", "@range_text"], ["raises it in", "@raises"]],
    });
    const rows = slopes.map((s, i) => ({ i, name: literal(s.name), mean: s.mean * s.scale, low: s.low * s.scale, high: s.high * s.scale, raises: percent(s.positive) + " of rows" }));
    const column = f => rows.map(f);
    const about = { name: column(r => r.name), mean_text: column(r => signed(r.mean)), range_text: column(r => `${signed(r.low)} to ${signed(r.high)}`), raises: column(r => r.raises) };
    const bars = (left, right, fill) => plot.hbar({
      y: { field: "i" }, left: { field: "left" }, right: { field: "right" }, height: 0.42, fill_color: fill, fill_alpha: 0.55, line_color: null,
      source: new Bokeh.ColumnDataSource({ data: { i: column(r => r.i), left: column(left), right: column(right), ...about } }),
    });
    bars(r => Math.min(r.low, 0), r => Math.min(r.high, 0), colour("down"));
    bars(r => Math.max(r.low, 0), r => Math.max(r.high, 0), colour("up"));
    zeroLine(plot);
    plot.scatter({ x: { field: "mean" }, y: { field: "i" }, size: 8, fill_color: colour("ink"), line_color: colour("paper"),
      source: new Bokeh.ColumnDataSource({ data: { i: column(r => r.i), mean: column(r => r.mean), ...about } }) });
    sideNames(plot, slopes.map(s => s.name));
    return show(plot, id);
  });
}

// ---- cohorts: how many rules buy how much fidelity ----

function curveChart(id, curve) {
  chart(id, () => {
    const plot = frame(id, {
      height: 320, x: "rules", y: curve.label, x_axis_type: curve.log ? "log" : "linear",
      tips: [["rules", "@rules"], ["error", "@text"], ...(curve.same ? [["equal decisions", "@same"]] : [])],
      y_range: new Bokeh.Range1d({ start: 0, end: 1.08 * Math.max(...curve.error) || 1 }),
    });
    const source = new Bokeh.ColumnDataSource({ data: {
      rules: curve.rules, error: curve.error, text: curve.error.map(v => number(v)), same: (curve.same || curve.rules).map(v => percent(v)),
    } });
    plot.line({ x: { field: "rules" }, y: { field: "error" }, source, line_width: 2, line_color: colour("up") });
    plot.scatter({ x: { field: "rules" }, y: { field: "error" }, source, size: 6, fill_color: colour("up"), line_color: colour("paper") });
    const here = curve.rules.indexOf(curve.chosen);
    if (here >= 0) plot.scatter({ x: [curve.chosen], y: [curve.error[here]], size: 13, fill_color: colour("down"), line_color: colour("paper"), line_width: 2 });
    return show(plot, id);
  });
}

// ---- features: one feature's profile ----

function profileChart(id, profile, label) {
  chart(id, () => {
    const plot = frame(id, { height: 340, x: literal(profile.name), y: literal(label) });
    const lines = profile.curves;
    plot.multi_line({ xs: { field: "xs" }, ys: { field: "ys" }, line_color: colour("up"), line_alpha: 0.35, line_width: 1,
      source: new Bokeh.ColumnDataSource({ data: { xs: lines.map(l => l[0]), ys: lines.map(l => l[1]) } }) });
    const mean = plot.line({ x: { field: "x" }, y: { field: "y" }, line_color: colour("ink"), line_width: 2.5,
      source: new Bokeh.ColumnDataSource({ data: { x: profile.mean[0], y: profile.mean[1], tx: profile.mean[0].map(v => number(v)), ty: profile.mean[1].map(v => number(v)) } }) });
    const low = Math.min(...profile.mean[1], ...lines.map(l => Math.min(...l[1])));
    plot.scatter({ x: { field: "x" }, y: { field: "y" }, marker: "dash", angle: Math.PI / 2, size: 9, line_color: colour("soft"), line_alpha: 0.5,
      source: new Bokeh.ColumnDataSource({ data: { x: profile.rug, y: profile.rug.map(() => low) } }) });
    plot.add_tools(new Bokeh.HoverTool({ renderers: [mean], mode: "vline", tooltips: [["at", "@tx"], ["mean", "@ty"]], toggleable: false }));
    return show(plot, id);
  });
}

// ---- one row: from the reference to the row, feature by feature ----

// steps: [{name, value, from, to}], the first and the last being totals.
function waterfallChart(id, steps) {
  chart(id, () => {
    const plot = frame(id, {
      height: 60 + 28 * steps.length, y_range: new Bokeh.Range1d({ start: steps.length - 0.4, end: -0.6 }),
      tips: [["", "@name"], ["contribution", "@size"], ["so far", "@sofar"]],
    });
    const ink = colour("ink"), tone = { up: colour("up"), down: colour("down"), total: colour("soft") };
    const values = steps.flatMap(s => [s.from, s.to]), low = Math.min(...values), high = Math.max(...values), room = (narrow() ? 0.44 : 0.22) * (high - low || 1);
    const written = sign => steps.some(s => sign * (s.to - s.from) >= 0 && Math.abs((sign > 0 ? high : low) - (sign > 0 ? Math.max(s.from, s.to) : Math.min(s.from, s.to))) < room);
    plot.x_range = new Bokeh.Range1d({ start: low - (written(-1) ? room : room / 5), end: high + (written(1) ? room : room / 5) });
    const source = new Bokeh.ColumnDataSource({ data: {
      i: steps.map((_, i) => i), left: steps.map(s => Math.min(s.from, s.to)), right: steps.map(s => Math.max(s.from, s.to)),
      tone: steps.map(s => tone[s.kind]), name: steps.map(s => literal(s.name)), size: steps.map(s => s.text), sofar: steps.map(s => number(s.to)),
      end: steps.map(s => s.to < s.from ? Math.min(s.from, s.to) : Math.max(s.from, s.to)), shift: steps.map(s => s.to < s.from ? -5 : 5),
      align: steps.map(s => s.to < s.from ? "right" : "left"),
    } });
    plot.segment({ x0: steps.slice(0, -1).map(s => s.to), x1: steps.slice(0, -1).map(s => s.to), y0: steps.slice(0, -1).map((_, i) => i), y1: steps.slice(1).map((_, i) => i + 1), line_color: colour("line"), line_width: 1 });
    const bars = plot.hbar({ y: { field: "i" }, left: { field: "left" }, right: { field: "right" }, height: 0.58, fill_color: { field: "tone" }, line_color: { field: "tone" }, source });
    plot.text({ x: { field: "end" }, y: { field: "i" }, text: { field: "size" }, x_offset: { field: "shift" }, text_align: { field: "align" }, text_baseline: "middle", text_color: ink, text_font: FONT, text_font_size: "12px", source });
    for (const tool of plot.toolbar.tools) if (tool instanceof Bokeh.HoverTool) tool.renderers = [bars];
    sideNames(plot, steps.map(s => s.name));
    return show(plot, id);
  });
}

// ---- what if: the output along one feature, with the row and the point ----

let along = {}; // key: what the curve depends on; source: the point, which moves along it

function alongChart(id, key, describe, point) {
  if (along.key === key) { along.source.data = { x: [point[0]], y: [point[1]] }; return; }
  chart(id, () => {
    const { name, label, curve, row, here } = describe(), plot = frame(id, { height: 220, x: literal(name), y: literal(label) });
    plot.line({ x: { field: "x" }, y: { field: "y" }, line_color: colour("up"), line_width: 2, source: new Bokeh.ColumnDataSource({ data: { x: curve[0], y: curve[1] } }) });
    const low = Math.min(...curve[1]), high = Math.max(...curve[1]);
    if (low < 0 && high > 0) plot.add_layout(new Bokeh.Span({ location: 0, dimension: "width", line_color: colour("soft"), line_dash: [3, 3], line_width: 1 }));
    plot.add_layout(new Bokeh.Span({ location: row, dimension: "height", line_color: colour("line"), line_width: 1.5 }));
    along = { key, source: new Bokeh.ColumnDataSource({ data: { x: [here[0]], y: [here[1]] } }) };
    plot.scatter({ x: { field: "x" }, y: { field: "y" }, size: 11, fill_color: colour("down"), line_color: colour("paper"), line_width: 2, source: along.source });
    return show(plot, id);
  });
}
