"""Options of the networks, one frozen pydantic model each; importing them does not import torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class NetworkConfig(BaseModel):
    """Hold what every network's options have in common.

    Attributes:
        name: Key of the network in `gdm_repr.models.NETWORKS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str


class DDPMppConfig(NetworkConfig):
    """Options of the DDPM++ U-Net; the defaults are the CIFAR-10 setting of Karras et al. (2022).

    Attributes:
        channels: Model channels C; a level with multiplier k has k * C channels.
        multipliers: One per resolution, finest first; each further one halves height and width.
        blocks: Residual blocks per resolution in the encoder; the decoder has one more.
        attention: Resolutions (the longer side, in pixels; in patches, where there are some) whose
            blocks attend over positions. The bottleneck always does.
        dropout: Probability of dropping a hidden activation during training.
        patch: Side of the square of pixels that the finest level sees as one position; 1 is the
            paper's network, 2 costs about a quarter of it.
    """

    name: Literal["ddpmpp"] = "ddpmpp"
    channels: Annotated[int, Field(ge=4, le=65_536, multiple_of=4)] = 128
    multipliers: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=16)
    ] = (2, 2, 2)
    blocks: Annotated[int, Field(ge=1, le=1000)] = 4
    attention: tuple[Annotated[int, Field(ge=1, le=16_384)], ...] = (16,)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.13
    patch: Annotated[int, Field(ge=1, le=1024)] = 1


class MLPConfig(NetworkConfig):
    """Options of the residual MLP.

    Attributes:
        width: Hidden units per layer.
        depth: Residual blocks, two linear layers each.
    """

    name: Literal["mlp"] = "mlp"
    width: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    depth: Annotated[int, Field(ge=1, le=10_000)] = 4
