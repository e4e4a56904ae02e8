// A table whose columns sort at a click: every cell says by what in data-key.
const board = document.getElementById("board"), body = board.tBodies[0], heads = [...board.querySelectorAll("thead th")];
heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => {
  const down = head.getAttribute("aria-sort") === "ascending";
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => row.cells[at].dataset.key;
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)], numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
    return (numbers ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
  });
  body.append(...rows);
  document.getElementById("said").textContent = `Sorted by ${head.textContent}, ${down ? "largest" : "smallest"} first.`;
}));
