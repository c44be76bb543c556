"""Write a model partly in half precision for the package, and measure what that changes.

    python benchmarks/ship.py runs/scenes gdm_repr/assets/scenes.safetensors

The network's large weights become float16, which hold most of the file and bear it best; all else
stays float32, which loading turns the others into again. Held-out scenes are encoded by both
models: printed are the RMS and the largest difference of
latents, and the RMS difference of the images that both decode from the same latents.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gdm_repr import GDM
from gdm_repr.api import model_preprocess
from gdm_repr.checkpoint import find_checkpoint, load_tensors, save_tensors
from gdm_repr.data.loading import open_data

LARGEST_RMS = 1e-3
LARGE = 50_000  # numbers; halving the small ones, too, changes latents 20 times as much


def main() -> int:
    """Write the model and compare; exit with 1 where encodings differ by more than 1e-3."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="scenes", help="what to ship")
    parser.add_argument("out", nargs="?", type=Path, help="file to write; none: compare only")
    parser.add_argument("--data", default="scenes", help="images that are encoded")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="four images")
    options = parser.parse_args()
    n = 4 if options.quick else options.images
    tensors, facts = load_tensors(find_checkpoint(options.model))
    half = {
        name: tensor.half() if name.startswith("network.") and tensor.numel() >= LARGE else tensor
        for name, tensor in tensors.items()
    }
    full_model, half_model = (GDM.from_pretrained(options.model, device="cpu") for _ in range(2))
    weights = {k.removeprefix("network."): v for k, v in half.items() if k.startswith("network.")}
    half_model.denoiser.network.load_state_dict(weights)
    x = open_data(options.data, model_preprocess(full_model), first=n).batch(range(n)).x
    z, z_half = (model.encode(x).z for model in (full_model, half_model))
    rms = float((z - z_half).square().mean().sqrt())
    images = float((full_model.decode(z) - half_model.decode(z)).square().mean().sqrt())
    print(f"{n} images: latents differ by {rms:.1e} RMS, {float((z - z_half).abs().max()):.1e}")
    print(f"at most; images decoded from the same latents by {images:.1e} RMS")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(options.out, half, facts)
        print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")
    return int(rms > LARGEST_RMS)


if __name__ == "__main__":
    raise SystemExit(main())
