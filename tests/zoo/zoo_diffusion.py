"""Diffusion: the networks that take noise away, for images and for video, and the decoders of their latents."""

from __future__ import annotations

from typing import Any

import torch
from zoo_common import Entry, Example, Tensors, randn

# ---------------------------------------------------------------- images


def _diffusers(
    name: str, inputs: dict[str, torch.Tensor], options: dict[str, int] | None = None, f16: str = "", **config: Any
) -> Entry:
    """`options` are arguments of the call that are no tensors."""

    def make() -> Example:
        import diffusers

        return Tensors(getattr(diffusers, name)(**config), **options or {}), (), dict(inputs)

    return Entry(make, f16)


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
stable_cascade = _diffusers(
    "StableCascadeUNet",
    {
        "sample": randn(1, 4, 16, 16),
        "timestep_ratio": torch.tensor([0.3]),
        "clip_text_pooled": randn(1, 1, 24),
        "clip_text": randn(1, 7, 24),
        "clip_img": randn(1, 1, 24),
    },
    f16="it takes sines of thousands of radians, which f16 holds in steps of 2: torch's own f16 is off by 5e-2 as well",
    in_channels=4,
    out_channels=4,
    conditioning_dim=32,
    block_out_channels=(32, 64),
    num_attention_heads=(2, 4),
    down_num_layers_per_block=(1, 1),
    up_num_layers_per_block=(1, 1),
    clip_text_in_channels=24,
    clip_text_pooled_in_channels=24,
    clip_image_in_channels=24,
)
auraflow = _diffusers(
    "AuraFlowTransformer2DModel",
    {"timestep": torch.tensor([0.7]), "hidden_states": randn(1, 4, 16, 16), "encoder_hidden_states": randn(1, 7, 32)},
    sample_size=16,
    num_mmdit_layers=1,
    num_single_dit_layers=1,
    attention_head_dim=16,
    num_attention_heads=4,
    joint_attention_dim=32,
    caption_projection_dim=64,
    pos_embed_max_size=64,
)
cogview4 = _diffusers(
    "CogView4Transformer2DModel",
    _STEP
    | {
        "hidden_states": randn(1, 4, 16, 16),
        "encoder_hidden_states": randn(1, 7, 32),
        "original_size": torch.tensor([[128.0, 128.0]]),
        "target_size": torch.tensor([[128.0, 128.0]]),
        "crop_coords": torch.tensor([[0.0, 0.0]]),
    },
    in_channels=4,
    out_channels=4,
    num_layers=2,
    attention_head_dim=16,
    num_attention_heads=4,
    text_embed_dim=32,
    time_embed_dim=32,
    condition_dim=16,
    pos_embed_max_size=16,
    sample_size=16,
    rope_axes_dim=(8, 8),
)
sana = _diffusers(
    "SanaTransformer2DModel",
    _STEP | {"hidden_states": randn(1, 8, 16, 16), "encoder_hidden_states": randn(1, 7, 32)},
    in_channels=8,
    out_channels=8,
    num_attention_heads=4,
    attention_head_dim=16,
    num_layers=2,
    num_cross_attention_heads=4,
    cross_attention_head_dim=16,
    cross_attention_dim=64,
    caption_channels=32,
    sample_size=16,
)

# ---------------------------------------------------------------- video

wan = _diffusers(
    "WanTransformer3DModel",
    _STEP | {"hidden_states": randn(1, 4, 3, 8, 8), "encoder_hidden_states": randn(1, 7, 32)},
    num_attention_heads=4,
    attention_head_dim=24,
    in_channels=4,
    out_channels=4,
    text_dim=32,
    freq_dim=32,
    ffn_dim=96,
    num_layers=2,
    rope_max_seq_len=32,
)
cogvideox = _diffusers(
    "CogVideoXTransformer3DModel",
    _STEP | {"hidden_states": randn(1, 3, 4, 8, 8), "encoder_hidden_states": randn(1, 7, 32)},
    num_attention_heads=4,
    attention_head_dim=16,
    in_channels=4,
    out_channels=4,
    time_embed_dim=32,
    text_embed_dim=32,
    num_layers=2,
    sample_width=8,
    sample_height=8,
    sample_frames=9,
    max_text_seq_length=7,
)
ltx_video = _diffusers(
    "LTXVideoTransformer3DModel",
    _STEP
    | {
        "hidden_states": randn(1, 48, 8),
        "encoder_hidden_states": randn(1, 7, 32),
        "encoder_attention_mask": torch.ones(1, 7),
    },
    {"num_frames": 3, "height": 4, "width": 4},
    in_channels=8,
    out_channels=8,
    num_attention_heads=4,
    attention_head_dim=16,
    cross_attention_dim=64,
    num_layers=2,
    caption_channels=32,
)
svd_unet = _diffusers(
    "UNetSpatioTemporalConditionModel",
    _STEP
    | {
        "sample": randn(1, 3, 8, 16, 16),
        "encoder_hidden_states": randn(1, 1, 32),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]]),
    },
    down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    block_out_channels=(32, 64),
    addition_time_embed_dim=32,
    projection_class_embeddings_input_dim=96,
    layers_per_block=1,
    cross_attention_dim=32,
    num_attention_heads=(2, 4),
    num_frames=3,
)

# ---------------------------------------------------------------- decoders of latents


class _Decoder(torch.nn.Module):
    """The half of an autoencoder that turns latents into an image."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.model.decode(latents, return_dict=False)[0]


def _decoder(name: str, latents: torch.Tensor, **config: Any) -> Entry:
    def make() -> Example:
        import diffusers

        return _Decoder(getattr(diffusers, name)(**config)), (latents,), {}

    return Entry(make)


vae_decoder = _decoder(
    "AutoencoderKL",
    randn(1, 4, 12, 12),
    block_out_channels=(16, 32),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    norm_num_groups=8,
)
tiny_vae_decoder = _decoder(
    "AutoencoderTiny",
    randn(1, 4, 12, 12),
    encoder_block_out_channels=(16, 16),
    decoder_block_out_channels=(16, 16),
    num_encoder_blocks=(1, 1),
    num_decoder_blocks=(1, 1),
)
deep_compression_decoder = _decoder(
    "AutoencoderDC",
    randn(1, 8, 8, 8),
    latent_channels=8,
    attention_head_dim=16,
    encoder_block_types=("ResBlock", "EfficientViTBlock"),
    decoder_block_types=("ResBlock", "EfficientViTBlock"),
    encoder_block_out_channels=(16, 32),
    decoder_block_out_channels=(16, 32),
    encoder_layers_per_block=(1, 1),
    decoder_layers_per_block=(1, 1),
    encoder_qkv_multiscales=((), (5,)),
    decoder_qkv_multiscales=((), (5,)),
)
audio_decoder = _decoder(
    "AutoencoderOobleck",
    randn(1, 8, 20),
    encoder_hidden_size=8,
    downsampling_ratios=[2, 4],
    channel_multiples=[1, 2],
    decoder_channels=8,
    decoder_input_channels=8,
)
wan_vae_decoder = _decoder(
    "AutoencoderKLWan",
    randn(1, 16, 2, 4, 4),
    base_dim=8,
    dim_mult=[1, 2],
    num_res_blocks=1,
    temperal_downsample=[True],
)
