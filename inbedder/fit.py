"""InBedder's training: a language model learns to answer questions about texts, shortly; what benchmarks call too."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from common.data import RowList, RowStream
from common.embedder import Embedder
from common.encoder import Encoder
from common.errors import InputError
from common.lm_head import load_lm_head
from common.lora import trains_adapter
from common.reading import read_json
from common.recipe import TrainConfig
from common.token_objective import TokenModel, TokenTrainer, no_objective
from common.training import fit as fit_shared
from inbedder.masked import load_masked_head
from inbedder.qa_collator import AnswerCollator
from inbedder.qa_data import answered

logger = logging.getLogger(__name__)


def fit(encoder: Encoder, rows: RowList | RowStream, config: TrainConfig, *, valid: RowList | None = None) -> Encoder:
    """Train an encoder to answer, in place; its weights or adapter end up in `config.output_dir`.

    The loss of a step is the mean of -log p(a | what stands before a) over all tokens a of its answers (EOS included),
    for causal models; for masked ones of -log p(a | prompt and masks).

    Rows are question-answer rows, or pairs or triplets (`inbedder.qa_data.answered` says how those are used). All
    weights are trained, the head's too, or LoRA on the trunk with the head as it is.

    Raises:
        InputError: rows without answers, a template without a place for the question, or a model without head.
    """
    simplified = getattr(config, "simplify_answers", True)
    question = getattr(config, "question", None)
    rows = answered(rows, simplified=simplified, question=question)
    held_out = None if valid is None else answered(valid, simplified=simplified, question=question)
    if not isinstance(encoder.embedder, Embedder):
        raise InputError("training reads texts by convention 'prompt'; leave out convention 'pair'")
    collator = AnswerCollator(encoder, config.seed)
    backbone, embedder = encoder.backbone, encoder.embedder
    if not trains_adapter(encoder, config.apply_lora) and backbone.quantize:
        raise InputError("--apply_lora 0: the weights of a quantised model can't be trained; use LoRA")
    encoder.embedder = model_of(encoder, train_head=not trains_adapter(encoder, config.apply_lora))
    try:
        fit_shared(
            encoder,
            rows,
            no_objective,
            config,
            valid=held_out,
            collator=collator,  # type: ignore[arg-type]
            stop_after_steps=getattr(config, "stop_after_n_steps", None),
            trainer_class=TokenTrainer,
        )
    finally:
        embedder.trunk = encoder.backbone.model
        encoder.embedder = embedder
    embedder.eval()
    if collator.shortened:
        logger.warning("%s: prompts were shortened to max_length %d", rows.source, encoder.max_length)
    return encoder


def model_of(encoder: Encoder, *, train_head: bool) -> TokenModel:
    """The trunk with its head, ready to train; the head is kept in the backbone, so that it is saved, too."""
    backbone = encoder.backbone
    if backbone.is_decoder:
        causal = load_lm_head(backbone)
        backbone.head = causal.linear
        if causal.linear is not None:
            causal.linear.requires_grad_(train_head)
        return TokenModel(encoder.embedder, causal)
    head = load_masked_head(backbone)
    tie(head, backbone.model)
    backbone.head = head
    for parameter in head.parameters():
        parameter.requires_grad_(train_head)
    return TokenModel(encoder.embedder, MaskedHead(head), shifted=False)


class MaskedHead(nn.Module):
    """A masked model's head in the form of `common.lm_head.LMHead`; it holds its own output projection."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, states: Tensor, trunk: nn.Module) -> Tensor:
        """Logits (N, V), fp32, of states (N, D)."""
        return self.head(states).float()


def tie(head: nn.Module, trunk: Any) -> None:
    """Let the head's output projection be the trunk's embedding table again, where the model ties them."""
    if not trunk.config.tie_word_embeddings:
        return
    table = trunk.get_input_embeddings().weight
    for module in head.modules():
        if isinstance(module, nn.Linear) and module.weight.shape == table.shape:
            module.weight = table


def measured(folder: Path) -> list[dict[str, Any]]:
    """Step, loss, accuracy and number of answer tokens of the validation rows, as a training wrote them."""
    return read_json(folder / "training.json").get("validation", {}).get("scored", [])
