// Sorts the cycle table by the column whose heading is pressed; without this script the table is simply unsorted.
const table = document.getElementById("cycles");
for (const button of table?.querySelectorAll("th button") ?? []) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), column = heading.cellIndex, body = table.tBodies[0];
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => row.cells[column].textContent.replaceAll(",", "");
    const compare = heading.classList.contains("n")
      ? (a, b) => (parseFloat(value(a)) || 0) - (parseFloat(value(b)) || 0)
      : (a, b) => value(a).localeCompare(value(b));
    body.append(...[...body.rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))));
  });
}
