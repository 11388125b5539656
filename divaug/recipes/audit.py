"""Look for what is wrong with your own images before training: one pass over the files, worst findings first.

    divaug audit my_images
    divaug audit cells.csv --image-size 64 --save findings.csv

PATH is a folder of class folders, of train/, val/ and test/ with class folders in each, a CSV, or a list file. Found
are files that cannot be read, identical and nearly identical images (across parts and classes too), sizes and formats
that tell a class, unused bits, and whatever was left out. Exit code 3: training would refuse these data.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from divaug.config.command import Parser
from divaug.config.command import main as run_main
from divaug.config.schema import config_fields, default_of

CHECKED = "unreadable files, identical and nearly identical images, sizes and formats that tell a class, names, depth"
KEYS = ("test", "data_root", "path_column", "label_column", "group_column", "split_column", "resize", "bits")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = Parser("divaug audit", __doc__)
        parser.add_argument("path", metavar="PATH", help="folder of class folders, CSV, or list file")
        parser.add_argument("--image-size", type=int, default=32, metavar="N", help="side to train at (default: 32)")
        for key in KEYS:
            told, default = config_fields()[key].metadata, default_of(key)
            kind, choices = int if key == "bits" else str, told["choices"] or None
            text = f"{told['help']} (default: %(default)s)" if default is not None else told["help"]
            how: Any = {"type": kind, "default": default, "choices": choices, "metavar": kind.__name__.upper()}
            parser.add_argument("--" + key.replace("_", "-"), help=text, **how)
        parser.add_argument(
            "--save",
            metavar="FILE.csv",
            help="write one row per finding and file; copies of an image share a set",
        )
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        chosen = parser.read(arguments)
        from divaug.base.errors import ConfigError, DataError
        from divaug.data.datasets._own import Images
        from divaug.data.images import Request

        if chosen.image_size < 4:
            raise ConfigError(f"--image-size must be >= 4, got {chosen.image_size}")
        if not 8 <= chosen.bits <= 16:
            raise ConfigError(f"--bits must lie in 8 to 16, got {chosen.bits}")
        if Path(chosen.path).is_dir():
            for key in KEYS:
                if key.endswith("_column") and getattr(chosen, key) != default_of(key):
                    raise ConfigError(f"--{key.replace('_', '-')} has no effect with a folder: it is for a CSV")
        if chosen.save is not None:
            _check_save(Path(chosen.save))
        request = Request(path=chosen.path, image_size=chosen.image_size, **{key: getattr(chosen, key) for key in KEYS},
                          audited=True, dealt=True)  # fmt: skip
        images = Images(request, keep=False)
        findings = images.findings()
        print(_summary(images))
        for finding in findings:
            print(f"note: {finding.text}")
        if few := _few(images):
            print(f"note: {few}")
        if not findings:
            print(f"nothing {'else ' if few else ''}was found; looked at: {CHECKED}")
        print("not looked at: whether labels are right; after divaug train, the page shows the surest mistakes")
        if chosen.save is not None:
            _save(Path(chosen.save), findings)
            print(f"findings: {chosen.save}")
        try:
            if gone := next((finding for finding in findings if finding.kind in ("missing", "empty")), None):
                raise DataError(gone.text)
            images.parts()
        except DataError as error:
            print("verdict: NOT USABLE as they are, because of what is named last")
            print(f"training would refuse these data: {error}", file=sys.stderr)
            return error.exit_code
        images.request = replace(request, dealt=False)
        try:
            images.parts()
        except DataError as error:
            print(
                f"note: divaug train deals all but test images anew, so takes these; divaug folder_lt refuses: {error}"
            )
        print(f"verdict: {_verdict(findings, bool(few))}")
        return 0

    return run_main("audit", argv, work)


def _summary(images: Any) -> str:
    """Return the number of images of every class and part."""
    parts = [part for part in ("train", "val", "test") if any((row.split or "train") == part for row in images.rows)]
    counts = Counter((row.label, row.split or "train") for row in images.rows)
    names = sorted(dict.fromkeys(row.label for row in images.rows), key=lambda c: -sum(counts[c, p] for p in parts))
    shown = [f"{name} {' + '.join(f'{counts[name, part]:,}' for part in parts)}" for name in names]
    more = f", and {len(shown) - 20} classes more" if len(shown) > 20 else ""
    of_parts = f" ({' + '.join(parts)})" if len(parts) > 1 else ""
    return f"{len(images.rows):,} images of {len(names)} classes{of_parts}: {', '.join(shown[:20])}{more}"


def _few(images: Any) -> str:
    """Return a line on the classes of which divaug train will conclude nothing, or nothing."""
    from divaug.study.choice import JUDGED

    counts = Counter(row.label for row in images.rows)
    few = [f"{name} {n}" for name, n in counts.most_common() if n < JUDGED]
    return f"classes with fewer than {JUDGED} images, by which no method is chosen: {', '.join(few)}" if few else ""


def _verdict(findings: list[Any], few: bool) -> str:
    """Return whether the images can be trained on, and what to look at before."""
    from divaug.data.audit import KINDS, TOLD

    wrong = list(dict.fromkeys(KINDS[finding.kind] for finding in findings if finding.kind not in TOLD))
    wrong += ["classes with few images"] if few else []
    return f"usable, but look first at: {'; '.join(wrong)}" if wrong else "usable"


def _check_save(file: Path) -> None:
    """Refuse a file that is something else, or that cannot be written, before anything is scanned."""
    from divaug.base.errors import ConfigError

    if file.is_dir() or (
        file.exists()
        and file.stat().st_size  # an empty one is left by a scan that was stopped
        and not file.read_bytes().startswith((b"kind,finding,set,file", b"kind,finding,file"))
    ):
        raise ConfigError(f"--save {file}: it exists and holds something else; name another file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a"):
            pass
    except OSError as error:
        raise ConfigError(f"--save {file} cannot be written: {error.strerror}") from error


def _save(file: Path, findings: list[Any]) -> None:
    import pandas as pd

    rows = [
        {"kind": finding.kind, "finding": _utf8(finding.text), "set": number, "file": _utf8(str(path))}
        for finding in findings
        for path, number in zip(finding.files or ("",), finding.sets or ("",) * max(1, len(finding.files)), strict=True)
    ]
    table: Any = pd.DataFrame(rows, columns=["kind", "finding", "set", "file"])
    table.to_csv(file, index=False)


def _utf8(text: str) -> str:
    """Return a text with what is no UTF-8, in names of files, shown by its bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


if __name__ == "__main__":
    sys.exit(main())
