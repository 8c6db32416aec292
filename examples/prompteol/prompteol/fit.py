"""How PromptEOL trains: SimCSE's supervised loss, a text against its positive and all other texts of the batch."""

from common.losses import contrastive_loss
from common.training import fit as fit_shared


def objective(columns, labels, *, text_ids=None):
    """The loss of a whole batch, from the vectors of each column; scale 20 is a temperature of 0.05."""
    return contrastive_loss(columns["query"], columns["positive"], columns.get("negative"), scale=20.0)


def fit(encoder, rows, config, *, valid=None):
    """Train in place on pairs or triplets; `config` is a `common.recipe.TrainConfig`."""
    return fit_shared(encoder, rows, objective, config, valid=valid)
