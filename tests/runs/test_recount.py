"""A run in which every part is on, and every number of its rows counted again by slow, obvious loops.

The learning rate is 1e-30: no weight moves (1 - 1e-30 is 1 in float32), so what each step computed can be computed
again from the final network. Components are asked for their draws as the loop should have asked: by streams named here.
"""

import copy
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score, roc_auc_score
from torch.nn import functional as F

import divaug
from divaug.base.errors import DivaugError
from divaug.base.labels import MixedLabels
from divaug.base.metrics import prior_corrected
from divaug.base.rng import stream
from divaug.config.tables import from_layers
from divaug.data.load import load_data
from divaug.feature.feature_smote import FeatureSmote
from divaug.losses.class_weights import effective_number as effective_weights
from divaug.losses.class_weights import inverse_frequency
from divaug.losses.focal import Focal
from divaug.losses.logit_adjusted import LogitAdjusted
from divaug.mix.cutmix import CutMix
from divaug.mix.partners.minority import Minority
from divaug.models.encoder import Encoder
from divaug.models.network import build_network
from divaug.pixel.shift import Shift
from divaug.runs.folder import RunFolder
from divaug.runs.loop import run
from divaug.samplers.oversample import Oversample
from divaug.samplers.uniform import Uniform

SEED, EPOCHS, BATCH, K, MORE = 3, 2, 16, 3, 5
C = 10


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The run, with everything that its rows are counted again from."""
    place = tmp_path_factory.mktemp("recount")
    network = build_network("whitened_cnn", 4, channels=1, size=(8, 8), widths=[24], seed=9)
    manifest = {
        "model": {"name": "whitened_cnn", "widths": [24]},
        "image_shape": [8, 8, 1],
        "mean": [0.305],
        "std": [0.376],
    }
    encoder = Encoder(network.backbone.eval(), manifest, np.array([1], dtype=np.uint64)).save(place / "space")
    config = from_layers([("test", {
        "dataset": "digits", "imbalance_factor": 5.0, "max_per_class": 24, "val_frac": 0.25, "seed": SEED, "epochs": EPOCHS,
        "batch_size": BATCH, "lr": 1e-30, "precision": "fp32", "device": "cpu", "tracking": "off", "progress": "none",
        "output_dir": str(place / "runs"), "experiment": "recount", "encoder": str(encoder), "top_k": K,
        "more_top_k": [MORE], "monitor_at": [0.0, 1.0], "model": {"name": "whitened_cnn", "widths": [12]},
        "sampler": "oversample", "pixel": {"name": "shift", "reach_frac": 0.3},
        "mix": {"name": "cutmix", "prob": 0.7, "per_row": True, "partner": "minority"},
        "feature": {"name": "feature_smote", "rate": 0.5, "memory": 4}, "loss": "logit_adjusted", "class_weights": "effective_number",
        "phase": [{"from": 0.5, "sampler": "uniform", "loss": "focal", "class_weights": "inverse_frequency"}],
    })])  # fmt: skip
    folder = run(config)
    data = load_data(config)
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    model = divaug.load(folder).network
    return SimpleNamespace(data=data, rows=rows, folder=folder, model=model, encoder=Encoder.load(encoder).backbone, slow=recount(data, model, Encoder.load(encoder).backbone))  # fmt: skip


def normal(images):
    """Normalise uint8 images by the digits' mean and deviation, as the manifest states them."""
    return torch.from_numpy((np.stack(images).astype(np.float64) / 255 - 0.305) / 0.376).float().permute(0, 3, 1, 2)


def recount(data, model, encoder):
    """Follow both epochs by plain loops; return what each should have noted."""
    images, labels = np.asarray(data.train.images), torch.from_numpy(data.train.labels)
    counts = torch.tensor([int((labels == c).sum()) for c in range(C)])
    pixel, minority = Shift(reach_frac=0.3), Minority(labels, counts)
    mix, feature = CutMix(prob=0.7, per_row=True, partner=minority), FeatureSmote(counts, 12, rate=0.5, memory=4)
    arms = [
        (Oversample(labels, counts), LogitAdjusted(counts), effective_weights(counts)),
        (Uniform(labels, counts), Focal(), inverse_frequency(counts)),
    ]
    found = []
    for epoch, (sampler, loss, weights) in enumerate(arms):
        seen = SimpleNamespace(
            loss=0.0, right=0, rows=0, views=Sets(), mixed=Sets(), encoder=Sets(), steps=0,
            **{name: np.zeros(C) for name in ("shown", "augmented", "receivers", "givers", "mass", "synthetic")},
            visits=np.zeros(len(labels)), donations=np.zeros(len(labels)),
        )  # fmt: skip
        drawn = sampler.draw(stream(SEED, "sampler", epoch), epoch / EPOCHS).numpy()
        starts = list(range(0, len(drawn), BATCH))
        if len(drawn) - starts[-1] == 1:
            starts.pop()
        for step, start in enumerate(starts):
            rows = drawn[start:] if step == len(starts) - 1 else drawn[start : start + BATCH]
            follow(
                seen, epoch, step, rows, images, labels, model, encoder, pixel, minority, mix, feature, loss, weights
            )
        found.append(seen)
    return found


def follow(seen, epoch, step, rows, images, labels, model, encoder, pixel, minority, mix, feature, loss, weights):
    """One step, in words: draw, augment, mix, embed, augment embeddings, weigh the loss, count."""
    ids = labels[torch.from_numpy(rows)]
    plan = pixel.sample(ids, (8, 8), stream(SEED, "pixel", epoch, step))
    own = [pixel.apply_one(images[r], plan, i) for i, r in enumerate(rows)]
    donors = minority.draw(ids, stream(SEED, "donors", epoch, step)).numpy()
    donor_ids = labels[torch.from_numpy(donors)]
    donor_plan = pixel.sample(donor_ids, (8, 8), stream(SEED, "pixel_donors", epoch, step))
    given = [pixel.apply_one(images[r], donor_plan, i) for i, r in enumerate(donors)]
    boxes = mix.sample(ids, (8, 8), stream(SEED, "mix", epoch, step)).boxes
    mixed, kept = [], []
    for i, (top, bottom, left, right) in enumerate(boxes):
        picture = own[i].copy()
        picture[top:bottom, left:right] = given[i][top:bottom, left:right]
        mixed.append(picture)
        kept.append(1 - (bottom - top) * (right - left) / 64)
    two = [0 < share < 1 and r != d for share, r, d in zip(kept, rows, donors, strict=True)]
    target = MixedLabels(
        torch.stack([ids, donor_ids], 1),
        torch.tensor([[share, 1 - share] for share in kept], dtype=torch.float32),
        torch.tensor(two),
    )
    larger = [int(a) if share >= 0.5 else int(b) for a, b, share in zip(ids, donor_ids, kept, strict=True)]
    batch = normal(mixed)
    with torch.no_grad():
        z = copy.deepcopy(model).train().features(batch)
        for i, c in enumerate(larger):
            ce = z[i].numpy().astype(np.float64) * model.head.weight[c].numpy()
            (seen.mixed if two[i] else seen.views).add(c, ce)
            seen.encoder.add(c, encoder(batch[i : i + 1])[0].numpy())
        z, after = feature(z, target, stream(SEED, "feature", epoch, step))
        logits = model.head(z)
    above = below = 0.0
    for row in range(len(logits)):
        for c, share in zip(after.ids[row].tolist(), after.weights[row].tolist(), strict=True):
            above += share * float(weights[c]) * float(loss(logits[row : row + 1], torch.tensor([c])))
            below += share * float(weights[c])
            seen.mass[c] += share
            seen.synthetic[c] += share if row >= len(rows) else 0.0
    seen.loss += above / below * len(rows)
    seen.right += sum(int(logits[i].argmax()) == c for i, c in enumerate(larger))
    seen.rows, seen.steps = seen.rows + len(rows), seen.steps + 1
    for i, r in enumerate(rows):
        seen.shown[ids[i]] += 1
        seen.augmented[ids[i]] += not np.array_equal(own[i], images[r])
        seen.visits[r] += 1
        if two[i]:
            seen.receivers[ids[i]] += 1
            seen.givers[donor_ids[i]] += 1
            seen.donations[donors[i]] += 1


class Sets:
    """Top-K sets by class, counted one by one."""

    def __init__(self):
        self.rows = {c: [] for c in range(C)}

    def add(self, c, values):
        self.rows[int(c)].append(np.asarray(values, dtype=np.float64))

    def statistics(self, sizes):
        """Return name -> one value a class, as the monitor names them."""
        out = {"n": [float(len(self.rows[c])) for c in range(C)]}
        for k, suffix in ((K, ""), (MORE, f"_top{MORE}")):
            sets = {
                c: [{d for d in sorted(range(len(v)), key=lambda d: (-v[d], d))[:k] if v[d] > 0} for v in self.rows[c]]
                for c in range(C)
            }
            uses = {c: [sum(d in s for s in sets[c]) for d in range(self.width)] for c in range(C)}
            out[f"number{suffix}"] = [float(len(set().union(*sets[c]))) if sets[c] else math.nan for c in range(C)]
            out[f"effective{suffix}"] = [entropy_number(uses[c]) for c in range(C)]
            out[f"magnitude{suffix}"] = [
                float(np.sort(np.mean(self.rows[c], axis=0))[::-1][:k].mean()) if self.rows[c] else math.nan
                for c in range(C)
            ]
            for m in sizes:
                out[f"rarefied_{m}{suffix}"] = [rarefied(uses[c], len(sets[c]), m) for c in range(C)]
        return out

    @property
    def width(self):
        return next(len(rows[0]) for rows in self.rows.values() if rows)


def entropy_number(uses):
    shares = [u / sum(uses) for u in uses if u]
    return math.exp(-sum(s * math.log(s) for s in shares)) if shares else math.nan


def rarefied(uses, n, m):
    return sum(1 - math.comb(n - u, m) / math.comb(n, m) for u in uses) if n >= m else math.nan


def sizes_of(done):
    return sorted({5, 20, int(done.data.cut.counts.min())})


def groups_of(done):
    """Head, mid and tail by rank of the cut's counts, ties by class: four, three and three of ten."""
    order = sorted(range(C), key=lambda c: (-int(done.data.cut.counts[c]), c))
    return {"head": sorted(order[:4]), "mid": sorted(order[4:7]), "tail": sorted(order[7:])}


def clean(done, part, embed):
    """Return the sets of a part's unaugmented images."""
    sets = Sets()
    with torch.no_grad():
        for image, c in zip(np.asarray(part.images), part.labels, strict=True):
            sets.add(c, embed(normal([image]), c))
    return sets


def expected(done, epoch):
    """Return every metric and per-class value that a row should have."""
    data, seen = done.data, done.slow[epoch]
    labels, groups, sizes = data.train.labels, groups_of(done), sizes_of(done)
    tail, n = groups["tail"], seen.rows
    uses = seen.donations
    by_class = {c: [u for u, y in zip(uses, labels, strict=True) if y == c] for c in range(C)}
    per_class = {
        "aug/rows": seen.shown, "aug/augmented": seen.augmented, "aug/receivers": seen.receivers, "aug/givers": seen.givers,
        "aug/label_mass": seen.mass, "aug/synthetic": seen.synthetic,
        "aug/sources": [sum(v > 0 and y == c for v, y in zip(seen.visits, labels, strict=True)) for c in range(C)],
        "aug/donors": [sum(u > 0 for u in by_class[c]) for c in range(C)],
        "aug/donors_effective": [sum(u) ** 2 / sum(x**2 for x in u) if sum(u) else 0.0 for u in by_class.values()],
    }  # fmt: skip
    steps = seen.steps * EPOCHS
    warm, at = round(0.1 * steps), (epoch + 1) * seen.steps - 1
    rate = 1e-30 * (1 - (at - warm) / (steps - warm)) if at >= warm else 1e-30 * (at + 1) / warm
    metrics = {
        "train/loss": seen.loss / n, "train/acc": seen.right / n, "train/lr": rate,
        "aug/augmented_frac": sum(seen.augmented) / n, "aug/mixed_frac": sum(seen.receivers) / n,
        "aug/synthetic_frac": sum(seen.synthetic) / n, "aug/rows_tail_frac": sum(seen.shown[tail]) / n,
        "aug/mass_tail_frac": sum(seen.mass[tail]) / sum(seen.mass), "aug/givers_tail_frac": sum(seen.givers[tail]) / sum(seen.givers),
        "aug/donors_effective": sum(uses) ** 2 / sum(uses**2),
    }  # fmt: skip
    spaces = {"views": with_mixed(seen, sizes)}
    first = with_mixed(done.slow[0], sizes)
    for name in [f"rarefied_{m}{s}" for m in sizes for s in ("", f"_top{MORE}")]:
        spaces["views"][f"growth_{name}"] = np.subtract(spaces["views"][name], first[name])
    spaces["views"]["growth"] = np.subtract(spaces["views"]["number"], first["number"])
    weight = done.model.head.weight.detach().numpy().astype(np.float64)
    for name, part in (("train", data.train), ("test", data.test)):
        if epoch == EPOCHS - 1:
            sets = clean(done, part, lambda x, c: done.model.features(x)[0].numpy() * weight[c])
            spaces[f"{name}_clean"] = sets.statistics(sizes)
            if name == "train":
                with torch.no_grad():
                    told = [int(done.model(normal([image])).argmax()) for image in np.asarray(part.images)]
                right = [[t == c for t, y in zip(told, part.labels, strict=True) if y == c] for c in range(C)]
                per_class["train_clean/recall"] = recalls = [sum(r) / len(r) if r else math.nan for r in right]
                metrics["train_clean/bal_acc"] = float(np.nanmean(recalls))
                for group, members in groups.items():
                    metrics[f"train_clean/acc_{group}"] = float(np.nanmean([recalls[c] for c in members]))
        spaces[f"encoder_{name}_clean"] = clean(done, part, lambda x, c: done.encoder(x)[0].numpy()).statistics(sizes)
    spaces["encoder_views"] = seen.encoder.statistics(sizes)
    for space, statistics in spaces.items():
        for name, values in statistics.items():
            per_class[f"{space}/{name}"] = values
            for group, members in groups.items() if name not in ("n", "n_mixed") else ():
                known = [values[c] for c in members if not math.isnan(values[c])]
                metrics[f"{space}/{name}_{group}"] = sum(known) / len(known) if known else math.nan
    return metrics, per_class


def with_mixed(seen, sizes):
    found = seen.views.statistics(sizes)
    return found | {f"{name}_mixed": values for name, values in seen.mixed.statistics(sizes).items()}


def part_numbers(done, name, part):
    """Return a part's metrics by scikit-learn and plain loops, from the network as it ended."""
    with torch.no_grad():
        logits = torch.cat([done.model(normal([image])) for image in np.asarray(part.images)])
    told, y, p = logits.argmax(1).numpy(), part.labels, F.softmax(logits.double(), 1).numpy()
    present = sorted(set(y.tolist()))
    recalls = {c: float((told[y == c] == c).mean()) for c in present}
    counts = done.data.cut.counts
    sets = groups_of(done) | {
        "many": [],
        "medium": [c for c in range(C) if 20 <= counts[c] <= 100],
        "few": [c for c in range(C) if counts[c] < 20],
    }
    binned = [[] for _ in range(15)]
    for row, c in zip(p, y, strict=True):
        binned[min(14, math.ceil(row.max() * 15) - 1)].append((row.argmax() == c) - row.max())
    areas = [roc_auc_score(y == c, p[:, c]) for c in present]
    metrics = {
        "acc": float((told == y).mean()), "bal_acc": balanced_accuracy_score(y, told), "macro_f1": f1_score(y, told, average="macro", labels=present, zero_division=0),
        "gmean": float(np.prod(list(recalls.values())) ** (1 / len(present))), "worst_class_acc": min(recalls.values()),
        **{f"acc_{g}": float(np.mean([recalls[c] for c in members if c in recalls])) for g, members in sets.items() if members},
        "roc_auc": float(np.mean(areas)), "ece": sum(abs(sum(gaps)) for gaps in binned) / len(y),
        "predicted_classes": len(set(told.tolist())),
    }  # fmt: skip
    off, found = [[[] for _ in range(15)] for _ in range(C)], [math.nan] * C
    for row, label in zip(p, y, strict=True):
        for c in range(C):
            off[c][max(0, min(14, math.ceil(row[c] * 15) - 1))].append((c == label) - row[c])
    errors = [sum(abs(sum(gaps)) for gaps in bins) / len(y) for bins in off]
    for c in present:
        bound = sorted(p[y != c, c], reverse=True)[int(0.05 * (y != c).sum() + 1e-9)]
        found[c] = float((p[y == c, c] > bound).mean())
    by_size = sorted(range(C), key=lambda c: counts[c])
    other = dict(zip(by_size, sorted(counts, reverse=True), strict=True))
    metrics |= {
        "classwise_ece": sum(errors) / C, "sensitivity_at_95": float(np.nanmean(found)),
        "brier": float(np.mean([sum((row[c] - (c == label)) ** 2 for c in range(C)) for row, label in zip(p, y, strict=True)])),
        "acc_as_trained": sum(recalls[c] * counts[c] for c in present) / sum(counts[c] for c in present),
        "acc_reversed": sum(recalls[c] * other[c] for c in present) / sum(other[c] for c in present),
    }  # fmt: skip
    corrected, tau = corrected_by_hand(y, logits.numpy().astype(np.float64), counts / counts.sum())
    metrics |= {"prior_corrected_bal_acc": np.nanmean(corrected), "prior_corrected_tau": tau}
    for g, members in groups_of(done).items():
        metrics[f"prior_corrected_acc_{g}"] = float(np.nanmean([corrected[c] for c in members]))
    per_class = {
        "prior_corrected_recall": corrected,
        "recall": [recalls.get(c, math.nan) for c in range(C)],
        "sensitivity_at_95": found,
        "calibration_error": errors,
        "precision": [
            precision_score(y == c, told == c, zero_division=0) if c in recalls else math.nan for c in range(C)
        ],
    }
    assert recalls[present[0]] == recall_score(y == present[0], told == present[0])
    return (
        {f"{name}/{k}": v for k, v in metrics.items()},
        {f"{name}/{k}": v for k, v in per_class.items()},
        logits.numpy(),
    )


def corrected_by_hand(y, logits, shares):
    """Return the recall of every class and tau: chosen on one half of each class, read on the other, both ways."""
    halves = [[], []]
    for c in range(C):
        mine = [i for i in range(len(y)) if y[i] == c]
        for place, i in enumerate(mine if len(mine) > 1 else []):
            halves[place % 2].append(i)

    def recalls(rows, tau):
        told = {i: (logits[i] - tau * np.log(shares)).argmax() for i in rows}
        return [np.mean([told[i] == c for i in rows if y[i] == c] or [math.nan]) for c in range(C)]

    read, chosen = [], []
    for chosen_on, read_on in ((0, 1), (1, 0)):
        taus = [t / 4 for t in range(-4, 17)]
        best = max(taus, key=lambda t: (round(float(np.nanmean(recalls(halves[chosen_on], t))), 9), -abs(t)))
        read.append(recalls(halves[read_on], best))
        chosen.append(best)
    return [(a + b) / 2 for a, b in zip(*read, strict=True)], sum(chosen) / 2


def plain(row):
    return [math.nan if value is None else value for value in row]


CLOCK = {"train/seconds", "train/img_per_s", "train/epoch_seconds"}


@pytest.mark.parametrize("epoch", [0, 1])
def test_every_number_of_a_row_is_what_slow_loops_count(done, epoch):
    metrics, per_class = expected(done, epoch)
    row = done.rows[epoch]
    last = epoch == EPOCHS - 1
    for name, part in (("test", done.data.test), ("val", done.data.val)):
        of_part = part_numbers(done, name, part)
        if last:
            metrics, per_class = metrics | of_part[0], per_class | of_part[1]
    unknown = {
        k for k in row["metrics"] if not last and k.split("/")[0] in ("test", "val", "train_clean", "test_clean")
    }
    assert set(row["metrics"]) - unknown == set(metrics) | CLOCK  # a new key is counted here too
    for key, value in metrics.items():
        assert (math.nan if row["metrics"][key] is None else row["metrics"][key]) == pytest.approx(
            value, rel=2e-4, abs=1e-6, nan_ok=True
        ), key
    unknown = {
        k for k in row["per_class"] if not last and k.split("/")[0] in ("test", "val", "train_clean", "test_clean")
    }
    assert set(row["per_class"]) - unknown == set(per_class)
    for key, values in per_class.items():
        assert plain(row["per_class"][key]) == pytest.approx(list(values), rel=2e-4, abs=1e-6, nan_ok=True), key


def test_the_recount_sees_what_it_should_see(done):
    """Both kinds of rows, donors that differ from rows, synthetic rows, a tail: else a wire could hang loose unseen."""
    for seen in done.slow:
        assert sum(seen.receivers) > 10 and sum(seen.shown) - sum(seen.receivers) > 10 and sum(seen.synthetic) > 10
        assert not np.allclose(seen.receivers, seen.givers) and 0 < sum(seen.augmented) < seen.rows
    assert not np.allclose(done.slow[0].shown, done.slow[1].shown)


def test_the_result_is_the_last_epoch_with_corrected_priors(done):
    result, row = done.folder.result, done.rows[-1]["metrics"]
    _, _, logits = part_numbers(done, "test", done.data.test)
    cut = done.data.cut.counts  # before the validation part was carved off: the same for every method
    corrected, tau = prior_corrected(done.data.test.labels, logits, cut / cut.sum())
    wanted = {f"final/{k.replace('/', '_')}": v for k, v in row.items() if not k.startswith(("train/", "aug/"))}
    best = {f"best_on_test/{k}": max(r["metrics"][f"test/{k}"] for r in done.rows) for k in ("acc", "bal_acc")}
    wanted |= best | {
        "final/test_prior_corrected_bal_acc": np.nanmean(corrected),
        "final/test_prior_corrected_tau": tau,
        "final/feature_dim": 12,
        # the whitening's biases (its weights are frozen), two convolutions with normalisation, the classifier
        "final/trained_parameters": 8 + (12 * 8 * 9 + 24) + (12 * 12 * 9 + 24) + (12 + 1) * len(cut),
    }
    wanted |= {
        "final/train_seconds": sum(r["metrics"]["train/seconds"] for r in done.rows),
        "final/total_seconds": sum(r["metrics"]["train/epoch_seconds"] for r in done.rows),
    }
    assert set(result) == set(wanted)
    for key, value in wanted.items():
        assert result[key] == (value if value is None else pytest.approx(value, rel=1e-6, nan_ok=True)), key
    outputs = np.load(done.folder.path / "test_outputs.npz")
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-4)
    assert (outputs["labels"] == done.data.test.labels).all()


def test_the_table_by_class_is_the_rows(done):
    import pandas as pd

    table = pd.read_parquet(done.folder.path / "per_class.parquet")
    group = {c: name for name, members in groups_of(done).items() for c in members}
    for epoch, row in enumerate(done.rows):
        part = table[table["epoch"] == epoch]
        assert part["class"].tolist() == list(range(C)) and part["group"].tolist() == [group[c] for c in range(C)]
        assert part["class_name"].tolist() == [str(c) for c in range(C)]
        assert part["n_train"].tolist() == [int((done.data.train.labels == c).sum()) for c in range(C)]
        for key, values in row["per_class"].items():
            assert part[key].tolist() == pytest.approx(plain(values), nan_ok=True), key


def test_a_folder_of_an_older_version_is_refused_by_name(done, tmp_path):
    import shutil

    old = tmp_path / "runs" / "e" / "erm" / "seed0"
    shutil.copytree(done.folder.path, old)
    environment = json.loads((old / "environment.json").read_text()) | {"divaug": "0.1.0"}
    (old / "environment.json").write_text(json.dumps(environment))
    said = r"was made by divaug 0\.1\.0; divaug 0\.2.* can neither read nor resume it: use that version"
    for use in (lambda: divaug.load(old), lambda: RunFolder(old).adopt(done.folder.config, done.folder.manifest)):
        with pytest.raises(DivaugError, match=said):
            use()
    assert done.folder.config.seed == SEED
