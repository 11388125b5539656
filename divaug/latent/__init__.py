"""Measurements of latent features: FE, CE, top-K sets, their statistics, nulls, and the monitor.

Everything on a bundle of ``Embeddings`` works without torch; ``extract``, ``TopKMonitor`` and ``TopKCounts`` need it.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "alignment": ["align", "aligned_overlap"],
    "counts": ["TopKCounts"],
    "diversity": [
        "affinity", "class_measures", "density_and_coverage", "effective_rank", "mean_cosine", "nc1", "size_matched",
        "spectral_participation", "spectrum", "unbiased_vendi", "unit_rows", "vendi_score",
    ],
    "embeddings": ["Embeddings"],
    "extraction": ["extract"],
    "gaps": ["magnitude_shift", "matched", "mean_shift", "predict_left_out", "profile_distance", "range_gap"],
    "head_change": ["weight_change", "weight_norms"],
    "instances": ["adaptive_top_k", "descending_order", "fixed_top_k", "k_curve"],
    "masking": ["alike_in_magnitude", "masked_recall", "recall_lost"],
    "monitor": ["TopKMonitor"],
    "patches": ["PatchCodes", "RandomPatches"],
    "neighbours": ["adversary_shares", "archetypes", "nearest"],
    "nulls": ["Null", "pairwise", "random_head", "shuffled_labels"],
    "rarefaction": [
        "ceiling", "chao2", "common_sizes", "rarefaction_curve", "rarefied_number", "sample_coverage", "view_richness",
    ],
    "sets": ["chance_overlap", "jaccard", "overlap", "rank_biased_overlap"],
    "statistics": [
        "class_magnitude", "class_statistics", "class_top_k", "density_ratio", "effective_number", "instance_sets",
        "participation_ratio", "statistics_of", "top_share",
    ],
    "tables": [
        "all_tables", "curves_table", "diversity_table", "gap_table", "magnitude_table", "neighbour_table",
        "rarefaction_table", "statistics_table", "views_table",
    ],
    "topk": ["classification_embeddings", "top_k_sets"],
}  # fmt: skip
_PUBLIC = {name: f"divaug.latent.{module}" for module, names in _MODULES.items() for name in names}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'divaug.latent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
