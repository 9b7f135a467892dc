"""Where the random numbers of every process have got to."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor


def random_state(accelerator: Accelerator) -> Tensor:
    """Torch's generators of each process: (processes, bytes)."""
    state = torch.get_rng_state()
    if accelerator.device.type == "cuda":
        state = torch.cat([state, torch.cuda.get_rng_state(accelerator.device)])
    return accelerator.gather(state[None].to(accelerator.device)).cpu()


def set_random_state(accelerator: Accelerator, states: Tensor) -> None:
    """Takes up what `random_state` gave, in as many processes."""
    state = states[accelerator.process_index].clone()  # torch would read the first one of a view
    host = len(torch.get_rng_state())
    torch.set_rng_state(state[:host])
    if accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(state[host:], accelerator.device)
