"""Matrices in bf16 or int8, everything between them as it was.

Only the weights of linear layers change, and what is multiplied with them: sums over the layers, norms, attention and
probabilities stay in the network's own number type. bf16 keeps 8 bits of each number. int8 has a scale for each row of
a weight and for each position that comes in, so that no answer depends on the batch it was computed in.

Axes: N positions, I numbers in, O numbers out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from obverse.errors import ModelError, nearest
from obverse.models.precision import NUMBER_TYPES

_LARGEST = 127


def set_number_type(model: nn.Module, number_type: str, device: torch.device) -> None:
    """Change the weights of a network's linear layers, in place.

    On an accelerator fp32 and bf16 are the number type of the whole network; int8 is for processors.

    Raises:
        ModelError: there is no such number type, or the device cannot compute with these numbers faster than in fp32.
    """
    if number_type not in NUMBER_TYPES:
        raise ModelError(f"unknown number type {number_type!r}", mend=nearest(number_type, NUMBER_TYPES))
    if device.type != "cpu":
        if number_type == "int8":
            raise ModelError(
                f"int8 weights are for processors, and the model is on {device}",
                where="--number-type",
                mend="Leave it out (bf16 where the device has it), or add --device cpu.",
            )
        model.to(torch.float32 if number_type == "fp32" else torch.bfloat16)
        return
    wanted = {"bf16": _Bf16, "int8": _Int8}.get(number_type)
    if any(isinstance(module, _Lowered) and type(module) is not wanted for module in model.modules()):
        raise ModelError("the weights have another number type already", mend="Load the model again.")
    if number_type == "fp32":
        return
    fast = torch.cpu._is_avx512_bf16_supported() if number_type == "bf16" else torch.cpu._is_vnni_supported()
    if not fast:
        raise ModelError(
            f"this processor has no instructions for {number_type}, which would be slower than fp32",
            where="--number-type",
            mend="Leave it out: fp32 is exact.",
        )
    lower(model, number_type)


def lower(model: nn.Module, number_type: str) -> None:
    """Change the weights of all plain linear layers; layers that somebody has changed before stay as they are."""
    from transformers.pytorch_utils import Conv1D

    kind = _Bf16 if number_type == "bf16" else _Int8
    for module in list(model.modules()):
        if type(module) not in (nn.Linear, Conv1D) or "forward" in vars(module):
            continue
        layer: Any = module
        # GPT-2's linear layer has its weight the other way round.
        weight_OI = (layer.weight if type(module) is nn.Linear else layer.weight.T).detach().float()
        # The same object from here on: whoever holds it, as a head or a tied layer, sees the change.
        layer.__class__ = kind
        layer.adopt(weight_OI, layer.weight.dtype)


class _Lowered(nn.Module):
    """What a linear layer has become. Its bias is as it was.

    Attributes:
        weight: (O, I) in the number type.
        outer: the number type of what comes out: the network's own, even where it has cast what it gives to that of the
            weight, as T5 does.
    """

    weight: Tensor
    bias: Tensor | None
    outer: torch.dtype

    def _with_bias(self, out: Tensor, like: Tensor) -> Tensor:
        if self.bias is not None:
            out = out.add_(self.bias)
        return out.view(*like.shape[:-1], -1).to(self.outer)


class _Bf16(_Lowered):
    def adopt(self, weight_OI: Tensor, outer: torch.dtype) -> None:
        self.outer = outer
        self.weight = nn.Parameter(weight_OI.to(torch.bfloat16), requires_grad=False)

    def forward(self, given: Tensor) -> Tensor:
        out = functional.linear(given.to(torch.bfloat16), self.weight)
        return self._with_bias(out.float(), given)


class _Int8(_Lowered):
    """Attributes:
    scale_O: what the whole numbers of each row of the weight are multiplied with.
    """

    scale_O: Tensor

    def adopt(self, weight_OI: Tensor, outer: torch.dtype) -> None:
        self.outer = outer
        whole_OI, scale_O1 = _rounded(weight_OI)
        self.weight = nn.Parameter(whole_OI, requires_grad=False)
        self.register_buffer("scale_O", scale_O1[:, 0])

    def forward(self, given: Tensor) -> Tensor:
        whole_NI, scale_N1 = _rounded(given.reshape(-1, given.shape[-1]).float())
        out_NO = torch._int_mm(whole_NI, self.weight.T).float()
        return self._with_bias(out_NO.mul_(scale_N1).mul_(self.scale_O), given)


def _rounded(numbers_RI: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers (R, I) of 8 bits, and the scale (R, 1) of each row."""
    scale_R1 = numbers_RI.abs().amax(dim=1, keepdim=True).div_(_LARGEST).clamp_min_(1e-30)
    return (numbers_RI / scale_R1).round_().to(torch.int8), scale_R1
