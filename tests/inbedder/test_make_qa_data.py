"""Question-answer rows out of local sets: parting prompts, what is left out, limits, the program, the real sets."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from common import cli
from common.errors import InputError
from common.reading import read_rows
from inbedder.make_qa_data import QaDataConfig, main, make_rows
from inbedder.qa_data import load_qa
from inbedder.qa_leakage import EVALUATION, EvaluationTexts
from inbedder.qa_sets import Dropped, QaRow, clean, content_words, first_sentences, load_table, shared_name, words

REPO = Path(__file__).resolve().parents[2]
END = "<|endoftext|>"
SHIP = "The ship left Oslo in June. Its captain was Ida Holm."
QUESTIONS = {"Where did the ship leave?": "Oslo", "Who was the captain?": "Ida Holm", "When did it leave?": "in June"}
REVIEW = "The kettle leaks and the handle broke on day two."


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def asked(question: str, answer: str, text: str = SHIP) -> dict[str, str]:
    prompt = f'Given the following passage\n\n"{text}",\n\nanswer the following question. So.\n\nQuestion: {question}\n'
    return {"template": "adversarial_qa_dbert_answer_the_following_q", "prompt": prompt, "completion": answer + END}


def alone(question: str, answer: str) -> dict[str, str]:
    return {"template": "kilt_tasks_hotpotqa_straighforward_qa", "prompt": question + "\n", "completion": answer + END}


def rated(title: str, text: str, answer: str) -> dict[str, str]:
    prompt = f"Title: {title}\nReview: {text}\nIs the review positive or negative?\n"
    return {"template": "amazon_polarity_Is_this_review", "prompt": prompt, "completion": answer + END}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with T0 in the layout of the real one, and no evaluation set."""
    folder = tmp_path / "data"
    rows = [asked(*pair) for pair in QUESTIONS.items()]
    write(folder / "t0_50k" / "qa.jsonl.gz", rows)
    write(folder / "t0_50k" / "other.jsonl.gz", [rated("Broken", REVIEW, "Negative")])
    return folder


def config(data: Path, **settings: Any) -> QaDataConfig:
    return QaDataConfig(data_dir=data, output=data / "out.jsonl", **{"sets": ["t0_50k"], "derived": False, **settings})


def made(data: Path, **settings: Any) -> set[tuple[str, str, str]]:
    return {(row.input, row.instruction, row.output) for row in make_rows(config(data, **settings))[0]}


def dropped(data: Path, **settings: Any) -> Counter[str]:
    total: Counter[str] = Counter()
    for counts in make_rows(config(data, **settings))[1]:
        total += counts.dropped
    return total


# ------------------------------ parting


def test_prompts_become_text_question_and_answer(data: Path) -> None:
    assert made(data) == {(SHIP, question, answer) for question, answer in QUESTIONS.items()} | {
        (REVIEW, "Is the review positive or negative?", "Negative"),
        (REVIEW, "What would be a title for the review?", "Broken"),  # a second question from the same row
    }
    sources = {row.source for row in make_rows(config(data))[0]}
    assert sources == {
        "t0_50k/adversarial_qa_dbert_answer_the_following_q",
        "t0_50k/amazon_polarity_Is_this_review",
    }


def test_a_biography_is_asked_once_for_each_of_its_facts_that_stands_in_it(data: Path) -> None:
    bio = "ann lee -lrb- born 1901 -rrb- was a poet ."
    prompt = f"Read the bio below and try to give details on ann\n's: \n - x \n\nBio: {bio}\n"
    facts = "- birth date is 1901\n\n\n- occupation is poet\n\n\n- nationality is danish\n\n\n- caption is ann lee"
    row = {"template": "wiki_bio_comprehension", "prompt": prompt, "completion": facts + END}
    write(data / "t0_50k" / "other.jsonl.gz", [row])
    text = "ann lee (born 1901) was a poet ."
    assert made(data) >= {
        (text, "When was the person born?", "1901"),
        (text, "What is the occupation of the person?", "poet"),
    }
    assert len(made(data)) == 3 + 2
    assert dropped(data) == {"answer not in the text": 1, "no question": 1}  # danish; caption


def test_derived_questions_are_asked_and_named_only_where_wanted(data: Path) -> None:
    prompt = f"Title: So\nReview: {REVIEW}\nDoes this product review convey a negative or positive sentiment?\n"
    template = "amazon_polarity_convey_negative_or_positive_sentiment"
    write(
        data / "t0_50k" / "other.jsonl.gz", [{"template": template, "prompt": prompt, "completion": "Negative" + END}]
    )
    rows, counts = make_rows(config(data, derived=True))
    kinds = [row for row in rows if ":" in row.source]
    assert [(row.input, row.output, row.source) for row in kinds] == [
        (REVIEW, "product review", f"t0_50k/{template}:kind")
    ]
    assert {c.source: (c.read, len(c.kept)) for c in counts if template in c.source} == {
        f"t0_50k/{template}": (1, 1),
        f"t0_50k/{template}:kind": (1, 1),
    }
    assert not [row for row in make_rows(config(data))[0] if ":" in row.source]


def test_texts_are_freed_of_what_web_and_tokenizers_left() -> None:
    assert (
        clean(" a<br /><br />b &amp;lt;3  `` c '' -lrb- d -rrb- e\\nf Ida_Holm ___ ")
        == 'a\nb <3 " c " (d) e\nf Ida Holm ___'
    )
    assert words("Don't pay $1,200 in the U.S.") == ["don't", "pay", "1,200", "in", "the", "u.s"]
    assert content_words("in the old house.") == ["old", "house"]
    assert content_words("no") == ["no"]  # an answer of stop words alone stays


@pytest.mark.parametrize(
    ("question", "text", "name"),
    [
        ("When did Ida Holm's ship sail?", "Ida Holm (1870 -- 1921) was a captain.", "Ida Holm"),
        ("The director of The Old House is who?", "The Old House is a film.", "Old House"),
        ("Who built A-15?", "A-15, a boat, was built in Oslo.", "A-15"),
        ("Who wrote the song?", "It is a song by Holm.", ""),
        ("Who?", "A song.", ""),
    ],
)
def test_the_name_that_question_and_text_share(question: str, text: str, name: str) -> None:
    assert shared_name(question, text) == name


def test_long_texts_end_with_a_whole_sentence_unless_that_loses_the_answer(data: Path) -> None:
    assert first_sentences("One two. Three four! Five six.", 4) == "One two. Three four!"
    assert first_sentences("One two. Three four! Five six.", 5) == "One two. Three four!"
    assert first_sentences("One two. Three.", 3) == "One two. Three."
    assert first_sentences("One two three. Four.", 2) == "One two three. Four."
    found = made(data, max_words=6)
    assert {(text, answer) for text, _, answer in found} == {
        ("The ship left Oslo in June.", "Oslo"),
        ("The ship left Oslo in June.", "in June"),
    }
    assert dropped(data, max_words=6) == {"answer cut off": 1, "long text": 2}  # the review may not be cut


# ------------------------------ what is left out


def test_unfit_rows_are_dropped_and_counted(data: Path) -> None:
    rows = [
        asked("Where did the ship leave?", "Oslo"),
        {**asked("x", "y"), "prompt": "Answer this: where?"},
        asked("Why did it leave?", "No answer"),
        asked("What then?", "one two three four five six seven"),
        asked("Which one?", " . "),
        asked("where did the ship leave", "Bergen"),  # asked already, whatever the answer
        {**asked("x", "y"), "template": "adversarial_qa_dbert_generate_question"},
    ]
    write(data / "t0_50k" / "qa.jsonl.gz", rows)
    write(data / "t0_50k" / "other.jsonl.gz", [{"template": "xsum_DOC_tldr", "prompt": "x", "completion": "y"}])
    rows_made, counts = make_rows(config(data))
    assert len(rows_made) == 1
    by_source = {c.source.split("/")[1]: c for c in counts}
    assert by_source["adversarial_qa_dbert_answer_the_following_q"].dropped == {
        **{"other form": 1, "unanswerable": 1, "long answer": 1, "empty answer": 1, "asked twice": 1},
    }
    skipped = by_source["adversarial_qa_dbert_generate_question"]
    assert (skipped.read, skipped.skip, skipped.kept) == (1, "asks for a question", [])


def test_wordings_with_the_same_answer_are_limited_for_one_text(data: Path) -> None:
    wordings = [asked(f"Where {verb} it {place}?", "Oslo") for verb in ("was", "is") for place in ("from", "at", "of")]
    write(data / "t0_50k" / "qa.jsonl.gz", wordings)
    assert sum(answer == "Oslo" for _, _, answer in made(data)) == 2
    assert sum(answer == "Oslo" for _, _, answer in made(data, same_answer=4)) == 4
    assert dropped(data, same_answer=4) == {"same answer": 2}


def test_questions_without_a_text_keep_to_their_share(data: Path) -> None:
    write(data / "t0_50k" / "qa.jsonl.gz", [alone(f"Who is number {n}?", f"Ann{n}") for n in range(40)])
    write(data / "t0_50k" / "other.jsonl.gz", [rated(f"T{n}", f"Text {n} is here.", "Positive") for n in range(9)])
    for share, closed in ((0.1, 2), (0.5, 18), (0.0, 0), (1.0, 40)):  # of 18 questions about texts
        found = made(data, closed_book_share=share)
        assert (sum(not text for text, _, _ in found), len(found)) == (closed, 18 + closed)


def test_texts_of_the_evaluation_sets_are_left_out(data: Path) -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen"
    write(data / "t0_50k" / "qa.jsonl.gz", [
        asked("Who?", "Ann", "Ann, the captain's aunt - left."),
        asked("Who was it?", "Bob", "The summary is good"),
        asked("Who else?", "Eve", f"Eve said: {long}!"),
        asked("Who left?", "Jan", "Jan left one two three four five six seven eight nine ten eleven, too"),
    ])  # fmt: skip
    tokens = ["Ann", ",", "the", "captain", "'s", "aunt", "-", "left", "."]
    write(data / "fewrel" / "val_wiki.jsonl.gz", [{"tokens": tokens}])
    folder = data / "inbedder_feedbacks"
    folder.mkdir()
    (folder / "test.csv.gz").write_bytes(gzip.compress(b"text,cluster\nThe summary is good,1\n"))
    write(data / "goalex" / "syngoalex.jsonl.gz", [{"text": f"Well, {long}, and so on."}])
    assert {answer for _, _, answer in made(data)} == {"Jan", "Negative", "Broken"}
    assert dropped(data) == {"in fewrel normalised": 1, "in feedbacks exact": 1, "in syngoalex in part": 1}
    assert EvaluationTexts(data).missing == ["twenty_newsgroups"]


# ------------------------------ the program


def test_the_program_writes_the_same_shuffled_rows_for_the_same_seed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [asked(f"Who has number {n}?", f"Ann{n}") for n in range(30)]
    write(data / "t0_50k" / "qa.jsonl.gz", rows)
    outputs = {}
    for name, words_ in {"a": (), "b": (), "other": ("--seed", "7"), "few": ("--limit", "5")}.items():
        output = tmp_path / f"{name}.jsonl"
        flags = ["--data_dir", str(data), "--output", str(output), "--sets", "t0_50k", "--no_derived", *words_]
        main(cli.parse(QaDataConfig, flags))
        outputs[name] = output.read_text().splitlines()
    assert outputs["a"] == outputs["b"] != outputs["other"]
    assert sorted(outputs["a"]) == sorted(outputs["other"]) != outputs["a"]
    assert outputs["few"] == outputs["a"][:5]
    assert set(json.loads(outputs["a"][0])) == {"instruction", "input", "output", "source"}
    assert len(load_qa(str(tmp_path / "a.jsonl"))) == 32  # what training reads
    printed = capsys.readouterr().out
    assert "t0_50k/amazon_polarity_Is_this_review" in printed
    assert "27 --limit" in printed or "26 --limit" in printed or "25 --limit" in printed
    report = json.loads((tmp_path / "few.report.json").read_text())
    assert report["rows"] == 5 == sum(template["kept"] for template in report["templates"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sets": ["squad"]}, "--sets squad: there are t0_50k"),
        ({"closed_book_share": 1.5}, "--closed_book_share 1.5"),
        ({"max_words": 0}, "--max_words 0"),
        ({"sets": ["xquad_en"]}, r"xquad_en.*no such file"),
        ({"max_words": 1}, "no row is left"),
    ],
)
def test_wrong_use_is_said_in_one_line(data: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_rows(config(data, **settings))


def test_a_folder_that_is_missing_is_said_as_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data_dir .*nowhere: no such folder"):
        QaDataConfig(data_dir=tmp_path / "nowhere", output=tmp_path / "qa.jsonl")


def test_an_unknown_template_is_an_error(data: Path) -> None:
    write(data / "t0_50k" / "qa.jsonl.gz", [{**asked("x", "y"), "template": "squad_v2_x"}])
    with pytest.raises(InputError, match=r"squad_v2_x.*qa_sets.yaml"):
        make_rows(config(data))


def test_wrong_settings_in_the_table_are_named(tmp_path: Path) -> None:
    for spec, message in (("{promt: x}", "promt"), ("'(x'", "not a regular expression")):
        path = tmp_path / f"{len(spec)}.yaml"
        path.write_text(f"unanswerable: x\nsets:\n  a/b.jsonl:\n    columns: {{}}\n    templates: {{t: {spec}}}\n")
        with pytest.raises(InputError, match=message):
            load_table(path)


def test_help_comes_without_heavy_imports() -> None:
    code = "import sys, inbedder.make_qa_data; sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0


# ------------------------------ the real sets


@pytest.fixture(scope="module")
def first_rows(shared_data: Path) -> dict[str, dict[str, list[dict[str, str]]]]:
    """File -> template -> the values of its first 10 rows."""
    found: dict[str, dict[str, list[dict[str, str]]]] = {}
    for file in load_table().files:
        templates = found.setdefault(file.path, {})
        for _, raw in read_rows(shared_data / file.path):
            values = file.values(raw)
            rows = templates.setdefault(values.get("template", "questions"), [])
            if len(rows) < 10:
                rows.append(values)
    return found


def test_every_template_of_the_real_sets_is_in_the_table_and_every_entry_is_used(
    first_rows: dict[str, dict[str, list[dict[str, str]]]],
) -> None:
    assert len(first_rows["t0_50k/qa.jsonl.gz"]) == 148
    for file in load_table().files:
        used = {file.template(name).name for name in first_rows[file.path]}  # an unknown name is an InputError
        assert used == set(file.templates)


def test_each_rule_parts_the_first_real_rows_of_its_template(
    first_rows: dict[str, dict[str, list[dict[str, str]]]],
) -> None:
    for file in load_table().files:
        for name, rows in first_rows[file.path].items():
            for rule in file.template(name).rules:
                made_of = [row for values in rows for row in rule.rows(values, "x", 10**6)]
                assert Dropped("other form") not in made_of, name
                assert any(isinstance(row, QaRow) for row in made_of), name
                for row in made_of:
                    if isinstance(row, QaRow):
                        assert bool(row.input) != rule.closed_book, name
                        assert 0 < len(row.instruction) < 600, name
                        assert END not in row.input + row.instruction + row.output
                        # What a template puts around the text is no part of it.
                        assert not row.input.startswith(("Context", "Question", "Passage", "Read ", "Given ")), name


@pytest.mark.slow
def test_rows_of_the_real_sets(shared_data: Path, tmp_path: Path) -> None:
    settings = QaDataConfig(data_dir=shared_data, output=tmp_path / "qa.jsonl")
    rows, counts = make_rows(settings)
    by_set = Counter(row.source.split("/")[0] for row in rows)
    assert by_set["t0_50k"] > 8500
    assert by_set["natural_instructions_subset"] > 18000
    assert by_set["xquad_en"] > 1300
    assert all(row.instruction and row.output and 1 <= len(content_words(row.output)) <= 6 for row in rows)
    assert max(len(row.input.split()) for row in rows) <= 160
    assert len({(row.input, row.instruction) for row in rows}) == len(rows)
    assert sum(not row.input for row in rows) <= 0.1 * len(rows)
    several = sum(number > 1 for number in Counter(row.input for row in rows if row.input).values())
    assert several > 4000  # texts that are asked different questions
    forms = sum(c.dropped["other form"] for c in counts)
    assert forms <= 5
    leaks = [name for c in counts for name in c.dropped if name.startswith("in ")]
    assert {name.split()[1] for name in leaks} <= EVALUATION.keys()
    assert any(name == "in fewrel normalised" for name in leaks)  # Wikipedia stands in both
