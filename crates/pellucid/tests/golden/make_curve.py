"""Golden training: ten steps of AdamW in PyTorch on tiny models of `transformers`.

    python make_curve.py                   # writes curve/<name>/ next to this file

Each folder holds the initial weights (config.json, model.safetensors) and curve.json:
{"provenance": {...}, "recipe": {...}, "ids": [10][B][T], "targets": [10][B][T], "losses": [10], "grad_norms": [10],
"final": {parameter: [sum, sum of squares]}}. Losses are means over B T targets before the step's update; norms are of
all gradients together before clipping, each parameter once. The learning rate is constant.
"""

import json
import platform
import shutil
from pathlib import Path

import torch
import transformers
from make_transformers import randomise
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

SEED = 4711
HERE = Path(__file__).resolve().parent
B, T, VOCAB, STEPS = 4, 16, 65, 10
RECIPE = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1,
          "decay": "parameters with two dimensions or more", "clip": 1.0, "clip_rule": "scale by min(1, clip / norm)"}
MODELS = {
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=VOCAB, n_positions=T, n_embd=32, n_layer=2, n_head=4,
                                         resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                                         bos_token_id=0, eos_token_id=0)),
    "llama": (LlamaForCausalLM, LlamaConfig(vocab_size=VOCAB, max_position_embeddings=T, hidden_size=32,
                                            intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                                            num_key_value_heads=2, rms_norm_eps=1e-5,
                                            bos_token_id=0, eos_token_id=0)),
}


def batches(generator):
    """A noisy cycle through the vocabulary: learnable, so the loss moves."""
    for _ in range(STEPS):
        start = torch.randint(0, VOCAB, (B, 1), generator=generator)
        line = (start + 7 * torch.arange(T + 1)) % VOCAB
        noise = torch.randint(0, VOCAB, line.shape, generator=generator)
        line = torch.where(torch.rand(line.shape, generator=generator) < 0.2, noise, line)
        yield line[:, :-1].contiguous(), line[:, 1:].contiguous()


def main():
    torch.set_num_threads(1)
    provenance = {"script": "tests/golden/make_curve.py", "seed": SEED, "torch": torch.__version__,
                  "transformers": transformers.__version__, "python": platform.python_version()}
    for i, (name, (kind, config)) in enumerate(MODELS.items()):
        generator = torch.Generator().manual_seed(SEED + i)
        config._attn_implementation = "eager"
        model = kind(config).train()
        randomise(model, generator)
        folder = HERE / "curve" / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        matrices = [p for p in model.parameters() if p.dim() >= 2]
        vectors = [p for p in model.parameters() if p.dim() < 2]
        optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
            lr=RECIPE["learning_rate"], betas=(0.9, 0.95), eps=RECIPE["epsilon"], foreach=False)
        all_ids, all_targets, losses, norms = [], [], [], []
        for ids, targets in batches(generator):
            logits = model(ids).logits
            loss = torch.nn.functional.cross_entropy(logits.view(-1, VOCAB), targets.view(-1))
            optimizer.zero_grad()
            loss.backward()
            # torch's own clipping adds 1e-6 to the norm; the rule here is exact.
            norm = torch.sqrt(sum(p.grad.double().square().sum() for p in model.parameters())).item()
            for p in model.parameters():
                p.grad.mul_(min(1.0, 1.0 / norm))
            optimizer.step()
            all_ids.append(ids.tolist()), all_targets.append(targets.tolist())
            losses.append(loss.item()), norms.append(norm)
        final = {n: [p.double().sum().item(), p.double().square().sum().item()] for n, p in model.named_parameters()}
        text = {"provenance": provenance, "recipe": RECIPE, "ids": all_ids, "targets": all_targets, "losses": losses,
                "grad_norms": norms, "final": final}
        (folder / "curve.json").write_text(json.dumps(text) + "\n")
        print(f"{name}: losses {losses[0]:.4f} .. {losses[-1]:.4f}, norms {norms[0]:.3f} .. {norms[-1]:.3f}, "
              f"{sum(f.stat().st_size for f in folder.iterdir())} bytes")


if __name__ == "__main__":
    main()
