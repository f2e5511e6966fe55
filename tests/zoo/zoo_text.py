"""Language models from transformers' configurations, two layers each."""

from __future__ import annotations

from typing import Any

from zoo_common import VOCABULARY, Entry, ids, ones, transformers_entry

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
GROUPED = SMALL | {"num_key_value_heads": 2}


def _decoder(
    family: str, suffix: str = "ForCausalLM", sizes: dict[str, Any] = GROUPED, f16: str = "", **config: Any
) -> Entry:
    """`family` is transformers' prefix: Llama for LlamaConfig and LlamaForCausalLM."""
    return transformers_entry(
        family + suffix, lambda t: getattr(t, f"{family}Config")(**sizes, **config), f16=f16, input_ids=ids(1, 16)
    )


def _encoder(family: str, suffix: str = "Model", sizes: dict[str, Any] = SMALL, **config: Any) -> Entry:
    return transformers_entry(
        family + suffix,
        lambda t: getattr(t, f"{family}Config")(**sizes, **config),
        input_ids=ids(2, 12),
        attention_mask=ones(2, 12),
    )


# ---------------------------------------------------------------- decoders

llama = _decoder("Llama")
qwen2 = _decoder("Qwen2")
qwen3 = _decoder("Qwen3", head_dim=16)
mistral = _decoder("Mistral", sliding_window=6)
gemma = _decoder("Gemma", head_dim=16)
gemma2 = _decoder("Gemma2", head_dim=16, sliding_window=6)
gemma3 = transformers_entry(
    "Gemma3ForCausalLM",
    lambda t: t.Gemma3TextConfig(**GROUPED, head_dim=16, sliding_window=6),
    input_ids=ids(1, 16),
)
phi = _decoder("Phi")
phi3 = _decoder("Phi3")
olmo2 = _decoder("Olmo2")
stablelm = _decoder("StableLm")
smollm3 = _decoder("SmolLM3")
granite = _decoder("Granite")
cohere = _decoder("Cohere")
starcoder2 = _decoder("Starcoder2")
glm4 = _decoder("Glm4", head_dim=16)
gpt2 = _decoder(
    "GPT2", "LMHeadModel", {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
)
gpt_neox = _decoder("GPTNeoX", sizes=SMALL)
gptj = _decoder(
    "GPTJ",
    sizes={"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "n_positions": 64},
)
opt = _decoder(
    "OPT", sizes={k: v for k, v in SMALL.items() if k != "intermediate_size"}, ffn_dim=96, word_embed_proj_dim=64
)
bloom = _decoder("Bloom", sizes={"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4})
mpt = _decoder("Mpt", sizes={"vocab_size": VOCABULARY, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 64})
falcon = _decoder(
    "Falcon", sizes={"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
)
mamba = _decoder("Mamba", sizes={"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2})
mamba2 = _decoder(
    "Mamba2",
    sizes={"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2},
    num_heads=8,
    head_dim=16,
    n_groups=2,
    state_size=16,
    chunk_size=8,
)
rwkv = _decoder(
    "Rwkv", sizes={"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "context_length": 32}
)
recurrent_gemma = _decoder("RecurrentGemma", lru_width=64, attention_window_size=8)
mixtral = _decoder("Mixtral", num_local_experts=4)
olmoe = _decoder("Olmoe", num_experts=4, num_experts_per_tok=2)
qwen2_moe = _decoder(
    "Qwen2Moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=64
)
deepseek_v3 = _decoder(
    "DeepseekV3",
    sizes=SMALL,
    num_key_value_heads=4,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_group=2,
    topk_group=1,
    first_k_dense_replace=1,
    moe_intermediate_size=32,
    q_lora_rank=32,
    kv_lora_rank=16,
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    v_head_dim=16,
)
gpt_oss = _decoder("GptOss", head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=8)

llama4 = transformers_entry(
    "Llama4ForCausalLM",
    lambda t: t.Llama4TextConfig(
        **GROUPED, head_dim=16, intermediate_size_mlp=96, num_local_experts=4, attention_chunk_size=8
    ),
    input_ids=ids(1, 16),
)
deepseek_v2 = _decoder(
    "DeepseekV2",
    sizes=SMALL,
    num_key_value_heads=4,
    n_routed_experts=4,
    n_shared_experts=1,
    num_experts_per_tok=2,
    first_k_dense_replace=1,
    moe_intermediate_size=32,
    q_lora_rank=32,
    kv_lora_rank=16,
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    v_head_dim=16,
)
qwen3_next = _decoder(
    "Qwen3Next",
    head_dim=16,
    layer_types=["linear_attention", "full_attention"],
    linear_key_head_dim=16,
    linear_value_head_dim=16,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=32,
    shared_expert_intermediate_size=32,
)
lfm2 = _decoder("Lfm2", layer_types=["conv", "full_attention"])
jamba = _decoder(
    "Jamba", num_experts=2, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8, use_mamba_kernels=False
)
gpt_neo = _decoder(
    "GPTNeo",
    sizes={"vocab_size": VOCABULARY, "hidden_size": 64, "num_layers": 2, "num_heads": 4},
    attention_types=[[["global", "local"], 1]],
    window_size=6,
    max_position_embeddings=64,
)
nemotron = _decoder("Nemotron")
xglm = _decoder(
    "XGLM", sizes={"vocab_size": VOCABULARY, "d_model": 64, "num_layers": 2, "attention_heads": 4, "ffn_dim": 96}
)

# ---------------------------------------------------------------- encoders

fnet = transformers_entry(
    "FNetModel",
    lambda t: t.FNetConfig(**SMALL),
    f16="torch has no Fourier transform of f16 on a CPU",
    input_ids=ids(2, 12),
)
convbert = _encoder("ConvBert", embedding_size=64)
funnel = _encoder(
    "Funnel",
    sizes={"vocab_size": VOCABULARY, "d_model": 64, "n_head": 4, "d_head": 16, "d_inner": 96},
    block_sizes=[1, 1],
)
roformer = _encoder("RoFormer", embedding_size=64)
esm = _encoder("Esm", position_embedding_type="rotary", mask_token_id=2)
ibert = _encoder("IBert")
flaubert = _encoder("Flaubert", sizes={"vocab_size": VOCABULARY, "emb_dim": 64, "n_layers": 2, "n_heads": 4})
bert = _encoder("Bert")
roberta = _encoder("Roberta")
electra = _encoder("Electra", embedding_size=32)
albert = _encoder("Albert", embedding_size=32)
deberta = _encoder("Deberta", relative_attention=True, pos_att_type=["c2p", "p2c"])
deberta_v2 = _encoder(
    "DebertaV2", relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8, norm_rel_ebd="layer_norm"
)
distilbert = _encoder(
    "DistilBert", sizes={"vocab_size": VOCABULARY, "dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4}
)
squeezebert = _encoder("SqueezeBert", embedding_size=64)
mobilebert = _encoder("MobileBert", intra_bottleneck_size=32, embedding_size=32, true_hidden_size=32)
modernbert = _encoder("ModernBert", local_attention=8)
xlnet = _encoder("XLNet", sizes={"vocab_size": VOCABULARY, "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 96})
megatron_bert = transformers_entry(
    "MegatronBertModel", lambda t: t.MegatronBertConfig(**SMALL), input_ids=ids(2, 12), attention_mask=ones(2, 12)
)

# ---------------------------------------------------------------- encoders with decoders

_SEQ2SEQ = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "max_position_embeddings": 64,
}


def _translator(family: str, f16: str = "", **config: Any) -> Entry:
    return transformers_entry(
        f"{family}ForConditionalGeneration",
        lambda t: getattr(t, f"{family}Config")(**config),
        f16=f16,
        input_ids=ids(1, 14),
        decoder_input_ids=ids(1, 8),
    )


_T5 = {"vocab_size": VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
t5 = _translator("T5", **_T5)
flan_t5 = _translator("T5", **_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
prophetnet = _translator(
    "ProphetNet",
    vocab_size=VOCABULARY, hidden_size=64, encoder_ffn_dim=96, decoder_ffn_dim=96, num_encoder_layers=2,
    num_decoder_layers=2, num_encoder_attention_heads=4, num_decoder_attention_heads=4, max_position_embeddings=64,
)  # fmt: skip
_OVERFLOW = "its encoder asks, in f16 alone, whether a value is infinite"
bart = _translator("Bart", _OVERFLOW, **_SEQ2SEQ)
mbart = _translator("MBart", _OVERFLOW, **_SEQ2SEQ)
pegasus = _translator("Pegasus", _OVERFLOW, **_SEQ2SEQ)
m2m100 = _translator("M2M100", _OVERFLOW, **_SEQ2SEQ)
blenderbot = _translator("Blenderbot", _OVERFLOW, **_SEQ2SEQ)
