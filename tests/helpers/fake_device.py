"""
An accelerator that lies in main memory: it computes what the CPU computes and refuses what CUDA refuses.

For tests of device placement without a GPU. A tensor of this device wraps one of the CPU; an operation on tensors of
both devices raises, but for copies, single numbers, and indices of the CPU, which CUDA takes too. The registration of
a backend cannot be undone, so this is for processes of their own (`run_on_fake_device.py`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


class _Backend(_DummyBackendModule):
    """What torch asks a device for: its random state and number formats are the CPU's."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float32]

    def get_rng_state(self, _: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, _: Any = None) -> None:
        torch.set_rng_state(state)

    def device(self, _: Any) -> Any:
        return nullcontext()


NAME = "fake"
_setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
DEVICE = torch.device(NAME, 0)
_COPIES = {"aten::_to_copy", "aten::copy_", "aten::_copy_from"}
# Their first argument decides; indices may come from the CPU.
_INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


def _is_here(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


class FakeTensor(torch.Tensor):
    """A tensor of the device; `on_host` holds its values."""

    on_host: torch.Tensor

    @staticmethod
    def __new__(cls, on_host: torch.Tensor) -> FakeTensor:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            on_host.size(),
            strides=on_host.stride(),
            storage_offset=on_host.storage_offset(),
            dtype=on_host.dtype,
            device=DEVICE,
        )

    def __init__(self, on_host: torch.Tensor) -> None:
        self.on_host = on_host

    def __repr__(self) -> str:  # type: ignore[override]
        return f"FakeTensor({self.on_host!r})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["on_host"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], *_: Any) -> FakeTensor:
        return FakeTensor(inner["on_host"])

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        copied: torch.Tensor = FakeTensor(self.on_host.detach().clone())
        if isinstance(self, torch.nn.Parameter) or getattr(self, "_is_param", False):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __getitem__(self, index: Any) -> torch.Tensor:
        return super().__getitem__(_with_index_tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(value, torch.Tensor):
            value = torch.full((), value, dtype=self.dtype, device=DEVICE)
        super().__setitem__(_with_index_tensors(index), value)

    @property  # type: ignore[override]
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        assert isinstance(value, FakeTensor)
        self.on_host = value.on_host

    def new_tensor(self, data: Any, **options: Any) -> torch.Tensor:
        return torch.tensor(data, **{"dtype": self.dtype, "device": DEVICE, **options})

    def tolist(self) -> Any:
        return self.on_host.detach().tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"A tensor of {DEVICE} cannot become an array of numpy: use `cpu()` first.")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _with_index_tensors(index: Any) -> Any:
    """Make tensors of the lists in an index: torch would make them on the device, past the dispatch."""
    if isinstance(index, tuple):
        return tuple(map(_with_index_tensors, index))
    # Without a type, an empty list would be one of floats.
    return torch.tensor(index, dtype=None if index else torch.long) if isinstance(index, list) else index


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, target = func._schema.name, kwargs.get("device")
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    here = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
    on_host = [tensor for tensor in tensors if not isinstance(tensor, FakeTensor) and tensor.dim() > 0]
    if name in _INDEXED:
        mixed = bool(here) and not isinstance(args[0], FakeTensor)
    else:
        mixed = bool(here and on_host) and name not in _COPIES
    if mixed:
        shapes = [(str(tensor.device), tuple(tensor.shape)) for tensor in tensors]
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got {shapes}")
    inputs, options = tree_map_only(FakeTensor, lambda tensor: tensor.on_host, (args, kwargs))
    if target is not None:
        options["device"] = torch.device("cpu")
    options.pop("pin_memory", None)
    out = func(*inputs, **options)
    if name in ("aten::copy_", "aten::index_put_"):
        return args[0]
    if name == "aten::_local_scalar_dense" or not (_is_here(target) or (here and target is None)):
        return out
    out = tree_map_only(torch.Tensor, lambda t: t if isinstance(t, FakeTensor) else FakeTensor(t), out)
    return return_and_correct_aliasing(func, args, kwargs, out) if here else out


class _Factories(TorchDispatchMode):
    """Tensors that are made on the device, of which no argument is there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_here = any(issubclass(kind, FakeTensor) for kind in types) or _is_here(kwargs.get("device"))
        return _run(func, args, kwargs) if is_here else func(*args, **kwargs)


def _made_on_host(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Let a function that reads Python values make its tensor on the CPU first: it goes past the dispatch."""

    @functools.wraps(make)
    def made(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        if _is_here(device):
            return make(*args, **kwargs).to(DEVICE)
        return make(*args, **kwargs) if device is None else make(*args, device=device, **kwargs)

    return made


@contextmanager
def fake_device() -> Iterator[torch.device]:
    """Let tensors be made on the device, and let accelerate place on it what a run does not place itself."""
    from accelerate.state import AcceleratorState

    own = torch.tensor, torch.as_tensor
    torch.tensor, torch.as_tensor = map(_made_on_host, own)
    os.environ["ACCELERATE_TORCH_DEVICE"] = str(DEVICE)
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with _Factories():
            yield DEVICE
    finally:
        torch.tensor, torch.as_tensor = own
        del os.environ["ACCELERATE_TORCH_DEVICE"]
        AcceleratorState._reset_state(reset_partial_state=True)
