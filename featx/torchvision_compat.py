"""Import torchvision (and timm, which imports it) even where its compiled operators do not load.

A CPU-only torch beside a torchvision that was built for CUDA cannot load torchvision's extension.
Its import then fails with ``RuntimeError: operator torchvision::nms does not exist``, because
``torchvision/_meta_registrations.py`` registers shape functions for operators that were never
declared. featx uses none of them. So on that very error, and on no other, the missing operators are
declared without a kernel and the import is tried again; calling one of them still fails. Where
torchvision imports by itself no operator is touched.

torchvision also imports torch's compiler, for a function that only pooling boxes calls: a second of
every start. A stand-in that imports it when something of it is asked for is there meanwhile.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

_MISMATCH = re.compile(r"operator torchvision::\w+ does not exist")
_REGISTRATION = re.compile(r"""register_fake\(\s*["']torchvision::(\w+)["']""")

_COMPILER = "torch._dynamo.utils"

_lock = threading.RLock()
# Declarations last as long as the Library object that made them.
_libraries: list[Any] = []
_declared: list[str] = []


@dataclass(frozen=True)
class Health:
    """How torchvision does on this machine.

    Attributes
    ----------
    ok : bool
        False where torchvision does not import by itself, or not at all.
    detail : str
        One line for ``featx doctor``: the version, what is wrong and what to do.
    """

    ok: bool
    detail: str


def import_torchvision() -> ModuleType:
    """Return the ``torchvision`` module, declaring operators it could not load if it must.

    Returns
    -------
    module
        The same module on every call, from any thread.

    Raises
    ------
    Exception
        Whatever importing torchvision raises, unless it is the missing-operator error.
    """
    with _lock, _compiler_left_out():
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            if not _MISMATCH.search(str(error)):
                raise
        _forget_half_imported()
        _declare_missing_operators()
        return importlib.import_module("torchvision")


@contextlib.contextmanager
def _compiler_left_out() -> Iterator[None]:
    """Let ``torch._dynamo.utils`` be imported in name only, while the ``with`` block lasts."""
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = ModuleType(_COMPILER)

    def real(attribute: str) -> Any:
        if attribute.startswith("__"):
            # The import itself asks: is it a package?
            raise AttributeError(attribute)
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]
        return getattr(importlib.import_module(_COMPILER), attribute)

    def is_compile_supported(device_type: str) -> bool:
        return bool(real("is_compile_supported")(device_type))

    # torchvision takes the function; whoever asks for anything else gets it from the module itself.
    vars(stand_in).update(is_compile_supported=is_compile_supported, __getattr__=real)
    sys.modules[_COMPILER] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


def import_timm() -> ModuleType:
    """Return the ``timm`` module; torchvision is imported first, as `import_torchvision` does."""
    with _lock:
        import_torchvision()
        return importlib.import_module("timm")


def torchvision_health() -> Health:
    """Return whether torchvision works here by itself, and what to do if it does not."""
    try:
        torchvision = import_torchvision()
    except Exception as error:
        return Health(
            False,
            f"torchvision does not import ({type(error).__name__}: {error}). "
            "Install the torchvision that belongs to your torch.",
        )
    version = getattr(torchvision, "__version__", "?")
    if _declared:
        return Health(
            False,
            f"torchvision {version} was built for another torch: its operators "
            f"({', '.join(_declared)}) do not load. featx works around it; other programs may "
            "not. To mend it, install torch and torchvision from the same index.",
        )
    return Health(True, f"torchvision {version}")


def _forget_half_imported() -> None:
    """Remove what a failed import left of torchvision in ``sys.modules``."""
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]


def _declare_missing_operators() -> None:
    """Declare, without a kernel, the operators that torchvision's registrations ask for."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _registered_names():
        if not hasattr(torch.ops.torchvision, name):
            # Nobody calls it: the signature only has to parse.
            library.define(f"{name}(Tensor self) -> Tensor")
            _declared.append(name)
    _libraries.append(library)


def _registered_names() -> list[str]:
    """Return the operators the installed torchvision registers shape functions for."""
    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec is not None else None
    names: list[str] = []
    for folder in folders or ():
        source = Path(folder, "_meta_registrations.py")
        if source.is_file():
            names += _REGISTRATION.findall(source.read_text(encoding="utf-8"))
    return names
