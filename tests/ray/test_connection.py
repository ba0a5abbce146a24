"""What Ray tells a driver of its cluster, and where that goes."""

import time

import pytest

from trawl import connection


@pytest.mark.usefixtures("ray_cluster")
def test_words_about_nodes_go_to_stderr_and_leave_stdout_to_results(capsys: pytest.CaptureFixture[str]) -> None:
    from ray._private import worker
    from ray._private.utils import publish_error_to_driver

    ours = worker.print_to_stdstream
    connection._messages_to_stderr()
    assert worker.print_to_stdstream is ours, "a second connection changes nothing"
    publish_error_to_driver("node", "a node of the test is gone", gcs_client=worker.global_worker.gcs_client)
    out, err, until = "", "", time.monotonic() + 30
    while "a node of the test" not in out + err and time.monotonic() < until:
        time.sleep(0.1)
        more = capsys.readouterr()
        out, err = out + more.out, err + more.err
    assert "a node of the test is gone" in err
    assert not out
