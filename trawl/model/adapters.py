"""Adapters: frozen vector (N, d) -> adapted vector (N, a). The last layer is linear, so cosines may be negative.

`raw` has no parameters (T's "without adapter"), `linear` is one projection (our control), `mlp` has two layers (K),
`moe` is T's mixture.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trawl.sections_model import Model


class Raw(nn.Module):
    """The standardised vector itself; its width is the encoder's."""

    def __init__(self, width: int, cfg: Model) -> None:
        super().__init__()
        self.out = width

    def forward(self, vectors_ND: Tensor) -> Tensor:
        return vectors_ND


class Projection(nn.Module):
    """One linear layer d -> a."""

    def __init__(self, width: int, cfg: Model) -> None:
        super().__init__()
        self.out = cfg.adapter_dim
        self.layer = nn.Linear(width, self.out)

    def forward(self, vectors_ND: Tensor) -> Tensor:
        return self.layer(vectors_ND)  # type: ignore[no-any-return]


class TwoLayers(nn.Module):
    """d -> h -> a with a ReLU between (K); h is model.expert_hidden, so this is one expert without a gate."""

    def __init__(self, width: int, cfg: Model) -> None:
        super().__init__()
        self.out = cfg.adapter_dim
        self.layers = nn.Sequential(
            nn.Linear(width, cfg.expert_hidden), nn.ReLU(inplace=True), nn.Linear(cfg.expert_hidden, self.out)
        )

    def forward(self, vectors_ND: Tensor) -> Tensor:
        return self.layers(vectors_ND)  # type: ignore[no-any-return]


class MixtureOfExperts(nn.Module):
    """n experts d -> h -> a under a softmax gate (T 3.3; the counts are not given there).

    The experts' layers are stacked, so the whole mixture is two matrix products: as the gate is applied to the hidden
    units of an expert, the second product sums over experts as it goes. Same function, no (N, n, a) tensor.
    """

    def __init__(self, width: int, cfg: Model) -> None:
        super().__init__()
        self.out, self.experts, self.hidden = cfg.adapter_dim, cfg.experts, cfg.expert_hidden
        self.first = nn.Linear(width, self.experts * self.hidden)
        self.gate = nn.Linear(width, self.experts)
        self.second = nn.Parameter(torch.empty(self.experts * self.hidden, self.out))
        self.bias = nn.Parameter(torch.zeros(self.experts, self.out))
        nn.init.uniform_(self.second, -(self.hidden**-0.5), self.hidden**-0.5)

    def load(self, vectors_ND: Tensor) -> Tensor:
        """(N, n) share of each expert."""
        return torch.softmax(self.gate(vectors_ND), dim=-1)

    def forward(self, vectors_ND: Tensor) -> Tensor:
        share = self.load(vectors_ND)
        hidden = torch.relu(self.first(vectors_ND)).view(-1, self.experts, self.hidden) * share.unsqueeze(-1)
        return torch.addmm(share @ self.bias, hidden.flatten(1), self.second)


ADAPTERS: dict[str, Callable[[int, Model], nn.Module]] = {
    "raw": Raw,
    "linear": Projection,
    "mlp": TwoLayers,
    "moe": MixtureOfExperts,
}


class Adapter(nn.Module):
    """An adapter by name, with a learned default vector for entities without text."""

    def __init__(self, width: int, cfg: Model) -> None:
        super().__init__()
        self.body = ADAPTERS[cfg.adapter](width, cfg)
        self.out: int = self.body.out  # type: ignore[assignment]
        self.default = nn.Parameter(torch.zeros(self.out))

    def forward(self, vectors_ND: Tensor, text_N: Tensor) -> Tensor:
        """(N, a)."""
        return torch.where(text_N.unsqueeze(-1), self.body(vectors_ND), self.default)
