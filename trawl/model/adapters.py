"""Adapters: frozen vector (N, d) -> adapted vector (N, a). The last layer is linear, so cosines may be negative.

`raw` has no parameters (T's "without adapter"), `linear` is one projection (our control), `mlp` has two layers (K),
`moe` is T's mixture, `hybrid` R's: experts of both sides beside experts of one. With `expert_last = relu` an expert
ends in a ReLU, as in KAR's code.

An entity with vectors of several sources has an adapter for each, and their outputs stand side by side or are summed
under a gate.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trawl.errors import ConfigError
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


class Experts(nn.Module):
    """n experts d -> h -> a, summed with given weights.

    Their layers are stacked, so that with a linear end the whole sum is two matrix products: as the weights are applied
    to the hidden units of an expert, the second product sums over experts as it goes. Same function, no (N, n, a)
    tensor. A ReLU at the end needs that tensor.
    """

    def __init__(self, width: int, count: int, cfg: Model) -> None:
        super().__init__()
        self.out, self.count, self.hidden = cfg.adapter_dim, count, cfg.expert_hidden
        self.relu = cfg.expert_last == "relu"
        self.first = nn.Linear(width, count * self.hidden)
        self.second = nn.Parameter(torch.empty(count * self.hidden, self.out))
        self.bias = nn.Parameter(torch.zeros(count, self.out))
        nn.init.uniform_(self.second, -(self.hidden**-0.5), self.hidden**-0.5)

    def forward(self, vectors_ND: Tensor, share_NE: Tensor) -> Tensor:
        """(N, a)."""
        hidden = torch.relu(self.first(vectors_ND)).view(-1, self.count, self.hidden)
        if not self.relu:
            weighted = hidden * share_NE.unsqueeze(-1)
            return torch.addmm(share_NE @ self.bias, weighted.flatten(1), self.second)
        layers = self.second.view(self.count, self.hidden, self.out)
        each_ENA = torch.baddbmm(self.bias.unsqueeze(1), hidden.transpose(0, 1), layers)
        return torch.einsum("ena,ne->na", torch.relu(each_ENA), share_NE)


class MixtureOfExperts(nn.Module):
    """n experts under a softmax gate (T 3.3; the counts are not given there)."""

    def __init__(self, width: int, cfg: Model) -> None:
        super().__init__()
        self.out = cfg.adapter_dim
        self.experts = Experts(width, cfg.experts, cfg)
        self.gate = nn.Linear(width, cfg.experts)

    def load(self, vectors_ND: Tensor) -> Tensor:
        """(N, n) share of each expert."""
        return torch.softmax(self.gate(vectors_ND), dim=-1)

    def forward(self, vectors_ND: Tensor) -> Tensor:
        return self.experts(vectors_ND, self.load(vectors_ND))  # type: ignore[no-any-return]


class HybridExperts(nn.Module):
    """Shared and dedicated experts under one softmax gate over both (R eq. 2).

    In R's line for items the second sum must run over the items' dedicated experts. The shared experts are those of
    another side's adapter, given as `shared`, or new ones that this adapter owns: a parameter stands in one place of
    the model, and both sides' losses train it.
    """

    def __init__(self, width: int, cfg: Model, shared: Experts | None = None) -> None:
        super().__init__()
        self.out = cfg.adapter_dim
        self.split = [cfg.shared_experts, cfg.dedicated_experts]
        self.shared = Experts(width, cfg.shared_experts, cfg) if shared is None else None
        self._others = [] if shared is None else [shared]  # in a list: torch does not take it for a part of this one
        self.own = Experts(width, cfg.dedicated_experts, cfg)
        self.gate = nn.Linear(width, sum(self.split))

    @property
    def common(self) -> Experts:
        """The shared experts, whoever owns them."""
        return self._others[0] if self.shared is None else self.shared

    def load(self, vectors_ND: Tensor) -> Tensor:
        """(N, shared + dedicated) share of each expert, the shared ones first."""
        return torch.softmax(self.gate(vectors_ND), dim=-1)

    def forward(self, vectors_ND: Tensor) -> Tensor:
        shared, own = torch.split(self.load(vectors_ND), self.split, dim=-1)
        return self.common(vectors_ND, shared) + self.own(vectors_ND, own)  # type: ignore[no-any-return]


ADAPTERS: dict[str, Callable[[int, Model], nn.Module]] = {
    "raw": Raw,
    "linear": Projection,
    "mlp": TwoLayers,
    "moe": MixtureOfExperts,
    "hybrid": HybridExperts,
}


class Adapter(nn.Module):
    """An adapter by name, with a learned default vector for entities without text."""

    def __init__(self, width: int, cfg: Model, shared: Experts | None = None) -> None:
        """`shared`: experts of another side (hybrid), which are of this width."""
        super().__init__()
        self.body = ADAPTERS[cfg.adapter](width, cfg) if shared is None else HybridExperts(width, cfg, shared)
        self.out: int = self.body.out  # type: ignore[assignment]
        self.default = nn.Parameter(torch.zeros(self.out))

    def forward(self, vectors_ND: Tensor, text_N: Tensor) -> Tensor:
        """(N, a)."""
        return torch.where(text_N.unsqueeze(-1), self.body(vectors_ND), self.default)


class Adapters(nn.Module):
    """An adapter for each of several sources, whose vectors stand side by side.

    `concat`: their outputs side by side, (N, S a). `gate`: summed under a softmax over the sources, (N, a); a source
    that knows nothing of an entity has no share in it, unless none does.
    """

    def __init__(self, widths: Sequence[int], cfg: Model, shared: Sequence[Experts | None] = ()) -> None:
        """Raises ConfigError where a gate is to sum vectors of several widths."""
        super().__init__()
        self.widths = list(widths)
        others = shared or [None] * len(widths)
        self.each = nn.ModuleList(Adapter(w, cfg, e) for w, e in zip(widths, others, strict=True))
        outs = [adapter.out for adapter in self.parts]
        self.gate = nn.Linear(sum(widths), len(widths)) if cfg.combine == "gate" else None
        if self.gate is not None and len(set(outs)) > 1:
            raise ConfigError(
                f"model.combine = gate sums vectors of one width, model.adapter = {cfg.adapter} gives widths "
                f"{', '.join(map(str, outs))}; set model.combine to concat, or model.knowledge_dim to bring them to one"
            )
        self.out = sum(outs) if self.gate is None else outs[0]

    @property
    def parts(self) -> list[Adapter]:
        return [adapter for adapter in self.each if isinstance(adapter, Adapter)]

    @property
    def default(self) -> Tensor:
        """(out,) of an entity that no source knows."""
        nothing = self.parts[0].default.new_zeros(1, sum(self.widths))
        return self(nothing, nothing.new_zeros(1, len(self.widths), dtype=torch.bool))[0]  # type: ignore[no-any-return]

    def forward(self, vectors_ND: Tensor, text_NS: Tensor) -> Tensor:
        """(N, out)."""
        vectors = torch.split(vectors_ND, self.widths, dim=1)
        adapted = [a(v, t) for a, v, t in zip(self.parts, vectors, text_NS.unbind(1), strict=True)]
        if self.gate is None:
            return torch.cat(adapted, dim=1)
        return torch.einsum("sna,ns->na", torch.stack(adapted), self.load(vectors_ND, text_NS))

    def load(self, vectors_ND: Tensor, text_NS: Tensor) -> Tensor:
        """(N, S) share of each source under the gate, which there must be."""
        assert self.gate is not None, "the sources stand side by side"
        each = zip(torch.split(vectors_ND, self.widths, dim=1), text_NS.unbind(1), strict=True)
        there = torch.cat([v * t.unsqueeze(1) for v, t in each], dim=1)
        none = text_NS.any(dim=1, keepdim=True).logical_not()
        return torch.softmax(self.gate(there).masked_fill(~(text_NS | none), -torch.inf), dim=1)


class Prestored(nn.Module):
    """What stands for an adapter whose outputs are prestored (R 4.5): their width, and the default vector."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.out = out
        self.default = nn.Parameter(torch.zeros(out))

    def forward(self, vectors_ND: Tensor, text_N: Tensor) -> Tensor:
        """Raises ConfigError: there is nothing here to adapt with."""
        raise ConfigError("a model without its adapters scores from adapted vectors; give Entities.adapted")


def parts(adapter: Adapter | Adapters | Prestored) -> list[Adapter]:
    """The adapter of each source; none of one that is prestored."""
    if isinstance(adapter, Prestored):
        return []
    return adapter.parts if isinstance(adapter, Adapters) else [adapter]


def build(widths: Sequence[int], cfg: Model, shared: Sequence[Experts | None] = ()) -> Adapter | Adapters:
    """The adapter of a side whose sources have these widths."""
    if len(widths) == 1:
        return Adapter(widths[0], cfg, shared[0] if shared else None)
    return Adapters(widths, cfg, shared)


def gates(adapter: Adapter | Adapters | Prestored) -> list[MixtureOfExperts | HybridExperts | None]:
    """The gated mixture of each source; None where its adapter has no gate."""
    bodies = [part.body for part in parts(adapter)]
    return [body if isinstance(body, MixtureOfExperts | HybridExperts) else None for body in bodies]


def source_gate(adapter: Adapter | Adapters | Prestored) -> Adapters | None:
    """The adapter, where it sums its sources under a gate."""
    return adapter if isinstance(adapter, Adapters) and adapter.gate is not None else None
