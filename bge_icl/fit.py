"""BGE-ICL's training: contrastive, with examples in the query; what the benchmarks call too."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from bge_icl.batch_examples import ExampleOptions
from bge_icl.collator import IclCollator
from bge_icl.objective import DDP_MEAN, IclObjective
from bge_icl.prompts import PLAIN_EXAMPLE_FORMAT, PLAIN_TEMPLATE
from bge_icl.recipe import IclConfig
from bge_icl.special_tokens import prepare
from bge_icl.train_data import data_sets, triplets_as_rows
from common.data import RowList, RowStream
from common.encoder import Encoder
from common.errors import InputError
from common.recipe import TrainConfig
from common.task_batches import SingleSetBatches
from common.training import EmbeddingTrainer
from common.training import fit as fit_shared

logger = logging.getLogger(__name__)

# The instruction of rows that bring none: that of the paper's sets of semantic similarity.
SIMILARITY = "Retrieve semantically similar text."


def fit(encoder: Encoder, rows: RowList | RowStream, config: TrainConfig, *, valid: RowList | None = None) -> Encoder:
    """Train an encoder, in place; settings as in `common.training.fit`.

    Rows are those of `bge_icl.train_data.read_data`. Pairs and triplets (`common.data`) are taken as retrieval rows:
    queries with their instruction, by default `SIMILARITY`, and examples from the batch, the other texts bare. Of
    labelled pairs, those with a high label are positives.

    Raises:
        InputError: streamed rows, or ones of another format.
    """
    settings = config if isinstance(config, IclConfig) else _with_defaults(config)
    known = icl_rows(rows, settings)
    measured = None if valid is None else _as_validation(icl_rows(valid, settings))
    sets = {**data_sets(known, settings), **({} if measured is None else data_sets(measured, settings))}
    if settings.use_special_tokens:
        prepare(
            encoder,
            settings.special_tokens,
            lora=encoder.backbone.is_decoder if settings.apply_lora is None else settings.apply_lora,
            seed=settings.seed,
            r=settings.lora_r,
            alpha=settings.lora_alpha,
            dropout=settings.lora_dropout,
            target_modules=settings.lora_target_modules,
        )
    plain = encoder.template_for("query").pattern == PLAIN_TEMPLATE
    options = ExampleOptions(
        most=settings.max_examples,
        query_max_len=settings.query_max_len,
        example_query_max_len=settings.example_query_max_len,
        example_passage_max_len=settings.example_passage_max_len,
        answer=PLAIN_EXAMPLE_FORMAT.split("{}")[2] if plain else "\n<response>",
        retrieval=settings.retrieval_use_examples,
    )
    objective = IclObjective(
        settings.temperature,
        normalize=settings.normalize,
        teacher=settings.distill,
        ddp_mean=DDP_MEAN in settings.compat,
    )
    encoder.normalize = settings.normalize
    return fit_shared(
        encoder,
        known,
        objective,
        config,
        valid=measured,
        collator=IclCollator(encoder, sets, options, settings.passage_max_len, settings.seed),
        gather_batches=settings.negatives_cross_device,
        trainer_class=IclTrainer,
    )


class IclTrainer(EmbeddingTrainer):
    """Batches are of one data set, of the size that it has, and say whether other rows' passages are negatives."""

    def get_train_dataloader(self) -> DataLoader:
        """Batches as `common.task_batches.SingleSetBatches` has them."""
        return self._batches_of(self.train_dataset, shuffle=True)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """The validation rows, set after set."""
        return self._batches_of(self.eval_dataset if eval_dataset is None else eval_dataset, shuffle=False)

    def _batches_of(self, rows: Any, *, shuffle: bool) -> DataLoader:
        collator = self.data_collator
        assert isinstance(rows, RowList)
        assert isinstance(collator, IclCollator)
        batches = SingleSetBatches(
            [row["dataset"] for row in rows.rows],
            {name: one.batch for name, one in collator.sets.items()},
            processes=self.args.world_size,
            seed=self.args.seed,
            source=rows.source,
            shuffle=shuffle,
        )
        loader = DataLoader(
            rows,
            batch_sampler=batches,
            collate_fn=collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def _loss_of(self, vectors: Tensor, inputs: dict[str, Any]) -> Tensor:
        whole = self.objective
        assert isinstance(whole, IclObjective)
        self.objective = whole if inputs["in_batch"] else whole.over_own_group()
        try:
            return super()._loss_of(vectors, inputs)
        finally:
            self.objective = whole


def _with_defaults(config: TrainConfig) -> IclConfig:
    """The settings of a training that knows nothing of BGE-ICL's own."""
    shared = {f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig) if f.init}
    return IclConfig(**shared, query_max_len=config.max_length, passage_max_len=config.max_length)


def _as_validation(rows: RowList) -> RowList:
    """The rows with names of data sets of their own: what training knows of a set need not be true of them."""
    return RowList([{**row, "dataset": f"validation/{row['dataset']}"} for row in rows.rows], rows.source)


def icl_rows(rows: RowList | RowStream, config: IclConfig) -> RowList:
    """The rows in BGE-ICL's format, whichever they are of."""
    if not isinstance(rows, RowList):
        raise InputError(f"{rows.source}: rows of a stream can't be put into batches of one data set each")
    if "in_batch" in rows.rows[0]:
        return rows
    if "label" in rows.columns:
        from common.pairs import positive_pairs

        rows = positive_pairs(rows)
    return triplets_as_rows(rows, config.prompt or SIMILARITY)
