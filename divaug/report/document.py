"""A report written twice: as Markdown beside its figures, and as one HTML file that contains them."""

import base64
import html
import math
import re
from pathlib import Path
from typing import Any

from divaug.base.files import make_folder, write_text

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #111; }
table { border-collapse: collapse; font-size: 14px; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ccc; padding: 4px 10px; text-align: left; vertical-align: top; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
div.table { overflow-x: auto; }
li { overflow-wrap: anywhere; }
@media (max-width: 600px) { th, td { padding: 3px 5px; font-size: 12px; } ul { padding-left: 1.2rem; } }
img { max-width: 100%; height: auto; }
figure { margin: 1.5rem 0; }
div.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 0 14px; }
div.gallery figure { margin: 0.5rem 0; overflow-wrap: anywhere; }
div.gallery img { width: 100%; image-rendering: pixelated; }
figcaption { color: #444; font-size: 14px; }
table.sortable td { white-space: nowrap; }
table.sortable td:first-child, table.sortable th:first-child { position: sticky; left: 0; background: #fff; }
th button { all: unset; cursor: pointer; font-weight: bold; }
th button:focus-visible { outline: 2px solid #0072b2; }
th[aria-sort=descending] button::after { content: " \25BE"; }
th[aria-sort=ascending] button::after { content: " \25B4"; }
code { background: #f2f2f2; padding: 1px 4px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
"""


# Numbers begin with the largest, words with the first; what is no number stands last. Without scripts nothing moves.
_SORT = """
for (const button of document.querySelectorAll("table.sortable th button")) button.onclick = () => {
  const name = button.parentElement, now = name.getAttribute("aria-sort"), head = name.parentElement;
  const column = [...head.children].indexOf(name);
  const rows = [...head.parentElement.children].slice(1);
  const text = row => row.children[column].textContent.trim();
  const value = row => parseFloat(row.children[column].dataset.value);
  const numbers = rows.some(row => !isNaN(value(row)));
  const falls = now ? now !== "descending" : numbers;
  const missing = row => numbers && isNaN(value(row));
  rows.sort((a, b) => missing(a) - missing(b) ||
    (falls ? -1 : 1) * (numbers ? value(a) - value(b) || 0 : text(a).localeCompare(text(b))));
  for (const other of head.children) other.removeAttribute("aria-sort");
  name.setAttribute("aria-sort", falls ? "descending" : "ascending");
  head.parentElement.append(...rows);
};
"""


class Document:
    """Headings, paragraphs, lists, tables and figures in order.

    Args:
        title: Title of the report.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._blocks: list[tuple[str, Any]] = []

    def heading(self, text: str, level: int = 2) -> None:
        """Add a heading."""
        self._blocks.append(("heading", (level, text)))

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._blocks.append(("text", text))

    def bullets(self, items: list[str]) -> None:
        """Add a list."""
        self._blocks.append(("bullets", items))

    def code(self, text: str) -> None:
        """Add a command line."""
        self._blocks.append(("code", text))

    def table(self, frame: Any, *, sortable: bool = False) -> None:
        """Add a DataFrame; numbers get three significant digits, NaN a dash.

        Args:
            frame: The table.
            sortable: On the page, a click on a column's name sorts by it.
        """
        self._blocks.append(("sortable" if sortable else "table", frame))

    def figure(self, path: Path, caption: str) -> None:
        """Add an image file."""
        self._blocks.append(("figure", (path, caption)))

    def gallery(self, images: list[tuple[Path, str]]) -> None:
        """Add image files side by side, as many as fit, each with a caption."""
        self._blocks.append(("gallery", images))

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write ``NAME.md``, which refers to the image files, and ``NAME.html``, which holds them; return both."""
        make_folder(folder)
        markdown, page = folder / f"{name}.md", folder / f"{name}.html"
        write_text(markdown, self.markdown(folder))
        write_text(page, self._html())
        return markdown, page

    def markdown(self, folder: Path) -> str:
        """Return it as Markdown, for a file in a folder: image files are named relative to it."""
        parts = [f"# {self.title}"]
        for kind, content in self._blocks:
            if kind == "heading":
                parts.append(f"{'#' * content[0]} {content[1]}")
            elif kind == "bullets":
                parts.append("\n".join(f"- {item}" for item in content))
            elif kind == "code":
                parts.append(f"```\n{content}\n```")
            elif kind in ("figure", "gallery"):
                for file, caption in content if kind == "gallery" else [content]:
                    path = file.relative_to(folder) if file.is_relative_to(folder) else file.name
                    parts.append(f"![{plain(caption)}]({path})\n\n{plain(caption)}")
            elif kind in ("table", "sortable"):
                rows = [list(content.columns), *([show(v) for v in row] for row in content.itertuples(index=False))]
                lines = ["| " + " | ".join(plain(str(cell)) for cell in row) + " |" for row in rows]
                lines.insert(1, "|" + "---|" * len(content.columns))
                parts.append("\n".join(lines))
            else:
                parts.append(content)
        return "\n\n".join(parts) + "\n"

    def _html(self) -> str:
        parts = [f"<h1>{html.escape(self.title)}</h1>"]
        for kind, content in self._blocks:
            if kind == "heading":
                parts.append(f"<h{content[0]}>{html.escape(content[1])}</h{content[0]}>")
            elif kind == "bullets":
                parts.append("<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in content) + "</ul>")
            elif kind == "code":
                parts.append(f"<pre><code>{html.escape(content)}</code></pre>")
            elif kind == "figure":
                parts.append(_figure(*content))
            elif kind == "gallery":
                parts.append('<div class="gallery">' + "".join(_figure(*each) for each in content) + "</div>")
            elif kind in ("table", "sortable"):
                sort = kind == "sortable"
                name = "<th><button>{}</button></th>" if sort else "<th>{}</th>"
                head = "".join(name.format(html.escape(str(c))) for c in content.columns)
                numbers = [sort and _is_numbers(content[column]) for column in content.columns]
                body = "".join(
                    "<tr>" + "".join(_cell(v, keep) for v, keep in zip(row, numbers, strict=True)) + "</tr>"
                    for row in content.itertuples(index=False)
                )
                table = '<table class="sortable">' if sort else "<table>"
                parts.append(f'<div class="table">{table}<tr>{head}</tr>{body}</table></div>')
            else:
                parts.append(f"<p>{_inline(content)}</p>")
        if any(kind == "sortable" for kind, _ in self._blocks):
            parts.append(f"<script>{_SORT}</script>")
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body>" + "\n".join(parts)
            + "</body></html>\n"
        )  # fmt: skip


def _figure(path: Path, caption: str) -> str:
    data, told = base64.b64encode(path.read_bytes()).decode(), html.escape(caption)
    return f'<figure><img src="data:image/png;base64,{data}" alt="{told}"><figcaption>{told}</figcaption></figure>'


def show(value: Any) -> str:
    """Return a table's value as text: three significant digits, a dash for NaN, yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if math.isnan(value):
            return "-"
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def plain(text: str) -> str:
    """Return a user's text (a class name, a path) for a line of Markdown, where it is shown as it is."""
    escaped = re.sub(r"([\\`*<>\[\]|$])|(?<!\w)(_)|(_)(?!\w)", lambda found: f"\\{found[0]}", " ".join(text.split()))
    return f"\\{escaped}" if re.match(r"(#+|[-+])\s", escaped) else escaped


def _inline(text: str) -> str:
    """Return a line of Markdown as HTML; emphasis, code, and what ``plain`` escaped are supported."""

    def mark(found: re.Match[str]) -> str:
        return f"<code>{found[1]}</code>" if found[1] else f"<em>{found[2]}</em>"

    text = re.sub(r"\\([\\`*<>\[\]|$_#+-])", lambda found: f"\0{ord(found[1])};", text)
    text = re.sub(r"`([^`]+)`|\*(\S[^*`]*)\*", mark, html.escape(text))
    return re.sub(r"\0(\d+);", lambda found: html.escape(chr(int(found[1]))), text)


def _number_of(value: Any) -> float | None:
    """Return the number that a cell begins with: of a mean, an interval, or the interval alone."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    found = re.match(r"\[?([-+]?\d[\d.]*)(?: [\[±].*|, .*\])?$", str(value))
    return float(found[1]) if found else None


def _is_numbers(column: Any) -> bool:
    """Return whether a column is sorted by number: each of its cells begins with one, or says that there is none."""
    values = [_number_of(value) for value in column if value not in ("-", "no ends")]
    return bool(values) and None not in values


def _cell(value: Any, sorted_by_number: bool = False) -> str:
    figure = isinstance(value, int | float) and not isinstance(value, bool)
    number = figure or (isinstance(value, str) and re.match(r"[-+]?[\d.]+ (±|\[)", value) is not None)
    kind = ' class="number"' if number else ""
    if sorted_by_number and (key := _number_of(value)) is not None and not math.isnan(key):
        kind += f' data-value="{key:g}"'
    return f"<td{kind}>{html.escape(show(value))}</td>"
