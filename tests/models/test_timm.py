import pytest

from divaug.base.errors import ConfigError


def test_pretrained_weights_without_a_hub_fail_at_once(monkeypatch):
    """The cache is asked, and nothing else: the hub's own retries take more than a minute."""
    import time

    from divaug.models import timm_backbone as module

    asked = []
    monkeypatch.setattr(module, "_answers", lambda address: bool(asked.append(address)))
    started = time.monotonic()
    with pytest.raises(ConfigError, match="checkpoint_path FILE takes weights from a file"):
        module.timm_backbone("resnet10t", 3, (64, 64), {"pretrained": True})
    assert time.monotonic() - started < 20 and len(asked) == 1
    module.timm_backbone("resnet10t", 3, (64, 64), {})
    assert len(asked) == 1  # nothing is asked where nothing is to be fetched


def test_a_server_that_does_not_exist_does_not_answer():
    from divaug.models.timm_backbone import _answers

    assert not _answers("http://127.0.0.1:1")
