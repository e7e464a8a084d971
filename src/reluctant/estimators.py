"""The neural path kernel for scikit-learn: a kernel object, and kernel ridge regression with it."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.gaussian_process.kernels import Kernel
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor, nn

from reluctant.models import make_fc, scaled
from reluctant.theory.errors import InputError
from reluctant.theory.inputs import require_module
from reluctant.theory.kernels import nngp_law, npk, ntk_law
from reluctant.theory.network import PathNetwork
from reluctant.theory.recording import network_at
from reluctant.theory.variances import Variance

Array = NDArray[Any]

_WIDTHS = (64, 64)  # of the network that is made where none is given
_ROWS = 4096  # examples whose kernel with the landmarks is held at once
_SINGLE = 64  # examples whose kernel with each other is taken for its diagonal
_validated: Any = validate_data  # whose defaults are strings, for type checkers
_DTYPES = {"float64": torch.float64, "float32": torch.float32}


class NeuralPathKernel(Kernel):  # type: ignore[misc]
    r"""Be a kernel of a network as scikit-learn's estimators want it: of rows of numbers.

    It is one of scikit-learn's kernel objects, which are called on whole matrices wherever a
    kernel may be given: ``SVC(kernel=...)``, ``KernelRidge(kernel=...)``,
    ``SpectralClustering(affinity=...)``, ``Nystroem(kernel=...)``. (Other callables are called there for
    each pair of rows.) It has no hyperparameters that are optimised.

    Args:
        module: Module, whose gates are taken. It is cloned and pickled as modules are.
        law: "npk" for H, "nngp" and "ntk" for the laws of the outputs and of the tangent kernel.
        variance: σ² of the weights, for the laws.
        normalise: As for :func:`~reluctant.theory.kernels.npk`, but for "trace", which is not a
            function of two examples. "cosine" is H(x, x') / √(H(x, x) H(x', x')), of all three laws.
        output: Output coordinate whose kernel is wanted; None where outputs share it.
        input_shape: Shape of one example, into which a row is unflattened; None leaves it flat.
        dtype: "float64" or "float32", in which is computed and returned. Gates are those of the
            module's own type.

    Example:
        >>> from sklearn.svm import SVC
        >>> net = make_fc(2, [32, 32], bias=True, generator=torch.Generator().manual_seed(0))
        >>> X, y = np.array([[0.0, 0], [1, 1], [1, 0], [0, 1]]), [0, 0, 1, 1]
        >>> SVC(kernel=NeuralPathKernel(net), C=1e3).fit(X, y).predict(X).tolist()
        [0, 0, 1, 1]
    """

    def __init__(
        self,
        module: nn.Module,
        law: str = "npk",
        *,
        variance: Variance = 1.0,
        normalise: str = "none",
        output: int | None = None,
        input_shape: tuple[int, ...] | None = None,
        dtype: str = "float64",
    ) -> None:
        self.module = module
        self.law = law
        self.variance = variance
        self.normalise = normalise
        self.output = output
        self.input_shape = input_shape
        self.dtype = dtype

    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:
        """Return the kernel of the rows of X with those of Y, or of X.

        Args:
            X: Flattened examples, shape (n, features).
            Y: Second examples, shape (m, features); X again if None.
            eval_gradient: True returns a pair, with the gradient by the hyperparameters, of which
                there are none.

        Raises:
            InputError: If rows, parameters and module do not fit.
        """
        self._check()
        x = self._examples(X)
        y = None if Y is None else self._examples(Y)
        kernel = self._between(self.module, x, y)
        if self.normalise == "cosine":
            left = _positive(self._diagonal(x))
            right = left if y is None else _positive(self._diagonal(y))
            kernel = kernel / np.sqrt(left[:, None] * right[None])
        return (kernel, np.empty((*kernel.shape, 0))) if eval_gradient else kernel

    def diag(self, X: Array) -> Any:
        """Return the kernel of each row with itself, shape (n,)."""
        self._check()
        found = self._diagonal(self._examples(X))
        return np.ones_like(found) if self.normalise == "cosine" else found

    def is_stationary(self) -> Any:
        """Tell that the kernel depends on more than differences of examples."""
        return False

    def __repr__(self) -> str:
        return f"NeuralPathKernel({type(self.module).__name__}, law={self.law!r})"

    def _check(self) -> None:
        require_module(self.module)
        if self.law not in ("npk", "nngp", "ntk"):
            raise InputError(f"law must be 'npk', 'nngp' or 'ntk', got {self.law!r}")
        if self.dtype not in _DTYPES:
            raise InputError(f"dtype must be 'float64' or 'float32', got {self.dtype!r}")
        if self.normalise == "trace":
            raise InputError(
                "normalise='trace' is no function of two examples; take 'cosine', or divide the matrix"
            )
        if self.law != "npk" and self.normalise not in ("none", "cosine"):
            raise InputError(
                f"normalise={self.normalise!r} is for law='npk'; take 'none' or 'cosine'"
            )
        if self.law == "npk" and self.variance != 1.0:
            raise InputError("H has no variance of the weights; take law='nngp' or 'ntk'")

    def _examples(self, rows: Array) -> Tensor:
        some = next((t for t in self.module.parameters() if t.is_floating_point()), torch.empty(0))
        shape = self.input_shape
        try:
            x = torch.tensor(np.asarray(rows, dtype=np.float64)).to(some)
        except (TypeError, ValueError) as error:
            raise InputError(f"the kernel takes rows of numbers: {error}") from error
        if not isinstance(shape, tuple | list | None):
            raise InputError(f"input_shape must be a tuple of integers or None, got {shape!r}")
        if x.ndim != 2 or (shape is not None and x.shape[1] != int(np.prod(shape))):
            raise InputError(
                f"the kernel takes rows of {'numbers' if shape is None else f'shape {tuple(shape)}, flattened'}, "
                f"got an array of shape {tuple(x.shape)}; give input_shape, and one row an example"
            )
        return x if shape is None else x.reshape(len(x), *shape)

    def _diagonal(self, x: Tensor) -> Array:
        net = network_at(self.module, x)
        parts = [np.diagonal(self._between(net, part, None)) for part in x.split(_SINGLE)]
        return np.concatenate(parts)

    def _between(self, module: nn.Module | PathNetwork, x: Tensor, y: Tensor | None) -> Array:
        options: dict[str, Any] = {"output": self.output, "dtype": _DTYPES[self.dtype]}
        if self.law == "npk":
            options["normalise"] = "none" if self.normalise == "cosine" else self.normalise
            kernel = npk(module, x, y, **options)
        else:
            law = nngp_law if self.law == "nngp" else ntk_law
            kernel = law(module, x, y, self.variance, **options)
        if kernel.ndim > 2:
            raise InputError(
                f"the network has {kernel.shape[2]} outputs with kernels of their own; choose one by output="
            )
        found: Array = kernel.cpu().numpy()
        return found


class PathKernelRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    r"""Regress on examples by the neural path kernel, with a ridge.

    .. math:: f(x) = \sum_i c_i H(x, x_i), \qquad (H + \lambda S^{-1}) c = y

    where S has the weights of the examples, and λ is α times the weighted mean of H(x, x), so that f
    stays when the kernel is multiplied by a number. With landmarks, H is replaced by its Nyström form
    H_{nm} H_{mm}^+ H_{mn}, and the n by n kernel is never made.

    Args:
        module: Module whose gates make the kernel; None draws a ReLU network of two hidden layers of
            64 for the number of features.
        law: As for :class:`NeuralPathKernel`, and so are the next six.
        variance: σ² of the weights, for the laws.
        normalise: Normalisation.
        output: Output coordinate whose kernel is wanted.
        input_shape: Shape of one example.
        dtype: Type in which kernels are computed.
        alpha: α > 0.
        landmarks: Number of distinct examples, drawn without replacement, whose kernel functions are
            used; None for the exact form.
        memory: Bytes that the exact n by n kernel may take; where it would take more, landmarks are asked for.
        random_state: Seed of the network that is made, and of the landmarks.

    Attributes:
        kernel_: The kernel, a :class:`NeuralPathKernel`.
        X_fit_: Examples whose kernel functions are used: all, or the landmarks.
        dual_coef_: Their coefficients, shape (m,) or (m, targets).
        ridge_: λ.

    Cost:
        The exact form takes n² numbers and n³/3 multiply-adds; m landmarks take m² + 4096 m numbers, n m
        kernel entries, n m² multiply-adds, and the eigenvectors of an m by m matrix.

    Source:
        Saunders, Gammerman and Vovk, Ridge regression learning algorithm in dual variables, 1998;
        Williams and Seeger, Using the Nyström method to speed up kernel machines, 2001.
    """

    def __init__(
        self,
        module: nn.Module | None = None,
        law: str = "npk",
        *,
        variance: Variance = 1.0,
        normalise: str = "none",
        output: int | None = None,
        input_shape: tuple[int, ...] | None = None,
        dtype: str = "float64",
        alpha: float = 1e-2,
        landmarks: int | None = None,
        memory: int = 1 << 33,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.module = module
        self.law = law
        self.variance = variance
        self.normalise = normalise
        self.output = output
        self.input_shape = input_shape
        self.dtype = dtype
        self.alpha = alpha
        self.landmarks = landmarks
        self.memory = memory
        self.random_state = random_state

    def fit(self, X: Array, y: Array, sample_weight: Array | float | None = None) -> Self:
        """Find the coefficients.

        Args:
            X: Flattened examples, shape (n, features).
            y: Targets, shape (n,) or (n, targets).
            sample_weight: Weights of the examples, at least 0; all 1 if None.

        Raises:
            InputError: If parameters do not fit, or the kernel exceeds ``memory``.
        """
        X, y = _validated(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        if not _is_positive(self.alpha, Real):
            raise InputError(f"alpha must be a positive number, got {self.alpha!r}")
        if self.landmarks is not None and not _is_positive(self.landmarks, Integral):
            raise InputError(f"landmarks must be an integer of at least 1, got {self.landmarks!r}")
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        random = check_random_state(self.random_state)
        self.kernel_ = self._kernel(X.shape[1], random)
        targets = y.reshape(len(y), -1).astype(np.float64)
        if self.landmarks is None:
            self.X_fit_ = X
            found = self._exact(X, targets, weight)
        else:
            # a repeated example is no other landmark, and one without weight is none
            distinct = np.unique(X[weight > 0], axis=0)
            count = min(self.landmarks, len(distinct))
            self.X_fit_ = distinct[np.sort(random.choice(len(distinct), count, replace=False))]
            found = self._by_landmarks(X, targets, weight)
        self.dual_coef_ = found.reshape(-1, *y.shape[1:])
        return self

    def predict(self, X: Array) -> Array:
        """Return the values of the function at the rows of X, shape (n,) or (n, targets)."""
        check_is_fitted(self)
        X = _validated(self, X, reset=False, dtype=np.float64)
        parts = [self.kernel_(X[i : i + _ROWS], self.X_fit_) for i in range(0, len(X), _ROWS)]
        return np.concatenate([part @ self.dual_coef_ for part in parts])

    def _kernel(self, features: int, random: np.random.RandomState) -> NeuralPathKernel:
        module = self.module
        if module is None:
            generator = torch.Generator().manual_seed(int(random.randint(2**31)))
            law = scaled(2.0**0.5, "gaussian", bias=1.0)
            module = make_fc(
                features, _WIDTHS, generator=generator, law=law, bias=True, dtype=torch.float64
            )
        return NeuralPathKernel(
            module,
            self.law,
            variance=self.variance,
            normalise=self.normalise,
            output=self.output,
            input_shape=self.input_shape,
            dtype=self.dtype,
        )

    def _exact(self, X: Array, y: Array, weight: Array) -> Array:
        needed = 2 * len(X) ** 2 * 8
        if needed > self.memory:
            raise InputError(
                f"the kernel of {len(X)} examples and its factor take {needed:,} bytes, more than "
                f"memory={self.memory:,}; pass landmarks=1000 for the Nyström form"
            )
        kernel = self.kernel_(X).astype(np.float64)
        self.ridge_ = self._ridge(np.diagonal(kernel), weight)
        root = np.sqrt(weight)
        kernel *= root[:, None] * root[None]
        kernel[np.diag_indices_from(kernel)] += self.ridge_
        return root[:, None] * _solve(kernel, root[:, None] * y)

    def _by_landmarks(self, X: Array, y: Array, weight: Array) -> Array:
        kernel = self.kernel_(self.X_fit_).astype(np.float64)
        self.ridge_ = self._ridge(self.kernel_.diag(X), weight)
        values, vectors = eigh(kernel)
        # eigenvalues below their own rounding, that of the kernel's type, say nothing
        kept = values > len(values) * np.finfo(self.dtype).eps * values[-1]
        basis = vectors[:, kept] / np.sqrt(values[kept])
        gram = self.ridge_ * np.eye(int(kept.sum()))
        moments = np.zeros((len(gram), y.shape[1]))
        for start in range(0, len(X), _ROWS):
            some = slice(start, start + _ROWS)
            features = self.kernel_(X[some], self.X_fit_) @ basis
            weighted = features * weight[some, None]
            gram += weighted.T @ features
            moments += weighted.T @ y[some]
        found: Array = basis @ _solve(gram, moments)
        return found

    def _ridge(self, diagonal: Array, weight: Array) -> float:
        return float(self.alpha * np.average(_positive(diagonal), weights=weight))


def _is_positive(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and bool(0 < value < np.inf)


def _solve(matrix: Array, right: Array) -> Array:
    """Solve a positive definite system, whose matrix is overwritten."""
    try:
        factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError as error:
        raise InputError(
            "the kernel with its ridge is singular to within rounding; pass a larger alpha"
        ) from error
    found: Array = cho_solve(factor, right, check_finite=False)
    return found


def _positive(diagonal: Array) -> Array:
    """Return H(x, x), which has to be positive."""
    if bool((diagonal > 0).all()):
        return diagonal
    row = int(np.argmin(diagonal > 0))
    raise InputError(
        f"the kernel of row {row} with itself is 0: no path to the output is open there; give the network "
        "biases, or remove such rows"
    )
