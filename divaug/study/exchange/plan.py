"""The preregistration: a TOML file that says what is run and how it is judged, and the hash that stands in every row.

Everything in the file is covered by the hash; comments and order are not. Rows of another hash are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, suggestion
from divaug.config.flags import parse_seeds
from divaug.config.layers import configure, environment, read_toml
from divaug.config.registry import not_finite
from divaug.config.schema import Config, keys_of_kind
from divaug.config.tables import digest

ANALYSIS = 1  # version of what turns rows into effects and words; a change of either is another version
OWN_KEYS = (  # set by the study: a preset or an option that names one would have no effect
    "dataset", "method", "counts", "epochs", "seed", "profile", "monitor", "monitor_at", "eval_every", "vary",
    "tracking", "progress", "min_steps", "output_dir", "experiment",
)  # fmt: skip
DESIGNS = ("longtailed", "balanced", "slides")
DOSES = ("", "low", "natural", "high", "herding")
PARTS = ("test", "b2")
_ARM = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Arm:
    """What one arm of a design trains its manipulated classes on.

    Attributes:
        number: Images, as a multiple of the design's ``n``.
        breadth: Share of the class's kinds that the images come from: 0.5 or 1.
        copies: How often each image is there: 2 halves the number of different images at the same length.
        dose: Spread: "low", "natural", "high" or "herding" within matched cells; "" draws images at random.
        match: What the cells match for a dose: radius, margin.
        method: Named method.
        options: Further keys of the configuration that change the method (``pixel``, ``mix``, ...). An ``encoder``
            of "@" is the one in whose space the cut's kinds are.
    """

    number: float = 1.0
    breadth: float = 1.0
    copies: int = 1
    dose: str = ""
    match: tuple[str, ...] = ()
    method: str = "erm"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contrast:
    """A named effect of a design: a difference of arms' means, or its ratio to another difference.

    Attributes:
        name: What it is called in the table.
        plus: Arms whose mean is taken.
        minus: Arms whose mean is subtracted; none subtracts nothing.
        per_plus: Arms whose mean, less that of ``per_minus``, is the unit that the effect is given in.
        per_minus: See ``per_plus``.
        per: The unit is the difference divided by this: 3 for a ladder of three doublings.
    """

    name: str
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    per_plus: tuple[str, ...] = ()
    per_minus: tuple[str, ...] = ()
    per: float = 1.0

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms that it needs."""
        return tuple(dict.fromkeys((*self.plus, *self.minus, *self.per_plus, *self.per_minus)))


@dataclass(frozen=True)
class Design:
    """Arms on one data set, each run once in every cut.

    Attributes:
        dataset: Registered data set.
        name: ``longtailed`` (half of the classes manipulated, the others ``heads`` images of all kinds),
            ``balanced`` (all classes manipulated), or ``slides`` (one class, whose kinds are its groups).
        arms: By name.
        cuts: Numbers of the cuts; long-tailed ones in pairs 2j, 2j + 1 that manipulate complementary halves of the
            classes.
        n: Images of a manipulated class in an arm of number 1.
        kinds: Kinds G per class, even.
        steps: Steps of every run, whatever its number of images; or
        epochs: epochs of every run.
        heads: Images of each class that is not manipulated.
        outcome: What the outcome is measured on: the official test part, or quarter b2 while designing.
        variant: What differs from the main design, for rows; "main" where nothing does.
        encoder: Whose space the kinds come from: "joint", or the number of one more encoder alone.
        refuse: Arms with a dose are not trained in a cut where their images differ from the pool by more standard
            deviations than this in radius, margin, brightness or contrast; 0 refuses none.
        table: slides: the CSV of images, below a data root.
        manipulated: slides: the class.
        preset: Keys that replace the plan's preset.
        contrasts: Effects of other arms than A to D, which have their own.
    """

    dataset: str
    name: str
    arms: Mapping[str, Arm]
    cuts: tuple[int, ...]
    n: int
    kinds: int
    steps: int = 0
    epochs: int = 0
    heads: int = 0
    outcome: str = "test"
    variant: str = "main"
    encoder: str = "joint"
    refuse: float = 0.0
    table: str = ""
    manipulated: str = ""
    preset: Mapping[str, Any] = field(default_factory=dict)
    contrasts: tuple[Contrast, ...] = ()

    @property
    def label(self) -> str:
        """Data set, name and variant."""
        return f"{self.dataset}/{self.name}" + ("" if self.variant == "main" else f"/{self.variant}")

    @property
    def steps_rule(self) -> str:
        """How long every run is."""
        return f"steps {self.steps}" if self.steps else f"epochs {self.epochs}"


@dataclass(frozen=True)
class Words:
    """Bounds of the verdict's words, in points and shares, and the level of the deciding interval.

    Attributes:
        floor: Points that the lower bound of D - A must reach for anything to be measurable.
        negligible: An interval of phi inside plus or minus this is negligible.
        low, half, high: Bounds of less than, comparable with and more than number.
        gate: Training recall of the manipulated classes that every arm must reach, as a mean over cuts.
        level: Error probability, divided among the primary rows.
        primary: Labels of the designs whose words are verdicts.
    """

    floor: float = 1.0
    negligible: float = 0.15
    low: float = 1 / 3
    half: float = 0.5
    high: float = 2 / 3
    gate: float = 0.9
    level: float = 0.05
    primary: tuple[str, ...] = ()

    @property
    def confidence(self) -> float:
        """Confidence of the deciding interval."""
        return 1 - self.level / max(1, len(self.primary))


@dataclass(frozen=True)
class Spreads:
    """A case of the power table: how far outcomes scatter, in points.

    Attributes:
        name: What it is called.
        gain: True D - A.
        run: Standard deviation of one run's outcome, by arm; luck of images, order and weights.
        luck: Standard deviation of a cut's own level, shared by its arms.
        classes: Standard deviation over classes of a class's own level; complementary cuts share none of them.
        effects: Standard deviation over cuts of the gain itself, as a share of the gain.
    """

    name: str
    gain: float
    run: Mapping[str, float]
    luck: float = 1.0
    classes: float = 0.0
    effects: float = 0.0


# Keys without a place in the fingerprint that nevertheless say which images or weights a run has.
CHANGES_DATA = {"weights", "path", "test", "path_column", "label_column", "group_column", "split_column"}


@dataclass(frozen=True)
class Plan:
    """A preregistered study.

    Attributes:
        path: Its file; encoders are named relative to its folder.
        title: What is asked.
        preset: Keys of the configuration of every run, frozen here.
        encoders: Label-free encoders of quarter b1 by data set.
        designs: In the order in which they are run.
        words: How effects become words.
        power: Cases of the power table.
        prereg: Hash of all of it, 12 hex digits.
    """

    path: Path
    title: str
    preset: Mapping[str, Any]
    encoders: Mapping[str, tuple[str, ...]]
    designs: tuple[Design, ...]
    words: Words
    power: tuple[Spreads, ...]
    prereg: str

    @cached_property
    def runs(self) -> int:
        """How many runs it has."""
        return sum(len(design.cuts) * len(design.arms) for design in self.designs)

    def encoder_files(self, dataset: str) -> list[Path]:
        """Return the encoders of a data set."""
        return [self.path.parent / name for name in self.encoders.get(dataset, ())]

    def check_can_run(self, design: Design) -> None:
        """Make sure that a design has encoders.

        Raises:
            ConfigError: There are none, or the one that it names is not there.
        """
        files, where = self.encoder_files(design.dataset), f"{self.path}: {design.label}"
        if design.name == "slides":  # their kinds need no space
            return
        if not files:
            raise ConfigError(f"{where}: encoders names none for {design.dataset}; the recipe encoder trains them")
        if len(files) == 1:
            raise ConfigError(f"{where}: encoders needs two for {design.dataset}: one selects, another one measures")
        if design.encoder != "joint" and not (design.encoder.isdecimal() and int(design.encoder) < len(files)):
            raise ConfigError(f'{where}: encoder must be "joint" or the number of one, from 0 to {len(files) - 1}')

    def config(
        self, design: Design, arm: Arm, *, counts: tuple[int, ...], epochs: int, seed: int, encoder: Path | None = None
    ) -> Config:
        """Return the configuration of one run; ``encoder`` is the cut's.

        Raises:
            ConfigError: The preset or the arm's options are wrong, or a DIVAUG_* variable would change the run.
        """
        if moved := set(environment()) - (set(keys_of_kind("where")) - CHANGES_DATA):
            variable = f"DIVAUG_{sorted(moved)[0].upper()}"
            raise ConfigError(f"{variable} is set: it would change preregistered runs and not their hash; unset it")
        own = {"dataset": design.dataset, "method": arm.method, "counts": counts, "epochs": epochs, "seed": seed}
        fixed = {
            "profile": "custom", "monitor": False, "monitor_at": (1.0,), "eval_every": 10**9, "vary": "init",
            "min_steps": 0, "tracking": "off", "progress": "none",
        }  # fmt: skip
        options = {key: encoder and str(encoder) if value == "@" else value for key, value in arm.options.items()}
        return configure(**{**self.preset, **design.preset, **options, **fixed, **own})


def read_plan(path: str | Path) -> Plan:
    """Read a preregistration.

    Raises:
        ConfigError: The file is missing, or something in it is unknown, missing or contradictory.
    """
    path, table = Path(path), read_toml(path)
    where = str(path)
    _known(table, ("title", "analysis", "preset", "encoders", "design", "words", "power"), where)
    if table.get("analysis") != ANALYSIS:
        raise ConfigError(
            f"{where}: analysis = {table.get('analysis')!r}, but this divaug analyses by version {ANALYSIS}"
        )
    designs = tuple(_design(one, f"{where}: design {i + 1}") for i, one in enumerate(table.get("design", ())))
    if not designs:
        raise ConfigError(f"{where}: it has no [[design]]")
    labels = [design.label for design in designs]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"{where}: two designs are called {max(labels, key=labels.count)}; give one a variant")
    words = _made(Words, table.get("words", {}), f"{where}: words")
    if unknown := set(words.primary) - set(labels):
        raise ConfigError(
            f"{where}: words: primary names {sorted(unknown)[0]!r}; {suggestion(sorted(unknown)[0], labels)}"
        )
    encoders = {name: tuple(files) for name, files in table.get("encoders", {}).items()}
    power = tuple(_made(Spreads, one, f"{where}: power") for one in table.get("power", ()))
    title, preset = str(table.get("title", path.stem)), table.get("preset", {})
    plan = Plan(path, title, preset, encoders, designs, words, power, digest(table, 12))
    for what, keys in (("preset", preset), *((f"{one.label}: preset", one.preset) for one in designs)):
        _settable(keys, f"{where}: {what}")
    for design in designs:
        same = [one for one in designs if (one.dataset, one.name, one.variant) == (design.dataset, design.name, "main")]
        arms = {*design.arms, *(name for one in same for name in one.arms)}  # a variant's missing arms are the main's
        for contrast in design.contrasts:
            if unknown := [name for name in contrast.arms if name not in arms]:
                raise ConfigError(f"{where}: {design.label}: contrast {contrast.name!r} has no arm {unknown[0]!r}")
        for arm in design.arms.values():  # before anything is run
            _settable(arm.options, f"{where}: {design.label}: options")
            encoder = next(iter(plan.encoder_files(design.dataset)), None)
            plan.config(design, arm, counts=(1,), epochs=1, seed=0, encoder=encoder)
        if missing := [file for file in plan.encoder_files(design.dataset) if not file.exists()]:
            raise ConfigError(f"{where}: there is no encoder {missing[0]}")
    return plan


def _settable(keys: Mapping[str, Any], where: str) -> None:
    if own := sorted(set(keys) & set(OWN_KEYS)):
        raise ConfigError(f"{where}: {own[0]} is set by the study and cannot be given here")


def _design(table: Mapping[str, Any], where: str) -> Design:
    values = dict(table)
    if not isinstance(values.get("cuts"), str):
        raise ConfigError(f'{where}: cuts must look like "10-33", got {values.get("cuts")!r}')
    values["cuts"] = tuple(parse_seeds(values["cuts"]))
    arms = values.get("arms", {})
    if wrong := [name for name in arms if not _ARM.fullmatch(name)]:
        raise ConfigError(f"{where}: an arm cannot be called {wrong[0]!r}")
    values["arms"] = {name: _arm(one, f"{where}: arm {name}") for name, one in arms.items()}
    named = [_made(Contrast, one, f"{where}: contrast {i + 1}") for i, one in enumerate(values.get("contrasts", ()))]
    values["contrasts"] = tuple(named)
    design = _made(Design, values, where)
    arms_of = design.arms.values()
    for ok, rule in (
        (design.arms, "it has no arms"),
        (design.name in DESIGNS, f"name must be {', '.join(DESIGNS)}, got {design.name!r}"),
        ((design.name == "slides") == bool(design.table), "table goes with slides, which need it"),
        (bool(design.table) == bool(design.manipulated), "manipulated goes with slides, which need it"),
        (design.outcome in PARTS, f"outcome must be test or b2, got {design.outcome!r}"),
        ((design.steps > 0) != (design.epochs > 0) and min(design.steps, design.epochs) == 0, "give steps or epochs"),
        (design.n >= 1, f"n must be >= 1, got {design.n}"),
        (design.refuse >= 0, f"refuse must be >= 0, got {design.refuse}"),
        (all(one.per > 0 and one.plus for one in named), "a contrast needs plus, and per > 0"),
        (design.kinds >= 2 and design.kinds % 2 == 0, f"kinds must be even, got {design.kinds}"),
        ((design.heads > 0) == (design.name == "longtailed"), "heads go with longtailed"),
        (design.name != "longtailed" or _paired(design.cuts), "long-tailed cuts come in pairs 2j, 2j + 1"),
        (
            design.name != "slides" or design.outcome == "test",
            "slides are measured on the test part: outcome must be test",
        ),
        (
            design.name != "slides" or not (design.refuse or design.encoder != "joint" or any(a.dose for a in arms_of)),
            "slides have no space, so encoder, refuse and doses have no effect",
        ),
    ):
        if not ok:
            raise ConfigError(f"{where}: {rule}")
    return design


def _arm(table: Mapping[str, Any], where: str) -> Arm:
    arm = _made(Arm, table, where)
    for ok, rule in (
        (not (arm.match and not arm.dose), "match goes with a dose"),
        (arm.number > 0, f"number must be > 0, got {arm.number}"),
        (arm.breadth in (0.5, 1), f"breadth must be 0.5 or 1, got {arm.breadth}"),
        (arm.copies >= 1, f"copies must be >= 1, got {arm.copies}"),
        (arm.dose in DOSES, f"dose: {suggestion(arm.dose, DOSES[1:])}"),
        (not (arm.dose and arm.breadth < 1), "a dose is of all kinds"),
        (set(arm.match) <= {"radius", "margin"}, "match takes radius and margin"),
    ):
        if not ok:
            raise ConfigError(f"{where}: {rule}")
    return arm


def _paired(cuts: tuple[int, ...]) -> bool:
    return all((cut ^ 1) in cuts for cut in cuts)


def _made(kind: Any, table: Any, where: str) -> Any:
    """Make a dataclass from a table of plain values, refusing unknown and missing keys and wrong types."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: expected a table, got {table!r}")
    known = {f.name: f for f in fields(kind)}
    _known(table, list(known), where)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    for name, value in values.items():
        right: Any = {int: int, float: (int, float), str: str}.get(known[name].type)  # pyright: ignore
        if right is not None and (not isinstance(value, right) or isinstance(value, bool)):
            raise ConfigError(f"{where}: {name} must be {getattr(known[name].type, '__name__', '')}, got {value!r}")
        if not_finite(value):
            raise ConfigError(f"{where}: {name} must be finite, got {value!r}")
    floats: Any = {name: float(value) for name, value in values.items() if known[name].type is float}  # pyright: ignore
    try:
        return kind(**values | floats)  # 1 and 1.0 are one number, also where it names a stream
    except TypeError as error:
        raise ConfigError(f"{where}: {str(error).partition(') ')[2] or error}") from error


def _known(table: Mapping[str, Any], allowed: Any, where: str) -> None:
    if unknown := set(table) - set(allowed):
        name = sorted(unknown)[0]
        raise ConfigError(f"{where}: unknown key {name!r}; {suggestion(name, allowed)}")
