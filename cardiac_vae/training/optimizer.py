"""One optimizer for all fits: Muon on the weights of layers, AdamW on everything else.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") steps along
the momentum of a weight matrix with its singular values set to about one: no direction of a layer
waits for others that have louder gradients.

    B_t = mu B_{t-1} + G_t,    U_t = G_t + mu B_t                     (Nesterov's momentum)
    W_t = (1 - lr * decay) W_{t-1} - lr sqrt(max(1, rows / columns)) orthogonal(U_t)

A convolution's weight is the matrix of its outputs by all that an output sees; each group of a
grouped one is a matrix of its own. Biases, scales, embeddings, and heads that start at zero (for
which a step of fixed length is too long) are left to AdamW (Loshchilov & Hutter 2019).
``torch.optim.Muon`` takes two-dimensional parameters only.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim.adamw import adamw

from cardiac_vae.layers.blocks import starts_at_zero

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan et al.: steepest at zero; singular values end between 0.7 and 1.2."""
ITERATIONS = 5


def orthogonal(matrix: Tensor) -> Tensor:
    """Return U V^T, nearly, of matrices (..., rows, columns) = U S V^T, by Newton-Schulz steps.

    Each step is X <- (a + b X X^T + c (X X^T)^2) X. All factors are polynomials of the first X X^T
    and commute: the steps are taken on that small square, and X is multiplied once.
    """
    [turned] = orthogonals([matrix.reshape(-1, *matrix.shape[-2:])])
    return turned.reshape(matrix.shape)


def orthogonals(stacks: Sequence[Tensor]) -> list[Tensor]:
    """Return ``orthogonal`` of stacks (N, rows, columns), those with squares of one size at once.

    A model has a hundred small matrices; one by one, most of the time would go into calls.
    """
    wide = [_wide(stack) for stack in stacks]
    grams = [torch.bmm(x, x.mT) for x in wide]
    of_size: dict[int, list[int]] = {}
    for index, gram in enumerate(grams):
        of_size.setdefault(gram.shape[-1], []).append(index)
    turned = list(wide)
    for indices in of_size.values():
        whole = _levelling(torch.cat([grams[index] for index in indices]))
        parts = torch.split(whole, [len(grams[index]) for index in indices])
        for index, part in zip(indices, parts, strict=True):
            product = torch.bmm(part, wide[index])
            turned[index] = product if product.shape == stacks[index].shape else product.mT
    return turned


def _wide(stack: Tensor) -> Tensor:
    """Return matrices of norm 1, the longer side along the last axis."""
    x = stack / (stack.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    return x.mT if x.shape[-2] > x.shape[-1] else x


def _levelling(gram: Tensor) -> Tensor:
    """Return the product of the steps' factors, a polynomial of X X^T (N, size, size)."""
    a, b, c = QUINTIC
    whole = None
    for step in range(1, ITERATIONS + 1):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        whole = factor if whole is None else torch.bmm(factor, whole)
        if step < ITERATIONS:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
    assert whole is not None
    return whole


def layer_weights(model: nn.Module) -> Iterator[tuple[Tensor, int]]:
    """Yield the weights that Muon takes, with the number of groups of each."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | _ConvNd) and not starts_at_zero(layer):
            yield layer.weight, getattr(layer, "groups", 1)


class Muon(torch.optim.Optimizer):
    """Muon for the weights of ``layer_weights``, AdamW for the other parameters of a model.

    Args:
        model: Whose parameters are fitted.
        learning_rate: AdamW's.
        matrix_learning_rate: Muon's: the change of a matrix per step, in singular values.
        weight_decay: Of both, decoupled: the share lost per step is rate times decay.
    """

    momentum = 0.95
    betas = (0.9, 0.99)

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        matrix_learning_rate: float,
        weight_decay: float = 0.0,
    ) -> None:
        matrices = list(layer_weights(model))
        taken = {id(weight) for weight, _ in matrices}
        by_groups: dict[int, list[Tensor]] = {}
        for weight, groups in matrices:
            by_groups.setdefault(groups, []).append(weight)
        others = [value for value in model.parameters() if id(value) not in taken]
        muon = [
            {"params": weights, "lr": matrix_learning_rate, "groups": groups}
            for groups, weights in sorted(by_groups.items())
        ]
        rest = [{"params": others, "lr": learning_rate, "groups": None}] if others else []
        super().__init__([*muon, *rest], {"weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; ``closure`` computes the loss and its gradients anew."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [value for value in group["params"] if value.grad is not None]
            if not parameters:
                continue
            if group["groups"] is None:
                self._adamw(parameters, group)
            else:
                self._turn(parameters, group)
        return loss

    def _turn(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_mul_(momenta, self.momentum)
        torch._foreach_add_(momenta, gradients)
        ahead = torch._foreach_add(gradients, momenta, alpha=self.momentum)
        parts = group["groups"]
        turned = orthogonals([step.reshape(parts, len(step) // parts, -1) for step in ahead])
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for weight, step in zip(weights, turned, strict=True):
            rows, columns = step.shape[1:]
            length = group["lr"] * max(1.0, rows / columns) ** 0.5
            weight.sub_(step.reshape(weight.shape), alpha=length)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for value in parameters:
            if not self.state[value]:
                self.state[value].update(
                    step=torch.zeros(()),
                    mean=torch.zeros_like(value),
                    square=torch.zeros_like(value),
                )
        states = [self.state[value] for value in parameters]
        adamw(
            parameters,
            [value.grad for value in parameters if value.grad is not None],
            [state["mean"] for state in states],
            [state["square"] for state in states],
            [],
            [state["step"] for state in states],
            fused=all(value.device.type in {"cpu", "cuda"} for value in parameters),
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )
