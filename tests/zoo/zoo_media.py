"""Sound, video, and convolutions over volumes."""

from __future__ import annotations

import functools

import torch
from zoo_common import VOCABULARY, Entry, Example, Tensors, ids, noise, randn, transformers_entry

_LAYERS = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}

# ---------------------------------------------------------------- sound

whisper = transformers_entry(
    "WhisperForConditionalGeneration",
    lambda t: t.WhisperConfig(
        vocab_size=VOCABULARY, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=96, decoder_ffn_dim=96, num_mel_bins=16, max_source_positions=40,
        max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None,
    ),
    input_features=noise(1, 16, 80),
    decoder_input_ids=ids(1, 8),
)  # fmt: skip
_CONVOLUTIONS = {
    "conv_dim": (16, 16, 32),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}
wav2vec2 = transformers_entry(
    "Wav2Vec2ForCTC", lambda t: t.Wav2Vec2Config(**_LAYERS, **_CONVOLUTIONS), input_values=noise(1, 800)
)
wav2vec2_stable = transformers_entry(
    "Wav2Vec2Model",
    lambda t: t.Wav2Vec2Config(**_LAYERS, **_CONVOLUTIONS, do_stable_layer_norm=True, feat_extract_norm="layer"),
    input_values=noise(1, 800),
)
hubert = transformers_entry(
    "HubertForCTC", lambda t: t.HubertConfig(**_LAYERS, **_CONVOLUTIONS), input_values=noise(1, 800)
)
wavlm = transformers_entry(
    "WavLMModel", lambda t: t.WavLMConfig(**_LAYERS, **_CONVOLUTIONS), input_values=noise(1, 800)
)
conformer = transformers_entry(
    "Wav2Vec2ConformerModel",
    lambda t: t.Wav2Vec2ConformerConfig(**_LAYERS, **_CONVOLUTIONS),
    input_values=noise(1, 800),
)
audio_spectrogram = transformers_entry(
    "ASTForAudioClassification",
    lambda t: t.ASTConfig(**_LAYERS, max_length=64, num_mel_bins=32),
    input_values=noise(1, 64, 32),
)


def _extra_padding(stride: int, reach: int, x: torch.Tensor) -> int:
    """What is missing on the right to a whole number of strides."""
    return (reach - x.shape[-1]) % stride


def _encodec() -> Example:
    import transformers

    config = transformers.EncodecConfig(
        num_filters=4, hidden_size=16, codebook_dim=16, codebook_size=32, upsampling_ratios=[4, 2],
        norm_type="weight_norm", use_causal_conv=False,
    )  # fmt: skip
    model = transformers.EncodecModel(config)
    for module in model.modules():  # its sizes are buffers, whose values torch.export does not read: numbers instead
        if isinstance(module, type(model.encoder.layers[0])):
            stride, kernel, total = (int(module._buffers.pop(n)) for n in ("stride", "kernel_size", "padding_total"))
            module.padding_total = total
            module._get_extra_padding_for_conv1d = functools.partial(_extra_padding, stride, kernel - total)
    return Tensors(model, "audio_values"), (), {"input_values": randn(1, 1, 400)}


encodec = Entry(_encodec, "the nearest code changes with rounding")
hifigan = Entry(
    lambda: (
        __import__("transformers").SpeechT5HifiGan(
            __import__("transformers").SpeechT5HifiGanConfig(
                model_in_dim=16, upsample_initial_channel=32, upsample_rates=[4, 2], upsample_kernel_sizes=[8, 4]
            )
        ),
        (randn(12, 16),),
        {},
    )
)

dac = transformers_entry(
    "DacModel",
    lambda t: t.DacConfig(
        encoder_hidden_size=8, decoder_hidden_size=32, downsampling_ratios=[2, 4], upsampling_ratios=[4, 2],
        n_codebooks=2, codebook_size=32, codebook_dim=4,
    ),
    "audio_values",
    f16="the nearest code changes with rounding",
    input_values=noise(1, 1, 160),
)  # fmt: skip
moonshine = transformers_entry(
    "MoonshineForConditionalGeneration",
    lambda t: t.MoonshineConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2, encoder_num_attention_heads=4, decoder_num_attention_heads=4,
    ),
    input_values=noise(1, 3200),
    decoder_input_ids=ids(1, 8),
)  # fmt: skip
univnet = transformers_entry(
    "UnivNetModel",
    lambda t: t.UnivNetConfig(
        model_in_channels=8, model_hidden_channels=8, num_mel_bins=16, resblock_kernel_sizes=[3, 3],
        resblock_stride_sizes=[4, 2], resblock_dilation_sizes=[[1, 3], [1, 3]], kernel_predictor_hidden_channels=8,
    ),
    "waveforms",
    input_features=noise(1, 12, 16),
    noise_sequence=noise(1, 12, 8),
)  # fmt: skip

# ---------------------------------------------------------------- video and volumes

_VIDEO = _LAYERS | {"image_size": 32, "patch_size": 8, "num_labels": 5}
videomae = transformers_entry(
    "VideoMAEForVideoClassification",
    lambda t: t.VideoMAEConfig(**_VIDEO, num_frames=4),
    pixel_values=noise(1, 4, 3, 32, 32),
)
timesformer = transformers_entry(
    "TimesformerForVideoClassification",
    lambda t: t.TimesformerConfig(**_VIDEO, num_frames=4),
    pixel_values=noise(1, 4, 3, 32, 32),
)
vivit = transformers_entry(
    "VivitForVideoClassification",
    lambda t: t.VivitConfig(
        **{k: v for k, v in _VIDEO.items() if k != "patch_size"}, num_frames=4, tubelet_size=[2, 8, 8]
    ),
    pixel_values=noise(1, 4, 3, 32, 32),
)


def _torchvision(name: str, frames: int, size: int) -> Entry:
    def make() -> Example:
        import torchvision_cpu

        return (
            torchvision_cpu.models.get_model(name, weights=None, num_classes=5),
            (randn(1, 3, frames, size, size),),
            {},
        )

    return Entry(make)


class _VNet(torch.nn.Module):
    """A small U-shaped network over volumes: 3-D convolutions, instance norms, transposed convolutions."""

    def __init__(self, width: int = 8):
        super().__init__()
        conv = lambda i, o, s=1: torch.nn.Sequential(  # noqa: E731
            torch.nn.Conv3d(i, o, 3, s, 1), torch.nn.InstanceNorm3d(o, affine=True), torch.nn.PReLU()
        )
        self.a, self.b, self.c = conv(1, width), conv(width, 2 * width, 2), conv(2 * width, width)
        self.grow = torch.nn.ConvTranspose3d(2 * width, width, 2, 2)
        self.head = torch.nn.Conv3d(width, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        return self.head(self.c(torch.cat([a, self.grow(self.b(a))], 1)))


vnet = Entry(lambda: (_VNet(), (randn(1, 1, 8, 12, 16),), {}))
r3d = _torchvision("r3d_18", 4, 32)
r2plus1d = _torchvision("r2plus1d_18", 4, 32)
s3d = _torchvision("s3d", 14, 224)
