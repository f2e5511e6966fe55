"""Sound, diffusion, video, and convolutions over volumes."""

from __future__ import annotations

import functools
from typing import Any

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

# ---------------------------------------------------------------- diffusion


def _diffusers(name: str, inputs: dict[str, torch.Tensor], **config: Any) -> Entry:
    def make() -> Example:
        import diffusers

        return Tensors(getattr(diffusers, name)(**config)), (), dict(inputs)

    return Entry(make)


_STEP = {"timestep": torch.tensor([7])}
sd_unet = _diffusers(
    "UNet2DConditionModel",
    _STEP | {"sample": randn(1, 4, 16, 16), "encoder_hidden_states": randn(1, 7, 32)},
    block_out_channels=(32, 64),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    cross_attention_dim=32,
    attention_head_dim=4,
    norm_num_groups=8,
)
ddpm_unet = _diffusers(
    "UNet2DModel",
    _STEP | {"sample": randn(1, 3, 16, 16)},
    block_out_channels=(32, 64),
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    layers_per_block=1,
    norm_num_groups=8,
)
controlnet = _diffusers(
    "ControlNetModel",
    _STEP
    | {
        "sample": randn(1, 4, 16, 16),
        "encoder_hidden_states": randn(1, 7, 32),
        "controlnet_cond": randn(1, 3, 128, 128),
    },
    block_out_channels=(32, 64),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    layers_per_block=1,
    cross_attention_dim=32,
    attention_head_dim=4,
    norm_num_groups=8,
)
dit = _diffusers(
    "DiTTransformer2DModel",
    _STEP | {"hidden_states": randn(1, 4, 16, 16), "class_labels": torch.tensor([3])},
    num_attention_heads=4,
    attention_head_dim=16,
    num_layers=2,
    sample_size=16,
    num_embeds_ada_norm=20,
    norm_num_groups=8,
)
pixart = _diffusers(
    "PixArtTransformer2DModel",
    _STEP | {"hidden_states": randn(1, 4, 16, 16), "encoder_hidden_states": randn(1, 7, 32)},
    num_attention_heads=4,
    attention_head_dim=16,
    num_layers=2,
    sample_size=16,
    cross_attention_dim=64,
    caption_channels=32,
    use_additional_conditions=False,
    norm_num_groups=8,
)
sd3 = _diffusers(
    "SD3Transformer2DModel",
    _STEP
    | {
        "hidden_states": randn(1, 4, 16, 16),
        "encoder_hidden_states": randn(1, 7, 32),
        "pooled_projections": randn(1, 24),
    },
    sample_size=16,
    in_channels=4,
    out_channels=4,
    num_layers=2,
    attention_head_dim=16,
    num_attention_heads=4,
    joint_attention_dim=32,
    caption_projection_dim=64,
    pooled_projection_dim=24,
    pos_embed_max_size=16,
)
flux = _diffusers(
    "FluxTransformer2DModel",
    {
        "timestep": torch.tensor([0.7]),
        "hidden_states": randn(1, 16, 16),
        "encoder_hidden_states": randn(1, 7, 32),
        "pooled_projections": randn(1, 24),
        "img_ids": torch.zeros(16, 3),
        "txt_ids": torch.zeros(7, 3),
    },
    in_channels=16,
    num_layers=1,
    num_single_layers=1,
    attention_head_dim=16,
    num_attention_heads=4,
    joint_attention_dim=32,
    pooled_projection_dim=24,
    axes_dims_rope=(4, 6, 6),
)


class _Decoder(torch.nn.Module):
    """The half of an autoencoder that turns latents into an image."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.model.decode(latents, return_dict=False)[0]


def _vae() -> Example:
    import diffusers

    model = diffusers.AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    )
    return _Decoder(model), (randn(1, 4, 12, 12),), {}


vae_decoder = Entry(_vae)

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
