"""Train one run, from its configuration to its folder. The loop is here, top to bottom."""

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from divaug.base.contracts import Tracker
from divaug.base.errors import DivaugError, DivergedError, Interrupted
from divaug.base.files import make_folder, write_json
from divaug.base.groups import rank_groups
from divaug.base.progress import Progress
from divaug.base.rng import stream
from divaug.base.signals import StopRequest
from divaug.config.schema import Config
from divaug.data.load import Data, load_data
from divaug.runs import measure
from divaug.runs.folder import RunFolder
from divaug.runs.trackers.mlflow import NoTracker
from divaug.runs.tracking import epoch_metrics, finish, mirror_if_missing, open_tracker, tracking_uri
from divaug.train import checkpoint
from divaug.train.build import Built, build, resolve, size_at, stage_at
from divaug.train.distributed import Ranks, check, check_learning, join
from divaug.train.epoch import rate_of, train_epoch
from divaug.train.evaluate import evaluate, predictor
from divaug.train.frozen import with_features
from divaug.train.step import Totals


def run(config: Config, folder: RunFolder | None = None, data: Data | None = None) -> RunFolder:
    """Train, or continue where the run stopped; a finished run is returned unchanged.

    Args:
        config: What to run.
        folder: Run folder; by default the one that the configuration names.
        data: What ``load_data`` returned for this configuration, where several runs share it; whoever passes it has
            shown its notes. Loaded by default.

    Raises:
        ConfigError: A name is unknown or a value out of range, or the folder holds another run.
        DataError: Data are missing or damaged.
        Interrupted: A signal came; a checkpoint was written.
        DivaugError: Training failed (a gradient is not finite, a folder cannot be written).
    """
    ranks, folder = join(config.device), folder or RunFolder.of(config)
    check(config, ranks)
    if ranks.rank > 0:
        return _follow(config, folder, data, ranks)
    progress = Progress(config.progress)
    with folder.lock():
        told, data = data is not None, data or load_data(config)
        if not told:
            ranks.wait()  # the others may read what was fetched
        check(config, ranks, data)
        config = resolve(config, data)
        tracking_uri(config, folder.output_dir)  # refuses a bad one before anything is written
        if ranks.any(folder.finished):
            folder.adopt(config, data.manifest)
            progress.say(f"{folder.path} is finished already")
            write_extras(folder, progress.warn)
            mirror_if_missing(config, folder, progress.warn)
            return folder
        with closing(build(config, data)) as built:  # before anything is written: it finds errors
            check_learning([stage.pixel for stage in built.stages], ranks)
            folder.adopt(config, data.manifest)
            for note in (*(() if told else data.notes), *measure.costs(built)):
                progress.say(f"note: {note}")
            ranks.wait()  # the others have copied what they continue from
            with StopRequest() as stop:
                with open_tracker(config, folder, progress.warn) as tracker:
                    try:
                        _train(config, data, built, folder, tracker, stop, progress, ranks)
                    except DivergedError as error:
                        if stop():  # or the next run of a list would begin
                            raise Interrupted(stop.signal_number or 2, f"{folder.path}: {error}") from error
                        raise
                    write_extras(folder, progress.warn)
                    finish(folder, tracker)
                if stop():
                    raise Interrupted(stop.signal_number or 2, f"stopped after {folder.path} was finished")
    return folder


def _follow(config: Config, folder: RunFolder, data: Data | None, ranks: Ranks) -> RunFolder:
    """Train beside the first process: the same steps on other rows, and all that is written goes to a folder that ends.

    Its configuration, data and checkpoint are the first process's, which alone owns the run's folder and its tracking.
    """
    if data is None:
        ranks.wait()
        data = load_data(config)
    check(config, ranks, data)
    config = resolve(replace(config, progress="none"), data)
    if ranks.any(here=False):  # it is finished
        return folder
    with TemporaryDirectory() as place, closing(build(config, data)) as built:
        check_learning([stage.pixel for stage in built.stages], ranks)
        shadow = RunFolder(place)
        make_folder(shadow.checkpoint.parent)
        for file in (folder.checkpoint, folder.metrics.path):
            if file.exists():
                shutil.copy(file, shadow.path / file.relative_to(folder.path))
        ranks.wait()
        with StopRequest() as stop:
            _train(config, data, built, shadow, NoTracker(), stop, Progress("none"), ranks)
            if stop():
                raise Interrupted(stop.signal_number or 2)
    return folder


def write_extras(folder: RunFolder, warn: Callable[[str], None]) -> None:
    """Write what a finished run's folder lacks besides its result: the table of classes and the figures.

    Best effort: nothing after training loses a run.

    Args:
        folder: A finished run.
        warn: Takes one line for each file that could not be written.
    """
    try:
        rows, manifest = folder.metrics.rows(), folder.manifest
        from divaug.figures.run import figures_of

        extras: dict[Path, Callable[[Path], Any]] = {folder.table: lambda path: folder.write_per_class(rows)}
        extras |= {folder.figures / name: draw for name, draw in figures_of(rows, manifest, folder.confusion).items()}
    except Exception as error:
        warn(f"no figures of {folder.path} ({type(error).__name__}: {error}); the result is complete")
        return
    for path, write in extras.items():
        if not path.exists():
            try:
                path.parent.mkdir(exist_ok=True)
                write(path)
            except Exception as error:
                warn(
                    f"could not write {path} ({type(error).__name__}: {error}); the result is complete, and the same "
                    "command tries again"
                )


def _train(
    config: Config,
    data: Data,
    built: Built,
    folder: RunFolder,
    tracker: Tracker,
    stop: StopRequest,
    progress: Progress,
    ranks: Ranks,
) -> None:
    first_epoch, totals = _restore(built, config, folder, progress, ranks)
    ranks.agree({**built.run, "epoch": first_epoch, "step": totals.steps if totals else 0})

    def save(epoch: int, totals: Totals | None = None) -> None:
        if ranks.rank == 0:
            checkpoint.save(folder.checkpoint, built.state, epoch=epoch, totals=totals)

    built = with_features(built, config)  # of the backbone that the run began with
    rows = folder.metrics.keep_before(first_epoch)
    names = data.dataset.class_names
    for row in rows:  # rows that a store missed while it was off or unreachable
        tracker.log(epoch_metrics(row, names), row["epoch"])
    groups, tail = data.cut.group_counts, rank_groups(data.cut.group_counts)["tail"]
    measured = built.monitor is not None or built.space is not None
    clean_epochs = {round(at * (config.epochs - 1)) for at in config.monitor_at} if measured else set()
    steps = built.train.steps(len(data.train.labels))
    outputs, held_out = None, None
    for epoch in range(first_epoch, config.epochs):
        started = time.perf_counter()
        stage = stage_at(built.stages, epoch)
        totals = totals or Totals.empty(data.dataset.num_classes, len(built.train.labels), built.device)
        if totals.steps == 0:  # strengths per class, if they are learned between epochs
            predict = predictor(built.model, built.train.normalize, bf16=built.bf16)
            stage.pixel.update(built.train.take, predict, stream(config.seed, "levels", epoch))
        rate = rate_of(config, steps, epoch)
        progress.start_epoch(epoch, config.epochs, steps, totals.steps)

        def after_step() -> bool:
            progress.step()
            return ranks.any(stop())

        finished = train_epoch(
            built.model, built.train, stage, built.optimizer, totals=totals, learning_rate=rate, seed=config.seed,
            epoch=epoch, epochs=config.epochs, bf16=built.bf16, size=size_at(config, epoch), monitor=built.monitor,
            after_step=after_step, ranks=ranks,
            watch=built.space.observe if built.space is not None and epoch in clean_epochs else None,
        )  # fmt: skip
        ranks.merge(built.monitor)
        ranks.same_buffers(built.model)
        if not finished:
            totals.seconds += time.perf_counter() - started
            save(epoch, totals)
            raise Interrupted(stop.signal_number or 2, f"stopped in epoch {epoch + 1}; the same command resumes it")

        row = measure.empty_row(epoch)
        seconds = totals.seconds + time.perf_counter() - started
        measure.add_training(
            row, totals, labels=built.train.labels, pixel=stage.pixel, lr=rate(steps - 1), seconds=seconds, tail=tail
        )
        last = epoch == config.epochs - 1
        if last or (epoch + 1) % config.eval_every == 0 or epoch in clean_epochs:
            outputs = evaluate(built.model, built.test.in_order(), bf16=built.bf16)
            parts = {"test": outputs}
            if built.val is not None:
                parts["val"] = held_out = evaluate(built.model, built.val.in_order(), bf16=built.bf16)
            for name, part in parts.items():
                measure.add_part(row, name, part, groups, data.cut.counts)
                if last:
                    measure.add_prior_corrected(row, name, part, data.cut.counts, groups)
        if built.monitor is not None:
            views = built.monitor.compute()
            grown = measure.growth(views, rows[0] if rows else None)
            measure.add_latent(row, "views", {**views, **grown}, groups)
            if epoch in clean_epochs and outputs is not None:
                clean = evaluate(built.model, built.train.in_order(), bf16=built.bf16)
                measure.add_fit(row, clean, groups)
                head = built.model.head
                measure.add_latent(row, "train_clean", measure.clean_statistics(clean, head, built.monitor), groups)
                measure.add_latent(row, "test_clean", measure.clean_statistics(outputs, head, built.monitor), groups)
            built.monitor.reset()
        if built.space is not None and epoch in clean_epochs:
            measure.add_common_space(row, built, groups)
        row["metrics"]["train/epoch_seconds"] = time.perf_counter() - started
        folder.metrics.append(row)
        rows.append(row)
        totals = None
        save(epoch + 1)
        tracker.log(epoch_metrics(row, names), epoch)
        left = (config.epochs - epoch - 1) * row["metrics"]["train/epoch_seconds"]
        progress.end_epoch(epoch, config.epochs, row["metrics"], left)
        if ranks.any(stop()) and not last:
            raise Interrupted(stop.signal_number or 2, f"stopped after epoch {epoch + 1}; the same command resumes it")
    if outputs is None:  # stopped between the last epoch and the result
        outputs = evaluate(built.model, built.test.in_order(), bf16=built.bf16)
        held_out = built.val and evaluate(built.model, built.val.in_order(), bf16=built.bf16)
    if data.val is not None and held_out is not None:
        folder.write_outputs("val", held_out.logits, data.val)
    folder.write_outputs("test", outputs.logits, data.test)
    trained = sum(p.numel() for p in built.model.parameters() if p.requires_grad)
    result = measure.final_result(folder.metrics.rows(), outputs.embeddings.shape[1], trained)
    write_json(folder.path / "result.json", result)  # its presence says that the run is finished


def _restore(
    built: Built, config: Config, folder: RunFolder, progress: Progress, ranks: Ranks
) -> tuple[int, Totals | None]:
    if not folder.checkpoint.exists():
        if folder.metrics.path.exists():
            progress.say(f"note: {folder.path} has no checkpoint: training begins again")
        return 0, None
    epoch, totals, before = checkpoint.load(folder.checkpoint, built.state)
    if ranks.rank > 0:
        if built.monitor is not None:
            built.monitor.reset()  # the first process has what all had counted
        return epoch, totals
    if not 0 <= epoch <= config.epochs:
        raise DivaugError(f"checkpoint {folder.checkpoint} is of epoch {epoch}; the run has {config.epochs}: delete it")
    where = f"epoch {epoch + 1}" + (f", step {totals.steps}" if totals else "")
    progress.say(f"resuming at {where} ({folder.path})")
    changed = folder.other_versions()
    for what, now in (("threads", torch.get_num_threads()), ("processes", ranks.size)):
        if before[what] != now:
            changed.append(f"{before[what]} {what}, now {now}")
    if changed:
        progress.say(f"note: started with {', '.join(changed)}: results may differ in the last digits")
    return epoch, totals
