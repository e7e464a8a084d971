"""The kernel and the regressor as scikit-learn uses them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import SpectralClustering
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import reluctant as rl
from reluctant.estimators import NeuralPathKernel, PathKernelRegressor
from reluctant.models import make_conv, make_fc
from reluctant.theory.rounding import gamma

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
Y = np.stack([np.abs(X[:, 0]) - X[:, 1], X[:, 2] * X[:, 3]], axis=1)


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    return make_fc(
        5, [24, 24], 2, bias=True, generator=torch.Generator().manual_seed(0), dtype=dtype
    )


@parametrize_with_checks(
    [PathKernelRegressor(), PathKernelRegressor(landmarks=20), PathKernelRegressor(law="ntk")]
)
def test_the_regressor_is_a_scikit_learn_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("law", ["npk", "nngp", "ntk"])
def test_the_kernel_object_is_the_kernel(law: str) -> None:
    module = network()
    call: Any = {"npk": rl.npk, "nngp": rl.nngp_law, "ntk": rl.ntk_law}[law]
    kernel = NeuralPathKernel(module, law)
    x, y = torch.tensor(X), torch.tensor(X[:7])
    assert np.array_equal(kernel(X), call(module, x).numpy())
    assert np.array_equal(kernel(X, X[:7]), call(module, x, y).numpy())
    # the diagonal is taken in other blocks: sums of as many products in another order
    off = gamma(500) * np.abs(kernel(X)).max()
    assert np.abs(kernel.diag(X) - np.diagonal(kernel(X))).max() <= off


def test_rows_are_unflattened_and_computed_in_the_modules_type() -> None:
    module = make_conv([1, 6, 6], [4, 4], 3, generator=torch.Generator().manual_seed(0))
    rows = RNG.normal(size=(5, 36))
    images = torch.tensor(rows).float().reshape(5, 1, 6, 6)
    kernel = NeuralPathKernel(module, input_shape=(1, 6, 6))
    assert np.array_equal(kernel(rows), rl.npk(module, images).numpy())
    single = NeuralPathKernel(module, input_shape=(1, 6, 6), dtype="float32")(rows)
    assert single.dtype == np.float32
    assert np.array_equal(single, rl.npk(module, images, dtype=torch.float32).numpy())
    transposed = rl.npk(module, images.transpose(2, 3)).numpy()
    assert not np.array_equal(kernel(rows), transposed)


def test_the_cosine_is_one_on_the_diagonal() -> None:
    kernel = NeuralPathKernel(network(), normalise="cosine")
    found = kernel(X, X)
    assert np.abs(np.diagonal(found) - 1.0).max() <= gamma(1000)
    assert np.abs(found).max() <= 1.0 + gamma(1000)
    assert kernel.diag(X).tolist() == [1.0] * len(X)
    h = rl.npk(network(), torch.tensor(X)).numpy()
    assert np.abs(found - h / np.sqrt(np.outer(h.diagonal(), h.diagonal()))).max() <= gamma(1000)


@pytest.mark.parametrize("again", [clone, copy.deepcopy, lambda k: pickle.loads(pickle.dumps(k))])
def test_a_copy_of_a_kernel_is_the_kernel(again: Any) -> None:
    kernel = NeuralPathKernel(network(), "nngp", variance=0.5)
    assert np.array_equal(again(kernel)(X), kernel(X))
    assert again(kernel).module is not kernel.module


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    between = NeuralPathKernel._between

    def counted(self: Any, module: Any, x: Any, y: Any) -> Any:
        calls.append(len(x))
        return between(self, module, x, y)

    monkeypatch.setattr(NeuralPathKernel, "_between", counted)
    return calls


@pytest.mark.parametrize(
    "use",
    [
        lambda k: SVC(kernel=k).fit(X, X[:, 0] > 0).predict(X),
        lambda k: KernelRidge(kernel=k).fit(X, Y).predict(X),
        lambda k: SpectralClustering(2, affinity=k, random_state=0).fit_predict(X),
        lambda k: Nystroem(kernel=k, n_components=10, random_state=0).fit_transform(X),
        lambda k: GaussianProcessRegressor(kernel=k, alpha=1.0).fit(X, Y[:, 0]).predict(X),
    ],
    ids=["SVC", "KernelRidge", "SpectralClustering", "Nystroem", "GaussianProcessRegressor"],
)
def test_estimators_call_the_kernel_on_whole_matrices(
    use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_calls(monkeypatch)
    found = use(NeuralPathKernel(network(), normalise="cosine"))
    assert len(found) == len(X)
    assert len(calls) <= 12


def test_svms_with_the_kernel_learn_what_is_not_linear() -> None:
    labels = (X[:, 0] * X[:, 1] > 0).astype(int)
    kernel: Any = NeuralPathKernel(network(), normalise="cosine")
    model = SVC(kernel=kernel, C=100.0)
    assert model.fit(X, labels).score(X, labels) == 1.0
    assert SVC(kernel="linear", C=100.0).fit(X, labels).score(X, labels) < 0.8


@pytest.mark.parametrize("weighted", [False, True])
def test_the_regressor_solves_its_equation(weighted: bool) -> None:
    weight = RNG.uniform(0.5, 2.0, len(X)) if weighted else None
    model = PathKernelRegressor(network(), alpha=0.1).fit(X, Y, weight)
    h = rl.npk(network(), torch.tensor(X)).numpy()
    ridge = 0.1 * np.average(np.diagonal(h), weights=weight)
    s = np.eye(len(X)) if weight is None else np.diag(1.0 / weight)
    expected = h @ np.linalg.solve(h + ridge * s, Y)
    # condition of both systems: λ₁/λ, weights within a factor of 4; n³ roundings of either
    condition = 4 * (1 + np.linalg.eigvalsh(h)[-1] / ridge)
    off = gamma(20 * len(X) ** 2) * condition * np.abs(Y).max() * len(X)
    assert np.abs(model.predict(X) - expected).max() <= off <= 1e-6
    assert model.predict(X).shape == Y.shape
    assert model.fit(X, Y[:, 0], weight).predict(X).shape == (len(X),)


@pytest.mark.parametrize("landmarks", [None, 12])
def test_a_weight_is_a_number_of_examples(landmarks: int | None) -> None:
    model = PathKernelRegressor(network(), landmarks=landmarks)
    weight = np.repeat([0.0, 1.0, 2.0], 20)
    weighted = model.fit(X, Y, weight).predict(X)
    listed = np.repeat(np.arange(60), weight.astype(int))
    assert len(listed) == 60
    repeated = model.fit(X[listed], Y[listed]).predict(X)
    assert np.abs(weighted - repeated).max() <= tolerance(model, alpha=1e-2)
    assert np.abs(weighted - model.fit(X, Y).predict(X)).max() > 0.01


def tolerance(model: PathKernelRegressor, alpha: float) -> float:
    """Bound how far the Nyström form with all landmarks may be from the exact one.

    Values at the examples change by ‖E‖/λ ‖y‖ when the kernel does by E. Leaving out eigenvalues below
    n u λ₁, and rounding of a feature, √λ_i u_i, by n u λ₁/√λ_i, change it by 4 n u λ₁ for each of n
    eigenvalues; the kernel itself and the solves add as much again. λ is α times the trace over n.
    """
    n = len(X)
    u = float(np.finfo(model.dtype).eps)
    return float(8 * n * n * u * n / alpha * np.linalg.norm(Y))


@pytest.mark.parametrize("alpha", [1e-3, 1e-1])
def test_all_landmarks_are_the_exact_form(alpha: float) -> None:
    exact = PathKernelRegressor(network(), alpha=alpha).fit(X, Y)
    all_of_them = PathKernelRegressor(network(), alpha=alpha, landmarks=99).fit(X, Y)
    assert len(all_of_them.X_fit_) == len(X)
    off = np.abs(exact.predict(X) - all_of_them.predict(X)).max()
    assert off <= tolerance(exact, alpha) <= 1e-5
    few = PathKernelRegressor(network(), alpha=alpha, landmarks=10).fit(X, Y)
    assert few.dual_coef_.shape == (10, 2)
    assert np.abs(exact.predict(X) - few.predict(X)).max() > tolerance(exact, alpha)


def test_landmarks_never_make_the_whole_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reluctant.estimators._ROWS", 16)
    calls = count_calls(monkeypatch)
    model = PathKernelRegressor(network(), landmarks=8, memory=1).fit(X, Y)
    model.predict(X)
    assert max(calls) == len(X)  # for the diagonal, 64 at once
    assert sorted(calls)[-2] == 16
    with pytest.raises(rl.InputError, match=r"57,600 bytes, more than memory=1; pass landmarks"):
        PathKernelRegressor(network(), memory=1).fit(X, Y)


def test_the_network_that_is_made_has_a_seed() -> None:
    one, two, other = (PathKernelRegressor(random_state=s).fit(X, Y).predict(X) for s in (0, 0, 1))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_parameters_are_searched() -> None:
    search = GridSearchCV(PathKernelRegressor(network()), {"alpha": [1e-3, 10.0]}, cv=3)
    assert search.fit(X, Y).best_params_ == {"alpha": 1e-3}


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: NeuralPathKernel(m, "nope")(X), r"law must be 'npk', 'nngp' or 'ntk'"),
        (lambda m: NeuralPathKernel(m, dtype="half")(X), r"dtype must be 'float64' or 'float32'"),
        (lambda m: NeuralPathKernel(m, normalise="trace")(X), r"no function of two examples"),
        (lambda m: NeuralPathKernel(m, "ntk", normalise="width")(X), r"is for law='npk'"),
        (lambda m: NeuralPathKernel(m, variance=2.0)(X), r"H has no variance"),
        (lambda m: NeuralPathKernel(m)(X[0]), r"got an array of shape \(5,\)"),
        (lambda m: NeuralPathKernel(m, input_shape=(2, 3))(X), r"shape \(2, 3\), flattened"),
        (lambda m: NeuralPathKernel(m)(np.where(X > 2, np.nan, X)), r"first in row"),
        (
            lambda m: NeuralPathKernel(nn.Sequential(m, nn.ReLU()))(X),
            r"2 outputs with kernels of their own; choose one",
        ),
        (lambda m: PathKernelRegressor(m, alpha=0.0).fit(X, Y), r"alpha must be a positive number"),
        (lambda m: PathKernelRegressor(m, alpha="1").fit(X, Y), r"alpha must be a positive"),  # type: ignore[arg-type]
        (lambda m: PathKernelRegressor(m, landmarks=2.5).fit(X, Y), r"at least 1, got 2\.5"),  # type: ignore[arg-type]
        (lambda m: NeuralPathKernel("net")(X), r"expected a torch\.nn\.Module, got str"),  # type: ignore[arg-type]
        (lambda m: NeuralPathKernel(m)(np.array([["a"]])), r"rows of numbers: could not"),
        (lambda m: NeuralPathKernel(m, input_shape=5)(X), r"tuple of integers or None, got 5"),  # type: ignore[arg-type]
        (
            lambda m: PathKernelRegressor(m, landmarks=0).fit(X, Y),
            r"an integer of at least 1, got 0",
        ),
        (
            lambda m: PathKernelRegressor(nn.Linear(5, 1, bias=False).double()).fit(0 * X, Y),
            r"row 0 with itself is 0",
        ),
        (lambda m: PathKernelRegressor(m, alpha=1e-300).fit(X[[0] * 9], Y[:9]), r"larger alpha"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(rl.InputError, match=message):
        call(network())
