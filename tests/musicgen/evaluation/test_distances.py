"""Distances of sets of embeddings beside their published formulas, computed by other libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musicgen.evaluation import (
    RunningStatistics,
    distance_of,
    frechet_distance,
    frechet_infinity,
    kernel_distance,
    kl_divergence,
    median_bandwidth,
    statistics_of,
)
from musicgen.evaluation.intervals import bootstrap_interval


def normal(count: int, width: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    return torch.randn(count, width, generator=generator) @ mix + shift


@pytest.mark.parametrize(("count", "width"), [(400, 32), (40, 64)])
def test_the_frechet_distance_is_that_of_scipys_matrix_root(count, width):
    from scipy.linalg import sqrtm

    ours, theirs = normal(count, width, 1), normal(300, width, 2, shift=0.5)
    means = [each.double().numpy().mean(axis=0) for each in (ours, theirs)]
    covariances = [np.cov(each.double().numpy(), rowvar=False) for each in (ours, theirs)]
    root = sqrtm(covariances[0] @ covariances[1])
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert frechet_distance(ours, theirs) == pytest.approx(expected, rel=1e-6)


def test_statistics_added_file_by_file_are_those_of_all_at_once():
    embeddings = normal(1000, 24, 3) + 100
    running = RunningStatistics(kept=64)
    for part in embeddings.split([1, 5, 300, 694]):
        running.add(part)
    whole, ours = statistics_of(embeddings), running.statistics()
    torch.testing.assert_close(ours.mean, whole.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.covariance, whole.covariance, rtol=1e-9, atol=1e-9)
    assert (running.count, running.files, ours.count) == (1000, 4, 1000)


def test_the_kept_embeddings_are_a_fair_sample_and_know_their_files():
    embeddings = torch.arange(4000.0)[:, None]
    running = RunningStatistics(kept=500)
    for part in embeddings.split(100):
        running.add(part)
    assert len(running.kept) == 500 and len(running.kept.unique()) == 500
    assert torch.equal(running.owners, (running.kept[:, 0] // 100).long())
    # The standard error of the mean of 500 of 4,000 is 48.
    assert abs(running.kept.mean() - 1999.5) < 200
    few = RunningStatistics(kept=500)
    few.add(embeddings[:30])
    assert torch.equal(few.kept, embeddings[:30])


def test_the_extrapolated_distance_of_two_samples_of_one_distribution_is_near_zero():
    whole = normal(20000, 16, 4)
    reference, sample = statistics_of(whole[:10000]), whole[10000:12000]
    small = distance_of(statistics_of(sample[:200]), reference)
    found = frechet_infinity(sample, reference, sizes=[200, 300, 500, 800, 1200, 2000])
    assert found.fit > 0.8
    assert abs(found.value) < 0.2 * small
    assert found.points[-1][1] == pytest.approx(distance_of(statistics_of(sample), reference), rel=1.0)


def test_extrapolation_is_the_published_line_over_one_by_n():
    """Gui et al. 2024 fit it with NumPy's polyfit; the samples are ours."""
    found = frechet_infinity(normal(900, 8, 5), statistics_of(normal(900, 8, 6)))
    sizes, values = np.array(found.points).T
    slope, start = np.polyfit(1 / sizes, values, 1)
    assert found.value == pytest.approx(start, rel=1e-9)
    missed = values - (slope / sizes + start)
    assert found.fit == pytest.approx(1 - (missed**2).sum() / ((values - values.mean()) ** 2).sum(), rel=1e-6)


def test_the_kernel_distance_is_its_formula_over_all_pairs():
    from scipy.spatial.distance import cdist, pdist

    ours, theirs = normal(50, 12, 7).double().numpy(), normal(70, 12, 8, shift=1.0).double().numpy()
    width = np.sort(pdist(theirs))[(70 * 69 // 2 - 1) // 2]
    within = []
    for each in (ours, theirs):
        kernel = np.exp(-(cdist(each, each) ** 2) / (2 * width**2))
        within.append((kernel.sum() - len(each)) / (len(each) * (len(each) - 1)))
    across = np.exp(-(cdist(ours, theirs) ** 2) / (2 * width**2)).mean()
    expected = 100 * (sum(within) - 2 * across)
    tensors = torch.from_numpy(ours), torch.from_numpy(theirs)
    assert median_bandwidth(tensors[1]) == pytest.approx(width, rel=1e-12)
    assert kernel_distance(*tensors) == pytest.approx(expected, rel=1e-9)


def test_the_kernel_distance_of_halves_of_one_set_is_near_zero():
    whole = normal(6000, 8, 9)
    assert abs(kernel_distance(whole[:3000], whole[3000:])) < 0.1
    assert kernel_distance(whole[:3000] + 2, whole[3000:]) > 1


def test_the_divergence_of_tags_is_torchs_own_with_audiocrafts_epsilon():
    generator = torch.Generator().manual_seed(3)
    ours, theirs = (torch.randn(5, 527, generator=generator).softmax(dim=-1) for _ in range(2))
    ours[0, 0] = 0.0
    expected = torch.nn.functional.kl_div((ours + 1e-6).log(), theirs, reduction="none").sum(-1)
    torch.testing.assert_close(kl_divergence(theirs, ours), expected)
    assert not torch.allclose(kl_divergence(ours, theirs), expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: frechet_distance(torch.zeros(1, 4), torch.zeros(9, 4)), r"shape \[1, 4\]"),
        (lambda: frechet_distance(torch.zeros(9, 5), torch.zeros(9, 4)), "5 wide and the reference's 4"),
        (lambda: frechet_distance(torch.full((9, 4), float("nan")), torch.zeros(9, 4)), "NaN"),
        (lambda: kernel_distance(torch.zeros(9, 5), torch.ones(9, 4)), "5 wide and the reference's 4"),
        (lambda: kernel_distance(torch.zeros(9, 4), torch.ones(9, 4)), "are equal"),
        (lambda: frechet_infinity(torch.zeros(4, 4), statistics_of(torch.zeros(9, 4))), "at least 8"),
        (lambda: RunningStatistics().statistics(), "are 0"),
        (lambda: kl_divergence(torch.zeros(3), torch.zeros(4)), "one classifier"),
        (lambda: bootstrap_interval([]), "at least one"),
    ],
)
def test_sets_that_give_no_distance_are_refused_in_a_sentence(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert len(str(error.value).splitlines()) == 1
