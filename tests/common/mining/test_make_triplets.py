"""NLI pairs as triplets: the rules, the reading, the program."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_fixtures import write_jsonl

from common import cli
from common.data import load_rows
from common.errors import InputError
from common.io import sha256_file
from common.mining.make_triplets import TripletConfig, main
from common.mining.triplets import NliPair, check_output, make_triplets, read_nli, text_key, write_triplets

CAT = "A cat sleeps on the mat."
PAIRS = [
    NliPair(CAT, "An animal rests.", "entailment"),
    NliPair("Two men talk.", "People speak.", "entailment"),
    NliPair(CAT, "A cat runs.", "contradiction"),
    NliPair(CAT, "The mat is red.", "neutral"),
    NliPair(CAT, "A pet is on a mat.", "entailment"),
    NliPair(CAT.upper(), "A cat eats.", "contradiction"),
    NliPair(CAT, "Something sleeps.", "entailment"),
    NliPair("It rains.", "It is dry.", "contradiction"),
    NliPair("It rains.", "It is wet.", None),
]


def triplet(positive: str, negative: str) -> dict[str, str]:
    return {"query": CAT, "positive": positive, "negative": negative}


def as_rows(pairs: list[NliPair]) -> list[dict[str, Any]]:
    return [{"premise": p.premise, "hypothesis": p.hypothesis, "label": p.label or "-"} for p in pairs]


# ------------------------------ the rules


def test_matched_takes_the_ith_of_each_side() -> None:
    rows, counts = make_triplets(PAIRS)
    assert rows == [triplet("An animal rests.", "A cat runs."), triplet("A pet is on a mat.", "A cat eats.")]
    assert counts == {
        "pairs": 9,
        "entailment": 4,
        "neutral": 1,
        "contradiction": 3,
        "no_gold_label": 1,
        "left_out_blank": 0,
        "left_out_same_as_premise": 0,
        "left_out_repeated": 0,
        "left_out_contradictory_labels": 0,
        "premises_without_entailment": 1,
        "premises_without_contradiction": 1,
        "premises": 3,
        "triplets": 2,
    }


def test_all_takes_every_combination() -> None:
    rows, _ = make_triplets(PAIRS, rule="all")
    assert len(rows) == 6
    assert len({(row["positive"], row["negative"]) for row in rows}) == 6


def test_one_is_drawn_by_seed_and_premise_alone() -> None:
    drawn = {seed: make_triplets(PAIRS, rule="one", seed=seed)[0] for seed in range(20)}
    assert all(len(rows) == 1 for rows in drawn.values())
    assert len({str(rows) for rows in drawn.values()}) > 1
    other = [NliPair("Dogs bark.", "Dogs are loud.", "entailment"), NliPair("Dogs bark.", "Silence.", "contradiction")]
    for seed, rows in drawn.items():
        assert make_triplets([*other, *PAIRS], rule="one", seed=seed)[0][1:] == rows


@pytest.mark.parametrize(
    ("pair", "count"),
    [
        (NliPair(CAT, "a CAT  sleeps on the mat", "entailment"), {"left_out_same_as_premise": 1}),
        (NliPair(CAT, "a cat runs .", "contradiction"), {"left_out_repeated": 1}),
        (NliPair(CAT, "  ", "contradiction"), {"left_out_blank": 1}),
        # "An animal rests." is both now: of the three entailed texts the other two are left.
        (NliPair(CAT, "an animal rests", "contradiction"), {"left_out_contradictory_labels": 2}),
    ],
)
def test_texts_that_teach_nothing_are_left_out(pair: NliPair, count: dict[str, int]) -> None:
    rows, counts = make_triplets([*PAIRS, pair])
    assert {name: number for name, number in counts.items() if name.startswith("left_out") and number} == count
    assert len(rows) == 2
    assert all(text_key(row["positive"]) != text_key(row["negative"]) for row in rows)
    if "left_out_contradictory_labels" in count:
        assert [row["positive"] for row in rows] == ["A pet is on a mat.", "Something sleeps."]


nli_pairs = st.lists(
    st.builds(
        NliPair,
        premise=st.sampled_from(["p", "P ", "q", ""]),
        hypothesis=st.sampled_from(["a", "A.", "b", "c", "p", "\t"]),
        label=st.sampled_from(["entailment", "neutral", "contradiction", None]),
    )
)


@given(pairs=nli_pairs, rule=st.sampled_from(["matched", "one", "all"]), seed=st.integers(0, 3))
def test_every_triplet_stands_in_the_data(pairs: list[NliPair], rule: Any, seed: int) -> None:
    rows, counts = make_triplets(pairs, rule=rule, seed=seed)
    assert (rows, counts) == make_triplets(pairs, rule=rule, seed=seed)
    known = {(text_key(p.premise), text_key(p.hypothesis), p.label) for p in pairs}
    for row in rows:
        premise, positive, negative = (text_key(row[name]) for name in ("query", "positive", "negative"))
        assert (premise, positive, "entailment") in known
        assert (premise, negative, "contradiction") in known
        assert (premise, positive, "contradiction") not in known
        assert len({premise, positive, negative, ""}) == 4
    keys = [tuple(map(text_key, row.values())) for row in rows]
    assert len(set(keys)) == len(keys) == counts["triplets"]
    assert counts["pairs"] == len(pairs)


@given(words=st.lists(st.text("abcXYZ", min_size=1), min_size=1), spaces=st.sampled_from([" ", "  ", "\n", "\u00a0"]))
def test_case_space_and_final_stop_make_no_other_text(words: list[str], spaces: str) -> None:
    text = " ".join(words)
    assert text_key(f" {spaces.join(words).swapcase()} .") == text_key(text)
    assert text_key(text + " not") != text_key(text)
    assert text_key(text + "?") != text_key(text)


def test_a_text_of_stops_alone_keeps_a_key() -> None:
    assert text_key(" . ") == "."


# ------------------------------ reading


def test_files_of_snli_allnli_and_the_hub_are_read(tmp_path: Path) -> None:
    wanted = [NliPair("p", "h", "entailment"), NliPair("p", "i", "contradiction"), NliPair("p", "j", None)]
    words = ["entailment", "Contradiction", "-"]
    snli = [{"gold_label": w, "sentence1": "p", "sentence2": h} for w, h in zip(words, "hij")]
    assert list(read_nli(write_jsonl(tmp_path / "snli.jsonl", snli))) == wanted
    hub = [{"premise": "p", "hypothesis": h, "label": n} for n, h in zip((0, 2, -1), "hij")]
    assert list(read_nli(write_jsonl(tmp_path / "hub.jsonl", hub))) == wanted
    lines = ["split\tdataset\tfilename\tsentence1\tsentence2\tlabel"]
    lines += [f"{s}\tSNLI\tx\tp\t{h}\t{w}" for s, h, w in zip(["train", "dev", "train"], "hxi", [words[0], *words[:2]])]
    path = tmp_path / "AllNLI.tsv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert list(read_nli(path)) == wanted[:2]
    assert list(read_nli(path, limit=1)) == wanted[:1]
    assert list(read_nli(path, split="dev")) == [NliPair("p", "x", "entailment")]
    with pytest.raises(InputError, match=r"AllNLI\.tsv\.gz: no row of the split 'test'"):
        list(read_nli(path, split="test"))


GOOD = {"premise": "p", "hypothesis": "h", "label": "entailment"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "a", "positive": "b"}, r":2: columns query, positive are not those of NLI"),
        ({**GOOD, "label": "similar"}, r":2: column 'label' is 'similar', none of entailment, .*0 to 2"),
        ({**GOOD, "label": 5}, r":2: column 'label' is 5, none of"),
        ({**GOOD, "hypothesis": None}, r":2: column 'hypothesis' should be text, is NoneType"),
        # In such files 1 may mean "similar": the number says nothing.
        ({"sentence1": "a", "sentence2": "b", "label": 1}, r":2: column 'label' is 1, none of .*contradiction$"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write_jsonl(tmp_path / "nli.jsonl", [GOOD, row])
    with pytest.raises(InputError, match=r"nli\.jsonl" + message) as caught:
        list(read_nli(path))
    assert "\n" not in str(caught.value)


# ------------------------------ writing, and the program


def test_the_output_is_format_c_and_the_same_every_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nli = write_jsonl(tmp_path / "nli.jsonl", as_rows(PAIRS))
    outputs = [tmp_path / name for name in ("one.jsonl.gz", "two.jsonl.gz")]
    for output in outputs:
        main(TripletConfig(nli=[nli], output=output))
    rows = load_rows(str(outputs[0]))
    assert rows.columns == ("query", "positive", "negative")
    assert rows.rows == make_triplets(PAIRS)[0]  # type: ignore[union-attr]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    report = json.loads((tmp_path / "one.report.json").read_text())
    assert report["counts"]["triplets"] == 2
    assert report["inputs"] == {str(nli): sha256_file(nli)}
    assert report["output"] == {"one.jsonl.gz": sha256_file(outputs[0])}
    shown = capsys.readouterr().out
    assert "An animal rests." in shown
    assert "one.jsonl.gz: 2 triplets" in shown


def test_the_column_may_be_called_text(tmp_path: Path) -> None:
    nli = write_jsonl(tmp_path / "nli.jsonl", as_rows(PAIRS))
    main(TripletConfig(nli=[nli], output=tmp_path / "out.jsonl", query_column="text"))
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert list(first) == ["text", "positive", "negative"]
    assert load_rows(str(tmp_path / "out.jsonl")).columns == ("query", "positive", "negative")


def test_files_are_pooled_and_limited_one_by_one(tmp_path: Path) -> None:
    halves = [write_jsonl(tmp_path / f"{i}.jsonl", as_rows(PAIRS[i::2])) for i in range(2)]
    main(TripletConfig(nli=halves, output=tmp_path / "out.jsonl"))
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    with pytest.raises(InputError, match="no premise has both"):
        main(TripletConfig(nli=halves, output=tmp_path / "none.jsonl", limit=1))
    assert not list(tmp_path.glob("none*"))


def test_a_broken_file_leaves_no_output(tmp_path: Path) -> None:
    nli = write_jsonl(tmp_path / "nli.jsonl", [*as_rows(PAIRS), {"premise": "p"}])
    with pytest.raises(InputError, match=r"nli\.jsonl:10"):
        main(TripletConfig(nli=[nli], output=tmp_path / "out.jsonl"))
    assert [path.name for path in tmp_path.iterdir()] == ["nli.jsonl"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.csv", r"must end with \.jsonl or \.jsonl\.gz"),
        (".jsonl", "must end with"),
        ("folder.jsonl", "is a folder"),
        ("in.jsonl", "is also an input"),
    ],
)
def test_unfit_outputs_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "in.jsonl").write_text("")
    with pytest.raises(InputError, match=message):
        check_output(tmp_path / name, [tmp_path / "in.jsonl"])
    assert check_output(tmp_path / "a.b.jsonl.gz", []) == tmp_path / "a.b.report.json"


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl.gz"
    write_triplets(path, [triplet("a", "b")])
    before = path.read_bytes()

    def rows() -> Any:
        yield triplet("c", "d")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_triplets(path, rows())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl.gz"]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nli = write_jsonl(tmp_path / "nli.jsonl", as_rows(PAIRS))
    words = ["--nli", str(nli), "--output", str(tmp_path / "out.jsonl"), "--rule", "all", "--dry_run"]
    with pytest.raises(SystemExit) as stop:
        cli.run(main, TripletConfig, words)
    assert stop.value.code == 0
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(capsys.readouterr().out)
    assert cli.parse(TripletConfig, ["--config", str(recipe)]) == cli.parse(TripletConfig, words[:-1])
    assert not (tmp_path / "out.jsonl").exists()
    for wrong, message in [
        ({"--limit": "0"}, "--limit 0: must be at least 1"),
        ({"--rule": "some"}, "--rule: "),
        ({"--nli": str(tmp_path / "no.jsonl")}, "no.jsonl: No such file"),
    ]:
        flags = {"--nli": str(nli), "--output": str(tmp_path / "out.jsonl"), **wrong}
        with pytest.raises(SystemExit) as stop:
            cli.run(main, TripletConfig, [word for pair in flags.items() for word in pair])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("program", ["make_triplets", "mine_negatives"])
def test_help_waits_for_no_heavy_library(program: str) -> None:
    check = f"import sys, runpy; sys.argv = ['common.mining.{program}', '--help']\n"
    check += f"try: runpy.run_module('common.mining.{program}', run_name='__main__', alter_sys=True)\n"
    check += "except SystemExit: print('heavy:', *{'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ")
    assert done.stdout.endswith("heavy:\n")


def test_real_pairs_give_the_triplets_that_others_made_of_them(shared_data: Path) -> None:
    folder = shared_data / "nli_train"
    pairs = list(read_nli(folder / "snli_ni.pairs.jsonl.gz"))
    rows, counts = make_triplets(pairs)
    assert counts["pairs"] == 73594
    ours = {tuple(map(text_key, row.values())) for row in rows}
    made = load_rows(str(folder / "snli_ni.triplets.jsonl.gz"))
    theirs = {tuple(map(text_key, row.values())) for row in made.rows}  # type: ignore[union-attr]
    assert len(ours & theirs) > 0.97 * max(len(ours), len(theirs))
