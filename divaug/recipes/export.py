"""Write a model for other runtimes: ONNX, normalisation and softmax inside.

    divaug export models/cells --to onnx
    divaug export runs/cells-fast/erm/seed0 --to onnx -o cells.onnx

MODEL is a model folder or a run. The ONNX file takes uint8 images (N, H, W, ch) of the network's size and returns
logits and probabilities; the JSON file beside it has classes, size and thresholds. Needs pip install 'divaug[export]'.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from divaug.base.errors import ConfigError, DivaugError
from divaug.config.command import Parser, add_trust
from divaug.config.command import main as run_main

FORMATS = ("onnx",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = Parser("divaug export", __doc__)
        parser.add_argument("model", metavar="MODEL", help="model folder or run")
        parser.add_argument("--to", choices=FORMATS, default="onnx", help="format (default: %(default)s)")
        parser.add_argument("-o", "--output", metavar="FILE", help="output file (default: MODEL/model.onnx)")
        add_trust(parser)
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        chosen = parser.read(arguments)
        if not Path(chosen.model).is_dir():
            raise DivaugError(f"there is no model folder or run {chosen.model}")
        output = Path(chosen.output or Path(chosen.model) / "model.onnx")
        if output.suffix != ".onnx" or not output.parent.is_dir():
            raise ConfigError(f"--output must be FILE.onnx in a folder that exists, got {output}")

        from divaug.runs.export import export_onnx
        from divaug.runs.load import load

        model = load(chosen.model)
        beside = export_onnx(model, output)
        height, width, channels = model.transform.shape
        print(
            f"{output}: uint8 images (N, {height}, {width}, {channels}) to {len(model.classes)} probabilities\n{beside}"
        )
        return 0

    return run_main("export", argv, work)


if __name__ == "__main__":
    sys.exit(main())
