"""Fi-GNN (Li et al. 2019): fields are the nodes of a complete graph; what they tell each other goes through a GRU.

Edge j -> i weighs softmax over j != i of LeakyReLU(<w, [e_i, e_j]>) (eq. 5); the product is a sum of two halves, each
taken once per node instead of once per edge. A step: a_i = W_in^i sum_j A_ij W_out^j h_j + b, h_i = GRU(a_i, h_i) + e_i
(eq. 3, 4, 6), with the same weights in all steps. The logit is the sum of the nodes' scores under their attention
(eq. 7). Nodes begin as their field embeddings, as in the public implementations. No deep part.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trawl.model.backbones.base import Encoded, Shape
from trawl.model.backbones.fields import Fielded
from trawl.sections_model import Model


class FiGnn(Fielded):
    """Logit = sum over nodes of sigmoid(W [h_1 ... h_F])_i (<u, h_i> + b)."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        k, self.steps = cfg.embedding, cfg.graph_steps
        self.edge = nn.Linear(k, 2, bias=False)  # the halves of w: of the receiving and of the sending node
        self.outwards, self.inwards = (nn.Parameter(torch.randn(self.fields, k, k) * k**-0.5) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(k))
        self.gru = nn.GRUCell(k, k)
        self.score = nn.Linear(k, 1)
        self.attention = nn.Linear(self.fields * k, self.fields, bias=False)

    def forward(self, batch: Encoded) -> Tensor:
        """(B,) logits."""
        base_BFK = self.split(self.parts(batch))
        graph_BFF, nodes_BFK = self._graph(base_BFK), base_BFK
        for _ in range(self.steps):
            told_FBK = torch.bmm(nodes_BFK.transpose(0, 1), self.outwards)
            heard_BFK = torch.bmm(graph_BFF, told_FBK.transpose(0, 1))
            heard_FBK = torch.bmm(heard_BFK.transpose(0, 1), self.inwards) + self.bias
            state = self.gru(heard_FBK.transpose(0, 1).flatten(0, 1), nodes_BFK.flatten(0, 1))
            nodes_BFK = state.view_as(base_BFK) + base_BFK
        share_BF = torch.sigmoid(self.attention(nodes_BFK.flatten(1)))
        return (share_BF * self.score(nodes_BFK).squeeze(-1)).sum(dim=1)  # type: ignore[no-any-return]

    def _graph(self, base_BFK: Tensor) -> Tensor:
        """(B, F, F) weights of the edges into each node, without loops."""
        to_BF, from_BF = self.edge(base_BFK).unbind(2)
        raw = functional.leaky_relu(to_BF.unsqueeze(2) + from_BF.unsqueeze(1))
        loops = torch.eye(self.fields, dtype=torch.bool, device=raw.device)
        return torch.softmax(raw.masked_fill(loops, -torch.inf), dim=2)
