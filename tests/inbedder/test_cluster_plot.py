"""inbedder/cluster_plot.py: the map of texts."""

from __future__ import annotations

import numpy as np
import pytest

from inbedder.cluster_plot import cluster_colours, map_texts, plot_clusters, save_plot
from inbedder.text_clusters import Cluster, Clustering


def clustering(assignment):
    """Random vectors in given clusters."""
    groups = [tuple(np.flatnonzero(np.array(assignment) == k).tolist()) for k in range(max(assignment) + 1)]
    clusters = tuple(
        Cluster(group, answer_words=(), text_words=(), head_words=(), representatives=(), words=("cat|s", "$wet$", "_"))
        for group in groups
    )
    vectors = np.random.default_rng(0).normal(size=(len(assignment), 8)).astype(np.float32)
    return Clustering("What, *exactly*?", clusters, np.array(assignment), vectors)


@pytest.mark.parametrize("method", ["auto", "tsne", "pca"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_maps_of_any_number_of_texts(method, count):
    vectors = np.random.default_rng(1).normal(size=(count, 6)).astype(np.float32)
    places = map_texts(vectors, method)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
    np.testing.assert_array_equal(places, map_texts(vectors, method))


def test_a_map_keeps_groups_apart():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(size=(20, 16)), rng.normal(size=(20, 16)) + 8]).astype(np.float32)
    for method in ("tsne", "pca"):
        places = map_texts(vectors, method)
        gap = np.linalg.norm(places[:20].mean(axis=0) - places[20:].mean(axis=0))
        assert gap > 2 * places[:20].std(axis=0).mean()


@pytest.mark.parametrize("count", [2, 15, 30])
def test_the_picture_names_every_cluster(count, tmp_path):
    assignment = [i % count for i in range(60)]
    found = clustering(assignment)
    figure = plot_clusters(found, map_texts(found.vectors, "pca"), "60 texts of $HOME")
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(labels) == min(count, 20) + (count > 20)
    assert labels[0].startswith("1 ")
    assert "cat|s, $wet$, _" in labels[0]
    assert [text.get_text() for text in figure.axes[0].texts] == [str(i + 1) for i in range(count)]
    save_plot(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert len(set(cluster_colours(count))) == count


def test_the_points_bear_the_colour_of_their_cluster():
    found = clustering([0, 1, 2] * 10)
    places = map_texts(found.vectors, "pca")
    figure = plot_clusters(found, places)
    points = figure.axes[0].collections[0]
    colours = {tuple(place): tuple(colour[:3]) for place, colour in zip(points.get_offsets(), points.get_facecolors())}
    for place, number in zip(places, found.assignment):
        assert colours[tuple(place)] == pytest.approx(cluster_colours(3)[number])
