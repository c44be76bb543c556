"""What the service does: models by name, each with its speed, and one worker for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gdm_repr.api import GDM, model_preprocess
from gdm_repr.encoding import ERRORS, Encoding
from gdm_repr.ode import Plan
from gdm_repr.serve.worker import Worker
from gdm_repr.solvers import SOLVERS
from gdm_repr.timing import Speed, measure_speed

if TYPE_CHECKING:
    from gdm_repr.data.images import Preprocess
    from gdm_repr.serve.options import ServeConfig
    from gdm_repr.serve.stores import ServedStore

ERROR_PASSES = 4  # encoding, the same by twice the steps, and decoding again
NAMES = [name for error in ERRORS for name in (error, f"{error}_by_group")]
JOINABLE = tuple(name for name in SOLVERS if name != "dopri5")
"""Solvers by which requests can be computed together: dopri5's steps depend on the whole batch."""


@dataclass(frozen=True)
class Served:
    """A model under a name.

    Attributes:
        name: in requests.
        model: the model.
        preprocess: makes image files into x.
        speed: of the default plan.
        place: where it was found, as it was named at the start.
    """

    name: str
    model: GDM
    preprocess: Preprocess
    speed: Speed
    place: str = ""

    @classmethod
    def timed(cls, name: str, model: GDM, most_pixels: int, place: str = "") -> Served:
        """Time a model."""
        preprocess = model_preprocess(model).model_copy(update={"max_pixels": most_pixels})
        return cls(name, model, preprocess, measure_speed(model, model.plan()), place)

    @property
    def fingerprint(self) -> str:
        """The checkpoint's fingerprint."""
        return self.model.checkpoint.fingerprint

    def facts(self) -> dict[str, Any]:
        """Say what the model is."""
        grouping = self.model.grouping
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "shape": list(self.model.shape),
            "latents": [self.model.shape[0], grouping.d],
            "bands": list(grouping.names),
            "order": list(grouping.order),
            "groups": grouping.index.tolist(),
            "place": self.place,
            "device": self.model.device.type,
        }

    def seconds(self, n: int, plan: Plan, passes: int) -> float:
        """Return what n images take alone."""
        evaluations = sum(plan.steps) + len(plan.steps)
        return passes * replace(self.speed, evaluations=evaluations).seconds(n, n)


@dataclass(frozen=True)
class Asked:
    """What a request asks of a model: the model, in an order of generation, and how to solve."""

    served: Served
    model: GDM
    plan: Plan

    @property
    def key(self) -> tuple[str, tuple[int, ...], Plan]:
        """What requests must have in common to be computed together."""
        return (self.served.name, self.model.grouping.order, self.plan)


class Service:
    """Models and their worker.

    Attributes:
        models: by name; the first is the default.
        worker: computes for all of them.
        config: options.
        stores: by name; a model's first one is its default.
    """

    def __init__(
        self,
        models: dict[str, GDM],
        config: ServeConfig,
        *,
        stores: Sequence[ServedStore] = (),
        seen: Callable[[int, float], object] = lambda rows, seconds: None,
    ) -> None:
        """Time the models and start the worker."""
        self.config = config
        self.stores = {store.name: store for store in stores}
        # others need not know the folders of this machine
        known, places = config.is_private, config.models()
        self.models = {
            name: Served.timed(
                name, model, config.most_pixels, places.get(name, name) if known else name
            )
            for name, model in models.items()
        }
        self.worker = Worker(
            batch_size=config.batch_size,
            wait=config.wait_ms / 1000,
            queue_seconds=config.queue_seconds,
            seen=seen,
        )

    def ask(
        self,
        name: str | None,
        steps: int,
        solver: str,
        coordinate: str,
        order: Sequence[int] | None,
    ) -> Asked:
        """Resolve what a request says about the model.

        Raises:
            ValueError: for a model that is not served, or a solver or steps that do not fit.
        """
        served = self.models.get(name or next(iter(self.models)))
        if served is None:
            raise ValueError(f"model={name!r}: not served; there are {', '.join(self.models)}")
        if solver not in JOINABLE:
            raise ValueError(f"solver={solver!r}: must be one of {', '.join(JOINABLE)}")
        if steps > self.config.most_steps:
            raise ValueError(f"steps={steps}: at most {self.config.most_steps} are computed here")
        model = served.model.with_order(order)
        plan = model.plan(steps, solver=solver, coordinate=coordinate)
        return Asked(served, model, plan)

    def stored(self, name: str | None, asked: Asked) -> ServedStore:
        """Return a store of the model that is asked.

        Raises:
            ValueError: for a store that is not served, or another model's.
        """
        served = asked.served.name
        own = [each for each in self.stores.values() if each.served == served]
        if name is None:
            if not own:
                raise ValueError(f"store: no store of the model {served!r} is served; name one")
            return own[0]
        found = self.stores.get(name)
        if found is None:
            raise ValueError(
                f"store={name!r}: not served; there are {', '.join(self.stores) or 'none'}"
            )
        if found.served != served:
            raise ValueError(
                f"store={name!r}: holds latents of the model {found.served!r}, not {served!r}; add "
                f"model={found.served}"
            )
        return found

    def encode(self, asked: Asked, x: Tensor, *, errors: bool) -> Future[dict[str, Tensor]]:
        """Encode x (B, C, H, W); results are ``z``, and with errors those and ``x``, decoded."""
        model, plan = asked.model, asked.plan

        def compute(rows: Tensor) -> dict[str, Tensor]:
            found = model.encode(rows, plan, latent_error=errors, round_trip=errors, check=False)
            assert isinstance(found, Encoding)
            results = {"z": found.z}
            if errors:
                assert found.reconstruction is not None
                results["x"] = found.reconstruction
                results |= {each: getattr(found, each) for each in NAMES}
            return results

        return self._submit("encode", asked, compute, x, ERROR_PASSES if errors else 1, errors)

    def decode(self, asked: Asked, z: Tensor) -> Future[dict[str, Tensor]]:
        """Decode z (B, C, d); the result is ``x``."""
        model, plan = asked.model, asked.plan

        def compute(rows: Tensor) -> dict[str, Tensor]:
            x = model.decode(rows, plan)
            assert isinstance(x, Tensor)
            return {"x": x}

        return self._submit("decode", asked, compute, z, 1)

    def sample(self, asked: Asked, n: int, seed: int) -> Future[dict[str, Tensor]]:
        """Draw n images; number i depends on seed + i alone. The result is ``x``."""
        self.check_count(n)
        return self.decode(asked, asked.model.noise(n, seed=seed))

    def _submit(
        self,
        operation: str,
        asked: Asked,
        compute: Callable[[Tensor], dict[str, Tensor]],
        rows: Tensor,
        passes: int,
        *more: object,
    ) -> Future[dict[str, Tensor]]:
        self.check_count(len(rows))
        seconds = asked.served.seconds(len(rows), asked.plan, passes)
        if seconds > self.config.most_seconds:
            raise ValueError(
                f"{len(rows)} images by {sum(asked.plan.steps)} steps take about {seconds:.0f} "
                f"seconds; at most {self.config.most_seconds:g} are computed here: ask for fewer"
            )
        return self.worker.submit((operation, *asked.key, *more), compute, rows, seconds)

    def check_count(self, n: int) -> None:
        """Refuse more images, or fewer, than a request may have.

        Raises:
            ValueError: if there are.
        """
        if not 1 <= n <= self.config.batch_size:
            raise ValueError(f"{n} images: must be 1 to {self.config.batch_size} in a request")


def encoding_of(asked: Asked, results: dict[str, Tensor]) -> Encoding:
    """Return one request's results as an encoding."""
    errors = {name: results[name] for name in NAMES if name in results}
    z = results["z"]
    return Encoding(
        z, 0, torch.ones(len(z), dtype=torch.bool), **errors, grouping=asked.model.grouping
    )
