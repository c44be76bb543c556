"""What the caller has set globally changes neither our results nor, after a call, his settings.

PyTorch and NumPy keep settings that every call looks at: the default dtype and device, autocast,
inference mode, the random state, and NumPy's handling of floating-point errors. A public function
that computes is :func:`isolated`: it runs under the settings a fresh interpreter has, and the
caller's are back when it ends. Gradients, threads and determinism stay the caller's.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
_DEVICES = ("cpu", "cuda")  # of which autocast is known
_lock = threading.Lock()
_thread = threading.local()  # .inside: whether this thread is in such a block already
_depth = 0  # calls in progress, in all threads: the default dtype is one for all of these
_found: Any = None  # the caller's default dtype at the first of these calls, if it is another


@contextmanager
def isolation() -> Iterator[None]:
    """Run a block under the settings of a fresh interpreter; inside another one it does nothing."""
    if getattr(_thread, "inside", False):
        yield
        return
    _enter_dtype()
    _thread.inside = True
    try:
        with (
            np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
            ExitStack() as stack,
        ):
            if (torch := sys.modules.get("torch")) is None:  # then it has no settings
                yield
                return
            if torch.is_inference_mode_enabled():
                grad = torch.is_grad_enabled()
                stack.enter_context(torch.inference_mode(False))  # switches gradients on
                stack.enter_context(torch.set_grad_enabled(grad))
            for device in _DEVICES:
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            yield
    finally:
        _thread.inside = False
        _leave_dtype()


def isolated(function: Function) -> Function:
    """Decorate a function, or a generator function, to run under :func:`isolation`."""
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:  # noqa: ANN401
            values = function(*args, **kwargs)
            while True:
                with isolation():  # not around the yield, which is the caller's time
                    try:
                        value = next(values)
                    except StopIteration:
                        return
                yield value

        return cast(Function, generate)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if getattr(_thread, "inside", False):  # as most calls of the ODE's are
            return function(*args, **kwargs)
        with isolation():
            return function(*args, **kwargs)

    return cast(Function, call)


@contextmanager
def own_random_state() -> Iterator[None]:
    """Leave the caller's random numbers of torch as they are: building a network draws some."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


def _enter_dtype() -> None:
    global _depth, _found
    with _lock:
        torch = sys.modules.get("torch")
        if _depth == 0 and torch is not None and torch.get_default_dtype() != torch.float32:
            _found = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _depth += 1


def _leave_dtype() -> None:
    global _depth, _found
    with _lock:
        _depth -= 1
        if _depth == 0 and _found is not None:
            sys.modules["torch"].set_default_dtype(_found)
            _found = None
