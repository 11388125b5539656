from pathlib import Path

import pandas as pd
from PIL import Image

from divaug.document import Document, show


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


def test_numbers():
    assert [show(v) for v in (0.12345, 12345.6, -3.0, 7, True, "x", float("nan"))] == [
        "0.123", "12346", "-3", "7", "yes", "x", "-",
    ]  # fmt: skip
