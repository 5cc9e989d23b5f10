"""Weights, gradients and the optimizer's state divided among processes, by torch's `fully_shard` (FSDP2).

Each process keeps its share of the rows of every parameter. A layer is gathered whole when it runs, in the forward
and again in the backward pass, and let go afterwards; what is no layer's (embeddings, last norms, head) stays whole
for the length of both. Gradients are added up over the processes as soon as a layer's backward pass is through.

So every pass is a meeting of all processes: whoever has fewer micro-batches in a step makes up for it by passes
of a row that counts nothing.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from obverse.errors import RecipeError
from obverse.models.precision import choose_dtype
from obverse.training.processes import Processes

if TYPE_CHECKING:
    from obverse.training.network import PairNetwork, Row

_WHERE = "model.sharded"
_WITHOUT = "Train without it: sharded = false."


def shard(network: PairNetwork, processes: Processes, *, spare: Row, in_bf16: bool) -> None:
    """Divide the network among the processes, layer by layer, so that no device ever has to hold the whole of it.

    The main process's weights are what all start from. Trained weights become fp32, as in training without this.

    Args:
        network: may lie in main memory, as long as it is whole; this process's share moves to its device.
        spare: a row that the network can run on.
        in_bf16: whether the network multiplies in bf16; without it, everything becomes fp32.

    Raises:
        RecipeError: the network cannot be divided.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    layers = _layers(network)
    _check(network, layers)
    mesh = init_device_mesh(processes.device.type, (processes.count,))
    done: set[int] = set()
    for module in (*layers, network):
        for tensor in (*module.parameters(), *module.buffers()):
            if id(tensor) not in done and not is_share(tensor):
                done.add(id(tensor))
                tensor.data = _placed(tensor, processes.device, in_bf16=in_bf16)
                torch.distributed.broadcast(tensor.data, src=0)
        fully_shard(module, mesh=mesh)
    network.language_model.device = processes.device
    for module in network.modules():
        if isinstance(module, FSDPModule):
            # A loss is divided by counts of all processes already, so their gradients are added, not averaged. Gloo
            # knows no other operation than the plain sum.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    if _has_experts(network):
        # Where each process's tokens choose experts, one may have a gradient that another has not.
        network.set_reduce_scatter_unused_params(True)  # type: ignore[operator]
    # The first pass tells torch which module is the root, and what it gathers into must not be made by scoring, under
    # whose inference mode it could never be trained with.
    with torch.no_grad():
        network([spare])
    network.reshard()  # type: ignore[operator]


def is_sharded(network: nn.Module) -> bool:
    """Whether the network is divided among processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(network, FSDPModule)


def is_share(tensor: Tensor) -> bool:
    """Whether of the tensor this process has some rows alone."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def is_parting(error: RuntimeError) -> bool:
    """Whether the error says that another process is no longer there."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


@contextlib.contextmanager
def views_allowed() -> Iterator[None]:
    """No warning of layers that give a view, as T5's do with their position bias.

    Torch gathers a layer for the backward pass when a gradient reaches anything that it gave, and misses a view that
    was changed in place. What T5 changes in place are the scores that the bias is added to.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
        yield


@contextlib.contextmanager
def ready_to_score(network: nn.Module) -> Iterator[None]:
    """For as long as this lasts, the network's language model can be asked; by all processes, all the same things.

    A language model calls the parts of the network without the network's own forward pass, so what is no layer's has
    to be gathered beforehand. Nothing happens to a network that is not divided.
    """
    if not is_sharded(network):
        yield
        return
    network.unshard()  # type: ignore[operator]
    try:
        yield
    finally:
        network.reshard()  # type: ignore[operator]


def whole(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """The tensors with the rows of all processes, those that were divided in main memory.

    Every process asks for the same ones in the same order.

    Args:
        keep: whether this process wants them; it takes part without, and gets nothing.
    """
    found = {}
    for name, tensor in tensors.items():
        if is_share(tensor):
            full = tensor.detach().full_tensor()  # type: ignore[attr-defined]
            if keep:
                found[name] = full.cpu()
            del full  # on the device there is one of them at a time
        elif keep:
            found[name] = tensor
    return found


def own_rows(tensor: Tensor) -> slice:
    """Which rows of a divided tensor are this process's."""
    mesh: Any = tensor.device_mesh  # type: ignore[attr-defined]
    length, count = tensor.shape[0], mesh.size()
    each = -(-length // count)
    begin = min(length, mesh.get_local_rank() * each)
    return slice(begin, min(length, begin + each))


def own(tensor: Tensor) -> Tensor:
    """This process's rows of a divided tensor, in the same memory."""
    local: Tensor = tensor.detach().to_local()  # type: ignore[attr-defined]
    return local


def divided_like(value: Tensor, like: Tensor) -> Tensor:
    """A copy of this process's rows of a whole value, as those of a divided tensor of the same shape are held."""
    from torch.distributed.tensor import DTensor

    spec: Any = like
    rows = value[own_rows(like)].to(own(like).device, copy=True)
    shared: Tensor = DTensor.from_local(
        rows, spec.device_mesh, spec.placements, run_check=False, shape=value.shape, stride=value.stride()
    )
    return shared


def _layers(network: nn.Module) -> list[nn.Module]:
    """The layers of the outermost lists of them, but for those that share a parameter with anything else."""
    found: list[nn.Module] = []

    def look(module: nn.Module) -> None:
        for child in module.children():
            # A list of plain matrices is often read without being called, and only a call gathers what is divided.
            if isinstance(child, nn.ModuleList) and all(_is_layer(member) for member in child):
                found.extend(child)
            else:
                look(child)

    look(network)
    uses = _uses(network)
    return [layer for layer in dict.fromkeys(found) if all(uses[key] == n for key, n in _uses(layer).items())]


def _is_layer(module: nn.Module) -> bool:
    return next(module.children(), None) is not None and next(module.parameters(), None) is not None


def _uses(module: nn.Module) -> dict[int, int]:
    """Parameter -> under how many names it stands in the module."""
    uses: dict[int, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    return uses


def _check(network: PairNetwork, layers: list[nn.Module]) -> None:
    from torch.distributed.fsdp import FSDPModule

    name = network.language_model.name
    wanted = ["set_gradient_divide_factor", "set_force_sum_reduction_for_comms"]
    if _has_experts(network):
        wanted.append("set_reduce_scatter_unused_params")
    if not all(hasattr(FSDPModule, method) for method in wanted):
        raise RecipeError(
            f"torch {torch.__version__} cannot add up the gradients of divided weights as this needs",
            where=_WHERE,
            mend="pip install --upgrade torch",
        )
    if network.language_model.family == "sentence-encoder":
        # How often it runs for a micro-batch depends on the texts, and the processes would wait for one another.
        raise RecipeError(f"{name} is a sentence encoder, which every device holds whole", where=_WHERE, mend=_WITHOUT)
    if network.compiled:
        raise RecipeError("goes without a compiled body", where=_WHERE, mend="Set compile = false, or this.")
    if not layers:
        raise RecipeError(f"{name} has no list of layers that could be divided", where=_WHERE, mend=_WITHOUT)
    if any(getattr(module, "layerdrop", 0.0) for module in network.modules()):
        raise RecipeError(
            f"{name} leaves out layers by chance, and the processes would wait for one another",
            where=_WHERE,
            mend='Set every "..layerdrop" in its config.json to 0.',
        )
    numbers = [path for path, parameter in network.named_parameters() if not parameter.dim()]
    if numbers:
        raise RecipeError(
            f"{name} has a parameter that is a single number ({numbers[0]}), which cannot be divided",
            where=_WHERE,
            mend=_WITHOUT,
        )


def _has_experts(network: PairNetwork) -> bool:
    config: Any = network.model.config
    parts = (config, *(getattr(config, side, None) for side in ("encoder", "decoder", "text_config")))
    keys = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    return any(getattr(part, key, None) for part in parts for key in keys)


def _placed(tensor: Tensor, device: torch.device, *, in_bf16: bool) -> Tensor:
    """The tensor's numbers on the device, of the type that training without sharding holds them in."""
    kind = tensor.dtype
    if kind.is_floating_point:
        if tensor.requires_grad or not in_bf16:
            kind = torch.float32
        elif isinstance(tensor, nn.Parameter) and kind == torch.float32:
            kind = choose_dtype(device)  # what it is loaded as where the device holds it whole
    return tensor.detach().to(device, kind).contiguous()
