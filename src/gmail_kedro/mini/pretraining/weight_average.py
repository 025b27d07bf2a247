"""A running average of the weights, kept beside the optimizer's moments so that a checkpoint holds it too."""

import torch

EMA_DECAY = 0.999


@torch.no_grad()
def update_averages(optimizer: torch.optim.Optimizer, index: int) -> None:
    """Moves every parameter's running average towards it; call once after each step."""
    decay = min(EMA_DECAY, (index + 1) / (index + 10))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            average = optimizer.state[parameter].setdefault("average", parameter.detach().clone())
            average.lerp_(parameter, 1 - decay)


@torch.no_grad()
def swap_averages(optimizer: torch.optim.Optimizer) -> None:
    """Exchanges every parameter with its running average."""
    for parameter, state in optimizer.state.items():
        kept = parameter.detach().clone()
        parameter.copy_(state["average"])
        state["average"].copy_(kept)
