from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from divaug.report.document import Document, plain, show


def test_markdown_refers_to_figures_and_html_holds_them():
    Image.new("RGB", (4, 4)).save("a.png")
    document = Document("A <title>")
    document.heading("One", 3)
    document.text("x < y & z")
    document.bullets(["first", "second"])
    document.code("python -m x")
    document.table(pd.DataFrame({"name": ["a|b", "c"], "value": [1234.5, float("nan")], "ok": [True, False]}))
    document.figure(Path.cwd() / "a.png", "A figure")
    markdown, page = document.write(Path.cwd(), "report")
    text = markdown.read_text()
    assert text.startswith("# A <title>\n\n### One\n\nx < y & z\n\n- first\n- second\n\n```\npython -m x\n```")
    assert "| a\\|b | 1234 | yes |\n| c | - | no |" in text and "![A figure](a.png)" in text
    html = page.read_text()
    assert "A &lt;title&gt;" in html and "x &lt; y &amp; z" in html and 'src="data:image/png;base64,' in html
    assert 'class="number">1234<' in html and "a.png" not in html and "http" not in html


def test_the_page_knows_the_marks_of_emphasis_and_code_and_keeps_means_in_one_line():
    document = Document("Marks")
    document.text("*bal - erm* and 2 * 3 * 4 of `a*b*c`, <*x*>")
    document.bullets(["`mix/cmo`: *Differs:* nothing"])
    document.table(pd.DataFrame({"mean": ["1.0 ± 0.2", "-"]}))
    markdown, page = document.write(Path.cwd(), "marks")
    assert "*bal - erm* and 2 * 3 * 4 of `a*b*c`" in markdown.read_text()
    html = page.read_text()
    assert "<p><em>bal - erm</em> and 2 * 3 * 4 of <code>a*b*c</code>, &lt;<em>x</em>&gt;</p>" in html
    assert "<li><code>mix/cmo</code>: <em>Differs:</em> nothing</li>" in html
    assert '<td class="number">1.0 ± 0.2</td>' in html and "<td>-</td>" in html


def test_numbers():
    assert [show(v) for v in (0.12345, 12345.6, -3.0, 7, True, "x", float("nan"))] == [
        "0.123", "12346", "-3", "7", "yes", "x", "-",
    ]  # fmt: skip


ODD = [
    "<script>alert(1)</script>",
    "a|b",
    "*x*",
    "`y`",
    "_z_",
    "[k](http://x)",
    "$5$",
    "# h",
    "two\nlines",
    "back\\slash",
    "a_b",
]


@pytest.mark.parametrize("name", ODD)
def test_a_users_text_is_shown_as_it_is(tmp_path, name):
    import html
    import re

    document = Document("t")
    document.text(f"Class {plain(name)} and *this* is `code`.")
    document.bullets([plain(name)])
    document.table(pd.DataFrame({"class": [name], "n": [1]}))
    page, made = document.write(tmp_path, "x")
    shown = " ".join(name.split())
    text = made.read_text()
    assert f"<p>Class {html.escape(shown)} and <em>this</em> is <code>code</code>.</p>" in text
    assert f"<li>{html.escape(shown)}</li>" in text and "<script>" not in text.lower()
    from markdown_it import MarkdownIt

    rendered = MarkdownIt("commonmark").enable("table").render(page.read_text())
    told = [
        html.unescape(re.sub(r"<[^>]*>", "", part)) for part in re.findall(r"<(?:li|td)>(.*?)</(?:li|td)>", rendered)
    ]
    assert told[:2] == [shown, shown]
