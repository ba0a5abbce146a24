"""Interaction layers beside FuxiCTR's with copied weights. Skipped where fuxictr is not installed.

The wheel of fuxictr 2.3.10 (`pip install fuxictr==2.3.10 polars h5py`) has the layers and DIEN; Fi-GNN and AutoInt need
a checkout of github.com/reczoo/FuxiCTR on PYTHONPATH.
"""

from importlib import import_module
from typing import Any

import pytest
import torch
from samples import SHAPE, encoded, net

from trawl.model.backbones.deepfm import second_order
from trawl.model.backbones.recurrence import evolve

layers: Any = pytest.importorskip("fuxictr.pytorch.layers", reason="fuxictr is not installed", exc_type=ImportError)


def zoo(name: str) -> Any:
    """A module of FuxiCTR's models."""
    try:
        return import_module(f"model_zoo.{name}")
    except ImportError as error:
        pytest.skip(f"needs a checkout of FuxiCTR on PYTHONPATH ({error})")


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def whole_of(it: Any) -> torch.Tensor:
    return torch.cat(it.parts(encoded()), dim=1)


def test_factorisation_machine() -> None:
    x = torch.randn(5, 7, 4)
    theirs = layers.InnerProductInteraction(7, output="product_sum")
    torch.testing.assert_close(second_order(x), theirs(x).squeeze(1))


def test_dcn() -> None:
    it = net("dcn")
    whole = whole_of(it)
    theirs = layers.CrossNet(it.width, 3).double()
    for layer, weight, bias in zip(theirs.cross_net, it.cross.weight, it.cross.bias, strict=False):
        layer.weight.weight.copy_(weight.unsqueeze(0))
        layer.bias.copy_(bias)
    torch.testing.assert_close(it.cross(whole), theirs(whole) @ it.cross.weight[-1])


def test_dcnv2() -> None:
    it = net("dcnv2")
    whole = whole_of(it)
    theirs = layers.CrossNetV2(it.width, 3).double()
    theirs.cross_layers.load_state_dict(it.cross.state_dict())
    expected = it.last(theirs(whole)) + it.head(whole)
    torch.testing.assert_close(it(encoded()), expected.squeeze(1))


def test_dcnv2_low_rank() -> None:
    it = net("dcnv2", "model.cross_rank=3", "model.cross_experts=2")
    theirs = layers.CrossNetMix(it.width, 3, low_rank=3, num_experts=2).double()
    for place, layer in enumerate(it.cross):
        layer.gate.weight.copy_(it.cross[0].gate.weight)  # theirs has one gate for all layers
        theirs.U_list[place].copy_(layer.outwards.weight.view(it.width, 2, 3).transpose(0, 1))
        theirs.V_list[place].copy_(layer.inwards.weight.view(2, 3, it.width).transpose(1, 2))
        theirs.C_list[place].copy_(layer.within.transpose(1, 2))
        theirs.bias[place].copy_(layer.outwards.bias.unsqueeze(1))
    for expert, gate in enumerate(theirs.gating):
        gate.weight.copy_(it.cross[0].gate.weight[expert].unsqueeze(0))
    whole = whole_of(it)
    torch.testing.assert_close(it(encoded()), (it.last(theirs(whole)) + it.head(whole)).squeeze(1))


@pytest.mark.parametrize("maps", [[5], [5, 3], [4, 3, 2]], ids=str)
def test_xdeepfm(maps: list[int]) -> None:
    it = net("xdeepfm", f"model.cin={maps}")
    theirs = layers.CompressedInteractionNet(it.fields, maps).double()
    for layer, weight in zip(theirs.cin_layer.values(), it.cin.weights, strict=True):
        layer.weight.copy_(weight.transpose(1, 2).flatten(1).unsqueeze(2))
        layer.bias.zero_()
    theirs.fc.weight.copy_(it.last.weight)
    theirs.fc.bias.zero_()
    fields = it.split(it.parts(encoded()))
    torch.testing.assert_close(it.last(it.cin(fields)), theirs(fields))


@pytest.mark.parametrize("kind", ["all", "each", "interaction"])
def test_fibinet(kind: str) -> None:
    it, k = net("fibinet", f"model.bilinear={kind}"), 4
    senet = layers.SqueezeExcitation(it.fields, 3).double()
    senet.excitation[0].weight.copy_(it.squeeze.weight)
    senet.excitation[2].weight.copy_(it.excite.weight)
    parts = it.parts(encoded())
    fields, pairs = it.split(parts), []
    for own, given in ((it.plain, fields), (it.weighed, senet(fields))):
        theirs = layers.BilinearInteractionV2(it.fields, k, f"field_{kind}").double()
        matrices = torch.stack(own.weight.split(k, dim=1)).squeeze(0)
        if kind == "each":
            theirs.bilinear_W[:-1].copy_(matrices)  # the last field is nobody's left one
        else:
            theirs.bilinear_W.copy_(matrices)
        pairs.append(theirs(given))
    expected = it.first(torch.cat(parts, dim=1)) + it.head(torch.cat(pairs, dim=1).flatten(1))
    torch.testing.assert_close(it(encoded()), expected.squeeze(1))


def test_din_attention() -> None:
    from trawl.model.backbones.base import Shape

    shape = Shape(user_parts=(4,), item_parts=(4,), rating=0, levels=1, extra=1, near=False)
    it, x = net("din", shape=shape), encoded(shape)
    x.levels.clamp_(max=1)
    theirs = layers.DIN_Attention(4, [5]).double()
    first, last = theirs.attention_layer.mlp[0], theirs.attention_layer.mlp[2]
    weights = [it.query.weight, it.key.weight, torch.zeros(5, 4, dtype=torch.float64), it.product.weight]
    first.weight.copy_(torch.cat(weights, dim=1))  # of q, k, q - k, q * k
    first.bias.copy_(it.key.bias)
    last.load_state_dict(it.attention[0].state_dict())
    target = x.items[x.target]
    pooled = theirs(target, x.items[x.history], x.levels > 0)
    expected = it.head(torch.cat([x.user, target, pooled, x.extra], dim=1))
    torch.testing.assert_close(it(x), expected.squeeze(1))


def copied(cell: Any, inputs: torch.nn.Linear, weight: torch.Tensor) -> None:
    cell.x2h.load_state_dict(inputs.state_dict())
    cell.h2h.weight.copy_(weight)
    cell.h2h.bias.zero_()


def test_dien() -> None:
    """Their packed GRU, bilinear attention and AUGRU cell, on the samples that have a history."""
    theirs = zoo("LongCTR.DIEN.DIEN")
    it, x, units = net("dien"), encoded(), 5
    it.near.zero_()  # theirs has no such input
    some = torch.tensor([0, 1, 3])
    gru = torch.nn.GRU(SHAPE.item + SHAPE.rating, units, batch_first=True).double()
    update, reset, new = torch.cat([it.item.weight, it.rating.weight], dim=1).split(units)
    gru.weight_ih_l0.copy_(torch.cat([reset, -update, new]))  # torch's update gate keeps the old state
    update, reset, new = it.extract.split(units)
    gru.weight_hh_l0.copy_(torch.cat([reset, -update, new]))
    update, reset, new = it.item.bias.split(units)
    gru.bias_ih_l0.copy_(torch.cat([reset, -update, new]))
    gru.bias_hh_l0.zero_()
    attention = theirs.AttentionLayer(units).double()
    evolving = theirs.DynamicGRU(units, units).double()
    copied(evolving.gru_cell, it.evolving, it.evolve)
    sequence = torch.cat([x.items[x.history], x.ratings[x.levels]], dim=2)[some]  # type: ignore[index]
    there = (x.levels > 0)[some]
    order = torch.argsort((~there).int(), dim=1, stable=True)  # padding behind
    sequence = sequence.gather(1, order.unsqueeze(2).expand_as(sequence))
    there, lengths = there.gather(1, order), there.sum(dim=1)
    pack = torch.nn.utils.rnn.pack_padded_sequence
    packed, _ = gru(pack(sequence, lengths, batch_first=True, enforce_sorted=False))
    interests, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=3)
    scores = attention(interests, it.query(x.items[x.target[some]]), there)
    # their cell takes float32 states; its own step is called on doubles row by row
    state = torch.zeros(3, units, dtype=torch.float64)
    for t in range(3):
        now = there[:, t]
        state[now] = evolving.gru_cell(interests[now, t], state[now], scores[now, t])
    expected = it.head(torch.cat([x.user, x.items[x.target], torch.zeros(4, units), x.extra], dim=1).double())
    whole = torch.cat([x.user[some], x.items[x.target[some]], state, x.extra[some]], dim=1)
    expected[some] = it.head(whole)
    torch.testing.assert_close(it(x), expected.squeeze(1))


def test_augru_cell() -> None:
    cell = zoo("LongCTR.DIEN.DIEN").AUGRUCell(4, 3)
    inputs, weight = torch.nn.Linear(4, 9), torch.randn(9, 3)
    copied(cell, inputs, weight)
    x, gate = torch.randn(6, 2, 4), torch.rand(6, 2)
    state = torch.zeros(2, 3)
    for t in range(6):
        state = cell(x[t], state, gate[t])
    torch.testing.assert_close(evolve(x, inputs.weight, inputs.bias, weight, gate, [2] * 6), state)


def test_fignn() -> None:
    module, it = zoo("FiGNN.src.FiGNN"), net("fignn")
    theirs = module.FiGNN_Layer(it.fields, 4, gnn_layers=3, reuse_graph_layer=True).double()
    theirs.gnn.W_out.copy_(it.outwards.transpose(1, 2))
    theirs.gnn.W_in.copy_(it.inwards.transpose(1, 2))
    theirs.gnn.bias_p.copy_(it.bias)
    theirs.gru.load_state_dict(it.gru.state_dict())
    theirs.W_attn.weight.copy_(it.edge.weight.view(1, -1))
    last = module.AttentionalPrediction(it.fields, 4).double()
    it.score.bias.zero_()  # theirs has none
    last.mlp1.weight.copy_(it.score.weight)
    last.mlp2[0].weight.copy_(it.attention.weight)
    fields = it.split(it.parts(encoded()))
    torch.testing.assert_close(it(encoded()), last(theirs(fields)).squeeze(1))


def test_autoint() -> None:
    it = net("autoint", "model.heads=2", "model.head_width=4")
    fields = it.split(it.parts(encoded()))
    theirs = zoo("AutoInt.src.AutoInt").MultiHeadSelfAttention(4, 8, num_heads=2).double()
    query, key, value, residual = it.layers[0].weights.weight.chunk(4)
    for linear, weight in ((theirs.W_q, query), (theirs.W_k, key), (theirs.W_v, value), (theirs.W_res, residual)):
        linear.weight.copy_(weight)
    torch.testing.assert_close(it.layers[0](fields), theirs(fields))
