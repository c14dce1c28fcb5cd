// Draws the charts that `charts.py` describes with Observable Plot, each in place of the image that stands there.
// Text is set as text only. A chart that cannot be drawn leaves its image where it is.
"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  // What a point says on hover and in the table of numbers: [name of its series, where, how much, interval].
  function facts(panel, layer, point) {
    const show = (value) => (typeof value === "number" ? (panel.percent ? percent : number).format(value) : String(value));
    const at = (value) => number.format(value);
    const interval = (low, high) => `${show(low)} to ${show(high)}`;
    const series = layer.series ?? panel.y;
    switch (layer.type) {
      case "bars": return [series, at(Math.round(500 * (point[0] + point[1])) / 1000), show(point[2]), ""];
      case "path":
      case "points": // as ranges, under a band
      case "ranges": return [series, at(point[0]), show(point[1]), interval(point[2], point[3])];
      case "rows": return [point[0], "", show(point[1]), interval(point[2], point[3])];
      case "spans": return [point[0], `${at(point[1])} to ${at(point[2])}`, point[3], ""];
      case "line": return [series, at(point[0]), show(point[1]), ""];
      default: return null;
    }
  }

  function marks(layer) {
    const color = `var(${layer.color})`;
    const first = (point) => point[0], second = (point) => point[1], third = (point) => point[2];
    const fourth = (point) => point[3];
    switch (layer.type) {
      case "bars":
        return [Plot.rectY(layer.points, { x1: first, x2: second, y: third, fill: color })];
      case "line": {
        const dot = layer.points.length === 1 ? [Plot.dot(layer.points, { x: first, y: second, fill: color })] : [];
        return [Plot.line(layer.points, { x: first, y: second, stroke: color, strokeWidth: 2 }), ...dot];
      }
      case "steps":
        return [Plot.line(layer.points, { x: first, y: second, stroke: color, strokeWidth: 1.5, curve: "step-after" })];
      case "band":
        return [Plot.areaY(layer.points, { x: first, y1: second, y2: third, fill: color, fillOpacity: 0.15 })];
      case "path": // in the order of its points, the last of which is where it ends
        return [
          Plot.line(layer.points, { x: first, y: second, stroke: color, strokeWidth: 1.5 }),
          Plot.dot(layer.points, { x: first, y: second, fill: color, r: (point) => (point === layer.points.at(-1) ? 5 : 2.5) }),
        ];
      case "points":
        return [Plot.dot(layer.points, { x: first, y: second, fill: color, r: 3 })];
      case "ranges":
        return [
          Plot.ruleX(layer.points, { x: first, y1: third, y2: fourth, stroke: color, strokeWidth: 2 }),
          Plot.dot(layer.points, { x: first, y: second, fill: color, r: 3.5 }),
        ];
      case "rows":
        return [
          Plot.ruleY(layer.points, { y: first, x1: third, x2: fourth, stroke: color, strokeWidth: 3 }),
          Plot.dot(layer.points, { y: first, x: second, fill: color, r: 5 }),
        ];
      case "seeds":
        return [Plot.dot(layer.points, { y: first, x: second, fill: color, r: 2, dy: 9 })];
      case "spans":
        return [Plot.barX(layer.points, { y: first, x1: second, x2: third, fill: color, insetTop: 1, insetBottom: 1 })];
      case "vertical":
        return [Plot.ruleX(layer.points, { x: first, stroke: color, strokeDasharray: "4,3" })];
      default:
        throw new Error(`unknown layer ${layer.type}`);
    }
  }

  // Where the pointer finds a point, with its text.
  function tips(panel, layers) {
    return layers.flatMap((layer) =>
      layer.points.flatMap((point) => {
        const said = facts(panel, layer, point);
        if (said === null) return [];
        const [x, y] = {
          bars: [(point[0] + point[1]) / 2, point[2]],
          rows: [point[1], point[0]],
          spans: [(point[1] + point[2]) / 2, point[0]],
        }[layer.type] ?? [point[0], point[1]];
        const [series, where, value, interval] = said;
        const title = [series, where && `${panel.x}: ${where}`, interval ? `${value} (${interval})` : value];
        return [{ x, y, title: title.filter(Boolean).join("\n") }];
      }),
    );
  }

  // The same as `short` in figure_theme.py.
  function shorten(name) {
    return name.length <= 22 ? name : `${name.slice(0, 14)}…${name.slice(-7)}`;
  }

  function drawPanel(chart, panel, hidden, width) {
    const layers = panel.layers.filter((layer) => !hidden.has(layer.series));
    const names = panel.rows?.map(shorten);
    const left = names ? 14 + 6.6 * Math.max(...names.map((name) => name.length)) : 48;
    const y = panel.rows
      ? { domain: panel.rows, label: null, tickFormat: shorten, type: "band" }
      : { label: panel.y, grid: true, nice: true, tickFormat: panel.percent ? "%" : undefined, ticks: 6 };
    if (panel.top) y.domain = [0, panel.top];
    const dotted = panel.layers.some((layer) => ["points", "path", "ranges", "rows"].includes(layer.type));
    return Plot.plot({
      width,
      height: panel.rows ? Math.min(600, 75 + 32 * panel.rows.length) : 260,
      marginLeft: left,
      marginRight: 16,
      marginTop: panel.y ? 30 : 12,
      marginBottom: 40,
      ariaLabel: [panel.title, panel.x, panel.y].filter(Boolean).join(", "),
      style: { fontSize: "12px", overflow: "visible" },
      x: { label: panel.x, ticks: Math.max(3, Math.round((width - left) / 80)), grid: Boolean(panel.rows), inset: dotted ? 8 : 0 },
      y,
      marks: [
        ...layers.flatMap(marks),
        Plot.tip(tips(panel, layers), Plot.pointer({ x: "x", y: "y", title: "title", fill: "var(--paper)", stroke: "var(--muted)" })),
      ],
    });
  }

  function legend(chart, hidden, redraw) {
    const colors = new Map();
    for (const layer of chart.panels.flatMap((panel) => panel.layers)) {
      if (layer.series && !colors.has(layer.series)) colors.set(layer.series, layer.color);
    }
    if (colors.size < 2) return null;
    const list = element("div", { className: "chart-legend" });
    list.setAttribute("role", "group");
    list.setAttribute("aria-label", "Show or hide");
    for (const [series, color] of colors) {
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = `var(${color})`;
      const button = element("button", { type: "button" }, swatch, series);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        if (!hidden.delete(series)) hidden.add(series);
        button.setAttribute("aria-pressed", String(!hidden.has(series)));
        redraw();
      });
      list.append(button);
    }
    return list;
  }

  // The same numbers for those who see no chart or have no pointer; made when it is opened.
  function numbers(chart) {
    const details = element("details", { className: "more numbers" }, element("summary", {}, "The numbers"));
    details.addEventListener("toggle", () => {
      if (details.childElementCount > 1) return;
      for (const panel of chart.panels) {
        const body = element("tbody");
        for (const layer of panel.layers) {
          for (const point of layer.points) {
            const said = facts(panel, layer, point);
            if (said) body.append(element("tr", {}, ...said.map((text) => element("td", {}, text))));
          }
        }
        const head = ["", panel.x, panel.y || "value", "95 % interval"].map((text) => element("th", { scope: "col" }, text));
        const table = element("table", {}, element("caption", {}, panel.title), element("thead", {}, element("tr", {}, ...head)), body);
        const scroll = element("div", { className: "scroll", tabIndex: 0 }, table);
        scroll.setAttribute("role", "group");
        scroll.setAttribute("aria-label", panel.title);
        details.append(scroll);
      }
    });
    return details;
  }

  function show(name, chart) {
    const place = document.querySelector(`figure[data-chart="${name}"] .scroll`);
    if (!place) return;
    const hidden = new Set();
    const grid = element("div", { className: "panels" });
    const draw = () => {
      const room = grid.clientWidth || place.clientWidth;
      const columns = Math.max(1, Math.min(chart.panels.length, Math.floor(room / 215)));
      const width = Math.floor((room - 16 * (columns - 1)) / columns);
      grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
      grid.replaceChildren(...chart.panels.map((panel) =>
        element("div", {}, element("h4", {}, panel.title), drawPanel(chart, panel, hidden, width))));
    };
    const buttons = legend(chart, hidden, draw);
    const image = place.firstElementChild;
    place.parentElement.insertBefore(grid, place);
    try {
      draw();
    } catch (error) {
      grid.remove();
      throw error;
    }
    if (buttons) grid.before(buttons);
    grid.after(numbers(chart));
    image.remove();
    place.remove();
    let drawnFor = grid.clientWidth;
    new ResizeObserver(() => {
      if (grid.clientWidth && grid.clientWidth !== drawnFor) {
        drawnFor = grid.clientWidth;
        draw();
      }
    }).observe(grid);
  }

  const waiting = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      waiting.unobserve(entry.target);
      show(entry.target.dataset.chart, charts[entry.target.dataset.chart]);
    }
  }, { rootMargin: "600px" });
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    if (charts[figure.dataset.chart]) waiting.observe(figure);
  }
  window.addEventListener("beforeprint", () => {
    for (const figure of document.querySelectorAll("figure[data-chart]")) {
      if (figure.querySelector("picture") && charts[figure.dataset.chart]) show(figure.dataset.chart, charts[figure.dataset.chart]);
    }
  });
})();
