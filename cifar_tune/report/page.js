"use strict";
(() => {
  const PAPER = 680, HALF = 330; // pixels, of A4 and of letter paper within their margins
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const paper = window.matchMedia("print");
  const waiting = [...document.querySelectorAll("script[data-plot]")], drawn = [];

  function colour(name) {
    return getComputedStyle(root).getPropertyValue(name).trim();
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
  function paint(place, size = {}) {
    const cells = [...place.data.keys()].filter((number) => place.data[number].type === "heatmap");
    const scale = [[0, colour("--surface")], [1, "#2f86c9"]];
    if (cells.length) Plotly.restyle(place, {colorscale: [scale]}, cells);
    Plotly.relayout(place, {...theme(place.layout), ...size});
  }

  // Plotly draws at once, though it gives promises: what prints the page waits for none.
  function draw(source) {
    const place = document.getElementById(source.dataset.plot);
    const plot = JSON.parse(source.textContent);
    plot.layout.xaxis ??= {};
    plot.layout.yaxis ??= {};
    const options = {
      responsive: true, displaylogo: false, scrollZoom: false, displayModeBar: true,
      // Plotly's own default is a button that uploads the plot to its makers.
      showSendToCloud: false, plotlyServerURL: "",
      modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
    };
    Plotly.newPlot(place, plot.data, plot.layout, options);
    paint(place);
    drawn.push(place);
  }

  function drawNext() {
    const source = waiting.shift();
    if (source) draw(source);
    return Boolean(source);
  }

  // Paper is narrower than the window, white, and shows what nobody has scrolled to.
  function print() {
    if (root.classList.contains("printed")) return;
    root.classList.add("printed");
    while (drawNext());
    for (const place of drawn) paint(place, {autosize: false, width: place.closest(".pair") ? HALF : PAPER});
  }

  function unprint() {
    root.classList.remove("printed");
    for (const place of drawn) paint(place, {autosize: true, width: null});
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
  dark.addEventListener("change", () => drawn.forEach((place) => paint(place)));
  paper.addEventListener("change", () => (paper.matches ? print() : unprint()));
  window.addEventListener("beforeprint", print);
  window.addEventListener("afterprint", unprint);

  // One plot after another, with room between them for the reader's clicks.
  (async () => {
    while (drawNext()) await new Promise((resolve) => setTimeout(resolve));
    root.dataset.drawn = String(drawn.length);
  })();
})();
