"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = [];

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  // The colours of text and grid by theme, as a change of a plot's layout.
  function theme(layout) {
    const text = colour("--text"), grid = colour("--grid"), surface = colour("--surface");
    const change = {
      "font.color": text, "font.size": 13,
      "font.family": getComputedStyle(document.body).fontFamily,
      "hoverlabel.bgcolor": surface, "hoverlabel.bordercolor": colour("--soft"),
      "hoverlabel.font.color": text, "legend.bgcolor": "rgba(0,0,0,0)",
      "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": colour("--soft"),
      "modebar.activecolor": colour("--accent"),
    };
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      change[`${axis}.gridcolor`] = grid;
      change[`${axis}.linecolor`] = grid;
      change[`${axis}.tickcolor`] = grid;
    }
    return change;
  }

  // Plotly picks the colour of words by the cell's, as if what shows through it were white.
  async function paint(place) {
    await Plotly.relayout(place, theme(place.layout));
    const cells = [...place.data.keys()].filter((number) => place.data[number].type === "heatmap");
    const scale = [[0, colour("--surface")], [1, "#2f86c9"]];
    if (cells.length) await Plotly.restyle(place, {colorscale: [scale]}, cells);
  }

  function draw(source) {
    const place = document.getElementById(source.dataset.plot);
    const plot = JSON.parse(source.textContent);
    plot.layout.xaxis ??= {};
    plot.layout.yaxis ??= {};
    const options = {
      responsive: true, displaylogo: false, scrollZoom: false, displayModeBar: "hover",
      // Plotly's own default is a button that uploads the plot to its makers.
      showSendToCloud: false, plotlyServerURL: "",
      modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
    };
    return Plotly.newPlot(place, plot.data, plot.layout, options)
      .then(() => paint(place))
      .then(() => drawn.push(place));
  }

  function repaint() {
    return Promise.all(drawn.map(paint));
  }

  function key(cell) {
    const text = cell.textContent.trim();
    const number = Number(text);
    return text !== "" && !Number.isNaN(number) ? number : text;
  }

  function compare(one, other) {
    if (one === "" || other === "") return one === other ? 0 : one === "" ? 1 : -1;
    if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
    return typeof one === "number" ? -1 : 1;
  }

  function sort(heading) {
    const row = heading.parentElement, body = row.closest("table").tBodies[0];
    const column = [...row.children].indexOf(heading);
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of row.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((line) => [key(line.cells[column] ?? line.cells[0]), line]);
    const empty = rows.filter(([value]) => value === "");
    const full = rows.filter(([value]) => value !== "");
    full.sort(([one], [other]) => (down ? -1 : 1) * compare(one, other));
    body.append(...[...full, ...empty].map(([, line]) => line));
  }

  for (const button of document.querySelectorAll(".sortable button")) {
    button.addEventListener("click", () => sort(button.parentElement));
  }
  dark.addEventListener("change", repaint);
  window.addEventListener("beforeprint", repaint);
  window.addEventListener("afterprint", repaint);

  // One plot after another, with room between them for the reader's clicks.
  (async () => {
    for (const source of document.querySelectorAll("script[data-plot]")) {
      await draw(source);
      await new Promise((resolve) => setTimeout(resolve));
    }
    document.documentElement.dataset.drawn = String(drawn.length);
  })();
})();
