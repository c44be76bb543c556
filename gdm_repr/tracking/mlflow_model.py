"""The model that MLflow loads: images in, latents out (a "model from code").

MLflow keeps this script and the checkpoint; the method itself comes from the installed package, so
that a logged model needs no pickle and no copy of our code.
"""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class LatentEncoder(PythonModel):
    """Encode images with a Groupwise Diffusion Model."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the safetensors checkpoint."""
        from gdm_repr import GDM

        self._model = GDM.from_pretrained(context.artifacts["checkpoint"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,  # bare: MLflow warns of hints that its schemas cannot express
        params: dict[str, Any] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Encode images (n, C, H, W) in [-1, 1] to latents (n, C, d) in basis order, on the CPU.

        Raises:
            ValueError: for another shape, no floats, or values that can't be such images.
        """
        z: npt.NDArray[np.float32] = self._model.encode(model_input).z.cpu().numpy()
        return z


mlflow.models.set_model(LatentEncoder())
