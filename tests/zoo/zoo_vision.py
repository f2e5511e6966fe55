"""Image classifiers: timm's and torchvision's own code, at 64 pixels where the architecture allows it."""

from __future__ import annotations

from typing import Any

from zoo_common import Entry, Example, noise, randn, timm_entry, transformers_entry

_BLOCKS = (1, 1, 1, 1)

# ---------------------------------------------------------------- convolutional

resnet18 = timm_entry("resnet18")
resnet50 = timm_entry("resnet50", layers=_BLOCKS)
resnext50 = timm_entry("resnext50_32x4d", layers=_BLOCKS)
seresnet = timm_entry("seresnet50", layers=_BLOCKS)
res2net = timm_entry("res2net50_26w_4s", layers=_BLOCKS)
resnest = timm_entry("resnest14d")
sknet = timm_entry("skresnet18")
regnetx = timm_entry("regnetx_002")
regnety = timm_entry("regnety_002")
mobilenet_v1 = timm_entry("mobilenetv1_100")
mobilenet_v2 = timm_entry("mobilenetv2_050")
mobilenet_v3 = timm_entry("mobilenetv3_small_100")
mobilenet_v4 = timm_entry("mobilenetv4_conv_small")
mobilenet_v4_hybrid = timm_entry("mobilenetv4_hybrid_medium")
efficientnet = timm_entry("efficientnet_b0")
efficientnet_v2 = timm_entry("tf_efficientnetv2_b0")
efficientnet_lite = timm_entry("tf_efficientnet_lite0")
mixnet = timm_entry("mixnet_s")
mnasnet = timm_entry("mnasnet_small")
ghostnet = timm_entry("ghostnet_050")
lcnet = timm_entry("lcnet_050")
rexnet = timm_entry("rexnet_100")
hardcorenas = timm_entry("hardcorenas_a")
convnext = timm_entry("convnext_atto", depths=(1, 1, 2, 1))
convnext_v2 = timm_entry("convnextv2_atto", depths=(1, 1, 2, 1))
densenet = timm_entry("densenet121", block_config=(2, 2, 2, 2))
inception_v3 = timm_entry("inception_v3", 96)
inception_v4 = timm_entry("inception_v4", 96)
inception_next = timm_entry("inception_next_atto", depths=(1, 1, 2, 1))
xception = timm_entry("xception41", 64)
hrnet = timm_entry("hrnet_w18_small")
vgg = timm_entry("vgg11_bn", 64)
nfnet = timm_entry("eca_nfnet_l0", 64)
nf_regnet = timm_entry("nf_regnet_b0")
dla = timm_entry("dla34")
dpn = timm_entry("dpn48b")
vovnet = timm_entry("ese_vovnet19b_slim")
cspnet = timm_entry("cspresnet50", 64)
mobileone = timm_entry("mobileone_s0")
repvgg = timm_entry("repvgg_a0")
repghost = timm_entry("repghostnet_050")
selecsls = timm_entry("selecsls42b")
hgnet = timm_entry("hgnetv2_b0")
starnet = timm_entry("starnet_s1")

nasnet = timm_entry("nasnetalarge", 64)
fasternet = timm_entry("fasternet_t0")
tresnet = timm_entry("tresnet_m", 64)
rdnet = timm_entry("rdnet_tiny", 64)

# ---------------------------------------------------------------- with attention

vit = timm_entry("vit_tiny_patch16_224", 64, img_size=64, depth=2)
deit = timm_entry("deit_tiny_distilled_patch16_224", 64, img_size=64, depth=2)
deit3 = timm_entry("deit3_small_patch16_224", 64, img_size=64, depth=2)
beit = timm_entry("beit_base_patch16_224", 64, img_size=64, depth=2, embed_dim=192, num_heads=3)
eva02 = timm_entry("eva02_tiny_patch14_224", 56, img_size=56, depth=2)
cait = timm_entry("cait_xxs24_224", 64, img_size=64, depth=2)
xcit = timm_entry("xcit_nano_12_p16_224", 64, img_size=64, depth=2)
crossvit = timm_entry("crossvit_tiny_240", 240)
swin = timm_entry(
    "swin_tiny_patch4_window7_224", 64, img_size=64, window_size=4, depths=(2, 2), num_heads=(3, 6), embed_dim=48
)
swin_v2 = timm_entry(
    "swinv2_tiny_window8_256", 64, img_size=64, window_size=4, depths=(2, 2), num_heads=(3, 6), embed_dim=48
)
mobilevit = timm_entry("mobilevit_xxs", 64)
mobilevit_v2 = timm_entry("mobilevitv2_050", 64)
fastvit = timm_entry("fastvit_t8", 64)
repvit = timm_entry("repvit_m0_9", 64)
efficientformer = timm_entry("efficientformer_l1", 224, depths=(1, 1, 1, 2))
efficientformer_v2 = timm_entry("efficientformerv2_s0", 224, depths=(1, 1, 1, 2))
efficientvit_mit = timm_entry("efficientvit_b0", 64)
efficientvit_msra = timm_entry("efficientvit_m0", 224)
levit = timm_entry("levit_128s", 224)
tiny_vit = timm_entry("tiny_vit_5m_224", 224)
edgenext = timm_entry("edgenext_xx_small", 64)
poolformer = timm_entry("poolformer_s12", 64)
caformer = timm_entry("caformer_s18", 64)
coatnet = timm_entry("coatnet_nano_rw_224", 64, img_size=64)
maxvit = timm_entry("maxvit_pico_rw_256", 64, img_size=64)
pvt_v2 = timm_entry("pvt_v2_b0", 64)
twins = timm_entry("twins_svt_small", 64, img_size=64, depths=(1, 1, 2, 1))
davit = timm_entry("davit_tiny", 64, depths=(1, 1, 1, 1))
focalnet = timm_entry("focalnet_tiny_srf", 64)
mixer = timm_entry("mixer_s32_224", 64, img_size=64)
resmlp = timm_entry("resmlp_12_224", 64, img_size=64)
gmlp = timm_entry("gmlp_ti16_224", 64, img_size=64)
hiera = timm_entry("hiera_tiny_224", 64, img_size=64)
volo = timm_entry("volo_d1_224", 64, img_size=64)
visformer = timm_entry("visformer_tiny", 64, img_size=64)
convmixer = timm_entry("convmixer_768_32", 64)
nest = timm_entry("nest_tiny", 64, img_size=64)
convit = timm_entry("convit_tiny", 64, img_size=64, depth=3, local_up_to_layer=2)
coat = timm_entry("coat_lite_tiny", 64, img_size=64)
gcvit = timm_entry("gcvit_xxtiny", 64, img_size=64)
halonet = timm_entry("halonet26t", 256)
botnet = timm_entry("botnet26t_256", 64, img_size=64)
lambda_resnet = timm_entry("lambda_resnet26t", 64, img_size=64)
sequencer = timm_entry("sequencer2d_s", 64, layers=(1, 1, 1, 1))
swin_v2_cr = timm_entry("swinv2_cr_tiny_ns_224", 64, img_size=64, depths=(1, 1, 1, 1), window_size=2)
tnt = timm_entry("tnt_s_legacy_patch16_224", 64, img_size=64, depth=2)
pit = timm_entry("pit_ti_224", 64, img_size=64)
nextvit = timm_entry("nextvit_small", 64)
efficientvim = timm_entry("efficientvim_m1", 64)
samvit = timm_entry("samvit_base_patch16_224", 64, img_size=64, depth=2, embed_dim=96, num_heads=3)
mambaout = timm_entry("mambaout_femto", 64)
dinov2 = transformers_entry(
    "Dinov2Model",
    lambda t: t.Dinov2Config(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14),
    pixel_values=noise(1, 3, 70, 56),
)


# ---------------------------------------------------------------- torchvision


def _torchvision(name: str, size: int = 64, **options: Any) -> Entry:
    def make() -> Example:
        import torchvision_cpu

        model = torchvision_cpu.models.get_model(name, weights=None, num_classes=10, **options)
        return model, (randn(1, 3, size, size),), {}

    return Entry(make)


alexnet = _torchvision("alexnet")
squeezenet = _torchvision("squeezenet1_1")
shufflenet = _torchvision("shufflenet_v2_x0_5")
googlenet = _torchvision("googlenet", aux_logits=False, init_weights=False)
