"""The whole study in miniature, on digits: encoders, plan, runs and report, to see that everything works."""

from pathlib import Path

from divaug.base.files import make_folder, write_text
from divaug.config.layers import configure
from divaug.data.load import load_data
from divaug.train.build import resolve
from divaug.train.encoder import train_encoder

_PLAN = """\
title = "Smoke: breadth against number on digits"
analysis = 1

[preset]
preset = "fast"
model = {{ name = "whitened_cnn", widths = [8, 16] }}
batch_size = 50
lr = 0.1
precision = "fp32"

[encoders]
digits = [{encoders}]

[words]
primary = ["digits/longtailed"]
gate = 0.5

[[power]]
name = "digits"
gain = 10.0
run = {{ A = 2.0, B = 2.0, C = 2.0, D = 2.0 }}

[[design]]
dataset = "digits"
name = "longtailed"
cuts = "0-3"
n = 8
heads = 30
kinds = 4
steps = 60
arms.A = {{ number = 1.0, breadth = 0.5 }}
arms.B = {{ number = 1.0, breadth = 1.0 }}
arms.C = {{ number = 2.0, breadth = 0.5 }}
arms.D = {{ number = 2.0, breadth = 1.0 }}

[[design]]
dataset = "digits"
name = "longtailed"
variant = "twice"
cuts = "0-1"
n = 8
heads = 30
kinds = 4
steps = 60
arms.A2 = {{ number = 1.0, breadth = 0.5, copies = 2 }}
arms.B2 = {{ number = 1.0, breadth = 1.0, copies = 2 }}
"""


def smoke_plan(folder: Path) -> Path:
    """Train two small encoders on digits and write a plan that uses them; return its file."""
    encoders = []
    for seed in (0, 1):
        config = configure(
            dataset="digits", profile="natural", data_part="b1", epochs=2, seed=seed, tracking="off", progress="none",
            model={"name": "whitened_cnn", "widths": [8, 256]},
        )  # fmt: skip
        data = load_data(config)
        encoders.append(train_encoder(resolve(config, data), data, make_folder(folder / "encoders")))
    path = folder / "digits.toml"
    write_text(path, _PLAN.format(encoders=", ".join(f'"encoders/{file.name}"' for file in encoders)))
    return path
