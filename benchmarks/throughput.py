"""How long does each augmentation take for a batch of 128, beside the same operation of other libraries?

    python benchmarks/throughput.py            # kornia too, where it is installed: pip install 'divaug[bench]'

Pixel: 128 uint8 images in memory to 128 augmented ones in memory, whatever conversions a library needs in between.
Mix: a normalised float batch to a mixed batch with its labels. All candidates of a row alternate in one run, so that a
busy machine slows them alike; medians, in ms. Written to ``benchmarks/results/throughput.json`` and ``throughput.md``.
"""

import json
import os
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import divaug  # noqa: F401 - before anything that imports torchvision

# isort: split
import albumentations as A
import numpy as np
import timm.data
import timm.data.auto_augment as timm_auto
import timm.data.random_erasing as timm_erasing
import torch
from PIL import Image
from torchvision.transforms import v2

from divaug.base.contracts import complete
from divaug.config.registry import FEATURE, MIX, PIXEL
from divaug.data.loaders import Donors

try:
    import kornia.augmentation as K
except ImportError:
    K = None

warnings.filterwarnings("ignore")
ROWS, CLASSES = 128, 10
ROUNDS = ((0.02, 101), (1.0, 9), (float("inf"), 3))  # by the seconds of a row's slowest candidate
MEAN, STD = torch.tensor([0.5] * 3), torch.tensor([0.25] * 3)


def facts(labels: torch.Tensor) -> dict[str, Any]:
    counts = torch.bincount(labels, minlength=CLASSES)
    generator = torch.Generator().manual_seed(0)
    return {
        "labels": labels, "class_counts": counts, "group_counts": counts, "num_classes": CLASSES,
        "class_names": [str(c) for c in range(CLASSES)], "feature_dim": 512, "head_scale": 1.0, "total_steps": 100,
        "seed": 0, "default_pixel": PIXEL.build("crop_flip", facts={}),
        "encoder_features": torch.randn(len(labels), 256, generator=generator),
    }  # fmt: skip


def pixel_rows(side: int, labels: torch.Tensor) -> dict[str, dict[str, Callable[[], Any]]]:
    pictures = torch.randint(0, 256, (ROWS, side, side, 3), dtype=torch.uint8)
    arrays, pad = pictures.numpy(), side // 8
    rng = np.random.default_rng(0)

    def ours(name: str, **options: Any) -> Callable[[], Any]:
        component = PIXEL.build(name, facts=facts(labels), **options)
        return lambda: complete(component).apply(pictures, component.sample(labels, (side, side), rng))

    def pil(transform: Any) -> Callable[[], Any]:
        return lambda: np.stack([np.asarray(transform(Image.fromarray(a))) for a in arrays])

    def tensor(transform: Any) -> Callable[[], Any]:
        def work() -> Any:
            planes = pictures.permute(0, 3, 1, 2)
            return torch.stack([transform(p) for p in planes]).permute(0, 2, 3, 1)

        return work

    def album(*steps: Any) -> Callable[[], Any]:
        pipeline = A.Compose(list(steps))
        return lambda: np.stack([pipeline(image=a)["image"] for a in arrays])

    def batched_float(transform: Any) -> Callable[[], Any]:
        def work() -> Any:
            out = transform(pictures.permute(0, 3, 1, 2).float() / 255)
            return (out * 255).to(torch.uint8).permute(0, 2, 3, 1)

        return work

    def timm_policy(name: str) -> Any:
        params = {"translate_const": int(side * 0.45), "img_mean": (128, 128, 128)}
        made = {"rand": timm_auto.rand_augment_transform, "auto": timm_auto.auto_augment_transform,
                "augmix": timm_auto.augment_and_mix_transform}  # fmt: skip
        return made[name.split("-", maxsplit=1)[0] if not name.startswith("original") else "auto"](name, params)

    half = (side // 2, side // 2)
    rows: dict[str, dict[str, Callable[[], Any]]] = {
        "crop_flip": {
            "divaug": ours("crop_flip"),
            "torchvision": pil(v2.Compose([v2.RandomCrop(side, padding=pad), v2.RandomHorizontalFlip()])),
            "torchvision tensor": tensor(v2.Compose([v2.RandomCrop(side, padding=pad), v2.RandomHorizontalFlip()])),
            "albumentations": album(
                A.PadIfNeeded(side + 2 * pad, side + 2 * pad), A.RandomCrop(side, side), A.HorizontalFlip()
            ),
            "kornia": lambda: None,
        },
        "cutout": {
            "divaug": ours("cutout"),
            "torchvision": tensor(v2.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1, 1), value=128)),
            "albumentations": album(
                A.CoarseDropout((1, 1), hole_height_range=half, hole_width_range=half, fill=128, p=1)
            ),
            "timm": batched_float(
                timm_erasing.RandomErasing(1.0, 0.25, 0.25, 1.0, 1.0, mode="const", device="cpu")
            ),
        },
        "random_erasing": {
            "divaug": ours("random_erasing"),
            "torchvision": tensor(v2.RandomErasing(p=0.5, scale=(0.02, 0.4), value=128)),
            "albumentations": album(A.Erasing(scale=(0.02, 0.4), p=0.5, fill="random")),
            "timm": batched_float(timm_erasing.RandomErasing(0.5, 0.02, 0.4, 0.3, mode="pixel", device="cpu")),
        },
        "gaussian_noise": {
            "divaug": ours("gaussian_noise"),
            "torchvision": batched_float(v2.GaussianNoise(sigma=0.05)),
            "albumentations": album(A.GaussNoise(std_range=(0.05, 0.05), p=1)),
        },
        "color_jitter": {
            "divaug": ours("color_jitter"),
            "torchvision": pil(v2.ColorJitter(0.4, 0.4, 0.4, 0.1)),
            "albumentations": album(A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=1)),
        },
        "randaugment": {
            "divaug": ours("randaugment"),
            "torchvision": pil(v2.RandAugment()),
            "torchvision tensor": tensor(v2.RandAugment()),
            "timm": pil(timm_policy("rand-m9-n2")),
        },
        "trivialaugment": {
            "divaug": ours("trivialaugment"),
            "torchvision": pil(v2.TrivialAugmentWide()),
            "torchvision tensor": tensor(v2.TrivialAugmentWide()),
        },
        "autoaugment": {
            "divaug": ours("autoaugment"),
            "torchvision": pil(v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
            "timm": pil(timm_policy("original")),
        },
        "augmix": {
            "divaug": ours("augmix"), "torchvision": pil(v2.AugMix()), "timm": pil(timm_policy("augmix-m3-w3")),
        },
        "albumentations (flip)": {"divaug": ours("albumentations"), "albumentations": album(A.HorizontalFlip(p=0.5))},
        "levels (5)": {"divaug": ours("levels")},
        "cuda (level 5)": {"divaug": cuda(side, labels, pictures, rng)},
        "by_class (strong tail)": {"divaug": ours("by_class", policy={"tail": "strong"})},
    }  # fmt: skip
    if K is not None:
        ops = {
            "crop_flip": K.AugmentationSequential(K.RandomCrop((side, side), padding=pad), K.RandomHorizontalFlip()),
            "cutout": K.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0), value=0.5),
            "random_erasing": K.RandomErasing(p=0.5, scale=(0.02, 0.4)),
            "gaussian_noise": K.RandomGaussianNoise(std=0.05, p=1.0),
            "color_jitter": K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0),
        }
        for name, op in ops.items():
            rows[name]["kornia"] = batched_float(op)
    else:
        rows["crop_flip"].pop("kornia")
    return rows


def cuda(side: int, labels: torch.Tensor, pictures: torch.Tensor, rng: np.random.Generator) -> Callable[[], Any]:
    component = PIXEL.build("cuda", facts=facts(labels))
    component.levels[:] = 5
    return lambda: complete(component).apply(pictures, component.sample(labels, (side, side), rng))


def mix_rows(side: int, labels: torch.Tensor) -> dict[str, dict[str, Callable[[], Any]]]:
    images = torch.randn(ROWS, 3, side, side).contiguous(memory_format=torch.channels_last)
    own = np.zeros(ROWS, bool)
    donors = Donors(
        images.flip(0).contiguous(memory_format=torch.channels_last), labels.flip(0), np.arange(ROWS)[::-1], own
    )
    rng = np.random.default_rng(0)

    def ours(name: str, **options: Any) -> Callable[[], Any]:
        mix = MIX.build(name, facts=facts(labels), **options)

        def work() -> Any:
            given = None
            if hasattr(mix, "donors"):
                mix.donors(labels, rng)
                given = donors
            return mix.apply(images, labels, mix.sample(labels, (side, side), rng), given)

        return work

    def timm_mix(mode: str, **options: Any) -> Callable[[], Any]:
        mixer = timm.data.Mixup(num_classes=CLASSES, label_smoothing=0.0, mode=mode, **options)
        return lambda: mixer(images.clone(), labels)  # it works in place; ours leave the batch as it was

    def tv(transform: Any) -> Callable[[], Any]:
        return lambda: transform(images, labels)

    always = {"prob": 1.0}
    rows = {
        "mixup": {
            "divaug": ours("mixup"), "torchvision": tv(v2.MixUp(alpha=1.0, num_classes=CLASSES)),
            "timm": timm_mix("batch", mixup_alpha=1.0, cutmix_alpha=0.0),
        },
        "mixup, per row": {
            "divaug": ours("mixup", per_row=True), "timm": timm_mix("elem", mixup_alpha=1.0, cutmix_alpha=0.0),
        },
        "cutmix": {
            "divaug": ours("cutmix", **always), "torchvision": tv(v2.CutMix(alpha=1.0, num_classes=CLASSES)),
            "timm": timm_mix("batch", mixup_alpha=0.0, cutmix_alpha=1.0),
        },
        "cutmix, per row": {
            "divaug": ours("cutmix", per_row=True, **always),
            "timm": timm_mix("elem", mixup_alpha=0.0, cutmix_alpha=1.0),
        },
        "remix": {"divaug": ours("remix")},
        "balanced_mixup": {"divaug": ours("balanced_mixup")},
        "resizemix": {"divaug": ours("resizemix", **always)},
        "cmo (donors given)": {"divaug": ours("cmo", **always)},
        "cutmix, diverse (donors given)": {"divaug": ours("cutmix", partner="diverse", **always)},
    }  # fmt: skip
    if K is not None:
        rows["mixup, per row"]["kornia"] = tv(K.RandomMixUpV2(p=1.0, data_keys=["input", "class"]))
        rows["cutmix, per row"]["kornia"] = tv(K.RandomCutMixV2(p=1.0, data_keys=["input", "class"]))
    return rows


def feature_rows(labels: torch.Tensor) -> dict[str, dict[str, Callable[[], Any]]]:
    from divaug.base.labels import MixedLabels

    z, target = torch.randn(ROWS, 512).relu(), MixedLabels.hard(labels)
    rows = {}
    for name in FEATURE.entries():
        for options in ({}, {"covariance": "low_rank"}, {"covariance": "full"}) if name == "isda" else ({},):
            module = FEATURE.build(name, facts=facts(labels), **options)
            rng = np.random.default_rng(0)
            title = name + (f", {options['covariance']}" if options else "")
            rows[title] = {"divaug": lambda module=module, rng=rng: module(z, target, rng)}
    return rows


def measure(row: dict[str, Callable[[], Any]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in row}
    first = {}
    for name, work in row.items():
        started = time.perf_counter()
        work()
        first[name] = time.perf_counter() - started
    order = list(row.items())
    for _ in range(next(rounds for seconds, rounds in ROUNDS if max(first.values()) <= seconds)):
        random.shuffle(order)  # memory that the one before has freed is quicker to get
        for name, work in order:
            started = time.perf_counter()
            work()
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def main() -> None:
    torch.manual_seed(0)
    labels = torch.multinomial(torch.arange(CLASSES, 0, -1).double() ** 2, ROWS, replacement=True)
    labels[:CLASSES] = torch.arange(CLASSES)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for side in (32, 224):
        for name, row in {**pixel_rows(side, labels), **mix_rows(side, labels)}.items():
            table.setdefault(name, {})[f"{side}x{side}"] = measure(row)
            print(f"{side}  {name}: {table[name][f'{side}x{side}']}", flush=True)
    for name, row in feature_rows(labels).items():
        table[name] = {"D = 512": measure(row)}
        print(f"{name}: {table[name]}", flush=True)
    folder = Path(__file__).parent / "results"
    about = {
        "question": "ms for a batch of 128; all candidates of a row alternate in one run; medians",
        "threads": torch.get_num_threads(), "machine": platform.machine(), "torch": torch.__version__,
    }  # fmt: skip
    (folder / "throughput.json").write_text(json.dumps({**about, "ms": table}, indent=1) + "\n")
    peers = ["divaug", "torchvision", "torchvision tensor", "albumentations", "kornia", "timm"]
    lines = [
        "# ms for a batch of 128", "",
        f"{about['question']}; {about['threads']} threads, torch {about['torch']}. `python benchmarks/throughput.py`.",
        "The last column is divaug over the fastest of the others: above 1 divaug is slower.", "",
        "| | size | " + " | ".join(peers) + " | ratio |", "|---|---|" + "---:|" * (len(peers) + 1),
    ]  # fmt: skip
    for name, sizes in table.items():
        for size, found in sizes.items():
            others = [value for peer, value in found.items() if peer != "divaug"]
            ratio = f"{found['divaug'] / min(others):.2f}" if others else ""
            cells = [f"{found[peer]:.2f}" if peer in found else "" for peer in peers]
            lines.append(f"| {name} | {size} | " + " | ".join(cells) + f" | {ratio} |")
    (folder / "throughput.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
