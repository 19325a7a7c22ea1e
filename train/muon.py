"""Muon for dense layers, in float32 and quick on any machine.

torch has a Muon of its own, which multiplies in bfloat16: on processors without instructions for
it, one of its steps takes more than twice as long as everything else that a training step does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial that drives singular values towards 1, and how often it is applied: both from
https://kellerjordan.github.io/posts/muon."""
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Moves each matrix by its orthogonalised gradient with Nesterov's momentum.

    Updates have the size that Adam's have, 0.2 in the root of their mean square (arXiv
    2502.16982), so that both can share a learning rate.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float) -> None:
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # nothing to call
        """Move every matrix against the gradient that it holds."""
        for group in self.param_groups:
            alike = defaultdict(list)
            for matrix in group["params"]:
                alike[matrix.shape].append(matrix)
            for shape, matrices in alike.items():  # one product of a batch in place of many
                wanted = torch.stack([self._look_ahead(matrix) for matrix in matrices])
                size = group["lr"] * 0.2 * math.sqrt(max(shape))
                for matrix, update in zip(matrices, orthogonal(wanted), strict=True):
                    matrix.add_(update, alpha=-size)

    def _look_ahead(self, matrix: Tensor) -> Tensor:
        """The gradient, moved on by the momentum that it joins."""
        state, gradient = self.state[matrix], matrix.grad
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(momentum, _MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """About U V^T of the singular value decompositions U S V^T of matrices (N, A, B).

    Muon's iteration is X <- (a + b G + c G^2) X with G = X X^T. Each factor is a polynomial in the
    first G, so all can be multiplied before they meet the long X: half the work for our kernels.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    gram, product = wide @ wide.mT, None
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    assert product is not None
    found: Tensor = product @ wide
    return found.mT if tall else found
