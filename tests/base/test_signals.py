"""What a first and a further signal do."""

import os
import signal

import pytest

from divaug.base.signals import StopRequest


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_only_ctrl_c_again_stops_at_once(first):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop()
        os.kill(os.getpid(), first)
        assert stop() and stop.signal_number == first
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal_number == first  # the exit code tells the first
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
