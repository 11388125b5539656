"""Selections of real CIFAR-10 images: what each moves, and what it must leave alone."""

import numpy as np
import pytest

from divaug.latent.diversity import density_and_coverage, spectrum, unbiased_vendi, unit_rows
from divaug.latent.patches import PatchCodes
from divaug.study.select import herding, k_centre, matched_cells, spread, stratified

pytestmark = pytest.mark.slow
CLASSES = (0, 3, 8)


@pytest.fixture(scope="module")
def pools(real_data):
    """Features of 1,000 images a class (whitened patches, 128 principal components), and 400 held-out ones."""
    from sklearn.decomposition import PCA

    from divaug.config.layers import configure
    from divaug.data.load import dataset_of

    train = dataset_of(configure(dataset="cifar10", data_root=str(real_data)), 0).train
    rng = np.random.default_rng(0)
    fitted = train.images[rng.choice(50_000, 4000, replace=False)]
    codes = PatchCodes(fitted, rng, filters=256)
    reference = codes(fitted)
    mean, deviation = reference.mean(0), reference.std(0) + 1e-3
    components = PCA(128, svd_solver="randomized", random_state=0).fit((reference - mean) / deviation)
    out = []
    for c in CLASSES:
        rows = rng.choice(np.flatnonzero(train.labels == c), 1400, replace=False)
        features = components.transform((codes(train.images[rows]) - mean) / deviation)
        out.append((features[:1000], features[1000:]))
    return out


def measured(pools, choose):
    """Return unbiased Vendi score, coverage and relative radius of what ``choose`` takes, as means over classes."""
    rows = []
    for number, (pool, held_out) in enumerate(pools):
        centred = pool - pool.mean(0)
        radius = np.linalg.norm(centred, axis=1)
        chosen = choose(unit_rows(centred), radius, np.random.default_rng(number))
        coverage = density_and_coverage(held_out, pool[chosen])["coverage"]
        rows.append((unbiased_vendi(centred[chosen]), coverage, radius[chosen].mean() / radius.mean()))
    return np.mean(rows, axis=0)


def one_cell(radius):
    return np.zeros(len(radius), dtype=np.int64)


def test_more_images_of_one_distribution_are_not_more_diverse(pools):
    """The unbiased score is the same at n = 100 and 200 within sampling error; the biased one follows its formula."""
    biased, unbiased = {}, {}
    for n in (100, 200):
        pairs = []
        for number, (pool, _) in enumerate(pools):
            centred = unit_rows(pool - pool.mean(0))
            for draw in range(20):
                rows = centred[np.random.default_rng([number, draw, n]).choice(1000, n, replace=False)]
                values = spectrum(rows, centre=False)
                pairs.append((1 / (values**2).sum(), unbiased_vendi(rows)))
        biased[n], unbiased[n] = np.mean(pairs, axis=0)
        for one, other in pairs:
            assert one == pytest.approx(1 / (1 / n + (1 - 1 / n) / other))
    assert biased[200] > 1.06 * biased[100]
    assert unbiased[200] == pytest.approx(unbiased[100], rel=0.03)


def test_spread_moves_the_score_within_matched_radius(pools):
    low, natural, high = (
        measured(pools, lambda u, radius, rng, d=d: spread(u, matched_cells([radius], 5), 100, d, rng) if d
                 else stratified(matched_cells([radius], 5), 100, rng))
        for d in (-1, 0, 1)
    )  # fmt: skip
    assert low[0] < 0.6 * natural[0] and high[0] > 1.3 * natural[0]
    assert low[2] == pytest.approx(1, abs=0.05) and high[2] == pytest.approx(1, abs=0.05)
    assert high[1] < natural[1], "the most spread set covers less of the class"


def test_k_centre_takes_outliers_and_herding_covers(pools):
    random = measured(pools, lambda u, radius, rng: rng.choice(1000, 100, replace=False))
    centres = measured(pools, lambda u, radius, rng: k_centre(u * radius[:, None], 100, rng))
    herded = measured(pools, lambda u, radius, rng: herding(u * radius[:, None], one_cell(radius), 100, rng))
    assert centres[2] > 1.2 and centres[1] < 0.5 * random[1]
    assert herded[1] > random[1] + 0.03
    assert herded[2] == pytest.approx(1, abs=0.05)
