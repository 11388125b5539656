"""Optimisers and learning rates.

An optimiser is a function of the parameter groups (``parameters``) and of the facts ``lr``, ``momentum`` and
``nesterov`` that returns a torch optimiser. The learning rate of each step comes from ``schedule.learning_rate``.

Example:
    >>> import torch
    >>> from divaug import OPTIM
    >>> groups = [{"params": [torch.nn.Parameter(torch.zeros(3))], "weight_decay": 5e-4}]
    >>> facts = {"parameters": groups, "lr": 0.1, "momentum": 0.9, "nesterov": True}
    >>> optimiser = OPTIM.build("sgd", facts=facts)
    >>> type(optimiser).__name__, optimiser.param_groups[0]["lr"]
    ('SGD', 0.1)
"""
