import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import entropy
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from divaug.latent.diversity import (
    affinity,
    class_measures,
    density_and_coverage,
    effective_rank,
    mean_cosine,
    nc1,
    size_matched,
    spectral_participation,
    spectrum,
    vendi_score,
)

RNG = np.random.default_rng(0)
WIDE, TALL = np.abs(RNG.normal(size=(9, 30))), np.abs(RNG.normal(size=(40, 12)))


@pytest.mark.parametrize("features", [WIDE, TALL], ids=["D > n: dual form", "D < n"])
def test_spectrum_against_covariance_and_singular_values(features):
    found = spectrum(features)
    covariance = EmpiricalCovariance().fit(features).covariance_
    expected = np.linalg.eigvalsh(covariance)[::-1][: min(features.shape)]
    assert found == pytest.approx(expected, abs=1e-12)
    raw = np.linalg.svd(features, compute_uv=False) ** 2 / len(features)
    assert spectrum(features, centre=False) == pytest.approx(raw)


@pytest.mark.parametrize("features", [WIDE, TALL], ids=["D > n", "D < n"])
def test_vendi_is_the_entropy_of_the_kernel_matrix(features):
    # the paper's own form: eigenvalues of K / n for the cosine kernel
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(cosine_similarity(features) / len(features))
    expected = np.exp(entropy(np.maximum(eigenvalues, 0)))
    assert vendi_score(spectrum(unit, centre=False)) == pytest.approx(expected)


def test_effective_rank_and_participation_against_singular_values():
    values = np.linalg.svd(TALL - TALL.mean(0), compute_uv=False)
    assert effective_rank(spectrum(TALL)) == pytest.approx(np.exp(entropy(values)))
    assert spectral_participation(spectrum(TALL)) == pytest.approx((values**2).sum() ** 2 / (values**4).sum())


def test_closed_forms():
    alike = np.ones((6, 4))
    assert [f(spectrum(alike)) for f in (vendi_score, effective_rank, spectral_participation)] == [1, 1, 1]
    # n orthogonal directions of one length, not centred: n of everything
    assert [f(spectrum(np.eye(5), centre=False)) for f in (vendi_score, effective_rank, spectral_participation)] == (
        pytest.approx([5, 5, 5])
    )
    assert mean_cosine(alike) == pytest.approx(1) and mean_cosine(np.eye(5)) == pytest.approx(0)
    assert np.isnan(mean_cosine(alike[:1])) and mean_cosine(np.zeros((3, 2))) == 0


def test_mean_cosine_and_variance_against_all_pairs():
    similarities = cosine_similarity(TALL)
    expected = similarities[~np.eye(len(TALL), dtype=bool)].mean()
    found = class_measures(TALL)
    assert found["mean_cosine"] == pytest.approx(expected)
    pairs = cdist(TALL, TALL, "sqeuclidean").sum() / (len(TALL) * (len(TALL) - 1)) / 2
    assert found["variance"] == pytest.approx(pairs) == pytest.approx(TALL.var(0, ddof=1).sum())


def test_density_and_coverage_against_a_loop_over_balls():
    real, other = RNG.normal(size=(30, 4)), RNG.normal(size=(20, 4)) * 1.5
    distances, _ = NearestNeighbors(n_neighbors=4).fit(real).kneighbors(real)
    radii = distances[:, 3]
    inside = [[np.linalg.norm(r - o) < radius for o in other] for r, radius in zip(real, radii, strict=True)]
    found = density_and_coverage(real, other, 3)
    assert found["density"] == pytest.approx(np.sum(inside) / (3 * 20))
    assert found["coverage"] == pytest.approx(np.mean([any(row) for row in inside]))


def test_density_and_coverage_of_equal_and_distant_pictures():
    real = RNG.normal(size=(200, 3))
    assert density_and_coverage(real, real + 100, 5) == {"density": 0.0, "coverage": 0.0}
    same = density_and_coverage(real, RNG.normal(size=(200, 3)), 5)
    # The paper's expectation for equal distributions: density 1, coverage 1 - (N-1)...(N-k)/((2N-1)...(2N-k)).
    expected = 1 - np.prod([(200 - i) / (400 - i) for i in range(1, 6)])
    assert same["density"] == pytest.approx(1, abs=0.15) and same["coverage"] == pytest.approx(expected, abs=0.05)
    assert np.isnan(density_and_coverage(real[:5], real, 5)["density"])


def test_nc1_against_its_formula():
    labels = np.repeat(np.arange(4), [20, 10, 7, 5])
    features = RNG.normal(size=(42, 6)) + 3 * RNG.normal(size=(4, 6))[labels]
    means = np.stack([features[labels == c].mean(0) for c in range(4)])
    within = np.mean([np.cov(features[labels == c].T, bias=True) for c in range(4)], axis=0)
    between = np.cov(means.T, bias=True)
    assert nc1(features, labels) == pytest.approx(np.trace(within @ np.linalg.pinv(between, rcond=1e-9)) / 4)
    assert nc1(means[labels], labels) == pytest.approx(0, abs=1e-20)
    assert np.isnan(nc1(np.ones((6, 2)), np.repeat([0, 1], 3)))
    more = np.concatenate([features, RNG.normal(size=(9, 6))])
    assert nc1(more, np.append(labels, [-1] * 9)) == pytest.approx(nc1(features, labels))  # those are left out


def test_every_measure_grows_with_n_unless_matched():
    big = np.abs(np.random.default_rng(1).normal(size=(2000, 64)))
    small = np.abs(np.random.default_rng(2).normal(size=(40, 64)))
    assert class_measures(big)["effective_rank"] > 1.3 * class_measures(small)["effective_rank"]
    rng = np.random.default_rng(0)
    fair = [size_matched(x, 40, class_measures, rng)["effective_rank"] for x in (big, small)]
    assert fair[0][0] == pytest.approx(fair[1][0], rel=0.02)
    assert fair[0][1] <= fair[0][0] <= fair[0][2]
    assert fair[1][1] == fair[1][0] == fair[1][2]  # exactly 40 images: nothing to draw
    with pytest.raises(ValueError, match="cannot draw 41 of 40"):
        size_matched(small, 41, class_measures, rng)


def test_affinity():
    labels = np.array([0, 1, 1, 0])
    clean, augmented = np.eye(2)[[0, 1, 1, 1]], np.eye(2)[[0, 1, 0, 1]]
    assert affinity(clean, augmented, labels) == pytest.approx((2 / 4) / (3 / 4))
    assert affinity(clean, clean, labels) == 1
    assert np.isnan(affinity(np.eye(2)[1 - labels], clean, labels))
