"""Check a component, ours or yours, against its family's contract: pass or fail for each part, with the reason.

    python -m divaug.recipes.check cutmix
    python -m divaug.recipes.check mine --import my_augs.py --mix.rate 0.25
    python -m divaug.recipes.check pixel/none

NAME is [FAMILY/]NAME; a bare name means all components of that name, in any family. What is tested: shapes and types,
label weights, replay of draws, the rate applied, one row, state, throughput, and for augmentations how many more
features the views of an image show than the image itself. The space is that of --encoder FILE or, without it, of fixed
random whitened patches. A check that takes longer than two minutes has failed.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

from divaug.base.errors import ConfigError, suggestion
from divaug.config import flags
from divaug.config.command import main as run_main
from divaug.config.registry import REGISTRIES, add_import
from divaug.config.schema import Config
from divaug.config.tables import dump

RECIPE = {"dataset": "digits", "imbalance_factor": 20.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        wanted = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
        rest, options = _take_options(arguments)
        request = flags.parse("divaug.recipes.check NAME", __doc__ or "", rest, RECIPE, methods=("erm",))
        if request is None:
            return 0
        asked = "--device" in {argument.partition("=")[0] for argument in rest}
        if asked and request.only.device not in ("auto", "cpu"):
            raise ConfigError(f"--device {request.only.device} has no effect here: components are checked on the CPU")
        config = replace(request.only, device="cpu")
        if request.print_config:
            print(dump(config))
            return 0
        for item in config.imports:
            add_import(item)
        if wanted is None:
            raise ConfigError("the argument NAME is missing: a registered component, such as cutmix or pixel/cutout")
        found = _find(wanted)
        if idle := set(options) - {family for family, _ in found}:
            raise ConfigError(f"options of {', '.join(sorted(idle))} have no effect: {wanted} is no such component")
        if request.dry_run:
            print("\n".join(f"{family}/{name}" for family, name in found))
            return 0
        return max([_check(config, family, name, options.get(family, {})) for family, name in found])

    return run_main("check", argv, work)


def _take_options(arguments: list[str]) -> tuple[list[str], dict[str, dict[str, object]]]:
    """Take ``--mix.alpha 0.5`` off the arguments, by family: a slot's name (loss, model) stands for its family."""
    slots = {**{family: family for family in REGISTRIES}, "loss": "losses", "sampler": "samplers", "head": "heads",
             "model": "models"}  # fmt: skip
    rest, options = flags.take_component_options(arguments, list(slots))
    return rest, {slots[slot]: values for slot, values in options.items()}


def _find(wanted: str) -> list[tuple[str, str]]:
    family, _, name = wanted.rpartition("/")
    if family and family not in REGISTRIES:
        raise ConfigError(f"unknown family {family!r}; {suggestion(family, REGISTRIES)}")
    known = {each: registry.entries() for each, registry in REGISTRIES.items() if family in ("", each)}
    found = [(each, name) for each, entries in known.items() if name in entries or (each == "pixel" and "+" in name)]
    if not found:
        every = sorted({known_name for entries in known.values() for known_name in entries})
        raise ConfigError(f"unknown component {name!r}; {suggestion(name, every)} Your own: --import FILE")
    return found


def _check(config: Config, family: str, name: str, options: dict[str, object]) -> int:
    from divaug.data.load import load_data
    from divaug.testing.on_images import check_on_images

    REGISTRIES[family].check(name, options)
    data = load_data(config)
    checks = check_on_images(config, data, family, name, options)
    if options and checks[0].outcome == "fail":  # a value that the component refuses
        raise ConfigError(checks[0].reason)
    print(f"{family}/{name} on {config.dataset} with {data.counts.max()} to {data.counts.min()} images per class")
    for check in checks:
        print(f"  {check.outcome}  {check.name:<26}  {check.reason}")
    failed = [check.name for check in checks if check.outcome == "fail"]
    print(f"{len(checks)} checks, {len(failed)} failed" + (f": {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
