"""The tiny model as a GGUF file."""

from collections.abc import Sequence
from pathlib import Path


def make_tiny_gguf(
    model_dir: Path, file: Path, *, without: str | None = None, marked: Sequence[tuple[str, int]] = ()
) -> Path:
    """Write the tiny Llama and its tokenizer as llama.cpp would.

    ``without`` names a tensor to leave out; ``marked`` are tokens behind the tokenizer's own, with types.
    """
    import json

    import gguf
    from safetensors.torch import load_file

    config = json.loads((model_dir / "config.json").read_text())
    tokenizer = json.loads((model_dir / "tokenizer.json").read_text())
    n_layers, n_heads = config["num_hidden_layers"], config["num_attention_heads"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*vocabulary, *(token for token, _ in marked)])
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in vocabulary]
    writer.add_token_types([*kinds, *(kind for _, kind in marked)])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(vocabulary.index("<bos>"))
    writer.add_eos_token_id(vocabulary.index("<eos>"))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, n_layers)
    for name, tensor in load_file(model_dir / "model.safetensors").items():
        if name == without:
            continue
        values = tensor.float().numpy()
        heads = {"q_proj": n_heads, "k_proj": config["num_key_value_heads"]}.get(name.split(".")[-2])
        if heads is not None:  # llama.cpp turns pairs of neighbors, transformers halves.
            shape = (heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
            values = values.reshape(shape).swapaxes(1, 2).reshape(values.shape)
        short = names.get_name(name, try_suffixes=(".weight",))
        assert short is not None, name
        writer.add_tensor(short, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
