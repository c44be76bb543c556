"""The DDPM++ U-Net of Song et al. (2021), in the configuration of Karras et al. (2022).

An encoder of residual blocks halves the resolution between levels, a bottleneck attends over all
positions, and a decoder that receives every encoder activation climbs back:

    encoder     input conv; per level one halving block (not at the finest), then n blocks
    bottleneck  a block with attention, a block without
    decoder     per level one doubling block (not at the coarsest), then n + 1 blocks, each fed
                with the matching encoder activation beside its own input
    output      group norm, SiLU, conv

A halving averages 2 x 2 pixels and a doubling repeats them, the resampling filter [1, 1]. With
patches, a square of pixels is one position: the input conv reads and the output conv writes its
pixels as channels.
"""

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdm_repr.models.config import DDPMppConfig
from gdm_repr.models.embedding import LevelEmbedding

SKIP_SCALE = math.sqrt(0.5)  # keeps the variance of a sum of two unit-variance branches
TINY = 1e-5  # gain of last convolutions: at first every block is nearly its skip path
ATTENTION_GAIN = math.sqrt(0.2)


def _conv(c_in: int, c_out: int, kernel: int, gain: float = 1.0) -> nn.Conv2d:
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)
    nn.init.xavier_uniform_(conv.weight, gain=gain)
    nn.init.zeros_(cast(Tensor, conv.bias))
    return conv


def _norm(channels: int) -> nn.GroupNorm:
    """Return a group norm of min(32, C // 4) groups, or the next smaller number that divides C."""
    groups = max(1, min(32, channels // 4))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=1e-6)


class Attention(nn.Module):
    """Attend over positions with one head and add the result to the input."""

    def __init__(self, channels: int) -> None:
        """Build attention over inputs of the given channels."""
        super().__init__()
        self.norm = _norm(channels)
        self.qkv = _conv(channels, 3 * channels, 1, gain=ATTENTION_GAIN)
        self.proj = _conv(channels, channels, 1, gain=TINY)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        B, C, H, W = x.shape
        # In channels-last memory these reshapes move nothing.
        qkv = self.qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(B, 1, H * W, 3 * C)
        q, k, v = qkv.chunk(3, dim=3)
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.reshape(B, H, W, C).permute(0, 3, 1, 2)
        return cast(Tensor, (self.proj(y) + x) * SKIP_SCALE)


class Block(nn.Module):
    """A residual block that adds the noise embedding between its two convolutions."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        width: int,
        dropout: float,
        *,
        attention: bool = False,
        resample: Literal["up", "down"] | None = None,
    ) -> None:
        """Build the block.

        Args:
            c_in: Input channels.
            c_out: Output channels.
            width: Size of the noise embedding.
            dropout: Probability of dropping a hidden activation.
            attention: Whether attention follows.
            resample: Double ("up") or halve ("down") the resolution.
        """
        super().__init__()
        self.resample = resample
        self.norm0 = _norm(c_in)
        self.conv0 = _conv(c_in, c_out, 3)
        self.affine = nn.Linear(width, c_out)
        nn.init.xavier_uniform_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)
        self.norm1 = _norm(c_out)
        self.dropout = nn.Dropout(dropout)
        self.conv1 = _conv(c_out, c_out, 3, gain=TINY)
        changes = c_in != c_out or resample is not None
        self.skip = _conv(c_in, c_out, 1) if changes else nn.Identity()
        self.attention = Attention(c_out) if attention else nn.Identity()

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (B, c_in, H, W) and embedding (B, width) to (B, c_out, H', W')."""
        h = self.conv0(self._resampled(F.silu(self.norm0(x))))
        h = h + self.affine(embedding)[:, :, None, None]
        h = self.conv1(self.dropout(F.silu(self.norm1(h))))
        return cast(Tensor, self.attention((h + self.skip(self._resampled(x))) * SKIP_SCALE))


class DecoderLevel(nn.Module):
    """The decoder's blocks of one resolution."""

    def __init__(self, enter: list[Block], blocks: list[Block]) -> None:
        """Build the level.

        Args:
            enter: Blocks that lead into it: the bottleneck at the coarsest, else one doubling.
            blocks: Blocks that each take one more encoder activation.
        """
        super().__init__()
        self.enter = nn.ModuleList(enter)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, h: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        """Map h (B, C, H, W) to the level's output, consuming the last of the skips."""
        for block in self.enter:
            h = block(h, embedding)
        for block in self.blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        return h


class DDPMpp(nn.Module):
    """The DDPM++ U-Net, for any height and width that can be halved between its levels."""

    def __init__(
        self,
        config: DDPMppConfig,
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
            shape: Height and width, multiples of patch * 2^(number of multipliers - 1).
            levels: m, how many noise levels it is told.

        Raises:
            ValueError: If height or width cannot be halved often enough.
        """
        super().__init__()
        factor = config.patch * 2 ** (len(config.multipliers) - 1)
        if shape[0] % factor or shape[1] % factor:
            raise ValueError(
                f"shape {tuple(shape)} does not fit {len(config.multipliers)} multipliers and "
                f"patch {config.patch}: height and width must be multiples of {factor}; use fewer "
                "multipliers, a smaller patch or another size"
            )
        width = 4 * config.channels
        self.embedding = LevelEmbedding(levels, config.channels, width)
        for linear in (self.embedding.linear0, self.embedding.linear1):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

        channels = [config.channels * multiplier for multiplier in config.multipliers]
        finest = max(shape) // config.patch
        attends = [finest >> level in config.attention for level in range(len(channels))]

        self.patch = config.patch
        self.input = _conv(in_channels * config.patch**2, config.channels, 3)
        c, skips, encoder = config.channels, [config.channels], []
        for level, c_out in enumerate(channels):
            if level > 0:
                encoder.append(Block(c, c, width, config.dropout, resample="down"))
                skips.append(c)
            for _ in range(config.blocks):
                encoder.append(Block(c, c_out, width, config.dropout, attention=attends[level]))
                c = c_out
                skips.append(c)
        self.encoder = nn.ModuleList(encoder)

        decoder = []
        for level, c_out in reversed(list(enumerate(channels))):
            if level == len(channels) - 1:
                enter = [
                    Block(c, c, width, config.dropout, attention=True),
                    Block(c, c, width, config.dropout),
                ]
            else:
                enter = [Block(c, c, width, config.dropout, resample="up")]
            blocks = []
            for i in range(config.blocks + 1):
                last = attends[level] and i == config.blocks
                blocks.append(Block(c + skips.pop(), c_out, width, config.dropout, attention=last))
                c = c_out
            decoder.append(DecoderLevel(enter, blocks))
        assert not skips
        self.decoder = nn.ModuleList(decoder)
        self.output_norm = _norm(c)
        self.output = _conv(c, out_channels * config.patch**2, 3, gain=TINY)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        """Map x (B, C_in, H, W) and levels (B, m) in [0, 1] to (B, C_out, H, W), in x's dtype."""
        embedding = self.embedding(levels)
        h = F.pixel_unshuffle(x, self.patch)
        h = self.input(h.contiguous(memory_format=torch.channels_last))
        skips = [h]
        for block in self.encoder:
            h = block(h, embedding)
            skips.append(h)
        for level in self.decoder:
            h = level(h, embedding, skips)
        y = F.pixel_shuffle(self.output(F.silu(self.output_norm(h))), self.patch)
        return y.to(x.dtype)
