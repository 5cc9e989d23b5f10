"""Device and number type, chosen by what the machine can do.

T5 overflows in fp16 on every device, and a processor without native bf16 multiplies bf16 matrices some hundred times
slower than fp32. So: bf16 on a CUDA device that has it in hardware, fp32 everywhere else, fp16 never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obverse.errors import ModelError

if TYPE_CHECKING:
    import torch

NUMBER_TYPES = ("fp32", "bf16", "int8")
"""Of weights. Those a user asks for by name; without, a device's own (`choose_dtype`)."""


def choose_device(device: str | None = None) -> torch.device:
    """The device asked for, or the best one present: cuda, then mps, then cpu.

    Raises:
        ModelError: there is no such device here.
    """
    import torch

    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device is None:
        return torch.device(next(name for name, here in present.items() if here))
    here = [name for name in present if present[name]]
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ModelError(f"{device!r} is not a device", mend=f"Write one of: {', '.join(here)}.") from None
    if not present.get(chosen.type, False):
        raise ModelError(f"this machine has no {chosen.type!r} device", mend=f"Write one of: {', '.join(here)}.")
    if chosen.type == "cuda" and chosen.index is not None and chosen.index >= torch.cuda.device_count():
        raise ModelError(
            f"this machine has no device {device!r}", mend=f"It has {torch.cuda.device_count()}, counted from 0."
        )
    return chosen


def choose_dtype(device: torch.device) -> torch.dtype:
    """bf16 on a CUDA device with bf16 in hardware, else fp32."""
    import torch

    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32
