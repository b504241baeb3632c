"""HTML as plain values: `tag` makes an element, `render` its text, `document` a whole page."""

import html

VOID = ("img", "meta", "br", "col")

# Colours come in pairs, light and dark; pictures stay on white paper in both.
CSS = """
:root { color-scheme: light dark; --ink: light-dark(#1d2125, #dfe3e6); \
--dim: light-dark(#5c656d, #9aa4ac);
  --paper: light-dark(#ffffff, #14171a); --line: light-dark(#dde1e4, #33393f); \
--wash: light-dark(#f5f7f8, #1d2226);
  --accent: light-dark(#b8005d, #ff6fb5); --alarm: light-dark(#c8102e, #ff6b6b); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem; background: var(--paper); \
color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, \
sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 3rem 0 .75rem; padding-top: .9rem; \
border-top: 1px solid var(--line); }
p { margin: .4rem 0; max-width: 46rem; }
.dim, figcaption, .means { color: var(--dim); }
.alarm { color: var(--alarm); font-weight: 600; }
.key { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.75rem 0 0; padding: 0; \
list-style: none; }
.key b { display: block; font-size: 1.6rem; font-weight: 600; line-height: 1.25; \
font-variant-numeric: tabular-nums; }
.key small { font-size: 1rem; font-weight: 400; color: var(--dim); }
.key span { color: var(--dim); font-size: .875rem; }
.scroll { overflow: auto; max-height: 36rem; }
table { border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem 1.25rem .35rem 0; text-align: right; vertical-align: baseline; \
white-space: nowrap; }
th { font-weight: 600; border-bottom: 1px solid var(--line); }
thead th { position: sticky; top: 0; background: var(--paper); }
tbody th { border: 0; text-align: left; }
.sortable { font-size: .875rem; } .sortable :is(th, td) { padding-right: .9rem; }
.sortable thead th { white-space: normal; vertical-align: bottom; }
td.means, td.words { text-align: left; white-space: normal; }
td.means, td.words { min-width: 15rem; font-size: .875rem; }
tr.best > * { color: var(--accent); font-weight: 600; }
th button { all: unset; cursor: pointer; } \
th button:focus-visible { outline: 2px solid var(--accent); }
th[aria-sort] button::after { content: " \\2191"; } \
th[aria-sort=descending] button::after { content: " \\2193"; }
figure { margin: 1.5rem 0 2.25rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; \
border: 1px solid var(--line);
  border-radius: 4px; }
figcaption { margin-top: .6rem; font-size: .9375rem; max-width: 46rem; }
figcaption b { color: var(--ink); }
pre { margin: .5rem 0; padding: .8rem 1rem; background: var(--wash); border-radius: 4px; \
font-size: .8125rem;
  line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin: .75rem 0; } summary { cursor: pointer; font-weight: 600; }
@media (max-width: 40rem) { body { padding-top: 1.25rem; } h1 { font-size: 1.5rem; } \
.means { display: none; }
  .numbers :is(th, td) { padding-right: .7rem; } .numbers tbody th { white-space: normal; } }
@media print { details > * { display: block; } }
"""

# A click on a column's name sorts by it, a second click reverses the order; rows without a number
# stay last.
SORT = """
document.querySelectorAll("table.sortable button").forEach(button => button.onclick = () => {
  const head = button.closest("th"), up = head.ariaSort !== "ascending", \
body = head.closest("table").tBodies[0];
  const value = row => { const text = row.cells[head.cellIndex].dataset.value; \
return text === "" ? NaN : +text; };
  const order = (a, b) => isNaN(a) ? 1 : isNaN(b) ? -1 : up ? a - b : b - a;
  [...head.parentNode.cells].forEach(cell => cell.ariaSort = null);
  head.ariaSort = up ? "ascending" : "descending";
  body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
});
"""

# The page may load nothing but what is written in it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def tag(name: str, *inside, **attributes) -> tuple:
    """An HTML element.

    Args:
      inside: text, elements, or None for nothing.
      attributes: None for one that is left out; `class_` stands for the reserved word `class`, and
        `data_value` for `data-value`.
    """
    return name, attributes, inside


def render(node) -> str:
    """The HTML of an element, or of text, whose special characters are escaped."""
    if node is None:
        return ""
    if not isinstance(node, tuple):
        return html.escape(str(node))
    name, attributes, inside = node
    start = name
    for key, value in attributes.items():
        if value is not None:
            key = key.rstrip("_").replace("_", "-")
            start += f' {key}="{html.escape(str(value))}"'
    if name in VOID:
        return f"<{start}>"
    return f"<{start}>{''.join(map(render, inside))}</{name}>"


def document(title: str, *body, style: str = "", script: str = "") -> str:
    """The HTML of a whole page with its style.

    Args:
      body: elements.
      style: CSS beyond that of every page.
      script: JavaScript; not escaped.
    """
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
    ]
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        *map(render, head),
        f"<style>{CSS}{style}</style>",
        "</head>",
        "<body>",
        *map(render, body),
        f"<script>{script}</script>" if script else "",
        "</body>",
        "</html>",
    ]
    return "\n".join(line for line in lines if line) + "\n"
