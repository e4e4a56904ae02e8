// Charts: a legend hides series, and pointing at a point, or going there with arrow keys, says its numbers.
const svgElement = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  return made;
};
const shownNumber = (value, scale) => String(+(value * scale).toPrecision(6));
const lines = (text) => text.split("\n");

// The numbers of a drawing, as rows that a reader walks through: { text, at() -> middle, width, height in the window }.
const ofMarkers = (group) => [...group.children].filter((one) => one.querySelector("title")).map((one) => ({
  text: one.querySelector("title").textContent, group,
  at() {
    const box = one.getBoundingClientRect();
    return { x: box.x + box.width / 2, y: box.y + box.height / 2, width: box.width + 6, height: box.height + 6 };
  },
}));
const ofPath = (path, svg) => {
  const [across, up] = [Number(svg.dataset.xScale || 1), Number(svg.dataset.yScale || 1)];
  const places = [...path.getAttribute("d").matchAll(/[ML](\S+) ([^MLh]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);
  return places.map(([x, y]) => ({
    text: `${path.dataset.name}: ${svg.dataset.x} ${shownNumber(x, across)}, ${svg.dataset.y} ${shownNumber(y, up)}`, group: path,
    at() {
      const place = new DOMPoint(x, y).matrixTransform(path.getScreenCTM());
      return { x: place.x, y: place.y, width: 14, height: 14 };
    },
  }));
};
const ofMatrix = (svg) => {
  const own = svg.dataset, [rows, columns] = [lines(own.rows), lines(own.columns)];
  const texts = own.values ? lines(own.values) : [...svg.querySelectorAll(".cells text")].map((one) => one.textContent);
  const [left, top, wide, tall] = [own.left, own.top, own.wide, own.tall].map(Number);
  const named = (what, name) => (what ? `${what} ${name}` : name);
  return rows.map((row, down) => columns.map((column, across) => ({
    text: `${named(own.y, row)}, ${named(own.x, column)}: ${texts[down * columns.length + across]}`,
    at() {
      const box = svg.getBoundingClientRect();
      return { x: box.x + left + (across + 0.5) * wide, y: box.y + top + (down + 0.5) * tall, width: wide, height: tall };
    },
  })));
};
const ofDrawing = (svg) => svg.matches(".matrix") ? ofMatrix(svg)
  : [...svg.querySelectorAll("[data-name]")].map((one) => one.tagName === "path" ? ofPath(one, svg) : ofMarkers(one));

document.querySelectorAll("figure.chart .plotted").forEach((box) => {
  const svg = box.querySelector("svg"), readout = box.closest("figure").querySelector(".readout");
  const cursor = svgElement("rect", { class: "cursor", rx: 3 });
  let every = null, row = 0, column = -1;
  const rows = () => (every ||= ofDrawing(svg)).filter((one) => one.length && !one[0].group?.matches(".off"));
  const hint = "Point at the chart, or move to it with Tab and use the arrow keys, to read its numbers.";
  const show = (one, aloud) => {
    const place = one.at(), own = svg.getScreenCTM().inverse();
    const corner = new DOMPoint(place.x - place.width / 2, place.y - place.height / 2).matrixTransform(own);
    Object.entries({ x: corner.x, y: corner.y, width: place.width, height: place.height })
      .forEach(([key, value]) => cursor.setAttribute(key, value));
    svg.append(cursor);
    readout.textContent = one.text;
    readout.classList.add("read");
    if (aloud) document.getElementById("said").textContent = one.text;
    return place;
  };
  const clear = () => { cursor.remove(); readout.textContent = hint; readout.classList.remove("read"); column = -1; };
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `${svg.querySelector("title").textContent}. Arrow keys read the numbers.`);
  readout.hidden = false;
  readout.textContent = hint;
  const nearest = (list, x, y) => list.reduce((best, one, at) => {
    const place = one.at(), far = Math.hypot(place.x - x, place.y - y);
    return far < best.far ? { far, at, place } : best;
  }, { far: Infinity, at: -1 });
  const point = (event) => {
    const found = rows().map((own) => nearest(own, event.clientX, event.clientY));
    const best = found.reduce((least, one, at) => (one.far < found[least].far ? at : least), 0);
    if (!found.length || found[best].far > Math.max(32, found[best].place.width)) return;
    [row, column] = [best, found[best].at];
    show(rows()[row][column]);
  };
  let waiting = 0;
  const soon = (event) => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => point(event)); };
  box.addEventListener("pointermove", soon);
  box.addEventListener("pointerdown", soon);
  box.addEventListener("pointerleave", () => { cancelAnimationFrame(waiting); if (document.activeElement !== box) clear(); });
  box.addEventListener("blur", clear);
  box.addEventListener("keydown", (event) => {
    const list = rows(), step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (event.key === "Escape") { clear(); return; }
    if (!list.length || event.ctrlKey || event.altKey || event.metaKey || !(step || ["Home", "End"].includes(event.key))) return;
    event.preventDefault();
    row = Math.min(row, list.length - 1);
    if (column < 0) column = event.key === "End" ? list[row].length - 1 : 0;
    else if (event.key === "Home") column = 0;
    else if (event.key === "End") column = list[row].length - 1;
    else if (step[0]) {
      const place = list[row][Math.min(column, list[row].length - 1)].at();
      row = (row + step[0] + list.length) % list.length;
      column = svg.matches(".matrix") ? column
        : list[row].reduce((best, one, at) => (Math.abs(one.at().x - place.x) < Math.abs(list[row][best].at().x - place.x) ? at : best), 0);
    } else column = Math.min(list[row].length - 1, Math.max(0, column + step[1]));
    const place = show(list[row][column], true), view = box.parentElement, edge = view.getBoundingClientRect();
    if (place.x < edge.left + 40) view.scrollLeft -= edge.left + 80 - place.x;
    if (place.x > edge.right - 40) view.scrollLeft += place.x - edge.right + 80;
  });
});

document.querySelectorAll("figure.chart").forEach((figure) => {
  const hidden = new Set();
  figure.querySelectorAll(".legend").forEach((legend) => {
    const entries = [...legend.querySelectorAll("li[data-key]")];
    if (entries.length > 1) entries.forEach((entry) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...entry.childNodes);
      entry.append(button);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(shown));
        hidden[shown ? "delete" : "add"](entry.dataset.key);
        figure.querySelectorAll(".plot .series").forEach((one) => {
          one.classList.toggle("off", [...one.classList].some((name) => hidden.has(name)));
        });
      });
    });
  });
});
