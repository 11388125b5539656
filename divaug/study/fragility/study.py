"""Train the arms of the study and collect their evidence; runs already in the table are not trained again."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import DataError
from divaug.base.files import make_folder, write_text
from divaug.config.layers import method_label, needs_encoder
from divaug.config.schema import OWN_IMAGES, Config
from divaug.config.tables import protocol_fingerprint
from divaug.data.load import dataset_of, load_data, varied
from divaug.report.compare import code_digest
from divaug.runs.embed import embed, encode, untrained
from divaug.runs.load import load
from divaug.runs.loop import run
from divaug.runs.own_files import own_files, recorded
from divaug.study.fragility.evidence import class_rows, patch_rows, recall_rows, table_of
from divaug.study.fragility.patches import plant, target_class, with_patch
from divaug.study.fragility.plan import Arm, config_of, folder_of
from divaug.study.runner import Task, run_tasks
from divaug.train.build import load_encoder

KEYS = ("protocol", "arm", "seed")
TEXT = ("protocol", "arm", "method", "cut", "repeat", "planted", "class_name", "tercile")
SMALLEST_MATCH = 3  # images; with fewer, one image dominates a mean


def evidence_of(arm: Arm, base: Config) -> Any:
    """Train one arm's run, or resume it, and return its evidence (see ``evidence``)."""
    config = config_of(arm, base)
    data = load_data(config)
    whole, protocol = data, protocol_of(base, data.identity)  # before training: a file may change meanwhile
    if arm.planted:
        data = with_patch(data, arm.planted, arm.share, base.seed)
    encoder = None
    if base.encoder is not None:  # before anything is trained
        encoder = load_encoder(base.encoder, data, allow_overlap=base.allow_overlap)
    own = config.encoder if needs_encoder(config) else None  # measured below, not while it trains
    folder = run(replace(config, encoder=own), folder_of(arm, base), data)
    model = load(folder).network
    train, test = embed(model, data, "train"), embed(model, data, "test")
    match = max(SMALLEST_MATCH, int(data.cut.group_counts.min()))
    parts = [class_rows(train, match, base.seed), recall_rows(train, test, base.seed)]
    plain = not (arm.repeat or arm.planted)
    if plain:
        bare = embed(untrained(config, data), data, "train")
        parts.append(class_rows(bare, match, base.seed, "untrained_"))
    if encoder is not None:
        parts.append(class_rows(encode(encoder, data, "train"), match, base.seed, "encoder_"))
    if not arm.repeat:
        targets = (arm.planted,) if arm.planted else ("rare", "frequent")
        patched = embed(
            model, data, "test", images=plant(np.asarray(whole.test.images[np.arange(len(whole.test.labels))]))
        )
        parts.append(patch_rows(train, test, patched, [target_class(data, which) for which in targets]))
    return table_of(
        parts, train, protocol=protocol, arm=arm.name, seed=base.seed, method=arm.method,
        cut=arm.cut, repeat=arm.repeat, planted=arm.planted, share=arm.share, match=match, dimensions=train.dimensions,
        n_train=len(data.train.labels), nonnegative=train.nonnegative,
    )  # fmt: skip


def protocol_of(base: Config, identity: str) -> str:
    """Return the fingerprint of what all arms and seeds of a study share, with what was changed of the method.

    Without the change (``+loss.gamma=5``) rows of one network would count as another's. The user's own images are known
    by their identity, since the protocol does not name them; a named data set is always the same.
    """
    changed = method_label(base).removeprefix(base.method)
    own = f"+data={identity}" if base.dataset in OWN_IMAGES else ""
    read = code_digest(recorded(own_files(base)))  # code, and what components read, may change under one name
    own += f"+files={read}" if read else ""
    return protocol_fingerprint(config_of(Arm(base.method, "exp"), replace(base, seed=0))) + changed + own


def _protocol(base: Config) -> str:
    own = base.dataset in OWN_IMAGES  # others need not be read
    return protocol_of(base, dataset_of(base, varied(base)[0]).identity if own else "")


def collect(
    planned: Sequence[Arm],
    bases: Sequence[Config],
    file: Path,
    known: Sequence[Path] = (),
    *,
    say: Callable[[str], None] = lambda line: None,
    jobs: int = 1,
) -> Any:
    """Return the evidence of all arms and seeds, training what is missing and writing each run as soon as it finishes.

    Args:
        planned: Arms.
        bases: One configuration per method and seed.
        file: CSV that holds the rows.
        known: Further CSVs with rows from earlier sessions or other machines; runs in them are not trained again.
        say: Called with a line for every run.
        jobs: Runs at once, each in a process of one thread.
    """
    import pandas as pd

    make_folder(file.parent)
    tables = [t for t in (read(path) for path in dict.fromkeys((file, *known)) if path.exists()) if len(t)]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*KEYS])
    table = table.drop_duplicates([*KEYS, *(["class"] if "class" in table else [])])
    done = set(zip(*(table[key] for key in KEYS), strict=True))
    wanted = [(arm, base) for base in bases for arm in planned if arm.method == base.method]
    wanted.sort(key=lambda pair: pair[1].seed)  # seed by seed, so that a study that is cut short has complete pairs
    protocols = {id(base): _protocol(base) for base in bases}
    missing = [(arm, base) for arm, base in wanted if (protocols[id(base)], arm.name, base.seed) not in done]
    say(f"{len(wanted) - len(missing)} of {len(wanted)} runs are in {file.name}")

    def finished(number: int, rows: Any) -> None:
        nonlocal table
        table = pd.concat([table, rows], ignore_index=True)
        write(table, file)

    tasks = [Task(f"{arm.name}, seed {base.seed}", partial(evidence_of, arm, base)) for arm, base in missing]
    run_tasks(tasks, jobs=jobs, say=say, finished=finished)
    names = {(protocols[id(base)], arm.name, base.seed) for arm, base in wanted}
    return table[[key in names for key in zip(*(table[key] for key in KEYS), strict=True)]].reset_index(drop=True)


def read(path: Path) -> Any:
    """Read a table of evidence.

    Raises:
        DataError: The file is not a table of evidence.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=["nan"])
    except (OSError, ValueError) as error:
        raise DataError(f"evidence {path} cannot be read: {error}") from error
    if missing := [key for key in (*KEYS, "class", *TEXT) if key not in table]:
        raise DataError(f"{path} is not a table of evidence: columns {missing} are missing")
    return table


def write(table: Any, path: Path) -> None:
    """Write a table of evidence with five significant digits, atomically."""
    write_text(path, table.to_csv(index=False, float_format="%.5g", na_rep="nan"))
