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
session = onnxruntime.InferenceSession(model)
out = csv.writer(sys.stdout)
out.writerow(["path", "label", *(f"p_{name}" for name in told["classes"])])
for path in files:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    image = image.resize(told["resize"]["to"], Image.Resampling.BILINEAR)  # as --resize stretch, the default
    _, (probabilities,) = session.run(told["outputs"], {"images": np.asarray(image)[None]})
    out.writerow([path, told["classes"][probabilities.argmax()], *probabilities])
