// Every sample in a table that is sorted, filtered and searched here: the numbers are columns of bytes, and only the
// rows of one page are in the document.
const ROWS = 25;
const part = (name) => document.getElementById(`explorer-${name}`);
const head = JSON.parse(part("data").textContent);
const { classes, attacks, budgets, ensembles } = head;
const KINDS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f8: Float64Array };
const named = (label) => classes[label] ?? String(label);
const make = (tag, text, name) => {
  const found = document.createElement(tag);
  if (text !== undefined) found.textContent = text;
  if (name) found.className = name;
  return found;
};
const count = (number) => number.toLocaleString("en");

async function unpack() {
  const text = atob(head.data), bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  for (const one of ensembles) {
    for (const [name, value] of Object.entries(one)) {
      if (Array.isArray(value) && value.length === 3 && value[0] in KINDS) one[name] = new KINDS[value[0]](buffer, value[1], value[2]);
    }
    one.n = one.ids.length;
    one.within = (column, row, at) => one[column][row * one.n + at];
  }
}

// A row of the table is a number: which sample of which ensemble, counted through.
let owner, place;
const number = () => {
  const total = ensembles.reduce((sum, one) => sum + one.n, 0);
  owner = new Uint16Array(total);
  place = new Uint32Array(total);
  let row = 0;
  ensembles.forEach((one, e) => {
    for (let at = 0; at < one.n; at += 1, row += 1) {
      owner[row] = e;
      place[row] = at;
    }
  });
};

// What is sorted by: a number for each row, made at the first use.
const ranks = (names) => {
  const order = names.map((_, at) => at).sort((a, b) => names[a].localeCompare(names[b], "en", { numeric: true }));
  const found = new Float64Array(names.length);
  order.forEach((at, rank) => { found[at] = rank; });
  return found;
};
const epsOf = (one, norm, at) => {
  const by = one.within("by", norm, at), runs = one.runs.length;
  return by < runs ? budgets[one.runs[by][1]].eps : by === runs ? Infinity : 0;
};
const right = (one, votes, at) => {
  let found = 0;
  for (let member = 0; member < one.members; member += 1) found += one.within(votes, member, at) === one.labels[at];
  return found;
};
let names, broke;
const KEYS = {
  id: (one, at) => one.ids[at],
  ensemble: (one, at, norm, e) => e,
  label: (one, at) => names[one.labels[at]] ?? -1,
  clean: (one, at) => names[one.answers[at]] ?? -1,
  eps: (one, at, norm) => epsOf(one, norm, at),
  by: (one, at, norm) => {
    const by = one.within("by", norm, at);
    return by < one.runs.length ? broke[one.runs[by][0]] : by === one.runs.length ? Infinity : -1;
  },
  votes: (one, at) => (one.members ? right(one, "votes", at) : -1),
  after: (one, at) => (one.after.length ? right(one, "after", at) : -1),
};
const keys = new Map();
const keyed = (name) => {
  if (!keys.has(name)) {
    const [kind, norm] = name.split(" "), found = new Float64Array(owner.length);
    for (let row = 0; row < found.length; row += 1) found[row] = KEYS[kind](ensembles[owner[row]], place[row], Number(norm), owner[row]);
    keys.set(name, found);
  }
  return keys.get(name);
};
let order;
const sort = (name, down) => {
  const by = keyed(name), sign = down ? -1 : 1;
  order = Uint32Array.from(place.keys()).sort((a, b) => (by[a] === by[b] ? a - b : by[a] < by[b] ? -sign : sign));
};

// What is shown: of every ensemble, what became of each sample under the runs that are chosen.
const chosen = (name) => part(name)?.value ?? "";
const runsOf = (one) => {
  const attack = chosen("attack"), budget = budgets[chosen("budget")];
  return one.runs.flatMap(([a, b], run) => {
    const at = budgets[b];
    const there = !budget || (at.norm === budget.norm && (attack ? at.eps === budget.eps : at.eps <= budget.eps));
    return there && (!attack || a === Number(attack)) ? [run] : [];
  });
};
const matching = (one) => {
  const outcome = chosen("outcome"), runs = runsOf(one), found = new Uint8Array(one.n), n = one.n, clean = one.right;
  if (!outcome) return found.fill(1);
  if (outcome === "clean") return found.map((_, at) => clean[at] === 0);
  if (!runs.length) return found;
  for (const run of runs) for (let at = 0, from = (1 + run) * n; at < n; at += 1) if (clean[from + at] === 0) found[at] = 1;
  for (let at = 0; at < n; at += 1) {
    const broken = found[at] || clean[at] === 0;
    found[at] = outcome === "withstood" ? !broken : outcome === "broken" ? broken : broken && clean[at] > 0;
  }
  return found;
};
const searching = (one) => {  // of each word: what a sample may be, to be found by it
  const words = chosen("search").toLowerCase().split(/\s+/).filter(Boolean);
  const has = (text, word) => text.toLowerCase().includes(word);
  return words.filter((word) => !has(one.id, word)).map((word) => ({
    id: /^\d+$/.test(word) ? Number(word) : -1,
    label: Uint8Array.from(classes, (name) => has(name, word)),
    run: Uint8Array.from(one.runs, ([attack]) => has(attacks[attack], word)),
  }));
};
const found = (one, at, word) => {
  if (one.ids[at] === word.id || word.label[one.labels[at]] || word.label[one.answers[at]]) return true;
  for (let from = at; from < one.by.length; from += one.n) if (word.run[one.by[from]]) return true;
  return false;
};
let hits = new Uint32Array(0), page = 0;
const filter = () => {
  const ensemble = chosen("ensemble"), label = chosen("label");
  const kept = ensembles.map((one, e) => (ensemble === "" || e === Number(ensemble) ? matching(one) : null));
  const words = ensembles.map(searching);
  const next = new Uint32Array(order.length);
  let many = 0;
  for (const row of order) {
    const e = owner[row], at = place[row], one = ensembles[e];
    if (!kept[e] || !kept[e][at] || (label !== "" && one.labels[at] !== Number(label))) continue;
    if (words[e].every((word) => found(one, at, word))) next[many++] = row;
  }
  hits = next.subarray(0, many);
  page = 0;
  show();
};

// The rows of one page.
const body = part("table").tBodies[0], columns = [...part("table").tHead.rows[0].cells];
const votes = (one, column, at) => {
  if (!one.members || !one[column].length) return "";
  const said = new Map();
  for (let member = 0; member < one.members; member += 1) {
    const label = one.within(column, member, at);
    if (label !== one.labels[at]) said.set(label, (said.get(label) ?? 0) + 1);
  }
  const wrong = [...said].sort((a, b) => b[1] - a[1]).map(([label, times]) => (times > 1 ? `${times} \u00d7 ${named(label)}` : named(label)));
  return `${right(one, column, at)} of ${one.members}${wrong.length ? ` (${wrong.join(", ")})` : ""}`;
};
const TEXTS = {
  ensemble: (one) => one.id,
  label: (one, at) => named(one.labels[at]),
  clean: (one, at) => named(one.answers[at]),
  eps: (one, at, norm) => {
    const by = one.within("by", norm, at), runs = one.runs.length;
    return by < runs ? budgets[one.runs[by][1]].text : by === runs ? "withstood all" : "0";
  },
  by: (one, at, norm) => {
    const by = one.within("by", norm, at), runs = one.runs.length;
    return by < runs ? attacks[one.runs[by][0]] : by === runs ? "" : "wrong without an attack";
  },
  votes: (one, at) => votes(one, "votes", at),
  after: (one, at) => votes(one, "after", at),
};
const line = (row) => {
  const one = ensembles[owner[row]], at = place[row], made = make("tr");
  for (const column of columns) {
    const [kind, norm] = column.dataset.key.split(" ");
    if (kind === "id") {
      const button = make("button", String(one.ids[at])), first = make("th");
      button.type = "button";
      button.setAttribute("aria-expanded", "false");
      button.setAttribute("aria-label", `Sample ${one.ids[at]} of ${one.id}`);
      first.scope = "row";
      first.append(button);
      made.append(first);
    } else {
      const wrong = kind === "clean" && one.right[at] === 0;
      const text = TEXTS[kind](one, at, Number(norm));
      made.append(make("td", text, (wrong ? "wrong " : "") + (text.length > 40 ? "long" : "")));
    }
  }
  made.dataset.row = row;
  return made;
};
const show = () => {
  const pages = Math.max(1, Math.ceil(hits.length / ROWS));
  page = Math.min(Math.max(page, 0), pages - 1);
  const rows = document.createDocumentFragment();
  hits.subarray(page * ROWS, (page + 1) * ROWS).forEach((row) => rows.append(line(row)));
  body.replaceChildren(rows);
  part("count").textContent = `${count(hits.length)} of ${count(order.length)} samples`;
  part("page").textContent = `page ${count(page + 1)} of ${count(pages)}`;
  for (const [name, end] of [["first", 0], ["back", 0], ["on", pages - 1], ["last", pages - 1]]) part(name).setAttribute("aria-disabled", String(page === end));
};

// What a row opens: every run, every member, the images.
const grid = (caption, top, rows) => {
  const over = make("div", undefined, "over"), table = make("table"), header = table.createTHead().insertRow(), inner = table.createTBody();
  table.createCaption().textContent = caption;
  for (const text of top) header.append(Object.assign(make("th", text), { scope: "col" }));
  for (const [name, ...cells] of rows) {
    const made = inner.insertRow();
    made.append(Object.assign(make("th", name), { scope: "row" }), ...cells.map(([text, wrong]) => make("td", text, wrong ? "wrong" : "")));
  }
  over.tabIndex = 0;
  over.setAttribute("role", "group");
  over.setAttribute("aria-label", caption);
  over.append(table);
  return over;
};
const answer = (one, run, at) => {
  const share = one.within("right", 1 + run, at), label = one.answers[(1 + run) * one.n + at];
  if (label === undefined) return [share === 0 ? "wrong" : "right", share === 0];
  if (share > 0 && share < 1) return [`right with ${Number((100 * share).toPrecision(7))} %`, false];
  if (share === 0) return [`${label === one.labels[at] ? "the attack failed: counts as broken" : named(label)}`, true];
  return [`${label === one.labels[at] ? named(label) : `${named(label)} only beyond this eps`}`, false];
};
const images = (one, e, at) => {
  const id = one.ids[at], parts = [...document.querySelectorAll(`[data-sample="${e}-${id}"]`)].map((figure) => {
    const copy = figure.cloneNode(true);
    copy.removeAttribute("id");
    copy.removeAttribute("data-sample");
    return copy;
  });
  if (parts.length) return parts;
  const text = make("p");
  if (one.right[at] === 0) text.append("It is wrong without an attack, so none was run on it and there is no image of one.");
  else if (at < one.kept) text.append("This page does not carry its images; ", make("code", `robustkit report FOLDER --examples ${id}`), " puts them in, where FOLDER is that of the evaluation.");
  else text.append(one.kept ? `Images were kept of the first ${count(one.kept)} samples only.` : "No images of this ensemble are there; the part on images of attacks says why.");
  return [text];
};
const opened = (row) => {
  const e = owner[row], at = place[row], one = ensembles[e], inside = make("div", undefined, "inside");
  if (one.runs.length) {
    const used = [...new Set(one.runs.map(([attack]) => attack))], scales = [...new Set(one.runs.map(([, budget]) => budget))].sort((a, b) => a - b);
    const rows = used.map((attack) => [attacks[attack], ...scales.map((budget) => {
      const said = one.runs.flatMap(([a, b], run) => (a === attack && b === budget ? [answer(one, run, at)] : []));
      return [said.map(([text]) => text).join("; "), said.some(([, wrong]) => wrong)];
    })]);
    inside.append(grid("Answer of the ensemble, by attack and eps", ["attack", ...scales.map((budget) => budgets[budget].text)], rows));
  }
  if (one.members) {
    const rows = [["votes", "clean"], ["after", one.strongest === null ? "" : `${attacks[one.runs[one.strongest][0]]} at ${budgets[one.runs[one.strongest][1]].text}`]]
      .filter(([column]) => one[column].length)
      .map(([column, name]) => [name, ...Array.from({ length: one.members }, (_, member) => one.within(column, member, at)).map((label) => [named(label), label !== one.labels[at]])]);
    inside.append(grid("Votes of the members", ["on the image", ...Array.from({ length: one.members }, (_, member) => `member ${member}`)], rows));
  }
  inside.append(...images(one, e, at));
  const made = make("tr", undefined, "more"), cell = made.insertCell();
  cell.colSpan = columns.length;
  cell.append(inside);
  return made;
};
const toggle = (row) => {
  const button = row.querySelector("button"), wide = button.getAttribute("aria-expanded") === "true";
  if (wide) row.nextSibling.remove();
  else row.after(opened(Number(row.dataset.row)));
  button.setAttribute("aria-expanded", String(!wide));
};

const choices = (name, texts) => texts.forEach((text, at) => part(name)?.append(new Option(text, at)));
const listen = () => {
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-row]");
    if (row && (event.target.closest("button") || getSelection().isCollapsed)) toggle(row);
  });
  columns.forEach((column) => column.firstElementChild.addEventListener("click", () => {
    const down = column.getAttribute("aria-sort") === "ascending";
    columns.forEach((other) => other.removeAttribute("aria-sort"));
    column.setAttribute("aria-sort", down ? "descending" : "ascending");
    sort(column.dataset.key, down);
    filter();
  }));
  const inputs = ["ensemble", "label", "outcome", "attack", "budget", "search"].map(part).filter(Boolean);
  inputs.forEach((input) => input.addEventListener("input", filter));
  part("reset").addEventListener("click", () => {
    inputs.forEach((input) => { input.value = ""; });
    filter();
  });
  const go = { first: () => 0, back: () => page - 1, on: () => page + 1, last: () => Infinity };
  Object.entries(go).forEach(([name, to]) => part(name).addEventListener("click", () => {
    page = to();
    show();
  }));
};
const start = async () => {
  await unpack();
  number();
  names = ranks(classes);
  broke = ranks(attacks);
  order = Uint32Array.from(place.keys());
  choices("ensemble", ensembles.map((one) => one.id));
  choices("label", classes);
  choices("attack", attacks);
  choices("budget", budgets.map((one) => one.text));
  listen();
  filter();
  part("off").hidden = true;
  document.getElementById("explorer").hidden = false;
};
start().catch((error) => part("off").append(` (${error})`));
