const root = document.documentElement, all = (what, within = document) => [...within.querySelectorAll(what)];
const say = (text) => { document.getElementById("said").textContent = text; };
const shown = (button) => { button.hidden = false; return button; };

// Light or dark.
const theme = document.getElementById("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
const tell = () => theme.setAttribute("aria-pressed", String(isDark()));
shown(theme).addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("robustkit-theme", root.dataset.theme); } catch (error) { /* for this visit only */ }
  tell();
});
dark.addEventListener("change", tell);
tell();

// Folded parts: a link to something in one opens it; all at once; all of them on paper.
const open = (at) => { for (let one = at; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true; };
const asked = () => { try { return decodeURIComponent(location.hash.slice(1)); } catch (error) { return ""; } };  // as "#%"
const arrive = () => {
  const at = document.getElementById(asked());
  if (!at) return;
  open(at);
  at.scrollIntoView();
  const place = at.tagName === "DETAILS" ? at.querySelector("summary") : at;
  if (!place.matches("summary, a, button, [tabindex]")) place.tabIndex = -1;
  place.focus({ preventScroll: true });
};
addEventListener("hashchange", arrive);
document.addEventListener("click", (event) => {  // a second click on a link to where one has been is no change
  const link = event.target.closest("a[href^='#']");
  if (link && link.hash === location.hash) arrive();
});
arrive();
const unfold = all("button.unfold").map(shown);
unfold.forEach((button) => button.addEventListener("click", () => {
  const every = button.getAttribute("aria-pressed") !== "true";
  all("details.part, details.fold").forEach((one) => { one.open = every; });
  unfold.forEach((other) => {
    other.setAttribute("aria-pressed", String(every));
    other.textContent = every ? "Fold all" : "Unfold all";
  });
}));
let before = [];
addEventListener("beforeprint", () => {
  before = all("details:not([open])");
  before.forEach((one) => { one.open = true; });
});
addEventListener("afterprint", () => before.splice(0).forEach((one) => { one.open = false; }));

// Commands to be copied.
all("button.copy").map(shown).forEach((button) => button.addEventListener("click", async () => {
  const code = button.parentElement.querySelector("code");
  const done = (text) => { button.textContent = text; say(text); };
  try {
    await navigator.clipboard.writeText(code.textContent);
    done("Copied");
  } catch (error) {  // not allowed: it is selected, for the keys
    getSelection().selectAllChildren(code);
    done("Selected: press Ctrl+C");
  }
}));

// What is wider than the page says on which sides there is more; what is not needs no stop of the keyboard.
const boxes = all(".scroll, .panel");
const hints = new Map(boxes.map((box) => {
  const hint = document.createElement("p");
  hint.className = "cue";
  hint.hidden = true;
  hint.setAttribute("aria-hidden", "true");
  hint.textContent = "more to the right \u2192";
  box.before(hint);
  return [box, hint];
}));
const cue = (box) => {
  const more = box.scrollWidth - box.clientWidth;
  box.classList.toggle("wide", more > 1);
  box.classList.toggle("before", box.scrollLeft > 1);
  box.classList.toggle("after", more - box.scrollLeft > 1);
  hints.get(box).hidden = more - box.scrollLeft <= 1;
  if (more > 1 && !box.querySelector(".plotted")) box.tabIndex = 0; else box.removeAttribute("tabindex");
};
boxes.forEach((box) => box.addEventListener("scroll", () => cue(box), { passive: true }));
if ("ResizeObserver" in window) {
  const seen = new ResizeObserver((entries) => entries.forEach((entry) => cue(entry.target)));
  boxes.forEach((box) => seen.observe(box));
} else boxes.forEach(cue);
