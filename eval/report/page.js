for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0]
  heads.forEach((head, column) => {
    const button = document.createElement("button")
    button.append(...head.childNodes)
    head.append(button)
    button.onclick = () => {
      // numbers: largest first; names: A first
      const up = head.ariaSort == "descending" || (!column && head.ariaSort != "ascending")
      heads.forEach(other => other.removeAttribute("aria-sort"))
      head.setAttribute("aria-sort", up ? "ascending" : "descending")
      const key = row => column ? parseFloat(row.cells[column].dataset.value) : row.cells[0].textContent
      const order = (a, b) => column ? a - b : a.localeCompare(b)
      const known = row => key(row) === key(row)  // NaN is not itself: rows without a value stay last
      const rows = [...body.rows]
      const sorted = rows.filter(known).sort((a, b) => (up ? 1 : -1) * order(key(a), key(b)))
      body.append(...sorted, ...rows.filter(row => !known(row)))
    }
  })
}
