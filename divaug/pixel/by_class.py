from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from divaug.base.contracts import Pixel, WholePixel, built, complete
from divaug.base.groups import GROUPS, rank_groups
from divaug.config.registry import PIXEL
from divaug.pixel._operations import LEVELS
from divaug.pixel.chain import Chain
from divaug.pixel.levels import Levels


@dataclass(frozen=True)
class ByClassPlan:
    """Which policy each row has, and every policy's plan for the whole batch."""

    policy: Int[np.ndarray, "B"]
    plans: list[Any]


@PIXEL.register("by_class")
class ByClass:
    """Augment each class by its own policy: by head, mid and tail, by class name, or by its count.

    Examples: ``policy = {tail = "strong", head = "weak"}``; ``{tail = 0.5}``, a strength instead of a component;
    ``{lion = "default+trivialaugment"}``, for one class. Classes that ``policy`` does not name get ``rest`` or, with
    ``power``, a strength that falls with the class's count. A strength s applies ``rest`` and then
    round(s * max_level) operations of ``levels``.

    Args:
        class_counts: Training images of each class.
        group_counts: Counts that define the groups head, mid and tail.
        class_names: Names of the classes.
        policy: Maps a group or class name to a pixel component (by name or table) or a strength in [0, 1]; a class
            overrides its group (head, mid and tail are always groups).
        rest: Component for all other classes, and the one that strengths build on.
        power: Strength of classes not named: 1 - (n_c / n_max) ** power, > 0; 0 switches it off.
        max_level: Level of strength 1, in 0 to 30.

    Differs from the paper: there is none; users of every augmentation library ask for it.
    """

    strengths = ({"power": 0.1}, {"power": 0.5}, {"policy": {"head": "weak", "tail": "strong"}})

    def __init__(
        self,
        class_counts: Int[Tensor, "C"],
        group_counts: Int[Tensor, "C"],
        class_names: list[str],
        *,
        policy: dict[str, Pixel | float] = {},  # noqa: B006 - never changed
        rest: Pixel = "default",  # pyright: ignore[reportArgumentType] - the registry builds it
        power: float = 0.0,
        max_level: int = 10,
    ) -> None:
        if power < 0:
            raise ValueError(f"power must be >= 0, got {power}")
        if not 0 <= max_level <= LEVELS:
            raise ValueError(f"max_level must lie in 0 to {LEVELS}, got {max_level}")
        if max_level != 10 and not power and not any(isinstance(part, int | float) for part in policy.values()):
            raise ValueError("max_level has no effect without strengths: give power, or a number in policy")
        weak = built(rest, "rest")
        parts: dict[str, Any] = {
            key: part if isinstance(part, int | float) else built(part, f"policy.{key}") for key, part in policy.items()
        }
        groups = rank_groups(group_counts.numpy())
        if unknown := [key for key in parts if key not in groups and key not in class_names]:
            raise ValueError(
                f"policy names {unknown}, neither groups ({', '.join(GROUPS)}) nor classes ({class_names})"
            )
        of_class: list[Pixel | float] = [weak] * len(class_names)
        if power:
            counts = class_counts.double().numpy()
            of_class = [float(s) for s in 1 - (counts / counts.max()) ** power]
        for group, classes in groups.items():
            for c in classes if group in parts else ():
                of_class[c] = parts[group]
        for c, name in enumerate(class_names):
            of_class[c] = parts.get(name, of_class[c]) if name not in groups else of_class[c]
        self.policies: list[WholePixel] = [weak]  # first, so that its draws equal those of a run that has it alone
        self.of_class = np.zeros(len(class_names), dtype=np.int64)
        by_level: dict[int, Any] = {0: weak}
        for c, wanted in enumerate(of_class):
            made: Any = wanted
            if isinstance(wanted, int | float):
                if not 0 <= wanted <= 1:
                    raise ValueError(f"a strength must lie in [0, 1], got {wanted} for {class_names[c]}")
                level = round(wanted * max_level)
                made = by_level.setdefault(level, complete(Chain(steps=[weak, Levels(level=level)])))
            position = next((p for p, known in enumerate(self.policies) if known is made), None)
            if position is None:
                position = len(self.policies)
                self.policies.append(made)
            self.of_class[c] = position
        if learning := [type(policy).__name__ for policy in self.policies if policy.learns]:
            raise ValueError(f"policy holds {learning[0]}, which learns its own strengths: use it alone")
        self.batched = all(policy.batched for policy in self.policies)

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> ByClassPlan:
        """Draw every policy's plan for all rows; each row uses its class's."""
        plans = [policy.sample(labels, size, rng) for policy in self.policies]
        return ByClassPlan(self.of_class[labels.numpy()], plans)

    def apply_one(self, image: UInt8[np.ndarray, "H W ch"], plan: ByClassPlan, i: int) -> UInt8[np.ndarray, "H W ch"]:
        """Apply the policy of row ``i``'s class."""
        number = plan.policy[i]
        return self.policies[number].apply_one(image, plan.plans[number], i)

    def apply(self, images: UInt8[Tensor, "B H W ch"], plan: ByClassPlan) -> UInt8[Tensor, "B H W ch"]:
        """Apply to each row the policy of its class."""
        done = images.clone()
        for number in np.unique(plan.policy):
            policy, drawn, members = self.policies[number], plan.plans[number], np.flatnonzero(plan.policy == number)
            if policy.batched:
                rows = torch.from_numpy(members).to(images.device, non_blocking=True)
                done[rows] = policy.apply(images, drawn)[rows]
                continue
            for i in members.tolist():  # rows of other classes are not needed
                image = policy.apply_one(images[i].cpu().numpy(), drawn, i)
                done[i] = torch.from_numpy(image)
        return done
