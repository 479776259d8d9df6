"""What C++ says on stderr, kept back unless something fails."""

import os

import pytest

from keras_ae.quiet import greetings_kept_back


def test_greetings_are_kept_back_and_shown_where_the_block_fails(capfd):
    with greetings_kept_back():
        os.write(2, b"hello")
    assert capfd.readouterr().err == ""
    with pytest.raises(OSError), greetings_kept_back():  # noqa: PT011, PT012
        os.write(2, b"no such symbol")
        os.close(-1)
    assert capfd.readouterr().err == "no such symbol"
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
