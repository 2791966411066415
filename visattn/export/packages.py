"""The packages that ONNX files need."""

from __future__ import annotations

from importlib.util import find_spec

from visattn.types import UsageError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_packages() -> None:
    """Refuse to go on without the packages of the extra ``export``.

    Raises:
        UsageError: some are missing, each named.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX export needs {', '.join(missing)}: pip install 'visattn[export]'")
