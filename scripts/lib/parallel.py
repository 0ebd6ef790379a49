"""Several processes, one to a GPU, when torchrun starts them; a process alone finds nothing to do here.

    torchrun --nproc_per_node=4 scripts/10_ga.py --model ... --out ...

Each process computes its share of the rows of every accumulated batch. Where only the adapter is trained, what they
exchange is small: its gradients and the loss, summed once an update (all_reduce); the update is then the one that a
process alone would make. DistributedDataParallel would average, at every backward pass, and cannot keep the two
gradients of SURE and MemFlex apart. A model too large for one GPU is shared out by FSDP2
(torch.distributed.fsdp.fully_shard): a process keeps its part of every layer's weights and gathers a layer while it
computes; where all weights are trained, it sums a layer's gradients in the backward pass and keeps its part of them
too. The adapter, the embeddings and the output layer stay whole in each.
"""

import itertools
import os
import sys

from lib.files import fail

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

MESSAGE = 2**26  # numbers summed at once: all gradients of an adapter, a few matrices of a model


def _number(name, default=None):
    """A whole number that torchrun puts into the environment."""
    value = os.environ.get(name, default)
    return (
        int(value)
        if value is not None and value.isdecimal()
        else fail(f"{name}={value}: torchrun sets this to a whole number")
    )


rank, count = 0, 1
if "LOCAL_RANK" in os.environ:  # torchrun's; a cluster sets the other two for its own purposes as well
    rank, count = _number("RANK", "0"), _number("WORLD_SIZE", "1")
first = rank == 0  # it alone writes, prints and shows progress


def begin():
    """Joins the other processes: NCCL between GPUs, Gloo between CPUs."""
    if "LOCAL_RANK" not in os.environ or dist.is_initialized():
        return
    gpus, local = torch.cuda.device_count(), _number("LOCAL_RANK")
    if gpus:
        if local >= gpus:
            fail(f"no GPU for process {local + 1}, this machine has {gpus}: start no more with --nproc_per_node")
        torch.cuda.set_device(local)
    try:
        dist.init_process_group("nccl" if gpus else "gloo")
    except ValueError as error:  # what torchrun sets is missing or no number
        fail(f"cannot join the other processes: {str(error).splitlines()[0]}; start them with torchrun")


def end():
    """Parts from the other processes; what follows takes no part in their work."""
    if dist.is_initialized():
        dist.destroy_process_group()


def say(text, file=None):
    """Prints a line, once."""
    if first:
        print(text, file=file or sys.stderr)


def place(model, device, shard="ddp", full=False):
    """Puts a model from host memory on the device: whole, or with several processes and --shard fsdp, this one's part
    of it.

    Args:
        full: all its weights are to be trained: with gradients, Adam's moments and float32 copies.
    """
    weights = list(model.parameters())
    size = sum(one.numel() * (20 if one.element_size() < 4 else 16) if full else one.nbytes for one in weights)
    fits = device.type == "cpu" or size <= 0.6 * torch.cuda.get_device_properties(device).total_memory
    if dist.is_initialized() and (shard == "fsdp" or shard == "auto" and not fits and count > 1):
        causal, mesh = (
            model.get_base_model() if hasattr(model, "peft_config") else model,
            init_device_mesh(device.type, (count,)),
        )
        adapter = {parameter for name, parameter in model.named_parameters() if "lora_" in name}
        policy = MixedPrecisionPolicy(reduce_dtype=torch.float32 if full else None)
        for layer in [module for module in causal.modules() if type(module).__name__ in causal._no_split_modules]:
            # moves one layer to the device and keeps its part
            fully_shard(layer, mesh=mesh, ignored_params=adapter, mp_policy=policy)
            layer.set_force_sum_reduction_for_comms(True)
            layer.set_gradient_divide_factor(1.0)  # gradients of parts of one mean: they add up
        fully_shard(
            causal.get_decoder(), mesh=mesh, ignored_params=set(model.parameters())
        )  # none of its own: it leads its layers
    return model.to(device)


def sharded(model):
    """Does each process hold only a part of it, so that all must compute at the same time?"""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def shared_out(tensor):
    """Does each process hold only a part of it?"""
    return isinstance(tensor, DTensor)


def part(tensor):
    """What this process holds of a tensor: its part, or all of it."""
    return tensor.to_local() if shared_out(tensor) else tensor


def whole(part, like):
    """All of a tensor that is shared out as `like` is, from each process's part; all take part at the same time."""
    if not shared_out(like):
        return part
    sizes = {"shape": like.shape, "stride": like.stride()}
    return DTensor.from_local(part, like.device_mesh, like.placements, **sizes).full_tensor()


def own_part(tensor, like):
    """This process's part of a whole tensor that every process has, shared out as `like` is."""
    if not shared_out(like):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None).to_local()


def add_up(tensors):
    """Replaces each of a list of tensors by its sum over all processes, in messages of about MESSAGE numbers."""
    while count > 1 and tensors:
        sums = itertools.accumulate(tensor.numel() for tensor in tensors)
        taken = max(1, sum(size <= MESSAGE for size in sums))
        some, tensors = tensors[:taken], tensors[taken:]
        numbers = torch.cat([tensor.flatten() for tensor in some])
        dist.all_reduce(numbers)
        for tensor, summed in zip(some, numbers.split([tensor.numel() for tensor in some]), strict=True):
            tensor.copy_(summed.view_as(tensor))


def gathered(found):
    """The dicts of all processes in one, in every process; of equal keys the one of the first process that has it."""
    parts = [found] * count
    if count > 1:
        dist.all_gather_object(parts, found)
    return {key: value for part in reversed(parts) for key, value in part.items()}
