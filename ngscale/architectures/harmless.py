"""Keys of config.json that change no tensor's shape, whatever the architecture."""

_FILE = """
_name_or_path architectures auto_map model_type transformers_version torch_dtype dtype
_commit_hash _attn_implementation name_or_path _model_name_or_path transformers.js_config
"""
"""What the file is, and what wrote it."""
_TOKENS = """
bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id cls_token_id
decoder_start_token_id forced_bos_token_id forced_eos_token_id tokenizer_class image_token_id
video_token_id vision_start_token_id vision_end_token_id audio_token_id image_token_index
boi_token_index eoi_token_index boa_token_id eoa_token_id
"""
"""Tokens."""
_POSITIONS = """
max_position_embeddings rope_theta rope_scaling rope_parameters rope_local_base_freq
partial_rotary_factor initial_context_length rope_interleave rope_type
original_max_position_embeddings max_window_layers full_attention_interval
"""
"""Positions without weights."""
_SCALES = """
hidden_act hidden_activation activation_function hidden_activations rms_norm_eps layer_norm_eps
layer_norm_epsilon norm_epsilon norm_eps attn_logit_softcapping final_logit_softcapping
query_pre_attn_scalar routed_scaling_factor norm_topk_prob swiglu_limit swiglu_alpha clip_qkv
embedding_multiplier logits_scaling residual_multiplier attention_multiplier logit_scale
scale_attn_weights scale_attn_by_inverse_layer_idx mla_scale_q_lora mla_scale_kv_lora
router_dtype reorder_and_upcast_attn
"""
"""Activations, scales and norms' epsilons."""
_ROUTING = """
n_group topk_group topk_method scoring_func router_aux_loss_coef router_jitter_noise
output_router_logits aux_loss_alpha seq_aux ep_size experts_per_token zero_expert_type
use_grouped_topk score_function
"""
"""Routing."""
_RUNNING = """
initializer_range use_cache attention_dropout hidden_dropout resid_pdrop embd_pdrop attn_pdrop
residual_dropout embedding_dropout dropout pretraining_tp output_attentions output_hidden_states
return_dict gradient_checkpointing torchscript is_decoder
chunk_size_feed_forward problem_type id2label label2id finetuning_task use_return_dict
cache_implementation quantization_config max_length temperature top_k top_p do_sample
use_bfloat16 tf_legacy_loss task_specific_params attention_softmax_in_fp32
scale_attention_softmax_in_fp32
"""
"""Training and inference."""
_SPARSE = """
attention_method cli_factor index_local_tokens index_init_tokens
"""
"""Which keys a sparse attention reads."""
_MODALITIES = """
vision_config audio_config mm_tokens_per_image vision_soft_tokens_per_image
audio_soft_tokens_per_image
"""
"""The other modalities, which are not counted."""

HARMLESS_KEYS = frozenset(
    " ".join(
        (_FILE, _TOKENS, _POSITIONS, _SCALES, _ROUTING, _RUNNING, _SPARSE, _MODALITIES)
    ).split()
)
