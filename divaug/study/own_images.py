"""From one's own images to a model folder: candidates in folds, a conclusion, one model of all images, a page."""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from divaug.base.errors import ConfigError, DivaugError
from divaug.base.files import file_digest, make_folder, write_json, write_text
from divaug.base.metrics import softmax
from divaug.base.progress import clock
from divaug.base.rng import stream
from divaug.config.layers import method_label
from divaug.config.schema import Config
from divaug.data.images import CARVED, Part
from divaug.data.load import Data
from divaug.figures import own_images as plots
from divaug.latent.tables import rarefaction_table
from divaug.report.own_images import counted_as, headline, write_page
from divaug.runs.decision import Decision
from divaug.runs.embed import embed
from divaug.runs.folder import RunFolder
from divaug.runs.load import load
from divaug.runs.model import Model
from divaug.runs.model_folder import TRAINED_ON, contents, save_model
from divaug.runs.threshold import temperature_of
from divaug.study.choice import JUDGED, Choice, choose
from divaug.study.folds import Deal, cross_validate, data_of, deal, folder_of, notes_of, train_in_fold
from divaug.train.build import build, stage_at

K, VIEWS = 10, 7  # top-K sets; views of an image on the page
TRIAL = "A TRIAL, not for use: the same command without --smoke trains the model"
FALLING = "the training loss was still falling steeply"
FEW = 3  # images at which numbers of distinct embeddings are not worth comparing
STEEP = 0.15  # of the training loss, lost in the last tenth of the epochs: it was still falling
LEARNED = 0.05  # of chance's loss: what is left below this falls for ever, and says nothing


def train_model(
    configs: Sequence[Config],
    folds: int | str,
    folder: Path,
    *,
    jobs: int = 1,
    trial: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Choice:
    """Cross-validate candidates, train the winner on all images, and write the model folder.

    Args:
        configs: One per candidate, the simplest first.
        folds: Number of folds, or ``groups``.
        folder: The model folder.
        jobs: Runs at once.
        trial: The model is to show that everything works, and is not for use; its card says so.
        say: Called with a line for every run.

    Returns:
        What the folds say.

    Raises:
        DataError: Images are missing or damaged, or there are fewer groups than folds.
        ConfigError: The folder holds a model of other images.
        DivaugError: A run failed.
        Interrupted: A signal came; the same command continues.
    """
    dealt = deal(configs[0], folds)
    _refuse_other_images(folder, dealt.images)
    logits = cross_validate(configs, dealt, folds, jobs=jobs, after=1, say=say)
    tested = dealt.images.take(dealt.tested)
    choice = choose(logits, tested.labels, tested.units, dealt.dataset.class_names)
    config = next(config for config in configs if method_label(config) == choice.winner)
    if not folder_of(config, dealt, None).finished:
        say(f"[last] {choice.winner}, on all images: about {clock(_seconds(config, dealt))}")
    run = train_in_fold(config, dealt, None)
    temperature = temperature_of(logits[choice.winner].astype(np.float64), tested.labels)
    out_of_fold = _out_of_fold(dealt, logits[choice.winner], temperature)
    notes = _notes(configs, dealt, choice)
    if trial:
        notes = [TRIAL, *(note for note in notes if FALLING not in note)]
    model, data = load(run), data_of(dealt, None)
    trained, side = run.config, dealt.images.images.shape[1]
    training = f"{trained.epochs} epochs of the preset {trained.preset} at {side}x{side} pixels, seed {trained.seed}"
    card = _card(dealt, choice, notes, temperature, training) | {"latent": _latent(model, data)}
    predictions = out_of_fold.to_csv(index=False, float_format="%.6g")
    before = _decided(folder), _weights(folder)  # an export has both in it
    if (others := _other_classes(folder, dealt.dataset.class_names)) is not None:
        say(f"{folder} held a model of other classes ({', '.join(others[:5])}): it is replaced")
    decision = _decision(folder, predictions, temperature, say)
    save_model(folder, model, run.config, decision=decision, card=card)
    now = decision.table(), _weights(folder)
    if before != now and (exported := sorted(file.name for file in folder.glob("*.onnx"))):
        say(f"removed, as they hold the model before: {', '.join(exported)}; divaug export writes the new one")
        for name in exported:
            (folder / name).unlink()
            (folder / f"{name}.json").unlink(missing_ok=True)
    write_text(folder / "out_of_fold.csv", predictions)
    if dealt.images.paths is not None and dealt.images.contents is not None:
        write_text(folder / TRAINED_ON, _trained_on(dealt.images).to_csv(index=False))
    write_text(folder / "card.md", _card_text(folder.name, card))
    _draw_views(folder / "report" / "augmentation.png", run.config, data)
    write_page(folder)
    write_json(folder / "folds.json", {"folds": dealt.folds, "data": dealt.identity})
    say(f"the folds' runs are in {os.path.relpath(run.path.parents[1])} and may be deleted")
    return choice


def _refuse_other_images(folder: Path, images: Part) -> None:
    """Refuse to replace a model of other images: folders of one name may lie in several places.

    Other are images fewer than half of which, then or now, are the same by path or content: one logo or blank image
    may be in both.
    """
    import pandas as pd

    if not (file := folder / TRAINED_ON).exists():
        return
    before, now = pd.read_csv(file, dtype=str, keep_default_na=False), _trained_on(images)

    def shared(one: Any, other: Any) -> int:
        return int((one["path"].isin(other["path"]) | one["sha256"].isin(other["sha256"])).sum())

    kept, known = shared(before, now), shared(now, before)
    if max(kept / len(before), known / len(now)) < 0.5:
        few = f"only {kept}" if kept else "none"
        raise ConfigError(
            f"{folder} holds a model of other images: {few} of the {len(before)} it was trained on "
            f"{'are' if kept > 1 else 'is'} among these {len(now)}. Give another --name, or delete the folder"
        )


def _decision(folder: Path, predictions: str, temperature: float, say: Callable[[str], None]) -> Decision:
    """Return the decision of the model that is there, if chosen on these predictions, else one without thresholds."""
    file = folder / "out_of_fold.csv"
    if (table := _decided(folder)) is None:
        return Decision(temperature)
    former = Decision(**table)
    if file.exists() and _same(file.read_text(encoding="utf-8"), predictions) and former.temperature == temperature:
        return former
    if former.thresholds or former.abstain:
        said = [f"the threshold of {name}" for name in former.thresholds] + ["abstention"] * bool(former.abstain)
        say(f"removed, as chosen on other predictions: {', '.join(said)}; divaug threshold sets them anew")
    return Decision(temperature)


def _same(one: str, other: str) -> bool:
    """Return whether two tables of predictions say the same, wherever the images lie by now."""
    import pandas as pd

    first, second = (pd.read_csv(StringIO(text), dtype=str, keep_default_na=False) for text in (one, other))
    where = ["path", "group"]  # an image without a group is one of its own, named by its path
    return first.drop(columns=where, errors="ignore").equals(second.drop(columns=where, errors="ignore"))


def _decided(folder: Path) -> dict[str, Any] | None:
    """Return the decision of the model that is there; None if there is none, or none that can be read."""
    try:
        return contents(folder)["decision"]
    except DivaugError:
        return None


def _other_classes(folder: Path, classes: Sequence[str]) -> list[str] | None:
    """Return the classes of the model that is there, if they are others."""
    try:
        found = contents(folder)["classes"]
    except DivaugError:
        return None
    return found if list(found) != list(classes) else None


def _weights(folder: Path) -> str | None:
    file = folder / "weights.safetensors"
    return file_digest(file) if file.exists() else None


def _seconds(config: Config, dealt: Deal) -> float:
    """Return about how long a candidate takes on all images, from its runs in folds."""
    taken = [folder_of(config, dealt, fold).result["final/total_seconds"] for fold in range(dealt.folds)]
    return float(np.mean(taken)) * dealt.folds / (dealt.folds - 1)


def _winner(choice: Choice) -> Any:
    return next(one for one in choice.candidates if one.name == choice.winner)


def _out_of_fold(dealt: Deal, logits: np.ndarray, temperature: float) -> Any:
    """Return a DataFrame of predictions of images that were not trained on: file, group, label, fold, probabilities."""
    import pandas as pd

    classes, tested = dealt.dataset.class_names, dealt.images.take(dealt.tested)
    probabilities = softmax(logits.astype(np.float64) / temperature)
    best = probabilities.argmax(1)
    columns: dict[str, Any] = {} if tested.paths is None else {"path": tested.paths}
    if (units := tested.units) is not None:
        columns["group"] = units
    return pd.DataFrame({
        **columns, "label": [classes[c] for c in tested.labels], "fold": dealt.fold[dealt.tested],
        "predicted": [classes[c] for c in best], "probability": probabilities.max(1),
        "label_probability": probabilities[np.arange(len(best)), tested.labels],
        **{f"p_{name}": probabilities[:, c] for c, name in enumerate(classes)},
    })  # fmt: skip


def _trained_on(images: Part) -> Any:
    """Return a DataFrame of all images of a model: its file and the SHA-256 of its bytes."""
    import pandas as pd

    assert images.contents is not None
    return pd.DataFrame({"path": images.paths, "sha256": [content.tobytes().hex() for content in images.contents]})


def _notes(configs: Sequence[Config], dealt: Deal, choice: Choice) -> list[str]:
    """Return what a reader must know: classes without a verdict, networks that are no result, images never tested."""
    classes = dealt.dataset.class_names
    notes = []
    tested = choice.candidates[0].matrix.sum(1)
    if untested := ", ".join(classes[c] for c in np.flatnonzero(tested == 0)):
        notes.append(f"classes of which no image was tested, so that nothing is known of their recall: {untested}")
    few = np.flatnonzero(~choice.judged & (tested > 0))
    if len(few):
        named = ", ".join(f"{classes[c]} ({tested[c]})" for c in few)
        notes.append(f"fewer than {JUDGED} tested images, so no method is chosen by them: {named}")
        rare = int(tested[few].sum())
        found = {one.name: int(np.diag(one.matrix)[few].sum()) for one in choice.candidates}
        ends = {one.name: one.rare for one in choice.candidates}
        each = (
            f"{name} found {found[name]} ({100 * found[name] / rare:.0f} %, {100 * low:.0f} to {100 * high:.0f})"
            for name, (low, high) in ends.items()
        )
        of = "these classes together" if len(few) > 1 else classes[few[0]]
        images = "image" if rare == 1 else "images"
        said = f"of the {rare} tested {images} of {of}, {', '.join(each)}"
        most = max(found, key=lambda name: found[name])
        if found[most] > found[choice.winner]:
            beyond = ends[most][0] > ends[choice.winner][1]
            sure = "" if beyond else ", though chance may do that much"
            said += (
                f": {most} found more than {choice.winner}{sure}. If they matter, --methods {most} makes a model of it"
            )
        notes.append(said)
    notes += notes_of(dealt)
    contents = dealt.images.contents
    if contents is not None and (copies := len(contents) - len(set(contents.tolist()))):
        what = "image is a copy of another" if copies == 1 else "images are copies of others"
        notes.append(f"{copies} {what}, byte for byte: an image and its copies count as one group")
    for config in configs:
        name, runs = method_label(config), [folder_of(config, dealt, fold) for fold in range(dealt.folds)]
        matrix = next(one.matrix for one in choice.candidates if one.name == name)
        if (matrix.sum(0) > 0).sum() == 1:
            notes.append(f"{name} predicts one class for all images: it has learned nothing")
        if (steep := sum(_still_falling(run, len(classes)) for run in runs)) > dealt.folds // 2:
            longer = 2 * len(runs[0].metrics.rows())
            said = f"{name}: {FALLING} in {steep} folds; try --epochs {longer}"
            notes.append(said + ("" if config.min_steps else ", or leave --epochs out"))
    return notes


def _still_falling(run: RunFolder, classes: int) -> bool:
    losses = [row["metrics"]["train/loss"] for row in run.metrics.rows()]
    before = losses[-max(2, len(losses) // 10)] if len(losses) > 1 else losses[-1]
    return losses[-1] > LEARNED * math.log(classes) and (before - losses[-1]) / before > STEEP


def _class_table(dealt: Deal, choice: Choice) -> Any:
    import pandas as pd

    best, classes = _winner(choice), dealt.dataset.class_names
    counts = np.bincount(dealt.images.labels, minlength=len(classes))
    order = np.argsort(-counts, kind="stable")
    return pd.DataFrame({
        "class": [classes[c] for c in order], "images": counts[order], "tested": best.matrix.sum(1)[order],
        "counted": best.independent[order],
        "recall": 100 * best.recalls[order], "low": 100 * best.intervals[order, 0],
        "high": 100 * best.intervals[order, 1], "precision": 100 * best.precisions[order, 0],
        "precision_low": 100 * best.precisions[order, 1], "precision_high": 100 * best.precisions[order, 2],
        "judged": [bool(choice.judged[c]) for c in order],
    })  # fmt: skip


def _candidate_table(choice: Choice) -> Any:
    import pandas as pd

    return pd.DataFrame([
        {"method": one.name, "mean recall": 100 * one.balanced, "difference": one.difference[0],
         "low": one.difference[1], "high": one.difference[2]}
        for one in choice.candidates
    ])  # fmt: skip


def _recall_table(dealt: Deal, choice: Choice) -> Any:
    """Return every method's recall of every class in %, the largest class first."""
    import pandas as pd

    counts = np.bincount(dealt.images.labels, minlength=dealt.dataset.num_classes)
    order = np.argsort(-counts, kind="stable")
    recalls = {one.name: 100 * one.recalls[order] for one in choice.candidates}
    return pd.DataFrame({"class": [dealt.dataset.class_names[c] for c in order], **recalls})


def _gain_table(dealt: Deal, choice: Choice) -> list[dict[str, Any]]:
    """Return what every method but the first gains on each class that is judged, the largest class first."""
    counts = np.bincount(dealt.images.labels, minlength=dealt.dataset.num_classes)
    return [
        {"class": dealt.dataset.class_names[c],
         **{one.name: dict(zip(("difference", "low", "high"), one.gains[c].tolist(), strict=True))
            for one in choice.candidates[1:]}}
        for c in np.argsort(-counts, kind="stable") if choice.judged[c]
    ]  # fmt: skip


def _accuracy(dealt: Deal, choice: Choice) -> dict[str, Any]:
    """Return the share of tested images that are right, and the largest class among them with its share, in %."""
    matrix = _winner(choice).matrix
    total, largest = int(matrix.sum()), int(matrix.sum(1).argmax())
    return {"images": total, "accuracy": 100 * float(np.trace(matrix)) / total,
            "largest": 100 * float(matrix.sum(1).max()) / total,
            "class": dealt.dataset.class_names[largest]}  # fmt: skip


def _card(dealt: Deal, choice: Choice, notes: Sequence[str], temperature: float, training: str) -> dict[str, Any]:
    groups = dealt.images.groups
    return {
        "conclusion": choice.conclusion, "method": choice.winner, "notes": list(notes), "temperature": temperature,
        "images": len(dealt.fold), "groups": None if groups is None else len(np.unique(groups)), "folds": dealt.folds,
        "data": dealt.identity, "classes": _class_table(dealt, choice).to_dict(orient="records"),
        "methods": _candidate_table(choice).to_dict(orient="records"), "training": training,
        "recalls": _recall_table(dealt, choice).to_dict(orient="records"), "gains": _gain_table(dealt, choice),
        "accuracy": _accuracy(dealt, choice),
        "audit": [note for note in dealt.dataset.notes if not note.startswith(CARVED)],
    }  # fmt: skip


def _latent(model: Model, data: Data) -> list[dict[str, Any]]:
    """Return the rarefied number of top-K CE of every class's clean training images, at the largest common size."""
    found = embed(model.network, data, "train")
    table = rarefaction_table(found, k=min(K, found.dimensions))
    table = table[table["largest_common"].eq(other=True)]  # NaN in rows of no size
    if (table["m"] < FEW).any():
        return []  # in so few images of the smallest class every class has its K
    wanted = {"class_name": "class", "n": "images", "m": "m", "value": "top-K CE", "ceiling": "most"}
    return table[list(wanted)].rename(columns=wanted).to_dict(orient="records")


def _draw_views(path: Path, config: Config, data: Data) -> None:
    """Draw what the network is shown of an image of the largest and one of the smallest class."""
    make_folder(path.parent)
    path.unlink(missing_ok=True)
    if config.train == "head":  # features of the images as they are
        return
    labels, names = data.train.labels, data.dataset.class_names
    counts = np.bincount(labels, minlength=len(names))
    rows = {}
    with closing(build(config, data)) as built:
        pixel = stage_at(built.stages, 0).pixel
        for c in dict.fromkeys((int(counts.argmax()), int(np.where(counts > 0, counts, counts.max() + 1).argmin()))):
            images = built.train.take(np.repeat(np.flatnonzero(labels == c)[:1], VIEWS))
            height, width = images.shape[1:3]
            classes = torch.full((VIEWS,), c)
            shown = pixel.apply(images, pixel.sample(classes, (height, width), stream(0, f"page/{c}")))
            rows[f"{names[c]}, {counts[c]} images"] = [images[0].cpu().numpy(), *shown.cpu().numpy()]
    plots.views(path, rows)


def _card_text(name: str, card: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    groups = "" if card["groups"] is None else f" in {card['groups']} groups"
    said = (
        f"Trained on all {card['images']} images{groups}: {card['training']}. Recall is of {card['folds']} folds: of "
        "networks that were not trained on the images they are tested on. The network in this folder was tested on "
        "nothing."
    )
    lines = [f"# {name}", "", f"{card['conclusion']}.", "", headline(card), "", said, ""]
    lines += ["| class | images | tested | recall % | 95 % interval | precision % |", "|---|---|---|---|---|---|"]
    for row in card["classes"]:
        known = not np.isnan(row["recall"])
        span = f"{row['low']:.1f} to {row['high']:.1f}" if known else "-"
        recall = f"{row['recall']:.1f}" if known else "-"
        precision = "-" if np.isnan(row["precision"]) else f"{row['precision']:.1f}"
        if precision != "-":
            precision += f" ({row['precision_low']:.1f} to {row['precision_high']:.1f})"
        tested = f"{row['tested']}{counted_as(row)}"
        lines.append(f"| {row['class']} | {row['images']} | {tested} | {recall} | {span} | {precision} |")
    if any(map(counted_as, card["classes"])):
        lines += ["", "*as n*: images of one group are alike, and tell as much as n independent ones."]
    lines += ["", *(f"- {note}" for note in card["notes"])]
    lines += ["", f"Probabilities are calibrated on the folds (temperature {card['temperature']:.3g})."]
    lines += [f"Data {card['data']}: a digest of images, labels and groups."]
    return "\n".join(lines) + "\n"
