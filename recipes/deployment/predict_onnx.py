"""Predict without divaug or torch: ``python predict_onnx.py MODEL.onnx IMAGE... > predictions.csv``."""

import csv
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, *files = sys.argv[1:]
with open(f"{model}.json", encoding="utf-8") as file:
    told = json.load(file)
bounds, classes = told["decision"]["thresholds"], told["classes"]


def decide(p):
    """Return the class of probabilities by class; nothing where the model abstains."""
    reached = [c for c in bounds if p[c] >= bounds[c]]
    free = [c for c in p if c not in bounds] or list(p)
    best = max(reached or free, key=lambda c: p[c] / bounds.get(c, 1))
    return best if reached or p[best] >= told["decision"]["abstain"] else ""


session = onnxruntime.InferenceSession(model)
out = csv.writer(sys.stdout)
out.writerow(["path", "label", "decision", "unreadable", *(f"p_{name}" for name in classes)])
for path in files:
    try:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except (OSError, ValueError) as error:
        out.writerow([path, "", "", error])
        continue
    image = image.resize(told["resize"]["to"], Image.Resampling.BILINEAR)  # as --resize stretch, the default
    _, (found,) = session.run(told["outputs"], {"images": np.asarray(image)[None]})
    out.writerow([path, classes[found.argmax()], decide(dict(zip(classes, found, strict=True))), "", *found])
