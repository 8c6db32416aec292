from __future__ import annotations

import pytest
import transformers.integrations
import transformers.utils

from common.optional_packages import installed_attention, installed_reports


@pytest.mark.parametrize("installed", [True, False])
def test_flash_attention_is_used_where_it_is(
    installed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transformers.utils, "is_flash_attn_2_available", lambda: installed)
    assert installed_attention("flash_attention_2") == ("flash_attention_2" if installed else None)
    assert ("going on without it" in caplog.text) != installed
    assert installed_attention("eager") == "eager"
    assert installed_attention(None) is None


@pytest.mark.parametrize("installed", [True, False])
def test_tensorboard_is_used_where_it_is(
    installed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transformers.integrations, "is_tensorboard_available", lambda: installed)
    assert installed_reports(["tensorboard"]) == (["tensorboard"] if installed else ["none"])
    assert installed_reports(["wandb", "tensorboard"]) == (["wandb", "tensorboard"] if installed else ["wandb"])
    assert ("no TensorBoard logs" in caplog.text) != installed
    caplog.clear()
    assert installed_reports(["none"]) == ["none"]
    assert not caplog.text
