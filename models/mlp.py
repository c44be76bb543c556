"""A residual MLP for vectors, 2-D toy data and tiny images, fast on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdm_repr.models.config import MLPConfig
from gdm_repr.models.embedding import LevelEmbedding

LEVEL_FEATURES = 64  # positional features per noise level
EMBEDDING = 128  # numbers that describe all levels; more would cost as much as the blocks


class MLP(nn.Module):
    """A residual MLP over the flattened input.

    With e the embedded levels, block i is

        h <- h + W2_i silu(W1_i (LN(h) (1 + scale_i(e)) + shift_i(e)))

    where LN has no parameters of its own (FiLM, Perez et al. 2018). The scales and shifts of all
    blocks come from one matrix product.
    """

    def __init__(
        self,
        config: MLPConfig,
        *,
        in_channels: int,
        out_channels: int,
        shape: tuple[int, int],
        levels: int,
    ) -> None:
        """Build the network.

        Args:
            config: Its options.
            in_channels: C_in.
            out_channels: C_out.
            shape: Height and width; a vector of d numbers has shape (1, d) and one channel.
            levels: m, how many noise levels it is told.
        """
        super().__init__()
        width, depth = config.width, config.depth
        self.width = width
        self.shape = (out_channels, *shape)
        self.embedding = LevelEmbedding(levels, LEVEL_FEATURES, EMBEDDING)
        self.film = nn.Linear(EMBEDDING, 2 * width * (depth + 1))
        self.input = nn.Linear(in_channels * shape[0] * shape[1], width)
        self.expand = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.reduce = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.output = nn.Linear(width, out_channels * shape[0] * shape[1])
        with torch.no_grad():
            self.output.weight.mul_(1e-3)
            self.output.bias.zero_()

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        """Map x (B, C_in, H, W) and levels (B, m) in [0, 1] to (B, C_out, H, W), in x's dtype."""
        film = self.film(self.embedding(levels))
        film = film.reshape(len(x), len(self.expand) + 1, 2, self.width)
        h = self.input(x.flatten(1))
        for i, (expand, reduce) in enumerate(zip(self.expand, self.reduce, strict=True)):
            h = h + reduce(F.silu(expand(self._modulated(h, film[:, i]))))
        y: Tensor = self.output(self._modulated(h, film[:, -1]))
        return y.reshape(len(x), *self.shape).to(x.dtype)

    def _modulated(self, h: Tensor, film: Tensor) -> Tensor:
        scale, shift = film.unbind(1)
        return torch.addcmul(shift, F.layer_norm(h, (self.width,)), 1 + scale)
