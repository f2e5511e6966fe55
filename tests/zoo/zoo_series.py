"""Graphs, time series, tables, and recurrent networks."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from zoo_common import VOCABULARY, Entry, Example, integers, noise, ones, randn, transformers_entry

# ---------------------------------------------------------------- graph networks in plain torch


class _GCN(nn.Module):
    """Kipf and Welling's graph convolution, by edges: gather, scale by the degrees, add into the targets."""

    def __init__(self, sizes: tuple[int, ...]):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        source, target = edges
        degree = torch.ones(x.shape[0], dtype=x.dtype).index_add(0, target, torch.ones_like(target, dtype=x.dtype))
        scale = (degree[source] * degree[target]).rsqrt().unsqueeze(1)
        for i, layer in enumerate(self.layers):
            h = layer(x)
            x = torch.zeros_like(h).index_add(0, target, h[source] * scale) + h / degree.unsqueeze(1)
            x = x.relu() if i + 1 < len(self.layers) else x
        return x


class _GAT(nn.Module):
    """Graph attention (Velickovic et al.) on an adjacency matrix: scores of all pairs, masked to the edges."""

    def __init__(self, inputs: int, width: int, heads: int):
        super().__init__()
        self.heads, self.project = heads, nn.Linear(inputs, width * heads, bias=False)
        self.source, self.target = (nn.Parameter(torch.randn(heads, width)) for _ in range(2))

    def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        h = self.project(x).unflatten(-1, (self.heads, -1))
        score = (h * self.source).sum(-1).unsqueeze(1) + (h * self.target).sum(-1).unsqueeze(0)
        score = functional.leaky_relu(score, 0.2).masked_fill(~adjacency.unsqueeze(-1), float("-inf"))
        return functional.elu(torch.einsum("ijh,jhd->ihd", score.softmax(1), h).flatten(1))


class _EdgeGAT(nn.Module):
    """Graph attention by edges: a softmax over each node's incoming edges by scattered maxima and sums."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.project, self.score = nn.Linear(inputs, width), nn.Linear(2 * width, 1)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        source, target = edges
        h = self.project(x)
        score = functional.leaky_relu(self.score(torch.cat([h[source], h[target]], -1)).squeeze(-1), 0.2)
        nodes = x.new_zeros(x.shape[0])
        top = nodes.scatter_reduce(0, target, score, "amax", include_self=False)
        weight = (score - top[target]).exp()
        total = nodes.scatter_add(0, target, weight)
        weight = weight / (total[target] + 1e-6)
        return torch.zeros_like(h).index_add(0, target, h[source] * weight.unsqueeze(-1))


class _SAGE(nn.Module):
    """GraphSAGE with the mean of the neighbours, through a normalised adjacency matrix; then a pooled readout."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.own, self.neighbours, self.norm = nn.Linear(inputs, width), nn.Linear(inputs, width), nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        share = adjacency.to(x.dtype) / adjacency.sum(-1, keepdim=True).clamp(min=1)
        h = self.norm((self.own(x) + self.neighbours(share @ x)).relu())
        return torch.cat([functional.normalize(h, dim=-1).amax(0), h.mean(0)])


def _edges(nodes: int, count: int) -> torch.Tensor:
    return integers(nodes, 2, count)


def _adjacency(nodes: int) -> torch.Tensor:
    return (randn(nodes, nodes) > 1) | torch.eye(nodes, dtype=torch.bool)


gcn = Entry(lambda: (_GCN((16, 32, 7)), (randn(20, 16), _edges(20, 60)), {}))
gat = Entry(lambda: (_GAT(16, 8, 4), (randn(20, 16), _adjacency(20)), {}))
edge_gat = Entry(lambda: (_EdgeGAT(16, 24), (randn(20, 16), _edges(20, 60)), {}))
graph_sage = Entry(lambda: (_SAGE(16, 24), (randn(20, 16), _adjacency(20)), {}))

# ---------------------------------------------------------------- time series

_SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
}
_FORECAST = _SIZES | {
    "prediction_length": 8,
    "context_length": 16,
    "lags_sequence": [1, 2, 3],
    "num_time_features": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
_SERIES = {
    "past_values": noise(1, 19),
    "past_time_features": noise(1, 19, 2),
    "past_observed_mask": ones(1, 19),
    "future_values": noise(1, 8),
    "future_time_features": noise(1, 8, 2),
}
_OVERFLOW = "its encoder asks, in f16 alone, whether a value is infinite"
time_series_transformer = transformers_entry(
    "TimeSeriesTransformerModel", lambda t: t.TimeSeriesTransformerConfig(**_FORECAST), f16=_OVERFLOW, **_SERIES
)
informer = transformers_entry(
    "InformerModel",
    # its own shrinking of the sequence between layers forgets the mask, which transformers makes under export alone
    lambda t: t.InformerConfig(**_FORECAST, attention_type="full", distil=False),
    f16=_OVERFLOW,
    **_SERIES,
)
autoformer = transformers_entry(
    "AutoformerModel",
    # heads as wide as both sequences are long: under export alone transformers adds a mask of that shape
    lambda t: t.AutoformerConfig(**_FORECAST | {"d_model": 64}, label_length=8),
    f16="torch has no Fourier transform of f16 on a CPU",
    **_SERIES,
)
_PATCHES = {"context_length": 32, "patch_length": 8, "num_input_channels": 2, "d_model": 32, "prediction_length": 8}
patchtst = transformers_entry(
    "PatchTSTForPrediction",
    lambda t: t.PatchTSTConfig(
        **_PATCHES, patch_stride=4, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64, loss="mse"
    ),
    "prediction_outputs",
    past_values=noise(1, 32, 2),
)
patchtsmixer = transformers_entry(
    "PatchTSMixerForPrediction",
    lambda t: t.PatchTSMixerConfig(**_PATCHES, patch_stride=4, num_layers=2, loss="mse"),
    "prediction_outputs",
    past_values=noise(1, 32, 2),
)
decision_transformer = transformers_entry(
    "DecisionTransformerModel",
    lambda t: t.DecisionTransformerConfig(state_dim=5, act_dim=3, hidden_size=32, n_layer=2, n_head=4, max_ep_len=50),
    "action_preds",
    states=noise(1, 6, 5),
    actions=noise(1, 6, 3),
    rewards=noise(1, 6, 1),
    returns_to_go=noise(1, 6, 1),
    timesteps=lambda: torch.arange(6).unsqueeze(0),
    attention_mask=ones(1, 6),
)

# ---------------------------------------------------------------- recurrent, and convolutions over time


class _Tagger(nn.Module):
    """An embedding, a recurrent network and a head at every step."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 24)
        self.recurrent = kind(24, 32, batch_first=True, **options)
        self.head = nn.Linear(64 if options.get("bidirectional") else options.get("proj_size") or 32, 9)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(self.embed(tokens))[0])


class _Captioner(nn.Module):
    """An LSTM encodes a series; GRU cells decode it step by step with attention over the encoder's states."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.cell = nn.LSTM(8, 24), nn.GRUCell(24 + 6, 24)
        self.attend, self.head = nn.Linear(24, 24), nn.Linear(24, 6)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        states, (h, c) = self.encode(series)
        h, y, outputs = (h + c)[0], series.new_zeros(series.shape[1], 6), []
        for _ in range(4):
            score = torch.einsum("bd,tbd->bt", self.attend(h), states).softmax(-1)
            h = self.cell(torch.cat([torch.einsum("bt,tbd->bd", score, states), y], -1), h)
            y = self.head(h)
            outputs.append(y)
        return torch.stack(outputs, 1)


class _CRNN(nn.Module):
    """Text recognition: convolutions shrink an image to a row, a bidirectional LSTM reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d((2, 1)),
            nn.Conv2d(32, 32, (4, 3), padding=(0, 1)), nn.ReLU(),
        )  # fmt: skip
        self.recurrent, self.head = nn.LSTM(32, 24, 2, bidirectional=True), nn.Linear(48, 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.convolutions(x).squeeze(2).permute(2, 0, 1)
        return self.head(self.recurrent(y)[0]).log_softmax(-1)


class _TCN(nn.Module):
    """A temporal convolutional network: causal convolutions of growing dilation, weight norm, residuals."""

    def __init__(self, width: int = 16, depth: int = 4):
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.layers = nn.ModuleList(norm(nn.Conv1d(width, width, 3, dilation=2**i)) for i in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + functional.relu(layer(functional.pad(x, (2 * layer.dilation[0], 0))))
        return x


class _WideAndDeep(nn.Module):
    """A recommender as in DLRM: embeddings of categories, their pairwise products, and a perceptron."""

    def __init__(self, tables: int = 5, width: int = 8):
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(50, width, mode="sum") for _ in range(tables))
        self.bottom, self.top = nn.Linear(6, width), nn.Linear(width + tables * (tables + 1) // 2, 1)

    def forward(self, dense: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        x = self.bottom(dense).relu()
        z = torch.stack([x, *(t(categories[:, i]) for i, t in enumerate(self.tables))], 1)
        row, column = torch.tril_indices(z.shape[1], z.shape[1], -1)
        return self.top(torch.cat([x, (z @ z.mT)[:, row, column]], 1)).sigmoid()


def _tokens(*shape: int) -> torch.Tensor:
    return integers(VOCABULARY, *shape)


lstm_tagger = Entry(lambda: (_Tagger(nn.LSTM, num_layers=2), (_tokens(2, 10),), {}))
lstm_projected = Entry(lambda: (_Tagger(nn.LSTM, proj_size=12), (_tokens(2, 10),), {}))
gru_bidirectional = Entry(lambda: (_Tagger(nn.GRU, num_layers=2, bidirectional=True), (_tokens(2, 10),), {}))
rnn_tagger = Entry(lambda: (_Tagger(nn.RNN), (_tokens(2, 10),), {}))
attention_captioner = Entry(lambda: (_Captioner(), (randn(7, 2, 8),), {}))
crnn = Entry(lambda: (_CRNN(), (randn(1, 1, 16, 48),), {}))
tcn = Entry(lambda: (_TCN(), (randn(2, 16, 40),), {}))
dlrm = Entry(lambda: (_WideAndDeep(), (randn(4, 6), integers(50, 4, 5, 3)), {}))


def _transformer() -> Example:
    layer = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), (randn(2, 12, 32),), {}


torch_encoder = Entry(_transformer)
torch_transformer = Entry(
    lambda: (nn.Transformer(32, 4, 2, 2, 64, batch_first=True), (randn(2, 12, 32), randn(2, 7, 32)), {})
)
