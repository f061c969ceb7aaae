// Which notebooks a reader has worked through is kept in the browser, and shown in the sidebar.
const notebook = (address) => (address.match(/notebooks\/(\d\d_\w+)\.html/) || [])[1];

function readDone() {
  try { return JSON.parse(localStorage.getItem("done") || "[]"); } catch { return []; }
}

function showDone() {
  const done = readDone();
  for (const link of document.querySelectorAll(".sidebar-tree a"))
    link.classList.toggle("is-done", done.includes(notebook(link.href)));
}

document.addEventListener("DOMContentLoaded", () => {
  const here = notebook(location.href);
  if (here && document.querySelector("article")) {
    const label = document.createElement("label");
    label.className = "done";
    label.style.display = "block";
    label.innerHTML = '<input type="checkbox"> I have worked through this notebook';
    const box = label.querySelector("input");
    box.checked = readDone().includes(here);
    box.addEventListener("change", () => {
      const others = readDone().filter((name) => name !== here);
      localStorage.setItem("done", JSON.stringify(box.checked ? [...others, here] : others));
      showDone();
    });
    document.querySelector("article").append(label);
  }
  showDone();
});
