"""scripts/download_data.sh: what it would fetch, and a real run against a mirror in a folder."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "download_data.sh"


def run(*args, cwd, **env):
    return subprocess.run(
        ["bash", str(SCRIPT), *map(str, args)],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def mirror(tmp_path):
    """A folder with small files in the official places, and the variables that point to it."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not here; only it reads file:// addresses")
    hub = tmp_path / "hub" / "datasets/princeton-nlp/datasets-for-simcse/resolve/main"
    hub.mkdir(parents=True)
    (hub / "nli_for_simcse.csv").write_text("sent0,sent1,hard_neg\na,b,c\n")
    inside = tmp_path / "tar"
    (inside / "STS" / "STS12-en-test").mkdir(parents=True)
    (inside / "STS" / "STS12-en-test" / "STS.gs.MSRpar.txt").write_text("4.4\n")
    (inside / "SICK").mkdir()
    with tarfile.open(hub / "senteval.tar", "w") as tar:
        for name in ("STS", "SICK"):
            tar.add(inside / name, arcname=name)
    sbert = tmp_path / "sbert"
    sbert.mkdir()
    (sbert / "AllNLI.tsv.gz").write_bytes(gzip.compress(b"split\tdataset\n" * 100))
    return {"HF_ENDPOINT": f"file://{tmp_path}/hub", "SBERT_URL": f"file://{sbert}"}


def test_syntax_help_and_wrong_use(tmp_path):
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: bash scripts/download_data.sh [DIR]")
    for args in (["--dryrun"], ["a", "b"], ["--only", "sts"], ["--only"]):
        done = run(*args, cwd=tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_dry_run_prints_the_addresses_and_writes_nothing(tmp_path):
    done = run("--dry-run", cwd=tmp_path, HF_ENDPOINT="", SBERT_URL="")
    assert done.returncode == 0
    hub = "https://huggingface.co/datasets/princeton-nlp/datasets-for-simcse/resolve/main"
    assert f"would fetch {hub}/senteval.tar -> data/senteval.tar" in done.stdout
    assert f"would fetch {hub}/nli_for_simcse.csv -> data/nli_for_simcse.csv" in done.stdout
    assert "would fetch https://sbert.net/datasets/AllNLI.tsv.gz -> data/AllNLI.tsv.gz" in done.stdout
    assert not list(tmp_path.iterdir())
    assert "AllNLI" not in run("--dry-run", "--only", "eval", cwd=tmp_path).stdout
    assert "senteval.tar" not in run("--dry-run", "--only=nli", cwd=tmp_path).stdout


def test_fetches_unpacks_and_does_nothing_the_second_time(tmp_path, mirror):
    done = run("my data", cwd=tmp_path, **mirror)
    assert done.returncode == 0, done.stderr
    data = tmp_path / "my data"
    assert sorted(p.name for p in data.iterdir()) == ["AllNLI.tsv.gz", "downstream", "nli_for_simcse.csv"]
    assert (data / "downstream/STS/STS12-en-test/STS.gs.MSRpar.txt").read_text() == "4.4\n"
    assert gzip.decompress((data / "AllNLI.tsv.gz").read_bytes()).count(b"\n") == 100
    again = run("my data", cwd=tmp_path, HF_ENDPOINT="file:///nowhere", SBERT_URL="file:///nowhere")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("have ") == 3
    assert "fetching" not in again.stdout


def test_a_cut_off_download_is_resumed(tmp_path, mirror):
    part = tmp_path / "data" / "nli_for_simcse.csv.part"
    part.parent.mkdir()
    part.write_text("SENT0")  # in capitals, to tell the part that was there from the part that came
    assert run("--only", "nli", cwd=tmp_path, **mirror).returncode == 0
    assert (tmp_path / "data" / "nli_for_simcse.csv").read_text() == "SENT0,sent1,hard_neg\na,b,c\n"
    assert not part.exists()


def test_failures_are_one_line_and_leave_no_file_in_place(tmp_path, mirror):
    mirror["SBERT_URL"] = "file:///nowhere"
    done = run("--only", "nli", cwd=tmp_path, **mirror)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "could not fetch file:///nowhere/AllNLI.tsv.gz" in done.stderr
    mirror["SBERT_URL"] = f"file://{tmp_path}/sbert"
    (tmp_path / "sbert" / "AllNLI.tsv.gz").write_text("<html>not here</html>")
    done = run("--only", "nli", cwd=tmp_path, **mirror)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "damaged or no such file" in done.stderr
    assert not list((tmp_path / "data").iterdir())
