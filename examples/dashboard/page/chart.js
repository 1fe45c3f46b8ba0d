// A line chart as SVG. The style sheet has its colors, so it follows the light and dark mode
// of the system.

export const span = 60_000; // milliseconds that a chart shows

const gap = 2500; // milliseconds between two samples behind which a line is interrupted
const margin = { left: 62, right: 14, top: 10, bottom: 26 };
const times = [[60, "start", "60 s ago"], [30, "middle", "30 s ago"], [0, "end", "now"]];

// A Chart shows one or two series of numbers. A series has a label, and a function value that
// returns its number in a sample, or null. format returns a number with its unit. step returns
// the distance of two lines of the grid, which is at least its argument.
export class Chart {
  constructor({ id, title, series, format, step }) {
    Object.assign(this, { title, series, format, step });
    this.values = series.map(() => element("dd", { class: "value" }, "–"));
    this.plot = svg("svg", { class: "plot", role: "slider", tabindex: 0, "aria-label": `${title}: point in time`,
      "aria-describedby": "keys", "aria-valuemin": -span / 1000, "aria-valuemax": 0 });
    this.figure = element("figure", { id, class: "card chart" },
      element("figcaption", {},
        element("h2", {}, title),
        element("dl", {}, ...series.map(({ label }, i) =>
          element("div", { class: `series s${i}` }, element("dt", {}, label), this.values[i])))),
      this.plot);
  }

  // draw shows the samples of the last span. The figures are those of the sample at the
  // cursor, or of the newest one if cursor is null.
  draw(samples, cursor) {
    const { clientWidth: width, clientHeight: height } = this.plot;
    const end = samples.at(-1)?.time ?? 0;
    const most = Math.max(0, ...samples.flatMap((s) => this.series.map(({ value }) => value(s) ?? 0)));
    const step = this.step(most / 4);
    const top = step * Math.max(2, Math.ceil(most / step));
    const x = (time) => margin.left + (1 - (end - time) / span) * (width - margin.left - margin.right);
    const y = (value) => margin.top + (1 - value / top) * (height - margin.top - margin.bottom);

    const parts = [...this.grid(width, step, top, y), ...axis(x, y(0), end)];
    this.series.forEach(({ value }, i) => parts.push(...lines(samples, value, x, y, i)));
    const shown = cursor ?? samples.at(-1);
    if (cursor) parts.push(svg("line", { class: "cursor", x1: x(cursor.time), x2: x(cursor.time), y1: margin.top, y2: y(0) }));
    if (shown) this.series.forEach(({ value }, i) => {
      if (value(shown) !== null) parts.push(svg("circle", { class: `dot s${i}`, cx: x(shown.time), cy: y(value(shown)), r: 3.5 }));
    });
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.replaceChildren(...parts);
    this.describe(shown, shown ? Math.round((shown.time - end) / 1000) : 0);
  }

  // grid returns the horizontal lines with their numbers.
  grid(width, step, top, y) {
    const parts = [];
    for (let value = 0; value <= top * 1.001; value += step) {
      parts.push(
        svg("line", { class: value === 0 ? "base" : "grid", x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }),
        svg("text", { x: margin.left - 8, y: y(value) + 4, "text-anchor": "end" }, this.format(value)));
    }
    return parts;
  }

  // describe writes the figures of a sample, for eyes and for screen readers.
  describe(sample, seconds) {
    const texts = this.series.map(({ value }) => {
      const v = sample ? value(sample) : null;
      return v === null ? "–" : this.format(v);
    });
    texts.forEach((text, i) => { this.values[i].textContent = text; });
    const when = seconds === 0 ? "now" : `${-seconds} s ago`;
    this.plot.setAttribute("aria-valuenow", seconds);
    this.plot.setAttribute("aria-valuetext", `${when}: ${this.series.map(({ label }, i) => `${label} ${texts[i]}`).join(", ")}`);
  }

  // timeAt returns the time at an x coordinate of the window.
  timeAt(clientX, samples) {
    const box = this.plot.getBoundingClientRect();
    const part = (clientX - box.left - margin.left) / (box.width - margin.left - margin.right);
    return samples.at(-1).time - (1 - part) * span;
  }
}

// axis returns the marks of the times and their labels, below the line at bottom.
function axis(x, bottom, end) {
  return times.flatMap(([seconds, anchor, label]) => {
    const at = x(end - seconds * 1000);
    return [
      svg("line", { class: "base", x1: at, x2: at, y1: bottom, y2: bottom + 4 }),
      svg("text", { x: at, y: bottom + 18, "text-anchor": anchor }, label),
    ];
  });
}

// lines returns the line of a series, and for the first series the area below it. They are
// interrupted where samples are missing, where the server was started anew, and where there is
// no number.
function lines(samples, value, x, y, index) {
  const parts = [];
  let run = [];
  const finish = () => {
    if (run.length > 0) {
      const path = run.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
      if (index === 0) parts.push(svg("path", { class: "area", d: `${path}V${y(0)}H${run[0][0].toFixed(1)}Z` }));
      parts.push(svg("path", { class: `line s${index}`, d: path }));
    }
    run = [];
  };
  let before = samples[0];
  for (const s of samples) {
    if (s.time - before.time > gap || s.started !== before.started || value(s) === null) finish();
    if (value(s) !== null) run.push([x(s.time), y(value(s))]);
    before = s;
  }
  finish();
  return parts;
}

// decimal returns 1, 2 or 5 times a power of ten.
export function decimal(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-3)));
  return power * ([1, 2, 5].find((n) => n * power >= least * 0.999) ?? 10);
}

// binary returns a power of two, so that bytes get round numbers of KiB.
export function binary(least) {
  return 2 ** Math.ceil(Math.log2(Math.max(least, 1024)));
}

export function element(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(e, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...children);
  return e;
}
