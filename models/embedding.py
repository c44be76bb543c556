"""Noise levels as a vector: positional features of each level, then a small MLP."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Angular frequencies of the features, in radians per unit of level. Slow ones: what the network
# learns of a level is smooth, and every fast feature makes the ODE rougher, so that solvers need
# more steps. Ladders up to 1000 trained no better.
LOWEST_FREQUENCY = 0.5
HIGHEST_FREQUENCY = 8.0


class LevelEmbedding(nn.Module):
    """Embed m noise levels.

    The features of a level a are cos(f_i a) and sin(f_i a) with frequencies f_i in geometric
    progression (Vaswani et al. 2017); the features of the m levels are concatenated.
    """

    frequencies: Tensor

    def __init__(self, levels: int, features: int, width: int) -> None:
        """Build the embedding.

        Args:
            levels: m, how many levels there are.
            features: Features per level; even.
            width: Size of the embedding.
        """
        super().__init__()
        low, high = math.log(LOWEST_FREQUENCY), math.log(HIGHEST_FREQUENCY)
        frequencies = torch.linspace(low, high, features // 2).exp()
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.linear0 = nn.Linear(levels * features, width)
        self.linear1 = nn.Linear(width, width)

    def forward(self, levels: Tensor) -> Tensor:
        """Map levels (B, m) in [0, 1] to their embedding (B, width)."""
        angles = levels[:, :, None] * self.frequencies
        features = torch.cat([angles.cos(), angles.sin()], dim=2).flatten(1)
        return F.silu(self.linear1(F.silu(self.linear0(features))))
