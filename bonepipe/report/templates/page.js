"use strict";
// Charts are drawn when they come near the screen; plotly.js is unpacked for the first of them.
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const quickly = {displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"]};
let library;

async function unpack() {
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = Uint8Array.from(packed, letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  return window.Plotly;
}

function template() {
  const axis = {
    gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"),
    automargin: true, ticks: "", ticklabelstandoff: 5, tickfont: {color: colour("--faint")}, title: {font: {color: colour("--faint"), size: 13}, standoff: 8},
  };
  return {layout: {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
    font: {family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--ink")},
    colorway: [1, 2, 3, 4, 5, 6].map(number => colour(`--series-${number}`)),
    margin: {l: 8, r: 8, t: 8, b: 8}, hovermode: "closest",
    legend: {orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom"},
    hoverlabel: {bgcolor: colour("--card"), bordercolor: colour("--line"), font: {color: colour("--ink")}},
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",  // a finger scrolls the page
  }};
}

// Plotly knows no CSS variables, so each is replaced by its value.
const figureOf = part => JSON.parse(part.querySelector("script").textContent.replace(/var\((--[a-z0-9-]+)\)/g, (_, name) => colour(name)));

async function draw(part) {
  library ??= unpack();
  const plotly = await library, figure = figureOf(part);
  await plotly.react(part.querySelector(".plot"), figure.data, {...figure.layout, template: template()}, quickly);
  part.dataset.drawn = "yes";
}

const near = new IntersectionObserver(entries => entries.filter(entry => entry.isIntersecting).forEach(entry => {
  near.unobserve(entry.target);
  draw(entry.target);
}), {rootMargin: "300px"});
document.querySelectorAll(".part.chart").forEach(part => near.observe(part));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  document.querySelectorAll(".part.chart[data-drawn]").forEach(draw));
addEventListener("beforeprint", () => document.querySelectorAll(".part.chart:not([data-drawn])").forEach(draw));

// A click on a column's head sorts its table, on a picture enlarges it.
const value = (row, column) => row.cells[column].textContent.trim();
function compare(a, b) {
  const [x, y] = [a, b].map(text => parseFloat(text.replaceAll(",", "")));
  return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) || a.localeCompare(b) : x - y;
}
document.querySelectorAll("th button").forEach(button => button.addEventListener("click", () => {
  const head = button.parentElement, body = head.closest("table").tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  head.parentElement.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...body.rows].sort((a, b) => compare(value(a, head.cellIndex), value(b, head.cellIndex)));
  body.append(...(up ? rows : rows.reverse()));
}));
const enlarged = document.getElementById("enlarged");
document.querySelectorAll(".picture img").forEach(image => image.addEventListener("click", () => {
  enlarged.querySelector("img").src = image.src;
  enlarged.querySelector("p").textContent = image.alt;
  enlarged.showModal();
}));
enlarged.addEventListener("click", () => enlarged.close());
