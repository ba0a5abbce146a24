"""Public implementations on the data of training_peers.py: each a stream of training steps that says its samples."""

import json
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training import ITEMS, USERS

from trawl.training.loop import Material

PROFILES, SHELVES, RATES, LEVELS, HISTORY = 21, 80, 14, 5, 10
EMBEDDING, HIDDEN, ATTENTION = 32, [200, 80], [32]
_ROWS = 40_000  # samples that peers are given; their loaders go around
_KAR_USERS = 400  # whose samples KAR's code is given: its vectors are lists of numbers, one object each


class Data:
    """The first samples of an epoch as plain arrays."""

    def __init__(self, material: Material, folder: Path) -> None:
        picks = next(iter(material.train.batches(_ROWS, 0, 0)))[1]
        batch = material.behaviour.batch(material.train.take(picks))
        profile = material.world.users.fields["occupation"][:, 0]
        shelf = material.world.items.fields["year"][:, 0]
        self.material, self.folder = material, folder
        self.columns: dict[str, Any] = {
            "user": batch.user,
            "profile": profile[batch.user],
            "rate": batch.rate,
            "item": batch.item,
            "shelf": shelf[batch.item],
            "past_item": batch.history,
            "past_shelf": shelf[batch.history] * (batch.history > 0),
            "past_rating": batch.levels,
            "label": batch.label.long(),
        }
        self.columns = {name: tensor.numpy() for name, tensor in self.columns.items()}


def around(loader: Any, step: Any) -> Iterator[int]:
    """Its batches again and again."""
    while True:
        for batch in loader:
            yield step(batch)


# --- FuxiCTR 2.3.10: its features, loader, layers, base class and train_step. The wheel lacks these two models, so
# their forward passes are put together from its layers as in its model_zoo.


def _features(data: Data, sequential: bool) -> Any:
    features = import_module("fuxictr.features").FeatureMap("bench", str(data.folder))
    pooled = {"feature_encoder": "layers.MaskedAveragePooling()"}

    def one(size: int, **more: Any) -> dict[str, Any]:
        return {"type": "categorical", "vocab_size": size, "source": "", **more}

    def many(size: int, **more: Any) -> dict[str, Any]:
        return {"type": "sequence", "vocab_size": size, "padding_idx": 0, "max_len": HISTORY, "source": "", **more}

    past = {} if sequential else pooled
    features.features = OrderedDict(
        user=one(USERS + 1),
        profile=one(PROFILES + 2),
        rate=one(RATES),
        item=one(ITEMS + 1, padding_idx=0),
        shelf=one(SHELVES + 2, padding_idx=0),
        past_item=many(ITEMS + 1, share_embedding="item", **past),
        past_shelf=many(SHELVES + 2, share_embedding="shelf", **past),
        past_rating=many(LEVELS + 1, **pooled),
    )
    features.labels, features.num_fields, features.default_emb_dim = ["label"], 8, EMBEDDING
    return features


def _fuxictr_model(features: Any, backbone: str, folder: Path) -> Any:
    base = import_module("fuxictr.pytorch.models").BaseModel
    layers = import_module("fuxictr.pytorch.layers")

    class Model(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(features, model_root=str(folder), metrics=["AUC"], verbose=0, gpu=-1)
            self.embedding_layer = layers.FeatureEmbeddingDict(features, EMBEDDING)
            last = {"output_dim": 1, "hidden_units": HIDDEN}
            if backbone == "din":
                attention = {"attention_units": ATTENTION, "hidden_activations": "ReLU"}
                self.attention = layers.DIN_Attention(2 * EMBEDDING, **attention)
                self.dnn = layers.MLP_Block(input_dim=8 * EMBEDDING, output_activation=self.output_activation, **last)
            else:
                self.fm = layers.FactorizationMachine(features)
                self.mlp = layers.MLP_Block(input_dim=8 * EMBEDDING, **last)
            self.compile("adam", "binary_crossentropy", 1e-3)
            self.reset_parameters()

        def forward(self, inputs: Any) -> dict[str, Any]:
            X = self.get_inputs(inputs)
            found = self.embedding_layer(X)
            if backbone == "din":
                target = torch.cat([found["item"], found["shelf"]], dim=-1)
                past = torch.cat([found["past_item"], found["past_shelf"]], dim=-1)
                pooled = self.attention(target, past, X["past_item"].long() != 0)
                found["past_item"], found["past_shelf"] = pooled.split(EMBEDDING, dim=-1)
                whole = self.embedding_layer.dict2tensor(found, flatten_emb=True)
                return {"y_pred": self.dnn(whole)}
            stacked = self.embedding_layer.dict2tensor(found)
            return {"y_pred": self.output_activation(self.fm(X, stacked) + self.mlp(stacked.flatten(start_dim=1)))}

    return Model()


def fuxictr(data: Data, backbone: str, size: int, training: bool = True) -> Iterator[int]:
    """Steps of its training, or of scoring. Raises ImportError where it is not installed."""
    loaders = import_module("fuxictr.pytorch.dataloaders.npz_dataloader")
    features = _features(data, backbone == "din")
    np.savez(data.folder / "fuxictr.npz", **data.columns)
    path = str(data.folder / "fuxictr.npz")
    loader = loaders.NpzDataLoader(features, path, batch_size=size, shuffle=training, num_workers=0)
    model = _fuxictr_model(features, backbone, data.folder)
    model._max_gradient_norm = 10.0

    def step(batch: Any) -> int:
        if training:
            model.train_step(batch)
        else:
            with torch.no_grad():
                model.forward(batch)["y_pred"].data.cpu().numpy()
        return len(batch["label"])

    model.train(training)
    return around(loader, step)


# --- RecBole 1.2.1: its DeepFM over user, item and their fields


def recbole(data: Data, size: int) -> Iterator[int]:
    """Steps of its training. Raises ImportError where it, or something that it imports, is not installed."""
    import_module("recbole")
    if not hasattr(np, "float_"):
        raise ImportError(f"RecBole 1.2.1 needs NumPy 1, this is {np.__version__}")
    shim = sys.argv
    sys.argv = sys.argv[:1]  # its Config reads the command line
    try:
        config_of = import_module("recbole.config").Config
        tools = import_module("recbole.data")
        home = data.folder / "recbole" / "bench"
        home.mkdir(parents=True, exist_ok=True)
        names = ("user", "profile", "rate", "item", "shelf")
        fields = ("user_id", "profile", "rate", "item_id", "shelf")
        head = "\t".join([*(f"{name}:token" for name in fields), "label:float"])
        rows = np.stack([data.columns[n] for n in (*names, "label")], axis=1)
        np.savetxt(home / "bench.inter", rows, fmt="%d", delimiter="\t", header=head, comments="")
        config = config_of(
            model="DeepFM",
            dataset="bench",
            config_dict={
                "data_path": str(home.parent),
                "load_col": {"inter": [*fields, "label"]},
                "embedding_size": EMBEDDING,
                "mlp_hidden_size": HIDDEN,
                "train_batch_size": size,
                "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "labeled"},
                "use_gpu": False,
                "gpu_id": "",
                "show_progress": False,
                "state": "ERROR",
                "checkpoint_dir": str(home),
                "worker": 0,
            },
        )
        dataset = tools.create_dataset(config)
        loader, _, _ = tools.data_preparation(config, dataset)
        model = import_module("recbole.model.context_aware_recommender.deepfm").DeepFM(config, loader.dataset)
    finally:
        sys.argv = shim
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()

    def step(batch: Any) -> int:
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
        return len(batch)

    return around(loader, step)


# --- KAR's code: its dataset, models and optimiser, driven as its main_ctr.train does


def kar(data: Data, backbone: str, size: int, root: str, width: int) -> Iterator[int]:
    """Steps of its training, with vectors of `width` or without. Raises FileNotFoundError without a checkout."""
    source = Path(root) / "RS"
    if not root or not (source / "main_ctr.py").exists():
        raise FileNotFoundError("name a checkout of KAR's code with --kar PATH")
    if str(source) not in sys.path:
        sys.path.insert(0, str(source))
    main = import_module("main_ctr")
    shim = sys.argv
    sys.argv = ["main_ctr", "--device=cpu", f"--algo={'DIN' if backbone == 'din' else 'DeepFM'}"]
    sys.argv += [f"--max_hist_len={HISTORY}", f"--batch_size={size}", "--export_num=2", "--specific_export_num=5"]
    try:
        args = main.parse_args()
    finally:
        sys.argv = shim
    args.augment = False
    found = main.AmzDataset(_kar_files(data), "train", "ctr", HISTORY, False, "")
    if width:
        args.augment = found.augment = True
        found.dense_dim = width
        rng = np.random.default_rng(0)
        found.hist_aug_data = {u: rng.normal(size=width).tolist() for u in found.id2user.values()}
        found.item_aug_data = {i: rng.normal(size=width).tolist() for i in found.id2item.values()}
    model = main.load_model(args, found).train()
    optimizer, scheduler = main.get_optimizer(args, model, len(found))
    loader = torch.utils.data.DataLoader(found, batch_size=size, shuffle=True)

    def step(batch: Any) -> int:
        loss = model(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        loss.item()
        return len(batch["lb"])

    return around(loader, step)


def _kar_files(data: Data) -> str:
    """Its preprocessed form: a sequence per user, samples as (user, place, label) with a whole history before them."""
    behaviour, folder = data.material.behaviour, data.folder / "kar"
    folder.mkdir(exist_ok=True)
    sequences, samples = {}, []
    for user in range(1, _KAR_USERS + 1):
        part = slice(int(behaviour.first[user]), int(behaviour.first[user + 1]))
        items, levels = behaviour.item[part].tolist(), behaviour.level[part].tolist()
        sequences[str(user)] = (items, levels)
        samples += [(user, place, int(levels[place] > 3)) for place in range(HISTORY, len(items))]
    shelf = data.material.world.items.fields["year"][:, 0].tolist()
    files = {
        "stat.json": {
            "item_num": ITEMS,
            "attribute_num": SHELVES + 2,
            "attribute_ft_num": 1,
            "rating_num": LEVELS,
            "dense_dim": 0,
        },
        "sequential_data.json": sequences,
        "item2attributes.json": {str(i): [shelf[i]] for i in range(1, ITEMS + 1)},
        "datamaps.json": {
            "id2item": {str(i): str(i) for i in range(1, ITEMS + 1)},
            "id2user": {str(u): str(u) for u in range(1, _KAR_USERS + 1)},
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "ctr.train").write_bytes(pickle.dumps(samples))
    return str(folder)
