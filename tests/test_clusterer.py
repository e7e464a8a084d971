from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from model_specimens import integer_weights, seeded
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import reluctant as rl
from reluctant.models import make_conv, make_fc

RNG = np.random.default_rng(0)
X = RNG.integers(-3, 4, size=(80, 3)).astype(float)


@parametrize_with_checks([rl.ReLUClusterer(), rl.ReLUClusterer(layer=0, axes=3)])
def test_it_is_a_scikit_learn_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


def test_its_clusters_are_those_of_the_module() -> None:
    module = integer_weights(make_fc(3, [4, 4], generator=seeded(), bias=True), seeded(1)).double()
    y = (X[:, 0] > 0).astype(int)
    found = rl.ReLUClusterer(module).fit(X, y)
    expected = rl.clusters(module, torch.tensor(X), y)
    assert np.array_equal(found.labels_, expected.members)
    assert found.clusters_.share is not None and expected.share is not None
    assert np.array_equal(found.clusters_.share, expected.share)
    assert found.n_clusters_ == len(expected)
    assert np.array_equal(found.predict(X), found.labels_)
    assert rl.ReLUClusterer(module).fit(X, X[:, 0]).clusters_.share is None
    cloned: Any = clone(found)
    assert cloned.module is not module


def test_a_pattern_that_was_not_met_is_no_cluster() -> None:
    found = rl.ReLUClusterer(axes=1).fit(np.array([[0.0], [1.0], [2.0]])[:2])
    whole = rl.ReLUClusterer(found.module_).fit(np.array([[5.0], [6.0]]))
    assert whole.predict(np.array([[5.5], [-5.5]])).tolist() == [0, -1]


def test_hyperplanes_go_through_the_mean() -> None:
    blobs = np.concatenate([RNG.normal(size=(30, 2)) * 0.1 + at for at in ([5, 0], [-5, 1])])
    labels = rl.ReLUClusterer(axes=1).fit_predict(blobs)
    assert len(set(labels[:30])) == len(set(labels[30:])) == 1
    assert labels[0] != labels[-1]


def test_images_are_unflattened() -> None:
    module = make_conv((1, 3), [2], generator=seeded(), window=2)
    found = rl.ReLUClusterer(module, input_shape=(1, 3)).fit(X)
    assert found.clusters_.average.shape[1:] == (1, 3)


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (rl.ReLUClusterer(axes=0), "axes must be an integer of at least 1, got 0"),
        (rl.ReLUClusterer(input_shape=(1, 3)), "input_shape is for a module that is given"),
        (
            rl.ReLUClusterer(make_conv((1, 4), [2], generator=seeded()), input_shape=(1, 4)),
            "rows of 3 numbers are no examples of input_shape",
        ),
    ],
)
def test_odd_parameters_are_refused(estimator: Any, said: str) -> None:
    with pytest.raises(rl.InputError, match=said):
        estimator.fit(X)
