"""Better training data: triplets from labelled pairs, hard negatives by retrieval and reranking."""
