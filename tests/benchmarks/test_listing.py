"""`python -m benchmarks list` names everything that the other commands take."""

from __future__ import annotations

import pytest

from benchmarks import listing, published, suites
from common import model_names, registry


def test_the_list_names_all_that_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        listing.main([])
    assert end.value.code == 0
    words = capsys.readouterr().out.split()
    expected = [*registry.methods(), *suites.SUITES, *model_names.WHEELS, *published.names()]
    missing = [name for name in [*expected, *registry.compat_names()] if name not in words]
    assert not missing


def test_a_method_from_outside_is_listed_by_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._all(), "my-own-method", registry.Method("common.plain:load"))
    with pytest.raises(SystemExit):
        listing.main([])
    assert "my-own-method" in capsys.readouterr().out


def test_an_unknown_flag_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        listing.main(["--methods"])
    assert end.value.code == 2
    assert "--methods" in capsys.readouterr().err
