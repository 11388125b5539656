"""Predict without divaug or torch, with onnxruntime, NumPy and Pillow alone.

    python predict_onnx.py MODEL.onnx IMAGES... > predictions.csv

MODEL.onnx.json lies beside the model. IMAGES are files, or folders with what lies below them.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, *named = sys.argv[1:] or [""]
if not named:
    print(__doc__)
    sys.exit(0 if model in ("-h", "--help") else 2)
told = json.loads(Path(f"{model}.json").read_text(encoding="utf-8"))
bounds, classes = told["decision"]["thresholds"], told["classes"]
known = Image.registered_extensions()


def files():
    """Return the files that are named, and the images below folders."""
    for path in map(Path, named):
        yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in known) if path.is_dir() else [path]


def decide(p):
    """Return the class of probabilities by class; nothing where the model abstains."""
    reached = [c for c in bounds if p[c] >= bounds[c]]
    free = [c for c in p if c not in bounds] or list(p)
    best = max(reached or free, key=lambda c: p[c] / bounds.get(c, 1))
    return best if reached or p[best] >= told["decision"]["abstain"] else ""


session = onnxruntime.InferenceSession(model)
out = csv.writer(sys.stdout)
out.writerow(["path", "label", "probability", "second", "decision", "unreadable", *(f"p_{name}" for name in classes)])
for path in files():
    try:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except (OSError, ValueError) as error:
        out.writerow([path, "", "", "", "", error])
        continue
    image = image.resize(told["resize"]["to"], Image.Resampling.BILINEAR)  # as --resize stretch, the default
    _, (found,) = session.run(told["outputs"], {"images": np.asarray(image)[None]})
    first, second = (-found).argsort(kind="stable")[:2]
    decision = decide(dict(zip(classes, found, strict=True)))
    out.writerow([path, classes[first], found[first], classes[second], decision, "", *found])
