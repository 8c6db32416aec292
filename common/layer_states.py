"""The pooled states of every layer of an encoder, from one forward pass per batch.

    with LayerEncoder(encoder).encode(texts) as vectors:
        middle = vectors.layer(15)  # (n, D)

Entry 0 is what the first layer takes (the token embeddings), entry l the output of layer l (1 to L) as
transformers' `hidden_states` have it: entries below L are a layer's plain output, entry L comes after the
model's final norm and is exactly what `Encoder.encode` gives. All entries are pooled as the encoder pools.

With `final_norm` the final norm is applied to every entry, so that entry n is what the model gives when it is cut
after its first n layers: the `n_layers` experiment of BeLLM (arXiv 2311.05296), for all n at once. Models such as
BERT, whose layers end in a norm of their own, have that without it.

Texts go through `Encoder.encode` itself (templates, truncation, distinct texts, batches), so the last entry is
that of an ordinary run to the last bit. A layer's states are pooled as soon as the layer has made them: no
(L + 1, B, T, D) tensor is held. The pooled vectors, (L + 1) x D x 4 bytes per distinct text (540 KB for a 7B
model), go to an unnamed file in the system's temporary folder, which `TMPDIR` moves.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from common.attention import num_layers
from common.attention_parts import find_parts
from common.embedder import TRAINING_COMPAT
from common.errors import InputError
from common.pooling import pool

if TYPE_CHECKING:
    from common.embedder import Embedder
    from common.encoder import Encoder

# What transformers' trunks call the norm after their last layer.
FINAL_NORMS = ("norm", "final_layer_norm", "final_layernorm", "final_norm", "ln_f", "norm_f")
# Row numbers travel through `Encoder.encode` as fp32 vectors of width 1, which hold whole numbers up to here.
MOST_ROWS = 2**24


class LayerEncoder:
    """Encodes texts with all layers of an encoder. Attention may be changed on the model between calls.

    Args:
        encoder: stays as it is; its usage counts what is run here.
        final_norm: apply the model's final norm to every entry.

    Raises:
        InputError: a model whose layers or final norm are not found, or whose pooling knows the last layer only.
    """

    def __init__(self, encoder: Encoder, *, final_norm: bool = False) -> None:
        self.encoder = encoder
        self.layers = len(find_layers(encoder.backbone.model))
        self._recorder = _LayerEmbedder(encoder.embedder, final_norm)
        # A view of the encoder whose "vectors" are row numbers; each layer is normalised for itself, later.
        self._view = copy.copy(encoder)
        self._view.embedder = self._recorder  # type: ignore[assignment]
        self._view.normalize = False

    def encode(self, texts: Sequence[str], **options: Any) -> LayerVectors:
        """The vectors of all layers; to be closed, or used in a `with` block.

        Args:
            texts: as many as there are; they may repeat.
            options: `batch_size`, `max_batch_tokens`, `devices`, `instruction`, `role`, `show_progress_bar` of
                `Encoder.encode`.
        """
        rows = _RowFile()
        self._recorder.rows = rows
        try:
            numbers = self._view.encode([texts] if isinstance(texts, str) else list(texts), **options)
        except BaseException:
            rows.close()
            raise
        index = numbers[:, 0].astype(np.int64) if len(numbers) else np.zeros(0, dtype=np.int64)
        return LayerVectors(rows, index, (self.layers + 1, self.encoder.dim), self.encoder.normalize)


class LayerVectors:
    """The vectors of n texts at every layer.

    Attributes:
        layers: L; entries are 0 (token embeddings) to L (the encoder's own vectors).
        dim: the width D of a vector.
    """

    def __init__(self, rows: _RowFile, index: np.ndarray, shape: tuple[int, int], normalize: bool) -> None:
        self._rows, self._index, self._normalize = rows, index, normalize
        self.layers, self.dim = shape[0] - 1, shape[1]

    def __len__(self) -> int:
        return len(self._index)

    def layer(self, entry: int) -> np.ndarray:
        """The vectors (n, D), float32, of one entry, 0 to L, in the order of the texts.

        L2-normalised where the encoder always normalises.
        """
        if not 0 <= entry <= self.layers:
            raise IndexError(f"layer {entry}: there are 0 to {self.layers}")
        if not len(self):
            return np.zeros((0, self.dim), dtype=np.float32)
        vectors = np.asarray(self._rows.array((self.layers + 1, self.dim))[self._index, entry])
        return nn.functional.normalize(torch.from_numpy(vectors), dim=1).numpy() if self._normalize else vectors

    def close(self) -> None:
        """Give the space back."""
        self._rows.close()

    def __enter__(self) -> LayerVectors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_layers(model: nn.Module) -> list[nn.Module]:
    """The transformer layers of a trunk, decoder or encoder, through PEFT.

    Raises:
        InputError: they are in no list, as for models that run one layer several times (ALBERT).
    """
    parts = find_parts(model)
    if parts.layers:
        return parts.layers
    count = num_layers(model)
    lists = [m for m in parts.trunk.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise InputError(f"layers: {parts.name} keeps its {count} layers in no list, so they can't be told apart")
    return list(lists[0])


def find_final_norm(model: nn.Module) -> nn.Module:
    """The norm after the last layer of a trunk.

    Raises:
        InputError: there is none, or none with a usual name.
    """
    parts = find_parts(model)
    for name, child in parts.trunk.named_children():
        if name in FINAL_NORMS:
            return child
    raise InputError(f"--final_norm: no norm after the layers of {parts.name} is known; leave the flag out")


class _LayerEmbedder(nn.Module):
    """In the place of an `Embedder`: stores all layers' vectors of a batch and gives their row numbers, (B, 1)."""

    def __init__(self, embedder: Embedder, final_norm: bool) -> None:
        super().__init__()
        if embedder.pooling == "pooler":
            raise InputError("layers: pooling 'pooler' is made for the last layer; give --pooling cls or mean")
        self.embedder = embedder
        self.final_norm = final_norm
        self.rows = _RowFile()
        self._find()

    @property
    def pooling(self) -> str:
        return self.embedder.pooling

    def _find(self) -> tuple[list[nn.Module], nn.Module]:
        trunk = self.embedder.trunk
        return find_layers(trunk), find_final_norm(trunk) if self.final_norm else nn.Identity()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pool_mask: Tensor | None = None) -> Tensor:
        layers, norm = self._find()
        pooled: list[Tensor] = []

        compat = self.embedder.compat - TRAINING_COMPAT

        def keep(states: Tensor) -> None:
            vectors = pool(norm(states), attention_mask, self.pooling, pool_mask=pool_mask, compat=compat)
            pooled.append(vectors.float())

        def before_first(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            keep(args[0] if args else kwargs["hidden_states"])

        def after(_: nn.Module, __: tuple, output: Any) -> None:
            keep(output[0] if isinstance(output, tuple) else output)

        handles = [layers[0].register_forward_pre_hook(before_first, with_kwargs=True)]
        handles += [layer.register_forward_hook(after) for layer in layers[:-1]]
        try:
            last = self.embedder(input_ids, attention_mask, pool_mask)
        finally:
            for handle in handles:
                handle.remove()
        widths = {vectors.shape[1] for vectors in (*pooled, last)}
        if len(pooled) != len(layers) or len(widths) > 1:
            name = type(self.embedder.trunk).__name__
            raise InputError(
                f"layers: {name} gave {len(pooled) + 1} states of widths {sorted(widths)} for {len(layers)} layers; "
                "its layers can't be scored alike"
            )
        # Stacked on the CPU: on a GPU the copy would be as large again.
        first = self.rows.append(torch.stack([vectors.to("cpu", torch.float32) for vectors in (*pooled, last)], dim=1))
        numbers = torch.arange(first, first + len(last), device=last.device)
        return numbers[:, None]


class _RowFile:
    """Rows of equal shape in an unnamed temporary file, shared by the threads and copies that write to it."""

    def __init__(self) -> None:
        self._file: Any = None
        self._count = 0
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> _RowFile:
        return self  # `devices` copies the embedder; all write here

    def append(self, block: Tensor) -> int:
        """Write (B, ...), fp32 on the CPU; returns the number of its first row."""
        data = block.contiguous().numpy()
        with self._lock:
            if self._count + len(data) > MOST_ROWS:
                raise InputError(f"layers: over {MOST_ROWS} distinct texts at once; give fewer")
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(prefix="layer-states-")  # noqa: SIM115 - closed by close()
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                raise InputError(
                    f"layers: {tempfile.gettempdir()}: {error.strerror}; set TMPDIR to a folder with more space"
                ) from error
            first, self._count = self._count, self._count + len(data)
            return first

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """All rows, (rows, *shape), without a copy."""
        return np.memmap(self._file, dtype=np.float32, mode="r", shape=(self._count, *shape))

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # what a full disk kept back is not wanted any more
                self._file.close()
            self._file = None
