"""Exponential moving average of weights, with its half-life counted in images.

Karras et al. (2022): after a batch of B images, N images into training,

    half_life_t = min(half_life, ramp * N),   beta = .5^(B / half_life_t),
    average <- beta * average + (1 - beta) * weights
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class EMA:
    """Average the weights of a module over training.

    The average is kept in float32; buffers are copied. Its whole state is `module`'s state dict, so
    a resumed average equals an unbroken one.

    Attributes:
        module: The average, a copy of the given module in evaluation mode, without gradients.
    """

    def __init__(self, module: nn.Module, half_life: float = 500_000, ramp: float = 0.05) -> None:
        """Start the average at the module's present weights.

        Args:
            module: The module in training; every update reads it.
            half_life: Images after which a weight's past counts half (at least 1).
            ramp: Upper bound of the half-life as a fraction of the images seen (above 0).

        Raises:
            ValueError: If half_life or ramp is out of range.
        """
        if half_life < 1:
            raise ValueError(f"half_life = {half_life} must be at least 1; give it in images")
        if ramp <= 0:
            raise ValueError(f"ramp = {ramp} must be above 0; it is a fraction of the images seen")
        self.half_life = half_life
        self.ramp = ramp
        self.module = copy.deepcopy(module).float().eval().requires_grad_(False)
        self._source = module

    def beta(self, nimg: int, batch: int) -> float:
        """Return the weight of the past, in [0, 1), for a batch after nimg images."""
        half_life = min(self.half_life, self.ramp * nimg)
        return 0.5 ** (batch / half_life) if half_life > 0 else 0.0

    @torch.no_grad()
    def update(self, nimg: int, batch: int) -> None:
        """Take the module's present weights into the average.

        Args:
            nimg: Images seen before this batch; at 0 the weights replace the average.
            batch: Images in this batch.
        """
        averages: list[Tensor] = list(self.module.parameters())
        weights = [weight.detach().float() for weight in self._source.parameters()]
        torch._foreach_lerp_(averages, weights, weight=1 - self.beta(nimg, batch))
        buffers = zip(self.module.buffers(), self._source.buffers(), strict=True)
        for average, buffer in buffers:
            average.copy_(buffer)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average's tensors by name."""
        return self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the average by one that `state_dict` returned."""
        self.module.load_state_dict(state)
