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


def pixels(path):
    """Return an image as the model's input: upright, white where transparent, the upper bits of 16-bit grey, square."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):
        shifted = np.asarray(image).astype(np.int64) >> (told["input"]["bits"] - 8)
        image = Image.fromarray(np.clip(shifted, 0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    square = {"stretch": Image.Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}[told["resize"]["how"]]
    array = np.asarray(square(image.convert("RGB"), tuple(told["resize"]["to"]), Image.Resampling.BILINEAR))
    grey = told["input"]["channels"] == "grey"
    return (array @ [0.299, 0.587, 0.114])[..., None].round().astype(np.uint8) if grey else array


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
        image = pixels(path)
    except (OSError, ValueError) as error:
        out.writerow([path, "", "", "", "", error])
        continue
    _, (found,) = session.run(told["outputs"], {"images": image[None]})
    first, second = (-found).argsort(kind="stable")[:2]
    decision = decide(dict(zip(classes, found, strict=True)))
    out.writerow([path, classes[first], found[first], classes[second], decision, "", *found])
