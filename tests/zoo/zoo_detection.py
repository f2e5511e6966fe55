"""Detection, segmentation, depth, and models that join images with text."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from zoo_common import VOCABULARY, Entry, Example, ids, noise, ones, randn, transformers_entry

_LAYERS = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
_DETR = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
}


def _resnet(t: Any, **options: Any) -> Any:
    return t.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], layer_type="basic", **options
    )


detr = transformers_entry(
    "DetrForObjectDetection",
    lambda t: t.DetrConfig(
        **_DETR,
        num_queries=10,
        backbone_config=_resnet(t, out_features=["stage4"]),
        use_timm_backbone=False,
        backbone=None,
    ),
    "logits",
    "pred_boxes",
    pixel_values=noise(1, 3, 96, 64),
)
conditional_detr = transformers_entry(
    "ConditionalDetrForObjectDetection",
    lambda t: t.ConditionalDetrConfig(
        **_DETR,
        num_queries=10,
        backbone_config=_resnet(t, out_features=["stage4"]),
        use_timm_backbone=False,
        backbone=None,
    ),
    "logits",
    "pred_boxes",
    pixel_values=noise(1, 3, 96, 64),
)
deformable_detr = transformers_entry(
    "DeformableDetrForObjectDetection",
    lambda t: t.DeformableDetrConfig(
        **_DETR,
        num_queries=10,
        backbone_config=_resnet(t, out_features=["stage2", "stage3", "stage4"]),
        use_timm_backbone=False,
        backbone=None,
    ),
    "logits",
    "pred_boxes",
    pixel_values=noise(1, 3, 96, 64),
)
yolos = transformers_entry(
    "YolosForObjectDetection",
    lambda t: t.YolosConfig(**_LAYERS, image_size=[64, 64], num_detection_tokens=8),
    "logits",
    "pred_boxes",
    pixel_values=noise(1, 3, 64, 64),
)
segformer = transformers_entry(
    "SegformerForSemanticSegmentation",
    lambda t: t.SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], decoder_hidden_size=32),
    pixel_values=noise(1, 3, 64, 64),
)
upernet = transformers_entry(
    "UperNetForSemanticSegmentation",
    lambda t: t.UperNetConfig(
        backbone_config=t.ConvNextConfig(
            depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], out_features=["stage1", "stage2", "stage3", "stage4"]
        ),
        hidden_size=32,
        auxiliary_in_channels=48,
        use_auxiliary_head=False,
    ),
    "logits",
    pixel_values=noise(1, 3, 64, 64),
)
mobilevit_deeplab = transformers_entry(
    "MobileViTForSemanticSegmentation",
    lambda t: t.MobileViTConfig(
        hidden_sizes=[48, 48, 48], neck_hidden_sizes=[8, 16, 24, 32, 32, 48, 64], aspp_out_channels=32
    ),
    "logits",
    pixel_values=noise(1, 3, 64, 64),
)
maskformer = transformers_entry(
    "MaskFormerForInstanceSegmentation",
    lambda t: t.MaskFormerConfig(
        fpn_feature_size=32,
        mask_feature_size=32,
        backbone_config=t.SwinConfig(
            image_size=64,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 4, 8],
            window_size=2,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        decoder_config=t.DetrConfig(**_DETR, num_queries=10),
    ),
    "class_queries_logits",
    "masks_queries_logits",
    pixel_values=noise(1, 3, 64, 64),
)
sam_encoder = transformers_entry(
    "SamVisionModel",
    lambda t: t.SamVisionConfig(
        hidden_size=64, mlp_dim=96, output_channels=32, num_hidden_layers=2, num_attention_heads=4, image_size=96,
        patch_size=8, window_size=4, global_attn_indexes=[1],
    ),
    pixel_values=noise(1, 3, 96, 96),
)  # fmt: skip
dpt = transformers_entry(
    "DPTForDepthEstimation",
    lambda t: t.DPTConfig(
        **_LAYERS | {"num_hidden_layers": 4},
        image_size=64,
        is_hybrid=False,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=32,
    ),
    "predicted_depth",
    pixel_values=noise(1, 3, 64, 64),
)  # fmt: skip
glpn = transformers_entry(
    "GLPNForDepthEstimation",
    lambda t: t.GLPNConfig(depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 80, 64], decoder_hidden_size=32),
    "predicted_depth",
    pixel_values=noise(1, 3, 64, 64),
)

_TEXT = _LAYERS | {"vocab_size": VOCABULARY, "max_position_embeddings": 32, "eos_token_id": VOCABULARY - 1}
_VISION = _LAYERS | {"image_size": 64, "patch_size": 16}
clip = transformers_entry(
    "CLIPModel",
    lambda t: t.CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=32),
    "logits_per_image",
    "text_embeds",
    "image_embeds",
    input_ids=ids(2, 12),
    attention_mask=ones(2, 12),
    pixel_values=noise(2, 3, 64, 64),
)
siglip = transformers_entry(
    "SiglipModel",
    lambda t: t.SiglipConfig(text_config=_TEXT, vision_config=_VISION),
    "logits_per_image",
    "text_embeds",
    "image_embeds",
    input_ids=ids(2, 12),
    pixel_values=noise(2, 3, 64, 64),
)
owlvit = transformers_entry(
    "OwlViTForObjectDetection",
    lambda t: t.OwlViTConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=64),
    "logits",
    "pred_boxes",
    input_ids=ids(1, 12),
    attention_mask=ones(1, 12),
    pixel_values=noise(1, 3, 64, 64),
)
blip = transformers_entry(
    "BlipForConditionalGeneration",
    lambda t: t.BlipConfig(
        text_config=_TEXT | {"encoder_hidden_size": 64, "bos_token_id": 1, "sep_token_id": 2, "pad_token_id": 0},
        vision_config=_VISION,
    ),
    "logits",
    pixel_values=noise(1, 3, 64, 64),
    input_ids=ids(1, 12),
)


mask2former = transformers_entry(
    "Mask2FormerForUniversalSegmentation",
    lambda t: t.Mask2FormerConfig(
        backbone_config=t.SwinConfig(
            image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=2,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=64, encoder_layers=2,
        decoder_layers=2, num_attention_heads=4, dim_feedforward=64, num_queries=10,
    ),
    "class_queries_logits",
    "masks_queries_logits",
    pixel_values=noise(1, 3, 64, 64),
)  # fmt: skip
swin2sr = transformers_entry(
    "Swin2SRForImageSuperResolution",
    lambda t: t.Swin2SRConfig(image_size=32, embed_dim=24, depths=[2], num_heads=[4], window_size=4, upscale=2),
    "reconstruction",
    pixel_values=noise(1, 3, 32, 32),
)
perceiver = transformers_entry(
    "PerceiverModel",
    lambda t: t.PerceiverConfig(
        num_latents=8, d_latents=32, d_model=48, num_self_attends_per_block=2, num_self_attention_heads=4,
        num_cross_attention_heads=4,
    ),
    inputs=noise(1, 20, 48),
)  # fmt: skip
groupvit = transformers_entry(
    "GroupViTVisionModel",
    lambda t: t.GroupViTVisionConfig(
        hidden_size=64, intermediate_size=96, depths=[1, 1, 1], num_group_tokens=[8, 4, 0],
        num_output_groups=[8, 4, 0], num_attention_heads=4, image_size=64,
    ),
    f16="each patch goes to the group of the highest score, which changes with rounding",
    pixel_values=noise(1, 3, 64, 64),
)  # fmt: skip


class _Maps(torch.nn.Module):
    """The maps of a torchvision segmentation model, whose result is a dictionary."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return list(self.model(x).values())


def _torchvision(name: str) -> Entry:
    def make() -> Example:
        import torchvision_cpu

        model = torchvision_cpu.models.get_model(name, weights=None, weights_backbone=None, num_classes=5)
        return _Maps(model), (randn(1, 3, 64, 64),), {}

    return Entry(make)


deeplab_v3 = _torchvision("deeplabv3_mobilenet_v3_large")
lraspp = _torchvision("lraspp_mobilenet_v3_large")
fcn = _torchvision("fcn_resnet50")


class _Heads(torch.nn.Module):
    """A torchvision detector up to its boxes: their suppression gives shapes that depend on data."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = self.model.backbone(x)
        return list(self.model.head(list(maps.values())).values())


def _detector(name: str) -> Entry:
    def make() -> Example:
        import torchvision_cpu

        model = torchvision_cpu.models.get_model(name, weights=None, weights_backbone=None, num_classes=5)
        return _Heads(model), (randn(1, 3, 96, 96),), {}

    return Entry(make)


ssdlite = _detector("ssdlite320_mobilenet_v3_large")
fcos = _detector("fcos_resnet50_fpn")


def _raft() -> Example:
    import torchvision_cpu

    return torchvision_cpu.models.optical_flow.raft_small(), (randn(1, 3, 128, 128), randn(1, 3, 128, 128).flip(2)), {}


raft = Entry(_raft, "the positions that it makes are f32 whatever its weights are")


class _UNet(torch.nn.Module):
    """The U-shaped network of Ronneberger et al., with transposed convolutions on the way up."""

    def __init__(self, widths: tuple[int, ...] = (8, 16, 32)):
        super().__init__()
        block = lambda i, o: torch.nn.Sequential(  # noqa: E731
            torch.nn.Conv2d(i, o, 3, padding=1), torch.nn.BatchNorm2d(o), torch.nn.ReLU(),
            torch.nn.Conv2d(o, o, 3, padding=1), torch.nn.BatchNorm2d(o), torch.nn.ReLU(),
        )  # fmt: skip
        pairs = list(itertools.pairwise(widths))
        self.start = block(3, widths[0])
        self.down = torch.nn.ModuleList(block(i, o) for i, o in pairs)
        self.grow = torch.nn.ModuleList(torch.nn.ConvTranspose2d(o, i, 2, 2) for i, o in reversed(pairs))
        self.up = torch.nn.ModuleList(block(2 * i, i) for i, o in reversed(pairs))
        self.head = torch.nn.Conv2d(widths[0], 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = [self.start(x)]
        for down in self.down:
            skips.append(down(torch.nn.functional.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for grow, up in zip(self.grow, self.up, strict=True):
            x = up(torch.cat([skips.pop(), grow(x)], 1))
        return self.head(x)


unet = Entry(lambda: (_UNet(), (randn(1, 3, 48, 64),), {}))
