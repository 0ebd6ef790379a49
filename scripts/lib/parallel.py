"""Several processes, one to a GPU, when torchrun starts them; a process alone finds nothing to do here.

    torchrun --nproc_per_node=4 scripts/10_ga.py --model ... --out ...

Each process computes its share of the rows of every accumulated batch. Only the adapter is trained, so what they
exchange is small: its gradients and the loss, summed once an update (all_reduce); the update is then the one that a
process alone would make. DistributedDataParallel would average, at every backward pass, and cannot keep the two
gradients of SURE and MemFlex apart. A model too large for one GPU is shared out by FSDP2
(torch.distributed.fsdp.fully_shard): a process keeps its part of every layer's frozen weights and gathers a layer
while it computes. The adapter, the embeddings and the output layer stay whole in each.
"""

import os
import sys

from lib.files import fail

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard


def _number(name, default=None):
    """A whole number that torchrun puts into the environment."""
    value = os.environ.get(name, default)
    return (
        int(value)
        if value is not None and value.isdecimal()
        else fail(f"{name}={value}: torchrun sets this to a whole number")
    )


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


def place(model, device, shard="ddp"):
    """Puts a model from host memory on the device: whole, or with several processes and --shard fsdp, this one's part
    of it.
    """
    size = sum(parameter.nbytes for parameter in model.parameters())
    fits = device.type == "cpu" or size <= 0.6 * torch.cuda.get_device_properties(device).total_memory
    if dist.is_initialized() and (shard == "fsdp" or shard == "auto" and not fits and count > 1):
        causal, mesh = (
            model.get_base_model() if hasattr(model, "peft_config") else model,
            init_device_mesh(device.type, (count,)),
        )
        adapter = {parameter for name, parameter in model.named_parameters() if "lora_" in name}
        for layer in [module for module in causal.modules() if type(module).__name__ in causal._no_split_modules]:
            fully_shard(layer, mesh=mesh, ignored_params=adapter)  # moves one layer to the device and keeps its part
        fully_shard(
            causal.get_decoder(), mesh=mesh, ignored_params=set(model.parameters())
        )  # none of its own: it leads its layers
    return model.to(device)


def sharded(model):
    """Does each process hold only a part of it, so that all must compute at the same time?"""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def add_up(tensors):
    """Replaces each of a list of tensors by its sum over all processes, in one message."""
    if count > 1:
        whole = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(whole)
        for tensor, part in zip(tensors, whole.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def gathered(found):
    """The dicts of all processes in one, in every process; of equal keys the one of the first process that has it."""
    parts = [found] * count
    if count > 1:
        dist.all_gather_object(parts, found)
    return {key: value for part in reversed(parts) for key, value in part.items()}
