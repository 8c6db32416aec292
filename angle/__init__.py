"""AnglE (arXiv 2309.12871): optimise the angle difference in complex space."""
