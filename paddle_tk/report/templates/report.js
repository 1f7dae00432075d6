{% raw %}
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");

  document.getElementById("theme").addEventListener("click", function () {
    var dark = root.classList.contains("dark") ||
      (!root.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
    root.classList.toggle("dark", !dark);
    root.classList.toggle("light", dark);
  });

  function cell(value) {
    var text = value === null ? "" : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) { text = "'" + text; }
    return /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  }

  function csv(raw) {
    var rows = [["option", "figure", "unit", "index", "value"]];
    raw.figures.forEach(function (figure) {
      figure.samples.forEach(function (value, index) {
        rows.push([figure.option, figure.figure, figure.unit, index, value]);
      });
    });
    return rows.map(function (row) { return row.map(cell).join(","); }).join("\r\n") + "\r\n";
  }

  function save(name, type, text) {
    var link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: type }));
    link.download = name;
    document.body.appendChild(link);
    link.click();
    link.remove();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
  }

  document.querySelectorAll("[data-download]").forEach(function (button) {
    button.addEventListener("click", function () {
      var raw = JSON.parse(document.getElementById("samples").textContent);
      if (button.dataset.download === "csv") { save("samples.csv", "text/csv;charset=utf-8", csv(raw)); }
      else { save("samples.json", "application/json", JSON.stringify(raw, null, 1)); }
    });
  });
})();
{% endraw %}
